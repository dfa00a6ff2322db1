//! What of a file is published already, so that the same command goes on after an interruption.
//!
//! The ids of events that have none of their own are made of a random number in the resume file and
//! of the event's number, so the file that stands before the first event is sent covers all of them:
//! whenever the process ends, and however, a later run gives each event the id that it had. How many
//! events are settled is written now and then, after their results were; what was settled since is
//! sent again under the same ids.

use std::{
    fs::{self, File, TryLockError},
    io::{self, Read, Seek, SeekFrom},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    time::Duration,
};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tokio::time::Instant;

use crate::{
    cli::exit::Failure,
    net::whole_file,
    types::{TenantId, TopicName},
};

/// What is published: whose topic, and which input.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Job {
    topic: String,
    tenant_id: String,
    input: Input,
}

/// What tells a file from another, or from itself after it was changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Input {
    bytes: u64,
    modified_s: i64,
    modified_ns: i64,
    /// Of its first bytes, and of its last.
    head_sha256: String,
    tail_sha256: String,
}

/// The resume file's JSON.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Contents {
    version: u32,
    #[serde(flatten)]
    job: Job,
    /// What ids are made of, in hex.
    run_id: String,
    /// How many events, from the first, have their results.
    settled: u64,
}

/// The progress of one file, and where it is kept.
#[derive(Debug)]
pub(super) struct Resume {
    path: PathBuf,
    /// Whether somebody said where it is kept, and counts on it.
    is_named: bool,
    contents: Contents,
    /// Where this run began.
    began_at: u64,
    written_at: Option<Instant>,
    is_changed: bool,
    /// Holds the input, so that no other run publishes it at the same time.
    _hold: File,
}

impl Resume {
    /// The progress that the file at `path` tells of publishing `input`, or none yet.
    ///
    /// # Errors
    ///
    /// [`Failure::Usage`] if it is about something else, or none, or another run is at it.
    pub(super) fn open(
        path: PathBuf,
        is_named: bool,
        input: &Path,
        topic: &TopicName,
        tenant_id: &TenantId,
    ) -> Result<Self, Failure> {
        let hold = hold(input)?;
        let job = Job {
            topic: topic.to_string(),
            tenant_id: tenant_id.to_string(),
            input: Input::of(input).map_err(|error| super::unreadable(input, &error))?,
        };
        let contents = match read(&path)? {
            Some(contents) => {
                contents.check(&path, &job)?;
                contents
            }
            None => {
                let mut run_id = [0_u8; RUN_ID_BYTES];
                getrandom::fill(&mut run_id)
                    .map_err(|error| Failure::failed(format!("there is no randomness: {error}")))?;
                Contents {
                    version: VERSION,
                    job,
                    run_id: crate::cli::output::hex(&run_id),
                    settled: 0,
                }
            }
        };
        Ok(Self {
            path,
            is_named,
            began_at: contents.settled,
            contents,
            written_at: None,
            is_changed: false,
            _hold: hold,
        })
    }

    /// Where it is kept.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Whether somebody said where it is kept.
    pub(super) fn is_named(&self) -> bool {
        self.is_named
    }

    /// How many events are settled.
    pub(super) fn settled_count(&self) -> u64 {
        self.contents.settled
    }

    /// How many events this run passes over.
    pub(super) fn began_at(&self) -> u64 {
        self.began_at
    }

    /// The id of the event with this number, if it has none of its own.
    pub(super) fn event_id(&self, number: u64) -> String {
        let mut hash = Sha256::new();
        hash.update(self.contents.run_id.as_bytes());
        hash.update(number.to_le_bytes());
        let hash: [u8; 32] = hash.finalize().into();
        let (id, _) = hash.split_first_chunk().expect("a hash has more bytes");
        uuid::Builder::from_custom_bytes(*id)
            .into_uuid()
            .to_string()
    }

    /// Notes that one more event is settled.
    pub(super) fn settled(&mut self) {
        self.contents.settled += 1;
        self.is_changed = true;
    }

    /// Whether it is time to write the file again.
    pub(super) fn is_due(&self) -> bool {
        let rested = |at: Instant| at.elapsed() >= WRITE_INTERVAL;
        self.is_changed && self.written_at.is_none_or(rested)
    }

