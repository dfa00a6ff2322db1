//! What can be set about the log, with the defaults of [`limits`].

use std::time::Duration;

use crate::types::limits;

/// Settings of the event log. Sizes are in bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// What an acknowledgement stands for.
    pub durability: Durability,
    /// Time between two syncs under [`Durability::Os`]; without meaning otherwise.
    pub sync_interval: Duration,
    /// How long events are kept.
    pub retention: Duration,
    /// How many bytes of events a tenant may keep; without a bound when `None`.
    pub retention_bytes: Option<u64>,
    /// First size of a segment; doubled for each next one.
    pub segment_bytes_min: u64,
    /// Largest size of a segment.
    pub segment_bytes_max: u64,
    /// Age of its first block at which a segment is sealed.
    pub segment_age_max: Duration,
    /// Bytes written and synced together.
    pub group_bytes_max: usize,
    /// Unsynced bytes in the queue, over all tenants; one tenant may hold half of them.
    pub queue_bytes: usize,
    /// Recent blocks kept for live subscribers, over all tenants.
    pub ring_bytes: usize,
    /// Older blocks kept for subscribers that catch up, over all tenants.
    pub cache_bytes: usize,
    /// Footers of sealed segments kept in memory, over all tenants.
    pub footer_cache_bytes: usize,
    /// How often retention is looked at, and what is due is sealed.
    pub upkeep_interval: Duration,
}

/// What an acknowledgement stands for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Durability {
    /// The event was synced: it survives a loss of power.
    #[default]
    Sync,
    /// The event was handed to the operating system, which syncs on a timer: it survives the end of
    /// the process, and a loss of power takes the last moments with it.
    Os,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            durability: Durability::default(),
            sync_interval: limits::SYNC_INTERVAL,
            retention: limits::RETENTION,
            retention_bytes: None,
            segment_bytes_min: limits::SEGMENT_BYTES_MIN,
            segment_bytes_max: limits::SEGMENT_BYTES_MAX,
            segment_age_max: limits::SEGMENT_AGE_MAX,
            group_bytes_max: limits::GROUP_BYTES_MAX,
            queue_bytes: limits::APPEND_QUEUE_BYTES,
            ring_bytes: limits::TAIL_RING_BYTES,
            cache_bytes: limits::BLOCK_CACHE_BYTES,
            footer_cache_bytes: limits::FOOTER_CACHE_BYTES,
            upkeep_interval: limits::LOG_UPKEEP_INTERVAL,
        }
    }
}
