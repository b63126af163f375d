//! What other systems write: metrics in Prometheus' and OpenMetrics' text, Prometheus' remote write and OTLP, and alerts as
//! they are posted to an Alertmanager.
//!
//! Invariant: pure, and total: any bytes give samples and errors, never a panic; what a body may take in memory is
//! bounded by the limits here, before it is taken; a bad line, series or point is named with its reason and takes no
//! good one with it. Which deployment a series belongs to, and whether its names are welcome, is not settled here.

mod alerts;
mod exposition;
mod otlp;
mod remote_write;
mod wire;

use std::collections::HashSet;
use std::fmt;

use foldhash::fast::FixedState;
use smol_str::SmolStr;

use selfheal_model::Timestamp;

pub use alerts::{Alerts, parse_alerts};
pub use exposition::{Dialect, parse_text};
pub use otlp::{OtlpEncoding, parse_otlp};
pub use remote_write::parse_remote_write;

/// Errors that are listed; the rest is counted.
pub const MAX_ERRORS: usize = 100;
/// A body may have so many bytes after decompression: as much as a body of our own events
/// ([`MAX_BODY`](super::ingest::MAX_BODY)).
pub const MAX_DECOMPRESSED: usize = 16 << 20;
/// Samples of one body. A sender's batch has some thousands, the scrape of a large exporter some ten thousands.
pub const MAX_SAMPLES_PER_BODY: usize = 500_000;
/// Labels of one series. Hardly one has over thirty; an OTLP resource of Kubernetes comes near that by itself.
pub const MAX_LABELS: usize = 128;
/// Labels of all samples of one body together. Each sample has its own list, and some formats say a list once for many
/// samples or in two bytes a label, so that a small body could otherwise become very large in memory.
pub const MAX_LABELS_PER_BODY: usize = 8 * MAX_SAMPLES_PER_BODY;
/// Of what is quoted in an error, in bytes: enough to find it again.
const MAX_QUOTED: usize = 60;
/// A float with these bits says that the series has ended: Prometheus' staleness marker, one of the many NaN.
const STALE_BITS: u64 = 0x7ff0_0000_0000_0002;
/// The label that carries a series' name where a format has no other place for it.
const NAME_LABEL: &str = "__name__";

/// Labels in the order of their names, each name once, without `__name__`; empty values are left out, since in
/// Prometheus an empty label is one that is not there.
pub type ForeignLabels = Vec<(SmolStr, SmolStr)>;

/// One value of one series as another system says it.
#[derive(Clone, Debug, PartialEq)]
pub struct ForeignSample {
    /// Never empty; otherwise as it was said.
    pub name: SmolStr,
    pub labels: ForeignLabels,
    pub value: ForeignValue,
    /// None: at arrival.
    pub time: Option<Timestamp>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum ForeignValue {
    /// Finite.
    Number(f64),
    /// The series has ended: Prometheus' staleness marker or OTLP's flag for "no recorded value".
    Stale,
}

impl ForeignValue {
    /// None: it says nothing.
    fn of(value: f64) -> Option<Self> {
        if value.to_bits() == STALE_BITS {
            return Some(ForeignValue::Stale);
        }
        value.is_finite().then_some(ForeignValue::Number(value))
    }
}

/// What a body came to. Good samples are kept, the bad are said.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Foreign {
    /// In the order of the body, at most [`MAX_SAMPLES_PER_BODY`].
    pub samples: Vec<ForeignSample>,
    /// With line number or series name, at most [`MAX_ERRORS`].
    pub errors: Vec<String>,
    /// Errors beyond those listed.
    pub more_errors: usize,
    /// Values that say nothing (not a number, infinite, or none at all): no error.
    pub without_value: usize,
    /// Data of kinds that are not taken in, such as native histograms, exemplars and metadata.
    pub ignored: usize,
    /// Why there is more of the body, or should be, than was read; one of the errors. Then a series that is not among the
    /// samples may be there all the same.
    pub cut_short: Option<String>,
}

impl Foreign {
    /// For whom half a body says nothing.
    ///
    /// # Errors
    /// Why not all of the body was read.
    pub fn whole(self) -> Result<Self, String> {
        match self.cut_short {
            Some(why) => Err(why),
            None => Ok(self),
        }
    }

    /// Listed first, so that a full list does not hide it.
    fn cut_short(&mut self, why: String) {
        if self.errors.len() >= MAX_ERRORS {
            self.errors.pop();
            self.more_errors += 1;
        }
        self.errors.insert(0, why.clone());
        self.cut_short = Some(why);
    }
}

