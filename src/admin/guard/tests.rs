use hyper::header::HeaderValue;

use super::*;

const TOKEN: &str = "0123456789abcdef0123";

fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
    let pair = |(name, value): &(&str, &str)| {
        (name.parse::<HeaderName>().unwrap(), value.parse::<HeaderValue>().unwrap())
    };
    pairs.iter().map(pair).collect()
}

fn access(token: bool, write: bool) -> Access {
    Access { token: token.then(|| Zeroizing::new(TOKEN.into())), write }
}

#[test]
fn the_socket_takes_everything() {
    let nobody = access(true, false);
    assert_eq!(nobody.check(Via::Socket, Wants::Write, &HeaderMap::new()), Ok(()));
}

#[test]
fn a_host_is_an_address_or_localhost() {
    let open = access(false, false);
    for (host, is_good) in [
        ("127.0.0.1:9126", true),
        ("127.0.0.1", true),
        ("[::1]:9126", true),
        ("[::1]", true),
        ("localhost:9126", true),
        ("LOCALHOST", true),
        ("10.1.2.3:9126", true),
        ("rebound.example:9126", false),
        ("127.0.0.1.rebound.example:9126", false),
        ("localhost.rebound.example", false),
        ("", false),
        (":9126", false),
    ] {
        let outcome = open.check(Via::Tcp, Wants::Read, &headers(&[("host", host)]));
        assert_eq!(outcome.is_ok(), is_good, "{host}");
    }
    assert_eq!(open.check(Via::Tcp, Wants::Nothing, &HeaderMap::new()), Err(Denied::Host));
}

#[test]
fn pages_of_other_sites_get_no_answer() {
    let open = access(false, true);
    let host = ("host", "127.0.0.1:9126");
    for (more, outcome) in [
        (("origin", "http://127.0.0.1:9126"), Ok(())),
        (("origin", "http://127.0.0.1:8080"), Err(Denied::Origin)),
        (("origin", "https://evil.example"), Err(Denied::Origin)),
        (("origin", "null"), Err(Denied::Origin)),
        (("sec-fetch-site", "same-origin"), Ok(())),
        (("sec-fetch-site", "none"), Ok(())),
        (("sec-fetch-site", "cross-site"), Err(Denied::Origin)),
        (("sec-fetch-site", "same-site"), Err(Denied::Origin)),
    ] {
        let headers = headers(&[host, more, ("content-type", "application/json; charset=utf-8")]);
        assert_eq!(open.check(Via::Tcp, Wants::Write, &headers), outcome, "{more:?}");
    }
    // what a form of another site can send where browsers tell nothing
    let form = headers(&[host, ("content-type", "text/plain")]);
    assert_eq!(open.check(Via::Tcp, Wants::Write, &form), Err(Denied::NotJson));
}

#[test]
fn a_token_is_asked_for_where_there_is_one() {
    let closed = access(true, false);
    let host = ("host", "10.0.0.1:9126");
    let good = format!("Bearer {TOKEN}");
    for shown in ["", "Bearer ", "Bearer 0123456789abcdef012", TOKEN, "Basic 0123456789abcdef0123"]
    {
        let headers = headers(&[host, ("authorization", shown)]);
        assert_eq!(closed.check(Via::Tcp, Wants::Read, &headers), Err(Denied::Token), "{shown}");
        assert_eq!(closed.check(Via::Tcp, Wants::Nothing, &headers), Ok(()));
    }
    let with = headers(&[host, ("authorization", &good)]);
    assert_eq!(closed.check(Via::Tcp, Wants::Read, &with), Ok(()));
    assert_eq!(closed.check(Via::Tcp, Wants::Write, &with), Err(Denied::ReadOnly));
    // behind a proxy with a name of its own
    let named = headers(&[("host", "gate.example"), ("authorization", &good)]);
    assert_eq!(closed.check(Via::Tcp, Wants::Read, &named), Ok(()));
}

#[test]
fn a_token_is_long_and_not_for_everyone() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("token");
    let put = |text: &str, mode| {
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        Access::new(Some(&path), false)
    };
    assert!(put(&format!("{TOKEN}\n"), 0o640).is_ok_and(|access| access.token.is_some()));
    assert!(matches!(put(TOKEN, 0o644), Err(TokenError::Exposed(_))));
    for bad in ["", "short", "0123456789abcdef 0123", "0123456789abcdef\n0123"] {
        assert!(matches!(put(bad, 0o600), Err(TokenError::Malformed(_))), "{bad:?}");
    }
    assert!(matches!(
        Access::new(Some(&dir.path().join("none")), false),
        Err(TokenError::Read(..))
    ));
}

#[test]
fn nothing_secret_is_shown() {
    assert_eq!(format!("{:?}", access(true, true)), "Access { write: true, .. }");
    let error = TokenError::Malformed("/etc/token".into());
    assert!(!format!("{error} {error:?}").contains(TOKEN));
}
