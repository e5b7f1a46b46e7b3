//! Every state and every kind of input of the accepting end, as tables; what is attempted against
//! it is in [`attacks`], and streams of both directions are in [`bidi`].

use base64::{Engine, engine::general_purpose::STANDARD};

use super::{pairs::CLEAR_DIALBACK_MAX, sasl::SASL_FAILURES_MAX, *};
use crate::stream::wire::{
    Accepting, Event, Piece, Tls, assert_table, header, header_text, keys, piece, request, rows,
    samples, words,
};
use crate::xmpp::StanzaCondition;

mod attacks;
mod bidi;
mod managing;
mod renewal;
mod spellings;

const PEER: &str = "from='capulet.example' to='montague.example' version='1.0'";

/// A peer's stream behind TLS, its features out; with a certificate that proves the domain.
fn behind_tls(certificate: bool) -> Accepting {
    let mut end = Accepting::new(Side::Peer);
    let tls = Tls::get();
    end.tls(if certificate { &tls.with_certificate } else { &tls.anonymous });
    end.header(PEER);
    if certificate {
        end.confirm();
    }
    end
}

/// The legacy server's stream, its features out.
fn local() -> Accepting {
    let mut end = Accepting::new(Side::Legacy);
    end.header("from='montague.example' to='capulet.example' version='1.0'");
    end
}

/// An end with one pair authorized by dialback.
fn authorized(mut end: Accepting, sender: &str, target: &str) -> Accepting {
    end.xml(&request(sender, target, None, "key"));
    end.confirm();
    end
}

fn peer_in(state: &str) -> Accepting {
    let auth =
        piece("<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='EXTERNAL'>=</auth>");
    let mut end = Accepting::new(Side::Peer);
    match state {
        "before the header" => {}
        "in the clear" | "in the handshake" => {
            end.header(PEER);
            if state == "in the handshake" {
                end.xml("<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>");
            }
        }
        "behind TLS, before the header" => end.tls(&Tls::get().with_certificate),
        "judging the certificate" => {
            end.tls(&Tls::get().with_certificate);
            end.header(PEER);
        }
        "behind TLS, proven by certificate" => end = behind_tls(true),
        "behind TLS, not proven" => end = behind_tls(false),
        "dialback pending" => {
            end = behind_tls(false);
            end.xml(&request("capulet.example", "montague.example", None, "key"));
        }
        "authorized by dialback" => {
            end = authorized(behind_tls(false), "capulet.example", "montague.example");
        }
        "after SASL, before the header" | "authorized by EXTERNAL" => {
            end = behind_tls(true);
            end.take(&auth);
            if state == "authorized by EXTERNAL" {
                end.header(PEER);
            }
        }
        _ => panic!("{state}"),
    }
    end
}

fn legacy_in(state: &str) -> Accepting {
    match state {
        "before the header" => Accepting::new(Side::Legacy),
        "open" => local(),
        "dialback pending" => {
            let mut end = local();
            end.xml(&request("montague.example", "capulet.example", None, "key"));
            end
        }
        "authorized" => authorized(local(), "montague.example", "capulet.example"),
        _ => panic!("{state}"),
    }
}

