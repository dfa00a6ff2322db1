//! Schema files: the `.avsc` files of a directory, read within bounds.

use std::{
    fmt, fs, io,
    path::{Path, PathBuf},
};

use super::{Schema, SchemaError};
use crate::types::limits::SCHEMA_BYTES_MAX;

/// Reads every `.avsc` file of `dir`, sorted by name. A directory that is not there has none.
///
/// # Errors
///
/// [`FileError`] for the first file that is not a schema.
pub fn read_dir(dir: &Path) -> Result<Vec<(PathBuf, Schema)>, FileError> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| FileError::Unreadable { path, source }
    };
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(failed(dir)(error)),
    };
    let mut paths = Vec::new();
    for entry in entries {
        let path = entry.map_err(failed(dir))?.path();
        if path
            .extension()
            .is_some_and(|extension| extension == "avsc")
        {
            paths.push(path);
        }
    }
    paths.sort();
    paths
        .into_iter()
        .map(|path| read_file(&path).map(|schema| (path, schema)))
        .collect()
}

/// Reads one schema file.
///
/// # Errors
///
/// [`FileError`].
pub fn read_file(path: &Path) -> Result<Schema, FileError> {
    let text = read_text(path).map_err(|source| FileError::Unreadable {
        path: path.to_owned(),
        source,
    })?;
    Schema::parse(&text).map_err(|source| FileError::NotASchema {
        path: path.to_owned(),
        line: Place(line_of(&text, &source)),
        source,
    })
}

/// The text of a file, which need be no schema.
///
/// # Errors
///
/// The file cannot be read, or is not UTF-8.
pub fn read_text(path: &Path) -> io::Result<String> {
    use io::Read;

    let mut text = String::new();
    // One byte more than a schema has tells a file that is too large from one that just fits.
    fs::File::open(path)?
        .take(SCHEMA_BYTES_MAX as u64 + 1)
        .read_to_string(&mut text)?;
    Ok(text)
}

/// The line of what `error` is about, from 1: the last that has, in quotes, a name it says. Avro
/// knows no lines, and of two definitions the later one is the one too many.
pub(super) fn line_of(text: &str, error: &SchemaError) -> Option<usize> {
    let said = match error {
        SchemaError::NotAvro { at, .. } if at.contains('.') => at.clone(),
        SchemaError::NotAvro { reason, .. } => reason.clone(),
        SchemaError::DefinedTwice(name)
        | SchemaError::Endless(name)
        | SchemaError::ValueTooDeep(name) => name.clone(),
        SchemaError::Default { field, .. } => field.clone(),
        // These tell their line themselves, or are about the whole file.
        SchemaError::NotJson { .. }
        | SchemaError::NestedTooDeep { .. }
        | SchemaError::TooLarge(_)
        | SchemaError::NotARecord(_)
        | SchemaError::DefaultsTooLarge => return None,
    };
    let is_of_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    said.rsplit(|c| !is_of_name(c))
        .filter(|name| !name.is_empty() && !AVRO_WORDS.contains(name))
        .find_map(|name| {
            let quoted = format!("\"{name}\"");
            let lines: Vec<_> = text.lines().collect();
            lines.iter().rposition(|line| line.contains(&quoted))
        })
        .map(|index| index + 1)
}

/// Words that stand in quotes in most schemas and say nothing of a place.
const AVRO_WORDS: [&str; 23] = [
    "aliases",
    "array",
    "boolean",
    "bytes",
    "default",
    "doc",
    "double",
    "enum",
    "fields",
    "fixed",
    "float",
    "int",
    "items",
    "long",
    "map",
    "name",
    "namespace",
    "null",
    "record",
    "size",
    "string",
    "symbols",
    "type",
];

/// A line as it follows the name of its file; nothing when it is not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place(pub Option<usize>);

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(line) => write!(f, ", line {line},"),
            None => Ok(()),
        }
    }
}

/// Why a schema file was refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FileError {
    /// The file cannot be read.
    #[error("cannot read {path}")]
    Unreadable {
        /// The file or directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file holds no schema of an event.
    #[error("{path}{line} is not the schema of an event")]
    NotASchema {
        /// The file.
        path: PathBuf,
        /// The line, if the reason does not have it.
        line: Place,
        /// Why; with line and column if it is not JSON.
        source: SchemaError,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: &str = r#"{"type":"record","name":"A__e","fields":[{"name":"n","type":"int"}]}"#;

    #[test]
    fn a_broken_file_is_named_with_its_line() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("A__e.avsc"), PLAIN).unwrap();
        fs::write(dir.path().join("B__e.avsc"), "{\n  \"type\": oops\n}").unwrap();
        fs::write(dir.path().join("notes.txt"), "not looked at").unwrap();
        let error = read_dir(dir.path()).unwrap_err();
        let FileError::NotASchema { source, .. } = &error else {
            panic!("{error}")
        };
        let message = format!("{error}: {source}");
        assert!(
            message.contains("B__e.avsc") && message.contains("line 2"),
            "{message}"
        );
    }

    #[test]
    fn what_avro_refuses_is_named_with_its_line_too() {
        let fields = |fields: &str| {
            format!("{{\n\"type\": \"record\", \"name\": \"A__e\",\n\"fields\": [\n{fields}]}}")
        };
        let known = r#"{"name": "n", "type": "int"}"#;
        for (text, line) in [
            (fields("{\"name\": \"n\",\n\"type\": \"strin\"}"), Some(5)),
            (fields(&format!("{known},\n{known}")), Some(5)),
            (
                fields(&format!(
                    "{known},\n{{\"name\": \"o\", \"type\": \"int\", \"default\": \"x\"}}"
                )),
                Some(5),
            ),
            (
                fields(&format!(
                    "{known},\n{{\"type\": \"A__e\", \"name\": \"o\"}}"
                )),
                Some(5),
            ),
            ("[\n\"int\"]".to_owned(), None),
        ] {
            let error = Schema::parse(&text).unwrap_err();
            assert_eq!(line_of(&text, &error), line, "{error}: {text}");
        }
    }

    #[test]
    fn a_directory_that_is_not_there_has_no_schemas() {
        assert!(
            read_dir(Path::new("/no/such/directory"))
                .unwrap()
                .is_empty()
        );
    }
}
