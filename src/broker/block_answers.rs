//! What is found out of the events of blocks: by a program for each version of their schema, and
//! remembered for others who ask of the same blocks.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, OnceLock},
};

use crate::{
    event_log::Block,
    schema::{Schema, registry::TenantSchemas},
    types::{EventView, Position, SchemaId},
};

/// Blocks whose answers are remembered: those that the live subscribers of a busy topic are at, some a
/// little behind. Verdicts of a filter take 32 KB, slots of a shared subscription 160 KB.
const ANSWERS_KEPT: usize = 512;
/// Programs that are kept, one for each version of the schema. Of a topic with more versions the events
/// that are read together have few.
const PROGRAMS_MAX: usize = 64;

/// What was found out of the blocks that were met last, by block number. The slots in which answers are
/// kept are few, so a reader far behind overwrites some, which costs its neighbours one more evaluation
/// and nothing else.
pub(super) struct Answers<T>(OnceLock<Box<[Slot<T>]>>);

type Slot<T> = Mutex<Option<(BlockKey, T)>>;

/// What tells a block from every other: positions are given once, and erasing an event leaves fewer.
type BlockKey = (Position, usize);

impl<T> Default for Answers<T> {
    fn default() -> Self {
        Self(OnceLock::new())
    }
}

impl<T: Clone> Answers<T> {
    /// What is known of `block`, or else what `evaluate` finds out. Whoever comes while that is under way
    /// waits for it, which takes less than a tenth of a millisecond.
    pub(super) fn get(&self, block: &Block, evaluate: impl FnOnce() -> T) -> T {
        let slots = self
            .0
            .get_or_init(|| (0..ANSWERS_KEPT).map(|_| Mutex::default()).collect());
        let key = (block.first(), block.event_count());
        let slot = &slots[(block.first().block() % ANSWERS_KEPT as u64) as usize];
        let mut slot = slot.lock().expect(NO_PANIC);
        match &*slot {
            Some((known, answer)) if *known == key => answer.clone(),
            _ => slot.insert((key, evaluate())).1.clone(),
        }
    }
}

/// A program for each version of the schema of the events that it is run on.
pub(super) struct Programs<P> {
    schemas: Arc<TenantSchemas>,
    /// By the id of the schema as events have it; `None` for one that there is not, or that there is no
    /// program for.
    by_id: Mutex<HashMap<Box<str>, Option<Arc<P>>>>,
}

impl<P> Programs<P> {
    pub(super) fn new(schemas: Arc<TenantSchemas>) -> Self {
        Self {
            schemas,
            by_id: Mutex::default(),
        }
    }

    /// Hands each event of `block` to `visit`, with its place and the program for its schema, which
    /// `compile` makes; nothing but the place of an event that has none or cannot be read.
    pub(super) fn visit(
        &self,
        block: &Block,
        compile: impl Fn(&Schema) -> Option<P>,
        mut visit: impl FnMut(usize, Option<(&P, EventView<'_>)>),
    ) {
        // Neighbours have the same schema, as good as always.
        let mut last: Option<(&str, Option<Arc<P>>)> = None;
        for (index, (_, event)) in block.events().enumerate() {
            let Ok(event) = EventView::parse(event) else {
                visit(index, None);
                continue;
            };
            let id = event.schema_id();
            let program = match &last {
                Some((known, program)) if *known == id => program,
                _ => &last.insert((id, self.get(id, &compile))).1,
            };
            visit(index, program.as_deref().map(|program| (program, event)));
        }
    }

    fn get(&self, schema_id: &str, compile: impl Fn(&Schema) -> Option<P>) -> Option<Arc<P>> {
        let mut programs = self.by_id.lock().expect(NO_PANIC);
        if let Some(program) = programs.get(schema_id) {
            return program.clone();
        }
        let id = schema_id.parse::<SchemaId>().ok();
        let schema = id.and_then(|id| self.schemas.schema(&id));
        let program = schema.and_then(|(schema, _)| compile(&schema).map(Arc::new));
        if programs.len() >= PROGRAMS_MAX {
            programs.clear();
        }
        programs.insert(schema_id.into(), program.clone());
        program
    }
}

const NO_PANIC: &str = "no holder of this lock panics";
