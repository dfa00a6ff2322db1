//! The process is ended at bad moments. Kills prove restart; that what was acknowledged outlives
//! the machine too is proved under the `Io` seam of the log, where unsynced bytes can be lost.

mod kill;
