//! How many connections the process's file descriptors allow for: without one left for the next journal segment the broker
//! could not go on, so that clients are refused first.

use std::fmt;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::http;

/// Kept from clients, for journal, audit store, HTTP, listeners and the files of a reload.
const RESERVED: u64 = 256;
/// Kept where there are few: what HTTP may have, and as many again for the rest.
const RESERVED_MIN: u64 = 2 * http::CONNECTIONS_MAX as u64;
/// Where there are few, one of so many is kept.
const RESERVED_SHARE: u64 = 4;

/// There are too few for the broker's own work.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the process may have {descriptors} file descriptors, and the broker keeps {RESERVED_MIN} for journal, audit store and \
     HTTP, which leaves none for clients; raise the limit (LimitNOFILE of a systemd unit, `ulimit -n`) to {wanted}"
)]
pub struct TooFew {
    descriptors: u64,
    wanted: u64,
}

/// Fewer connections fit than are configured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shortage {
    /// Connections that fit, at least one.
    pub fit: usize,
    configured: usize,
    descriptors: u64,
}

impl fmt::Display for Shortage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { fit, configured, descriptors } = self;
        write!(
            f,
            "`connections` in [limits] is {configured}, and the {descriptors} file descriptors that the process may have \
             allow for {fit}: more clients are refused; raise the limit (LimitNOFILE of a systemd unit, `ulimit -n`) to {}, \
             or lower `connections`",
            wanted(*configured)
        )
    }
}

/// As many as the process may have at most, which is what [`raise`] gives it.
pub fn allowed() -> u64 {
    getrlimit(Resource::Nofile).maximum.unwrap_or(u64::MAX)
}

/// Raises the soft limit to the hard one, and returns what there is then.
pub fn raise() -> u64 {
    let limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum
        && let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit })
    {
        tracing::warn!(%error, "cannot raise the limit of file descriptors");
    }
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}

/// Whether so many connections fit so many descriptors; `None` if they do.
///
/// # Errors
/// If not even one does.
pub fn shortage(configured: usize, descriptors: u64) -> Result<Option<Shortage>, TooFew> {
    let reserved = (descriptors / RESERVED_SHARE).clamp(RESERVED_MIN, RESERVED);
    let fit = usize::try_from(descriptors.saturating_sub(reserved)).unwrap_or(usize::MAX);
    match fit {
        0 => Err(TooFew { descriptors, wanted: wanted(configured) }),
        fit if fit < configured => Ok(Some(Shortage { fit, configured, descriptors })),
        _ => Ok(None),
    }
}

/// Descriptors with which so many connections fit.
fn wanted(configured: usize) -> u64 {
    u64::try_from(configured).unwrap_or(u64::MAX).saturating_add(RESERVED)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_reserved_is_kept_from_clients() {
        let fit =
            |configured, descriptors| shortage(configured, descriptors).map(|found| found.map(|it| it.fit));
        assert_eq!(fit(10_000, 65_536), Ok(None));
        assert_eq!(fit(10_000, 10_256), Ok(None));
        assert_eq!(fit(10_000, 10_255), Ok(Some(9_999)));
        assert_eq!(fit(10_000, 1_024), Ok(Some(768)));
        assert_eq!(fit(10_000, 256), Ok(Some(128)));
        assert_eq!(fit(1, 129), Ok(None));
        assert_eq!(fit(1, 128), Err(TooFew { descriptors: 128, wanted: 257 }));
        assert_eq!(fit(usize::MAX, u64::MAX), Ok(Some(usize::MAX - 256)));
    }

    #[test]
    fn what_a_message_wants_is_enough() {
        for configured in [1, 128, 500, 10_000, 1_000_000] {
            assert_eq!(shortage(configured, wanted(configured)), Ok(None));
        }
        let said = shortage(10_000, 1_024).unwrap().unwrap().to_string();
        for expected in ["10000", "1024", "768", "LimitNOFILE", "10256"] {
            assert!(said.contains(expected), "{said}");
        }
    }
}
