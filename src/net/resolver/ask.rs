//! One question to the name servers, and how far the answer can be trusted (RFC 4035 §4.3 and §5;
//! protocol rules DNS-11, DA-1).
//!
//! hickory-net validates each set of records of an answer by itself; what the answer as a whole is
//! worth is decided here, for exactly the name that was asked. Of an alias only the first step is
//! taken, the caller asks again behind it: nothing depends on what else came in the same message.
//!
//! Reading an answer is in [`read`](super::read).

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use hickory_resolver::{
    NameServerPool, PoolContext, TlsConfig,
    config::{ConnectionConfig, NameServerConfig, ProtocolConfig, ResolverOpts},
    net::{
        DnsError, NetError,
        dnssec::DnssecDnsHandle,
        runtime::TokioRuntimeProvider,
        xfer::{DnsHandle, FirstAnswer, RetryDnsHandle},
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
    pool: Pool,
    options: DnsRequestOptions,
    trust: Trust,
    /// Made when it is first needed: it may have to fetch keys.
    validator: Mutex<Option<Validator>>,
}

type Pool = RetryDnsHandle<NameServerPool<TokioRuntimeProvider>>;

#[derive(Clone)]
struct Validator {
    handle: DnssecDnsHandle<Pool>,
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
        let mut settings = ResolverOpts::default();
        // Once more within the time: another server, or a new source port.
        settings.timeout = timeout / 2;
        settings.attempts = 1;
        let mut options = DnsRequestOptions::default();
        options.use_edns = true;
        options.edns_payload_len = settings.edns_payload_len;
        options.edns_set_dnssec_ok = matches!(trust, Trust::Anchors(_));
        let context = PoolContext::new(settings, TlsConfig::new()?);
        let servers = servers.iter().copied().map(name_server);
        let pool = NameServerPool::from_config(
            servers,
            Arc::new(context),
            TokioRuntimeProvider::default(),
        );
        let pool = RetryDnsHandle::new(pool, 1);
        Ok(Self { pool, options, trust, validator: Mutex::new(None) })
    }

    /// Asks for the records of that type at that name.
    pub(super) async fn ask(&self, owner: &Name, kind: RecordType) -> Result<Step, Unanswered> {
        let query = Query::query(owner.clone(), kind);
        let Self { pool, options, trust, .. } = self;
        match trust {
            Trust::Anchors(anchors) if anchors.cover(owner) => {
                let validator = self.validator(anchors, None).await?;
                match validator.ask(owner, kind, *options).await {
                    // Keys of a private anchor may have been rolled since they were fetched.
                    Err(Unanswered::Bogus)
                        if validator.until.is_some() && validator.since.elapsed() > REFETCH =>
                    {
                        let anew = self.validator(anchors, Some(validator.since)).await?;
                        anew.ask(owner, kind, *options).await
                    }
                    answer => answer,
                }
            }
            Trust::Anchors(_) | Trust::Nothing => {
                let response = pool.lookup(query, *options).first_answer().await;
                let step = plain(response, owner, kind)?;
                Ok(Step { security: Security::Insecure, ..step })
            }
            Trust::AdBit => {
                let mut request = DnsRequest::from_query(query, *options);
                request.metadata.authentic_data = true;
                plain(pool.send(request).first_answer().await, owner, kind)
            }
        }
    }

    /// The validator, made anew when its keys are out of date, or not newer than `bad`.
    async fn validator(
        &self,
        anchors: &Anchors,
        bad: Option<Instant>,
    ) -> Result<Validator, Unanswered> {
        let mut known = self.validator.lock().await;
        if let Some(validator) = &*known
            && validator.until.is_none_or(|until| until > Instant::now())
            && bad.is_none_or(|bad| validator.since > bad)
        {
            return Ok(validator.clone());
        }
        let since = Instant::now();
        let (keys, until) = match anchors.are_built_in() {
            true => (TrustAnchors::default(), None),
            false => self.fetch_keys(anchors).await?,
        };
        let pool = self.pool.clone();
        let handle = DnssecDnsHandle::with_trust_anchor(pool, Arc::new(keys))
            .validation_cache_size(VALIDATED_SETS);
        let validator = Validator { handle, since, until };
        *known = Some(validator.clone());
        Ok(validator)
    }

    async fn fetch_keys(
        &self,
        anchors: &Anchors,
    ) -> Result<(TrustAnchors, Option<Instant>), Unanswered> {
        let mut keys = TrustAnchors::empty();
        let mut ttl = KEYS_TTL;
        let mut error = None;
        let mut any = false;
        let now = SystemTime::UNIX_EPOCH.elapsed().map_or(0, |since| since.as_secs());
        for zone in anchors.zones() {
            let query = Query::query(zone.clone(), RecordType::DNSKEY);
            match self.pool.lookup(query, self.options).first_answer().await {
                // wraps, as the times in signatures do (RFC 4034 §3.1.5)
                Ok(response) if anchors.admit(&zone, &response.answers, now as u32, &mut keys) => {
                    any = true;
                    let least = response.answers.iter().map(|record| record.ttl).min();
                    ttl = ttl.min(Duration::from_secs(least.unwrap_or(0).into()));
                }
                Ok(_) | Err(NetError::Dns(DnsError::NoRecordsFound(_))) => {
                    error = Some(Unanswered::Bogus);
                }
                Err(cause) => error = Some(Unanswered::Failed(cause)),
            }
        }
        match error {
            Some(error) if !any => Err(error),
            // one anchor that is out of date must not stop the others
            Some(_) => Ok((keys, Some(Instant::now() + REFETCH))),
            None => Ok((keys, Some(Instant::now() + ttl.max(REFETCH)))),
        }
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

fn name_server(address: SocketAddr) -> NameServerConfig {
    let connections = [ProtocolConfig::Udp, ProtocolConfig::Tcp].map(|protocol| {
        let mut connection = ConnectionConfig::new(protocol);
        connection.port = address.port();
        connection
    });
    NameServerConfig::new(address.ip(), true, connections.into())
}

/// Sets of records of which the validator remembers what they are worth.
const VALIDATED_SETS: usize = 8192;
/// The keys of a private anchor are fetched again after this at the latest,
const KEYS_TTL: Duration = Duration::from_secs(3600);
/// and not sooner than after this.
const REFETCH: Duration = Duration::from_secs(10);
