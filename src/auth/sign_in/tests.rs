use std::net::Ipv4Addr;

use futures_util::{FutureExt, future::join_all};

use super::*;
use crate::{
    auth::{Authenticator, Credentials},
    clock::ManualClock,
    metadata::{
        Expected, MemoryStore, Scope, Table,
        records::{self, TenantRecord},
        store_double::{StoreDouble, Writing},
    },
    types::limits::{ENDED_TOKEN_KEPT, PASSWORD_HASHES_MAX, SIGN_IN_TOKENS_MAX},
};

const PASSWORD: &str = "correct horse";
const SOURCE: Option<IpAddr> = Some(IpAddr::V4(Ipv4Addr::LOCALHOST));

fn tenant() -> TenantId {
    TenantId::from_random([7; 12])
}

fn other_tenant() -> TenantId {
    TenantId::from_random([8; 12])
}

/// A gateway's sign-in, on a clock and a store that tests hold too.
struct Setup {
    clock: ManualClock,
    store: Arc<dyn MetadataStore>,
    tokens: Arc<TokenStore>,
    sign_in: SignIn,
}

impl Setup {
    async fn new() -> Self {
        let store: Arc<dyn MetadataStore> = Arc::new(MemoryStore::default());
        for tenant in [tenant(), other_tenant()] {
            let record = TenantRecord {
                id: tenant.to_string(),
                created_at_ms: 0,
            };
            let change = records::change(&record, Expected::Absent);
            store.write(Scope::Server, vec![change]).await.unwrap();
        }
        Self::over(store, ManualClock::at(Timestamp::from_millis(1_000))).await
    }

    async fn over(store: Arc<dyn MetadataStore>, clock: ManualClock) -> Self {
        let shared: Arc<dyn Clock> = Arc::new(clock.clone());
        let tokens = TokenStore::open(Arc::clone(&store), Arc::clone(&shared)).await;
        let tokens = Arc::new(tokens.unwrap());
        let (config, metadata) = (Config::default(), Arc::clone(&store));
        let sign_in = SignIn::open(config, metadata, shared, Arc::clone(&tokens)).await;
        Self {
            clock,
            store,
            tokens,
            sign_in: sign_in.unwrap(),
        }
    }

    /// What a restart finds.
    async fn restarted(&self) -> Self {
        Self::over(Arc::clone(&self.store), self.clock.clone()).await
    }

    async fn user(&self, name: &str) -> Account {
        self.user_of(tenant(), name).await
    }

    async fn user_of(&self, tenant: TenantId, name: &str) -> Account {
        let password = Password::new(PASSWORD.into()).unwrap();
        let grants = Grants::every_topic();
        let user = self.sign_in.create_user(tenant, name, &password, grants);
        user.await.unwrap()
    }

    async fn client(&self) -> (Arc<Client>, ClientSecret) {
        let grants = Grants::every_topic();
        let client = self.sign_in.create_client(tenant(), "shop", grants, &[]);
        client.await.unwrap()
    }

    async fn principal(&self, token: &AccessToken) -> Result<Principal, AuthError> {
        self.tokens.authenticate_bearer(token.expose()).await
    }

    async fn stored_tokens(&self) -> usize {
        let scope = Scope::Tenant(tenant());
        self.store.list(scope, Table::Tokens).await.unwrap().len()
    }
}

fn shown<'a>(client: &'a Client, secret: &'a ClientSecret) -> ClientCredentials<'a> {
    ClientCredentials {
        id: &client.account.id,
        secret: secret.expose(),
    }
}

#[tokio::test]
async fn a_client_signs_in_as_itself_also_after_a_restart() {
    let setup = Setup::new().await;
    let (client, secret) = setup.client().await;
    let restarted = setup.restarted().await;
    for setup in [&setup, &restarted] {
        let session = setup
            .sign_in
            .client_credentials(SOURCE, shown(&client, &secret));
        let session = session.await.unwrap();
        assert_eq!(session.identity.user_id, client.account.user_id);
        assert!(session.identity.user_id.starts_with("005"));
        assert!(session.refresh_token.is_none());
        let principal = setup.principal(&session.access_token).await.unwrap();
        assert_eq!((principal.tenant, &*principal.name), (tenant(), "shop"));
        assert_eq!(*principal.grants, Grants::every_topic());
        assert_eq!(setup.sign_in.identity(&principal), session.identity);
        let sent = Credentials {
            access_token: session.access_token.expose(),
            instance_url: "https://localhost:7081",
            tenant_id: tenant().as_str().to_owned().leak(),
        };
        assert!(setup.tokens.authenticate(&sent).await.is_ok());
    }
}

