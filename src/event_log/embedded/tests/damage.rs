//! Damage to what was acknowledged: never silent, and it costs no more than it must.

use super::*;
use crate::event_log::embedded::{Depth, block::BLOCK_HEADER_LEN, inspect};

const A: TopicId = TopicId::new(1);
const B: TopicId = TopicId::new(2);

/// A log of `groups` groups, each one event of topic 1 and one of topic 2, and where the groups
/// begin in the file.
async fn fill(open: &Open, groups: usize) -> (Vec<Position>, Vec<usize>) {
    let (a, b) = (open.feeder(1), open.feeder(2));
    let (mut positions, mut starts) = (Vec::new(), Vec::new());
    let mut end = 8_192;
    for _ in 0..groups {
        starts.push(end);
        let ranges = append(&*open.log, vec![a.body(1, 100), b.body(1, 0)]).await;
        positions.push(ranges[0].first);
        end = (open.log.state().bytes as usize).next_multiple_of(512);
    }
    (positions, starts)
}

fn damaged(error: Option<ReadError>) -> (Position, Position) {
    match error {
        Some(ReadError::Position(PositionError::Damaged {
            last_good,
            valid_from,
            ..
        })) => (last_good, valid_from),
        other => panic!("not an error of damage: {other:?}"),
    }
}

#[tokio::test]
async fn a_damaged_body_before_a_later_group_is_a_hole_of_its_topic() {
    for is_sealed in [false, true] {
        let bench = Bench::new();
        let open = bench.open().await;
        let (positions, starts) = fill(&open, 6).await;
        match is_sealed {
            true => open.close().await,
            false => open.crash(),
        }
        let path = bench.segments()[0].clone();
        bench.change(&path, |bytes| bytes[starts[2] + BLOCK_HEADER_LEN + 30] ^= 1);
        let open = bench.open().await;
        let (found, error) = read_until_error(&*open.log, A, Position::ZERO).await;
        assert_eq!(found, [0, 1]);
        let (last_good, valid_from) = damaged(error);
        assert!(last_good < positions[2] && positions[2] <= valid_from);
        assert_eq!(open.metrics().holes.get(), 1, "sealed: {is_sealed}");
        let (found, error) = read_until_error(&*open.log, A, valid_from).await;
        assert_eq!(found, [3, 4, 5]);
        assert!(error.is_none());
        let (found, error) = read_until_error(&*open.log, B, Position::ZERO).await;
        assert_eq!(found, [0, 1, 2, 3, 4, 5], "the other topic lost nothing");
        assert!(error.is_none());
        let both = open.log.read(&[A, B], positions[2], 1_000_000).await;
        assert!(both.is_ok(), "a reader past the hole does not see it");
    }
}

#[tokio::test]
async fn a_damaged_header_before_a_later_group_is_a_hole() {
    let bench = Bench::new();
    let open = bench.open().await;
    let (positions, starts) = fill(&open, 6).await;
    open.crash();
    let path = bench.segments()[0].clone();
    bench.change(&path, |bytes| bytes[starts[2] + 20] ^= 0x80);
    for _ in 0..2 {
        let open = bench.open().await;
        for topic in [A, B] {
            let (found, error) = read_until_error(&*open.log, topic, Position::ZERO).await;
            assert_eq!(found, [0, 1]);
            let (last_good, valid_from) = damaged(error);
            assert!(last_good < positions[2] && positions[2] <= valid_from);
            let (found, error) = read_until_error(&*open.log, topic, valid_from).await;
            assert_eq!(found, [3, 4, 5]);
            assert!(error.is_none());
        }
        // The second time the segment is sealed, and says so itself.
        open.crash();
    }
}

#[tokio::test]
async fn a_topic_that_lost_nothing_in_a_hole_is_spared() {
    let bench = Bench::new();
    let open = bench.open().await;
    let (a, b) = (open.feeder(1), open.feeder(2));
    a.append(1).await;
    b.append(1).await;
    let start = (open.log.state().bytes as usize).next_multiple_of(512);
    b.append(1).await;
    a.append(1).await;
    b.append(1).await;
    open.crash();
    bench.change(&bench.segments()[0], |bytes| bytes[start] ^= 1);
    let open = bench.open().await;
    let (found, error) = read_until_error(&*open.log, A, Position::ZERO).await;
    assert_eq!(found, [0, 1]);
    assert!(error.is_none());
    let (found, error) = read_until_error(&*open.log, B, Position::ZERO).await;
    assert_eq!(found, [0]);
    let (_, valid_from) = damaged(error);
    assert_eq!(read_until_error(&*open.log, B, valid_from).await.0, [2]);
}

