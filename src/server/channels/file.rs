//! Channels in a file, as a list that they are to be like.
//!
//! ```toml
//! [[channel]]
//! name = "/event/Orders__chn"
//! label = "Orders"
//!
//! [[channel.member]]
//! topic = "/event/OrderCreated__e"
//! filter = "Amount__c > 10"
//!
//! [[channel]]
//! name = "/data/Sales__chn"
//!
//! [[channel.member]]
//! topic = "/data/AccountChangeEvent"
//! enriched_fields = ["Name"]
//! ```
//!
//! Read is what it says, and that each filter is one; what there is of topics and fields, the broker knows.

use std::{
    fmt,
    fs::File,
    io::{self, Read},
    ops::Range,
    path::{Path, PathBuf},
};

use serde::Deserialize;
use toml::Spanned;

use crate::{
    broker::{NewChannel, NewMember},
    filter::{Filter, FilterError},
    types::limits::CHANNELS_FILE_BYTES_MAX,
};

/// Reads the channels of a file. One that is empty has none.
///
/// # Errors
///
/// [`ChannelFileError`] names the file, the line and what is wrong there.
pub fn read(path: &Path) -> Result<Vec<NewChannel>, ChannelFileError> {
    let of_file = |line, problem| ChannelFileError {
        path: path.to_owned(),
        line,
        problem,
    };
    let text = read_text(path).map_err(|problem| of_file(None, problem))?;
    parse(&text).map_err(|(place, problem)| {
        of_file(place.map(|place| line_at(&text, place.start)), problem)
    })
}

fn read_text(path: &Path) -> Result<String, FileProblem> {
    let mut bytes = Vec::new();
    // One byte more than there may be tells a file that is too large from one that just fits.
    File::open(path)
        .and_then(|file| {
            file.take(CHANNELS_FILE_BYTES_MAX + 1)
                .read_to_end(&mut bytes)
        })
        .map_err(FileProblem::Unreadable)?;
    if bytes.len() as u64 > CHANNELS_FILE_BYTES_MAX {
        return Err(FileProblem::TooLarge);
    }
    String::from_utf8(bytes).map_err(|_| FileProblem::NotText)
}

type Problem = (Option<Range<usize>>, FileProblem);

fn parse(text: &str) -> Result<Vec<NewChannel>, Problem> {
    let tables: Tables = toml::from_str(text).map_err(|error| {
        let problem = FileProblem::Toml(error.message().to_owned());
        (error.span(), problem)
    })?;
    tables
        .channel
        .into_iter()
        .map(ChannelTable::channel)
        .collect()
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Tables {
    #[serde(default)]
    channel: Vec<ChannelTable>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ChannelTable {
    name: String,
    #[serde(default)]
    label: String,
    #[serde(default)]
    member: Vec<MemberTable>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct MemberTable {
    topic: String,
    filter: Option<Spanned<String>>,
    #[serde(default)]
    enriched_fields: Vec<String>,
}

impl ChannelTable {
    fn channel(self) -> Result<NewChannel, Problem> {
        let members = self.member.into_iter().map(MemberTable::member);
        Ok(NewChannel {
            members: members.collect::<Result<_, _>>()?,
            name: self.name,
            label: self.label,
        })
    }
}

impl MemberTable {
    fn member(self) -> Result<NewMember, Problem> {
        let filter = self.filter.map(|filter| {
            let place = filter.span();
            let text = filter.into_inner();
            match text.parse::<Filter>() {
                Err(error) if !text.trim().is_empty() => {
                    let error = Box::new(error);
                    Err((Some(place), FileProblem::Filter { text, error }))
                }
                _ => Ok(text),
            }
        });
        Ok(NewMember {
            filter: filter.transpose()?,
            topic: self.topic,
            enriched_fields: self.enriched_fields,
        })
    }
}

/// The line, from 1, that a byte of the text stands on.
fn line_at(text: &str, offset: usize) -> usize {
    let before = &text.as_bytes()[..offset.min(text.len())];
    1 + before.iter().filter(|&&byte| byte == b'\n').count()
}

/// A file that no channels are read from.
#[derive(Debug)]
pub struct ChannelFileError {
    /// The file.
    pub path: PathBuf,
    /// The line, from 1, if it is about one.
    pub line: Option<usize>,
    /// What is wrong.
    pub problem: FileProblem,
}

/// What is wrong with a file of channels.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FileProblem {
    /// It cannot be read.
    #[error("the file of channels cannot be read: {0}")]
    Unreadable(io::Error),
    /// It is too large to be one.
    #[error("a file of channels has at most {CHANNELS_FILE_BYTES_MAX} bytes, this one has more")]
    TooLarge,
    /// It is no text.
    #[error("found bytes that are not UTF-8, wanted TOML")]
    NotText,
    /// It is no TOML, or has other keys or values than it may; holds what the parser says.
    #[error("{0}")]
    Toml(String),
    /// A filter is none.
    #[error("the filter is wrong {error}")]
    Filter {
        /// The filter.
        text: String,
        /// Where it is wrong, and how.
        error: Box<FilterError>,
    },
}

impl fmt::Display for ChannelFileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.path.display())?;
        if let Some(line) = self.line {
            write!(f, ", line {line}")?;
        }
        // The parser's words may take several lines.
        let problem = self.problem.to_string();
        write!(f, ": {}", problem.lines().collect::<Vec<_>>().join("; "))
    }
}

