//! JSON as documents on which trust rests should be: one value, shallow, no member named twice.
//! Of two members with one name, different readers would take different ones (RFC 8259 §4).

use std::{collections::HashSet, fmt};

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};

use super::{MAX_SIZE, PoshError};
use crate::auth::pkix;

/// A value.
#[derive(Debug)]
pub(super) enum Json {
    List(Vec<Json>),
    /// None: not a whole number from 0 to 2⁶⁴.
    Number(Option<u64>),
    Object(Vec<(String, Json)>),
    Text(String),
    /// A truth value, or `null`.
    Word,
}

impl Json {
    pub(super) fn parse(body: &[u8]) -> Result<Self, PoshError> {
        if body.len() > MAX_SIZE {
            return Err(PoshError::TooLarge(body.len()));
        }
        let mut input = serde_json::Deserializer::from_slice(body);
        let value = Strict { depth: MAX_DEPTH }.deserialize(&mut input);
        value
            .and_then(|value| input.end().map(|()| value))
            .map_err(|error| PoshError::Json(pkix::bounded(&error.to_string())))
    }

    /// The member of that name, if this is an object that has one.
    pub(super) fn member(&self, name: &str) -> Option<&Self> {
        let Self::Object(members) = self else { return None };
        members.iter().find(|(known, _)| known == name).map(|(_, value)| value)
    }
}

/// Reads one value that may hold values so many levels deep.
#[derive(Clone, Copy)]
struct Strict {
    depth: usize,
}

impl Strict {
    fn deeper<E: Error>(self) -> Result<Self, E> {
        let depth = self.depth.checked_sub(1);
        Ok(Self { depth: depth.ok_or_else(|| E::custom("nested too deep"))? })
    }
}

impl<'de> DeserializeSeed<'de> for Strict {
    type Value = Json;

    fn deserialize<D: Deserializer<'de>>(self, input: D) -> Result<Json, D::Error> {
        input.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict {
    type Value = Json;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<Json, E> {
        Ok(Json::Word)
    }

    fn visit_unit<E: Error>(self) -> Result<Json, E> {
        Ok(Json::Word)
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<Json, E> {
        Ok(Json::Number(Some(number)))
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<Json, E> {
        Ok(Json::Number(None))
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<Json, E> {
        Ok(Json::Number(None))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Json, E> {
        Ok(Json::Text(text.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Json, A::Error> {
        let inside = self.deeper()?;
        let mut list = Vec::new();
        while let Some(item) = items.next_element_seed(inside)? {
            list.push(item);
        }
        Ok(Json::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut input: A) -> Result<Json, A::Error> {
        let inside = self.deeper()?;
        let mut names = HashSet::new();
        let mut members = Vec::new();
        while let Some(name) = input.next_key::<String>()? {
            if !names.insert(name.clone()) {
                return Err(Error::custom(format_args!("\"{name}\" stands there twice")));
            }
            members.push((name, input.next_value_seed(inside)?));
        }
        Ok(Json::Object(members))
    }
}

/// Levels of lists and objects (PO-9); a document needs three.
const MAX_DEPTH: usize = 8;
