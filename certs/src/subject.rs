//! Who a certificate is for.

use std::net::IpAddr;

use rcgen::{DnType, ExtendedKeyUsagePurpose, SanType};
use serde::{Deserialize, Serialize};

/// What stands before `device:ID` in the SAN URI of a client certificate.
const URI_PREFIX: &str = "urn:wardline:";

/// Characters of an id: the upper bound of a common name (RFC 5280 appendix A) less the longest kind and its colon.
const ID_CHARS_MAX: usize = 64 - "service:".len();

/// Names of one server.
const SERVER_NAMES_MAX: usize = 100;

/// Who a certificate is for. Made by the functions below, which check the names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Subject {
    /// A server, by the names its clients know it under.
    Server {
        /// Tells several servers apart; `None` for the first.
        id: Option<String>,
        /// DNS names and IP addresses.
        names: Vec<String>,
    },
    /// A bedside device.
    Device(String),
    /// A person.
    Staff(String),
    /// A program.
    Service(String),
}

impl Subject {
    /// A server.
    ///
    /// # Errors
    /// When there is no name, or one is neither a DNS name nor an IP address.
    pub fn server(id: Option<&str>, names: &[String]) -> Result<Self, InvalidSubject> {
        let id = id.map(checked_id).transpose()?;
        if names.is_empty() || names.len() > SERVER_NAMES_MAX {
            return Err(InvalidSubject::Names);
        }
        if let Some(name) = names.iter().find(|name| !is_dns_name(name) && name.parse::<IpAddr>().is_err()) {
            return Err(InvalidSubject::Name(name.clone()));
        }
        Ok(Self::Server { id, names: names.to_vec() })
    }

    /// `device:ID`.
    ///
    /// # Errors
    /// When the id has other characters than letters, digits and `. _ @ -`.
    pub fn device(id: &str) -> Result<Self, InvalidSubject> {
        checked_id(id).map(Self::Device)
    }

    /// `staff:ID`.
    ///
    /// # Errors
    /// As for [`Self::device`].
    pub fn staff(id: &str) -> Result<Self, InvalidSubject> {
        checked_id(id).map(Self::Staff)
    }

    /// `service:ID`.
    ///
    /// # Errors
    /// As for [`Self::device`].
    pub fn service(id: &str) -> Result<Self, InvalidSubject> {
        checked_id(id).map(Self::Service)
    }

    /// What its files are called, without `.pem` and `.key`: `server`, `server-ID`, `device-ID`, ….
    pub fn name(&self) -> String {
        match self {
            Self::Server { id: None, .. } => "server".to_owned(),
            Self::Server { id: Some(id), .. } => format!("server-{id}"),
            Self::Device(id) => format!("device-{id}"),
            Self::Staff(id) => format!("staff-{id}"),
            Self::Service(id) => format!("service-{id}"),
        }
    }

    /// `device:ID`, `staff:ID`, `service:ID`; servers are no principals.
    pub fn principal(&self) -> Option<String> {
        match self {
            Self::Server { .. } => None,
            Self::Device(id) => Some(format!("device:{id}")),
            Self::Staff(id) => Some(format!("staff:{id}")),
            Self::Service(id) => Some(format!("service:{id}")),
        }
    }

    pub(crate) fn common_name(&self) -> (DnType, String) {
        (DnType::CommonName, self.principal().unwrap_or_else(|| self.name()))
    }

    pub(crate) fn alternative_names(&self) -> Result<Vec<SanType>, rcgen::Error> {
        match (self, self.principal()) {
            (Self::Server { names, .. }, _) => names
                .iter()
                .map(|name| match name.parse::<IpAddr>() {
                    Ok(address) => Ok(SanType::IpAddress(address)),
                    Err(_) => Ok(SanType::DnsName(name.as_str().try_into()?)),
                })
                .collect(),
            (_, Some(principal)) => Ok(vec![SanType::URI(format!("{URI_PREFIX}{principal}").try_into()?)]),
            (_, None) => Ok(Vec::new()),
        }
    }

    pub(crate) fn key_usage(&self) -> ExtendedKeyUsagePurpose {
        match self {
            Self::Server { .. } => ExtendedKeyUsagePurpose::ServerAuth,
            Self::Device(_) | Self::Staff(_) | Self::Service(_) => ExtendedKeyUsagePurpose::ClientAuth,
        }
    }
}

fn checked_id(id: &str) -> Result<String, InvalidSubject> {
    let fine = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '@' | '-');
    if id.is_empty() || id.len() > ID_CHARS_MAX || !id.chars().all(fine) {
        return Err(InvalidSubject::Id(id.to_owned()));
    }
    Ok(id.to_owned())
}

/// RFC 1123 host names, with `*` as a whole first label.
fn is_dns_name(name: &str) -> bool {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.chars().all(|c| c.is_ascii_alphanumeric() || c == '-')
    };
    name.len() <= 253 && name.strip_prefix("*.").unwrap_or(name).split('.').all(label)
}

/// Why there can be no certificate for it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidSubject {
    /// Not one that also makes a file name, a topic level and a URI.
    #[error("{0:?} is no id for a certificate: 1 to {ID_CHARS_MAX} letters, digits and . _ @ -")]
    Id(String),
    /// Neither DNS name nor address.
    #[error("{0:?} is neither a DNS name nor an IP address")]
    Name(String),
    /// None or too many.
    #[error("a server has 1 to {SERVER_NAMES_MAX} names")]
    Names,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_file_names_topic_levels_and_uris_at_once() {
        assert_eq!(Subject::device("mon-12").unwrap().name(), "device-mon-12");
        assert_eq!(Subject::staff("n.ito").unwrap().principal().unwrap(), "staff:n.ito");
        for id in ["", "a/b", "../a", "a b", "a+", "ü", "a:b", &"x".repeat(57)] {
            assert_eq!(Subject::device(id), Err(InvalidSubject::Id(id.to_owned())));
        }
    }

    #[test]
    fn servers_have_dns_names_and_addresses() {
        let names = |names: &[&str]| names.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>();
        assert!(Subject::server(None, &names(&["localhost", "::1", "10.0.0.1", "*.ward.example"])).is_ok());
        for name in ["", "a..b", "-a", "a_b", "https://a", "a.*.b"] {
            assert_eq!(Subject::server(None, &names(&[name])), Err(InvalidSubject::Name(name.to_owned())));
        }
        assert_eq!(Subject::server(None, &[]), Err(InvalidSubject::Names));
    }
}
