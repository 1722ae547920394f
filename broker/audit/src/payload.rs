//! Whether a payload is kept in the audit tables, or only its digest.

use wardline_wire::topic;

/// What is kept of a payload. Its digest is kept always, so a row can be proved either way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum PayloadKept {
    /// The payload itself.
    #[default]
    Full,
    /// Only its SHA-256; the column `payload` is NULL.
    Digest,
}

/// The choice for each topic: the first matching filter decides, else the default.
///
/// The view `alert_timeline` reads payloads on `alerts/#` and `responses/#`: a policy that keeps only digests
/// there empties it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PayloadPolicy {
    /// For topics that no filter matches.
    pub default: PayloadKept,
    /// Topic filters, each with its choice, in order.
    pub overrides: Vec<(String, PayloadKept)>,
}

impl PayloadPolicy {
    /// What is kept of a publish on `topic`.
    pub fn kept(&self, topic: &str) -> PayloadKept {
        self.overrides
            .iter()
            .find(|(filter, _)| topic::matches(filter, topic))
            .map_or(self.default, |(_, kept)| *kept)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_matching_filter_decides() {
        let policy = PayloadPolicy {
            default: PayloadKept::Digest,
            overrides: vec![
                ("alerts/+/secret/#".into(), PayloadKept::Digest),
                ("alerts/#".into(), PayloadKept::Full),
            ],
        };
        assert_eq!(policy.kept("telemetry/icu/b1/m/hr"), PayloadKept::Digest);
        assert_eq!(policy.kept("alerts/icu/nurse/high/b1/x"), PayloadKept::Full);
        assert_eq!(policy.kept("alerts/icu/secret/high"), PayloadKept::Digest);
    }
}
