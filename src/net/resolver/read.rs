//! What one answer of the name servers says of exactly the name that was asked, and what it is
//! worth as a whole. Pure.
//!
//! Some things are held against the validator's word. An answer expanded from a wildcard needs
//! proof that there is none without: the validator does not ask for it beside an insecure record in
//! the authority section, and of NSEC records it takes some that prove too little, and not others
//! that prove enough. A denial by
//! an insecure zone counts for names in that zone only. And a CNAME that follows from a signed
//! DNAME is as good as that, though it bears no signature (RFC 6672 §5.3.1).

use hickory_resolver::{
    net::{DnsError, NetError, NoRecords},
    proto::{
        dnssec::{
            Proof,
            rdata::{DNSSECRData, RRSIG, SigInput},
        },
        op::{DnsResponse, ResponseCode},
        rr::{Name, RData, Record, RecordType},
        serialize::binary::{BinDecodable, BinDecoder},
    },
};

use crate::auth::dane::Security;

/// One answer.
#[derive(Clone, Debug)]
pub(super) struct Step {
    pub(super) found: Found,
    pub(super) security: Security,
    /// Seconds.
    pub(super) ttl: u32,
}

#[derive(Clone, Debug)]
pub(super) enum Found {
    /// The name is another name for this one.
    Alias(Name),
    /// There is nothing of that type.
    Nothing,
    Records(Vec<RData>),
}

/// Why there is no answer that could be used.
#[derive(Debug)]
pub(super) enum Unanswered {
    /// It should be signed, and is not, or wrongly; or it cannot be told.
    Bogus,
    Failed(NetError),
}

/// Reads an answer that was validated record by record.
pub(super) fn read(
    response: &DnsResponse,
    owner: &Name,
    kind: RecordType,
) -> Result<Step, Unanswered> {
    check_code(response.response_code)?;
    let records = about(&response.answers, owner, kind);
    let Some(first) = records.first() else {
        return denial(response, owner);
    };
    let security = match security(&records) {
        Ok(Security::Secure) if is_proven_expansion(response, owner, first) => Security::Secure,
        Ok(Security::Secure) => return Err(Unanswered::Bogus),
        other => match &first.data {
            RData::CNAME(target) => match dname(&response.answers, owner, &target.0) {
                Some(dname) => security(&[dname])?,
                None => other?,
            },
            _ => other?,
        },
    };
    Ok(step(&records, kind, security))
}

/// Reads an answer that nobody has validated but, if at all, the server.
pub(super) fn plain(
    result: Result<DnsResponse, NetError>,
    owner: &Name,
    kind: RecordType,
) -> Result<Step, Unanswered> {
    let response = match result {
        Ok(response) => response,
        Err(NetError::Dns(DnsError::NoRecordsFound(none))) => return nothing(&none),
        Err(cause) => return Err(Unanswered::Failed(cause)),
    };
    check_code(response.response_code)?;
    let records = about(&response.answers, owner, kind);
    let security = match response.authentic_data {
        true => Security::Secure,
        false => Security::Insecure,
    };
    Ok(step(&records, kind, security))
}

/// An answer without records. Of its AD bit hickory keeps nothing: a denial is never secure then,
/// which changes no decision of RFC 7673.
fn nothing(none: &NoRecords) -> Result<Step, Unanswered> {
    check_code(none.response_code)?;
    if none.response_code == ResponseCode::NoError && none.ns.is_some() && none.soa.is_none() {
        return Err(Unanswered::Failed(REFERRAL));
    }
    let ttl = none.negative_ttl.unwrap_or(0);
    Ok(Step { found: Found::Nothing, security: Security::Insecure, ttl })
}

fn check_code(code: ResponseCode) -> Result<(), Unanswered> {
    match code {
        ResponseCode::NoError | ResponseCode::NXDomain => Ok(()),
        code => Err(Unanswered::Failed(NetError::Dns(DnsError::ResponseCode(code)))),
    }
}

fn step(records: &[&Record], kind: RecordType, security: Security) -> Step {
    let ttl = records.iter().map(|record| record.ttl).min().unwrap_or(0);
    let found = match records.first().map(|record| &record.data) {
        None => Found::Nothing,
        Some(RData::CNAME(target)) if kind != RecordType::CNAME => Found::Alias(target.0.clone()),
        Some(_) => Found::Records(records.iter().map(|record| record.data.clone()).collect()),
    };
    Step { found, security, ttl }
}

fn at<'a>(
    answers: &'a [Record],
    owner: &'a Name,
    kind: RecordType,
) -> impl Iterator<Item = &'a Record> {
    answers.iter().filter(move |record| record.record_type() == kind && record.name == *owner)
}

/// The records of that type at the name, or else the alias there.
fn about<'a>(answers: &'a [Record], owner: &'a Name, kind: RecordType) -> Vec<&'a Record> {
    let records: Vec<_> = at(answers, owner, kind).collect();
    match records.is_empty() {
        true => cname(answers, owner).into_iter().collect(),
        false => records,
    }
}

pub(super) fn cname<'a>(answers: &'a [Record], owner: &'a Name) -> Option<&'a Record> {
    at(answers, owner, RecordType::CNAME).next()
}

/// The least of the records' states.
fn security(records: &[&Record]) -> Result<Security, Unanswered> {
    let mut least = Security::Secure;
    for record in records {
        match record.proof {
            Proof::Secure => {}
            Proof::Insecure => least = Security::Insecure,
            Proof::Bogus | Proof::Indeterminate => return Err(Unanswered::Bogus),
        }
    }
    Ok(least)
}

