//! How long a gateway with a history takes to start, and where such a history comes from.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use super::{
    child::{Child, ChildOptions, Place},
    error::BenchError,
    load::PublishLoad,
    publish::publish,
};

/// A data directory with events in it.
#[derive(Clone, Debug)]
pub struct History {
    /// The directory that [`make_history`] was given.
    pub dir: PathBuf,
    /// Bytes of its files.
    pub bytes: u64,
}

impl History {
    /// The history in `dir`, if there is one.
    pub fn find(dir: &Path) -> Option<Self> {
        let bytes = bytes_of(&dir.join(Child::DATA_DIR)).ok()?;
        Some(Self {
            dir: dir.to_owned(),
            bytes,
        })
    }
}

/// Publishes until the files in `dir` have this many bytes, and calls `progress` with those that they
/// have. What is there already counts.
///
/// # Errors
///
/// If an event is refused, or the disk is full.
pub async fn make_history(
    options: &ChildOptions,
    dir: &Path,
    bytes: u64,
    progress: impl Fn(u64),
) -> Result<History, BenchError> {
    let data_dir = dir.join(Child::DATA_DIR);
    fs::create_dir_all(&data_dir)
        .map_err(BenchError::io("cannot make a directory for the history"))?;
    let size =
        || bytes_of(&data_dir).map_err(BenchError::io("cannot see how large the history is"));
    let mut found = size()?;
    // A gateway that runs has space that it does not use yet and gives back when it stops.
    while found < bytes {
        let child = Child::start(options, Place::Kept(dir), 1).await?;
        let target = child.target(1).await?;
        loop {
            progress(found);
            publish(&target, &STEP).await?;
            found = size()?;
            if found >= bytes {
                break;
            }
        }
        child.stop().await?;
        found = size()?;
    }
    // Every start is then one of a log that nobody closed, the first one too.
    drop(Child::start(options, Place::Kept(dir), 1).await?);
    Ok(History {
        dir: dir.to_owned(),
        bytes: found,
    })
}

/// Starts a gateway, on a history or on nothing, and returns how long it took until it answered a
/// call that needs its log.
///
/// It is killed then, so that the next start of the same history finds a log that nobody closed.
///
/// # Errors
///
/// If it does not start.
pub async fn start(
    options: &ChildOptions,
    history: Option<&History>,
) -> Result<Duration, BenchError> {
    let place = history.map_or(Place::Temporary, |history| Place::Kept(&history.dir));
    let child = Child::start(options, place, 1).await?;
    let ready = child.start_time();
    let asked = Instant::now();
    child.target(1).await?;
    Ok(ready + asked.elapsed())
}

fn bytes_of(dir: &Path) -> io::Result<u64> {
    let mut bytes = 0;
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        bytes += match entry.metadata() {
            Ok(metadata) if metadata.is_dir() => bytes_of(&entry.path())?,
            Ok(metadata) => metadata.len(),
            // Renamed or removed just now.
            Err(error) if error.kind() == io::ErrorKind::NotFound => 0,
            Err(error) => return Err(error),
        };
    }
    Ok(bytes)
}

/// What is published between two looks at the size: about 60 MB.
const STEP: PublishLoad = PublishLoad {
    events: 200_000,
    payload_bytes: 200,
    batch: 200,
    streams: 1,
    topics: 1,
};