/// What happens on every kind of input, state by state.
fn table(states: &[&str], at: fn(&str) -> Accepting, sender: &str, target: &str) -> String {
    let answers = [
        ("db:result=valid", format!("<db:result from='{target}' to='{sender}' type='valid'/>")),
        (
            "db:verify=valid",
            format!("<db:verify from='{target}' to='{sender}' id='id' type='valid'/>"),
        ),
    ];
    let attributes = format!("from='{sender}' to='{target}' version='1.0'");
    let mut table = String::new();
    for state in states {
        let mut inputs =
            vec![("header".to_owned(), Piece::Header(header(&header_text(&attributes))))];
        inputs.extend(samples(sender, target));
        inputs.extend(answers.iter().map(|(name, xml)| ((*name).to_owned(), piece(xml))));
        let stanza = Piece::Stanza { from: format!("u@{sender}"), to: format!("v@{target}") };
        inputs.push(("stanza".into(), stanza));
        let mut outcomes: Vec<_> = inputs
            .into_iter()
            .map(|(name, piece)| (name, words(&at(state).take(&piece))))
            .collect();
        if !at(state).challenges.is_empty() {
            outcomes.push(("verdict: proven".into(), at(state).confirm()));
            let timeout = StanzaCondition::RemoteServerTimeout;
            outcomes.push(("verdict: error".into(), words(&at(state).answer_error(timeout))));
            outcomes.push(("verdict: invalid".into(), words(&at(state).answer_invalid())));
        }
        table += &format!("{state}\n{}", rows(&outcomes));
    }
    table
}

#[test]
fn a_peers_stream_does_this_in_every_state() {
    let table = table(
        &[
            "before the header",
            "in the clear",
            "in the handshake",
            "behind TLS, before the header",
            "judging the certificate",
            "behind TLS, proven by certificate",
            "behind TLS, not proven",
            "dialback pending",
            "authorized by dialback",
            "after SASL, before the header",
            "authorized by EXTERNAL",
        ],
        peer_in,
        "capulet.example",
        "montague.example",
    );
    assert_table(&table, PEER_TABLE);
}

#[test]
fn a_legacy_stream_does_this_in_every_state() {
    let table = table(
        &["before the header", "open", "dialback pending", "authorized"],
        legacy_in,
        "montague.example",
        "capulet.example",
    );
    assert_table(&table, LEGACY_TABLE);
}

/// What a header is answered with; `from` and `to` of ours stand in brackets.
fn headers(side: Side, layers: &[&str]) -> String {
    let mut table = String::new();
    let (own, other, unknown) = match side {
        Side::Peer => ("montague.example", "capulet.example", "nobody.example"),
        Side::Legacy => ("capulet.example", "montague.example", "montague.example"),
    };
    for layer in layers {
        let cases = [
            ("from to", format!("from='{other}' to='{own}' version='1.0'")),
            ("from to, other spelling", {
                let (from, to) = (other.to_uppercase(), format!("{own}."));
                format!("from='{from}' to='{to}' version='01.000'")
            }),
            ("from to, id, lang", {
                format!("from='{other}' to='{own}' id='x' xml:lang='de' version='1.0'")
            }),
            ("from to, version 1.7", format!("from='{other}' to='{own}' version='1.7'")),
            ("from to, version 2.0", format!("from='{other}' to='{own}' version='2.0'")),
            ("from to, version 0.9", format!("from='{other}' to='{own}' version='0.9'")),
            ("from to, version one", format!("from='{other}' to='{own}' version='one'")),
            ("from to, no version", format!("from='{other}' to='{own}'")),
            ("to", format!("to='{own}' version='1.0'")),
            ("to, no version", format!("to='{own}'")),
            ("from", format!("from='{other}' version='1.0'")),
            ("nothing", "version='1.0'".into()),
            ("nothing, no version", String::new()),
            ("to unknown", format!("from='{other}' to='{unknown}' version='1.0'")),
            ("to empty", format!("from='{other}' to='' version='1.0'")),
            ("to a user", format!("from='{other}' to='u@{own}' version='1.0'")),
            ("to an address", format!("from='{other}' to='192.0.2.1' version='1.0'")),
            ("from us", format!("from='{own}' to='{own}' version='1.0'")),
            ("from empty", format!("from='' to='{own}' version='1.0'")),
            ("from a user", format!("from='u@{other}' to='{own}' version='1.0'")),
            ("from one label", format!("from='localhost' to='{own}' version='1.0'")),
            ("from denied", format!("from='evil.example' to='{own}' version='1.0'")),
            ("from below denied", format!("from='x.EVIL.example.' to='{own}' version='1.0'")),
        ];
        let outcomes: Vec<_> = cases
            .iter()
            .map(|(name, attributes)| {
                let mut end = match *layer {
                    "in the clear" => Accepting::new(side),
                    "behind TLS" => {
                        let mut end = Accepting::new(side);
                        end.tls(&Tls::get().with_certificate);
                        end
                    }
                    "after SASL" => peer_in("after SASL, before the header"),
                    _ => panic!("{layer}"),
                };
                let events = end.take(&Piece::Header(header(&header_text(attributes))));
                let names = match events.first() {
                    Some(Event::Said(Piece::Header(header))) => {
                        let name = |name: &Option<String>| match name {
                            None => "-".to_owned(),
                            Some(name) => format!("'{name}'"),
                        };
                        format!("[{} {}] ", name(&header.from), name(&header.to))
                    }
                    _ => String::new(),
                };
                ((*name).to_owned(), format!("{names}{}", words(&events)))
            })
            .collect();
        table += &format!("{layer}\n{}", rows(&outcomes));
    }
    table
}

