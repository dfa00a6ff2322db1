//! Schema files: the `.avsc` files of a directory, read within bounds.

use std::{
    fmt, fs, io,
    path::{Path, PathBuf},
};

use super::{Schema, SchemaError};
use crate::types::limits::{SCHEMA_BYTES_MAX, SCHEMA_FILES_MAX, SCHEMA_NAME_BYTES_MAX};

/// The `.avsc` files of `dir`, sorted by name. A directory that is not there has none. Names that begin
/// with a dot are of drafts and copies that editors make, and are left out.
///
/// # Errors
///
/// The file system's, and one for a directory with more than [`SCHEMA_FILES_MAX`] of them.
pub fn list(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut paths = Vec::new();
    for entry in entries {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().as_encoded_bytes();
        if name.starts_with(b".") || path.extension().is_none_or(|it| it != "avsc") {
            continue;
        }
        if paths.len() == SCHEMA_FILES_MAX {
            let reason = format!("it has more than {SCHEMA_FILES_MAX} schema files");
            return Err(io::Error::other(reason));
        }
        paths.push(path);
    }
    paths.sort();
    Ok(paths)
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
    let lines: Vec<_> = text.lines().collect();
    // Texts of strangers are in what is said: a few names are looked for, and none that is too long.
    said.rsplit(|c| !is_of_name(c))
        .filter(|name| !name.is_empty() && name.len() <= SCHEMA_NAME_BYTES_MAX)
        .filter(|name| !AVRO_WORDS.contains(name))
        .take(NAMES_LOOKED_FOR_MAX)
        .find_map(|name| {
            let quoted = format!("\"{name}\"");
            lines.iter().rposition(|line| line.contains(&quoted))
        })
        .map(|index| index + 1)
}

/// How many of the names in an error are looked for in the text it is about.
const NAMES_LOOKED_FOR_MAX: usize = 8;

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

    #[test]
    fn a_broken_file_is_named_with_its_line() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("B__e.avsc");
        fs::write(&path, "{\n  \"type\": oops\n}").unwrap();
        let error = read_file(&path).unwrap_err();
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
    fn the_schema_files_of_a_directory_are_listed_and_no_others() {
        let dir = tempfile::tempdir().unwrap();
        for name in [
            "B__e.avsc",
            "A__e.avsc",
            ".A__e.avsc",
            "A__e.avsc~",
            "notes.txt",
        ] {
            fs::write(dir.path().join(name), "").unwrap();
        }
        let found = list(dir.path()).unwrap();
        assert_eq!(
            found,
            ["A__e.avsc", "B__e.avsc"].map(|name| dir.path().join(name))
        );
        assert!(list(Path::new("/no/such/directory")).unwrap().is_empty());
    }

    #[test]
    fn a_directory_of_too_many_files_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        for number in 0..=SCHEMA_FILES_MAX {
            fs::write(dir.path().join(format!("A{number}__e.avsc")), "").unwrap();
        }
        let error = list(dir.path()).unwrap_err();
        assert!(error.to_string().contains("more than 10000"), "{error}");
    }
}
