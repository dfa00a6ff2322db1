//! A directory of schema files that is watched: what changes there is registered, or refused loudly.
//!
//! The directory is looked at again and again; that sees every way of replacing a file (written in
//! place, renamed over, a symbolic link turned elsewhere as Kubernetes does with its volumes) on every
//! file system, network ones included. A file is taken up once two looks in a row find it unchanged, so
//! one that is being written is left alone. It is held to the rules that every registration is held to.
//! What is refused stays listed, with the reasons, until the file or the rules change; the gateway
//! goes on with what is registered. A file that is removed takes nothing with it.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
    sync::{Arc, RwLock},
};

use prometheus_client::{metrics::gauge::Gauge, registry::Registry as MetricsRegistry};
use tokio::{sync::Notify, task::spawn_blocking};

use super::{
    files::{self, FileError},
    registry::{Registering, Registration, RegistryError, TenantSchemas, Verdict},
};
use crate::{
    clock::{Clock, Timestamp},
    types::{TenantId, TopicName, limits::REASONS_PER_FILE_MAX},
};

/// A file that is not taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RefusedFile {
    /// The file.
    pub path: PathBuf,
    /// Why, each reason in a sentence.
    pub reasons: Vec<String>,
    /// Since when.
    pub at: Timestamp,
}

/// What is known of the files of a directory, which are one tenant's. Cheap to clone.
#[derive(Clone, Debug)]
pub struct SchemaFiles(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    tenant: TenantId,
    refused: RwLock<BTreeMap<PathBuf, RefusedFile>>,
    refused_count: Gauge,
    look_again: Notify,
}

impl SchemaFiles {
    /// Files of `tenant`, of which none is refused yet.
    pub fn new(tenant: TenantId) -> Self {
        Self(Arc::new(Shared {
            tenant,
            refused: RwLock::default(),
            refused_count: Gauge::default(),
            look_again: Notify::new(),
        }))
    }

    /// The files of a tenant that are not taken, by path.
    pub fn refused(&self, tenant: TenantId) -> Vec<RefusedFile> {
        if tenant != self.0.tenant {
            return Vec::new();
        }
        let refused = self.0.refused.read();
        let refused = refused.expect("no holder of this lock panics");
        refused.values().cloned().collect()
    }

    /// Has what was refused of a tenant looked at again, since what it is held to has changed.
    pub fn look_again(&self, tenant: TenantId) {
        if tenant == self.0.tenant {
            self.0.look_again.notify_one();
        }
    }

    /// Resolves once what was refused is to be looked at again.
    pub async fn asked_to_look(&self) {
        self.0.look_again.notified().await;
    }

    /// Adds how many files are refused to `registry`.
    pub fn register_metrics(&self, registry: &mut MetricsRegistry) {
        registry.register(
            "schema_files_refused",
            "Files of the schemas directory that are not taken",
            self.0.refused_count.clone(),
        );
    }

    /// Lists a file as refused, and says so in the log unless it is listed for these reasons already.
    fn refuse(&self, path: &Path, reasons: Vec<String>, at: Timestamp) {
        let path = path.to_owned();
        self.change(|refused| {
            if refused
                .get(&path)
                .is_some_and(|known| known.reasons == reasons)
            {
                return;
            }
            for reason in &reasons {
                tracing::error!("the schema file is refused: {}: {reason}", path.display());
            }
            refused.insert(path.clone(), RefusedFile { path, reasons, at });
        });
    }

    fn forget(&self, path: &Path) {
        self.change(|refused| _ = refused.remove(path));
    }

    fn change(&self, change: impl FnOnce(&mut BTreeMap<PathBuf, RefusedFile>)) {
        let refused = self.0.refused.write();
        let mut refused = refused.expect("no holder of this lock panics");
        change(&mut refused);
        self.0.refused_count.set(refused.len() as i64);
    }
}

/// The one who looks at a directory on behalf of a tenant.
#[derive(Debug)]
pub struct Watch {
    dir: PathBuf,
    schemas: Arc<TenantSchemas>,
    files: SchemaFiles,
    clock: Arc<dyn Clock>,
    seen: BTreeMap<PathBuf, Seen>,
}

/// What the last look found of a file.
#[derive(Debug)]
struct Seen {
    stamp: Stamp,
    state: State,
    /// The topic of the schema that it held when it was taken.
    topic: Option<TopicName>,
    /// The topic that it is refused for, since another file is of it.
    waits_for: Option<TopicName>,
}

/// What is to be done about a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// It is to be taken up if the next look finds it unchanged.
    Changing,
    /// It is to be taken up.
    Due,
    /// It was taken or refused.
    Done,
}

