use super::*;
use crate::{clock::ManualClock, metadata::MemoryStore};

const PLAIN: &str = r#"{"type":"record","name":"A__e","fields":[{"name":"n","type":"int"}]}"#;
const WIDER: &str = r#"{"type":"record","name":"A__e","fields":[{"name":"n","type":"long"}]}"#;
const DOCUMENTED: &str =
    r#"{"type":"record","name":"A__e","doc":"d","fields":[{"name":"n","type":"int"}]}"#;

fn tenant() -> TenantId {
    TenantId::from_random([7; 12])
}

async fn open(store: &Arc<dyn MetadataStore>) -> Arc<TenantSchemas> {
    let clock = Arc::new(ManualClock::default());
    Registry::new(Arc::clone(store), clock)
        .tenant(tenant())
        .await
        .unwrap()
}

async fn register(schemas: &TenantSchemas, text: &str) -> Registration {
    schemas
        .register(&Schema::parse(text).unwrap())
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
    let registry = Registry::new(store, Arc::new(ManualClock::default()));
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
                .register(&Schema::parse(&text).unwrap())
                .await
                .unwrap_err()
        }
    };
    let error = refused(PLAIN.replace("A__e", "Order")).await;
    assert!(matches!(error, RegistryError::Name { .. }));
    let error = refused(PLAIN.replace("A__e", "a__e")).await;
    assert!(matches!(error, RegistryError::SameButCase { .. }));
}
