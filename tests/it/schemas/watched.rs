//! The directory of schema files of a gateway that runs.

use std::{fs, os::unix::fs::symlink};

use super::{TOPIC, Workshop, invoice, rows, said};
use crate::support::{
    http::{get, value_of},
    wait,
};

impl Workshop {
    /// Replaces a file of the schemas directory in one step.
    fn put(&self, name: &str, text: &str) {
        let draft = self.dir.path().join("draft");
        fs::write(&draft, text).unwrap();
        fs::rename(draft, self.schemas_dir().join(name)).unwrap();
    }

    /// Waits until the topic has this field.
    fn wait_for_field(&self, field: &str) {
        wait::until(field, || {
            let got = self.schema(&format!("get {TOPIC}"), None);
            let (text, ..) = said(got);
            text.contains(&format!("\"{field}\"")).then_some(())
        });
    }

    /// Waits until the list of schemas has a refused file whose reasons have `word`.
    fn wait_for_refusal(&self, word: &str) {
        wait::until(word, || {
            let listed = rows(self.schema("list", None)).into_iter();
            let mut refused = listed.filter(|row| row["refused_file"].is_string());
            refused
                .any(|row| row["reasons"].to_string().contains(word))
                .then_some(())
        });
    }

    fn has_refusals(&self) -> bool {
        let listed = rows(self.schema("list", None));
        listed.iter().any(|row| row["refused_file"].is_string())
    }
}

#[tokio::test]
async fn a_file_that_changes_becomes_a_version_and_one_that_breaks_is_refused_loudly() {
    let mut shop = Workshop::open();
    shop.put("Invoice__e.avsc", &invoice(&[("Number__c", "\"string\"")]));
    shop.wait_for_field("Number__c");
    shop.put(
        "Invoice__e.avsc",
        &invoice(&[("Number__c", "\"string\""), ("Total__c", "\"double\"")]),
    );
    shop.wait_for_field("Total__c");
    assert!(shop.publish("", r#"{"Total__c": 7.5}"#).status.success());

    let broken = invoice(&[("Number__c", "\"int\""), ("Total__c", "\"double\"")]);
    shop.put("Invoice__e.avsc", &broken);
    shop.wait_for_refusal("Invoice__e.Number__c");
    let log = shop.gateway.log();
    assert!(
        log.contains("ERROR") && log.contains("Invoice__e.avsc"),
        "{log}"
    );
    let (_, metrics) = get(&shop.gateway, "/metrics").await;
    assert_eq!(value_of(&metrics, "tidegate_schema_files_refused"), 1.0);
    // The gateway goes on, and starts with it too.
    assert!(shop.publish("", r#"{"Total__c": 8.5}"#).status.success());
    shop.gateway.kill_and_restart();
    assert!(shop.has_refusals());
    assert!(shop.publish("", r#"{"Total__c": 9.5}"#).status.success());

    // Rules that allow for it have it taken as it is.
    rows(shop.schema(&format!("set-compatibility {TOPIC} none"), None));
    wait::until("end of the refusal", || {
        (!shop.has_refusals()).then_some(())
    });
    let listed = rows(shop.schema("list", None));
    assert_eq!(listed.len(), 3);
    assert_eq!(listed[2]["registered_by"], "file Invoice__e.avsc");
}

#[test]
fn a_file_that_is_broken_is_named_with_its_line_and_keeps_no_gateway_from_starting() {
    let mut shop = Workshop::open();
    shop.put(
        "Good__e.avsc",
        &invoice(&[]).replace("Invoice__e", "Good__e"),
    );
    let cases = [
        ("{\n \"type\": \"record\",\n oops", "line 3"),
        (
            "{\"type\":\"record\",\"name\":\"A__e\",\n\"fields\":[{\"name\":\"x\",\"type\":\"strin\"}]}",
            "line 2",
        ),
        ("{\"type\":\"record\",\"name\":\"A\",\"fields\":[]}", "__e"),
        ("\"string\"", "a record"),
        ("", "line 1"),
    ];
    for (number, (text, _)) in cases.iter().enumerate() {
        shop.put(&format!("Bad{number}__e.avsc"), text);
    }
    shop.gateway.kill_and_restart();
    let listed = rows(shop.schema("list", None));
    for (number, (_, word)) in cases.iter().enumerate() {
        let name = format!("Bad{number}__e.avsc");
        let named = listed.iter().find(|row| {
            row["refused_file"]
                .as_str()
                .is_some_and(|path| path.ends_with(&name))
        });
        let reasons = named.expect("it is listed")["reasons"].to_string();
        assert!(reasons.contains(word), "{name}: {reasons}");
        assert!(shop.gateway.log().contains(&name));
    }
    let topics = rows(shop.gateway.command("topic list"));
    assert_eq!(topics.len(), 1);
    assert_eq!(topics[0]["name"], "/event/Good__e");
}

#[test]
fn a_volume_of_kubernetes_is_followed() {
    let shop = Workshop::open();
    let dir = shop.schemas_dir();
    for (version, fields) in [
        ("..2026_01", &[("Number__c", "\"string\"")][..]),
        (
            "..2026_02",
            &[("Number__c", "\"string\""), ("Total__c", "\"double\"")],
        ),
    ] {
        fs::create_dir(dir.join(version)).unwrap();
        fs::write(dir.join(version).join("Invoice__e.avsc"), invoice(fields)).unwrap();
    }
    symlink("..2026_01", dir.join("..data")).unwrap();
    symlink("..data/Invoice__e.avsc", dir.join("Invoice__e.avsc")).unwrap();
    shop.wait_for_field("Number__c");
    symlink("..2026_02", dir.join("..data_tmp")).unwrap();
    fs::rename(dir.join("..data_tmp"), dir.join("..data")).unwrap();
    shop.wait_for_field("Total__c");
    assert!(!shop.has_refusals());
}
