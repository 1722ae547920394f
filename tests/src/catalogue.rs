//! The conformance catalogue: every normative statement of MQTT 3.1.1 and 5.0, and what shows that it is kept.
//!
//! One table for each version in `tests/conformance/`. A statement names the tests that cover it, or the reason that none
//! can. What the tables claim is held against the sources, line by line: a named test must be there and must name the
//! statement, a statement that binds the server must be cited where the server implements it, and nothing may cite a
//! statement that there is not.
//!
//! Statements of MQTT 5.0 are cited as `[MQTT-x.y.z-n]`; those of MQTT 3.1.1, which numbers otherwise, as `[MQTT3-x.y.z-n]`.

mod matrix;
mod problem;
mod source;
mod statement;

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::Deserialize;

pub use problem::Problem;
pub use statement::{Binds, Statement, StatementId, TestName};

use source::Source;

/// Where statements are implemented, tested and cited.
const ROOMS: [&str; 5] = ["acl", "broker", "certs", "plugins", "tests"];

/// A version of MQTT, and where its statements are.
#[derive(Debug, PartialEq, Eq)]
pub struct Specification {
    /// What people call it.
    pub name: &'static str,
    /// Its table, from the root of the repository.
    pub table: &'static str,
    /// What a citation of one of its statements begins with.
    pub cited_as: &'static str,
}

/// MQTT 3.1.1.
pub const V311: Specification =
    Specification { name: "MQTT 3.1.1", table: "tests/conformance/mqtt-3.1.1.toml", cited_as: "MQTT3-" };
/// MQTT 5.0.
pub const V5: Specification =
    Specification { name: "MQTT 5.0", table: "tests/conformance/mqtt-5.0.toml", cited_as: "MQTT-" };

/// The statements of one version.
#[derive(Debug)]
pub struct Catalogue {
    specification: &'static Specification,
    table: Table,
}

/// A table as it is written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    /// Numbers that the specification leaves out.
    #[serde(default)]
    absent: BTreeSet<StatementId>,
    #[serde(default, rename = "statement")]
    statements: Vec<Statement>,
}

/// Why a catalogue cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum CatalogueError {
    /// The file.
    #[error("{path} cannot be read: {source}")]
    Read {
        /// From the root of the repository, or absolute.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// What is in it.
    #[error("{path} is not a table of statements: {source}")]
    Table {
        /// From the root of the repository.
        path: PathBuf,
        /// Where and what.
        source: Box<toml::de::Error>,
    },
}

impl Catalogue {
    /// Reads the table of a version below `root`.
    ///
    /// # Errors
    /// A table that is not there, or is none.
    pub fn load(root: &Path, specification: &'static Specification) -> Result<Self, CatalogueError> {
        let path = PathBuf::from(specification.table);
        let text = fs::read_to_string(root.join(&path))
            .map_err(|source| CatalogueError::Read { path: path.clone(), source })?;
        let table = toml::from_str(&text)
            .map_err(|source| CatalogueError::Table { path, source: Box::new(source) })?;
        Ok(Self { specification, table })
    }

    /// The version.
    pub fn specification(&self) -> &'static Specification {
        self.specification
    }

    /// Its statements, in the order of the specification.
    pub fn statements(&self) -> &[Statement] {
        &self.table.statements
    }

    fn has(&self, id: StatementId) -> bool {
        self.table.statements.iter().any(|statement| statement.id == id)
    }
}

/// Both catalogues and the sources that they speak of.
#[derive(Debug)]
pub struct Conformance {
    v311: Catalogue,
    v5: Catalogue,
    sources: Vec<Source>,
}

impl Conformance {
    /// Reads both tables and every Rust source below `root`.
    ///
    /// # Errors
    /// A table or a source that cannot be read.
    pub fn load(root: &Path) -> Result<Self, CatalogueError> {
        let (v311, v5) = (Catalogue::load(root, &V311)?, Catalogue::load(root, &V5)?);
        Ok(Self { v311, v5, sources: source::below(root, &ROOMS)? })
    }

    /// The catalogue of each version.
    pub fn catalogues(&self) -> [&Catalogue; 2] {
        [&self.v311, &self.v5]
    }

