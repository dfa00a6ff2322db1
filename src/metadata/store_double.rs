//! A metadata store that does as it is told: the one in memory with a way to be full and to be slow.

use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::watch;

use super::{Change, Entry, MemoryStore, MetadataStore, Scope, StoreError, Table, WriteError};

/// What the store does with a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Writing {
    /// It is done.
    Good,
    /// It waits until another behaviour is set.
    Slow,
    /// The disk is full; nothing is written.
    Full,
    /// It is done, and fails all the same.
    Unconfirmed,
}

#[derive(Debug)]
pub(crate) struct StoreDouble {
    store: MemoryStore,
    writing: watch::Sender<Writing>,
    writes: AtomicUsize,
}

impl Default for StoreDouble {
    fn default() -> Self {
        Self {
            store: MemoryStore::default(),
            writing: watch::Sender::new(Writing::Good),
            writes: AtomicUsize::new(0),
        }
    }
}

impl StoreDouble {
    pub(crate) fn set(&self, writing: Writing) {
        self.writing.send_replace(writing);
    }

    /// How many writes were begun.
    pub(crate) fn writes(&self) -> usize {
        self.writes.load(Ordering::SeqCst)
    }
}

#[async_trait::async_trait]
impl MetadataStore for StoreDouble {
    async fn get(
        &self,
        scope: Scope,
        table: Table,
        key: &str,
    ) -> Result<Option<Entry>, StoreError> {
        self.store.get(scope, table, key).await
    }

    async fn list(&self, scope: Scope, table: Table) -> Result<Vec<Entry>, StoreError> {
        self.store.list(scope, table).await
    }

    async fn write(&self, scope: Scope, changes: Vec<Change>) -> Result<(), WriteError> {
        self.writes.fetch_add(1, Ordering::SeqCst);
        let mut writing = self.writing.subscribe();
        let writing = writing.wait_for(|writing| *writing != Writing::Slow).await;
        let writing = *writing.expect("the sender is in here");
        match writing {
            Writing::Good | Writing::Slow => self.store.write(scope, changes).await,
            Writing::Full => {
                let full = std::io::Error::from(std::io::ErrorKind::StorageFull);
                Err(StoreError::DiskFull(full).into())
            }
            Writing::Unconfirmed => {
                self.store.write(scope, changes).await?;
                Err(StoreError::Failed("no word from the disk".into()).into())
            }
        }
    }
}
