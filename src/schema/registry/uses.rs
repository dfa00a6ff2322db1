//! Who used which schema last: publishers, those who asked for a schema, and those who got events.
//!
//! So an author can be told, before a schema changes, who would break. It is an account of who is out
//! there, not of every event: kept in memory, written down now and then, and of a bounded size, where
//! what was used longest ago gives way. What a crash takes of it comes back with the next use.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use tokio::time::Instant;

use crate::{
    clock::{Clock, Timestamp},
    metadata::{
        Change, Expected, MetadataStore, Scope, StoreError, WriteError,
        records::{self, SchemaUseRecord, SchemaUserRecord, Stored},
    },
    schema::compatibility::Direction,
    types::{
        SchemaId,
        limits::{SCHEMA_USERS_PER_WRITE_MAX, SCHEMA_USES_MAX},
    },
};

/// Who uses schemas. Ordered by kind and name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct User {
    /// What sort of user it is.
    pub kind: UserKind,
    /// Its name.
    pub name: Arc<str>,
}

/// What sort of user it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum UserKind {
    /// Somebody who signed in, by the name of the token.
    Principal,
    /// A client, by the name that it gave itself.
    Client,
    /// A managed subscription, by its developer name.
    Managed,
}

impl UserKind {
    const ALL: [Self; 3] = [Self::Principal, Self::Client, Self::Managed];

    /// The word for it in the admin service, in output and in storage.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Principal => "principal",
            Self::Client => "client",
            Self::Managed => "managed",
        }
    }
}

/// What was done with a schema.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Use {
    /// The schema was asked for.
    Asked,
    /// Events were published that are written with it.
    Published,
    /// Events were delivered that are written with it.
    Delivered,
}

/// When a user last did what with a schema.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LastUsed {
    /// The schema was asked for.
    pub asked: Option<Timestamp>,
    /// Events were published that are written with it.
    pub published: Option<Timestamp>,
    /// Events were delivered that are written with it.
    pub delivered: Option<Timestamp>,
}

impl LastUsed {
    fn note(&mut self, what: Use, at: Timestamp) {
        let noted = match what {
            Use::Asked => &mut self.asked,
            Use::Published => &mut self.published,
            Use::Delivered => &mut self.delivered,
        };
        *noted = Some(at);
    }

    /// The latest of all.
    pub fn at(&self) -> Option<Timestamp> {
        self.asked.max(self.published).max(self.delivered)
    }

    /// Whether a version that cannot be compared with this one in `direction` would break the user:
    /// events that it publishes could not be read with the new version, or it reads with this one and
    /// could not read events of the new.
    pub fn breaks(&self, direction: Direction) -> bool {
        match direction {
            Direction::Backward => self.published.is_some(),
            Direction::Forward => self.asked.is_some() || self.delivered.is_some(),
        }
    }
}

/// Who used which schema of a tenant last.
#[derive(Debug)]
pub struct Uses {
    scope: Scope,
    store: Arc<dyn MetadataStore>,
    clock: Arc<dyn Clock>,
    noted: Mutex<Noted>,
    /// Held while they are written down.
    flushing: tokio::sync::Mutex<()>,
}

#[derive(Debug, Default)]
struct Noted {
    users: HashMap<User, HashMap<SchemaId, LastUsed>>,
    /// Pairs of a user and a schema.
    count: usize,
    /// Whose records are not what is noted.
    changed: HashSet<User>,
    /// Revisions of what is stored.
    revisions: HashMap<User, u64>,
}

