//! Reading back from the log which ids a topic has had of late.

use std::{sync::Arc, time::Duration};

use tokio::{sync::watch, time::Instant};

use super::{
    Idempotence, Windows,
    window::{EventId, Window},
};
use crate::{
    broker::Tenant,
    clock::Timestamp,
    event_log::{Abandoned, Block, PositionError, ReadError, TenantLog},
    types::{EventView, Position, TopicId, limits::READ_BYTES_MAX},
};

/// Whether a topic's window knows what the log has.
#[derive(Debug, Default)]
pub(super) enum Build {
    #[default]
    Unbuilt,
    /// It is being read back; how that ends is told here.
    Building(watch::Receiver<Option<Result<(), ReadError>>>),
    Built,
}

impl Windows {
    /// Waits until the window of a topic is read back. Two calls share one reading, which goes on if
    /// its callers go away: a publisher that does not wait that long finds it further next time.
    ///
    /// # Errors
    ///
    /// [`ReadError`]; the next call reads again.
    pub(in crate::broker) async fn rebuilt(
        self: &Arc<Self>,
        tenant: &Arc<Tenant>,
        topic: TopicId,
    ) -> Result<(), ReadError> {
        let mut end = {
            let mut topics = self.lock();
            let build = &mut topics.entry(topic).or_default().build;
            match build {
                Build::Built => return Ok(()),
                Build::Building(end) => end.clone(),
                Build::Unbuilt => {
                    let (sender, end) = watch::channel(None);
                    *build = Build::Building(end.clone());
                    let building = Building {
                        windows: Arc::clone(self),
                        topic,
                        is_built: false,
                    };
                    // The tenant stays open for it. It ends with the log, and holds nothing that
                    // would have to be put down.
                    let tenant = Arc::clone(tenant);
                    tokio::spawn(async move {
                        let built = building.run().await;
                        drop(tenant);
                        sender.send_replace(Some(built));
                    });
                    end
                }
            }
        };
        match end.wait_for(Option::is_some).await.as_deref() {
            Ok(Some(built)) => built.clone(),
            Ok(None) | Err(_) => Err(ReadError::Storage(Arc::new(Abandoned))),
        }
    }
}

/// The reading of one topic. Dropped before its end, the next one begins anew.
struct Building {
    windows: Arc<Windows>,
    topic: TopicId,
    is_built: bool,
}

impl Building {
    async fn run(mut self) -> Result<(), ReadError> {
        let shared = Arc::clone(&self.windows.shared);
        let permit = shared.rebuilds.acquire().await;
        let _permit = permit.expect("it is never closed");
        while !self.is_built {
            let generation = self.generation();
            let read = self.read(&shared).await;
            let read = read.inspect_err(|error| {
                tracing::warn!(topic_id = self.topic.get(), %error, "the ids of a topic's events cannot be read back");
            })?;
            self.finish(generation, read, &shared);
        }
        shared.keep_bound();
        Ok(())
    }

    fn generation(&self) -> u64 {
        let mut topics = self.windows.lock();
        topics.entry(self.topic).or_default().generation
    }

    async fn read(&self, shared: &Idempotence) -> Result<Window, ReadError> {
        let reading = Reading {
            log: &*self.windows.log,
            topic: self.topic,
            life: self.windows.life(self.topic),
            ids_max: shared.config.ids_per_topic_max as usize,
            wall: shared.clock.now(),
            now: Instant::now(),
        };
        reading.run().await
    }

    /// Puts what was read in its place, unless it does not hold any more.
    fn finish(&mut self, generation: u64, read: Window, shared: &Idempotence) {
        let mut topics = self.windows.lock();
        let topic = topics.entry(self.topic).or_default();
        if topic.generation != generation {
            return;
        }
        topic.change(shared, |window| {
            // Those that were under way when the reading began.
            let settled = std::mem::replace(window, read);
            window.add(settled);
        });
        topic.build = Build::Built;
        self.is_built = true;
    }
}

impl Drop for Building {
    fn drop(&mut self) {
        if !self.is_built {
            let mut topics = self.windows.lock();
            topics.entry(self.topic).or_default().build = Build::Unbuilt;
        }
    }
}

