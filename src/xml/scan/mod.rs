//! The scanner: reads markup from whichever byte it stopped at, and never goes back, but once to the
//! beginning of a tag that turned out not to be whole or not as most are ([`usual`]).
//!
//! ```text
//! Outside ─ white space ─► Space
//!    │ <
//!    ▼
//!  Markup ─ ? ─► Pi ─► Declaration          (before the header only)
//!    │ │ └─ ! ─► Bang ─► Cdata ─► Text      (inside an element only)
//!    │ └─── / ─► EndName ─► EndGap ─ > ─► Element, Footer or Text
//!    ▼ name
//!   Name ─► Gap ─► Attributes ─ > ─► Header or Text; with / before it: Element or Text
//! ```
//!
//! The text given to it is UTF-8, whole characters only, and starts where the current token
//! starts. What it finds depends on nothing but the bytes: each is judged when it comes and only
//! by those before it. It keeps offsets, never copies. Nesting is a list, not recursion.

mod chars;
mod content;
mod declaration;
mod name;
mod namespaces;
pub(super) mod reference;
mod tag;
mod usual;
mod window;

use super::{
    Fault, Limits,
    token::{ElementName, Header, Tag},
};
use name::{Attribute, Name};
use namespaces::Declaration;

/// What the scanner came to the end of; it takes the bytes up to [`Scanner::position`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Found {
    /// The XML declaration.
    Declaration,
    /// A first-level element.
    Element,
    /// The end tag of the stream.
    Footer,
    /// The start tag of the stream.
    Header,
    /// White space outside elements.
    Space,
}

/// What an earlier token tells about this one.
#[derive(Clone, Copy)]
pub(super) struct Context<'a> {
    pub(super) limits: &'a Limits,
    pub(super) place: Place<'a>,
}

impl Context<'_> {
    /// How many times as much as the limits the token may have: of elements only, for what a header
    /// declares is counted in bits.
    fn grace(self) -> usize {
        match self.place {
            Place::Open(_) => self.limits.grace,
            Place::Start | Place::BeforeHeader | Place::Closed => 1,
        }
    }
}

/// Where in the stream the current token stands.
#[derive(Clone, Copy)]
pub(super) enum Place<'a> {
    /// Nothing came before it.
    Start,
    /// Something came, but not yet the header.
    BeforeHeader,
    /// The stream with this header is open.
    Open(&'a Header),
    /// The stream's end tag came.
    Closed,
}

/// The scanner's place in the current token, and what it has to remember of it.
#[derive(Debug)]
pub(super) struct Scanner {
    state: State,
    /// The first byte not looked at.
    pos: usize,
    /// Where the name, value, reference or section that `state` is about starts.
    item: usize,
    /// The start tag that is being read, or was read last.
    name: Name,
    /// Its attributes; the last one may be read in part.
    attributes: Vec<Attribute>,
    /// The marks of their names, and whether two of them have the same one.
    marks: u64,
    alike: bool,
    /// Whether that tag has a colon in a name, or declares a namespace.
    qualified: bool,
    quote: u8,
    /// Elements that are open, outermost first; the stream itself is not among them.
    open: Vec<Open>,
    /// Namespace declarations in scope, outermost first, without those of the header.
    declarations: Vec<Declaration>,
    /// The start tag of the first-level element.
    first: Tag,
    /// The first limit that the element is beyond.
    excess: Option<Fault>,
}

