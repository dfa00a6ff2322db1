use std::{
    ffi::{OsStr, OsString},
    fs,
    net::SocketAddr,
    os::unix::ffi::OsStrExt,
    time::Duration,
};

use clap::{Args, Parser};
use tempfile::TempDir;

use super::{keys::KEYS, *};
use crate::{event_log::Durability, telemetry::log::LogFormat};

/// A command line with nothing but the flags of `serve`.
#[derive(Debug, Parser)]
struct Serve {
    #[command(flatten)]
    flags: ServeFlags,
}

/// Layers for one call of [`load`].
struct Given {
    dir: TempDir,
    flags: Vec<String>,
    variables: Vec<(OsString, OsString)>,
}

fn nothing() -> Given {
    Given {
        dir: tempfile::tempdir().unwrap(),
        flags: Vec::new(),
        variables: Vec::new(),
    }
}

fn file(text: &str) -> Given {
    nothing().and_file(text.as_bytes())
}

fn variable(name: &str, value: &str) -> Given {
    nothing().and_variable(name, value)
}

fn flags(flags: &[&str]) -> Given {
    nothing().and_flags(flags)
}

impl Given {
    fn and_file(self, text: &[u8]) -> Self {
        let path = self.dir.path().join("tidegate.toml");
        fs::write(&path, text).unwrap();
        self.and_flags(&["--config", path.to_str().unwrap()])
    }

    fn and_variable(mut self, name: &str, value: &str) -> Self {
        self.variables.push((name.into(), value.into()));
        self
    }

    fn and_flags(mut self, flags: &[&str]) -> Self {
        self.flags.extend(flags.iter().map(|flag| flag.to_string()));
        self
    }

    fn load(&self) -> Result<Effective, Problems> {
        let line = ["tidegate".to_owned()]
            .into_iter()
            .chain(self.flags.clone());
        load(&Serve::parse_from(line).flags, &self.variables)
    }

    fn settings(&self) -> Settings {
        self.load().unwrap().settings
    }

    /// The problems, without the directory that differs with each run.
    fn problems(&self) -> Vec<String> {
        let dir = format!("{}/", self.dir.path().display());
        let problems = self.load().expect_err("these settings should be refused");
        let lines = problems.to_string().replace(&dir, "");
        lines.lines().map(str::to_owned).collect()
    }
}

fn addr(text: &str) -> Option<SocketAddr> {
    Some(text.parse().unwrap())
}

#[test]
fn without_anything_given_every_setting_has_its_default() {
    let effective = nothing().load().unwrap();
    assert_eq!(effective.settings, Settings::default());
    let server = effective.settings.gateway;
    assert_eq!(server.grpc_tls_addr, addr("127.0.0.1:7443"));
    assert_eq!(server.data_dir.to_str(), Some("./tidegate-data"));
}

#[test]
fn each_layer_wins_over_the_one_before() {
    let layers = file("[server]\ndata_dir = 'file'\nschemas_dir = 'file'\nready_file = 'file'")
        .and_variable("TIDEGATE_SERVER__DATA_DIR", "variable")
        .and_variable("TIDEGATE_SERVER__SCHEMAS_DIR", "variable")
        .and_flags(&["--data-dir", "flag"]);
    let server = layers.settings().gateway;
    assert_eq!(server.data_dir.to_str(), Some("flag"));
    assert_eq!(server.schemas_dir.to_str(), Some("variable"));
    assert_eq!(server.ready_file.unwrap().to_str(), Some("file"));
}

