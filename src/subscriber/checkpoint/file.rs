//! A file of checkpoints: small, readable, replaced as a whole.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use serde::{Deserialize, Serialize};

use super::{Checkpoint, CheckpointStore};
use crate::{
    clock::Timestamp,
    net::whole_file,
    subscriber::{OpaqueReplayId, state::StoreError},
    types::{TenantId, limits::CHECKPOINT_FILE_BYTES_MAX},
};

/// Checkpoints in one file of JSON, which each save replaces: written beside it, synced, renamed.
///
/// The file names its tenant and its topics, and one of another tenant or of other topics is refused.
/// While it is open, a second process that opens it is refused too: two subscribers with one position
/// would each skip what the other was sent.
///
/// # Examples
///
/// ```
/// # use tidegate::subscriber::CheckpointFile;
/// # let directory = tempfile::tempdir()?;
/// # let path = directory.path().join("orders.checkpoint");
/// let tenant = "00D000000000001".parse()?;
/// let checkpoints = CheckpointFile::open(path, tenant)?;
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct CheckpointFile(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    path: PathBuf,
    tenant: TenantId,
    /// Held while a save is under way, so that two saves do not take each other's changes back.
    positions: Mutex<BTreeMap<String, Saved>>,
    /// Locked as long as this lives.
    _lock: fs::File,
}

/// What the file holds.
#[derive(Debug, Serialize, Deserialize)]
struct Contents {
    format: String,
    version: u32,
    tenant: String,
    positions: BTreeMap<String, Saved>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Saved {
    replay_id: String,
    saved_at: String,
}

/// What the file says that it is.
const FORMAT: &str = "tidegate checkpoints";
/// The version that is written.
const VERSION: u32 = 1;

impl CheckpointFile {
    /// Opens the file, or begins one at the first save if there is none.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if it cannot be read, is something else or was written by a later version,
    /// belongs to another tenant, or is in use.
    pub fn open(path: impl Into<PathBuf>, tenant: TenantId) -> Result<Self, StoreError> {
        let path = path.into();
        let lock = lock(&path)?;
        let positions = match read(&path)? {
            Some(contents) => contents.positions_of(&path, tenant)?,
            None => BTreeMap::new(),
        };
        Ok(Self(Arc::new(Inner {
            path,
            tenant,
            positions: Mutex::new(positions),
            _lock: lock,
        })))
    }
}

#[async_trait::async_trait]
impl CheckpointStore for CheckpointFile {
    async fn load(&self, subscription: &str) -> Result<Option<Checkpoint>, StoreError> {
        let positions = self.0.positions.lock();
        let positions = positions.unwrap_or_else(PoisonError::into_inner);
        match positions.get(subscription) {
            Some(saved) => saved.checkpoint(&self.0.path).map(Some),
            None if positions.is_empty() => Ok(None),
            None => {
                let others: Vec<&str> = positions.keys().map(String::as_str).collect();
                Err(malformed(
                    &self.0.path,
                    format!(
                        "it holds the position of {}, and none of {subscription}; name another file",
                        others.join(", ")
                    ),
                ))
            }
        }
    }

