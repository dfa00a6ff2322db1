//! Dead letters: events that were given up, with the reason, kept until somebody looks at them.
//!
//! A letter holds the event as it came, so that it can be shown, handled again or thrown away
//! however long its topic keeps events. It is named by its topic and replay id: to park an event again
//! replaces its letter, so a crash between parking and the next checkpoint leaves one letter.

use std::{
    collections::BTreeMap,
    fmt, fs, io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::{OpaqueReplayId, state::StoreError};
use crate::{
    clock::Timestamp,
    net::whole_file,
    types::{
        TopicName,
        limits::{DEAD_LETTER_CAUSE_BYTES_MAX, DEAD_LETTER_FILE_BYTES_MAX, DEAD_LETTERS_MAX},
    },
};

/// An event that was given up.
#[derive(Clone, PartialEq, Eq)]
pub struct DeadLetter {
    /// The topic or channel that was subscribed to.
    pub topic: TopicName,
    /// Where the event stands in it.
    pub replay_id: OpaqueReplayId,
    /// What its publisher named it; may be empty.
    pub event_id: String,
    /// The schema it was written with.
    pub schema_id: String,
    /// Why it was given up.
    pub cause: String,
    /// How often it was tried; 0 if it could not be decoded.
    pub attempts: u32,
    /// When it was given up.
    pub parked_at: Timestamp,
    /// The event as it came: an encoded `ConsumerEvent`.
    pub event: Bytes,
}

impl fmt::Debug for DeadLetter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Without the event, which is nobody's to read in a log.
        f.debug_struct("DeadLetter")
            .field("topic", &self.topic)
            .field("replay_id", &self.replay_id)
            .field("event_id", &self.event_id)
            .field("cause", &self.cause)
            .field("attempts", &self.attempts)
            .finish_non_exhaustive()
    }
}

/// What names a letter: its topic and replay id, as in `event.Order__e-00000000000001000000`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LetterId(String);

impl LetterId {
    fn of(letter: &DeadLetter) -> Self {
        let topic = letter.topic.as_str().trim_start_matches('/');
        Self(format!("{}-{}", topic.replace('/', "."), letter.replay_id))
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for LetterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::str::FromStr for LetterId {
    type Err = LetterIdError;

    fn from_str(text: &str) -> Result<Self, LetterIdError> {
        let (topic, replay_id) = text.rsplit_once('-').ok_or(LetterIdError)?;
        let topic: Result<TopicName, _> = format!("/{}", topic.replacen('.', "/", 1)).parse();
        // A name becomes that of a file, so nothing but what makes one is taken.
        match (topic, OpaqueReplayId::from_hex(replay_id)) {
            (Ok(_), Some(_)) => Ok(Self(text.to_owned())),
            _ => Err(LetterIdError),
        }
    }
}

/// Text that names no letter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a dead letter is named as in event.Order__e-00000000000001000000")]
pub struct LetterIdError;

/// Keeps dead letters.
#[async_trait::async_trait]
pub trait DeadLetterStore: fmt::Debug + Send + Sync + 'static {
    /// Keeps a letter, durably, in the place of an earlier one of the same event.
    ///
    /// # Errors
    ///
    /// [`StoreError::Full`] once there are too many: the event is not given up then, and whoever
    /// subscribes stops until somebody made room.
    async fn park(&self, letter: DeadLetter) -> Result<(), StoreError>;

    /// The names of all letters, ordered by topic and position.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    async fn list(&self) -> Result<Vec<LetterId>, StoreError>;

    /// A letter, or `None` if there is no such one.
    ///
    /// # Errors
    ///
    /// [`StoreError`], also if it is not readable.
    async fn read(&self, id: &LetterId) -> Result<Option<DeadLetter>, StoreError>;

    /// Throws a letter away; whether there was one.
    ///
    /// # Errors
    ///
    /// [`StoreError`]; it is still there.
    async fn remove(&self, id: &LetterId) -> Result<bool, StoreError>;
}

/// Dead letters as files in a directory, one for each: they can be looked at, and thrown away, while
/// a subscriber parks more. Clones share it.
#[derive(Clone, Debug)]
pub struct DeadLetterDirectory {
    path: Arc<Path>,
}

/// What a letter's file holds, in JSON.
#[derive(Serialize, Deserialize)]
struct LetterFile {
    format: String,
    topic: String,
    replay_id: String,
    event_id: String,
    schema_id: String,
    cause: String,
    attempts: u32,
    parked_at: String,
    /// In base64.
    event: String,
}

/// What the file says that it is.
const FORMAT: &str = "tidegate dead letter 1";
/// What the names of the files end in.
const EXTENSION: &str = "json";

impl DeadLetterDirectory {
    /// Letters in this directory, which is made if there is none.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if that is not possible.
    pub fn open(path: impl Into<PathBuf>) -> Result<Self, StoreError> {
        let path = path.into();
        fs::create_dir_all(&path).map_err(|error| {
            let path = path.display();
            StoreError::unusable(format!("the directory {path} cannot be made: {error}"))
        })?;
        Ok(Self { path: path.into() })
    }

