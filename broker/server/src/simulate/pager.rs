//! A pager: receives alerts, knows how long each was on its way, and answers on the alert's response topic.

use std::collections::VecDeque;

use jiff::{SignedDuration, Timestamp};
use rumqttc::v5::mqttbytes::{QoS, v5::Publish};
use wardline_plugin_api::alert::{Alert, AnswerWord};

use super::{
    identity::Identity,
    link::{Link, LinkError, LinkEvent, Session},
    reading::Outgoing,
};

/// One alert as it arrived.
#[derive(Clone, Debug, PartialEq)]
pub struct Page {
    /// What it says.
    pub alert: Alert,
    /// The topic it came on.
    pub topic: String,
    /// Where an answer goes: the MQTT 5 response topic, or what the alert says.
    pub respond: String,
    /// By this machine's clock.
    pub received_at: Timestamp,
}

impl Page {
    /// From the step that the message tells of to its arrival (IEC 60601-1-8: alarm signal generation delay). Only true where
    /// broker and pager share a clock.
    pub fn latency(&self) -> SignedDuration {
        self.received_at.duration_since(self.alert.at)
    }
}

/// Why a pager does not work.
#[derive(Debug, thiserror::Error)]
pub enum PagerError {
    /// No connection.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// The connection was lost: this pager is out of reach.
    #[error("pager {pager} lost its connection: {reason}")]
    Lost {
        /// Client identifier.
        pager: String,
        /// What went wrong.
        reason: String,
    },
    /// It may not subscribe what it should.
    #[error("pager {pager} may not subscribe {filters}: {reason}; check its role in the policy")]
    SubscriptionRefused {
        /// Client identifier.
        pager: String,
        /// What it asked for.
        filters: String,
        /// The broker's words.
        reason: String,
    },
    /// The answer was not taken.
    #[error("the answer on {topic} was refused: {reason}")]
    AnswerRefused {
        /// Response topic.
        topic: String,
        /// The broker's words.
        reason: String,
    },
    /// A message that is no alert came on a subscribed topic.
    #[error("what came on {topic} is not an alert: {reason}")]
    Unreadable {
        /// Its topic.
        topic: String,
        /// What is wrong with it.
        reason: String,
    },
}

/// A connected pager.
#[derive(Debug)]
pub struct Pager {
    id: String,
    link: Link,
    /// Arrived while an answer was on its way.
    waiting: VecDeque<Result<Page, PagerError>>,
}

impl Pager {
    /// Connects and subscribes `filters` (`alerts/icu-3/nurse/#`) at QoS 1.
    pub async fn connect(
        identity: &Identity,
        session: Session,
        filters: &[String],
    ) -> Result<Self, PagerError> {
        let link = Link::open(identity, session).await?;
        let mut pager = Self { id: identity.client_id.clone(), link, waiting: VecDeque::new() };
        pager.link.subscribe(filters);
        loop {
            match pager.event().await? {
                LinkEvent::Subscribed { refusal: None } => return Ok(pager),
                LinkEvent::Subscribed { refusal: Some(reason) } => {
                    let filters = filters.join(", ");
                    return Err(PagerError::SubscriptionRefused { pager: pager.id, filters, reason });
                }
                other => pager.keep(other),
            }
        }
    }

    /// The next alert. Cancel-safe.
    ///
    /// # Errors
    /// [`PagerError::Lost`] is final; after [`PagerError::Unreadable`] more can come.
    pub async fn next(&mut self) -> Result<Page, PagerError> {
        loop {
            if let Some(page) = self.waiting.pop_front() {
                return page;
            }
            let event = self.event().await?;
            self.keep(event);
        }
    }

    /// Answers an alert, and waits until the broker has taken the answer.
    pub async fn answer(&mut self, page: &Page, answer: AnswerWord) -> Result<(), PagerError> {
        let payload = serde_json::json!({ "answer": answer }).to_string().into_bytes();
        self.link.publish(&Outgoing { topic: page.respond.clone(), payload }, QoS::AtLeastOnce);
        loop {
            match self.event().await? {
                LinkEvent::Acknowledged { refusal: None, .. } => return Ok(()),
                LinkEvent::Acknowledged { refusal: Some(reason), .. } => {
                    return Err(PagerError::AnswerRefused { topic: page.respond.clone(), reason });
                }
                other => self.keep(other),
            }
        }
    }

    /// Says goodbye to the broker.
    pub async fn close(self) {
        self.link.close().await;
    }

    async fn event(&mut self) -> Result<LinkEvent, PagerError> {
        match self.link.next().await {
            Some(LinkEvent::Lost(reason)) => Err(self.lost(reason)),
            Some(event) => Ok(event),
            None => Err(self.lost("it ended".to_owned())),
        }
    }

    fn lost(&self, reason: String) -> PagerError {
        PagerError::Lost { pager: self.id.clone(), reason }
    }

    fn keep(&mut self, event: LinkEvent) {
        if let LinkEvent::Message { publish, at } = event {
            self.waiting.push_back(page(&publish, at));
        }
    }
}

fn page(publish: &Publish, received_at: Timestamp) -> Result<Page, PagerError> {
    let topic = String::from_utf8_lossy(&publish.topic).into_owned();
    let alert: Alert = serde_json::from_slice(&publish.payload)
        .map_err(|error| PagerError::Unreadable { topic: topic.clone(), reason: error.to_string() })?;
    let response_topic = publish.properties.as_ref().and_then(|properties| properties.response_topic.clone());
    let respond = response_topic.unwrap_or_else(|| alert.respond.clone());
    Ok(Page { alert, topic, respond, received_at })
}

#[cfg(test)]
mod tests {
    use rumqttc::v5::mqttbytes::v5::PublishProperties;

    use super::*;

    const ALERT: &str = r#"{"alert":"n1-48213","revision":2,"phase":"escalate","state":"active","priority":"high",
        "kind":"physiological","unit":"icu-3","bed":"b12","condition":"spo2-low","signal":"spo2","mdc":150456,
        "value":84,"ucum":"%","limit":88,"limit_by":"policy","tier":1,"to":"charge","since":"2026-11-21T08:00:00Z",
        "at":"2026-11-21T08:00:10Z","deadline":null,"mode":"real","text":"SpO2 84 % below 88 % for 10 s",
        "respond":"responses/icu-3/b12/n1-48213"}"#;

    fn publish(payload: &str, response_topic: Option<&str>) -> Publish {
        let properties = PublishProperties {
            response_topic: response_topic.map(str::to_owned),
            ..PublishProperties::default()
        };
        let payload = payload.to_owned().into_bytes();
        Publish::new("alerts/icu-3/charge/high/b12/spo2-low", QoS::AtLeastOnce, payload, Some(properties))
    }

    #[test]
    fn a_page_knows_its_latency_and_where_the_answer_goes() {
        let received_at = "2026-11-21T08:00:10.004Z".parse().unwrap();
        let first = page(&publish(ALERT, None), received_at).unwrap();
        assert_eq!(first.respond, "responses/icu-3/b12/n1-48213");
        assert_eq!(first.latency(), SignedDuration::from_millis(4));
        assert_eq!(page(&publish(ALERT, Some("elsewhere")), received_at).unwrap().respond, "elsewhere");
    }

    #[test]
    fn what_is_not_an_alert_is_told_with_its_topic() {
        let error = page(&publish("{}", None), Timestamp::UNIX_EPOCH).unwrap_err().to_string();
        assert!(
            error.starts_with("what came on alerts/icu-3/charge/high/b12/spo2-low is not an alert: "),
            "{error}"
        );
    }
}
