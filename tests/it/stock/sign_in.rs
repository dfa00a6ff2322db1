//! Public clients of the hosted service, unmodified: they are given another URL and no token.

use std::{
    fs,
    path::PathBuf,
    process::{Command, Stdio},
};

use rcgen::{CertificateParams, KeyPair, PKCS_RSA_SHA256, RsaKeySize};
use serde_json::{Value, json};

use crate::support::{gateway::Gateway, order::TOPIC, wait};

const USERNAME: &str = "shop@example.com";
const PASSWORD: &str = "correct <horse> & staple";

/// A gateway with a user and a client application that has a key.
struct Setup {
    gateway: Gateway,
    client_id: String,
    client_secret: String,
    private_key: String,
}

impl Setup {
    fn new() -> Self {
        let gateway = Gateway::ephemeral();
        let key = KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048).unwrap();
        let certificate = CertificateParams::default().self_signed(&key).unwrap();
        let file = gateway.dir().join("client.crt");
        fs::write(&file, certificate.pem()).unwrap();
        let create = format!("client create --name shop --certificate {}", file.display());
        let client = administer(&gateway, &create, "");
        administer(
            &gateway,
            &format!("user create {USERNAME} --password-stdin"),
            PASSWORD,
        );
        let text = |name: &str| client[name].as_str().expect("text").to_owned();
        Self {
            client_id: text("client_id"),
            client_secret: text("client_secret"),
            private_key: key.serialize_pem(),
            gateway,
        }
    }

    /// Where clients sign in.
    fn login(&self) -> String {
        let addr = &self.gateway.ready().https_addr;
        let port = addr.rsplit(':').next().expect("a port");
        format!("https://localhost:{port}")
    }
}

/// The one row that a command prints, as an administrator runs it.
fn administer(gateway: &Gateway, arguments: &str, input: &str) -> Value {
    let file = gateway.dir().join("input");
    fs::write(&file, input).unwrap();
    let profile = gateway.ready();
    let mut command = gateway.command(&format!("{arguments} --output json"));
    let output = command
        .env("TIDEGATE_ENDPOINT", format!("http://{}", profile.grpc_addr))
        .env("TIDEGATE_TOKEN", &profile.access_token)
        .env("TIDEGATE_TENANT", &profile.tenant_id)
        .env("TIDEGATE_INSTANCE_URL", &profile.instance_url)
        .stdin(fs::File::open(file).unwrap())
        .stderr(Stdio::inherit())
        .output()
        .expect("the program can be run");
    assert!(output.status.success(), "{arguments}");
    serde_json::from_slice(&output.stdout).expect("one row")
}

pub(super) fn clients() -> PathBuf {
    let clients = std::env::var_os("TIDEGATE_TEST_CLIENTS").map(PathBuf::from);
    clients.expect("`tests/run` installs the stock clients and says where")
}

/// What a client prints that is given `input`.
fn run(mut command: Command, input: &Value) -> Value {
    let mut child = command
        .env("no_proxy", "*")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .expect("the client can be run");
    serde_json::to_writer(child.stdin.take().expect("piped"), input).unwrap();
    let output = wait::output("the client", child);
    assert!(output.status.success(), "{input}");
    serde_json::from_slice(&output.stdout).expect("one line")
}

fn node(setup: &Setup, config: Value, number: usize, count: usize) -> Value {
    node_managed(setup, config, number, count, None)
}

