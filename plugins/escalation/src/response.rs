//! What a person answers, and when that is refused.

use std::time::Duration;

use wardline_plugin_api::alert::{AnswerWord, Response, SHELVE_MAX};
use wardline_plugin_api::span::{self, Spoken};
use wardline_plugin_api::{Refusal, State};

use crate::open::Open;

const IMPLEMENTATION_SPECIFIC: u8 = 0x83;
const NOT_AUTHORIZED: u8 = 0x87;
const TOPIC_NAME_INVALID: u8 = 0x90;
const PAYLOAD_INVALID: u8 = 0x99;

/// `responses/{unit}/{bed}/{alert}` taken apart.
pub(crate) struct ResponseTopic<'a> {
    pub(crate) unit: &'a str,
    pub(crate) bed: &'a str,
    pub(crate) alert: &'a str,
}

impl<'a> ResponseTopic<'a> {
    pub(crate) fn parse(topic: &'a str) -> Result<Self, Refusal> {
        let mut levels = topic.split('/').skip(1);
        match (levels.next(), levels.next(), levels.next(), levels.next()) {
            (Some(unit), Some(bed), Some(alert), None) => Ok(Self { unit, bed, alert }),
            _ => Err(Refusal {
                code: TOPIC_NAME_INVALID,
                reason:
                    "an answer is published on responses/{unit}/{bed}/{alert}, the alert's response topic"
                        .into(),
            }),
        }
    }
}

/// An answer that can be carried out.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    Accept(AnswerWord),
    Reject,
    Complete,
    Shelve(Duration),
}

impl Answer {
    pub(crate) const fn word(&self) -> AnswerWord {
        match self {
            Self::Accept(word) => *word,
            Self::Reject => AnswerWord::Rejected,
            Self::Complete => AnswerWord::Completed,
            Self::Shelve(_) => AnswerWord::Shelve,
        }
    }

    pub(crate) fn parse(payload: &[u8]) -> Result<Self, Refusal> {
        let malformed = |reason| Refusal { code: PAYLOAD_INVALID, reason };
        let response: Response = serde_json::from_slice(payload).map_err(|error| {
            malformed(format!(r#"not an answer ({error}); send {{"answer":"accepted"}}"#))
        })?;
        Ok(match response.answer {
            AnswerWord::Rejected => Self::Reject,
            AnswerWord::Completed => Self::Complete,
            AnswerWord::Shelve => {
                if response.reason.as_deref().is_none_or(|reason| reason.trim().is_empty()) {
                    return Err(malformed("shelving needs a reason".into()));
                }
                let text = response.span.as_deref().ok_or_else(|| {
                    malformed(
                        r#"shelving needs a time: {"answer":"shelve","for":"PT10M","reason":"..."}"#.into(),
                    )
                })?;
                let shelved = span::parse(text).map_err(malformed)?;
                if shelved.is_zero() || shelved > SHELVE_MAX {
                    let max = Spoken(SHELVE_MAX);
                    return Err(malformed(format!(
                        "{text:?} is not a time for shelving: more than nothing, at most {max}"
                    )));
                }
                Self::Shelve(shelved)
            }
            word => Self::Accept(word),
        })
    }

    /// Whether `principal` may give this answer to `alert`.
    pub(crate) fn judge(&self, alert: &Open, principal: &str) -> Result<(), Refusal> {
        let refuse = |reason| Err(Refusal { code: IMPLEMENTATION_SPECIFIC, reason });
        let id = alert.id();
        match self {
            Self::Shelve(_) if alert.is_lethal() => {
                refuse(format!("alert {id} is of a condition that kills at once; it cannot be shelved"))
            }
            Self::Shelve(_) if alert.state() == State::Latched => {
                refuse(format!("the condition of alert {id} has passed; accept or complete it"))
            }
            Self::Reject if alert.state() == State::Acknowledged && alert.by() != Some(principal) => {
                let by = alert.by().unwrap_or("somebody");
                refuse(format!("{by} has accepted alert {id}; only they can hand it back"))
            }
            _ => Ok(()),
        }
    }
}

/// Only people, and services that stand for them, take responsibility.
pub(crate) fn judge_author(principal: &str) -> Result<(), Refusal> {
    if principal.starts_with("staff:") || principal.starts_with("service:") {
        return Ok(());
    }
    Err(Refusal {
        code: NOT_AUTHORIZED,
        reason: format!("{principal} cannot answer an alert; only staff and services can"),
    })
}

pub(crate) fn finished(alert: &str) -> Refusal {
    Refusal {
        code: IMPLEMENTATION_SPECIFIC,
        reason: format!("alert {alert} is over; there is nothing to answer any more"),
    }
}

pub(crate) fn unknown(alert: &str) -> Refusal {
    Refusal {
        code: IMPLEMENTATION_SPECIFIC,
        reason: format!("there is no alert {alert} here; answer on the response topic of one"),
    }
}

pub(crate) fn elsewhere(alert: &Open) -> Refusal {
    let (unit, bed) = alert.place();
    Refusal {
        code: IMPLEMENTATION_SPECIFIC,
        reason: format!("alert {} is about {unit}/{bed}, not about this bed", alert.id()),
    }
}

pub(crate) fn forged(topic: &str, principal: &str) -> Refusal {
    Refusal {
        code: NOT_AUTHORIZED,
        reason: format!(
            "{principal} cannot publish {topic}; only plugins decide on conditions, alerts and alarms"
        ),
    }
}