// What it is about is shown, so there is no source.
impl std::error::Error for ChannelFileError {}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = r#"
[[channel]]
name = "/event/Orders__chn"
label = "Orders"
[[channel.member]]
topic = "/event/OrderCreated__e"
filter = "Amount__c > 10"
[[channel.member]]
topic = "/event/OrderStatusUpdated__e"

[[channel]]
name = "/data/Sales__chn"
[[channel.member]]
topic = "/data/AccountChangeEvent"
enriched_fields = ["Name", "Industry"]
"#;

    fn written(text: &[u8]) -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("channels.toml");
        std::fs::write(&path, text).unwrap();
        (dir, path)
    }

    fn refusal(text: &[u8]) -> String {
        let (dir, path) = written(text);
        let refusal = read(&path).unwrap_err().to_string();
        let dir = format!("{}/", dir.path().display());
        refusal.strip_prefix(&dir).unwrap_or(&refusal).to_owned()
    }

    #[test]
    fn a_file_lists_channels_with_their_members() {
        let (_dir, path) = written(FILE.as_bytes());
        let channels = read(&path).unwrap();
        let names: Vec<_> = channels.iter().map(|it| (&*it.name, &*it.label)).collect();
        assert_eq!(
            names,
            [("/event/Orders__chn", "Orders"), ("/data/Sales__chn", "")]
        );
        let members = &channels[0].members;
        assert_eq!(members[0].filter.as_deref(), Some("Amount__c > 10"));
        assert_eq!(
            (&*members[1].topic, &members[1].filter),
            ("/event/OrderStatusUpdated__e", &None)
        );
        assert_eq!(channels[1].members[0].enriched_fields, ["Name", "Industry"]);
        let (_dir, empty) = written(b"# none yet\n");
        assert_eq!(read(&empty).unwrap(), []);
    }

    #[test]
    fn what_is_wrong_is_told_with_its_line() {
        for (text, told) in [
            (
                "[[channel]]\nname = '/event/A__chn'\ncolour = 'red'",
                "line 3: unknown field `colour`",
            ),
            (
                "[[channels]]\nname = '/event/A__chn'",
                "line 1: unknown field `channels`",
            ),
            ("[[channel]]\nlabel = 'A'", "line 1: missing field `name`"),
            (
                "[[channel]]\nname = 7",
                "line 2: invalid type: integer `7`, expected a string",
            ),
            ("[[channel]\n", "line 1: "),
            (
                "[[channel]]\nname = '/event/A__chn'\n[[channel.member]]\ntopic = 'x'\nfilter = 'A >'",
                "line 5: the filter is wrong at character 4: ",
            ),
        ] {
            let refusal = refusal(text.as_bytes());
            assert!(
                refusal.starts_with(&format!("channels.toml, {told}")),
                "{refusal}"
            );
            assert!(!refusal.contains('\n'), "{refusal}");
        }
    }

    #[test]
    fn a_file_is_read_within_its_bound() {
        let comment = vec![b'#'; CHANNELS_FILE_BYTES_MAX as usize];
        let (_dir, path) = written(&comment);
        assert_eq!(read(&path).unwrap(), []);
        let large = refusal(&[comment, b"#".to_vec()].concat());
        assert!(large.contains("at most 1048576 bytes"), "{large}");
        assert_eq!(
            refusal(b"\xff"),
            "channels.toml: found bytes that are not UTF-8, wanted TOML"
        );
        let missing = read(Path::new("nowhere/channels.toml"))
            .unwrap_err()
            .to_string();
        assert!(
            missing.starts_with("nowhere/channels.toml: the file of channels cannot"),
            "{missing}"
        );
    }
}