    async fn save(&self, subscription: &str, checkpoint: Checkpoint) -> Result<(), StoreError> {
        let inner = Arc::clone(&self.0);
        let subscription = subscription.to_owned();
        let saving = move || inner.save(subscription, checkpoint);
        let saved = tokio::task::spawn_blocking(saving).await;
        saved.map_err(|error| StoreError::failed("the save did not end", error))?
    }
}

impl Inner {
    fn save(&self, subscription: String, checkpoint: Checkpoint) -> Result<(), StoreError> {
        let mut positions = self
            .positions
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let earlier = positions.insert(subscription.clone(), Saved::of(checkpoint));
        let contents = Contents {
            format: FORMAT.into(),
            version: VERSION,
            tenant: self.tenant.to_string(),
            positions: positions.clone(),
        };
        let mut json = serde_json::to_vec_pretty(&contents).expect("text and numbers make JSON");
        json.push(b'\n');
        let written = whole_file::write(&self.path, &json, whole_file::PUBLIC);
        written.map_err(|error| {
            // What is in memory is what the file holds.
            match earlier {
                Some(earlier) => positions.insert(subscription, earlier),
                None => positions.remove(&subscription),
            };
            let path = self.path.display();
            StoreError::failed(
                format!("the checkpoint file {path} cannot be written"),
                error,
            )
        })
    }
}

impl Contents {
    fn positions_of(
        self,
        path: &Path,
        tenant: TenantId,
    ) -> Result<BTreeMap<String, Saved>, StoreError> {
        if self.format != FORMAT {
            return Err(malformed(path, "it is no file of checkpoints".into()));
        }
        if self.version > VERSION {
            let found = self.version;
            return Err(malformed(
                path,
                format!("its version is {found}, this program knows {VERSION}; use a newer one"),
            ));
        }
        if self.tenant.parse() != Ok(tenant) {
            let found = self
                .tenant
                .chars()
                .take(TENANT_SHOWN_CHARS)
                .collect::<String>();
            return Err(malformed(
                path,
                format!("it belongs to the tenant {found}, wanted {tenant}; name another file"),
            ));
        }
        let mut saved = self.positions.values();
        saved.try_for_each(|saved| saved.checkpoint(path).map(drop))?;
        Ok(self.positions)
    }
}

impl Saved {
    fn of(checkpoint: Checkpoint) -> Self {
        let millis = checkpoint.saved_at.as_millis();
        let time = jiff::Timestamp::from_millisecond(millis);
        Self {
            replay_id: checkpoint.replay_id.to_string(),
            saved_at: time.unwrap_or(jiff::Timestamp::UNIX_EPOCH).to_string(),
        }
    }

    fn checkpoint(&self, path: &Path) -> Result<Checkpoint, StoreError> {
        let replay_id = OpaqueReplayId::from_hex(&self.replay_id)
            .ok_or_else(|| malformed(path, "a replay_id in it is not one in hex".into()))?;
        let time: jiff::Timestamp = self
            .saved_at
            .parse()
            .map_err(|_| malformed(path, "a saved_at in it is not a time".into()))?;
        Ok(Checkpoint {
            replay_id,
            saved_at: Timestamp::from_millis(time.as_millisecond()),
        })
    }
}

fn read(path: &Path) -> Result<Option<Contents>, StoreError> {
    let unreadable = |error: io::Error| {
        let path = path.display();
        StoreError::unusable(format!(
            "the checkpoint file {path} cannot be read: {error}"
        ))
    };
    let size = match fs::metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        metadata => metadata.map_err(unreadable)?.len(),
    };
    if size > CHECKPOINT_FILE_BYTES_MAX {
        return Err(malformed(
            path,
            format!(
                "such a file has at most {CHECKPOINT_FILE_BYTES_MAX} bytes, this one has {size}"
            ),
        ));
    }
    let bytes = fs::read(path).map_err(unreadable)?;
    let contents = serde_json::from_slice(&bytes).map_err(|error| {
        let line = error.line();
        malformed(
            path,
            format!(
                "line {line} is not what a subscriber writes; start over with a position of your own \
                 (--from) and without the file"
            ),
        )
    })?;
    Ok(Some(contents))
}

/// Locks a file beside it: the file itself is replaced at each save, and a lock with it.
fn lock(path: &Path) -> Result<fs::File, StoreError> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".lock");
    let lock_path = path.with_file_name(name);
    let opened = fs::OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&lock_path);
    let file = opened.map_err(|error| {
        let path = lock_path.display();
        StoreError::unusable(format!("the file {path} cannot be made: {error}"))
    })?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(fs::TryLockError::WouldBlock) => Err(StoreError::unusable(format!(
            "the checkpoint file {} is in use by another subscriber",
            path.display()
        ))),
        Err(fs::TryLockError::Error(error)) => Err(StoreError::unusable(format!(
            "the file {} cannot be locked: {error}",
            lock_path.display()
        ))),
    }
}

fn malformed(path: &Path, reason: String) -> StoreError {
    StoreError::unusable(format!("the checkpoint file {}: {reason}", path.display()))
}

/// Characters of a foreign tenant id that an error shows.
const TENANT_SHOWN_CHARS: usize = 18;

#[cfg(test)]
mod tests {
    use super::*;

    const ORDERS: &str = "/event/Order__e";

