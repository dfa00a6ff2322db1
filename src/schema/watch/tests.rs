use std::{os::unix::fs::symlink, time::Duration};

use super::*;
use crate::{
    clock::ManualClock,
    metadata::MemoryStore,
    schema::{
        Schema,
        compatibility::Level,
        registry::{Registry, RuleChange, Rules, Setting},
    },
    types::TenantId,
};

fn tenant() -> TenantId {
    TenantId::from_random([7; 12])
}

/// A directory and who watches it.
struct Watched {
    dir: tempfile::TempDir,
    schemas: Arc<TenantSchemas>,
    files: SchemaFiles,
    watch: Watch,
    clock: ManualClock,
}

impl Watched {
    async fn start() -> Self {
        let clock = ManualClock::default();
        let registry = Registry::new(
            Arc::new(MemoryStore::default()),
            Arc::new(clock.clone()),
            Rules::default(),
        );
        let schemas = registry.tenant(tenant()).await.unwrap();
        Self::over(tempfile::tempdir().unwrap(), schemas, clock).await
    }

    async fn over(dir: tempfile::TempDir, schemas: Arc<TenantSchemas>, clock: ManualClock) -> Self {
        let files = SchemaFiles::new(tenant());
        let mut watch = Watch::new(
            dir.path(),
            Arc::clone(&schemas),
            files.clone(),
            Arc::new(clock.clone()),
        );
        watch.take_all().await;
        Self {
            dir,
            schemas,
            files,
            watch,
            clock,
        }
    }

    /// The same directory after a restart.
    async fn restarted(self) -> Self {
        Self::over(self.dir, self.schemas, self.clock).await
    }

    fn write(&self, name: &str, text: &str) {
        // Times of files may be coarse: a new inode tells the contents apart in any case.
        let draft = self.dir.path().join("draft");
        fs::write(&draft, text).unwrap();
        fs::rename(draft, self.dir.path().join(name)).unwrap();
    }

    async fn look_twice(&mut self) {
        self.watch.look().await;
        self.watch.look().await;
    }

    /// The fields of the current version.
    fn fields(&self, topic: &str) -> Option<Vec<String>> {
        let event_type = self.schemas.event_type(&topic.parse().unwrap())?;
        let fields = event_type.current().program().root().fields().iter();
        let names = fields.map(|field| field.name().to_owned());
        Some(names.filter(|name| name.ends_with("__c")).collect())
    }

    fn refusals(&self) -> String {
        let refused = self.files.refused(tenant());
        let texts = refused.iter().map(|file| {
            let name = file
                .path
                .file_name()
                .unwrap()
                .to_string_lossy()
                .into_owned();
            format!("{name}: {}", file.reasons.join("; "))
        });
        texts.collect::<Vec<_>>().join("\n")
    }
}

const TOPIC: &str = "/event/Order__e";

/// A schema of orders with these fields, each a name and its type.
fn order(fields: &[(&str, &str)]) -> String {
    let fields = fields.iter().map(|(name, ty)| {
        format!(
            r#",{{"name":"{name}__c","type":["null","{ty}"],"doc":"Data:Text","default":null}}"#
        )
    });
    format!(
        r#"{{"type":"record","name":"Order__e","namespace":"com.sforce.eventbus","fields":[
 {{"name":"CreatedDate","type":"long","doc":"CreatedDate:DateTime"}},
 {{"name":"CreatedById","type":"string","doc":"CreatedBy:EntityId"}}{}]}}"#,
        fields.collect::<String>()
    )
}

#[tokio::test]
async fn a_file_is_taken_up_once_two_looks_find_it_the_same() {
    let mut watched = Watched::start().await;
    watched.write("Order__e.avsc", &order(&[("A", "string")]));
    watched.watch.look().await;
    assert_eq!(watched.fields(TOPIC), None);
    watched.watch.look().await;
    assert_eq!(watched.fields(TOPIC).unwrap(), ["A__c"]);
    watched.write("Order__e.avsc", &order(&[("A", "string"), ("B", "double")]));
    watched.watch.look().await;
    watched.write("Order__e.avsc", &order(&[("A", "string"), ("C", "double")]));
    watched.look_twice().await;
    assert_eq!(watched.fields(TOPIC).unwrap(), ["A__c", "C__c"]);
    let event_type = watched.schemas.event_type(&TOPIC.parse().unwrap()).unwrap();
    assert_eq!(event_type.versions().len(), 2);
    assert_eq!(event_type.versions()[0].registered_by, "file Order__e.avsc");
    assert_eq!(watched.refusals(), "");
}

#[tokio::test]
async fn half_a_file_is_refused_until_it_is_whole() {
    let mut watched = Watched::start().await;
    let whole = order(&[("A", "string")]);
    watched.write("Order__e.avsc", &whole[..whole.len() / 2]);
    watched.look_twice().await;
    assert_eq!(watched.fields(TOPIC), None);
    let refusals = watched.refusals();
    assert!(refusals.contains("EOF while parsing"), "{refusals}");
    watched.write("Order__e.avsc", &whole);
    watched.look_twice().await;
    assert_eq!(watched.fields(TOPIC).unwrap(), ["A__c"]);
    assert_eq!(watched.refusals(), "");
}

