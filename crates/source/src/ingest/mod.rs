//! Bodies of events into events: one JSON object, an array of them, or one a line (NDJSON).
//!
//! Invariant: pure, and total: any bytes give events and errors, never a panic; a bad event is named with its place and
//! reason and takes no good one with it.

mod frame;
mod object;
mod quick;

use std::fmt;
use std::time::Duration;

use serde::Serialize;

use frame::{Cut, Piece};
pub(super) use object::{cut, label_name, wrong_name};
use selfheal_model::{Event, Timestamp};

/// A body may have so many bytes after decompression; the API answers 413 beyond it. Room for some 100,000 samples,
/// which is more than one request should carry.
pub const MAX_BODY: usize = 16 << 20;
/// A sample this much ahead of its arrival is a clock that runs fast and is placed at arrival; beyond, it is refused.
pub const MAX_AHEAD: Duration = Duration::from_secs(5 * 60);
/// Events older than this are taken in but counted as late: hardly a window reaches them.
pub const LATE_AFTER: Duration = Duration::from_secs(24 * 60 * 60);
/// Of a message, in bytes: it travels in notifications. What is longer is cut, with `…`.
pub const MAX_MESSAGE: usize = 1024;

/// Bounds of one request. A source never gets to choose how much memory one of its events takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// So that one request cannot fill the engine's queue by itself.
    pub events: usize,
    /// Errors that are listed; the rest is counted.
    pub errors: usize,
    /// Bytes of a deployment's, metric's, check's, signal's or label's name.
    pub name: usize,
    /// Labels of one sample: each set is a series.
    pub labels: usize,
    /// Bytes of a label's value.
    pub label_value: usize,
    /// Bytes of a signal's fields, written as JSON.
    pub fields: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Limits { events: 100_000, errors: 1_000, name: 200, labels: 32, label_value: 1024, fields: 8 * 1024 }
    }
}

/// Where in a body something stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Place {
    /// The whole of it.
    Body,
    /// A line of an NDJSON body, 1-based.
    Line(usize),
    /// An element of an array, 0-based.
    Index(usize),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Body => f.write_str("the body"),
            Place::Line(line) => write!(f, "line {line}"),
            Place::Index(index) => write!(f, "element {index}"),
        }
    }
}

/// What could not be taken in: where it stands, what is there and what was expected.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LineError {
    #[serde(flatten, serialize_with = "place_key")]
    pub place: Place,
    pub why: String,
}

/// `{"line": 3}`, `{"index": 2}`, or nothing for the whole body.
fn place_key<S: serde::Serializer>(place: &Place, serializer: S) -> Result<S::Ok, S::Error> {
    use serde::ser::SerializeMap;
    let (name, number) = match place {
        Place::Body => return serializer.serialize_map(Some(0))?.end(),
        Place::Line(line) => ("line", line),
        Place::Index(index) => ("index", index),
    };
    let mut map = serializer.serialize_map(Some(1))?;
    map.serialize_entry(name, number)?;
    map.end()
}

impl fmt::Display for LineError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.why)
    }
}

/// What a body came to.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Parsed {
    /// In the order of the body.
    pub events: Vec<Event>,
    /// Where each of `events` stands.
    pub places: Vec<Place>,
    /// In the order of the body, at most [`Limits::errors`].
    pub errors: Vec<LineError>,
    /// Errors beyond those listed.
    pub more_errors: usize,
    /// How many of the events are older than [`LATE_AFTER`].
    pub late: usize,
}

impl Parsed {
    /// Keeps the events that `admit` lets in; the others become errors at their place.
    pub fn admit(&mut self, limits: &Limits, admit: impl Fn(&Event) -> Result<(), String>) {
        let events = std::mem::take(&mut self.events).into_iter().zip(std::mem::take(&mut self.places));
        for (event, place) in events {
            match admit(&event) {
                Ok(()) => {
                    self.events.push(event);
                    self.places.push(place);
                }
                Err(why) => self.refuse(limits, place, why),
            }
        }
        self.errors.sort_by_key(|error| error.place);
    }

    fn refuse(&mut self, limits: &Limits, place: Place, why: String) {
        if self.errors.len() < limits.errors {
            self.errors.push(LineError { place, why });
        } else {
            self.more_errors += 1;
        }
    }
}

/// Takes a body apart. `content_type` settles what a body that could be both is (`application/x-ndjson`); without it
/// the body's own looks do. Events without a `time` are placed at `arrival`.
pub fn parse(body: &[u8], content_type: Option<&str>, arrival: Timestamp, limits: &Limits) -> Parsed {
    let mut parsed = Parsed::default();
    let Cut { pieces, trouble } = frame::cut(body, content_type);
    if pieces.is_empty() && trouble.is_none() {
        parsed.refuse(
            limits,
            Place::Body,
            "holds no event; post a JSON object, an array of them, or one a line".into(),
        );
    }
    for piece in pieces {
        if parsed.events.len() >= limits.events {
            let why =
                format!("over {} events in one request; send this one and all after it in another", limits.events);
            parsed.refuse(limits, piece.place, why);
            break;
        }
        take(&piece, arrival, limits, &mut parsed);
    }
    if let Some((place, why)) = trouble {
        parsed.refuse(limits, place, why);
    }
    parsed
}

fn take(piece: &Piece<'_>, arrival: Timestamp, limits: &Limits, parsed: &mut Parsed) {
    if let Some(event) = quick::sample(piece.text(), arrival, limits) {
        parsed.late += usize::from(event.time < arrival - LATE_AFTER);
        parsed.places.push(piece.place);
        return parsed.events.push(event);
    }
    let fields = match piece.fields() {
        Ok(fields) => fields,
        Err(why) => return parsed.refuse(limits, piece.place, why),
    };
    let object::Read { events, problems } = object::read(fields, arrival, limits);
    if !problems.is_empty() {
        parsed.refuse(limits, piece.place, problems.join("; "));
    }
    parsed.late += events.iter().filter(|event| event.time < arrival - LATE_AFTER).count();
    parsed.places.extend(std::iter::repeat_n(piece.place, events.len()));
    parsed.events.extend(events);
}

#[cfg(test)]
mod tests;
