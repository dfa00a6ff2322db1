//! Flow control: how many more events to ask for, told by how fast they are handled.
//!
//! What is asked for and what is received and not handled are together never more than the events
//! that may be in flight. More is asked for once half of that is free, so that requests are few and
//! events keep coming while earlier ones are handled. No I/O and no clock here.
//!
//! Source: the public Pub/Sub API Developer Guide, "Pull Subscription and Flow Control".

use crate::types::limits::CREDIT_MAX;

/// The credit of one stream.
#[derive(Debug)]
pub(super) struct Flow {
    in_flight_max: u32,
    /// What the stream may have asked for at once.
    credit_max: u32,
    /// Events that were asked for and have not come.
    credit: u32,
    /// Events that are still wanted, those asked for among them; without a number, all.
    wanted: Option<u64>,
}

impl Flow {
    /// The flow of a stream on which nothing was asked for yet, and on which so many events are wanted;
    /// without a number, all.
    pub(super) fn new(in_flight_max: u32, wanted: Option<u64>) -> Self {
        Self {
            wanted,
            in_flight_max,
            credit_max: CREDIT_MAX,
            credit: 0,
        }
    }

    /// The gateway says how much credit the stream may have.
    pub(super) fn granted(&mut self, credit_max: u32) {
        self.credit_max = credit_max.max(1);
    }

    /// Events that were asked for and have not come.
    pub(super) fn credit(&self) -> u32 {
        self.credit
    }

    /// How many events to ask for while this many are in flight: 0 if it is not worth a request.
    pub(super) fn worth_asking(&self, in_flight: usize) -> u32 {
        let room = self.room(in_flight);
        if room >= self.enough() { room } else { 0 }
    }

    /// What is wanted and not asked for.
    fn unasked(&self) -> u32 {
        let unasked = self
            .wanted
            .map(|wanted| wanted.saturating_sub(self.credit.into()));
        unasked.map_or(u32::MAX, |unasked| {
            u32::try_from(unasked).unwrap_or(u32::MAX)
        })
    }

    /// With so many events in flight, or fewer, it is worth to ask; `None` if it is not, however few
    /// they are.
    pub(super) fn asks_at(&self) -> Option<usize> {
        let askable = self.credit_max.saturating_sub(self.credit);
        if askable.min(self.unasked()) < self.enough() {
            return None;
        }
        let taken = self.credit.checked_add(self.enough())?;
        Some(self.in_flight_max.checked_sub(taken)? as usize)
    }

    fn enough(&self) -> u32 {
        let half = self.in_flight_max.min(self.credit_max) / 2;
        half.min(self.unasked()).max(1)
    }

    /// How many events may be asked for at most while this many are in flight.
    pub(super) fn room(&self, in_flight: usize) -> u32 {
        let in_flight = u32::try_from(in_flight).unwrap_or(u32::MAX);
        let free = self
            .in_flight_max
            .saturating_sub(in_flight)
            .saturating_sub(self.credit);
        free.min(self.credit_max.saturating_sub(self.credit))
            .min(self.unasked())
    }

    /// Events were asked for.
    pub(super) fn asked(&mut self, events: u32) {
        self.credit = self.credit.saturating_add(events);
    }

    /// So many events fewer are wanted.
    pub(super) fn taken(&mut self, events: u64) {
        self.wanted = self.wanted.map(|wanted| wanted.saturating_sub(events));
    }

