use super::*;
use crate::{
    clock::ManualClock,
    metadata::MemoryStore,
    schema::{compatibility::Level, platform::Check},
    types::limits::{SCHEMA_VERSIONS_MAX, TENANT_SCHEMAS_BYTES_MAX},
};

const PLAIN: &str = r#"{"type":"record","name":"A__e","fields":[{"name":"n","type":"int"}]}"#;
const WIDER: &str = r#"{"type":"record","name":"A__e","fields":[{"name":"n","type":"long"}]}"#;
const DOCUMENTED: &str =
    r#"{"type":"record","name":"A__e","doc":"d","fields":[{"name":"n","type":"int"}]}"#;

fn tenant() -> TenantId {
    TenantId::from_random([7; 12])
}

async fn open(store: &Arc<dyn MetadataStore>) -> Arc<TenantSchemas> {
    let clock = Arc::new(ManualClock::default());
    Registry::new(Arc::clone(store), clock, Rules::default())
        .tenant(tenant())
        .await
        .unwrap()
}

async fn register(schemas: &Arc<TenantSchemas>, text: &str) -> Registration {
    schemas
        .register_unchecked(&Schema::parse(text).unwrap())
        .await
        .unwrap()
        .1
}

#[tokio::test]
async fn versions_come_and_return_and_are_kept_over_a_restart() {
    let store: Arc<dyn MetadataStore> = Arc::new(MemoryStore::default());
    let schemas = open(&store).await;
    assert_eq!(register(&schemas, PLAIN).await, Registration::NewTopic);
    assert_eq!(register(&schemas, PLAIN).await, Registration::Unchanged);
    assert_eq!(register(&schemas, WIDER).await, Registration::NewVersion);
    assert_eq!(register(&schemas, DOCUMENTED).await, Registration::Returned);
    assert_eq!(register(&schemas, PLAIN).await, Registration::NewText);
    let reopened = open(&store).await;
    for schemas in [schemas, reopened] {
        let event_type = schemas.event_type(&"/event/A__e".parse().unwrap()).unwrap();
        assert_eq!(event_type.versions().len(), 2);
        assert_eq!(event_type.current().text(), PLAIN);
        let (wider, topic) = schemas
            .schema(&event_type.versions()[1].schema.id())
            .unwrap();
        assert_eq!((wider.text(), topic.as_str()), (WIDER, "/event/A__e"));
        assert_eq!(register(&schemas, PLAIN).await, Registration::Unchanged);
    }
}

#[tokio::test]
async fn a_tenant_that_nobody_holds_is_forgotten_and_one_that_is_held_is_shared() {
    let store: Arc<dyn MetadataStore> = Arc::new(MemoryStore::default());
    let registry = Registry::new(store, Arc::new(ManualClock::default()), Rules::default());
    let schemas = registry.tenant(tenant()).await.unwrap();
    registry.forget(tenant());
    let again = registry.tenant(tenant()).await.unwrap();
    assert!(Arc::ptr_eq(&schemas, &again));
    register(&schemas, PLAIN).await;
    drop((schemas, again));
    registry.forget(tenant());
    registry.forget(tenant());
    assert!(registry.tenants().is_empty());
    let reread = registry.tenant(tenant()).await.unwrap();
    assert_eq!(reread.event_types().len(), 1);
}

#[tokio::test]
async fn each_topic_has_a_number_of_its_own() {
    let store: Arc<dyn MetadataStore> = Arc::new(MemoryStore::default());
    let schemas = open(&store).await;
    register(&schemas, PLAIN).await;
    register(&schemas, &PLAIN.replace("A__e", "B__e")).await;
    let ids = schemas
        .event_types()
        .iter()
        .map(|topic| topic.topic_id().get())
        .collect::<Vec<_>>();
    assert_eq!(ids, [1, 2]);
}

