//! Names in other spellings than their own: by the names that it wrote who asks knows the answer
//! (XEP-0220 §2.1). jabberd2 ends its stream over an answer with others.

use super::{super::pairs::SPELLINGS_MAX, *};
use crate::stream::wire::config;

const A: &str = "capulet.example";
const L: &str = "montague.example";
const PENDING: [&str; 3] = [A, "capulet.example.", "Capulet。EXAMPLE"];

fn ask(end: &mut Accepting, target: &str) -> String {
    end.xml(&request(L, target, None, "key"))
}

/// The names in the answers that it gave since the last call, in order: from whom to whom.
fn named(end: &mut Accepting) -> Vec<String> {
    let sent = String::from_utf8(end.sent()).unwrap();
    let names = |answer: &str| {
        let value = |name: &str| {
            let (_, rest) = answer.split_once(&format!(" {name}='")).unwrap();
            rest.split_once('\'').unwrap().0.to_owned()
        };
        format!("{} {}", value("from"), value("to"))
    };
    sent.split("<db:").skip(1).map(names).collect()
}

/// A stream of the legacy server that asked for the pair in several spellings.
fn pending() -> Accepting {
    let mut end = local();
    let words: Vec<_> = PENDING.iter().map(|target| ask(&mut end, target)).collect();
    assert_eq!(words, ["prove(montague.example→capulet.example)", "-", "-"]);
    end.sent();
    end
}

fn to_all() -> Vec<String> {
    PENDING.iter().map(|from| format!("{from} {L}")).collect()
}

#[test]
fn each_spelling_of_a_pending_pair_gets_the_answer() {
    let mut end = pending();
    assert_eq!(ask(&mut end, A), "-", "the same again is answered once");
    let granted = "granted(montague.example→capulet.example dialback)";
    let valid = " db:result=valid".repeat(PENDING.len());
    assert_eq!(end.confirm(), format!("{granted}{valid}"));
    assert_eq!(named(&mut end), to_all());

    let mut end = pending();
    let refused = "refused(montague.example→capulet.example)";
    let error = " db:result=error(forbidden)".repeat(PENDING.len());
    let said = words(&end.answer_error(StanzaCondition::Forbidden));
    assert_eq!(said, format!("{refused}{error}"));
    assert_eq!(named(&mut end), to_all());

    let mut end = pending();
    let invalid = " db:result=invalid".repeat(PENDING.len());
    assert_eq!(words(&end.answer_invalid()), format!("{refused}{invalid} close"));
    assert_eq!(named(&mut end), to_all());
}

#[test]
fn an_answer_that_is_known_at_once_has_the_names_that_came() {
    let peer = || authorized(behind_tls(false), A, L);
    let old = || authorized(local(), L, A);
    for (mut end, from, to, id, words) in [
        (old(), L, "capulet.example.", None, "db:result=valid"),
        (old(), "Montague.Example", "capulet。example", None, "db:result=valid"),
        (old(), L, "montague.example.", None, "db:result=error(item-not-found)"),
        (old(), "capulet.example.", A, None, "db:result=error(not-authorized)"),
        (old(), L, "capulet.example.", Some("id"), "db:verify=invalid"),
        (peer(), "capulet.example.", "MONTAGUE.example", None, "db:result=valid"),
        (peer(), "evil.example.", L, None, "db:result=error(forbidden)"),
        (peer(), "capulet.example.", L, Some("id"), "db:verify=invalid"),
    ] {
        end.sent();
        let said = end.xml(&request(from, to, id, "key"));
        assert!(said.ends_with(words), "{from} {to}: {said}");
        assert_eq!(named(&mut end), [format!("{to} {from}")]);
    }
    // neither form of an international name is put in place of the other
    for form in ["xn--bcher-kva.example", "b\u{fc}cher.example"] {
        let mut end = local();
        ask(&mut end, form);
        end.sent();
        end.confirm();
        assert_eq!(named(&mut end), [format!("{form} {L}")]);
    }
}

#[test]
fn requests_that_wait_keep_their_names() {
    let mut end = local();
    for n in 0..3 {
        ask(&mut end, &format!("d{n}.example"));
    }
    for target in PENDING {
        assert_eq!(ask(&mut end, target), "-", "no turn yet");
    }
    end.sent();
    assert!(end.confirm().ends_with("prove(montague.example→capulet.example)"));
    while !end.challenges.is_empty() {
        end.confirm();
    }
    assert_eq!(named(&mut end)[3..], to_all());

    // nobody is served on it any more when they have their turn
    let mut end = local();
    for target in ["d0.example", "d1.example", "d2.example"].into_iter().chain(PENDING) {
        ask(&mut end, target);
    }
    end.sent();
    let yaml = crate::stream::wire::CONFIG
        .replace("[verona.example]", "[verona.example, capulet.example]");
    end.machine.reconfigure(config(&yaml)).unwrap();
    end.confirm();
    assert_eq!(named(&mut end)[1..], to_all());
}

#[test]
fn spellings_of_one_pair_are_bounded() {
    let mut end = local();
    let spelling = |n: usize| {
        let (first, rest) = A.split_at(n);
        format!("{}{rest}", first.to_uppercase())
    };
    for n in 0..SPELLINGS_MAX {
        ask(&mut end, &spelling(n));
    }
    end.sent();
    let full = "full(PendingVerifications) db:result=error(resource-constraint)";
    assert_eq!(ask(&mut end, &spelling(SPELLINGS_MAX)), full);
    assert_eq!(named(&mut end), [format!("{} {L}", spelling(SPELLINGS_MAX))]);
    end.confirm();
    assert_eq!(named(&mut end).len(), SPELLINGS_MAX);
    // so is their length: soft hyphens count for nothing
    let padded = |bytes: usize| format!("{A}{}", "\u{ad}".repeat((bytes - A.len()) / 2));
    assert_eq!(ask(&mut end, &padded(1023)), "db:result=valid");
    assert_eq!(ask(&mut end, &padded(1025)), "db:result=error(item-not-found)");
    let long = request(&padded(1025), L, None, "key");
    assert_eq!(behind_tls(false).xml(&long), "!improper-addressing");
}
