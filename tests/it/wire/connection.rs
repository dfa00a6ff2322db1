//! What a connection is promised before any call is made on it: its settings and its PINGs.

use crate::support::{
    frames::{ACK, Frame, Peer, kind},
    gateway::{Gateway, Settings},
};

/// `SETTINGS_MAX_CONCURRENT_STREAMS`.
const MAX_CONCURRENT_STREAMS: u16 = 3;

/// The value of one of the settings that the gateway announces.
async fn announced(gateway: &Gateway, setting: u16) -> Option<u32> {
    let mut peer = Peer::connect(gateway).await;
    let settings = peer.next().await.expect("settings come first");
    assert_eq!((settings.kind, settings.flags), (kind::SETTINGS, 0));
    settings.payload.chunks(6).find_map(|entry| {
        let (id, value) = entry.split_at(2);
        (id == setting.to_be_bytes())
            .then(|| u32::from_be_bytes(value.try_into().expect("an entry has six bytes")))
    })
}

#[tokio::test]
async fn a_thousand_streams_are_announced_or_as_many_as_are_configured() {
    let gateway = Gateway::ephemeral();
    let streams = announced(&gateway, MAX_CONCURRENT_STREAMS).await;
    assert_eq!(streams, Some(1_000));

    let gateway = Gateway::start_with(Settings {
        ephemeral: true,
        environment: vec![("TIDEGATE_GRPC__STREAMS_PER_CONNECTION_MAX", "7")],
    });
    let streams = announced(&gateway, MAX_CONCURRENT_STREAMS).await;
    assert_eq!(streams, Some(7));
}

#[tokio::test]
async fn a_peer_that_answers_no_ping_is_let_go() {
    let gateway = Gateway::start_with(Settings {
        ephemeral: true,
        environment: vec![
            ("TIDEGATE_GRPC__PING_INTERVAL", "1s"),
            ("TIDEGATE_GRPC__PING_TIMEOUT", "1s"),
        ],
    });
    let (mut silent, mut alive) = (Peer::connect(&gateway).await, Peer::connect(&gateway).await);
    let is_ping = |frame: &Frame| frame.kind == kind::PING && frame.flags & ACK == 0;
    let silent_until_closed = async {
        let mut pings = 0;
        while let Some(frame) = silent.next().await {
            pings += usize::from(is_ping(&frame));
        }
        pings
    };
    // Answers for longer than the other one is given.
    let answering = async {
        for _ in 0..4 {
            let ping = loop {
                let frame = alive.next().await.expect("the connection stays open");
                if is_ping(&frame) {
                    break frame;
                }
            };
            alive.send(kind::PING, ACK, &ping.payload).await;
        }
    };
    let (pings, ()) = tokio::join!(silent_until_closed, answering);
    assert_eq!(pings, 1, "it was asked once");
}

#[tokio::test]
async fn pings_of_a_client_are_answered_however_many_without_a_stream() {
    let gateway = Gateway::ephemeral();
    let mut peer = Peer::connect(&gateway).await;
    // What libraries that count such PINGs end a connection for.
    for number in 0..200_u64 {
        peer.send(kind::PING, 0, &number.to_be_bytes()).await;
        loop {
            let frame = peer.next().await.expect("the connection stays open");
            assert_ne!(frame.kind, kind::GOAWAY, "{frame:?}");
            if frame.kind == kind::PING && frame.flags & ACK != 0 {
                assert_eq!(frame.payload, number.to_be_bytes());
                break;
            }
        }
    }
}
