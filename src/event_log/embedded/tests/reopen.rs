//! What was acknowledged is back after an end of any kind, at its position.

use super::*;
use crate::event_log::embedded::footer::{Footer, SealedBy};

/// Appends to two topics, one group for each call, and returns what should be read of topic 1.
async fn fill(open: &Open, groups: usize) -> Vec<(u64, Position)> {
    let (a, b) = (open.feeder(1), open.feeder(2));
    let mut wanted = Vec::new();
    for group in 0..groups {
        let bodies = vec![a.body(1 + group % 3, group), b.body(2, 0), a.body(1, 0)];
        let ranges = append(&*open.log, bodies).await;
        for range in [ranges[0], ranges[2]] {
            let first = wanted.len() as u64;
            wanted.extend((first..).zip(range.iter()));
        }
    }
    wanted
}

fn sealed_by(path: &Path) -> Option<SealedBy> {
    let file = RealIo.open(path, Access::Read).unwrap();
    Footer::read(&*file).unwrap().map(|footer| footer.sealed_by)
}

#[tokio::test]
async fn everything_acknowledged_is_back_after_a_crash_or_a_clean_end() {
    for is_clean in [false, true] {
        let bench = Bench::new();
        let open = bench.open().await;
        let wanted = fill(&open, 20).await;
        let (state, topic) = (open.log.state(), open.log.topic(TopicId::new(1)));
        match is_clean {
            true => open.close().await,
            false => open.crash(),
        }
        let open = bench.open().await;
        assert_eq!(open.metrics().recoveries.get(), u64::from(!is_clean));
        assert_eq!(open.log.state().head, state.head);
        assert_eq!(open.log.topic(TopicId::new(1)), topic);
        assert_eq!(open.feeder(1).read(Position::ZERO, 500).await, wanted);
        let by = match is_clean {
            true => SealedBy::Writer,
            false => SealedBy::Recovery,
        };
        assert_eq!(sealed_by(&bench.segments()[0]), Some(by));
    }
}

#[tokio::test]
async fn a_file_of_an_earlier_process_is_never_written_to() {
    let bench = Bench::new();
    let open = bench.open().await;
    let wanted = fill(&open, 3).await;
    open.crash();
    let open = bench.open().await;
    let first = std::fs::read(&bench.segments()[0]).unwrap();
    let last = open.feeder(1).append(1).await;
    assert!(last > wanted[wanted.len() - 1].1, "numbering goes on");
    assert_eq!(
        open.log.topic(TopicId::new(1)).ordinal,
        wanted.len() as u64 + 1
    );
    assert_eq!(std::fs::read(&bench.segments()[0]).unwrap(), first);
    assert_eq!(bench.segments().len(), 2);
}

#[tokio::test]
async fn many_ends_leave_every_event_in_its_place() {
    let bench = Bench::new();
    let mut wanted = Vec::new();
    for round in 0..12 {
        let open = bench.open().await;
        let feeder = open.feeder(1);
        for _ in 0..round % 4 {
            wanted.push(feeder.append(1).await);
        }
        let found = feeder.read(Position::ZERO, 1_000).await;
        let found: Vec<_> = found.into_iter().map(|event| event.1).collect();
        assert_eq!(found, wanted);
        match round % 3 {
            0 => open.close().await,
            _ => open.crash(),
        }
    }
    assert!(wanted.is_sorted());
}

#[tokio::test]
async fn an_empty_log_is_opened_again() {
    let bench = Bench::new();
    let open = bench.open().await;
    let head = open.log.state().head;
    open.crash();
    let open = bench.open().await;
    assert_eq!(open.log.state().head, head);
    assert!(bench.segments().is_empty());
    assert!(open.feeder(1).append(1).await > head);
}

