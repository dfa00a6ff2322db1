//! What is kept in memory of sealed and older parts of the logs, for all tenants together: decoded
//! steps (see [`super::index::Step`]) and footers. Both within a bound of bytes; readers that want
//! the same thing share one load.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex},
};

use quick_cache::{Equivalent, OptionsBuilder, Weighter, sync::Cache};

use super::{footer::Footer, index::Step};
use crate::{
    event_log::Block,
    types::{Position, TopicId},
};

/// The caches of a process.
#[derive(Debug)]
pub(super) struct Caches {
    steps: Cache<StepKey, Arc<StepBlocks>, ByWeight>,
    footers: Cache<u64, Arc<Footer>, ByWeight>,
    /// Segments that were forgotten since the last sweep.
    gone: Mutex<HashSet<u64>>,
}

/// Names a step of one segment. An open segment's last step grows, and is another one then.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct StepKey {
    /// Number of the segment in this process.
    pub(super) segment: u64,
    pub(super) topic: TopicId,
    pub(super) step: Step,
}

impl Equivalent<StepKey> for &StepKey {
    fn equivalent(&self, key: &StepKey) -> bool {
        **self == *key
    }
}

/// The blocks of one topic in one step, in order.
#[derive(Debug, Default)]
pub(super) struct StepBlocks {
    pub(super) blocks: Vec<Arc<Block>>,
    /// Events that were found lost: those after the first position, up to the second.
    pub(super) holes: Vec<(Position, Position)>,
    /// Bytes the blocks keep in memory.
    pub(super) bytes: usize,
}

impl Caches {
    pub(super) fn new(step_bytes: usize, footer_bytes: usize) -> Self {
        // One lock for the footers: there are few reads of them, and one footer may be as large as
        // a good part of a shard.
        let footers = OptionsBuilder::new()
            .shards(1)
            .estimated_items_capacity(1_000)
            .weight_capacity(footer_bytes as u64)
            .build()
            .expect("both capacities are given");
        Self {
            steps: Cache::with_weighter(1_000, step_bytes as u64, ByWeight),
            footers: Cache::with_options(footers, ByWeight, Default::default(), Default::default()),
            gone: Mutex::default(),
        }
    }

    /// The step, if it is in memory.
    pub(super) fn step(&self, key: &StepKey) -> Option<Arc<StepBlocks>> {
        self.steps.get(key)
    }

    /// The step, loaded if it is not in memory; callers that want the same one wait for one load.
    pub(super) fn step_or_load<E>(
        &self,
        key: &StepKey,
        load: impl FnOnce() -> Result<StepBlocks, E>,
    ) -> Result<Arc<StepBlocks>, E> {
        self.steps.get_or_insert_with(key, || load().map(Arc::new))
    }

    /// The footer of the segment with this number, if it is in memory.
    pub(super) fn footer(&self, segment: u64) -> Option<Arc<Footer>> {
        self.footers.get(&segment)
    }

    /// The footer, loaded if it is not in memory.
    pub(super) fn footer_or_load<E>(
        &self,
        segment: u64,
        load: impl FnOnce() -> Result<Footer, E>,
    ) -> Result<Arc<Footer>, E> {
        self.footers
            .get_or_insert_with(&segment, || load().map(Arc::new))
    }

    /// Keeps the footer of a segment that was just sealed.
    pub(super) fn keep_footer(&self, segment: u64, footer: Footer) {
        self.footers.insert(segment, Arc::new(footer));
    }

    /// What the footers in memory take.
    #[cfg(test)]
    pub(super) fn footer_bytes(&self) -> u64 {
        self.footers.weight()
    }

    /// Forgets a segment that was removed or made anew, or whose log was closed. Its steps go with
    /// the next [`Self::sweep`].
    pub(super) fn forget(&self, segment: u64) {
        self.footers.remove(&segment);
        self.gone.lock().expect(NO_PANIC).insert(segment);
    }

    /// Lets go of the steps of segments that were forgotten: one pass for all of them, since steps
    /// cannot be found by their segment.
    pub(super) fn sweep(&self) {
        let gone = std::mem::take(&mut *self.gone.lock().expect(NO_PANIC));
        if !gone.is_empty() {
            self.steps.retain(|key, _| !gone.contains(&key.segment));
        }
    }
}

#[derive(Clone, Copy, Debug)]
struct ByWeight;

impl Weighter<StepKey, Arc<StepBlocks>> for ByWeight {
    fn weight(&self, _: &StepKey, step: &Arc<StepBlocks>) -> u64 {
        const BLOCK_OVERHEAD: usize = 160;
        (step.bytes + step.blocks.len() * BLOCK_OVERHEAD + 128) as u64
    }
}

impl Weighter<u64, Arc<Footer>> for ByWeight {
    fn weight(&self, _: &u64, footer: &Arc<Footer>) -> u64 {
        footer.index.memory_bytes() as u64
    }
}

const NO_PANIC: &str = "no holder of this lock panics";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Timestamp;

    #[test]
    fn steps_of_a_forgotten_segment_are_swept_and_others_stay() {
        let caches = Caches::new(100_000, 100_000);
        let key = |segment| StepKey {
            segment,
            topic: TopicId::new(1),
            step: Step {
                first: Position::ZERO,
                offset: 0,
                len: 1,
                ordinal: 0,
                appended_at: Timestamp::default(),
            },
        };
        for segment in [1, 2] {
            let loaded = caches.step_or_load(&key(segment), || Ok::<_, ()>(StepBlocks::default()));
            assert!(loaded.is_ok());
        }
        caches.forget(1);
        caches.sweep();
        assert!(caches.step(&key(1)).is_none());
        assert!(caches.step(&key(2)).is_some());
    }
}