#[tokio::test]
async fn a_deleted_topic_keeps_its_number_and_its_schemas() {
    let store: Arc<dyn MetadataStore> = Arc::new(MemoryStore::default());
    let schemas = open(&store).await;
    let topic = "/event/A__e".parse().unwrap();
    register(&schemas, PLAIN).await;
    register(&schemas, &PLAIN.replace("A__e", "B__e")).await;
    let id = schemas.event_type(&topic).unwrap().current().id();
    for _ in 0..2 {
        schemas.delete(&topic).await.unwrap();
    }
    for schemas in [&schemas, &open(&store).await] {
        assert!(schemas.event_type(&topic).is_none());
        assert_eq!(schemas.event_types().len(), 1);
        let deleted: Vec<_> = schemas.deleted().into_iter().collect();
        assert_eq!(deleted, [(TopicId::new(1), topic.clone())]);
        assert_eq!(schemas.schema(&id).unwrap().1, topic);
    }
    assert_eq!(register(&schemas, WIDER).await, Registration::NewTopic);
    for schemas in [&schemas, &open(&store).await] {
        let again = schemas.event_type(&topic).unwrap();
        assert_eq!(again.topic_id(), TopicId::new(3), "a number of its own");
        assert_eq!(again.current().text(), WIDER);
        assert_eq!(schemas.schema(&id).unwrap().1, topic);
        let deleted: Vec<_> = schemas.deleted().into_keys().collect();
        assert_eq!(deleted, [TopicId::new(1)], "it is known for ever");
    }
    schemas.delete(&topic).await.unwrap();
    register(&schemas, &PLAIN.replace("A__e", "C__e")).await;
    let other = schemas.event_type(&"/event/C__e".parse().unwrap());
    assert_eq!(other.unwrap().topic_id(), TopicId::new(4));
}

#[tokio::test]
async fn names_that_make_no_topic_or_a_second_one_are_refused() {
    let store: Arc<dyn MetadataStore> = Arc::new(MemoryStore::default());
    let schemas = open(&store).await;
    register(&schemas, PLAIN).await;
    let refused = |text: String| {
        let schemas = Arc::clone(&schemas);
        async move {
            schemas
                .register_unchecked(&Schema::parse(&text).unwrap())
                .await
                .unwrap_err()
        }
    };
    let error = refused(PLAIN.replace("A__e", "Order")).await;
    assert!(matches!(error, RegistryError::Name { .. }));
    let error = refused(PLAIN.replace("A__e", "a__e")).await;
    assert!(matches!(error, RegistryError::SameButCase { .. }));
}

/// A schema of orders, as the platform has them, with these fields: each a name and a type.
fn order(fields: &[(&str, &str)]) -> Schema {
    let fields = fields.iter().map(|(name, ty)| {
        format!(
            r#",{{"name":"{name}__c","type":["null","{ty}"],"doc":"Data:Text","default":null}}"#
        )
    });
    let text = format!(
        r#"{{"type":"record","name":"Order__e","namespace":"com.sforce.eventbus","fields":[
 {{"name":"CreatedDate","type":"long","doc":"CreatedDate:DateTime"}},
 {{"name":"CreatedById","type":"string","doc":"CreatedBy:EntityId"}}{}]}}"#,
        fields.collect::<String>()
    );
    Schema::parse(&text).unwrap()
}

fn topic() -> TopicName {
    "/event/Order__e".parse().unwrap()
}

async fn judge(schemas: &Arc<TenantSchemas>, schema: &Schema) -> Verdict {
    schemas
        .register(Registering::new(schema, "ann"))
        .await
        .unwrap()
}

async fn set_level(schemas: &Arc<TenantSchemas>, level: Level) {
    let change = RuleChange {
        level: Some(Setting::Set(level)),
        ..RuleChange::default()
    };
    schemas.set_rules(Some(&topic()), &change).await.unwrap();
}

