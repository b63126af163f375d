use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::common::v1 as common;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::metrics::v1 as metrics;
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::resource::v1::Resource;
use proptest::prelude::*;

use super::*;
use crate::formats::{ForeignSample, ForeignValue, MAX_ERRORS, MAX_LABELS, MAX_SAMPLES_PER_BODY, NAME_LABEL};

const NANOS: u64 = 1_544_712_660_300_000_000;

fn attribute(key: &str, value: Value) -> common::KeyValue {
    common::KeyValue { key: key.into(), value: Some(common::AnyValue { value: Some(value) }), ..Default::default() }
}

fn text(key: &str, value: &str) -> common::KeyValue {
    attribute(key, Value::StringValue(value.into()))
}

fn number(
    value: Option<metrics::number_data_point::Value>,
    attributes: Vec<common::KeyValue>,
) -> metrics::NumberDataPoint {
    metrics::NumberDataPoint { time_unix_nano: NANOS, value, attributes, ..Default::default() }
}

fn double(value: f64) -> metrics::NumberDataPoint {
    number(Some(metrics::number_data_point::Value::AsDouble(value)), vec![])
}

fn metric(name: &str, unit: &str, data: Data) -> metrics::Metric {
    metrics::Metric { name: name.into(), unit: unit.into(), data: Some(data), ..Default::default() }
}

fn gauge(data_points: Vec<metrics::NumberDataPoint>) -> Data {
    Data::Gauge(metrics::Gauge { data_points })
}

fn request(attributes: Vec<common::KeyValue>, metrics: Vec<metrics::Metric>) -> ExportMetricsServiceRequest {
    of_scopes(attributes, vec![metrics::ScopeMetrics { metrics, ..Default::default() }])
}

fn of_scopes(
    attributes: Vec<common::KeyValue>,
    scope_metrics: Vec<metrics::ScopeMetrics>,
) -> ExportMetricsServiceRequest {
    ExportMetricsServiceRequest {
        resource_metrics: vec![metrics::ResourceMetrics {
            resource: Some(Resource { attributes, ..Default::default() }),
            scope_metrics,
            ..Default::default()
        }],
    }
}

/// What a request comes to; the same in both encodings.
fn post(request: &ExportMetricsServiceRequest) -> Foreign {
    let foreign = parse_otlp(OtlpEncoding::Protobuf, &request.encode_to_vec()).expect("a body");
    let json = serde_json::to_vec(request).expect("JSON");
    assert_eq!(parse_otlp(OtlpEncoding::Json, &json).as_ref(), Ok(&foreign), "{}", String::from_utf8_lossy(&json));
    foreign
}

fn post_json(body: &str) -> Foreign {
    parse_otlp(OtlpEncoding::Json, body.as_bytes()).expect("a body")
}

/// One sample as `name{label=value,…} value`.
fn told(sample: &ForeignSample) -> String {
    let labels: Vec<String> = sample.labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let value = match sample.value {
        ForeignValue::Number(value) => value.to_string(),
        ForeignValue::Stale => "stale".to_owned(),
    };
    format!("{}{{{}}} {value}", sample.name, labels.join(","))
}

fn all(foreign: &Foreign) -> Vec<String> {
    foreign.samples.iter().map(told).collect()
}

/// The example of OTLP's own documentation, with its snake-case twin's spelling here and there.
const EXAMPLE: &str = r#"{"resourceMetrics": [{
  "resource": {"attributes": [{"key": "service.name", "value": {"stringValue": "my.service"}}]},
  "scopeMetrics": [{
    "scope": {"name": "my.library", "version": "1.0.0", "attributes": []},
    "metrics": [
      {"name": "my.counter", "unit": "1", "description": "I am a Counter", "sum": {
        "aggregationTemporality": 1, "isMonotonic": true, "dataPoints": [
          {"asDouble": 5, "startTimeUnixNano": "1544712660300000000", "timeUnixNano": "1544712660300000000",
           "attributes": [{"key": "my.counter.attr", "value": {"stringValue": "some value"}}]}]}},
      {"name": "my.gauge", "unit": "1", "gauge": {"data_points": [
          {"asInt": "10", "time_unix_nano": 1544712660300000000, "someday": [{}],
           "attributes": [{"key": "my.gauge.attr", "value": {"intValue": "7"}}]}]}},
      {"name": "my.histogram", "unit": "1", "histogram": {
        "aggregation_temporality": "AGGREGATION_TEMPORALITY_CUMULATIVE", "dataPoints": [
          {"timeUnixNano": "1544712660300000000", "count": "2", "sum": 2, "bucketCounts": ["1", 1],
           "explicitBounds": [1], "min": 0, "max": 2, "attributes": null}]}},
      {"name": "my.exponential.histogram", "unit": "1", "exponentialHistogram": {
        "aggregationTemporality": 2, "dataPoints": [
          {"timeUnixNano": "1544712660300000000", "count": 3.0, "sum": "10", "scale": 0, "zeroCount": "1",
           "positive": {"offset": 1, "bucketCounts": ["0", "2"]}, "min": 0, "max": 5, "zeroThreshold": 0}]}}
    ]}]}]}"#;

