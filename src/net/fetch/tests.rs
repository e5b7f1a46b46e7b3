use super::*;
use crate::{
    config::policy::{Denied, Place},
    net::fake_https::{Reply, Web},
};

const LIMITS: Limits = Limits { size: 100, time: Duration::from_secs(20), ports: None };

async fn get(web: &Web, url: &str) -> Result<Bytes, FetchError> {
    web.fetcher.get(&Url::parse(url).unwrap(), LIMITS).await
}

/// The same of a place at the server that is not to be had: why not.
async fn refused(web: &Web, place: &str) -> String {
    get(web, &web.url(place)).await.unwrap_err().to_string()
}

#[tokio::test]
async fn a_body_comes_as_it_is_over_a_few_redirects() {
    let web = Web::of(&["a.test", "b.test"]).await;
    web.https.answer("a.test/list?x=1", Reply::redirect("next"));
    web.https.answer("a.test/next", Reply::redirect(&web.url("b.test/more#part")));
    web.https.answer("b.test/more", Reply::head(308, "Location: /end\r\n"));
    web.https.answer("b.test/end", Reply::body([b'x'; 100]));
    assert_eq!(get(&web, &web.url("a.test/list?x=1")).await.unwrap(), [b'x'; 100][..]);
    assert_eq!(web.https.asked(), ["a.test/list?x=1", "a.test/next", "b.test/more", "b.test/end"]);
}

#[tokio::test]
async fn a_chunked_body_and_one_to_the_end_of_the_connection_are_taken_too() {
    let web = Web::of(&["a.test"]).await;
    let chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n";
    web.https.answer("a.test/chunked", Reply::Bytes(chunked.to_vec()));
    web.https.answer("a.test/open", Reply::Bytes(b"HTTP/1.1 200 OK\r\n\r\nab".to_vec()));
    for place in ["a.test/chunked", "a.test/open"] {
        assert_eq!(get(&web, &web.url(place)).await.unwrap(), "ab", "{place}");
    }
}

#[tokio::test]
async fn redirects_are_bounded_and_lead_only_to_https() {
    //
    let web = Web::of(&["a.test"]).await;
    for (place, location) in [
        ("a.test/clear", "http://a.test/x".to_owned()),
        ("a.test/address", format!("https://127.0.0.1:{}/", web.https.port)),
        ("a.test/address6", "https://[::1]/".into()),
        ("a.test/number", "https://2130706433/".into()),
        ("a.test/user", "https://user@a.test/".into()),
        ("a.test/password", "https://:word@a.test/".into()),
        ("a.test/file", "file:///etc/passwd".into()),
        ("a.test/none", String::new()),
        ("a.test/long", format!("/{}", "x".repeat(MAX_URL))),
        ("a.test/loop", "/loop2".into()),
        ("a.test/loop2", "/loop".into()),
        ("a.test/1", "/2".into()),
        ("a.test/2", "/3".into()),
        ("a.test/3", "/4".into()),
        ("a.test/4", "/5".into()),
    ] {
        web.https.answer(place, Reply::redirect(&location));
    }
    web.https.answer("a.test/lost", Reply::head(302, ""));
    let at = |place| web.url(place);
    for (place, why) in [
        ("a.test/clear", "http://a.test/x: not https".to_owned()),
        (
            "a.test/address",
            format!("https://127.0.0.1:{}/: an address in place of a host name", web.https.port),
        ),
        ("a.test/address6", "https://[::1]/: an address in place of a host name".into()),
        ("a.test/number", "https://127.0.0.1/: an address in place of a host name".into()),
        ("a.test/user", "https://user@a.test/: a user name or password in the URL".into()),
        ("a.test/password", "https://:word@a.test/: a user name or password in the URL".into()),
        ("a.test/file", "file:///etc/passwd: not https".into()),
        ("a.test/none", format!("redirects lead back to {}", at("a.test/none"))),
        (
            "a.test/long",
            format!("{}…: too long", &format!("{}{}", at("a.test/"), "x".repeat(200))[..200]),
        ),
        ("a.test/lost", format!("{} is redirected, and not to another URL", at("a.test/lost"))),
        ("a.test/loop", format!("redirects lead back to {}", at("a.test/loop"))),
        ("a.test/1", "too many redirects".into()),
    ] {
        assert_eq!(refused(&web, place).await, why, "{place}");
    }
    let asked = web.https.asked();
    assert!(!asked.iter().any(|place| place == "a.test/5"), "{asked:?}");
}

#[tokio::test]
async fn what_belongs_together_shares_its_hops_and_keeps_its_label() {
    let web = Web::of(&["a.test"]).await;
    web.https.answer("a.test/1", Reply::redirect("/2"));
    web.https.answer("a.test/2", Reply::redirect("/end"));
    web.https.answer("a.test/end", Reply::body("x"));
    web.https.answer("a.test/_label", Reply::redirect("/x/_label.json"));
    web.https.answer("a.test/x/_label.json", Reply::redirect("/end"));
    let url = |place| Url::parse(&web.url(place)).unwrap();
    let mut visit = web.fetcher.visit(LIMITS).await.unwrap();
    assert!(visit.get(&url("a.test/1"), None).await.is_ok());
    let error = visit.get(&url("a.test/_label"), Some("_label")).await.unwrap_err();
    assert!(matches!(error, FetchError::Url { problem: UrlProblem::Label, .. }), "{error}");
    // six in all
    let error = visit.get(&url("a.test/1"), None).await.unwrap_err();
    assert!(matches!(error, FetchError::TooManyHops), "{error}");
    assert_eq!(web.https.asked().len(), 6);
}

