//! Start tags: names, attributes, and what the first-level one says (XML 1.0 §3.1).

use super::{
    super::token::{ElementName, Tag},
    Attribute, Context, Fault, Found, Open, Place, Scanner, State, Step, chars,
    name::{Kind, offset},
    reference,
};

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
        let (mut pos, mut state) = (self.pos, self.state);
        let end = self.find_end(buf, context, &mut pos, &mut state)?;
        (self.pos, self.state) = (pos, state);
        end.map_or(Ok(Step::Starved), |end| self.finish_start_tag(buf, context, end))
    }

    /// Finds the end of a start tag; `None` when bytes are missing. The states follow each other
    /// down the loop's body, once for each attribute.
    #[inline]
    fn find_end(
        &mut self,
        buf: &[u8],
        context: Context<'_>,
        pos: &mut usize,
        state: &mut State,
    ) -> Result<Option<End>, Fault> {
        if *state == State::Name {
            if !self.name.scan(buf, pos)? {
                return Ok(None);
            }
            self.qualified = self.name.has_prefix();
            *state = State::Gap;
        }
        loop {
            if matches!(*state, State::Gap | State::Attributes | State::Slash) {
                let end = self.gap(buf, context, pos, state)?;
                if end.is_some() || *state != State::AttributeName {
                    return Ok(end);
                }
            }
            if *state == State::AttributeName {
                if !self.attribute.name.scan(buf, pos)? {
                    return Ok(None);
                }
                self.attribute.finish_name(buf);
                self.qualified |= self.attribute.kind != Kind::Plain;
                *state = State::Equals;
            }
            if matches!(*state, State::Equals | State::Quote) && !self.quote(buf, pos, state)? {
                return Ok(None);
            }
            if !self.value(buf, pos, state)? {
                return Ok(None);
            }
        }
    }

    /// Reads on from behind a name or value, to the next attribute or the end of the tag.
    #[inline]
    fn gap(
        &mut self,
        buf: &[u8],
        context: Context<'_>,
        pos: &mut usize,
        state: &mut State,
    ) -> Result<Option<End>, Fault> {
        if *state != State::Slash {
            let start = *pos;
            *pos = chars::skip_space(buf, start);
            if *pos > start {
                *state = State::Attributes;
            }
            match buf.get(*pos) {
                None => return Ok(None),
                Some(b'>') => {
                    *pos += 1;
                    return Ok(Some(End::Open));
                }
                Some(b'/') => {
                    *pos += 1;
                    *state = State::Slash;
                }
                Some(_) if *state == State::Gap => return Err(Fault::Syntax),
                Some(_) if self.attributes.len() >= context.limits.attributes => {
                    return Err(Fault::TooManyAttributes);
                }
                Some(_) => {
                    self.attribute = Attribute::at(*pos);
                    *state = State::AttributeName;
                    return Ok(None);
                }
            }
        }
        match buf.get(*pos) {
            None => Ok(None),
            Some(b'>') => {
                *pos += 1;
                Ok(Some(End::Empty))
            }
            Some(_) => Err(Fault::Syntax),
        }
    }

    /// Reads on from behind an attribute's name to the start of its value; `false` when bytes are
    /// missing.
    #[inline]
    fn quote(&mut self, buf: &[u8], pos: &mut usize, state: &mut State) -> Result<bool, Fault> {
        if *state == State::Equals {
            *pos = chars::skip_space(buf, *pos);
            match buf.get(*pos) {
                None => return Ok(false),
                Some(b'=') => *pos += 1,
                Some(_) => return Err(Fault::Syntax),
            }
            *state = State::Quote;
        }
        *pos = chars::skip_space(buf, *pos);
        self.quote = match buf.get(*pos) {
            None => return Ok(false),
            Some(&quote @ (b'\'' | b'"')) => quote,
            Some(_) => return Err(Fault::Syntax),
        };
        *pos += 1;
        self.attribute.start = offset(*pos);
        *state = State::Value;
        Ok(true)
    }

    /// Reads on to behind an attribute's value; `false` when bytes are missing.
    #[inline]
    fn value(&mut self, buf: &[u8], pos: &mut usize, state: &mut State) -> Result<bool, Fault> {
        loop {
            if *state == State::ValueReference {
                if !reference::scan(buf, self.item, pos)? {
                    return Ok(false);
                }
                *state = State::Value;
            }
            *pos = chars::find::<{ chars::IN_VALUE }>(buf, *pos);
            match buf.get(*pos) {
                None => return Ok(false),
                Some(&quote @ (b'\'' | b'"')) if quote == self.quote => {
                    self.attribute.end = offset(*pos);
                    self.attributes.push(self.attribute);
                    *pos += 1;
                    *state = State::Gap;
                    return Ok(true);
                }
                Some(b'<') => return Err(Fault::AngleInValue),
                Some(b'&') => {
                    self.attribute.escaped = true;
                    *pos += 1;
                    self.item = *pos;
                    *state = State::ValueReference;
                }
                Some(b'\t' | b'\n' | b'\r') => {
                    self.attribute.escaped = true;
                    *pos += 1;
                }
                Some(_) => *pos += chars::allowed(buf, *pos).ok_or(Fault::ForbiddenChar)?,
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
        self.check_duplicates(buf)?;
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
        self.open.push(Open { name: self.name, declarations: around });
        self.state = State::Text;
        Ok(Step::Next)
    }

    /// Looks for attributes of the same name as written; those of the same name by namespace are
    /// found when prefixes are resolved.
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
            used: 0,
            own: 0,
        }
    }
}
