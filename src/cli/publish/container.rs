//! Avro object container files: events with the schema that they were written with.
//!
//! A general reader of such files decodes foreign bytes by a foreign schema. Here only the container
//! is read, block by block and within bounds, and our own compiled schema tells where each event ends.
//!
//! Source: Avro specification 1.12, "Object Container Files".

use std::io;

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt};

use crate::{
    schema::Schema,
    types::limits::{
        CONTAINER_BLOCK_BYTES_MAX, CONTAINER_HEADER_BYTES_MAX, CONTAINER_INFLATED_BYTES_MAX,
    },
};

/// What a container file begins with.
pub(super) const MAGIC: &[u8] = b"Obj\x01";

/// A container file that is being read.
#[derive(Debug)]
pub(super) struct Container<R> {
    reader: R,
    /// What was read and not used yet.
    buffer: BytesMut,
    bytes_read: u64,
    header: Option<Header>,
    /// What is left of the block at hand.
    block: Bytes,
    /// How many events these bytes are.
    events_left: u64,
    /// Events that were handed out.
    number: u64,
}

/// What leads the file.
#[derive(Debug)]
struct Header {
    schema: Schema,
    codec: Codec,
    sync: [u8; SYNC_BYTES],
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Codec {
    Null,
    Deflate,
}

/// An event of a container file.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Datum {
    /// Counted from 1.
    pub(super) number: u64,
    /// One record of the writer's schema.
    pub(super) payload: Bytes,
}

impl<R: AsyncRead + Unpin> Container<R> {
    /// The container that `reader` has, from its magic on.
    pub(super) fn new(reader: R) -> Self {
        Self {
            reader,
            buffer: BytesMut::new(),
            bytes_read: 0,
            header: None,
            block: Bytes::new(),
            events_left: 0,
            number: 0,
        }
    }

    /// Bytes of the input that were read, to show progress by.
    pub(super) fn bytes_read(&self) -> u64 {
        self.bytes_read
    }

    /// The schema that the events were written with, once one was read.
    pub(super) fn schema(&self) -> Option<&Schema> {
        Some(&self.header.as_ref()?.schema)
    }

    /// The next event; `None` at the end of the file.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: what was read is kept.
    pub(super) async fn next(&mut self) -> io::Result<Option<Datum>> {
        loop {
            if self.events_left > 0 {
                return self.split_datum().map(Some);
            }
            let is_parsed = match &self.header {
                None => self.parse_header()?,
                Some(_) => self.parse_block()?,
            };
            if is_parsed {
                continue;
            }
            self.buffer.reserve(READ_BYTES);
            let read = self.reader.read_buf(&mut self.buffer).await?;
            self.bytes_read += read as u64;
            if read > 0 {
                continue;
            }
            return match (&self.header, self.buffer.is_empty()) {
                (Some(_), true) => Ok(None),
                (None, _) => Err(damaged("it ends in its header")),
                (Some(_), false) => Err(damaged(format!(
                    "it ends in the middle of a block, after event {}",
                    self.number
                ))),
            };
        }
    }

    /// Cuts the next event off the block.
    fn split_datum(&mut self) -> io::Result<Datum> {
        let header = self.header.as_ref();
        let schema = &header.expect("blocks come after the header").schema;
        let number = self.number + 1;
        let len = schema
            .first_len(&self.block)
            .map_err(|error| damaged(format!("event {number} is no record of it: {error}")))?;
        self.number = number;
        self.events_left -= 1;
        let payload = self.block.split_to(len);
        if self.events_left == 0 && !self.block.is_empty() {
            return Err(damaged(format!(
                "a block has {} bytes after its last event, which is event {number}",
                self.block.len()
            )));
        }
        Ok(Datum { number, payload })
    }

    /// Reads the header if all of it is at hand.
    fn parse_header(&mut self) -> io::Result<bool> {
        let mut rest = &self.buffer[..];
        let header = match Header::parse(&mut rest)? {
            Some(header) => header,
            None if self.buffer.len() > CONTAINER_HEADER_BYTES_MAX => {
                return Err(damaged(format!(
                    "its header has more than {CONTAINER_HEADER_BYTES_MAX} bytes"
                )));
            }
            None => return Ok(false),
        };
        self.header = Some(header);
        let used = self.buffer.len() - rest.len();
        self.buffer.advance(used);
        Ok(true)
    }

    /// Reads the next block if all of it is at hand.
    fn parse_block(&mut self) -> io::Result<bool> {
        let header = self.header.as_ref().expect("blocks come after the header");
        let mut rest = &self.buffer[..];
        let (Some(count), Some(len)) = (long(&mut rest)?, long(&mut rest)?) else {
            return Ok(false);
        };
        let len = usize::try_from(len)
            .ok()
            .filter(|&len| len <= CONTAINER_BLOCK_BYTES_MAX)
            .ok_or_else(|| {
                damaged(format!(
                    "a block says that it has {len} bytes, wanted at most {CONTAINER_BLOCK_BYTES_MAX}"
                ))
            })?;
        if rest.len() < len + SYNC_BYTES {
            return Ok(false);
        }
        let (data, rest) = rest.split_at(len);
        let (sync, rest) = rest.split_at(SYNC_BYTES);
        if sync != header.sync {
            return Err(damaged(format!(
                "the mark after the block of event {} is not the file's",
                self.number + 1
            )));
        }
        let data = match header.codec {
            Codec::Null => Bytes::copy_from_slice(data),
            Codec::Deflate => inflate(data)?,
        };
        // An event takes a byte at least: a count beyond the bytes is damage, and could keep this
        // busy for ever.
        self.events_left = u64::try_from(count)
            .ok()
            .filter(|&count| count <= data.len() as u64 && (count > 0 || data.is_empty()))
            .ok_or_else(|| {
                damaged(format!(
                    "a block of {} bytes says that it has {count} events",
                    data.len()
                ))
            })?;
        self.block = data;
        let used = self.buffer.len() - rest.len();
        self.buffer.advance(used);
        Ok(true)
    }
}

