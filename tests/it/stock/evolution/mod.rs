//! An event type goes through five versions while programs of three languages publish and subscribe.
//!
//! Each publisher is a `tidegate publish` that was started with another version and goes on with it, as
//! programs do that nobody restarts. The subscribers are there from the start, and decode every event by
//! its own schema id.

mod publishers;
mod subscribers;
mod versions;

use std::{
    collections::BTreeSet,
    fs,
    path::Path,
    sync::{
        Arc,
        mpsc::{self, Sender},
    },
    thread::{self, JoinHandle},
};

use serde_json::{Value, json};
use tokio::runtime::Runtime;

use crate::support::{
    client::Client,
    gateway::{Gateway, Place, Settings},
    script::{Event, Language, Stock},
    wait::{self, DEADLINE},
    wire::{TopicInfo, TopicRequest},
};
use publishers::{Order, Publisher, Sent, publish_in_turns};
use subscribers::Subscriber;
use versions::{VERSIONS, schema, schema_id};

const TOPIC: &str = "/event/Shipment__e";
/// Events that every subscriber gets of every publisher before the next thing happens.
const EVENTS_BETWEEN: usize = 20;

/// The gateway, and everybody who uses it.
struct Scene {
    gateway: Gateway,
    place: Place,
    runtime: Runtime,
    client: Client,
    subscribers: [Subscriber; 2],
    orders: Sender<Order>,
    publishing: JoinHandle<Vec<Sent>>,
}

impl Scene {
    /// Begins with the first version, from a file, one publisher and both subscribers.
    fn open(dir: &Path) -> Self {
        let place = Place {
            data_dir: dir.join("data"),
            schemas_dir: dir.join("schemas"),
        };
        fs::create_dir(&place.schemas_dir).unwrap();
        fs::write(place.schemas_dir.join("Shipment__e.avsc"), schema(1)).unwrap();
        let gateway = Gateway::start_at(place.clone(), Settings::default());
        let runtime = Runtime::new().unwrap();
        let client = runtime.block_on(Client::connect(&gateway));
        let subscribers = [
            Stock::tls(Language::Python),
            Stock::plaintext(Language::Node),
        ];
        let subscribers = subscribers.map(|stock| Subscriber::start(&gateway, stock));
        let (orders, receiver) = mpsc::channel();
        let events = subscribers.each_ref().map(|it| Arc::clone(&it.events));
        let publishing = thread::spawn(move || publish_in_turns(&receiver, &events));
        Self {
            gateway,
            place,
            runtime,
            client,
            subscribers,
            orders,
            publishing,
        }
    }

    /// The topic's schema id, as every client is told it.
    fn current_id(&self) -> String {
        let request = TopicRequest {
            topic_name: TOPIC.to_owned(),
        };
        let asked = self.client.unary::<TopicInfo>("GetTopic", &request);
        self.runtime.block_on(asked).unwrap().schema_id
    }

    /// Registers a version by the admin service. It is the current one when the command returns.
    fn register(&self, version: usize) {
        let file = self.place.data_dir.with_file_name("registered.avsc");
        fs::write(&file, schema(version)).unwrap();
        let row = self.schema_command(&format!("register {}", file.display()));
        assert_eq!(
            (&row["refused"], &row["schema_id"], &row["version"]),
            (&json!(false), &json!(schema_id(version)), &json!(version))
        );
    }

    /// Replaces the file in the watched directory in one step, and waits until that was seen.
    fn replace_file(&self, version: usize) {
        let draft = self.place.data_dir.with_file_name("draft");
        fs::write(&draft, schema(version)).unwrap();
        fs::rename(draft, self.place.schemas_dir.join("Shipment__e.avsc")).unwrap();
        let (old, new) = (schema_id(version - 1), schema_id(version));
        wait::until("version of a file", || {
            let current = self.current_id();
            assert!([&old, &new].contains(&&current), "{current}");
            (current == new).then_some(())
        });
    }

    /// The one line of JSON that `tidegate schema` prints with these arguments.
    fn schema_command(&self, arguments: &str) -> Value {
        let arguments = format!("schema {arguments} --output json");
        let output = self.gateway.command(&arguments).output().unwrap();
        assert!(output.status.success(), "{arguments}: {output:?}");
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// Has one more publish, with the version that is current now.
    fn join(&self, version: usize) {
        let publisher = Publisher::start(&self.gateway, version);
        self.orders.send(Order::Join(publisher)).unwrap();
    }

    /// Waits until every subscriber has got some more events of each of these versions.
    fn wait_for_events_of(&self, versions: impl IntoIterator<Item = usize> + Clone) {
        for subscriber in &self.subscribers {
            for version in versions.clone() {
                let before = subscriber.count_of(version);
                wait::until("events of each version", || {
                    (subscriber.count_of(version) >= before + EVENTS_BETWEEN).then_some(())
                });
            }
        }
    }
}

#[test]
fn five_versions_go_by_and_every_subscriber_reads_each_event_as_it_was_written() {
    let dir = tempfile::tempdir().unwrap();
    let scene = Scene::open(dir.path());
    for version in 1..=VERSIONS {
        match version {
            // It was there before.
            1 => {}
            2 | 4 => scene.register(version),
            _ => scene.replace_file(version),
        }
        assert_eq!(scene.current_id(), schema_id(version));
        scene.join(version);
        scene.wait_for_events_of(1..=version);
    }

    let (reply, left) = mpsc::channel();
    scene.orders.send(Order::Leave(1, reply)).unwrap();
    let mut old = left.recv_timeout(DEADLINE).expect("the first publisher");
    let retired = scene.schema_command(&format!("retire {} --yes", schema_id(1)));
    assert!(retired["retired_at"].is_string(), "{retired}");
    assert_eq!(scene.current_id(), schema_id(VERSIONS));
    for (result, _) in old.publish(&[("late".to_owned(), 0)]) {
        let reason = result["error"].to_string();
        assert!(
            reason.contains("retired") && reason.contains(&schema_id(VERSIONS)),
            "{reason}"
        );
    }
    // The others go on.
    scene.wait_for_events_of(2..=VERSIONS);
    scene.orders.send(Order::End).unwrap();
    let published = scene.publishing.join().expect("every event is accepted");

    // Replay ids compare like the positions they are.
    assert!(published.is_sorted_by(|a, b| a.replay_id < b.replay_id));
    let mut of_newest = published.split(|sent| sent.schema_id == schema_id(VERSIONS));
    _ = of_newest.next();
    let beside_newest = of_newest.flatten();
    let versions: BTreeSet<_> = beside_newest.map(|sent| &*sent.schema_id).collect();
    assert_eq!(
        versions.len(),
        VERSIONS - 1,
        "all are written beside the newest"
    );
    for subscriber in scene.subscribers {
        let stock = subscriber.stock;
        expect(stock, subscriber.events_to_last(), &published);
        // One that comes now reads events of the retired version like all others.
        let again = stock.read(&scene.gateway, TOPIC, published.len());
        expect(stock, again, &published);
    }
}

/// Holds `events` to be those that were published, in order, each with the fields of its own version.
#[track_caller]
fn expect(stock: Stock, events: Vec<Event>, published: &[Sent]) {
    assert_eq!(events.len(), published.len(), "{stock:?}");
    for (event, sent) in events.into_iter().zip(published) {
        assert_eq!(Sent::from(event), *sent, "{stock:?}");
    }
}
