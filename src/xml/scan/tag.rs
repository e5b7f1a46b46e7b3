//! Start tags: names, attributes, and what the first-level one says (XML 1.0 §3.1).

use super::{
    super::token::{ElementName, Tag},
    Attribute, Context, Fault, Found, Open, Place, Scanner, State, Step, chars,
    name::{Kind, offset},
    reference, window,
};

/// How far a start tag is read; apart from the scanner, so that it stays in registers.
struct At {
    pos: usize,
    state: State,
}

/// How a start tag ends.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    /// With `/>`.
    Empty,
    /// With `>`.
    Open,
}

impl Scanner {
    /// Reads on in a start tag.
    pub(super) fn start_tag(&mut self, buf: &[u8], context: Context<'_>) -> Result<Step, Fault> {
        let mut at = At { pos: self.pos, state: self.state };
        let end = self.find_end(buf, context, &mut at)?;
        (self.pos, self.state) = (at.pos, at.state);
        end.map_or(Ok(Step::Starved), |end| self.finish_start_tag(buf, context, end))
    }

    /// Finds the end of a start tag; `None` when bytes are missing. The states follow each other
    /// down the loop's body, once for each attribute.
    #[inline]
    fn find_end(
        &mut self,
        buf: &[u8],
        context: Context<'_>,
        at: &mut At,
    ) -> Result<Option<End>, Fault> {
        if at.state == State::Name {
            if !self.name.scan(buf, &mut at.pos, context.grace(), &mut self.excess)? {
                return Ok(None);
            }
            self.qualified = self.name.has_prefix();
            at.state = State::Gap;
        }
        loop {
            if matches!(at.state, State::Gap | State::Attributes | State::Slash) {
                let end = self.gap(buf, context, at)?;
                if end.is_some() || at.state != State::AttributeName {
                    return Ok(end);
                }
            }
            if at.state == State::AttributeName {
                let Some(attribute) = self.attributes.last_mut() else { return Ok(None) };
                let grace = context.grace();
                if !attribute.name.scan(buf, &mut at.pos, grace, &mut self.excess)? {
                    return Ok(None);
                }
                attribute.finish_name(buf);
                let attribute = *attribute;
                self.note(attribute);
                at.state = State::Equals;
            }
            if matches!(at.state, State::Equals | State::Quote) && !self.quote(buf, at)? {
                return Ok(None);
            }
            if !self.value(buf, at)? {
                return Ok(None);
            }
        }
    }

    /// Notes what the name of an attribute means for the tag.
    #[inline]
    fn note(&mut self, attribute: Attribute) {
        self.qualified |= attribute.kind != Kind::Plain;
        let mark = attribute.mark();
        self.alike |= self.marks & mark != 0;
        self.marks |= mark;
    }

    /// Reads on from behind a name or value, to the next attribute or the end of the tag.
    #[inline]
    fn gap(&mut self, buf: &[u8], context: Context<'_>, at: &mut At) -> Result<Option<End>, Fault> {
        if at.state != State::Slash {
            let start = at.pos;
            at.pos = chars::skip_space(buf, start);
            if at.pos > start {
                at.state = State::Attributes;
            }
            match buf.get(at.pos) {
                None => return Ok(None),
                Some(b'>') => {
                    at.pos += 1;
                    return Ok(Some(End::Open));
                }
                Some(b'/') => {
                    at.pos += 1;
                    at.state = State::Slash;
                }
                Some(_) if at.state == State::Gap => return Err(Fault::Syntax),
                Some(_) => {
                    let (count, limit) = (self.attributes.len(), context.limits.attributes);
                    self.bear(count, limit, context, Fault::TooManyAttributes)?;
                    self.attributes.push(Attribute::at(at.pos));
                    at.state = State::AttributeName;
                    return Ok(None);
                }
            }
        }
        match buf.get(at.pos) {
            None => Ok(None),
            Some(b'>') => {
                at.pos += 1;
                Ok(Some(End::Empty))
            }
            Some(_) => Err(Fault::Syntax),
        }
    }

    /// Reads on from behind an attribute's name to the start of its value; `false` when bytes are
    /// missing.
    #[inline]
    fn quote(&mut self, buf: &[u8], at: &mut At) -> Result<bool, Fault> {
        if at.state == State::Equals {
            at.pos = chars::skip_space(buf, at.pos);
            match buf.get(at.pos) {
                None => return Ok(false),
                Some(b'=') => at.pos += 1,
                Some(_) => return Err(Fault::Syntax),
            }
            at.state = State::Quote;
        }
        at.pos = chars::skip_space(buf, at.pos);
        self.quote = match buf.get(at.pos) {
            None => return Ok(false),
            Some(&quote @ (b'\'' | b'"')) => quote,
            Some(_) => return Err(Fault::Syntax),
        };
        at.pos += 1;
        self.begin_value(at);
        Ok(true)
    }

