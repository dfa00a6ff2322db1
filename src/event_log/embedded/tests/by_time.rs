//! The place of a time in the files: over many segments, beside what is purged, and beside damage.

use super::*;
use crate::event_log::contract::check_times;

const A: TopicId = TopicId::new(1);

/// Segments of little more than an index step, and next to nothing in memory.
fn bench() -> Bench {
    Bench {
        config: Config {
            ring_bytes: 1,
            cache_bytes: 1,
            footer_cache_bytes: 1,
            segment_bytes_min: 100_000,
            segment_bytes_max: 100_000,
            segment_age_max: Duration::from_secs(60),
            retention: Duration::from_secs(3_600),
            ..Bench::new().config
        },
        ..Bench::new()
    }
}

/// Appends to a busy topic and, now and then, to others, and tells when and where.
async fn fill(bench: &Bench, open: &Open, rounds: usize) -> Vec<(Timestamp, Position)> {
    let feeders: Vec<_> = (1..=9).map(|topic| open.feeder(topic)).collect();
    let mut appended = Vec::new();
    for round in 0..rounds {
        // Steps, segments and blocks begin with a new time as well as in the middle of one.
        if !round.is_multiple_of(3) {
            bench.clock.advance(Duration::from_millis(round as u64 % 7));
        }
        let feeder = &feeders[if round.is_multiple_of(5) {
            round % 9
        } else {
            0
        }];
        let bodies = vec![feeder.body(1 + round % 4, 1_500)];
        let ranges = append(&*open.log, bodies).await;
        appended.push((bench.clock.now(), ranges[0].iter().last().unwrap()));
    }
    appended
}

#[tokio::test]
async fn a_time_leads_to_its_place_in_many_segments() {
    let bench = bench();
    let open = bench.open().await;
    let mut appended = fill(&bench, &open, 400).await;
    check_times(&*open.log, &appended).await;
    open.crash();
    let open = bench.open().await;
    assert!(bench.segments().len() > 10);
    check_times(&*open.log, &appended).await;
    appended.extend(fill(&bench, &open, 50).await);
    check_times(&*open.log, &appended).await;
    open.close().await;
    check_times(&*bench.open().await.log, &appended).await;
}

#[tokio::test]
async fn what_was_purged_is_known_by_its_time() {
    let bench = bench();
    let open = bench.open().await;
    let old = fill(&bench, &open, 40).await;
    bench.clock.advance(Duration::from_secs(61));
    let between = fill(&bench, &open, 40).await;
    bench.clock.advance(Duration::from_secs(3_600 - 30));
    let new = fill(&bench, &open, 40).await;
    open.tick(&bench);
    let check = async |open: &Open| {
        let topic = open.log.topic(A);
        assert!(topic.trim <= old[39].1 && topic.trim > old[0].1);
        assert_eq!(open.log.state().trim, old[39].1);
        assert!(topic.trim_at <= old[39].0 && topic.trim_at >= old[36].0);
        let left: Vec<_> = between.iter().chain(&new).copied().collect();
        check_times(&*open.log, &left).await;
        let oldest = open.log.position_at(old[0].0).await.unwrap();
        assert_eq!(oldest, old[39].1, "what is left comes after what is purged");
    };
    check(&open).await;
    open.crash();
    let open = bench.open().await;
    check(&open).await;

    // A topic that keeps its events for a shorter time is purged in the middle.
    let retention = Some(Duration::from_secs(600));
    open.log.set_retention(A, retention).await.unwrap();
    open.tick(&bench);
    let topic = open.log.topic(A);
    assert!(topic.trim >= between[30].1 && topic.trim <= between[39].1);
    assert!(topic.trim_at >= between[30].0 && topic.trim_at <= new[0].0);
    let found = open.log.position_at(between[10].0).await.unwrap();
    assert!(found < topic.trim, "others have events from then on");
    open.crash();
    assert_eq!(bench.open().await.log.topic(A), topic);
}

#[tokio::test]
async fn a_time_in_a_segment_that_is_lost_leads_to_the_loss() {
    let bench = bench();
    let open = bench.open().await;
    let appended = fill(&bench, &open, 300).await;
    open.close().await;
    let lost = bench.segments()[4].clone();
    std::fs::remove_file(&lost).unwrap();
    let open = bench.open().await;
    let mut told = 0;
    for (at, position) in &appended {
        let found = open.log.position_at(*at).await.unwrap();
        assert!(found < *position, "nothing from then on is passed over");
        let (_, error) = read_until_error(&*open.log, A, found).await;
        told += usize::from(error.is_some());
    }
    assert!(told > 40 && told < 200, "{told}");
    // While it is open too.
    std::fs::write(&bench.segments()[6], "not a segment").unwrap();
    for (at, position) in &appended {
        assert!(open.log.position_at(*at).await.unwrap() < *position);
    }
}
