//! The coverage matrix, for people.

use std::collections::BTreeMap;
use std::fmt;

use super::{Catalogue, Statement};

/// How much of a section is covered.
#[derive(Clone, Copy, Debug, Default)]
struct Coverage {
    statements: usize,
    tested: usize,
    reasons: usize,
}

impl Coverage {
    fn count(&mut self, statement: &Statement) {
        self.statements += 1;
        self.tested += usize::from(!statement.tests.is_empty());
        self.reasons += usize::from(statement.reason.is_some());
    }

    fn row(self, name: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { statements, tested, reasons } = self;
        let open = statements.saturating_sub(tested + reasons);
        writeln!(f, "{name:<12}{statements:>12}{tested:>9}{reasons:>9}{open:>6}")
    }
}

/// One line for each section, and a sum.
impl fmt::Display for Catalogue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut sections: BTreeMap<(u16, u16), Coverage> = BTreeMap::new();
        let mut sum = Coverage::default();
        for statement in self.statements() {
            let [chapter, section, _] = statement.id.section;
            sections.entry((chapter, section)).or_default().count(statement);
            sum.count(statement);
        }
        writeln!(
            f,
            "{:<12}{:>12}{:>9}{:>9}{:>6}",
            self.specification.name, "statements", "tested", "reasons", "open"
        )?;
        for ((chapter, section), coverage) in sections {
            coverage.row(&format!("  {chapter}.{section}"), f)?;
        }
        sum.row("  all", f)
    }
}

/// What it says and what covers it, on several lines.
impl fmt::Display for Statement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} ({:?}): {}", self.id, self.binds, self.says)?;
        for test in &self.tests {
            writeln!(f, "    {test}")?;
        }
        match &self.reason {
            Some(reason) => writeln!(f, "    no test: {reason}"),
            None if self.tests.is_empty() => writeln!(f, "    OPEN"),
            None => Ok(()),
        }
    }
}
