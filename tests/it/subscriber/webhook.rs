//! Events that are posted to a server: every one arrives, whoever is killed or away, and what the server
//! answers decides what becomes of it.

use std::{
    fs,
    path::Path,
    process::{Command, Output},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use serde_json::Value;
use tempfile::TempDir;

use super::{
    ROUNDS, Running, command, expect_all, fails_in_bounded_memory, publish, through_kills,
};
use crate::support::{
    gateway::Gateway,
    http::{get_from, value_of},
    order::TOPIC,
    wait::{until, until_true},
    webhook::{Answer, OK, Post, SECRET, Webhook},
};

/// A directory for a subscriber, with the secret in it.
fn directory() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("secret"), SECRET).unwrap();
    dir
}

/// `tidegate` with these arguments, posting to `webhook` what it handles.
fn posting(gateway: &Gateway, webhook: &Webhook, arguments: &str) -> Command {
    let arguments = format!("{arguments} --webhook-secret-file secret --webhook");
    command(gateway, &arguments, &[&webhook.url()])
}

/// `tidegate subscribe`, with waits as short as tests want them.
fn subscribing(gateway: &Gateway, webhook: &Webhook, arguments: &str) -> Command {
    let arguments = format!(
        "subscribe {TOPIC} --from earliest --state state --retry-wait 10ms --retry-wait-max 20ms \
         {arguments}"
    );
    posting(gateway, webhook, &arguments)
}

/// Runs a command in `dir` to its end.
fn run(mut command: Command, dir: &Path) -> Output {
    command
        .current_dir(dir)
        .output()
        .expect("the program can be run")
}

#[track_caller]
fn expect_exit(output: &Output, code: i32) {
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{stderr}");
    assert!(!stderr.contains(SECRET) && !stderr.contains("hidden"));
}

/// The dead letters in `dir`, as `deadletter list` shows them.
fn letters(gateway: &Gateway, dir: &Path) -> Vec<Value> {
    let list = gateway.command("deadletter list --state state --output json");
    let list = run(list, dir);
    expect_exit(&list, 0);
    let lines = String::from_utf8(list.stdout).unwrap();
    let letters = lines.lines().map(serde_json::from_str);
    letters.collect::<Result<_, _>>().unwrap()
}

/// The event id, the tries and the cause of each dead letter in `dir`.
fn causes(gateway: &Gateway, dir: &Path) -> Vec<(String, u64, String)> {
    let letters = letters(gateway, dir).into_iter().map(|letter| {
        let text = |key: &str| letter[key].as_str().unwrap().to_owned();
        let tries = letter["attempts"].as_u64().unwrap();
        (text("event_id"), tries, text("cause"))
    });
    letters.collect()
}

fn redrive(gateway: &Gateway, webhook: &Webhook, dir: &Path) -> Output {
    let arguments = "deadletter redrive --all --state state --attempts 1";
    run(posting(gateway, webhook, arguments), dir)
}

fn orders(numbers: std::ops::Range<usize>) -> Vec<String> {
    numbers.map(|number| format!("order-{number}")).collect()
}

#[tokio::test]
async fn a_webhook_gets_every_event_through_kills_of_both_sides() {
    let mut gateway = Gateway::start();
    let webhook = Webhook::start(|_| OK);
    let dir = directory();
    let start = |gateway: &Gateway| {
        Running::start(subscribing(gateway, &webhook, "--save-every 1"), dir.path())
    };
    let count = through_kills(&mut gateway, || webhook.ids(), ROUNDS, start).await;
    // What comes again carries an id from before: no other is there.
    let again = expect_all(&webhook.ids(), count);
    // One that was at work when the client was killed, and those whose record was on its way.
    let kills = ROUNDS / 2;
    assert!(again <= 3 * kills, "{again} came again after {kills} kills");

    // Whoever comes next finds nothing to do, and what is recorded stays so.
    let next = subscribing(&gateway, &webhook, "--idle-exit 1s");
    expect_exit(&run(next, dir.path()), 0);
    assert_eq!(webhook.ids().len(), count + again);
    assert_eq!(letters(&gateway, dir.path()), Vec::<Value>::new());
}