#[tokio::test]
async fn bodies_that_are_too_large_or_coded_are_not_taken() {
    //
    let web = Web::of(&["a.test"]).await;
    let head = "HTTP/1.1 200 OK\r\nContent-Length: 1000000000000\r\n\r\n";
    web.https.answer("a.test/said", Reply::Bytes(head.into()));
    web.https.answer("a.test/one", Reply::body([b'x'; 101]));
    let endless = format!("HTTP/1.1 200 OK\r\n\r\n{}", "x".repeat(1 << 20));
    web.https.answer("a.test/endless", Reply::Bytes(endless.into()));
    let coded = "HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 1\r\n\r\nx";
    web.https.answer("a.test/coded", Reply::Bytes(coded.into()));
    for place in ["a.test/said", "a.test/one", "a.test/endless"] {
        let why = format!("{} has more than 100 bytes", web.url(place));
        assert_eq!(refused(&web, place).await, why);
    }
    let why =
        format!("{} came in a content coding that was not asked for", web.url("a.test/coded"));
    assert_eq!(refused(&web, "a.test/coded").await, why);
}

#[tokio::test]
async fn what_is_no_success_is_an_error_with_its_status() {
    let web = Web::of(&["a.test"]).await;
    for status in [304, 403, 404, 500] {
        web.https.answer("a.test/x", Reply::head(status, ""));
        let error = get(&web, &web.url("a.test/x")).await.unwrap_err();
        assert_eq!(error.is_not_found(), status == 404);
        let why = format!("{} was answered with status {status}", web.url("a.test/x"));
        assert_eq!(error.to_string(), why);
    }
}

#[tokio::test]
async fn what_is_no_http_is_an_error() {
    let web = Web::of(&["a.test"]).await;
    let many = "X: y\r\n".repeat(MAX_HEADERS + 1);
    let huge = format!("X: {}\r\n", "y".repeat(MAX_HEAD));
    for (name, bytes) in [
        ("http/0.9", "<html>".to_owned()),
        ("nothing", String::new()),
        ("cut", "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nx".into()),
        ("many", format!("HTTP/1.1 200 OK\r\n{many}\r\n")),
        ("huge", format!("HTTP/1.1 200 OK\r\n{huge}\r\n")),
    ] {
        web.https.answer("a.test/x", Reply::Bytes(bytes.into_bytes()));
        let error = get(&web, &web.url("a.test/x")).await.unwrap_err();
        assert!(matches!(error, FetchError::Http { .. }), "{name}: {error:?}");
    }
}

#[tokio::test]
async fn only_a_certificate_of_a_trusted_ca_for_the_host_will_do() {
    //
    let web = Web::with(&["a.test"], &["www.a.test"], |_| None).await;
    let why = "TLS with a.test: its certificate is for another name";
    assert_eq!(refused(&web, "a.test/x").await, why);
    assert!(web.https.asked().is_empty());

    let other = Web::of(&["a.test"]).await;
    let error = other.fetcher.get(&Url::parse(&web.url("a.test/x")).unwrap(), LIMITS).await;
    let why = "TLS with a.test: its certificate's issuer is not trusted";
    assert_eq!(error.unwrap_err().to_string(), why);
    assert!(web.https.asked().is_empty());
}

#[tokio::test]
async fn no_address_is_connected_to_that_a_rule_forbids_on_any_hop() {
    // PO-10
    fn denied(_: std::net::IpAddr) -> Option<Denied> {
        Some(Denied { reason: None, rule: Place::words("rules.yaml:7") })
    }
    let web = Web::with(&["a.test"], &["a.test"], denied).await;
    let address = format!("127.0.0.1:{}", web.https.port);
    let why = format!("connect to a.test: {address} is refused by the rule at rules.yaml:7");
    assert_eq!(refused(&web, "a.test/x").await, why);
    let error = get(&web, "https://localhost:1/").await.unwrap_err();
    assert!(error.to_string().contains("is refused by the rule"), "{error}");
    assert!(matches!(get(&web, "https://gone.test/").await, Err(FetchError::Connect { .. })));
    assert!(web.https.asked().is_empty());
}

#[tokio::test]
async fn ports_are_those_that_are_allowed() {
    let web = Web::of(&["a.test"]).await;
    web.https.answer("a.test/x", Reply::redirect("https://a.test:22/"));
    let limits = Limits { ports: Some([HTTPS, web.https.port]), ..LIMITS };
    let url = Url::parse(&web.url("a.test/x")).unwrap();
    let error = web.fetcher.get(&url, limits).await.unwrap_err();
    assert_eq!(error.to_string(), "https://a.test:22/: a port that is not allowed");
}

#[tokio::test]
async fn a_server_that_does_not_answer_is_given_up() {
    // slow drip
    let web = Web::of(&["a.test"]).await;
    web.https.answer("a.test/x", Reply::Silence);
    let slow = get_url(&web);
    let (error, ()) = tokio::join!(slow, async {
        web.https.came().await;
        tokio::time::pause();
    });
    assert_eq!(error.unwrap_err().to_string(), "no complete answer within 20 s");
}

async fn get_url(web: &Web) -> Result<Bytes, FetchError> {
    get(web, &web.url("a.test/x")).await
}

#[tokio::test]
async fn no_more_than_a_few_fetches_are_under_way_at_once() {
    let web = Web::of(&["a.test"]).await;
    let mut visits = Vec::new();
    for _ in 0..AT_ONCE {
        visits.push(web.fetcher.visit(LIMITS).await.unwrap());
    }
    tokio::time::pause();
    assert!(matches!(web.fetcher.visit(LIMITS).await, Err(FetchError::Busy)));
    visits.pop();
    assert!(web.fetcher.visit(LIMITS).await.is_ok());
}
