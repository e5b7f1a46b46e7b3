use super::*;
use crate::{
    auth::posh::{Outcome, verify, write},
    net::fake_https::{Reply, Web},
};
use rustls::pki_types::CertificateDer;
use tokio::time::timeout;

const PLACE: &str = "p.test/.well-known/posh/xmpp-server.json";
const OLDER_JSON: &str = "p.test/.well-known/posh._xmpp-server._tcp.json";
const OLDER_CERTIFICATE: &str = "p.test/.well-known/tls/_xmpp-server._tcp.p.test.cer";

fn domain() -> Domain {
    Domain::parse("p.test").unwrap()
}

fn client(web: &Web, older_forms: bool) -> PoshClient {
    let config = model::Posh { fetch: true, older_forms, port: web.https.port };
    PoshClient::new(Arc::clone(&web.fetcher), config)
}

/// Some certificate, and a document that lists it.
fn listed(web: &Web, expires: u64) -> (CertificateDer<'static>, Reply) {
    let leaf = web.ca.server(&["hoster.test"]).certificate;
    let text = write(std::slice::from_ref(&leaf), Duration::from_secs(expires));
    (leaf, Reply::body(text))
}

fn proves(material: &Material, leaf: &CertificateDer<'_>) -> bool {
    let chain = std::slice::from_ref(leaf);
    matches!(verify(chain, material, &domain(), UnixTime::now()), Outcome::Match(_))
}

/// How many seconds it holds yet, within those of the test itself.
fn holds(material: &Material) -> u64 {
    (material.expires().as_secs() - UnixTime::now().as_secs()).next_multiple_of(100)
}

async fn unknown(client: &PoshClient) -> String {
    client.material(&domain()).await.unwrap_err().to_string()
}

#[tokio::test]
async fn what_is_known_is_not_fetched_again_until_it_expires() {
    let web = Web::of(&["p.test"]).await;
    let client = client(&web, false);
    let (leaf, document) = listed(&web, 600);
    web.https.answer(PLACE, document);
    let wanted = domain();
    let (first, second) = tokio::join!(client.material(&wanted), client.material(&wanted));
    assert_eq!(first.unwrap(), second.unwrap());
    let material = client.material(&domain()).await.unwrap().unwrap();
    assert!(proves(&material, &leaf));
    assert_eq!(holds(&material), 600);
    assert_eq!(web.https.asked(), [PLACE]);
    assert!(client.turns.lock().unwrap().is_empty());

    // another document by now
    let (other, document) = listed(&web, 600);
    web.https.answer(PLACE, document);
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(601)).await;
    tokio::time::resume();
    let material = client.material(&domain()).await.unwrap().unwrap();
    assert!(proves(&material, &other) && !proves(&material, &leaf));
}

#[tokio::test]
async fn what_expires_this_second_is_fetched_again() {
    let web = Web::of(&["p.test"]).await;
    let client = client(&web, false);
    let (leaf, document) = listed(&web, 600);
    web.https.answer(PLACE, document);
    let before = UnixTime::since_unix_epoch(Duration::from_secs(UnixTime::now().as_secs() - 60));
    let text = write(std::slice::from_ref(&leaf), Duration::from_secs(60));
    let Document::Fingerprints(list) = Document::parse(text.as_bytes()).unwrap() else { panic!() };
    let (now, stale) = (std::time::Instant::now(), list.material(None, before));
    client.known.put(domain(), Known::Material(stale), now + Duration::from_secs(60), now);
    let material = client.material(&domain()).await.unwrap().unwrap();
    assert!(proves(&material, &leaf));
    assert_eq!(web.https.asked(), [PLACE]);
}

