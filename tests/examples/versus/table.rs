//! Medians, and what each is of the first broker's.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::loads::{Better, Figure, Load};

/// Reports by load and broker.
#[derive(Default)]
pub(crate) struct Results(BTreeMap<(String, String), Vec<Value>>);

impl Results {
    pub(crate) fn add(&mut self, load: &str, peer: &str, report: Value) {
        self.0.entry((load.to_owned(), peer.to_owned())).or_default().push(report);
    }

    /// In Markdown: a row for each broker, a column for each figure.
    pub(crate) fn table(&self, loads: &[&Load], peers: &[&str], rounds: u32) -> String {
        let figures: Vec<(&Load, &Figure)> =
            loads.iter().flat_map(|load| load.figures.iter().map(move |figure| (*load, figure))).collect();
        let first = peers.first().copied().unwrap_or_default();
        let mut text = format!(
            "Medians of {rounds}. In parentheses how many times as good as {first}: above 1 is better. An asterisk: \
             messages were lost in a run.\n\n|"
        );
        for (_, figure) in &figures {
            text += &format!(" | {}", figure.title);
        }
        text += &format!(" |\n|{}\n", "---|".repeat(figures.len() + 1));
        for peer in peers {
            text += &format!("| {peer}");
            for (load, figure) in &figures {
                text += &format!(" | {}", self.cell(load, figure, peer, first));
            }
            text += " |\n";
        }
        text
    }

    fn cell(&self, load: &Load, figure: &Figure, peer: &str, first: &str) -> String {
        let Some(value) = self.median(load, figure, peer) else { return "-".to_owned() };
        let lost =
            if self.reports(load, peer).iter().any(|report| report["complete"] != true) { "*" } else { "" };
        let shown = if value >= 10_000.0 { format!("{:.0} k", value / 1e3) } else { format!("{value:.0}") };
        let ratio = match self.median(load, figure, first) {
            Some(own) if peer != first && own > 0.0 && value > 0.0 => match figure.better {
                Better::More => format!(" ({:.2})", value / own),
                Better::Less => format!(" ({:.2})", own / value),
            },
            _ => String::new(),
        };
        format!("{shown}{lost}{ratio}")
    }

    fn median(&self, load: &Load, figure: &Figure, peer: &str) -> Option<f64> {
        let mut values: Vec<f64> = self
            .reports(load, peer)
            .iter()
            .filter_map(|report| report.pointer(figure.pointer)?.as_f64())
            .collect();
        values.sort_by(f64::total_cmp);
        let upper = values.get(values.len() / 2)?;
        let lower = values.get(values.len().saturating_sub(1) / 2)?;
        Some(f64::midpoint(*lower, *upper))
    }

    fn reports(&self, load: &Load, peer: &str) -> &[Value] {
        self.0.get(&(load.name.to_owned(), peer.to_owned())).map_or(&[], Vec::as_slice)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_median_and_its_ratio_are_told_and_so_is_a_loss() {
        let load = Load::named("fan-in-qos0").unwrap();
        let mut results = Results::default();
        for (peer, value, complete) in [
            ("a", 100.0, true),
            ("a", 300.0, true),
            ("a", 200.0, true),
            ("b", 50_000.0, false),
            ("b", 30_000.0, true),
        ] {
            let report = json!({ "complete": complete, "broker": { "delivered_per_cpu_second": value } });
            results.add(load.name, peer, report);
        }
        let table = results.table(&[load], &["a", "b", "c"], 3);
        for row in ["| a | 200 |", "| b | 40 k* (200.00) |", "| c | - |"] {
            assert!(table.contains(row), "{table}");
        }
    }
}
