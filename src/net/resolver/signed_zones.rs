//! Signed zones for tests: a tree of zones, with keys made when the test runs, that answers as a
//! recursive name server does which validates nothing. Every answer is signed when it is given,
//! and negative ones carry their NSEC or NSEC3 records (RFC 4035 §3, RFC 5155 §7).

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::SystemTime,
};

use hickory_proto::{
    dnssec::{
        Algorithm, DigestType, Nsec3HashAlgorithm, PublicKey, SigningKey, TBS,
        crypto::EcdsaSigningKey,
        rdata::{DNSKEY, DNSSECRData, DS, NSEC, NSEC3, RRSIG, SigInput},
    },
    op::ResponseCode,
    rr::{
        DNSClass, Name, RData, Record, RecordType, SerialNumber,
        rdata::{CNAME, NULL, SOA},
    },
    serialize::binary::BinEncodable,
};

use crate::net::fake_dns::{Reply, Source, fqdn};

/// The tree, root first.
pub(crate) struct World(Vec<SignedZone>);

pub(crate) struct SignedZone {
    apex: Name,
    keys: Option<Keys>,
    denial: Denial,
    records: BTreeMap<Name, Vec<Record>>,
    /// From and until when signatures are good, in seconds from now.
    times: (i64, i64),
    fault: Option<Fault>,
}

/// What is wrong with a zone.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Fault {
    /// Its parent vouches for another key.
    ForeignDs,
    /// The zone above has none.
    Island,
    /// Records are changed after they were signed.
    Tampered,
    /// It has DS records in its parent, and no signatures.
    Stripped,
    /// Denials come without their proofs.
    Unproven,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Denial {
    Nsec,
    Nsec3,
    OptOut,
}

struct Keys {
    /// Signs the keys; known to the parent.
    entry: EcdsaSigningKey,
    /// Signs all else.
    zone: EcdsaSigningKey,
}

impl Keys {
    fn new() -> Self {
        let key = || {
            let der = EcdsaSigningKey::generate_pkcs8(Algorithm::ECDSAP256SHA256).unwrap();
            EcdsaSigningKey::from_pkcs8(&der, Algorithm::ECDSAP256SHA256).unwrap()
        };
        Self { entry: key(), zone: key() }
    }

    fn records(&self) -> [DNSKEY; 2] {
        let key = |key: &EcdsaSigningKey, entry| {
            DNSKEY::new(true, entry, false, key.to_public_key().unwrap())
        };
        [key(&self.entry, true), key(&self.zone, false)]
    }
}

impl SignedZone {
    /// A zone with a key and nothing in it.
    pub(crate) fn new(apex: &str) -> Self {
        let apex = fqdn(apex);
        let soa = SOA::new(fqdn("ns.test"), fqdn("root.test"), 1, 1, 1, 1, 30);
        let mut zone = Self {
            apex: apex.clone(),
            keys: Some(Keys::new()),
            denial: Denial::Nsec,
            records: BTreeMap::new(),
            times: (-3600, 86_400),
            fault: None,
        };
        zone.add(Record::from_rdata(apex.clone(), 300, RData::SOA(soa)));
        let ns = RData::try_from_str(RecordType::NS, "ns.test.").unwrap();
        zone.add(Record::from_rdata(apex, 300, ns));
        let keys = zone.keys.as_ref().map(Keys::records).into_iter().flatten();
        for key in keys.collect::<Vec<_>>() {
            let data = RData::DNSSEC(DNSSECRData::DNSKEY(key));
            zone.add(Record::from_rdata(zone.apex.clone(), 300, data));
        }
        zone
    }

    pub(crate) fn unsigned(apex: &str) -> Self {
        let mut zone = Self { keys: None, ..Self::new(apex) };
        let apex = zone.apex.clone();
        let at_apex = zone.records.get_mut(&apex).unwrap();
        at_apex.retain(|record| record.record_type() != RecordType::DNSKEY);
        zone
    }

    pub(crate) fn denying(self, denial: Denial) -> Self {
        Self { denial, ..self }
    }

    pub(crate) fn signed_between(self, from: i64, to: i64) -> Self {
        Self { times: (from, to), ..self }
    }

    pub(crate) fn with(self, fault: Fault) -> Self {
        Self { fault: Some(fault), ..self }
    }

    /// A record in the form of zone files, its name relative to the zone.
    pub(crate) fn record(mut self, name: &str, kind: RecordType, data: &str) -> Self {
        let data = RData::try_from_str(kind, data).unwrap();
        self.add(Record::from_rdata(self.name(name), 300, data));
        self
    }