#[tokio::test]
async fn a_wrong_secret_and_an_unknown_client_are_refused_alike() {
    let setup = Setup::new().await;
    let (client, secret) = setup.client().await;
    for (id, secret) in [
        (&*client.account.id, "wrong"),
        (&*client.account.id, ""),
        ("nobody", secret.expose()),
        ("", ""),
    ] {
        let shown = ClientCredentials { id, secret };
        let refused = setup.sign_in.client_credentials(SOURCE, shown).await;
        let refused = refused.unwrap_err();
        assert!(matches!(refused, SignInError::Client));
        assert_eq!(refused.to_string(), "invalid client credentials");
    }
}

#[tokio::test]
async fn a_user_signs_in_in_whatever_case_and_gets_a_refresh_token_through_a_client() {
    let setup = Setup::new().await;
    let user = setup.user("Shop@Example.com").await;
    assert_eq!(&*user.name, "shop@example.com");
    let (client, secret) = setup.client().await;
    let name = "SHOP@example.COM";
    let session = setup
        .sign_in
        .password(SOURCE, None, name, PASSWORD)
        .await
        .unwrap();
    assert!(session.refresh_token.is_none());
    let shown = shown(&client, &secret);
    let session = setup.sign_in.password(SOURCE, Some(shown), name, PASSWORD);
    let session = session.await.unwrap();
    assert_eq!(session.identity.user_id, user.user_id);

    let refresh_token = session.refresh_token.unwrap();
    assert!(
        setup.principal(&refresh_token).await.is_err(),
        "it makes no calls"
    );
    setup.clock.advance(session.lifetime);
    assert!(setup.principal(&session.access_token).await.is_err());
    let text = refresh_token.expose();
    let fresh = setup.sign_in.refresh(SOURCE, shown, text).await.unwrap();
    assert!(fresh.refresh_token.is_none());
    let principal = setup.principal(&fresh.access_token).await.unwrap();
    assert_eq!(principal.name, user.name);

    // An access token is no refresh token, and another client's is not this one's.
    let access = fresh.access_token.expose();
    let refused = setup.sign_in.refresh(SOURCE, shown, access).await;
    assert!(matches!(refused, Err(SignInError::RefreshToken)));
    let (other, other_secret) = setup.client().await;
    let shown = super::tests::shown(&other, &other_secret);
    let refused = setup.sign_in.refresh(SOURCE, shown, text).await;
    assert!(matches!(refused, Err(SignInError::RefreshToken)));
}

#[tokio::test]
async fn a_wrong_password_and_an_unknown_user_are_refused_alike() {
    let setup = Setup::new().await;
    setup.user("a").await;
    setup.user_of(other_tenant(), "b").await;
    let long = "x".repeat(100_000);
    for (name, password) in [
        ("a", "wrong"),
        ("a", ""),
        ("nobody", PASSWORD),
        ("", PASSWORD),
        (&long, PASSWORD),
        ("a", &long),
    ] {
        let refused = setup.sign_in.password(SOURCE, None, name, password).await;
        let refused = refused.unwrap_err();
        assert!(matches!(refused, SignInError::User));
        assert_eq!(refused.to_string(), "authentication failure");
    }
    // A user of another tenant than the client's.
    let (client, secret) = setup.client().await;
    let shown = shown(&client, &secret);
    let refused = setup
        .sign_in
        .password(SOURCE, Some(shown), "b", PASSWORD)
        .await;
    assert!(matches!(refused, Err(SignInError::User)));
}

