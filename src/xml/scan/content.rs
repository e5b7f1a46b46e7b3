//! Inside elements: text, CDATA sections, and the markup that XMPP forbids (RFC 6120 §11.1).

use super::{Context, Fault, Place, Scanner, State, Step, chars, reference, window};

impl Scanner {
    pub(super) fn text(&mut self, buf: &[u8]) -> Result<Step, Fault> {
        loop {
            self.pos = window::find::<{ chars::IN_TEXT }>(buf, self.pos, 0);
            match buf.get(self.pos) {
                None => return Ok(Step::Starved),
                Some(b'<') => {
                    self.pos += 1;
                    self.state = State::Markup;
                    return Ok(Step::Next);
                }
                Some(b'&') => {
                    self.pos += 1;
                    self.item = self.pos;
                    self.state = State::TextReference;
                    return Ok(Step::Next);
                }
                Some(b'>') if self.ends_section(buf) => return Err(Fault::CdataEndInText),
                Some(_) => {
                    self.pos += chars::allowed(buf, self.pos).ok_or(Fault::ForbiddenChar)?;
                }
            }
        }
    }

    pub(super) fn text_reference(&mut self, buf: &[u8]) -> Result<Step, Fault> {
        if !reference::scan(buf, self.item, &mut self.pos)? {
            return Ok(Step::Starved);
        }
        self.state = State::Text;
        Ok(Step::Next)
    }

    pub(super) fn cdata(&mut self, buf: &[u8]) -> Result<Step, Fault> {
        loop {
            self.pos = window::find::<{ chars::IN_CDATA }>(buf, self.pos, 0);
            match buf.get(self.pos) {
                None => return Ok(Step::Starved),
                Some(b'>') if self.ends_section(buf) => {
                    self.pos += 1;
                    self.state = State::Text;
                    return Ok(Step::Next);
                }
                Some(_) => {
                    self.pos += chars::allowed(buf, self.pos).ok_or(Fault::ForbiddenChar)?;
                }
            }
        }
    }

    /// Whether the `>` at hand is the end of `]]>`. What precedes text is `>` or `;`, what precedes
    /// the content of a section is `[`, so the brackets cannot belong to anything else.
    fn ends_section(&self, buf: &[u8]) -> bool {
        buf.get(..self.pos).is_some_and(|before| before.ends_with(b"]]"))
    }

    pub(super) fn bang(&mut self, buf: &[u8]) -> Result<Step, Fault> {
        let come = buf.get(self.item..).unwrap_or_default();
        match come.get(1) {
            None => return Ok(Step::Starved),
            Some(b'-') => return Err(Fault::Comment),
            Some(b'[') if self.open.is_empty() => return Err(Fault::StreamText),
            Some(b'[') => {}
            Some(b'A'..=b'Z') => return Err(Fault::DocumentType),
            Some(_) => return Err(Fault::Syntax),
        }
        let len = come.len().min(CDATA.len());
        if come.get(..len) != CDATA.get(..len) {
            return Err(Fault::Syntax);
        }
        if len < CDATA.len() {
            return Ok(Step::Starved);
        }
        self.pos = self.item + CDATA.len();
        self.state = State::Cdata;
        Ok(Step::Next)
    }

    pub(super) fn pi(&mut self, buf: &[u8], context: Context<'_>) -> Result<Step, Fault> {
        let come = buf.get(self.item..).unwrap_or_default();
        let len = come.len().min(XML.len());
        if come.get(..len) != XML.get(..len) {
            return Err(Fault::ProcessingInstruction);
        }
        match come.get(XML.len()) {
            None => Ok(Step::Starved),
            Some(&b) if chars::is(b, chars::SPACE) => {
                if !matches!(context.place, Place::Start) {
                    return Err(Fault::MisplacedDeclaration);
                }
                self.pos = self.item + XML.len();
                self.item = self.pos;
                self.state = State::Declaration;
                Ok(Step::Next)
            }
            Some(b'?') => Err(Fault::BadDeclaration),
            Some(_) => Err(Fault::ProcessingInstruction),
        }
    }
}

const CDATA: &[u8] = b"![CDATA[";
const XML: &[u8] = b"?xml";
