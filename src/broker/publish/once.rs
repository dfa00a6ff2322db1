//! Batches on topics where publishing is idempotent: what is there already is not queued again.

use std::sync::Arc;

use super::{Batch, Duplicate, Tenant, TopicError};
use crate::broker::{
    PublishError,
    idempotence::{Answer, Asked, Claimed, Wait},
};

impl Batch {
    /// Whether the batch has events whose ids are to be looked up.
    pub(super) fn is_once(&self) -> bool {
        self.is_idempotent && self.has_chosen_ids
    }

    /// Takes the ids of these batches of one tenant, and takes the events out that are there already
    /// or on their way. Waits until each id is either free, or its event queued.
    ///
    /// # Errors
    ///
    /// [`TopicError::Unavailable`] if the log cannot be read.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: a call dropped while it waits has taken nothing.
    pub(super) async fn claim(
        tenant: &Arc<Tenant>,
        batches: &mut [Self],
    ) -> Result<Claimed, PublishError> {
        let (claimed, answers) = loop {
            let asked = asked(batches);
            let wait = match tenant.ids.claim(&asked) {
                Ok(claimed) => break claimed,
                Err(wait) => wait,
            };
            match wait {
                Wait::Rebuilt(topic) => tenant
                    .ids
                    .rebuilt(tenant, topic)
                    .await
                    .map_err(TopicError::unavailable)?,
                Wait::Queued(ticket) => ticket.queued().await,
            }
        };
        let mut answers = answers.into_iter();
        for batch in batches {
            batch.take_out(&mut answers);
        }
        Ok(claimed)
    }

    /// Takes the next answers, one for each accepted event, and the events out that have one.
    fn take_out(&mut self, answers: &mut impl Iterator<Item = Option<Answer>>) {
        let accepted = self.slots.iter_mut().enumerate();
        let accepted = accepted.filter(|(_, slot)| slot.refusal.is_none());
        let mut kept = Vec::new();
        for (index, slot) in accepted {
            let answer = answers.next().expect("every accepted event was asked for");
            kept.push(answer.is_none());
            if let Some(answer) = answer {
                slot.is_duplicate = true;
                self.duplicates.push(Duplicate {
                    slot: index,
                    answer,
                });
            }
        }
        if self.duplicates.is_empty() {
            return;
        }
        let mut kept = kept.as_slice();
        for body in &mut self.bodies {
            let of_body;
            (of_body, kept) = kept.split_at(body.event_count());
            if of_body.contains(&false) {
                body.retain(|index| of_body[index]);
            }
        }
        self.bodies.retain(|body| body.event_count() > 0);
    }
}

/// Every accepted event of these batches, with its id if that is to be looked up.
fn asked(batches: &[Batch]) -> Vec<Asked<'_>> {
    let mut asked = Vec::new();
    let mut body = 0;
    for batch in batches {
        let mut left = batch.bodies.iter().map(|body| body.event_count());
        let mut left_of_body = left.next().unwrap_or(0);
        let is_once = batch.is_once();
        let mut id_start = 0;
        for slot in &batch.slots {
            let id = &batch.ids[id_start..slot.id_end];
            id_start = slot.id_end;
            if slot.refusal.is_some() {
                continue;
            }
            if left_of_body == 0 {
                left_of_body = left.next().unwrap_or(0);
                body += 1;
            }
            left_of_body = left_of_body.saturating_sub(1);
            asked.push(Asked {
                topic: batch.topic.id,
                id: (is_once && !slot.id_made).then_some(id),
                body,
            });
        }
        body += u32::from(!batch.bodies.is_empty());
    }
    asked
}

/// Waits until it is known what became of the events that others published.
pub(super) async fn await_answers(duplicates: &mut [Duplicate]) {
    for Duplicate { answer, .. } in duplicates {
        answer.ready().await;
    }
}
