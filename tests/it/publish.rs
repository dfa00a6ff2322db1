//! `tidegate publish` of whole files while processes are killed: what of them is stored, and under
//! which ids.

use std::{
    collections::{HashMap, HashSet},
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use serde_json::Value;

use crate::support::{
    gateway::Gateway,
    order::{SCHEMA_ID, TOPIC},
    wait,
};

/// Enough that a process is killed in their middle.
const ORDERS: usize = 50_000;

/// A gateway with a file of orders in its directory.
struct Shop {
    gateway: Gateway,
    orders: PathBuf,
}

impl Shop {
    fn open(orders: usize) -> Self {
        let gateway = Gateway::start();
        let path = gateway.dir().join("orders.ndjson");
        let lines: String = (0..orders)
            .map(|number| format!("{{\"Order_Number__c\": \"{}\"}}\n", order(number)))
            .collect();
        fs::write(&path, lines).unwrap();
        Self {
            gateway,
            orders: path,
        }
    }

    fn command(&self) -> Command {
        let mut command = self
            .gateway
            .command(&format!("publish {TOPIC} --output json"));
        command.arg("--file").arg(&self.orders);
        command
    }

    /// Begins to publish, with the results in a file of this name.
    fn begin(&self, results: &str) -> Child {
        let stdout = File::create(self.gateway.dir().join(results)).unwrap();
        let stderr = File::create(self.gateway.dir().join(format!("{results}.err"))).unwrap();
        let mut command = self.command();
        command.stdout(stdout).stderr(stderr);
        command.spawn().expect("the program can be run")
    }

    fn results(&self, results: &str) -> Vec<Value> {
        let text = fs::read_to_string(self.gateway.dir().join(results)).unwrap();
        // A process that is killed may leave half a line.
        let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
        let lines = whole.lines().map(serde_json::from_str);
        lines.collect::<Result<_, _>>().unwrap()
    }

    fn stderr(&self, results: &str) -> String {
        fs::read_to_string(self.gateway.dir().join(format!("{results}.err"))).unwrap()
    }

    fn resume_file(&self) -> PathBuf {
        let mut path = self.orders.clone().into_os_string();
        path.push(".tidegate-resume");
        path.into()
    }

    /// How many events the resume file says are settled.
    fn settled(&self) -> u64 {
        let text = fs::read(self.resume_file()).unwrap_or_default();
        let resume: Value = serde_json::from_slice(&text).unwrap_or_default();
        resume["settled"].as_u64().unwrap_or(0)
    }

    /// The number and id of every order that is stored, in order.
    fn stored(&self) -> Vec<(String, String)> {
        let rows = |arguments: &str| -> Vec<Value> {
            let output = self.gateway.command(arguments).output().unwrap();
            assert!(output.status.success(), "{output:?}");
            let text = String::from_utf8(output.stdout).unwrap();
            text.lines()
                .map(|line| serde_json::from_str(line).unwrap())
                .collect()
        };
        let described = rows(&format!("topic describe {TOPIC} --output json"));
        let count = &described[0]["retained_count"];
        let read = format!("subscribe {TOPIC} --from earliest --count {count} --output json");
        rows(&read)
            .iter()
            .map(|row| {
                let number = row["payload"]["Order_Number__c"].as_str().unwrap();
                (
                    number.to_owned(),
                    row["event_id"].as_str().unwrap().to_owned(),
                )
            })
            .collect()
    }
}

fn order(number: usize) -> String {
    format!("A-{number:06}")
}

/// Holds what is stored to have every order, in order but for those that are there again, and each
/// of them under one id. Returns how many are there again.
#[track_caller]
fn expect_all(stored: &[(String, String)], orders: usize) -> usize {
    let mut ids: HashMap<&str, &str> = HashMap::new();
    let (mut next, mut again) = (0, 0);
    for (number, id) in stored {
        match ids.insert(number, id) {
            None => {
                assert_eq!(*number, order(next), "the first of each comes in order");
                next += 1;
            }
            Some(earlier) => {
                assert_eq!(earlier, id, "{number} is there again under its id");
                again += 1;
            }
        }
    }
    assert_eq!(next, orders, "none is missing");
    let distinct: HashSet<_> = ids.values().collect();
    assert_eq!(distinct.len(), orders, "no two have the same id");
    again
}

fn expect_running(child: &mut Child) {
    let ended = child.try_wait().unwrap();
    assert!(ended.is_none(), "it ended before it was killed: {ended:?}");
}

#[test]
fn no_event_is_missing_when_the_gateway_is_killed_and_comes_back() {
    let mut shop = Shop::open(ORDERS);
    let mut publishing = shop.begin("results");
    let results = shop.gateway.dir().join("results");
    wait::until("results", || {
        expect_running(&mut publishing);
        (fs::metadata(&results).unwrap().len() > 100_000).then_some(())
    });
    shop.gateway.kill();
    expect_running(&mut publishing);
    shop.gateway.restart_in_place();
    let ended = wait::output("publish", publishing);
    assert!(ended.status.success(), "{}", shop.stderr("results"));

    let results = shop.results("results");
    assert_eq!(results.len(), ORDERS);
    let stored = shop.stored();
    expect_all(&stored, ORDERS);
    let ids: HashSet<&str> = stored.iter().map(|(_, id)| id.as_str()).collect();
    for result in &results {
        assert_eq!(result["error"], Value::Null);
        assert!(ids.contains(result["event_id"].as_str().unwrap()));
    }
    assert!(!shop.resume_file().exists());
}

#[test]
fn no_event_is_missing_when_the_publisher_is_killed_and_run_again() {
    let orders = 2 * ORDERS;
    let shop = Shop::open(orders);
    let mut publishing = shop.begin("first");
    let size = || {
        let results = shop.gateway.dir().join("first");
        fs::metadata(results).unwrap().len()
    };
    // Where publishing is so fast that nothing was noted yet, the second half is still to come.
    wait::until("progress", || {
        expect_running(&mut publishing);
        (shop.settled() > 0 || size() > 50 * orders as u64).then_some(())
    });
    publishing.kill().unwrap();
    publishing.wait().unwrap();
    let settled = shop.settled();
    let first = shop.results("first");
    assert!(
        first.len() as u64 >= settled,
        "results come before they are counted"
    );

    // And again, at a moment when next to nothing can have been noted.
    let mut publishing = shop.begin("second");
    wait::until("results", || {
        (!shop.results("second").is_empty()).then_some(())
    });
    publishing.kill().unwrap();
    publishing.wait().unwrap();

    let ended = wait::output("publish", shop.begin("third"));
    assert!(ended.status.success(), "{}", shop.stderr("third"));
    let third = shop.results("third");
    assert!(
        third.len() as u64 <= orders as u64 - settled,
        "it went on and did not begin"
    );
    expect_all(&shop.stored(), orders);
    let summary = shop.stderr("third");
    assert!(
        settled == 0 || summary.contains("events are settled; going on behind them"),
        "{summary}"
    );
    assert!(summary.contains("events in "), "{summary}");
    assert!(!shop.resume_file().exists());
}

#[test]
fn a_publisher_that_is_asked_to_end_leaves_nothing_in_doubt() {
    const FAILED: i32 = 1;
    let shop = Shop::open(ORDERS);
    let mut publishing = shop.begin("first");
    wait::until("results", || {
        expect_running(&mut publishing);
        (!shop.results("first").is_empty()).then_some(())
    });
    let id = publishing.id().to_string();
    let status = Command::new("kill").args(["-TERM", &id]).status().unwrap();
    assert!(status.success());
    let ended = wait::output("publish", publishing);
    let stderr = shop.stderr("first");
    assert_eq!(ended.status.code(), Some(FAILED), "{stderr}");
    assert!(stderr.contains("error: interrupted"), "{stderr}");
    assert_eq!(shop.settled(), shop.results("first").len() as u64);

    let ended = wait::output("publish", shop.begin("second"));
    assert!(ended.status.success(), "{}", shop.stderr("second"));
    let results = shop.results("first").len() + shop.results("second").len();
    assert_eq!(results, ORDERS);
    assert_eq!(expect_all(&shop.stored(), ORDERS), 0, "none is there again");
}

#[test]
fn a_resume_file_is_for_its_own_input() {
    const USAGE: i32 = 2;
    let shop = Shop::open(3);
    let other = shop.gateway.dir().join("other.ndjson");
    fs::write(&other, "{}\n").unwrap();
    let mut publishing = shop.begin("first");
    publishing.wait().unwrap();
    assert!(!shop.resume_file().exists(), "it was complete");

    // What a run leaves that was killed before its first event was settled.
    let named = shop.gateway.dir().join("named");
    let contents = serde_json::json!({
        "version": 1, "topic": TOPIC, "tenant_id": shop.gateway.ready().tenant_id,
        "input": {"bytes": 5, "modified_s": 0, "modified_ns": 0, "head_sha256": "", "tail_sha256": ""},
        "run_id": "00", "settled": 2,
    });
    fs::write(&named, contents.to_string()).unwrap();
    let run = |resume: &Path| {
        let mut command = shop.command();
        command.arg("--resume").arg(resume);
        command.stdout(Stdio::piped()).output().unwrap()
    };
    let refused = run(&named);
    let stderr = String::from_utf8_lossy(&refused.stderr);
    assert_eq!(refused.status.code(), Some(USAGE), "{stderr}");
    assert!(stderr.contains("is about a file of 5 bytes"), "{stderr}");
    assert!(stderr.contains("--resume none"), "{stderr}");
    assert_eq!(shop.stored().len(), 3, "nothing was published");
    assert!(run(Path::new("none")).status.success());
    assert_eq!(shop.stored().len(), 6);
}

#[test]
fn a_container_file_is_published_as_it_is() {
    let shop = Shop::open(0);
    let schema = include_str!("../../schemas/OrderCreated__e.avsc");
    let schema = apache_avro::Schema::parse_str(schema).unwrap();
    let mut writer = apache_avro::Writer::new(&schema, Vec::new()).unwrap();
    for number in 0..1_000 {
        let mut record = apache_avro::types::Record::new(&schema).unwrap();
        record.put("CreatedDate", 7_i64);
        record.put("CreatedById", "005000000000001AAA");
        record.put("Order_Number__c", Some(order(number)));
        record.put("Amount__c", None::<f64>);
        record.put("Priority__c", None::<bool>);
        writer.append_value(record).unwrap();
    }
    fs::write(&shop.orders, writer.into_inner().unwrap()).unwrap();
    let ended = wait::output("publish", shop.begin("results"));
    assert!(ended.status.success(), "{}", shop.stderr("results"));
    let summary = shop.stderr("results");
    assert!(
        summary.starts_with("published 1,000 events in "),
        "{summary}"
    );
    expect_all(&shop.stored(), 1_000);
    let arguments = format!("subscribe {TOPIC} --from earliest --count 1 --output json");
    let output = shop.gateway.command(&arguments).output().unwrap();
    let read: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(read["payload"]["CreatedDate"], 7);
    assert_eq!(read["schema_id"], SCHEMA_ID);
}
