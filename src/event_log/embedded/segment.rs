//! A segment file: its name, and the header in its first two pages.
//!
//! ```text
//! 0     header     4096  the same again     8192  groups of blocks …     index footer, trailer
//! ```
//!
//! The header stands twice, in two pages, because without its salt no block of the file can be told
//! from noise. It is written and synced together with the first group.
//!
//! A segment is rewritten when something in it has to go and the rest has to stay. The new file has
//! the next generation and is whole before it gets its name; groups of which nothing is left are
//! missing in it, and its header says how far it reaches.

use std::{fmt, path::Path, str::FromStr};

use bytes::{Buf, BufMut};

use super::io::{IoFile, read_up_to};
use crate::{
    clock::Timestamp,
    event_log::OpenError,
    types::{PlatformId, Position, TenantId, limits::POSITION_MAX},
};

/// Newest version of the format that this program reads, and the one it writes.
pub(super) const FORMAT_VERSION: u32 = 2;

/// Where the first group begins.
pub(super) const SEGMENT_HEADER_LEN: u64 = 8_192;

/// The name of a segment file: the number of its first block and its generation, in hex.
///
/// Text order is log order. A rewritten segment has the same first block and a higher generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct SegmentName {
    pub(super) first_block: u64,
    pub(super) generation: u32,
}

impl SegmentName {
    /// The smallest position that can stand in the segment.
    pub(super) fn first(self) -> Position {
        Position::in_block(self.first_block, 0).unwrap_or(Position::MAX)
    }
}

impl fmt::Display for SegmentName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}-{:08x}.seg", self.first_block, self.generation)
    }
}

impl FromStr for SegmentName {
    type Err = ();

    fn from_str(name: &str) -> Result<Self, ()> {
        let stem = name.strip_suffix(".seg").ok_or(())?;
        let (block, generation) = stem.split_once('-').ok_or(())?;
        let name_of = Self {
            first_block: u64::from_str_radix(block, 16).map_err(drop)?,
            generation: u32::from_str_radix(generation, 16).map_err(drop)?,
        };
        // Only the one spelling, so that a file has one name.
        (name_of.to_string() == name).then_some(name_of).ok_or(())
    }
}

/// What the header of a segment says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SegmentHeader {
    pub(super) name: SegmentName,
    pub(super) tenant: TenantId,
    /// Random, the same in every file of one log: files of two directories are told apart.
    pub(super) log_id: u64,
    /// Random; the checksums of the segment's blocks start from it.
    pub(super) salt: u64,
    /// Number of the first group.
    pub(super) first_group: u64,
    pub(super) created_at: Timestamp,
    /// Whether groups were acknowledged before they were synced.
    pub(super) unsynced: bool,
    /// Bytes behind each body for a cipher's tag: none, as there is no cipher yet.
    pub(super) tag_space: u16,
    /// What a rewritten segment holds; `None` for one that is as it was first written.
    pub(super) rewritten: Option<Rewritten>,
}

/// How far a rewritten segment reaches. It was synced as a whole: what is missing is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Rewritten {
    /// The last group of which something is left, or the one before the segment's first.
    pub(super) last_group_left: u64,
    /// The last group there ever was.
    pub(super) last_group: u64,
    /// Position of the newest event there ever was up to the segment's end.
    pub(super) last: Position,
}

impl SegmentHeader {
    /// What the checksums of the segment's blocks start from.
    pub(super) fn seed(&self) -> u32 {
        crc32c::crc32c(&self.salt.to_le_bytes())
    }

    /// One copy of the header.
    pub(super) fn encode(&self) -> [u8; COPY_LEN] {
        let mut bytes = Vec::with_capacity(COPY_LEN);
        bytes.put_slice(MAGIC);
        bytes.put_u32_le(FORMAT_VERSION);
        let flag = |is_set: bool, flag| if is_set { flag } else { 0 };
        bytes.put_u32_le(
            flag(self.unsynced, FLAG_UNSYNCED) | flag(self.rewritten.is_some(), FLAG_REWRITTEN),
        );
        bytes.put_u32_le(self.name.generation);
        bytes.put_u16_le(CIPHER_NONE);
        bytes.put_u16_le(self.tag_space);
        bytes.put_bytes(0, KEY_ID_LEN);
        bytes.put_u64_le(self.salt);
        bytes.put_u64_le(self.log_id);
        bytes.put_u64_le(self.name.first_block);
        bytes.put_u64_le(self.first_group);
        bytes.put_i64_le(self.created_at.as_millis());
        bytes.put_slice(self.tenant.as_str().as_bytes());
        if let Some(rewritten) = self.rewritten {
            bytes.put_u64_le(rewritten.last_group_left);
            bytes.put_u64_le(rewritten.last_group);
            bytes.put_u64_le(rewritten.last.get());
        }
        bytes.resize(COPY_LEN - 4, 0);
        bytes.put_u32_le(crc32c::crc32c(&bytes));
        bytes.try_into().expect("a copy has a fixed length")
    }

