use proptest::prelude::*;
use prost::Message;

use super::*;
use crate::formats::{ForeignSample, ForeignValue, MAX_ERRORS, MAX_LABELS, STALE_BITS};

/// The messages as their `.proto` files have them.
#[derive(Clone, PartialEq, Message)]
struct WriteRequest {
    #[prost(message, repeated, tag = "1")]
    timeseries: Vec<TimeSeries>,
    #[prost(message, repeated, tag = "3")]
    metadata: Vec<Metadata>,
}

#[derive(Clone, PartialEq, Message)]
struct TimeSeries {
    #[prost(message, repeated, tag = "1")]
    labels: Vec<Label>,
    #[prost(message, repeated, tag = "2")]
    samples: Vec<Sample>,
    #[prost(message, repeated, tag = "3")]
    exemplars: Vec<Sample>,
    #[prost(message, repeated, tag = "4")]
    histograms: Vec<Metadata>,
}

#[derive(Clone, PartialEq, Message)]
struct Label {
    #[prost(bytes = "vec", tag = "1")]
    name: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    value: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
struct Sample {
    #[prost(double, tag = "1")]
    value: f64,
    #[prost(int64, tag = "2")]
    timestamp: i64,
}

#[derive(Clone, PartialEq, Message)]
struct Metadata {
    #[prost(int32, tag = "1")]
    kind: i32,
}

#[derive(Clone, PartialEq, Message)]
struct Request {
    #[prost(bytes = "vec", repeated, tag = "4")]
    symbols: Vec<Vec<u8>>,
    #[prost(message, repeated, tag = "5")]
    timeseries: Vec<TimeSeries2>,
}

#[derive(Clone, PartialEq, Message)]
struct TimeSeries2 {
    #[prost(uint32, repeated, tag = "1")]
    labels_refs: Vec<u32>,
    #[prost(message, repeated, tag = "2")]
    samples: Vec<Sample>,
    #[prost(message, repeated, tag = "3")]
    histograms: Vec<Metadata>,
    #[prost(message, repeated, tag = "4")]
    exemplars: Vec<Metadata>,
    #[prost(message, optional, tag = "5")]
    metadata: Option<Metadata>,
    #[prost(int64, tag = "6")]
    created_timestamp: i64,
}

const V2: Option<&str> = Some("application/x-protobuf;proto=io.prometheus.write.v2.Request");

fn packed_body(message: &[u8]) -> Vec<u8> {
    snap::raw::Encoder::new().compress_vec(message).expect("compresses")
}

fn post1(series: Vec<TimeSeries>) -> Foreign {
    let request = WriteRequest { timeseries: series, metadata: vec![] };
    parse_remote_write(None, &packed_body(&request.encode_to_vec())).expect("a body")
}

fn post2(symbols: &[&str], series: Vec<TimeSeries2>) -> Foreign {
    let symbols = symbols.iter().map(|symbol| symbol.as_bytes().to_vec()).collect();
    let request = Request { symbols, timeseries: series };
    parse_remote_write(V2, &packed_body(&request.encode_to_vec())).expect("a body")
}

fn series(labels: &[(&str, &str)], samples: &[(f64, i64)]) -> TimeSeries {
    let label = |(name, value): &(&str, &str)| Label { name: name.as_bytes().into(), value: value.as_bytes().into() };
    TimeSeries {
        labels: labels.iter().map(label).collect(),
        samples: samples.iter().map(|&(value, timestamp)| Sample { value, timestamp }).collect(),
        ..TimeSeries::default()
    }
}

fn sample(name: &str, labels: &[(&str, &str)], value: ForeignValue, millis: i64) -> ForeignSample {
    let labels = labels.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
    ForeignSample { name: name.into(), labels, value, time: Some(Timestamp::from_millis(millis)) }
}

#[test]
fn a_request_of_1_0_is_read_whole() {
    let stale = f64::from_bits(STALE_BITS);
    let mut up = series(
        &[("__name__", "up"), ("job", "node"), ("empty", ""), ("instance", "a.example:9100, with a long name")],
        &[(1.0, 1_795_000_000_000), (stale, 1_795_000_015_000), (f64::NAN, 3), (f64::INFINITY, 4)],
    );
    up.exemplars = vec![Sample::default()];
    let mut request = WriteRequest { timeseries: vec![up], metadata: vec![Metadata { kind: 1 }] };
    request.timeseries.push(series(&[("__name__", "down")], &[(-0.25, -1)]));
    request.timeseries.push(TimeSeries {
        histograms: vec![Metadata { kind: 1 }],
        ..series(&[("__name__", "native_histogram")], &[])
    });
    let content_type = Some("application/x-protobuf; proto=\"prometheus.WriteRequest\"");
    let foreign = parse_remote_write(content_type, &packed_body(&request.encode_to_vec())).expect("a body");
    let labels = [("instance", "a.example:9100, with a long name"), ("job", "node")];
    assert_eq!(
        foreign.samples,
        [
            sample("up", &labels, ForeignValue::Number(1.0), 1_795_000_000_000),
            sample("up", &labels, ForeignValue::Stale, 1_795_000_015_000),
            sample("down", &[], ForeignValue::Number(-0.25), -1),
        ]
    );
    assert_eq!((foreign.errors.len(), foreign.without_value, foreign.ignored), (0, 2, 3));
}

#[test]
fn a_request_of_2_0_is_read_whole() {
    let symbols = ["", "__name__", "up", "job", "node", "pod"];
    let up = TimeSeries2 {
        labels_refs: vec![1, 2, 5, 0, 3, 4],
        samples: vec![Sample { value: 1.0, timestamp: 1000 }, Sample { value: 0.0, timestamp: 2000 }],
        histograms: vec![Metadata::default()],
        exemplars: vec![Metadata::default()],
        metadata: Some(Metadata { kind: 1 }),
        created_timestamp: 5,
    };
    let foreign = post2(&symbols, vec![up]);
    let labels = [("job", "node")];
    assert_eq!(
        foreign.samples,
        [
            sample("up", &labels, ForeignValue::Number(1.0), 1000),
            sample("up", &labels, ForeignValue::Number(0.0), 2000)
        ]
    );
    assert_eq!((foreign.errors.len(), foreign.ignored), (0, 3));
}

#[test]
fn a_bad_series_is_named_and_takes_no_good_one_with_it() {
    let bad = |labels: &[(&str, &str)]| {
        let good = series(&[("__name__", "up")], &[(1.0, 1)]);
        let foreign = post1(vec![good.clone(), series(labels, &[(1.0, 1)]), good]);
        assert_eq!((foreign.samples.len(), foreign.errors.len()), (2, 1), "{labels:?}");
        foreign.errors[0].clone()
    };
    assert_eq!(bad(&[]), "series without labels: it has no name");
    assert_eq!(bad(&[("job", "node"), ("__name__", "")]), "series with `job`=`node`: it has no name");
    assert_eq!(bad(&[("a", "1"), ("a", "2"), ("__name__", "x")]), "series `x`: the label `a` is there twice");
    assert_eq!(bad(&[("__name__", "x"), ("", "2")]), "series `x`: a label has no name");
    assert!(bad(&[("__name__", "x"), ("__name__", "y")]).ends_with("the label `__name__` is there twice"));
    let many: Vec<String> = (0..=MAX_LABELS).map(|n| format!("l{n}")).collect();
    let mut labels: Vec<(&str, &str)> = vec![("__name__", "x")];
    labels.extend(many.iter().map(|name| (name.as_str(), "1")));
    assert_eq!(bad(&labels), format!("series `x`: it has over {MAX_LABELS} labels"));

    let mut latin = series(&[("a", "b"), ("__name__", "x")], &[(1.0, 1)]);
    latin.labels[0].value = vec![0xe4];
    let foreign = post1(vec![latin, series(&[("__name__", "up")], &[(1.0, 1)])]);
    assert_eq!((foreign.samples.len(), &foreign.errors[..]), (1, &["series `x`: a label is not UTF-8".to_owned()][..]));
}

#[test]
fn a_reference_out_of_range_is_an_error_of_its_series_only() {
    let with = |labels_refs: Vec<u32>| TimeSeries2 {
        labels_refs,
        samples: vec![Sample { value: 1.0, timestamp: 1 }],
        ..TimeSeries2::default()
    };
    let symbols = ["", "__name__", "up", "x"];
    let foreign =
        post2(&symbols, vec![with(vec![3, 9, 1, 2]), with(vec![1, 2, 3]), with(vec![u32::MAX, 1]), with(vec![1, 2])]);
    assert_eq!(foreign.samples.len(), 1);
    assert_eq!(
        foreign.errors,
        [
            "series `up`: it refers to symbol 9, but there are only 4",
            "series `up`: a label has a name but no value",
            "series without labels: it refers to symbol 4294967295, but there are only 4",
        ]
    );
    let foreign = post2(&symbols, vec![with([vec![1, 2], [3, 2].repeat(MAX_LABELS + 50)].concat())]);
    assert_eq!(foreign.errors, [format!("series `up`: it has over {MAX_LABELS} labels")]);
}

#[test]
fn what_is_wrong_with_the_body_refuses_it() {
    let error = |kind: Option<&str>, body: &[u8]| parse_remote_write(kind, body).expect_err("no body");
    assert!(matches!(error(None, b"\xff\xff"), FormatError::NotSnappy(_)));
    assert!(matches!(error(None, b"up 1\n"), FormatError::NotSnappy(_)));
    assert!(matches!(error(None, &packed_body(b"\x0a\x05")), FormatError::NotProtobuf(_)));
    assert!(matches!(error(Some("application/json"), b""), FormatError::UnknownMessage(_)));
    assert!(matches!(error(Some("application/x-protobuf;proto=x.Y"), b""), FormatError::UnknownMessage(_)));
    // The format's own length, before anything is there to be decompressed.
    let bytes = MAX_DECOMPRESSED + 1;
    assert_eq!(error(None, &[0x81, 0x80, 0x80, 0x08, 0x00]), FormatError::TooLarge { bytes });
    assert_eq!(error(None, &packed_body(&vec![0; bytes])), FormatError::TooLarge { bytes });

    let old = WriteRequest { timeseries: vec![series(&[("__name__", "up")], &[])], metadata: vec![] };
    let new = Request { symbols: vec![vec![]], timeseries: vec![] };
    assert!(matches!(error(V2, &packed_body(&old.encode_to_vec())), FormatError::UnknownMessage(_)));
    assert!(matches!(error(None, &packed_body(&new.encode_to_vec())), FormatError::UnknownMessage(_)));
    let many = Request { symbols: vec![vec![]; 1_000_001], timeseries: vec![] };
    assert!(matches!(error(V2, &packed_body(&many.encode_to_vec())), FormatError::TooMany { .. }));
}

#[test]
fn a_body_of_empty_messages_stays_within_the_limits() {
    let empty = WriteRequest { timeseries: vec![TimeSeries::default(); 300_000], metadata: vec![] };
    let foreign = parse_remote_write(None, &packed_body(&empty.encode_to_vec())).expect("a body");
    assert_eq!(foreign.errors.len() + foreign.more_errors, 300_000);
    let foreign = post1(vec![series(&[("__name__", "up")], &vec![(0.0, 0); MAX_SAMPLES_PER_BODY + 9])]);
    assert_eq!(foreign.samples.len(), MAX_SAMPLES_PER_BODY);
    assert!(foreign.errors[0].starts_with("9 samples were left out"), "{:?}", foreign.errors);
}

fn holds(content_type: Option<&str>, body: &[u8]) {
    let Ok(foreign) = parse_remote_write(content_type, body) else { return };
    assert!(foreign.samples.len() <= MAX_SAMPLES_PER_BODY && foreign.errors.len() <= MAX_ERRORS);
    for sample in &foreign.samples {
        assert!(!sample.name.is_empty());
        assert!(sample.labels.is_sorted_by(|a, b| a.0 < b.0));
        assert!(sample.labels.iter().all(|(name, value)| !value.is_empty() && name != NAME_LABEL));
        assert!(
            matches!(sample.value, ForeignValue::Stale)
                || matches!(sample.value, ForeignValue::Number(n) if n.is_finite())
        );
    }
}

fn valid() -> [Vec<u8>; 2] {
    let labels = [("__name__", "up"), ("job", "node")];
    let v1 = WriteRequest { timeseries: vec![series(&labels, &[(1.0, 1), (2.0, 2)]); 3], metadata: vec![] };
    let one = TimeSeries2 { labels_refs: vec![1, 2, 3, 4], samples: vec![Sample::default()], ..TimeSeries2::default() };
    let symbols = ["", "__name__", "up", "job", "node"].map(|symbol| symbol.as_bytes().to_vec()).to_vec();
    [v1.encode_to_vec(), Request { symbols, timeseries: vec![one; 3] }.encode_to_vec()]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_are_survived(body: Vec<u8>) {
        for kind in [None, V2] {
            holds(kind, &body);
            holds(kind, &packed_body(&body));
        }
    }

    #[test]
    fn damaged_bodies_are_survived(at: prop::sample::Index, put: Vec<u8>, cut in 0..4_usize) {
        for (message, kind) in valid().into_iter().zip([None, V2]) {
            let mut damaged = message.clone();
            let from = at.index(damaged.len());
            let to = (from + cut).min(damaged.len());
            damaged.splice(from..to, put.iter().copied());
            holds(kind, &packed_body(&damaged));
            let mut damaged = packed_body(&message);
            let from = at.index(damaged.len());
            let to = (from + cut).min(damaged.len());
            damaged.splice(from..to, put.iter().copied());
            holds(kind, &damaged);
        }
    }

    #[test]
    fn what_is_written_is_read(value: f64, timestamp: i64, name in "[a-z_:.é]{1,40}", label in "\\PC{0,40}") {
        let foreign = post1(vec![series(&[("__name__", &name), ("label", &label)], &[(value, timestamp)])]);
        let symbols = ["", "__name__", &name, "label", &label];
        let refs = vec![1, 2, 3, 4];
        let samples = vec![Sample { value, timestamp }];
        let same = post2(&symbols, vec![TimeSeries2 { labels_refs: refs, samples, ..TimeSeries2::default() }]);
        prop_assert_eq!(&foreign, &same);
        if value.is_finite() {
            let labels: &[(&str, &str)] = if label.is_empty() { &[] } else { &[("label", &label)] };
            prop_assert_eq!(&foreign.samples, &[sample(&name, labels, ForeignValue::Number(value), timestamp)]);
        } else {
            prop_assert_eq!(foreign.without_value, 1);
        }
    }
}