/// An element whose end tag is to come.
#[derive(Clone, Copy, Debug)]
struct Open {
    name: Name,
    /// The first eight bytes of the name.
    key: u64,
    /// How many declarations are in scope around it.
    declarations: usize,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    /// At the start of a token.
    Outside,
    /// Behind `<`.
    Markup,
    /// In what began with `<!`.
    Bang,
    /// In what began with `<?`.
    Pi,
    /// In the XML declaration.
    Declaration,
    /// In the name of a start tag.
    Name,
    /// Behind a name or a value in a start tag.
    Gap,
    /// Behind white space in a start tag.
    Attributes,
    /// In the name of an attribute.
    AttributeName,
    /// Behind the name of an attribute.
    Equals,
    /// Behind `=`.
    Quote,
    /// In the value of an attribute.
    Value,
    /// In a reference in the value of an attribute.
    ValueReference,
    /// Behind the `/` of an empty-element tag.
    Slash,
    /// In text.
    Text,
    /// In a reference in text.
    TextReference,
    /// In a CDATA section.
    Cdata,
    /// In the name of an end tag.
    EndName,
    /// Behind the name of an end tag.
    EndGap,
}

/// How a part of the scanner came to its end.
enum Step {
    /// At the end of the bytes.
    Starved,
    /// At another state.
    Next,
    /// At the end of a token.
    Done(Found),
}

impl Scanner {
    pub(super) fn new() -> Self {
        Self {
            state: State::Outside,
            pos: 0,
            item: 0,
            name: Name::default(),
            attributes: Vec::new(),
            marks: 0,
            alike: false,
            qualified: false,
            quote: 0,
            open: Vec::new(),
            declarations: Vec::new(),
            first: Tag::new(ElementName::Other),
            excess: None,
        }
    }

    /// Reads on to the end of the token; `None` when `buf` ends before it.
    ///
    /// # Errors
    /// A [`Fault`] as soon as a byte makes one sure. Nothing can be read behind it.
    pub(super) fn scan(
        &mut self,
        buf: &[u8],
        context: Context<'_>,
    ) -> Result<Option<Found>, Fault> {
        loop {
            if matches!(self.state, State::Text | State::Markup) {
                match self.usual(buf, context) {
                    Step::Next => {}
                    Step::Starved => return Ok(None),
                    Step::Done(found) => {
                        self.state = State::Outside;
                        return Ok(Some(found));
                    }
                }
            }
            let step = match self.state {
                State::Outside => self.outside(buf, context)?,
                State::Markup => self.markup(buf, context)?,
                State::Bang => self.bang(buf)?,
                State::Pi => self.pi(buf, context)?,
                State::Declaration => self.declaration(buf)?,
                State::Name
                | State::Gap
                | State::Attributes
                | State::AttributeName
                | State::Equals
                | State::Quote
                | State::Value
                | State::ValueReference
                | State::Slash => self.start_tag(buf, context)?,
                State::Text => self.text(buf)?,
                State::TextReference => self.text_reference(buf)?,
                State::Cdata => self.cdata(buf)?,
                State::EndName => self.end_name(buf, context)?,
                State::EndGap => self.end_gap(buf)?,
            };
            match step {
                Step::Starved => return Ok(None),
                Step::Next => {}
                Step::Done(found) => {
                    self.state = State::Outside;
                    return Ok(Some(found));
                }
            }
        }
    }

    /// The end of what was scanned, from the start of the token.
    pub(super) fn position(&self) -> usize {
        self.pos
    }

    /// Makes the byte behind the token the first one of the next.
    pub(super) fn advance(&mut self) {
        self.pos = 0;
        self.excess = None;
    }

    /// Lets go of memory, between tokens.
    pub(super) fn rest(&mut self) {
        if self.state == State::Outside {
            self.attributes = Vec::new();
            self.open = Vec::new();
            self.declarations = Vec::new();
        }
    }

    /// The start tag of the first-level element that was found last.
    pub(super) fn first(&self) -> Tag {
        Tag { excess: self.excess, ..self.first }
    }

    /// One more comes of what there are `count` already, and should be fewer than `limit`.
    #[inline]
    fn bear(
        &mut self,
        count: usize,
        limit: usize,
        context: Context<'_>,
        fault: Fault,
    ) -> Result<(), Fault> {
        if count < limit { Ok(()) } else { self.excuse(count / limit.max(1), context, fault) }
    }

