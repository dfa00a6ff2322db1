//! Commits made durable: one writer for each tenant, many commits in one write.
//!
//! While a write is under way further commits gather, and the next write has them all: of each
//! subscription the latest, whose answer covers the earlier ones. Nothing here is on the way of a
//! publish: positions are metadata, in a file of their own.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
};

use tokio::sync::{mpsc, oneshot};

use super::{
    CommitRefusal, ManagedError, NO_PANIC,
    entry::{Advance, Entry},
};
use crate::{
    clock::Timestamp,
    metadata::{
        Change, Expected, MetadataStore, Scope, StoreError,
        records::{self, ManagedPositionRecord, ManagedSubscriptionRecord, Record},
    },
    types::{
        PlatformId, TenantId,
        limits::{COMMITS_PER_WRITE_MAX, COMMITS_QUEUED_MAX},
    },
};

/// Where commits are handed to the writer, which runs from the first of them on and ends with this.
#[derive(Debug)]
pub(super) struct Positions {
    requests: mpsc::Sender<Request>,
    /// The writer, until it is first needed: most tenants have no managed subscription.
    idle: Mutex<Option<(Writer, mpsc::Receiver<Request>)>>,
}

enum Request {
    Commit {
        entry: Arc<Entry>,
        advance: Advance,
        at: Timestamp,
        done: oneshot::Sender<Result<(), CommitRefusal>>,
    },
    Delete {
        entry: Arc<Entry>,
        done: oneshot::Sender<Result<(), ManagedError>>,
    },
}

/// The latest revision of each stored position, as far as it is known: `None` for one that is not
/// stored.
pub(super) type Revisions = HashMap<PlatformId, Option<u64>>;

impl Positions {
    pub(super) fn new(
        tenant: TenantId,
        store: Arc<dyn MetadataStore>,
        revisions: Revisions,
    ) -> Self {
        let (requests, receiver) = mpsc::channel(COMMITS_QUEUED_MAX);
        let writer = Writer {
            scope: Scope::Tenant(tenant),
            store,
            revisions,
        };
        Self {
            requests,
            idle: Mutex::new(Some((writer, receiver))),
        }
    }

    /// Makes a commit durable. A commit of what is committed already changes nothing.
    ///
    /// # Errors
    ///
    /// [`CommitRefusal`].
    ///
    /// # Cancel safety
    ///
    /// Not cancel safe: after a drop it may be committed or not.
    pub(super) async fn commit(
        &self,
        entry: Arc<Entry>,
        advance: Advance,
        at: Timestamp,
    ) -> Result<(), CommitRefusal> {
        let (done, outcome) = oneshot::channel();
        let request = Request::Commit {
            entry,
            advance,
            at,
            done,
        };
        match self.hand_over(request, outcome).await {
            Some(outcome) => outcome,
            None => Err(CommitRefusal::Store(Arc::new(Gone))),
        }
    }

    /// Deletes a subscription with its position, in one write and in the order of its commits.
    ///
    /// # Errors
    ///
    /// [`ManagedError`]: it may be deleted or not.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: what was handed over is done.
    pub(super) async fn delete(&self, entry: Arc<Entry>) -> Result<(), ManagedError> {
        let (done, outcome) = oneshot::channel();
        match self
            .hand_over(Request::Delete { entry, done }, outcome)
            .await
        {
            Some(outcome) => outcome,
            None => Err(ManagedError::Store(Arc::new(Gone))),
        }
    }

    async fn hand_over<T>(&self, request: Request, outcome: oneshot::Receiver<T>) -> Option<T> {
        let idle = self.idle.lock().expect(NO_PANIC).take();
        if let Some((writer, receiver)) = idle {
            // Its owner is this: it ends once the last sender is gone and what was handed over is
            // done.
            tokio::spawn(writer.run(receiver));
        }
        self.requests.send(request).await.ok()?;
        outcome.await.ok()
    }
}

/// The writer ended before its time: it panicked, which is a bug of ours.
#[derive(Debug, thiserror::Error)]
#[error("the writer of committed positions has ended")]
struct Gone;

#[derive(Debug)]
struct Writer {
    scope: Scope,
    store: Arc<dyn MetadataStore>,
    revisions: Revisions,
}

/// The commits of one subscription in one write.
struct Group {
    entry: Arc<Entry>,
    /// All of them in one.
    advance: Advance,
    /// When the latest came.
    at: Timestamp,
    done: Vec<oneshot::Sender<Result<(), CommitRefusal>>>,
}