    /// A DNAME record.
    pub(crate) fn dname(mut self, name: &str, target: &str) -> Self {
        let rdata = NULL::with(fqdn(target).to_bytes().unwrap());
        let data = RData::Unknown { code: RecordType::DNAME, rdata };
        self.add(Record::from_rdata(self.name(name), 300, data));
        self
    }

    /// The anchor of the zone, as DNSKEY and as DS record in the form of zone files.
    pub(crate) fn anchors(&self) -> [String; 2] {
        let [entry, _] = self.keys.as_ref().unwrap().records();
        let data = entry.public_key().public_bytes();
        let key = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, data);
        let ds = ds(&self.apex, &entry);
        let digest: String = ds.digest().iter().map(|byte| format!("{byte:02X}")).collect();
        [
            format!("{} 3600 IN DNSKEY 257 3 13 {key}\n", self.apex),
            format!("{} IN DS {} 13 2 {digest}\n", self.apex, ds.key_tag()),
        ]
    }

    fn name(&self, relative: &str) -> Name {
        let dot = if self.apex.is_root() || relative.is_empty() { "" } else { "." };
        fqdn(&format!("{relative}{dot}{}", self.apex))
    }

    fn add(&mut self, record: Record) {
        self.records.entry(record.name.clone()).or_default().push(record);
    }

    fn is_cut(&self, name: &Name) -> bool {
        *name != self.apex && self.kinds(name).contains(&RecordType::NS)
    }

    fn kinds(&self, name: &Name) -> BTreeSet<RecordType> {
        self.records.get(name).into_iter().flatten().map(Record::record_type).collect()
    }

    fn set(&self, name: &Name, kind: RecordType) -> Vec<Record> {
        let all = self.records.get(name).into_iter().flatten();
        all.filter(|record| record.record_type() == kind).cloned().collect()
    }

    /// A set of records with its signature, under the owner name that was asked.
    fn signed(&self, set: Vec<Record>, owner: &Name) -> Vec<Record> {
        let Some(first) = set.first().cloned() else { return set };
        let (kind, written) = (first.record_type(), first.name);
        let mut answer: Vec<Record> = set.clone();
        answer.iter_mut().for_each(|record| record.name = owner.clone());
        let is_delegation = kind == RecordType::NS && self.is_cut(&written);
        if let (Some(keys), false) = (&self.keys, is_delegation)
            && self.fault != Some(Fault::Stripped)
        {
            let of_keys = kind == RecordType::DNSKEY;
            let key = if of_keys { &keys.entry } else { &keys.zone };
            let [entry, zone] = keys.records();
            let tag = if of_keys { entry } else { zone }.calculate_key_tag().unwrap();
            let now = SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs() as i64;
            let input = SigInput {
                type_covered: kind,
                algorithm: key.algorithm(),
                num_labels: written.num_labels(),
                original_ttl: 300,
                sig_expiration: SerialNumber::new((now + self.times.1) as u32),
                sig_inception: SerialNumber::new((now + self.times.0) as u32),
                key_tag: tag,
                signer_name: self.apex.clone(),
            };
            let tbs = TBS::from_input(&written, DNSClass::IN, &input, set.iter()).unwrap();
            let signature = RRSIG::from_sig(input, key.sign(&tbs).unwrap());
            let data = RData::DNSSEC(DNSSECRData::RRSIG(signature));
            answer.push(Record::from_rdata(owner.clone(), 300, data));
        }
        let is_data = !matches!(kind, RecordType::DNSKEY | RecordType::SOA | RecordType::NS);
        if self.fault == Some(Fault::Tampered) && is_data {
            for record in &mut answer {
                match &mut record.data {
                    RData::SRV(srv) => srv.port ^= 1,
                    RData::TLSA(tlsa) => tlsa.cert_data[0] ^= 1,
                    RData::A(a) => *a = std::net::Ipv4Addr::new(192, 0, 2, 66).into(),
                    _ => {}
                }
            }
        }
        answer
    }

    /// The names that exist, those that are only on the way to others included.
    fn exists(&self, name: &Name) -> bool {
        self.records.keys().any(|known| name.zone_of(known))
    }

    fn closest_encloser(&self, name: &Name) -> Name {
        let mut name = name.base_name();
        while !self.exists(&name) {
            name = name.base_name();
        }
        name
    }

    fn star(&self, name: &Name) -> Name {
        self.closest_encloser(name).prepend_label("*").unwrap()
    }

    /// SOA and the proofs that there is nothing of that kind at the name, or no such name.
    fn denies(&self, name: &Name, wildcard_too: bool) -> Vec<Record> {
        let mut authorities = self.signed(self.set(&self.apex, RecordType::SOA), &self.apex);
        if self.keys.is_none() || self.fault == Some(Fault::Unproven) {
            return authorities;
        }
        let mut proofs = BTreeMap::new();
        let star = self.star(name);
        let is_there = self.exists(name);
        if self.denial == Denial::Nsec {
            let mut of = |name: &Name| {
                let record = self.nsec(name);
                proofs.insert(record.name.clone(), record);
            };
            of(name);
            if !is_there && wildcard_too {
                of(&star);
            }
        } else {
            let mut of = |name: &Name| {
                let record = self.nsec3(name);
                proofs.insert(record.name.clone(), record);
            };
            let closest = self.closest_encloser(name);
            let labels = usize::from(closest.num_labels()) + 1;
            if is_there && self.is_hashed(name) {
                of(name);
            } else {
                of(&closest);
                of(&name.trim_to(labels));
                if !is_there && wildcard_too {
                    of(&star);
                }
            }
        }
        for record in proofs.into_values() {
            let owner = record.name.clone();
            authorities.extend(self.signed(vec![record], &owner));
        }
        authorities
    }

    /// The NSEC record at the name, or the one that covers it.
    fn nsec(&self, name: &Name) -> Record {
        let names: Vec<&Name> = self.records.keys().collect();
        let at = names.iter().rposition(|known| *known <= name).unwrap();
        let (owner, next) = (names[at], names[(at + 1) % names.len()]);
        let mut kinds = self.kinds(owner);
        kinds.extend([RecordType::NSEC, RecordType::RRSIG]);
        let nsec = NSEC::new(next.clone(), kinds);
        Record::from_rdata(owner.clone(), 300, RData::DNSSEC(DNSSECRData::NSEC(nsec)))
    }

    fn is_hashed(&self, name: &Name) -> bool {
        let is_left_out = self.denial == Denial::OptOut
            && self.is_cut(name)
            && !self.kinds(name).contains(&RecordType::DS);
        self.exists(name) && !is_left_out
    }

    /// The NSEC3 record of the name's hash, or the one that covers it.
    fn nsec3(&self, name: &Name) -> Record {
        let hash =
            |name: &Name| Nsec3HashAlgorithm::SHA1.hash(&[], name, 0).unwrap().as_ref().to_vec();
        let mut hashed = BTreeMap::new();
        for known in self.records.keys().filter(|known| self.is_hashed(known)) {
            let mut known = known.clone();
            while self.apex.zone_of(&known) {
                hashed.insert(hash(&known), known.clone());
                if known.is_root() {
                    break;
                }
                known = known.base_name();
            }
        }
        let wanted = hash(name);
        let below = hashed.range(..=wanted).next_back().or(hashed.last_key_value());
        let (owner, known) = below.unwrap();
        let after = (std::ops::Bound::Excluded(owner.clone()), std::ops::Bound::Unbounded);
        let next = hashed.range(after).next().or(hashed.first_key_value()).unwrap().0;
        let mut kinds = self.kinds(known);
        if !kinds.is_empty() {
            kinds.insert(RecordType::RRSIG);
        }
        let opt_out = self.denial == Denial::OptOut;
        let algorithm = Nsec3HashAlgorithm::SHA1;
        let nsec3 = NSEC3::new(algorithm, opt_out, 0, vec![], next.clone(), kinds);
        let owner = self.apex.prepend_label(base32hex(owner)).unwrap();
        Record::from_rdata(owner, 300, RData::DNSSEC(DNSSECRData::NSEC3(nsec3)))
    }
}