#[test]
fn file_sets_values_of_every_type() {
    let settings = file(
        r#"
        [server]
        ephemeral = true
        grpc_addr = "[::1]:0"
        http_addr = ""
        instance_url = "https://events.example.com:7081/"
        [tls]
        cert_file = "chain.pem"
        key_file = "chain.key"
        [event_log]
        durability = "os"
        sync_interval = "500ms"
        retention = "72h"
        retention_bytes = "2GiB"
        queue_bytes = 16777216
        cache_bytes = "64MiB"
        [broker]
        credit_max = 50
        zero_credit_grace = "0s"
        managed_no_commit_timeout = "30m"
        [telemetry]
        log = "warn,tidegate::grpc=debug"
        log_format = "json"
        "#,
    )
    .settings();
    assert!(settings.gateway.ephemeral);
    assert_eq!(settings.gateway.grpc_addr, addr("[::1]:0"));
    assert_eq!(settings.gateway.http_addr, None);
    let url = settings.gateway.instance_url;
    assert_eq!(url.as_deref(), Some("https://events.example.com:7081"));
    assert_eq!(
        settings.gateway.tls.key_file.unwrap().to_str(),
        Some("chain.key")
    );
    assert_eq!(settings.gateway.event_log.durability, Durability::Os);
    let interval = settings.gateway.event_log.sync_interval;
    assert_eq!(interval, Duration::from_millis(500));
    let retention = settings.gateway.event_log.retention;
    assert_eq!(retention, Duration::from_secs(72 * 3_600));
    assert_eq!(settings.gateway.event_log.retention_bytes, Some(2 << 30));
    assert_eq!(settings.gateway.event_log.queue_bytes, 16 << 20);
    assert_eq!(settings.gateway.event_log.cache_bytes, 64 << 20);
    assert_eq!(settings.gateway.broker.credit_max, 50);
    assert_eq!(settings.gateway.broker.zero_credit_grace, None);
    let timeout = settings.gateway.broker.managed_no_commit_timeout;
    assert_eq!(timeout, Some(Duration::from_secs(1_800)));
    assert_eq!(settings.log.filter, "warn,tidegate::grpc=debug");
    assert_eq!(settings.log.format, LogFormat::Json);
}

/// Clients are written for the hosted service, and for a gateway that nobody has configured.
#[test]
fn the_defaults_are_what_clients_count_on() {
    let gateway = nothing().settings().gateway;
    let found_dead = gateway.http2.ping_interval + gateway.http2.ping_timeout;
    assert!(found_dead <= Duration::from_secs(15), "{found_dead:?}");
    assert_eq!(gateway.http2.streams_per_connection_max, 1_000);
    assert_eq!(gateway.broker.credit_max, 100);
    assert_eq!(gateway.broker.keepalive, Duration::from_secs(60));
    let grace = gateway.broker.zero_credit_grace;
    assert_eq!(grace, Some(Duration::from_secs(70)));
    assert_eq!(gateway.broker.managed_no_commit_timeout, None);
    let idle = gateway.grpc.publish_stream_idle;
    assert_eq!(idle, Some(Duration::from_secs(1_800)));
    let wait = gateway.grpc.first_message_wait;
    assert_eq!(wait, Duration::from_secs(10));
    assert_eq!(gateway.grpc_addr, addr("127.0.0.1:7011"));
}

#[test]
fn variables_set_values_of_every_type() {
    let settings = variable("TIDEGATE_SERVER__EPHEMERAL", "true")
        .and_variable("TIDEGATE_BROKER__CREDIT_MAX", "7")
        .and_variable("TIDEGATE_BROKER__KEEPALIVE", "2m")
        .and_variable("TIDEGATE_EVENT_LOG__RING_BYTES", "8388608")
        .and_variable("TIDEGATE_EVENT_LOG__CACHE_BYTES", "9MiB")
        .settings();
    assert!(settings.gateway.ephemeral);
    assert_eq!(settings.gateway.broker.credit_max, 7);
    assert_eq!(settings.gateway.broker.keepalive, Duration::from_secs(120));
    assert_eq!(settings.gateway.event_log.ring_bytes, 8 << 20);
    assert_eq!(settings.gateway.event_log.cache_bytes, 9 << 20);
}

