//! Disks that can be full, or quick: file systems of their own, mounted for one test.

use std::{
    fs::{self, File, OpenOptions},
    io::{ErrorKind, Write},
    path::{Path, PathBuf},
    process::Command,
};

use tempfile::TempDir;

/// A mounted file system. Unmounted when dropped, whatever became of the test; whoever uses it has to
/// be dropped before.
pub(crate) struct Disk {
    mount: PathBuf,
    /// Holds the mount point, and the image if there is one.
    _dir: TempDir,
}

/// Bytes of a disk that is to be filled, with what the file system takes for itself.
pub(crate) const SMALL_BYTES: u64 = 32 << 20;

impl Disk {
    /// A small file system on an image file, which reserves space for a file when it is asked to.
    pub(crate) fn ext4() -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory can be made");
        let image = dir.path().join("image");
        let made = File::create(&image).and_then(|file| file.set_len(SMALL_BYTES));
        made.expect("an image can be made");
        // Without blocks that only root may use: as root the gateway would not find the disk full.
        let options = ["-q", "-F", "-m", "0", "-b", "4096", "-N", "1024"];
        run(Command::new("mkfs.ext4").args(options).arg(&image));
        Self::mount(dir, |mount| {
            mount.args(["-t", "ext4", "-o", "loop"]).arg(&image);
        })
    }

    /// A file system in memory of so many bytes, where a sync costs nothing.
    pub(crate) fn tmpfs(bytes: u64) -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory can be made");
        Self::mount(dir, |mount| {
            let size = format!("size={bytes}");
            mount.args(["-t", "tmpfs", "-o", &size, "tidegate-test"]);
        })
    }

    fn mount(dir: TempDir, what: impl FnOnce(&mut Command)) -> Self {
        let mount = dir.path().join("mount");
        fs::create_dir(&mount).expect("a directory can be made");
        let mut command = Command::new("mount");
        what(&mut command);
        run(command.arg(&mount));
        Self { mount, _dir: dir }
    }

    /// Where it is mounted.
    pub(crate) fn path(&self) -> &Path {
        &self.mount
    }

    /// Takes this much of its space.
    pub(crate) fn take(&self, bytes: usize) {
        let mut filler = self.filler();
        filler.write_all(&vec![7; bytes]).expect("there is space");
        filler.sync_all().expect("what is written can be synced");
    }

    /// Takes all of its space that is left.
    pub(crate) fn fill(&self) {
        let mut filler = self.filler();
        // What a file system refuses as a whole it may take in part.
        for len in [1 << 20, 64 << 10, 4 << 10, 1 << 10, 1] {
            let bytes = vec![7; len];
            loop {
                match filler.write(&bytes).and_then(|_| filler.sync_data()) {
                    Ok(()) => {}
                    Err(error) if error.kind() == ErrorKind::StorageFull => break,
                    Err(error) => panic!("cannot fill the disk: {error}"),
                }
            }
        }
    }

    /// Gives back what was taken.
    pub(crate) fn give_back(&self) {
        fs::remove_file(self.mount.join(FILLER)).expect("something was taken");
        // The space of a removed file is free once that is on the disk.
        let synced = File::open(&self.mount).and_then(|dir| dir.sync_all());
        synced.expect("a directory can be synced");
    }

    fn filler(&self) -> File {
        let mut options = OpenOptions::new();
        let filler = options.create(true).append(true);
        let filler = filler.open(self.mount.join(FILLER));
        filler.expect("a file can be made")
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Lazily: a process that should be gone may still have a file of it open.
        let unmounted = Command::new("umount").arg("-l").arg(&self.mount).status();
        if !unmounted.is_ok_and(|status| status.success()) {
            eprintln!("{} is still mounted", self.mount.display());
        }
    }
}

fn run(command: &mut Command) {
    let output = command.output();
    let output = output.unwrap_or_else(|error| panic!("{command:?}: {error}; {NEEDS}"));
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {stderr}; {NEEDS}");
}

const FILLER: &str = "filler";
const NEEDS: &str = "these tests need root, and loop devices with ext4";
