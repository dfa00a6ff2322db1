//! Four streams that share a managed subscription. One after another is killed, and the gateway too,
//! while all of them handle and commit; what they have handled is in one ledger.
//!
//! A consumer is made to handle nothing more just before it or the gateway is killed: what it would
//! still handle of what it was sent is nothing that a gateway could prevent.

use std::{
    collections::{HashMap, HashSet},
    ops::Range,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use tokio::{
    sync::{RwLock, mpsc, watch},
    task::{JoinHandle, JoinSet, yield_now},
    time::{sleep, timeout},
};

use crate::support::{
    client::{Call, Client, NO_STATUS, code},
    gateway::Gateway,
    order::{self, SCHEMA_ID, TOPIC},
    random::Random,
    wait::within,
    wire::{
        ConsumerEvent, ManagedFetchRequest, ManagedFetchResponse, ProducerEvent, PublishRequest,
        PublishResponse,
    },
};

/// Events of the test when nothing else is asked for. A consumer is killed after some hundred of them.
const EVENTS: usize = 10_000;
/// Events that are handled between two kills of a consumer, at least and at most.
const BETWEEN_KILLS: Range<usize> = 400..700;
/// How often the gateway is killed.
const GATEWAY_KILLS: usize = 1;
/// The environment variable that asks for another number of events. A consumer is killed each second
/// then, or sooner, so that there are enough of them where everything is fast.
const EVENTS_VARIABLE: &str = "TIDEGATE_TEST_SHARING_EVENTS";
const BETWEEN_KILLS_LONG_MAX: Duration = Duration::from_secs(1);
const KILLS_LONG_MIN: usize = 40;
const GATEWAY_KILLS_LONG: usize = 4;
/// Keys of the events: more than there are slots, so that some have a slot in common.
const KEYS: usize = 200;
const NAME: &str = "Fulfilment";
/// How the consumers commit; there is one of each kind.
const CONSUMERS: [Commits; 4] = [
    Commits::EachResponse,
    Commits::InTheMiddle,
    Commits::EveryThird,
    Commits::EachEvent,
];
/// Events that a stream has asked for.
const CREDIT: i32 = 100;
/// A consumer that waits this long for events commits what it has handled.
const LINGER: Duration = Duration::from_millis(20);
/// How long an event takes in the middle of each response, which is longer than a commit mostly takes;
/// the others take no time.
const WORK: Duration = Duration::from_millis(10);

/// One event: its key, and its number among those of the key.
type Event = (usize, usize);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Commits {
    /// Its last event.
    EachResponse,
    /// The event in the middle of each response, and with it the rest of the one before.
    InTheMiddle,
    /// The last event of every third response.
    EveryThird,
    EachEvent,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn shared_events_are_handled_in_order_and_never_after_their_commit() {
    let asked = std::env::var(EVENTS_VARIABLE).ok().map(|text| {
        text.parse()
            .unwrap_or_else(|_| panic!("{EVENTS_VARIABLE} is a number, not {text}"))
    });
    let (events, gateway_kills) = match asked {
        Some(events) => (events, GATEWAY_KILLS_LONG),
        None => (EVENTS, GATEWAY_KILLS),
    };
    let run = Run::start();
    let publisher = tokio::spawn(Publisher::new(Arc::clone(&run)).publish(events));
    let mut consumers: Vec<_> = (0..CONSUMERS.len())
        .map(|number| Consumer::start(&run, number))
        .collect();

    let mut random = Random::new(64);
    let (mut killed, mut gateway_killed) = (0, 0);
    loop {
        let handled = run.handled();
        let pause = match asked {
            Some(events) => events / KILLS_LONG_MIN,
            None => BETWEEN_KILLS.start + random.below(BETWEEN_KILLS.len()),
        };
        if handled + pause >= events {
            break;
        }
        let all = run.until_handled(handled + pause);
        match asked {
            Some(_) => {
                _ = timeout(BETWEEN_KILLS_LONG_MAX, all).await;
                run.until_handled(handled + 1).await;
            }
            None => all.await,
        }
        if handled >= events / (gateway_kills + 1) * (gateway_killed + 1) {
            run.kill_gateway().await;
            gateway_killed += 1;
        } else {
            let consumer = consumers.swap_remove(random.below(consumers.len()));
            let number = consumer.number;
            consumer.kill().await;
            consumers.push(Consumer::start(&run, number));
            killed += 1;
        }
    }
    // What is published after the last kill is handled and its commits are answered, and with it
    // whatever there was of its slots before.
    let mut publisher = publisher.await.expect("the publisher does not fail");
    let closing = publisher.publish_one_of_each_key().await;
    run.until("answers to the last commits", |ledger| {
        closing
            .iter()
            .all(|event| ledger.committed.contains_key(event))
    })
    .await;
    for consumer in consumers {
        consumer.kill().await;
    }
    let summary = run.ledger().check(&publisher.acknowledged);
    println!("{summary}; consumers were killed {killed} times, the gateway {gateway_killed}");
    assert_eq!(gateway_killed, gateway_kills);

    run.kill_gateway().await;
    expect_nothing_but_new(&run, &mut publisher).await;
}

/// What all parts of the test have in common.
struct Run {
    /// Whoever connects has it for reading, whoever kills it for writing.
    gateway: RwLock<Gateway>,
    ledger: Mutex<Ledger>,
    /// How many different events are handled; told of every commit too.
    progress: watch::Sender<usize>,
}

impl Run {
    fn start() -> Arc<Self> {
        let gateway = Gateway::start();
        let arguments = format!(
            "managed create {NAME} --topic {TOPIC} --default-replay earliest --sharing {} \
             --key Order_Number__c",
            CONSUMERS.len()
        );
        let made = gateway.command(&arguments).output();
        let made = made.expect("the program can be run");
        assert!(made.status.success(), "{made:?}");
        Arc::new(Self {
            gateway: RwLock::new(gateway),
            ledger: Mutex::default(),
            progress: watch::Sender::new(0),
        })
    }

    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().expect(NO_PANIC)
    }

    fn handled(&self) -> usize {
        *self.progress.borrow()
    }

    async fn until_handled(&self, count: usize) {
        let what = format!("{count} handled events");
        let mut progress = self.progress.subscribe();
        let reached = progress.wait_for(|&handled| handled >= count);
        within(&what, reached).await.expect("the sender is here");
    }

    async fn until(&self, what: &str, condition: impl Fn(&Ledger) -> bool) {
        let mut progress = self.progress.subscribe();
        let reached = progress.wait_for(|_| condition(&self.ledger()));
        within(what, reached).await.expect("the sender is here");
    }

    /// Changes the ledger, and tells that it has changed.
    fn note<T>(&self, change: impl FnOnce(&mut Ledger) -> T) -> T {
        let (outcome, handled) = {
            let mut ledger = self.ledger();
            (change(&mut ledger), ledger.first_at.len())
        };
        // Whoever waits looks into the ledger, which is free again.
        self.progress
            .send_modify(|known| *known = handled.max(*known));
        outcome
    }

    async fn kill_gateway(&self) {
        let mut gateway = self.gateway.write().await;
        self.ledger().end(|_| true);
        gateway.kill_and_restart();
    }
}

/// What was handled, in the order in which that began. Its length is the clock of the test.
#[derive(Default)]
struct Ledger {
    entries: Vec<Entry>,
    streams: Vec<Stream>,
    /// When each event was handled for the first time.
    first_at: HashMap<Event, usize>,
    /// When the answer to the first commit of each event came.
    committed: HashMap<Event, usize>,
    /// By key, the stream that handled the last event of it, and which one of the stream that was.
    last_of_key: HashMap<usize, (usize, usize)>,
    /// Events that came to a stream while another one had events of the key that it was not done with.
    intrusions: Vec<String>,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    event: Event,
    stream: usize,
}

/// One connection of a consumer, with the one stream that it gets.
#[derive(Debug)]
struct Stream {
    consumer: usize,
    /// Handled, in the order of delivery.
    events: Vec<Event>,
    /// How many of them are committed, answered or not.
    asked: usize,
    /// How many of them are committed for certain.
    answered: usize,
    /// Whether it may handle any more.
    is_live: bool,
}

impl Ledger {
    /// Begins a stream, and returns its number.
    fn begin(&mut self, consumer: usize) -> usize {
        self.streams.push(Stream {
            consumer,
            events: Vec::new(),
            asked: 0,
            answered: 0,
            is_live: true,
        });
        self.streams.len() - 1
    }

    /// Has the streams of these consumers handle nothing any more.
    fn end(&mut self, is_meant: impl Fn(usize) -> bool) {
        for stream in &mut self.streams {
            stream.is_live &= !is_meant(stream.consumer);
        }
    }

    /// Handles an event, unless the stream has ended; false then.
    fn handle(&mut self, stream: usize, event: Event) -> bool {
        if !self.streams[stream].is_live {
            return false;
        }
        let ordinal = self.streams[stream].events.len();
        if let Some((other, last)) = self.last_of_key.insert(event.0, (stream, ordinal))
            && other != stream
        {
            let other_stream = &self.streams[other];
            if other_stream.is_live && other_stream.asked <= last {
                self.intrusions.push(format!(
                    "{event:?} came to stream {stream} while stream {other} had {:?} uncommitted",
                    other_stream.events[last]
                ));
            }
        }
        let now = self.entries.len();
        self.first_at.entry(event).or_insert(now);
        self.streams[stream].events.push(event);
        self.entries.push(Entry { event, stream });
        true
    }

    /// Commits what the stream has handled, and returns how many events these are.
    fn ask(&mut self, stream: usize) -> usize {
        let stream = &mut self.streams[stream];
        stream.asked = stream.events.len();
        stream.asked
    }

    /// Notes that so many events of the stream are committed.
    fn answer(&mut self, stream: usize, count: usize) {
        let now = self.entries.len();
        let stream = &mut self.streams[stream];
        assert!(
            (stream.answered..=stream.asked).contains(&count),
            "an answer to {count} of {} commits, after one to {}",
            stream.asked,
            stream.answered
        );
        for &event in &stream.events[stream.answered..count] {
            self.committed.entry(event).or_insert(now);
        }
        stream.answered = count;
    }

    /// Holds it to what is promised, and says in a line what there was.
    fn check(&self, acknowledged: &[Event]) -> String {
        let lost: Vec<_> = acknowledged
            .iter()
            .filter(|event| !self.first_at.contains_key(event))
            .collect();
        assert!(lost.is_empty(), "acknowledged and never handled: {lost:?}");

        let mut last_of_key = HashMap::new();
        for (at, entry) in self.entries.iter().enumerate() {
            let (key, number) = entry.event;
            if self.first_at[&entry.event] == at {
                let before = last_of_key.insert(key, number);
                assert!(
                    before.is_none_or(|before| before < number),
                    "{:?} was first handled after {before:?} of its key, by {}",
                    entry.event,
                    self.describe(entry.stream)
                );
            }
            if let Some(committed) = self.committed.get(&entry.event) {
                assert!(
                    at < *committed,
                    "{:?} was handled at {at} by {}, and its commit was answered at {committed}: {}",
                    entry.event,
                    self.describe(entry.stream),
                    self.history(entry.event)
                );
            }
        }
        for (number, stream) in self.streams.iter().enumerate() {
            let mut last_of_key = HashMap::new();
            for &(key, of_key) in &stream.events {
                let before = last_of_key.insert(key, of_key);
                assert!(
                    before.is_none_or(|before| before < of_key),
                    "{:?} came after {before:?} of its key to {}",
                    (key, of_key),
                    self.describe(number)
                );
            }
        }
        assert!(self.intrusions.is_empty(), "{:#?}", self.intrusions);
        let mut of_consumers = [0; CONSUMERS.len()];
        for entry in &self.entries {
            of_consumers[self.streams[entry.stream].consumer] += 1;
        }
        assert!(!of_consumers.contains(&0), "{of_consumers:?}");

        let repeats = self.entries.len() - self.first_at.len();
        format!(
            "{} events, {of_consumers:?} by consumer, on {} streams, {repeats} repeated",
            self.first_at.len(),
            self.streams.len()
        )
    }

    fn describe(&self, stream: usize) -> String {
        let consumer = self.streams[stream].consumer;
        format!("stream {stream} of consumer {consumer}")
    }

    /// When and on which streams an event was handled.
    fn history(&self, event: Event) -> String {
        let numbered = self.entries.iter().enumerate();
        let handled = numbered.filter(|(_, entry)| entry.event == event);
        let handled = handled.map(|(at, entry)| format!("{at} by {}", self.describe(entry.stream)));
        handled.collect::<Vec<_>>().join(", ")
    }
}

/// Publishes events of random keys, those of each key numbered from 0 on.
struct Publisher {
    run: Arc<Run>,
    random: Random,
    /// By key, the number of its next event.
    next: [usize; KEYS],
    acknowledged: Vec<Event>,
}

impl Publisher {
    fn new(run: Arc<Run>) -> Self {
        Self {
            run,
            random: Random::new(65),
            next: [0; KEYS],
            acknowledged: Vec::new(),
        }
    }

    /// Publishes until so many events are acknowledged. What is not, when the gateway is killed, may be
    /// there or not, and is not sent again.
    async fn publish(mut self, count: usize) -> Self {
        // How far the consumers may be behind: sometimes they wait for events, sometimes they do not.
        const LEADS: [usize; 3] = [50, 500, 3_000];
        const BATCHES_OF_LEAD: usize = 20;
        const BATCH_MAX: usize = 60;
        let mut client = self.connect().await;
        for batch in 0.. {
            if self.acknowledged.len() >= count {
                break;
            }
            let lead = LEADS[batch / BATCHES_OF_LEAD % LEADS.len()];
            let enough = self.acknowledged.len().saturating_sub(lead);
            self.run.until_handled(enough).await;
            let size = 1 + self.random.below(BATCH_MAX);
            let keys = (0..size).map(|_| self.random.below(KEYS)).collect();
            if !self.publish_batch(&client, keys).await {
                client = self.connect().await;
            }
        }
        self
    }

    /// Publishes one more event of each key, and returns them.
    async fn publish_one_of_each_key(&mut self) -> Vec<Event> {
        let client = self.connect().await;
        let before = self.acknowledged.len();
        for half in [0..KEYS / 2, KEYS / 2..KEYS] {
            assert!(self.publish_batch(&client, half.collect()).await);
        }
        self.acknowledged[before..].to_vec()
    }

    async fn connect(&self) -> Client {
        let gateway = self.run.gateway.read().await;
        Client::connect(&gateway).await
    }

    /// Publishes events of these keys; false if the gateway was killed before it answered.
    async fn publish_batch(&mut self, client: &Client, keys: Vec<usize>) -> bool {
        let events: Vec<Event> = keys
            .into_iter()
            .map(|key| {
                self.next[key] += 1;
                (key, self.next[key] - 1)
            })
            .collect();
        let path = "/eventbus.v1.PubSub/Publish";
        let Ok(mut call) = client.try_call_path(path).await else {
            return false;
        };
        let batch = events.iter().copied().map(producer_event).collect();
        call.send(&PublishRequest::new(TOPIC, batch));
        call.half_close();
        match call.next::<PublishResponse>().await {
            Ok(response) => {
                let results = response.expect("a call that is OK has a response").results;
                assert_eq!(results.len(), events.len());
                assert!(results.iter().all(|result| result.error.is_none()));
                self.acknowledged.extend(events);
                true
            }
            Err(failure) => {
                assert_eq!(failure.code, NO_STATUS, "{failure:?}");
                false
            }
        }
    }
}

fn producer_event((key, number): Event) -> ProducerEvent {
    ProducerEvent {
        id: format!("{key}-{number}"),
        schema_id: SCHEMA_ID.to_owned(),
        payload: order::named_payload(&key.to_string(), number as f64),
        headers: Vec::new(),
    }
}

fn event_of(event: &ConsumerEvent) -> Event {
    let body = event.event.as_ref().expect("an event has a body");
    let (key, number) = order::name_and_amount(&body.payload);
    (key.parse().expect("a key is a number"), number as usize)
}

/// A consumer at work, which connects again whenever the gateway is killed.
struct Consumer {
    number: usize,
    run: Arc<Run>,
    /// The connection that it has.
    connection: Arc<Mutex<Option<Client>>>,
    task: JoinHandle<()>,
}

impl Consumer {
    fn start(run: &Arc<Run>, number: usize) -> Self {
        let connection = Arc::default();
        let consuming = Consuming {
            number,
            run: Arc::clone(run),
            connection: Arc::clone(&connection),
        };
        Self {
            number,
            run: Arc::clone(run),
            connection,
            task: tokio::spawn(consuming.run_on()),
        }
    }

    /// Ends it wherever it is, and its connection without a word.
    async fn kill(self) {
        let is_meant = |consumer| consumer == self.number;
        self.run.ledger().end(is_meant);
        let connection = self.connection.lock().expect(NO_PANIC).take();
        if let Some(client) = connection {
            client.cut();
        }
        self.task.abort();
        match self.task.await {
            Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
            _ => {}
        }
        // It may have begun to connect again.
        self.run.ledger().end(is_meant);
    }
}

/// What a consumer does.
struct Consuming {
    number: usize,
    run: Arc<Run>,
    connection: Arc<Mutex<Option<Client>>>,
}

impl Consuming {
    async fn run_on(self) {
        loop {
            let (client, stream) = self.connect().await;
            let reader = Reader {
                run: &self.run,
                commits: CONSUMERS[self.number],
                stream,
                responses: 0,
                handled: None,
            };
            reader.read_until_the_gateway_is_killed(&client).await;
        }
    }

    async fn connect(&self) -> (Client, usize) {
        let gateway = self.run.gateway.read().await;
        let client = Client::connect(&gateway).await;
        let connection = Some(client.clone());
        *self.connection.lock().expect(NO_PANIC) = connection;
        // As long as the gateway cannot be killed, or it would not be ended then.
        let stream = self.run.ledger().begin(self.number);
        (client, stream)
    }
}

/// One stream of a consumer.
struct Reader<'a> {
    run: &'a Run,
    commits: Commits,
    stream: usize,
    /// Responses with events so far.
    responses: usize,
    /// The last event that is handled, until it is committed.
    handled: Option<Vec<u8>>,
}

