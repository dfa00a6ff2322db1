//! The alphabet of histories.

/// What can happen to a log.
///
/// A new one is added here, in [`Self::ALL`], and where the player acts; all histories meet it then.
/// One that takes events away also has to tell the model, as [`Action::Purge`] and [`Action::Erase`]
/// do: before it begins that they may be missing, and once it is done that they must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    /// One small event.
    Append,
    /// An event so large that the group takes several sectors and, mostly, the next segment.
    AppendLarge,
    /// Events of several topics in one group.
    AppendMany,
    /// The next segment is allocated ahead.
    Spare,
    /// Time passes, and the open segment is sealed for its age.
    Seal,
    /// Time passes, and what is too old is purged.
    Purge,
    /// Single events are erased: segments are made anew without them.
    Erase,
    /// What was acknowledged without a sync is synced.
    Sync,
    /// The same, and before the writer hears what came of it, it seals the segment.
    SyncAndSeal,
    /// The log is closed and opened again.
    Close,
    /// The process ends and the log is opened again.
    Restart,
    /// The disk is full in the middle of the next write, for once.
    Full,
    /// The next sync of a segment fails.
    FailSync,
    /// While the next sync of a segment is under way, old events are purged.
    PurgeMeanwhile,
    /// While the next sync of a segment is under way, a file is allocated ahead.
    SpareMeanwhile,
}

impl Action {
    pub(super) const ALL: [Self; 15] = [
        Self::Append,
        Self::AppendLarge,
        Self::AppendMany,
        Self::Spare,
        Self::Seal,
        Self::Purge,
        Self::Erase,
        Self::Sync,
        Self::SyncAndSeal,
        Self::Close,
        Self::Restart,
        Self::Full,
        Self::FailSync,
        Self::PurgeMeanwhile,
        Self::SpareMeanwhile,
    ];

    /// Whether it makes the disk fail.
    pub(super) fn is_fault(self) -> bool {
        matches!(self, Self::Full | Self::FailSync)
    }
}
