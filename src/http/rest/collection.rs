//! A collection: up to 200 events in one list.

use std::borrow::Cow;

use axum::{
    extract::{Path, Request, State, rejection::PathRejection},
    http::StatusCode,
    response::Response,
};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::{
    begin,
    object::{Bounded, Object},
    publish::{Entry, Outcome, Saved, publish},
};
use crate::{
    http::{
        Gateway, answer,
        error::{ApiError, kinds},
    },
    types::limits::COLLECTION_RECORDS_MAX,
};

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Collection<'a> {
    #[serde(default)]
    all_or_none: bool,
    #[serde(borrow)]
    records: Bounded<&'a RawValue, COLLECTION_RECORDS_MAX>,
}

/// What a record says about itself. Its fields are read later, by the schema of its type.
#[derive(Deserialize)]
struct Record<'a> {
    #[serde(borrow, default)]
    attributes: Option<Object<Attributes<'a>>>,
}

#[derive(Deserialize)]
struct Attributes<'a> {
    #[serde(borrow, default, rename = "type")]
    name: Option<Cow<'a, str>>,
}

/// The answer about one record.
#[derive(Serialize)]
#[serde(untagged)]
enum SaveResult {
    Saved(Saved),
    Refused { success: bool, errors: [Refusal; 1] },
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Refusal {
    status_code: &'static str,
    message: String,
    fields: Vec<String>,
}

/// Publishes a list of events.
pub(super) async fn create(
    State(gateway): State<Gateway>,
    path: Result<Path<String>, PathRejection>,
    request: Request,
) -> Result<Response, ApiError> {
    let (principal, body) = begin(&gateway, path, request).await?;
    let Object(Collection {
        all_or_none,
        records,
    }) = serde_json::from_str(body.text()).map_err(|error| ApiError::not_json(&error))?;
    let Bounded {
        items: records,
        has_more,
    } = records;
    if records.is_empty() {
        return Err(kinds::INVALID_INPUT.error("the collection has no records"));
    }
    if has_more {
        // The platform's words.
        return Err(kinds::TOO_MANY_RECORDS.error(format!(
            "record limit reached. cannot submit more than {COLLECTION_RECORDS_MAX} records into \
             this call"
        )));
    }
    let names: Vec<_> = records.iter().map(|record| name_of(record)).collect();
    let entries = names.iter().zip(&records).map(|(name, record)| match name {
        Ok(name) => Ok(Entry {
            name,
            json: record.get(),
        }),
        Err(problem) => Err(kinds::INVALID_INPUT.error(*problem)),
    });
    let outcomes = publish(&gateway, &principal, entries.collect(), all_or_none).await;
    Outcome::log_all(&outcomes);
    let results = outcomes.into_iter().map(|outcome| {
        outcome
            .or(|| {
                kinds::ROLLED_BACK.error(
                    "Record rolled back because not all records were valid and the request was \
                     using AllOrNone header",
                )
            })
            .map_or_else(SaveResult::refused, SaveResult::Saved)
    });
    Ok(answer::json(StatusCode::OK, &results.collect::<Vec<_>>()))
}

/// The name of a record's type.
fn name_of(record: &RawValue) -> Result<Cow<'_, str>, &'static str> {
    const WANTED: &str = "a record is an object with attributes, and these have a type";
    let Object(record): Object<Record<'_>> =
        serde_json::from_str(record.get()).map_err(|_| WANTED)?;
    record
        .attributes
        .and_then(|Object(attributes)| attributes.name)
        .ok_or(WANTED)
}

impl SaveResult {
    fn refused(error: ApiError) -> Self {
        Self::Refused {
            success: false,
            errors: [Refusal {
                status_code: error.code(),
                message: error.message().to_owned(),
                fields: error.fields().to_vec(),
            }],
        }
    }
}
