//! Credit: never more events than asked for, and what is left said exactly.

use super::orders;
use crate::support::{
    gateway::Gateway,
    order::TOPIC,
    script::{EVERY, Line, Script, Subscribe},
};

/// Reads until no credit is left, holding what each response says is left to what it must be.
fn read_credit(script: &mut Script, mut credit: i32) -> usize {
    let mut count = 0;
    while credit > 0 {
        let (events, pending) = script.response();
        credit -= events.len() as i32;
        count += events.len();
        assert_eq!(pending, credit, "pending is exact on every response");
    }
    count
}

#[test]
fn as_many_events_come_as_were_asked_for() {
    let gateway = Gateway::ephemeral();
    EVERY[0].publish(&gateway, TOPIC, &orders(0..1_000), 200, true);
    for stock in EVERY {
        for (asked, granted) in [(1, 1), (100, 100), (250, 100)] {
            // Asks for one more when none is left: whatever was held back would come before it.
            let how = Subscribe {
                grants: &[asked],
                refill: 1,
                count: 101,
                ..Subscribe::default()
            };
            let mut script = stock.subscribe(&gateway, TOPIC, &how);
            assert_eq!(
                read_credit(&mut script, granted),
                granted as usize,
                "{stock:?}"
            );
            let (events, pending) = script.response();
            assert_eq!(
                (events.len(), pending),
                (1, 0),
                "{stock:?} asked for {asked}"
            );
        }
    }
}

#[test]
fn a_client_that_half_closes_gets_its_credit_and_then_ok() {
    let gateway = Gateway::ephemeral();
    EVERY[0].publish(&gateway, TOPIC, &orders(0..300), 100, true);
    for stock in EVERY {
        for (asked, granted) in [(1, 1), (100, 100), (250, 100)] {
            let how = Subscribe {
                grants: &[asked],
                refill: 0,
                half_close: true,
                ..Subscribe::default()
            };
            let mut script = stock.subscribe(&gateway, TOPIC, &how);
            assert_eq!(
                read_credit(&mut script, granted),
                granted as usize,
                "{stock:?}"
            );
            let rest = script.rest();
            assert!(
                matches!(rest[..], [Line::Status { code: 0, .. }]),
                "{stock:?}: {rest:?}"
            );
        }
    }
}

#[test]
fn sixty_and_sixty_are_a_hundred() {
    for stock in EVERY {
        let gateway = Gateway::ephemeral();
        let how = Subscribe {
            grants: &[60, 60],
            refill: 0,
            ..Subscribe::default()
        };
        let mut script = stock.subscribe(&gateway, TOPIC, &how);
        assert_eq!(script.next(), Some(Line::Headers));

        // Until the second request is handled, one event after the other is taken from the first
        // sixty; with the second the credit is full.
        let mut pending = 60;
        let mut published = 0;
        loop {
            stock.publish(&gateway, TOPIC, &orders([published]), 1, false);
            published += 1;
            let (events, left) = script.response();
            assert_eq!(events.len(), 1);
            if left != pending - 1 {
                assert_eq!(left, 99, "{stock:?}: the credit is full before this event");
                break;
            }
            pending = left;
            assert!(
                pending > 1,
                "{stock:?}: the second request is never handled"
            );
        }

        stock.publish(
            &gateway,
            TOPIC,
            &orders(published..published + 300),
            100,
            true,
        );
        assert_eq!(read_credit(&mut script, 99), 99);
    }
}
