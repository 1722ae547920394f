//! The loads, and which figures of their reports are compared.

/// A load.
pub(crate) struct Load {
    /// In file names and `--only`.
    pub(crate) name: &'static str,
    /// Of `wardline bench`.
    pub(crate) arguments: &'static [&'static str],
    /// The same on Wardline, where it does what the others cannot.
    pub(crate) on_wardline: Option<&'static [&'static str]>,
    pub(crate) figures: &'static [Figure],
}

/// A number of a report.
pub(crate) struct Figure {
    /// Head of its column.
    pub(crate) title: &'static str,
    /// Where it is in the report.
    pub(crate) pointer: &'static str,
    pub(crate) better: Better,
}

/// Which way is better.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Better {
    More,
    Less,
}

const AT_20_000: &[&str] = &["rate", "--rate", "20000", "--publishers", "4", "--qos", "1"];
const PER_CPU_SECOND: &str = "/broker/delivered_per_cpu_second";

pub(crate) const LOADS: &[Load] = &[
    Load {
        name: "fan-in-qos0",
        arguments: &["fan-in"],
        on_wardline: None,
        figures: &[per_cpu_second("QoS 0, 64 B, 8 to 1, delivered per CPU-second")],
    },
    Load {
        name: "pairs-qos0",
        arguments: &["pairs", "--payload", "128"],
        on_wardline: None,
        figures: &[per_cpu_second("QoS 0, 128 B, 8 to 8, delivered per CPU-second")],
    },
    Load {
        name: "fan-in-qos1",
        arguments: &["fan-in", "--qos", "1", "--window", "16"],
        on_wardline: None,
        figures: &[per_cpu_second("QoS 1, 64 B, 8 to 1, window 16, delivered per CPU-second")],
    },
    Load {
        name: "fan-out-qos0",
        arguments: &["fan-out"],
        on_wardline: None,
        figures: &[per_cpu_second("QoS 0, 1 to 100, delivered per CPU-second")],
    },
    Load {
        name: "fan-out-qos1",
        arguments: &["fan-out", "--qos", "1"],
        on_wardline: None,
        figures: &[per_cpu_second("QoS 1, 1 to 100, delivered per CPU-second")],
    },
    Load {
        name: "rate-qos1",
        arguments: AT_20_000,
        on_wardline: None,
        figures: &[
            Figure { title: "QoS 1 at 20,000/s, p50, us", pointer: "/latency_us/p50", better: Better::Less },
            Figure { title: "p99, us", pointer: "/latency_us/p99", better: Better::Less },
            Figure {
                title: "sent late by the load, p99, us",
                pointer: "/sent_late_us/p99",
                better: Better::Less,
            },
        ],
    },
    Load {
        name: "alert",
        // The others have nothing that could raise an alert: theirs is the plain way from publisher to subscriber.
        arguments: AT_20_000,
        on_wardline: Some(&[
            "ward",
            "--rate",
            "20000",
            "--publishers",
            "4",
            "--subscribers",
            "1",
            "--alerts",
            "50",
        ]),
        figures: &[
            Figure {
                title: "reading to alert (others: plain publish) at 20,000/s, p50, us",
                pointer: "/latency_us/p50",
                better: Better::Less,
            },
            Figure { title: "p99, us", pointer: "/latency_us/p99", better: Better::Less },
            Figure {
                title: "sent late by the load, p99, us",
                pointer: "/sent_late_us/p99",
                better: Better::Less,
            },
        ],
    },
    Load {
        name: "idle",
        // Too long for a ping to come; rumqttd refuses who has none.
        arguments: &["idle", "--connections", "2000", "--keep-alive", "600"],
        on_wardline: None,
        figures: &[Figure {
            title: "idle connection, bytes",
            pointer: "/connections/resident_bytes_each",
            better: Better::Less,
        }],
    },
];

const fn per_cpu_second(title: &'static str) -> Figure {
    Figure { title, pointer: PER_CPU_SECOND, better: Better::More }
}

impl Load {
    pub(crate) fn named(name: &str) -> Result<&'static Self, String> {
        LOADS.iter().find(|load| load.name == name).ok_or_else(|| {
            let names: Vec<_> = LOADS.iter().map(|load| load.name).collect();
            format!("there is no load '{name}'; there are {}", names.join(", "))
        })
    }
}