#[tokio::test]
async fn names_are_taken_once_and_passwords_and_names_have_their_form() {
    let setup = Setup::new().await;
    setup.user("a@b").await;
    let create = async |tenant, name: &str, password: &str| {
        let password = Password::new(password.into())?;
        let grants = Grants::default();
        let created = setup
            .sign_in
            .create_user(tenant, name, &password, grants)
            .await;
        created.map(|account| account.name)
    };
    for tenant in [tenant(), other_tenant()] {
        let taken = create(tenant, "A@B", PASSWORD).await;
        assert!(matches!(taken, Err(AccountError::Taken)));
    }
    let short = create(tenant(), "c", "1234567").await;
    assert!(matches!(short, Err(AccountError::Password)));
    for name in ["", "a b", "a\n", &"x".repeat(81)] {
        let refused = create(tenant(), name, PASSWORD).await;
        assert!(matches!(refused, Err(AccountError::Username)), "{name:?}");
    }
    for name in ["", " ", "a\u{7}", &"x".repeat(81)] {
        let refused = setup
            .sign_in
            .create_client(tenant(), name, Grants::default(), &[]);
        assert!(matches!(refused.await, Err(AccountError::Name)), "{name:?}");
    }
    let wrong = ["no certificate".to_owned()];
    let refused = setup
        .sign_in
        .create_client(tenant(), "c", Grants::default(), &wrong);
    assert!(matches!(refused.await, Err(AccountError::Certificate(_))));
    let many = vec![String::new(); 9];
    let refused = setup
        .sign_in
        .create_client(tenant(), "c", Grants::default(), &many);
    assert!(matches!(refused.await, Err(AccountError::Certificates)));
}

#[tokio::test]
async fn who_was_deleted_does_not_sign_in_and_their_tokens_and_streams_end() {
    let setup = Setup::new().await;
    let user = setup.user("a").await;
    let (client, secret) = setup.client().await;
    let (kept_client, kept_secret) = setup.client().await;
    let by_user = setup
        .sign_in
        .password(SOURCE, None, "a", PASSWORD)
        .await
        .unwrap();
    let shown_client = shown(&client, &secret);
    let by_client = setup
        .sign_in
        .client_credentials(SOURCE, shown_client)
        .await
        .unwrap();
    let by_both = setup.sign_in.password(
        SOURCE,
        Some(shown(&kept_client, &kept_secret)),
        "a",
        PASSWORD,
    );
    let by_both = by_both.await.unwrap();
    let mut principals = Vec::new();
    for session in [&by_user, &by_client, &by_both] {
        principals.push(setup.principal(&session.access_token).await.unwrap());
    }
    let mut watching = setup.tokens.revocations();
    assert!(setup.tokens.is_good(&principals[0]).await.unwrap());

    // Another tenant's administrator deletes nobody.
    let refused = setup.sign_in.delete_user(other_tenant(), "a").await;
    assert!(matches!(refused, Err(AccountError::Unknown)));
    let refused = setup
        .sign_in
        .delete_client(other_tenant(), &client.account.id)
        .await;
    assert!(matches!(refused, Err(AccountError::Unknown)));
    assert!(!watching.has_changed().unwrap());

    setup.sign_in.delete_user(tenant(), "A").await.unwrap();
    assert!(watching.has_changed().unwrap());
    watching.mark_unchanged();
    let good = async |at: usize| setup.tokens.is_good(&principals[at]).await.unwrap();
    assert_eq!(
        [good(0).await, good(1).await, good(2).await],
        [false, true, false]
    );
    setup
        .sign_in
        .delete_client(tenant(), &client.account.id)
        .await
        .unwrap();
    assert!(watching.has_changed().unwrap());
    assert!(!good(1).await);

    let restarted = setup.restarted().await;
    for setup in [&setup, &restarted] {
        for session in [&by_user, &by_client, &by_both] {
            assert!(setup.principal(&session.access_token).await.is_err());
        }
        let refused = setup.sign_in.password(SOURCE, None, "a", PASSWORD).await;
        assert!(matches!(refused, Err(SignInError::User)));
        let refused = setup.sign_in.client_credentials(SOURCE, shown_client).await;
        assert!(matches!(refused, Err(SignInError::Client)));
    }
    assert_eq!(setup.stored_tokens().await, 0, "nothing of theirs is kept");
    let refused = setup.sign_in.delete_user(tenant(), "a").await;
    assert!(matches!(refused, Err(AccountError::Unknown)));

    // One of the same name is somebody else.
    let again = setup.user("a").await;
    assert_ne!(again.id, user.id);
    let refresh_token = by_both.refresh_token.unwrap();
    let shown_client = shown(&kept_client, &kept_secret);
    let refused = setup
        .sign_in
        .refresh(SOURCE, shown_client, refresh_token.expose())
        .await;
    assert!(matches!(refused, Err(SignInError::RefreshToken)));
    assert!(!setup.tokens.is_good(&principals[0]).await.unwrap());
}