    fn file(&self, id: &LetterId) -> PathBuf {
        self.path.join(format!("{id}.{EXTENSION}"))
    }

    fn write(&self, mut letter: DeadLetter) -> Result<(), StoreError> {
        let id = LetterId::of(&letter);
        let file = self.file(&id);
        if !file.exists() && self.names()?.len() >= DEAD_LETTERS_MAX {
            return Err(full(&self.path.display()));
        }
        truncate(&mut letter.cause, DEAD_LETTER_CAUSE_BYTES_MAX);
        let json = serde_json::to_vec_pretty(&LetterFile::of(letter));
        let mut json = json.expect("text and numbers make JSON");
        json.push(b'\n');
        // Payloads may be anybody's secrets.
        whole_file::write(&file, &json, whole_file::SECRET).map_err(|error| {
            let file = file.display();
            StoreError::failed(format!("the dead letter {file} cannot be written"), error)
        })
    }

    fn names(&self) -> Result<Vec<LetterId>, StoreError> {
        let unreadable = |error| {
            let path = self.path.display();
            StoreError::failed(format!("the directory {path} cannot be read"), error)
        };
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.path).map_err(unreadable)? {
            let name = entry.map_err(unreadable)?.file_name();
            let stem = Path::new(&name).file_stem().and_then(|stem| stem.to_str());
            let is_letter = Path::new(&name).extension() == Some(EXTENSION.as_ref());
            let id = stem
                .filter(|_| is_letter)
                .and_then(|stem| stem.parse().ok());
            names.extend(id);
        }
        names.sort_unstable();
        Ok(names)
    }

    fn read_file(&self, id: &LetterId) -> Result<Option<DeadLetter>, StoreError> {
        let file = self.file(id);
        let unusable = |reason: String| {
            let file = file.display();
            StoreError::unusable(format!("the dead letter {file}: {reason}"))
        };
        let size = match fs::metadata(&file) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            metadata => metadata.map_err(|error| unusable(error.to_string()))?.len(),
        };
        if size > DEAD_LETTER_FILE_BYTES_MAX {
            return Err(unusable(format!(
                "such a file has at most {DEAD_LETTER_FILE_BYTES_MAX} bytes, this one has {size}"
            )));
        }
        let bytes = fs::read(&file).map_err(|error| unusable(error.to_string()))?;
        let letter: LetterFile = serde_json::from_slice(&bytes)
            .map_err(|error| unusable(format!("line {} is not what it should be", error.line())))?;
        let letter = letter.letter().map_err(|what| unusable(what.to_owned()))?;
        Ok(Some(letter))
    }

    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Self) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let this = self.clone();
        let done = tokio::task::spawn_blocking(move || work(&this)).await;
        done.map_err(|error| StoreError::failed("the dead letters cannot be reached", error))?
    }
}

