//! The examples do what they say, against a real gateway.

use std::process::Command;

use crate::support::gateway::{Gateway, without_settings};

/// Runs an example, which is to succeed, and returns what it told.
fn run(example: &str) -> String {
    let gateway = Gateway::start();
    // Cargo knows where the example is, and builds it if only these tests were built.
    let mut command = Command::new(env!("CARGO"));
    without_settings(&mut command);
    let output = command
        .args(["run", "--quiet", "--locked", "--all-features"])
        .args(["--example", example])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .env("TIDEGATE_SERVER__DATA_DIR", gateway.data_dir())
        .output()
        .expect("cargo can be run");
    let told = String::from_utf8_lossy(&output.stdout);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{told}\n{stderr}");
    told.into_owned()
}

#[test]
fn every_order_of_the_story_arrives_once_and_is_answered() {
    let told = run("order_story");
    for number in 1..=5 {
        let number = format!("A-00{number}");
        let lines = told.lines().filter(|line| line.contains(&number));
        assert_eq!(lines.count(), 3, "ordered, got, shipped: {told}");
    }
}

#[test]
fn what_is_fired_and_forgotten_is_stored() {
    let told = run("fire_and_forget");
    assert!(told.contains("1000 are stored, 0 failed"), "{told}");
}

#[test]
fn a_question_is_answered_or_given_up() {
    let told = run("request_reply");
    assert_eq!(told.matches("SHIPPED").count(), 2, "{told}");
    assert_eq!(told.matches("Elapsed").count(), 1, "{told}");
}

#[test]
fn polling_calls_more_often_than_push_and_hears_as_much() {
    let told = run("polling_or_push");
    let calls = |name: &str| {
        let line = told.lines().find(|line| line.starts_with(name));
        let number = line.and_then(|line| line.split_whitespace().nth(1));
        number.and_then(|number| number.parse().ok())
    };
    let (polling, push): (Option<u32>, Option<u32>) = (calls("polling"), calls("push"));
    assert!(push.is_some() && push < polling, "{told}");
}

#[test]
fn a_table_follows_the_changes_of_its_records_over_a_restart() {
    let told = run("change_data_sync");
    let (first, second) = told.split_once("4 changes from 0").expect(&told);
    assert_eq!(
        first,
        "4 changes from earliest:\n  a01000000000001AAA  Sent  null\n"
    );
    let rows: Vec<_> = second.lines().skip(1).collect();
    assert_eq!(
        rows,
        [
            "  a01000000000001AAA  Sent  null  (to be read again)",
            "  a01000000000002AAA  Packed  fragile",
            "  a01000000000003AAA  Sent  fragile",
        ]
    );
}

#[test]
fn a_batch_that_is_published_twice_is_complete_once() {
    let told = run("batch_from_file");
    assert_eq!(told.matches("2 are stored, 1 failed").count(), 2, "{told}");
    assert_eq!(told.matches("line 2: ").count(), 2, "{told}");
    assert!(told.ends_with("is complete: 2 orders\n"), "{told}");
}

#[test]
fn an_idempotent_consumer_counts_right_and_the_other_does_not() {
    let told = run("idempotent_consumer");
    assert!(
        told.contains("every event that comes  1250  (wrong)"),
        "{told}"
    );
    assert!(told.contains("every event id once     1000"), "{told}");
}