    fn tenant() -> TenantId {
        "00D000000000001".parse().unwrap()
    }

    fn checkpoint(number: u64) -> Checkpoint {
        Checkpoint {
            replay_id: OpaqueReplayId::new(&number.to_be_bytes()).unwrap(),
            saved_at: Timestamp::from_millis(1_700_000_000_123),
        }
    }

    fn refusal(path: &Path) -> String {
        CheckpointFile::open(path, tenant())
            .unwrap_err()
            .to_string()
    }

    #[tokio::test]
    async fn what_was_saved_is_loaded_by_the_next_process() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("orders.checkpoint");
        let file = CheckpointFile::open(&path, tenant()).unwrap();
        assert_eq!(file.load(ORDERS).await.unwrap(), None);
        file.save(ORDERS, checkpoint(7)).await.unwrap();
        file.save(ORDERS, checkpoint(8)).await.unwrap();
        drop(file);
        let file = CheckpointFile::open(&path, tenant()).unwrap();
        assert_eq!(file.load(ORDERS).await.unwrap(), Some(checkpoint(8)));
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.contains("0000000000000008"), "{text}");
        assert!(text.contains("2023-11-14T22:13:20.123Z"), "{text}");
    }

    #[tokio::test]
    async fn another_topics_file_is_refused_and_one_with_it_is_not() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        let file = CheckpointFile::open(&path, tenant()).unwrap();
        file.save(ORDERS, checkpoint(7)).await.unwrap();
        let error = file.load("/event/Refund__e").await.unwrap_err().to_string();
        assert!(
            error.contains(ORDERS) && error.contains("/event/Refund__e"),
            "{error}"
        );
        file.save("/event/Refund__e", checkpoint(1)).await.unwrap();
        assert_eq!(file.load(ORDERS).await.unwrap(), Some(checkpoint(7)));
    }

    #[test]
    fn a_file_in_use_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        let file = CheckpointFile::open(&path, tenant()).unwrap();
        assert!(refusal(&path).contains("in use"));
        drop(file);
        CheckpointFile::open(&path, tenant()).unwrap();
    }

    #[tokio::test]
    async fn what_is_no_checkpoint_is_refused_by_what_is_wrong_with_it() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        let file = CheckpointFile::open(&path, tenant()).unwrap();
        file.save(ORDERS, checkpoint(7)).await.unwrap();
        drop(file);
        let good = fs::read_to_string(&path).unwrap();
        for cut in [0, 1, good.len() / 2, good.len() - 3] {
            fs::write(&path, &good[..cut]).unwrap();
            assert!(refusal(&path).contains("is not what"), "cut at {cut}");
        }
        for (from, to, wanted) in [
            ("\"version\": 1", "\"version\": 2", "its version is 2"),
            (
                "tidegate checkpoints",
                "something",
                "no file of checkpoints",
            ),
            (
                "00D000000000001",
                "00D000000000002",
                "belongs to the tenant",
            ),
            ("0000000000000007", "000007", "replay_id"),
            ("0000000000000007", "00000000000000zz", "replay_id"),
            ("2023-11-14T22:13:20.123Z", "yesterday", "saved_at"),
        ] {
            fs::write(&path, good.replace(from, to)).unwrap();
            let message = refusal(&path);
            assert!(message.contains(wanted), "{message}");
        }
        fs::write(&path, vec![b' '; CHECKPOINT_FILE_BYTES_MAX as usize + 1]).unwrap();
        assert!(refusal(&path).contains("at most"));
        fs::remove_file(&path).unwrap();
        fs::create_dir(&path).unwrap();
        assert!(refusal(&path).contains("cannot be read"));
    }

    #[tokio::test]
    async fn a_save_that_fails_keeps_the_one_before() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("inner").join("file");
        fs::create_dir(path.parent().unwrap()).unwrap();
        let file = CheckpointFile::open(&path, tenant()).unwrap();
        file.save(ORDERS, checkpoint(7)).await.unwrap();
        fs::remove_dir_all(path.parent().unwrap()).unwrap();
        let error = file.save(ORDERS, checkpoint(8)).await.unwrap_err();
        assert!(error.is_retryable(), "{error}");
        assert_eq!(file.load(ORDERS).await.unwrap(), Some(checkpoint(7)));
    }
}
