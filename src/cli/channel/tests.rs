use clap::Parser;

use super::*;
use crate::{
    broker::{NewChannel as WantedChannel, NewMember},
    cli::{exit::Exit, fake_gateway::FakeGateway, output::Record as _},
};

const CHANNEL: &str = "/event/Orders__chn";
const TOPIC: &str = "/event/OrderCreated__e";

fn name(text: &str) -> TopicName {
    text.parse().unwrap()
}

fn member(filter: &str) -> ChannelMember {
    ChannelMember {
        topic_name: TOPIC.into(),
        filter: filter.into(),
        enriched_fields: Vec::new(),
    }
}

#[tokio::test]
async fn a_channel_is_made_changed_listed_and_deleted() {
    let gateway = FakeGateway::start().await;
    let connection = gateway.connect().await;
    let channel = name(CHANNEL);
    create(&connection, &channel, Some("Orders".into()))
        .await
        .unwrap();
    let added = add(&connection, &channel, member("Amount__c > 10"))
        .await
        .unwrap();
    let json = serde_json::to_value(&added).unwrap();
    assert_eq!(
        json,
        serde_json::json!({
            "name": CHANNEL, "label": "Orders", "standard": false, "version": 2,
            "created_at": "2023-11-14T22:13:20Z",
            "members": [{"topic": TOPIC, "filter": "Amount__c > 10", "enriched_fields": []}],
        })
    );
    set(&connection, &channel, "Big orders".into())
        .await
        .unwrap();
    let listed = list(&connection).await.unwrap();
    assert_eq!(
        listed[0].cells(),
        ["/data/ChangeEvents", "", "0", "0", "standard"]
    );
    assert_eq!(listed[1].cells(), [CHANNEL, "Big orders", "1", "1", "3"]);
    let described = describe(&connection, &channel).await.unwrap().description();
    let expected = "\
name      /event/Orders__chn
label     Big orders
version   3
made      2023-11-14T22:13:20Z
member    /event/OrderCreated__e  where Amount__c > 10
";
    assert_eq!(described, expected);
    let removed = remove(&connection, &channel, &name(TOPIC)).await.unwrap();
    assert!(removed.members.is_empty());
    delete(&connection, &channel).await.unwrap();
    let gone = describe(&connection, &channel).await.unwrap_err();
    assert!(
        gone.to_string().contains("no channel /event/Orders__chn"),
        "{gone}"
    );
    assert_eq!(
        delete(&connection, &channel).await.unwrap_err().exit(),
        Exit::Failed
    );
}

#[tokio::test]
async fn one_is_deleted_only_when_that_is_meant() {
    let args = Args {
        command: Command::Delete {
            name: name(CHANNEL),
            yes: false,
            connection: ConnectionArgs::default(),
        },
    };
    let failure = run(args).await.unwrap_err();
    assert_eq!(failure.exit(), Exit::Usage);
    assert!(failure.to_string().contains("--yes"), "{failure}");
}

#[test]
fn a_filter_that_is_none_is_refused_before_a_gateway_is_asked() {
    let failure = check("Amount__c >").unwrap_err();
    assert_eq!(failure.exit(), Exit::Failed);
    let told = failure.to_string();
    assert!(
        told.starts_with("the filter is wrong at character 12: "),
        "{told}"
    );
    check("Amount__c > 10").unwrap();
    check(" ").unwrap();
}

#[tokio::test]
async fn a_list_is_applied_and_told_channel_by_channel() {
    let gateway = FakeGateway::start().await;
    let connection = gateway.connect().await;
    let wanted = |filter: &str| WantedChannel {
        name: CHANNEL.into(),
        label: String::new(),
        members: vec![NewMember {
            topic: TOPIC.into(),
            filter: Some(filter.into()),
            enriched_fields: Vec::new(),
        }],
    };
    let good = [wanted("Amount__c > 10")];
    let applied = apply::apply(&connection, &good, false, false)
        .await
        .unwrap();
    assert_eq!(applied[0].text(), "created  /event/Orders__chn");
    let rehearsed = apply::apply(&connection, &good, true, true).await.unwrap();
    assert_eq!(rehearsed[0].text(), "would be changed  /event/Orders__chn");
    let json = serde_json::to_value(&rehearsed[0]).unwrap();
    let expected = serde_json::json!({"name": CHANNEL, "outcome": "changed", "dry_run": true});
    assert_eq!(json, expected);

    let bad = [wanted("Amount__c ? 10")];
    let refusal = apply::apply(&connection, &bad, false, false)
        .await
        .unwrap_err();
    let refusal = refusal.to_string();
    assert_eq!(
        apply::wrong_filter(&bad, &refusal),
        Some(("Amount__c ? 10", 11)),
        "{refusal}"
    );
    assert_eq!(apply::wrong_filter(&[], &refusal), None);
}

#[derive(Parser)]
struct Parsed {
    #[command(flatten)]
    args: Args,
}

#[test]
fn fields_to_enrich_are_given_together_or_one_by_one() {
    for given in [
        "--enrich Name Industry",
        "--enrich Name,Industry",
        "--enrich Name --enrich Industry",
    ] {
        let line = format!("channel add /data/Sales__chn /data/AccountChangeEvent {given}");
        let parsed = Parsed::try_parse_from(line.split(' ')).unwrap();
        let Command::Add { enrich, .. } = parsed.args.command else {
            panic!("{line}");
        };
        assert_eq!(enrich, ["Name", "Industry"]);
    }
}