#[tokio::test]
async fn an_expired_token_begins_no_call_and_ends_no_stream_and_is_removed_in_time() {
    let setup = Setup::new().await;
    let (client, secret) = setup.client().await;
    let session = setup
        .sign_in
        .client_credentials(SOURCE, shown(&client, &secret));
    let session = session.await.unwrap();
    let principal = setup.principal(&session.access_token).await.unwrap();
    setup
        .clock
        .advance(session.lifetime - Duration::from_millis(1));
    assert!(setup.principal(&session.access_token).await.is_ok());
    setup.clock.advance(Duration::from_millis(1));
    assert!(matches!(
        setup.principal(&session.access_token).await,
        Err(AuthError::Token)
    ));
    assert!(setup.tokens.is_good(&principal).await.unwrap());
    setup.clock.advance(ENDED_TOKEN_KEPT);
    setup.tokens.remove_ended().await;
    assert_eq!(setup.stored_tokens().await, 1);
    setup.clock.advance(Duration::from_millis(1));
    setup.tokens.remove_ended().await;
    assert_eq!(setup.stored_tokens().await, 0);
    assert!(setup.tokens.list(tenant()).await.unwrap().is_empty());
    assert!(setup.tokens.is_good(&principal).await.unwrap());
}

#[tokio::test]
async fn of_many_sign_ins_the_oldest_token_gives_way_on_disk_too() {
    let setup = Setup::new().await;
    let (client, secret) = setup.client().await;
    let (other, other_secret) = setup.client().await;
    let others = setup
        .sign_in
        .client_credentials(SOURCE, shown(&other, &other_secret));
    let others = others.await.unwrap();
    let (_, by_admin) = setup
        .tokens
        .create(tenant(), "ci", Grants::default(), None)
        .await
        .unwrap();
    let mut texts = Vec::new();
    let mut streams = Vec::new();
    for _ in 0..SIGN_IN_TOKENS_MAX + 3 {
        setup.clock.advance(Duration::from_millis(1));
        let session = setup
            .sign_in
            .client_credentials(SOURCE, shown(&client, &secret));
        texts.push(session.await.unwrap().access_token);
        if texts.len() <= 4 {
            streams.push(setup.principal(texts.last().unwrap()).await.unwrap());
        }
    }
    for (number, stream) in streams.iter().enumerate() {
        assert_eq!(setup.tokens.is_good(stream).await.unwrap(), number >= 3);
    }
    let restarted = setup.restarted().await;
    for setup in [&setup, &restarted] {
        for (number, text) in texts.iter().enumerate() {
            assert_eq!(setup.principal(text).await.is_ok(), number >= 3, "{number}");
        }
        assert!(setup.principal(&others.access_token).await.is_ok());
        assert!(setup.principal(&by_admin).await.is_ok());
    }
    assert_eq!(setup.stored_tokens().await, SIGN_IN_TOKENS_MAX + 2);
}

#[tokio::test]
async fn a_token_is_revoked_by_its_text_and_a_refresh_token_with_all_that_it_gave() {
    let setup = Setup::new().await;
    setup.user("a").await;
    let (client, secret) = setup.client().await;
    let shown = shown(&client, &secret);
    let session = setup
        .sign_in
        .password(SOURCE, Some(shown), "a", PASSWORD)
        .await
        .unwrap();
    let refresh_token = session.refresh_token.unwrap();
    let text = refresh_token.expose();
    let fresh = setup.sign_in.refresh(SOURCE, shown, text).await.unwrap();
    let own = setup
        .sign_in
        .client_credentials(SOURCE, shown)
        .await
        .unwrap();
    let principal = setup.principal(&fresh.access_token).await.unwrap();

    for unknown in ["", "nothing like a token", &format!("{text}x")] {
        setup.sign_in.revoke(unknown).await.unwrap();
    }
    assert!(setup.tokens.is_good(&principal).await.unwrap());
    for _ in 0..2 {
        setup.sign_in.revoke(text).await.unwrap();
        assert!(setup.principal(&session.access_token).await.is_err());
        assert!(setup.principal(&fresh.access_token).await.is_err());
        assert!(!setup.tokens.is_good(&principal).await.unwrap());
        assert!(setup.principal(&own.access_token).await.is_ok());
    }
    let refused = setup.sign_in.refresh(SOURCE, shown, text).await;
    assert!(matches!(refused, Err(SignInError::RefreshToken)));
    setup
        .sign_in
        .revoke(own.access_token.expose())
        .await
        .unwrap();
    assert!(setup.principal(&own.access_token).await.is_err());
}

