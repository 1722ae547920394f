//! A broker that cannot do its work says why at once.

#![allow(clippy::unwrap_used, reason = "helpers of tests assert as tests do")]

use std::net::TcpListener;

use wardline_tests::{Broker, Exit, Site, wardline};

/// Nothing for a developer: no panic, no backtrace.
fn is_for_people(end: &Exit) {
    assert!(!end.said.contains("panicked") && !end.said.contains("RUST_BACKTRACE"), "{}", end.said);
}

#[test]
fn a_wrong_configuration_is_refused_with_file_line_and_mend() {
    let site = Site::new();
    site.edit("wardline.toml", "[audit]\n", "[audit]\nstor = \"x\"\n");
    site.edit("wardline.toml", "id = 1", "id = \"one\"");
    let serve = Broker::fail_to_start(&site, &[]);
    assert_eq!(serve.status, Some(2), "{}", serve.said);
    let check = wardline().args(["check", "--config"]).arg(site.config()).output().unwrap();
    assert_eq!(check.status.code(), Some(2));
    for said in [&serve.said, &String::from_utf8(check.stdout).unwrap()] {
        assert!(said.contains("wardline.toml:3: `id` in [node]: `one` is not a whole number"), "{said}");
        assert!(said.contains("unknown key `stor` in [audit]; did you mean `store`?"), "{said}");
    }
    is_for_people(&serve);
}

#[test]
fn what_check_finds_good_serves() {
    let site = Site::new();
    let check = wardline().args(["check", "--config"]).arg(site.config()).output().unwrap();
    let said = String::from_utf8_lossy(&check.stdout);
    assert!(check.status.success() && said.contains("configuration is good"), "{said}");
    let broker = Broker::start(&site);
    assert_eq!(broker.http("/healthz").0, 200);
    assert!(broker.http("/metrics").1.contains("wardline_"));
    assert_eq!(broker.terminate().status, Some(0));
}

#[test]
fn a_wrong_policy_or_rule_is_refused_with_file_and_line() {
    for (file, old, new) in [
        ("policy.toml", "deny_publish", "denny_publish"),
        ("rules.toml", "signal = \"spo2\"", "signal = \"aura\""),
    ] {
        let site = Site::new();
        site.edit(file, old, new);
        let end = Broker::fail_to_start(&site, &[]);
        assert_ne!(end.status, Some(0), "{file}");
        assert!(end.said.contains(file), "{}", end.said);
        is_for_people(&end);
        let check = wardline().args(["check", "--config"]).arg(site.config()).output().unwrap();
        let said = String::from_utf8(check.stdout).unwrap();
        assert_eq!(check.status.code(), Some(2), "{said}");
        assert!(said.contains(&format!("{file}:")), "{said}");
    }
}

#[test]
fn a_port_in_use_is_named() {
    let site = Site::new();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let end = Broker::fail_to_start(&site, &[("WARDLINE__LISTENER__0__BIND", &address)]);
    assert_eq!(end.status, Some(1), "{}", end.said);
    assert!(end.said.contains(&address) && end.said.contains("lab"), "{}", end.said);
    assert!(!site.path().join("data").exists(), "it wrote before it knew that it could listen");
    is_for_people(&end);
}

#[test]
fn a_data_directory_that_cannot_be_written_is_named() {
    let site = Site::new();
    // Permissions would not stop a test that runs as root; nobody makes directories here.
    let end = Broker::fail_to_start(&site, &[("WARDLINE__NODE__DATA", "/proc/wardline")]);
    assert_eq!(end.status, Some(1), "{}", end.said);
    assert!(end.said.contains("/proc/wardline"), "{}", end.said);
    is_for_people(&end);
}