#[test]
fn empty_value_unsets_what_a_lower_layer_set() {
    let layers = file("[event_log]\nretention_bytes = '1GiB'\n[server]\nready_file = 'x'")
        .and_variable("TIDEGATE_EVENT_LOG__RETENTION_BYTES", "")
        .and_flags(&["--ready-file", "", "--https-addr", ""]);
    let settings = layers.settings();
    assert_eq!(settings.gateway.event_log.retention_bytes, None);
    assert_eq!(settings.gateway.ready_file, None);
    assert_eq!(settings.gateway.https_addr, None);
}

#[test]
fn variables_of_the_client_and_of_others_are_passed_over() {
    let settings = variable("TIDEGATE_TOKEN", "secret")
        .and_variable("TIDEGATE_ENDPOINT", "x")
        .and_variable("OTHER__DATA_DIR", "x")
        .settings();
    assert_eq!(settings, Settings::default());
}

#[test]
fn every_flag_of_serve_sets_its_setting() {
    let server = flags(&["--data-dir", "d", "--schemas", "s", "--ephemeral"])
        .and_flags(&["--ready-file", "r", "--grpc-tls-addr", "127.0.0.1:1"])
        .and_flags(&["--grpc-addr", "127.0.0.1:2", "--http-addr", "127.0.0.1:3"])
        .and_flags(&["--https-addr", "127.0.0.1:4"])
        .settings()
        .gateway;
    let expected = crate::server::Config {
        data_dir: "d".into(),
        schemas_dir: "s".into(),
        ephemeral: true,
        ready_file: Some("r".into()),
        grpc_tls_addr: addr("127.0.0.1:1"),
        grpc_addr: addr("127.0.0.1:2"),
        http_addr: addr("127.0.0.1:3"),
        https_addr: addr("127.0.0.1:4"),
        ..crate::server::Config::default()
    };
    assert_eq!(server, expected);
    let known = ServeFlags::augment_args(clap::Command::new("tidegate"));
    // One of them is the file.
    assert_eq!(known.get_arguments().count(), 1 + 8);
}

#[test]
fn every_problem_of_every_layer_is_reported_with_its_place() {
    let layers =
        file("[server]\nephemeral = 'yes'\n\n[broker]\ncredit_max = 101\nkeepalive = 60\n")
            .and_variable("TIDEGATE_EVENT_LOG__DURABILITY", "maybe")
            .and_variable("TIDEGATE_EVENT_LOG__RETENTION", "3 days")
            .and_flags(&["--grpc-addr", "localhost:7011"]);
    assert_eq!(
        layers.problems(),
        [
            "file tidegate.toml line 2: server.ephemeral: found \"yes\", wanted true or false",
            "file tidegate.toml line 5: broker.credit_max: found 101, wanted a number from 1 to 100",
            "file tidegate.toml line 6: broker.keepalive: found 60, wanted a duration from \"100ms\" to \
             \"270s\" in ms, s, m or h",
            "environment variable TIDEGATE_EVENT_LOG__DURABILITY: event_log.durability: \
             found \"maybe\", wanted \"sync\" or \"os\"",
            "environment variable TIDEGATE_EVENT_LOG__RETENTION: event_log.retention: \
             found \"3 days\", wanted a duration from \"1s\" to \"87600h\" in ms, s, m or h",
            "flag --grpc-addr: server.grpc_addr: found \"localhost:7011\", wanted an IP address \
             with a port such as \"127.0.0.1:7443\" or \"[::1]:7443\", or \"\" for no listener",
        ]
    );
}

#[test]
fn problem_in_a_lower_layer_is_reported_though_a_higher_one_is_right() {
    let layers = file("[broker]\ncredit_max = 0").and_variable("TIDEGATE_BROKER__CREDIT_MAX", "1");
    assert_eq!(layers.problems().len(), 1);
}