#[tokio::test]
async fn what_breaks_the_rules_is_refused_and_the_topic_goes_on() {
    let mut watched = Watched::start().await;
    watched.write("Order__e.avsc", &order(&[("A", "string")]));
    watched.look_twice().await;
    watched.write("Order__e.avsc", &order(&[("A", "double")]));
    watched.clock.advance(Duration::from_secs(5));
    watched.look_twice().await;
    let refusals = watched.refusals();
    assert!(
        refusals.contains("Order__e.A__c") && refusals.contains("[branch-missing]"),
        "{refusals}"
    );
    assert_eq!(watched.files.refused(tenant())[0].at, watched.clock.now());
    assert_eq!(watched.files.0.refused_count.get(), 1);

    // Once the rules allow for it, it is taken as it is.
    let anything = RuleChange {
        level: Some(Setting::Set(Level::None)),
        ..RuleChange::default()
    };
    let topic = TOPIC.parse().unwrap();
    watched
        .schemas
        .set_rules(Some(&topic), &anything)
        .await
        .unwrap();
    watched.watch.look().await;
    assert_ne!(watched.refusals(), "");
    watched.files.look_again(tenant());
    watched.files.asked_to_look().await;
    watched.watch.take_again();
    watched.watch.look().await;
    assert_eq!(watched.refusals(), "");
    let event_type = watched.schemas.event_type(&topic).unwrap();
    assert_eq!(event_type.versions().len(), 2);
}

#[tokio::test]
async fn a_file_that_is_gone_takes_nothing_with_it_but_its_refusal() {
    let mut watched = Watched::start().await;
    watched.write("Order__e.avsc", &order(&[("A", "string")]));
    watched.write("Bad__e.avsc", "{");
    watched.look_twice().await;
    assert_eq!(watched.files.refused(tenant()).len(), 1);
    for name in ["Order__e.avsc", "Bad__e.avsc"] {
        fs::remove_file(watched.dir.path().join(name)).unwrap();
    }
    watched.watch.look().await;
    assert_eq!(watched.files.refused(tenant()), []);
    assert_eq!(watched.fields(TOPIC).unwrap(), ["A__c"]);
}

#[tokio::test]
async fn links_that_turn_elsewhere_are_followed_as_kubernetes_turns_them() {
    let mut watched = Watched::start().await;
    let dir = watched.dir.path().to_owned();
    for (version, fields) in [
        ("..v1", &[("A", "string")][..]),
        ("..v2", &[("A", "string"), ("B", "string")]),
    ] {
        fs::create_dir(dir.join(version)).unwrap();
        fs::write(dir.join(version).join("Order__e.avsc"), order(fields)).unwrap();
    }
    symlink("..v1", dir.join("..data")).unwrap();
    symlink("..data/Order__e.avsc", dir.join("Order__e.avsc")).unwrap();
    watched.look_twice().await;
    assert_eq!(watched.fields(TOPIC).unwrap(), ["A__c"]);
    symlink("..v2", dir.join("..data_tmp")).unwrap();
    fs::rename(dir.join("..data_tmp"), dir.join("..data")).unwrap();
    watched.look_twice().await;
    assert_eq!(watched.fields(TOPIC).unwrap(), ["A__c", "B__c"]);
    // What a link leads to may be gone for a moment.
    fs::remove_dir_all(dir.join("..v2")).unwrap();
    watched.look_twice().await;
    assert_eq!(watched.fields(TOPIC).unwrap(), ["A__c", "B__c"]);
}

#[tokio::test]
async fn a_second_file_of_a_topic_is_refused() {
    let mut watched = Watched::start().await;
    watched.write("Order__e.avsc", &order(&[("A", "string")]));
    watched.look_twice().await;
    watched.write("Other.avsc", &order(&[("B", "string")]));
    watched.look_twice().await;
    let refusals = watched.refusals();
    assert!(
        refusals.starts_with("Other.avsc") && refusals.contains("of the same topic"),
        "{refusals}"
    );
    assert_eq!(watched.fields(TOPIC).unwrap(), ["A__c"]);
}

#[tokio::test]
async fn a_file_that_says_what_it_said_undoes_no_registration() {
    let mut watched = Watched::start().await;
    watched.write("Order__e.avsc", &order(&[("A", "string")]));
    watched.look_twice().await;
    let newer = Schema::parse(&order(&[("A", "string"), ("B", "string")])).unwrap();
    let registered = watched
        .schemas
        .register(Registering::new(&newer, "an administrator"))
        .await;
    assert!(!registered.unwrap().is_refused());
    let mut watched = watched.restarted().await;
    assert_eq!(watched.fields(TOPIC).unwrap(), ["A__c", "B__c"]);
    // Written anew with the same words it says nothing new either.
    watched.write("Order__e.avsc", &order(&[("A", "string")]));
    watched.look_twice().await;
    assert_eq!(watched.fields(TOPIC).unwrap(), ["A__c", "B__c"]);
    // Other words are news.
    watched.write("Order__e.avsc", &format!("{}\n", order(&[("A", "string")])));
    watched.look_twice().await;
    assert_eq!(watched.fields(TOPIC).unwrap(), ["A__c"]);
}

