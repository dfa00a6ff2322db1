//! Stock clients that subscribe, and go on until the last event.

use std::{
    sync::{Arc, Mutex},
    thread::{self, JoinHandle},
};

use super::{TOPIC, publishers::LAST, versions::schema_id};
use crate::support::{
    gateway::Gateway,
    script::{Event, Script, Stock, Subscribe},
};

/// A subscriber that runs, and what it has got.
pub(super) struct Subscriber {
    pub(super) stock: Stock,
    pub(super) events: Arc<Mutex<Vec<Event>>>,
    reading: JoinHandle<()>,
}

impl Subscriber {
    pub(super) fn start(gateway: &Gateway, stock: Stock) -> Self {
        let how = Subscribe {
            count: usize::MAX,
            ..Subscribe::default()
        };
        let script = stock.subscribe(gateway, TOPIC, &how);
        let events = Arc::<Mutex<Vec<Event>>>::default();
        let reading = thread::spawn({
            let events = Arc::clone(&events);
            move || read_to_last(script, &events)
        });
        Self {
            stock,
            events,
            reading,
        }
    }

    /// Everything that it gets, to the last event.
    pub(super) fn events_to_last(self) -> Vec<Event> {
        self.reading.join().expect("nothing but events");
        std::mem::take(&mut *self.events.lock().unwrap())
    }

    /// How many events it has of a version.
    pub(super) fn count_of(&self, version: usize) -> usize {
        let id = schema_id(version);
        let events = self.events.lock().unwrap();
        events.iter().filter(|event| event.schema_id == id).count()
    }
}

fn read_to_last(mut script: Script, all: &Mutex<Vec<Event>>) {
    let mut is_last = false;
    while !is_last {
        let (events, _) = script.response();
        is_last = events.iter().any(|event| event.id == LAST);
        all.lock().unwrap().extend(events);
    }
}
