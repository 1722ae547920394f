//! `rules.toml`: one file for all plugins.
//!
//! It knows which plugin a section belongs to and on which line it stands; what a section means is the
//! plugin's.

use std::path::{Path, PathBuf};

use serde::Deserialize;
use toml::Spanned;
use wardline_escalation::{Escalation, EscalationRule, Paths};
use wardline_plugin_api::Plugin;
use wardline_threshold::{AbsenceRule, LimitRule, Policy, ScoreRule, Section, Threshold};

/// The rules of a file, found sound.
#[derive(Clone, Debug)]
pub struct Rules {
    /// When a reading is a condition.
    pub limits: Policy,
    /// Who is told of one.
    pub paths: Paths,
}

/// Why rules cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum RulesError {
    /// The file cannot be read.
    #[error("{}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// What it says cannot be meant: each problem with file and line, one a line.
    #[error("{}", join(path, problems))]
    Wrong {
        /// The file.
        path: PathBuf,
        /// In the order of the file.
        problems: Vec<LineProblem>,
    },
}

/// A problem and where it stands.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct LineProblem {
    /// From 1.
    pub line: usize,
    /// What is wrong and how to mend it.
    pub message: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    limit: Vec<Spanned<LimitRule>>,
    #[serde(default)]
    absence: Vec<Spanned<AbsenceRule>>,
    #[serde(default)]
    score: Vec<Spanned<ScoreRule>>,
    #[serde(default)]
    escalation: Vec<Spanned<EscalationRule>>,
}

/// Reads and checks a rules file.
///
/// # Errors
/// That the file cannot be read, or everything that is wrong with it.
pub fn load(path: &Path) -> Result<Rules, RulesError> {
    let text =
        std::fs::read_to_string(path).map_err(|source| RulesError::Read { path: path.to_owned(), source })?;
    parse(&text).map_err(|problems| RulesError::Wrong { path: path.to_owned(), problems })
}

/// Checks the text of a rules file.
///
/// # Errors
/// Everything that is wrong with it, in its order.
pub fn parse(text: &str) -> Result<Rules, Vec<LineProblem>> {
    let file: File = toml::from_str(text).map_err(|error| {
        let line = error.span().map_or(1, |span| line_of(text, span.start));
        vec![LineProblem { line, message: error.message().to_owned() }]
    })?;
    let (limit_lines, limit) = apart(text, file.limit);
    let (absence_lines, absence) = apart(text, file.absence);
    let (score_lines, score) = apart(text, file.score);
    let (escalation_lines, escalation) = apart(text, file.escalation);

    let line = |lines: &[usize], index: usize| lines.get(index).copied().unwrap_or(1);
    let limits = Policy::new(&wardline_threshold::Rules { limit, absence, score }).map_err(|problems| {
        let place = |problem: wardline_threshold::Problem| {
            let lines = match problem.section {
                Section::Limit => &limit_lines,
                Section::Absence => &absence_lines,
                Section::Score => &score_lines,
            };
            LineProblem { line: line(lines, problem.index), message: problem.message }
        };
        problems.into_iter().map(place).collect::<Vec<_>>()
    });
    let paths = Paths::new(&wardline_escalation::Rules { escalation }).map_err(|problems| {
        let place = |problem: wardline_escalation::Problem| LineProblem {
            line: line(&escalation_lines, problem.index),
            message: problem.message,
        };
        problems.into_iter().map(place).collect::<Vec<_>>()
    });
    match (limits, paths) {
        (Ok(limits), Ok(paths)) => Ok(Rules { limits, paths }),
        (limits, paths) => {
            let mut problems = limits.err().unwrap_or_default();
            problems.extend(paths.err().unwrap_or_default());
            problems.sort();
            Err(problems)
        }
    }
}

/// The plugins under these rules, knowing nothing yet.
pub fn plugins(rules: &Rules) -> Vec<Box<dyn Plugin>> {
    vec![Box::new(Threshold::new(rules.limits.clone())), Box::new(Escalation::new(rules.paths.clone()))]
}

fn apart<T>(text: &str, sections: Vec<Spanned<T>>) -> (Vec<usize>, Vec<T>) {
    sections.into_iter().map(|section| (line_of(text, section.span().start), section.into_inner())).unzip()
}

fn line_of(text: &str, byte: usize) -> usize {
    1 + text.bytes().take(byte).filter(|byte| *byte == b'\n').count()
}

fn join(path: &Path, problems: &[LineProblem]) -> String {
    let lines: Vec<_> = problems
        .iter()
        .map(|problem| format!("{}:{}: {}", path.display(), problem.line, problem.message))
        .collect();
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOUND: &str = r#"
[[limit]]
signal = "hr"
low = 50
profile = "adult"
severity = "death"
onset = "prompt"
delay = "15s"
hysteresis = 2
[[absence]]
signal = "spo2"
after = "30s"
[[escalation]]
priority = "high"
tiers = [{ to = "nurse", wait = "30s" }, { to = "charge", wait = "60s" }]
"#;

    #[test]
    fn sound_rules_make_both_plugins() {
        let names: Vec<_> = plugins(&parse(SOUND).unwrap()).iter().map(|plugin| plugin.name()).collect();
        assert_eq!(names, ["threshold", "escalation"]);
    }

    #[test]
    fn every_problem_is_told_with_its_line() {
        let cases = [
            ("low = 50", "low = 580", 2, "low = 580 is not plausible for hr"),
            ("low = 50", "low = 120\nhigh = 100", 2, "are they swapped?"),
            ("low = 50", "lo = 50", 4, "unknown field"),
            ("\"15s\"", "15", 8, "expected a string"),
            ("\"15s\"", "\"soon\"", 8, "not a span of time"),
            ("\"prompt\"", "\"immediate\"", 2, "takes no delay"),
            ("\"spo2\"", "\"sats\"", 10, "there is no signal \"sats\""),
            ("\"nurse\"", "\"nurse/2\"", 13, "cannot be a level of a topic"),
            ("[[absence]]", "[[score]]\nkind = \"news2\"\n[[absence]]", 10, "not available in this version"),
            ("[[absence]]", "[[abscence]]", 10, "unknown field"),
        ];
        for (from, to, line, message) in cases {
            let problems = parse(&SOUND.replacen(from, to, 1)).unwrap_err();
            let found =
                problems.iter().any(|problem| problem.line == line && problem.message.contains(message));
            assert!(found, "{to}: {problems:?}");
        }
    }

    #[test]
    fn all_problems_come_at_once_in_the_order_of_the_file() {
        let text = SOUND.replace("low = 50", "low = 5").replace("\"30s\" }", "\"0s\" }");
        let lines: Vec<_> = parse(&text).unwrap_err().iter().map(|problem| problem.line).collect();
        assert_eq!(lines, [2, 13]);
    }
}
