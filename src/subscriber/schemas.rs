//! The schemas of the events that were seen. A schema id means the same schema for ever.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tonic::Code;

use crate::{
    client::{CallError, ClientError, Connection},
    proto::SchemaRequest,
    schema::Schema,
    types::limits::CLIENT_SCHEMAS_MAX,
};

/// A schema, or the reason why there is none to be had.
pub(super) type Found = Result<Schema, Arc<str>>;

/// Schemas by id, of one connection. Clones share them.
#[derive(Clone, Debug)]
pub(super) struct Schemas {
    connection: Connection,
    known: Arc<Mutex<HashMap<String, Found>>>,
}

impl Schemas {
    pub(super) fn new(connection: Connection) -> Self {
        Self {
            connection,
            known: Arc::default(),
        }
    }

    /// The schema with this id, asked for at its first sight.
    ///
    /// # Errors
    ///
    /// Failures that say nothing about the schema; asking again may help.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub(super) async fn get(&self, id: &str) -> Result<Found, ClientError> {
        if let Some(known) = self.lock().get(id) {
            return Ok(known.clone());
        }
        let found = self.fetch(id).await?;
        let mut known = self.lock();
        if known.len() >= CLIENT_SCHEMAS_MAX {
            known.clear();
        }
        known.insert(id.to_owned(), found.clone());
        Ok(found)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Found>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn fetch(&self, id: &str) -> Result<Found, ClientError> {
        if id.is_empty() {
            return Ok(Err("the event names no schema".into()));
        }
        let request = SchemaRequest {
            schema_id: id.to_owned(),
        };
        let response = match self.connection.pub_sub().get_schema(request).await {
            Ok(response) => response.into_inner(),
            Err(status) => {
                let error = CallError::from(status);
                let is_about_schema = !error.is_connection_lost()
                    && matches!(
                        error.code(),
                        Code::NotFound | Code::PermissionDenied | Code::InvalidArgument
                    );
                return match is_about_schema {
                    true => Ok(Err(format!("the schema {id} cannot be had: {error}").into())),
                    false => Err(error.into()),
                };
            }
        };
        let schema = Schema::parse(&response.schema_json);
        Ok(schema.map_err(|error| format!("the schema {id} is not usable: {error}").into()))
    }
}
