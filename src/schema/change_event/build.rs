//! From a record before and after its change to the payload of an event.

use serde_json::{Map, Value, json};

use super::{
    Change, ChangeError, ChangeType, FieldIndex, HeaderFacts, RecordError, RecordId, Side, bitmap,
    shape::{self, HEADER, Shape},
};
use crate::{
    schema::{Fill, JsonError, Schema, json::type_of, program::RecordType},
    types::PlatformId,
};

/// The id of a record as the platform's REST API returns it.
const ID: &str = "Id";
/// What it returns beside the fields that change events have.
const NO_FIELDS: [&str; 4] = ["attributes", ID, "IsDeleted", "SystemModstamp"];

/// The payload of the event that tells `change`, which is valid by `schema`.
///
/// Both records are read through the schema before they are compared, so `1` and `1.0` are one
/// value of a double. `LastModifiedDate` and its like are fields as others are: what the caller did
/// not change is not among the changed ones.
///
/// # Errors
///
/// [`ChangeError`]: the schema is not one of change events, a record is not one of the schema, or the
/// two do not make the change that they are to make.
pub fn build(
    schema: &Schema,
    change: &Change,
    facts: &HeaderFacts,
) -> Result<Vec<u8>, ChangeError> {
    let shape = Shape::of(schema)?;
    let entity_name = match &facts.entity_name {
        Some(name) => name.clone(),
        None => shape.entity_name()?,
    };
    let has = |record: &Option<Value>| record.is_some();
    let change_type = change_type(facts.change_type, has(&change.before), has(&change.after))?;
    let symbol = shape.symbol(change_type)?;
    let read = |record: &Option<Value>, side| match record {
        Some(record) => match read(schema, record, symbol) {
            Ok(fields) => Ok(Some(fields)),
            Err(reason) => Err(ChangeError::Record { side, reason }),
        },
        None => Ok(None),
    };
    let before = read(&change.before, Side::Before)?;
    let after = read(&change.after, Side::After)?;
    let record_ids = record_ids(change_type, &facts.record_ids, record_id(change)?)?;
    let body = match (change_type, before, after) {
        (ChangeType::Create | ChangeType::Undelete, _, Some(after)) => Body {
            fields: after,
            ..Body::default()
        },
        (ChangeType::Update, Some(before), Some(after)) => changes(schema, &before, after)?,
        _ => Body::default(),
    };
    let bitmaps = |fields| {
        bitmap::encode(schema.program(), fields).expect("the fields were counted in this schema")
    };
    let header = json!({
        "entityName": entity_name,
        "recordIds": record_ids,
        "changeType": symbol,
        "changeOrigin": facts.change_origin,
        "transactionKey": facts.transaction_key,
        "sequenceNumber": facts.sequence_number,
        "commitTimestamp": facts.commit_timestamp_ms,
        "commitNumber": facts.commit_number,
        "commitUser": facts.commit_user.as_str(),
        "nulledFields": bitmaps(body.nulled),
        "diffFields": [],
        "changedFields": bitmaps(body.changed),
    });
    let mut event = nulls(schema.program().root());
    event.extend(body.fields);
    event.insert(HEADER.to_owned(), header);
    encode(schema, &Value::Object(event)).map_err(ChangeError::Event)
}

/// What an event says of its record.
#[derive(Default)]
struct Body {
    /// Those of the record's fields that are not null.
    fields: Map<String, Value>,
    changed: Vec<FieldIndex>,
    nulled: Vec<FieldIndex>,
}

/// A record's fields as they come out of the schema.
fn read(schema: &Schema, record: &Value, symbol: &str) -> Result<Map<String, Value>, RecordError> {
    let mut record = record.clone();
    if let Value::Object(fields) = &mut record {
        if fields.contains_key(HEADER) {
            return Err(RecordError::Header);
        }
        let root = schema.program().root();
        fields.retain(|name, _| {
            let is_field = || root.fields().iter().any(|field| field.name() == name);
            !NO_FIELDS.contains(&name.as_str()) || is_field()
        });
        fields.insert(HEADER.to_owned(), blank_header(symbol));
    }
    let payload = encode(schema, &record)?;
    let json = schema.to_json(&payload);
    let Value::Object(mut fields) = json.expect("what the schema encoded is valid") else {
        unreachable!("a payload is a record, and a record is an object");
    };
    fields.remove(HEADER);
    Ok(fields)
}

/// The header of no event, with which a record can be read.
fn blank_header(symbol: &str) -> Value {
    json!({
        "entityName": "", "recordIds": [], "changeType": symbol, "changeOrigin": "",
        "transactionKey": "", "sequenceNumber": 0, "commitTimestamp": 0, "commitNumber": 0,
        "commitUser": "", "nulledFields": [], "diffFields": [], "changedFields": [],
    })
}

fn encode(schema: &Schema, event: &Value) -> Result<Vec<u8>, JsonError> {
    // Nothing is filled in: in a change event both fields are nullable.
    let fill = Fill {
        created_date_ms: 0,
        created_by_id: Fill::NOBODY,
    };
    schema.encode_json(event, &fill)
}

/// The id that the records have, if they have one.
fn record_id(change: &Change) -> Result<Option<PlatformId>, ChangeError> {
    let id_of = |record: &Option<Value>, side| match record.as_ref().map(id_of) {
        Some(id) => id.map_err(|reason| ChangeError::Record { side, reason }),
        None => Ok(None),
    };
    let before = id_of(&change.before, Side::Before)?;
    let after = id_of(&change.after, Side::After)?;
    match (before, after) {
        (Some(before), Some(after)) if before != after => {
            Err(ChangeError::OtherRecord { before, after })
        }
        (before, after) => Ok(before.or(after)),
    }
}

