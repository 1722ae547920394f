//! How the demonstration is told: one plain line after another, each with its time since the broker was ready.

use std::{
    io::{IsTerminal, Write},
    time::Instant,
};

/// What a line is about; on a terminal it has a colour for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tone {
    /// Something happens.
    Plain,
    /// A person is needed.
    Alarm,
    /// It went well.
    Good,
}

/// Speaks on standard output.
#[derive(Debug)]
pub struct Voice {
    began: Instant,
    colour: bool,
}

impl Voice {
    /// Begins to count the time now. Colours only on a terminal, and not where `NO_COLOR` is set.
    pub fn new() -> Self {
        let colour = std::io::stdout().is_terminal()
            && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        Self { began: Instant::now(), colour }
    }

    /// Tells that something happened now.
    pub fn say(&self, tone: Tone, what: &str) {
        let time = format!("{:7.2} s  ", self.began.elapsed().as_secs_f64());
        let indent = " ".repeat(time.len());
        let what = what.replace('\n', &format!("\n{indent}"));
        match self.paint(tone) {
            Some(code) => self.print(&format!("{time}\x1b[{code}m{what}\x1b[0m")),
            None => self.print(&format!("{time}{what}")),
        }
    }

    /// Lines without a time.
    pub fn print(&self, text: &str) {
        // Whoever was listening may have gone; the demonstration goes on to its verdict.
        let mut out = std::io::stdout().lock();
        let _ = writeln!(out, "{text}").and_then(|()| out.flush());
    }

    fn paint(&self, tone: Tone) -> Option<&'static str> {
        match tone {
            _ if !self.colour => None,
            Tone::Plain => None,
            Tone::Alarm => Some("1;31"),
            Tone::Good => Some("32"),
        }
    }
}

impl Default for Voice {
    fn default() -> Self {
        Self::new()
    }
}
