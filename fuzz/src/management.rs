//! Stream management (XEP-0198) as the gate around a machine has it: what was sent and
//! acknowledged, counted again in numbers that do not go round, and streams that may be resumed.

use fedgate::{
    stream::{Former, Sent, TooHigh},
    xml::{Element, ElementName},
    xmpp::{StreamCondition, ns},
};

const ROUND: u64 = 1 << 32;
/// Bytes that an SM-ID may have (XEP-0198 §3).
const ID_MAX: usize = 4000;

/// What goes out on a stream, and what of it is acknowledged.
#[derive(Clone, Default, Debug)]
pub(crate) struct Outgoing {
    counted: Sent,
    sent: u64,
    acknowledged: u64,
}

impl Outgoing {
    /// The stream is resumed, of which the other end has `h` stanzas.
    pub(crate) fn resumed(h: u32) -> Self {
        Self { counted: Sent::resumed(h), sent: h.into(), acknowledged: h.into() }
    }

    pub(crate) fn put(&mut self, stanzas: usize) {
        self.counted.put(stanzas as u32);
        self.sent += stanzas as u64;
    }

    /// So many of the last were never written, or as many as are not acknowledged.
    pub(crate) fn take_back(&mut self, stanzas: usize) {
        let stanzas = (stanzas as u64).min(self.sent - self.acknowledged);
        self.counted.take_back(stanzas as u32);
        self.sent -= stanzas;
    }

    /// Never more is acknowledged than was sent, nor less than before, and a fault changes nothing.
    pub(crate) fn acknowledge(&mut self, h: u32) -> Result<(), TooHigh> {
        let before = self.counted;
        let same_round = self.acknowledged / ROUND * ROUND + u64::from(h);
        let next_round = if same_round < self.acknowledged { ROUND } else { 0 };
        let meant = same_round + next_round;
        let outcome = self.counted.acknowledge(h);
        match outcome {
            Ok(news) => {
                assert!(meant <= self.sent, "{h} acknowledged of {}", self.sent);
                assert_eq!(u64::from(news), meant - self.acknowledged);
                self.acknowledged = meant;
            }
            Err(error) => {
                assert!(meant > self.sent, "{h} of {} is too high", self.sent);
                assert_eq!(error, TooHigh { h, sent: (self.sent % ROUND) as u32 });
                assert_eq!(self.counted, before);
            }
        }
        assert_eq!(u64::from(self.counted.outstanding()), self.sent - self.acknowledged);
        outcome.map(drop)
    }
}

/// A stream without a connection that may be resumed.
#[derive(Clone, Debug)]
pub(crate) struct Resumable {
    pub(crate) id: String,
    pub(crate) outgoing: Outgoing,
    /// How many stanzas came on it.
    pub(crate) received: u32,
}

impl Resumable {
    /// As a machine is to ask for it.
    pub(crate) fn wanted(&self) -> Former {
        Former { id: self.id.clone(), h: self.received }
    }
}

/// Streams that may be resumed before a script begins: `sm0`, of which nothing is known to either
/// end, to `sm3`.
pub(crate) fn former(number: usize) -> Resumable {
    const KNOWN: [(u32, usize, u32); 4] =
        [(0, 0, 0), (0, 3, 2), (u32::MAX - 1, 4, u32::MAX), (7, 200, 1)];
    let number = number % KNOWN.len();
    let (acknowledged, more, received) = KNOWN[number];
    let mut outgoing = Outgoing::resumed(acknowledged);
    outgoing.put(more);
    Resumable { id: format!("sm{number}"), outgoing, received }
}

/// An `xs:unsignedInt`.
pub(crate) fn number(text: &str) -> Option<u32> {
    text.trim_matches([' ', '\t', '\r', '\n']).parse().ok()
}

/// The value of `h`.
pub(crate) fn h(element: &Element) -> Option<u32> {
    element.attr("h").and_then(number)
}

/// The value of an attribute that is an SM-ID.
pub(crate) fn id<'e>(element: &'e Element, name: &str) -> Option<&'e str> {
    element.attr(name).filter(|id| !id.is_empty() && id.len() <= ID_MAX)
}

/// Whether an attribute is true.
pub(crate) fn is_true(element: &Element, name: &str) -> bool {
    matches!(element.attr(name), Some("true" | "1"))
}

/// Whether these features offer it.
pub(crate) fn is_offered_by(features: &Element) -> bool {
    features.child(ns::SM, "sm").is_some()
}

/// It was refused, for this reason (XEP-0198 §6).
pub(crate) fn assert_failed(said: &[(ElementName, Element)], condition: &str) {
    let [(ElementName::SmFailed, failed)] = said else { panic!("{said:?}") };
    assert!(failed.child(ns::STANZA_ERRORS, condition).is_some(), "{failed:?}");
    assert_eq!(failed.children().len(), 1);
}

/// The last words say that too much was acknowledged (XEP-0198 §6).
pub(crate) fn assert_too_high(last_words: &[(ElementName, Element)], TooHigh { h, sent }: TooHigh) {
    let [.., (ElementName::StreamError, error)] = last_words else { panic!("{last_words:?}") };
    let condition = StreamCondition::UndefinedCondition.as_str();
    assert!(error.child(ns::STREAM_ERRORS, condition).is_some(), "{error:?}");
    let told = error.child(ns::SM, "handled-count-too-high").expect("what was too high");
    assert_eq!(told.attr("h"), Some(h.to_string().as_str()));
    assert_eq!(told.attr("send-count"), Some(sent.to_string().as_str()));
}