#[test]
fn values_that_are_not_wanted_are_refused_for_every_kind() {
    for (key, refused) in [
        ("server.data_dir", &["''", "5", "true", "[]"][..]),
        ("server.ready_file", &["5", "{}"]),
        ("server.ephemeral", &["'true'", "1", "''"]),
        (
            "server.https_addr",
            &[
                "'7081'",
                "7081",
                "':7081'",
                "'127.0.0.1'",
                "'127.0.0.1:70000'",
            ],
        ),
        (
            "server.instance_url",
            &[
                "'events.example.com'",
                "'http://events.example.com'",
                "'https://events.example.com/path'",
                "'https://user:password@events.example.com'",
                "'https://'",
                "5",
            ],
        ),
        (
            "server.shutdown_grace",
            &[
                "'10'",
                "10",
                "''",
                "'-1s'",
                "'1.5s'",
                "'25h'",
                "'10 s'",
                "'18446744073709551615h'",
            ],
        ),
        ("event_log.durability", &["'SYNC'", "''", "1"]),
        ("event_log.sync_interval", &["'0s'", "'61s'"]),
        (
            "event_log.retention",
            &["'999ms'", "1979-05-27", "'100000h'"],
        ),
        (
            "event_log.retention_bytes",
            &["0", "1048575", "'1GB'", "'2048TiB'", "-1", "1.5", "'1024'"],
        ),
        ("event_log.queue_bytes", &["'3MiB'", "'65GiB'", "''"]),
        ("event_log.segment_bytes_max", &["'1KiB'", "'2GiB'"]),
        (
            "broker.credit_max",
            &["0", "101", "'5'", "-1", "4294967297"],
        ),
        ("broker.keepalive", &["'99ms'", "'271s'"]),
        ("broker.zero_credit_grace", &["'1ms'", "0", "'never'"]),
        (
            "broker.managed_no_commit_timeout",
            &["'1ms'", "30", "'25h'"],
        ),
        ("grpc.request_bytes_max", &["'1MiB'", "'65MiB'"]),
        ("grpc.ping_interval", &["'0s'"]),
        ("telemetry.log", &["'inof'", "''", "5"]),
        ("telemetry.log_format", &["'xml'"]),
    ] {
        for value in refused {
            let problems = file(&format!("{key} = {value}")).problems();
            let place = format!("file tidegate.toml line 1: {key}: found ");
            assert_eq!(problems.len(), 1, "{key} = {value}: {problems:?}");
            assert!(problems[0].starts_with(&place), "{problems:?}");
        }
    }
}

#[test]
fn password_in_a_refused_url_is_not_shown() {
    let problems = variable("TIDEGATE_SERVER__INSTANCE_URL", "https://me:secret@host").problems();
    assert!(
        problems[0].contains("found \"https://***@host\", wanted"),
        "{problems:?}"
    );
}

#[test]
fn values_at_their_bounds_are_taken() {
    for given in [
        "server.shutdown_grace = '0s'",
        "server.shutdown_grace = '24h'",
        "event_log.retention = '1s'",
        "event_log.retention_bytes = '1MiB'",
        "event_log.queue_bytes = '4MiB'",
        "event_log.segment_bytes_max = '1GiB'",
        "broker.credit_max = 1",
        "broker.credit_max = 0x64",
        "broker.keepalive = '1s'",
        "broker.keepalive = '270s'",
        "grpc.request_bytes_max = '2MiB'",
    ] {
        assert!(file(given).load().is_ok(), "{given}");
    }
}