#[test]
fn headers_of_peers_are_answered_like_this() {
    assert_table(&headers(Side::Peer, &["in the clear", "behind TLS", "after SASL"]), PEER_HEADERS);
}

#[test]
fn headers_of_the_legacy_server_are_answered_like_this() {
    assert_table(&headers(Side::Legacy, &["in the clear"]), LEGACY_HEADERS);
}

#[test]
fn sasl_auth_is_answered_like_this() {
    let mut outcomes = Vec::new();
    for (name, attributes, text) in [
        ("no authzid", "mechanism='EXTERNAL'", ""),
        ("equals sign", "mechanism='EXTERNAL'", "="),
        ("from", "mechanism='EXTERNAL'", "capulet.example"),
        ("from, other spelling", "mechanism='EXTERNAL'", "CAPULET.example."),
        ("another domain of the certificate", "mechanism='EXTERNAL'", "rooms.capulet.example"),
        ("a domain of ours", "mechanism='EXTERNAL'", "montague.example"),
        ("a user", "mechanism='EXTERNAL'", "u@capulet.example"),
        ("NUL", "mechanism='EXTERNAL'", "capulet.example\0"),
        ("another mechanism", "mechanism='PLAIN'", "capulet.example"),
        ("lower case", "mechanism='external'", "="),
        ("no mechanism", "", "="),
    ] {
        let text = match text {
            "" | "=" => text.to_owned(),
            text => STANDARD.encode(text),
        };
        outcomes.push((name, auth(attributes, &text)));
    }
    for (name, text) in [
        ("not padded", "Y2FwdWxldC5leGFtcGxl=="),
        ("padding inside", "Y2Fw=dWxldC5leGFtcGxl"),
        ("white space", " Y2FwdWxldC5leGFtcGxl "),
        ("only white space", " "),
        ("no base64", "capulet.example"),
        ("no UTF-8", "/////w=="),
        ("bits left over", "Y2FwdWxldC5leGFtcGx="),
    ] {
        outcomes.push((name, auth("mechanism='EXTERNAL'", text)));
    }
    let outcomes: Vec<_> = outcomes.into_iter().map(|(n, o)| (n.to_owned(), o)).collect();
    assert_table(&rows(&outcomes), AUTH_TABLE);
}

fn auth(attributes: &str, text: &str) -> String {
    behind_tls(true)
        .xml(&format!("<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' {attributes}>{text}</auth>"))
}