#[test]
fn the_documentations_example_is_read_whole() {
    let foreign = post_json(EXAMPLE);
    assert_eq!(foreign.errors, [] as [&str; 0]);
    assert_eq!(
        all(&foreign),
        [
            "my_counter_delta{my_counter_attr=some value,otel_scope_name=my.library,service_name=my.service} 5",
            "my_gauge_ratio{my_gauge_attr=7,otel_scope_name=my.library,service_name=my.service} 10",
            "my_histogram_count{otel_scope_name=my.library,service_name=my.service} 2",
            "my_histogram_sum{otel_scope_name=my.library,service_name=my.service} 2",
            "my_histogram_min{otel_scope_name=my.library,service_name=my.service} 0",
            "my_histogram_max{otel_scope_name=my.library,service_name=my.service} 2",
            "my_histogram_bucket{le=1,otel_scope_name=my.library,service_name=my.service} 1",
            "my_histogram_bucket{le=+Inf,otel_scope_name=my.library,service_name=my.service} 2",
            "my_exponential_histogram_count{otel_scope_name=my.library,service_name=my.service} 3",
            "my_exponential_histogram_sum{otel_scope_name=my.library,service_name=my.service} 10",
            "my_exponential_histogram_min{otel_scope_name=my.library,service_name=my.service} 0",
            "my_exponential_histogram_max{otel_scope_name=my.library,service_name=my.service} 5",
        ]
    );
    assert_eq!(foreign.ignored, 1);
    let time = Some(selfheal_model::Timestamp::from_millis(1_544_712_660_300));
    assert!(foreign.samples.iter().all(|sample| sample.time == time));
}

#[test]
fn each_kind_has_its_series() {
    let (cumulative, delta) = (2, 1);
    let sum = |aggregation_temporality, is_monotonic| {
        Data::Sum(metrics::Sum { data_points: vec![double(4.5)], aggregation_temporality, is_monotonic })
    };
    let histogram = |aggregation_temporality| {
        Data::Histogram(metrics::Histogram {
            data_points: vec![metrics::HistogramDataPoint {
                time_unix_nano: NANOS,
                count: 7,
                sum: Some(1.5),
                bucket_counts: vec![1, 2, 4],
                explicit_bounds: vec![0.005, 10.0],
                exemplars: vec![metrics::Exemplar::default()],
                attributes: vec![text("le", "mine"), text("zone", "a")],
                ..Default::default()
            }],
            aggregation_temporality,
        })
    };
    let summary = Data::Summary(metrics::Summary {
        data_points: vec![metrics::SummaryDataPoint {
            count: 3,
            sum: 0.25,
            quantile_values: vec![
                metrics::summary_data_point::ValueAtQuantile { quantile: 0.5, value: 0.1 },
                metrics::summary_data_point::ValueAtQuantile { quantile: 1.0, value: f64::NAN },
            ],
            ..Default::default()
        }],
    });
    let foreign = post(&request(
        vec![],
        vec![
            metric("cpu.time", "s", sum(cumulative, true)),
            metric("queue.size", "1", sum(cumulative, false)),
            metric("requests", "{request}", sum(delta, true)),
            metric("latency", "ms", histogram(cumulative)),
            metric("latency", "ms", histogram(delta)),
            metric("gc", "s", summary),
            metrics::Metric { name: "of.the.future".into(), ..Default::default() },
        ],
    ));
    assert_eq!(
        all(&foreign),
        [
            "cpu_time_seconds_total{} 4.5",
            "queue_size{} 4.5",
            "requests_delta{} 4.5",
            "latency_milliseconds_count{le=mine,zone=a} 7",
            "latency_milliseconds_sum{le=mine,zone=a} 1.5",
            "latency_milliseconds_bucket{le=0.005,zone=a} 1",
            "latency_milliseconds_bucket{le=10,zone=a} 3",
            "latency_milliseconds_bucket{le=+Inf,zone=a} 7",
            "latency_milliseconds_delta_count{le=mine,zone=a} 7",
            "latency_milliseconds_delta_sum{le=mine,zone=a} 1.5",
            "latency_milliseconds_delta_bucket{le=0.005,zone=a} 1",
            "latency_milliseconds_delta_bucket{le=10,zone=a} 3",
            "latency_milliseconds_delta_bucket{le=+Inf,zone=a} 7",
            "gc_seconds_count{} 3",
            "gc_seconds_sum{} 0.25",
            "gc_seconds{quantile=0.5} 0.1",
        ]
    );
    assert_eq!((foreign.errors.len(), foreign.without_value, foreign.ignored), (0, 1, 3));
    assert_eq!(foreign.samples[0].time, Some(selfheal_model::Timestamp::from_millis(1_544_712_660_300)));
    assert_eq!(foreign.samples[15].time, None);
}

