//! Thousands of tenants with a few events each: what they cost while they are used, and afterwards.

use std::{
    fs,
    io::{Read, Write},
    net::TcpStream,
    sync::Arc,
    time::Instant,
};

use futures_util::{StreamExt, stream};
use tidegate::{
    auth::token::TokenStore,
    clock::{Clock, SystemClock},
    metadata::{
        Change, EmbeddedStore, Expected, MemoryStore, MetadataStore, Scope, Table,
        records::{self, TenantRecord},
    },
    schema::{
        Schema,
        registry::{Registering, Registry, Rules},
    },
    types::{Grants, TenantId},
};

use crate::support::{
    client::{Call, Client},
    gateway::{Gateway, Settings},
    order::{self, TOPIC},
    wait,
    wire::{FetchRequest, PublishRequest},
};

/// Tenants of the test when nothing else is asked for.
const TENANTS: usize = 500;
/// The environment variable that asks for another number of tenants.
const TENANTS_VARIABLE: &str = "TIDEGATE_TEST_TENANTS";
/// Tenants in use at once.
const ACTIVE: usize = 50;
/// Events of each tenant.
const EVENTS: usize = 3;
/// Calls under way at once where all tenants are gone through.
const CALLS: usize = 16;

/// What is set for the gateway: a quiet tenant is to be closed while the test waits for it.
const TENANT_IDLE: &str = "500ms";
const TENANTS_OPEN_MAX: &str = "100";
/// Files that may be open besides those of the process at its start: each open tenant's log, the
/// logs that wait to be closed (64), metadata (16), reads, openings and connections.
const FILES_MAX: usize = 100 + 64 + 16 + 50;
/// Threads that may be added: the runtime's blocking threads, for as many metadata calls, reads and
/// openings as are let in, and as many again that are about to be free when the next are let in.
const THREADS_MAX: usize = 2 * (4 + 16 + 4);
/// Memory that may be added, in KiB, with all caches and the allocator's reserve.
const MEMORY_MAX: usize = 64 * 1024;

