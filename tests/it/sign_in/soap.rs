//! The SOAP call `login`.

use quick_xml::{Reader, events::Event};

use super::{Setup, USERNAME, post};
use crate::support::http::{Answer, send, send_tls};

const INVALID_LOGIN: &str =
    "INVALID_LOGIN: Invalid username, password, security token; or user locked out.";

fn envelope(username: &str, password: &str) -> String {
    format!(
        r#"<?xml version="1.0" encoding="utf-8" ?><env:Envelope xmlns:xsd="http://www.w3.org/2001/XMLSchema" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" xmlns:env="http://schemas.xmlsoap.org/soap/envelope/"><env:Body><n1:login xmlns:n1="urn:partner.soap.sforce.com"><n1:username><![CDATA[{username}]]></n1:username><n1:password><![CDATA[{password}]]></n1:password></n1:login></env:Body></env:Envelope>"#
    )
}

async fn soap(setup: &Setup, path: &str, body: &str) -> Answer {
    send(&setup.gateway, post(path, "text/xml", body).as_bytes()).await
}

/// Local names and texts of the elements at `path`'s end, in their order.
fn children(xml: &str, path: &[&str]) -> Vec<(String, String)> {
    let mut reader = Reader::from_str(xml);
    reader.config_mut().expand_empty_elements = true;
    let (mut names, mut found) = (Vec::<String>::new(), Vec::new());
    loop {
        match reader.read_event().unwrap() {
            Event::Start(element) => {
                names.push(AsRef::<str>::as_ref(&element.local_name()).to_owned());
                if names.len() == path.len() + 1 && names[..path.len()] == *path {
                    found.push((names[path.len()].clone(), String::new()));
                }
            }
            Event::Text(text) if names.len() > path.len() && names[..path.len()] == *path => {
                found.last_mut().unwrap().1.push_str(&text.xml10_content());
            }
            Event::End(_) => _ = names.pop(),
            Event::Eof => return found,
            _ => {}
        }
    }
}

#[tokio::test]
async fn a_login_is_answered_in_the_order_that_clients_count_in() {
    let setup = Setup::lenient();
    let tenant = setup.gateway.ready().tenant_id.clone();
    let body = envelope(USERNAME, &setup.password);
    for (path, url) in [
        (
            "/services/Soap/u/50.0",
            "http://localhost/services/Soap/u/50.0/",
        ),
        (
            "/services/Soap/u/59.0/",
            "http://localhost/services/Soap/u/59.0/",
        ),
        (
            "/services/Soap/u/64",
            "http://localhost/services/Soap/u/64/",
        ),
        (
            "/services/Soap/c/61.0",
            "http://localhost/services/Soap/c/61.0/",
        ),
    ] {
        let answer = soap(&setup, path, &body).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        assert_eq!(
            answer.header("content-type"),
            Some("text/xml; charset=utf-8")
        );
        assert_eq!(answer.header("cache-control"), Some("no-store"));
        let first = children(&answer.body, &["Envelope"]);
        assert_eq!((first.len(), &*first[0].0), (1, "Body"));
        let to_result = ["Envelope", "Body", "loginResponse", "result"];
        let result = children(&answer.body, &to_result);
        let names: Vec<_> = result.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(
            names,
            [
                "metadataServerUrl",
                "passwordExpired",
                "sandbox",
                "serverUrl",
                "sessionId",
                "userId",
                "userInfo"
            ]
        );
        assert_eq!((&*result[1].1, &*result[2].1), ("false", "false"));
        assert_eq!(result[3].1, format!("{url}{}", &tenant[..15]));
        setup.call(&result[4].1).await.unwrap();
        let to_info = [&to_result[..], &["userInfo"]].concat();
        let info = children(&answer.body, &to_info);
        let names: Vec<_> = info.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(
            names,
            [
                "accessibilityMode",
                "chatterExternal",
                "currencySymbol",
                "orgAttachmentFileSizeLimit",
                "orgDefaultCurrencyIsoCode",
                "orgDefaultCurrencyLocale",
                "orgDisallowHtmlAttachments",
                "orgHasPersonAccounts",
                "organizationId",
                "organizationMultiCurrency",
                "organizationName",
                "profileId",
                "roleId",
                "sessionSecondsValid",
                "userDefaultCurrencyIsoCode",
                "userEmail",
                "userFullName",
                "userId",
                "userLanguage",
                "userLocale",
                "userName",
                "userTimeZone",
                "userType",
                "userUiSkin"
            ]
        );
        assert_eq!(info[8].1, tenant);
        assert_eq!((&*info[13].1, &*info[20].1), ("7200", USERNAME));
        for name in [
            "serverUrl",
            "sessionId",
            "userId",
            "organizationId",
            "passwordExpired",
        ] {
            // Some clients look for them as text.
            assert!(answer.body.contains(&format!("<{name}>")), "{name}");
        }
    }
    let request = post("/services/Soap/u/50.0", "text/xml", &body);
    let over_tls = send_tls(&setup.gateway, request.as_bytes()).await;
    assert!(
        over_tls
            .body
            .contains("<serverUrl>https://localhost/services/Soap/u/50.0/")
    );
    // As one library sends it.
    let request = post("/services/Soap/u/59.0/", "text/xml; charset=UTF-8", &body)
        .replace("\r\nconnection", "\r\nSOAPAction: Login\r\nconnection");
    assert_eq!(send(&setup.gateway, request.as_bytes()).await.status, 200);
    let (half, rest) = body.split_at(200);
    let chunked = format!(
        "POST /services/Soap/u/50.0 HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-type: text/xml\r\nsoapaction: \"\"\r\ntransfer-encoding: chunked\r\n\r\n{:x}\r\n{half}\r\n{:x}\r\n{rest}\r\n0\r\n\r\n",
        half.len(),
        rest.len()
    );
    assert_eq!(send(&setup.gateway, chunked.as_bytes()).await.status, 200);
}

