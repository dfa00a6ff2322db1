//! Authors at the command line of a gateway that runs.

use std::fs;

use serde_json::json;

use super::{FAILED, NOT_PERMITTED, TOPIC, USAGE, Workshop, invoice, lines, rows, run, said};

#[test]
fn a_schema_is_registered_checked_compared_and_retired() {
    let shop = Workshop::open();
    let first = shop.register(&invoice(&[("Number__c", "\"string\"")]));
    assert_eq!(shop.current_id(), first.as_str());
    // Twice is once.
    assert_eq!(
        shop.register(&invoice(&[("Number__c", "\"string\"")])),
        first
    );

    let wider = invoice(&[("Number__c", "\"string\""), ("Total__c", "\"double\"")]);
    let file = shop.file("wider.avsc", &wider);
    let checked = rows(shop.schema("check", Some(&file)));
    assert_eq!(checked[0]["registration"], "new_version");
    assert_eq!(
        shop.current_id(),
        first.as_str(),
        "a check registers nothing"
    );
    let (text, _, code) = said(shop.schema("diff", Some(&file)));
    assert_eq!(code, 0);
    assert!(text.contains("+ Total__c"), "{text}");
    let second = shop.register(&wider);
    assert_eq!(shop.current_id(), second.as_str());

    let history = rows(shop.schema(&format!("history {TOPIC}"), None));
    assert_eq!(history.len(), 2);
    assert_eq!(history[0]["changes"], json!([]));
    assert_eq!(history[1]["registered_by"], "administrator");
    let change = history[1]["changes"][0]["change"].as_str().unwrap();
    assert!(change.starts_with("+ Total__c"), "{change}");

    let (_, error, code) = said(shop.schema(&format!("retire {second}"), None));
    assert_eq!(code, FAILED);
    assert!(error.contains("current version"), "{error}");
    let retired = rows(shop.schema(&format!("retire {first}"), None));
    assert_eq!(retired[0]["retired_by"], "administrator");
    let listed = rows(shop.schema("list", None));
    assert!(listed[0]["retired_at"].is_string(), "{listed:?}");
    // It resolves as before.
    let got = rows(shop.schema(&format!("get {first}"), None));
    assert_eq!(got[0]["schema_id"], first.as_str());
}

