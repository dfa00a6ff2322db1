//! `tidegate schema pull` and `push`: a directory and a gateway in step, for those who keep schemas in a
//! repository.

use std::{
    fs,
    path::{Path, PathBuf},
};

use serde::Serialize;

use super::{
    super::{
        connection::ConnectionArgs,
        exit::Failure,
        output::{Output, OutputArgs, Record, note, warn},
    },
    compare::version,
    read_file, register,
};
use crate::{
    client::Connection,
    net::whole_file,
    proto::admin::{ListTopicsRequest, Topic},
    schema::files,
    types::TopicName,
};

/// Arguments of `tidegate schema pull`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Each topic becomes NAME.avsc, after the name of its record. Files of other schemas are left alone, and
named. With --output json there is an object a file: file, topic, schema_id and state, which is new,
changed, same or only_here.")]
pub(super) struct PullArgs {
    /// Where the files are; it is made if it is not there
    #[arg(value_name = "DIR")]
    dir: PathBuf,
    /// Say what would be written, and write nothing
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    output: OutputArgs,
    #[command(flatten)]
    connection: ConnectionArgs,
}

/// Arguments of `tidegate schema push`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
First each schema is checked; if one is refused, none is registered. In the CI of a schema repository:
  tidegate schema push schemas --dry-run     for a change that is proposed
  tidegate schema push schemas               once it is accepted")]
pub(super) struct PushArgs {
    /// Where the files are, whose names end in .avsc
    #[arg(value_name = "DIR")]
    dir: PathBuf,
    /// Say what would be registered, and register nothing
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    output: OutputArgs,
    #[command(flatten)]
    connection: ConnectionArgs,
}

pub(super) async fn pull(args: PullArgs) -> Result<(), Failure> {
    let connection = args.connection.connect().await?;
    let mut output = Output::stdout(args.output);
    let here = files_of(&args.dir)?;
    let mut expected = Vec::new();
    for topic in topics(&connection).await? {
        let row = pull_topic(&connection, &args.dir, &topic, args.dry_run).await?;
        expected.push(args.dir.join(&row.name));
        output.record(&row);
        output.flush().await?;
    }
    for path in here.iter().filter(|path| !expected.contains(path)) {
        output.record(&PulledFile::only_here(path));
    }
    output.flush().await
}

async fn topics(connection: &Connection) -> Result<Vec<Topic>, Failure> {
    let topics = connection.admin().list_topics(ListTopicsRequest {}).await?;
    Ok(topics.into_inner().topics)
}

async fn pull_topic(
    connection: &Connection,
    dir: &Path,
    topic: &Topic,
    dry_run: bool,
) -> Result<PulledFile, Failure> {
    let name: TopicName = topic.name.parse().map_err(|error| {
        Failure::failed(format!(
            "the gateway has a topic whose name is none: {error}"
        ))
    })?;
    // A topic's name holds nothing that leads out of a directory.
    let file = format!("{}.avsc", name.event_name());
    let path = dir.join(&file);
    let text = version(connection, &topic.schema_id).await?.schema_json;
    let before = match path.exists() {
        true => Some(read_file(&path).map_err(Failure::failed)?),
        false => None,
    };
    let state = match &before {
        None => "new",
        Some(before) if before.trim_end() == text.trim_end() => "same",
        Some(_) => "changed",
    };
    if state != "same" && !dry_run {
        let written = fs::create_dir_all(dir).and_then(|()| {
            whole_file::write(&path, with_newline(text).as_bytes(), whole_file::PUBLIC)
        });
        written.map_err(|error| {
            Failure::failed(format!("cannot write {}: {error}", path.display()))
        })?;
    }
    Ok(PulledFile {
        file: path.display().to_string(),
        name: file,
        topic: Some(topic.name.clone()),
        schema_id: Some(topic.schema_id.clone()),
        state,
    })
}

fn with_newline(mut text: String) -> String {
    if !text.ends_with('\n') {
        text.push('\n');
    }
    text
}

fn files_of(dir: &Path) -> Result<Vec<PathBuf>, Failure> {
    files::list(dir)
        .map_err(|error| Failure::failed(format!("cannot read {}: {error}", dir.display())))
}

pub(super) async fn push(args: PushArgs) -> Result<(), Failure> {
    let files = files_of(&args.dir)?;
    if files.is_empty() {
        let nothing = format!(
            "{} has no files whose names end in .avsc",
            args.dir.display()
        );
        return Err(Failure::failed(nothing));
    }
    let mut requests = Vec::new();
    for path in &files {
        match register::request(path, None, None) {
            Ok(request) => requests.push((path, request)),
            Err(reason) => warn(&reason),
        }
    }
    let mut refused = files.len() - requests.len();
    let connection = args.connection.connect().await?;
    let mut output = Output::stdout(args.output);
    let mut checked = Vec::new();
    for (path, request) in &requests {
        let verdict = register::judge(&connection, path, request.clone(), true).await?;
        refused += usize::from(verdict.refused);
        checked.push(verdict);
    }
    if refused > 0 || args.dry_run {
        checked.iter().for_each(|verdict| output.record(verdict));
        output.flush().await?;
    }
    if refused > 0 {
        let all = files.len();
        let reason = format!("{refused} of {all} schemas are refused; none is registered");
        return Err(Failure::failed(reason));
    }
    if args.dry_run {
        return Ok(());
    }
    for (path, request) in requests {
        let verdict = register::judge(&connection, path, request, false).await?;
        let is_refused = verdict.refused;
        output.record(&verdict);
        output.flush().await?;
        if is_refused {
            // Somebody changed something since it was checked.
            let reason = "the rest is not registered; run the command again";
            return Err(Failure::failed(reason));
        }
    }
    note(&format!(
        "every schema of {} is registered",
        args.dir.display()
    ));
    Ok(())
}

/// What became of a file. The fields are the keys in JSON.
#[derive(Debug, Serialize)]
struct PulledFile {
    file: String,
    #[serde(skip)]
    name: String,
    topic: Option<String>,
    schema_id: Option<String>,
    /// `new`, `changed`, `same` or `only_here`.
    state: &'static str,
}

impl PulledFile {
    fn only_here(path: &Path) -> Self {
        Self {
            file: path.display().to_string(),
            name: String::new(),
            topic: None,
            schema_id: None,
            state: "only_here",
        }
    }
}

impl Record for PulledFile {
    fn text(&self) -> String {
        let state = self.state.replace('_', " ");
        match (&self.topic, &self.schema_id) {
            (Some(topic), Some(id)) => format!("{state:9}  {}  {topic}  {id}", self.file),
            _ => format!("{state:9}  {}", self.file),
        }
    }
}