fn id_of(record: &Value) -> Result<Option<PlatformId>, RecordError> {
    match record.get(ID) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(id)) => id.parse().map(Some).map_err(RecordError::Id),
        Some(other) => Err(RecordError::IdType(type_of(other))),
    }
}

fn record_ids(
    change_type: ChangeType,
    given: &[RecordId],
    of_record: Option<PlatformId>,
) -> Result<Vec<String>, ChangeError> {
    if !given.is_empty() {
        return Ok(given.iter().map(|id| id.as_str().to_owned()).collect());
    }
    match of_record {
        // It is about more records than can be named, so it names none.
        _ if change_type == ChangeType::GapOverflow => Ok(vec![RecordId::OVERFLOW.to_owned()]),
        Some(id) => Ok(vec![id.to_string()]),
        None => Err(ChangeError::NoRecordId),
    }
}

/// The type of a change of these records, or the one that was asked for if it is one of them.
fn change_type(
    asked: Option<ChangeType>,
    has_before: bool,
    has_after: bool,
) -> Result<ChangeType, ChangeError> {
    use ChangeType::{
        Create, Delete, GapCreate, GapDelete, GapOverflow, GapUndelete, GapUpdate, Undelete, Update,
    };
    let Some(change_type) = asked else {
        return match (has_before, has_after) {
            (false, true) => Ok(Create),
            (true, true) => Ok(Update),
            (true, false) => Ok(Delete),
            (false, false) => Err(ChangeError::NoRecord),
        };
    };
    let (is_possible, wanted) = match change_type {
        Create => (!has_before && has_after, "no record into one"),
        Update => (has_before && has_after, "one record into another"),
        Delete => (has_before && !has_after, "one record into none"),
        // A deleted record may be known, and need not be.
        Undelete => (has_after, "any or no record into one"),
        GapCreate | GapUpdate | GapDelete | GapUndelete | GapOverflow => (true, "any or no record"),
    };
    if is_possible {
        return Ok(change_type);
    }
    Err(ChangeError::Records {
        change_type,
        found: match (has_before, has_after) {
            (false, false) => "no record before and none after",
            (false, true) => "no record before and one after",
            (true, false) => "a record before and none after",
            (true, true) => "a record before and one after",
        },
        wanted,
    })
}

/// The fields of `after` that differ from `before`, and which those are.
fn changes(
    schema: &Schema,
    before: &Map<String, Value>,
    mut after: Map<String, Value>,
) -> Result<Body, ChangeError> {
    let mut body = Body::default();
    let root = schema.program().root();
    for (index, field) in root.fields().iter().enumerate().skip(1) {
        let name = field.name();
        let old = before.get(name).unwrap_or(&Value::Null);
        let new = after.get_mut(name).map(Value::take).unwrap_or_default();
        if *old == new {
            continue;
        }
        if let Some(record) = compared_by_children(schema, index, old, &new) {
            let sent = body.compare_children(index, record, old, new);
            body.fields.extend(sent.map(|sent| (name.to_owned(), sent)));
            continue;
        }
        body.changed.push(FieldIndex::Whole(index));
        if new.is_null() {
            body.nulled.push(FieldIndex::Whole(index));
        }
        body.fields.insert(name.to_owned(), new);
    }
    match body.changed.is_empty() {
        true => Err(ChangeError::NothingChanged),
        false => Ok(body),
    }
}

/// The record whose fields tell two values of a field apart, if that is how they differ.
fn compared_by_children<'s>(
    schema: &'s Schema,
    index: usize,
    old: &Value,
    new: &Value,
) -> Option<&'s RecordType> {
    let program = schema.program();
    let record = bitmap::compound(program, index)?;
    let is_record = |value: &Value| value.is_null() || value.is_object();
    // A child that is not nullable cannot be left out of an update, so such a record is sent whole.
    let mut children = shape::fields(program, record);
    let are_nullable = children.all(|(_, step)| shape::is_nullable(program, step));
    (is_record(old) && is_record(new) && are_nullable).then_some(record)
}

impl Body {
    /// Notes the children that differ, and returns a value that has no others, if any differ: null
    /// and a record of nulls do not.
    fn compare_children(
        &mut self,
        parent: usize,
        record: &RecordType,
        old: &Value,
        mut new: Value,
    ) -> Option<Value> {
        let mut sent = nulls(record);
        let known = self.changed.len();
        for (child, field) in record.fields().iter().enumerate() {
            let name = field.name();
            let old = old.get(name).unwrap_or(&Value::Null);
            let new = new.get_mut(name).map(Value::take).unwrap_or_default();
            if *old == new {
                continue;
            }
            let index = FieldIndex::Child { parent, child };
            self.changed.push(index);
            if new.is_null() {
                self.nulled.push(index);
            }
            sent.insert(name.to_owned(), new);
        }
        let sent = match new {
            Value::Null => Value::Null,
            _ => Value::Object(sent),
        };
        (self.changed.len() > known).then_some(sent)
    }
}

/// A value of the record without any: an absent field would become its default.
fn nulls(record: &RecordType) -> Map<String, Value> {
    let names = record.fields().iter().map(|field| field.name());
    names.map(|name| (name.to_owned(), Value::Null)).collect()
}
