//! The platform's Tooling query, as far as clients of the Pub/Sub API ask it: for the managed
//! subscriptions that there are.
//!
//! A client that subscribes to a managed subscription looks it up first, to see that it is there and
//! that it runs.
//!
//! Source: the public Tooling API Developer Guide, "Query" and "ManagedEventSubscription".

mod query;

use axum::{
    Router,
    extract::{Path, Query, State, rejection::PathRejection},
    http::{HeaderMap, StatusCode},
    response::Response,
    routing::get,
};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{
    Gateway, answer,
    error::{ApiError, NO_RESOURCE, kinds},
    rest::check_version,
};
use crate::broker::ManagedConfig;
use query::{Field, QueryError, Select};

/// The kind of thing that can be asked for.
const ENTITY: &str = "ManagedEventSubscription";

pub(super) fn routes(gateway: Gateway) -> Router {
    let query = || get(answer_query).fallback(answer::only_get);
    Router::new()
        .route("/services/data/{version}/tooling/query", query())
        .route("/services/data/{version}/tooling/query/", query())
        .with_state(gateway)
}

#[derive(Deserialize)]
struct Parameters {
    #[serde(default)]
    q: String,
}

async fn answer_query(
    State(gateway): State<Gateway>,
    path: Result<Path<String>, PathRejection>,
    headers: HeaderMap,
    parameters: Result<Query<Parameters>, axum::extract::rejection::QueryRejection>,
) -> Result<Response, ApiError> {
    let principal = gateway.caller(&headers).await?;
    let Path(version) = path.map_err(|_| kinds::NOT_FOUND.error(NO_RESOURCE))?;
    check_version(&version)?;
    let Query(Parameters { q }) = parameters
        .map_err(|_| kinds::MALFORMED_QUERY.error("the parameter q is not one text in UTF-8"))?;
    let select = Select::parse(&q)?;
    let found = gateway.broker.managed_configs(&principal).await?;
    let records: Vec<_> = found
        .iter()
        .filter(|config| select.matches(config))
        .take(select.limit)
        .map(|config| record(&version, &select, config))
        .collect();
    let found = json!({
        "size": records.len(),
        "totalSize": records.len(),
        "done": true,
        "queryLocator": null,
        "entityTypeName": ENTITY,
        "records": records,
    });
    Ok(answer::json(StatusCode::OK, &found))
}

/// One subscription with the fields that were asked for.
fn record(version: &str, select: &Select, config: &ManagedConfig) -> Value {
    let id = config.id.to_string();
    let url = format!("/services/data/{version}/tooling/sobjects/{ENTITY}/{id}");
    let mut record = Map::new();
    record.insert("attributes".into(), json!({ "type": ENTITY, "url": url }));
    for field in &select.fields {
        let value = match field {
            Field::Id => id.clone().into(),
            Field::DeveloperName => config.developer_name.clone().into(),
            Field::MasterLabel => config.label.clone().into(),
            Field::Metadata => json!({
                "defaultReplay": config.default_replay.as_str(),
                "errorRecoveryReplay": config.error_recovery_replay.as_str(),
                "label": config.label,
                "state": config.state.as_str(),
                "topicName": config.topic.as_str(),
            }),
        };
        record.insert(field.name().into(), value);
    }
    record.into()
}

impl From<QueryError> for ApiError {
    fn from(error: QueryError) -> Self {
        let kind = match &error {
            QueryError::Malformed { .. } | QueryError::TooLong(_) => kinds::MALFORMED_QUERY,
            QueryError::UnknownField(_) => kinds::INVALID_FIELD,
            QueryError::UnknownEntity(_) => kinds::INVALID_TYPE,
        };
        kind.error(error.to_string())
    }
}
