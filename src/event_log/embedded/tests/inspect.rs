//! `log info` and `log verify`: what they say of a whole log, a damaged one, and one in use.

use super::*;
use crate::event_log::embedded::{DamageReport, Depth, LogReport, inspect};

fn report(bench: &Bench, depth: Depth) -> LogReport {
    let mut steps = Vec::new();
    let report = inspect(&RealIo, &bench.log_dir(), depth, &mut |progress| {
        steps.push(progress);
    });
    if let Some(last) = steps.last() {
        assert_eq!(last.bytes_done, last.bytes_total);
    }
    report.unwrap()
}

async fn fill(bench: &Bench) {
    for _ in 0..3 {
        let open = bench.open().await;
        for _ in 0..3 {
            append(
                &*open.log,
                vec![open.feeder(1).body(2, 50), open.feeder(2).body(1, 0)],
            )
            .await;
        }
        open.close().await;
    }
}

#[tokio::test]
async fn a_whole_log_is_reported_as_it_is() {
    let bench = Bench::new();
    fill(&bench).await;
    for depth in [Depth::Footers, Depth::Blocks] {
        let report = report(&bench, depth);
        assert_eq!(report.damage, []);
        assert_eq!(report.tenant.as_deref(), Some(tenant().as_str()));
        assert_eq!(report.events, 27);
        assert_eq!(report.segments.len(), 3);
        assert_eq!(report.segments[1].sealed_by, Some("writer"));
        let topics: Vec<_> = report.topics.iter().map(|t| (&*t.name, t.events)).collect();
        assert_eq!(
            topics,
            [("/event/Topic_1__e", 18), ("/event/Topic_2__e", 9)]
        );
        let json = serde_json::to_value(&report).unwrap();
        assert_eq!(json["segments"][0]["events"], 9);
    }
}

#[tokio::test]
async fn a_log_in_use_is_whole_up_to_its_head() {
    let bench = Bench::new();
    fill(&bench).await;
    let open = bench.open().await;
    open.feeder(1).append(4).await;
    let report = report(&bench, Depth::Blocks);
    assert_eq!(report.damage, []);
    assert_eq!(report.events, 31);
    assert_eq!(report.head, open.log.state().head.get());
    assert_eq!(report.segments[3].sealed_by, None);
    // A group that is half written is none yet.
    let path = bench.segments()[3].clone();
    let at = (open.log.state().bytes as usize).next_multiple_of(512);
    let end = std::fs::metadata(&bench.segments()[3]).unwrap().len() as usize;
    assert!(at < end);
    bench.change(&path, |bytes| bytes[8_192 + 1_024] = 7);
    assert_eq!(super::inspect::report(&bench, Depth::Blocks).damage, []);
}

#[tokio::test]
async fn damage_is_reported_with_its_place() {
    let bench = Bench::new();
    fill(&bench).await;
    let segment = bench.segments()[1].clone();
    let name = segment.file_name().unwrap().to_str().unwrap();
    let whole = std::fs::read(&segment).unwrap();
    let damage = |change: &dyn Fn(&mut Vec<u8>)| -> Vec<DamageReport> {
        let mut bytes = whole.clone();
        change(&mut bytes);
        std::fs::write(&segment, bytes).unwrap();
        let damage = report(&bench, Depth::Blocks).damage;
        assert!(damage.first().is_none_or(|first| first.file == name));
        damage
    };
    assert_eq!(damage(&|_| {}), []);
    let body = damage(&|bytes| bytes[8_192 + 150] ^= 1);
    assert_eq!(
        (body.len(), body[0].topic, body[0].offset),
        (1, Some(1), Some(8_192))
    );
    let header = damage(&|bytes| bytes[8_192 + 3] ^= 1);
    assert_eq!((header.len(), header[0].topic), (1, None));
    assert!(header[0].after < header[0].until);
    let cut = damage(&|bytes| bytes.truncate(8_192 + 100));
    let is_footer = |damage: &DamageReport| damage.what.contains("footer");
    assert!(cut.iter().any(is_footer), "{cut:?}");
    assert_eq!(cut.len(), 3, "and each topic misses events: {cut:?}");
    let headers = damage(&|bytes| bytes[..8_192].fill(9));
    assert_eq!(headers.len(), 1);
    assert!(headers[0].what.contains("header"));

    std::fs::remove_file(&segment).unwrap();
    let missing = report(&bench, Depth::Footers).damage;
    assert_eq!(missing.len(), 2, "one for each topic");
    assert!(missing[0].what.contains("missing"));
}

#[tokio::test]
async fn a_torn_group_that_was_cut_and_sealed_is_no_damage() {
    let bench = Bench::new();
    let open = bench.open().await;
    let bodies = vec![open.feeder(1).body(1, 0), open.feeder(2).body(1, 100)];
    append(&*open.log, bodies).await;
    let end = open.log.state().bytes as usize;
    open.crash();
    bench.change(&bench.segments()[0], |bytes| bytes[end - 50..end].fill(0));
    bench.open().await.crash();
    let report = report(&bench, Depth::Blocks);
    assert_eq!(report.segments[0].sealed_by, Some("recovery"));
    assert_eq!((report.events, report.damage), (1, Vec::new()));
}

#[tokio::test]
async fn a_footer_is_missed_where_a_full_disk_is_no_reason() {
    let bench = Bench::new();
    let open = bench.open().await;
    open.feeder(1).append(1).await;
    open.crash();
    let open = bench.open_on_a_full_disk().await;
    open.feeder(1).append(1).await;
    let damage = || report(&bench, Depth::Blocks).damage;
    assert_eq!(damage(), []);
    open.crash();
    assert_eq!(damage(), []);

    let open = bench.open().await;
    open.feeder(1).append(1).await;
    let sealed = bench.segments();
    for (number, segment) in sealed[..2].iter().enumerate() {
        let whole = std::fs::read(segment).unwrap();
        bench.change(segment, |bytes| *bytes.last_mut().unwrap() ^= 1);
        let found = damage();
        assert_eq!(found.len(), 1, "{number}: {found:?}");
        assert!(found[0].what.contains("footer"));
        std::fs::write(segment, whole).unwrap();
    }
}

#[tokio::test]
async fn a_segment_without_room_for_its_footer_gets_it_before_the_next_one_does() {
    let bench = Bench::new();
    let open = bench.open().await;
    open.feeder(1).append(1).await;
    open.crash();
    let open = bench.open_on_a_full_disk().await;
    open.feeder(1).append(1).await;
    open.crash();
    let sealed_by = || {
        let segments = report(&bench, Depth::Blocks).segments;
        segments
            .into_iter()
            .map(|segment| segment.sealed_by)
            .collect::<Vec<_>>()
    };
    let open = bench.open_on_a_full_disk().await;
    open.feeder(1).append(1).await;
    assert_eq!(sealed_by(), [None; 3]);
    bench.disk.fail(disk::Op::Write, ErrorKind::StorageFull);
    bench.clock.advance(bench.config.segment_age_max);
    open.tick(&bench);
    assert_eq!(sealed_by(), [None; 3], "none before the older ones");
    bench.disk.heal();
    open.tick(&bench);
    assert_eq!(
        sealed_by(),
        [Some("recovery"), Some("recovery"), Some("writer")]
    );
    assert_eq!(open.feeder(1).read(Position::ZERO, 100).await.len(), 3);
    open.crash();
    let open = bench.open().await;
    assert_eq!(open.metrics().recoveries.get(), 0);
    assert_eq!(open.feeder(1).read(Position::ZERO, 100).await.len(), 3);
}
