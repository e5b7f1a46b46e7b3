//! One question to the name servers, and how far the answer can be trusted (RFC 4035 §4.3 and §5;
//! protocol rules DNS-11, DA-1).
//!
//! hickory-net validates each set of records of an answer by itself; what the answer as a whole is
//! worth is decided here, for exactly the name that was asked. Of an alias only the first step is
//! taken, the caller asks again behind it: nothing depends on what else came in the same message.
//!
//! Reading an answer is in [`read`](super::read).

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use hickory_resolver::{
    config::ResolverOpts,
    net::{
        DnsError, NetError,
        dnssec::DnssecDnsHandle,
        xfer::{DnsHandle, FirstAnswer},
    },
    proto::{
        dnssec::{Proof, TrustAnchors},
        op::{DnsRequest, DnsRequestOptions, Query},
        rr::{Name, RecordType},
    },
};
use tokio::sync::Mutex;

use super::{
    anchors::Anchors,
    read::{Found, Step, Unanswered, cname, is_expanded_by_nsec, plain, read},
    servers::Servers,
};
use crate::auth::dane::Security;

/// On what an answer is trusted.
pub(super) enum Trust {
    /// On the servers' word: they are on this host, and validate.
    AdBit,
    /// On its signatures, from these anchors down.
    Anchors(Anchors),
    /// On nothing: all is insecure.
    Nothing,
}

/// The name servers, and on what their answers are trusted.
pub(super) struct Asker {
    servers: Servers,
    options: DnsRequestOptions,
    trust: Trust,
    /// One for each zone that has an anchor, with its keys alone: what its own anchor does not vouch
    /// for is bogus there, whatever the zones above say (RFC 4033 §5, RFC 6840 §C.1). Made when it is
    /// first needed, for its keys may have to be fetched.
    validators: BTreeMap<Name, Mutex<Option<Validator>>>,
}

#[derive(Clone)]
struct Validator {
    handle: DnssecDnsHandle<Servers>,
    since: Instant,
    /// When the zones' keys have to be fetched again.
    until: Option<Instant>,
}

impl Asker {
    pub(super) fn new(
        servers: &[SocketAddr],
        timeout: Duration,
        trust: Trust,
    ) -> Result<Self, NetError> {
        let mut options = DnsRequestOptions::default();
        options.use_edns = true;
        options.edns_payload_len = ResolverOpts::default().edns_payload_len;
        options.edns_set_dnssec_ok = matches!(trust, Trust::Anchors(_));
        let servers = Servers::new(servers, timeout)?;
        let zones = match &trust {
            Trust::Anchors(anchors) => anchors.zones(),
            Trust::AdBit | Trust::Nothing => BTreeSet::new(),
        };
        let validators = zones.into_iter().map(|zone| (zone, Mutex::default())).collect();
        Ok(Self { servers, options, trust, validators })
    }

    /// Asks for the records of that type at that name.
    pub(super) async fn ask(&self, owner: &Name, kind: RecordType) -> Result<Step, Unanswered> {
        let Self { servers, options, trust, .. } = self;
        match trust {
            Trust::Anchors(anchors) => {
                let closest = self.validators.iter().filter(|(zone, _)| zone.zone_of(owner));
                let Some((zone, known)) = closest.max_by_key(|(zone, _)| zone.num_labels()) else {
                    return self.ask_plainly(owner, kind).await;
                };
                let validator = self.validator(anchors, zone, known, None).await?;
                match validator.ask(owner, kind, *options).await {
                    // Keys of a private anchor may have been rolled since they were fetched.
                    Err(Unanswered::Bogus)
                        if validator.until.is_some() && validator.since.elapsed() > REFETCH =>
                    {
                        let bad = Some(validator.since);
                        let anew = self.validator(anchors, zone, known, bad).await?;
                        anew.ask(owner, kind, *options).await
                    }
                    answer => answer,
                }
            }
            Trust::Nothing => self.ask_plainly(owner, kind).await,
            Trust::AdBit => {
                let query = Query::query(owner.clone(), kind);
                let mut request = DnsRequest::from_query(query, *options);
                request.metadata.authentic_data = true;
                plain(servers.send(request).first_answer().await, owner, kind)
            }
        }
    }

    /// The same where nobody vouches for the answer.
    async fn ask_plainly(&self, owner: &Name, kind: RecordType) -> Result<Step, Unanswered> {
        let query = Query::query(owner.clone(), kind);
        let response = self.servers.lookup(query, self.options).first_answer().await;
        let step = plain(response, owner, kind)?;
        Ok(Step { security: Security::Insecure, ..step })
    }