#[test]
fn unknown_names_are_refused_with_the_nearest_known_one() {
    for (text, problem) in [
        (
            "[broker]\ncreditmax = 5",
            "line 2: found the unknown key \"creditmax\" in [broker], wanted credit_max",
        ),
        (
            "[tls]\nretention = '1h'",
            "line 2: found the unknown key \"retention\" in [tls], wanted it in [event_log]",
        ),
        (
            "[tls]\nzzz = 1",
            "line 2: found the unknown key \"zzz\" in [tls], wanted one of cert_file, key_file",
        ),
        (
            "[brokr]\ncredit_max = 5\nkeepalive = '5s'",
            "line 1: found the unknown section [brokr], wanted [broker]",
        ),
        (
            "[zzz]",
            "line 1: found the unknown section [zzz], wanted one of [server], [tls], [event_log], \
             [broker], [idempotence], [auth], [schema], [channels], [grpc], [telemetry]",
        ),
        (
            "\ndata_dir = 'x'",
            "line 2: found \"data_dir\" outside of any section, wanted it in [server]",
        ),
        (
            "[[server]]\ndata_dir = 'x'",
            "line 1: found \"server\" outside of any section, wanted [server]",
        ),
        (
            "[server.tls]\ncert_file = 'x'",
            "line 1: found the unknown key \"tls\" in [server], wanted one of data_dir, schemas_dir, \
             ephemeral, ready_file, grpc_tls_addr, grpc_addr, http_addr, https_addr, instance_url, \
             shutdown_grace, insecure_listen",
        ),
    ] {
        assert_eq!(
            file(text).problems(),
            [format!("file tidegate.toml {problem}")],
            "{text}"
        );
    }
}

#[test]
fn unknown_variables_are_refused_with_the_nearest_known_one() {
    for (name, wanted) in [
        ("TIDEGATE_SERVER__DATADIR", "TIDEGATE_SERVER__DATA_DIR"),
        ("TIDEGATE_BROKR__CREDIT_MAX", "TIDEGATE_BROKER__CREDIT_MAX"),
        ("TIDEGATE_server__data_dir", "TIDEGATE_SERVER__DATA_DIR"),
        ("TIDEGATE__DATA_DIR", "TIDEGATE_SERVER__DATA_DIR"),
        (
            "TIDEGATE_ZZZ__QQQ",
            "TIDEGATE_SECTION__KEY with a section and a key of `config show`",
        ),
    ] {
        let expected =
            format!("environment variable {name}: found no setting of that name, wanted {wanted}");
        assert_eq!(variable(name, "secret").problems(), [expected]);
    }
}

#[test]
fn variable_that_is_not_text_is_refused() {
    let mut given = nothing();
    let value = OsStr::from_bytes(b"\xff").to_owned();
    given
        .variables
        .push(("TIDEGATE_SERVER__DATA_DIR".into(), value));
    assert_eq!(
        given.problems(),
        [
            "environment variable TIDEGATE_SERVER__DATA_DIR: server.data_dir: \
          found text that is not UTF-8, wanted a path"
        ]
    );
}

#[test]
fn file_that_cannot_be_read_is_refused() {
    let given = nothing();
    let absent = given.dir.path().join("absent.toml");
    let problems = given
        .and_flags(&["--config", absent.to_str().unwrap()])
        .problems();
    assert_eq!(problems.len(), 1);
    assert!(
        problems[0].starts_with("file absent.toml: found that it cannot be read (No such file")
    );
    assert!(problems[0].ends_with("wanted a configuration file in TOML"));
    let problems = flags(&["--config", "/"]).problems();
    assert!(problems[0].starts_with("file /: found that it cannot be read (Is a directory"));
    let problems = flags(&["--config", "/dev/zero"]).problems();
    assert!(problems[0].starts_with("file /dev/zero: found more than 1048576 bytes,"));
    let problems = nothing().and_file(b"\xff\xfe").problems();
    assert!(problems[0].starts_with("file tidegate.toml: found text that is not UTF-8,"));
}

#[test]
fn each_mistake_in_syntax_is_reported_with_its_line() {
    let layers =
        file("[server]\ndata_dir = \nready_file = 'x\n[broker]\ncredit_max = 1\ncredit_max = 2\n")
            .and_variable("TIDEGATE_SERVER__EPHEMERAL", "maybe");
    let problems = layers.problems();
    for (problem, place) in problems.iter().zip([
        "file tidegate.toml line 2: found a mistake (",
        "file tidegate.toml line 3: found a mistake (",
        "file tidegate.toml line 6: found a mistake (",
        "environment variable TIDEGATE_SERVER__EPHEMERAL: ",
    ]) {
        assert!(problem.starts_with(place), "{problems:#?}");
    }
    assert_eq!(problems.len(), 4, "{problems:#?}");
}

