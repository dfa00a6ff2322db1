//! Filters on `Subscribe`, asked for by call metadata: every rule of the platform's filter expressions,
//! through the wire.

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use prost::bytes::Bytes;
use serde_json::json;
use tonic::metadata::MetadataMap;

use super::gateway::{
    Gateway, Settings, Subscriber, assert_failure, call_by, earliest, latest, settle,
};
use crate::{
    broker::{
        self,
        tests::engines::{ORDERS, SHIPMENT_SCHEMA, SHIPMENTS, orders},
    },
    event_log,
    grpc::status::kinds,
    proto::{FILTER_METADATA, ProducerEvent},
    schema::{Fill, Schema},
    types::{Position, limits::KEEPALIVE},
};

const PARCELS: &str = "/event/Parcel__e";
/// Everything that a platform event can have.
const PARCEL_SCHEMA: &str = r#"{"type":"record","name":"Parcel__e","namespace":"com.sforce.eventbus","fields":[
 {"name":"CreatedDate","type":"long","doc":"CreatedDate:DateTime"},
 {"name":"CreatedById","type":"string","doc":"CreatedBy:EntityId"},
 {"name":"City__c","type":["null","string"],"doc":"Data:Text:00NXX0000000001","default":null},
 {"name":"Weight__c","type":["null","double"],"doc":"Data:Double:00NXX0000000002","default":null},
 {"name":"Fragile__c","type":["null","boolean"],"doc":"Data:Boolean:00NXX0000000003","default":null},
 {"name":"Due__c","type":["null","long"],"doc":"Data:DateOnly:00NXX0000000004","default":null},
 {"name":"Slot__c","type":["null","long"],"doc":"Data:TimeOnly:00NXX0000000005","default":null},
 {"name":"Code__c","type":["null","string"],"caseSensitive":true,"default":null}]}"#;

fn parcel(id: &str, fields: serde_json::Value) -> ProducerEvent {
    let mut json =
        json!({"CreatedDate": 1_769_848_200_000_i64, "CreatedById": "005000000000001AAA"});
    json.as_object_mut()
        .unwrap()
        .extend(fields.as_object().unwrap().clone());
    event(PARCEL_SCHEMA, id, &json)
}

fn event(schema: &str, id: &str, json: &serde_json::Value) -> ProducerEvent {
    let schema = Schema::parse(schema).unwrap();
    let fill = Fill {
        created_date_ms: 0,
        created_by_id: Fill::NOBODY,
    };
    ProducerEvent {
        id: id.into(),
        schema_id: schema.id().to_string(),
        payload: Bytes::from(schema.encode_json(json, &fill).unwrap()),
        ..ProducerEvent::default()
    }
}

async fn gateway_with_parcels() -> Gateway {
    let gateway = Gateway::start().await;
    let schemas = gateway.engines.schemas().await;
    let schema = Schema::parse(PARCEL_SCHEMA).unwrap();
    schemas.register_unchecked(&schema).await.unwrap();
    let parcels = [
        parcel(
            "berlin",
            json!({"City__c": "Berlin", "Weight__c": 2.5, "Fragile__c": true,
                "Due__c": 1_769_817_600_000_i64, "Slot__c": 30_600_000, "Code__c": "aB"}),
        ),
        parcel(
            "bern",
            json!({"City__c": "BERN", "Weight__c": 3_000_000_000.0, "Fragile__c": false,
                "Due__c": 1_769_904_000_000_i64, "Slot__c": 0, "Code__c": "ab"}),
        ),
        parcel("cologne", json!({"City__c": "Köln", "Weight__c": -1.0})),
        parcel(
            "odd",
            json!({"City__c": "50%_of it's \"all\"", "CreatedDate": 0}),
        ),
        parcel("nothing", json!({})),
    ];
    gateway.publish(PARCELS, &parcels).await.unwrap();
    gateway
}

fn asking(gateway: &Gateway, filter: &str) -> MetadataMap {
    asking_in(
        gateway,
        &utf8_percent_encode(filter, NON_ALPHANUMERIC).to_string(),
    )
}

