//! Single calls: one request each, and its answer.

use super::{
    batch::{Batch, Sealed, Ticket},
    error::{FailedEvent, PublishError},
    event::Ready,
    retry::{Meaning, Resend, Retry},
};
use crate::{
    client::{CallError, Connection},
    types::{TopicName, limits::PUBLISH_ANSWER_WAIT},
};

use super::Published;

/// Publishes events by as many calls as the bounds of a request make of them, one after the other.
pub(super) async fn publish(
    connection: &Connection,
    topic: &TopicName,
    events: impl IntoIterator<Item = Ready>,
    resend: Resend,
    retry: impl Fn() -> Retry,
) -> Vec<Result<Published, FailedEvent>> {
    let (mut tickets, mut batches) = (Vec::<Ticket>::new(), vec![Batch::default()]);
    for event in events {
        let last = batches.last_mut().expect("there is one from the start");
        if last.has_room(&event) {
            tickets.push(last.add(event));
        } else {
            let mut next = Batch::default();
            tickets.push(next.add(event));
            batches.push(next);
        }
    }
    for batch in batches.into_iter().filter(|batch| !batch.is_empty()) {
        let mut batch = batch.seal();
        if let Err(error) = call(connection, topic, &mut batch, resend, retry()).await {
            batch.failed(error);
        }
    }
    let mut results = Vec::with_capacity(tickets.len());
    for ticket in tickets {
        results.push(ticket.result().await);
    }
    results
}

/// Makes the call, again if need be, and settles the batch unless it fails.
async fn call(
    connection: &Connection,
    topic: &TopicName,
    batch: &mut Sealed,
    resend: Resend,
    mut retry: Retry,
) -> Result<(), PublishError> {
    loop {
        let generation = connection.credentials_generation();
        let mut client = connection.pub_sub();
        let answer = client.publish(batch.request(topic));
        let error = match tokio::time::timeout(PUBLISH_ANSWER_WAIT, answer).await {
            Ok(Ok(response)) => {
                return batch.answered(response.get_ref()).map_err(|odd| {
                    let lost = CallError::connection_lost(&odd.to_string());
                    PublishError::Unconfirmed(lost.into())
                });
            }
            Ok(Err(status)) => CallError::from(status),
            Err(_) => CallError::connection_lost("no answer came"),
        };
        let meaning = Meaning::of(&error);
        batch.is_in_doubt |= meaning == Meaning::InDoubt;
        let wait = match meaning {
            Meaning::CallerRefused | Meaning::RequestRefused => None,
            _ if batch.is_in_doubt && resend == Resend::Never => None,
            Meaning::UnknownCaller => retry.renew(connection, generation).await,
            Meaning::NotSent | Meaning::Busy | Meaning::InDoubt => retry.next_wait(),
        };
        let Some(wait) = wait else {
            return Err(match meaning {
                _ if batch.is_in_doubt => PublishError::Unconfirmed(error.into()),
                Meaning::NotSent => PublishError::Connection(error.into()),
                _ => PublishError::RequestRefused(error),
            });
        };
        tokio::time::sleep(wait).await;
    }
}
