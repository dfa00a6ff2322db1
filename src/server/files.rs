//! The schemas directory: registered at the start, and kept an eye on until the gateway stops.

use std::{path::Path, sync::Arc};

use crate::{
    clock::Clock,
    net::shutdown::ShutdownSignal,
    schema::{
        registry::TenantSchemas,
        watch::{SchemaFiles, Watch},
    },
    types::limits::SCHEMA_FILES_LOOK_INTERVAL,
};

/// Keeps a registry in step with a directory.
pub(super) struct Keeper {
    watch: Watch,
    files: SchemaFiles,
}

impl Keeper {
    /// Takes up the files that are there. What is refused keeps no gateway from serving the rest.
    pub(super) async fn start(
        dir: &Path,
        schemas: &Arc<TenantSchemas>,
        files: &SchemaFiles,
        clock: &Arc<dyn Clock>,
    ) -> Self {
        if !dir.is_dir() {
            tracing::warn!(
                "there is no schemas directory {}; no schema is registered until there is",
                dir.display()
            );
        }
        let (schemas, clock) = (Arc::clone(schemas), Arc::clone(clock));
        let mut watch = Watch::new(dir, schemas, files.clone(), clock);
        watch.take_all().await;
        Self {
            watch,
            files: files.clone(),
        }
    }

    /// Looks at the directory again and again, until it is time to stop.
    pub(super) async fn run(mut self, mut signal: ShutdownSignal) {
        let looking = async {
            loop {
                tokio::select! {
                    () = self.files.asked_to_look() => self.watch.take_again(),
                    () = tokio::time::sleep(SCHEMA_FILES_LOOK_INTERVAL) => {}
                }
                self.watch.look().await;
            }
        };
        // A stop waits for no file: a registration that began goes on to its end by itself.
        tokio::select! {
            () = signal.recv() => {}
            () = looking => {}
        }
    }
}