fn asking_in(gateway: &Gateway, encoded: &str) -> MetadataMap {
    let mut call = call_by(&gateway.token, ());
    call.metadata_mut()
        .insert(FILTER_METADATA, encoded.parse().unwrap());
    call.metadata().clone()
}

/// The ids of the events of a topic that match.
async fn matching(gateway: &Gateway, topic: &str, filter: &str) -> Vec<String> {
    let headers = asking(gateway, filter);
    let first = Some(earliest(topic, 100));
    let mut subscriber = Subscriber::with_headers(gateway, &headers, first).await;
    let echo = subscriber.headers.get(FILTER_METADATA);
    assert_eq!(
        echo.map(|echo| echo.to_str().unwrap()),
        Some("1"),
        "{filter}"
    );
    let fetched = subscriber.next().await;
    fetched.ids().into_iter().map(str::to_owned).collect()
}

#[tokio::test(start_paused = true)]
async fn every_rule_of_the_platform_holds_on_platform_events() {
    let gateway = gateway_with_parcels().await;
    for (rule, filter, ids) in [
        ("=", "City__c = 'Berlin'", "berlin"),
        ("text without its case", "City__c = 'bERLIN'", "berlin"),
        (
            "text beyond ASCII without its case",
            "City__c = 'KÖLN'",
            "cologne",
        ),
        ("!=", "City__c != 'Berlin'", "bern cologne odd"),
        ("<, lexicographic", "City__c < 'bern'", "berlin odd"),
        ("<=", "City__c <= 'bern'", "berlin bern odd"),
        (">", "City__c > 'bern'", "cologne"),
        (">=", "City__c >= 'BERN'", "bern cologne"),
        ("LIKE with a run", "City__c LIKE 'ber%'", "berlin bern"),
        ("LIKE with one character", "City__c LIKE 'k_ln'", "cologne"),
        ("LIKE with neither", "City__c LIKE 'bern'", "bern"),
        ("LIKE with escapes", r"City__c LIKE '50\%\_%'", "odd"),
        ("IN", "City__c IN ('bern', 'Köln', 'x')", "bern cologne"),
        ("NOT IN", "City__c NOT IN ('bern', 'Köln')", "berlin odd"),
        (
            "quotes in text",
            r#"City__c = '50%_of it\'s \"all\"'"#,
            "odd",
        ),
        ("a number", "Weight__c = 2.5", "berlin"),
        ("numbers have an order", "Weight__c < 2.5", "cologne"),
        ("a large whole number", "Weight__c = 3000000000.0", "bern"),
        (
            "numbers in a list",
            "Weight__c IN (-1, 2.5)",
            "berlin cologne",
        ),
        ("a checkbox", "Fragile__c = true", "berlin"),
        (
            "a null checkbox is false",
            "Fragile__c = false",
            "bern cologne odd nothing",
        ),
        (
            "a checkbox and !=",
            "Fragile__c != true",
            "bern cologne odd nothing",
        ),
        (
            "a checkbox and null",
            "Fragile__c = null",
            "bern cologne odd nothing",
        ),
        ("null", "Weight__c = null", "odd nothing"),
        ("not null", "Weight__c != null", "berlin bern cologne"),
        (
            "a date and time in UTC",
            "CreatedDate = 2026-01-31T08:30:00Z",
            "berlin bern cologne nothing",
        ),
        (
            "one with an offset",
            "CreatedDate > 2026-01-31T10:29:59+02:00",
            "berlin bern cologne nothing",
        ),
        ("a date", "Due__c = 2026-01-31", "berlin"),
        ("dates have an order", "Due__c > 2026-01-31", "bern"),
        ("a time of day", "Slot__c = 08:30:00Z", "berlin"),
        ("times have an order", "Slot__c < 08:30:00Z", "bern"),
        ("AND", "City__c LIKE 'b%' AND Fragile__c = true", "berlin"),
        ("OR", "City__c = 'bern' OR Weight__c < 0", "bern cologne"),
        ("NOT", "NOT City__c LIKE 'b%'", "cologne odd"),
        (
            "NOT over several",
            "NOT (City__c = 'bern' OR Weight__c < 0)",
            "berlin",
        ),
        (
            "parentheses",
            "(City__c = 'bern' OR City__c = 'berlin') AND Weight__c > 2.5",
            "bern",
        ),
        (
            "names of fields without their case",
            "CITY__C = 'bern' AND weight__c != null",
            "bern",
        ),
        (
            "keywords without their case",
            "City__c like 'b%' and not City__c = 'bern'",
            "berlin",
        ),
        ("case where the field says so", "Code__c = 'ab'", "bern"),
        (
            "what is null is neither",
            "City__c = 'x' OR NOT City__c = 'x'",
            "berlin bern cologne odd",
        ),
    ] {
        let found = matching(&gateway, PARCELS, filter).await.join(" ");
        assert_eq!(found, ids, "{rule}: {filter}");
    }
}