impl LetterFile {
    fn of(letter: DeadLetter) -> Self {
        let time = jiff::Timestamp::from_millisecond(letter.parked_at.as_millis());
        Self {
            format: FORMAT.into(),
            topic: letter.topic.to_string(),
            replay_id: letter.replay_id.to_string(),
            event_id: letter.event_id,
            schema_id: letter.schema_id,
            cause: letter.cause,
            attempts: letter.attempts,
            parked_at: time.unwrap_or(jiff::Timestamp::UNIX_EPOCH).to_string(),
            event: STANDARD.encode(letter.event),
        }
    }

    /// The letter, or what is wrong with it.
    fn letter(self) -> Result<DeadLetter, &'static str> {
        if self.format != FORMAT {
            return Err("its format is not one that this program knows");
        }
        let replay_id = OpaqueReplayId::from_hex(&self.replay_id);
        let time: Result<jiff::Timestamp, _> = self.parked_at.parse();
        let time = time.map_err(|_| "its parked_at is not a time")?;
        Ok(DeadLetter {
            topic: self.topic.parse().map_err(|_| "its topic is none")?,
            replay_id: replay_id.ok_or("its replay_id is none")?,
            event_id: self.event_id,
            schema_id: self.schema_id,
            cause: self.cause,
            attempts: self.attempts,
            parked_at: Timestamp::from_millis(time.as_millisecond()),
            event: STANDARD
                .decode(self.event)
                .map_err(|_| "its event is not base64")?
                .into(),
        })
    }
}

#[async_trait::async_trait]
impl DeadLetterStore for DeadLetterDirectory {
    async fn park(&self, letter: DeadLetter) -> Result<(), StoreError> {
        self.run(move |this| this.write(letter)).await
    }

    async fn list(&self) -> Result<Vec<LetterId>, StoreError> {
        self.run(Self::names).await
    }

    async fn read(&self, id: &LetterId) -> Result<Option<DeadLetter>, StoreError> {
        let id = id.clone();
        self.run(move |this| this.read_file(&id)).await
    }

    async fn remove(&self, id: &LetterId) -> Result<bool, StoreError> {
        let file = self.file(id);
        let remove = move |_: &Self| match fs::remove_file(&file) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => {
                let file = file.display();
                let what = format!("the dead letter {file} cannot be removed");
                Err(StoreError::failed(what, error))
            }
        };
        self.run(remove).await
    }
}

/// Dead letters in memory, for tests. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct MemoryDeadLetters(Arc<Mutex<BTreeMap<LetterId, DeadLetter>>>);

impl MemoryDeadLetters {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<LetterId, DeadLetter>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait::async_trait]
impl DeadLetterStore for MemoryDeadLetters {
    async fn park(&self, letter: DeadLetter) -> Result<(), StoreError> {
        let mut letters = self.lock();
        let id = LetterId::of(&letter);
        if letters.len() >= DEAD_LETTERS_MAX && !letters.contains_key(&id) {
            return Err(full(&"memory"));
        }
        letters.insert(id, letter);
        Ok(())
    }

    async fn list(&self) -> Result<Vec<LetterId>, StoreError> {
        Ok(self.lock().keys().cloned().collect())
    }

    async fn read(&self, id: &LetterId) -> Result<Option<DeadLetter>, StoreError> {
        Ok(self.lock().get(id).cloned())
    }

    async fn remove(&self, id: &LetterId) -> Result<bool, StoreError> {
        Ok(self.lock().remove(id).is_some())
    }
}

fn full(place: &dyn fmt::Display) -> StoreError {
    StoreError::Full(format!(
        "there are {DEAD_LETTERS_MAX} dead letters in {place}, and no more are taken; handle them \
         again or purge them"
    ))
}