    /// Both copies, each in its page.
    pub(super) fn encode_pages(&self) -> Vec<u8> {
        let mut bytes = self.encode().to_vec();
        bytes.resize(PAGE, 0);
        bytes.extend_from_within(..);
        debug_assert_eq!(bytes.len() as u64, SEGMENT_HEADER_LEN);
        bytes
    }

    /// Reads one copy.
    pub(super) fn decode(bytes: &[u8]) -> Result<Self, HeaderError> {
        let bytes: &[u8; COPY_LEN] = bytes.first_chunk().ok_or(HeaderError::Absent)?;
        if is_torn(bytes) {
            return Err(HeaderError::Absent);
        }
        let mut rest = &bytes[..];
        let mut magic = [0; MAGIC.len()];
        rest.copy_to_slice(&mut magic);
        if magic != *MAGIC {
            return Err(HeaderError::Damaged);
        }
        let version = rest.get_u32_le();
        let crc = crc32c::crc32c(&bytes[..COPY_LEN - 4]);
        if bytes[COPY_LEN - 4..] != crc.to_le_bytes() {
            return Err(HeaderError::Damaged);
        }
        let flags = rest.get_u32_le();
        let generation = rest.get_u32_le();
        let cipher = rest.get_u16_le();
        if version > FORMAT_VERSION || cipher != CIPHER_NONE {
            return Err(HeaderError::Newer(version));
        }
        let tag_space = rest.get_u16_le();
        rest.advance(KEY_ID_LEN);
        let salt = rest.get_u64_le();
        let log_id = rest.get_u64_le();
        let first_block = rest.get_u64_le();
        let first_group = rest.get_u64_le();
        if first_group == 0 || first_group > POSITION_MAX || first_block > POSITION_MAX {
            return Err(HeaderError::Damaged);
        }
        let created_at = Timestamp::from_millis(rest.get_i64_le());
        let tenant = std::str::from_utf8(&rest[..PlatformId::LEN])
            .ok()
            .and_then(|text| text.parse().ok())
            .ok_or(HeaderError::Damaged)?;
        rest.advance(PlatformId::LEN);
        let rewritten = match flags & FLAG_REWRITTEN {
            0 => None,
            _ => Some(Rewritten::decode(rest).ok_or(HeaderError::Damaged)?),
        };
        Ok(Self {
            name: SegmentName {
                first_block,
                generation,
            },
            tenant,
            log_id,
            salt,
            first_group,
            created_at,
            unsynced: flags & FLAG_UNSYNCED != 0,
            tag_space,
            rewritten,
        })
    }

    /// Reads the header of a segment file from whichever copy is intact.
    pub(super) fn read(file: &dyn IoFile) -> std::io::Result<Result<Self, HeaderError>> {
        Ok(match Self::read_copies(file)? {
            (Ok(header), _) => Ok(header),
            // A damaged copy says more than an absent one: there was a header.
            (Err(HeaderError::Absent), second) => second,
            (Err(error), second) => second.map_err(|_| error),
        })
    }

    /// Reads both copies.
    pub(super) fn read_copies(
        file: &dyn IoFile,
    ) -> std::io::Result<(Result<Self, HeaderError>, Result<Self, HeaderError>)> {
        let pages = read_up_to(file, 0, SEGMENT_HEADER_LEN as usize)?;
        let second = pages.get(PAGE..).unwrap_or_default();
        Ok((Self::decode(&pages), Self::decode(second)))
    }
}

impl Rewritten {
    fn decode(mut bytes: &[u8]) -> Option<Self> {
        let rewritten = Self {
            last_group_left: bytes.get_u64_le(),
            last_group: bytes.get_u64_le(),
            last: Position::new(bytes.get_u64_le())?,
        };
        (rewritten.last_group_left.max(rewritten.last_group) <= POSITION_MAX).then_some(rewritten)
    }
}

/// Whether the copy was never written, or not to its end: it begins like one and goes on with zeros.
fn is_torn(bytes: &[u8; COPY_LEN]) -> bool {
    let (contents, crc) = bytes.split_at(COPY_LEN - 4);
    let written = contents.iter().rposition(|&byte| byte != 0);
    let start = &contents[..written.map_or(0, |last| last + 1).min(MAGIC.len())];
    let wanted = crc32c::crc32c(contents).to_le_bytes();
    let mut cuts = (0..crc.len()).map(|cut| crc.split_at(cut));
    let is_cut =
        cuts.any(|(start, rest)| wanted.starts_with(start) && rest.iter().all(|&b| b == 0));
    crc != wanted && is_cut && MAGIC.starts_with(start)
}

