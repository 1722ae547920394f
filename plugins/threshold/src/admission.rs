//! Who is in the bed: `admissions/{unit}/{bed}`.

use serde::Deserialize;
use wardline_plugin_api::Refusal;

use crate::limits::PAYLOAD_INVALID;
use crate::rules::Profile;

/// What the ADT system says; what else it says is for others.
#[derive(Deserialize)]
pub(crate) struct Admission {
    #[serde(default)]
    pub(crate) profile: Profile,
    pub(crate) patient: Option<String>,
}

impl Admission {
    /// An empty payload is a discharge.
    pub(crate) fn parse(payload: &[u8]) -> Result<Option<Self>, Refusal> {
        if payload.is_empty() {
            return Ok(None);
        }
        serde_json::from_slice(payload).map(Some).map_err(|error| Refusal {
            code: PAYLOAD_INVALID,
            reason: format!(
                r#"not an admission ({error}); send {{"profile":"adult"}} (or paediatric, neonate), or nothing at all for a discharge"#
            ),
        })
    }
}
