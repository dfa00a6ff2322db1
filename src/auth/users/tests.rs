use super::*;
use crate::{
    clock::ManualClock,
    metadata::store_double::{StoreDouble, Writing},
};

const PASSWORD: &str = "correct horse";

fn tenant() -> TenantId {
    TenantId::from_random([7; 12])
}

/// The users that a start of the gateway finds.
async fn open(store: &Arc<StoreDouble>) -> Users {
    let store = Arc::clone(store) as Arc<dyn MetadataStore>;
    let clock: Arc<dyn Clock> = Arc::new(ManualClock::default());
    let tokens = TokenStore::open(Arc::clone(&store), Arc::clone(&clock)).await;
    let users = Users::open(store, clock, Arc::new(tokens.unwrap())).await;
    users.unwrap()
}

async fn create(users: &Users, name: &str) -> Result<Arc<User>, AccountError> {
    let password = Password::new(PASSWORD.into()).unwrap();
    let created = users.create(tenant(), name, &password, Grants::default());
    created.await
}

async fn is_known(users: &Users, name: &str) -> bool {
    let turn = users.turn().await.unwrap();
    let found = users.verify(&turn, name, PASSWORD).await;
    found.unwrap().is_some()
}

#[tokio::test]
async fn one_whose_making_was_not_confirmed_can_be_made_again_or_deleted() {
    for is_made_again in [true, false] {
        let store = Arc::new(StoreDouble::default());
        let users = open(&store).await;
        store.set(Writing::Unconfirmed);
        let refused = create(&users, "ann").await;
        assert!(matches!(refused, Err(AccountError::Store(_))));
        store.set(Writing::Good);
        assert!(!is_known(&users, "ann").await);
        if is_made_again {
            let made = create(&users, "ann").await.unwrap();
            let found = open(&store).await.by_name("ann").unwrap();
            assert_eq!(found.account.id, made.account.id);
        } else {
            users.delete(tenant(), "Ann").await.unwrap();
            assert!(open(&store).await.by_name("ann").is_none());
            let refused = users.delete(tenant(), "ann").await;
            assert!(matches!(refused, Err(AccountError::Unknown)));
        }
    }
}

#[tokio::test]
async fn a_deletion_waits_for_the_making_under_way() {
    let store = Arc::new(StoreDouble::default());
    let users = open(&store).await;
    store.set(Writing::Slow);
    let made = create(&users, "ann");
    let deleted = async {
        // Passwords are hashed on another thread.
        while store.writes() == 0 {
            tokio::task::yield_now().await;
        }
        let mut deleting = Box::pin(users.delete(tenant(), "ann"));
        assert!(futures_util::poll!(&mut deleting).is_pending());
        store.set(Writing::Good);
        deleting.await
    };
    let (made, deleted) = tokio::join!(made, deleted);
    assert_eq!(made.unwrap().account.id, deleted.unwrap().account.id);
    assert!(!is_known(&users, "ann").await);
    assert!(open(&store).await.by_name("ann").is_none());
}

#[test]
fn a_name_is_measured_in_the_form_that_it_is_kept_in() {
    // In lower case it has two characters.
    let letter = "\u{130}";
    assert_eq!(letter.to_lowercase().chars().count(), 2);
    assert!(key_of(&letter.repeat(USERNAME_CHARS_MAX / 2)).is_some());
    assert!(key_of(&letter.repeat(USERNAME_CHARS_MAX / 2 + 1)).is_none());
}
