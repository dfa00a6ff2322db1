//! A log that a test reads.

use std::{
    io,
    sync::{Arc, Mutex},
};

use tracing::{Dispatch, Level, subscriber::DefaultGuard};
use tracing_subscriber::fmt::MakeWriter;

/// What was written, for a test to read.
#[derive(Clone, Default)]
pub(crate) struct Written(Arc<Mutex<Vec<u8>>>);

impl Written {
    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

impl io::Write for Written {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for Written {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        self.clone()
    }
}

/// What this thread logs while this is there.
pub(crate) struct Captured {
    written: Written,
    _guard: DefaultGuard,
    _second: Dispatch,
}

impl Captured {
    /// Captures what is at least as grave as `level`.
    pub(crate) fn from(level: Level) -> Self {
        let written = Written::default();
        let subscriber = tracing_subscriber::fmt()
            .with_max_level(level)
            .with_ansi(false)
            .with_writer(written.clone())
            .finish();
        // As long as there is one subscriber alone, `tracing` asks for each new place in the code only
        // the thread that comes there first whether it wants it, which may be that of another test.
        let second = Dispatch::new(tracing::subscriber::NoSubscriber::default());
        Self {
            written,
            _guard: tracing::subscriber::set_default(subscriber),
            _second: second,
        }
    }

    pub(crate) fn text(&self) -> String {
        self.written.text()
    }
}