/// What is wrong with a body as a whole; nothing of it was taken in.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FormatError {
    #[error("has {bytes} bytes; at most {MAX_DECOMPRESSED} are taken in one body, so send smaller batches")]
    TooLarge { bytes: usize },
    #[error("{what}: more than one body may hold, so send smaller batches")]
    TooMany { what: String },
    #[error("is not compressed with snappy's block format, as remote write has to be: {0}")]
    NotSnappy(String),
    #[error("is not the protobuf message it should be: {0}")]
    NotProtobuf(String),
    #[error("is not the JSON it should be: {0}")]
    NotJson(String),
    /// The sender speaks another language; HTTP's answer is 415.
    #[error("{0}")]
    UnknownMessage(String),
}

/// Collects what a body comes to, and holds it to the limits.
#[derive(Default)]
struct Gather {
    foreign: Foreign,
    /// Of all samples so far.
    labels: usize,
    room: Room,
    /// Samples beyond the limits.
    beyond: usize,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Room {
    #[default]
    Left,
    Full,
}

impl Gather {
    /// `value` as it came: it may be a marker, or say nothing.
    fn number(&mut self, name: &SmolStr, labels: &[(SmolStr, SmolStr)], value: f64, time: Option<Timestamp>) {
        match ForeignValue::of(value) {
            Some(value) => self.sample(name, labels, value, time),
            None => self.foreign.without_value += 1,
        }
    }

    fn sample(&mut self, name: &SmolStr, labels: &[(SmolStr, SmolStr)], value: ForeignValue, time: Option<Timestamp>) {
        if !self.has_room(labels.len()) {
            self.beyond += 1;
            return;
        }
        self.labels += labels.len();
        self.foreign.samples.push(ForeignSample { name: name.clone(), labels: labels.to_vec(), value, time });
    }

    /// For a sample with so many labels. Once there is none it stays so: what is left out is the end of the body.
    fn has_room(&mut self, labels: usize) -> bool {
        let fits = self.foreign.samples.len() < MAX_SAMPLES_PER_BODY && self.labels + labels <= MAX_LABELS_PER_BODY;
        if !fits {
            self.room = Room::Full;
        }
        self.room == Room::Left
    }

    /// `why` is only asked for when there is room to list it.
    fn refuse(&mut self, why: impl FnOnce() -> String) {
        if self.foreign.errors.len() < MAX_ERRORS {
            self.foreign.errors.push(why());
        } else {
            self.foreign.more_errors += 1;
        }
    }

    fn cut_short(&mut self, why: String) {
        self.foreign.cut_short(why);
    }

    fn ignore(&mut self, count: usize) {
        self.foreign.ignored += count;
    }

    /// Samples beyond the limits are one error.
    fn finish(self) -> Foreign {
        let Gather { mut foreign, beyond, .. } = self;
        if beyond > 0 {
            foreign.cut_short(format!(
                "{beyond} samples were left out: one body may hold {MAX_SAMPLES_PER_BODY} samples and \
                 {MAX_LABELS_PER_BODY} labels; send smaller batches"
            ));
        }
        foreign
    }
}

/// Strings that stand many times in a body, kept once. Short ones lie in the `SmolStr` itself and need no table.
#[derive(Default)]
struct Shared(HashSet<SmolStr, FixedState>);

impl Shared {
    /// What fits into a `SmolStr` without an allocation.
    const INLINE: usize = 23;

    fn get(&mut self, text: &str) -> SmolStr {
        if text.len() <= Self::INLINE {
            return SmolStr::new(text);
        }
        if let Some(known) = self.0.get(text) {
            return known.clone();
        }
        let new = SmolStr::new(text);
        self.0.insert(new.clone());
        new
    }
}

/// Puts labels in order; the error names one that is there twice.
fn sort_labels(labels: &mut [(SmolStr, SmolStr)]) -> Result<(), String> {
    if labels.is_sorted_by(|a, b| a.0 < b.0) {
        return Ok(());
    }
    labels.sort_unstable_by(|a, b| a.0.cmp(&b.0));
    match labels.windows(2).find(|pair| pair[0].0 == pair[1].0) {
        Some(pair) => Err(format!("the label {} is there twice", Quoted(&pair[0].0))),
        None => Ok(()),
    }
}

/// Part of a body within an error: its beginning, without line breaks and control characters.
struct Quoted<'a>(&'a str);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let end = self.0.floor_char_boundary(MAX_QUOTED);
        f.write_str("`")?;
        for c in self.0[..end].chars() {
            fmt::Write::write_char(f, if c.is_control() { ' ' } else { c })?;
        }
        f.write_str(if end < self.0.len() { "…`" } else { "`" })
    }
}

#[cfg(test)]
mod tests;