impl Header {
    /// Reads a header off `rest`; `None` if its end is not there.
    fn parse(rest: &mut &[u8]) -> io::Result<Option<Self>> {
        if rest.len() < MAGIC.len() {
            return Ok(None);
        }
        if !rest.starts_with(MAGIC) {
            return Err(damaged("it does not begin as one"));
        }
        rest.advance(MAGIC.len());
        let (mut schema, mut codec) = (None, Codec::Null);
        loop {
            let Some(count) = long(rest)? else {
                return Ok(None);
            };
            if count == 0 {
                break;
            }
            // A negative count is followed by the bytes of the block, which nobody needs.
            if count < 0 && long(rest)?.is_none() {
                return Ok(None);
            }
            for _ in 0..count.unsigned_abs() {
                let (Some(key), Some(value)) = (sized(rest)?, sized(rest)?) else {
                    return Ok(None);
                };
                match key {
                    b"avro.schema" => schema = Some(value),
                    b"avro.codec" => codec = Codec::parse(value)?,
                    _ => {}
                }
            }
        }
        let Some((sync, after)) = rest.split_first_chunk() else {
            return Ok(None);
        };
        *rest = after;
        let schema = schema.ok_or_else(|| damaged("it names no schema"))?;
        let schema = std::str::from_utf8(schema)
            .map_err(|_| damaged("its schema is not UTF-8"))
            .and_then(|text| {
                Schema::parse(text).map_err(|error| damaged(format!("its schema: {error}")))
            })?;
        Ok(Some(Self {
            schema,
            codec,
            sync: *sync,
        }))
    }
}

impl Codec {
    fn parse(name: &[u8]) -> io::Result<Self> {
        match name {
            b"null" | b"" => Ok(Self::Null),
            b"deflate" => Ok(Self::Deflate),
            other => Err(damaged(format!(
                "it is compressed with {}, wanted null or deflate",
                String::from_utf8_lossy(&other[..other.len().min(CODEC_NAME_SHOWN)])
            ))),
        }
    }
}

/// Inflates a block, within bounds.
fn inflate(data: &[u8]) -> io::Result<Bytes> {
    use std::io::Read;
    let mut inflated = Vec::new();
    flate2::read::DeflateDecoder::new(data)
        .take(CONTAINER_INFLATED_BYTES_MAX as u64 + 1)
        .read_to_end(&mut inflated)
        .map_err(|error| damaged(format!("a block cannot be inflated: {error}")))?;
    if inflated.len() > CONTAINER_INFLATED_BYTES_MAX {
        return Err(damaged(format!(
            "a block inflates to more than {CONTAINER_INFLATED_BYTES_MAX} bytes"
        )));
    }
    Ok(inflated.into())
}

/// Reads a zigzag long off `rest`; `None` if its end is not there.
fn long(rest: &mut &[u8]) -> io::Result<Option<i64>> {
    let mut raw = 0_u64;
    for (index, &byte) in rest.iter().take(LONG_BYTES_MAX).enumerate() {
        raw |= u64::from(byte & 0x7f) << (7 * index);
        if byte < 0x80 {
            rest.advance(index + 1);
            return Ok(Some((raw >> 1).cast_signed() ^ -(raw & 1).cast_signed()));
        }
    }
    match rest.len() < LONG_BYTES_MAX {
        true => Ok(None),
        false => Err(damaged("a number has more than 10 bytes")),
    }
}

/// Reads bytes with their length before them off `rest`; `None` if their end is not there.
fn sized<'a>(rest: &mut &'a [u8]) -> io::Result<Option<&'a [u8]>> {
    let Some(len) = long(rest)? else {
        return Ok(None);
    };
    let len = usize::try_from(len)
        .ok()
        .filter(|&len| len <= CONTAINER_HEADER_BYTES_MAX)
        .ok_or_else(|| damaged(format!("a text of its header has {len} bytes")))?;
    let Some((value, after)) = rest.split_at_checked(len) else {
        return Ok(None);
    };
    *rest = after;
    Ok(Some(value))
}

fn damaged(reason: impl Into<String>) -> io::Error {
    let reason = format!("the Avro container is not usable: {}", reason.into());
    io::Error::new(io::ErrorKind::InvalidData, reason)
}

const SYNC_BYTES: usize = 16;
/// Bytes of the longest number: 64 bits in groups of seven.
const LONG_BYTES_MAX: usize = 10;
/// Bytes read at once.
const READ_BYTES: usize = 256 * 1024;
/// Characters shown of a codec's name.
const CODEC_NAME_SHOWN: usize = 40;

#[cfg(test)]
pub(super) mod tests;
