//! What is said about a log's files by those who look at them without opening the log.

use serde::Serialize;

/// What is in the directory of a log.
#[derive(Clone, Debug, Default, Serialize)]
pub struct LogReport {
    /// The tenant, as the segments say; `None` without segments.
    pub tenant: Option<String>,
    /// Position of the newest event.
    pub head: u64,
    /// Position of the newest purged event.
    pub trim: u64,
    /// Bytes of all segments.
    pub bytes: u64,
    /// Events in all segments.
    pub events: u64,
    /// The segments, oldest first.
    pub segments: Vec<SegmentReport>,
    /// The topics, by number.
    pub topics: Vec<TopicReport>,
    /// What is not as it was written; empty if the log is whole, as far as was looked.
    pub damage: Vec<DamageReport>,
    /// Events that are missing because of that, as far as was looked.
    pub losses: Vec<LossReport>,
    /// Events that were missing before, which a repair has settled.
    pub settled: Vec<LossReport>,
}

/// What is in one segment.
#[derive(Clone, Debug, Serialize)]
pub struct SegmentReport {
    /// Name of the file.
    pub name: String,
    /// Its size.
    pub bytes: u64,
    /// Number of blocks.
    pub blocks: u64,
    /// Number of events.
    pub events: u64,
    /// The smallest position that can stand in it.
    pub first: u64,
    /// Position of its newest event.
    pub last: u64,
    /// When its first event was appended, in milliseconds since the Unix epoch.
    pub first_at_ms: i64,
    /// When its last event was appended.
    pub last_at_ms: i64,
    /// Who gave it its footer: `writer`, `recovery`, `rewriting`, or nobody yet.
    pub sealed_by: Option<&'static str>,
}

/// What is known of one topic.
#[derive(Clone, Debug, Serialize)]
pub struct TopicReport {
    /// Its number.
    pub id: u32,
    /// Its name when it was last written.
    pub name: String,
    /// Position of its newest event.
    pub last: u64,
    /// Events ever accepted.
    pub events: u64,
}

/// Something that is not as it was written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DamageReport {
    /// Name of the file.
    pub file: String,
    /// Where in the file, if it is one place.
    pub offset: Option<u64>,
    /// What was found and what was wanted.
    pub what: String,
    /// The topic that lost events, if it is known to be one.
    pub topic: Option<u32>,
    /// Events after this position …
    pub after: Option<u64>,
    /// … up to this one may be lost.
    pub until: Option<u64>,
}

/// Events of one topic that were acknowledged and are in no file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LossReport {
    /// The topic's number.
    pub topic: u32,
    /// Its name, if that is known.
    pub name: Option<String>,
    /// How many they are, by the topic's own count.
    pub events: u64,
    /// They stood after this position …
    pub after: u64,
    /// … and up to this one.
    pub until: u64,
}

/// How far a look at the files is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Bytes looked at.
    pub bytes_done: u64,
    /// Bytes there are.
    pub bytes_total: u64,
}

/// How closely to look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Depth {
    /// Headers and footers; a segment without a footer is read whole.
    Footers,
    /// Every block.
    Blocks,
}
