//! The broker held to what its clients count on, over engines in memory.

mod belonging;
mod delivery;
pub(crate) mod engines;
mod from_time;
mod joining;
mod lag;
pub(crate) mod log_double;
mod publish;
mod quiet;
mod removal;
mod sharing;
