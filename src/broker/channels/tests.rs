use super::*;
use crate::broker::{
    Config, NewManaged,
    tests::engines::{CHANGES, Engines, ORDERS, SHIPMENTS, STATUSES, principal},
};

const ORDERS_CHANNEL: &str = "/event/Orders__chn";
const SALES_CHANNEL: &str = "/data/Sales__chn";

async fn engines() -> Engines {
    Engines::new(Config::default(), crate::event_log::Config::default()).await
}

fn member(topic: &str, filter: &str) -> NewMember {
    NewMember {
        topic: topic.into(),
        filter: Some(filter.into()),
        enriched_fields: Vec::new(),
    }
}

fn channel(name: &str, members: Vec<NewMember>) -> NewChannel {
    NewChannel {
        name: name.into(),
        label: String::new(),
        members,
    }
}

fn two_channels() -> Vec<NewChannel> {
    vec![
        channel(
            ORDERS_CHANNEL,
            vec![member(ORDERS, "Amount__c > 10"), member(STATUSES, "")],
        ),
        channel(SALES_CHANNEL, vec![member(CHANGES, "")]),
    ]
}

const APPLIED: ApplyOptions = ApplyOptions {
    prune: false,
    dry_run: false,
};
const PRUNED: ApplyOptions = ApplyOptions {
    prune: true,
    ..APPLIED
};

/// Applies a list, and tells what that did in words.
async fn apply(engines: &Engines, wanted: Vec<NewChannel>, options: ApplyOptions) -> String {
    let applied = engines
        .broker
        .apply_channels(&principal(), wanted, options)
        .await;
    match applied {
        Ok(applied) => applied
            .iter()
            .map(|it| format!("{} {}", it.outcome, it.name))
            .collect::<Vec<_>>()
            .join(", "),
        Err(error) => error.to_string(),
    }
}

async fn names(engines: &Engines) -> Vec<String> {
    let channels = engines.broker.channels(&principal()).await.unwrap();
    channels
        .iter()
        .map(|channel| channel.name.to_string())
        .collect()
}

#[tokio::test]
async fn a_list_is_applied_once_and_is_there_after_a_restart() {
    let mut engines = engines().await;
    let created = "created /data/Sales__chn, created /event/Orders__chn";
    let rehearsal = ApplyOptions {
        dry_run: true,
        ..APPLIED
    };
    assert_eq!(apply(&engines, two_channels(), rehearsal).await, created);
    assert!(names(&engines).await.is_empty());
    assert_eq!(apply(&engines, two_channels(), APPLIED).await, created);
    let unchanged = "unchanged /data/Sales__chn, unchanged /event/Orders__chn";
    assert_eq!(apply(&engines, two_channels(), APPLIED).await, unchanged);
    engines.restart();
    assert_eq!(apply(&engines, two_channels(), PRUNED).await, unchanged);

    let mut other = two_channels();
    other[0].members[0].filter = Some("Amount__c > 11".into());
    let changed = "unchanged /data/Sales__chn, changed /event/Orders__chn";
    assert_eq!(apply(&engines, other, APPLIED).await, changed);
    let orders = engines
        .broker
        .channel(&principal(), ORDERS_CHANNEL)
        .await
        .unwrap();
    assert_eq!((orders.version, &*orders.label), (2, "Orders__chn"));
}

#[tokio::test]
async fn what_is_not_named_is_deleted_only_when_that_is_asked_for() {
    let engines = engines().await;
    apply(&engines, two_channels(), APPLIED).await;
    let one = || two_channels().split_off(1);
    assert_eq!(
        apply(&engines, one(), APPLIED).await,
        "unchanged /data/Sales__chn"
    );
    let pruned = "unchanged /data/Sales__chn, deleted /event/Orders__chn";
    let rehearsal = ApplyOptions {
        dry_run: true,
        ..PRUNED
    };
    assert_eq!(apply(&engines, one(), rehearsal).await, pruned);
    assert_eq!(names(&engines).await.len(), 2);
    assert_eq!(apply(&engines, one(), PRUNED).await, pruned);
    assert_eq!(names(&engines).await, [SALES_CHANNEL]);
}

