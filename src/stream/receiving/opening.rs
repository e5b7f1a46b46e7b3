//! Stream headers and features, layer by layer: in the clear, under TLS, after SASL (RFC 6120
//! §4.7, §4.3; protocol rules ST-1 to ST-15).

use super::{Action, Authentication, External, Layer, Names, Outcome, Receiving, Stage, say};
use crate::{
    auth::TlsFacts,
    stream::{Fault, challenge::Question},
    xml::{
        Header, Version,
        writer::{self, Features, StreamLimits},
    },
    xmpp::{Domain, DomainPair, Side, StreamCondition},
};

impl Receiving {
    /// A stream header came.
    ///
    /// # Errors
    /// The [`Fault`] that ends the stream.
    pub fn header(&mut self, header: &Header, out: &mut Vec<Action>) -> Outcome {
        let Stage::Header(layer) = self.stage else {
            return Err(Fault::remote(StreamCondition::BadFormat, "second stream header"));
        };
        self.id = (self.ids)().into();
        // The answer names nobody before the names are known to be good.
        self.names = Names::default();
        let to = header.to.as_deref().map(Domain::parse);
        let from = header.from.as_deref().map(Domain::parse);
        let modern = header.version.is_some_and(|version| version.major >= 1);
        if let Some(Ok(to)) = &to
            && self.serves(to)
        {
            self.names.to = Some(to.clone());
        }
        if let Some(Ok(from)) = &from {
            self.names.from = Some(from.clone());
        }
        self.decide_idle_limit();
        out.push(say(|out| self.response_header(modern, out)));
        self.header_sent = true;
        match self.side {
            Side::Legacy => self.legacy_header(to.is_some(), modern, out),
            Side::Peer if !(modern || layer == Layer::Clear && self.may_stay_clear()) => Err(
                Fault::remote(StreamCondition::UnsupportedVersion, "stream without version 1.0"),
            ),
            Side::Peer => {
                if to.is_some() && self.names.to.is_none() {
                    return Err(Fault::remote(
                        StreamCondition::HostUnknown,
                        "to is not served here",
                    ));
                }
                if from.is_some() && self.names.from.is_none() {
                    return Err(Fault::remote(
                        StreamCondition::ImproperAddressing,
                        "from is not a domain",
                    ));
                }
                self.peer_header(layer, modern, out)
            }
        }
    }

    fn legacy_header(&mut self, has_to: bool, modern: bool, out: &mut Vec<Action>) -> Outcome {
        if has_to && self.names.to.is_none() {
            return Err(Fault::remote(
                StreamCondition::HostUnknown,
                "to is no domain that is reached through this gate",
            ));
        }
        // COMPAT(jabberd 1.4, jabberd2): features on a version-less stream break them.
        if modern {
            self.offer(out, Features { dialback: true, ..Features::default() });
        }
        self.stage = Stage::Open(Layer::Clear);
        Ok(())
    }

    fn peer_header(&mut self, layer: Layer, modern: bool, out: &mut Vec<Action>) -> Outcome {
        if let Some(from) = self.names.from.clone() {
            if self.is_local(&from) {
                return Err(Fault::remote(
                    StreamCondition::NotAuthorized,
                    "from is a domain that is served here",
                ));
            }
            self.allow(&from)?;
        }
        match layer {
            Layer::Clear => {
                let clear = self.may_stay_clear();
                let features = Features {
                    starttls: true,
                    tls_optional: clear,
                    dialback: clear,
                    ..Features::default()
                };
                if modern {
                    self.offer(out, features);
                }
                self.stage = Stage::Open(Layer::Clear);
            }
            Layer::Tls => {
                let Some(to) = self.names.to.clone() else {
                    return Err(Fault::remote(StreamCondition::HostUnknown, "no to in the header"));
                };
                let has_certificate = self.tls.as_ref().is_some_and(TlsFacts::has_peer_certificate);
                match &self.names.from {
                    Some(from) if has_certificate => {
                        let question = Question::Certificate(DomainPair::new(from.clone(), to));
                        out.push(self.challenge(question));
                        self.stage = Stage::Judging;
                    }
                    _ => self.open_tls(out),
                }
            }
            Layer::Sasl => self.after_sasl(out)?,
        }
        Ok(())
    }

    /// RFC 6120 §6.4.6: the names must be those that were authenticated. The certificate was judged
    /// by the rules for both of them.
    fn after_sasl(&mut self, out: &mut Vec<Action>) -> Outcome {
        let Some(External { proof, to: judged }) = self.external.as_deref().cloned() else {
            return Err(Fault::us(StreamCondition::InternalServerError, "no proof after sasl"));
        };
        if self.names.from.as_ref() != Some(proof.domain()) {
            return Err(Fault::remote(
                StreamCondition::InvalidFrom,
                "from changed after authentication",
            ));
        }
        let Some(to) = self.names.to.clone() else {
            return Err(Fault::remote(StreamCondition::HostUnknown, "no to in the header"));
        };
        let of = |to| self.decision(Some(to), proof.domain());
        if to != judged && !of(&to).trusts_like(&of(&judged)) {
            let why = "proven by other pins or trust roots than the domain wants";
            return Err(Fault::policy(StreamCondition::PolicyViolation, why, None));
        }
        self.stage = Stage::Open(Layer::Sasl);
        let (limits, sm) = (self.limits(), self.offers_management());
        self.offer(out, Features { dialback: true, limits, sm, ..Features::default() });
        let pair = DomainPair::new(proof.domain().clone(), to);
        if let Some(short) = self.falls_short(&pair, &proof) {
            let rule = short.rule.map(|rule| rule.to_string());
            return Err(Fault::policy(StreamCondition::PolicyViolation, "not proven enough", rule));
        }
        if !self.grant(pair, proof, Authentication::External, out) {
            return Err(Fault::us(StreamCondition::InternalServerError, "no proof after sasl"));
        }
        Ok(())
    }

    pub(super) fn open_tls(&mut self, out: &mut Vec<Action>) {
        let external = self.certificate.is_some();
        let limits = self.limits();
        // Behind dialback no more features come, so that it is offered here too (XEP-0198 §5, note).
        let (bidi, sm) = (self.offers_bidi(), self.offers_management());
        let offered =
            Features { external, dialback: true, bidi, sm, limits, ..Features::default() };
        self.offer(out, offered);
        self.stage = Stage::Open(Layer::Tls);
    }

    pub(super) fn response_header(&self, modern: bool, out: &mut Vec<u8>) {
        let to = self.names.from.as_ref().map(Domain::to_unicode);
        // RFC 6120 §4.9.1.3: empty when the host is unspecified or unknown.
        let nobody = || (self.side == Side::Peer).then(String::new);
        let from = self.names.to.as_ref().map(Domain::to_unicode).or_else(nobody);
        let header = writer::StreamHeader {
            to: to.as_deref(),
            from: from.as_deref(),
            id: Some(&self.id),
            // COMPAT(jabberd 1.4, jabberd2): answer like with like.
            version: modern.then_some(Version::V1_0),
            lang: modern.then_some("en"),
        };
        header.write(out);
    }

    fn offer(&self, out: &mut Vec<Action>, features: Features) {
        out.push(say(|out| writer::features(out, &features)));
    }

    fn limits(&self) -> Option<StreamLimits> {
        Some(StreamLimits {
            max_bytes: Some(self.stanza_limit() as u64),
            idle_seconds: Some(self.idle_limit().as_secs()),
        })
    }
}
