//! The process is ended at bad moments, and its disk fills up or goes bad. Kills prove restart; that
//! what was acknowledged outlives the machine too is proved under the `Io` seam of the log, where
//! unsynced bytes can be lost. `tenants` and `long_history` hold the gateway to its bounds where there
//! are thousands of logs, or one that is long; `backup` loses its data directory.

mod backup;
mod commits;
mod damage;
mod full_disk;
mod idempotence;
mod kill;
mod long_history;
mod sharing;
mod tenants;
