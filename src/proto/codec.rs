//! The codec of every RPC: protobuf with buffers that start small.
//!
//! The RPC library's own codec sets aside 8 KiB for each direction of each stream. An idle
//! subscription would pay for both for as long as it lives, so these grow when something is sent.

use std::marker::PhantomData;

use bytes::Buf;
use tonic::{
    Status,
    codec::{BufferSettings, DecodeBuf, Decoder, EncodeBuf, Encoder},
};

use super::raw::WireMessage;

/// First size of a stream's buffer, in bytes: a keepalive or a fetch request fits.
const BUFFER_BYTES: usize = 128;
/// Encoded bytes after which they are handed to HTTP/2 even if more is ready.
const YIELD_BYTES: usize = 64 * 1024;

/// Encodes `T` and decodes `U`.
#[derive(Debug)]
pub struct Codec<T, U>(PhantomData<fn(T) -> U>);

impl<T, U> Default for Codec<T, U> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<T, U> tonic::codec::Codec for Codec<T, U>
where
    T: WireMessage + 'static,
    U: WireMessage + 'static,
{
    type Encode = T;
    type Decode = U;
    type Encoder = MessageEncoder<T>;
    type Decoder = MessageDecoder<U>;

    fn encoder(&mut self) -> Self::Encoder {
        MessageEncoder(PhantomData)
    }

    fn decoder(&mut self) -> Self::Decoder {
        MessageDecoder(PhantomData)
    }
}

/// Encodes messages of type `T`.
#[derive(Debug)]
pub struct MessageEncoder<T>(PhantomData<fn(T)>);

impl<T: WireMessage> Encoder for MessageEncoder<T> {
    type Item = T;
    type Error = Status;

    fn encode(&mut self, item: T, buf: &mut EncodeBuf<'_>) -> Result<(), Status> {
        // Once for the whole of it: growing step by step copies a large message several times.
        buf.reserve(item.wire_len());
        item.write(buf);
        Ok(())
    }

    fn buffer_settings(&self) -> BufferSettings {
        BufferSettings::new(BUFFER_BYTES, YIELD_BYTES)
    }
}

/// Decodes messages of type `U`.
#[derive(Debug)]
pub struct MessageDecoder<U>(PhantomData<fn() -> U>);

impl<U: WireMessage> Decoder for MessageDecoder<U> {
    type Item = U;
    type Error = Status;

    fn decode(&mut self, buf: &mut DecodeBuf<'_>) -> Result<Option<U>, Status> {
        U::read(buf.copy_to_bytes(buf.remaining()))
            .map(Some)
            .map_err(|error| Status::internal(error.to_string()))
    }

    fn buffer_settings(&self) -> BufferSettings {
        BufferSettings::new(U::DECODE_BUFFER_BYTES, YIELD_BYTES)
    }
}
