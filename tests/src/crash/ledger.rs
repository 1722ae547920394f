//! What was published, and what became of it as its publisher knows.

use std::sync::{Mutex, MutexGuard, PoisonError};

use wardline_wire::QoS;

/// Every so many publishes to a retained topic one clears it.
const CLEAR_EVERY: usize = 5;
/// Every so many publishes one is long, so that a write of the journal spans pages.
const LONG_EVERY: usize = 37;
const LONG_BYTES: usize = 20_000;
const SHORT_BYTES: usize = 300;
const FILLER: &str = "ward ";

/// The unit of all beds.
pub(super) const UNIT: &str = "icu-3";
/// Oxygen saturations on either side of the limit that the site's rules have.
const ALARMING: &str = "84";
const HARMLESS: &str = "97";

/// The publishes of one publisher of one kind, numbered from 0.
#[derive(Clone, Debug)]
pub(super) struct Stream {
    pub(super) topic: String,
    pub(super) qos: QoS,
    pub(super) content: Content,
}

/// What a stream tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Content {
    /// Texts that name themselves.
    Notes,
    /// The same, retained, and now and then cleared.
    Retained,
    /// Of one bed after the other, a reading that alarms and one that ends it.
    Episodes,
}

impl Stream {
    /// The topic of number `seq`.
    pub(super) fn topic(&self, seq: usize) -> String {
        match self.content {
            Content::Notes | Content::Retained => self.topic.clone(),
            Content::Episodes => format!("telemetry/{UNIT}/{}/{}/spo2", bed(seq / 2), self.topic),
        }
    }

    /// The payload of number `seq` of stream `number`, the same each time it is sent.
    pub(super) fn payload(&self, number: usize, seq: usize) -> String {
        match self.content {
            Content::Episodes => if begins_episode(seq) { ALARMING } else { HARMLESS }.to_owned(),
            Content::Retained if clears(seq) => String::new(),
            Content::Notes | Content::Retained => {
                let long = seq % LONG_EVERY == LONG_EVERY - 1;
                let bytes = if long { LONG_BYTES } else { (number * 101 + seq * 67) % SHORT_BYTES };
                format!("{number} {seq} {}end", FILLER.repeat(bytes / FILLER.len()))
            }
        }
    }
}

/// Whether number `seq` of a retained stream clears its topic.
pub(super) const fn clears(seq: usize) -> bool {
    seq % CLEAR_EVERY == CLEAR_EVERY - 1
}

/// Whether number `seq` of [`Content::Episodes`] is the reading that alarms.
pub(super) const fn begins_episode(seq: usize) -> bool {
    seq.is_multiple_of(2)
}

/// The bed of an episode.
pub(super) fn bed(episode: usize) -> String {
    format!("e{episode}")
}

/// One publish.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Sent {
    /// How often it was sent, or was tried to be.
    pub(super) times: u64,
    pub(super) acknowledged: bool,
}

/// All streams of a run.
#[derive(Debug)]
pub(super) struct Ledger {
    streams: Vec<Stream>,
    sent: Mutex<Vec<Vec<Sent>>>,
}

impl Ledger {
    /// Nothing sent yet.
    pub(super) fn new(streams: Vec<Stream>) -> Self {
        let sent = Mutex::new(vec![Vec::new(); streams.len()]);
        Self { streams, sent }
    }

    /// The streams; their numbers are their places.
    pub(super) fn streams(&self) -> &[Stream] {
        &self.streams
    }

    /// A new publish of a stream; gives its number.
    pub(super) fn begin(&self, stream: usize) -> usize {
        let mut sent = self.lock();
        sent[stream].push(Sent::default());
        sent[stream].len() - 1
    }

    /// It is being sent, once more perhaps.
    pub(super) fn send(&self, stream: usize, seq: usize) {
        self.lock()[stream][seq].times += 1;
    }

    /// PUBACK or PUBREC has come.
    pub(super) fn acknowledge(&self, stream: usize, seq: usize) {
        self.lock()[stream][seq].acknowledged = true;
    }

    /// All there is of a stream so far.
    pub(super) fn of(&self, stream: usize) -> Vec<Sent> {
        self.lock()[stream].clone()
    }

    /// Acknowledged publishes of all streams.
    pub(super) fn acknowledged(&self) -> usize {
        self.lock().iter().flatten().filter(|sent| sent.acknowledged).count()
    }

    /// Which publish a payload is: stream and number. `None` for what nobody sent.
    pub(super) fn identify(&self, topic: &str, payload: &str) -> Option<(usize, usize)> {
        let mut words = payload.splitn(3, ' ');
        let number: usize = words.next()?.parse().ok()?;
        let seq: usize = words.next()?.parse().ok()?;
        let stream = self.streams.get(number)?;
        let sent = seq < self.lock()[number].len();
        (sent && stream.topic == topic && stream.payload(number, seq) == payload).then_some((number, seq))
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Vec<Sent>>> {
        self.sent.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
