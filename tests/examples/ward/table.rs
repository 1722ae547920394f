//! Both ways side by side.

use std::fmt::Write as _;

use serde_json::Value;

use crate::Order;

const MILLION: f64 = 1e6;
/// A part's threads that take less of its CPU are not told.
const SHARE_MIN: f64 = 0.01;

/// In Markdown: a row for each figure, a column for each way, and how many times Wardline's the second is.
pub(crate) fn table(order: &Order, results: &[(&str, Value)]) -> String {
    let tls = if order.tls { "mutual TLS" } else { "TCP" };
    let mut text = format!(
        "{} devices over {tls}, {} readings a second at QoS 1, {} of them beyond a limit, {} s, commit = \"{}\".\n\n|",
        order.devices, order.rate, order.alerts, order.seconds, order.commit
    );
    for (way, _) in results {
        let _ = write!(text, " | {way}");
    }
    let _ = writeln!(text, " | times |\n|---|{}", "---|".repeat(results.len() + 1));
    for (title, figure) in figures() {
        let values: Vec<Option<f64>> = results.iter().map(|(_, result)| figure(result)).collect();
        if values.iter().any(Option::is_some) {
            text += &row(&title, &values);
        }
    }
    for (way, result) in results {
        for trouble in result["load"]["troubles"].as_array().into_iter().flatten() {
            let _ = writeln!(text, "\n{way}: NOT COMPLETE: {}", trouble.as_str().unwrap_or_default());
        }
        text += &threads(way, result);
    }
    text
}

type Figure = Box<dyn Fn(&Value) -> Option<f64>>;

fn figures() -> Vec<(String, Figure)> {
    let at = |title: &str, pointer: &'static str| -> (String, Figure) {
        (title.to_owned(), Box::new(move |result: &Value| result.pointer(pointer)?.as_f64()))
    };
    let mut figures = vec![
        at("publishes a second", "/load/measured/sent_per_second"),
        at("publishes acknowledged", "/load/messages/acknowledged"),
        at("alerts due", "/load/messages/due"),
        at("alerts missing", "/load/messages/lost"),
        at("rows missing", "/rows_missing"),
        at("reading sent late by the load p50, us", "/load/sent_late_us/p50"),
        at("reading sent late by the load p99, us", "/load/sent_late_us/p99"),
        at("acknowledgement p50, us", "/load/acknowledgement_us/p50"),
        at("acknowledgement p99, us", "/load/acknowledgement_us/p99"),
        at("acknowledgement p99.9, us", "/load/acknowledgement_us/p99_9"),
        at("reading to alert p50, us", "/load/latency_us/p50"),
        at("reading to alert p99, us", "/load/latency_us/p99"),
        at("reading to alert p99.9, us", "/load/latency_us/p99_9"),
        at("store behind, most, records", "/behind_max_records"),
        at("store behind at the end, records", "/behind_at_end_records"),
        at("all stored after the end, s", "/stored_after_seconds"),
    ];
    for part in ["broker", "rule process", "consumer", "PostgreSQL"] {
        figures.push((
            format!("CPU s per million publishes: {part}"),
            Box::new(move |result| cpu_per_million(result, part)),
        ));
    }
    figures.push(("CPU s per million publishes: all of these".to_owned(), Box::new(all_cpu)));
    figures.push((
        "CPU s per million publishes: load".to_owned(),
        Box::new(|result| {
            let load = &result["load"];
            Some(load["load_cpu_seconds"].as_f64()? * MILLION / load["measured"]["sent"].as_f64()?)
        }),
    ));
    figures.push((
        "bytes written to the disk, a publish".to_owned(),
        Box::new(|result| {
            Some(result["disk_written_bytes"].as_f64()? / result["load"]["messages"]["sent"].as_f64()?)
        }),
    ));
    figures
}

fn cpu_per_million(result: &Value, part: &str) -> Option<f64> {
    let used = &result["parts"].as_array()?.iter().find(|one| one["part"] == part)?["used"];
    Some(used["cpu_seconds"].as_f64()? * MILLION / result["load"]["messages"]["sent"].as_f64()?)
}

fn all_cpu(result: &Value) -> Option<f64> {
    let parts = result["parts"].as_array()?.iter();
    let seconds: f64 = parts.filter_map(|one| one["used"]["cpu_seconds"].as_f64()).sum();
    Some(seconds * MILLION / result["load"]["messages"]["sent"].as_f64()?)
}

fn row(title: &str, values: &[Option<f64>]) -> String {
    let mut text = format!("| {title}");
    for value in values {
        let shown = match value {
            None => "-".to_owned(),
            Some(value) if value.fract() == 0.0 || *value >= 100.0 => format!("{value:.0}"),
            Some(value) => format!("{value:.2}"),
        };
        let _ = write!(text, " | {shown}");
    }
    let times = match values {
        [Some(first), Some(second)] if *first > 0.0 && *second > 0.0 => format!("{:.2}", second / first),
        _ => String::new(),
    };
    text + &format!(" | {times} |\n")
}

/// CPU by thread of the broker.
fn threads(way: &str, result: &Value) -> String {
    let Some(used) = result["parts"].get(0).map(|broker| &broker["used"]) else { return String::new() };
    let sent = result["load"]["messages"]["sent"].as_f64().unwrap_or_default();
    let all = used["cpu_seconds"].as_f64().unwrap_or_default();
    let threads = used["threads"].as_array().into_iter().flatten();
    let told: Vec<String> = threads
        .filter_map(|thread| Some((thread[0].as_str()?, thread[1].as_f64()?)))
        .filter(|(_, seconds)| *seconds >= all * SHARE_MIN)
        .map(|(name, seconds)| format!("{name} {:.2}", seconds * MILLION / sent))
        .collect();
    format!("\nCPU s per million publishes by thread of the broker, {way}: {}\n", told.join(", "))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn figures_are_for_each_publish_and_compared() {
        let result = |cpu: f64, behind: Option<u64>| {
            json!({
                "load": {
                    "complete": true,
                    "troubles": ["x"],
                    "messages": { "sent": 2_000_000, "due": 10 },
                    "measured": { "sent": 1_000_000 },
                    "load_cpu_seconds": 4.0,
                },
                "parts": [{
                    "part": "broker",
                    "used": { "cpu_seconds": cpu, "threads": [["core", cpu]] },
                }],
                "disk_written_bytes": 1_000_000,
                "behind_max_records": behind,
            })
        };
        let order = crate::order(std::iter::empty()).unwrap();
        let table = table(&order, &[("wardline", result(5.0, Some(7))), ("today", result(20.0, None))]);
        for line in [
            "| alerts due | 10 | 10 | 1.00 |\n",
            "| store behind, most, records | 7 | - |  |\n",
            "| CPU s per million publishes: broker | 2.50 | 10 | 4.00 |\n",
            "| CPU s per million publishes: load | 4 | 4 | 1.00 |\n",
            "| bytes written to the disk, a publish | 0.50 | 0.50 | 1.00 |\n",
            "today: NOT COMPLETE: x\n",
            "broker, wardline: core 2.50\n",
        ] {
            assert!(table.contains(line), "{line}{table}");
        }
        assert!(!table.contains("consumer"), "{table}");
    }
}