    /// Writes the file.
    pub(super) fn write(&mut self) -> io::Result<()> {
        let mut json = serde_json::to_vec_pretty(&self.contents).map_err(io::Error::other)?;
        json.push(b'\n');
        self.written_at = Some(Instant::now());
        whole_file::write(&self.path, &json, whole_file::SECRET)?;
        self.is_changed = false;
        Ok(())
    }

    /// Removes the file after everything was published.
    pub(super) fn remove(&self) -> io::Result<()> {
        match fs::remove_file(&self.path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }
}

/// Takes hold of a file that is published. It is let go of with what is returned, also if the process is
/// killed.
fn hold(input: &Path) -> Result<File, Failure> {
    let file = File::open(input).map_err(|error| super::unreadable(input, &error))?;
    match file.try_lock() {
        // Where files cannot be held, as on some network file systems, there is no telling.
        Ok(()) | Err(TryLockError::Error(_)) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(Failure::Usage(format!(
            "another run publishes {}, and both would publish its events under the same ids; wait for it, \
             or give --resume none",
            input.display()
        ))),
    }
}

impl Contents {
    fn check(&self, path: &Path, job: &Job) -> Result<(), Failure> {
        let found = &self.job;
        let difference = if found.topic != job.topic || found.tenant_id != job.tenant_id {
            format!(
                "is about {} of tenant {}, and not about {} of {}",
                found.topic, found.tenant_id, job.topic, job.tenant_id
            )
        } else if found.input.bytes != job.input.bytes {
            format!(
                "is about a file of {} bytes, and this one has {}",
                found.input.bytes, job.input.bytes
            )
        } else if found.input != job.input {
            "is about a file that was changed since, or about another".into()
        } else {
            return Ok(());
        };
        Err(Failure::Usage(format!(
            "{} {difference}; {} of its events are published. Publish what it is about, or begin at \
             the first event: delete it, or give --resume none",
            path.display(),
            self.settled
        )))
    }
}

impl Input {
    fn of(path: &Path) -> io::Result<Self> {
        let mut file = File::open(path)?;
        let metadata = file.metadata()?;
        let mut hash = |from: u64| -> io::Result<String> {
            file.seek(SeekFrom::Start(from))?;
            let mut bytes = Vec::new();
            (&mut file).take(HASHED_BYTES).read_to_end(&mut bytes)?;
            Ok(crate::cli::output::hex(&Sha256::digest(&bytes)))
        };
        Ok(Self {
            bytes: metadata.len(),
            modified_s: metadata.mtime(),
            modified_ns: metadata.mtime_nsec(),
            head_sha256: hash(0)?,
            tail_sha256: hash(metadata.len().saturating_sub(HASHED_BYTES))?,
        })
    }
}

/// Where progress is kept if nothing else is said.
pub(super) fn default_path(input: &Path) -> PathBuf {
    let mut name = input.as_os_str().to_owned();
    name.push(".tidegate-resume");
    name.into()
}

fn read(path: &Path) -> Result<Option<Contents>, Failure> {
    let unusable = |reason: String| {
        Failure::Usage(format!(
            "{} is no resume file: {reason}; delete it, or give --resume none",
            path.display()
        ))
    };
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(super::unreadable(path, &error)),
    };
    let mut json = Vec::new();
    file.take(FILE_BYTES_MAX + 1)
        .read_to_end(&mut json)
        .map_err(|error| super::unreadable(path, &error))?;
    if json.len() as u64 > FILE_BYTES_MAX {
        return Err(unusable(format!("it has more than {FILE_BYTES_MAX} bytes")));
    }
    let contents: Contents =
        serde_json::from_slice(&json).map_err(|error| unusable(error.to_string()))?;
    if contents.version != VERSION {
        let found = contents.version;
        return Err(unusable(format!(
            "its version is {found}, wanted {VERSION}"
        )));
    }
    Ok(Some(contents))
}

