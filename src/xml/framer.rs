//! The framer: finds and checks the tokens of an XML stream (RFC 6120 §4, §11; protocol rules
//! XML-1 to XML-5).
//!
//! What it lets pass is well-formed by XML 1.0 and Namespaces in XML 1.0, within the limits, and
//! has none of what RFC 6120 §11.1 forbids. It looks at each byte once (twice in a tag that is not as
//! most are, or at the end of what has come), keeps none, and comes to the same tokens and the same
//! fault however the bytes are cut into pieces (runs of white space between elements aside, which
//! come as they come).

use std::sync::Arc;

use simdutf8::compat as utf8;

use super::{
    Fault,
    scan::{Context, Found, Place, Scanner},
    token::{Header, Tag, Token, TokenKind},
};

/// What a stream may ask of us (protocol rule XML-5). The length of names and the number of
/// namespace declarations in scope are limited to 1024 bytes and 64 besides, and names to ASCII.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// Bytes of the stream header, from `<` to `>`; the XML declaration may have as many.
    pub header: usize,
    /// Bytes of a first-level element, from the first `<` to the last `>`.
    pub element: usize,
    /// Elements open inside each other, the first-level one included.
    pub depth: usize,
    /// Attributes of one element, namespace declarations included.
    pub attributes: usize,
    /// So many times as much as that an element may have, and odd names, before it is a fault; what
    /// is beyond the limits themselves is marked ([`Tag::excess`]). With 1 there is none such.
    pub grace: usize,
}

/// Reads one stream, from the first byte after connecting or restarting to the end.
#[derive(Debug)]
pub struct Framer {
    limits: Limits,
    scanner: Scanner,
    text: Text,
    header: Option<Arc<Header>>,
    progress: Progress,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Progress {
    Start,
    BeforeHeader,
    Open,
    Closed,
    Broken(Fault),
}

/// How far the buffer is known to be UTF-8.
#[derive(Default, Debug)]
struct Text {
    valid: usize,
    broken: bool,
}

impl Framer {
    /// A framer at the start of a stream.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            scanner: Scanner::new(),
            text: Text::default(),
            header: None,
            progress: Progress::Start,
        }
    }

    /// Sets other limits, as when the peer has been authenticated; they hold from the next call.
    pub fn set_limits(&mut self, limits: Limits) {
        self.limits = limits;
    }

    /// Finds the next token.
    ///
    /// `buf` is everything received and not consumed yet. It starts where the last token ended;
    /// when there was none, it starts with the same bytes as in the last call. `None` means that
    /// more bytes are needed.
    ///
    /// # Errors
    /// A [`Fault`], for this call and all that follow. Tokens before it stay good.
    pub fn next(&mut self, buf: &[u8]) -> Result<Option<Token>, Fault> {
        self.token(buf).inspect_err(|&fault| self.progress = Progress::Broken(fault))
    }

    /// Lets go of memory that only the next token needs: for when nothing is left to be read.
    pub fn rest(&mut self) {
        self.scanner.rest();
    }

    /// The stream's header, once it has been found.
    #[must_use]
    pub fn header(&self) -> Option<&Arc<Header>> {
        self.header.as_ref()
    }

    fn token(&mut self, buf: &[u8]) -> Result<Option<Token>, Fault> {
        let place = match (self.progress, self.header.as_deref()) {
            (Progress::Broken(fault), _) => return Err(fault),
            (Progress::Start, _) => Place::Start,
            (Progress::Closed, _) => Place::Closed,
            (Progress::Open, Some(header)) => Place::Open(header),
            (Progress::BeforeHeader | Progress::Open, _) => Place::BeforeHeader,
        };
        let limit = match place {
            Place::Start | Place::BeforeHeader => self.limits.header,
            Place::Open(_) | Place::Closed => self.limits.element.saturating_mul(self.limits.grace),
        };
        // offsets are kept in 32 bits
        let limit = limit.min(u32::MAX as usize);
        let text = self.text.extend(buf, limit);
        let context = Context { limits: &self.limits, place };
        let Some(found) = self.scanner.scan(text, context)? else {
            return if self.text.is_broken(buf, limit) {
                Err(self.broken_text(buf))
            } else if buf.len() <= limit {
                Ok(None)
            } else if matches!(place, Place::Open(_)) {
                Err(Fault::ElementTooBig)
            } else {
                Err(Fault::HeaderTooBig)
            };
        };
        let kind = match found {
            Found::Declaration => TokenKind::Declaration,
            Found::Element => TokenKind::Element(self.element()),
            Found::Footer => TokenKind::Footer,
            Found::Header => {
                let header = Arc::new(self.scanner.take_header(text)?);
                self.header = Some(Arc::clone(&header));
                TokenKind::Header(header)
            }
            Found::Space => TokenKind::Space,
        };
        self.progress = match found {
            Found::Header => Progress::Open,
            Found::Footer => Progress::Closed,
            Found::Declaration | Found::Element | Found::Space => match self.progress {
                Progress::Start => Progress::BeforeHeader,
                progress => progress,
            },
        };
        let len = self.scanner.position();
        self.scanner.advance();
        self.text.valid = self.text.valid.saturating_sub(len);
        Ok(Some(Token { len, kind }))
    }

    /// The start tag of the element that was found.
    fn element(&self) -> Tag {
        let tag = self.scanner.first();
        let is_big = self.scanner.position() > self.limits.element;
        Tag { excess: tag.excess.or(is_big.then_some(Fault::ElementTooBig)), ..tag }
    }

    /// The fault of bytes that are not UTF-8: at the very start they may be a byte order mark.
    fn broken_text(&self, buf: &[u8]) -> Fault {
        let at_start = self.progress == Progress::Start && self.text.valid == 0;
        if at_start && matches!(buf, [0xfe | 0xff, ..]) { Fault::Encoding } else { Fault::NotUtf8 }
    }
}

impl Text {
    /// Whether bytes within the limit show that the text ends in something else. The limit may be
    /// lower than when they were looked at first.
    fn is_broken(&self, buf: &[u8], limit: usize) -> bool {
        let end = buf.len().min(limit);
        let rest = buf.get(self.valid..end).unwrap_or_default();
        self.broken && std::str::from_utf8(rest).is_err_and(|e| e.error_len().is_some())
    }

    /// Looks at the bytes that are new and within the limit; returns what may be scanned, which
    /// ends with a whole character.
    fn extend<'a>(&mut self, buf: &'a [u8], limit: usize) -> &'a [u8] {
        let mut end = buf.len().min(limit);
        if !self.broken && self.valid < end {
            match utf8::from_utf8(buf.get(self.valid..end).unwrap_or_default()) {
                Ok(_) => self.valid = end,
                Err(error) => {
                    self.valid += error.valid_up_to();
                    self.broken = error.error_len().is_some();
                }
            }
        }
        // a limit that was lowered may lie inside a character
        while self.valid > end && buf.get(end).is_some_and(|&b| b & 0xc0 == 0x80) {
            end = end.saturating_sub(1);
        }
        buf.get(..self.valid.min(end)).unwrap_or_default()
    }
}

#[cfg(test)]
pub(super) mod tests;
