//! The three messages on the way of an event, written by hand so that events stay bytes.
//!
//! A gateway that decodes each event of a request, and encodes each event of a response, spends
//! most of its time there. Here a request's events are slices of what arrived, and a response's
//! events are slices of stored blocks. On the wire these types are exactly the messages of the same
//! names in `proto/pubsub_api.proto`; the tests hold them to that.

use bytes::{Buf, BufMut, Bytes};
use prost::{
    DecodeError, Message,
    encoding::{self, DecodeContext, WireType},
};

/// `eventbus.v1.PublishRequest` with its events still encoded.
#[derive(Clone, PartialEq, Message)]
pub struct PublishRequest {
    /// Name of the topic; may be empty in later requests of a stream.
    #[prost(string, tag = "1")]
    pub topic_name: String,
    /// One encoded `ProducerEvent` each; nothing inside has been looked at.
    #[prost(bytes = "bytes", repeated, tag = "2")]
    pub events: Vec<Bytes>,
    /// A fresh token, or empty.
    #[prost(string, tag = "3")]
    pub auth_refresh: String,
}

/// A repeated message field that is encoded already.
#[derive(Clone, Debug, PartialEq)]
pub enum Repeated {
    /// Whole fields, ready to be copied: tag, length and value, any number in each slice.
    Fields(Vec<Bytes>),
    /// The values alone, one in each slice: what decoding yields.
    Values(Vec<Bytes>),
}

impl Default for Repeated {
    fn default() -> Self {
        Self::Values(Vec::new())
    }
}

impl Repeated {
    /// The encoded values, when this was decoded; empty when it was built of whole fields.
    pub fn values(&self) -> &[Bytes] {
        match self {
            Self::Fields(_) => &[],
            Self::Values(values) => values,
        }
    }

    fn encode(&self, tag: u32, buf: &mut impl BufMut) {
        match self {
            Self::Fields(fields) => fields.iter().for_each(|field| buf.put_slice(field)),
            Self::Values(values) => {
                for value in values {
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
            Self::Values(values) => encoding::bytes::encoded_len_repeated(tag, values),
        }
    }

    fn merge(
        &mut self,
        wire_type: WireType,
        buf: &mut impl Buf,
        ctx: DecodeContext,
    ) -> Result<(), DecodeError> {
        if matches!(self, Self::Fields(_)) {
            *self = Self::default();
        }
        let Self::Values(values) = self else {
            unreachable!("set to values above")
        };
        encoding::bytes::merge_repeated(wire_type, values, buf, ctx)
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

impl Message for PublishResponse {
    fn encode_raw(&self, buf: &mut impl BufMut) {
        self.results.encode(1, buf);
        encode_text(2, self.schema_id.as_bytes(), buf);
        encode_text(3, &self.rpc_id, buf);
    }

    fn encoded_len(&self) -> usize {
        self.results.encoded_len(1)
            + text_len(2, self.schema_id.as_bytes())
            + text_len(3, &self.rpc_id)
    }

    fn merge_field(
        &mut self,
        tag: u32,
        wire_type: WireType,
        buf: &mut impl Buf,
        ctx: DecodeContext,
    ) -> Result<(), DecodeError> {
        match tag {
            1 => self.results.merge(wire_type, buf, ctx),
            2 => encoding::string::merge(wire_type, &mut self.schema_id, buf, ctx),
            3 => encoding::bytes::merge(wire_type, &mut self.rpc_id, buf, ctx),
            _ => encoding::skip_field(wire_type, tag, buf, ctx),
        }
    }

    fn clear(&mut self) {
        *self = Self::default();
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

impl Message for FetchResponse {
    fn encode_raw(&self, buf: &mut impl BufMut) {
        self.events.encode(1, buf);
        encode_text(2, &self.latest_replay_id, buf);
        encode_text(3, &self.rpc_id, buf);
        if self.pending_num_requested != 0 {
            encoding::int32::encode(4, &self.pending_num_requested, buf);
        }
    }

    fn encoded_len(&self) -> usize {
        let pending_len = match self.pending_num_requested {
            0 => 0,
            pending => encoding::int32::encoded_len(4, &pending),
        };
        self.events.encoded_len(1)
            + text_len(2, &self.latest_replay_id)
            + text_len(3, &self.rpc_id)
            + pending_len
    }

    fn merge_field(
        &mut self,
        tag: u32,
        wire_type: WireType,
        buf: &mut impl Buf,
        ctx: DecodeContext,
    ) -> Result<(), DecodeError> {
        match tag {
            1 => self.events.merge(wire_type, buf, ctx),
            2 => encoding::bytes::merge(wire_type, &mut self.latest_replay_id, buf, ctx),
            3 => encoding::bytes::merge(wire_type, &mut self.rpc_id, buf, ctx),
            4 => encoding::int32::merge(wire_type, &mut self.pending_num_requested, buf, ctx),
            _ => encoding::skip_field(wire_type, tag, buf, ctx),
        }
    }

    fn clear(&mut self) {
        *self = Self::default();
    }
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
        let decoded = FetchResponse::decode(&*plain.encode_to_vec()).unwrap();
        assert_eq!(
            ConsumerEvent::decode(decoded.events.values()[1].clone()).unwrap(),
            sample_event()
        );
        assert_eq!(decoded.encode_to_vec(), plain.encode_to_vec());

        let events_only = PlainFetchResponse {
            events: plain.events.clone(),
            ..Default::default()
        };
        let fields = Repeated::Fields(vec![events_only.encode_to_vec().into()]);
        let laid_out = FetchResponse {
            events: fields,
            ..decoded
        };
        assert_eq!(laid_out.encode_to_vec(), plain.encode_to_vec());
        assert_eq!(laid_out.encoded_len(), plain.encoded_len());
        assert_eq!(FetchResponse::default().encoded_len(), 0);
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
        let decoded = PublishResponse::decode(&*plain.encode_to_vec()).unwrap();
        assert_eq!(decoded.encode_to_vec(), plain.encode_to_vec());
        assert_eq!(
            PublishResult::decode(decoded.results.values()[0].clone()).unwrap(),
            plain.results[0]
        );
    }
}