#[test]
fn keys_are_checked_like_this() {
    let (keys, mut table) = (keys(), String::new());
    let (public, inside) = (keys.public(), keys.local("old"));
    for (side, mut end) in [("a peer asks", behind_tls(false)), ("the legacy server asks", local())]
    {
        let mut outcomes = Vec::new();
        for (name, receiving, initiating, id) in [
            ("they received, we initiated", "capulet.example", "montague.example", "1"),
            ("our rooms initiated", "capulet.example", "rooms.montague.example", "1"),
            ("we received, they initiated", "montague.example", "capulet.example", "1"),
            ("the other legacy server received", "verona.example", "capulet.example", "1"),
            ("both ours", "montague.example", "verona.example", "1"),
            ("both theirs", "capulet.example", "example.org", "1"),
        ] {
            let [r, i] = [receiving, initiating].map(|name| Domain::parse(name).unwrap());
            for (which, key) in [
                ("public", public.key(&r, &i, id)),
                ("local", inside.key(&r, &i, id)),
                ("public, other id", public.key(&r, &i, "2")),
                ("local, other id", inside.key(&r, &i, "2")),
                ("public, turned around", public.key(&i, &r, id)),
                ("local, turned around", inside.key(&i, &r, id)),
                ("local of the other server", keys.local("other").key(&r, &i, id)),
            ] {
                let outcome = end.xml(&request(receiving, initiating, Some(id), &key));
                outcomes.push((format!("{name}: {which}"), outcome));
            }
        }
        let only = |wanted: &str| {
            let good: Vec<_> = outcomes.iter().filter(|(_, o)| o == wanted).cloned().collect();
            rows(&good)
        };
        let others = outcomes.iter().filter(|(_, o)| !o.ends_with("=valid"));
        let mut kinds: Vec<_> = others.map(|(_, o)| o.as_str()).collect();
        kinds.sort_unstable();
        kinds.dedup();
        table +=
            &format!("{side}\n{}    all else: {}\n", only("db:verify=valid"), kinds.join(", "));
    }
    assert_table(&table, KEY_TABLE);
}

const PEER_TABLE: &str = "
before the header
    header
        → header features(starttls)
    starttls, proceed, tls:failure, auth, abort, challenge, response, success, sasl:failure,
    db:result, db:verify, stream:features, compress, bidi, enable, enabled, sm:failed, resume,
    resumed, r, a, other, foo, db:result=valid, db:verify=valid, stanza
        → !not-authorized
    stream:error
        → close(host-unknown)
in the clear
    header
        → !bad-format
    starttls
        → proceed handshake(montague.example)
    proceed, tls:failure, challenge, response, success, sasl:failure, stream:features, bidi,
    enable, enabled, sm:failed, resume, resumed, r, a, other, foo, db:result=valid,
    db:verify=valid
        → -
    auth
        → refused(capulet.example→montague.example) sasl:failure(encryption-required)
    abort
        → sasl:failure(aborted)
    db:result
        → db:result=error(policy-violation)
    db:verify
        → db:verify=error(policy-violation)
    stream:error
        → close(host-unknown)
    compress
        → failure(unsupported-method)
    stanza
        → !not-authorized
in the handshake
    header
        → !bad-format
    starttls, proceed, tls:failure, auth, abort, challenge, response, success, sasl:failure,
    db:result, db:verify, stream:features, compress, bidi, enable, enabled, sm:failed, resume,
    resumed, r, a, other, foo, db:result=valid, db:verify=valid, stanza
        → !not-authorized
    stream:error
        → close(host-unknown)
behind TLS, before the header
    header
        → header judge(capulet.example)
    starttls, proceed, tls:failure, auth, abort, challenge, response, success, sasl:failure,
    db:result, db:verify, stream:features, compress, bidi, enable, enabled, sm:failed, resume,
    resumed, r, a, other, foo, db:result=valid, db:verify=valid, stanza
        → !not-authorized
    stream:error
        → close(host-unknown)
judging the certificate
    header
        → !bad-format
    starttls, proceed, tls:failure, auth, abort, challenge, response, success, sasl:failure,
    db:result, db:verify, stream:features, compress, bidi, enable, enabled, sm:failed, resume,
    resumed, r, a, other, foo, db:result=valid, db:verify=valid, stanza
        → !not-authorized
    stream:error
        → close(host-unknown)
    verdict: proven
        → features(mechanisms dialback bidi sm limits)
    verdict: error, verdict: invalid
        → features(dialback bidi sm limits)
