//! The layer of the TOML file: `[section]` tables with keys, and nothing else.

use std::{
    fs::File,
    io::Read,
    path::{Path, PathBuf},
};

use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::{
    keys::is_section,
    load::{Entry, Given},
    problem::{Layer, Problem},
    value::Raw,
};
use crate::types::limits::CONFIG_FILE_BYTES_MAX;

/// Reads every value of the file at `path`. Whatever stops it from being read is a problem; syntax
/// is reported by itself, since what else a broken file says cannot be trusted.
pub(super) fn entries(path: &Path) -> Result<Vec<Entry>, Vec<Problem>> {
    let file = ConfigFile::read(path).map_err(|problem| vec![problem])?;
    let (table, errors) = DeTable::parse_recoverable(&file.text);
    if errors.is_empty() {
        return Ok(file.entries(table.get_ref()));
    }
    Err(errors.iter().map(|error| file.syntax(error)).collect())
}

struct ConfigFile {
    path: PathBuf,
    text: String,
}

impl ConfigFile {
    fn read(path: &Path) -> Result<Self, Problem> {
        let problem = |found: String| Problem {
            layer: Layer::File {
                path: path.to_owned(),
                line: None,
            },
            key: None,
            found,
            wanted: "a configuration file in TOML".to_owned(),
        };
        let mut text = Vec::new();
        File::open(path)
            .and_then(|file| file.take(CONFIG_FILE_BYTES_MAX + 1).read_to_end(&mut text))
            .map_err(|error| problem(format!("that it cannot be read ({error})")))?;
        if text.len() as u64 > CONFIG_FILE_BYTES_MAX {
            return Err(problem(format!("more than {CONFIG_FILE_BYTES_MAX} bytes")));
        }
        let text =
            String::from_utf8(text).map_err(|_| problem("text that is not UTF-8".to_owned()))?;
        Ok(Self {
            path: path.to_owned(),
            text,
        })
    }

    fn entries(&self, table: &DeTable<'_>) -> Vec<Entry> {
        let mut entries = Vec::new();
        for (section, value) in table {
            let name = section.get_ref().to_string();
            match value.get_ref() {
                DeValue::Table(keys) if is_section(&name) => {
                    entries.extend(keys.iter().map(|(key, value)| Entry {
                        layer: self.layer(key.span().start),
                        given: Given::Named {
                            section: name.clone(),
                            name: key.get_ref().to_string(),
                        },
                        raw: raw(value),
                    }));
                }
                DeValue::Table(_) => entries.push(Entry {
                    layer: self.layer(section.span().start),
                    given: Given::UnknownSection(name),
                    raw: raw(value),
                }),
                _ => entries.push(Entry {
                    layer: self.layer(section.span().start),
                    given: Given::Outside(name),
                    raw: raw(value),
                }),
            }
        }
        // In the order of the file, rather than of the alphabet.
        entries.sort_by_key(|entry| match entry.layer {
            Layer::File { line, .. } => line,
            _ => None,
        });
        entries
    }

    fn syntax(&self, error: &toml::de::Error) -> Problem {
        let layer = match error.span() {
            Some(span) => self.layer(span.start),
            None => Layer::File {
                path: self.path.clone(),
                line: None,
            },
        };
        Problem {
            layer,
            key: None,
            found: format!("a mistake ({})", error.message()),
            wanted: "TOML".to_owned(),
        }
    }

    fn layer(&self, offset: usize) -> Layer {
        let before = &self.text.as_bytes()[..offset.min(self.text.len())];
        let line = 1 + before.iter().filter(|&&byte| byte == b'\n').count();
        Layer::File {
            path: self.path.clone(),
            line: Some(line),
        }
    }
}

fn raw(value: &Spanned<DeValue<'_>>) -> Raw {
    match value.get_ref() {
        DeValue::String(text) => Raw::Text(text.to_string()),
        DeValue::Integer(integer) => i128::from_str_radix(integer.as_str(), integer.radix())
            .map_or(Raw::Other("a number that is too large"), Raw::Integer),
        DeValue::Boolean(value) => Raw::Boolean(*value),
        DeValue::Float(_) => Raw::Other("a number with a fraction"),
        DeValue::Datetime(_) => Raw::Other("a date"),
        DeValue::Array(_) => Raw::Other("an array"),
        DeValue::Table(_) => Raw::Other("a table"),
    }
}