#[tokio::test(start_paused = true)]
async fn every_rule_of_the_platform_holds_on_change_events() {
    let gateway = Gateway::start().await;
    let header = |change_type: &str, number: i64| {
        json!({
            "entityName": "Shipment__c", "recordIds": ["a01"], "changeType": change_type,
            "changeOrigin": "", "transactionKey": "t", "sequenceNumber": 1,
            "commitTimestamp": 1_769_848_200_000_i64, "commitNumber": number,
            "commitUser": "005000000000001AAA", "nulledFields": [], "diffFields": [], "changedFields": [],
        })
    };
    let shipments = [
        event(
            SHIPMENT_SCHEMA,
            "created",
            &json!({"ChangeEventHeader": header("CREATE", 10_585_193_272_713), "Status__c": "New",
                "Dest__c": {"Latitude": 50.9, "Longitude": 6.9}}),
        ),
        event(
            SHIPMENT_SCHEMA,
            "updated",
            &json!({"ChangeEventHeader": header("UPDATE", 10_585_193_272_714), "Status__c": "Sent"}),
        ),
    ];
    gateway.publish(SHIPMENTS, &shipments).await.unwrap();
    for (rule, filter, ids) in [
        ("=", "Status__c = 'new'", "created"),
        ("LIKE", "Status__c LIKE 's%'", "updated"),
        (
            "a part of a compound field",
            "Dest__c.Latitude > 50",
            "created",
        ),
        (
            "a part of nothing is null",
            "Dest__c.Latitude = null",
            "updated",
        ),
        (
            "the header",
            "ChangeEventHeader.changeType = 'UPDATE'",
            "updated",
        ),
        (
            "the header without its case",
            "changeeventheader.CHANGETYPE != 'update'",
            "created",
        ),
        (
            "whole numbers, exactly",
            "ChangeEventHeader.commitNumber = 10585193272714.0",
            "updated",
        ),
        (
            "times of the header",
            "ChangeEventHeader.commitTimestamp >= 2026-01-31T08:30:00Z",
            "created updated",
        ),
    ] {
        let found = matching(&gateway, SHIPMENTS, filter).await.join(" ");
        assert_eq!(found, ids, "{rule}: {filter}");
    }
    for (filter, wanted) in [
        ("Status__c IN ('a')", "IN is not for change events"),
        ("Status__c NOT IN ('a')", "NOT IN is not for change events"),
        ("ChangeEventHeader.recordIds = 'a'", "is array of string"),
        ("ChangeEventHeader.nulledFields = 'a'", "is array of string"),
        ("ChangeEventHeader.diffFields = 'a'", "is array of string"),
        (
            "ChangeEventHeader.changedFields = 'a'",
            "is array of string",
        ),
        ("Dest__c = 'a'", "parts of records by their names"),
    ] {
        refused(&gateway, SHIPMENTS, filter, wanted).await;
    }
}

async fn refused(gateway: &Gateway, topic: &str, filter: &str, wanted: &str) {
    let headers = asking(gateway, filter);
    let first = Some(earliest(topic, 100));
    let mut subscriber = Subscriber::with_headers(gateway, &headers, first).await;
    let status = subscriber.failure().await;
    assert_failure(&status, "Subscribe", kinds::FETCH_REQUEST_INVALID);
    assert!(status.message().contains(wanted), "{filter}: {status:?}");
}

