//! Prometheus' remote write, 1.0 and 2.0: protobuf in snappy's block format.
//!
//! Invariant: a series that cannot be read is one error with its name, as far as that could be read; the others are
//! kept. Only what is wrong with the body itself refuses it whole.

mod v1;
mod v2;

use super::wire::{Field, Fields, Payload, WireError};
use super::{
    Foreign, ForeignLabels, FormatError, Gather, MAX_DECOMPRESSED, MAX_SAMPLES_PER_BODY, NAME_LABEL, Quoted,
    sort_labels,
};
use selfheal_model::Timestamp;

/// Which message a body is, by its content type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Protocol {
    /// `prometheus.WriteRequest`, also where nothing is said.
    V1,
    /// `io.prometheus.write.v2.Request`.
    V2,
}

impl Protocol {
    fn of_content_type(content_type: Option<&str>) -> Result<Self, FormatError> {
        let mut parts = content_type.unwrap_or("application/x-protobuf").split(';');
        let kind = parts.next().unwrap_or("").trim();
        if !kind.eq_ignore_ascii_case("application/x-protobuf") {
            let why = format!("remote write is `application/x-protobuf`, not {}", Quoted(kind));
            return Err(FormatError::UnknownMessage(why));
        }
        let message = parts.find_map(|part| {
            let (key, value) = part.split_once('=')?;
            key.trim().eq_ignore_ascii_case("proto").then(|| value.trim().trim_matches('"'))
        });
        match message {
            None | Some("prometheus.WriteRequest") => Ok(Protocol::V1),
            Some("io.prometheus.write.v2.Request") => Ok(Protocol::V2),
            Some(other) => Err(FormatError::UnknownMessage(format!(
                "the message {} is not known; remote write is `prometheus.WriteRequest` or \
                 `io.prometheus.write.v2.Request`",
                Quoted(other)
            ))),
        }
    }
}

/// Takes a body apart, as it was posted: still compressed.
pub fn parse_remote_write(content_type: Option<&str>, body: &[u8]) -> Result<Foreign, FormatError> {
    let protocol = Protocol::of_content_type(content_type)?;
    let message = decompress(body)?;
    let gather = match protocol {
        Protocol::V1 => v1::read(&message),
        Protocol::V2 => v2::read(&message),
    }?;
    Ok(gather.finish())
}

/// The length stands at the beginning of the format, so that it is known before anything is allocated.
fn decompress(body: &[u8]) -> Result<Vec<u8>, FormatError> {
    let not_snappy = |error: snap::Error| FormatError::NotSnappy(error.to_string());
    let bytes = snap::raw::decompress_len(body).map_err(not_snappy)?;
    if bytes > MAX_DECOMPRESSED {
        return Err(FormatError::TooLarge { bytes });
    }
    snap::raw::Decoder::new().decompress_vec(body).map_err(not_snappy)
}

/// The fields of a whole body; one that is no protobuf is found before anything of it is taken.
fn checked(message: &[u8]) -> Result<impl Iterator<Item = Field<'_>>, FormatError> {
    match Fields::of(message).find_map(Result::err) {
        Some(error) => Err(FormatError::NotProtobuf(error.to_string())),
        None => Ok(Fields::of(message).flatten()),
    }
}

/// One series while it is read; used again for the next.
#[derive(Default)]
struct Series {
    labels: ForeignLabels,
    /// Value and time in milliseconds.
    samples: Vec<(f64, i64)>,
    /// Samples that had no room in `samples`.
    beyond: usize,
    ignored: usize,
}

impl Series {
    fn clear(&mut self) {
        self.labels.clear();
        self.samples.clear();
        self.beyond = 0;
        self.ignored = 0;
    }

    fn sample(&mut self, message: &[u8]) -> Result<(), WireError> {
        let (mut value, mut millis) = (0.0, 0);
        for field in Fields::of(message) {
            match field? {
                Field { tag: 1, payload: Payload::Fixed64(bits) } => value = f64::from_bits(bits),
                Field { tag: 2, payload: Payload::Varint(number) } => millis = number.cast_signed(),
                _ => {}
            }
        }
        // A list of empty samples takes two bytes each in the body, and eight times that here.
        if self.samples.len() < MAX_SAMPLES_PER_BODY {
            self.samples.push((value, millis));
        } else {
            self.beyond += 1;
        }
        Ok(())
    }

    /// Hands the series over. `read` is what went wrong while reading it; its samples are dropped then.
    fn take(&mut self, read: Result<(), String>, gather: &mut Gather) {
        gather.ignore(self.ignored);
        let sorted = read.and_then(|()| sort_labels(&mut self.labels));
        let at = self.labels.iter().position(|(name, _)| name == NAME_LABEL);
        let name = at.map(|at| self.labels.remove(at).1);
        match (sorted, name) {
            (Ok(()), Some(name)) => {
                for (value, millis) in &self.samples {
                    gather.number(&name, &self.labels, *value, Some(Timestamp::from_millis(*millis)));
                }
                gather.beyond += self.beyond;
            }
            (Ok(()), None) => gather.refuse(|| format!("series {}: it has no name", self.said())),
            (Err(why), Some(name)) => gather.refuse(|| format!("series {}: {why}", Quoted(&name))),
            (Err(why), None) => gather.refuse(|| format!("series {}: {why}", self.said())),
        }
    }

    /// What is known of a series without a name.
    fn said(&self) -> String {
        let labels: Vec<String> =
            self.labels.iter().take(3).map(|(name, value)| format!("{}={}", Quoted(name), Quoted(value))).collect();
        if labels.is_empty() { "without labels".to_owned() } else { format!("with {}", labels.join(", ")) }
    }
}

#[cfg(test)]
mod tests;
