use std::sync::atomic::{AtomicUsize, Ordering};

use futures_util::poll;

use super::*;
use crate::{
    auth::Credentials,
    types::{Grants, SignedIn, TenantId},
};

/// Answers when it is told to, and counts how often it was asked.
#[derive(Debug)]
struct Slow {
    revocations: watch::Sender<u64>,
    answer: watch::Sender<Option<bool>>,
    asked: AtomicUsize,
}

#[async_trait::async_trait]
impl Authenticator for Slow {
    async fn authenticate(&self, _: &Credentials<'_>) -> Result<Principal, AuthError> {
        Err(AuthError::Token)
    }

    async fn authenticate_bearer(&self, _: &str) -> Result<Principal, AuthError> {
        Err(AuthError::Token)
    }

    fn revocations(&self) -> watch::Receiver<u64> {
        self.revocations.subscribe()
    }

    async fn is_good(&self, _: &Principal) -> Result<bool, AuthError> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        let mut answer = self.answer.subscribe();
        let answer = answer.wait_for(Option::is_some).await.unwrap();
        answer.ok_or(AuthError::Token)
    }
}

#[tokio::test]
async fn a_look_goes_on_however_often_the_stream_has_something_else_to_do() {
    let authenticator = Arc::new(Slow {
        revocations: watch::Sender::new(0),
        answer: watch::Sender::new(None),
        asked: AtomicUsize::new(0),
    });
    let principal = Principal {
        tenant: TenantId::from_random([7; 12]),
        name: "ci".into(),
        grants: Arc::new(Grants::default()),
        signed_in: SignedIn::default(),
    };
    let mut vigil = Vigil::new(Arc::clone(&authenticator) as _);
    let is_pending = async |vigil: &mut Vigil| {
        let mut revoked = Box::pin(vigil.revoked(&principal));
        poll!(&mut revoked).is_pending()
    };
    assert!(is_pending(&mut vigil).await);
    assert_eq!(authenticator.asked.load(Ordering::SeqCst), 0);

    authenticator.revocations.send_replace(1);
    for _ in 0..3 {
        assert!(is_pending(&mut vigil).await);
    }
    assert_eq!(authenticator.asked.load(Ordering::SeqCst), 1);
    authenticator.answer.send_replace(Some(true));
    assert!(is_pending(&mut vigil).await, "the caller is good");

    // What is revoked during a look is looked into after it.
    authenticator.answer.send_replace(None);
    authenticator.revocations.send_replace(2);
    assert!(is_pending(&mut vigil).await);
    authenticator.revocations.send_replace(3);
    authenticator.answer.send_replace(Some(true));
    assert!(is_pending(&mut vigil).await);
    assert_eq!(authenticator.asked.load(Ordering::SeqCst), 3);
    authenticator.revocations.send_replace(4);
    authenticator.answer.send_replace(Some(false));
    assert!(matches!(vigil.revoked(&principal).await, AuthError::Token));
}
