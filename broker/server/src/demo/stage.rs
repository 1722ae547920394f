//! The cast: monitors at the beds and two pagers, each a client of the broker with its own certificate and token.

use std::{collections::BTreeMap, time::Duration};

use rumqttc::v5::mqttbytes::QoS;
use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
};
use wardline_certs::{InvalidSubject, Subject};
use wardline_plugin_api::Mode;

use super::{
    site::{self, BEDS, Site, SiteError, UNIT},
    story::{self, Holder},
};
use crate::{
    clock,
    simulate::{
        device::{Device, Tally},
        identity::BrokerUrl,
        link::{LinkError, Session, WINDOW},
        model::{Course, Patient},
        pager::{Page, Pager, PagerError},
        reading::Place,
        ward::{Pace, measure},
    },
};

/// Between two measurements of a monitor.
const STEP: Duration = Duration::from_millis(500);

/// The same patients every time.
const SEED: u64 = 3;

/// Why somebody is missing.
#[derive(Debug, thiserror::Error)]
pub enum StageError {
    /// Certificates and tokens.
    #[error(transparent)]
    Site(#[from] SiteError),
    /// A name.
    #[error(transparent)]
    Subject(#[from] InvalidSubject),
    /// A monitor.
    #[error(transparent)]
    Monitor(#[from] LinkError),
    /// A pager.
    #[error(transparent)]
    Pager(#[from] PagerError),
}

/// Everybody, connected.
#[derive(Debug)]
pub struct Stage {
    courses: BTreeMap<u32, watch::Sender<Course>>,
    stop: watch::Sender<bool>,
    monitors: JoinSet<(String, Tally)>,
    nurse: Pager,
    /// The charge nurse's.
    charge: Pager,
}

impl Stage {
    /// Connects the pagers, then the monitors, which begin to measure.
    pub async fn enter(site: &Site, broker: &BrokerUrl) -> Result<Self, StageError> {
        let nurse = pager(site, broker, &site::nurse()?, "nurse").await?;
        let charge = pager(site, broker, &site::charge()?, "charge").await?;
        let mut monitors = JoinSet::new();
        let mut courses = BTreeMap::new();
        let (stop, stopped) = watch::channel(false);
        for bed in 1..=BEDS {
            let subject = site::monitor(bed)?;
            let device = format!("mon-{bed}");
            let identity = site.identity(&subject, &device, broker, clock::now())?;
            let monitor = Device::connect(identity, QoS::AtLeastOnce).await?;
            let (sender, publishes) = mpsc::channel(WINDOW);
            let principal = subject.principal().unwrap_or_default();
            monitors.spawn(async move { (principal, monitor.run(publishes).await) });

            let (course, follow) = watch::channel(Course::default());
            courses.insert(bed, course);
            let place = Place { unit: UNIT.to_owned(), bed: story::bed(bed), device };
            let pace = Pace { step: STEP, speed: 1.0, start: clock::now(), mode: Mode::Demo };
            let patient = Patient::new(SEED.wrapping_add(bed.into()));
            tokio::spawn(measure(place, patient, pace, follow, stopped.clone(), sender));
        }
        Ok(Self { courses, stop, monitors, nurse, charge })
    }

    /// From now on the patient in this bed takes that course.
    pub fn set_course(&self, bed: u32, course: Course) {
        if let Some(sender) = self.courses.get(&bed) {
            sender.send_replace(course);
        }
    }

    /// The next page on either pager. Cancel-safe.
    pub async fn page(&mut self) -> Result<(Holder, Page), PagerError> {
        tokio::select! {
            page = self.nurse.next() => Ok((Holder::Nurse, page?)),
            page = self.charge.next() => Ok((Holder::Charge, page?)),
        }
    }

    /// The charge nurse's pager, to answer with.
    pub fn charge(&mut self) -> &mut Pager {
        &mut self.charge
    }

    /// Everybody stops, waits for what is not acknowledged yet, and says goodbye. What each monitor's principal has published.
    pub async fn leave(mut self) -> BTreeMap<String, Tally> {
        self.stop.send_replace(true);
        let mut tallies = BTreeMap::new();
        while let Some(ended) = self.monitors.join_next().await {
            // A monitor whose task broke is missing here, and its publishes in the comparison with the record.
            if let Ok((principal, tally)) = ended {
                tallies.insert(principal, tally);
            }
        }
        self.nurse.close().await;
        self.charge.close().await;
        tallies
    }
}

async fn pager(site: &Site, broker: &BrokerUrl, holder: &Subject, role: &str) -> Result<Pager, StageError> {
    let identity = site.identity(holder, &format!("pager-{}", holder.name()), broker, clock::now())?;
    Ok(Pager::connect(&identity, Session::Transient, &[format!("alerts/{UNIT}/{role}/#")]).await?)
}