/// Why a segment has no header that can be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum HeaderError {
    /// None was ever synced: nothing in the file was acknowledged.
    Absent,
    /// Neither copy is intact.
    Damaged,
    /// Of a newer format, with this version, or encrypted.
    Newer(u32),
}

impl HeaderError {
    /// The same as a reason not to open the log.
    pub(super) fn into_open_error(self, path: &Path) -> OpenError {
        let path = path.to_owned();
        match self {
            Self::Newer(found) => OpenError::NewerFormat {
                path,
                found,
                known: FORMAT_VERSION,
            },
            Self::Absent | Self::Damaged => OpenError::Foreign {
                path,
                reason: "neither copy of its segment header is intact".into(),
            },
        }
    }
}

const MAGIC: &[u8; 8] = b"TIDESEG\x01";
const COPY_LEN: usize = 512;
const PAGE: usize = SEGMENT_HEADER_LEN as usize / 2;
const CIPHER_NONE: u16 = 0;
const KEY_ID_LEN: usize = 16;
const FLAG_UNSYNCED: u32 = 1;
const FLAG_REWRITTEN: u32 = 2;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event_log::embedded::io::{Io, RealIo, write_all_at};

    fn header() -> SegmentHeader {
        SegmentHeader {
            name: SegmentName {
                first_block: 0x1234,
                generation: 2,
            },
            tenant: "00D000000000001".parse().unwrap(),
            log_id: 3,
            salt: 4,
            first_group: 5,
            created_at: Timestamp::from_millis(6),
            unsynced: true,
            tag_space: 0,
            rewritten: Some(Rewritten {
                last_group_left: 7,
                last_group: 9,
                last: Position::in_block(0x1300, 1).unwrap(),
            }),
        }
    }

    fn read(pages: &[u8]) -> Result<SegmentHeader, HeaderError> {
        let dir = tempfile::tempdir().unwrap();
        let file = RealIo.create(&dir.path().join("s")).unwrap();
        write_all_at(&*file, &mut [std::io::IoSlice::new(pages)], 0).unwrap();
        SegmentHeader::read(&*file).unwrap()
    }

    #[test]
    fn names_have_one_spelling_and_the_order_of_the_log() {
        let name = header().name;
        assert_eq!(name.to_string(), "0000000000001234-00000002.seg");
        assert_eq!(name.to_string().parse(), Ok(name));
        for text in [
            "1234-2.seg",
            "0000000000001234-00000002.SEG",
            "000000000000123A-00000002.seg",
            "0000000000001234.seg",
            "spare",
        ] {
            assert!(text.parse::<SegmentName>().is_err(), "{text}");
        }
    }

    #[test]
    fn one_damaged_or_lost_page_does_not_lose_the_header() {
        let pages = header().encode_pages();
        assert_eq!(read(&pages), Ok(header()));
        for (page, bytes) in [(0, [0; 4096]), (4096, [0; 4096]), (0, [0xff; 4096])] {
            let mut damaged = pages.clone();
            damaged[page..page + 4096].copy_from_slice(&bytes);
            assert_eq!(read(&damaged), Ok(header()));
        }
    }

    #[test]
    fn absent_damaged_and_newer_headers_are_told_apart() {
        assert_eq!(read(&[]), Err(HeaderError::Absent));
        assert_eq!(read(&[0; 9_000]), Err(HeaderError::Absent));
        assert_eq!(read(&[b'x'; 9_000]), Err(HeaderError::Damaged));
        let mut half = vec![0; 9_000];
        half[4_096] = 1;
        assert_eq!(read(&half), Err(HeaderError::Damaged));
        let copy = header().encode();
        for len in 0..COPY_LEN {
            let mut torn = vec![0; 9_000];
            torn[4_096..4_096 + len].copy_from_slice(&copy[..len]);
            assert_eq!(
                read(&torn),
                Err(HeaderError::Absent),
                "{len} bytes were written"
            );
        }

        let mut newer = header().encode();
        newer[8] = 9;
        let crc = crc32c::crc32c(&newer[..508]);
        newer[508..].copy_from_slice(&crc.to_le_bytes());
        assert_eq!(read(&newer), Err(HeaderError::Newer(9)));
        for bit in 0..512 * 8 {
            let mut damaged = header().encode();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(SegmentHeader::decode(&damaged).is_err(), "bit {bit}");
        }
    }
}
