//! What a body will take in memory once decoded, found before it is decoded: an empty message is two bytes of a body and
//! up to a hundred times that as a value.

use super::message::*;
use crate::formats::wire::{Fields, Payload, WireError};

/// Of a decoded body, in bytes, beside its strings and numbers. An ordinary body of the largest size takes half of it.
pub(super) const MAX_DECODED: usize = 256 << 20;
/// Messages within messages: as deep as prost decodes them.
const MAX_DEPTH: usize = 100;

/// A message as far as its weight depends on it.
struct Shape {
    /// Zero where the message lies within the one that holds it.
    bytes: usize,
    /// The fields that hold messages.
    parts: &'static [(u32, &'static Shape)],
}

impl Shape {
    const fn listed<T>(parts: &'static [(u32, &'static Shape)]) -> Self {
        Shape { bytes: size_of::<T>(), parts }
    }

    const fn within(parts: &'static [(u32, &'static Shape)]) -> Self {
        Shape { bytes: 0, parts }
    }
}

static REQUEST: Shape = Shape::within(&[(1, &RESOURCE_METRICS)]);
static RESOURCE_METRICS: Shape = Shape::listed::<ResourceMetrics>(&[(1, &ATTRIBUTES), (2, &SCOPE_METRICS)]);
static SCOPE_METRICS: Shape = Shape::listed::<ScopeMetrics>(&[(2, &METRIC)]);
static METRIC: Shape = Shape::listed::<Metric>(&[
    (5, &Shape::within(&[(1, &NUMBER)])),
    (7, &Shape::within(&[(1, &NUMBER)])),
    (9, &Shape::within(&[(1, &Shape::listed::<HistogramPoint>(&[(9, &KEY_VALUE)]))])),
    (10, &Shape::within(&[(1, &Shape::listed::<ExponentialPoint>(&[(1, &KEY_VALUE)]))])),
    (11, &Shape::within(&[(1, &SUMMARY)])),
]);
static NUMBER: Shape = Shape::listed::<NumberPoint>(&[(7, &KEY_VALUE)]);
static SUMMARY: Shape = Shape::listed::<SummaryPoint>(&[(6, &Shape::listed::<ValueAtQuantile>(&[])), (7, &KEY_VALUE)]);
/// A resource, and a value that is a list of keys and values.
static ATTRIBUTES: Shape = Shape::within(&[(1, &KEY_VALUE)]);
static KEY_VALUE: Shape = Shape::listed::<KeyValue>(&[(2, &Shape::within(&[(5, &ARRAY), (6, &ATTRIBUTES)]))]);
static ARRAY: Shape = Shape::within(&[(1, &Shape::listed::<AnyValue>(&[(5, &ARRAY), (6, &ATTRIBUTES)]))]);

/// The heaviest message that stands in a list: a bound for JSON, where only the number of messages is counted.
pub(super) const HEAVIEST: usize = {
    let all = [
        size_of::<ResourceMetrics>(),
        size_of::<ScopeMetrics>(),
        size_of::<Metric>(),
        size_of::<NumberPoint>(),
        size_of::<HistogramPoint>(),
        size_of::<ExponentialPoint>(),
        size_of::<SummaryPoint>(),
        size_of::<ValueAtQuantile>(),
        size_of::<KeyValue>(),
        size_of::<AnyValue>(),
    ];
    let (mut most, mut index) = (0, 0);
    while index < all.len() {
        if all[index] > most {
            most = all[index];
        }
        index += 1;
    }
    most
};

/// Of a protobuf body. Stops counting beyond [`MAX_DECODED`].
pub(super) fn of_protobuf(message: &[u8]) -> Result<usize, WireError> {
    weigh(message, &REQUEST, 0)
}

fn weigh(message: &[u8], shape: &Shape, depth: usize) -> Result<usize, WireError> {
    let mut weight = shape.bytes;
    if depth > MAX_DEPTH || shape.parts.is_empty() {
        return Ok(weight);
    }
    for field in Fields::of(message) {
        let field = field?;
        let Payload::Bytes(bytes) = field.payload else { continue };
        if let Some((_, part)) = shape.parts.iter().find(|(tag, _)| *tag == field.tag) {
            weight += weigh(bytes, part, depth + 1)?;
        }
        if weight > MAX_DECODED {
            break;
        }
    }
    Ok(weight)
}

/// Of a JSON body: each bracket may open a message. Brackets in strings count too, and weigh too much.
pub(super) fn of_json(body: &[u8]) -> usize {
    body.iter().filter(|byte| matches!(byte, b'{' | b'[')).count().saturating_mul(HEAVIEST)
}
