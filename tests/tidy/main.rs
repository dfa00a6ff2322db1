//! Holds the source to its layering: which module may use which, and what only some may touch.
//!
//! It reads `src/**/*.rs` as tokens, without comments, text and test code, and compares the paths it
//! finds with the tables below. Whoever moves a boundary on purpose changes a table and says why.

mod scan;

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use scan::Source;

/// A module of the crate's root. It may use every module of a lower layer, and those of `also`.
struct Module {
    layer: u8,
    name: &'static str,
    also: &'static [&'static str],
}

const fn module(layer: u8, name: &'static str, also: &'static [&'static str]) -> Module {
    Module { layer, name, also }
}

const MODULES: &[Module] = &[
    // Vocabulary.
    module(0, "types", &[]),
    module(0, "clock", &[]),
    module(0, "proto", &[]),
    module(0, "manual", &[]),
    // Services.
    module(1, "net", &[]),
    module(1, "telemetry", &[]),
    // Engines.
    module(2, "event_log", &[]),
    module(2, "metadata", &[]),
    module(2, "schema", &["metadata"]),
    module(2, "filter", &["schema"]),
    module(2, "auth", &["metadata"]),
    // The client side, which works without the server.
    module(2, "client", &["schema"]),
    module(2, "subscriber", &["schema", "client"]),
    module(2, "publisher", &["schema", "client"]),
    // Domain.
    module(3, "broker", &[]),
    // Edges. One wire, one way to say no: the admin service answers with the statuses of `grpc`.
    module(4, "grpc", &[]),
    module(4, "http", &[]),
    module(4, "admin", &["grpc"]),
    // Assembly.
    module(5, "server", &[]),
    module(5, "bench", &[]),
    // Entry.
    module(6, "config", &[]),
    module(6, "cli", &["config"]),
];

/// Something that only some modules may name.
struct Reserved {
    /// The paths it is reached by; what they begin with is enough.
    paths: &'static [&'static str],
    /// The modules, or paths of modules, that may.
    only: &'static [&'static str],
    why: &'static str,
}

const RESERVED: &[Reserved] = &[
    Reserved {
        paths: &["std::env", "env::var", "env::vars", "env::args"],
        only: &["config", "cli"],
        why: "only `config` and `cli` read the environment",
    },
    Reserved {
        paths: &[
            "SystemTime::now",
            "std::time::SystemTime",
            "jiff::Timestamp::now",
            "Zoned::now",
        ],
        only: &["clock"],
        why: "only `clock` reads wall time",
    },
    Reserved {
        paths: &["crate::event_log::embedded"],
        // The assembly chooses the backend; `log info` and its like work on its files.
        only: &["event_log", "server", "cli", "bench"],
        why: "only `event_log` opens event files",
    },
    Reserved {
        paths: &["std::fs", "tokio::fs", "rustix::fs"],
        only: &[
            "event_log",
            "metadata",
            "schema",
            "net",
            "client",
            "subscriber",
            "server",
            "config",
            "cli",
            "bench",
        ],
        why: "this module touches no files",
    },
    Reserved {
        paths: &["crate::schema::registry"],
        only: &[
            "schema", "broker", "grpc", "http", "admin", "server", "cli", "bench",
        ],
        why: "the client side works without the server's registry",
    },
    Reserved {
        paths: &["crate::proto"],
        only: &[
            "proto",
            "grpc",
            "http",
            "admin",
            "client",
            "subscriber",
            "publisher",
            "cli",
            "bench",
        ],
        why: "only the edges and the client side name a generated type",
    },
    Reserved {
        paths: &["crate::client", "crate::subscriber", "crate::publisher"],
        only: &[
            "client",
            "subscriber",
            "publisher",
            "server",
            "bench",
            "config",
            "cli",
        ],
        why: "the gateway's own modules are nobody's client",
    },
];

/// What of `proto` the assembly needs: services to mount and descriptors to reflect.
const SERVICES_OF_PROTO: [&str; 3] = [
    "crate::proto::DESCRIPTORS",
    "crate::proto::pub_sub_server",
    "crate::proto::admin::admin_server",
];

/// Methods that only some modules may call.
const RESERVED_METHODS: &[Reserved] = &[
    Reserved {
        paths: &["may_publish", "may_subscribe"],
        only: &["types", "broker"],
        why: "only `broker` asks whether a caller may",
    },
    Reserved {
        paths: &["unwrap"],
        only: &[],
        why: "`unwrap` is for tests; `expect` says why",
    },
];

/// Macros that only some modules may call.
const RESERVED_MACROS: &[Reserved] = &[
    Reserved {
        paths: &["print", "println", "eprint", "eprintln"],
        only: &["cli", "main"],
        why: "only the command line prints",
    },
    Reserved {
        paths: &["todo", "dbg", "unimplemented"],
        only: &[],
        why: "left over from writing",
    },
];

