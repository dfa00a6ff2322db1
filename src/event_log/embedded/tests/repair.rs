//! Repair: what it says beforehand, what it does, and what readers meet afterwards.

use super::*;
use crate::event_log::embedded::{
    Depth, LogReport, RepairReport, inspect, plan_repair, repair, state::STATE,
};

const A: TopicId = TopicId::new(1);
const B: TopicId = TopicId::new(2);

/// Three sealed segments of three groups, each with two events of topic 1 and one of topic 2.
async fn fill(bench: &Bench) -> Vec<(u64, Position)> {
    let mut numbered = Vec::new();
    for _ in 0..3 {
        let open = bench.open().await;
        let (a, b) = (open.feeder(1), open.feeder(2));
        for _ in 0..3 {
            let ranges = append(&*open.log, vec![a.body(2, 50), b.body(1, 0)]).await;
            let first = numbered.len() as u64;
            numbered.extend((first..).zip(ranges[0].iter()));
        }
        open.close().await;
    }
    numbered
}

fn verify(bench: &Bench) -> LogReport {
    inspect(&RealIo, &bench.log_dir(), Depth::Blocks, &mut |_| {}).unwrap()
}

fn plan(bench: &Bench) -> RepairReport {
    plan_repair(&RealIo, &bench.log_dir(), &mut |_| {}).unwrap()
}

fn apply(bench: &Bench) -> RepairReport {
    let now = Timestamp::from_millis(77);
    repair(&bench.disk, &bench.log_dir(), now, &mut |_| {}).unwrap()
}

/// Every file of the log, with its contents.
fn files(bench: &Bench) -> Vec<(PathBuf, Vec<u8>)> {
    let entries = std::fs::read_dir(bench.log_dir()).unwrap();
    let paths = entries.map(|entry| entry.unwrap().path());
    let mut files: Vec<_> = paths
        .filter(|path| path.is_file())
        .map(|path| (path.clone(), std::fs::read(path).unwrap()))
        .collect();
    files.sort();
    files
}

fn lost(report: &RepairReport) -> Vec<(u32, u64)> {
    let losses = report.losses.iter();
    losses.map(|loss| (loss.topic, loss.events)).collect()
}

/// The numbers of a topic's events from `start` on, going over each hole as its error says.
async fn read_over_holes(open: &Open, topic: TopicId, start: Position) -> (usize, usize) {
    let (mut events, mut holes, mut after) = (0, 0, start);
    loop {
        let (numbers, error) = read_until_error(&*open.log, topic, after).await;
        events += numbers.len();
        match error {
            None => return (events, holes),
            Some(ReadError::Position(PositionError::Damaged {
                last_good,
                valid_from,
                ..
            })) => {
                assert!(last_good <= valid_from && after < valid_from, "it goes on");
                holes += 1;
                after = valid_from;
            }
            Some(error) => panic!("{error}"),
        }
    }
}

#[tokio::test]
async fn there_is_nothing_to_do_about_a_whole_log() {
    let bench = Bench::new();
    fill(&bench).await;
    let before = files(&bench);
    for report in [plan(&bench), apply(&bench)] {
        assert_eq!(report.actions, []);
        assert_eq!((report.losses.len(), report.copy), (0, None));
    }
    assert_eq!(files(&bench), before);
}