#[tokio::test]
async fn a_version_that_breaks_the_rules_is_refused_with_every_reason_and_nothing_is_stored() {
    let store: Arc<dyn MetadataStore> = Arc::new(MemoryStore::default());
    let schemas = open(&store).await;
    judge(&schemas, &order(&[("A", "string"), ("B", "long")])).await;
    let worse = order(&[("A", "double"), ("B", "int")]);
    let verdict = judge(&schemas, &worse).await;
    assert_eq!(verdict.registration, Registration::NewVersion);
    assert_eq!((verdict.number, verdict.more), (2, 0));
    let paths: Vec<_> = verdict.objections.iter().map(Objection::path).collect();
    assert_eq!(paths, ["Order__e.A__c", "Order__e.B__c"]);
    for schemas in [schemas, open(&store).await] {
        let event_type = schemas.event_type(&topic()).unwrap();
        assert_eq!(event_type.versions().len(), 1);
        assert!(schemas.schema(&worse.id()).is_none());
    }
}

#[tokio::test]
async fn a_rehearsal_says_what_a_registration_says_and_changes_nothing() {
    let store: Arc<dyn MetadataStore> = Arc::new(MemoryStore::default());
    let schemas = open(&store).await;
    let first = order(&[("A", "string")]);
    let rehearsal = |schema| Registering {
        is_rehearsal: true,
        ..Registering::new(schema, "ann")
    };
    let verdict = schemas.register(rehearsal(&first)).await.unwrap();
    assert_eq!(verdict.registration, Registration::NewTopic);
    assert!(!verdict.is_refused() && schemas.event_types().is_empty());
    judge(&schemas, &first).await;
    let verdict = schemas
        .register(rehearsal(&order(&[("A", "int")])))
        .await
        .unwrap();
    assert!(verdict.is_refused());
}

#[tokio::test]
async fn each_level_asks_for_what_it_says() {
    let (narrow, wide) = (order(&[("A", "int")]), order(&[("A", "long")]));
    // An int is read as a long, and not the other way round.
    for (level, widens, narrows) in [
        (Level::None, true, true),
        (Level::Backward, true, false),
        (Level::Forward, false, true),
        (Level::Full, false, false),
    ] {
        for (from, to, is_taken) in [(&narrow, &wide, widens), (&wide, &narrow, narrows)] {
            let schemas = open(&(Arc::new(MemoryStore::default()) as Arc<dyn MetadataStore>)).await;
            judge(&schemas, from).await;
            set_level(&schemas, level).await;
            let verdict = judge(&schemas, to).await;
            assert_eq!(!verdict.is_refused(), is_taken, "{level}");
            assert_eq!(verdict.rules.level, level);
        }
    }
}

#[tokio::test]
async fn a_transitive_level_looks_at_every_version_that_is_not_retired() {
    let store: Arc<dyn MetadataStore> = Arc::new(MemoryStore::default());
    let schemas = open(&store).await;
    let first = order(&[("A", "string")]);
    judge(&schemas, &first).await;
    judge(&schemas, &order(&[("B", "string")])).await;
    // The current version has no such field, the first has it with another type.
    let again = order(&[("A", "double"), ("B", "string")]);
    let rehearsal = Registering {
        is_rehearsal: true,
        ..Registering::new(&again, "ann")
    };
    set_level(&schemas, Level::Backward).await;
    assert!(
        !schemas
            .register(rehearsal.clone())
            .await
            .unwrap()
            .is_refused()
    );
    set_level(&schemas, Level::BackwardTransitive).await;
    let verdict = schemas.register(rehearsal.clone()).await.unwrap();
    let Objection::Incompatible { with, number, .. } = &verdict.objections[0] else {
        panic!("{verdict:?}")
    };
    assert_eq!((*with, *number), (first.id(), 1));
    schemas
        .retire(&topic(), &first.id(), "ann", false)
        .await
        .unwrap();
    assert!(!schemas.register(rehearsal).await.unwrap().is_refused());
}