#[tokio::test(start_paused = true)]
async fn what_is_no_filter_of_the_topic_ends_the_stream_and_no_other() {
    let gateway = gateway_with_parcels().await;
    let mut other = gateway.subscribe(latest(PARCELS, 10)).await;
    let deep = format!("{}City__c = 'a'{}", "(".repeat(65), ")".repeat(65));
    let fields: Vec<_> = (0..11).map(|field| format!("F{field}__c = 1")).collect();
    for (filter, wanted) in [
        ("", "at character 1: found the end, wanted a field"),
        ("City__c", "at character 8: found the end, wanted =, !="),
        (
            "City__c = Berlin",
            "at character 11: found \"Berlin\", wanted a value",
        ),
        (
            "City__c = 'Berlin",
            "at character 11: this text has no closing quote",
        ),
        ("City__c ~ 'Berlin'", "at character 9: found '~'"),
        (
            "City__c = 'a' Weight__c = 1",
            "at character 15: found \"Weight__c\", wanted AND, OR or the end",
        ),
        ("(City__c = 'a'", "wanted AND, OR or `)`"),
        ("Köln__c = 1", "at character 2: found 'ö'"),
        (
            "Town__c = 'a'",
            "at character 1: Parcel__e has no field Town__c",
        ),
        ("Owner__r.Name = 'a'", "has no field Owner__r"),
        ("City__c.Name = 'a'", "the field City__c has no part Name"),
        ("Weight__c = '1'", "compared with a number, found a text"),
        (
            "City__c = 1",
            "compared with a text in single quotes, found a number",
        ),
        (
            "Fragile__c = 'true'",
            "compared with true, false or null, found a text",
        ),
        (
            "Fragile__c > true",
            "> does not go with true; only = and != do",
        ),
        (
            "Weight__c < null",
            "< does not go with null; only = and != do",
        ),
        (
            "Weight__c LIKE '1%'",
            "compared with a number, found a pattern",
        ),
        ("CreatedDate = TODAY", "found \"TODAY\", wanted a value"),
        ("CreatedDate > 2026-01-31", "compared with a date and time"),
        (
            "CreatedDate > 2026-01-31T08:30:00",
            "is no number, date or time",
        ),
        ("Due__c = 2026-02-30", "is no number, date or time"),
        (
            "Weight__c = 3000000000",
            "whole numbers above 2147483647 are written with .0",
        ),
        (&deep, "more than 64 parentheses are open here"),
        (&fields.join(" AND "), "a filter names at most 10 fields"),
    ] {
        refused(&gateway, PARCELS, filter, wanted).await;
    }
    for (encoded, wanted) in [
        ("%ff%fe", "is a filter in percent-encoded UTF-8".to_owned()),
        (
            &*"%20".repeat(2_731),
            "has at most 8192 bytes as it is encoded, found 8193".to_owned(),
        ),
    ] {
        let headers = asking_in(&gateway, encoded);
        let first = Some(earliest(PARCELS, 100));
        let mut subscriber = Subscriber::with_headers(&gateway, &headers, first).await;
        // It is not that filters are unknown here.
        assert!(subscriber.headers.contains_key(FILTER_METADATA));
        let status = subscriber.failure().await;
        assert_failure(&status, "Subscribe", kinds::FETCH_REQUEST_INVALID);
        assert!(status.message().contains(&wanted), "{status:?}");
    }
    gateway
        .publish(PARCELS, &[parcel("later", json!({}))])
        .await
        .unwrap();
    assert_eq!(other.next().await.ids(), ["later"]);
}

