//! A recorded heart: what `replay` says would have alarmed is what a running broker's pager receives, and every reading is in
//! the record once.
//!
//! Reads the one-hertz heart rate of a real patient where the hospital data set lies beside the checkout (or where
//! `WARDLINE_TEST_DATA` points), and a generated one elsewhere.

#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used, reason = "a test asserts")]

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use rumqttc::v5::mqttbytes::v5 as packet5;
use wardline_tests::rumqtt::V5;
use wardline_tests::{Broker, Site, record, wardline, workspace};

const RULES: &str = r#"
[[limit]]
signal = "hr"
low = 52
severity = "reversible"
onset = "prompt"
"#;

/// The recording, and whether it is the patient's.
fn recording(site: &Site) -> (PathBuf, bool) {
    let data =
        std::env::var_os("WARDLINE_TEST_DATA").map_or(workspace().join("../shared/data"), PathBuf::from);
    let recorded = data.join("mimic_matched_s00001/hr_1hz_from_ecg.csv");
    if recorded.exists() {
        return (recorded, true);
    }
    let mut csv = String::from("t_s,HR_ecg\n");
    for second in 0..6_000 {
        let heart = 56.0 + 6.0 * (f64::from(second) / 37.0).sin() + 3.0 * (f64::from(second) / 5.0).cos();
        writeln!(csv, "{second},{heart:.1}").unwrap();
    }
    site.write("generated.csv", &csv);
    (site.path().join("generated.csv"), false)
}

/// The lines `wardline replay` prints, and its summary.
fn replay(site: &Site, csv: &Path, more: &str) -> (Vec<serde_json::Value>, String) {
    site.write("replay.toml", &format!("{RULES}{more}"));
    let output = wardline()
        .args(["replay", "--bed", "icu-3/b12", "--map", "HR_ecg=hr", "--rules"])
        .arg(site.path().join("replay.toml"))
        .arg("--csv")
        .arg(csv)
        .output()
        .unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{said}");
    let lines = String::from_utf8(output.stdout).unwrap();
    let steps = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    (steps, said.lines().last().unwrap_or_default().to_owned())
}

fn count(steps: &[serde_json::Value], phase: &str) -> usize {
    steps.iter().filter(|step| step["phase"] == phase).count()
}

#[test]
fn replay_gives_the_known_answers_of_a_recorded_patient() {
    let site = Site::new();
    let (csv, real) = recording(&site);
    let mut counts = Vec::new();
    for more in ["", "delay = \"15s\"\n", "delay = \"15s\"\nhysteresis = 2\n"] {
        let (steps, summary) = replay(&site, &csv, more);
        let begun = count(&steps, "start");
        assert_eq!(summary, format!("alerts {begun}: hr-low {begun}"));
        assert!(begun - count(&steps, "end") <= 1, "at most the last one is still open");
        counts.push(begun);
    }
    if real {
        assert_eq!(counts, [286, 32, 16]);
    } else {
        assert!(counts[0] > counts[1] && counts[1] >= counts[2] && counts[2] > 0, "{counts:?}");
    }
}

#[test]
fn a_recording_played_over_mutual_tls_gives_the_pager_the_same_alerts_and_the_record_every_reading_once() {
    let site = Site::new();
    site.write("rules.toml", RULES);
    let (csv, _) = recording(&site);
    let (expected, _) = replay(&site, &csv, "");
    site.device("mon-12");
    let broker = Broker::start(&site);
    let port = broker.port("ward");
    let mut pager = V5::pager(&site, &broker);

    let certs = site.path().join("certs");
    let simulate = wardline()
        .args(["simulate", "--mode", "test", "--speed", "max", "--bed", "icu-3/b12", "--device", "mon-12"])
        .args(["--map", "HR_ecg=hr", "--url", &format!("mqtts://localhost:{port}"), "--csv"])
        .arg(&csv)
        .arg("--certs")
        .arg(&certs)
        .arg("--issue-from")
        .arg(&certs)
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    // As replay tells it: the value with which each alert began and ended, in order.
    let steps: Vec<(String, f64)> = expected
        .iter()
        .map(|step| (step["phase"].as_str().unwrap().to_owned(), step["value"].as_f64().unwrap()))
        .collect();
    let mut heard = Vec::new();
    while heard.len() < steps.len() {
        let alert: serde_json::Value = pager
            .wait(|packet| match packet {
                packet5::Packet::Publish(publish) => Some(serde_json::from_slice(&publish.payload).unwrap()),
                _ => None,
            })
            .unwrap();
        assert_eq!((&alert["mode"], &alert["condition"]), (&"test".into(), &"hr-low".into()));
        if alert["phase"] != "update" {
            heard.push((alert["phase"].as_str().unwrap().to_owned(), alert["value"].as_f64().unwrap()));
        }
    }
    // An alert whose pager had not confirmed when its condition ended is ended a moment later, perhaps after the next began.
    for phase in ["start", "end"] {
        let of = |steps: &[(String, f64)]| -> Vec<f64> {
            let mut values: Vec<f64> =
                steps.iter().filter(|step| step.0 == phase).map(|step| step.1).collect();
            if phase == "end" {
                values.sort_by(f64::total_cmp);
            }
            values
        };
        assert_eq!(of(&heard), of(&steps), "{phase}");
    }

    let output = simulate.wait_with_output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{said}");
    let summary = said.lines().last().unwrap();
    let sent = summary.split(' ').nth(1).unwrap().to_owned();
    assert!(summary.starts_with(&format!("published {sent} acknowledged {sent} lost 0")), "{summary}");
    broker.terminate();
    let rows = "SELECT CAST(count(*) AS TEXT), CAST(count(DISTINCT payload) AS TEXT) FROM publishes \
                WHERE principal = 'device:mon-12' AND outcome = 'accepted'";
    // Each reading has its own time stamp, so as many different payloads as rows means none twice.
    assert_eq!(record::sqlite(&site.audit_db(), rows), [[sent.clone(), sent]]);
    record::verify(&format!("sqlite:{}", site.audit_db().display()));
}

#[test]
fn the_demonstration_tells_its_story_and_proves_its_record() {
    let site = Site::new();
    let output = wardline()
        .args(["demo", "--seconds", "30", "--port", "0", "--http-port", "0", "--dir"])
        .arg(site.path().join("demo"))
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{told}\n{}", String::from_utf8_lossy(&output.stderr));
    for step in
        ["ready", "deteriorates", "ALERT", "climbs", "accepts", "the alert is over", "0 missing or changed"]
    {
        assert!(told.contains(step), "{step} is missing in:\n{told}");
    }
}