impl Reader<'_> {
    async fn read_until_the_gateway_is_killed(mut self, client: &Client) {
        let Some(mut call) = open(client).await else {
            return;
        };
        loop {
            let next = timeout(LINGER, call.next::<ManagedFetchResponse>()).await;
            let response = match next {
                Err(_) => {
                    self.commit(&mut call);
                    continue;
                }
                Ok(Ok(response)) => response.expect("the gateway does not end the stream"),
                // The place of a connection that was cut is not free yet.
                Ok(Err(failure)) if failure.code == code::ALREADY_EXISTS => {
                    assert_eq!(self.responses, 0, "{failure:?}");
                    let Some(again) = open(client).await else {
                        return;
                    };
                    call = again;
                    continue;
                }
                Ok(Err(failure)) => {
                    assert_eq!(failure.code, NO_STATUS, "{failure:?}");
                    return;
                }
            };
            if let Some(answer) = response.commit_response {
                assert_eq!(answer.error, None, "what was sent can be committed");
                let count = answer.commit_request_id.parse();
                let count = count.expect("the id of a commit is as it was sent");
                self.run.note(|ledger| ledger.answer(self.stream, count));
            }
            if !response.events.is_empty() {
                self.handle(&mut call, &response.events).await;
            }
        }
    }

    /// Handles the events of a response, and asks for as many again.
    async fn handle(&mut self, call: &mut Call, events: &[ConsumerEvent]) {
        self.responses += 1;
        for (index, event) in events.iter().enumerate() {
            let number = event_of(event);
            let is_live = self.run.note(|ledger| ledger.handle(self.stream, number));
            if !is_live {
                return;
            }
            self.handled = Some(event.replay_id.clone());
            let is_last = index + 1 == events.len();
            let is_to_commit = match self.commits {
                Commits::EachResponse => is_last,
                Commits::InTheMiddle => index == events.len() / 2,
                Commits::EveryThird => is_last && self.responses.is_multiple_of(3),
                Commits::EachEvent => true,
            };
            if is_to_commit {
                self.commit(call);
            }
            // It may be killed between any two events, and most likely here: what it has committed in
            // the middle is stored meanwhile, and the rest is still to be handled.
            match index == events.len() / 2 {
                true => sleep(WORK).await,
                false => yield_now().await,
            }
        }
        call.send(&more(events.len()));
    }

    /// Commits what is handled, unless it is committed.
    fn commit(&mut self, call: &mut Call) {
        let Some(replay_id) = self.handled.take() else {
            return;
        };
        // Named by how many events it commits.
        let id = self.run.ledger().ask(self.stream).to_string();
        call.send(&ManagedFetchRequest::commit(&id, &replay_id, 0));
    }
}

