//! What is wrong with a configuration: where, what, and what would be right.
//!
//! A [`Problem`] prints as `file:line:column`, the offending text and a hint, with the source line
//! and a caret below it. It holds what it prints and outlives the file it was found in. What
//! stands in a file is shown without control characters, so that no file can write to a terminal.

use std::{fmt, sync::Arc};

use super::policy::Place;

/// How bad it is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Severity {
    /// The configuration cannot be used.
    Error,
    /// It can be used, but may not mean what its author meant.
    Warning,
}

/// One thing that is wrong in one place.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Problem {
    severity: Severity,
    file: Arc<str>,
    spot: Option<Spot>,
    wrong: Wrong,
}

/// All that is wrong, in order of place.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub struct Problems {
    problems: Vec<Problem>,
    more: usize,
}

/// A place in a file with the line around it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct Spot {
    line: usize,
    column: usize,
    excerpt: String,
    indent: usize,
    width: usize,
}

impl Problem {
    /// How bad it is.
    #[must_use]
    pub fn severity(&self) -> Severity {
        self.severity
    }

    /// `file:line:column: what is wrong`, for a log line; [`fmt::Display`] shows all.
    #[must_use]
    pub fn headline(&self) -> String {
        format!("{}: {}", self.place(), self.wrong.message)
    }

    fn place(&self) -> String {
        match &self.spot {
            Some(spot) => format!("{}:{}:{}", self.file, spot.line, spot.column),
            None => self.file.to_string(),
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let severity = match self.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
        };
        write!(f, "{}: {severity}: {}", self.place(), self.wrong.message)?;
        let hint = self.wrong.hint.as_deref();
        match &self.spot {
            Some(spot) => {
                write!(f, "\n{:>5} | {}", spot.line, spot.excerpt)?;
                write!(f, "\n      | {:indent$}", "", indent = spot.indent)?;
                write!(f, "{:^>width$}", "", width = spot.width)?;
                hint.map_or(Ok(()), |hint| write!(f, " {hint}"))
            }
            None => hint.map_or(Ok(()), |hint| write!(f, "; {hint}")),
        }
    }
}

impl Problems {
    /// The problems, errors and warnings, in order of place.
    pub fn iter(&self) -> impl Iterator<Item = &Problem> {
        self.problems.iter()
    }

    /// The first error in one line, and how many more there are.
    #[must_use]
    pub fn summary(&self) -> String {
        let mut errors = self.problems.iter().filter(|p| p.severity == Severity::Error);
        let first = errors.next().map(Problem::headline).unwrap_or_default();
        match errors.count() + self.more {
            0 => first,
            1 => format!("{first} (and 1 more error)"),
            more => format!("{first} (and {more} more errors)"),
        }
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, problem) in self.problems.iter().enumerate() {
            if n > 0 {
                writeln!(f)?;
            }
            write!(f, "{problem}")?;
        }
        match self.more {
            0 => Ok(()),
            more => write!(f, "\nand {more} more errors"),
        }
    }
}

/// What is wrong, without its place.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Wrong {
    message: String,
    hint: Option<String>,
}

impl Wrong {
    /// The same where there is no file to point into.
    pub(super) fn into_text(self) -> String {
        self.message + &self.hint.map(|hint| format!("; {hint}")).unwrap_or_default()
    }

    pub(super) fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), hint: None }
    }

    pub(super) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

/// A place: file by its number, line and column (in characters) from 1, and the width there in
/// characters, or [`At::MEASURE`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct At {
    pub(super) file: usize,
    pub(super) line: usize,
    pub(super) column: usize,
    pub(super) width: usize,
}

impl At {
    /// The width is to be read off the line when it is shown.
    pub(super) const MEASURE: usize = 0;
}

/// A file as it was read.
pub(super) struct Source {
    name: Arc<str>,
    text: String,
    starts: Vec<usize>,
}

impl Source {
    pub(super) fn new(name: impl Into<Arc<str>>, text: String) -> Self {
        let text = text.strip_prefix('\u{feff}').map(str::to_owned).unwrap_or(text);
        let mut starts = vec![0];
        let bytes = text.as_bytes();
        for (at, byte) in bytes.iter().enumerate() {
            // YAML 1.2 §5.4: a line ends with LF, CR LF or CR
            if *byte == b'\n' || (*byte == b'\r' && bytes.get(at + 1) != Some(&b'\n')) {
                starts.push(at + 1);
            }
        }
        Self { name: name.into(), text, starts }
    }

    pub(super) fn name(&self) -> &Arc<str> {
        &self.name
    }

    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// A line by its number from 1, without its end.
    pub(super) fn line(&self, number: usize) -> &str {
        let start = number.checked_sub(1).and_then(|n| self.starts.get(n)).copied();
        let end = self.starts.get(number).copied().unwrap_or(self.text.len());
        start.and_then(|s| self.text.get(s..end)).unwrap_or("").trim_end_matches(['\r', '\n'])
    }
}

/// Collects problems with the sources they stand in.
pub(super) struct Reports<'s> {
    sources: &'s [Source],
    problems: Vec<Problem>,
    errors: usize,
    warnings: usize,
}

impl<'s> Reports<'s> {
    pub(super) fn new(sources: &'s [Source]) -> Self {
        Self { sources, problems: Vec::new(), errors: 0, warnings: 0 }
    }