#[tokio::test]
async fn a_refusal_is_a_fault_in_the_hosted_words() {
    let setup = Setup::lenient();
    let path = "/services/Soap/u/59.0/";
    let good = envelope(USERNAME, &setup.password);
    let bomb = good.replace("?><env", "?><!DOCTYPE x [<!ENTITY a \"b\">]><env");
    let entity = envelope(USERNAME, "]]>&bomb;<![CDATA[");
    let deep = format!("{}{}", "<a>".repeat(30_00), "</a>".repeat(30_00));
    let login = "sf:INVALID_LOGIN";
    let client = "soapenv:Client";
    for (body, code, text) in [
        (envelope(USERNAME, "wrong"), login, INVALID_LOGIN),
        (envelope("nobody", &setup.password), login, INVALID_LOGIN),
        (envelope("", ""), login, INVALID_LOGIN),
        (
            good.replace("n1:login", "n1:logout"),
            client,
            "no operation available for request logout",
        ),
        (bomb, client, "document type"),
        (entity, client, "entity"),
        (
            good.replace("env:Body>", "env:Body><a/>"),
            client,
            "SOAP envelope",
        ),
        (good[..good.len() - 5].to_owned(), client, "not well-formed"),
        (
            good.replace("encoding=\"utf-8\"", "encoding=\"utf-16\""),
            client,
            "encoding",
        ),
        (deep, client, "envelope"),
        (
            good.replace("<n1:login", &format!("<n1:login><b>{}", "<a>".repeat(50))),
            client,
            "deep",
        ),
        (
            envelope(USERNAME, &"x".repeat(70_000)),
            client,
            "larger than",
        ),
        (String::new(), client, "SOAP envelope"),
    ] {
        let answer = soap(&setup, path, &body).await;
        assert_eq!(answer.status, 500, "{body:.300}");
        let fault = children(&answer.body, &["Envelope", "Body", "Fault"]);
        assert!(fault.len() < 7, "one client tells a fault by that");
        assert_eq!(
            (&*fault[0].0, &*fault[0].1),
            ("faultcode", code),
            "{body:.300}"
        );
        assert_eq!(fault[1].0, "faultstring");
        assert!(fault[1].1.contains(text), "{:?} for {body:.300}", fault[1]);
        if code == login {
            assert!(
                answer
                    .body
                    .contains("<sf:exceptionCode>INVALID_LOGIN</sf:exceptionCode>")
            );
            assert!(
                answer
                    .body
                    .contains(&format!("<faultstring>{INVALID_LOGIN}</faultstring>"))
            );
        }
    }
    for content_type in ["application/json", "text/xml; charset=utf-16"] {
        let request = post(path, content_type, &good);
        let answer = send(&setup.gateway, request.as_bytes()).await;
        assert_eq!(answer.status, 500);
        assert!(
            answer
                .body
                .contains("<faultcode>soapenv:Client</faultcode>")
        );
    }
    let mut not_text = post(path, "text/xml", &good).into_bytes();
    let username = not_text.windows(4).position(|bytes| bytes == b"shop");
    not_text[username.expect("the username")] = 0xff;
    let answer = send(&setup.gateway, &not_text).await;
    assert_eq!(answer.status, 500);
    assert!(answer.body.contains("not UTF-8"), "{answer:?}");
    for path in [
        "/services/Soap/u/x",
        "/services/Soap/u/1.2.3",
        "/services/Soap/u/%3Cb%3E",
    ] {
        let answer = soap(&setup, path, &good).await;
        assert_eq!(answer.status, 500);
        assert!(answer.body.contains("the version in the path is malformed"));
    }
    assert_eq!(
        soap(&setup, "/services/Soap/T/50.0", &good).await.status,
        404
    );
}

#[tokio::test]
async fn a_user_who_is_locked_out_gets_the_fault_of_a_wrong_password() {
    let setup = Setup::with(vec![("TIDEGATE_AUTH__SIGN_IN_FAILURES_MAX", "2")]);
    let path = "/services/Soap/u/50.0";
    for password in ["wrong", "wrong", &setup.password] {
        let answer = soap(&setup, path, &envelope(USERNAME, password)).await;
        assert_eq!(answer.status, 500);
        assert!(answer.body.contains(INVALID_LOGIN));
    }
}