impl World {
    /// Zones, parents before their children; each gets its NS and, if it is signed, its DS record
    /// in its parent.
    pub(crate) fn new(zones: Vec<SignedZone>) -> Self {
        let mut world = Self(Vec::new());
        for zone in zones {
            let parent = world.zone_of(&zone.apex);
            if let Some(parent) = parent {
                let parent = &mut world.0[parent];
                let ns = RData::try_from_str(RecordType::NS, "ns.test.").unwrap();
                parent.add(Record::from_rdata(zone.apex.clone(), 300, ns));
                let foreign = (zone.fault == Some(Fault::ForeignDs)).then(Keys::new);
                let own = zone.keys.as_ref().filter(|_| zone.fault != Some(Fault::Island));
                if let Some(keys) = foreign.as_ref().or(own) {
                    let [entry, _] = keys.records();
                    let data = RData::DNSSEC(DNSSECRData::DS(ds(&zone.apex, &entry)));
                    parent.add(Record::from_rdata(zone.apex.clone(), 300, data));
                }
            }
            world.0.push(zone);
        }
        world
    }

    pub(crate) fn zone(&self, apex: &str) -> &SignedZone {
        self.0.iter().find(|zone| zone.apex == fqdn(apex)).unwrap()
    }

    pub(crate) fn source(self: &Arc<Self>) -> Source {
        let world = Arc::clone(self);
        Arc::new(move |name, kind| world.answer(name, kind))
    }