#[tokio::test]
async fn a_damaged_body_costs_its_events_and_no_other() {
    let bench = Bench::new();
    let numbered = fill(&bench).await;
    let path = bench.segments()[1].clone();
    bench.change(&path, |bytes| bytes[8_192 + 512 + 150] ^= 1);
    let damaged = files(&bench);
    let planned = plan(&bench);
    assert_eq!(lost(&planned), [(1, 2)]);
    assert_eq!(planned.losses[0].name.as_deref(), Some("/event/Topic_1__e"));
    assert_eq!(planned.actions.len(), 1);
    assert_eq!(files(&bench), damaged, "a plan changes nothing");

    let done = apply(&bench);
    assert_eq!(done.actions, planned.actions);
    assert_eq!(done.losses, planned.losses);
    let copy = done.copy.unwrap();
    let name = path.file_name().unwrap();
    let kept = std::fs::read(copy.join(name)).unwrap();
    assert_eq!(kept, damaged.iter().find(|file| file.0 == path).unwrap().1);
    let report = std::fs::read_to_string(copy.join("report.json")).unwrap();
    assert!(report.contains("\"events\": 2"), "{report}");

    let after = verify(&bench);
    assert_eq!((after.damage.len(), after.losses.len()), (0, 0));
    assert_eq!(after.settled, done.losses);
    assert_eq!(after.events, 25);
    assert_eq!(plan(&bench).actions, []);

    for _ in 0..2 {
        let open = bench.open().await;
        assert_eq!(open.metrics().holes.get(), 0);
        // From before the hole a subscriber is told once, and from the earliest not at all.
        assert_eq!(read_over_holes(&open, A, Position::ZERO).await, (16, 1));
        let earliest = open.log.resolve(&[A], Start::Earliest).unwrap();
        assert!(numbered[9].1 <= earliest && earliest < numbered[10].1);
        assert_eq!(read_over_holes(&open, A, earliest).await, (8, 0));
        assert_eq!(open.log.topic(A).earliest(), earliest);
        assert_eq!(open.log.resolve(&[B], Start::Earliest), Ok(Position::ZERO));
        assert_eq!(read_over_holes(&open, B, Position::ZERO).await, (9, 0));
        open.crash();
    }
}

#[tokio::test]
async fn a_damaged_header_of_a_block_costs_what_cannot_be_found_behind_it() {
    let bench = Bench::new();
    fill(&bench).await;
    let path = bench.segments()[1].clone();
    // The second group: two blocks, of both topics.
    bench.change(&path, |bytes| bytes[8_192 + 512 + 9] ^= 1);
    let done = apply(&bench);
    let mut losses = lost(&done);
    losses.sort_unstable();
    assert_eq!(losses, [(1, 2), (2, 1)]);
    assert_eq!(verify(&bench).damage, []);
    let open = bench.open().await;
    assert_eq!(read_over_holes(&open, A, Position::ZERO).await, (16, 1));
    assert_eq!(read_over_holes(&open, B, Position::ZERO).await, (8, 1));
    let both = open.log.resolve(&[A, B], Start::Earliest).unwrap();
    assert!(open.log.read(&[A, B], both, 1_000).await.is_ok(), "no loop");
}

#[tokio::test]
async fn what_stands_twice_or_can_be_made_again_costs_nothing() {
    type Change = fn(&mut Vec<u8>);
    let changes: [(&str, Change); 4] = [
        ("one copy of the header", |bytes| bytes[100] ^= 1),
        ("a page of the header", |bytes| bytes[4_096..8_192].fill(0)),
        ("both copies of the header", |bytes| bytes[..8_192].fill(9)),
        ("the footer", |bytes| {
            let end = bytes.len();
            bytes[end - 300] ^= 1;
        }),
    ];
    for (what, change) in changes {
        let bench = Bench::new();
        fill(&bench).await;
        bench.change(&bench.segments()[1].clone(), change);
        assert_ne!(verify(&bench).damage, [], "{what}");
        let done = apply(&bench);
        assert_eq!(lost(&done), [], "{what}");
        assert_eq!(done.actions.len(), 1, "{what}");
        assert_eq!(verify(&bench).damage, [], "{what}");
        let open = bench.open().await;
        assert_eq!(read_over_holes(&open, A, Position::ZERO).await, (18, 0));
        assert_eq!(read_over_holes(&open, B, Position::ZERO).await, (9, 0));
    }
}