/// The same, which goes on with a managed subscription if there is one.
fn node_managed(
    setup: &Setup,
    mut config: Value,
    number: usize,
    count: usize,
    managed: Option<&str>,
) -> Value {
    let mut command = Command::new("node");
    command
        .arg(concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/tests/clients/node/sign_in.js"
        ))
        .env("NODE_PATH", clients().join("node/node_modules"))
        .env("NODE_EXTRA_CA_CERTS", &setup.gateway.ready().ca_pem);
    config["pubSubEndpoint"] = json!(setup.gateway.ready().grpc_tls_addr);
    config["loginUrl"] = json!(setup.login());
    // It brings a bundle of its own for gRPC and takes no other.
    config["rejectUnauthorizedSsl"] = json!(false);
    let input = json!({
        "config": config,
        "topic": TOPIC,
        // Its Avro library names the branch of a union.
        "event": {
            "CreatedDate": 1_700_000_000_000u64,
            "CreatedById": "005000000000001AAA",
            "Order_Number__c": { "string": format!("A-{number}") },
            "Amount__c": { "double": 0.5 },
            "Priority__c": null,
        },
        "count": count,
        "managed": managed,
    });
    run(command, &input)
}

/// What the client says that cannot subscribe to a managed subscription.
fn node_status(setup: &Setup, config: Value, managed: &str) -> String {
    let done = node_managed(setup, config, 9, 1, Some(managed));
    done["refusal"].as_str().unwrap_or_default().to_owned()
}

fn python(setup: &Setup, client: &str, mut input: Value) -> Value {
    let mut command = Command::new(clients().join("python/bin/python"));
    command
        .arg(concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/tests/clients/python/sign_in.py"
        ))
        .env("REQUESTS_CA_BUNDLE", &setup.gateway.ready().ca_pem)
        .env("SSL_CERT_FILE", &setup.gateway.ready().ca_pem)
        .env("PYTHONDONTWRITEBYTECODE", "1");
    input["client"] = json!(client);
    input["ca_pem"] = json!(setup.gateway.ready().ca_pem);
    input["login"] = json!(setup.login());
    run(command, &input)
}

#[test]
fn the_public_node_client_signs_in_each_way_publishes_and_reads() {
    let setup = Setup::new();
    let ways = [
        json!({
            "authType": "oauth-client-credentials",
            "clientId": setup.client_id,
            "clientSecret": setup.client_secret,
        }),
        json!({
            "authType": "oauth-jwt-bearer",
            "clientId": setup.client_id,
            "username": USERNAME,
            "privateKey": setup.private_key,
        }),
        json!({ "authType": "username-password", "username": USERNAME, "password": PASSWORD }),
    ];
    for (number, way) in ways.iter().enumerate() {
        let done = node(&setup, way.clone(), number, number + 1);
        let events = done["events"].as_array();
        let events = events.unwrap_or_else(|| panic!("{way}: {done}"));
        assert_eq!(events.len(), number + 1);
        for (number, event) in events.iter().enumerate() {
            let order_number = &event["payload"]["Order_Number__c"];
            assert_eq!(*order_number, format!("A-{number}"));
        }
        assert_eq!(events[number]["replay_id"], done["replay_id"]);
    }
    for (mut way, name, refusal) in [
        (ways[0].clone(), "clientSecret", "HTTP 400"),
        (ways[1].clone(), "clientId", "HTTP 400"),
        (ways[2].clone(), "password", "INVALID_LOGIN"),
    ] {
        way[name] = json!("wrong");
        let done = node(&setup, way, 0, 1);
        let found = done["refusal"].as_str().unwrap_or_default();
        assert!(found.contains(refusal), "{done}");
    }
}

#[test]
fn the_public_node_client_looks_a_managed_subscription_up_reads_and_commits() {
    let setup = Setup::new();
    let create = format!("managed create Shop --topic {TOPIC} --default-replay earliest");
    let made = administer(&setup.gateway, &create, "");
    let way = json!({
        "authType": "oauth-client-credentials",
        "clientId": setup.client_id,
        "clientSecret": setup.client_secret,
    });
    // By its name, then by its id: the second time what came since.
    for (number, key) in ["Shop", made["id"].as_str().unwrap()]
        .into_iter()
        .enumerate()
    {
        let done = node_managed(&setup, way.clone(), number, 1, Some(key));
        assert_eq!(done["committed"], done["replay_id"], "{done}");
        let found = administer(&setup.gateway, "managed positions", "");
        let committed = found["committed_replay_id"].as_str().unwrap();
        let position = u64::from_str_radix(&committed[..16], 16).unwrap();
        assert_eq!(done["committed"], position, "{found}");
        assert_eq!(found["events_behind"], 0);
    }
    administer(&setup.gateway, "managed update Shop --state stop", "");
    let stopped = node_status(&setup, way, "Shop");
    assert!(stopped.contains("STOP state"), "{stopped}");
}