    /// What would be a fault is noted only, if it is within `times` the limit and that is borne.
    #[cold]
    fn excuse(&mut self, times: usize, context: Context<'_>, fault: Fault) -> Result<(), Fault> {
        if times >= context.grace() {
            return Err(fault);
        }
        self.excess.get_or_insert(fault);
        Ok(())
    }

    fn outside(&mut self, buf: &[u8], context: Context<'_>) -> Result<Step, Fault> {
        match (buf.get(self.pos), context.place) {
            (None, _) => Ok(Step::Starved),
            (Some(&b), _) if chars::is(b, chars::SPACE) => {
                self.pos = chars::skip_space(buf, self.pos);
                Ok(Step::Done(Found::Space))
            }
            (Some(_), Place::Closed) => Err(Fault::AfterFooter),
            (Some(b'<'), _) => {
                self.pos += 1;
                self.state = State::Markup;
                Ok(Step::Next)
            }
            // UTF-16 without a byte order mark
            (Some(0), Place::Start) => Err(Fault::Encoding),
            (Some(_), _) => Err(Fault::StreamText),
        }
    }

    fn markup(&mut self, buf: &[u8], context: Context<'_>) -> Result<Step, Fault> {
        let Some(&b) = buf.get(self.pos) else { return Ok(Step::Starved) };
        self.item = self.pos;
        match b {
            b'/' => {
                if self.open.is_empty() && !matches!(context.place, Place::Open(_)) {
                    return Err(Fault::Syntax);
                }
                self.pos += 1;
                self.item = self.pos;
                self.state = State::EndName;
                return self.end_name(buf, context);
            }
            b'!' => self.state = State::Bang,
            b'?' => self.state = State::Pi,
            0 if matches!(context.place, Place::Start) => return Err(Fault::Encoding),
            _ => {
                self.bear(self.open.len(), context.limits.depth, context, Fault::TooDeep)?;
                self.name = Name::at(self.pos);
                self.attributes.clear();
                (self.marks, self.alike) = (0, false);
                self.qualified = false;
                self.state = State::Name;
                return self.start_tag(buf, context);
            }
        }
        Ok(Step::Next)
    }

    fn end_name(&mut self, buf: &[u8], context: Context<'_>) -> Result<Step, Fault> {
        let expected = match (self.open.last(), context.place) {
            (Some(open), _) => open.name.bytes(buf),
            (None, Place::Open(header)) => header.name.as_bytes(),
            (None, _) => return Err(Fault::Syntax),
        };
        let rest = expected.get(self.pos - self.item..).unwrap_or_default();
        let come = buf.get(self.pos..).unwrap_or_default();
        let len = rest.len().min(come.len());
        if rest.get(..len) != come.get(..len) {
            return Err(Fault::MismatchedEnd);
        }
        self.pos += len;
        if len < rest.len() {
            return Ok(Step::Starved);
        }
        self.item = self.pos;
        self.state = State::EndGap;
        self.end_gap(buf)
    }

    fn end_gap(&mut self, buf: &[u8]) -> Result<Step, Fault> {
        self.pos = chars::skip_space(buf, self.pos);
        match buf.get(self.pos) {
            None => Ok(Step::Starved),
            Some(b'>') => {
                self.pos += 1;
                let Some(open) = self.open.pop() else { return Ok(Step::Done(Found::Footer)) };
                Ok(self.close(open.declarations))
            }
            Some(_) if self.pos == self.item => Err(Fault::MismatchedEnd),
            Some(_) => Err(Fault::Syntax),
        }
    }

    /// Leaves an element, with the number of declarations in scope around it.
    fn close(&mut self, declarations: usize) -> Step {
        self.declarations.truncate(declarations);
        if self.open.is_empty() {
            return Step::Done(Found::Element);
        }
        self.state = State::Text;
        Step::Next
    }
}
