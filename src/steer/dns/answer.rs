//! What to do with a query: pure, so that every question can be shown to get the right answer.
//!
//! The answers are as plain as DNS can be, for resolvers of any age: one record, its addresses
//! beside it, no EDNS unless the query had it, at most 512 bytes, the question echoed in its own
//! spelling (0x20).

use hickory_proto::{
    op::{Edns, Message, Metadata, OpCode, ResponseCode},
    rr::{DNSClass, Name, RData, Record, RecordType, rdata::SRV},
};

use super::Settings;
use crate::xmpp::Domain;

/// What becomes of a query.
#[derive(Clone, PartialEq, Debug)]
pub(super) enum Decision {
    /// The upstream knows.
    Forward,
    /// We know, or refuse.
    Reply(Message),
}

/// What becomes of some bytes.
#[derive(Clone, PartialEq, Debug)]
pub(super) enum Step {
    /// No answer could be right.
    Drop,
    Forward,
    Reply(Vec<u8>),
}

/// Judges bytes that came as a query. Answers are dropped, and never answered in turn.
pub(super) fn step(query: &[u8], settings: &Settings) -> Step {
    let Some(&[id_high, id_low, flags, ..]) = query.first_chunk::<HEADER>() else {
        return Step::Drop;
    };
    if flags & RESPONSE != 0 {
        return Step::Drop;
    }
    let decision = match Message::from_vec(query) {
        Ok(query) => answer(&query, settings),
        Err(_) => {
            let id = u16::from_be_bytes([id_high, id_low]);
            Decision::Reply(Message::error_msg(id, OpCode::Query, ResponseCode::FormErr))
        }
    };
    match decision {
        Decision::Forward => Step::Forward,
        Decision::Reply(reply) => reply.to_vec().map_or(Step::Drop, Step::Reply),
    }
}

/// Judges a query.
pub(super) fn answer(query: &Message, settings: &Settings) -> Decision {
    if query.op_code != OpCode::Query {
        return Decision::Reply(response(query, ResponseCode::NotImp));
    }
    let [question] = &query.queries[..] else {
        return Decision::Reply(response(query, ResponseCode::FormErr));
    };
    if question.query_class() != DNSClass::IN {
        return Decision::Forward;
    }
    let (name, kind) = (question.name(), question.query_type());
    let Some(target) = target() else { return Decision::Forward };
    if *name == target {
        let mut reply = response(query, ResponseCode::NoError);
        let asked = |record: &Record| kind == record.record_type() || kind == RecordType::ANY;
        reply.add_answers(address_records(&target, settings).filter(asked));
        return Decision::Reply(reply);
    }
    if nowhere().is_some_and(|nowhere| *name == nowhere) {
        return Decision::Reply(response(query, ResponseCode::NoError));
    }
    let Some(service) = service(name, settings) else { return Decision::Forward };
    let srv = |host: Name, port| {
        let mut reply = response(query, ResponseCode::NoError);
        let srv = SRV::new(0, 0, port, host);
        reply.add_answer(Record::from_rdata(name.clone(), TTL, RData::SRV(srv)));
        reply
    };
    match (service, kind) {
        (Service::Plain, RecordType::SRV | RecordType::ANY) => {
            let mut reply = srv(target.clone(), settings.port);
            reply.add_additionals(address_records(&target, settings));
            Decision::Reply(reply)
        }
        (Service::Nowhere, RecordType::SRV | RecordType::ANY) => {
            nowhere().map_or(Decision::Forward, |nowhere| Decision::Reply(srv(nowhere, PORT)))
        }
        (Service::DirectTls, RecordType::SRV | RecordType::ANY) => {
            Decision::Reply(response(query, ResponseCode::NoError))
        }
        (Service::DirectTls | Service::Nowhere | Service::Plain, _) => Decision::Forward,
    }
}

/// The SERVFAIL for a query that no upstream answered.
pub(super) fn failure(query: &[u8]) -> Option<Vec<u8>> {
    let query = Message::from_vec(query).ok()?;
    response(&query, ResponseCode::ServFail).to_vec().ok()
}

enum Service {
    DirectTls,
    /// Of what is no domain to fedgate.
    Nowhere,
    Plain,
}

/// The service of a remote domain that the name stands for.
fn service(name: &Name, settings: &Settings) -> Option<Service> {
    let labels: Vec<&[u8]> = name.iter().collect();
    let [first, second, domain @ ..] = &labels[..] else { return None };
    let service = match first.to_ascii_lowercase().as_slice() {
        b"_xmpp-server" | b"_jabber" => Service::Plain,
        b"_xmpps-server" => Service::DirectTls,
        _ => return None,
    };
    let is = |local: &Domain| {
        let local = local.as_str().split('.').map(str::as_bytes);
        local.map(Lower).eq(domain.iter().copied().map(Lower))
    };
    let remote = !domain.is_empty() && !settings.local_domains.iter().any(is);
    if !remote || !second.eq_ignore_ascii_case(b"_tcp") {
        return None;
    }
    Some(match service {
        Service::Plain if !is_domain(domain) => Service::Nowhere,
        service => service,
    })
}

/// Whether fedgate knows such a name for a domain, and will not refuse the legacy server's request
/// for it.
fn is_domain(labels: &[&[u8]]) -> bool {
    let text = labels.join(&b'.');
    let is_text = labels.iter().all(|label| !label.contains(&b'.'));
    is_text && std::str::from_utf8(&text).is_ok_and(|text| Domain::parse(text).is_ok())
}

/// A label; labels are equal whatever their case (RFC 4343).
struct Lower<'a>(&'a [u8]);

impl PartialEq for Lower<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.0.eq_ignore_ascii_case(other.0)
    }
}

/// Header, question and, if asked for, EDNS of the response.
fn response(query: &Message, code: ResponseCode) -> Message {
    let mut reply = Message::response(query.id, query.op_code);
    reply.metadata = Metadata::response_from_request(&query.metadata);
    reply.metadata.recursion_available = true;
    reply.metadata.response_code = code;
    reply.add_queries(query.queries.iter().cloned());
    if let Some(asked) = &query.edns {
        let mut edns = Edns::new();
        edns.set_max_payload(PAYLOAD).set_dnssec_ok(asked.flags().dnssec_ok);
        reply.set_edns(edns);
    }
    reply
}

fn address_records(name: &Name, settings: &Settings) -> impl Iterator<Item = Record> {
    let addresses = settings.addresses.iter();
    addresses.map(|address| Record::from_rdata(name.clone(), TTL, RData::from(*address)))
}

/// The host name of every remote domain's server: below `internal`, which the public DNS leaves
/// alone. Resolvers answer for `invalid` and `test` themselves.
fn target() -> Option<Name> {
    Name::from_ascii("steer.fedgate.internal.").ok()
}

/// A host without an address, for domains that there are none. Where there is no record at all old
/// servers go to the address of the domain itself (RFC 6120 §3.2.2), past fedgate and in the clear;
/// so does jabberd2 where the record has the root as its target.
fn nowhere() -> Option<Name> {
    Name::from_ascii("nowhere.fedgate.internal.").ok()
}

/// The port there.
const PORT: u16 = 5269;
/// Seconds for which the legacy server may remember a steered answer.
const TTL: u32 = 60;
/// The UDP payload that we announce (DNS flag day 2020).
const PAYLOAD: u16 = 1232;
/// Bytes of a DNS header.
const HEADER: usize = 12;
/// The bit of the third byte that marks an answer.
const RESPONSE: u8 = 0x80;