#[tokio::test]
async fn a_retired_version_is_told_and_resolves_and_is_the_current_one_again_when_registered() {
    let store: Arc<dyn MetadataStore> = Arc::new(MemoryStore::default());
    let schemas = open(&store).await;
    let (first, second) = (order(&[("A", "string")]), order(&[("B", "string")]));
    judge(&schemas, &first).await;
    judge(&schemas, &second).await;
    let rehearsed = schemas
        .retire(&topic(), &first.id(), "bob", true)
        .await
        .unwrap();
    assert_eq!(rehearsed.version(&first.id()).unwrap().retired, None);
    schemas
        .retire(&topic(), &first.id(), "bob", false)
        .await
        .unwrap();
    schemas
        .retire(&topic(), &first.id(), "eve", false)
        .await
        .unwrap();
    let reopened = open(&store).await;
    for schemas in [&schemas, &reopened] {
        assert!(schemas.schema(&first.id()).is_some());
        let event_type = schemas.event_type(&topic()).unwrap();
        let retired = event_type.version(&first.id()).unwrap().retired.clone();
        assert_eq!(retired.unwrap().by, "bob");
    }
    let refused = schemas.retire(&topic(), &second.id(), "bob", false).await;
    assert!(matches!(refused, Err(RegistryError::RetiresCurrent { .. })));
    let unknown = order(&[]).id();
    let refused = schemas.retire(&topic(), &unknown, "bob", false).await;
    assert!(matches!(refused, Err(RegistryError::NoVersion { .. })));

    let verdict = judge(&schemas, &first).await;
    assert_eq!(verdict.registration, Registration::Returned);
    let event_type = schemas.event_type(&topic()).unwrap();
    assert_eq!(event_type.current(), &first);
    assert_eq!(event_type.version(&first.id()).unwrap().retired, None);
}

#[tokio::test]
async fn of_registrations_at_once_one_wins_and_the_others_are_told() {
    use crate::metadata::store_double::{StoreDouble, Writing};

    let double = Arc::new(StoreDouble::default());
    let schemas = open(&(Arc::clone(&double) as _)).await;
    judge(&schemas, &order(&[("A", "string")])).await;
    let writes_before = double.writes();
    double.set(Writing::Slow);
    let newer = ["B", "C", "D", "E"].map(|name| order(&[("A", "string"), (name, "string")]));
    let registering = newer.map(|schema| {
        let schemas = Arc::clone(&schemas);
        tokio::spawn(async move { schemas.register(Registering::new(&schema, "ann")).await })
    });
    // All have been called by then: they were spawned before this looks again.
    while double.writes() == writes_before {
        tokio::task::yield_now().await;
    }
    double.set(Writing::Good);
    let outcomes = futures_util::future::join_all(registering).await;
    let outcomes = outcomes.into_iter().map(Result::unwrap);
    let (won, told): (Vec<_>, Vec<_>) = outcomes.partition(Result::is_ok);
    assert_eq!((won.len(), told.len()), (1, 3));
    let winner = won.into_iter().next().unwrap().unwrap().schema_id;
    for told in told {
        let Err(RegistryError::Overtaken { current, .. }) = told else {
            panic!("{told:?}")
        };
        assert_eq!(current, Some(winner));
    }
    assert_eq!(schemas.event_type(&topic()).unwrap().versions().len(), 2);
}

#[tokio::test]
async fn the_same_registration_twice_at_once_succeeds_twice() {
    let store: Arc<dyn MetadataStore> = Arc::new(MemoryStore::default());
    let schemas = open(&store).await;
    let schema = order(&[("A", "string")]);
    let (one, other) = tokio::join!(judge(&schemas, &schema), judge(&schemas, &schema));
    assert_eq!(one.registration, Registration::NewTopic);
    assert_eq!(other.registration, Registration::Unchanged);
}

#[tokio::test]
async fn a_registration_says_what_it_expects_to_find() {
    let store: Arc<dyn MetadataStore> = Arc::new(MemoryStore::default());
    let schemas = open(&store).await;
    let (first, second) = (order(&[("A", "string")]), order(&[("B", "string")]));
    judge(&schemas, &first).await;
    let expecting = |expected| Registering {
        expected: Some(expected),
        ..Registering::new(&second, "ann")
    };
    let refused = schemas.register(expecting(second.id())).await;
    assert!(matches!(refused, Err(RegistryError::Overtaken { .. })));
    schemas.register(expecting(first.id())).await.unwrap();
    // Whoever tries again is not told off.
    let again = schemas.register(expecting(first.id())).await.unwrap();
    assert_eq!(again.registration, Registration::Unchanged);

    let elsewhere: TopicName = "/event/Other__e".parse().unwrap();
    let other_topic = Registering {
        topic: Some(&elsewhere),
        ..Registering::new(&second, "ann")
    };
    let refused = schemas.register(other_topic).await;
    assert!(matches!(refused, Err(RegistryError::OtherTopic { .. })));
    let new_topic = Registering {
        is_new_topic: true,
        ..Registering::new(&second, "ann")
    };
    let refused = schemas.register(new_topic).await;
    assert!(matches!(refused, Err(RegistryError::TopicExists(_))));
}