const VERSION: u32 = 1;
/// Bytes of the random number that ids are made of: no two runs have the same.
const RUN_ID_BYTES: usize = 16;
/// Bytes from each end of the input that tell it from another. Reading all of it would take as long
/// as publishing it.
const HASHED_BYTES: u64 = 64 * 1024;
/// Bytes of a resume file. Ours: one is below 1 KiB.
const FILE_BYTES_MAX: u64 = 64 * 1024;
/// Time between two writes: each syncs, and what it saves is sending a second's events again.
const WRITE_INTERVAL: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    struct Place {
        dir: tempfile::TempDir,
    }

    impl Place {
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            fs::write(dir.path().join("events"), "{}\n").unwrap();
            Self { dir }
        }

        fn input(&self) -> PathBuf {
            self.dir.path().join("events")
        }

        fn open(&self) -> Result<Resume, Failure> {
            self.open_for("/event/OrderCreated__e")
        }

        fn open_for(&self, topic: &str) -> Result<Resume, Failure> {
            let tenant_id = "00D000000000001".parse().unwrap();
            let path = default_path(&self.input());
            Resume::open(
                path,
                false,
                &self.input(),
                &topic.parse().unwrap(),
                &tenant_id,
            )
        }
    }

    #[test]
    fn a_file_is_published_by_one_run_at_a_time() {
        let place = Place::new();
        let first = place.open().unwrap();
        let failure = place.open().unwrap_err();
        assert_eq!(failure.exit(), crate::cli::exit::Exit::Usage);
        let refusal = failure.to_string();
        assert!(refusal.contains("another run publishes"), "{refusal}");
        drop(first);
        place.open().unwrap();
    }

    #[test]
    fn a_later_run_goes_on_with_the_same_ids() {
        let place = Place::new();
        let mut first = place.open().unwrap();
        assert_eq!(first.began_at(), 0);
        first.settled();
        assert!(first.is_due());
        first.write().unwrap();
        first.settled();
        assert!(!first.is_due(), "it was just written");
        let mode = first.path().metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);

        let id = first.event_id(7);
        drop(first);
        let second = place.open().unwrap();
        assert_eq!(second.began_at(), 1);
        assert_eq!(second.event_id(7), id);
        assert_ne!(second.event_id(7), second.event_id(8));
        assert_eq!(second.event_id(7).len(), 36);
        second.remove().unwrap();
        second.remove().unwrap();
        drop(second);
        let third = place.open().unwrap();
        assert_eq!(third.began_at(), 0);
        assert_ne!(third.event_id(7), id);
    }

    #[test]
    fn another_or_changed_input_is_refused_with_what_to_do() {
        let place = Place::new();
        place.open().unwrap().write().unwrap();
        let refusal = |place: &Place| {
            let failure = place.open().unwrap_err();
            assert!(matches!(failure, Failure::Usage(_)));
            let text = failure.to_string();
            assert!(text.contains("--resume none"), "{text}");
            text
        };
        let modified = fs::metadata(place.input()).unwrap().modified().unwrap();
        let set_modified = |time| {
            let file = File::options().write(true).open(place.input()).unwrap();
            file.set_modified(time).unwrap();
        };
        let failure = place.open_for("/event/Other__e").unwrap_err().to_string();
        assert!(failure.contains("not about /event/Other__e"), "{failure}");
        fs::write(place.input(), "{}\n{}\n").unwrap();
        let longer = refusal(&place);
        assert!(
            longer.contains("of 3 bytes, and this one has 6"),
            "{longer}"
        );
        fs::write(place.input(), "[]\n").unwrap();
        set_modified(modified);
        assert!(refusal(&place).contains("was changed since"));
        fs::write(place.input(), "{}\n").unwrap();
        set_modified(modified + Duration::from_secs(1));
        assert!(refusal(&place).contains("was changed since"));
        set_modified(modified);
        place.open().unwrap();
    }

    #[test]
    fn what_is_no_resume_file_is_told_so() {
        for text in ["", "{}", "[1]", "{\"version\": 1}"] {
            let place = Place::new();
            fs::write(default_path(&place.input()), text).unwrap();
            let failure = place.open().unwrap_err().to_string();
            assert!(failure.contains("is no resume file"), "{failure}");
        }
        let place = Place::new();
        let path = default_path(&place.input());
        let mut resume = place.open().unwrap();
        resume.contents.version = 2;
        resume.write().unwrap();
        drop(resume);
        let failure = place.open().unwrap_err().to_string();
        assert!(failure.contains("its version is 2, wanted 1"), "{failure}");
        fs::write(path, vec![b' '; FILE_BYTES_MAX as usize + 1]).unwrap();
        let failure = place.open().unwrap_err().to_string();
        assert!(failure.contains("more than 65536 bytes"), "{failure}");
    }
}
