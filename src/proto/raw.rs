//! The four messages on the way of an event, written by hand so that events stay bytes.
//!
//! A gateway that decodes each event of a request, and encodes each event of a response, spends
//! most of its time there. Here a message that arrived stays one buffer, in which it is known where
//! each event lies, and a response's events are slices of stored blocks. On the wire these types are
//! exactly the messages of the same names in `proto/pubsub_api.proto`; the tests hold them to that.

use std::ops::Range;

use bytes::{BufMut, Bytes, BytesMut};
use prost::{
    DecodeError, Message,
    encoding::{self, DecodeContext, WireType},
};

use super::CommitReplayResponse;

/// A message that a stream or call carries: what [`super::codec`] asks of it.
///
/// Every generated message is one. Unlike those, the messages of this module are decoded out of one
/// buffer that they keep.
pub trait WireMessage: Sized + Send {
    /// First size of the buffer that a stream of such messages is decoded from, in bytes.
    const DECODE_BUFFER_BYTES: usize = 128;

    /// Bytes that [`Self::write`] writes.
    fn wire_len(&self) -> usize;

    /// Writes the message, without a length before it.
    ///
    /// # Panics
    ///
    /// If `buf` has no room for [`Self::wire_len`] bytes.
    fn write(&self, buf: &mut impl BufMut);

    /// Reads a message that is all of `bytes`.
    ///
    /// # Errors
    ///
    /// If it is not a message of this type.
    fn read(bytes: Bytes) -> Result<Self, DecodeError>;

    /// The message in bytes of its own.
    fn to_bytes(&self) -> Bytes {
        let mut bytes = BytesMut::with_capacity(self.wire_len());
        self.write(&mut bytes);
        bytes.freeze()
    }
}

impl<M: Message + Default> WireMessage for M {
    fn wire_len(&self) -> usize {
        Message::encoded_len(self)
    }

    fn write(&self, buf: &mut impl BufMut) {
        Message::encode(self, buf).expect("whoever calls this made room");
    }

    fn read(bytes: Bytes) -> Result<Self, DecodeError> {
        Message::decode(bytes)
    }
}

/// A repeated message field that is encoded already.
#[derive(Clone, Debug, PartialEq)]
pub enum Repeated {
    /// Whole fields, ready to be copied: tag, length and value, any number in each slice.
    Fields(Vec<Bytes>),
    /// The values alone: what decoding yields.
    Values(Values),
}

/// Encoded messages, side by side in one buffer.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Values {
    buffer: Bytes,
    /// Where each value is in `buffer`.
    ranges: Vec<Range<usize>>,
}

impl Values {
    /// Each value, in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &[u8]> + Clone {
        self.ranges.iter().map(|range| &self.buffer[range.clone()])
    }

    /// Each value, in order, as a share of the buffer, which lives as long as one of them.
    pub fn shares(&self) -> impl ExactSizeIterator<Item = Bytes> + Clone {
        let share = |range: &Range<usize>| self.buffer.slice(range.clone());
        self.ranges.iter().map(share)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.ranges.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }
}

impl<V: AsRef<[u8]>> FromIterator<V> for Values {
    /// Copies values into one buffer.
    fn from_iter<I: IntoIterator<Item = V>>(values: I) -> Self {
        let (mut buffer, mut ranges) = (BytesMut::new(), Vec::new());
        for value in values {
            let start = buffer.len();
            buffer.extend_from_slice(value.as_ref());
            ranges.push(start..buffer.len());
        }
        Self {
            buffer: buffer.freeze(),
            ranges,
        }
    }
}

impl Default for Repeated {
    fn default() -> Self {
        Self::Values(Values::default())
    }
}

impl Repeated {
    /// Values that are encoded already, copied.
    pub fn of(values: impl IntoIterator<Item: AsRef<[u8]>>) -> Self {
        Self::Values(values.into_iter().collect())
    }

    /// The encoded values, when this was decoded; empty when it was built of whole fields.
    pub fn values(&self) -> &Values {
        static NONE: Values = Values {
            buffer: Bytes::new(),
            ranges: Vec::new(),
        };
        match self {
            Self::Fields(_) => &NONE,
            Self::Values(values) => values,
        }
    }