#[test]
fn a_refusal_lists_every_reason_and_who_would_break() {
    let shop = Workshop::open();
    let first = invoice(&[("Number__c", "\"string\""), ("Total__c", "\"long\"")]);
    shop.register(&first);
    let published = shop.publish("", r#"{"Number__c": "A-1", "Total__c": 7}"#);
    assert!(published.status.success());

    let worse = shop.file(
        "worse.avsc",
        &invoice(&[("Number__c", "\"double\""), ("Total__c", "\"int\"")]),
    );
    let (verdicts, code) = lines(shop.schema("register", Some(&worse)));
    assert_eq!(code, FAILED);
    let verdict = &verdicts[0];
    assert_eq!(verdict["refused"], true);
    let objections = verdict["objections"].as_array().unwrap();
    let paths: Vec<_> = objections.iter().map(|it| &it["path"]).collect();
    assert_eq!(paths, ["Invoice__e.Number__c", "Invoice__e.Total__c"]);
    for objection in objections {
        assert_eq!(objection["direction"], "backward");
        assert_eq!(objection["version"], 1);
        assert_ne!(objection["fix"], "");
    }
    assert_eq!(verdict["affected"][0]["name"], "administrator");
    assert!(verdict["affected"][0]["published_at"].is_string());

    let (text, error, code) = said(shop.schema("check", Some(&worse)));
    assert_eq!(code, FAILED);
    for part in [
        "refused  /event/Invoice__e",
        "Invoice__e.Number__c",
        "fix: ",
        "breaks: principal administrator (published ",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert!(error.contains("refused: 1 of 1"), "{error}");
    let listed = rows(shop.schema("list", None));
    assert_eq!(listed.len(), 1, "nothing was registered");
}

#[test]
fn subscribers_who_read_with_a_version_are_named_too() {
    let shop = Workshop::open();
    let first = shop.register(&invoice(&[("Number__c", "\"string\"")]));
    assert!(shop.publish("", r#"{"Number__c": "A-1"}"#).status.success());
    let create = "token create --name warehouse --subscribe *";
    let token = rows(shop.gateway.command(create)).remove(0);
    let token = token["access_token"].as_str().unwrap().to_owned();
    let mut read = shop
        .gateway
        .command(&format!("subscribe {TOPIC} --from earliest --count 1"));
    read.env("TIDEGATE_TOKEN", &token);
    assert_eq!(rows(read).len(), 1);
    rows(shop.gateway.command(&format!(
        "managed create Ledger --topic {TOPIC} --default-replay earliest"
    )));
    let read = shop.gateway.command("managed subscribe Ledger --count 1");
    assert_eq!(rows(read).len(), 1);

    rows(shop.schema(&format!("set-compatibility {TOPIC} forward"), None));
    let changed = shop.file("changed.avsc", &invoice(&[("Number__c", "\"double\"")]));
    let (verdicts, _) = lines(shop.schema("check", Some(&changed)));
    let affected = verdicts[0]["affected"].as_array().unwrap();
    let named = |kind: &str, name: &str| {
        let mut all = affected.iter();
        all.find(|user| user["kind"] == kind && user["name"] == name)
            .unwrap_or_else(|| panic!("{kind} {name}: {affected:?}"))
    };
    for user in [named("principal", "warehouse"), named("managed", "Ledger")] {
        assert_eq!(user["schema_id"], first.as_str());
        assert_eq!(user["directions"], json!(["forward"]));
        assert!(user["delivered_at"].is_string());
    }
    // Who else is out there is told to administrators alone.
    let mut check = shop.schema("check", Some(&changed));
    check.env("TIDEGATE_TOKEN", &token);
    let (verdicts, code) = lines(check);
    assert_eq!(code, FAILED);
    assert_eq!(verdicts[0]["affected"], json!([]));
    assert_eq!(verdicts[0]["refused"], true);
}

#[test]
fn who_used_what_is_known_after_a_restart() {
    let mut shop = Workshop::open();
    shop.register(&invoice(&[("Number__c", "\"string\"")]));
    assert!(shop.publish("", "{}").status.success());
    shop.gateway.terminate();
    assert!(shop.gateway.wait_for_end().success());
    shop.gateway.restart();
    let changed = shop.file("changed.avsc", &invoice(&[("Number__c", "\"double\"")]));
    let (verdicts, _) = lines(shop.schema("check", Some(&changed)));
    assert_eq!(verdicts[0]["affected"][0]["name"], "administrator");
}

#[test]
fn what_was_answered_is_there_after_the_plug_was_pulled() {
    let mut shop = Workshop::open();
    for number in 0..10 {
        let name = format!("F{number}__c");
        let id = shop.register(&invoice(&[
            ("Number__c", "\"string\""),
            (&name, "\"string\""),
        ]));
        shop.gateway.kill_and_restart();
        assert_eq!(shop.current_id(), id.as_str());
    }
    rows(shop.schema(&format!("set-compatibility {TOPIC} full_transitive"), None));
    rows(shop.schema(
        "set-compatibility --default none --check namespace=off",
        None,
    ));
    shop.gateway.kill_and_restart();
    let rules = rows(shop.schema(&format!("set-compatibility {TOPIC}"), None)).remove(0);
    assert_eq!(rules["compatibility"], "full_transitive");
    assert_eq!(rules["compatibility_set_by"], "topic");
    let namespace = &rules["checks"][3];
    assert_eq!(
        *namespace,
        json!({"name": "namespace", "on": false, "set_by": "tenant"})
    );
    assert_eq!(rows(shop.schema("list", None)).len(), 10);
}

#[test]
fn a_retired_version_is_refused_at_publish_with_a_reason() {
    let shop = Workshop::open();
    let first = invoice(&[("Number__c", "\"string\"")]);
    let first_id = shop.register(&first);
    assert!(shop.publish("", r#"{"Number__c": "old"}"#).status.success());
    shop.register(&invoice(&[
        ("Number__c", "\"string\""),
        ("Total__c", "\"double\""),
    ]));
    // Who published with it is told before it is retired.
    let (_, error, code) = said(shop.schema(&format!("retire {first_id}"), None));
    assert_eq!(code, USAGE);
    assert!(
        error.contains("principal administrator") && error.contains("--yes"),
        "{error}"
    );
    rows(shop.schema(&format!("retire {first_id} --yes"), None));
    // What was stored is read as before.
    let read = shop
        .gateway
        .command(&format!("subscribe {TOPIC} --from earliest --count 1"));
    assert_eq!(rows(read)[0]["payload"]["Number__c"], "old");
}

#[test]
fn rules_are_set_for_a_topic_or_by_default_and_taken_back() {
    let shop = Workshop::open();
    let plain = r#"{"type":"record","name":"Plain__e","fields":[{"name":"n","type":"int"}]}"#;
    let file = shop.file("plain.avsc", plain);
    let (verdicts, code) = lines(shop.schema("register", Some(&file)));
    assert_eq!(code, FAILED);
    let rules: Vec<_> = verdicts[0]["objections"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| &it["rule"])
        .collect();
    for rule in ["leading-fields", "nullable-fields", "namespace"] {
        assert!(
            rules.iter().any(|found| **found == *rule),
            "{rule}: {rules:?}"
        );
    }
    let off = "--check leading-fields=off --check nullable-fields=off --check namespace=off";
    rows(shop.schema(&format!("set-compatibility --default {off}"), None));
    assert_eq!(
        rows(shop.schema("register", Some(&file)))[0]["refused"],
        false
    );

    let set = rows(shop.schema("set-compatibility /event/Plain__e full", None)).remove(0);
    assert_eq!(
        (&set["compatibility"], &set["compatibility_set_by"]),
        (&json!("full"), &json!("topic"))
    );
    let back = rows(shop.schema("set-compatibility /event/Plain__e inherited", None)).remove(0);
    assert_eq!(
        (&back["compatibility"], &back["compatibility_set_by"]),
        (&json!("backward"), &json!("gateway"))
    );
    let described = rows(shop.gateway.command("topic describe /event/Plain__e")).remove(0);
    assert_eq!(described["compatibility"], "backward");
    for wrong in [
        "set-compatibility /event/Plain__e sideways",
        "set-compatibility",
        "set-compatibility /event/Plain__e --check spelling=off",
    ] {
        let (_, error, code) = said(shop.schema(wrong, None));
        assert_eq!(code, USAGE, "{wrong}: {error}");
    }
}

#[test]
fn registering_takes_an_administrator_and_checking_a_right_to_the_topic() {
    let shop = Workshop::open();
    shop.register(&invoice(&[]));
    let create = "token create --name other --publish /event/Other__e --subscribe /event/Other__e";
    let token = rows(shop.gateway.command(create)).remove(0);
    let file = shop.file("invoice.avsc", &invoice(&[("Number__c", "\"string\"")]));
    for (arguments, file) in [
        ("register", Some(&file)),
        ("check", Some(&file)),
        ("set-compatibility --default none", None),
        ("retire dGzWYkf4alBWqjXJMJJLlw --yes", None),
    ] {
        let mut command = shop.schema(arguments, file.map(|file| file.as_path()));
        command.env("TIDEGATE_TOKEN", token["access_token"].as_str().unwrap());
        let (_, error, code) = said(command);
        assert_eq!(code, NOT_PERMITTED, "{arguments}: {error}");
    }
}

#[test]
fn what_is_no_schema_of_the_topic_is_refused_and_nothing_is_stored() {
    let shop = Workshop::open();
    let good = invoice(&[]);
    let deep = format!("{}\"int\"{}", "[".repeat(1_000), "]".repeat(1_000));
    let cases = [
        ("{\n \"type\": oops}", "", "line 2"),
        (&deep, "", "nests at most 64 levels"),
        (&" ".repeat(10 << 20), "", "at most 1048576 bytes"),
        (&good.replace("Invoice__e", "Invoice"), "", "__e"),
        (&good.replace("\"long\"", "\"Unknown\""), "", "Unknown"),
        (
            &good.replace("CreatedDate\",\"type\"", "Created Date\",\"type\""),
            "",
            "Created Date",
        ),
        (&good, " --topic /event/Other__e", "/event/Other__e"),
        (
            &good,
            " --expect dGzWYkf4alBWqjXJMJJLlw",
            "another registration came first",
        ),
    ];
    for (text, arguments, word) in cases {
        let file = shop.file("bad.avsc", text);
        let mut command = shop.schema("register", Some(&file));
        command.args(arguments.split_whitespace());
        let (text, error, code) = said(command);
        let error = text + &error;
        assert_eq!(code, FAILED, "{word}: {error}");
        assert!(error.contains(word), "{word}: {error}");
        assert!(error.len() < 2_000, "{}", error.len());
    }
    let listed = shop.gateway.command("topic list --output json");
    assert_eq!(run(listed).stdout, b"");
}

#[test]
fn a_topic_is_created_with_its_schema_and_set() {
    let shop = Workshop::open();
    let dir = shop.dir.path();
    let mut init = shop
        .gateway
        .command("schema init Invoice__e --field Total:double");
    init.current_dir(dir);
    assert!(run(init).status.success());
    let file = dir.join("Invoice__e.avsc");
    let create = || {
        let mut command = shop
            .gateway
            .command(&format!("topic create {TOPIC} --retention 24h --schema"));
        command.arg(&file);
        command
    };
    let created = rows(create()).remove(0);
    assert_eq!(created["retention_seconds"], 86_400.0);
    assert_eq!(created["validation"], "on");
    let (_, error, code) = said(create());
    assert_eq!(code, FAILED);
    assert!(error.contains("already"), "{error}");

    let set = rows(
        shop.gateway
            .command(&format!("topic set {TOPIC} --validation off")),
    )
    .remove(0);
    assert_eq!(set["validation"], "off");
    assert_eq!(set["retention_seconds"], 86_400.0, "it stays as it was");
    let (_, error, code) = said(shop.gateway.command(&format!("topic set {TOPIC}")));
    assert_eq!(code, USAGE);
    assert!(error.contains("--retention, --validation or"), "{error}");
}

#[test]
fn a_directory_and_a_gateway_are_kept_in_step() {
    let shop = Workshop::open();
    let repository = shop.dir.path().join("repository");
    fs::create_dir(&repository).unwrap();
    let path = repository.join("Invoice__e.avsc");
    fs::write(&path, invoice(&[("Number__c", "\"string\"")])).unwrap();
    let other = invoice(&[]).replace("Invoice__e", "Payment__e");
    fs::write(repository.join("Payment__e.avsc"), &other).unwrap();
    let push = |arguments: &str| shop.schema(&format!("push{arguments}"), Some(&repository));

    let planned = rows(push(" --dry-run"));
    assert_eq!(planned.len(), 2);
    assert_eq!(planned[0]["registration"], "new_topic");
    assert_eq!(rows(shop.schema("list", None)).len(), 0);
    rows(push(""));
    assert_eq!(rows(shop.schema("list", None)).len(), 2);

    // One that is refused keeps all from being registered.
    fs::write(&path, invoice(&[("Number__c", "\"double\"")])).unwrap();
    let wider = invoice(&[("Note__c", "\"string\"")]).replace("Invoice__e", "Payment__e");
    fs::write(repository.join("Payment__e.avsc"), &wider).unwrap();
    let (verdicts, code) = lines(push(""));
    assert_eq!(code, FAILED);
    assert_eq!(
        (&verdicts[0]["refused"], &verdicts[1]["refused"]),
        (&json!(true), &json!(false))
    );
    assert_eq!(rows(shop.schema("list", None)).len(), 2);

    // The gateway's are pulled over it, and a file that it does not have is left alone.
    fs::write(repository.join("Draft__e.avsc"), "{").unwrap();
    let pull = |arguments: &str| rows(shop.schema(&format!("pull{arguments}"), Some(&repository)));
    let states = |rows: Vec<serde_json::Value>| {
        let states = rows
            .into_iter()
            .map(|row| row["state"].as_str().unwrap().to_owned());
        states.collect::<Vec<_>>()
    };
    assert_eq!(
        states(pull(" --dry-run")),
        ["changed", "changed", "only_here"]
    );
    assert!(fs::read_to_string(&path).unwrap().contains("double"));
    assert_eq!(states(pull("")), ["changed", "changed", "only_here"]);
    assert!(fs::read_to_string(&path).unwrap().contains("\"string\""));
    assert_eq!(states(pull("")), ["same", "same", "only_here"]);
    assert_eq!(
        fs::read_to_string(repository.join("Draft__e.avsc")).unwrap(),
        "{"
    );
    let (text, error, code) = said(push(""));
    assert_eq!(code, FAILED);
    assert!(text.contains("Draft__e.avsc: it holds no schema"), "{text}");
    assert!(error.contains("none is registered"), "{error}");
    // A second file of a topic is refused before anything is registered.
    fs::write(repository.join("Draft__e.avsc"), &other).unwrap();
    let (_, error, code) = said(push(" --dry-run"));
    assert_eq!(code, FAILED);
    assert!(error.contains("is of the same topic"), "{error}");
}