#[tokio::test]
async fn who_fails_too_often_is_locked_out_with_the_right_password_too() {
    let setup = Setup::new().await;
    setup.user("a").await;
    setup.user("b").await;
    for _ in 0..Config::default().sign_in_failures_max {
        let refused = setup.sign_in.password(SOURCE, None, "A", "wrong").await;
        assert!(matches!(refused, Err(SignInError::User)));
    }
    let refused = setup.sign_in.password(SOURCE, None, "a", PASSWORD).await;
    assert!(matches!(refused, Err(SignInError::LockedOut(_))));
    let other = setup.sign_in.password(SOURCE, None, "b", PASSWORD).await;
    assert!(other.is_ok());
}

#[tokio::test]
async fn nobody_locks_a_client_out_from_other_addresses_than_its_own() {
    let setup = Setup::new().await;
    let (client, secret) = setup.client().await;
    let wrong = ClientCredentials {
        secret: "wrong",
        ..shown(&client, &secret)
    };
    let other = Some(IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1)));
    for _ in 0..Config::default().sign_in_failures_per_address_max {
        let refused = setup.sign_in.client_credentials(other, wrong).await;
        assert!(matches!(refused, Err(SignInError::Client)));
    }
    let good = shown(&client, &secret);
    let refused = setup.sign_in.client_credentials(other, good).await;
    assert!(matches!(refused, Err(SignInError::LockedOut(_))));
    assert!(setup.sign_in.client_credentials(SOURCE, good).await.is_ok());
}

#[tokio::test]
async fn what_is_malformed_counts_by_address_too() {
    let setup = Setup::new().await;
    let long = "x".repeat(100_000);
    let source = |number| Some(IpAddr::V4(Ipv4Addr::new(10, 0, 0, number)));
    for _ in 0..Config::default().sign_in_failures_per_address_max {
        let name = setup.sign_in.password(source(1), None, &long, PASSWORD);
        assert!(matches!(name.await, Err(SignInError::User)));
        let password = setup.sign_in.password(source(2), None, "a", &long);
        assert!(matches!(password.await, Err(SignInError::User)));
        let assertion = setup.sign_in.assertion(source(3), "not one", &[]);
        assert!(matches!(assertion.await, Err(SignInError::Assertion(_))));
    }
    let name = setup.sign_in.password(source(1), None, &long, PASSWORD);
    assert!(matches!(name.await, Err(SignInError::LockedOut(_))));
    let password = setup.sign_in.password(source(2), None, "a", &long);
    assert!(matches!(password.await, Err(SignInError::LockedOut(_))));
    let assertion = setup.sign_in.assertion(source(3), "not one", &[]);
    assert!(matches!(assertion.await, Err(SignInError::LockedOut(_))));
}

#[tokio::test]
async fn sign_ins_at_one_moment_lock_nobody_out_and_guesses_are_bounded() {
    let setup = Setup::new().await;
    setup.user("a").await;
    let at_once = async |name, password| {
        let sign_ins = (0..50).map(|_| setup.sign_in.password(None, None, name, password));
        join_all(sign_ins).await
    };
    for signed_in in at_once("a", PASSWORD).await {
        assert!(matches!(signed_in, Ok(_) | Err(SignInError::Busy)));
    }
    // Also where one failure is left.
    let max = Config::default().sign_in_failures_max;
    for _ in 1..max {
        let refused = setup.sign_in.password(None, None, "a", "wrong").await;
        assert!(matches!(refused, Err(SignInError::User)));
    }
    for signed_in in at_once("a", PASSWORD).await {
        assert!(matches!(signed_in, Ok(_) | Err(SignInError::Busy)));
    }

    setup.user("b").await;
    let mut checked = 0;
    for refused in at_once("b", "wrong").await {
        match refused.unwrap_err() {
            SignInError::User => checked += 1,
            SignInError::LockedOut(_) | SignInError::Busy => {}
            error => panic!("{error}"),
        }
    }
    assert_eq!(checked, max);
}

