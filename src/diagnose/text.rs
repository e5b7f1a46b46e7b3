//! A report as aligned lines of text: what it is about, how long it took, what was found.

use std::fmt::Write as _;

use super::Status;

/// One line of a report.
#[derive(Clone, Debug)]
pub(super) struct Line {
    label: &'static str,
    ms: Option<u64>,
    mark: Option<Status>,
    text: String,
}

/// Lines in order.
#[derive(Clone, Debug, Default)]
pub(super) struct Lines(Vec<Line>);

impl Lines {
    /// Adds a line. A label that stands on the line above is not repeated.
    pub(super) fn add(
        &mut self,
        label: &'static str,
        ms: Option<u64>,
        mark: Option<Status>,
        text: impl Into<String>,
    ) {
        self.0.push(Line { label, ms, mark, text: text.into() });
    }

    /// All lines, in colours if they are wanted.
    pub(super) fn write(&self, colour: bool) -> String {
        let mut out = String::new();
        let mut above = "";
        for Line { label, ms, mark, text } in &self.0 {
            let shown = if *label == above { "" } else { label };
            above = label;
            let ms = ms.map(|ms| format!("{ms} ms")).unwrap_or_default();
            let sign = mark.map_or("", sign);
            // one line each, whatever it holds
            let text: String =
                text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect();
            let line = match (colour, mark) {
                (true, Some(mark)) => {
                    let code = code(*mark);
                    format!(
                        "\x1b[1m{shown:<LABEL$}\x1b[0m{ms:>TIME$}  \x1b[{code}m{sign:<SIGN$}{text}\x1b[0m"
                    )
                }
                (true, None) => {
                    format!("\x1b[1m{shown:<LABEL$}\x1b[0m{ms:>TIME$}  {sign:<SIGN$}{text}")
                }
                (false, _) => format!("{shown:<LABEL$}{ms:>TIME$}  {sign:<SIGN$}{text}"),
            };
            // writing to a string does not fail
            let _ = writeln!(out, "{}", line.trim_end());
        }
        out
    }
}

/// What stands before the text, for those who see no colours.
fn sign(mark: Status) -> &'static str {
    match mark {
        Status::Ok => "+",
        Status::Warning => "!",
        Status::Critical => "-",
        Status::Unknown => "?",
    }
}

/// Green, yellow, red, magenta.
fn code(mark: Status) -> u8 {
    match mark {
        Status::Ok => 32,
        Status::Warning => 33,
        Status::Critical => 31,
        Status::Unknown => 35,
    }
}

/// Columns of the label,
const LABEL: usize = 9;
/// of the time,
const TIME: usize = 7;
/// and of the sign.
const SIGN: usize = 2;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_not_repeated_and_nothing_of_others_acts_on_a_terminal() {
        let mut lines = Lines::default();
        lines.add("dns", Some(12), None, "one");
        lines.add("dns", None, Some(Status::Warning), "two\x1b[2J\nthree");
        lines.add("tls", Some(1234), Some(Status::Ok), "");
        assert_eq!(
            lines.write(false),
            "dns        12 ms    one\n                  ! two\u{fffd}[2J\u{fffd}three\ntls      1234 ms  +\n"
        );
        let coloured = lines.write(true);
        assert!(
            coloured.contains("\x1b[33m! two\u{fffd}[2J\u{fffd}three\x1b[0m\n"),
            "{coloured:?}"
        );
        assert_eq!(coloured.lines().count(), 3);
    }

    #[test]
    fn every_status_has_its_number_and_the_worst_counts() {
        let all = [Status::Ok, Status::Warning, Status::Unknown, Status::Critical];
        assert_eq!(all.map(Status::exit), [0, 1, 3, 2]);
        assert!(all.is_sorted());
    }
}