    #[inline]
    fn begin_value(&mut self, at: &mut At) {
        if let Some(attribute) = self.attributes.last_mut() {
            attribute.start = offset(at.pos);
        }
        at.state = State::Value;
    }

    /// Reads on to behind an attribute's value; `false` when bytes are missing.
    #[inline]
    fn value(&mut self, buf: &[u8], at: &mut At) -> Result<bool, Fault> {
        loop {
            if at.state == State::ValueReference {
                if !reference::scan(buf, self.item, &mut at.pos)? {
                    return Ok(false);
                }
                at.state = State::Value;
            }
            at.pos = window::find::<{ chars::IN_VALUE }>(buf, at.pos, self.quote);
            match buf.get(at.pos) {
                None => return Ok(false),
                Some(&b) if b == self.quote => {
                    if let Some(attribute) = self.attributes.last_mut() {
                        attribute.end = offset(at.pos);
                    }
                    at.pos += 1;
                    at.state = State::Gap;
                    return Ok(true);
                }
                Some(b'<') => return Err(Fault::AngleInValue),
                Some(b'&') => {
                    self.escaped();
                    at.pos += 1;
                    self.item = at.pos;
                    at.state = State::ValueReference;
                }
                Some(b'\t' | b'\n' | b'\r') => {
                    self.escaped();
                    at.pos += 1;
                }
                Some(_) => at.pos += chars::allowed(buf, at.pos).ok_or(Fault::ForbiddenChar)?,
            }
        }
    }

    /// Judges the start tag as a whole.
    fn finish_start_tag(
        &mut self,
        buf: &[u8],
        context: Context<'_>,
        end: End,
    ) -> Result<Step, Fault> {
        let empty = end == End::Empty;
        if self.alike {
            self.check_duplicates(buf)?;
        }
        let around = self.declarations.len();
        let first = self.open.is_empty();
        if first {
            self.first = self.read_tag(empty);
        }
        if self.qualified {
            self.check_namespaces(buf, context)?;
        }
        if first {
            let Place::Open(header) = context.place else {
                return if empty { Err(Fault::EmptyStream) } else { Ok(Step::Done(Found::Header)) };
            };
            self.first.name = self.classify(buf, header)?;
        }
        if empty {
            return Ok(self.close(around));
        }
        let (name, key) = (self.name, self.name.key(buf));
        self.open.push(Open { name, key, declarations: around });
        self.state = State::Text;
        Ok(Step::Next)
    }

    /// The bytes of the attribute at hand are not its value.
    fn escaped(&mut self) {
        if let Some(attribute) = self.attributes.last_mut() {
            attribute.escaped = true;
        }
    }

    /// Looks for attributes of the same name as written; those of the same name by namespace are
    /// found when prefixes are resolved.
    #[cold]
    #[inline(never)]
    fn check_duplicates(&self, buf: &[u8]) -> Result<(), Fault> {
        for (i, one) in self.attributes.iter().enumerate() {
            let before = self.attributes.get(..i).unwrap_or_default();
            if before.iter().any(|other| other.has_name_of(*one, buf)) {
                return Err(Fault::DuplicateAttribute);
            }
        }
        Ok(())
    }

    /// Notes what the tag of a first-level element says; its namespace is judged apart.
    fn read_tag(&self, empty: bool) -> Tag {
        let mut tag = Tag::new(ElementName::Other);
        tag.empty = empty;
        tag.insert_at = self.name.end;
        for attribute in &self.attributes {
            if attribute.is(b"from") {
                tag.from = Some(attribute.span());
            } else if attribute.is(b"to") {
                tag.to = Some(attribute.span());
            } else if attribute.is(b"id") {
                tag.id = Some(attribute.span());
            } else if attribute.is(b"type") {
                tag.type_ = Some(attribute.span());
            } else if attribute.is(b"xml:lang") {
                tag.has_lang = true;
            }
        }
        tag
    }
}

impl Tag {
    pub(super) fn new(name: ElementName) -> Self {
        Self {
            name,
            from: None,
            to: None,
            id: None,
            type_: None,
            has_lang: false,
            empty: false,
            insert_at: 0,
            excess: None,
            used: 0,
            own: 0,
        }
    }
}