#[tokio::test]
async fn every_flipped_byte_of_a_sealed_segment_is_told_or_harmless() {
    let bench = Bench::new();
    let open = bench.open().await;
    let (positions, _) = fill(&open, 5).await;
    open.close().await;
    let path = bench.segments()[0].clone();
    let whole = std::fs::read(&path).unwrap();
    // A prime step meets every field sooner or later without taking minutes.
    for byte in (0..whole.len()).step_by(37) {
        bench.change(&path, |bytes| {
            *bytes = whole.clone();
            bytes[byte] ^= 0x40;
        });
        let open = bench.open().await;
        let (found, error) = read_until_error(&*open.log, A, Position::ZERO).await;
        let wanted: Vec<u64> = (0..positions.len() as u64).collect();
        assert_eq!(found, wanted[..found.len()], "byte {byte}");
        assert!(
            error.is_some() || found == wanted,
            "byte {byte}: silent loss"
        );
        if let Some(error) = error {
            let (_, valid_from) = damaged(Some(error));
            let (rest, error) = read_until_error(&*open.log, A, valid_from).await;
            assert!(wanted.ends_with(&rest) && error.is_none(), "byte {byte}");
        }
        open.crash();
    }
}

#[tokio::test]
async fn a_missing_segment_is_noticed_by_whoever_reads_over_it() {
    let bench = Bench::new();
    for _ in 0..4 {
        let open = bench.open().await;
        open.feeder(1).append(3).await;
        open.crash();
    }
    let open = bench.open().await;
    open.feeder(2).append(1).await;
    open.crash();
    std::fs::remove_file(&bench.segments()[1]).unwrap();
    let open = bench.open().await;
    let (found, error) = read_until_error(&*open.log, A, Position::ZERO).await;
    assert_eq!(found.len(), 3);
    let (last_good, valid_from) = damaged(error);
    assert!(last_good < valid_from);
    let (found, error) = read_until_error(&*open.log, A, valid_from).await;
    assert_eq!(found.len(), 6);
    assert!(error.is_none());
    let (found, error) = read_until_error(&*open.log, B, Position::ZERO).await;
    assert_eq!(
        (found.len(), error.is_none()),
        (1, true),
        "nothing of B was there"
    );
}

#[tokio::test]
async fn a_segment_that_goes_missing_while_open_is_noticed() {
    let bench = Bench {
        config: Config {
            ring_bytes: 1,
            ..Bench::new().config
        },
        ..Bench::new()
    };
    for _ in 0..3 {
        let open = bench.open().await;
        open.feeder(1).append(3).await;
        open.crash();
    }
    let open = bench.open().await;
    std::fs::remove_file(&bench.segments()[1]).unwrap();
    let (found, error) = read_until_error(&*open.log, A, Position::ZERO).await;
    assert_eq!(found.len(), 3);
    let (_, valid_from) = damaged(error);
    assert_eq!(read_until_error(&*open.log, A, valid_from).await.0.len(), 3);
}

#[tokio::test]
async fn a_lost_state_is_made_up_from_the_segments() {
    let bench = Bench::new();
    let open = bench.open().await;
    let (positions, _) = fill(&open, 3).await;
    open.close().await;
    std::fs::remove_file(bench.log_dir().join("state")).unwrap();
    let open = bench.open().await;
    let found = open.feeder(1).read(Position::ZERO, 1_000).await;
    assert_eq!(found.len(), positions.len());
    assert!(open.feeder(1).append(1).await > positions[2]);
}

#[tokio::test]
async fn files_of_another_log_are_refused_by_name() {
    let (bench, other) = (Bench::new(), Bench::new());
    for bench in [&bench, &other] {
        let open = bench.open().await;
        fill(&open, 1).await;
        open.crash();
        // The next log gets another id.
        other.disk.random().unwrap();
    }
    let foreign = &other.segments()[0];
    std::fs::copy(foreign, &bench.segments()[0]).unwrap();
    let refused = bench.refusal().await;
    assert!(refused.to_string().contains("another log"), "{refused}");

    std::fs::write(&bench.segments()[0], vec![b'x'; 20_000]).unwrap();
    let refused = bench.refusal().await;
    assert!(refused.to_string().contains("segment header"), "{refused}");
    assert!(refused.to_string().contains(".seg"), "{refused}");
}