#[test]
fn certificate_and_key_go_together() {
    assert_eq!(
        file("[tls]\ncert_file = 'x'").problems(),
        [
            "file tidegate.toml line 2: tls.cert_file: found it without tls.key_file, wanted both or neither"
        ]
    );
    assert_eq!(
        variable("TIDEGATE_TLS__KEY_FILE", "x").problems(),
        [
            "environment variable TIDEGATE_TLS__KEY_FILE: tls.key_file: found it without \
          tls.cert_file, wanted both or neither"
        ]
    );
}

#[test]
fn setting_with_a_problem_of_its_own_breaks_no_rule_as_well() {
    let problems = file("[tls]\ncert_file = 'x'\nkey_file = 5").problems();
    assert_eq!(problems.len(), 1, "{problems:?}");
    let problems = file("[server]\ninsecure_listen = 'yes'\ngrpc_addr = '0.0.0.0:0'").problems();
    assert_eq!(problems.len(), 1, "{problems:?}");
}

#[test]
fn plaintext_beyond_this_machine_is_refused_unless_it_is_asked_for() {
    for (flag, key) in [("--grpc-addr", "grpc_addr"), ("--http-addr", "http_addr")] {
        let exposed = flags(&[flag, "0.0.0.0:7999"])
            .and_variable("TIDEGATE_TLS__CERT_FILE", "x")
            .and_variable("TIDEGATE_TLS__KEY_FILE", "x");
        assert_eq!(
            exposed.problems(),
            [format!(
                "flag {flag}: server.{key}: found \"0.0.0.0:7999\", which is beyond this machine, \
                 in plaintext, wanted a loopback address, the TLS listener used instead, or \
                 server.insecure_listen = true to risk it"
            )]
        );
        let asked_for = exposed.and_variable("TIDEGATE_SERVER__INSECURE_LISTEN", "true");
        assert!(asked_for.load().is_ok());
    }
}

#[test]
fn tls_beyond_this_machine_needs_a_certificate_of_its_own() {
    for (flag, key) in [
        ("--grpc-tls-addr", "grpc_tls_addr"),
        ("--https-addr", "https_addr"),
    ] {
        let exposed = flags(&[flag, "[2001:db8::1]:7999"]);
        let problems = exposed.problems();
        assert_eq!(problems.len(), 1);
        let found = format!(
            "flag {flag}: server.{key}: found \"[2001:db8::1]:7999\", which is beyond this machine, \
             with a development certificate, wanted a loopback address, tls.cert_file and \
             tls.key_file set,"
        );
        assert!(problems[0].starts_with(&found), "{problems:?}");
        let certified = exposed
            .and_variable("TIDEGATE_TLS__CERT_FILE", "x")
            .and_variable("TIDEGATE_TLS__KEY_FILE", "x");
        assert!(certified.load().is_ok());
    }
}

#[test]
fn every_form_of_loopback_is_this_machine() {
    for addr in ["127.9.9.9:0", "[::1]:0", "[::ffff:127.0.0.1]:0"] {
        assert!(flags(&["--grpc-addr", addr]).load().is_ok(), "{addr}");
    }
    for addr in ["[::ffff:10.0.0.1]:0", "[::]:0", "10.0.0.1:0"] {
        assert!(flags(&["--grpc-addr", addr]).load().is_err(), "{addr}");
    }
}

#[test]
fn listeners_do_not_share_an_address() {
    assert_eq!(
        flags(&["--grpc-addr", "127.0.0.1:7081"]).problems(),
        [
            "flag --grpc-addr: server.grpc_addr: found \"127.0.0.1:7081\", which is that of \
          server.https_addr, wanted an address of its own"
        ]
    );
    let any_port = ["--grpc-addr", "127.0.0.1:0", "--http-addr", "127.0.0.1:0"];
    assert!(flags(&any_port).load().is_ok());
}

