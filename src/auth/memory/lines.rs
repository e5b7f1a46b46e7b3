//! The memory as text: a line that says what it is, then one JSON object a line.

use std::borrow::Cow;

use base64::{Engine, engine::general_purpose::STANDARD};
use serde::{Deserialize, Serialize};

use super::{Memory, Reached, Record};
use crate::{
    auth::{Prooftype, Strength},
    config::model::TlsVersion,
    xmpp::{Direction, Domain},
};

/// A line that cannot be read.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("line {line}: {why}")]
pub struct LineError {
    /// Its number, from 1.
    pub line: usize,
    /// What is wrong with it.
    pub why: String,
}

#[derive(Serialize, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
struct Head {
    format: String,
    version: u32,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line<'a> {
    #[serde(borrow)]
    domain: Cow<'a, str>,
    #[serde(borrow)]
    direction: Cow<'a, str>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    best: Option<Sight<'a>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    last: Option<Sight<'a>>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    keys: Vec<String>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    self_signed: bool,
    /// When a rule refused it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    refused: Option<u64>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Sight<'a> {
    /// For people: it follows from the others.
    #[serde(borrow)]
    level: Cow<'a, str>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    tls: Option<Cow<'a, str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    proof: Option<Cow<'a, str>>,
    /// What the certificate behind the proof was believed by.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    by: Option<Cow<'a, str>>,
    at: u64,
}

impl Memory {
    /// All of it as text, in no order but for the first line.
    #[must_use]
    pub fn to_lines(&self) -> String {
        // with room for a line of two sights and a key
        let mut out = Vec::with_capacity(LINE * (self.records.len() + self.refused.len()));
        put(&mut out, &Head { format: FORMAT.to_owned(), version: VERSION });
        for (domain, direction, record) in self.records() {
            let line = Line {
                best: Some(Sight::of(&record.best)),
                last: Some(Sight::of(&record.last)),
                keys: record.keys().map(|key| key.to_string()).collect(),
                self_signed: record.self_signed,
                ..line(domain, direction)
            };
            put(&mut out, &line);
        }
        for (domain, direction, at) in self.refused() {
            put(&mut out, &Line { refused: Some(at), ..line(domain, direction) });
        }
        // JSON is UTF-8
        String::from_utf8(out)
            .unwrap_or_else(|odd| String::from_utf8_lossy(odd.as_bytes()).into_owned())
    }

    /// Reads what [`Memory::to_lines`] wrote, whole or not at all.
    ///
    /// # Errors
    /// [`LineError`]: the first line that is none.
    pub fn of_lines(text: &str) -> Result<Self, LineError> {
        let mut memory = Self::default();
        let mut lines = (1..).zip(text.lines());
        let head = lines.next().map_or("", |(_, head)| head);
        match serde_json::from_str::<Head>(head) {
            Ok(head) if head.format == FORMAT && head.version == VERSION => {}
            Ok(Head { format, version }) => {
                let why = format!("{format} of version {version}, not {FORMAT} of {VERSION}");
                return Err(LineError { line: 1, why });
            }
            Err(error) => return Err(LineError { line: 1, why: error.to_string() }),
        }
        for (number, text) in lines {
            memory.read(text).map_err(|why| LineError { line: number, why })?;
        }
        Ok(memory)
    }

    fn read(&mut self, text: &str) -> Result<(), String> {
        let line: Line<'_> = serde_json::from_str(text).map_err(|error| error.to_string())?;
        let domain = Domain::parse(&line.domain).map_err(|error| error.to_string())?;
        let directions = [Direction::Inbound, Direction::Outbound];
        let direction = directions.into_iter().find(|d| d.as_str() == line.direction);
        let key = (domain, direction.ok_or("no direction")?);
        match (line.best, line.last, line.refused) {
            (Some(best), Some(last), None) => {
                let keys = line.keys.iter().map(|key| digest(key));
                let record = Record {
                    best: best.read()?,
                    last: last.read()?,
                    keys: keys.collect::<Option<_>>().ok_or("no key")?,
                    self_signed: line.self_signed,
                };
                self.records.insert(key, record);
            }
            (None, None, Some(at)) => {
                self.refused.insert(key, at);
            }
            _ => return Err("neither seen nor refused".into()),
        }
        Ok(())
    }
}

fn put(out: &mut Vec<u8>, line: &impl Serialize) {
    // of such values, and into memory, it cannot fail
    if serde_json::to_writer(&mut *out, line).is_ok() {
        out.push(b'\n');
    }
}

fn line(domain: &Domain, direction: Direction) -> Line<'_> {
    Line {
        domain: domain.as_str().into(),
        direction: direction.as_str().into(),
        best: None,
        last: None,
        keys: Vec::new(),
        self_signed: false,
        refused: None,
    }
}

impl Sight<'_> {
    fn of(reached: &Reached) -> Self {
        let Reached { tls, strength, strong, at } = *reached;
        Self {
            level: reached.level().as_str().into(),
            tls: tls.map(|version| version.as_str().into()),
            proof: strength.map(|strength| strength.as_str().into()),
            by: strong.map(|strong| strong.as_str().into()),
            at,
        }
    }

    fn read(&self) -> Result<Reached, String> {
        let tls = self.tls.as_deref();
        let strength = self.proof.as_deref();
        let strong = self.by.as_deref();
        let reached = Reached {
            tls: known(tls, |word| VERSIONS.into_iter().find(|v| v.as_str() == word))?,
            strength: known(strength, Strength::of_word)?,
            strong: known(strong, |word| STRONG.into_iter().find(|p| p.as_str() == word))?,
            at: self.at,
        };
        if reached.level().as_str() != self.level {
            return Err(format!("not the level {}", reached.level().as_str()));
        }
        Ok(reached)
    }
}

/// The meaning of a word, if there is a word.
fn known<T>(word: Option<&str>, of: impl FnOnce(&str) -> Option<T>) -> Result<Option<T>, String> {
    word.map(|word| of(word).ok_or_else(|| format!("unknown word {word:?}"))).transpose()
}

fn digest(key: &str) -> Option<[u8; 32]> {
    let bytes = STANDARD.decode(key.strip_prefix("sha256/")?).ok()?;
    bytes.try_into().ok()
}

/// What a line takes, about, in bytes.
const LINE: usize = 384;
const FORMAT: &str = "fedgate memory";
const VERSION: u32 = 1;
const VERSIONS: [TlsVersion; 2] = [TlsVersion::V1_2, TlsVersion::V1_3];
const STRONG: [Prooftype; 4] = [Prooftype::Dane, Prooftype::Pin, Prooftype::Pkix, Prooftype::Posh];