#[tokio::test]
async fn a_foreign_file_in_the_place_of_an_old_segment_is_a_hole_that_verify_explains() {
    let (bench, other) = (Bench::new(), Bench::new());
    other.disk.random().unwrap();
    for bench in [&bench, &other] {
        for _ in 0..3 {
            let open = bench.open().await;
            fill(&open, 2).await;
            open.close().await;
        }
    }
    let segments = bench.segments();
    let of_another_log = std::fs::read(&other.segments()[1]).unwrap();
    let of_another_place = std::fs::read(&segments[0]).unwrap();
    for (content, words) in [
        (&of_another_log, "belongs to another log"),
        (&of_another_place, "the header says that it is"),
        (&vec![b'x'; 30_000], "neither header nor footer is intact"),
        (&Vec::new(), "neither header nor footer is intact"),
    ] {
        std::fs::write(&segments[1], content).unwrap();
        let report = inspect(&RealIo, &bench.log_dir(), Depth::Blocks, &mut |_| {}).unwrap();
        let name = segments[1].file_name().unwrap().to_str().unwrap();
        let mut told = report.damage.iter();
        let is_told = told.any(|damage| damage.file == name && damage.what.contains(words));
        assert!(is_told, "{words}: {:?}", report.damage);

        // Opening looks at the newest segment alone.
        let open = bench.open().await;
        for topic in [A, B] {
            let (found, error) = read_until_error(&*open.log, topic, Position::ZERO).await;
            assert_eq!(found, [0, 1], "{words}");
            let (_, valid_from) = damaged(error);
            let (found, error) = read_until_error(&*open.log, topic, valid_from).await;
            assert_eq!((found.len(), error.is_none()), (2, true), "{words}");
        }
        open.close().await;
        assert_eq!(&std::fs::read(&segments[1]).unwrap(), content);
    }

    std::fs::write(&segments[1], &of_another_log).unwrap();
    std::fs::copy(&other.segments()[2], &segments[2]).unwrap();
    let refused = bench.refusal().await.to_string();
    assert!(refused.contains("belongs to another log"), "{refused}");
}

#[tokio::test]
async fn a_log_of_another_tenant_is_refused() {
    let bench = Bench::new();
    let open = bench.open().await;
    fill(&open, 1).await;
    open.close().await;
    let stranger: TenantId = "00D000000000002".parse().unwrap();
    let tenants = bench.root.path().join("tenants");
    let there = tenants.join(stranger.as_str());
    std::fs::rename(tenants.join(tenant().as_str()), there).unwrap();
    let refused = bench.embedded().open(stranger).await.unwrap_err();
    assert!(
        refused.to_string().contains("belongs to tenant"),
        "{refused}"
    );
}

#[tokio::test]
async fn an_end_that_is_missing_after_a_clean_stop_is_told_and_its_positions_stay_used() {
    for cut in [Some(3), Some(5), Some(0), None] {
        let bench = Bench::new();
        let open = bench.open().await;
        let (positions, starts) = fill(&open, 6).await;
        open.close().await;
        let path = bench.segments()[0].clone();
        match cut {
            Some(groups) => bench.change(&path, |bytes| bytes.truncate(starts[groups])),
            None => std::fs::remove_file(&path).unwrap(),
        }
        let left = cut.unwrap_or(0);
        let report = inspect(&RealIo, &bench.log_dir(), Depth::Blocks, &mut |_| {}).unwrap();
        assert_ne!(report.damage, [], "{cut:?}");
        let lost: u64 = report.losses.iter().map(|loss| loss.events).sum();
        assert_eq!(lost, 2 * (6 - left as u64), "{cut:?}");
        let mut newest = positions[5];
        for round in 0..2 {
            let open = bench.open().await;
            // Once it is in a footer it is known.
            assert!(open.metrics().holes.get() > 0 || round > 0, "{cut:?}");
            let (found, error) = read_until_error(&*open.log, A, Position::ZERO).await;
            assert_eq!(found.len(), left, "{cut:?}");
            let (_, valid_from) = damaged(error);
            assert!(valid_from >= positions[5], "{cut:?}");
            let (_, error) = read_until_error(&*open.log, A, valid_from).await;
            assert!(error.is_none(), "it goes on: {error:?}");
            let next = open.feeder(1).append(1).await;
            assert!(next > newest, "round {round} of {cut:?}");
            newest = next;
            let found = open.feeder(1).read(valid_from, 1_000).await;
            assert_eq!(found.last().unwrap().1, next, "{cut:?}");
            assert_eq!(open.log.topic(A).ordinal, 7 + round);
            open.crash();
        }
        let now = Timestamp::from_millis(5);
        repair(&bench.disk, &bench.log_dir(), now, &mut |_| {}).unwrap();
        let report = inspect(&RealIo, &bench.log_dir(), Depth::Blocks, &mut |_| {}).unwrap();
        assert_eq!((report.damage, report.losses), (vec![], vec![]), "{cut:?}");
        let open = bench.open().await;
        let earliest = open.log.resolve(&[A], Start::Earliest).unwrap();
        let (found, error) = read_until_error(&*open.log, A, earliest).await;
        assert!(error.is_none() && found.len() == 2, "{cut:?}: {error:?}");
    }
}
