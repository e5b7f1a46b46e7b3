//! SASL EXTERNAL, the receiving end (RFC 6120 §6, XEP-0178 §3; protocol rules EX-1 to EX-6).

use base64::{Engine, engine::general_purpose::STANDARD};

use super::{Action, External, Layer, Outcome, Receiving, Stage, say};
use crate::{
    stream::Fault,
    xml::{Element, writer},
    xmpp::{Domain, DomainPair, Side, StreamCondition},
};

/// Failed SASL attempts before the stream ends (RFC 6120 §6.4.5: 2 to 5).
pub(super) const SASL_FAILURES_MAX: u32 = 3;

impl Receiving {
    pub(super) fn auth(
        &mut self,
        layer: Layer,
        element: &Element,
        out: &mut Vec<Action>,
    ) -> Outcome {
        if self.side == Side::Legacy || layer == Layer::Clear {
            return self.sasl_refused("encryption-required", "it comes before TLS", out);
        }
        if layer == Layer::Sasl {
            return Err(Fault::remote(StreamCondition::PolicyViolation, "second authentication"));
        }
        if self.managed {
            // The counters belong to this stream, and a new one would begin.
            let reason = "authentication on a managed stream";
            return Err(Fault::remote(StreamCondition::PolicyViolation, reason));
        }
        if element.attr("mechanism") != Some("EXTERNAL") {
            return self.sasl_refused("invalid-mechanism", "it is not EXTERNAL", out);
        }
        // RFC 6120 §13.9.1: white space is no base64 either.
        let authzid = match element.text() {
            "" | "=" => None,
            encoded => {
                match STANDARD.decode(encoded).ok().and_then(|b| String::from_utf8(b).ok()) {
                    Some(authzid) => Some(authzid),
                    None => {
                        let why = "its identity is no UTF-8 in Base64";
                        return self.sasl_refused("incorrect-encoding", why, out);
                    }
                }
            }
        };
        let (Some(proof), Some(to)) = (self.certificate.clone(), self.names.to.clone()) else {
            let why = "no certificate proves the domain, or its proof has just expired";
            return self.sasl_refused("not-authorized", why, out);
        };
        // Protocol EX-3: an authorization identity may only repeat the header's from.
        if let Some(authzid) = authzid
            && Domain::parse(&authzid).ok().as_ref() != Some(proof.domain())
        {
            let why = "its identity is not the domain of the stream header";
            return self.sasl_refused("invalid-authzid", why, out);
        }
        self.allow(proof.domain())?;
        out.push(say(writer::sasl_success));
        self.external = Some(Box::new(External { proof, to }));
        self.header_sent = false;
        // The stream that the id, the requests and the pairs belonged to is over.
        self.id = Box::default();
        self.pending.clear();
        self.dialback_keys.clear();
        self.renewing.clear();
        let ledger = std::mem::take(&mut self.ledger);
        out.push(Action::Restart(ledger.iter().map(|grant| grant.pair().clone()).collect()));
        self.stage = Stage::Header(Layer::Sasl);
        Ok(())
    }

    /// A failure that the operator is to know of.
    fn sasl_refused(
        &mut self,
        condition: &'static str,
        why: &'static str,
        out: &mut Vec<Action>,
    ) -> Outcome {
        let names = self.names.from.as_ref().zip(self.names.to.as_ref());
        let pair = names.map(|(from, to)| DomainPair::new(from.clone(), to.clone()));
        // One that is authorized by dialback stays so.
        if let Some(pair) = pair.filter(|pair| self.ledger.get(pair).is_none()) {
            out.push(Action::Refused(pair, format!("SASL {condition}: {why}")));
        }
        self.sasl_failure(condition, out)
    }

    pub(super) fn sasl_failure(
        &mut self,
        condition: &'static str,
        out: &mut Vec<Action>,
    ) -> Outcome {
        self.sasl_failures += 1;
        if self.sasl_failures > SASL_FAILURES_MAX {
            return Err(Fault::remote(StreamCondition::PolicyViolation, "too many sasl attempts"));
        }
        out.push(say(|out| writer::sasl_failure(out, condition)));
        Ok(())
    }
}
