//! A site for `wardline bench ward`: rules for every signal, and who its monitors and pagers are.

use std::fmt::Write as _;
use std::path::PathBuf;

use wardline_bench::ward;

use crate::Site;

/// Beginning of the clients' identifiers and of the units' names.
pub const PREFIX: &str = "ward";

/// Names the monitors and pagers in the policy, and lets every signal raise alerts.
pub fn furnish(site: &Site, devices: u32, pagers: u32) {
    site.write("rules.toml", &ward::rules());
    let mut principals = String::new();
    for device in 0..devices {
        let (id, unit, bed) =
            (ward::device_id(PREFIX, device), ward::unit(PREFIX, pagers, device), ward::bed(device));
        let _ = writeln!(
            principals,
            "[principals.\"device:{id}\"]\nroles = [\"monitor\"]\nunit = \"{unit}\"\nbed = \"{bed}\""
        );
    }
    for pager in 0..pagers {
        let (id, unit) = (ward::pager_id(PREFIX, pager), ward::unit(PREFIX, pagers, pager));
        let _ = writeln!(principals, "[principals.\"staff:{id}\"]\nroles = [\"nurse\"]\nunit = \"{unit}\"");
    }
    site.edit(
        "policy.toml",
        "[principals.\"device:mon-12\"]",
        &format!("{principals}[principals.\"device:mon-12\"]"),
    );
}

/// Issues a certificate to each of them, and a token bound to it; gives the directories of both.
pub fn identify(site: &Site, devices: u32, pagers: u32) -> (PathBuf, PathBuf) {
    let tokens = site.path().join("tokens");
    std::fs::create_dir_all(&tokens).expect("a temporary directory can be written");
    for device in 0..devices {
        let id = ward::device_id(PREFIX, device);
        let token = site.token_bound_to(&format!("device:{id}"), &site.device(&id));
        site.write(&format!("tokens/device-{id}.jwt"), &token);
    }
    for pager in 0..pagers {
        let id = ward::pager_id(PREFIX, pager);
        let token = site.token_bound_to(&format!("staff:{id}"), &site.staff(&id));
        site.write(&format!("tokens/staff-{id}.jwt"), &token);
    }
    (site.path().join("certs"), tokens)
}