    pub(super) fn error(&mut self, at: At, wrong: Wrong) {
        self.errors += 1;
        if self.errors <= MAX_SHOWN {
            self.add(Severity::Error, at, wrong);
        }
    }

    pub(super) fn warning(&mut self, at: At, wrong: Wrong) {
        self.warnings += 1;
        if self.warnings <= MAX_SHOWN {
            self.add(Severity::Warning, at, wrong);
        }
    }

    /// An error of a whole file or directory.
    pub(super) fn file_error(&mut self, file: impl Into<Arc<str>>, wrong: Wrong) {
        self.errors += 1;
        if self.errors <= MAX_SHOWN {
            self.file(Severity::Error, file.into(), wrong);
        }
    }

    /// A warning of a whole file or directory.
    pub(super) fn file_warning(&mut self, file: impl Into<Arc<str>>, wrong: Wrong) {
        self.warnings += 1;
        if self.warnings <= MAX_SHOWN {
            self.file(Severity::Warning, file.into(), wrong);
        }
    }

    /// An error in a line of a file that is not among the sources.
    pub(super) fn line_error(&mut self, file: &Arc<str>, text: &str, at: At, wrong: Wrong) {
        self.errors += 1;
        if self.errors <= MAX_SHOWN {
            let source = Source { name: file.clone(), text: text.to_owned(), starts: vec![0] };
            let spot = Some(Spot { line: at.line, ..spot(&source, At { line: 1, ..at }) });
            let (severity, file) = (Severity::Error, file.clone());
            self.problems.push(Problem { severity, file, spot, wrong });
        }
    }

    /// How many errors there are so far.
    pub(super) fn errors(&self) -> usize {
        self.errors
    }

    pub(super) fn source(&self, at: At) -> Option<&'s Source> {
        self.sources.get(at.file)
    }

    /// The place of a rule.
    pub(super) fn place(&self, at: At) -> Place {
        let name = self.source(at).map_or_else(|| "".into(), |source| source.name().clone());
        Place::new(name, at.line, at.column)
    }

    /// `file:line:column` for a message.
    pub(super) fn exact(&self, at: At) -> String {
        format!("{:#}", self.place(at))
    }

    /// The warnings if there is no error, everything else.
    pub(super) fn finish(self) -> Result<Vec<Problem>, Problems> {
        let mut problems = self.problems;
        // stable: problems of one place stay in the order they were found in
        problems.sort_by(|a, b| {
            let key = |p: &Problem| p.spot.as_ref().map(|spot| (spot.line, spot.column));
            (&a.file, key(a)).cmp(&(&b.file, key(b)))
        });
        if self.errors == 0 {
            return Ok(problems);
        }
        Err(Problems { problems, more: self.errors.saturating_sub(MAX_SHOWN) })
    }

    fn add(&mut self, severity: Severity, at: At, wrong: Wrong) {
        let Some(source) = self.source(at) else { return };
        let file = source.name().clone();
        self.problems.push(Problem { severity, file, spot: Some(spot(source, at)), wrong });
    }

    fn file(&mut self, severity: Severity, file: Arc<str>, wrong: Wrong) {
        self.problems.push(Problem { severity, file, spot: None, wrong });
    }
}

/// The line around a place, cut to what a terminal shows.
fn spot(source: &Source, at: At) -> Spot {
    let line = source.line(at.line);
    let before = at.column.saturating_sub(1);
    let cut = before.saturating_sub(EXCERPT / 2);
    let mut excerpt: String = line.chars().skip(cut).take(EXCERPT).map(tame).collect();
    excerpt.truncate(excerpt.trim_end().len());
    let indent = before - cut;
    let room = excerpt.chars().count().saturating_sub(indent).max(1);
    let width = match at.width {
        At::MEASURE => scalar_width(line.chars().skip(before)),
        width => width,
    };
    let width = width.clamp(1, room);
    Spot { line: at.line, column: at.column, excerpt, indent, width }
}

/// Characters of the scalar that begins a text, as far as it stands on this line.
fn scalar_width(mut text: impl Iterator<Item = char>) -> usize {
    let quote = match text.next() {
        Some(c @ ('\'' | '"')) => c,
        Some(_) => return 1 + text.count(),
        None => return 0,
    };
    let mut escaped = false;
    let inside = text.take_while(|&c| {
        let ends = c == quote && !escaped;
        escaped = quote == '"' && c == '\\' && !escaped;
        !ends
    });
    inside.count() + 2
}

/// One column for one character, and nothing that moves a cursor.
fn tame(c: char) -> char {
    match c {
        '\t' => ' ',
        c if c.is_control() => '\u{fffd}',
        // bidirectional controls show a line in another order than it has
        '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => '\u{fffd}',
        c => c,
    }
}

/// Offending text for a message: quoted, escaped, cut.
pub(super) fn quote(text: &str) -> String {
    match text.char_indices().nth(MAX_QUOTED) {
        Some((end, _)) => format!("{:?}…", text.get(..end).unwrap_or("")),
        None => format!("{text:?}"),
    }
}

/// More errors than this are counted, not shown; so with warnings.
const MAX_SHOWN: usize = 200;
/// Characters of a source line that are shown.
const EXCERPT: usize = 120;
/// Characters of an offending text that are shown.
const MAX_QUOTED: usize = 80;