#[tokio::test]
async fn a_version_in_another_namespace_is_no_version() {
    let store: Arc<dyn MetadataStore> = Arc::new(MemoryStore::default());
    let schemas = open(&store).await;
    let schema = order(&[("A", "string")]);
    judge(&schemas, &schema).await;
    let off = RuleChange {
        checks: vec![(Check::Namespace, Setting::Set(false))],
        ..RuleChange::default()
    };
    schemas.set_rules(None, &off).await.unwrap();
    let elsewhere = schema.text().replace("com.sforce.eventbus", "com.example");
    let verdict = judge(&schemas, &Schema::parse(&elsewhere).unwrap()).await;
    let rules: Vec<_> = verdict.objections.iter().map(Objection::rule).collect();
    assert_eq!(rules, ["name-changed"]);
}

#[tokio::test]
async fn a_change_that_was_not_confirmed_is_found_out_about() {
    use crate::metadata::store_double::{StoreDouble, Writing};

    let double = Arc::new(StoreDouble::default());
    let store: Arc<dyn MetadataStore> = Arc::clone(&double) as _;
    let schemas = open(&store).await;
    let (first, second) = (order(&[("A", "string")]), order(&[("B", "string")]));
    double.set(Writing::Full);
    let refused = schemas.register(Registering::new(&first, "ann")).await;
    assert!(matches!(refused, Err(RegistryError::DiskFull)));
    double.set(Writing::Unconfirmed);
    let doubtful = schemas.register(Registering::new(&first, "ann")).await;
    assert!(matches!(doubtful, Err(RegistryError::Unconfirmed(_))));
    double.set(Writing::Good);
    let verdict = judge(&schemas, &first).await;
    assert_eq!(verdict.registration, Registration::Unchanged);
    let verdict = judge(&schemas, &second).await;
    assert_eq!(verdict.registration, Registration::NewVersion);
    set_level(&schemas, Level::Full).await;
    assert_eq!(
        open(&store).await.event_type(&topic()).unwrap().current(),
        &second
    );
}

#[tokio::test]
async fn a_registration_whose_caller_goes_away_is_made_all_the_same() {
    use crate::metadata::store_double::{StoreDouble, Writing};

    let double = Arc::new(StoreDouble::default());
    let schemas = open(&(Arc::clone(&double) as _)).await;
    let schema = order(&[("A", "string")]);
    double.set(Writing::Slow);
    let registering = {
        let (schemas, schema) = (Arc::clone(&schemas), schema.clone());
        tokio::spawn(async move { schemas.register(Registering::new(&schema, "ann")).await })
    };
    while double.writes() == 0 {
        tokio::task::yield_now().await;
    }
    registering.abort();
    _ = registering.await;
    // The next change waits until it is known what became of that one.
    double.set(Writing::Good);
    let verdict = judge(&schemas, &schema).await;
    assert_eq!(verdict.registration, Registration::Unchanged);
    let other = Schema::parse(&schema.text().replace("Order__e", "Other__e")).unwrap();
    judge(&schemas, &other).await;
    let ids = schemas.event_types().into_iter().map(|it| it.topic_id());
    assert_eq!(ids.collect::<Vec<_>>(), [TopicId::new(1), TopicId::new(2)]);
}

#[tokio::test]
async fn what_is_stored_is_bounded() {
    let store: Arc<dyn MetadataStore> = Arc::new(MemoryStore::default());
    let schemas = open(&store).await;
    set_none(&schemas).await;
    for number in 0..SCHEMA_VERSIONS_MAX {
        judge(&schemas, &order(&[(&format!("F{number}"), "string")])).await;
    }
    let one_more = order(&[("More", "string")]);
    let refused = schemas.register(Registering::new(&one_more, "ann")).await;
    assert!(matches!(refused, Err(RegistryError::TooManyVersions(_))));
    // Versions that there are may return.
    assert!(
        !judge(&schemas, &order(&[("F7", "string")]))
            .await
            .is_refused()
    );
}