#[tokio::test(start_paused = true)]
async fn events_that_do_not_match_advance_the_latest_replay_id_and_take_no_credit() {
    let gateway = gateway_with_parcels().await;
    let headers = asking(&gateway, "City__c = 'Bern'");
    let first = Some(latest(PARCELS, 2));
    let mut subscriber = Subscriber::with_headers(&gateway, &headers, first).await;
    settle().await;
    let others: Vec<_> = (0..600)
        .map(|number| parcel(&number.to_string(), json!({"City__c": "Basel"})))
        .collect();
    let mut last = Position::ZERO;
    for others in others.chunks(200) {
        let published = gateway.publish(PARCELS, others).await.unwrap();
        last = *published.positions().last().unwrap();
    }
    subscriber
        .expect_silence(KEEPALIVE - std::time::Duration::from_secs(1))
        .await;
    let keepalive = subscriber.next().await;
    assert_eq!(keepalive.ids(), [""; 0]);
    assert_eq!((keepalive.latest, keepalive.pending), (last, 2));
    let wanted = parcel("bern again", json!({"City__c": "Bern"}));
    gateway
        .publish(PARCELS, &[others[0].clone(), wanted, others[1].clone()])
        .await
        .unwrap();
    let fetched = subscriber.next().await;
    assert_eq!((fetched.ids(), fetched.pending), (vec!["bern again"], 1));
    // What comes behind it is passed too.
    assert!(fetched.latest > last);
}

/// All but the matching events of a block are left out, and blocks are left out whole.
#[tokio::test(start_paused = true)]
async fn credit_and_order_hold_with_a_filter() {
    let settings = Settings {
        broker: broker::Config {
            credit_max: 1_000,
            ..broker::Config::default()
        },
        log: event_log::Config::default(),
        ..Settings::default()
    };
    let gateway = Gateway::with(settings).await;
    for from in (0..2_000).step_by(200) {
        gateway
            .publish(ORDERS, &orders(from..from + 200))
            .await
            .unwrap();
    }
    // The numbers are the ids.
    let headers = asking(&gateway, "Order_Number__c LIKE '%7'");
    let first = Some(earliest(ORDERS, 150));
    let mut subscriber = Subscriber::with_headers(&gateway, &headers, first).await;
    let mut found = Vec::new();
    while found.len() < 150 {
        let fetched = subscriber.next().await;
        found.extend(
            fetched
                .ids()
                .into_iter()
                .map(|id| id.parse::<usize>().unwrap()),
        );
        assert_eq!(fetched.pending as usize, 150 - found.len());
    }
    let wanted: Vec<usize> = (0..200).map(|ten| ten * 10 + 7).collect();
    assert_eq!(found, wanted[..150]);
    subscriber.ask_for(1_000);
    while found.len() < 200 {
        found.extend(
            subscriber
                .next()
                .await
                .ids()
                .into_iter()
                .map(|id| id.parse::<usize>().unwrap()),
        );
    }
    assert_eq!(found, wanted);
}

#[tokio::test(start_paused = true)]
async fn subscribers_with_equal_filters_share_one_evaluation() {
    let gateway = gateway_with_parcels().await;
    let mut subscribers = Vec::new();
    for number in 0..20 {
        // The same two, in different words.
        let filter = match number % 4 {
            0 => "City__c = 'Bern'",
            1 => "  CITY__C  = 'Bern'",
            2 => "Weight__c > 1.0",
            _ => "(weight__c>1)",
        };
        let headers = asking(&gateway, filter);
        let first = Some(latest(PARCELS, 100));
        subscribers.push(Subscriber::with_headers(&gateway, &headers, first).await);
    }
    settle().await;
    let evaluated = |gateway: &Gateway| {
        let scrape = gateway.engines.scrape();
        let line = scrape
            .lines()
            .find(|line| line.starts_with("broker_filtered_events_total"))
            .unwrap();
        line.rsplit_once(' ').unwrap().1.parse::<u64>().unwrap()
    };
    let before = evaluated(&gateway);
    let wanted = parcel("wanted", json!({"City__c": "Bern", "Weight__c": 2}));
    gateway.publish(PARCELS, &[wanted]).await.unwrap();
    for subscriber in &mut subscribers {
        assert_eq!(subscriber.next().await.ids(), ["wanted"]);
    }
    assert_eq!(evaluated(&gateway) - before, 2);
}
