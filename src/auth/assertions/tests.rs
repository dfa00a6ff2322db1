use std::time::Duration;

use serde_json::{Value, json};

use super::*;
use crate::{
    metadata::{
        Table,
        store_double::{StoreDouble, Writing},
    },
    types::limits::ASSERTION_SKEW,
};

const NOW_S: i64 = 1_700_000_000;

/// How long an assertion of these tests is good.
const GOOD_S: u64 = 180;

fn now() -> Timestamp {
    Timestamp::from_millis(NOW_S * 1_000)
}

fn later(by: Duration) -> Timestamp {
    now().saturating_add(by)
}

/// The first moment at which an assertion made now is not remembered any more.
fn end() -> Timestamp {
    later(Duration::from_secs(GOOD_S) + ASSERTION_SKEW)
}

/// An assertion with an id that is made at `at`.
fn with_id(client: &str, id: impl Into<Value>, at: Timestamp) -> Claims {
    let claims = json!({
        "iss": client,
        "sub": "ann@example.com",
        "aud": "https://login.salesforce.com",
        "exp": at.as_millis() / 1_000 + GOOD_S as i64,
        "jti": id.into(),
    });
    serde_json::from_value(claims).unwrap()
}

/// The assertions, over a store that tests hold too.
struct Setup {
    store: Arc<StoreDouble>,
    assertions: Assertions,
}

impl Setup {
    async fn new() -> Self {
        Self::over(Arc::default()).await
    }

    async fn over(store: Arc<StoreDouble>) -> Self {
        let assertions = Assertions::open(Arc::clone(&store) as _).await.unwrap();
        Self { store, assertions }
    }

    /// What a restart finds.
    async fn restarted(&self) -> Self {
        Self::over(Arc::clone(&self.store)).await
    }

    /// What an attempt comes to, in a word.
    async fn take(&self, claims: &Claims, at: Timestamp) -> &'static str {
        match self.assertions.take(claims, at).await {
            Ok(()) => "taken",
            Err(SignInError::Assertion(AssertionError::Repeated)) => "repeated",
            Err(SignInError::Assertion(AssertionError::Expired)) => "expired",
            Err(SignInError::Assertion(AssertionError::TooMany)) => "too many",
            Err(SignInError::Unavailable(_)) => "unavailable",
            Err(error) => panic!("{error}"),
        }
    }

    async fn stored(&self) -> usize {
        let stored = self.store.list(Scope::Server, Table::Assertions).await;
        stored.unwrap().len()
    }
}

#[tokio::test]
async fn an_id_is_taken_once_until_it_expires_also_over_a_restart() {
    let setup = Setup::new().await;
    let a = with_id("client", "a", now());
    assert_eq!(setup.take(&a, now()).await, "taken");
    let restarted = setup.restarted().await;
    let before = Timestamp::from_millis(end().as_millis() - 1);
    for setup in [&setup, &restarted] {
        assert_eq!(setup.take(&a, now()).await, "repeated");
        assert_eq!(setup.take(&a, before).await, "repeated");
        assert_eq!(setup.take(&a, end()).await, "expired");
    }
    let other = with_id("other", "a", now());
    assert_eq!(restarted.take(&other, now()).await, "taken");
    // The same id in an assertion that is made when the first is over.
    let again = with_id("client", "a", end());
    assert_eq!(restarted.take(&again, end()).await, "taken");
    let restarted = restarted.restarted().await;
    assert_eq!(restarted.take(&again, end()).await, "repeated");
}

#[tokio::test]
async fn without_an_id_it_is_taken_as_often_as_it_is_shown_and_costs_nothing() {
    let setup = Setup::new().await;
    let claims = with_id("client", Value::Null, now());
    for _ in 0..3 {
        assert_eq!(setup.take(&claims, now()).await, "taken");
    }
    assert_eq!(setup.store.writes(), 0);
}

#[tokio::test]
async fn of_two_at_one_moment_one_is_taken() {
    let setup = Setup::new().await;
    setup.store.set(Writing::Slow);
    let a = with_id("client", "a", now());
    let mut first = Box::pin(setup.take(&a, now()));
    assert!(futures_util::poll!(&mut first).is_pending());
    assert_eq!(setup.take(&a, now()).await, "repeated");
    setup.store.set(Writing::Good);
    assert_eq!(first.await, "taken");
}

#[tokio::test]
async fn one_that_cannot_be_stored_opens_nothing_and_may_be_shown_again() {
    for writing in [Writing::Full, Writing::Unconfirmed] {
        let setup = Setup::new().await;
        let a = with_id("client", "a", now());
        setup.store.set(writing);
        assert_eq!(setup.take(&a, now()).await, "unavailable");
        setup.store.set(Writing::Good);
        assert_eq!(setup.take(&a, now()).await, "taken", "{writing:?}");
        assert_eq!(setup.take(&a, now()).await, "repeated");
        let restarted = setup.restarted().await;
        assert_eq!(restarted.take(&a, now()).await, "repeated");
    }
}

#[tokio::test]
async fn what_is_remembered_is_bounded_and_what_is_over_goes_from_the_disk() {
    let mut setup = Setup::new().await;
    setup.assertions.taken_max = 20;
    for number in 0..20 {
        let claims = with_id("client", number.to_string(), now());
        assert_eq!(setup.take(&claims, now()).await, "taken");
    }
    let one_more = with_id("client", "more", now());
    assert_eq!(setup.take(&one_more, now()).await, "too many");
    assert_eq!(setup.stored().await, 20);
    let mut setup = setup.restarted().await;
    setup.assertions.taken_max = 20;
    assert_eq!(setup.take(&one_more, now()).await, "too many");

    for number in 0..3 {
        let claims = with_id("client", format!("later {number}"), end());
        assert_eq!(setup.take(&claims, end()).await, "taken");
    }
    assert_eq!(setup.stored().await, 3);
    let taken = setup.assertions.lock();
    assert_eq!((taken.until.len(), taken.by_end.len()), (3, 3));
}
