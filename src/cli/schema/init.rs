//! `tidegate schema init`: a first schema for an event, right by every check.

use std::{
    fs::OpenOptions,
    io::{self, Write},
    path::{Path, PathBuf},
};

use crate::{
    cli::{
        exit::{Failure, output_failed},
        output::note,
    },
    schema::draft::{self, FieldSpec},
    types::TopicName,
};

/// Arguments of `tidegate schema init`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Types: Text (which is meant where none is given), LongText, Id, Checkbox, Number, DateTime, Date,
Time, int and long; of Avro also string, boolean and double. Case does not matter.

Names: an event gets the suffix __e unless its name ends in ChangeEvent, a field gets __c. In a
change event OwnerId, Name, CreatedDate, CreatedById, LastModifiedDate and LastModifiedById stay as
they are; in that of a standard object, such as AccountChangeEvent, all fields do.")]
pub(super) struct Args {
    /// The event: OrderCreated, OrderCreated__e, Shipment__ChangeEvent
    #[arg(value_name = "NAME", value_parser = draft::event_name)]
    name: String,
    /// A field and its type, such as Amount:double; may be repeated
    #[arg(long = "field", value_name = "FIELD[:TYPE]")]
    fields: Vec<FieldSpec>,
    /// Write to this file or into this directory; - prints it [default: NAME.avsc]
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Replace the file if it is there already
    #[arg(long)]
    force: bool,
}

pub(super) fn run(args: &Args) -> Result<(), Failure> {
    let text = draft::draft(&args.name, &args.fields)
        .map_err(|error| Failure::Usage(error.to_string()))?;
    if args.out.as_deref() == Some(Path::new("-")) {
        let mut stdout = io::stdout().lock();
        return stdout
            .write_all(text.as_bytes())
            .and_then(|()| stdout.flush())
            .map_err(output_failed);
    }
    let path = path(&args.name, args.out.as_deref());
    write(&path, &text, args.force)?;
    let shown = path.display();
    match TopicName::for_record(&args.name) {
        Ok(topic) => note(&format!("{shown} is the schema of the topic {topic}")),
        Err(error) => note(&format!("{shown} has no topic: {error}")),
    }
    note(&format!(
        "check it after every change with `tidegate schema lint {shown}`, then put it in the \
         directory of `tidegate serve --schemas` or register it with `tidegate schema register {shown}`"
    ));
    Ok(())
}

fn path(name: &str, out: Option<&Path>) -> PathBuf {
    let file = format!("{name}.avsc");
    match out {
        Some(directory) if directory.is_dir() => directory.join(file),
        Some(path) => path.to_owned(),
        None => file.into(),
    }
}

fn write(path: &Path, text: &str, force: bool) -> Result<(), Failure> {
    let mut options = OpenOptions::new();
    options.write(true);
    if force {
        options.create(true).truncate(true);
    } else {
        // Looking first and opening then would leave a moment for somebody else's file.
        options.create_new(true);
    }
    let written = options
        .open(path)
        .and_then(|mut file| file.write_all(text.as_bytes()));
    let shown = path.display();
    written.map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => Failure::failed(format!(
            "{shown} is there already; write to another file with --out, or replace it with --force"
        )),
        _ => Failure::failed(format!("cannot write {shown}: {error}")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        cli::exit::Exit,
        schema::{files, lint},
    };

    fn args(out: &Path, force: bool) -> Args {
        Args {
            name: draft::event_name("OrderCreated").unwrap(),
            fields: vec!["Amount:double".parse().unwrap(), "Note".parse().unwrap()],
            out: Some(out.to_owned()),
            force,
        }
    }

    #[test]
    fn a_schema_is_written_to_a_file_or_into_a_directory() {
        let directory = tempfile::tempdir().unwrap();
        run(&args(directory.path(), false)).unwrap();
        let path = directory.path().join("OrderCreated__e.avsc");
        let schema = files::read_file(&path).unwrap();
        assert_eq!(lint::findings(&schema), []);

        let other = directory.path().join("other.avsc");
        run(&args(&other, false)).unwrap();
        assert_eq!(files::read_file(&other).unwrap(), schema);
    }

    #[test]
    fn a_file_is_replaced_only_if_that_is_meant() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.avsc");
        std::fs::write(&path, "mine").unwrap();
        let refused = run(&args(&path, false)).unwrap_err();
        assert_eq!(refused.exit(), Exit::Failed);
        assert!(refused.to_string().contains("--force"), "{refused}");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "mine");
        run(&args(&path, true)).unwrap();
        assert!(files::read_file(&path).is_ok());

        let refused = run(&args(&directory.path().join("no/such.avsc"), true)).unwrap_err();
        assert!(
            refused.to_string().starts_with("cannot write "),
            "{refused}"
        );
    }

    #[test]
    fn fields_that_cannot_be_are_wrong_usage() {
        let directory = tempfile::tempdir().unwrap();
        let mut args = args(directory.path(), false);
        args.fields.push("note".parse().unwrap());
        assert_eq!(run(&args).unwrap_err().exit(), Exit::Usage);
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
    }
}