#[test]
fn a_public_asyncio_client_signs_in_and_reads() {
    let setup = Setup::new();
    let way = json!({
        "authType": "oauth-client-credentials",
        "clientId": setup.client_id,
        "clientSecret": setup.client_secret,
    });
    node(&setup, way, 7, 1);
    let mut input = json!({
        "grpc": setup.gateway.ready().grpc_tls_addr,
        "username": USERNAME,
        "password": PASSWORD,
        "topic": TOPIC,
        "count": 1,
    });
    let done = python(&setup, "aiosfpubsub", input.clone());
    assert_eq!(done["can_subscribe"], true, "{done}");
    assert_eq!(done["tenant"], setup.gateway.ready().tenant_id);
    assert_eq!(done["events"][0]["Order_Number__c"], "A-7");
    input["password"] = json!("wrong");
    let done = python(&setup, "aiosfpubsub", input);
    assert_eq!(done["refusal"], "fault");
}

#[test]
fn the_usual_python_client_signs_in_each_way() {
    let setup = Setup::new();
    let tenant = setup.gateway.ready().tenant_id.clone();
    let (login, id, secret) = (setup.login(), &setup.client_id, &setup.client_secret);
    let user = json!({ "username": USERNAME, "password": PASSWORD });
    let with = |more: Value| {
        let mut arguments = user.clone();
        let more = more.as_object().expect("arguments").clone();
        arguments.as_object_mut().expect("arguments").extend(more);
        arguments
    };
    let mut wrong = with(json!({ "scratch_url": login }));
    wrong["password"] = json!("wrong");
    let mut wrong_jwt = json!({ "username": "nobody", "consumer_key": id });
    wrong_jwt["privatekey"] = json!(setup.private_key);
    for (arguments, refusal) in [
        (with(json!({ "scratch_url": login })), None),
        (
            with(json!({ "scratch_url": login, "security_token": "" })),
            None,
        ),
        (
            with(json!({ "scratch_url": login, "organizationId": tenant })),
            None,
        ),
        (
            with(json!({ "consumer_key": id, "consumer_secret": secret })),
            None,
        ),
        (
            json!({ "domain": "shop", "consumer_key": id, "consumer_secret": secret }),
            None,
        ),
        (
            json!({ "username": USERNAME, "consumer_key": id, "privatekey": setup.private_key }),
            None,
        ),
        (
            wrong,
            Some(
                "Authentication failed (code: INVALID_LOGIN): Invalid username, password, security token; or user locked out.",
            ),
        ),
        (
            wrong_jwt,
            Some("Authentication failed (code: invalid_grant): user hasn't approved this consumer"),
        ),
        (
            json!({ "domain": "shop", "consumer_key": id, "consumer_secret": "wrong" }),
            Some("Authentication failed (code: invalid_client): invalid client credentials"),
        ),
    ] {
        let done = python(
            &setup,
            "simple_salesforce",
            json!({ "arguments": arguments }),
        );
        match refusal {
            None => {
                let token = done["token"].as_str();
                let token = token.unwrap_or_else(|| panic!("{arguments}: {done}"));
                assert!(token.starts_with(&tenant[..15]), "{done}");
                assert!(
                    login.ends_with(done["instance"].as_str().unwrap()),
                    "{done}"
                );
            }
            Some(refusal) => assert_eq!(done["refusal"], refusal, "{arguments}"),
        }
    }
}
