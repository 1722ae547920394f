//! What a client may do, asked by the core under the node's lock.

use std::sync::Arc;

use wardline_acl::Grants;
use wardline_core::{Denial, Gate};
use wardline_wire::{Publish, ReasonCode};

use crate::host::Host;

/// Topics that only the node publishes.
const OWN_ROOTS: [&str; 2] = ["wardline/", "$SYS/"];

/// The policy's answer for one connection, then the plugins'.
pub(super) struct Permission<'a> {
    pub(super) grants: &'a Grants,
    pub(super) host: &'a Host,
}

impl Gate for Permission<'_> {
    fn publish(&mut self, _client: &Arc<str>, publish: &Publish) -> Result<(), Denial> {
        if let Some(root) = OWN_ROOTS.iter().find(|root| publish.topic.starts_with(**root)) {
            let text = format!(
                "{root} is the node's own: what somebody else said there would be taken for the node's word"
            );
            return Err(Denial { reason: ReasonCode::NotAuthorized, text });
        }
        let decision = self.grants.publish(&publish.topic);
        if !decision.allowed() {
            return Err(Denial { reason: decision.reason(), text: decision.to_string() });
        }
        self.host.admit(&publish.topic, &publish.payload, self.grants.principal().as_str()).map_err(
            |refusal| Denial {
                reason: ReasonCode::from_u8(refusal.code).unwrap_or(ReasonCode::ImplementationSpecificError),
                text: refusal.reason,
            },
        )
    }

    fn subscribe(&mut self, _client: &Arc<str>, filter: &str) -> Result<(), Denial> {
        let decision = self.grants.subscribe(filter);
        if decision.allowed() {
            return Ok(());
        }
        Err(Denial { reason: decision.reason(), text: decision.to_string() })
    }
}
