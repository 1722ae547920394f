//! A report for people: what went wrong first, then a line for each name of the JSON.

use std::fmt;

use crate::report::{Load, Percentiles, Process, Report};

/// Width of the names.
const NAME: usize = 30;

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for trouble in &self.troubles {
            writeln!(f, "NOT COMPLETE: {trouble}")?;
        }
        writeln!(f, "{}", describe(&self.load))?;
        let ward = self.load.alerts_per_second.is_some();
        let mut line = |name: &str, value: String| writeln!(f, "  {name:<NAME$} {value}");
        if let Some(messages) = &self.messages {
            line("sent", grouped(messages.sent))?;
            if self.load.qos > 0 {
                line("acknowledged", grouped(messages.acknowledged))?;
            }
            line(
                if ward { "alerts" } else { "delivered" },
                format!("{} of {} due", grouped(messages.delivered), grouped(messages.due)),
            )?;
            line("lost", grouped(messages.lost))?;
            line("duplicated", grouped(messages.duplicated))?;
            if !ward {
                line("out_of_order", grouped(messages.out_of_order))?;
            }
        }
        if let Some(slow) = &self.slow {
            line("slow: delivered", format!("{} of {} due", grouped(slow.delivered), grouped(slow.due)))?;
            line("slow: lost", grouped(slow.lost))?;
            line("slow: drain_seconds", format!("{:.2}", slow.drain_seconds))?;
        }
        if let Some(measured) = &self.measured {
            line("sent_per_second", grouped(measured.sent_per_second as u64))?;
            line("delivered_per_second", grouped(measured.delivered_per_second as u64))?;
        }
        if let Some(late) = &self.sent_late_us {
            line("sent_late_us", percentiles(late))?;
        }
        if let Some(latency) = &self.latency_us {
            line(if ward { "reading to alert, us" } else { "latency_us" }, percentiles(latency))?;
        }
        if let Some(acknowledgement) = &self.acknowledgement_us {
            line("acknowledgement_us", percentiles(acknowledgement))?;
        }
        if let Some(connections) = &self.connections {
            line(
                "opened",
                format!("{} of {}", grouped(connections.opened), grouped(connections.wanted.into())),
            )?;
            line("opened_per_second", grouped(connections.opened_per_second as u64))?;
            line("connect_us", percentiles(&connections.connect_us))?;
            if let Some(each) = connections.broker_cpu_ms_each {
                line("broker_cpu_ms_each", format!("{each:.3}"))?;
            }
            if let Some(held) = connections.broker_cpu_seconds_held {
                line("broker_cpu_seconds_held", format!("{held:.2} in {} s", self.load.seconds))?;
            }
            if let Some(each) = connections.resident_bytes_each {
                line("resident_bytes_each", grouped(each as u64))?;
            }
        }
        match &self.broker {
            Some(broker) => write_broker(f, broker)?,
            None => writeln!(
                f,
                "  the broker's process was not found here: name it with --pid to see what it costs"
            )?,
        }
        writeln!(f, "  {:<NAME$} {:.2}", "load_cpu_seconds", self.load_cpu_seconds)
    }
}

fn write_broker(f: &mut fmt::Formatter<'_>, broker: &Process) -> fmt::Result {
    let mut line = |name: &str, value: String| writeln!(f, "  {name:<NAME$} {value}");
    line("broker", format!("{}, process {}", broker.name, broker.pid))?;
    let (user, system) = (broker.cpu_seconds_user, broker.cpu_seconds_system);
    line("cpu_seconds", format!("{:.2} (user {user:.2}, system {system:.2})", broker.cpu_seconds))?;
    if let Some(delivered) = broker.delivered_per_cpu_second {
        line("delivered_per_cpu_second", grouped(delivered as u64))?;
    }
    if let Some(cost) = broker.cpu_seconds_per_million_delivered {
        line("cpu_seconds_per_million", format!("{cost:.2} delivered"))?;
    }
    if let Some(cost) = broker.cpu_seconds_per_million_sent {
        line("", format!("{cost:.2} sent"))?;
    }
    let memory = format!(
        "{} before, {} after",
        grouped(broker.resident_bytes_before),
        grouped(broker.resident_bytes_after)
    );
    line("resident_bytes", memory)?;
    for thread in broker.threads.iter().filter(|thread| thread.cpu_seconds > 0.0) {
        line("", format!("{:>8.2} s  {} × {}", thread.cpu_seconds, thread.name, thread.count))?;
    }
    Ok(())
}

fn describe(load: &Load) -> String {
    let Load { scenario, url, mqtt, qos, payload_bytes, publishers, subscribers, topics, seconds, .. } = load;
    let mut text = format!("{scenario} on {url}, MQTT {mqtt}");
    if *publishers > 0 {
        text += &format!(
            ", QoS {qos}, {payload_bytes} B, {publishers} to {subscribers}, {topics} topics, window {}",
            load.window
        );
    }
    if load.subscriptions > 0 {
        text += &format!(", {} other subscriptions", load.subscriptions);
    }
    if let Some(rate) = load.rate_per_second {
        text += &format!(", {rate}/s");
    }
    format!("{text}, {seconds} s")
}

fn percentiles(latency: &Percentiles) -> String {
    let Percentiles { p50, p90, p99, p99_9, max, .. } = latency;
    format!("p50 {p50:.0}  p90 {p90:.0}  p99 {p99:.0}  p99.9 {p99_9:.0}  max {max:.0}")
}

/// 1234567 as 1,234,567.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() * 4 / 3);
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::Messages;

    #[test]
    fn long_numbers_can_be_read() {
        assert_eq!([0, 999, 1_000, 1_234_567].map(grouped), ["0", "999", "1,000", "1,234,567"]);
    }

    #[test]
    fn what_was_lost_comes_first() {
        let messages = Messages { due: 2, delivered: 1, lost: 1, ..Messages::default() };
        let report = Report { messages: Some(messages), ..Report::default() }.judged(
            &crate::plan::tests::plan(),
            0,
            None,
        );
        assert!(report.to_string().starts_with("NOT COMPLETE: 1 of 2 deliveries LOST\n"), "{report}");
    }
}