    fn encode(&self, tag: u32, buf: &mut impl BufMut) {
        match self {
            Self::Fields(fields) => fields.iter().for_each(|field| buf.put_slice(field)),
            Self::Values(values) => {
                for value in values.iter() {
                    encoding::encode_key(tag, WireType::LengthDelimited, buf);
                    encoding::encode_varint(value.len() as u64, buf);
                    buf.put_slice(value);
                }
            }
        }
    }

    fn encoded_len(&self, tag: u32) -> usize {
        match self {
            Self::Fields(fields) => fields.iter().map(Bytes::len).sum(),
            Self::Values(values) => {
                let len =
                    |value: &[u8]| encoding::encoded_len_varint(value.len() as u64) + value.len();
                values.iter().map(len).sum::<usize>() + values.len() * encoding::key_len(tag)
            }
        }
    }
}

/// `eventbus.v1.PublishRequest` with its events still encoded.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PublishRequest {
    /// Name of the topic; may be empty in later requests of a stream.
    pub topic_name: String,
    /// Encoded `ProducerEvent`s; nothing inside has been looked at.
    pub events: Repeated,
    /// A fresh token, or empty.
    pub auth_refresh: String,
}

impl WireMessage for PublishRequest {
    /// The usual request of 200 events fits: a smaller buffer grows, and is copied, several times for
    /// each. Until something arrives it is address space and no memory.
    const DECODE_BUFFER_BYTES: usize = 64 * 1024;

    fn wire_len(&self) -> usize {
        text_len(1, self.topic_name.as_bytes())
            + self.events.encoded_len(2)
            + text_len(3, self.auth_refresh.as_bytes())
    }

    fn write(&self, buf: &mut impl BufMut) {
        encode_text(1, self.topic_name.as_bytes(), buf);
        self.events.encode(2, buf);
        encode_text(3, self.auth_refresh.as_bytes(), buf);
    }

    fn read(bytes: Bytes) -> Result<Self, DecodeError> {
        let mut message = Self::default();
        let events = decode_fields(bytes, 2, |tag, wire_type, rest, context| match tag {
            1 => encoding::string::merge(wire_type, &mut message.topic_name, rest, context),
            3 => encoding::string::merge(wire_type, &mut message.auth_refresh, rest, context),
            _ => encoding::skip_field(wire_type, tag, rest, context),
        })?;
        Ok(Self { events, ..message })
    }
}

/// `eventbus.v1.PublishResponse` with its results encoded already.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PublishResponse {
    /// Encoded `PublishResult`s, in the order of the request's events.
    pub results: Repeated,
    /// The schema the events were written with.
    pub schema_id: String,
    /// The RPC's id, as text.
    pub rpc_id: Bytes,
}

impl WireMessage for PublishResponse {
    fn wire_len(&self) -> usize {
        self.results.encoded_len(1)
            + text_len(2, self.schema_id.as_bytes())
            + text_len(3, &self.rpc_id)
    }

    fn write(&self, buf: &mut impl BufMut) {
        self.results.encode(1, buf);
        encode_text(2, self.schema_id.as_bytes(), buf);
        encode_text(3, &self.rpc_id, buf);
    }

    fn read(bytes: Bytes) -> Result<Self, DecodeError> {
        let mut message = Self::default();
        let results = decode_fields(bytes, 1, |tag, wire_type, rest, context| match tag {
            2 => encoding::string::merge(wire_type, &mut message.schema_id, rest, context),
            3 => encoding::bytes::merge(wire_type, &mut message.rpc_id, rest, context),
            _ => encoding::skip_field(wire_type, tag, rest, context),
        })?;
        Ok(Self { results, ..message })
    }
}

/// `eventbus.v1.FetchResponse` with its events encoded already.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FetchResponse {
    /// Encoded `ConsumerEvent`s, oldest first.
    pub events: Repeated,
    /// The last position examined.
    pub latest_replay_id: Bytes,
    /// The RPC's id, as text.
    pub rpc_id: Bytes,
    /// Credit left after this response, in events.
    pub pending_num_requested: i32,
}

impl WireMessage for FetchResponse {
    fn wire_len(&self) -> usize {
        let pending_len = match self.pending_num_requested {
            0 => 0,
            pending => encoding::int32::encoded_len(4, &pending),
        };
        self.events.encoded_len(1)
            + text_len(2, &self.latest_replay_id)
            + text_len(3, &self.rpc_id)
            + pending_len
    }