#[tokio::test]
async fn a_missing_a_foreign_and_an_unreadable_segment_are_told_by_their_size() {
    for case in ["missing", "foreign", "unreadable"] {
        let (bench, other) = (Bench::new(), Bench::new());
        other.disk.random().unwrap();
        fill(&bench).await;
        fill(&other).await;
        let path = bench.segments()[1].clone();
        match case {
            "missing" => std::fs::remove_file(&path).unwrap(),
            "foreign" => drop(std::fs::copy(&other.segments()[1], &path).unwrap()),
            _ => bench.change(&path, |bytes| bytes.fill(0x5a)),
        }
        let done = apply(&bench);
        let mut losses = lost(&done);
        losses.sort_unstable();
        assert_eq!(losses, [(1, 6), (2, 3)], "{case}");
        assert_eq!(done.actions.len(), 1, "{case}: {:?}", done.actions);
        let after = verify(&bench);
        assert_eq!((after.damage, after.losses), (vec![], vec![]), "{case}");
        let open = bench.open().await;
        assert_eq!(read_over_holes(&open, A, Position::ZERO).await, (12, 1));
        let earliest = open.log.resolve(&[A], Start::Earliest).unwrap();
        assert_eq!(read_over_holes(&open, A, earliest).await, (6, 0), "{case}");
    }
}

#[tokio::test]
async fn positions_of_a_newest_segment_that_is_set_aside_are_not_used_again() {
    let bench = Bench::new();
    let numbered = fill(&bench).await;
    let path = bench.segments()[2].clone();
    bench.change(&path, |bytes| bytes.fill(0x5a));
    assert!(matches!(bench.refusal().await, OpenError::Foreign { .. }));
    let done = apply(&bench);
    assert!(done.actions[0].what.contains("not used again"), "{done:?}");
    let open = bench.open().await;
    let newest = numbered.last().unwrap().1;
    assert!(open.log.state().head >= newest);
    assert!(open.feeder(1).append(1).await > newest);
    let (found, error) = read_until_error(&*open.log, A, numbered[14].1).await;
    assert_eq!(found, [0; 0]);
    let Some(ReadError::Position(PositionError::Damaged { valid_from, .. })) = error else {
        panic!("{error:?}");
    };
    assert_eq!(read_over_holes(&open, A, valid_from).await, (1, 0));
}

#[tokio::test]
async fn a_damaged_state_is_made_anew() {
    for is_whole_file in [false, true] {
        let bench = Bench::new();
        let numbered = fill(&bench).await;
        bench.change(&bench.log_dir().join(STATE), |bytes| match is_whole_file {
            true => bytes.fill(7),
            false => bytes[30] ^= 1,
        });
        assert_ne!(verify(&bench).damage, []);
        let done = apply(&bench);
        assert_eq!((done.actions.len(), lost(&done)), (1, vec![]));
        assert_eq!(verify(&bench).damage, []);
        let open = bench.open().await;
        assert_eq!(read_over_holes(&open, A, Position::ZERO).await, (18, 0));
        assert!(open.feeder(1).append(1).await > numbered[17].1);
    }
}

#[tokio::test]
async fn a_repair_that_was_stopped_is_gone_on_with() {
    use disk::Op;
    for op in [Op::Create, Op::Write, Op::Sync, Op::Rename, Op::SyncDir] {
        let bench = Bench::new();
        fill(&bench).await;
        let path = bench.segments()[1].clone();
        bench.change(&path, |bytes| bytes[8_192 + 512 + 150] ^= 1);
        bench.disk.fail(op, std::io::ErrorKind::Other);
        let dir = bench.log_dir();
        let now = Timestamp::from_millis(66);
        repair(&bench.disk, &dir, now, &mut |_| {}).unwrap_err();
        bench.disk.heal();
        apply(&bench);
        assert_eq!(verify(&bench).damage, [], "{op:?}");
        let open = bench.open().await;
        assert_eq!(read_over_holes(&open, A, Position::ZERO).await, (16, 1));
    }
}