#[tokio::test]
async fn drafts_of_editors_and_other_files_are_not_looked_at() {
    let mut watched = Watched::start().await;
    watched.write(".Order__e.avsc", "{");
    watched.write("Order__e.avsc~", "{");
    watched.write("notes.txt", "{");
    fs::create_dir(watched.dir.path().join("Dir.avsc")).unwrap();
    watched.look_twice().await;
    assert_eq!(watched.refusals(), "");
}

#[tokio::test]
async fn a_directory_may_come_later() {
    let mut watched = Watched::start().await;
    let dir = watched.dir.path().join("later");
    watched.watch.dir = dir.clone();
    watched.look_twice().await;
    fs::create_dir(&dir).unwrap();
    fs::write(dir.join("Order__e.avsc"), order(&[("A", "string")])).unwrap();
    watched.look_twice().await;
    assert_eq!(watched.fields(TOPIC).unwrap(), ["A__c"]);
}

#[tokio::test]
async fn a_file_that_waits_for_a_topic_is_taken_once_that_is_free() {
    let mut watched = Watched::start().await;
    watched.write("Order__e.avsc", &order(&[("A", "string")]));
    watched.look_twice().await;
    watched.write("Other.avsc", &order(&[("A", "string"), ("B", "string")]));
    watched.look_twice().await;
    assert_ne!(watched.refusals(), "");
    fs::remove_file(watched.dir.path().join("Order__e.avsc")).unwrap();
    watched.watch.look().await;
    assert_eq!(watched.refusals(), "");
    assert_eq!(watched.fields(TOPIC).unwrap(), ["A__c", "B__c"]);
}

#[tokio::test]
async fn two_files_that_change_places_are_taken_both() {
    let mut watched = Watched::start().await;
    let item = order(&[("A", "string")]).replace("Order__e", "Item__e");
    watched.write("One.avsc", &order(&[("A", "string")]));
    watched.write("Two.avsc", &item);
    watched.look_twice().await;
    watched.write("One.avsc", &format!("{item}\n"));
    watched.write("Two.avsc", &order(&[("A", "string"), ("B", "string")]));
    watched.look_twice().await;
    assert_eq!(watched.refusals(), "");
    assert_eq!(watched.fields(TOPIC).unwrap(), ["A__c", "B__c"]);
}

#[tokio::test]
async fn a_file_that_changes_is_left_alone_whatever_is_taken_again() {
    let mut watched = Watched::start().await;
    watched.write("Order__e.avsc", "{");
    watched.watch.look().await;
    watched.watch.take_again();
    // Not read while it may be half of one, and so not refused either.
    watched.write("Order__e.avsc", &order(&[("A", "string")]));
    watched.watch.look().await;
    assert_eq!(
        (watched.refusals().as_str(), watched.fields(TOPIC)),
        ("", None)
    );
    watched.watch.look().await;
    assert_eq!(watched.fields(TOPIC).unwrap(), ["A__c"]);
}

#[tokio::test]
async fn a_directory_that_cannot_be_read_is_listed_until_it_can() {
    let mut watched = Watched::start().await;
    let dir = watched.dir.path().join("dir");
    watched.watch.dir = dir.clone();
    fs::write(&dir, "a file").unwrap();
    watched.look_twice().await;
    let refusals = watched.refusals();
    assert!(refusals.starts_with("dir: it cannot be read"), "{refusals}");
    fs::remove_file(&dir).unwrap();
    fs::create_dir(&dir).unwrap();
    watched.watch.look().await;
    assert_eq!(watched.refusals(), "");
}

#[tokio::test]
async fn a_file_that_cannot_be_stored_is_listed_and_tried_again() {
    use crate::metadata::store_double::{StoreDouble, Writing};

    let double = Arc::new(StoreDouble::default());
    let clock = ManualClock::default();
    let store = Arc::clone(&double) as _;
    let registry = Registry::new(store, Arc::new(clock.clone()), Rules::default());
    let schemas = registry.tenant(tenant()).await.unwrap();
    let mut watched = Watched::over(tempfile::tempdir().unwrap(), schemas, clock).await;
    double.set(Writing::Full);
    watched.write("Order__e.avsc", &order(&[("A", "string")]));
    watched.look_twice().await;
    assert!(watched.refusals().contains("the disk is full"));
    double.set(Writing::Good);
    watched.watch.look().await;
    assert_eq!(watched.refusals(), "");
    assert_eq!(watched.fields(TOPIC).unwrap(), ["A__c"]);
}