    fn write(&self, buf: &mut impl BufMut) {
        self.events.encode(1, buf);
        encode_text(2, &self.latest_replay_id, buf);
        encode_text(3, &self.rpc_id, buf);
        if self.pending_num_requested != 0 {
            encoding::int32::encode(4, &self.pending_num_requested, buf);
        }
    }

    fn read(bytes: Bytes) -> Result<Self, DecodeError> {
        Self::read_with(bytes, |tag, wire_type, rest, context| {
            encoding::skip_field(wire_type, tag, rest, context)
        })
    }
}

/// `eventbus.v1.ManagedFetchResponse` with its events encoded already.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ManagedFetchResponse {
    /// What it has in common with the response of an unmanaged subscription.
    pub fetch: FetchResponse,
    /// The answer to a commit.
    pub commit_response: Option<CommitReplayResponse>,
}

/// The first four fields are those of a [`FetchResponse`].
impl WireMessage for ManagedFetchResponse {
    fn wire_len(&self) -> usize {
        let commit = self.commit_response.as_ref();
        self.fetch.wire_len() + commit.map_or(0, |commit| encoding::message::encoded_len(5, commit))
    }

    fn write(&self, buf: &mut impl BufMut) {
        self.fetch.write(buf);
        if let Some(commit) = &self.commit_response {
            encoding::message::encode(5, commit, buf);
        }
    }

    fn read(bytes: Bytes) -> Result<Self, DecodeError> {
        let mut commit = None::<CommitReplayResponse>;
        let fetch = FetchResponse::read_with(bytes, |tag, wire_type, rest, context| match tag {
            5 => {
                let commit = commit.get_or_insert_default();
                encoding::message::merge(wire_type, commit, rest, context)
            }
            _ => encoding::skip_field(wire_type, tag, rest, context),
        })?;
        Ok(Self {
            fetch,
            commit_response: commit,
        })
    }
}

impl FetchResponse {
    /// Reads a message, whose other fields are handed to `other`.
    fn read_with(
        bytes: Bytes,
        mut other: impl FnMut(u32, WireType, &mut &[u8], DecodeContext) -> Result<(), DecodeError>,
    ) -> Result<Self, DecodeError> {
        let mut message = Self::default();
        let pending = &mut message.pending_num_requested;
        let events = decode_fields(bytes, 1, |tag, wire_type, rest, context| match tag {
            2 => encoding::bytes::merge(wire_type, &mut message.latest_replay_id, rest, context),
            3 => encoding::bytes::merge(wire_type, &mut message.rpc_id, rest, context),
            4 => encoding::int32::merge(wire_type, pending, rest, context),
            _ => other(tag, wire_type, rest, context),
        })?;
        Ok(Self { events, ..message })
    }
}

/// Reads all fields of a message: the values of the repeated field `repeated` stay where they are,
/// and every other field is handed to `other`.
fn decode_fields(
    buffer: Bytes,
    repeated: u32,
    mut other: impl FnMut(u32, WireType, &mut &[u8], DecodeContext) -> Result<(), DecodeError>,
) -> Result<Repeated, DecodeError> {
    let mut ranges = Vec::new();
    let mut rest: &[u8] = &buffer;
    while !rest.is_empty() {
        let (tag, wire_type) = encoding::decode_key(&mut rest)?;
        if tag != repeated {
            other(tag, wire_type, &mut rest, DecodeContext::default())?;
            continue;
        }
        encoding::check_wire_type(WireType::LengthDelimited, wire_type)?;
        let len = encoding::decode_varint(&mut rest)?;
        let start = buffer.len() - rest.len();
        let len = usize::try_from(len).unwrap_or(usize::MAX);
        let Some(following) = rest.get(len..) else {
            return Err(cut_off());
        };
        rest = following;
        ranges.push(start..start + len);
    }
    Ok(Repeated::Values(Values { buffer, ranges }))
}

/// The library's own error for a value that is longer than what is there: it lets nobody else make
/// one.
fn cut_off() -> DecodeError {
    let mut none = Bytes::new();
    encoding::bytes::merge(
        WireType::LengthDelimited,
        &mut none,
        &mut &[1][..],
        DecodeContext::default(),
    )
    .expect_err("one byte is announced, and none is there")
}

/// Text and bytes look the same on the wire; a field at its default is left out.
fn encode_text(tag: u32, text: &[u8], buf: &mut impl BufMut) {
    if !text.is_empty() {
        encoding::encode_key(tag, WireType::LengthDelimited, buf);
        encoding::encode_varint(text.len() as u64, buf);
        buf.put_slice(text);
    }
}

