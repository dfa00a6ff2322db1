//! A log that is open on a [`Machine`]: no thread, one operation after the other.

use std::{
    sync::{Arc, mpsc},
    time::{Duration, Instant},
};

use super::{
    machine::Machine,
    model::{TOPICS, View, Violation},
};
use crate::{
    clock::ManualClock,
    event_log::{
        AppendOutcome, Appending, Block, BlockBody, Config, DataDir, Durability, LogTopic,
        OpenError, contract,
        embedded::{
            Store, Writer,
            footer::Footer,
            io::{Access, Io},
            open_store,
            store::Process,
            tests::tenant,
            writer::Request,
        },
    },
    types::{Position, Start, TopicId},
};

/// An open log.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) store: Arc<Store>,
    pub(super) writer: Writer,
    pub(super) durability: Durability,
}

/// Age at which a segment is sealed.
pub(super) const SEAL_AGE: Duration = Duration::from_secs(50);
/// Age at which an event is purged.
pub(super) const RETENTION: Duration = Duration::from_secs(100);

impl Session {
    pub(super) fn open(
        machine: &Machine,
        clock: &ManualClock,
        durability: Durability,
    ) -> Result<Self, OpenError> {
        // A segment holds two small groups, the next one about ten.
        let config = Config {
            durability,
            segment_bytes_min: 12_000,
            segment_bytes_max: 24_000,
            segment_age_max: SEAL_AGE,
            retention: RETENTION,
            // Readers go to the disk for everything.
            ring_bytes: 1,
            cache_bytes: 100_000,
            footer_cache_bytes: 100_000,
            ..Config::default()
        };
        let io = Arc::new(machine.clone()) as Arc<dyn Io>;
        let dir = DataDir::open_with("/data".into(), Arc::clone(&io))?;
        let (chores, _) = mpsc::channel();
        let clock = Arc::new(clock.clone());
        let process = Process::new(config, clock, io, chores);
        let (store, writer) = open_store(&dir, process, tenant())?;
        Ok(Self {
            store,
            writer,
            durability,
        })
    }

    /// Commits `bodies` as one group.
    pub(super) fn commit(&mut self, bodies: Vec<BlockBody>) -> AppendOutcome {
        let (reply, mut appending) = Appending::new();
        _ = self.writer.commit(vec![Request {
            bytes: 0,
            bodies,
            queued_at: Instant::now(),
            reply,
            room: Vec::new(),
        }]);
        let outcome = futures_util::FutureExt::now_or_never(&mut appending);
        outcome
            .expect("a commit answers")
            .expect("a commit answers")
    }

    /// Syncs what was acknowledged without a sync, as the upkeep thread does, and says whether all
    /// of it is synced now. The writer goes on `meanwhile`.
    pub(super) fn sync(&mut self, meanwhile: impl FnOnce(&mut Writer)) -> bool {
        let synced = self.writer.take_unsynced().map(|file| file.sync());
        meanwhile(&mut self.writer);
        if let Some(Err(error)) = synced {
            self.writer.sync_failed(error);
        }
        !self.store.health.is_poisoned()
    }
}

/// A body with these events, each with `padding` bytes beside its number.
pub(super) fn body(topic: TopicId, numbers: &[u64], padding: usize) -> BlockBody {
    let log_topic = LogTopic {
        id: topic,
        name: format!("/event/T{}__e", topic.get()).parse().unwrap(),
    };
    let mut body = BlockBody::with_capacity(Arc::new(log_topic), 0);
    for number in numbers {
        let mut event = number.to_le_bytes().to_vec();
        event.resize(event.len() + padding, 7);
        assert!(body.push(&event, None));
    }
    body
}

/// Reads everything there is.
pub(super) fn view(store: &Arc<Store>) -> Result<View, Violation> {
    let topics: Vec<_> = (1..=TOPICS as u32).map(TopicId::new).collect();
    let failed = |error: &dyn std::fmt::Display| Violation(format!("cannot be read: {error}"));
    let mut view = View::default();
    for (topic, known) in topics.iter().zip(&mut view.topics) {
        let state = store.tail.topic(*topic);
        *known = (state.trim, state.ordinal.saturating_sub(state.trim_ordinal));
    }
    let mut after = store
        .tail
        .resolve(&topics, Start::Earliest)
        .map_err(|e| failed(&e))?;
    let mut blocks = Vec::new();
    loop {
        let batch = store
            .read_here(&topics, after, 1 << 20)
            .map_err(|e| failed(&e))?;
        if batch.blocks.is_empty() {
            view.head = batch.examined;
            break;
        }
        for block in &batch.blocks {
            let events = contract::events(block, after);
            let events = events.into_iter().map(|(n, at)| (block.topic(), n, at));
            view.events.extend(events);
        }
        after = batch.examined;
        blocks.extend(batch.blocks);
    }
    // A few of the times: the search goes through as many segments for each.
    for block in blocks.iter().step_by(1 + blocks.len() / 4) {
        let at = block.appended_at();
        let found = store.position_at_here(at).map_err(|e| failed(&e))?;
        let divides = |block: &Arc<Block>| (block.last() <= found) == (block.appended_at() < at);
        if !blocks.iter().all(divides) {
            let reason = format!("{found} does not divide the log at {at}");
            return Err(Violation(reason));
        }
    }
    let holes = store.metrics().holes.get();
    match holes {
        0 => Ok(view),
        _ => Err(Violation(format!("{holes} holes, and nothing was damaged"))),
    }
}

/// Whether the oldest segment should have been removed, as all of it is purged.
pub(super) fn has_purged_segment(store: &Store) -> bool {
    let (_, trim) = store.tail.ends();
    let oldest = store.segments.oldest();
    oldest.is_some_and(|segment| {
        let footer = store.load_footer(&segment);
        trim > Position::ZERO && footer.is_ok_and(|footer| footer.index.last <= trim)
    })
}

/// Whether a segment that counts as sealed has no footer.
pub(super) fn lacks_footer(store: &Store) -> bool {
    let sealed = store.segments.all().into_iter();
    let mut sealed = sealed.filter(|segment| segment.live_index().is_none());
    sealed.any(|segment| {
        let file = store.io().open(&segment.path(&store.dir), Access::Read);
        let footer = file.and_then(|file| Footer::read(&*file));
        footer.is_ok_and(|footer| footer.is_none())
    })
}

/// Whether a subscriber can go on from `position`.
pub(super) fn resolves(store: &Store, topic: TopicId, position: Position) -> bool {
    store.tail.resolve(&[topic], Start::After(position)).is_ok()
}