/// Every rule that `source` breaks, as `file:line: what`.
fn problems(source: &Source) -> Vec<String> {
    let mut problems = Vec::new();
    let Some(here) = source.root_module() else {
        return problems;
    };
    let mut report = |line: usize, what: String| {
        problems.push(format!("{}:{line}: {what}", source.file));
    };
    let named = |name| MODULES.iter().find(|module| module.name == name);
    let known = named(here);
    if known.is_none() && here != "main" {
        report(
            1,
            format!("module `{here}` is not in the table of tests/tidy"),
        );
    }
    for path in &source.paths {
        if let Some(module) = known
            && let Some(used) = path.text.strip_prefix("crate::")
            // Items of the root and its macros are of no layer.
            && let Some(used) = named(used.split("::").next().unwrap_or_default())
            && used.name != here
            && used.layer >= module.layer
            && !module.also.contains(&used.name)
        {
            report(
                path.line,
                format!("`{here}` may not use `{}` (`{}`)", used.name, path.text),
            );
        }
        let is_service = here == "server"
            && SERVICES_OF_PROTO
                .iter()
                .any(|service| begins_with(&path.text, service));
        for rule in RESERVED {
            let named = rule
                .paths
                .iter()
                .any(|reserved| begins_with(&path.text, reserved));
            if named && !is_service && !rule.only.contains(&here) {
                report(path.line, format!("{} (`{}`)", rule.why, path.text));
            }
        }
    }
    for (names, rules) in [
        (&source.methods, RESERVED_METHODS),
        (&source.macros, RESERVED_MACROS),
    ] {
        for name in names {
            for rule in rules {
                if rule.paths.contains(&name.text.as_str()) && !rule.only.contains(&here) {
                    report(name.line, format!("{} (`{}`)", rule.why, name.text));
                }
            }
        }
    }
    problems
}

/// Whether `path` is `start` or goes on from it, by whole names; `start` may begin in its middle.
fn begins_with(path: &str, start: &str) -> bool {
    let rooted = path.strip_prefix(start);
    let rest = rooted.or_else(|| {
        let inner = format!("::{start}");
        path.find(&inner)
            .filter(|_| !start.starts_with("crate"))
            .map(|at| &path[at + inner.len()..])
    });
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}

#[test]
fn every_module_keeps_to_its_layer() {
    let sources = scan::crate_sources(&root().join("src"));
    assert!(
        sources.len() > 10,
        "the source is where this test looks for it"
    );
    let problems: Vec<_> = sources.iter().flat_map(problems).collect();
    assert!(problems.is_empty(), "\n{}\n", problems.join("\n"));
}

#[test]
fn every_command_of_the_readme_exists() {
    let readme = fs::read_to_string(root().join("README.md")).expect("README.md can be read");
    let commands = shell_commands(&readme);
    assert!(
        commands.iter().any(|command| command == "tests/run"),
        "the README runs the tests"
    );
    assert!(
        commands
            .iter()
            .any(|command| command.starts_with("cargo run --release -- serve"))
    );
    for command in commands {
        let words: Vec<_> = command.split_whitespace().collect();
        match words[..] {
            ["cargo", ..] => {
                for pair in words.windows(2) {
                    if let ["--example", name] = pair {
                        let file = root().join(format!("examples/{name}.rs"));
                        assert!(file.exists(), "`{command}`: there is no {}", file.display());
                    }
                }
            }
            [program, ..] if program.contains('/') && !program.starts_with("target/") => {
                assert!(
                    root().join(program).exists(),
                    "`{command}`: there is no such file"
                );
            }
            _ => {}
        }
    }
}

/// The commands of a document's `sh` and `console` blocks.
fn shell_commands(markdown: &str) -> Vec<String> {
    let mut commands = Vec::new();
    let mut in_shell = false;
    for line in markdown.lines() {
        if let Some(language) = line.trim_start().strip_prefix("```") {
            in_shell = !in_shell && ["sh", "bash", "console"].contains(&language.trim());
        } else if in_shell && !line.trim().is_empty() {
            let command = line.trim().trim_start_matches("$ ");
            commands.push(
                command
                    .split(" #")
                    .next()
                    .unwrap_or_default()
                    .trim()
                    .to_owned(),
            );
        }
    }
    commands
}

#[test]
fn every_call_of_the_wire_contracts_is_explained() {
    for file in [
        "proto/pubsub_api.proto",
        "proto/tidegate/admin/v1/admin.proto",
    ] {
        let text = fs::read_to_string(root().join(file)).expect("the contract can be read");
        assert!(text.starts_with("// "), "{file} begins with what it is");
        let mut before = "";
        for line in text.lines().map(str::trim) {
            if line.starts_with("rpc ") || line.starts_with("enum ") {
                assert!(
                    before.starts_with("//"),
                    "{file}: no comment before `{line}`"
                );
            }
            before = line;
        }
    }
}

#[test]
fn the_table_names_each_module_once_and_the_lower_first() {
    let names: BTreeSet<_> = MODULES.iter().map(|module| module.name).collect();
    assert_eq!(names.len(), MODULES.len());
    assert!(MODULES.is_sorted_by_key(|module| module.layer));
    for module in MODULES {
        assert!(
            module.also.iter().all(|also| names.contains(also)),
            "{}",
            module.name
        );
    }
}