    /// Everything that is not as it should be.
    pub fn problems(&self) -> Vec<Problem> {
        let mut problems: Vec<Problem> =
            self.catalogues().into_iter().flat_map(|catalogue| self.problems_of(catalogue)).collect();
        problems.extend(self.unknown_citations());
        problems
    }

    fn problems_of(&self, catalogue: &Catalogue) -> Vec<Problem> {
        let mut problems = catalogue.numbering_problems();
        let table = catalogue.specification.table;
        for statement in catalogue.statements() {
            let id = statement.id;
            if statement.says.trim().is_empty() {
                problems.push(Problem::Silent { table, id });
            }
            match (statement.tests.is_empty(), &statement.reason) {
                (true, None) => problems.push(Problem::Uncovered { table, id }),
                (false, Some(_)) => problems.push(Problem::TestsAndReason { table, id }),
                (true, Some(reason)) if reason.trim().is_empty() => {
                    problems.push(Problem::Uncovered { table, id });
                }
                _ => {}
            }
            if let Some(twin) = statement.v5.filter(|twin| !self.v5.has(*twin)) {
                problems.push(Problem::NoTwin { table, id, twin });
            }
            let citation = catalogue.citation(id);
            problems.extend(
                statement.tests.iter().filter_map(|test| self.test_problem(table, id, test, &citation)),
            );
            if statement.binds.server()
                && !statement.tests.is_empty()
                && !self.implements(catalogue, statement)
            {
                problems.push(Problem::NotImplemented { table, id });
            }
        }
        problems
    }

    fn test_problem(
        &self,
        table: &'static str,
        id: StatementId,
        test: &TestName,
        citation: &str,
    ) -> Option<Problem> {
        let test_name = test.to_string();
        let Some(source) = self.sources.iter().find(|source| source.path == Path::new(&test.file)) else {
            return Some(Problem::NoTest { table, id, test: test_name });
        };
        match source.test(&test.function) {
            None => Some(Problem::NoTest { table, id, test: test_name }),
            Some(text) if !text.contains(citation) => {
                Some(Problem::TestDoesNotCite { table, id, test: test_name })
            }
            Some(_) => None,
        }
    }

    /// Whether the server's code cites the statement, or the one of MQTT 5.0 that says the same.
    fn implements(&self, catalogue: &Catalogue, statement: &Statement) -> bool {
        let citations =
            [Some(catalogue.citation(statement.id)), statement.v5.map(|twin| self.v5.citation(twin))];
        self.sources
            .iter()
            .filter(|source| source.is_server_code())
            .any(|source| citations.iter().flatten().any(|citation| source.text.contains(citation)))
    }

    fn unknown_citations(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        for source in &self.sources {
            for citation in source.citations() {
                let known = self.catalogues().into_iter().any(|catalogue| catalogue.knows(&citation.text));
                if !known {
                    let at = format!("{}:{}", source.path.display(), citation.line);
                    problems.push(Problem::UnknownCitation { at, citation: citation.text });
                }
            }
        }
        problems
    }
}

impl Catalogue {
    /// How a statement is cited, brackets included.
    fn citation(&self, id: StatementId) -> String {
        format!("[{}{}]", self.specification.cited_as, id.number())
    }

    /// Whether `citation`, brackets included, is one of a statement of this version.
    fn knows(&self, citation: &str) -> bool {
        citation
            .strip_prefix('[')
            .and_then(|rest| rest.strip_prefix(self.specification.cited_as)?.strip_suffix(']'))
            .and_then(StatementId::from_number)
            .is_some_and(|id| self.has(id))
    }

    /// Statements follow each other without a gap, so that none is there twice and none is forgotten.
    fn numbering_problems(&self) -> Vec<Problem> {
        let table = self.specification.table;
        let mut problems = Vec::new();
        let mut before: Option<StatementId> = None;
        for statement in &self.table.statements {
            let id = statement.id;
            if before.is_some_and(|before| before >= id) {
                problems.push(Problem::OutOfOrder { table, id });
            }
            let first = before.filter(|before| before.section == id.section).map_or(1, |before| before.n + 1);
            let skipped = (first..id.n).map(|n| StatementId { n, ..id });
            problems.extend(
                skipped
                    .filter(|missing| !self.table.absent.contains(missing))
                    .map(|id| Problem::Missing { table, id }),
            );
            before = Some(id);
        }
        problems
    }
}

#[cfg(test)]
mod tests;
