//! Small files that are read and replaced as a whole: no reader, and no crash, sees half of one.

use std::{
    fs, io,
    io::{Read, Write},
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

/// Mode of a file that anybody may read.
pub const PUBLIC: u32 = 0o644;
/// Mode of a file that holds a secret.
pub const SECRET: u32 = 0o600;

/// Writes a file with this mode, in the place of an earlier one whatever its mode was.
///
/// The bytes go to a file next to it, are synced, and take the name in one step; the directory is
/// synced last, so that the name outlives a crash.
///
/// # Errors
///
/// The file system's. What was there before is there, unless only the directory could not be synced.
pub fn write(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.tmp", std::process::id()));
    let draft = directory.join(name);
    let written = write_new(&draft, bytes, mode).and_then(|()| fs::rename(&draft, path));
    if written.is_err() {
        // The first error is the one to tell; what is left over is harmless.
        _ = fs::remove_file(&draft);
    }
    written?;
    fs::File::open(directory)?.sync_all()
}

/// Reads a file of at most `bytes_max` bytes.
///
/// # Errors
///
/// The file system's, and that of a file that is larger, or that is none: a pipe could keep its reader
/// waiting, a device never ends, and what is read once may have to be read again.
pub fn read(path: &Path, bytes_max: u64) -> io::Result<Vec<u8>> {
    if !fs::metadata(path)?.is_file() {
        let wanted = "it is not a regular file, which can be read again when need be";
        return Err(io::Error::other(wanted));
    }
    let mut bytes = Vec::new();
    let file = fs::File::open(path)?;
    // It may grow while it is read.
    file.take(bytes_max + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > bytes_max {
        return Err(io::Error::other(format!(
            "such a file has at most {bytes_max} bytes, this one has more"
        )));
    }
    Ok(bytes)
}

/// Whether a write failed because the disk, or the quota on it, is full: the one failure that heals.
pub fn is_disk_full(error: &io::Error) -> bool {
    use io::ErrorKind::{QuotaExceeded, StorageFull};
    matches!(error.kind(), StorageFull | QuotaExceeded)
}

fn write_new(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    // A leftover of an earlier process with the same id would keep its mode.
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut options = fs::OpenOptions::new();
    let mut file = options.write(true).create_new(true).mode(mode).open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_file_is_read_if_it_is_one_and_no_larger_than_wanted() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        fs::write(&path, b"four").unwrap();
        assert_eq!(read(&path, 4).unwrap(), b"four");
        let error = read(&path, 3).unwrap_err();
        assert!(error.to_string().contains("at most 3 bytes"), "{error}");
        for odd in [Path::new("/dev/zero"), directory.path()] {
            let error = read(odd, 4).unwrap_err();
            assert!(error.to_string().contains("not a regular file"), "{error}");
        }
        let missing = read(&directory.path().join("none"), 4).unwrap_err();
        assert_eq!(missing.kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn a_file_is_replaced_with_its_mode_and_nothing_is_left_behind() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        write(&path, b"earlier", PUBLIC).unwrap();
        write(&path, b"later", SECRET).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"later");
        assert_eq!(
            path.metadata().unwrap().permissions().mode() & 0o777,
            SECRET
        );
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_write_that_fails_leaves_nothing_behind() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        fs::create_dir(&path).unwrap();
        assert!(write(&path, b"text", SECRET).is_err());
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    }
}