/// Begins a stream, unless the connection has ended.
async fn open(client: &Client) -> Option<Call> {
    let path = "/eventbus.v1.PubSub/ManagedSubscribe";
    let mut call = client.try_call_path(path).await.ok()?;
    call.send(&ManagedFetchRequest::first(NAME, CREDIT));
    Some(call)
}

fn more(count: usize) -> ManagedFetchRequest {
    ManagedFetchRequest {
        num_requested: count as i32,
        ..ManagedFetchRequest::default()
    }
}

/// Holds streams that commit nothing to get what is published now and nothing from before, of which
/// all is committed. Of each slot older events would come first.
async fn expect_nothing_but_new(run: &Run, publisher: &mut Publisher) {
    let (sender, mut received) = mpsc::unbounded_channel();
    let mut streams = JoinSet::new();
    for _ in CONSUMERS {
        let client = publisher.connect().await;
        let mut call = open(&client).await.expect("the connection is open");
        let sender = sender.clone();
        streams.spawn(async move {
            while let Ok(Some(response)) = call.next::<ManagedFetchResponse>().await {
                for event in &response.events {
                    _ = sender.send(event_of(event));
                }
                if !response.events.is_empty() {
                    call.send(&more(response.events.len()));
                }
            }
            drop(client);
        });
    }
    let new = publisher.publish_one_of_each_key().await;
    let mut new: HashSet<Event> = new.into_iter().collect();
    while !new.is_empty() {
        let event = within("new event", received.recv()).await;
        let event = event.expect("there are streams");
        assert!(
            new.remove(&event),
            "{event:?} came though all was committed: {}",
            run.ledger().history(event)
        );
    }
}

const NO_PANIC: &str = "nobody panics with it";