    pub(crate) fn answer(&self, name: &Name, kind: RecordType) -> Reply {
        let mut name = name.clone();
        let mut answers = Vec::new();
        let mut authorities = Vec::new();
        let mut code = ResponseCode::NoError;
        for _ in 0..8 {
            let at = match kind {
                // a DS record is its parent's
                RecordType::DS if !name.is_root() => self.zone_of(&name.base_name()),
                _ => self.zone_of(&name),
            };
            let Some(at) = at else { return Reply::Code(ResponseCode::Refused) };
            let zone = &self.0[at];
            let set = zone.set(&name, kind);
            if !set.is_empty() {
                answers.extend(zone.signed(set, &name));
                break;
            }
            let alias = zone.set(&name, RecordType::CNAME);
            if let Some(RData::CNAME(target)) = alias.first().map(|record| record.data.clone()) {
                answers.extend(zone.signed(alias, &name));
                if kind == RecordType::CNAME {
                    break;
                }
                name = target.0;
                continue;
            }
            if let Some((dname, target)) = zone.renamed(&name) {
                let owner = dname[0].name.clone();
                answers.extend(zone.signed(dname, &owner));
                let data = RData::CNAME(CNAME(target.clone()));
                answers.push(Record::from_rdata(name.clone(), 300, data));
                if kind == RecordType::CNAME {
                    break;
                }
                name = target;
                continue;
            }
            if !zone.exists(&name) {
                let wild = zone.set(&zone.star(&name), kind);
                if !wild.is_empty() {
                    answers.extend(zone.signed(wild, &name));
                    let mut proofs = zone.denies(&name, false);
                    proofs.retain(|record| record.name != zone.apex || zone.keys.is_none());
                    authorities = proofs;
                    break;
                }
                if !zone.exists(&zone.star(&name)) {
                    code = ResponseCode::NXDomain;
                }
            }
            authorities = zone.denies(&name, true);
            break;
        }
        Reply::Full { code, answers, authorities, authentic: false }
    }

    /// The deepest zone that holds the name.
    fn zone_of(&self, name: &Name) -> Option<usize> {
        let holding = (0..self.0.len()).filter(|at| self.0[*at].apex.zone_of(name));
        holding.max_by_key(|at| self.0[*at].apex.num_labels())
    }
}

impl SignedZone {
    /// The DNAME record above the name, and what the name becomes by it.
    fn renamed(&self, name: &Name) -> Option<(Vec<Record>, Name)> {
        let (owner, _) = self.records.iter().find(|(owner, _)| {
            *owner != name && owner.zone_of(name) && self.kinds(owner).contains(&RecordType::DNAME)
        })?;
        let set = self.set(owner, RecordType::DNAME);
        let RData::Unknown { rdata, .. } = &set[0].data else { return None };
        let target: Name =
            hickory_proto::serialize::binary::BinDecodable::from_bytes(&rdata.anything).ok()?;
        let kept = usize::from(name.num_labels() - owner.num_labels());
        let prefix = Name::from_labels(name.iter().take(kept)).unwrap();
        Some((set, prefix.append_domain(&target).unwrap()))
    }
}

fn ds(zone: &Name, key: &DNSKEY) -> DS {
    let digest = key.to_digest(zone, DigestType::SHA256).unwrap().as_ref().to_vec();
    DS::new(
        key.calculate_key_tag().unwrap(),
        Algorithm::ECDSAP256SHA256,
        DigestType::SHA256,
        digest,
    )
}

/// RFC 4648 §7, without padding: 20 bytes are 32 letters.
fn base32hex(bytes: &[u8]) -> String {
    let mut out = String::new();
    for five in bytes.chunks(5) {
        let number = five.iter().fold(0_u64, |number, byte| number << 8 | u64::from(*byte));
        for n in (0..8).rev() {
            let digit = (number >> (5 * n)) as usize & 31;
            out.push(char::from(b"0123456789abcdefghijklmnopqrstuv"[digit]));
        }
    }
    out
}
