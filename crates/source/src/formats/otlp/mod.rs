//! OTLP metrics, in protobuf or JSON.
//!
//! Attributes of the resource and of the point become labels, with the name of the scope between them, since each scope
//! counts for itself; names become Prometheus' names with their unit. A sum
//! or histogram that was counted since a start keeps its meaning. One of delta temporality says how much came in one
//! interval, which no function over a growing counter fits: it is taken in as the gauge it is, its name ending in
//! `_delta`. A histogram is its `_count`, `_sum`, `_min`, `_max` and cumulated `_bucket`s; of an exponential one the
//! buckets are not taken in.

mod labels;
mod lenient;
mod message;
mod names;
mod points;
mod weight;

use prost::Message as _;

use super::{Foreign, FormatError, MAX_DECOMPRESSED, Quoted};

/// How a body is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OtlpEncoding {
    Protobuf,
    Json,
}

impl OtlpEncoding {
    /// By the media type; protobuf, OTLP's default, where nothing is said.
    pub fn of_content_type(content_type: Option<&str>) -> Result<Self, FormatError> {
        let kind = content_type.and_then(|kind| kind.split(';').next()).unwrap_or("application/x-protobuf").trim();
        if kind.eq_ignore_ascii_case("application/x-protobuf") {
            Ok(OtlpEncoding::Protobuf)
        } else if kind.eq_ignore_ascii_case("application/json") {
            Ok(OtlpEncoding::Json)
        } else {
            let why = format!("OTLP is `application/x-protobuf` or `application/json`, not {}", Quoted(kind));
            Err(FormatError::UnknownMessage(why))
        }
    }
}

/// Since when a sum or histogram counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Temporality {
    /// Since the point before.
    Delta,
    /// Since the start.
    Cumulative,
}

impl Temporality {
    const DELTA: i32 = 1;
    const CUMULATIVE: i32 = 2;

    /// OTLP forbids to leave it open, and a guess would make a counter of increases or the other way round.
    fn of(number: i32) -> Result<Self, String> {
        match number {
            Self::DELTA => Ok(Temporality::Delta),
            Self::CUMULATIVE => Ok(Temporality::Cumulative),
            _ => Err("it does not say whether it is cumulative or delta".to_owned()),
        }
    }
}

/// Takes an `ExportMetricsServiceRequest` apart, after decompression.
pub fn parse_otlp(encoding: OtlpEncoding, body: &[u8]) -> Result<Foreign, FormatError> {
    if body.len() > MAX_DECOMPRESSED {
        return Err(FormatError::TooLarge { bytes: body.len() });
    }
    let request = match encoding {
        OtlpEncoding::Protobuf => {
            let weight = weight::of_protobuf(body).map_err(|error| FormatError::NotProtobuf(error.to_string()))?;
            within(weight)?;
            message::Request::decode(body).map_err(|error| FormatError::NotProtobuf(error.to_string()))?
        }
        OtlpEncoding::Json => {
            within(weight::of_json(body))?;
            serde_json::from_slice(body).map_err(|error| FormatError::NotJson(error.to_string()))?
        }
    };
    let mut reader = points::Reader::default();
    reader.request(&request);
    Ok(reader.gather.finish())
}

fn within(weight: usize) -> Result<(), FormatError> {
    if weight <= weight::MAX_DECODED {
        return Ok(());
    }
    Err(FormatError::TooMany { what: format!("takes over {} MiB when decoded", weight::MAX_DECODED >> 20) })
}

#[cfg(test)]
mod tests;
