//! Finds the place of a time in the log: by the times of the segments, then of the steps in one of
//! them, then of the blocks in one stretch of its file.
//!
//! Append times never go back, so each is a search by halves. Of a log of any length it looks at as
//! many indexes as its number of segments can be halved, and reads one step's length of one file.

use std::{io, sync::Arc};

use super::{
    index::before,
    io::{Access, read_up_to},
    segments::Segment,
    step::Headers,
    store::Store,
};
use crate::{clock::Timestamp, event_log::ReadError, types::Position};

impl Store {
    /// See [`crate::event_log::TenantLog::position_at`].
    pub(super) async fn position_at(
        self: &Arc<Self>,
        at: Timestamp,
    ) -> Result<Position, ReadError> {
        match self.tail.position_at(at) {
            Some(position) => Ok(position),
            None => self.on_disk(move |store| store.find(at)).await,
        }
    }

    fn find(&self, at: Timestamp) -> Result<Position, ReadError> {
        let (head, _) = self.tail.ends();
        loop {
            match self.try_find(at) {
                // What is written and not yet shown to readers comes after what is.
                Ok(found) => return Ok(found.unwrap_or(self.tail.ends().1).min(head)),
                Err(Search::Moved) => {}
                Err(Search::Failed(error)) => return Err(ReadError::Storage(Arc::new(error))),
            }
        }
    }

    /// The last position before `at` in the segments there are; `None` if they have nothing that was
    /// appended before.
    fn try_find(&self, at: Timestamp) -> Result<Option<Position>, Search> {
        let mut segments = self.segments.all();
        // The first one that reaches the time lies in `low..=high`.
        let (mut low, mut high) = (0, segments.len());
        while low < high {
            let middle = low.midpoint(high);
            match self.reaches(&segments[middle], at)? {
                Some(true) => high = middle,
                Some(false) => low = middle + 1,
                // Readers of it are told if it is damaged. The search does without it.
                None => {
                    segments.remove(middle);
                    high -= 1;
                }
            }
        }
        if let Some(segment) = segments.get(low)
            && let Some(found) = self.find_in(segment, at)?
        {
            return Ok(Some(found));
        }
        let Some(segment) = low.checked_sub(1).map(|before| &segments[before]) else {
            return Ok(None);
        };
        let index = self.index_on_disk(segment);
        let last = index.map(|index| index.with(|_, index| index.last));
        last.map(Some)
            .map_err(|error| self.interrupted(segment, error))
    }

    /// Whether the segment's last event was appended at `at` or later; `None` if it has no event, or
    /// none that is left by damage.
    fn reaches(&self, segment: &Segment, at: Timestamp) -> Result<Option<bool>, Search> {
        match self.index_on_disk(segment) {
            Ok(index) => {
                Ok(index.with(|_, index| (index.blocks > 0).then_some(index.last_at >= at)))
            }
            Err(error) => match self.interrupted(segment, error) {
                Search::Failed(error) if is_damage(&error) => Ok(None),
                search => Err(search),
            },
        }
    }

    /// The last position in the segment that was appended before `at`.
    fn find_in(&self, segment: &Segment, at: Timestamp) -> Result<Option<Position>, Search> {
        let interrupted = |error| self.interrupted(segment, error);
        let index = self.index_on_disk(segment).map_err(interrupted)?;
        let (header, stretch) = index.with(|header, index| (*header, index.stretch_before(at)));
        let Some((step, end)) = stretch else {
            return Ok(None);
        };
        let path = segment.path(&self.dir);
        let file = self.io().open(&path, Access::Read).map_err(interrupted)?;
        let len = (end - step.offset) as usize;
        let bytes = read_up_to(&*file, step.offset, len).map_err(interrupted)?;
        let headers = Headers::new(&bytes, &header, step.offset, before(step.first));
        let is_before = headers
            .map(|(_, header)| header)
            .take_while(|header| header.appended_at < at);
        // Whatever damage there is, the index knows of the step's first event.
        Ok(Some(
            is_before.last().map_or(step.first, |header| header.last()),
        ))
    }

    /// What a failure to read `segment` means for the search.
    fn interrupted(&self, segment: &Segment, error: io::Error) -> Search {
        match error.kind() {
            io::ErrorKind::NotFound if !self.segments.has(segment.uid) => Search::Moved,
            _ => Search::Failed(error),
        }
    }
}

#[cfg(test)]
impl Store {
    /// The same as [`Self::position_at`], on the thread of the caller.
    pub(super) fn position_at_here(&self, at: Timestamp) -> Result<Position, ReadError> {
        match self.tail.position_at(at) {
            Some(position) => Ok(position),
            None => self.find(at),
        }
    }
}

/// Why a search ended without a finding.
#[derive(Debug)]
enum Search {
    /// A segment was rewritten or removed meanwhile.
    Moved,
    /// The operating system refused.
    Failed(io::Error),
}

/// Whether a segment is gone or not a segment any more.
fn is_damage(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::InvalidData
    )
}