fn text_len(tag: u32, text: &[u8]) -> usize {
    if text.is_empty() {
        return 0;
    }
    encoding::key_len(tag) + encoding::encoded_len_varint(text.len() as u64) + text.len()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::proto::{ConsumerEvent, Error, ProducerEvent, PublishResult};

    /// The message as a generator would write it.
    #[derive(Clone, PartialEq, Message)]
    struct PlainFetchResponse {
        #[prost(message, repeated, tag = "1")]
        events: Vec<ConsumerEvent>,
        #[prost(bytes = "bytes", tag = "2")]
        latest_replay_id: Bytes,
        #[prost(string, tag = "3")]
        rpc_id: String,
        #[prost(int32, tag = "4")]
        pending_num_requested: i32,
    }

    /// The message as a generator would write it.
    #[derive(Clone, PartialEq, Message)]
    struct PlainPublishResponse {
        #[prost(message, repeated, tag = "1")]
        results: Vec<PublishResult>,
        #[prost(string, tag = "2")]
        schema_id: String,
        #[prost(string, tag = "3")]
        rpc_id: String,
    }

    /// A request in which events are bytes, as a generator would write it.
    #[derive(Clone, PartialEq, Message)]
    struct PlainPublishRequest {
        #[prost(string, tag = "1")]
        topic_name: String,
        #[prost(bytes = "vec", repeated, tag = "2")]
        events: Vec<Vec<u8>>,
        #[prost(string, tag = "3")]
        auth_refresh: String,
    }

    /// A response in which events are bytes, as a generator would write it.
    #[derive(Clone, PartialEq, Message)]
    struct PlainFetch {
        #[prost(bytes = "vec", repeated, tag = "1")]
        events: Vec<Vec<u8>>,
        #[prost(bytes = "vec", tag = "2")]
        latest_replay_id: Vec<u8>,
        #[prost(bytes = "vec", tag = "3")]
        rpc_id: Vec<u8>,
        #[prost(int32, tag = "4")]
        pending_num_requested: i32,
    }

    fn sample_event() -> ConsumerEvent {
        ConsumerEvent {
            event: Some(ProducerEvent {
                id: "e-1".into(),
                payload: vec![1, 2].into(),
                ..Default::default()
            }),
            replay_id: vec![0; 10].into(),
        }
    }

    #[test]
    fn a_fetch_response_is_the_generated_message_on_the_wire() {
        let plain = PlainFetchResponse {
            events: vec![sample_event(), sample_event()],
            latest_replay_id: vec![9; 10].into(),
            rpc_id: "rpc".into(),
            pending_num_requested: 98,
        };
        let decoded = FetchResponse::read(plain.encode_to_vec().into()).unwrap();
        assert_eq!(
            ConsumerEvent::decode(decoded.events.values().iter().nth(1).unwrap()).unwrap(),
            sample_event()
        );
        assert_eq!(decoded.to_bytes(), plain.encode_to_vec());

        let events_only = PlainFetchResponse {
            events: plain.events.clone(),
            ..Default::default()
        };
        let fields = Repeated::Fields(vec![events_only.encode_to_vec().into()]);
        let laid_out = FetchResponse {
            events: fields,
            ..decoded
        };
        assert_eq!(laid_out.to_bytes(), plain.encode_to_vec());
        assert_eq!(laid_out.wire_len(), plain.encoded_len());
        assert_eq!(FetchResponse::default().wire_len(), 0);
    }

    #[test]
    fn a_managed_response_is_the_generated_message_on_the_wire() {
        /// The message as a generator would write it.
        #[derive(Clone, PartialEq, Message)]
        struct Plain {
            #[prost(message, repeated, tag = "1")]
            events: Vec<ConsumerEvent>,
            #[prost(bytes = "bytes", tag = "2")]
            latest_replay_id: Bytes,
            #[prost(string, tag = "3")]
            rpc_id: String,
            #[prost(int32, tag = "4")]
            pending_num_requested: i32,
            #[prost(message, optional, tag = "5")]
            commit_response: Option<CommitReplayResponse>,
        }
        let commit = CommitReplayResponse {
            commit_request_id: "c-1".into(),
            replay_id: vec![7; 10].into(),
            error: None,
            process_time: 1_700_000_000_000,
        };
        for commit_response in [None, Some(commit), Some(CommitReplayResponse::default())] {
            let plain = Plain {
                events: vec![sample_event()],
                latest_replay_id: vec![9; 10].into(),
                rpc_id: "rpc".into(),
                pending_num_requested: 3,
                commit_response,
            };
            let read = ManagedFetchResponse::read(plain.encode_to_vec().into()).unwrap();
            assert_eq!(read.commit_response, plain.commit_response);
            assert_eq!(read.fetch.events.values().len(), 1);
            assert_eq!(read.to_bytes(), plain.encode_to_vec());
            assert_eq!(read.wire_len(), plain.encoded_len());
        }
    }

    #[test]
    fn a_publish_response_is_the_generated_message_on_the_wire() {
        let error = Some(Error {
            code: 1,
            msg: "no".into(),
        });
        let plain = PlainPublishResponse {
            results: vec![PublishResult {
                error,
                ..Default::default()
            }],
            schema_id: "schema".into(),
            rpc_id: "rpc".into(),
        };
        let decoded = PublishResponse::read(plain.encode_to_vec().into()).unwrap();
        assert_eq!(decoded.to_bytes(), plain.encode_to_vec());
        assert_eq!(
            PublishResult::decode(decoded.results.values().iter().next().unwrap()).unwrap(),
            plain.results[0]
        );
    }

    proptest! {
        #[test]
        fn a_publish_request_is_the_generated_message_on_the_wire(
            topic_name in "[a-zé/]{0,9}",
            events in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..300), 0..5),
            auth_refresh in "[a-z]{0,3}",
        ) {
            let plain = PlainPublishRequest { topic_name, events, auth_refresh };
            let read = PublishRequest::read(plain.encode_to_vec().into()).unwrap();
            prop_assert_eq!(read.events.values().iter().collect::<Vec<_>>(), &plain.events[..]);
            prop_assert_eq!(read.events.values().shares().collect::<Vec<_>>(), &plain.events[..]);
            prop_assert_eq!(read.to_bytes(), plain.encode_to_vec());
            let built = PublishRequest { events: Repeated::of(&plain.events), ..read.clone() };
            prop_assert_eq!(built.to_bytes(), plain.encode_to_vec());
            prop_assert_eq!(built.wire_len(), plain.encoded_len());
        }

        #[test]
        fn foreign_bytes_are_refused_as_the_library_refuses_them(
            mut bytes in proptest::collection::vec(any::<u8>(), 0..12),
            field in prop_oneof![Just(0x0a_u8), Just(0x12), Just(0x1a), Just(0x10), any::<u8>()],
        ) {
            bytes.insert(0, field);
            let plain = PlainPublishRequest::decode(&*bytes);
            match (PublishRequest::read(bytes.into()), plain) {
                (Ok(read), Ok(plain)) => {
                    prop_assert_eq!(read.topic_name, plain.topic_name);
                    let events: Vec<_> = read.events.values().iter().collect();
                    prop_assert_eq!(events, &plain.events[..]);
                }
                (Err(_), Err(_)) => {}
                (read, plain) => prop_assert!(false, "{read:?} {plain:?}"),
            }
        }

        #[test]
        fn foreign_responses_are_read_as_the_library_reads_them(
            fields in proptest::collection::vec(
                (
                    prop_oneof![Just(0x0a_u8), Just(0x12), Just(0x1a), Just(0x20), Just(0x28), any::<u8>()],
                    proptest::collection::vec(any::<u8>(), 0..6),
                    any::<bool>(),
                ),
                0..6,
            ),
        ) {
            let mut bytes = Vec::new();
            for (key, value, is_whole) in fields {
                bytes.push(key);
                if is_whole && key & 7 == 2 {
                    bytes.push(value.len() as u8);
                }
                bytes.extend(value);
            }
            let plain = PlainFetch::decode(&*bytes);
            match (FetchResponse::read(bytes.into()), plain) {
                (Ok(read), Ok(plain)) => {
                    let events: Vec<_> = read.events.values().iter().collect();
                    prop_assert_eq!(events, &plain.events[..]);
                    prop_assert_eq!(&read.latest_replay_id, &plain.latest_replay_id);
                    prop_assert_eq!(&read.rpc_id, &plain.rpc_id);
                    prop_assert_eq!(read.pending_num_requested, plain.pending_num_requested);
                }
                (Err(_), Err(_)) => {}
                (read, plain) => prop_assert!(false, "{read:?} {plain:?}"),
            }
        }
    }
}