#[test]
fn attributes_of_every_type_become_labels_and_the_points_win() {
    let array = common::ArrayValue {
        values: vec![
            common::AnyValue { value: Some(Value::StringValue("a".into())) },
            common::AnyValue { value: None },
        ],
    };
    let list = common::KeyValueList { values: vec![attribute("x", Value::IntValue(1))] };
    let resource = vec![
        text("service.name", "checkout"),
        text("zone", "resource"),
        text("empty", ""),
        attribute("bool", Value::BoolValue(true)),
        attribute("int", Value::IntValue(-5)),
        attribute("double", Value::DoubleValue(0.5)),
        attribute("bytes", Value::BytesValue(vec![1, 2, 255])),
        attribute("array", Value::ArrayValue(array)),
        attribute("list", Value::KvlistValue(list)),
    ];
    let point = vec![text("zone", "point"), text("a.b", "first"), text("a_b", "second"), text("__name__", "x")];
    let value = Some(metrics::number_data_point::Value::AsInt(-3));
    let request = request(resource, vec![metric("g", "", gauge(vec![number(value, point)]))]);
    let protobuf = parse_otlp(OtlpEncoding::Protobuf, &request.encode_to_vec()).expect("a body");
    assert_eq!(
        all(&protobuf),
        [concat!(
            r#"g{a_b=second,array=["a",null],bool=true,bytes=AQL/,double=0.5,int=-5,list={"x":1},"#,
            "service_name=checkout,zone=point} -3"
        )]
    );
    let json = r#"{"resource_metrics":[{"resource":{"attributes":[
        {"key":"bool","value":{"bool_value":true}}, {"key":"int","value":{"intValue":-5}},
        {"key":"nan","value":{"doubleValue":"NaN"}}, {"key":"bytes","value":{"bytesValue":"AQL/"}},
        {"key":"array","value":{"arrayValue":{"values":[{"stringValue":"a"},{"kvlistValue":{"values":[
            {"key":"x","value":{"intValue":"1"}},{"key":"y"}]}}]}}}]},
        "scope_metrics":[{"metrics":[{"name":"g","gauge":{"dataPoints":[{"asDouble":"1.5"}]}}]}]}]}"#;
    assert_eq!(all(&post_json(json)), [r#"g{array=["a",{"x":1,"y":null}],bool=true,bytes=AQL/,int=-5,nan=NaN} 1.5"#]);
}

#[test]
fn the_counters_of_two_scopes_are_two_series() {
    let counter =
        |points| Data::Sum(metrics::Sum { data_points: points, aggregation_temporality: 2, is_monotonic: true });
    let scope = |name: Option<&str>, points| metrics::ScopeMetrics {
        scope: name.map(|name| common::InstrumentationScope {
            name: name.into(),
            version: "2".into(),
            attributes: vec![text("x", "y")],
            ..Default::default()
        }),
        metrics: vec![metric("orders", "1", counter(points))],
        ..Default::default()
    };
    let own = metrics::NumberDataPoint { attributes: vec![text("otel.scope.name", "own")], ..double(4.0) };
    // in both encodings
    let foreign = post(&of_scopes(
        vec![text("service.name", "shop"), text("zone", "a")],
        vec![
            scope(Some("web"), vec![double(1.0)]),
            scope(Some("batch"), vec![double(2.0), own]),
            scope(Some(""), vec![double(3.0)]),
            scope(None, vec![double(5.0)]),
        ],
    ));
    assert_eq!(
        all(&foreign),
        [
            "orders_total{otel_scope_name=web,service_name=shop,zone=a} 1",
            "orders_total{otel_scope_name=batch,service_name=shop,zone=a} 2",
            "orders_total{otel_scope_name=own,service_name=shop,zone=a} 4",
            "orders_total{service_name=shop,zone=a} 3",
            "orders_total{service_name=shop,zone=a} 5",
        ]
    );
    assert_eq!(foreign.errors, [] as [&str; 0]);
    let json = r#"{"resourceMetrics":[{"scopeMetrics":[
        {"scope":{"name":"web","someday":1},"metrics":[{"name":"g","gauge":{"dataPoints":[{"asDouble":1}]}}]},
        {"scope":{"name":null},"metrics":[{"name":"g","gauge":{"dataPoints":[{"asDouble":2}]}}]},
        {"scope":null,"metrics":[{"name":"g","gauge":{"dataPoints":[{"asDouble":3}]}}]}]}]}"#;
    assert_eq!(all(&post_json(json)), ["g{otel_scope_name=web} 1", "g{} 2", "g{} 3"]);
}

