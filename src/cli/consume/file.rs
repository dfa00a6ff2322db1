//! Writing events to a file: as lines of JSON, or as an Avro object container file.
//!
//! What is flushed is synced: an event counts as done only once it is on the disk.
//!
//! Source: Avro specification, "Object Container Files".

use std::{
    io::SeekFrom,
    path::{Path, PathBuf},
};

use tokio::{
    fs::{File, OpenOptions},
    io::{AsyncReadExt, AsyncSeekExt, AsyncWriteExt},
};

use super::EventLine;
use crate::{cli::exit::Failure, schema::Schema, subscriber::Event};

/// A file that events are written to.
#[derive(Debug)]
pub(in crate::cli) struct EventFile {
    path: PathBuf,
    kind: Kind,
    /// What is not written yet.
    buffer: Vec<u8>,
    written: u64,
}

#[derive(Debug)]
enum Kind {
    Lines(File),
    /// A file for each schema: the first has the path itself.
    Avro(Vec<AvroFile>),
}

/// An Avro file of one schema, and the block that is not written yet.
#[derive(Debug)]
struct AvroFile {
    schema_id: String,
    path: PathBuf,
    file: File,
    sync_marker: [u8; 16],
    count: i64,
    block: Vec<u8>,
}

/// Bytes of a block after which it is written. Ours: readers hold one in memory.
const BLOCK_BYTES: usize = 256 * 1024;
/// Files of different schemas that one command writes. Ours: an event type that had as many versions
/// within what is kept would be a mistake.
const AVRO_FILES_MAX: usize = 100;

impl EventFile {
    /// The file that an option names, if it does.
    ///
    /// # Errors
    ///
    /// Those of [`Self::open`].
    pub(in crate::cli) async fn open_if_named(
        path: Option<&Path>,
    ) -> Result<Option<Self>, Failure> {
        match path {
            Some(path) => Self::open(path).await.map(Some),
            None => Ok(None),
        }
    }

    /// A file whose name ends in `.avro`, or lines of JSON. Lines are added to those that are there;
    /// an Avro file is new.
    ///
    /// # Errors
    ///
    /// [`Failure::Usage`] if it cannot be made.
    pub(in crate::cli) async fn open(path: &Path) -> Result<Self, Failure> {
        let is_avro = path
            .extension()
            .is_some_and(|extension| extension == "avro");
        let kind = match is_avro {
            true if path.exists() => {
                return Err(Failure::Usage(format!(
                    "{} exists, and an Avro file is written anew; name another",
                    path.display()
                )));
            }
            true => Kind::Avro(Vec::new()),
            false => {
                let opened = open_lines(path).await;
                Kind::Lines(opened.map_err(|error| unwritable(path, &error))?)
            }
        };
        Ok(Self {
            path: path.to_owned(),
            kind,
            buffer: Vec::new(),
            written: 0,
        })
    }

    /// Adds an event; returns why it could not be decoded.
    pub(in crate::cli) async fn add(&mut self, event: &Event) -> Result<Option<String>, Failure> {
        let refusal = match &mut self.kind {
            Kind::Lines(_) => {
                let (line, refusal) = EventLine::of(event);
                serde_json::to_writer(&mut self.buffer, &line)
                    .expect("lines have text keys, and memory takes every byte");
                self.buffer.push(b'\n');
                refusal
            }
            Kind::Avro(files) => {
                // A payload that is none would make the whole file unreadable.
                if let Err(error) = event.validate() {
                    return Ok(Some(error.to_string()));
                }
                let schema = event
                    .schema()
                    .map_err(|error| Failure::failed(error.to_string()))?;
                let file = avro_file(files, &self.path, event.schema_id(), schema).await?;
                file.count += 1;
                file.block.extend_from_slice(event.payload());
                if file.block.len() >= BLOCK_BYTES {
                    file.end_block().await?;
                }
                None
            }
        };
        self.written += 1;
        Ok(refusal)
    }

    /// Writes and syncs what was added.
    pub(in crate::cli) async fn flush(&mut self) -> Result<(), Failure> {
        match &mut self.kind {
            Kind::Lines(file) => {
                if self.buffer.is_empty() {
                    return Ok(());
                }
                let written = async {
                    file.write_all(&self.buffer).await?;
                    file.flush().await?;
                    file.sync_data().await
                };
                written
                    .await
                    .map_err(|error| unwritable(&self.path, &error))?;
                self.buffer.clear();
            }
            Kind::Avro(files) => {
                for file in files {
                    file.end_block().await?;
                    let synced = file.file.sync_data().await;
                    synced.map_err(|error| unwritable(&file.path, &error))?;
                }
            }
        }
        Ok(())
    }

    /// Events that were written.
    pub(in crate::cli) fn written(&self) -> u64 {
        self.written
    }

    /// The files that they are in.
    pub(in crate::cli) fn paths(&self) -> Vec<&Path> {
        match &self.kind {
            Kind::Lines(_) => vec![&self.path],
            Kind::Avro(files) => files.iter().map(|file| file.path.as_path()).collect(),
        }
    }
}