#[tokio::test]
async fn who_hangs_up_before_their_password_is_checked_has_not_failed() {
    let setup = Setup::new().await;
    setup.user("a").await;
    let mut turns = Vec::new();
    for _ in 0..PASSWORD_HASHES_MAX {
        turns.push(setup.sign_in.users.turn().await.unwrap());
    }
    for _ in 0..Config::default().sign_in_failures_max {
        let waiting = setup.sign_in.password(SOURCE, None, "a", PASSWORD);
        assert!(waiting.now_or_never().is_none());
    }
    drop(turns);
    let session = setup.sign_in.password(SOURCE, None, "a", PASSWORD).await;
    assert!(session.is_ok());
}

#[tokio::test]
async fn no_secret_is_printed() {
    let setup = Setup::new().await;
    setup.user("a").await;
    let (client, secret) = setup.client().await;
    let session = setup
        .sign_in
        .client_credentials(SOURCE, shown(&client, &secret));
    let session = session.await.unwrap();
    let password = Password::new(PASSWORD.into()).unwrap();
    let printed = format!(
        "{:?} {session:?} {secret:?} {password:?} {client:?}",
        shown(&client, &secret)
    );
    assert!(!printed.contains(secret.expose()), "{printed}");
    assert!(!printed.contains(session.access_token.expose()));
    assert!(!printed.contains(PASSWORD));
    let bytes = format!("{:?}", hash(secret.expose()));
    assert!(!printed.contains(&bytes) && !printed.contains("secret:"));
    let users = format!("{:?}", setup.sign_in.users(tenant()));
    assert!(!users.contains("argon2"), "{users}");
}

#[tokio::test]
async fn who_cannot_be_stored_is_not_there_and_who_cannot_be_removed_is() {
    let inner = Arc::new(StoreDouble::default());
    let store: Arc<dyn MetadataStore> = Arc::clone(&inner) as _;
    let tenants = Setup::new().await.store;
    for entry in tenants.list(Scope::Server, Table::Tenants).await.unwrap() {
        let record = records::parse::<TenantRecord>(entry).unwrap().record;
        let change = records::change(&record, Expected::Absent);
        store.write(Scope::Server, vec![change]).await.unwrap();
    }
    let setup = Setup::over(store, ManualClock::default()).await;
    let create = async || {
        let password = Password::new(PASSWORD.into()).unwrap();
        let grants = Grants::default();
        let created = setup.sign_in.create_user(tenant(), "a", &password, grants);
        created.await
    };
    inner.set(Writing::Full);
    assert!(matches!(create().await, Err(AccountError::DiskFull)));
    let client = setup
        .sign_in
        .create_client(tenant(), "c", Grants::default(), &[]);
    assert!(matches!(client.await, Err(AccountError::DiskFull)));
    assert!(setup.sign_in.users(tenant()).is_empty());
    assert!(setup.sign_in.clients(tenant()).is_empty());

    inner.set(Writing::Good);
    create().await.unwrap();
    let session = setup
        .sign_in
        .password(SOURCE, None, "a", PASSWORD)
        .await
        .unwrap();
    inner.set(Writing::Full);
    let deleted = setup.sign_in.delete_user(tenant(), "a").await;
    assert!(matches!(deleted, Err(AccountError::DiskFull)));
    let refused = setup.sign_in.password(SOURCE, None, "a", PASSWORD).await;
    assert!(
        matches!(refused, Err(SignInError::Unavailable(_))),
        "no token is given"
    );
    assert!(setup.principal(&session.access_token).await.is_ok());
    inner.set(Writing::Good);
    setup.sign_in.delete_user(tenant(), "a").await.unwrap();
    assert!(setup.principal(&session.access_token).await.is_err());
}
