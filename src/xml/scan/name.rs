//! Names of elements and attributes (XML 1.0 §2.3; Namespaces in XML 1.0 §4).

use super::{super::token::Span, Fault, chars};

/// A name in the buffer: of an element, or of an attribute.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(super) struct Name {
    start: u32,
    pub(super) end: u32,
    /// Where its colon is; 0 if it has none (no name begins at 0, a tag does).
    colon: u32,
}

/// An attribute of a start tag.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct Attribute {
    pub(super) name: Name,
    pub(super) kind: Kind,
    /// What binds its prefix, once that is resolved.
    pub(super) binding: u16,
    /// The first bytes of the name, so that names are compared without looking at the buffer.
    key: u64,
    /// Where its value starts.
    pub(super) start: u32,
    /// Where its value ends.
    pub(super) end: u32,
    pub(super) escaped: bool,
}

/// What namespaces make of an attribute.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(super) enum Kind {
    /// `xmlns` or `xmlns:prefix`.
    Declaration,
    /// With a prefix that some declaration binds.
    Prefixed,
    /// Without a prefix, or with `xml`, which is bound once and for all.
    #[default]
    Plain,
}

impl Name {
    /// An empty name at an offset.
    pub(super) fn at(pos: usize) -> Self {
        Self { start: offset(pos), end: offset(pos), colon: 0 }
    }

    /// A whole name without a colon, or with one that means nothing.
    #[inline]
    pub(super) fn plain(pos: usize, len: usize) -> Self {
        Self { start: offset(pos), end: offset(pos.wrapping_add(len)), colon: 0 }
    }

    /// The name as written.
    pub(super) fn bytes(self, buf: &[u8]) -> &[u8] {
        buf.get(self.start as usize..self.end as usize).unwrap_or_default()
    }

    /// What stands before the colon, if there is one.
    pub(super) fn prefix(self, buf: &[u8]) -> Option<&[u8]> {
        if self.colon == 0 {
            return None;
        }
        buf.get(self.start as usize..self.colon as usize)
    }

    /// What stands behind the colon, or all of it.
    pub(super) fn local(self, buf: &[u8]) -> &[u8] {
        let start = if self.colon == 0 { self.start } else { self.colon + 1 };
        buf.get(start as usize..self.end as usize).unwrap_or_default()
    }

    /// Whether there is a colon in it.
    pub(super) fn has_prefix(self) -> bool {
        self.colon != 0
    }

    /// Bytes of the name.
    pub(super) fn len(self) -> u32 {
        self.end - self.start
    }

    /// The first eight bytes of the name, zeros behind it.
    #[inline]
    pub(super) fn key(self, buf: &[u8]) -> u64 {
        let rest = buf.get(self.start as usize..).unwrap_or_default();
        let Some(first) = rest.first_chunk() else {
            return self.bytes(buf).iter().rev().fold(0, |key, &b| key << 8 | u64::from(b));
        };
        u64::from_le_bytes(*first) & mask(self.len() as usize)
    }

    /// Reads on in the name from `pos`; `true` when `pos` has come to a byte behind it. With grace
    /// what is wrong with it is noted only, if it is not `grace` times too long.
    pub(super) fn scan(
        &mut self,
        buf: &[u8],
        pos: &mut usize,
        grace: usize,
        excess: &mut Option<Fault>,
    ) -> Result<bool, Fault> {
        let result = self.scan_unbounded(buf, pos, (grace > 1).then_some(&mut *excess));
        self.end = offset(*pos);
        // judged first, so that it makes no difference how many bytes came at a time
        let len = self.len() as usize;
        if len > MAX_NAME.saturating_mul(grace) {
            return Err(Fault::NameTooLong);
        }
        if len > MAX_NAME && result == Ok(true) {
            excess.get_or_insert(Fault::NameTooLong);
        }
        result
    }