behind TLS, proven by certificate
    header
        → !bad-format
    starttls
        → tls:failure close
    proceed, tls:failure, challenge, response, success, sasl:failure, stream:features, bidi,
    enabled, sm:failed, resumed, r, a, other, foo, db:result=valid, db:verify=valid
        → -
    auth
        → success restart
    abort
        → sasl:failure(aborted)
    db:result
        → prove(capulet.example→montague.example)
    db:verify
        → db:verify=invalid
    stream:error
        → close(host-unknown)
    compress
        → failure(unsupported-method)
    enable, resume
        → failed(unexpected-request)
    stanza
        → !not-authorized
behind TLS, not proven
    header
        → !bad-format
    starttls
        → tls:failure close
    proceed, tls:failure, challenge, response, success, sasl:failure, stream:features, bidi,
    enabled, sm:failed, resumed, r, a, other, foo, db:result=valid, db:verify=valid
        → -
    auth
        → refused(capulet.example→montague.example) sasl:failure(not-authorized)
    abort
        → sasl:failure(aborted)
    db:result
        → prove(capulet.example→montague.example)
    db:verify
        → db:verify=invalid
    stream:error
        → close(host-unknown)
    compress
        → failure(unsupported-method)
    enable, resume
        → failed(unexpected-request)
    stanza
        → !not-authorized
dialback pending
    header
        → !bad-format
    starttls
        → tls:failure close
    proceed, tls:failure, challenge, response, success, sasl:failure, db:result, stream:features,
    bidi, enabled, sm:failed, resumed, r, a, other, foo, db:result=valid, db:verify=valid
        → -
    auth
        → refused(capulet.example→montague.example) sasl:failure(not-authorized)
    abort
        → sasl:failure(aborted)
    db:verify
        → db:verify=invalid
    stream:error
        → close(host-unknown)
    compress
        → failure(unsupported-method)
    enable, resume
        → failed(unexpected-request)
    stanza
        → !not-authorized
    verdict: proven
        → granted(capulet.example→montague.example dialback) db:result=valid
    verdict: error
        → refused(capulet.example→montague.example) db:result=error(remote-server-timeout)
    verdict: invalid
        → refused(capulet.example→montague.example) db:result=invalid close
authorized by dialback
    header
        → !bad-format
    starttls
        → tls:failure close
    proceed, tls:failure, challenge, response, success, sasl:failure, stream:features, bidi,
    enabled, sm:failed, resumed, r, a, other, foo, db:result=valid, db:verify=valid
        → -
    auth
        → sasl:failure(not-authorized)
    abort
        → sasl:failure(aborted)
    db:result
        → db:result=valid
    db:verify
        → db:verify=invalid
    stream:error
        → close(host-unknown)
    compress
        → failure(unsupported-method)
    enable
        → manage()
    resume
        → failed(item-not-found)
    stanza
        → admitted(capulet.example→montague.example)
after SASL, before the header
    header
        → header features(dialback sm limits) granted(capulet.example→montague.example external)
    starttls, proceed, tls:failure, auth, abort, challenge, response, success, sasl:failure,
    db:result, db:verify, stream:features, compress, bidi, enable, enabled, sm:failed, resume,
    resumed, r, a, other, foo, db:result=valid, db:verify=valid, stanza
        → !not-authorized
    stream:error
        → close(host-unknown)
authorized by EXTERNAL
    header
        → !bad-format
    starttls
        → tls:failure close
    proceed, tls:failure, challenge, response, success, sasl:failure, stream:features, bidi,
    enabled, sm:failed, resumed, r, a, other, foo, db:result=valid, db:verify=valid
        → -
    auth
        → !policy-violation
    abort
        → sasl:failure(aborted)
    db:result
        → db:result=valid
    db:verify
        → db:verify=invalid
    stream:error
        → close(host-unknown)
    compress
        → failure(unsupported-method)
    enable
        → manage(resumable)
    resume
        → resume(s 0)
    stanza
        → admitted(capulet.example→montague.example)
