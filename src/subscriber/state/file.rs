//! A database file of checkpoints and ids: one transaction for both.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use redb::{Database, DatabaseError, ReadableDatabase, ReadableTable, TableDefinition};

use super::{Changes, StateStore, StoreError};
use crate::{
    clock::Timestamp,
    subscriber::{
        OpaqueReplayId,
        checkpoint::{Checkpoint, CheckpointStore},
        dedupe::{DedupeStore, DedupeWindow},
    },
    types::TenantId,
};

/// What the file is and whose.
const ABOUT: TableDefinition<'_, &str, &str> = TableDefinition::new("about");
/// By subscription: replay id, and when it was saved.
const CHECKPOINTS: TableDefinition<'_, &str, (&[u8], i64)> = TableDefinition::new("checkpoints");
/// By subscription and event id: the number under which `RECORDED` has it.
const SEEN: TableDefinition<'_, (&str, &str), u64> = TableDefinition::new("seen");
/// By subscription and number, which rises: event id, and when it was recorded.
const RECORDED: TableDefinition<'_, (&str, u64), (&str, i64)> = TableDefinition::new("recorded");

/// The version of the tables above.
const VERSION: &str = "1";
/// Ids that one transaction forgets at most, so that none takes long: more than it can record, so that
/// the window holds.
const FORGOTTEN_PER_COMMIT_MAX: usize = 20_000;

/// Checkpoints and the ids of handled events in one redb file, each change in a transaction that is
/// synced. One process has it at a time. Clones share it.
///
/// # Examples
///
/// ```
/// # use tidegate::subscriber::StateFile;
/// # let directory = tempfile::tempdir()?;
/// # let path = directory.path().join("orders.redb");
/// let state = StateFile::open(path, "00D000000000001".parse()?)?;
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct StateFile(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    path: PathBuf,
    window: DedupeWindow,
    database: Database,
}

impl StateFile {
    /// Opens the file, or makes it if there is none.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if it cannot be read, is something else or was written by a later version,
    /// belongs to another tenant, or is in use.
    pub fn open(path: impl AsRef<Path>, tenant: TenantId) -> Result<Self, StoreError> {
        Self::open_with_window(path, tenant, DedupeWindow::default())
    }

    /// Opens the file, and remembers ids for as long as `window` says.
    ///
    /// # Errors
    ///
    /// Those of [`Self::open`].
    pub fn open_with_window(
        path: impl AsRef<Path>,
        tenant: TenantId,
        window: DedupeWindow,
    ) -> Result<Self, StoreError> {
        let path = path.as_ref().to_owned();
        let refused = |reason: String| {
            StoreError::unusable(format!("the state file {}: {reason}", path.display()))
        };
        let database = Database::create(&path).map_err(|error| match error {
            DatabaseError::DatabaseAlreadyOpen => {
                refused("it is in use by another subscriber".into())
            }
            error => refused(error.to_string()),
        })?;
        introduce(&database, tenant).map_err(|error| match error {
            Introduction::Refused(reason) => refused(reason),
            Introduction::Failed(error) => refused(error.to_string()),
        })?;
        Ok(Self(Arc::new(Inner {
            path,
            window,
            database,
        })))
    }

    /// Runs `work` where it may wait for the disk.
    async fn run<T: Send + 'static>(
        &self,
        what: &'static str,
        work: impl FnOnce(&Inner) -> Result<T, redb::Error> + Send + 'static,
    ) -> Result<T, StoreError> {
        let inner = Arc::clone(&self.0);
        let done = tokio::task::spawn_blocking(move || {
            work(&inner).map_err(|error| {
                let path = inner.path.display();
                StoreError::failed(format!("the state file {path} cannot {what}"), error)
            })
        });
        done.await
            .map_err(|error| StoreError::failed(format!("the state file cannot {what}"), error))?
    }
}

enum Introduction {
    Refused(String),
    Failed(redb::Error),
}

impl<E: Into<redb::Error>> From<E> for Introduction {
    fn from(error: E) -> Self {
        Self::Failed(error.into())
    }
}

