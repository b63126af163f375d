//! `io.prometheus.write.v2.Request`: labels are places in one table of symbols.

use smol_str::SmolStr;

use super::{Series, checked};
use crate::formats::wire::{Field, Fields, Payload, packed};
use crate::formats::{FormatError, Gather, MAX_LABELS};

/// Symbols of one request: two for each of its samples would be many, since most are shared.
const MAX_SYMBOLS: usize = 1_000_000;
/// References of one series that are read: enough to see that it has too many labels.
const MAX_REFS: usize = 2 * (MAX_LABELS + 2);
/// Fields of the request.
const SYMBOLS: u32 = 4;
const TIMESERIES: u32 = 5;
/// The field that holds the series of 1.0.
const OF_V1: u32 = 1;
/// Fields of a series.
const LABELS_REFS: u32 = 1;
const SAMPLES: u32 = 2;
const HISTOGRAMS: u32 = 3;
const EXEMPLARS: u32 = 4;
const METADATA: u32 = 5;

/// None: not UTF-8, which is an error of the series that refers to it.
type Symbols = Vec<Option<SmolStr>>;

pub(super) fn read(message: &[u8]) -> Result<Gather, FormatError> {
    let mut gather = Gather::default();
    let symbols = read_symbols(message)?;
    let mut series = Series::default();
    let mut refs = Vec::new();
    for field in checked(message)? {
        match field {
            Field { tag: TIMESERIES, payload: Payload::Bytes(message) } => {
                series.clear();
                refs.clear();
                let read = read_series(message, &mut series, &mut refs);
                let read = read.and(resolve(&refs, &symbols, &mut series));
                series.take(read, &mut gather);
            }
            Field { tag: OF_V1, .. } => {
                let why = "this is a request of remote write 1.0, but its content type says \
                           `proto=io.prometheus.write.v2.Request`";
                return Err(FormatError::UnknownMessage(why.to_owned()));
            }
            _ => {}
        }
    }
    Ok(gather)
}

/// Senders write the table first, but protobuf does not promise an order of fields.
fn read_symbols(message: &[u8]) -> Result<Symbols, FormatError> {
    let mut symbols = Symbols::new();
    for field in checked(message)? {
        let Field { tag: SYMBOLS, payload: Payload::Bytes(bytes) } = field else { continue };
        if symbols.len() >= MAX_SYMBOLS {
            return Err(FormatError::TooMany { what: format!("has over {MAX_SYMBOLS} symbols") });
        }
        symbols.push(str::from_utf8(bytes).ok().map(SmolStr::new));
    }
    Ok(symbols)
}

fn read_series(message: &[u8], series: &mut Series, refs: &mut Vec<u64>) -> Result<(), String> {
    // The first trouble is kept until the end, so that the name is known where it can be.
    let mut trouble = Ok(());
    for field in Fields::of(message) {
        let Field { tag, payload } = match field {
            Ok(field) => field,
            Err(error) => return trouble.and(Err(error.to_string())),
        };
        let read = match (tag, payload) {
            (LABELS_REFS, Payload::Bytes(list)) => {
                packed(list).take(MAX_REFS - refs.len()).try_for_each(|number| number.map(|number| refs.push(number)))
            }
            (LABELS_REFS, Payload::Varint(number)) => {
                refs.extend((refs.len() < MAX_REFS).then_some(number));
                Ok(())
            }
            (SAMPLES, Payload::Bytes(message)) => series.sample(message),
            (HISTOGRAMS | EXEMPLARS | METADATA, _) => {
                series.ignored += 1;
                Ok(())
            }
            _ => Ok(()),
        };
        trouble = trouble.and(read.map_err(|error| error.to_string()));
    }
    trouble
}

/// Names and values in turn. Goes on after the first trouble, so that the name is known where it can be.
fn resolve(refs: &[u64], symbols: &Symbols, series: &mut Series) -> Result<(), String> {
    let symbol = |place: u64| match usize::try_from(place).ok().and_then(|place| symbols.get(place)) {
        Some(Some(symbol)) => Ok(symbol.clone()),
        Some(None) => Err("a label is not UTF-8".to_owned()),
        None => Err(format!("it refers to symbol {place}, but there are only {}", symbols.len())),
    };
    let (pairs, odd) = refs.as_chunks::<2>();
    let mut trouble = Ok(());
    for [name, value] in pairs {
        let read = symbol(*name).and_then(|name| series.label(name, symbol(*value)?));
        trouble = trouble.and(read);
    }
    if odd.is_empty() { trouble } else { trouble.and(Err("a label has a name but no value".to_owned())) }
}
