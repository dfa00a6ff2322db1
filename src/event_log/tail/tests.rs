use super::*;
use crate::{
    clock::Timestamp,
    event_log::{BlockBody, LogTopic},
};

fn block(topic: u32, number: u64) -> Arc<Block> {
    let topic = LogTopic {
        id: TopicId::new(topic),
        name: "/event/A__e".parse().unwrap(),
    };
    let mut body = BlockBody::with_capacity(Arc::new(topic), 0);
    assert!(body.push(&[0; 100], None));
    let first = Position::in_block(number, 0).unwrap();
    Arc::new(body.seal(first, number - 1, Timestamp::default()))
}

fn at(number: u64) -> Position {
    Position::in_block(number, 0).unwrap()
}

fn numbers(read: TailRead) -> Vec<u64> {
    let TailRead::Ring(batch) = read else {
        panic!("sent to storage: {read:?}");
    };
    let firsts = batch.blocks.iter().map(|block| block.first().block());
    firsts.collect()
}

const A: TopicId = TopicId::new(1);
const B: TopicId = TopicId::new(2);

#[test]
fn several_topics_are_merged_in_order() {
    let tail = Tail::new(Restored::default(), None);
    tail.publish(vec![block(1, 1), block(2, 2), block(1, 3), block(3, 4)]);
    let read = |topics: &[TopicId], after, bytes_max| {
        numbers(tail.read(topics, after, bytes_max).unwrap())
    };
    assert_eq!(read(&[B, A], Position::ZERO, usize::MAX), [1, 2, 3]);
    assert_eq!(read(&[A, A, B], at(1), usize::MAX), [2, 3]);
    assert_eq!(read(&[A, B], Position::ZERO, 1), [1]);
    assert!(read(&[], Position::ZERO, 1).is_empty());
}

#[test]
fn a_reader_is_sent_to_storage_until_it_is_past_what_left_the_ring() {
    let one = weight(&block(1, 1));
    let tail = Tail::new(Restored::default(), Some(RingBudget::new(2 * one)));
    tail.publish(vec![block(1, 1), block(2, 2), block(1, 3)]);
    let storage = |topics: &[TopicId], after| {
        let read = tail.read(topics, after, usize::MAX).unwrap();
        matches!(read, TailRead::Storage { head } if head == at(3))
    };
    assert!(storage(&[A], Position::ZERO));
    assert!(storage(&[A, B], Position::ZERO));
    assert!(!storage(&[B], Position::ZERO), "all of B is in the ring");
    assert_eq!(
        numbers(tail.read(&[A, B], at(1), usize::MAX).unwrap()),
        [2, 3]
    );
}

#[test]
fn a_log_gives_ring_space_back_when_others_need_it() {
    let one = weight(&block(1, 1));
    let budget = RingBudget::new(4 * one);
    let quiet = Tail::new(Restored::default(), Some(Arc::clone(&budget)));
    quiet.publish((1..=4).map(|number| block(1, number)).collect());
    assert_eq!(quiet.ring_bytes(), 4 * one);
    let busy = Tail::new(Restored::default(), Some(Arc::clone(&budget)));
    busy.publish((1..=4).map(|number| block(1, number)).collect());
    assert_eq!(busy.ring_bytes(), 2 * one);
    quiet.trim_ring();
    assert_eq!(quiet.ring_bytes(), 2 * one);
    drop((quiet, busy));
    assert_eq!(budget.used.load(Ordering::Relaxed), 0);
}

#[test]
fn positions_before_the_trim_or_in_a_lost_range_are_refused() {
    let restored = Restored {
        head: at(10),
        lost: vec![LostRange {
            after: at(5),
            until: at(10),
        }],
        ..Restored::default()
    };
    let tail = Tail::new(restored, None);
    tail.publish(vec![block(1, 11), block(2, 12), block(2, 13)]);
    tail.purge_oldest(|oldest, _| oldest.first() < at(13));
    let after = |topics: &[TopicId], position| tail.resolve(topics, Start::After(position));

    assert_eq!(after(&[A], at(12)), Ok(at(12)));
    assert_eq!(after(&[A], at(11)), Ok(at(11)), "the newest purged one");
    assert_eq!(
        after(&[A], at(10)),
        Err(PositionError::Purged {
            position: at(10),
            valid_from: at(11)
        })
    );
    assert_eq!(
        after(&[A, B], at(11)).unwrap_err(),
        PositionError::Purged {
            position: at(11),
            valid_from: at(12)
        }
    );
    assert_eq!(
        after(&[TopicId::new(9)], at(7)).unwrap_err(),
        PositionError::Lost {
            position: at(7),
            valid_from: at(10)
        }
    );
    assert_eq!(tail.resolve(&[A, B], Start::Earliest), Ok(at(12)));
    assert_eq!(
        after(&[A], at(14)).unwrap_err(),
        PositionError::Ahead {
            position: at(14),
            head: at(13)
        }
    );
}

#[tokio::test]
async fn a_change_before_the_wait_is_seen_by_it() {
    let tail = Tail::new(Restored::default(), None);
    let mut watcher = tail.watch(&[A, B]);
    tail.publish(vec![block(2, 1)]);
    watcher.changed().await;
    let mut waiting = Box::pin(watcher.changed());
    assert!(futures_util::poll!(&mut waiting).is_pending());
    tail.publish(vec![block(3, 2)]);
    assert!(
        futures_util::poll!(&mut waiting).is_pending(),
        "not its topic"
    );
    tail.publish(vec![block(1, 3)]);
    waiting.await;
}
