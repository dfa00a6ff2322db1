//! The audit file of a log: who removed what, and when. One JSON object a line, only ever appended to.
//!
//! A line that a crash left half-written is passed over. When the file is full it becomes the older
//! one of two, in the place of the one before.

use std::{
    io::{self, IoSlice},
    path::Path,
};

use super::io::{Access, Io, read_up_to, write_all_at};
use crate::{event_log::AuditEntry, types::limits::AUDIT_FILE_BYTES_MAX};

const AUDIT: &str = "audit.ndjson";
const AUDIT_OLD: &str = "audit.old.ndjson";
/// Names of the files, the older one first.
pub(super) const AUDIT_FILES: [&str; 2] = [AUDIT_OLD, AUDIT];

/// Appends an entry to the audit file in `dir`; durable when it returns.
pub(super) fn append(io: &dyn Io, dir: &Path, entry: &AuditEntry) -> io::Result<()> {
    let path = dir.join(AUDIT);
    let (file, is_new) = match io.open(&path, Access::Write) {
        Ok(file) => (file, false),
        Err(error) if error.kind() == io::ErrorKind::NotFound => (io.create(&path)?, true),
        Err(error) => return Err(error),
    };
    let len = file.size()?;
    if len >= AUDIT_FILE_BYTES_MAX {
        drop(file);
        io.rename(&path, &dir.join(AUDIT_OLD))?;
        return append(io, dir, entry);
    }
    // The line break before it ends a line that was never finished.
    let line = format!("\n{}\n", serde_json::to_string(entry)?);
    let line = &line[usize::from(len == 0)..];
    write_all_at(&*file, &mut [IoSlice::new(line.as_bytes())], len)?;
    file.sync()?;
    if is_new {
        io.sync_dir(dir)?;
    }
    Ok(())
}

/// The entries of the log in `log_dir`, oldest first.
///
/// # Errors
///
/// When a file is there and cannot be read.
pub fn audit_entries(io: &dyn Io, log_dir: &Path) -> io::Result<Vec<AuditEntry>> {
    let mut entries = Vec::new();
    for name in AUDIT_FILES {
        let file = match io.open(&log_dir.join(name), Access::Read) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        let len = file.size()?.min(2 * AUDIT_FILE_BYTES_MAX);
        let bytes = read_up_to(&*file, 0, len as usize)?;
        let lines = bytes.split(|&byte| byte == b'\n');
        entries.extend(lines.filter_map(|line| serde_json::from_slice::<AuditEntry>(line).ok()));
    }
    Ok(entries)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event_log::embedded::RealIo;

    fn entry(number: usize) -> AuditEntry {
        AuditEntry {
            at_ms: 5,
            by: "administrator".into(),
            action: "erase".into(),
            topic: Some("/event/A__e".into()),
            detail: format!("number {number}"),
        }
    }

    #[test]
    fn entries_are_read_back_and_a_torn_line_is_passed_over() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(audit_entries(&RealIo, dir.path()).unwrap(), []);
        append(&RealIo, dir.path(), &entry(1)).unwrap();
        let path = dir.path().join(AUDIT);
        let mut bytes = std::fs::read(&path).unwrap();
        bytes.extend(b"{\"at_ms\":5,\"by\":\"adm");
        std::fs::write(&path, bytes).unwrap();
        append(&RealIo, dir.path(), &entry(2)).unwrap();
        let found = audit_entries(&RealIo, dir.path()).unwrap();
        assert_eq!(found, [entry(1), entry(2)]);
    }

    #[test]
    fn a_full_file_becomes_the_older_one() {
        let dir = tempfile::tempdir().unwrap();
        append(&RealIo, dir.path(), &entry(1)).unwrap();
        let path = dir.path().join(AUDIT);
        let mut bytes = std::fs::read(&path).unwrap();
        bytes.resize(AUDIT_FILE_BYTES_MAX as usize, b'\n');
        std::fs::write(&path, bytes).unwrap();
        append(&RealIo, dir.path(), &entry(2)).unwrap();
        let len = std::fs::metadata(&path).unwrap().len();
        assert!(len < 1_000, "{len}");
        assert_eq!(audit_entries(&RealIo, dir.path()).unwrap().len(), 2);
    }
}