/// Writes into a new file what it is, or checks that an old one is that.
fn introduce(database: &Database, tenant: TenantId) -> Result<(), Introduction> {
    let transaction = database.begin_write()?;
    {
        let mut about = transaction.open_table(ABOUT)?;
        let version = about.get("version")?.map(|found| found.value().to_owned());
        let owner = about.get("tenant")?.map(|found| found.value().to_owned());
        match (version.as_deref(), owner.as_deref()) {
            (None, None) => {
                about.insert("version", VERSION)?;
                about.insert("tenant", tenant.as_str())?;
            }
            (Some(VERSION), Some(owner)) if owner.parse() == Ok(tenant) => {}
            (Some(VERSION), Some(owner)) => {
                return Err(Introduction::Refused(format!(
                    "it belongs to the tenant {owner}, wanted {tenant}; name another file"
                )));
            }
            (version, _) => {
                let found = version.unwrap_or("unknown");
                return Err(Introduction::Refused(format!(
                    "its version is {found}, this program knows {VERSION}; use a newer one"
                )));
            }
        }
        // Readers find every table.
        transaction.open_table(CHECKPOINTS)?;
        transaction.open_table(SEEN)?;
        transaction.open_table(RECORDED)?;
    }
    Ok(transaction.commit()?)
}

impl Inner {
    fn load(&self, subscription: &str) -> Result<Option<(Vec<u8>, i64)>, redb::Error> {
        let table = self.database.begin_read()?.open_table(CHECKPOINTS)?;
        let found = table.get(subscription)?;
        Ok(found.map(|found| {
            let (replay_id, saved_at) = found.value();
            (replay_id.to_owned(), saved_at)
        }))
    }

    fn seen(&self, subscription: &str, ids: &[String]) -> Result<Vec<bool>, redb::Error> {
        let table = self.database.begin_read()?.open_table(SEEN)?;
        let is_seen = |id: &String| Ok(table.get((subscription, id.as_str()))?.is_some());
        ids.iter().map(is_seen).collect()
    }

    fn commit(&self, subscription: &str, changes: &Changes) -> Result<(), redb::Error> {
        let transaction = self.database.begin_write()?;
        if let Some(checkpoint) = changes.checkpoint {
            let mut table = transaction.open_table(CHECKPOINTS)?;
            let value = (
                checkpoint.replay_id.as_bytes(),
                checkpoint.saved_at.as_millis(),
            );
            table.insert(subscription, value)?;
        }
        if !changes.done.is_empty() {
            let mut seen = transaction.open_table(SEEN)?;
            let mut recorded = transaction.open_table(RECORDED)?;
            let all = (subscription, 0)..=(subscription, u64::MAX);
            let last = recorded.range(all.clone())?.next_back().transpose()?;
            let mut next = last.map_or(0, |(key, _)| key.value().1 + 1);
            for id in changes.done.iter().map(String::as_str) {
                if id.is_empty() || seen.get((subscription, id))?.is_some() {
                    continue;
                }
                seen.insert((subscription, id), next)?;
                recorded.insert((subscription, next), (id, changes.at.as_millis()))?;
                next += 1;
            }
            let mut outside = Vec::new();
            for entry in recorded.range(all)?.take(FORGOTTEN_PER_COMMIT_MAX) {
                let (key, value) = entry?;
                let (number, (id, at)) = (key.value().1, value.value());
                let age = changes.at.saturating_since(Timestamp::from_millis(at));
                // Numbers are given without a gap, so they count.
                if next - number <= self.window.ids && age <= self.window.time {
                    break;
                }
                outside.push((number, id.to_owned()));
            }
            for (number, id) in outside {
                recorded.remove((subscription, number))?;
                seen.remove((subscription, id.as_str()))?;
            }
        }
        Ok(transaction.commit()?)
    }
}

#[async_trait::async_trait]
impl CheckpointStore for StateFile {
    async fn load(&self, subscription: &str) -> Result<Option<Checkpoint>, StoreError> {
        let name = subscription.to_owned();
        let found = self.run("be read", move |inner| inner.load(&name)).await?;
        let Some((replay_id, saved_at)) = found else {
            return Ok(None);
        };
        let replay_id = OpaqueReplayId::new(&replay_id).map_err(|error| {
            let path = self.0.path.display();
            StoreError::unusable(format!(
                "the state file {path}: the position of {subscription}: {error}"
            ))
        })?;
        Ok(Some(Checkpoint {
            replay_id,
            saved_at: Timestamp::from_millis(saved_at),
        }))
    }

    async fn save(&self, subscription: &str, checkpoint: Checkpoint) -> Result<(), StoreError> {
        let changes = Changes {
            checkpoint: Some(checkpoint),
            ..Changes::default()
        };
        self.commit(subscription, changes).await
    }
}

#[async_trait::async_trait]
impl DedupeStore for StateFile {
    async fn seen(&self, subscription: &str, ids: Vec<String>) -> Result<Vec<bool>, StoreError> {
        let name = subscription.to_owned();
        let look_up = move |inner: &Inner| inner.seen(&name, &ids);
        self.run("be read", look_up).await
    }

    async fn record(
        &self,
        subscription: &str,
        ids: Vec<String>,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let changes = Changes {
            done: ids,
            at: now,
            ..Changes::default()
        };
        self.commit(subscription, changes).await
    }
}