/// Whether secure records stand under their very name, or else it was shown that none do, nor a
/// closer wildcard (RFC 4035 §5.3.4): by NSEC3 records, which the validator has looked at, or NSEC.
fn is_proven_expansion(response: &DnsResponse, owner: &Name, record: &Record) -> bool {
    let mut signatures = signatures(&response.answers, record);
    let is_expanded = signatures.any(|signature| is_shorter(signature, &record.name));
    !is_expanded
        || has_denial(response, RecordType::NSEC3)
        || is_expanded_by_nsec(response, owner, record.record_type())
}

/// Whether the secure records at the name are expanded from a wildcard, and a secure NSEC record
/// of the same zone shows that no name is closer (RFC 4035 §5.3.4). The validator also wants it
/// shown that the wildcard is not there, which it is.
pub(super) fn is_expanded_by_nsec(response: &DnsResponse, owner: &Name, kind: RecordType) -> bool {
    let records = about(&response.answers, owner, kind);
    let Some(first) = records.first() else { return false };
    if !matches!(security(&records), Ok(Security::Secure)) {
        return false;
    }
    let mut used = secure_signatures(&response.answers, first);
    let Some(used) = used.find(|signature| is_shorter(signature, owner)) else { return false };
    let SigInput { num_labels, signer_name: zone, .. } = used.input();
    // the first name under that of the wildcard's parent: nothing is there, nor below
    let closer = owner.trim_to(usize::from(*num_labels) + 1);
    response.authorities.iter().filter(|record| record.proof.is_secure()).any(|record| {
        let RData::DNSSEC(DNSSECRData::NSEC(nsec)) = &record.data else { return false };
        let mut of_nsec = secure_signatures(&response.authorities, record);
        let next = nsec.next_domain_name();
        let is_other_zone = |kind| nsec.type_set().contains(kind) && record.name.zone_of(&closer);
        of_nsec.any(|signature| signature.input().signer_name == *zone)
            && !nsec.is_ancestor_delegation()
            && !is_other_zone(RecordType::DNAME)
            && record.name < closer
            && (closer < *next || *next == *zone)
            && !closer.zone_of(next)
    })
}

/// The signatures of the set that the record is of.
fn signatures<'a>(
    section: &'a [Record],
    of: &'a Record,
) -> impl Iterator<Item = &'a RRSIG> + use<'a> {
    signature_records(section, of).map(|(_, signature)| signature)
}

/// Those of them by which the set was found to be secure.
fn secure_signatures<'a>(
    section: &'a [Record],
    of: &'a Record,
) -> impl Iterator<Item = &'a RRSIG> + use<'a> {
    let all = signature_records(section, of);
    all.filter(|(record, _)| record.proof.is_secure()).map(|(_, signature)| signature)
}

fn signature_records<'a>(
    section: &'a [Record],
    of: &'a Record,
) -> impl Iterator<Item = (&'a Record, &'a RRSIG)> + use<'a> {
    section.iter().filter_map(move |record| match &record.data {
        RData::DNSSEC(DNSSECRData::RRSIG(signature))
            if record.name == of.name && signature.input().type_covered == of.record_type() =>
        {
            Some((record, signature))
        }
        _ => None,
    })
}

/// Whether the signature was made for a wildcard above the name.
fn is_shorter(signature: &RRSIG, name: &Name) -> bool {
    signature.input().num_labels < name.num_labels()
}

fn has_denial(response: &DnsResponse, kind: RecordType) -> bool {
    let mut authorities = response.authorities.iter();
    authorities.any(|record| record.record_type() == kind && record.proof.is_secure())
}

/// An answer that has nothing for the name.
fn denial(response: &DnsResponse, owner: &Name) -> Result<Step, Unanswered> {
    let authorities = &response.authorities;
    let holds = |kind| authorities.iter().any(|record| record.record_type() == kind);
    if response.response_code == ResponseCode::NoError
        && holds(RecordType::NS)
        && !holds(RecordType::SOA)
    {
        return Err(Unanswered::Failed(REFERRAL));
    }
    let is_denied = |kind| has_denial(response, kind);
    let security = if is_denied(RecordType::NSEC) || is_denied(RecordType::NSEC3) {
        Security::Secure
    } else if !authorities.is_empty() && authorities.iter().all(|record| record.proof.is_insecure())
    {
        // The validator asks for nothing more then, wherever the insecure zone is.
        match authorities.iter().any(|record| record.name.zone_of(owner)) {
            true => Security::Insecure,
            false => return Err(Unanswered::Bogus),
        }
    } else {
        Security::Insecure
    };
    let ttl = response.negative_ttl().unwrap_or(0);
    Ok(Step { found: Found::Nothing, security, ttl })
}

/// The DNAME record from which it follows that `owner` is an alias of `target`.
fn dname<'a>(answers: &'a [Record], owner: &Name, target: &Name) -> Option<&'a Record> {
    answers.iter().find(|record| {
        let RData::Unknown { code: RecordType::DNAME, rdata } = &record.data else {
            return false;
        };
        let zone = &record.name;
        let mut decoder = BinDecoder::new(&rdata.anything);
        let Ok(new) = Name::read(&mut decoder) else { return false };
        if !decoder.is_empty() || !zone.zone_of(owner) || zone.num_labels() >= owner.num_labels() {
            return false;
        }
        let kept = usize::from(owner.num_labels() - zone.num_labels());
        let prefix = Name::from_labels(owner.iter().take(kept));
        let whole = prefix.and_then(|prefix| prefix.append_domain(&new));
        whole.is_ok_and(|whole| whole == *target)
    })
}

/// A referral, name servers and no SOA, is no answer (RFC 2308 §2.2).
const REFERRAL: NetError = NetError::Message("a referral instead of an answer");