#[tokio::test]
async fn what_may_pass_is_posted_again_and_the_rest_waits_for_it() {
    let gateway = Gateway::start();
    publish(&gateway, 0..6).await;
    let webhook = Webhook::start(|post| match (post.id.as_str(), post.attempt) {
        ("order-1", 1 | 2) => Answer::Status(500, "broken"),
        ("order-2", 1) => Answer::Status(429, "too many"),
        ("order-3", 1) => Answer::Close,
        ("order-4", 1) => Answer::Status(302, "elsewhere"),
        ("order-4", 2) => Answer::Status(401, "who are you?"),
        ("order-4", _) => Answer::Status(204, ""),
        _ => OK,
    });
    let dir = directory();
    let command = subscribing(&gateway, &webhook, "--count 6");
    expect_exit(&run(command, dir.path()), 0);
    let tries = [1, 3, 2, 2, 3, 1];
    let wanted = tries.iter().enumerate().flat_map(|(number, &tries)| {
        (1..=tries).map(move |attempt| Post {
            id: format!("order-{number}"),
            attempt,
        })
    });
    assert_eq!(webhook.posts(), wanted.collect::<Vec<_>>());
    assert_eq!(letters(&gateway, dir.path()), Vec::<Value>::new());
}

#[tokio::test]
async fn a_webhook_that_does_not_answer_in_time_is_posted_to_again() {
    let gateway = Gateway::start();
    publish(&gateway, 0..3).await;
    let webhook = Webhook::start(|post| match (post.id.as_str(), post.attempt) {
        ("order-1", 1) => Answer::Hang,
        _ => OK,
    });
    let dir = directory();
    let command = subscribing(&gateway, &webhook, "--count 3 --timeout 1s");
    expect_exit(&run(command, dir.path()), 0);
    let posts = webhook.posts();
    // On a slow machine other posts may take so long, too.
    expect_all(&webhook.ids(), 3);
    let hung = posts.iter().position(|post| post.id == "order-1").unwrap();
    let next = &posts[hung + 1];
    assert_eq!((next.id.as_str(), next.attempt), ("order-1", 2));
}

#[tokio::test]
async fn what_will_never_do_becomes_a_dead_letter_and_can_be_posted_again() {
    let gateway = Gateway::start();
    publish(&gateway, 0..5).await;
    let is_mended = Arc::new(AtomicBool::new(false));
    let webhook = Webhook::start({
        let is_mended = Arc::clone(&is_mended);
        move |post| match post.id.as_str() {
            _ if is_mended.load(Ordering::SeqCst) => OK,
            "order-1" => Answer::Status(410, "moved away\n"),
            "order-2" => Answer::Status(400, "no customer"),
            "order-3" => Answer::Status(503, ""),
            _ => OK,
        }
    });
    let dir = directory();
    let command = subscribing(&gateway, &webhook, "--count 5 --attempts 2");
    expect_exit(&run(command, dir.path()), 1);
    let ids = webhook.ids();
    let wanted = [
        "order-0", "order-1", "order-2", "order-3", "order-3", "order-4",
    ];
    assert_eq!(ids, wanted);
    let given_up = |tries: [u64; 3]| {
        let causes = [
            "it answered 410 Gone: moved away",
            "it answered 400 Bad Request: no customer",
            "it answered 503 Service Unavailable",
        ];
        let all = orders(1..4).into_iter().zip(tries).zip(causes);
        let all = all.map(|((id, tries), cause)| (id, tries, cause.to_owned()));
        all.collect::<Vec<_>>()
    };
    assert_eq!(causes(&gateway, dir.path()), given_up([1, 1, 2]));

    // Nothing is better yet.
    expect_exit(&redrive(&gateway, &webhook, dir.path()), 1);
    assert_eq!(causes(&gateway, dir.path()), given_up([2, 2, 3]));
    is_mended.store(true, Ordering::SeqCst);
    expect_exit(&redrive(&gateway, &webhook, dir.path()), 0);
    assert_eq!(
        webhook.ids()[ids.len()..],
        [orders(1..4), orders(1..4)].concat()
    );
    assert_eq!(letters(&gateway, dir.path()), Vec::<Value>::new());
}

#[tokio::test]
async fn nothing_is_lost_while_the_webhook_is_away() {
    let gateway = Gateway::start();
    let mut webhook = Webhook::start(|_| OK);
    let dir = directory();
    let command = subscribing(&gateway, &webhook, "--attempts 3");
    let mut running = Running::start(command, dir.path());
    publish(&gateway, 0..10).await;
    until("the first events", || {
        (webhook.ids().len() == 10).then_some(())
    });
    webhook.stop();
    publish(&gateway, 10..20).await;
    let log = dir.path().join("subscriber.log");
    until("an event that is given up", || {
        let log = fs::read_to_string(&log).unwrap();
        log.contains("became a dead letter after 3 tries")
            .then_some(())
    });
    webhook.start_again();
    publish(&gateway, 20..30).await;
    let last = "order-29".to_owned();
    until("the last event", || {
        webhook.ids().contains(&last).then_some(())
    });
    running.kill();
    for (_, _, cause) in causes(&gateway, dir.path()) {
        assert!(cause.starts_with("http://localhost:"), "{cause}");
        assert!(
            cause.contains("refused") && !cause.contains("hidden"),
            "{cause}"
        );
    }
    expect_exit(&redrive(&gateway, &webhook, dir.path()), 0);
    let mut ids = webhook.ids();
    ids.sort_by_key(|id| id["order-".len()..].parse::<usize>().unwrap());
    expect_all(&ids, 30);
}

