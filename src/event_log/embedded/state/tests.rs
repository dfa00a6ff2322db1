use super::*;
use crate::event_log::embedded::io::RealIo;

fn state() -> State {
    let mut state = State::new(77);
    for number in 1..200 {
        state.topics.push(BaseTopic {
            id: TopicId::new(number),
            name: format!("/event/T{number}__e").parse().unwrap(),
            trim: Position::in_block(number.into(), 1).unwrap(),
            ordinal: 5,
            last_at: Timestamp::from_millis(-1),
        });
    }
    for number in 0..LOST_RANGES_MAX as u64 + 5 {
        state.lose(LostRange {
            after: Position::in_block(number, 0).unwrap(),
            until: Position::in_block(number, 9).unwrap(),
        });
    }
    state.settle(Loss {
        topic: TopicId::new(3),
        after: Position::in_block(7, 0).unwrap(),
        until: Position::in_block(8, 0).unwrap(),
        events: 4,
    });
    state.origins.push(Origin {
        log_id: 76,
        before_block: 900,
    });
    state.deleted.push(TopicId::new(9));
    state
        .retentions
        .insert(TopicId::new(4), Duration::from_millis(90_000));
    state
}

#[test]
fn the_state_survives_the_loss_of_either_copy() {
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(State::load(&RealIo, dir.path()).unwrap(), None);
    state().store(&RealIo, dir.path()).unwrap();
    state().store(&RealIo, dir.path()).unwrap();
    let path = dir.path().join(STATE);
    let good = std::fs::read(&path).unwrap();
    for half in [0..good.len() / 2, good.len() / 2..good.len()] {
        let mut damaged = good.clone();
        damaged[half].fill(0x55);
        std::fs::write(&path, damaged).unwrap();
        assert_eq!(State::load(&RealIo, dir.path()).unwrap(), Some(state()));
    }
    std::fs::write(&path, vec![0; good.len()]).unwrap();
    let refused = State::load(&RealIo, dir.path()).unwrap_err();
    assert!(matches!(refused, OpenError::Foreign { .. }));
}

#[test]
fn no_state_takes_more_than_is_kept_ready_for_it() {
    let mut largest = state();
    for topic in &mut largest.topics {
        let name = format!("/event/{}__e", "x".repeat(TOPIC_NAME_BYTES_MAX - 10));
        topic.name = name.parse().unwrap();
    }
    let len_max = largest.encoded_len_max(largest.topics.len());
    assert!(largest.encode().len() as u64 <= len_max);
    assert!(state().encode().len() as u64 <= len_max);
}

#[test]
fn a_newer_version_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let mut bytes = State::new(1).encode();
    bytes.truncate(PAGE);
    bytes[8] = 9;
    let len = u32::from_le_bytes(bytes[LEN_AT..LEN_AT + 4].try_into().unwrap()) as usize;
    let crc = crc32c::crc32c(&bytes[..len]);
    bytes[len..len + 4].copy_from_slice(&crc.to_le_bytes());
    bytes.extend_from_within(..);
    std::fs::write(dir.path().join(STATE), bytes).unwrap();
    assert!(matches!(
        State::load(&RealIo, dir.path()),
        Err(OpenError::NewerFormat { found: 9, .. })
    ));
}

#[test]
fn what_is_purged_stays_purged() {
    let base = |trim| BaseTopic {
        id: TopicId::new(1),
        name: "/event/A__e".parse().unwrap(),
        trim: Position::in_block(trim, 0).unwrap(),
        ordinal: trim,
        last_at: Timestamp::default(),
    };
    let mut state = State::new(1);
    for trim in [5, 9, 7] {
        state.raise(base(trim));
    }
    assert_eq!(state.topic(TopicId::new(1)), Some(&base(9)));
    assert_eq!(state.topic(TopicId::new(2)), None);
}

#[test]
fn segments_of_an_origin_are_owned_up_to_where_it_was_left() {
    let state = state();
    assert!(state.owns(77, 5_000));
    assert!(state.owns(76, 899));
    assert!(!state.owns(76, 900));
    assert!(!state.owns(75, 1));
}

#[test]
fn the_number_of_lost_ranges_is_bounded() {
    assert_eq!(state().lost.len(), LOST_RANGES_MAX);
    assert_eq!(state().lost[0].after.block(), 5);
}