impl Writer {
    async fn run(mut self, mut requests: mpsc::Receiver<Request>) {
        let mut batch = Vec::new();
        while requests.recv_many(&mut batch, COMMITS_PER_WRITE_MAX).await > 0 {
            let mut groups: HashMap<PlatformId, Group> = HashMap::new();
            let mut deletions = Vec::new();
            for request in batch.drain(..) {
                match request {
                    Request::Commit {
                        entry,
                        advance,
                        at,
                        done,
                    } => {
                        let group = groups.entry(entry.id()).or_insert_with(|| Group {
                            entry,
                            advance: advance.clone(),
                            at,
                            done: Vec::new(),
                        });
                        group.advance.join(&advance);
                        group.at = group.at.max(at);
                        group.done.push(done);
                    }
                    Request::Delete { entry, done } => deletions.push((entry, done)),
                }
            }
            self.commit(groups.into_values()).await;
            for (entry, done) in deletions {
                // Nobody waits for what was cancelled.
                _ = done.send(self.delete(&entry).await);
            }
        }
    }

    async fn commit(&mut self, groups: impl Iterator<Item = Group>) {
        let mut fresh = Vec::new();
        for group in groups {
            match self.to_store(&group).await {
                Ok(Some(advance)) => fresh.push(Group { advance, ..group }),
                Ok(None) => group.answer(&Ok(())),
                Err(refusal) => group.answer(&Err(refusal)),
            }
        }
        if fresh.is_empty() {
            return;
        }
        let outcome = self.write(&fresh).await;
        for group in fresh {
            match &outcome {
                Ok(()) => group.entry.commit(&group.advance, group.at),
                // What is stored decides; it is looked up before the next write.
                Err(_) => _ = self.revisions.remove(&group.entry.id()),
            }
            group.answer(&outcome);
        }
    }

    /// What there is to write of a group, if there is something. Positions never go back, whatever order a
    /// former stream's last commit and a new one's first come in.
    async fn to_store(&self, group: &Group) -> Result<Option<Advance>, CommitRefusal> {
        let id = group.entry.id();
        // Where the revision is not known, a deletion may have been done that seemed to fail.
        if !self.revisions.contains_key(&id) && !self.is_stored(id).await? {
            group.entry.deleted();
        }
        if group.entry.is_deleted() {
            return Err(CommitRefusal::Deleted);
        }
        group.entry.to_store(&group.advance)
    }

    async fn write(&mut self, groups: &[Group]) -> Result<(), CommitRefusal> {
        let mut changes = Vec::with_capacity(groups.len());
        for Group {
            entry, advance, at, ..
        } in groups
        {
            let (position, slots) = match advance {
                Advance::To(position) => (*position, Vec::new()),
                Advance::Slots(positions) => (positions.min(), positions.numbers()),
            };
            let record = ManagedPositionRecord {
                id: entry.id().to_string(),
                position: position.get(),
                slots,
                committed_at_ms: at.as_millis(),
            };
            let expected = match self.revision(entry.id()).await? {
                Some(revision) => Expected::Revision(revision),
                None => Expected::Absent,
            };
            changes.push(records::change(&record, expected));
        }
        self.store.write(self.scope, changes).await?;
        for group in groups {
            let revision = self.revisions.entry(group.entry.id()).or_default();
            *revision = Some(revision.unwrap_or(0) + 1);
        }
        Ok(())
    }

    async fn delete(&mut self, entry: &Entry) -> Result<(), ManagedError> {
        let id = entry.id().to_string();
        // What is not there any more was removed by an earlier call that seemed to fail.
        let stored =
            records::load::<ManagedSubscriptionRecord>(&*self.store, self.scope, &id).await?;
        let removal = stored
            .map(|stored| records::removal::<ManagedSubscriptionRecord>(&id, stored.revision));
        let mut changes: Vec<Change> = removal.into_iter().collect();
        if let Some(revision) = self.revision(entry.id()).await? {
            changes.push(records::removal::<ManagedPositionRecord>(&id, revision));
        }
        self.revisions.remove(&entry.id());
        if !changes.is_empty() {
            self.store.write(self.scope, changes).await?;
        }
        entry.deleted();
        Ok(())
    }

    async fn is_stored(&self, id: PlatformId) -> Result<bool, StoreError> {
        let table = ManagedSubscriptionRecord::TABLE;
        let entry = self.store.get(self.scope, table, id.as_str()).await?;
        Ok(entry.is_some())
    }

    /// The revision of the stored position of a subscription.
    async fn revision(&mut self, id: PlatformId) -> Result<Option<u64>, StoreError> {
        if let Some(known) = self.revisions.get(&id) {
            return Ok(*known);
        }
        let table = ManagedPositionRecord::TABLE;
        let entry = self.store.get(self.scope, table, id.as_str()).await?;
        let revision = entry.map(|entry| entry.revision);
        self.revisions.insert(id, revision);
        Ok(revision)
    }
}

impl Group {
    fn answer(self, outcome: &Result<(), CommitRefusal>) {
        for done in self.done {
            // A stream that is gone needs no answer.
            _ = done.send(outcome.clone());
        }
    }
}