#[tokio::test]
async fn what_waits_for_a_webhook_that_is_away_comes_in_order_once_it_is_back() {
    let gateway = Gateway::start();
    let mut webhook = Webhook::start(|_| OK);
    webhook.stop();
    publish(&gateway, 0..10).await;
    let dir = directory();
    let arguments = "--attempts 1000000 --count 10 --metrics-addr 127.0.0.1:0";
    let command = subscribing(&gateway, &webhook, arguments);
    let mut running = Running::start(command, dir.path());
    let addr = running.metrics_addr();
    let retries = format!("tidegate_subscriber_retries_total{{topic=\"{TOPIC}\"}}");
    until_true("some retries", async || {
        let (_, metrics) = get_from(&addr, "/metrics").await;
        value_of(&metrics, &retries) >= 5.0
    })
    .await;
    let (status, _) = get_from(&addr, "/health").await;
    assert!(status.contains(" 200 "), "events come: {status}");
    webhook.start_again();
    let status = until("the end", || running.0.try_wait().unwrap());
    assert!(status.success());
    let first = &webhook.posts()[0];
    assert!(first.attempt > 5, "{first:?}");
    assert_eq!(webhook.ids(), orders(0..10));
}

#[tokio::test]
async fn the_status_decides_whatever_follows_it() {
    let gateway = Gateway::start();
    publish(&gateway, 0..7).await;
    let webhook = Webhook::start(|post| match post.id.as_str() {
        "order-0" => Answer::Endless(200),
        "order-1" => Answer::Unfinished(202),
        "order-2" => Answer::Endless(410),
        "order-3" => Answer::Unfinished(400),
        "order-4" => Answer::Endless(500),
        "order-5" => Answer::Unfinished(500),
        _ => OK,
    });
    let dir = directory();
    let mut command = subscribing(&gateway, &webhook, "--count 7 --attempts 2");
    fails_in_bounded_memory(command.current_dir(dir.path()));
    let causes = causes(&gateway, dir.path());
    let tries: Vec<_> = causes
        .iter()
        .map(|(id, tries, _)| (id.as_str(), *tries))
        .collect();
    assert_eq!(
        tries,
        [
            ("order-2", 1),
            ("order-3", 1),
            ("order-4", 2),
            ("order-5", 2)
        ]
    );
    let answered = [
        "410 Gone",
        "400 Bad Request",
        "500 Internal",
        "500 Internal",
    ];
    for ((_, _, cause), answered) in causes.iter().zip(answered) {
        let wanted = format!("it answered {answered}");
        assert!(
            cause.starts_with(&wanted) && cause.contains(": xxxx"),
            "{cause}"
        );
        assert!(cause.len() < 1_000, "{} bytes", cause.len());
    }
}

#[tokio::test]
async fn a_webhook_behind_tls_has_to_be_trusted() {
    let gateway = Gateway::start();
    publish(&gateway, 0..2).await;
    let certificates = gateway.data_dir().join("tls");
    let webhook = Webhook::start_tls(&certificates, |_| OK);
    let dir = directory();
    let distrusting = subscribing(&gateway, &webhook, "--count 2 --attempts 1");
    expect_exit(&run(distrusting, dir.path()), 1);
    assert_eq!(webhook.posts(), []);
    for (id, _, cause) in causes(&gateway, dir.path()) {
        assert!(cause.contains("UnknownIssuer"), "{id}: {cause}");
    }

    let ca = gateway.ready().ca_pem.to_str().unwrap().to_owned();
    let arguments = format!("deadletter redrive --all --state state --webhook-ca {ca}");
    expect_exit(&run(posting(&gateway, &webhook, &arguments), dir.path()), 0);
    assert_eq!(webhook.ids(), orders(0..2));
    publish(&gateway, 2..3).await;
    let trusting = format!("--count 1 --webhook-ca {ca}");
    expect_exit(
        &run(subscribing(&gateway, &webhook, &trusting), dir.path()),
        0,
    );
    assert_eq!(webhook.ids(), orders(0..3));

    let missing = subscribing(&gateway, &webhook, "--webhook-ca missing.pem");
    let output = run(missing, dir.path());
    expect_exit(&output, 2);
    assert!(String::from_utf8_lossy(&output.stderr).contains("missing.pem"));
}
