use proptest::prelude::*;

use super::*;

fn envelope(body: &str) -> String {
    format!(
        r#"<?xml version="1.0" encoding="utf-8"?><soapenv:Envelope xmlns:soapenv="http://schemas.xmlsoap.org/soap/envelope/" xmlns:urn="urn:partner.soap.sforce.com"><soapenv:Body>{body}</soapenv:Body></soapenv:Envelope>"#
    )
}

fn login(username: &str, password: &str) -> String {
    envelope(&format!(
        "<urn:login><urn:username>{username}</urn:username><urn:password>{password}</urn:password></urn:login>"
    ))
}

fn parsed(text: &str) -> (String, String) {
    let credentials = parse(text).unwrap();
    (credentials.username, credentials.password)
}

#[test]
fn text_cdata_and_references_are_read_alike() {
    let wanted = ("a@b".to_owned(), "p<&>\"'é".to_owned());
    assert_eq!(parsed(&login("a@b", "p&lt;&amp;&gt;&quot;&apos;é")), wanted);
    assert_eq!(
        parsed(&login("<![CDATA[a@b]]>", "<![CDATA[p<&>\"'é]]>")),
        wanted
    );
    assert_eq!(
        parsed(&login("a&#64;b", "p&#60;<!-- -->&amp;&gt;&#34;&#x27;é")),
        wanted
    );
    assert_eq!(
        parsed(&login("a@<![CDATA[b]]>", "p<![CDATA[<]]>&amp;&gt;\"'é")),
        wanted
    );
}

#[test]
fn headers_other_elements_and_white_space_are_passed_over() {
    let text = r#"<?xml version="1.0"?>
<env:Envelope xmlns:env="http://schemas.xmlsoap.org/soap/envelope/">
  <env:Header><LoginScopeHeader><organizationId>00D</organizationId></LoginScopeHeader></env:Header>
  <env:Body>
    <n1:login xmlns:n1="urn:partner.soap.sforce.com">
      <n1:username>a</n1:username><n1:other><n1:username>b</n1:username></n1:other>
      <n1:password/>
    </n1:login>
  </env:Body>
</env:Envelope>
"#;
    assert_eq!(parsed(text), ("a".into(), String::new()));
    assert_eq!(parsed(&format!("\u{feff}{text}")).0, "a");
}

#[test]
fn document_types_and_entities_are_refused() {
    let bomb = r#"<?xml version="1.0"?><!DOCTYPE lolz [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;">]>"#;
    let body = login("a", "&b;");
    let body = &body[body.find("?>").unwrap() + 2..];
    assert_eq!(parse(&format!("{bomb}{body}")), Err(RequestError::Entity));
    assert_eq!(parse(&login("a", "&b;")), Err(RequestError::Entity));
    let external = r#"<!DOCTYPE x SYSTEM "file:///etc/passwd">"#;
    assert_eq!(
        parse(&format!("{external}{body}")),
        Err(RequestError::Entity)
    );
}

#[test]
fn broken_deep_and_other_documents_are_refused() {
    let good = login("a", "b");
    for end in 1..good.len() {
        assert!(parse(&good[..end]).is_err(), "cut at {end}");
    }
    let deep = envelope(&format!("{}{}", "<a>".repeat(1_000), "</a>".repeat(1_000)));
    assert_eq!(parse(&deep), Err(RequestError::Depth));
    for (text, wanted) in [
        (String::new(), RequestError::Envelope),
        ("hello".into(), RequestError::Malformed),
        ("<a></b>".into(), RequestError::Envelope),
        ("<login/>".into(), RequestError::Envelope),
        (format!("{good}x"), RequestError::Malformed),
        (format!("{good}<Envelope/>"), RequestError::Envelope),
        (envelope(""), RequestError::Envelope),
        (envelope("<login/><login/>"), RequestError::Envelope),
        (
            envelope("<logout/>"),
            RequestError::Operation("logout".into()),
        ),
        (envelope("<login/>"), RequestError::Arguments),
        (
            envelope("<login><username>a</username></login>"),
            RequestError::Arguments,
        ),
        (
            login("a</urn:username><urn:username>b", "c"),
            RequestError::Arguments,
        ),
        (login("<b>a</b>", "c"), RequestError::Arguments),
        (login("a", "&#0;"), RequestError::Malformed),
        (login("a", "&"), RequestError::Malformed),
        (good.replace("utf-8", "utf-16"), RequestError::Encoding),
    ] {
        assert_eq!(parse(&text), Err(wanted), "{text}");
    }
    assert_eq!(
        parse("<Envelope><Body></Envelope>"),
        Err(RequestError::Malformed)
    );
}

#[test]
fn no_password_is_printed() {
    let credentials = parse(&login("a", "secret")).unwrap();
    assert!(!format!("{credentials:?}").contains("secret"));
}

proptest! {
    #[test]
    fn any_text_is_read_or_refused(text in ".{0,300}") {
        _ = parse(&text);
    }

    #[test]
    fn any_markup_is_read_or_refused(text in "[<>/!?&;#\\[\\]CDATA\"'=x0-9 -]{0,120}") {
        _ = parse(&envelope(&text));
        _ = parse(&login("a", &text));
    }

    #[test]
    fn what_is_escaped_is_read_back(password in "[^\\p{Cc}]{0,60}") {
        let text = login("a", &quick_xml::escape::escape(&password));
        prop_assert_eq!(parsed(&text).1, password);
    }
}
