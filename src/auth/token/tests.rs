use super::*;
use crate::{
    clock::ManualClock,
    metadata::{
        MemoryStore, Table,
        store_double::{StoreDouble, Writing},
    },
    types::limits::ENDED_TOKEN_KEPT,
};

fn tenant() -> TenantId {
    TenantId::from_random([7; 12])
}

async fn store_with_tenant() -> Arc<dyn MetadataStore> {
    let store: Arc<dyn MetadataStore> = Arc::new(MemoryStore::default());
    let record = TenantRecord {
        id: tenant().to_string(),
        created_at_ms: 0,
    };
    let change = records::change(&record, Expected::Absent);
    store.write(Scope::Server, vec![change]).await.unwrap();
    store
}

async fn open(store: &Arc<dyn MetadataStore>) -> TokenStore {
    let clock = Arc::new(ManualClock::at(Timestamp::from_millis(5)));
    TokenStore::open(Arc::clone(store), clock).await.unwrap()
}

fn credentials<'a>(token: &'a AccessToken, tenant: &'a str) -> Credentials<'a> {
    Credentials {
        access_token: token.expose(),
        instance_url: "https://localhost:7081",
        tenant_id: tenant,
    }
}

#[tokio::test]
async fn a_token_opens_what_it_was_made_for_also_after_a_restart() {
    let store = store_with_tenant().await;
    let tokens = open(&store).await;
    let (_, text) = tokens
        .create(tenant(), "ci", Grants::every_topic(), None)
        .await
        .unwrap();
    for tokens in [tokens, open(&store).await] {
        for id in [tenant().as_str(), tenant().as_short_str()] {
            let principal = tokens.authenticate(&credentials(&text, id)).await.unwrap();
            assert_eq!((principal.tenant, &*principal.name), (tenant(), "ci"));
            assert_eq!(*principal.grants, Grants::every_topic());
        }
    }
    assert!(
        text.expose()
            .starts_with(&format!("{}!", tenant().as_short_str()))
    );
}

#[tokio::test]
async fn a_revoked_token_opens_nothing_also_after_a_restart() {
    let store = store_with_tenant().await;
    let tokens = open(&store).await;
    let (token, text) = tokens
        .create(tenant(), "ci", Grants::default(), None)
        .await
        .unwrap();
    let revoked = tokens.revoke(tenant(), &token.id).await.unwrap();
    assert_eq!(revoked.revoked_at, Some(Timestamp::from_millis(5)));
    assert_eq!(tokens.revoke(tenant(), &token.id).await.unwrap(), revoked);
    for tokens in [tokens, open(&store).await] {
        let refused = tokens
            .authenticate(&credentials(&text, tenant().as_str()))
            .await;
        assert!(matches!(refused, Err(AuthError::Token)));
    }
}

#[tokio::test]
async fn a_token_of_another_spelling_or_tenant_is_refused() {
    let store = store_with_tenant().await;
    let tokens = open(&store).await;
    let (_, text) = tokens
        .create(tenant(), "ci", Grants::default(), None)
        .await
        .unwrap();
    for wrong in [
        String::new(),
        "x".repeat(10_000),
        format!("{}x", text.0),
        text.0.to_lowercase(),
    ] {
        let wrong = AccessToken(wrong);
        let refused = tokens
            .authenticate(&credentials(&wrong, tenant().as_str()))
            .await;
        assert!(matches!(refused, Err(AuthError::Token)));
    }
    let other = TenantId::from_random([8; 12]);
    let refused = tokens
        .authenticate(&credentials(&text, other.as_str()))
        .await;
    assert!(matches!(
        refused,
        Err(AuthError::Header(HeaderProblem::TenantMismatch))
    ));
}

#[tokio::test]
async fn malformed_headers_are_named() {
    let store = store_with_tenant().await;
    let tokens = open(&store).await;
    let (_, text) = tokens
        .create(tenant(), "ci", Grants::default(), None)
        .await
        .unwrap();
    let refused = tokens
        .authenticate(&credentials(&text, "00D"))
        .await
        .unwrap_err();
    assert!(refused.to_string().contains("tenantid"), "{refused}");
    let id = tenant();
    let with_url = |url| Credentials {
        instance_url: url,
        ..credentials(&text, id.as_str())
    };
    for url in ["localhost", "https://", "ftp://localhost"] {
        let refused = tokens.authenticate(&with_url(url)).await.unwrap_err();
        assert!(
            refused.to_string().contains("instanceurl"),
            "{url}: {refused}"
        );
    }
}

