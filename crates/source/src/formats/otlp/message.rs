//! The messages of OTLP metrics, with the fields that are read; one set for protobuf and for JSON.
//!
//! Where OTLP says "one of", these have an optional field for each: on the wire it is the same. JSON may name a field in
//! `lowerCamelCase` or as in the `.proto` file, and unknown fields are skipped, as OTLP asks for.

use serde::Deserialize;

use super::lenient;

/// `ExportMetricsServiceRequest`.
#[derive(Clone, PartialEq, prost::Message, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Request {
    #[prost(message, repeated, tag = "1")]
    #[serde(alias = "resource_metrics", deserialize_with = "lenient::or_default")]
    pub resource_metrics: Vec<ResourceMetrics>,
}

#[derive(Clone, PartialEq, prost::Message, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct ResourceMetrics {
    #[prost(message, optional, tag = "1")]
    pub resource: Option<Resource>,
    #[prost(message, repeated, tag = "2")]
    #[serde(alias = "scope_metrics", deserialize_with = "lenient::or_default")]
    pub scope_metrics: Vec<ScopeMetrics>,
}

#[derive(Clone, PartialEq, prost::Message, Deserialize)]
#[serde(default)]
pub(super) struct Resource {
    #[prost(message, repeated, tag = "1")]
    #[serde(deserialize_with = "lenient::or_default")]
    pub attributes: Vec<KeyValue>,
}

#[derive(Clone, PartialEq, prost::Message, Deserialize)]
#[serde(default)]
pub(super) struct ScopeMetrics {
    #[prost(message, optional, tag = "1")]
    pub scope: Option<Scope>,
    #[prost(message, repeated, tag = "2")]
    #[serde(deserialize_with = "lenient::or_default")]
    pub metrics: Vec<Metric>,
}

/// `InstrumentationScope`: the library that measures.
#[derive(Clone, PartialEq, prost::Message, Deserialize)]
#[serde(default)]
pub(super) struct Scope {
    #[prost(string, tag = "1")]
    #[serde(deserialize_with = "lenient::or_default")]
    pub name: String,
}

#[derive(Clone, PartialEq, prost::Message, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Metric {
    #[prost(string, tag = "1")]
    #[serde(deserialize_with = "lenient::or_default")]
    pub name: String,
    #[prost(string, tag = "3")]
    #[serde(deserialize_with = "lenient::or_default")]
    pub unit: String,
    #[prost(message, optional, tag = "5")]
    pub gauge: Option<Gauge>,
    #[prost(message, optional, tag = "7")]
    pub sum: Option<Sum>,
    #[prost(message, optional, tag = "9")]
    pub histogram: Option<Histogram>,
    #[prost(message, optional, tag = "10")]
    #[serde(alias = "exponential_histogram")]
    pub exponential_histogram: Option<ExponentialHistogram>,
    #[prost(message, optional, tag = "11")]
    pub summary: Option<Summary>,
}

#[derive(Clone, PartialEq, prost::Message, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Gauge {
    #[prost(message, repeated, tag = "1")]
    #[serde(alias = "data_points", deserialize_with = "lenient::or_default")]
    pub data_points: Vec<NumberPoint>,
}

#[derive(Clone, PartialEq, prost::Message, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Sum {
    #[prost(message, repeated, tag = "1")]
    #[serde(alias = "data_points", deserialize_with = "lenient::or_default")]
    pub data_points: Vec<NumberPoint>,
    #[prost(int32, tag = "2")]
    #[serde(alias = "aggregation_temporality", deserialize_with = "lenient::temporality")]
    pub aggregation_temporality: i32,
    #[prost(bool, tag = "3")]
    #[serde(alias = "is_monotonic", deserialize_with = "lenient::or_default")]
    pub is_monotonic: bool,
}

#[derive(Clone, PartialEq, prost::Message, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Histogram {
    #[prost(message, repeated, tag = "1")]
    #[serde(alias = "data_points", deserialize_with = "lenient::or_default")]
    pub data_points: Vec<HistogramPoint>,
    #[prost(int32, tag = "2")]
    #[serde(alias = "aggregation_temporality", deserialize_with = "lenient::temporality")]
    pub aggregation_temporality: i32,
}