    /// A response came with this many events, after which the gateway counts `pending`; and whether it
    /// must have seen the last request by then.
    ///
    /// Returns how many of them were not asked for.
    pub(super) fn received(&mut self, events: usize, pending: i32, is_seen: bool) -> u32 {
        let events = u32::try_from(events).unwrap_or(u32::MAX);
        let excess = events.saturating_sub(self.credit);
        self.credit = self.credit.saturating_sub(events);
        if events == 0 && is_seen {
            // A sign of life tells what the gateway believes: one that granted less than was asked for
            // would leave a stream waiting for ever. What crosses a request on its way, as the answer
            // to a commit does, knows nothing of it: what is asked for then would be asked for twice.
            self.credit = self.credit.min(u32::try_from(pending).unwrap_or(0));
        }
        excess
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn more_is_asked_for_once_half_is_free() {
        let mut flow = Flow::new(100, None);
        assert_eq!(flow.worth_asking(0), 100);
        flow.asked(100);
        assert_eq!(flow.worth_asking(0), 0);
        flow.received(100, 0, true);
        assert_eq!(flow.worth_asking(100), 0);
        assert_eq!(flow.worth_asking(51), 0);
        assert_eq!(flow.worth_asking(50), 50);
        flow.asked(50);
        assert_eq!(flow.worth_asking(10), 0, "40 are not half of 100");
        assert_eq!(flow.worth_asking(0), 50);
    }

    #[test]
    fn a_single_event_in_flight_is_asked_for_one_by_one() {
        let mut flow = Flow::new(1, None);
        assert_eq!(flow.worth_asking(0), 1);
        flow.asked(1);
        flow.received(1, 0, true);
        assert_eq!(flow.worth_asking(1), 0);
        assert_eq!(flow.worth_asking(0), 1);
    }

    #[test]
    fn a_stream_gets_no_more_than_it_may_have() {
        let mut flow = Flow::new(5_000, None);
        assert_eq!(flow.worth_asking(0), CREDIT_MAX);
        flow.asked(CREDIT_MAX);
        assert_eq!(flow.worth_asking(0), 0);
        flow.granted(2_000);
        assert_eq!(flow.worth_asking(0), 1_900);
    }

    #[test]
    fn no_more_is_asked_for_than_is_wanted() {
        let mut flow = Flow::new(100, Some(120));
        assert_eq!(flow.worth_asking(0), 100);
        flow.asked(100);
        flow.received(100, 0, true);
        flow.taken(100);
        assert_eq!(flow.asks_at(), Some(80));
        assert_eq!(flow.worth_asking(80), 20, "all that is wanted is enough");
        flow.asked(20);
        assert_eq!((flow.worth_asking(0), flow.asks_at()), (0, None));
        flow.received(20, 0, true);
        flow.taken(20);
        assert_eq!((flow.worth_asking(0), flow.room(0)), (0, 0));
    }

    #[test]
    fn what_was_not_asked_for_is_told() {
        let mut flow = Flow::new(10, None);
        flow.asked(10);
        assert_eq!(flow.received(4, 6, true), 0);
        assert_eq!(flow.received(9, 0, true), 3);
        assert_eq!(flow.credit(), 0);
    }

    #[test]
    fn a_sign_of_life_corrects_the_account() {
        let mut flow = Flow::new(100, None);
        flow.asked(100);
        flow.received(0, 40, true);
        assert_eq!(flow.worth_asking(0), 60);
        flow.received(0, 0, true);
        assert_eq!(flow.room(0), 100);
        flow.asked(100);
        flow.received(0, -5, true);
        assert_eq!(flow.credit(), 0, "nonsense is nothing");
    }

    #[test]
    fn a_sign_of_life_that_crosses_a_request_corrects_nothing() {
        let mut flow = Flow::new(1, None);
        flow.asked(1);
        flow.received(0, 0, false);
        assert_eq!((flow.credit(), flow.worth_asking(0)), (1, 0));
    }

    proptest! {
        #[test]
        fn what_is_asked_for_and_in_flight_stays_in_bounds(
            in_flight_max in 1_u32..300,
            steps in proptest::collection::vec((any::<bool>(), 0_usize..150), 0..200),
        ) {
            let mut flow = Flow::new(in_flight_max, None);
            let mut in_flight = 0;
            for (is_delivery, count) in steps {
                if is_delivery {
                    let events = count.min(flow.credit() as usize);
                    flow.received(events, (flow.credit() as usize - events) as i32, true);
                    in_flight += events;
                } else {
                    in_flight -= count.min(in_flight);
                    let more = flow.worth_asking(in_flight);
                    flow.asked(more);
                }
                prop_assert!(flow.credit() as usize + in_flight <= in_flight_max as usize);
                prop_assert!(flow.credit() <= CREDIT_MAX);
                for fewer in 0..=in_flight_max as usize {
                    let is_worth = flow.worth_asking(fewer) > 0;
                    prop_assert_eq!(is_worth, flow.asks_at().is_some_and(|at| fewer <= at));
                }
                // It never stalls: with nothing in flight and nothing asked for, more is asked for.
                prop_assert!(in_flight > 0 || flow.credit() > 0 || flow.worth_asking(0) > 0);
            }
        }
    }
}
