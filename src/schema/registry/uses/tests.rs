use super::*;
use crate::{clock::ManualClock, metadata::MemoryStore, types::TenantId};

fn scope() -> Scope {
    Scope::Tenant(TenantId::from_random([7; 12]))
}

async fn open(store: &Arc<dyn MetadataStore>, clock: &ManualClock) -> Arc<Uses> {
    let uses = Uses::open(scope(), Arc::clone(store), Arc::new(clock.clone()));
    Arc::new(uses.await.unwrap())
}

fn id(number: u8) -> SchemaId {
    SchemaId::from_digest([number; 16])
}

fn user(kind: UserKind, name: &str) -> User {
    User {
        kind,
        name: name.into(),
    }
}

fn names(uses: &Uses, id: SchemaId) -> Vec<String> {
    let used = uses.of(&id).into_iter();
    used.map(|(user, _)| user.name.to_string()).collect()
}

#[tokio::test]
async fn who_used_a_schema_is_told_the_latest_first_and_outlives_a_restart() {
    let store: Arc<dyn MetadataStore> = Arc::new(MemoryStore::default());
    let clock = ManualClock::default();
    let uses = open(&store, &clock).await;
    let billing = user(UserKind::Managed, "billing");
    let mobile = user(UserKind::Client, "mobile");
    uses.note(std::slice::from_ref(&billing), id(1), Use::Delivered);
    clock.advance(Duration::from_secs(1));
    uses.note(std::slice::from_ref(&mobile), id(1), Use::Published);
    uses.note(std::slice::from_ref(&mobile), id(2), Use::Asked);
    uses.flush().await.unwrap();
    let reopened = open(&store, &clock).await;
    for uses in [uses, reopened] {
        assert_eq!(names(&uses, id(1)), ["mobile", "billing"]);
        assert_eq!(names(&uses, id(2)), ["mobile"]);
        let (_, used) = uses.of(&id(1))[0];
        assert!(used.breaks(Direction::Backward) && !used.breaks(Direction::Forward));
        let (_, used) = uses.of(&id(1))[1];
        assert!(used.breaks(Direction::Forward) && !used.breaks(Direction::Backward));
        // A record is written over, whoever read it last.
        uses.note(std::slice::from_ref(&billing), id(3), Use::Asked);
    }
}

#[tokio::test]
async fn a_second_flush_writes_over_the_first_and_nothing_if_nothing_was_noted() {
    let store: Arc<dyn MetadataStore> = Arc::new(MemoryStore::default());
    let clock = ManualClock::default();
    let uses = open(&store, &clock).await;
    let mobile = [user(UserKind::Client, "mobile")];
    for round in 1..=3 {
        uses.note(&mobile, id(round), Use::Asked);
        uses.flush().await.unwrap();
        uses.flush().await.unwrap();
        let stored = records::list::<SchemaUserRecord>(&*store, scope())
            .await
            .unwrap();
        assert_eq!(stored.len(), 1);
        assert_eq!(stored[0].revision, u64::from(round));
        assert_eq!(stored[0].record.uses.len(), usize::from(round));
    }
}

#[tokio::test]
async fn what_was_used_longest_ago_gives_way() {
    let store: Arc<dyn MetadataStore> = Arc::new(MemoryStore::default());
    let clock = ManualClock::default();
    let uses = open(&store, &clock).await;
    for number in 0..=SCHEMA_USES_MAX {
        clock.advance(Duration::from_millis(1));
        let user = user(UserKind::Client, &format!("client {number}"));
        uses.note(&[user], id(1), Use::Asked);
    }
    let kept = names(&uses, id(1));
    assert!(kept.len() <= SCHEMA_USES_MAX, "{}", kept.len());
    assert_eq!(kept[0], format!("client {SCHEMA_USES_MAX}"));
    assert!(!kept.contains(&"client 0".to_owned()));
    assert_eq!(uses.lock().count, kept.len());
}

#[tokio::test]
async fn those_who_gave_way_are_forgotten_by_the_store_too() {
    let store: Arc<dyn MetadataStore> = Arc::new(MemoryStore::default());
    let clock = ManualClock::default();
    let uses = open(&store, &clock).await;
    let old = user(UserKind::Client, "old");
    uses.note(std::slice::from_ref(&old), id(1), Use::Asked);
    uses.flush().await.unwrap();
    {
        let mut noted = uses.lock();
        noted.users.remove(&old);
        noted.changed.insert(old);
    }
    uses.flush().await.unwrap();
    let stored = records::list::<SchemaUserRecord>(&*store, scope())
        .await
        .unwrap();
    assert!(stored.is_empty());
}

#[tokio::test]
async fn a_write_that_fails_is_made_up_for() {
    use crate::metadata::store_double::{StoreDouble, Writing};

    let store = Arc::new(StoreDouble::default());
    let clock = ManualClock::default();
    let uses = open(&(Arc::clone(&store) as Arc<dyn MetadataStore>), &clock).await;
    for name in ["a", "b", "c"] {
        uses.note(&[user(UserKind::Client, name)], id(1), Use::Asked);
    }
    for writing in [Writing::Full, Writing::Unconfirmed] {
        store.set(writing);
        assert!(uses.flush().await.is_err());
        assert_eq!(uses.lock().changed.len(), 3);
    }
    store.set(Writing::Good);
    uses.flush().await.unwrap();
    let stored = records::list::<SchemaUserRecord>(&*store, scope())
        .await
        .unwrap();
    assert_eq!(stored.len(), 3);
}

#[tokio::test(start_paused = true)]
async fn the_same_use_is_noted_again_after_a_while_only() {
    let store: Arc<dyn MetadataStore> = Arc::new(MemoryStore::default());
    let clock = ManualClock::default();
    let uses = open(&store, &clock).await;
    let mut notes = UseNotes::new(
        Arc::clone(&uses),
        vec![user(UserKind::Principal, "p")],
        Use::Delivered,
    );
    let delivered = || uses.of(&id(1))[0].1.delivered;
    notes.note(id(1), Instant::now());
    let first = delivered();
    clock.advance(Duration::from_secs(1));
    notes.note(id(1), Instant::now());
    assert_eq!(delivered(), first);
    tokio::time::advance(NOTED_AGAIN_AFTER).await;
    notes.note(id(1), Instant::now());
    assert!(delivered() > first);
    // Of many schemas in turn each is noted as often, and what is remembered is bounded.
    for number in 0..=u8::MAX {
        notes.note_text(id(number).as_str(), Instant::now());
        notes.note_text("no schema id", Instant::now());
    }
    assert_eq!(uses.of(&id(200)).len(), 1);
}