#[derive(Clone, PartialEq, prost::Message, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct ExponentialHistogram {
    #[prost(message, repeated, tag = "1")]
    #[serde(alias = "data_points", deserialize_with = "lenient::or_default")]
    pub data_points: Vec<ExponentialPoint>,
    #[prost(int32, tag = "2")]
    #[serde(alias = "aggregation_temporality", deserialize_with = "lenient::temporality")]
    pub aggregation_temporality: i32,
}

#[derive(Clone, PartialEq, prost::Message, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Summary {
    #[prost(message, repeated, tag = "1")]
    #[serde(alias = "data_points", deserialize_with = "lenient::or_default")]
    pub data_points: Vec<SummaryPoint>,
}

#[derive(Clone, PartialEq, prost::Message, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct NumberPoint {
    #[prost(message, repeated, tag = "7")]
    #[serde(deserialize_with = "lenient::or_default")]
    pub attributes: Vec<KeyValue>,
    #[prost(fixed64, tag = "3")]
    #[serde(alias = "time_unix_nano", deserialize_with = "lenient::number")]
    pub time_unix_nano: u64,
    #[prost(double, optional, tag = "4")]
    #[serde(alias = "as_double", deserialize_with = "lenient::optional")]
    pub as_double: Option<f64>,
    #[prost(sfixed64, optional, tag = "6")]
    #[serde(alias = "as_int", deserialize_with = "lenient::optional")]
    pub as_int: Option<i64>,
    #[prost(message, repeated, tag = "5")]
    #[serde(deserialize_with = "lenient::or_default")]
    pub exemplars: Vec<Exemplar>,
    #[prost(uint32, tag = "8")]
    #[serde(deserialize_with = "lenient::number")]
    pub flags: u32,
}

#[derive(Clone, PartialEq, prost::Message, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct HistogramPoint {
    #[prost(message, repeated, tag = "9")]
    #[serde(deserialize_with = "lenient::or_default")]
    pub attributes: Vec<KeyValue>,
    #[prost(fixed64, tag = "3")]
    #[serde(alias = "time_unix_nano", deserialize_with = "lenient::number")]
    pub time_unix_nano: u64,
    #[prost(fixed64, tag = "4")]
    #[serde(deserialize_with = "lenient::number")]
    pub count: u64,
    #[prost(double, optional, tag = "5")]
    #[serde(deserialize_with = "lenient::optional")]
    pub sum: Option<f64>,
    #[prost(fixed64, repeated, tag = "6")]
    #[serde(alias = "bucket_counts", deserialize_with = "lenient::numbers")]
    pub bucket_counts: Vec<u64>,
    #[prost(double, repeated, tag = "7")]
    #[serde(alias = "explicit_bounds", deserialize_with = "lenient::numbers")]
    pub explicit_bounds: Vec<f64>,
    #[prost(message, repeated, tag = "8")]
    #[serde(deserialize_with = "lenient::or_default")]
    pub exemplars: Vec<Exemplar>,
    #[prost(uint32, tag = "10")]
    #[serde(deserialize_with = "lenient::number")]
    pub flags: u32,
    #[prost(double, optional, tag = "11")]
    #[serde(deserialize_with = "lenient::optional")]
    pub min: Option<f64>,
    #[prost(double, optional, tag = "12")]
    #[serde(deserialize_with = "lenient::optional")]
    pub max: Option<f64>,
}

#[derive(Clone, PartialEq, prost::Message, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct ExponentialPoint {
    #[prost(message, repeated, tag = "1")]
    #[serde(deserialize_with = "lenient::or_default")]
    pub attributes: Vec<KeyValue>,
    #[prost(fixed64, tag = "3")]
    #[serde(alias = "time_unix_nano", deserialize_with = "lenient::number")]
    pub time_unix_nano: u64,
    #[prost(fixed64, tag = "4")]
    #[serde(deserialize_with = "lenient::number")]
    pub count: u64,
    #[prost(double, optional, tag = "5")]
    #[serde(deserialize_with = "lenient::optional")]
    pub sum: Option<f64>,
    #[prost(uint32, tag = "10")]
    #[serde(deserialize_with = "lenient::number")]
    pub flags: u32,
    #[prost(message, repeated, tag = "11")]
    #[serde(deserialize_with = "lenient::or_default")]
    pub exemplars: Vec<Exemplar>,
    #[prost(double, optional, tag = "12")]
    #[serde(deserialize_with = "lenient::optional")]
    pub min: Option<f64>,
    #[prost(double, optional, tag = "13")]
    #[serde(deserialize_with = "lenient::optional")]
    pub max: Option<f64>,
}