#[tokio::test]
async fn a_channel_that_somebody_subscribes_to_is_not_pruned() {
    let engines = engines().await;
    apply(&engines, two_channels(), APPLIED).await;
    let new = NewManaged {
        developer_name: "Billing".into(),
        topic: ORDERS_CHANNEL.into(),
        label: String::new(),
        default_replay: Default::default(),
        error_recovery_replay: Default::default(),
        state: Default::default(),
        takeover: Default::default(),
        filter: String::new(),
        sharing: None,
    };
    engines
        .broker
        .create_managed(&principal(), new)
        .await
        .unwrap();
    assert_eq!(
        apply(&engines, Vec::new(), PRUNED).await,
        "/event/Orders__chn: the channel is subscribed to by Billing; delete those first"
    );
    assert_eq!(names(&engines).await.len(), 2);
}

#[tokio::test]
async fn a_list_with_a_mistake_changes_nothing_and_says_which_channel_it_is() {
    let engines = engines().await;
    let good = || channel(SALES_CHANNEL, vec![member(CHANGES, "")]);
    for (bad, told) in [
        (
            channel("/event/Orders__e", vec![]),
            "the name of a channel looks like",
        ),
        (
            channel("/data/ChangeEvents", vec![]),
            "/data/ChangeEvents is always there",
        ),
        (channel(SALES_CHANNEL, vec![]), "it is named twice"),
        (
            channel(ORDERS_CHANNEL, vec![member("/event/Nothing__e", "")]),
            "/event/Nothing__e cannot be a member: there is no such topic",
        ),
        (
            channel(ORDERS_CHANNEL, vec![member(ORDERS, "Amount__c > 'x'")]),
            "/event/OrderCreated__e cannot be a member: the filter is wrong at character 13: ",
        ),
        (
            channel(ORDERS_CHANNEL, vec![member(ORDERS, ""), member(ORDERS, "")]),
            "/event/OrderCreated__e cannot be a member: it is named twice",
        ),
        (
            channel(ORDERS_CHANNEL, vec![member(CHANGES, "")]),
            "/data/AccountChangeEvent cannot be a member: a channel under /event/",
        ),
    ] {
        let name = bad.name.clone();
        let refusal = apply(&engines, vec![good(), bad], APPLIED).await;
        assert!(refusal.starts_with(&format!("{name}: {told}")), "{refusal}");
        assert!(names(&engines).await.is_empty());
    }
}

#[tokio::test]
async fn a_list_has_as_many_channels_as_a_tenant_may_have_of_each_kind() {
    use crate::types::limits::CHANNELS_MAX;

    let engines = engines().await;
    let many = |root: &str, stem: &str, count: usize| -> Vec<_> {
        let name = |number| channel(&format!("/{root}/{stem}{number}__chn"), vec![]);
        (0..count).map(name).collect()
    };
    let mut most = many("event", "A", CHANNELS_MAX);
    most.extend(many("data", "A", CHANNELS_MAX));
    apply(&engines, most, APPLIED).await;
    assert_eq!(names(&engines).await.len(), 2 * CHANNELS_MAX);
    let more = apply(&engines, many("event", "B", 1), APPLIED).await;
    assert!(
        more.starts_with("a tenant has at most 100 channels of a kind"),
        "{more}"
    );
    // What is deleted makes room.
    apply(&engines, many("event", "B", CHANNELS_MAX), PRUNED).await;
    assert_eq!(names(&engines).await.len(), CHANNELS_MAX);
}

#[tokio::test]
async fn the_standard_channel_has_every_topic_of_change_events() {
    let engines = engines().await;
    let topics = engines.broker.change_topics(&principal()).await.unwrap();
    let topics: Vec<_> = topics.iter().map(TopicName::as_str).collect();
    assert_eq!(topics, [CHANGES, SHIPMENTS]);
}