#[tokio::test]
async fn a_tail_torn_at_any_byte_costs_only_what_was_not_acknowledged() {
    let bench = Bench::new();
    let open = bench.open().await;
    fill(&open, 2).await;
    let end = open.log.state().bytes as usize;
    let (a, b) = (open.feeder(1), open.feeder(2));
    let bodies = vec![a.body(2, 40), b.body(1, 0), a.body(1, 0)];
    let torn: Vec<PositionRange> = append(&*open.log, bodies).await;
    let torn_end = open.log.state().bytes as usize;
    open.crash();
    let path = bench.segments()[0].clone();
    let whole = std::fs::read(&path).unwrap();
    let start = end.next_multiple_of(512);
    let mut kept_counts = std::collections::BTreeSet::new();
    for cut in start..=torn_end {
        // Bytes that did not reach the disk read as zero; the file keeps its size.
        bench.change(&path, |bytes| {
            *bytes = whole.clone();
            bytes[cut..].fill(0);
        });
        let open = bench.open().await;
        let head = open.log.state().head;
        let found: Vec<_> = open.feeder(1).read(Position::ZERO, 10_000).await;
        assert!(found.len() >= 5, "cut at {cut}");
        let kept = torn.iter().filter(|range| range.first <= head).count();
        // This replay id, and so the block, ends with three zero bytes.
        assert_eq!(cut >= torn_end - 3, kept == 3, "cut at {cut}");
        kept_counts.insert(kept);
        assert_eq!(open.metrics().holes.get(), 0);
        let next = open.feeder(1).append(1).await;
        assert!(next > head);
        open.crash();
        std::fs::remove_file(&bench.segments()[1]).unwrap();
    }
    assert_eq!(kept_counts.into_iter().collect::<Vec<_>>(), [0, 1, 2, 3]);
}

#[tokio::test]
async fn any_lost_sectors_of_the_last_group_leave_the_groups_before_it() {
    let bench = Bench::new();
    let open = bench.open().await;
    let wanted = fill(&open, 2).await;
    let start = (open.log.state().bytes as usize).next_multiple_of(512);
    let feeder = open.feeder(1);
    append(&*open.log, vec![feeder.body(1, 1_000), feeder.body(256, 2)]).await;
    let sectors = (open.log.state().bytes as usize - start).div_ceil(512);
    open.crash();
    let path = bench.segments()[0].clone();
    let whole = std::fs::read(&path).unwrap();
    // Every subset of the first sectors, and every single one of the others.
    let subsets = (1..64_u32).map(|subset| (0..6).filter(|s| subset >> s & 1 == 1).collect());
    let singles = (6..sectors).map(|sector| vec![sector]);
    for lost in subsets.chain(singles) {
        bench.change(&path, |bytes| {
            *bytes = whole.clone();
            for sector in &lost {
                let at = start + sector * 512;
                bytes[at..at + 512].fill(0);
            }
        });
        let open = bench.open().await;
        let found = open.feeder(1).read(Position::ZERO, 1_000_000).await;
        assert!(found.len() >= wanted.len(), "lost sectors {lost:?}");
        assert_eq!(found[..wanted.len()], wanted);
        assert_eq!(open.metrics().holes.get(), 0);
        open.crash();
    }
}

#[tokio::test]
async fn a_first_group_that_never_finished_leaves_no_segment() {
    let bench = Bench::new();
    let open = bench.open().await;
    fill(&open, 1).await;
    open.crash();
    let path = bench.segments()[0].clone();
    let whole = std::fs::read(&path).unwrap();
    for lost in [0..8_192, 8_192..whole.len(), 0..whole.len()] {
        let mut bytes = whole.clone();
        bytes[lost].fill(0);
        std::fs::write(&path, bytes).unwrap();
        let open = bench.open().await;
        assert!(open.feeder(1).read(Position::ZERO, 1_000).await.is_empty());
        assert!(bench.segments().is_empty());
        open.crash();
    }
}

#[tokio::test]
async fn what_was_made_ahead_and_not_used_is_removed() {
    let bench = Bench::new();
    let open = bench.open().await;
    fill(&open, 2).await;
    open.crash();
    let spare = bench.log_dir().join("spare");
    std::fs::write(&spare, vec![7; 10_000]).unwrap();
    std::fs::write(bench.log_dir().join("state.new"), "half").unwrap();
    std::fs::write(bench.log_dir().join("0000000000009999-00000000.seg"), []).unwrap();
    let open = bench.open().await;
    assert_eq!(bench.segments().len(), 1);
    assert!(!spare.exists());
    open.crash();
}