";
const LEGACY_TABLE: &str = "
before the header
    header
        → header features(dialback)
    starttls, proceed, tls:failure, auth, abort, challenge, response, success, sasl:failure,
    db:result, db:verify, stream:features, compress, bidi, enable, enabled, sm:failed, resume,
    resumed, r, a, other, foo, db:result=valid, db:verify=valid, stanza
        → !not-authorized
    stream:error
        → close(host-unknown)
open
    header
        → !bad-format
    starttls
        → tls:failure close
    proceed, tls:failure, challenge, response, success, sasl:failure, stream:features, bidi,
    enable, enabled, sm:failed, resume, resumed, r, a, other, foo, db:result=valid,
    db:verify=valid
        → -
    auth
        → refused(montague.example→capulet.example) sasl:failure(encryption-required)
    abort
        → sasl:failure(aborted)
    db:result
        → prove(montague.example→capulet.example)
    db:verify
        → db:verify=invalid
    stream:error
        → close(host-unknown)
    compress
        → failure(unsupported-method)
    stanza
        → !not-authorized
dialback pending
    header
        → !bad-format
    starttls
        → tls:failure close
    proceed, tls:failure, challenge, response, success, sasl:failure, db:result, stream:features,
    bidi, enable, enabled, sm:failed, resume, resumed, r, a, other, foo, db:result=valid,
    db:verify=valid
        → -
    auth
        → refused(montague.example→capulet.example) sasl:failure(encryption-required)
    abort
        → sasl:failure(aborted)
    db:verify
        → db:verify=invalid
    stream:error
        → close(host-unknown)
    compress
        → failure(unsupported-method)
    stanza
        → !not-authorized
    verdict: proven
        → granted(montague.example→capulet.example dialback) db:result=valid
    verdict: error
        → refused(montague.example→capulet.example) db:result=error(remote-server-timeout)
    verdict: invalid
        → refused(montague.example→capulet.example) db:result=invalid close
authorized
    header
        → !bad-format
    starttls
        → tls:failure close
    proceed, tls:failure, challenge, response, success, sasl:failure, stream:features, bidi,
    enable, enabled, sm:failed, resume, resumed, r, a, other, foo, db:result=valid,
    db:verify=valid
        → -
    auth
        → sasl:failure(encryption-required)
    abort
        → sasl:failure(aborted)
    db:result
        → db:result=valid
    db:verify
        → db:verify=invalid
    stream:error
        → close(host-unknown)
    compress
        → failure(unsupported-method)
    stanza
        → admitted(montague.example→capulet.example)
";
const PEER_HEADERS: &str = "
in the clear
    from to, from to, other spelling, from to, id, lang, from to, version 1.7,
    from to, version 2.0
        → ['montague.example' 'capulet.example'] header features(starttls)
    from to, version 0.9, from to, version one, from to, no version
        → ['montague.example' 'capulet.example'] old-header !unsupported-version
    to
        → ['montague.example' -] header features(starttls)
    to, no version
        → ['montague.example' -] old-header !unsupported-version
    from
        → ['' 'capulet.example'] header features(starttls)
    nothing
        → ['' -] header features(starttls)
    nothing, no version
        → ['' -] old-header !unsupported-version
    to unknown, to empty, to a user, to an address
        → ['' 'capulet.example'] header !host-unknown
    from us
        → ['montague.example' 'montague.example'] header !not-authorized
    from empty, from a user, from one label
        → ['montague.example' -] header !improper-addressing
    from denied
        → ['montague.example' 'evil.example'] header !policy-violation
    from below denied
        → ['montague.example' 'x.evil.example'] header !policy-violation