#[test]
fn a_point_without_a_recorded_value_ends_its_series() {
    let ended = |mut point: metrics::NumberDataPoint| {
        point.flags = 1;
        point
    };
    let histogram = Data::Histogram(metrics::Histogram {
        data_points: vec![metrics::HistogramDataPoint { flags: 1, explicit_bounds: vec![1.0], ..Default::default() }],
        aggregation_temporality: 2,
    });
    let request = request(
        vec![],
        vec![
            metric("g", "", gauge(vec![ended(number(None, vec![])), number(None, vec![])])),
            metric("h", "", histogram),
        ],
    );
    let foreign = post(&request);
    assert_eq!(
        all(&foreign),
        [
            "g{} stale",
            "h_count{} stale",
            "h_sum{} stale",
            "h_min{} stale",
            "h_max{} stale",
            "h_bucket{le=1} stale",
            "h_bucket{le=+Inf} stale",
        ]
    );
    assert_eq!((foreign.errors.len(), foreign.without_value), (0, 1));
}

#[test]
fn a_bad_metric_is_named_and_takes_no_good_one_with_it() {
    let histogram = |bucket_counts: Vec<u64>, explicit_bounds: Vec<f64>| {
        let point = metrics::HistogramDataPoint { count: 3, bucket_counts, explicit_bounds, ..Default::default() };
        Data::Histogram(metrics::Histogram { data_points: vec![point], aggregation_temporality: 2 })
    };
    let many = (0..MAX_LABELS).map(|n| text(&format!("l{n}"), "x")).collect();
    let open = metrics::Sum { data_points: vec![double(1.0)], ..Default::default() };
    let foreign = post(&request(
        vec![],
        vec![
            metric("", "", gauge(vec![double(1.0)])),
            metric("open.sum", "", Data::Sum(open)),
            metric("misfit", "", histogram(vec![1, 2, 3], vec![1.0])),
            metric("falling", "", histogram(vec![1, 2, 3], vec![2.0, 1.0])),
            metric("wide", "", gauge(vec![metrics::NumberDataPoint { attributes: many, ..double(2.0) }, double(1.0)])),
        ],
    ));
    assert_eq!(all(&foreign), ["misfit_count{} 3", "falling_count{} 3", "wide{} 1"]);
    assert_eq!(
        foreign.errors,
        [
            "metric ``: it has no name".to_owned(),
            "metric `open.sum`: it does not say whether it is cumulative or delta".to_owned(),
            "metric `misfit`: 3 buckets do not fit 1 bounds".to_owned(),
            "metric `falling`: its bounds do not rise".to_owned(),
            format!("metric `wide`: it has over {} attributes", MAX_LABELS - 1),
        ]
    );
}

