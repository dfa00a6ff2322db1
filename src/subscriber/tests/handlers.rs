//! Handlers: order, retries, dead letters, and the end of a run.

use std::{
    future::pending,
    sync::{Arc, Mutex, atomic::AtomicU32},
    time::Duration,
};

use tokio::sync::{Notify, oneshot};
use tonic::Code;

use super::peer::{Call, ORDERS, Peer, event, order, refused};
use crate::subscriber::*;

/// What a handler was called with.
type Log = Arc<Mutex<Vec<u64>>>;

fn subscriber(peer: &Peer, state: &MemoryState) -> Builder {
    Subscriber::builder(peer.connection.clone())
        .topic(ORDERS.parse().unwrap())
        .start_at(Start::Earliest)
        .state(state.clone())
}

fn run(order: Order) -> Run {
    Run {
        order,
        retry: RetryPolicy {
            first_wait: Duration::from_secs(1),
            longest_wait: Duration::from_secs(60),
            attempts_max: Some(3),
            timeout: Some(Duration::from_secs(30)),
        },
        grace: Duration::from_secs(10),
    }
}

/// Resolves once so many calls are in the log.
async fn until_called(log: &Log, count: usize) {
    while log.lock().unwrap().len() < count {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

struct Running {
    ended: tokio::task::JoinHandle<Result<(), SubscribeError>>,
    stop: oneshot::Sender<()>,
    call: Call,
}

impl Running {
    async fn start<H: Handler + 'static>(
        peer: &mut Peer,
        builder: Builder,
        run: Run,
        handler: H,
    ) -> Self {
        let (stop, stopped) = oneshot::channel::<()>();
        let subscriber = builder.build().unwrap();
        let ended = tokio::spawn(async move {
            let end = async { _ = stopped.await };
            subscriber.run(run, handler, |_| {}, end).await
        });
        let (call, _) = peer.call().await;
        Self { ended, stop, call }
    }

    async fn stop(self) -> Result<(), SubscribeError> {
        _ = self.stop.send(());
        self.ended.await.unwrap()
    }
}

async fn saved(state: &MemoryState) -> Option<u64> {
    let checkpoint = state.load(ORDERS).await.unwrap();
    checkpoint.map(|checkpoint| checkpoint.replay_id.number())
}

#[tokio::test(start_paused = true)]
async fn in_order_one_that_fails_holds_up_the_rest() {
    let mut peer = Peer::start(None);
    let (state, log) = (MemoryState::default(), Log::default());
    let handler = {
        let (log, failures) = (Arc::clone(&log), AtomicU32::new(2));
        handler_fn(move |event| {
            let number = event.replay_id().number();
            log.lock().unwrap().push(number);
            let fails = number == 2
                && failures
                    .fetch_update(
                        std::sync::atomic::Ordering::SeqCst,
                        std::sync::atomic::Ordering::SeqCst,
                        |left| left.checked_sub(1),
                    )
                    .is_ok();
            async move {
                match fails {
                    true => Outcome::Retry("not yet".into()),
                    false => Outcome::Done,
                }
            }
        })
    };
    let builder = subscriber(&peer, &state);
    let mut running = Running::start(&mut peer, builder, run(Order::InOrder), handler).await;
    running.call.send_orders(1..=4).await;
    until_called(&log, 6).await;
    running.stop().await.unwrap();
    assert_eq!(*log.lock().unwrap(), [1, 2, 2, 2, 3, 4]);
    assert_eq!(saved(&state).await, Some(4));
}

#[tokio::test(start_paused = true)]
async fn per_key_other_keys_go_on_and_unordered_all_do() {
    for (order, wanted) in [
        (
            Order::PerKey(Arc::new(|event| {
                let is_odd = event.replay_id().number() % 2 == 1;
                Some(is_odd.to_string())
            })),
            vec![1, 2, 4, 6],
        ),
        (Order::Unordered, vec![1, 2, 3, 4, 5, 6]),
    ] {
        let mut peer = Peer::start(None);
        let (state, log) = (MemoryState::default(), Log::default());
        let release = Arc::new(Notify::new());
        let handler = {
            let (log, release) = (Arc::clone(&log), Arc::clone(&release));
            handler_fn(move |event: Arc<Event>| {
                let (log, release) = (Arc::clone(&log), Arc::clone(&release));
                async move {
                    log.lock().unwrap().push(event.replay_id().number());
                    if event.replay_id().number() == 1 {
                        release.notified().await;
                    }
                    Outcome::Done
                }
            })
        };
        let builder = subscriber(&peer, &state);
        let mut running = Running::start(&mut peer, builder, run(order), handler).await;
        running.call.send_orders(1..=6).await;
        until_called(&log, wanted.len()).await;
        tokio::time::sleep(Duration::from_secs(5)).await;
        assert_eq!(*log.lock().unwrap(), wanted);
        assert_eq!(saved(&state).await, None, "the first is not handled");
        release.notify_one();
        until_called(&log, 6).await;
        running.stop().await.unwrap();
        assert_eq!(saved(&state).await, Some(6));
    }
}

#[tokio::test(start_paused = true)]
async fn what_will_not_do_becomes_a_dead_letter_with_its_reason() {
    let mut peer = Peer::start(None);
    let (state, letters, log) = (
        MemoryState::default(),
        MemoryDeadLetters::default(),
        Log::default(),
    );
    let handler = {
        let log = Arc::clone(&log);
        handler_fn(move |event: Arc<Event>| {
            let number = event.replay_id().number();
            log.lock().unwrap().push(number);
            async move {
                match number {
                    1 => Outcome::Retry("never".into()),
                    2 => Outcome::Park("no such customer".into()),
                    3 => panic!("a bug in the handler"),
                    4 => pending().await,
                    _ => Outcome::Done,
                }
            }
        })
    };
    let builder = subscriber(&peer, &state).dead_letters(letters.clone());
    let mut running = Running::start(&mut peer, builder, run(Order::InOrder), handler).await;
    let mut cut = event(5, "cut");
    cut.event.as_mut().unwrap().payload = vec![1].into();
    running
        .call
        .send(&[order(1), order(2), order(3), order(4), cut, order(6)], 6)
        .await;
    until_called(&log, 3 + 1 + 3 + 3 + 1).await;
    running.stop().await.unwrap();
    assert_eq!(saved(&state).await, Some(6));
    let mut found = Vec::new();
    for id in letters.list().await.unwrap() {
        let letter = letters.read(&id).await.unwrap().unwrap();
        assert!(!letter.event.is_empty());
        found.push((letter.replay_id.number(), letter.attempts, letter.cause));
    }
    let wanted = [
        (1, 3, "never"),
        (2, 1, "no such customer"),
        (3, 3, "a bug in the handler"),
        (4, 3, "took longer than 30 s"),
        (5, 0, "cannot be decoded"),
    ];
    assert_eq!(found.len(), wanted.len());
    for ((number, attempts, cause), wanted) in found.iter().zip(wanted) {
        assert_eq!((*number, *attempts), (wanted.0, wanted.1));
        assert!(cause.contains(wanted.2), "{cause}");
    }
}

#[tokio::test(start_paused = true)]
async fn without_a_place_for_dead_letters_it_ends_and_nothing_is_lost() {
    let mut peer = Peer::start(None);
    let state = MemoryState::default();
    let handler = handler_fn(async |event: Arc<Event>| match event.replay_id().number() {
        2 => Outcome::Park("no such customer".into()),
        _ => Outcome::Done,
    });
    let builder = subscriber(&peer, &state);
    let mut running = Running::start(&mut peer, builder, run(Order::InOrder), handler).await;
    running.call.send_orders(1..=3).await;
    let error = running.ended.await.unwrap().unwrap_err().to_string();
    assert!(error.contains("no such customer"), "{error}");
    assert_eq!(saved(&state).await, Some(1));
}

#[tokio::test(start_paused = true)]
async fn the_end_waits_for_handlers_at_work_but_not_for_the_next_try() {
    let mut peer = Peer::start(None);
    let (state, log) = (MemoryState::default(), Log::default());
    let handler = {
        let log = Arc::clone(&log);
        handler_fn(move |event: Arc<Event>| {
            let log = Arc::clone(&log);
            async move {
                let number = event.replay_id().number();
                log.lock().unwrap().push(number);
                match number {
                    1 => {
                        tokio::time::sleep(Duration::from_secs(5)).await;
                        Outcome::Done
                    }
                    _ => Outcome::Retry("not yet".into()),
                }
            }
        })
    };
    let slow = Run {
        retry: RetryPolicy {
            first_wait: Duration::from_secs(3_600),
            longest_wait: Duration::from_secs(3_600),
            ..RetryPolicy::default()
        },
        ..run(Order::Unordered)
    };
    let builder = subscriber(&peer, &state);
    let mut running = Running::start(&mut peer, builder, slow, handler).await;
    running.call.send_orders(1..=2).await;
    until_called(&log, 2).await;
    let since = tokio::time::Instant::now();
    running.stop().await.unwrap();
    assert!(since.elapsed() < Duration::from_secs(6));
    assert_eq!(saved(&state).await, Some(1));
}

#[tokio::test(start_paused = true)]
async fn a_handler_that_hangs_is_not_waited_for_longer_than_the_grace() {
    let mut peer = Peer::start(None);
    let (state, log) = (MemoryState::default(), Log::default());
    let handler = {
        let log = Arc::clone(&log);
        handler_fn(move |event: Arc<Event>| {
            log.lock().unwrap().push(event.replay_id().number());
            pending::<Outcome>()
        })
    };
    let endless = Run {
        retry: RetryPolicy {
            timeout: None,
            ..RetryPolicy::default()
        },
        ..run(Order::InOrder)
    };
    let builder = subscriber(&peer, &state);
    let mut running = Running::start(&mut peer, builder, endless, handler).await;
    running.call.send_orders(1..=1).await;
    until_called(&log, 1).await;
    let since = tokio::time::Instant::now();
    running.stop().await.unwrap();
    assert_eq!(since.elapsed().as_secs(), 10);
    assert_eq!(saved(&state).await, None);
}

#[tokio::test(start_paused = true)]
async fn an_error_of_the_gateway_ends_the_run_after_what_is_at_work() {
    let mut peer = Peer::start(None);
    let state = MemoryState::default();
    let handler = handler_fn(async |_| {
        tokio::time::sleep(Duration::from_secs(1)).await;
        Outcome::Done
    });
    let builder = subscriber(&peer, &state);
    let mut running = Running::start(&mut peer, builder, run(Order::Unordered), handler).await;
    running.call.send_orders(1..=3).await;
    running
        .call
        .fail(refused(Code::NotFound, "topic.not.found"))
        .await;
    let error = running.ended.await.unwrap().unwrap_err().to_string();
    assert!(error.contains("topic.not.found"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn dead_letters_are_handled_again_and_go_once_they_are() {
    let mut peer = Peer::start(None);
    let (state, letters) = (MemoryState::default(), MemoryDeadLetters::default());
    let parks = handler_fn(async |_| Outcome::Park("no such customer".into()));
    let builder = subscriber(&peer, &state).dead_letters(letters.clone());
    let mut running = Running::start(&mut peer, builder, run(Order::InOrder), parks).await;
    running.call.send_orders(1..=3).await;
    while letters.list().await.unwrap().len() < 3 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    running.stop().await.unwrap();
    let handler = handler_fn(async |event: Arc<Event>| match event.replay_id().number() {
        2 => Outcome::Park("still none".into()),
        _ => Outcome::from(event.json().map(drop)),
    });
    let ids = letters.list().await.unwrap();
    let mut told = Vec::new();
    let subscriber = subscriber(&peer, &state).build().unwrap();
    subscriber
        .redrive(&run(Order::InOrder), &handler, &letters, &ids, |redriven| {
            told.push(redriven.result);
        })
        .await
        .unwrap();
    assert_eq!(told, [Ok(()), Err("still none".into()), Ok(())]);
    let left = letters.list().await.unwrap();
    assert_eq!(left, ids[1..2]);
    let letter = letters.read(&left[0]).await.unwrap().unwrap();
    assert_eq!((letter.attempts, letter.cause.as_str()), (2, "still none"));
}

#[tokio::test(start_paused = true)]
async fn a_handler_waits_until_what_is_before_is_saved() {
    let mut peer = Peer::start(None);
    let (state, log) = (super::FailingState::default(), Log::default());
    let handler = {
        let log = Arc::clone(&log);
        handler_fn(move |event: Arc<Event>| {
            log.lock().unwrap().push(event.replay_id().number());
            std::future::ready(Outcome::Done)
        })
    };
    let builder = Subscriber::builder(peer.connection.clone())
        .topic(ORDERS.parse().unwrap())
        .start_at(Start::Earliest)
        .checkpoints(state.clone())
        .save_after(1, Duration::from_secs(3_600));
    let mut running = Running::start(&mut peer, builder, run(Order::InOrder), handler).await;
    let failing = std::iter::repeat_n(super::io_failure(), 1_000);
    state.failures.lock().unwrap().extend(failing);
    running.call.send_orders(1..=3).await;
    tokio::time::sleep(Duration::from_secs(600)).await;
    assert_eq!(*log.lock().unwrap(), [1]);
    state.failures.lock().unwrap().clear();
    until_called(&log, 3).await;
    running.stop().await.unwrap();
}