/// What tells one content of a file from another without reading it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Stamp {
    len: u64,
    /// Device and inode of the file behind any links.
    identity: (u64, u64),
    /// When its content changed, and when anything of it did, in seconds and nanoseconds.
    changed: [(i64, i64); 2],
}

impl Stamp {
    fn of(metadata: &fs::Metadata) -> Self {
        use std::os::unix::fs::MetadataExt;

        Self {
            len: metadata.len(),
            identity: (metadata.dev(), metadata.ino()),
            changed: [
                (metadata.mtime(), metadata.mtime_nsec()),
                (metadata.ctime(), metadata.ctime_nsec()),
            ],
        }
    }
}

impl Watch {
    /// A watch of `dir`, which need not be there yet.
    pub fn new(
        dir: &Path,
        schemas: Arc<TenantSchemas>,
        files: SchemaFiles,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self {
            dir: dir.to_owned(),
            schemas,
            files,
            clock,
            seen: BTreeMap::new(),
        }
    }

    /// Takes up every file as it is now, as at a start.
    pub async fn take_all(&mut self) {
        self.look().await;
        for seen in self.seen.values_mut() {
            seen.state = State::Due;
        }
        self.take_due().await;
    }

    /// Has every file that was refused taken up by the next look.
    pub fn take_again(&mut self) {
        for refused in self.files.refused(self.files.0.tenant) {
            if let Some(seen) = self.seen.get_mut(&refused.path)
                && seen.state == State::Done
            {
                seen.state = State::Due;
            }
        }
    }

    /// Looks at the directory, and takes up the files that have changed since and are whole.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: a file that was begun with is registered, or taken up by the next look.
    pub async fn look(&mut self) {
        let dir = self.dir.clone();
        let found = spawn_blocking(move || stamps(&dir)).await;
        let found = match found.expect("looking at a directory does not panic") {
            Ok(found) => found,
            Err(error) => {
                let reason = format!("it cannot be read, so no schema is taken from it: {error}");
                return self.files.refuse(&self.dir, vec![reason], self.clock.now());
            }
        };
        self.files.forget(&self.dir);
        let gone: Vec<_> = self
            .seen
            .keys()
            .filter(|path| !found.contains_key(*path))
            .cloned()
            .collect();
        for path in gone {
            self.files.forget(&path);
            if let Some(topic) = self.seen.remove(&path).and_then(|seen| seen.topic) {
                tracing::info!(%topic, "{} is gone; its topic stays", path.display());
                self.free(&topic);
            }
        }
        for (path, stamp) in found {
            match self.seen.get_mut(&path) {
                None => {
                    let seen = Seen {
                        stamp,
                        state: State::Changing,
                        topic: None,
                        waits_for: None,
                    };
                    self.seen.insert(path, seen);
                }
                Some(seen) if seen.stamp != stamp => {
                    seen.stamp = stamp;
                    seen.state = State::Changing;
                }
                Some(seen) if seen.state == State::Changing => seen.state = State::Due,
                Some(_) => {}
            }
        }
        self.take_due().await;
    }

    /// Has the files taken up that were refused since another one was of this topic.
    fn free(&mut self, topic: &TopicName) {
        for seen in self.seen.values_mut() {
            if seen.waits_for.as_ref() == Some(topic) && seen.state == State::Done {
                seen.state = State::Due;
            }
        }
    }

    async fn take_due(&mut self) {
        let due = self.seen.iter();
        let due = due.filter(|(_, seen)| seen.state == State::Due);
        let due: Vec<_> = due
            .map(|(path, seen)| (path.clone(), seen.stamp.clone()))
            .collect();
        for (path, stamp) in due {
            let taken = self.take(&path, &stamp).await;
            let now = self.clock.now();
            let seen = self.seen.get_mut(&path);
            let seen = seen.expect("nothing was removed meanwhile");
            seen.waits_for = None;
            seen.state = State::Done;
            match taken {
                Ok(topic) => {
                    let before = seen.topic.replace(topic);
                    if let Some(freed) = before.filter(|before| seen.topic.as_ref() != Some(before))
                    {
                        self.free(&freed);
                    }
                    self.files.forget(&path);
                }
                Err(Untaken::Changed) => seen.state = State::Changing,
                Err(Untaken::Failed(reason)) => {
                    seen.state = State::Due;
                    self.files.refuse(&path, vec![reason], now);
                }
                Err(Untaken::Occupied { by, topic }) => {
                    seen.waits_for = Some(topic);
                    let reason = format!("{} is of the same topic", by.display());
                    self.files.refuse(&path, vec![reason], now);
                }
                Err(Untaken::Refused(reasons)) => self.files.refuse(&path, reasons, now),
            }
        }
    }