async fn set_none(schemas: &Arc<TenantSchemas>) {
    let none = RuleChange {
        level: Some(Setting::Set(Level::None)),
        ..RuleChange::default()
    };
    schemas.set_rules(None, &none).await.unwrap();
}

#[tokio::test]
async fn the_texts_of_a_tenant_are_bounded() {
    let store: Arc<dyn MetadataStore> = Arc::new(MemoryStore::default());
    let schemas = open(&store).await;
    let filled = |number: usize, bytes: usize| {
        let mut text = format!(
            r#"{{"type":"record","name":"Big{number}__e","namespace":"com.sforce.eventbus","fields":[
 {{"name":"CreatedDate","type":"long"}},{{"name":"CreatedById","type":"string"}}],"doc":""#
        );
        text.push_str(&"d".repeat(bytes - text.len() - 2));
        text.push_str("\"}");
        Schema::parse(&text).unwrap()
    };
    let size = 1 << 20;
    for number in 0..TENANT_SCHEMAS_BYTES_MAX / size {
        judge(&schemas, &filled(number, size)).await;
    }
    let refused = schemas
        .register(Registering::new(&filled(999, 200), "ann"))
        .await;
    assert!(matches!(refused, Err(RegistryError::SchemasTooLarge(_))));
    // A text that is replaced makes room.
    judge(&schemas, &filled(0, size - 1_000)).await;
    assert!(!judge(&schemas, &filled(999, 200)).await.is_refused());
    let refused = schemas
        .register(Registering::new(&filled(998, 1_000), "ann"))
        .await;
    assert!(matches!(refused, Err(RegistryError::SchemasTooLarge(_))));
}

#[tokio::test]
async fn a_topic_that_is_made_again_begins_anew() {
    let store: Arc<dyn MetadataStore> = Arc::new(MemoryStore::default());
    let schemas = open(&store).await;
    let first = order(&[("A", "string")]);
    judge(&schemas, &first).await;
    set_level(&schemas, Level::FullTransitive).await;
    schemas.delete(&topic()).await.unwrap();
    let second = order(&[("A", "double")]);
    let verdict = judge(&schemas, &second).await;
    assert!(!verdict.is_refused());
    assert_eq!(verdict.registration, Registration::NewTopic);
    let event_type = schemas.event_type(&topic()).unwrap();
    assert!(event_type.version(&first.id()).unwrap().retired.is_some());
    assert_eq!(schemas.rules(Some(&event_type)), Rules::default());
}

#[tokio::test]
async fn what_readers_take_in_different_ways_is_refused_whatever_the_rules() {
    let store: Arc<dyn MetadataStore> = Arc::new(MemoryStore::default());
    let schemas = open(&store).await;
    // Of the rules for tenants and topics none is left.
    register(&schemas, PLAIN).await;
    let field = |field: &str| {
        let text = format!(r#"{{"type":"record","name":"A__e","fields":[{field}]}}"#);
        Schema::parse(&text).unwrap()
    };
    for (schema, rule) in [
        (
            field(r#"{"name":"n","type":"int"},{"name":"N","type":"int"}"#),
            "case-collision",
        ),
        (
            field(r#"{"name":"n","type":"int","doc":"a","doc":"b"}"#),
            "duplicate-key",
        ),
        (
            field(r#"{"name":"ReplayId","type":"int"}"#),
            "reserved-field",
        ),
    ] {
        let verdict = judge(&schemas, &schema).await;
        let rules: Vec<_> = verdict.objections.iter().map(Objection::rule).collect();
        assert_eq!(rules, [rule]);
        assert_eq!(schemas.event_types()[0].versions().len(), 1);
        assert_eq!(schemas.event_types()[0].current().text(), PLAIN);
    }
}