#[async_trait::async_trait]
impl StateStore for StateFile {
    async fn commit(&self, subscription: &str, changes: Changes) -> Result<(), StoreError> {
        let name = subscription.to_owned();
        let commit = move |inner: &Inner| inner.commit(&name, &changes);
        self.run("be written", commit).await
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, time::Duration};

    use super::*;
    use crate::subscriber::state::MemoryState;

    const ORDERS: &str = "/event/Order__e";

    fn tenant() -> TenantId {
        "00D000000000001".parse().unwrap()
    }

    fn checkpoint(number: u64) -> Checkpoint {
        Checkpoint {
            replay_id: OpaqueReplayId::new(&number.to_be_bytes()).unwrap(),
            saved_at: Timestamp::from_millis(5),
        }
    }

    fn ids(ids: &[&str]) -> Vec<String> {
        ids.iter().map(|&id| id.to_owned()).collect()
    }

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_millis(seconds * 1_000)
    }

    #[tokio::test]
    async fn checkpoint_and_ids_are_there_in_the_next_process() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("state.redb");
        let state = StateFile::open(&path, tenant()).unwrap();
        assert_eq!(state.load(ORDERS).await.unwrap(), None);
        let changes = Changes {
            checkpoint: Some(checkpoint(7)),
            done: ids(&["a", "b", ""]),
            at: at(1),
        };
        state.commit(ORDERS, changes).await.unwrap();
        let busy = StateFile::open(&path, tenant()).unwrap_err().to_string();
        assert!(busy.contains("in use"), "{busy}");
        drop(state);
        let state = StateFile::open(&path, tenant()).unwrap();
        assert_eq!(state.load(ORDERS).await.unwrap(), Some(checkpoint(7)));
        let seen = state.seen(ORDERS, ids(&["b", "c", ""])).await.unwrap();
        assert_eq!(seen, [true, false, false]);
        let other = state.seen("/event/Refund__e", ids(&["b"])).await.unwrap();
        assert_eq!(other, [false], "each subscription has ids of its own");
    }

    /// Both stores forget alike.
    async fn forgets<S: StateStore>(open: impl Fn(DedupeWindow) -> S) {
        let few = open(DedupeWindow {
            ids: 2,
            ..DedupeWindow::default()
        });
        few.record(ORDERS, ids(&["a", "b", "c"]), at(0))
            .await
            .unwrap();
        let seen = few.seen(ORDERS, ids(&["a", "b", "c"])).await.unwrap();
        assert_eq!(seen, [false, true, true]);

        let brief = open(DedupeWindow {
            time: Duration::from_secs(60),
            ..DedupeWindow::default()
        });
        brief.record(ORDERS, ids(&["a"]), at(100)).await.unwrap();
        brief.record(ORDERS, ids(&["b"]), at(160)).await.unwrap();
        // A clock that goes back forgets nothing.
        brief.record(ORDERS, ids(&["c"]), at(0)).await.unwrap();
        let seen = brief.seen(ORDERS, ids(&["a", "b", "c"])).await.unwrap();
        assert_eq!(seen, [true, true, true]);
        brief.record(ORDERS, ids(&["d"]), at(161)).await.unwrap();
        let seen = brief.seen(ORDERS, ids(&["a", "b", "d"])).await.unwrap();
        assert_eq!(seen, [false, true, true]);
    }

    #[tokio::test]
    async fn ids_are_forgotten_by_count_and_by_time() {
        forgets(MemoryState::with_window).await;
        let directory = tempfile::tempdir().unwrap();
        let number = std::cell::Cell::new(0);
        forgets(|window| {
            number.set(number.get() + 1);
            let path = directory.path().join(number.get().to_string());
            StateFile::open_with_window(path, tenant(), window).unwrap()
        })
        .await;
    }

    #[test]
    fn what_is_no_state_of_this_tenant_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("state.redb");
        fs::write(&path, "something else, and long enough to be looked at").unwrap();
        let error = StateFile::open(&path, tenant()).unwrap_err().to_string();
        assert!(error.contains("state.redb"), "{error}");
        fs::remove_file(&path).unwrap();
        drop(StateFile::open(&path, tenant()).unwrap());
        let error = StateFile::open(&path, "00D000000000002".parse().unwrap());
        let error = error.unwrap_err().to_string();
        assert!(error.contains("belongs to the tenant"), "{error}");
        let bytes = fs::read(&path).unwrap();
        fs::write(&path, &bytes[..bytes.len() / 3]).unwrap();
        assert!(StateFile::open(&path, tenant()).is_err(), "truncated");
    }
}