#[test]
fn a_use_of_a_higher_layer_is_found() {
    for text in [
        "use crate::broker::Broker;",
        "use crate::{types::Event, broker};",
        "use crate::{types::{self, TopicName}, broker::{self}};",
        "fn f() { let x: crate::broker::Broker = y; }",
        "use super::super::broker;",
        "mod inner { use super::super::super::broker::Broker; }",
        "pub(crate) use crate::broker as b;",
        "macro_rules! m { () => { $crate::broker::f() } }",
    ] {
        let found = problems(&Source::parse("src/event_log/memory.rs", text));
        assert_eq!(found.len(), 1, "{text}: {found:?}");
        assert!(
            found[0].contains("`event_log` may not use `broker`"),
            "{found:?}"
        );
    }
}

#[test]
fn a_use_of_a_lower_layer_is_not() {
    for text in [
        "use crate::{types::{TopicName, limits::MIB}, clock::Clock};",
        "use super::{block, error::AppendError};",
        "use crate::event_log::block;",
        "// use crate::broker;",
        "/* use /* crate::broker */ crate::broker; */ fn f() {}",
        r##"const TEXT: &str = r#"use crate::broker; ""#; const C: char = '"';"##,
        "#[cfg(test)] mod tests { use crate::broker::Broker; fn f() { x.unwrap(); } }",
        "#[cfg(test)] use crate::broker;",
        "#[cfg(any(test, feature = \"test-util\"))] pub fn suite() { crate::broker::f(); }",
        "fn f<'a>(x: &'a str) { x.unwrap_or_default(); println_not(); }",
    ] {
        let found = problems(&Source::parse("src/event_log/memory.rs", text));
        assert_eq!(found, Vec::<String>::new(), "{text}");
    }
}

#[test]
fn what_is_reserved_is_found_outside_its_place() {
    for (file, text) in [
        (
            "src/broker/mod.rs",
            "use crate::proto::raw::PublishRequest;",
        ),
        (
            "src/server/mod.rs",
            "use crate::proto::raw::PublishRequest;",
        ),
        ("src/broker/mod.rs", "use std::{env, fmt};"),
        ("src/broker/mod.rs", "fn f() { std::env::var(\"X\"); }"),
        ("src/broker/mod.rs", "fn f() { SystemTime::now(); }"),
        (
            "src/broker/mod.rs",
            "fn f() { std::time::SystemTime::now(); }",
        ),
        ("src/broker/mod.rs", "fn f() { jiff::Zoned::now(); }"),
        (
            "src/broker/mod.rs",
            "use crate::event_log::embedded::EmbeddedLog;",
        ),
        ("src/broker/mod.rs", "use std::{fs::File, fmt};"),
        ("src/grpc/mod.rs", "fn f() { grants.may_publish(topic); }"),
        ("src/grpc/mod.rs", "fn f() { x.unwrap(); }"),
        ("src/grpc/mod.rs", "fn f() { todo!(); }"),
        ("src/grpc/mod.rs", "fn f() { println!(\"x\"); }"),
        (
            "src/subscriber/mod.rs",
            "use crate::schema::registry::Registry;",
        ),
    ] {
        let found = problems(&Source::parse(file, text));
        assert_eq!(found.len(), 1, "{file}: {text}: {found:?}");
        assert!(found[0].starts_with(&format!("{file}:1: ")));
    }
    for (file, text) in [
        ("src/clock.rs", "fn f() { SystemTime::now(); }"),
        (
            "src/cli/mod.rs",
            "fn f() { println!(\"x\"); std::env::args(); }",
        ),
        (
            "src/server/stack.rs",
            "use crate::proto::{DESCRIPTORS, pub_sub_server::PubSubServer};",
        ),
        ("src/grpc/mod.rs", "const X: &str = env!(\"OUT_DIR\");"),
        (
            "src/lib.rs",
            "pub mod broker; pub use crate::broker::Broker;",
        ),
        ("src/main.rs", "fn main() { eprintln!(\"x\"); }"),
    ] {
        let found = problems(&Source::parse(file, text));
        assert_eq!(found, Vec::<String>::new(), "{file}: {text}");
    }
}

#[test]
fn a_module_that_the_table_does_not_know_is_found() {
    let found = problems(&Source::parse("src/utils/mod.rs", "fn f() {}"));
    assert_eq!(
        found,
        ["src/utils/mod.rs:1: module `utils` is not in the table of tests/tidy"]
    );
}

#[test]
fn a_problem_is_found_at_its_line() {
    let text = "//! One.\n\nuse std::{\n    fmt,\n    env,\n};\n";
    let found = problems(&Source::parse("src/broker/mod.rs", text));
    assert_eq!(
        found,
        ["src/broker/mod.rs:5: only `config` and `cli` read the environment (`std::env`)"]
    );
}

#[test]
fn commands_are_read_out_of_shell_blocks_only() {
    let text =
        "```sh\n$ tests/run   # all\n```\ntext\n```rust\nfn f() {}\n```\n```console\na b\n```\n";
    assert_eq!(shell_commands(text), ["tests/run", "a b"]);
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_owned()
}
