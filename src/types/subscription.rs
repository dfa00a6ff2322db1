//! Where a subscription starts.

use super::Position;

/// The position a subscription starts after, as a subscriber names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// After the newest event at the moment of asking.
    Latest,
    /// At the oldest event that is retained.
    Earliest,
    /// After this position.
    After(Position),
}