struct Reading<'a> {
    log: &'a dyn TenantLog,
    topic: TopicId,
    life: Duration,
    ids_max: usize,
    /// The same moment by both clocks: the log knows one, and the window the other.
    wall: Timestamp,
    now: Instant,
}

impl Reading<'_> {
    async fn run(&self) -> Result<Window, ReadError> {
        let mut window = Window::default();
        let mut after = self.start().await?;
        // What comes later is either looked up in this window or was not meant to be.
        let last = self.log.topic(self.topic).last;
        while after < last {
            let read = self.log.read(&[self.topic], after, READ_BYTES_MAX).await;
            let batch = match read {
                Ok(batch) => batch,
                Err(ReadError::Position(error)) => match behind(error) {
                    Some(position) => {
                        after = position;
                        continue;
                    }
                    None => break,
                },
                Err(error) => return Err(error),
            };
            for block in &batch.blocks {
                self.take(&mut window, block, after);
            }
            after = batch.examined;
            // Others wait for this thread.
            tokio::task::yield_now().await;
        }
        Ok(window)
    }

    fn take(&self, window: &mut Window, block: &Block, after: Position) {
        let age = self.wall.saturating_since(block.appended_at());
        let Some(left) = self.life.checked_sub(age).filter(|left| !left.is_zero()) else {
            return;
        };
        // Ids that were made here look like those that publishers chose. They take room, and nothing
        // else comes of them.
        for (position, event) in block.events().filter(|(position, _)| *position > after) {
            // Of two with the same id, from a time when ids were not looked at, the first one counts.
            let event = EventView::parse(event).ok();
            let Some(event) = event.filter(|event| window.find(event.id()).is_none()) else {
                continue;
            };
            window.insert(EventId::new(event.id()), position, self.now + left);
            if window.len() > self.ids_max {
                window.forget_oldest();
            }
        }
    }

    /// Where to begin: at the first event whose time is not over, or later if there are far more
    /// events after it than are remembered.
    async fn start(&self) -> Result<Position, ReadError> {
        let millis = i64::try_from(self.life.as_millis()).unwrap_or(i64::MAX);
        let (mut from, mut to) = (
            self.wall.as_millis().saturating_sub(millis),
            self.wall.as_millis(),
        );
        let mut start = self.log.position_at(Timestamp::from_millis(from)).await?;
        if self.events_after(start).await? <= 2 * self.ids_max as u64 {
            return Ok(start);
        }
        // By halves: `from` always has enough events after it.
        while to - from > 1 {
            let middle = from + (to - from) / 2;
            let position = self.log.position_at(Timestamp::from_millis(middle)).await?;
            let events = self.events_after(position).await?;
            if events < self.ids_max as u64 {
                to = middle;
                continue;
            }
            (from, start) = (middle, position);
            if events <= 2 * self.ids_max as u64 {
                break;
            }
        }
        Ok(start)
    }

    /// How many events the topic has after a position, up to a block.
    async fn events_after(&self, position: Position) -> Result<u64, ReadError> {
        let state = self.log.topic(self.topic);
        let mut after = position;
        while after < state.last {
            match self.log.read(&[self.topic], after, 1).await {
                Ok(batch) => {
                    let first = batch.blocks.first();
                    return Ok(
                        first.map_or(0, |block| state.ordinal.saturating_sub(block.ordinal()))
                    );
                }
                Err(ReadError::Position(error)) => match behind(error) {
                    Some(position) => after = position,
                    None => return Ok(0),
                },
                Err(error) => return Err(error),
            }
        }
        Ok(0)
    }
}

/// Where to go on when a position cannot be read from; `None` if there is nothing more.
fn behind(error: PositionError) -> Option<Position> {
    match error {
        PositionError::Purged { valid_from, .. }
        | PositionError::Damaged { valid_from, .. }
        | PositionError::Lost { valid_from, .. } => Some(valid_from),
        PositionError::Ahead { .. } | PositionError::TopicDeleted => None,
    }
}