    async fn take(&self, path: &Path, stamp: &Stamp) -> Result<TopicName, Untaken> {
        let reading = path.to_owned();
        let read = spawn_blocking(move || {
            let read = files::read_file(&reading);
            let stamp = fs::metadata(&reading).map(|metadata| Stamp::of(&metadata));
            (read, stamp.ok())
        });
        let (read, stamp_after) = read.await.expect("reading a schema file does not panic");
        if stamp_after.as_ref() != Some(stamp) {
            // Somebody writes it, or it is gone: the next looks tell.
            return Err(Untaken::Changed);
        }
        let schema = read.map_err(Untaken::of_file)?;
        if let Ok(topic) = TopicName::for_record(schema.record_name())
            && let Some(by) = self.owner(path, &topic)
        {
            let by = by.to_owned();
            return Err(Untaken::Occupied { by, topic });
        }
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let by = format!("file {name}");
        let registering = Registering {
            is_file: true,
            ..Registering::new(&schema, &by)
        };
        match self.schemas.register(registering).await {
            Ok(verdict) if verdict.is_refused() => Err(Untaken::Refused(reasons(&verdict))),
            Ok(verdict) => {
                tell_registered(&verdict, path);
                Ok(verdict.topic)
            }
            Err(
                error @ (RegistryError::Overtaken { .. }
                | RegistryError::Store(_)
                | RegistryError::DiskFull
                | RegistryError::Unconfirmed(_)
                | RegistryError::Interrupted),
            ) => Err(Untaken::Failed(in_words(&error))),
            Err(error) => Err(Untaken::Refused(vec![in_words(&error)])),
        }
    }

    /// Another file that holds a schema of this topic, and is not about to hold another: the two would
    /// take turns.
    fn owner(&self, path: &Path, topic: &TopicName) -> Option<&Path> {
        let mut others = self.seen.iter().filter(|(other, _)| *other != path);
        let owner = others
            .find(|(_, seen)| seen.topic.as_ref() == Some(topic) && seen.state == State::Done);
        owner.map(|(path, _)| path.as_path())
    }
}

/// Why a file was not taken.
enum Untaken {
    /// For each of these reasons.
    Refused(Vec<String>),
    /// Another file is of its topic.
    Occupied { by: PathBuf, topic: TopicName },
    /// It is being changed.
    Changed,
    /// It could not be read or registered, and is tried again.
    Failed(String),
}

impl Untaken {
    fn of_file(error: FileError) -> Self {
        match error {
            // What is no text stays none, and rights are given by people.
            FileError::Unreadable { source, .. }
                if matches!(
                    source.kind(),
                    io::ErrorKind::InvalidData | io::ErrorKind::PermissionDenied
                ) =>
            {
                Self::Refused(vec![format!("it cannot be read: {source}")])
            }
            FileError::Unreadable { source, .. } => {
                Self::Failed(format!("it cannot be read: {source}"))
            }
            FileError::NotASchema { line, source, .. } => {
                let place = line
                    .0
                    .map_or_else(String::new, |line| format!("line {line}: "));
                Self::Refused(vec![format!("{place}{source} [{}]", source.rule())])
            }
        }
    }
}

fn tell_registered(verdict: &Verdict, path: &Path) {
    if verdict.registration != Registration::Unchanged {
        tracing::info!(
            topic = %verdict.topic,
            schema_id = %verdict.schema_id,
            version = verdict.number,
            registration = verdict.registration.as_str(),
            "registered {}",
            path.display()
        );
    }
}

fn reasons(verdict: &Verdict) -> Vec<String> {
    let objections = verdict.objections.iter();
    let told = objections.map(|it| format!("{it} [{}]; {}", it.rule(), it.fix()));
    let mut reasons: Vec<_> = told.take(REASONS_PER_FILE_MAX).collect();
    let more = verdict.objections.len() - reasons.len() + verdict.more;
    if more > 0 {
        reasons.push(format!("and {more} more"));
    }
    reasons
}

/// An error with its sources.
fn in_words(error: &dyn std::error::Error) -> String {
    let sources = std::iter::successors(Some(error), |error| error.source());
    let words: Vec<_> = sources.map(ToString::to_string).collect();
    words.join(": ")
}

/// The schema files of a directory; none if it is not there.
fn stamps(dir: &Path) -> io::Result<BTreeMap<PathBuf, Stamp>> {
    let stamped = files::list(dir)?.into_iter().filter_map(|path| {
        // A link that leads nowhere is on its way somewhere else.
        let metadata = fs::metadata(&path).ok().filter(fs::Metadata::is_file)?;
        Some((path, Stamp::of(&metadata)))
    });
    Ok(stamped.collect())
}

#[cfg(test)]
mod tests;
