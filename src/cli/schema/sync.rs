//! `tidegate schema pull` and `push`: a directory and a gateway in step, for those who keep schemas in a
//! repository.

use std::{
    collections::{HashMap, HashSet},
    fs,
    path::{Path, PathBuf},
};

use serde::Serialize;

use super::{
    super::{
        connection::ConnectionArgs,
        exit::Failure,
        output::{Output, OutputArgs, Record, note},
    },
    compare::version,
    read_file,
    register::{self, Tally},
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
First every schema is checked; if one is refused, none is registered. In the CI of a schema repository:
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
    let mut expected = HashSet::new();
    for topic in topics(&connection).await? {
        let row = pull_topic(&connection, &args.dir, &topic, args.dry_run).await?;
        expected.insert(args.dir.join(&row.name));
        output.record(&row);
        output.flush().await?;
    }
    for path in here.iter().filter(|path| !expected.contains(*path)) {
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
        Some(before) if *before == text => "same",
        Some(_) => "changed",
    };
    if state != "same" && !dry_run {
        // To the letter: what is pushed again without an edit changes nothing.
        let written = fs::create_dir_all(dir)
            .and_then(|()| whole_file::write(&path, text.as_bytes(), whole_file::PUBLIC));
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

/// The schema files of a directory, sorted.
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
    let connection = args.connection.connect().await?;
    let mut output = Output::stdout(args.output);
    let mut checks = Tally::default();
    let mut checked = Vec::new();
    let mut topics = HashMap::new();
    for path in &files {
        let judged = match register::request(path, None, None) {
            Ok(request) => {
                let judged = register::judge(&connection, path, request.clone(), true).await;
                judged.map(|verdict| (Some(request), verdict))
            }
            Err(verdict) => Ok((None, *verdict)),
        };
        let judged = judged.and_then(|(request, verdict)| {
            if let Some(other) = topics.insert(verdict.topic.clone(), path)
                && !verdict.topic.is_empty()
            {
                let other = other.display();
                return Err(Failure::failed(format!("{other} is of the same topic")));
            }
            checked.extend(request.map(|request| (path, request, verdict.current.clone())));
            Ok(verdict)
        });
        checks.add(&mut output, path, judged)?;
    }
    let is_good = checks.result().is_ok();
    if !is_good || args.dry_run {
        output.flush().await?;
        return checks.result().map_err(|failure| match args.dry_run {
            true => failure,
            false => Failure::failed(format!("{failure}; none is registered")),
        });
    }
    // What the checks said is of no interest any more.
    let mut output = Output::stdout(args.output);
    for (path, mut request, current) in checked {
        // What was checked is what is registered, or it is told that something came between.
        request.new_topic = current.is_empty();
        request.expected_schema_id = current;
        let verdict = register::judge(&connection, path, request, false).await;
        let mut registered = Tally::default();
        registered.add(&mut output, path, verdict)?;
        output.flush().await?;
        if registered.result().is_err() {
            let reason = "the files that follow are not registered; run the command again";
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
