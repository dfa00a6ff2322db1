//! What every stream of responses has in common: how it goes on and how it ends.

use futures_util::{Stream, stream};
use tonic::Status;

use super::{Call, metrics::End, status::RpcError};

/// One stream of an RPC, from its first request to its end.
pub(super) trait Responder: Send + Sized {
    /// What the stream sends.
    type Response;

    /// The call that the stream belongs to.
    fn call(&self) -> &Call;

    /// The next response; `None` at a good end. An error ends the stream; it is `None` when the
    /// client is gone and nobody is there to be told.
    fn next(
        &mut self,
    ) -> impl Future<Output = Result<Option<Self::Response>, Option<RpcError>>> + Send;
}

/// The responses of `responder`. Each is made when the client's side has room for it.
pub(super) fn responses<R: Responder>(
    responder: R,
) -> impl Stream<Item = Result<R::Response, Status>> {
    stream::unfold(Some(responder), |responder| async {
        let mut responder = responder?;
        match responder.next().await {
            Ok(Some(response)) => Some((Ok(response), Some(responder))),
            Ok(None) => {
                responder.call().ended(End::Ok);
                None
            }
            Err(Some(error)) => Some((Err(responder.call().fail(error)), None)),
            Err(None) => None,
        }
    })
}