/// One tenant and how to call as it.
struct Tenant {
    id: TenantId,
    token: String,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_quiet_tenant_costs_nothing_but_its_files() {
    let count = std::env::var(TENANTS_VARIABLE).map_or(TENANTS, |text| {
        text.parse()
            .unwrap_or_else(|_| panic!("{TENANTS_VARIABLE} is a number, not {text}"))
    });
    let mut gateway = Gateway::start_with(Settings {
        environment: vec![
            ("TIDEGATE_BROKER__TENANT_IDLE", TENANT_IDLE),
            ("TIDEGATE_BROKER__TENANTS_OPEN_MAX", TENANTS_OPEN_MAX),
        ],
        ..Settings::default()
    });
    let own_tenant = gateway.ready().tenant_id.clone();
    gateway.terminate();
    assert!(gateway.wait_for_end().success());
    let tenants = step("make the tenants", make_tenants(&gateway, count)).await;

    step("start", async { gateway.restart() }).await;
    assert_eq!(gateway.ready().tenant_id, own_tenant, "the oldest");
    let client = Client::connect(&gateway).await;
    let start = wait::until("quiet gateway", || {
        let usage = Usage::of(&gateway);
        (usage.tenants_open == 0).then_some(usage)
    });
    println!("at the start: {start:?}");

    let active = &tenants[..ACTIVE.min(count)];
    let live = step("use some at once", use_at_once(&gateway, &client, active)).await;
    let used = Usage::of(&gateway);
    println!("with {} active: {used:?}", active.len());
    assert_eq!(used.tenants_open, active.len());
    start.expect_within_bounds(&used);

    let mut most = used;
    step("publish to all", async {
        let mut published = stream::iter(&tenants)
            .map(|tenant| publish(&client, tenant))
            .buffer_unordered(CALLS);
        let mut number = 0;
        while published.next().await.is_some() {
            number += 1;
            if number % 50 == 0 {
                most = most.max(Usage::of(&gateway));
            }
        }
    })
    .await;
    println!("while all were used, at most: {most:?}");
    start.expect_within_bounds(&most);
    for mut call in live {
        // Its own tenant stayed open, and got what was published just now.
        assert_eq!(call.fetch(EVENTS).await.len(), EVENTS);
    }

    let quiet = expect_quiet(&gateway, &start);
    println!("quiet again: {quiet:?}");

    step("read from all", async {
        let read = stream::iter(&tenants)
            .map(|tenant| read(&client, tenant))
            .buffer_unordered(CALLS);
        read.for_each(async |()| ()).await;
    })
    .await;
    let quiet = expect_quiet(&gateway, &start);
    println!("quiet at the end: {quiet:?}");
    assert!(
        !gateway.log().contains("recovered a segment"),
        "each was closed cleanly"
    );
}

/// Runs a step, and tells how long it took.
async fn step<T>(name: &str, work: impl Future<Output = T>) -> T {
    let begun = Instant::now();
    let done = work.await;
    println!("{name}: {:?}", begun.elapsed());
    done
}

/// Makes tenants in the data directory of a gateway that does not run: each with a token and a topic.
async fn make_tenants(gateway: &Gateway, count: usize) -> Vec<Tenant> {
    // Made in memory first, so that each tenant takes one write to the disk and not several.
    let memory: Arc<dyn MetadataStore> = Arc::new(MemoryStore::default());
    let disk = EmbeddedStore::new(gateway.data_dir());
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let tokens = TokenStore::open(Arc::clone(&memory), Arc::clone(&clock)).await;
    let tokens = tokens.expect("an empty store can be read");
    let registry = Registry::new(Arc::clone(&memory), Arc::clone(&clock), Rules::default());
    let schema = include_str!("../../../schemas/OrderCreated__e.avsc");
    let schema = Schema::parse(schema).expect("the sample is a schema");

    let make = async |number: usize| {
        let id: TenantId = format!("00D{number:012}").parse().expect("a tenant id");
        let schemas = registry.tenant(id).await.expect("an empty tenant");
        let registering = Registering::new(&schema, "test");
        schemas.register(registering).await.expect("a new topic");
        let grants = Grants::every_topic();
        let (_, token) = tokens
            .create(id, "test", grants, None)
            .await
            .expect("a token");
        let scope = Scope::Tenant(id);
        let mut changes = Vec::new();
        for table in Table::ALL {
            let entries = memory.list(scope, table).await.expect("readable");
            changes.extend(entries.into_iter().map(|entry| Change {
                table,
                key: entry.key,
                expected: Expected::Absent,
                value: Some(entry.value),
            }));
        }
        disk.write(scope, changes).await.expect("writable");
        let token = token.expose().to_owned();
        Tenant { id, token }
    };
    let made = stream::iter(0..count).map(make).buffer_unordered(CALLS);
    let tenants: Vec<Tenant> = made.collect().await;

    let record = |tenant: &Tenant| TenantRecord {
        id: tenant.id.to_string(),
        created_at_ms: clock.now().as_millis(),
    };
    let records = tenants.iter().map(record);
    let changes = records.map(|record| records::change(&record, Expected::Absent));
    let written = disk.write(Scope::Server, changes.collect()).await;
    written.expect("the tenants are stored");
    tenants
}

/// Subscribes to what comes in each of `tenants`, and publishes to them.
async fn use_at_once(gateway: &Gateway, client: &Client, tenants: &[Tenant]) -> Vec<Call> {
    let mut live = Vec::new();
    for tenant in tenants {
        let client = client_of(client, tenant);
        let mut call = client.subscribe(&FetchRequest::latest(TOPIC, 100)).await;
        call.headers().await;
        live.push(call);
    }
    let series = format!("tidegate_broker_subscriptions{{topic=\"{TOPIC}\"}}");
    wait::until("begin of every subscription", || {
        (value_of(&scrape(gateway), &series) == live.len()).then_some(())
    });
    live
}

async fn publish(client: &Client, tenant: &Tenant) {
    let request = PublishRequest::new(TOPIC, order::events(0..EVENTS));
    let response = client_of(client, tenant).publish(&request).await.unwrap();
    let refused = response.results.iter().filter(|r| r.error.is_some());
    assert_eq!(refused.count(), 0);
}

/// Reads what was published to `tenant`, all of it and in its order.
async fn read(client: &Client, tenant: &Tenant) {
    let first = FetchRequest::earliest(TOPIC, EVENTS as i32);
    let mut call = client_of(client, tenant).subscribe(&first).await;
    let events = call.fetch(EVENTS).await;
    let ids = events.iter().map(|event| &event.event.as_ref().unwrap().id);
    let wanted = order::events(0..EVENTS);
    assert!(
        ids.eq(wanted.iter().map(|event| &event.id)),
        "{}",
        tenant.id
    );
    call.half_close();
    call.end().await.unwrap();
}

fn client_of(client: &Client, tenant: &Tenant) -> Client {
    let client = client.with("tenantid", tenant.id.as_str());
    client.with("accesstoken", &tenant.token)
}

/// Waits until the gateway has let go of every tenant, and holds it to what that is to give back.
fn expect_quiet(gateway: &Gateway, start: &Usage) -> Usage {
    let quiet = wait::until("end of all use", || {
        let usage = Usage::of(gateway);
        let is_quiet = usage.tenants_open == 0 && usage.files <= start.files;
        is_quiet.then_some(usage)
    });
    start.expect_within_bounds(&quiet);
    quiet
}

/// What a gateway uses.
#[derive(Clone, Copy, Debug)]
struct Usage {
    files: usize,
    threads: usize,
    /// Memory that is in RAM, in KiB.
    memory: usize,
    tenants_open: usize,
}

impl Usage {
    fn of(gateway: &Gateway) -> Self {
        let process = format!("/proc/{}", gateway.ready().pid);
        let files = fs::read_dir(format!("{process}/fd")).expect("the process runs");
        let status = fs::read_to_string(format!("{process}/status")).expect("the process runs");
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            let number = line.and_then(|line| line.split_whitespace().next());
            number
                .and_then(|number| number.parse().ok())
                .expect("a number")
        };
        Self {
            files: files.count(),
            threads: field("Threads:"),
            memory: field("VmRSS:"),
            tenants_open: value_of(&scrape(gateway), "tidegate_broker_open_tenants"),
        }
    }