    fn scan_unbounded(
        &mut self,
        buf: &[u8],
        pos: &mut usize,
        mut excess: Option<&mut Option<Fault>>,
    ) -> Result<bool, Fault> {
        loop {
            let at_colon = self.colon != 0 && *pos == self.colon as usize + 1;
            let begins = at_colon || *pos == self.start as usize;
            let Some(&b) = buf.get(*pos) else { return Ok(false) };
            if chars::is(b, if begins { chars::NAME_START } else { chars::NAME }) {
                *pos = chars::skip_name(buf, *pos);
            } else if !b.is_ascii() {
                let c = chars::decode(buf, *pos).ok_or(Fault::BadName)?;
                let good = if begins { chars::is_name_start(c) } else { chars::is_name(c) };
                // What the fifth edition of XML allows, parsers of the fourth, as expat, refuse:
                // one such name would end the legacy server's stream (protocol rule XML-15).
                match &mut excess {
                    Some(excess) if good => excess.get_or_insert(Fault::ForeignName),
                    _ => return Err(if good { Fault::ForeignName } else { Fault::BadName }),
                };
                *pos += c.len_utf8();
            } else if b == b':' {
                if begins || self.colon != 0 {
                    return Err(Fault::BadColon);
                }
                self.colon = offset(*pos);
                *pos += 1;
            } else if begins {
                return Err(if at_colon { Fault::BadColon } else { Fault::BadName });
            } else {
                return Ok(true);
            }
        }
    }
}

impl Attribute {
    /// An attribute whose name begins at an offset.
    pub(super) fn at(pos: usize) -> Self {
        Self { name: Name::at(pos), ..Self::default() }
    }

    /// The place of its value.
    pub(super) fn span(self) -> Span {
        Span { start: self.start, end: self.end, escaped: self.escaped }
    }

    /// Whether its name is this one, of at most eight bytes.
    pub(super) fn is(self, name: &[u8]) -> bool {
        self.name.len() as usize == name.len() && self.key == key(name)
    }

    /// One bit that attributes of the same name share, and some of different names.
    #[inline]
    pub(super) fn mark(self) -> u64 {
        mark(self.key)
    }

    pub(super) fn has_name_of(self, other: Self, buf: &[u8]) -> bool {
        self.key == other.key
            && self.name.len() == other.name.len()
            && (self.name.len() <= 8 || self.name.bytes(buf) == other.name.bytes(buf))
    }

    /// Takes note of the name, which has come to its end.
    #[inline]
    pub(super) fn finish_name(&mut self, buf: &[u8]) {
        self.key = self.name.key(buf);
        self.kind = if !self.name.has_prefix() {
            if self.is(b"xmlns") { Kind::Declaration } else { Kind::Plain }
        } else {
            match self.name.prefix(buf) {
                None | Some(b"xml") => Kind::Plain,
                Some(b"xmlns") => Kind::Declaration,
                Some(_) => Kind::Prefixed,
            }
        };
    }
}

/// Those of eight bytes that belong to a name of so many that begins with them.
#[inline]
pub(super) fn mask(len: usize) -> u64 {
    const MASKS: [u64; 8] = {
        let mut masks = [0; 8];
        let mut len = 0;
        while len < 8 {
            masks[len] = (1 << (8 * len)) - 1;
            len += 1;
        }
        masks
    };
    MASKS.get(len).copied().unwrap_or(u64::MAX)
}

/// One bit for the first bytes of an attribute's name.
#[inline]
pub(super) fn mark(key: u64) -> u64 {
    1 << (key.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 58)
}

/// The key of a name of at most eight bytes.
pub(super) const fn key(name: &[u8]) -> u64 {
    let mut key = 0;
    let mut i = name.len();
    while i > 0 {
        i -= 1;
        key = key << 8 | name[i] as u64;
    }
    key
}

/// An offset in the element; limits keep it below 4 GiB.
pub(super) fn offset(pos: usize) -> u32 {
    pos as u32
}

/// Bytes of a name, prefix included (protocol rule XML-5).
const MAX_NAME: usize = 1024;
