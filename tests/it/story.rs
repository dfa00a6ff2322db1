//! The example that the README points to does what it says, against a real gateway.

use std::process::Command;

use crate::support::gateway::{Gateway, without_settings};

#[test]
fn every_order_of_the_story_arrives_once_and_is_answered() {
    let gateway = Gateway::start();
    // Cargo knows where the example is, and builds it if only these tests were built.
    let mut command = Command::new(env!("CARGO"));
    without_settings(&mut command);
    let output = command
        .args(["run", "--quiet", "--locked", "--all-features"])
        .args(["--example", "order_story"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .env("TIDEGATE_SERVER__DATA_DIR", gateway.data_dir())
        .output()
        .expect("cargo can be run");
    let told = String::from_utf8_lossy(&output.stdout);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{told}\n{stderr}");
    for number in 1..=5 {
        let number = format!("A-00{number}");
        let lines = told.lines().filter(|line| line.contains(&number));
        assert_eq!(lines.count(), 3, "ordered, got, shipped: {told}");
    }
}