#[test]
fn what_is_wrong_with_the_body_refuses_it() {
    let error = |encoding, body: &[u8]| parse_otlp(encoding, body).expect_err("no body");
    assert!(matches!(error(OtlpEncoding::Protobuf, b"\x0a\x05"), FormatError::NotProtobuf(_)));
    let why = error(OtlpEncoding::Json, br#"{"resourceMetrics": [{"scopeMetrics": 5}]}"#).to_string();
    assert!(why.contains("line 1 column"), "{why}");
    assert!(matches!(error(OtlpEncoding::Json, b"{"), FormatError::NotJson(_)));
    let bytes = MAX_DECOMPRESSED + 1;
    assert_eq!(error(OtlpEncoding::Json, &vec![b' '; bytes]), FormatError::TooLarge { bytes });
    let of = OtlpEncoding::of_content_type;
    assert_eq!(of(Some("application/json; charset=utf-8")), Ok(OtlpEncoding::Json));
    assert_eq!(of(Some("application/x-protobuf")), Ok(OtlpEncoding::Protobuf));
    assert_eq!(of(None), Ok(OtlpEncoding::Protobuf));
    assert!(matches!(of(Some("text/plain")), Err(FormatError::UnknownMessage(_))));
}

#[test]
fn a_body_that_would_become_too_large_is_refused_before() {
    /// A message in field 1.
    fn in_field_1(inner: &[u8]) -> Vec<u8> {
        let mut outer = vec![0x0a];
        prost::encode_length_delimiter(inner.len(), &mut outer).expect("a length");
        outer.extend_from_slice(inner);
        outer
    }
    // Attributes of a resource, two bytes each.
    let body = |attributes: usize| in_field_1(&in_field_1(&[0x0a, 0x00].repeat(attributes)));
    assert!(matches!(parse_otlp(OtlpEncoding::Protobuf, &body(3_000_000)), Err(FormatError::TooMany { .. })));
    assert!(parse_otlp(OtlpEncoding::Protobuf, &body(1_000)).is_ok());
    let brackets = "[".repeat(3_000_000);
    assert!(matches!(parse_otlp(OtlpEncoding::Json, brackets.as_bytes()), Err(FormatError::TooMany { .. })));
}

fn holds(encoding: OtlpEncoding, body: &[u8]) {
    let Ok(foreign) = parse_otlp(encoding, body) else { return };
    assert!(foreign.samples.len() <= MAX_SAMPLES_PER_BODY && foreign.errors.len() <= MAX_ERRORS);
    for sample in &foreign.samples {
        assert!(!sample.name.is_empty() && sample.labels.len() <= MAX_LABELS);
        assert!(sample.labels.is_sorted_by(|a, b| a.0 < b.0));
        assert!(sample.labels.iter().all(|(name, value)| !value.is_empty() && name != NAME_LABEL));
        assert!(!matches!(sample.value, ForeignValue::Number(value) if !value.is_finite()));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_are_survived(body: Vec<u8>, text in "[a-z{}\\[\\]\",:0-9]{0,100}") {
        holds(OtlpEncoding::Protobuf, &body);
        holds(OtlpEncoding::Json, &body);
        holds(OtlpEncoding::Json, text.as_bytes());
    }

    #[test]
    fn damaged_bodies_are_survived(at: prop::sample::Index, put: Vec<u8>, cut in 0..8_usize) {
        let request: message::Request = serde_json::from_str(EXAMPLE).expect("the example");
        for (encoding, mut body) in
            [(OtlpEncoding::Protobuf, request.encode_to_vec()), (OtlpEncoding::Json, EXAMPLE.as_bytes().to_vec())]
        {
            let from = at.index(body.len());
            let to = (from + cut).min(body.len());
            body.splice(from..to, put.iter().copied());
            holds(encoding, &body);
        }
    }

    #[test]
    fn what_is_written_is_read(value: f64, int: i64, nanos: u64, name in "[a-z.]{1,30}", label in "\\PC{1,40}") {
        let mut float = double(value);
        float.time_unix_nano = nanos;
        let whole = number(Some(metrics::number_data_point::Value::AsInt(int)), vec![text("k", &label)]);
        let request = request(vec![], vec![metric(&name, "", gauge(vec![float, whole]))]);
        let foreign = parse_otlp(OtlpEncoding::Protobuf, &request.encode_to_vec()).expect("a body");
        let whole = foreign.samples.last().expect("a sample");
        prop_assert_eq!(whole.value, ForeignValue::Number(int as f64));
        prop_assert_eq!(whole.labels[0].1.as_str(), label.as_str());
        prop_assert_eq!(foreign.samples.len() + foreign.without_value, 2);
    }
}