impl Uses {
    /// What is written down.
    pub(super) async fn open(
        scope: Scope,
        store: Arc<dyn MetadataStore>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, StoreError> {
        let mut noted = Noted::default();
        for stored in records::list::<SchemaUserRecord>(&*store, scope).await? {
            noted.read(stored);
        }
        Ok(Self {
            scope,
            store,
            clock,
            noted: Mutex::new(noted),
            flushing: tokio::sync::Mutex::default(),
        })
    }

    /// Notes that each of `users` did `what` with a schema just now.
    pub fn note(&self, users: &[User], id: SchemaId, what: Use) {
        let now = self.clock.now();
        let mut noted = self.lock();
        for user in users {
            noted.note(user, id, what, now);
        }
    }

    /// Everybody who used a schema, the latest first.
    pub fn of(&self, id: &SchemaId) -> Vec<(User, LastUsed)> {
        let noted = self.lock();
        let users = noted.users.iter();
        let used = users.filter_map(|(user, schemas)| Some((user.clone(), *schemas.get(id)?)));
        let mut used: Vec<_> = used.collect();
        drop(noted);
        used.sort_by(|(one, a), (other, b)| b.at().cmp(&a.at()).then_with(|| one.cmp(other)));
        used
    }

    /// Writes down what was noted since the last time. What cannot be written is tried again then.
    ///
    /// # Errors
    ///
    /// [`WriteError`] of the store.
    ///
    /// # Cancel safety
    ///
    /// Not cancel safe: after a drop records may be stored whose revisions are not known here.
    pub async fn flush(&self) -> Result<(), WriteError> {
        let _flushing = self.flushing.lock().await;
        let changed = std::mem::take(&mut self.lock().changed);
        let changed: Vec<_> = changed.into_iter().collect();
        let mut chunks = changed.chunks(SCHEMA_USERS_PER_WRITE_MAX);
        while let Some(users) = chunks.next() {
            if let Err(error) = self.write(users).await {
                let rest = chunks.flatten();
                self.lock()
                    .changed
                    .extend(users.iter().chain(rest).cloned());
                return Err(error);
            }
        }
        Ok(())
    }

    /// Writes down what is noted of some users, in one write.
    async fn write(&self, users: &[User]) -> Result<(), WriteError> {
        let mut changes = Vec::new();
        let mut revisions = Vec::new();
        {
            let noted = self.lock();
            for user in users {
                if let Some((change, revision)) = noted.change(user) {
                    changes.push(change);
                    revisions.push((user, revision));
                }
            }
        }
        let written = self.store.write(self.scope, changes).await;
        if written.is_err() {
            // It may have been written all the same.
            for (user, revision) in &mut revisions {
                *revision = self.stored_revision(user).await.unwrap_or_default();
            }
        }
        let mut noted = self.lock();
        for (user, revision) in revisions {
            match revision {
                Some(revision) => _ = noted.revisions.insert(user.clone(), revision),
                None => _ = noted.revisions.remove(user),
            }
        }
        written
    }

    /// Whether there is something that is not written down.
    pub fn is_changed(&self) -> bool {
        !self.lock().changed.is_empty()
    }

    async fn stored_revision(&self, user: &User) -> Result<Option<u64>, StoreError> {
        let key = key(user);
        let stored = records::load::<SchemaUserRecord>(&*self.store, self.scope, &key).await?;
        Ok(stored.map(|stored| stored.revision))
    }

    fn lock(&self) -> MutexGuard<'_, Noted> {
        self.noted.lock().expect("no holder of this lock panics")
    }
}

impl Noted {
    fn note(&mut self, user: &User, id: SchemaId, what: Use, now: Timestamp) {
        // Most are known already, and then nothing is allocated.
        if let Some(used) = self.users.get_mut(user).and_then(|used| used.get_mut(&id)) {
            used.note(what, now);
        } else {
            self.make_room();
            let used = self.users.entry(user.clone()).or_default();
            used.entry(id).or_default().note(what, now);
            self.count += 1;
        }
        if !self.changed.contains(user) {
            self.changed.insert(user.clone());
        }
    }

    /// Has the tenth that was used longest ago give way, if there is no room for one more.
    fn make_room(&mut self) {
        if self.count < SCHEMA_USES_MAX {
            return;
        }
        let all = self.users.values().flat_map(HashMap::values);
        let mut times: Vec<_> = all.map(LastUsed::at).collect();
        let tenth = times.len() / 10;
        let (_, &mut oldest_kept, _) = times.select_nth_unstable(tenth);
        let mut count = 0;
        let changed = &mut self.changed;
        self.users.retain(|user, used| {
            let before = used.len();
            used.retain(|_, used| used.at() > oldest_kept);
            count += used.len();
            if used.len() != before {
                changed.insert(user.clone());
            }
            !used.is_empty()
        });
        self.count = count;
    }

