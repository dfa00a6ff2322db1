//! The main story: one client publishes, the gateway is killed, another client gets everything.

use super::{expect_orders, orders};
use crate::support::{
    gateway::Gateway,
    order::TOPIC,
    script::{Language, Stock, Subscribe},
};

#[test]
fn node_gets_what_python_published_before_and_after_a_kill() {
    publish_kill_read(Language::Python, Language::Node);
}

#[test]
fn python_gets_what_node_published_before_and_after_a_kill() {
    publish_kill_read(Language::Node, Language::Python);
}

fn publish_kill_read(publisher: Language, subscriber: Language) {
    let mut gateway = Gateway::start();
    let mut published = Stock::tls(publisher).publish(&gateway, TOPIC, &orders(0..500), 200, true);
    gateway.kill_and_restart();
    published.extend(Stock::plaintext(publisher).publish(
        &gateway,
        TOPIC,
        &orders(500..1_000),
        200,
        false,
    ));
    gateway.kill_and_restart();

    for is_tls in [true, false] {
        let stock = Stock {
            language: subscriber,
            is_tls,
        };
        expect_orders(&stock.read(&gateway, TOPIC, 1_000), 0..1_000, &published);
    }
}

#[test]
fn a_subscriber_goes_on_from_its_stored_id_after_a_kill() {
    for language in [Language::Python, Language::Node] {
        let stock = Stock::tls(language);
        let mut gateway = Gateway::start();
        let mut published = stock.publish(&gateway, TOPIC, &orders(0..300), 100, true);
        let read = stock.read(&gateway, TOPIC, 150);
        gateway.kill_and_restart();
        published.extend(stock.publish(&gateway, TOPIC, &orders(300..600), 100, true));

        let how = Subscribe {
            preset: "CUSTOM",
            replay_id: &read[149].replay_id,
            count: 450,
            ..Subscribe::default()
        };
        let rest = stock.subscribe(&gateway, TOPIC, &how).events(450);
        expect_orders(&rest, 150..600, &published[150..]);
    }
}