#[tokio::test]
async fn segments_are_sealed_when_full_and_read_across() {
    let bench = Bench {
        config: Config {
            segment_bytes_min: 64 * 1024,
            segment_bytes_max: 128 * 1024,
            ring_bytes: 1,
            ..Bench::new().config
        },
        ..Bench::new()
    };
    let open = bench.open().await;
    let feeder = open.feeder(1);
    let mut wanted = Vec::new();
    for _ in 0..300 {
        for range in append(&*open.log, vec![feeder.body(10, 200)]).await {
            let first = wanted.len() as u64;
            wanted.extend((first..).zip(range.iter()));
        }
    }
    assert_eq!(feeder.read(Position::ZERO, 50_000).await, wanted);
    let segments = bench.segments();
    assert!(segments.len() > 5, "{segments:?}");
    let sealed = segments.iter().filter(|path| sealed_by(path).is_some());
    assert_eq!(sealed.count(), segments.len() - 1);
    open.crash();
    let open = bench.open().await;
    assert_eq!(open.feeder(1).read(Position::ZERO, 50_000).await, wanted);
    let middle = wanted[wanted.len() / 2 + 3];
    let rest = open.feeder(1).read(middle.1, 1).await;
    assert_eq!(rest, wanted[wanted.len() / 2 + 4..]);
}

#[tokio::test]
async fn the_next_segment_is_allocated_ahead() {
    let bench = Bench {
        config: Config {
            segment_bytes_min: 64 * 1024,
            ..Bench::new().config
        },
        ..Bench::new()
    };
    let open = bench.open().await;
    let feeder = open.feeder(1);
    let spare = bench.log_dir().join("spare");
    append(&*open.log, vec![feeder.body(10, 100)]).await;
    assert!(!spare.exists(), "a log with few events stays small");
    // Past the half of the first segment, and not to its end.
    while open.log.state().bytes <= 32 * 1024 {
        append(&*open.log, vec![feeder.body(10, 400)]).await;
    }
    while !open.embedded().tenants.open()[0].store().has_spare() {
        tokio::task::yield_now().await;
    }
    // The next segment needs no file made.
    let disk = &bench.disk;
    disk.fail(disk::Op::Create, std::io::ErrorKind::Other);
    while bench.segments().len() == 1 {
        append(&*open.log, vec![feeder.body(10, 400)]).await;
    }
    assert!(!spare.exists());
    let topic = open.log.topic(feeder.topic());
    let found = feeder.read(Position::ZERO, 100_000).await;
    assert_eq!(found.len() as u64, topic.ordinal);
}

#[tokio::test]
async fn an_old_segment_is_sealed_without_a_new_event() {
    let bench = Bench::new();
    let open = bench.open().await;
    open.feeder(1).append(1).await;
    open.tick(&bench);
    assert_eq!(sealed_by(&bench.segments()[0]), None);
    bench.clock.advance(bench.config.segment_age_max);
    open.tick(&bench);
    assert_eq!(sealed_by(&bench.segments()[0]), Some(SealedBy::Writer));
    open.feeder(1).append(1).await;
    assert_eq!(bench.segments().len(), 2);
}

#[tokio::test]
async fn positions_that_were_not_synced_are_never_given_again() {
    let bench = Bench {
        config: Config {
            durability: crate::event_log::Durability::Os,
            sync_interval: Duration::from_secs(3_600),
            ..Bench::new().config
        },
        ..Bench::new()
    };
    let open = bench.open().await;
    let feeder = open.feeder(1);
    let kept = feeder.append(1).await;
    let kept_end = open.log.state().bytes as usize;
    let lost = [feeder.append(1).await, feeder.append(1).await];
    open.crash();
    // The last two groups never reached the disk, the third not at all, the second in part.
    let path = bench.segments()[0].clone();
    bench.change(&path, |bytes| {
        let second = kept_end.next_multiple_of(512);
        bytes[second + 90..second + 100].fill(0);
    });
    let open = bench.open().await;
    assert_eq!(open.metrics().holes.get(), 0, "a loss this mode allows");
    let topic = [TopicId::new(1)];
    for position in lost {
        let refused = open
            .log
            .resolve(&topic, Start::After(position))
            .unwrap_err();
        let PositionError::Lost { valid_from, .. } = refused else {
            panic!("{refused}");
        };
        assert!(open.log.resolve(&topic, Start::After(valid_from)).is_ok());
    }
    assert_eq!(
        open.feeder(1).read(Position::ZERO, 1_000).await,
        [(0, kept)]
    );
    let next = open.feeder(1).append(1).await;
    assert!(next > lost[1]);
    open.close().await;

    // After a clean end nothing is skipped, and the lost range is still known.
    let open = bench.open().await;
    assert_eq!(open.log.state().head, next);
    assert!(open.log.resolve(&topic, Start::After(lost[0])).is_err());
    let after = open.feeder(1).append(1).await;
    assert_eq!(after.block(), next.block() + 1);
}