behind TLS
    from to, from to, other spelling, from to, id, lang, from to, version 1.7,
    from to, version 2.0
        → ['montague.example' 'capulet.example'] header judge(capulet.example)
    from to, version 0.9, from to, version one, from to, no version
        → ['montague.example' 'capulet.example'] old-header !unsupported-version
    to
        → ['montague.example' -] header features(dialback bidi sm limits)
    to, no version
        → ['montague.example' -] old-header !unsupported-version
    from, to unknown, to empty, to a user, to an address
        → ['' 'capulet.example'] header !host-unknown
    nothing
        → ['' -] header !host-unknown
    nothing, no version
        → ['' -] old-header !unsupported-version
    from us
        → ['montague.example' 'montague.example'] header !not-authorized
    from empty, from a user, from one label
        → ['montague.example' -] header !improper-addressing
    from denied
        → ['montague.example' 'evil.example'] header !policy-violation
    from below denied
        → ['montague.example' 'x.evil.example'] header !policy-violation
after SASL
    from to, from to, other spelling, from to, id, lang, from to, version 1.7,
    from to, version 2.0
        → ['montague.example' 'capulet.example'] header features(dialback sm limits) granted(capulet.example→montague.example external)
    from to, version 0.9, from to, version one, from to, no version
        → ['montague.example' 'capulet.example'] old-header !unsupported-version
    to
        → ['montague.example' -] header !invalid-from
    to, no version
        → ['montague.example' -] old-header !unsupported-version
    from, to unknown, to empty, to a user, to an address
        → ['' 'capulet.example'] header !host-unknown
    nothing
        → ['' -] header !invalid-from
    nothing, no version
        → ['' -] old-header !unsupported-version
    from us
        → ['montague.example' 'montague.example'] header !not-authorized
    from empty, from a user, from one label
        → ['montague.example' -] header !improper-addressing
    from denied
        → ['montague.example' 'evil.example'] header !policy-violation
    from below denied
        → ['montague.example' 'x.evil.example'] header !policy-violation
";
const LEGACY_HEADERS: &str = "
in the clear
    from to, from to, other spelling, from to, id, lang, from to, version 1.7,
    from to, version 2.0
        → ['capulet.example' 'montague.example'] header features(dialback)
    from to, version 0.9, from to, version one, from to, no version
        → ['capulet.example' 'montague.example'] old-header
    to, from empty, from a user, from one label
        → ['capulet.example' -] header features(dialback)
    to, no version
        → ['capulet.example' -] old-header
    from
        → [- 'montague.example'] header features(dialback)
    nothing
        → [- -] header features(dialback)
    nothing, no version
        → [- -] old-header
    to unknown, to empty, to a user, to an address
        → [- 'montague.example'] header !host-unknown
    from us
        → ['capulet.example' 'capulet.example'] header features(dialback)
    from denied
        → ['capulet.example' 'evil.example'] header features(dialback)
    from below denied
        → ['capulet.example' 'x.evil.example'] header features(dialback)
";
const AUTH_TABLE: &str = "
    no authzid, equals sign, from, from, other spelling
        → success restart
    another domain of the certificate, a domain of ours, a user, NUL
        → refused(capulet.example→montague.example) sasl:failure(invalid-authzid)
    another mechanism, lower case, no mechanism
        → refused(capulet.example→montague.example) sasl:failure(invalid-mechanism)
    not padded, padding inside, white space, only white space, no base64, no UTF-8,
    bits left over
        → refused(capulet.example→montague.example) sasl:failure(incorrect-encoding)
";
const KEY_TABLE: &str = "
a peer asks
    they received, we initiated: public, our rooms initiated: public
        → db:verify=valid
    all else: db:verify=error(item-not-found), db:verify=invalid
the legacy server asks
    we received, they initiated: local,
    the other legacy server received: local of the other server
        → db:verify=valid
    all else: db:verify=error(item-not-found), db:verify=invalid
";