/// Clients send what sign-in told them, or what they make of it: another scheme, port or path.
#[tokio::test]
async fn an_instance_url_is_any_url() {
    let store = store_with_tenant().await;
    let tokens = open(&store).await;
    let made = tokens.create(tenant(), "ci", Grants::default(), None);
    let (_, text) = made.await.unwrap();
    let id = tenant();
    for url in [
        "https://localhost",
        "http://localhost:7080",
        "https://127.0.0.1:7080",
        "http://[::1]",
        "https://shop.my.salesforce.com/",
        "https://localhost/services/Soap/u/64.0/00D000000000001",
    ] {
        let sent = Credentials {
            instance_url: url,
            ..credentials(&text, id.as_str())
        };
        assert!(tokens.authenticate(&sent).await.is_ok(), "{url}");
    }
}

#[tokio::test]
async fn what_is_stored_of_a_token_does_not_open_it() {
    let store = store_with_tenant().await;
    let tokens = open(&store).await;
    let made = tokens.create(tenant(), "ci", Grants::default(), None);
    let (_, text) = made.await.unwrap();
    let (_, secret) = text.expose().split_once('!').unwrap();
    let scope = Scope::Tenant(tenant());
    let stored = store.list(scope, Table::Tokens).await.unwrap();
    assert_eq!(stored.len(), 1);
    let stored = String::from_utf8_lossy(&stored[0].value);
    assert!(
        stored.contains("ci") && !stored.contains(secret),
        "{stored}"
    );
}

#[tokio::test]
async fn an_unknown_token_cannot_be_revoked() {
    let tokens = open(&store_with_tenant().await).await;
    let refused = tokens.revoke(tenant(), "no such id").await;
    assert!(matches!(refused, Err(TokenError::Unknown)));
}

#[test]
fn no_secret_is_printed() {
    let token = AccessToken::random(tenant()).unwrap();
    let secret = token.0.split_once('!').unwrap().1;
    assert!(!format!("{token:?}").contains(secret));
    assert!(!format!("{:?}", credentials(&token, "00D")).contains(secret));
}

#[tokio::test]
async fn a_revocation_that_was_not_confirmed_or_awaited_counts_and_can_be_made_again() {
    let inner = Arc::new(StoreDouble::default());
    let tokens = open(&(Arc::clone(&inner) as Arc<dyn MetadataStore>)).await;
    let create = async || {
        let grants = Grants::every_topic();
        tokens.create(tenant(), "ci", grants, None).await.unwrap()
    };
    let is_refused = async |text: &AccessToken| {
        let tenant = tenant();
        let sent = credentials(text, tenant.as_str());
        matches!(tokens.authenticate(&sent).await, Err(AuthError::Token))
    };

    let (unconfirmed, text) = create().await;
    inner.set(Writing::Unconfirmed);
    let refusal = tokens.revoke(tenant(), &unconfirmed.id).await.unwrap_err();
    assert!(matches!(refusal, TokenError::Store(_)));
    inner.set(Writing::Good);
    assert!(is_refused(&text).await);
    tokens.revoke(tenant(), &unconfirmed.id).await.unwrap();

    let (dropped, text) = create().await;
    inner.set(Writing::Slow);
    {
        let call = tokens.revoke(tenant(), &dropped.id);
        futures_util::pin_mut!(call);
        assert!(futures_util::poll!(&mut call).is_pending());
    }
    inner.set(Writing::Good);
    assert!(is_refused(&text).await);
    let revoked = tokens.revoke(tenant(), &dropped.id).await.unwrap();
    assert_eq!(revoked.revoked_at, Some(Timestamp::from_millis(5)));
}

