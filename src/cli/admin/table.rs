//! Aligned columns, and colours where a person looks.

use std::{
    env,
    io::{self, IsTerminal, Write},
};

use super::text::clean;

/// Colours on a terminal, and nothing where the output goes elsewhere or `NO_COLOR` is set.
#[derive(Clone, Copy, Debug)]
pub(super) struct Paint(bool);

impl Paint {
    pub(super) fn of_stdout() -> Self {
        let unwanted = env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty())
            || env::var_os("TERM").is_some_and(|term| term == "dumb");
        Self(io::stdout().is_terminal() && !unwanted)
    }

    pub(super) fn good(self, text: &str) -> String {
        self.wrap("32", text)
    }

    pub(super) fn warn(self, text: &str) -> String {
        self.wrap("33", text)
    }

    pub(super) fn bad(self, text: &str) -> String {
        self.wrap("31", text)
    }

    pub(super) fn strong(self, text: &str) -> String {
        self.wrap("1", text)
    }

    pub(super) fn faint(self, text: &str) -> String {
        self.wrap("2", text)
    }

    fn wrap(self, code: &str, text: &str) -> String {
        if self.0 && !text.is_empty() {
            format!("\u{1b}[{code}m{text}\u{1b}[0m")
        } else {
            text.to_owned()
        }
    }
}

/// How a cell looks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Look {
    Plain,
    Good,
    Warn,
    Bad,
    Faint,
}

/// One place in a table.
#[derive(Clone, Debug)]
pub(super) struct Cell {
    text: String,
    look: Look,
    is_number: bool,
}

impl Cell {
    pub(super) fn text(text: &str) -> Self {
        Self { text: clean(text), look: Look::Plain, is_number: false }
    }

    pub(super) fn number(text: impl ToString) -> Self {
        Self { text: text.to_string(), look: Look::Plain, is_number: true }
    }

    pub(super) fn look(mut self, look: Look) -> Self {
        self.look = look;
        self
    }
}

/// Rows under a head.
#[derive(Debug)]
pub(super) struct Table {
    head: &'static [&'static str],
    rows: Vec<Vec<Cell>>,
}

impl Table {
    pub(super) fn new(head: &'static [&'static str]) -> Self {
        Self { head, rows: Vec::new() }
    }

    pub(super) fn row(&mut self, cells: Vec<Cell>) {
        self.rows.push(cells);
    }

    /// Two blanks between columns; numbers end, and text begins, where their column does.
    pub(super) fn write(&self, out: &mut impl Write, paint: Paint) -> io::Result<()> {
        let mut widths: Vec<_> = self.head.iter().map(|name| name.chars().count()).collect();
        for row in &self.rows {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = (*width).max(cell.text.chars().count());
            }
        }
        let numbers: Vec<_> = (0..self.head.len())
            .map(|n| self.rows.iter().all(|row| row.get(n).is_some_and(|cell| cell.is_number)))
            .collect();
        let head = self.head.iter().map(|name| Cell {
            text: (*name).to_owned(),
            look: Look::Plain,
            is_number: false,
        });
        let head: Vec<_> = head.zip(&numbers).map(|(c, n)| Cell { is_number: *n, ..c }).collect();
        write_row(out, &head, &widths, |text, _| paint.strong(text))?;
        for row in &self.rows {
            write_row(out, row, &widths, |text, look| match look {
                Look::Plain => text.to_owned(),
                Look::Good => paint.good(text),
                Look::Warn => paint.warn(text),
                Look::Bad => paint.bad(text),
                Look::Faint => paint.faint(text),
            })?;
        }
        Ok(())
    }
}

fn write_row(
    out: &mut impl Write,
    row: &[Cell],
    widths: &[usize],
    paint: impl Fn(&str, Look) -> String,
) -> io::Result<()> {
    let last = row.len().saturating_sub(1);
    for (n, (cell, width)) in row.iter().zip(widths).enumerate() {
        let blanks = " ".repeat(width.saturating_sub(cell.text.chars().count()));
        let text = paint(&cell.text, cell.look);
        match (cell.is_number, n == last) {
            (true, _) => write!(out, "{blanks}{text}")?,
            (false, true) => write!(out, "{text}")?,
            (false, false) => write!(out, "{text}{blanks}")?,
        }
        if n < last {
            write!(out, "  ")?;
        }
    }
    writeln!(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_and_piped_output_is_plain() {
        let mut table = Table::new(&["NAME", "N", "WHY"]);
        table.row(vec![Cell::text("bücher"), Cell::number(7), Cell::text("a\u{1b}[0m")]);
        table.row(vec![Cell::text("b").look(Look::Bad), Cell::number(1234), Cell::text("")]);
        let mut plain = Vec::new();
        table.write(&mut plain, Paint(false)).unwrap();
        assert_eq!(
            String::from_utf8(plain).unwrap(),
            "NAME       N  WHY\nbücher     7  a\u{fffd}[0m\nb       1234  \n"
        );
        let mut painted = Vec::new();
        table.write(&mut painted, Paint(true)).unwrap();
        assert!(String::from_utf8(painted).unwrap().contains("\u{1b}[31mb\u{1b}[0m     "));
    }
}