#[derive(Clone, PartialEq, prost::Message, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct SummaryPoint {
    #[prost(message, repeated, tag = "7")]
    #[serde(deserialize_with = "lenient::or_default")]
    pub attributes: Vec<KeyValue>,
    #[prost(fixed64, tag = "3")]
    #[serde(alias = "time_unix_nano", deserialize_with = "lenient::number")]
    pub time_unix_nano: u64,
    #[prost(fixed64, tag = "4")]
    #[serde(deserialize_with = "lenient::number")]
    pub count: u64,
    #[prost(double, tag = "5")]
    #[serde(deserialize_with = "lenient::number")]
    pub sum: f64,
    #[prost(message, repeated, tag = "6")]
    #[serde(alias = "quantile_values", deserialize_with = "lenient::or_default")]
    pub quantile_values: Vec<ValueAtQuantile>,
    #[prost(uint32, tag = "8")]
    #[serde(deserialize_with = "lenient::number")]
    pub flags: u32,
}

#[derive(Clone, PartialEq, prost::Message, Deserialize)]
#[serde(default)]
pub(super) struct ValueAtQuantile {
    #[prost(double, tag = "1")]
    #[serde(deserialize_with = "lenient::number")]
    pub quantile: f64,
    #[prost(double, tag = "2")]
    #[serde(deserialize_with = "lenient::number")]
    pub value: f64,
}

/// Only counted, so none of its fields are read.
#[derive(Clone, PartialEq, prost::Message, Deserialize)]
pub(super) struct Exemplar {}

#[derive(Clone, PartialEq, prost::Message, Deserialize)]
#[serde(default)]
pub(super) struct KeyValue {
    #[prost(string, tag = "1")]
    #[serde(deserialize_with = "lenient::or_default")]
    pub key: String,
    #[prost(message, optional, tag = "2")]
    pub value: Option<AnyValue>,
}

#[derive(Clone, PartialEq, prost::Message, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct AnyValue {
    #[prost(string, optional, tag = "1")]
    #[serde(alias = "string_value")]
    pub string_value: Option<String>,
    #[prost(bool, optional, tag = "2")]
    #[serde(alias = "bool_value")]
    pub bool_value: Option<bool>,
    #[prost(int64, optional, tag = "3")]
    #[serde(alias = "int_value", deserialize_with = "lenient::optional")]
    pub int_value: Option<i64>,
    #[prost(double, optional, tag = "4")]
    #[serde(alias = "double_value", deserialize_with = "lenient::optional")]
    pub double_value: Option<f64>,
    #[prost(message, optional, tag = "5")]
    #[serde(alias = "array_value")]
    pub array_value: Option<ArrayValue>,
    #[prost(message, optional, tag = "6")]
    #[serde(alias = "kvlist_value")]
    pub kvlist_value: Option<KeyValueList>,
    #[prost(bytes = "vec", optional, tag = "7")]
    #[serde(alias = "bytes_value", deserialize_with = "lenient::bytes")]
    pub bytes_value: Option<Vec<u8>>,
}

#[derive(Clone, PartialEq, prost::Message, Deserialize)]
#[serde(default)]
pub(super) struct ArrayValue {
    #[prost(message, repeated, tag = "1")]
    #[serde(deserialize_with = "lenient::or_default")]
    pub values: Vec<AnyValue>,
}

#[derive(Clone, PartialEq, prost::Message, Deserialize)]
#[serde(default)]
pub(super) struct KeyValueList {
    #[prost(message, repeated, tag = "1")]
    #[serde(deserialize_with = "lenient::or_default")]
    pub values: Vec<KeyValue>,
}
