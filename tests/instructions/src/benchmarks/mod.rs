//! The hot paths, each by its name.

mod broker;
mod disk;
mod journal;
mod rules;
mod topics;
mod wire;

use wardline_wire::QoS;

use crate::operation::Operation;

/// A path that is counted.
pub(crate) struct Benchmark {
    /// As in the baseline.
    pub(crate) name: &'static str,
    /// Makes everything ready; not counted.
    pub(crate) prepare: fn() -> Box<dyn Operation>,
}

const fn benchmark(name: &'static str, prepare: fn() -> Box<dyn Operation>) -> Benchmark {
    Benchmark { name, prepare }
}

/// All, in the order in which a publish takes them.
pub(crate) const ALL: &[Benchmark] = &[
    benchmark("decode/qos0/64B", || wire::decode(QoS::AtMostOnce, 64)),
    benchmark("decode/qos0/1KiB", || wire::decode(QoS::AtMostOnce, 1_024)),
    benchmark("decode/qos1/64B", || wire::decode(QoS::AtLeastOnce, 64)),
    benchmark("decode/qos1/1KiB", || wire::decode(QoS::AtLeastOnce, 1_024)),
    benchmark("journal/append", journal::append),
    benchmark("match/filter/literal", || topics::filter("telemetry/icu-3/b12/mon-12/spo2")),
    benchmark("match/filter/wildcards", || topics::filter("telemetry/+/b12/#")),
    benchmark("match/tree/10", || topics::tree(10)),
    benchmark("match/tree/10k", || topics::tree(10_000)),
    benchmark("match/tree/1M", || topics::tree(1_000_000)),
    benchmark("route/1-to-1", || broker::route(1)),
    benchmark("route/1-to-100", || broker::route(100)),
    benchmark("rules/1", rules::one),
    benchmark("rules/all", || rules::all(0)),
    benchmark("rules/all/10k-patients", || rules::all(10_000)),
    benchmark("encode/frame", wire::frame),
    benchmark("encode/delivery", wire::write),
    benchmark("audit/leaf", journal::leaf),
    benchmark("deliver/qos0/1-to-1", || broker::deliver_qos0(1)),
    benchmark("deliver/qos0/1-to-100", || broker::deliver_qos0(100)),
    benchmark("deliver/qos1/1-to-1", broker::deliver_qos1),
    benchmark("deliver/qos1/durable-session", broker::deliver_durably),
];

/// The one of this name.
pub(crate) fn named(name: &str) -> Option<&'static Benchmark> {
    ALL.iter().find(|benchmark| benchmark.name == name)
}