/// Opens a file of lines to add to it. A last line without an end was left by a process that was
/// killed while it wrote: it is taken off, and its event, which was not done, comes again.
async fn open_lines(path: &Path) -> std::io::Result<File> {
    let mut options = OpenOptions::new();
    let mut file = options
        .create(true)
        .append(true)
        .read(true)
        .open(path)
        .await?;
    let mut end = file.metadata().await?.len();
    if !file.metadata().await?.is_file() {
        return Ok(file);
    }
    let mut chunk = vec![0; TAIL_BYTES];
    while end > 0 {
        let start = end.saturating_sub(TAIL_BYTES as u64);
        let tail = &mut chunk[..(end - start) as usize];
        file.seek(SeekFrom::Start(start)).await?;
        file.read_exact(tail).await?;
        if let Some(line_end) = tail.iter().rposition(|&byte| byte == b'\n') {
            end = start + line_end as u64 + 1;
            break;
        }
        end = start;
    }
    if end < file.metadata().await?.len() {
        file.set_len(end).await?;
    }
    Ok(file)
}

/// Bytes of a file that are looked through at once for the end of its last line.
const TAIL_BYTES: usize = 64 * 1024;

/// The file of a schema, begun at its first event.
async fn avro_file<'a>(
    files: &'a mut Vec<AvroFile>,
    path: &Path,
    schema_id: &str,
    schema: &Schema,
) -> Result<&'a mut AvroFile, Failure> {
    if let Some(index) = files.iter().position(|file| file.schema_id == schema_id) {
        return Ok(&mut files[index]);
    }
    if files.len() == AVRO_FILES_MAX {
        return Err(Failure::failed(format!(
            "the events have more than {AVRO_FILES_MAX} schemas, and each takes a file"
        )));
    }
    let path = match files.is_empty() {
        true => path.to_owned(),
        false => path.with_extension(format!("{schema_id}.avro")),
    };
    let file = AvroFile::begin(path, schema_id, schema).await?;
    files.push(file);
    Ok(files.last_mut().expect("pushed just now"))
}

impl AvroFile {
    async fn begin(path: PathBuf, schema_id: &str, schema: &Schema) -> Result<Self, Failure> {
        let created = OpenOptions::new()
            .create_new(true)
            .write(true)
            .open(&path)
            .await;
        let file = created.map_err(|error| unwritable(&path, &error))?;
        let mut sync_marker = [0; 16];
        getrandom::fill(&mut sync_marker)
            .map_err(|error| Failure::failed(format!("the system has no randomness: {error}")))?;
        let mut header = b"Obj\x01".to_vec();
        let metadata = [
            ("avro.schema", schema.text()),
            ("avro.codec", "null"),
            ("tidegate.schema_id", schema_id),
        ];
        push_long(&mut header, metadata.len() as i64);
        for (key, value) in metadata {
            push_bytes(&mut header, key.as_bytes());
            push_bytes(&mut header, value.as_bytes());
        }
        push_long(&mut header, 0);
        header.extend_from_slice(&sync_marker);
        let mut begun = Self {
            schema_id: schema_id.to_owned(),
            path,
            file,
            sync_marker,
            count: 0,
            block: Vec::new(),
        };
        begun.write(&header).await?;
        Ok(begun)
    }

    /// Writes the block that was gathered, if there is anything in it.
    async fn end_block(&mut self) -> Result<(), Failure> {
        if self.count == 0 {
            return Ok(());
        }
        let mut framed = Vec::with_capacity(self.block.len() + 40);
        push_long(&mut framed, self.count);
        push_bytes(&mut framed, &self.block);
        framed.extend_from_slice(&self.sync_marker);
        self.write(&framed).await?;
        self.count = 0;
        self.block.clear();
        Ok(())
    }

    async fn write(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        let written = async {
            self.file.write_all(bytes).await?;
            self.file.flush().await
        };
        written
            .await
            .map_err(|error| unwritable(&self.path, &error))
    }
}

/// Adds a long as Avro writes one: zigzag, seven bits a byte.
fn push_long(into: &mut Vec<u8>, value: i64) {
    let mut rest = ((value << 1) ^ (value >> 63)) as u64;
    while rest >= 0x80 {
        into.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    into.push(rest as u8);
}

fn push_bytes(into: &mut Vec<u8>, bytes: &[u8]) {
    push_long(into, bytes.len() as i64);
    into.extend_from_slice(bytes);
}

fn unwritable(path: &Path, error: &std::io::Error) -> Failure {
    Failure::Usage(format!(
        "the file {} cannot be written: {error}",
        path.display()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_line_that_was_cut_off_is_taken_off() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("events.ndjson");
        let long = "x".repeat(3 * TAIL_BYTES);
        for (found, wanted) in [
            ("".to_owned(), "".to_owned()),
            ("a\nb\n".into(), "a\nb\n".into()),
            ("a\nb".into(), "a\n".into()),
            ("cut".into(), "".into()),
            (format!("a\n{long}"), "a\n".into()),
            (format!("{long}\n"), format!("{long}\n")),
        ] {
            std::fs::write(&path, found).unwrap();
            drop(open_lines(&path).await.unwrap());
            assert_eq!(std::fs::read_to_string(&path).unwrap(), wanted);
        }
    }
}