#[tokio::test]
async fn a_reference_is_followed_once_and_the_shorter_time_holds() {
    let web = Web::of(&["p.test", "hoster.test"]).await;
    let refer = |expires: u64| {
        let url = web.url("hoster.test/posh.json");
        Reply::body(format!("{{\"url\":\"{url}\",\"expires\":{expires}}}"))
    };
    let (leaf, document) = listed(&web, 600);
    web.https.answer("hoster.test/posh.json", document);
    for (expires, least) in [(300, 300), (86_400, 600)] {
        web.https.answer(PLACE, refer(expires));
        let material = client(&web, false).material(&domain()).await.unwrap().unwrap();
        assert!(proves(&material, &leaf));
        assert_eq!(holds(&material), least);
    }
    // A-63
    web.https.answer("hoster.test/posh.json", refer(300));
    assert!(unknown(&client(&web, false)).await.contains("refers to one that refers to a third"));
    // that it leads nowhere does not mean that the domain publishes nothing
    web.https.answer("hoster.test/posh.json", Reply::head(404, ""));
    assert!(unknown(&client(&web, false)).await.ends_with("was answered with status 404"));
    web.https.answer(PLACE, Reply::body(r#"{"url":"https://10.0.0.1/","expires":1}"#));
    assert!(unknown(&client(&web, false)).await.contains("an address in place of a host name"));
}

#[tokio::test]
async fn that_there_is_nothing_is_remembered_for_an_hour() {
    let web = Web::of(&["p.test"]).await;
    let client = client(&web, false);
    assert_eq!(client.material(&domain()).await.unwrap(), None);
    let (_, document) = listed(&web, 600);
    web.https.answer(PLACE, document);
    tokio::time::pause();
    tokio::time::advance(NEGATIVE - Duration::from_secs(1)).await;
    assert_eq!(client.material(&domain()).await.unwrap(), None);
    tokio::time::advance(Duration::from_secs(2)).await;
    tokio::time::resume();
    assert!(client.material(&domain()).await.unwrap().is_some());
    assert_eq!(web.https.asked(), [PLACE, PLACE]);
}

#[tokio::test]
async fn after_failures_it_is_tried_less_and_less_often() {
    let web = Web::of(&["p.test"]).await;
    let client = client(&web, false);
    let expired = r#"{"fingerprints":[{}],"expires":0}"#;
    let duplicate = r#"{"expires":1,"expires":2}"#;
    for (seconds, body) in [(60, expired), (120, duplicate), (240, expired), (480, "no JSON")] {
        web.https.answer(PLACE, Reply::body(body));
        let why = unknown(&client).await;
        web.https.answer(PLACE, Reply::head(500, ""));
        tokio::time::pause();
        tokio::time::advance(Duration::from_secs(seconds - 1)).await;
        assert_eq!(unknown(&client).await, why);
        tokio::time::advance(Duration::from_secs(2)).await;
        tokio::time::resume();
    }
    let (_, document) = listed(&web, 600);
    web.https.answer(PLACE, document);
    assert!(client.material(&domain()).await.unwrap().is_some());
    assert_eq!(web.https.asked().len(), 5);
}

#[tokio::test]
async fn a_fetch_ends_in_the_time_that_there_is_and_has_failed() {
    let web = Web::of(&["p.test"]).await;
    let client = client(&web, false);
    web.https.answer(PLACE, Reply::Silence);
    let domain = domain();
    let most = Duration::from_millis(200);
    let asked = timeout(TIME / 2, client.material_within(&domain, most)).await;
    let error = asked.expect("an end").unwrap_err();
    assert!(matches!(*error, PoshUnknown::Fetch(FetchError::Timeout(time)) if time == most));
    // and is not tried again at once
    assert!(client.material(&domain).await.is_err());
    assert!(web.https.asked().len() <= 1);
}

#[tokio::test]
async fn a_host_that_is_not_proven_to_be_the_domain_says_nothing() {
    // A-65
    let web = Web::with(&["p.test"], &["www.p.test"], |_| None).await;
    let (_, document) = listed(&web, 600);
    web.https.answer(PLACE, document);
    let why = unknown(&client(&web, false)).await;
    assert_eq!(why, "TLS with p.test: its certificate is for another name");
    assert!(web.https.asked().is_empty());
}

#[tokio::test]
async fn a_document_that_is_too_large_is_not_read() {
    let web = Web::of(&["p.test"]).await;
    web.https.answer(PLACE, Reply::body(vec![b' '; MAX_SIZE + 1]));
    assert!(unknown(&client(&web, false)).await.ends_with("has more than 65536 bytes"));
}

#[tokio::test]
async fn who_gives_up_leaves_the_fetch_to_who_still_waits() {
    let web = Web::of(&["p.test"]).await;
    let client = client(&web, false);
    web.https.answer(PLACE, Reply::Silence);
    let wanted = domain();
    let mut first = Box::pin(client.material(&wanted));
    tokio::select! {
        _ = &mut first => panic!("an answer"),
        () = web.https.came() => {}
    }
    let mut second = Box::pin(client.material(&wanted));
    assert!(once(&mut second).await.is_none());
    assert_eq!(client.turns.lock().unwrap().len(), 1);
    web.https.answer(PLACE, Reply::head(404, ""));
    drop(first);
    assert_eq!(second.await.unwrap(), None);
    assert_eq!(web.https.asked().len(), 2);
    assert!(client.turns.lock().unwrap().is_empty());
}

async fn once<F: Future + Unpin>(future: &mut F) -> Option<F::Output> {
    tokio::select! {
        biased;
        output = future => Some(output),
        () = std::future::ready(()) => None,
    }
}

#[tokio::test]
async fn older_forms_count_only_where_they_are_wanted_and_todays_is_known_to_be_missing() {
    // PO-12
    let web = Web::of(&["p.test", "hoster.test"]).await;
    let issued = web.ca.server(&["hoster.test"]);
    let leaf = &issued.certificate;
    let path = "hoster.test/.well-known/tls/_xmpp-server._tcp.hoster.test.cer";
    web.https.answer(OLDER_CERTIFICATE, Reply::redirect(&web.url(path)));
    web.https.answer(path, Reply::body(&issued.pem));
    assert_eq!(client(&web, false).material(&domain()).await.unwrap(), None);
    assert_eq!(web.https.asked(), [PLACE]);

    let material = client(&web, true).material(&domain()).await.unwrap().unwrap();
    assert!(proves(&material, leaf));
    assert_eq!(holds(&material), 3600);
    assert_eq!(web.https.asked()[1..], [PLACE, OLDER_JSON, OLDER_CERTIFICATE, path]);

    // the service's label has to stay
    web.https.answer(OLDER_CERTIFICATE, Reply::redirect(&web.url("hoster.test/other.cer")));
    assert!(unknown(&client(&web, true)).await.ends_with("redirected to something else"));

    let keys = |leaf: &[u8]| {
        use base64::prelude::{BASE64_URL_SAFE, Engine};
        format!(r#"{{"keys":[{{"kty":"PKIX","x5c":["{}"]}}]}}"#, BASE64_URL_SAFE.encode(leaf))
    };
    web.https.answer(OLDER_JSON, Reply::body(keys(leaf)));
    let material = client(&web, true).material(&domain()).await.unwrap().unwrap();
    assert!(proves(&material, leaf));

    // a failure is not the answer that there is none
    web.https.answer(PLACE, Reply::head(500, ""));
    assert!(unknown(&client(&web, true)).await.ends_with("was answered with status 500"));
}
