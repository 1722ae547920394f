//! What the audit record must hold after the demonstration: complete, unchanged, and exactly what was sent.

use std::{collections::BTreeMap, path::Path};

use futures_util::TryStreamExt;
use jiff::Timestamp;
use wardline_audit::{
    Expectations, Filter, PUBLIC_KEY_FILE, PublicKey, Query, Relation, Report, Store, verify,
};

/// What the record was found to hold.
#[derive(Debug)]
pub struct Verdict {
    /// Of the whole record, earlier demonstrations in the same folder included.
    pub report: Report,
    /// Publishes of this run that the record holds, of those that were counted at their senders.
    pub recorded: u64,
    /// Everything that does not agree, for people. Empty: the record is proved.
    pub faults: Vec<String>,
}

/// Verifies the record of `node` and compares it with what each principal published since `since`.
///
/// # Errors
/// That the record or the key cannot be read.
pub async fn examine(
    store: &Store,
    data: &Path,
    node: u16,
    since: Timestamp,
    sent: &BTreeMap<String, u64>,
) -> Result<Verdict, String> {
    let key = PublicKey::read(&data.join(PUBLIC_KEY_FILE)).map_err(|error| error.to_string())?;
    let expectations = Expectations { keys: vec![key], ..Expectations::default() };
    let report = verify(store, node, &expectations).await.map_err(|error| error.to_string())?;
    let mut faults: Vec<_> = report.findings.iter().map(ToString::to_string).collect();
    let mut recorded = 0;
    for (principal, sent) in sent {
        let rows = count(store, principal, since).await?;
        recorded += rows;
        if rows != *sent {
            faults.push(format!("{principal} published {sent} times, and the record holds {rows}"));
        }
    }
    Ok(Verdict { report, recorded, faults })
}

async fn count(store: &Store, principal: &str, since: Timestamp) -> Result<u64, String> {
    let filter = Filter { principal: Some(principal.to_owned()), from: Some(since), ..Filter::default() };
    let mut query =
        Query::new(store, Relation::Publishes, &filter).await.map_err(|error| error.to_string())?;
    let count = query.rows().try_fold(0, |rows, _| async move { Ok(rows + 1) }).await;
    count.map_err(|error| error.to_string())
}