#[test]
fn gateway_that_nobody_could_reach_is_refused() {
    let all_but_one = flags(&["--grpc-tls-addr=", "--grpc-addr=", "--http-addr="]);
    assert!(all_but_one.load().is_ok());
    assert_eq!(
        all_but_one.and_flags(&["--https-addr="]).problems(),
        [
            "flag --grpc-tls-addr: server.grpc_tls_addr: found every listener switched off, wanted an \
          address for at least one"
        ]
    );
}

#[test]
fn show_prints_each_value_with_its_layer() {
    let layers = file("[server]\nready_file = 'C:\\\"x\"'\nhttp_addr = ''")
        .and_variable("TIDEGATE_BROKER__CREDIT_MAX", "50")
        .and_flags(&["--data-dir", "d"]);
    let shown = layers.load().unwrap().show();
    let shown = shown.replace(&format!("{}/", layers.dir.path().display()), "");
    for line in [
        "[server]",
        "# Where events, metadata, the profile and development certificates are kept",
        "data_dir = \"d\"  # flag --data-dir",
        "schemas_dir = \"./schemas\"  # default",
        "ready_file = 'C:\\\"x\"'  # file tidegate.toml line 2",
        "http_addr = \"\"  # file tidegate.toml line 3",
        "# instance_url is not set  # default",
        "credit_max = 50  # environment variable TIDEGATE_BROKER__CREDIT_MAX",
        "retention = \"72h\"  # default",
        "ring_bytes = \"24MiB\"  # default",
        "durability = \"sync\"  # default",
    ] {
        assert!(shown.lines().any(|shown| shown == line), "{line}\n{shown}");
    }
}

#[test]
fn what_show_prints_is_a_file_with_the_same_settings() {
    for layers in [
        nothing(),
        file(
            "[broker]\nzero_credit_grace = '0s'\nkeepalive = '1500ms'\n\
             [event_log]\nretention_bytes = 1048577\ndurability = 'os'\n\
             [server]\nhttps_addr = ''\ninstance_url = 'https://host'\n",
        ),
    ] {
        let effective = layers.load().unwrap();
        let again = file(&effective.show()).settings();
        assert_eq!(again, effective.settings);
    }
}

#[test]
fn every_setting_has_a_documented_variable_with_its_default() {
    let defaults = Settings::default();
    let table: String = KEYS
        .iter()
        .map(|key| {
            let default = match key.show(&defaults) {
                Some(value) => format!("`{}`", value.trim_matches('"')),
                None => "not set".to_owned(),
            };
            format!("//! | `{}` | {default} |\n", key.variable())
        })
        .collect();
    assert!(include_str!("env.rs").contains(&table), "wanted:\n{table}");
}

#[test]
fn sections_are_whole_and_keys_are_there_once() {
    let mut names: Vec<_> = KEYS.iter().map(|key| key.to_string()).collect();
    let count = names.len();
    names.sort();
    names.dedup();
    assert_eq!(names.len(), count);
    let mut sections: Vec<_> = KEYS.iter().map(|key| key.section).collect();
    sections.dedup();
    assert_eq!(
        sections,
        [
            "server",
            "tls",
            "event_log",
            "broker",
            "idempotence",
            "auth",
            "schema",
            "channels",
            "grpc",
            "telemetry"
        ]
    );
}

#[test]
fn the_readme_lists_every_setting_with_its_default() {
    const README: &str = include_str!("../../README.md");
    for key in KEYS {
        let default = match key.show(&Settings::default()) {
            Some(value) => format!("`{value}`"),
            None => "not set".to_owned(),
        };
        let row = format!("| `{key}` | {default} | {} |", key.doc);
        assert!(README.contains(&row), "there is no row {row}");
    }
}