    /// The validator of a zone, made anew when its keys are out of date, or not newer than `bad`.
    async fn validator(
        &self,
        anchors: &Anchors,
        zone: &Name,
        known: &Mutex<Option<Validator>>,
        bad: Option<Instant>,
    ) -> Result<Validator, Unanswered> {
        let mut known = known.lock().await;
        if let Some(validator) = &*known
            && validator.until.is_none_or(|until| until > Instant::now())
            && bad.is_none_or(|bad| validator.since > bad)
        {
            return Ok(validator.clone());
        }
        let since = Instant::now();
        let (keys, until) = match anchors.are_built_in() {
            true => (TrustAnchors::default(), None),
            false => {
                let (keys, ttl) = self.fetch_keys(anchors, zone).await?;
                (keys, Some(Instant::now() + ttl.clamp(REFETCH, KEYS_TTL)))
            }
        };
        let servers = self.servers.clone();
        let handle = DnssecDnsHandle::with_trust_anchor(servers, Arc::new(keys))
            .validation_cache_size(VALIDATED_SETS);
        let validator = Validator { handle, since, until };
        *known = Some(validator.clone());
        Ok(validator)
    }

    /// The keys of a zone that its anchors vouch for, and for how long.
    async fn fetch_keys(
        &self,
        anchors: &Anchors,
        zone: &Name,
    ) -> Result<(TrustAnchors, Duration), Unanswered> {
        let query = Query::query(zone.clone(), RecordType::DNSKEY);
        let response = match self.servers.lookup(query, self.options).first_answer().await {
            Ok(response) => response,
            Err(NetError::Dns(DnsError::NoRecordsFound(_))) => return Err(Unanswered::Bogus),
            Err(cause) => return Err(Unanswered::Failed(cause)),
        };
        let mut keys = TrustAnchors::empty();
        let now = SystemTime::UNIX_EPOCH.elapsed().map_or(0, |since| since.as_secs());
        // wraps, as the times in signatures do (RFC 4034 §3.1.5)
        if !anchors.admit(zone, &response.answers, now as u32, &mut keys) {
            return Err(Unanswered::Bogus);
        }
        let ttl = response.answers.iter().map(|record| record.ttl).min().unwrap_or(0);
        Ok((keys, Duration::from_secs(ttl.into())))
    }
}

impl Validator {
    async fn ask(
        &self,
        owner: &Name,
        kind: RecordType,
        options: DnsRequestOptions,
    ) -> Result<Step, Unanswered> {
        let query = Query::query(owner.clone(), kind);
        match self.handle.lookup(query, options).first_answer().await {
            Ok(response) => read(&response, owner, kind),
            Err(NetError::Dns(DnsError::Nsec { response, proof: Proof::Insecure, .. })) => {
                let step = read(&response, owner, kind)?;
                Ok(Step { security: Security::Insecure, ..step })
            }
            Err(NetError::Dns(DnsError::Nsec { response, .. }))
                if is_expanded_by_nsec(&response, owner, kind) =>
            {
                read(&response, owner, kind)
            }
            Err(NetError::Dns(DnsError::Nsec { response, .. }))
                if kind != RecordType::CNAME && cname(&response.answers, owner).is_some() =>
            {
                // The proofs that came are about the name behind the alias, not about this one.
                let alias = Query::query(owner.clone(), RecordType::CNAME);
                match self.handle.lookup(alias, options).first_answer().await {
                    Ok(response) => match read(&response, owner, kind)? {
                        Step { found: Found::Nothing, .. } => Err(Unanswered::Bogus),
                        step => Ok(step),
                    },
                    Err(NetError::Dns(DnsError::Nsec { .. })) => Err(Unanswered::Bogus),
                    Err(cause) => Err(Unanswered::Failed(cause)),
                }
            }
            Err(NetError::Dns(DnsError::Nsec { .. } | DnsError::DnssecBogus)) => {
                Err(Unanswered::Bogus)
            }
            Err(cause) => Err(Unanswered::Failed(cause)),
        }
    }
}

/// Sets of records of which the validator remembers what they are worth.
const VALIDATED_SETS: usize = 8192;
/// The keys of a private anchor are fetched again after this at the latest,
const KEYS_TTL: Duration = Duration::from_secs(3600);
/// and not sooner than after this.
const REFETCH: Duration = Duration::from_secs(10);