/// Cuts text to at most this many bytes, at the end of a character.
fn truncate(text: &mut String, bytes_max: usize) {
    if text.len() > bytes_max {
        text.truncate(text.floor_char_boundary(bytes_max));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn letter(number: u64) -> DeadLetter {
        DeadLetter {
            topic: "/event/Order__e".parse().unwrap(),
            replay_id: OpaqueReplayId::new(&number.to_be_bytes()).unwrap(),
            event_id: "e-1".into(),
            schema_id: "s".into(),
            cause: "no such customer".into(),
            attempts: 5,
            parked_at: Timestamp::from_millis(1_700_000_000_000),
            event: Bytes::from_static(b"\x00\xffevent"),
        }
    }

    async fn keeps_letters(store: impl DeadLetterStore) {
        for number in [2, 1, 300] {
            store.park(letter(number)).await.unwrap();
        }
        let again = DeadLetter {
            attempts: 9,
            ..letter(1)
        };
        store.park(again.clone()).await.unwrap();
        let ids = store.list().await.unwrap();
        assert_eq!(ids.len(), 3, "an event has one letter");
        assert_eq!(ids[0].as_str(), "event.Order__e-0000000000000001");
        assert_eq!(store.read(&ids[0]).await.unwrap(), Some(again));
        assert!(store.remove(&ids[0]).await.unwrap());
        assert!(!store.remove(&ids[0]).await.unwrap());
        assert_eq!(store.read(&ids[0]).await.unwrap(), None);
        assert_eq!(store.list().await.unwrap(), ids[1..]);
    }

    #[tokio::test]
    async fn letters_are_kept_until_they_are_removed() {
        keeps_letters(MemoryDeadLetters::default()).await;
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a").join("letters");
        keeps_letters(DeadLetterDirectory::open(path).unwrap()).await;
    }

    #[tokio::test]
    async fn other_files_are_no_letters_and_damaged_ones_are_named() {
        let directory = tempfile::tempdir().unwrap();
        let store = DeadLetterDirectory::open(directory.path()).unwrap();
        store.park(letter(1)).await.unwrap();
        let id = store.list().await.unwrap().remove(0);
        fs::write(directory.path().join("notes.txt"), "").unwrap();
        fs::write(directory.path().join("README.json"), "").unwrap();
        assert_eq!(store.list().await.unwrap().len(), 1);
        let file = directory.path().join(format!("{id}.json"));
        let good = fs::read_to_string(&file).unwrap();
        for (text, wanted) in [
            (good.replace(FORMAT, "another"), "format"),
            (good.replace("AP9", "!"), "base64"),
            (good.replace("/event/", ""), "topic"),
            (good.replace("0000000000000001", "01"), "replay_id"),
            (good[..good.len() / 2].to_owned(), "line"),
        ] {
            fs::write(&file, text).unwrap();
            let error = store.read(&id).await.unwrap_err().to_string();
            assert!(
                error.contains(wanted) && error.contains(id.as_str()),
                "{error}"
            );
        }
    }

    #[test]
    fn a_name_leads_nowhere_else() {
        for text in [
            "",
            "event.Order__e",
            "event.Order__e-",
            "event.Order__e-00",
            "Order__e-0000000000000001",
            "event.../x-0000000000000001",
            "event./x-0000000000000001",
            "../event.x-0000000000000001",
        ] {
            assert_eq!(text.parse::<LetterId>(), Err(LetterIdError), "{text}");
        }
        "event.Order__e-0000000000000001"
            .parse::<LetterId>()
            .unwrap();
    }

    #[tokio::test]
    async fn a_long_cause_is_cut() {
        let directory = tempfile::tempdir().unwrap();
        let store = DeadLetterDirectory::open(directory.path()).unwrap();
        let cause = "é".repeat(DEAD_LETTER_CAUSE_BYTES_MAX);
        store.park(DeadLetter { cause, ..letter(1) }).await.unwrap();
        let id = store.list().await.unwrap().remove(0);
        let found = store.read(&id).await.unwrap().unwrap();
        assert!(found.cause.len() <= DEAD_LETTER_CAUSE_BYTES_MAX);
    }
}
