//! `prometheus.WriteRequest`: each series carries the text of its labels.

use smol_str::SmolStr;

use super::{Series, checked};
use crate::formats::wire::{Field, Fields, Payload};
use crate::formats::{FormatError, Gather, MAX_LABELS, Shared};

/// Fields of the request.
const TIMESERIES: u32 = 1;
const METADATA: u32 = 3;
/// Fields that only a 2.0 request has: 2.0 left out the numbers of 1.0 so that the two can be told apart.
const OF_V2: [u32; 2] = [4, 5];
/// Fields of a series.
const LABELS: u32 = 1;
const SAMPLES: u32 = 2;
const EXEMPLARS: u32 = 3;
const HISTOGRAMS: u32 = 4;

pub(super) fn read(message: &[u8]) -> Result<Gather, FormatError> {
    let mut gather = Gather::default();
    let mut shared = Shared::default();
    let mut series = Series::default();
    for field in checked(message)? {
        match field {
            Field { tag: TIMESERIES, payload: Payload::Bytes(message) } => {
                series.clear();
                let read = read_series(message, &mut series, &mut shared);
                series.take(read, &mut gather);
            }
            Field { tag: METADATA, .. } => gather.ignore(1),
            Field { tag, .. } if OF_V2.contains(&tag) => {
                let why = "this is a request of remote write 2.0, but its content type does not say \
                           `proto=io.prometheus.write.v2.Request`";
                return Err(FormatError::UnknownMessage(why.to_owned()));
            }
            _ => {}
        }
    }
    Ok(gather)
}

fn read_series(message: &[u8], series: &mut Series, shared: &mut Shared) -> Result<(), String> {
    // The first trouble is kept until the end, so that the name is known where it can be.
    let mut trouble = Ok(());
    for field in Fields::of(message) {
        let Field { tag, payload } = match field {
            Ok(field) => field,
            Err(error) => return trouble.and(Err(error.to_string())),
        };
        let read = match (tag, payload) {
            (LABELS, Payload::Bytes(message)) => read_label(message, series, shared),
            (SAMPLES, Payload::Bytes(message)) => series.sample(message).map_err(|error| error.to_string()),
            (EXEMPLARS | HISTOGRAMS, _) => {
                series.ignored += 1;
                Ok(())
            }
            _ => Ok(()),
        };
        trouble = trouble.and(read);
    }
    trouble
}

fn read_label(message: &[u8], series: &mut Series, shared: &mut Shared) -> Result<(), String> {
    let (mut name, mut value) = (SmolStr::default(), SmolStr::default());
    for field in Fields::of(message) {
        let Field { tag, payload } = field.map_err(|error| error.to_string())?;
        let (1 | 2, Payload::Bytes(bytes)) = (tag, payload) else { continue };
        let text = str::from_utf8(bytes).map_err(|_| "a label is not UTF-8".to_owned())?;
        *(if tag == 1 { &mut name } else { &mut value }) = shared.get(text);
    }
    series.label(name, value)
}

impl Series {
    pub(super) fn label(&mut self, name: SmolStr, value: SmolStr) -> Result<(), String> {
        if name.is_empty() {
            return Err("a label has no name".to_owned());
        }
        if value.is_empty() {
            return Ok(());
        }
        // One more than the limit: the metric's name stands among the labels.
        if self.labels.len() > MAX_LABELS {
            return Err(format!("it has over {MAX_LABELS} labels"));
        }
        self.labels.push((name, value));
        Ok(())
    }
}