    /// The write of what is noted of a user, and the revision that it has then; none if the record is
    /// removed. `None` if there is nothing to write.
    fn change(&self, user: &User) -> Option<(Change, Option<u64>)> {
        let revision = self.revisions.get(user).copied();
        let Some(used) = self.users.get(user) else {
            return Some((
                records::removal::<SchemaUserRecord>(&key(user), revision?),
                None,
            ));
        };
        let millis = |at: Option<Timestamp>| at.map(Timestamp::as_millis);
        let uses = used.iter().map(|(id, used)| SchemaUseRecord {
            schema_id: id.to_string(),
            asked_at_ms: millis(used.asked),
            published_at_ms: millis(used.published),
            delivered_at_ms: millis(used.delivered),
        });
        let record = SchemaUserRecord {
            key: key(user),
            kind: user.kind.as_str().to_owned(),
            name: user.name.to_string(),
            uses: uses.collect(),
        };
        let expected = revision.map_or(Expected::Absent, Expected::Revision);
        let change = records::change(&record, expected);
        Some((change, Some(revision.unwrap_or(0) + 1)))
    }

    /// Takes in a stored record. What cannot be understood of it is left out: it is an account, and the
    /// next use makes it whole.
    fn read(&mut self, Stored { record, revision }: Stored<SchemaUserRecord>) {
        let mut kinds = UserKind::ALL.into_iter();
        let Some(kind) = kinds.find(|kind| kind.as_str() == record.kind) else {
            return;
        };
        let user = User {
            kind,
            name: record.name.into(),
        };
        let at = |millis: Option<i64>| millis.map(Timestamp::from_millis);
        let uses = record.uses.into_iter().filter_map(|stored| {
            let used = LastUsed {
                asked: at(stored.asked_at_ms),
                published: at(stored.published_at_ms),
                delivered: at(stored.delivered_at_ms),
            };
            Some((stored.schema_id.parse().ok()?, used))
        });
        let uses: HashMap<SchemaId, LastUsed> = uses.collect();
        self.count += uses.len();
        self.revisions.insert(user.clone(), revision);
        self.users.insert(user, uses);
    }
}

fn key(user: &User) -> String {
    format!("{}:{}", user.kind.as_str(), user.name)
}

/// Notes what one publisher or subscriber does, and the same thing over and over only now and then.
#[derive(Debug)]
pub struct UseNotes {
    uses: Arc<Uses>,
    users: Vec<User>,
    what: Use,
    /// What was noted last, and when. In place: a publisher of a single event has notes of its own.
    recent: [Option<(SchemaId, Instant)>; RECENT_MAX],
}

impl UseNotes {
    /// Notes for `users`, who all do `what`.
    pub fn new(uses: Arc<Uses>, users: Vec<User>, what: Use) -> Self {
        Self {
            uses,
            users,
            what,
            recent: [None; RECENT_MAX],
        }
    }

    /// Notes that it was done with a schema, unless that was noted a moment ago, which costs no more than
    /// a comparison.
    pub fn note(&mut self, id: SchemaId, now: Instant) {
        if !self.is_noted(id.as_str(), now) {
            self.note_anew(id, now);
        }
    }

    /// As [`UseNotes::note`], of the schema with the id that `text` is. One that is none is let pass.
    pub fn note_text(&mut self, text: &str, now: Instant) {
        if !self.is_noted(text, now)
            && let Ok(id) = text.parse()
        {
            self.note_anew(id, now);
        }
    }

    fn is_noted(&self, id: &str, now: Instant) -> bool {
        let mut recent = self.recent.iter().flatten();
        let noted = recent.find(|(noted, _)| noted.as_str() == id);
        noted.is_some_and(|(_, at)| now.saturating_duration_since(*at) < NOTED_AGAIN_AFTER)
    }

    fn note_anew(&mut self, id: SchemaId, now: Instant) {
        self.uses.note(&self.users, id, self.what);
        let is_of_id = |noted: &Option<(SchemaId, Instant)>| noted.is_some_and(|(of, _)| of == id);
        let place = self.recent.iter().position(is_of_id).unwrap_or_else(|| {
            // A place that is free, or else the one that was noted longest ago.
            let places = self.recent.iter().enumerate();
            let oldest = places.min_by_key(|(_, noted)| noted.map(|(_, at)| at));
            oldest.map_or(0, |(place, _)| place)
        });
        self.recent[place] = Some((id, now));
    }
}

/// How many schemas are remembered as noted a moment ago: as many versions as are in use side by side.
const RECENT_MAX: usize = 8;
/// After which time the same use is noted again: people read these times in minutes and days.
const NOTED_AGAIN_AFTER: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests;
