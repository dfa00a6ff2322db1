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
    Schema,
    files::{self, FileError},
    registry::{Registering, Registration, RegistryError, TenantSchemas, Verdict},
};
use crate::{
    clock::{Clock, Timestamp},
    types::{TopicName, limits::REASONS_PER_FILE_MAX},
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

/// What is known of the files of a directory. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct SchemaFiles(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    refused: RwLock<BTreeMap<PathBuf, RefusedFile>>,
    refused_count: Gauge,
    look_again: Notify,
}

impl SchemaFiles {
    /// The files that are not taken, by path.
    pub fn refused(&self) -> Vec<RefusedFile> {
        let refused = self.0.refused.read();
        let refused = refused.expect("no holder of this lock panics");
        refused.values().cloned().collect()
    }

    /// Has what was refused looked at again, since what it is held to has changed.
    pub fn look_again(&self) {
        self.0.look_again.notify_one();
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

    fn refuse(&self, path: &Path, reasons: Vec<String>, at: Timestamp) {
        self.change(|refused| {
            let path = path.to_owned();
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
    /// Why the directory could not be read the last time, as it was said.
    trouble: Option<String>,
}

/// What the last look found of a file.
#[derive(Debug)]
struct Seen {
    stamp: Stamp,
    state: State,
    /// The topic of the schema that it held when it was taken.
    topic: Option<TopicName>,
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
            trouble: None,
        }
    }

    /// Takes up every file as it is now, as at a start.
    pub async fn take_all(&mut self) {
        self.look().await;
        self.take_again();
        self.take_due().await;
    }

    /// Has every file that was refused taken up by the next look.
    pub fn take_again(&mut self) {
        let refused = self.files.refused();
        for (path, seen) in &mut self.seen {
            let is_refused = refused.iter().any(|refused| refused.path == *path);
            if is_refused || seen.state == State::Changing {
                seen.state = State::Due;
            }
        }
    }

    /// Looks at the directory, and takes up the files that have changed since and are whole.
    pub async fn look(&mut self) {
        let dir = self.dir.clone();
        let found = spawn_blocking(move || stamps(&dir)).await;
        let found = match found.expect("looking at a directory does not panic") {
            Ok(found) => found,
            Err(error) => return self.tell(format!("cannot read {}: {error}", self.dir.display())),
        };
        self.trouble = None;
        let files = &self.files;
        self.seen.retain(|path, seen| {
            let is_there = found.contains_key(path);
            if !is_there {
                files.forget(path);
                if let Some(topic) = &seen.topic {
                    tracing::info!(%topic, "{} is gone; its topic stays", path.display());
                }
            }
            is_there
        });
        for (path, stamp) in found {
            match self.seen.get_mut(&path) {
                None => {
                    let seen = Seen {
                        stamp,
                        state: State::Changing,
                        topic: None,
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

    /// Says what keeps the directory from being read, once.
    fn tell(&mut self, trouble: String) {
        if self.trouble.as_ref() != Some(&trouble) {
            tracing::warn!("{trouble}; no schema is registered from it");
        }
        self.trouble = Some(trouble);
    }

    async fn take_due(&mut self) {
        let due = self
            .seen
            .iter()
            .filter(|(_, seen)| seen.state == State::Due);
        let due: Vec<_> = due.map(|(path, _)| path.clone()).collect();
        for path in due {
            let taken = self.take(&path).await;
            let seen = self
                .seen
                .get_mut(&path)
                .expect("nothing was removed meanwhile");
            seen.state = State::Done;
            match taken {
                Ok(topic) => {
                    seen.topic = Some(topic);
                    self.files.forget(&path);
                }
                Err(Untaken::Later) => seen.state = State::Due,
                Err(Untaken::Refused(reasons)) => {
                    // The topic stays with the file whose schema it has.
                    let file = path.display();
                    for reason in &reasons {
                        tracing::error!("the schema file is refused: {file}: {reason}");
                    }
                    self.files.refuse(&path, reasons, self.clock.now());
                }
            }
        }
    }

    async fn take(&self, path: &Path) -> Result<TopicName, Untaken> {
        let reading = path.to_owned();
        let read = spawn_blocking(move || files::read_file(&reading)).await;
        let schema = match read.expect("reading a schema file does not panic") {
            Ok(schema) => schema,
            // Between the look and the reading it was removed or replaced: the next look tells.
            Err(FileError::Unreadable { source, .. })
                if source.kind() == io::ErrorKind::NotFound =>
            {
                return Err(Untaken::Later);
            }
            Err(FileError::Unreadable { source, .. }) => {
                return Err(Untaken::Refused(vec![format!(
                    "it cannot be read: {source}"
                )]));
            }
            Err(FileError::NotASchema { line, source, .. }) => {
                let place = line
                    .0
                    .map_or_else(String::new, |line| format!("line {line}: "));
                let reason = format!("{place}{source} [{}]", source.rule());
                return Err(Untaken::Refused(vec![reason]));
            }
        };
        if let Some(other) = self.other_file_of(path, &schema) {
            let reason = format!("{} is of the same topic", other.display());
            return Err(Untaken::Refused(vec![reason]));
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
            Err(RegistryError::Overtaken { .. }) => Err(Untaken::Later),
            Err(
                error @ (RegistryError::Store(_)
                | RegistryError::DiskFull
                | RegistryError::Unconfirmed(_)),
            ) => {
                tracing::warn!(file = %path.display(), %error, "the schema file is tried again");
                Err(Untaken::Later)
            }
            Err(error) => Err(Untaken::Refused(vec![in_words(&error)])),
        }
    }

    /// Another file that holds a schema of the same topic: the two would take turns.
    fn other_file_of(&self, path: &Path, schema: &Schema) -> Option<&Path> {
        let topic = TopicName::for_record(schema.record_name()).ok()?;
        let mut others = self.seen.iter().filter(|(other, _)| *other != path);
        let other = others.find(|(_, seen)| seen.topic.as_ref() == Some(&topic));
        other.map(|(path, _)| path.as_path())
    }
}

/// Why a file was not taken.
enum Untaken {
    /// For each of these reasons.
    Refused(Vec<String>),
    /// It is to be tried again.
    Later,
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