#[tokio::test]
async fn a_token_that_could_not_be_stored_is_not_listed() {
    let inner = Arc::new(StoreDouble::default());
    let tokens = open(&(Arc::clone(&inner) as Arc<dyn MetadataStore>)).await;
    inner.set(Writing::Unconfirmed);
    let refusal = tokens.create(tenant(), "ci", Grants::default(), None).await;
    assert!(matches!(refusal, Err(TokenError::Store(_))));
    assert!(tokens.list(tenant()).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_revocation_is_seen_by_whoever_watches() {
    let store = store_with_tenant().await;
    let tokens = open(&store).await;
    let (token, _) = tokens
        .create(tenant(), "ci", Grants::default(), None)
        .await
        .unwrap();
    let watching = tokens.revocations();
    assert!(!watching.has_changed().unwrap());
    assert!(tokens.revoke(tenant(), "another").await.is_err());
    assert!(!watching.has_changed().unwrap());
    tokens.revoke(tenant(), &token.id).await.unwrap();
    assert!(watching.has_changed().unwrap());
}

const IDLE: Duration = Duration::from_secs(600);

/// Whether `text` opens anything.
async fn is_good(tokens: &TokenStore, text: &AccessToken) -> bool {
    let tenant = text.expose()[..15].to_owned();
    let sent = credentials(text, &tenant);
    tokens.authenticate(&sent).await.is_ok()
}

#[tokio::test(start_paused = true)]
async fn a_tenants_tokens_are_read_at_their_first_use_and_forgotten_when_quiet() {
    let store = store_with_tenant().await;
    let (_, text) = open(&store)
        .await
        .create(tenant(), "ci", Grants::default(), None)
        .await
        .unwrap();
    let tokens = open(&store).await;
    assert_eq!(tokens.loaded.len(), 0);
    assert!(is_good(&tokens, &text).await);
    tokio::time::advance(IDLE / 2).await;
    assert!(is_good(&tokens, &text).await);
    tokio::time::advance(IDLE / 2).await;
    tokens.forget_quiet(IDLE);
    assert_eq!(tokens.loaded.len(), 1, "one was used meanwhile");
    tokio::time::advance(IDLE / 2).await;
    tokens.forget_quiet(IDLE);
    assert_eq!(tokens.loaded.len(), 0);
    assert!(is_good(&tokens, &text).await);
}

#[tokio::test(start_paused = true)]
async fn made_up_tokens_read_nothing_of_strangers_and_keep_nothing_of_tenants() {
    let tokens = open(&store_with_tenant().await).await;
    for number in 0..50 {
        let stranger = AccessToken::random(TenantId::from_random([number; 12])).unwrap();
        let is_known = number == 7;
        assert!(!is_good(&tokens, &stranger).await);
        assert!(is_known || tokens.loaded.len() <= usize::from(number > 7));
    }
    assert_eq!(tokens.loaded.len(), 1);
    tokio::time::advance(IDLE).await;
    let made_up = AccessToken::random(tenant()).unwrap();
    assert!(!is_good(&tokens, &made_up).await);
    tokens.forget_quiet(IDLE);
    assert_eq!(tokens.loaded.len(), 0, "a guess is no use");
}

#[tokio::test]
async fn a_bounded_number_of_tenants_is_kept_and_those_in_use_are() {
    let loaded = Loaded::new(3);
    let tenant = |number| TenantId::from_random([number; 12]);
    let held = loaded.slot(tenant(0));
    for number in 1..20 {
        loaded.slot(tenant(number));
        assert!(loaded.len() <= 3);
    }
    assert!(Arc::ptr_eq(&held, &loaded.slot(tenant(0))));
}

#[tokio::test]
async fn a_revocation_that_is_not_stored_is_not_forgotten() {
    let inner = Arc::new(StoreDouble::default());
    let tokens = open(&(Arc::clone(&inner) as Arc<dyn MetadataStore>)).await;
    let created = tokens.create(tenant(), "ci", Grants::default(), None).await;
    let (token, text) = created.unwrap();
    inner.set(Writing::Full);
    assert!(tokens.revoke(tenant(), &token.id).await.is_err());
    tokens.forget_quiet(Duration::ZERO);
    assert!(!is_good(&tokens, &text).await, "it is revoked here");
    inner.set(Writing::Good);
    tokens.revoke(tenant(), &token.id).await.unwrap();
    tokens.forget_quiet(Duration::ZERO);
    assert_eq!(tokens.loaded.len(), 0);
    assert!(!is_good(&tokens, &text).await, "and in the store");
}

/// What somebody gets who signed in as the user `ann`.
fn session(kind: TokenKind, refresh: Option<&Token>) -> NewSession {
    NewSession {
        tenant: tenant(),
        name: "ann".into(),
        grants: Grants::every_topic(),
        kind,
        lifetime: Duration::from_secs(3_600),
        user_id: Some("ann's id".into()),
        client_id: None,
        refresh_id: refresh.map(|refresh| Arc::clone(&refresh.id)),
    }
}

/// The tokens over a store that does as it is told, and a refresh token of ann's.
async fn with_refresh_token() -> (Arc<StoreDouble>, TokenStore, Token) {
    let store = Arc::new(StoreDouble::default());
    let tokens = reopened(&store).await;
    let (refresh, _) = tokens
        .begin(session(TokenKind::Refresh, None))
        .await
        .unwrap();
    // Makes the tenant known.
    tokens
        .create(tenant(), "ci", Grants::default(), None)
        .await
        .unwrap();
    (store, tokens, refresh)
}

/// What a restart finds.
async fn reopened(store: &Arc<StoreDouble>) -> TokenStore {
    let tokens = open(&(Arc::clone(store) as Arc<dyn MetadataStore>)).await;
    tokens.add_owner("ann's id");
    tokens.tenants.write().unwrap().insert(tenant());
    tokens
}

#[tokio::test]
async fn a_refresh_token_that_is_revoked_while_it_is_used_gives_nothing() {
    let (store, tokens, refresh) = with_refresh_token().await;
    let kept = tokens.list(tenant()).await.unwrap().len();
    store.set(Writing::Slow);
    let mut giving = Box::pin(tokens.begin(session(TokenKind::Access, Some(&refresh))));
    assert!(futures_util::poll!(&mut giving).is_pending());
    let mut revoking = Box::pin(tokens.revoke(tenant(), &refresh.id));
    assert!(futures_util::poll!(&mut revoking).is_pending());
    store.set(Writing::Good);
    assert!(matches!(giving.await, Err(TokenError::RefreshEnded)));
    revoking.await.unwrap();
    for tokens in [&tokens, &reopened(&store).await] {
        assert_eq!(tokens.list(tenant()).await.unwrap().len(), kept);
    }
}

#[tokio::test]
async fn a_refresh_token_is_revoked_with_all_that_it_gave_also_when_the_disk_is_full() {
    let (store, tokens, refresh) = with_refresh_token().await;
    let mut given = Vec::new();
    for _ in 0..3 {
        let begun = tokens.begin(session(TokenKind::Access, Some(&refresh)));
        given.push(begun.await.unwrap().1);
    }
    let (_, other) = tokens
        .begin(session(TokenKind::Access, None))
        .await
        .unwrap();
    let mut watching = tokens.revocations();
    store.set(Writing::Full);
    let refused = tokens.revoke(tenant(), &refresh.id).await;
    assert!(matches!(refused, Err(TokenError::DiskFull)));
    assert!(watching.has_changed().unwrap());
    watching.mark_unchanged();
    for text in &given {
        assert!(!is_good(&tokens, text).await);
    }
    store.set(Writing::Good);
    tokens.revoke(tenant(), &refresh.id).await.unwrap();
    let writes = store.writes();
    assert!(watching.has_changed().unwrap());
    watching.mark_unchanged();
    for tokens in [&tokens, &reopened(&store).await] {
        for text in &given {
            assert!(!is_good(tokens, text).await);
        }
        assert!(is_good(tokens, &other).await);
        // Once it is stored, another revocation costs nobody anything.
        tokens.revoke(tenant(), &refresh.id).await.unwrap();
        assert_eq!(store.writes(), writes);
    }
    assert!(!watching.has_changed().unwrap());
}

#[tokio::test]
async fn what_was_revoked_is_forgotten_in_time_once_it_is_stored() {
    let store = Arc::new(StoreDouble::default());
    let shared = Arc::clone(&store) as Arc<dyn MetadataStore>;
    let clock = ManualClock::at(Timestamp::from_millis(5));
    let tokens = TokenStore::open(shared, Arc::new(clock.clone()));
    let tokens = tokens.await.unwrap();
    let mut made = Vec::new();
    for name in ["stored", "unstored", "good"] {
        let created = tokens.create(tenant(), name, Grants::default(), None).await;
        made.push(created.unwrap().0.id);
    }
    tokens.revoke(tenant(), &made[0]).await.unwrap();
    store.set(Writing::Full);
    assert!(tokens.revoke(tenant(), &made[1]).await.is_err());
    store.set(Writing::Good);
    let names = async || {
        let list = tokens.list(tenant()).await.unwrap();
        let mut names: Vec<_> = list.into_iter().map(|token| token.name).collect();
        names.sort();
        names
    };
    clock.advance(ENDED_TOKEN_KEPT);
    tokens.remove_ended().await;
    assert_eq!(names().await.len(), 3);
    clock.advance(Duration::from_millis(1));
    tokens.remove_ended().await;
    let names = names().await;
    assert_eq!(names, ["good".into(), "unstored".into()]);
    let stored = store.list(Scope::Tenant(tenant()), Table::Tokens).await;
    assert_eq!(stored.unwrap().len(), 2);
}
