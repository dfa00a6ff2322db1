//! What authors of schemas do: register, check, evolve, retire, by commands and by files.

mod authors;
mod watched;

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use serde_json::Value;
use tempfile::TempDir;

use crate::support::gateway::{Gateway, Place, Settings};

/// Exit codes, as `tidegate --help` lists them.
const FAILED: i32 = 1;
const USAGE: i32 = 2;
const NOT_PERMITTED: i32 = 4;

const TOPIC: &str = "/event/Invoice__e";

/// A gateway with a schemas directory of its own, and a place for files.
struct Workshop {
    gateway: Gateway,
    dir: TempDir,
}

impl Workshop {
    /// A gateway whose schemas directory is empty.
    fn open() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let place = Place {
            data_dir: dir.path().join("data"),
            schemas_dir: dir.path().join("schemas"),
        };
        fs::create_dir(&place.schemas_dir).unwrap();
        let gateway = Gateway::start_at(place, Settings::default());
        Self { gateway, dir }
    }

    fn schemas_dir(&self) -> PathBuf {
        self.dir.path().join("schemas")
    }

    /// A file with this text in the working directory.
    fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.dir.path().join(name);
        fs::write(&path, text).unwrap();
        path
    }

    /// `tidegate schema` with these arguments, words separated by spaces, and a file.
    fn schema(&self, arguments: &str, file: Option<&Path>) -> Command {
        let mut command = self.gateway.command(&format!("schema {arguments}"));
        command.args(file);
        command
    }

    /// Registers a text, which is taken; returns its id.
    #[track_caller]
    fn register(&self, text: &str) -> String {
        let file = self.file("registered.avsc", text);
        let rows = rows(self.schema("register", Some(&file)));
        assert_eq!(rows[0]["refused"], false, "{rows:?}");
        rows[0]["schema_id"].as_str().unwrap().to_owned()
    }

    fn publish(&self, arguments: &str, json: &str) -> Output {
        let mut command = self.gateway.command(&format!("publish {TOPIC}{arguments}"));
        command.args(["--json", json]);
        run(command)
    }

    /// The id of the topic's current schema, as every client is told it.
    fn current_id(&self) -> Value {
        rows(self.gateway.command(&format!("topic describe {TOPIC}")))[0]["schema_id"].clone()
    }
}

/// A schema of invoices with these fields, each a name and a type in JSON.
fn invoice(fields: &[(&str, &str)]) -> String {
    let fields = fields.iter().map(|(name, ty)| {
        format!(",\n  {{\"name\":\"{name}\",\"type\":[\"null\",{ty}],\"doc\":\"Data:Text\",\"default\":null}}")
    });
    format!(
        "{{\"type\":\"record\",\"name\":\"Invoice__e\",\"namespace\":\"com.sforce.eventbus\",\"fields\":[
  {{\"name\":\"CreatedDate\",\"type\":\"long\",\"doc\":\"CreatedDate:DateTime\"}},
  {{\"name\":\"CreatedById\",\"type\":\"string\",\"doc\":\"CreatedBy:EntityId\"}}{}]}}",
        fields.collect::<String>()
    )
}

fn run(mut command: Command) -> Output {
    command.output().expect("the program can be run")
}

/// The JSON lines that a command prints, however it ends, and its exit code.
fn lines(mut command: Command) -> (Vec<Value>, i32) {
    command.args(["--output", "json"]);
    let output = run(command);
    let stdout = String::from_utf8(output.stdout).unwrap();
    let rows = stdout.lines().map(serde_json::from_str);
    (
        rows.collect::<Result<_, _>>().unwrap(),
        output.status.code().unwrap(),
    )
}

/// The JSON lines that a command prints which succeeds.
#[track_caller]
fn rows(command: Command) -> Vec<Value> {
    let shown = format!("{command:?}");
    let (rows, code) = lines(command);
    assert_eq!(code, 0, "{shown}: {rows:?}");
    rows
}

/// What a command prints for people, and on standard error, and its exit code.
fn said(command: Command) -> (String, String, i32) {
    let output = run(command);
    let text = |bytes| String::from_utf8(bytes).unwrap();
    let code = output.status.code().unwrap();
    (text(output.stdout), text(output.stderr), code)
}