    fn max(self, other: Self) -> Self {
        Self {
            files: self.files.max(other.files),
            threads: self.threads.max(other.threads),
            memory: self.memory.max(other.memory),
            tenants_open: self.tenants_open.max(other.tenants_open),
        }
    }

    /// Holds what is used later to what may be added to this.
    #[track_caller]
    fn expect_within_bounds(&self, later: &Self) {
        assert!(later.files <= self.files + FILES_MAX, "{later:?}");
        assert!(later.threads <= self.threads + THREADS_MAX, "{later:?}");
        assert!(later.memory <= self.memory + MEMORY_MAX, "{later:?}");
    }
}

/// What `/metrics` answers.
fn scrape(gateway: &Gateway) -> String {
    let mut tcp = TcpStream::connect(&gateway.ready().http_addr).expect("the gateway accepts");
    let request = "GET /metrics HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
    tcp.write_all(request.as_bytes())
        .expect("the gateway reads");
    let mut answer = String::new();
    tcp.read_to_string(&mut answer)
        .expect("the gateway answers");
    answer
}

/// The value of a metric, whose line without the value is `series`; zero if it is not there.
fn value_of(metrics: &str, series: &str) -> usize {
    let mut lines = metrics.lines().filter_map(|line| line.rsplit_once(' '));
    let line = lines.find(|(name, _)| *name == series);
    line.map_or(0, |(_, value)| value.parse().expect("a number"))
}
