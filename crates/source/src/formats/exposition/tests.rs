use proptest::prelude::*;

use super::*;
use crate::formats::{ForeignSample, ForeignValue, MAX_ERRORS, MAX_LABELS};
use selfheal_model::Timestamp;

/// One sample as `name{label=value,…} value [@millis]`.
fn told(sample: &ForeignSample) -> String {
    let labels: Vec<String> = sample.labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let value = match sample.value {
        ForeignValue::Number(value) => value.to_string(),
        ForeignValue::Stale => "stale".to_owned(),
    };
    let time = sample.time.map(|time| format!(" @{}", time.as_millis())).unwrap_or_default();
    format!("{}{{{}}} {value}{time}", sample.name, labels.join(","))
}

fn all(foreign: &Foreign) -> Vec<String> {
    foreign.samples.iter().map(told).collect()
}

fn good(body: &str, dialect: Dialect) -> Vec<String> {
    let foreign = parse_text(body, dialect);
    assert_eq!(foreign.errors, [] as [&str; 0], "{body}");
    all(&foreign)
}

/// The one error of one bad line between two good ones.
fn why(line: &str) -> String {
    let foreign = parse_text(&format!("up 1\n{line}\ndown 0\n"), Dialect::Prometheus);
    assert_eq!(all(&foreign), ["up{} 1", "down{} 0"], "{line}");
    assert_eq!(foreign.errors.len(), 1, "{line}: {:?}", foreign.errors);
    foreign.errors[0].clone()
}

const NODE: &str = "\
# HELP go_gc_duration_seconds A summary of the pause duration of garbage collection cycles.
# TYPE go_gc_duration_seconds summary
go_gc_duration_seconds{quantile=\"0\"} 2.7e-05
go_gc_duration_seconds{quantile=\"1\"} NaN
go_gc_duration_seconds_sum 0.000418
go_gc_duration_seconds_count 9
# HELP node_cpu_seconds_total Seconds the CPUs spent in each mode.
# TYPE node_cpu_seconds_total counter
node_cpu_seconds_total{cpu=\"0\",mode=\"idle\"} 362812.73
node_cpu_seconds_total{cpu=\"0\",mode=\"iowait\"} 83.04

# HELP node_filesystem_avail_bytes Filesystem space available to non-root users in bytes.
# TYPE node_filesystem_avail_bytes gauge
node_filesystem_avail_bytes{device=\"/dev/sda1\",fstype=\"ext4\",mountpoint=\"/\"} 4.1234567168e+10
# TYPE http_request_duration_seconds histogram
http_request_duration_seconds_bucket{le=\"0.05\"} 24054
http_request_duration_seconds_bucket{le=\"+Inf\"} 144320
http_request_duration_seconds_sum 53423
http_request_duration_seconds_count 144320
";

#[test]
fn an_exporters_page_is_read_whole() {
    let expected = [
        "go_gc_duration_seconds{quantile=0} 0.000027",
        "go_gc_duration_seconds_sum{} 0.000418",
        "go_gc_duration_seconds_count{} 9",
        "node_cpu_seconds_total{cpu=0,mode=idle} 362812.73",
        "node_cpu_seconds_total{cpu=0,mode=iowait} 83.04",
        "node_filesystem_avail_bytes{device=/dev/sda1,fstype=ext4,mountpoint=/} 41234567168",
        "http_request_duration_seconds_bucket{le=0.05} 24054",
        "http_request_duration_seconds_bucket{le=+Inf} 144320",
        "http_request_duration_seconds_sum{} 53423",
        "http_request_duration_seconds_count{} 144320",
    ];
    assert_eq!(good(NODE, Dialect::Prometheus), expected);
    assert_eq!(good(&NODE.replace('\n', "\r\n"), Dialect::Prometheus), expected);
    assert_eq!(parse_text(NODE, Dialect::Prometheus).without_value, 1);
}

#[test]
fn blanks_tabs_commas_times_and_escapes_are_understood() {
    let body = concat!(
        "\u{feff}  \t\n",
        "# just a remark\n",
        "#TYPE\tmsdos_file_access_time_seconds   untyped\n",
        "http_requests_total{method=\"post\",code=\"200\",} 1027 1395066363000\n",
        "\tmetric_without_timestamp_and_labels\t12.47\t\n",
        "metric { a = \"b\" , } 1e-2 -3982045\n",
        r#"files{path="C:\\DIR\\FILE.TXT",error="Cannot find:\n\"x\"",raw="\d"} 1.458255915e9"#,
        "\nempty{} 0\nnothing{a=\"\"} 0\nbig 0x1p-2x\n",
    );
    let foreign = parse_text(body, Dialect::Prometheus);
    assert_eq!(
        all(&foreign),
        [
            "http_requests_total{code=200,method=post} 1027 @1395066363000",
            "metric_without_timestamp_and_labels{} 12.47",
            "metric{a=b} 0.01 @-3982045",
            "files{error=Cannot find:\n\"x\",path=C:\\DIR\\FILE.TXT,raw=\\d} 1458255915",
            "empty{} 0",
            "nothing{} 0",
        ]
    );
    assert_eq!(foreign.errors, ["line 10: `0x1p-2x` is no number: `big 0x1p-2x`"]);
}

#[test]
fn names_may_be_quoted() {
    let body = "# TYPE \"my.name\" gauge\n{\"my.name\", a=\"b\"} 1\n{\"my.name\"} 2\nup{\"my.label\"=\"ü\",a=\"b\"} 3\n\
                {__name__=\"down\",a=\"b\"} 4\n{\"it's \\\"it\\\"\"} 5\n";
    assert_eq!(
        good(body, Dialect::Prometheus),
        ["my.name{a=b} 1", "my.name{} 2", "up{a=b,my.label=ü} 3", "down{a=b} 4", "it's \"it\"{} 5"]
    );
}

#[test]
fn openmetrics_has_seconds_exemplars_creation_times_and_an_end() {
    let body = "\
# TYPE acme_http_router_request_seconds summary
# UNIT acme_http_router_request_seconds seconds
# HELP acme_http_router_request_seconds Latency though all of ACME's HTTP request router.
acme_http_router_request_seconds_sum{path=\"/api/v1\",method=\"GET\"} 9036.32
acme_http_router_request_seconds_count{path=\"/api/v1\",method=\"GET\"} 807283.0
acme_http_router_request_seconds_created{path=\"/api/v1\",method=\"GET\"} 1605281325.0
# TYPE foo histogram
foo_bucket{le=\"0.1\"} 8.0 # {} 0.054
foo_bucket{le=\"1.0\"} 11.0 # {trace_id=\"KOO5S4vxi0o\"} 0.67
foo_bucket{le=\"+Inf\"} 17.0 1520879607.789 # {trace_id=\"oHg5SJYRHA0\"} 9.8 1520879607.789
foo_created 1520430000.123
# TYPE kube_pod_created gauge
kube_pod_created 1520430000
# EOF
";
    let foreign = parse_text(body, Dialect::OpenMetrics);
    assert_eq!(
        all(&foreign),
        [
            "acme_http_router_request_seconds_sum{method=GET,path=/api/v1} 9036.32",
            "acme_http_router_request_seconds_count{method=GET,path=/api/v1} 807283",
            "foo_bucket{le=0.1} 8",
            "foo_bucket{le=1.0} 11",
            "foo_bucket{le=+Inf} 17 @1520879607789",
            "kube_pod_created{} 1520430000",
        ]
    );
    assert_eq!((foreign.errors.len(), foreign.ignored), (0, 5));
}

#[test]
fn openmetrics_says_where_its_end_is_missing_or_too_early() {
    let foreign = parse_text("up 1\n", Dialect::OpenMetrics);
    assert_eq!((foreign.samples.len(), foreign.errors.len()), (1, 1));
    assert!(foreign.errors[0].contains("truncated"), "{:?}", foreign.errors);
    assert_eq!(foreign.whole().err().as_deref(), Some("the text is truncated: it does not end with `# EOF`"));
    let foreign = parse_text("up 1\n# EOF\n\nup 2\nup 3\n", Dialect::OpenMetrics);
    assert_eq!(foreign.errors, ["line 4: there is text after `# EOF`: `up 2`"]);
    assert_eq!((foreign.samples.len(), foreign.whole().is_err()), (1, true));
    let bad = parse_text("up one\ndown 1\n# EOF\n", Dialect::OpenMetrics);
    assert_eq!((bad.errors.len(), bad.whole().map(|foreign| foreign.samples.len())), (1, Ok(1)), "a bad line is read");
    assert_eq!(good("up 1\n# EOF\nup 2\n", Dialect::Prometheus).len(), 2);
}

#[test]
fn a_bad_line_is_named_and_takes_no_good_one_with_it() {
    for (line, reason) in [
        ("up", "there is no value"),
        ("up{} ", "there is no value"),
        ("up one", "`one` is no number"),
        ("up 1 now", "`now` is no time in whole milliseconds"),
        ("up 1 1520879607.789", "is no time in whole milliseconds"),
        ("up 1 2 3", "there is more than a value and a time: `3`"),
        ("up 1 # {} 2", "there is more than a value"),
        ("my.name 1", "`my.name` is no metric name"),
        ("1up 1", "`1up` is no metric name"),
        ("{a=\"b\"} 1", "there is no metric name"),
        ("{\"\"} 1", "a name is empty"),
        ("up{\"down\"} 1", "there are two metric names"),
        ("up{a=\"b\" c=\"d\"} 1", "between two labels there is no comma"),
        ("up{a=\"b\",a=\"c\"} 1", "the label `a` is there twice"),
        ("up{a=b} 1", "the value of label `a` is not quoted"),
        ("up{a} 1", "label `a` has no value"),
        ("up{,} 1", "a label has no valid name"),
        ("up{a-b=\"c\"} 1", "label `a` has no value"),
        ("up{a=\"b", "a quote is not closed"),
        ("up{a=\"b\\", "a quote is not closed"),
        ("up{a=\"b\"", "the braces are not closed"),
        ("up{", "the braces are not closed"),
        ("# TYPE up", "`# TYPE` needs"),
        ("# TYPE up thing", "`thing` is no type"),
        ("# HELP", "names no metric"),
    ] {
        let error = why(line);
        assert!(error.starts_with("line 2: ") && error.contains(reason), "{line}: {error}");
        assert!(error.ends_with(&format!(": {}", Quoted(line.trim()))), "{line}: {error}");
    }
}

#[test]
fn errors_and_labels_are_bounded() {
    let foreign = parse_text(&"bad\n".repeat(MAX_ERRORS + 7), Dialect::Prometheus);
    assert_eq!((foreign.errors.len(), foreign.more_errors), (MAX_ERRORS, 7));
    let labels: String = (0..=MAX_LABELS).map(|n| format!("l{n}=\"x\",")).collect();
    assert!(why(&format!("up{{{labels}}} 1")).contains("there are over"));
}

#[test]
fn the_dialect_is_the_media_types() {
    let of = Dialect::of_content_type;
    assert_eq!(of(Some("application/openmetrics-text; version=1.0.0; charset=utf-8")), Dialect::OpenMetrics);
    assert_eq!(of(Some("Application/OpenMetrics-Text")), Dialect::OpenMetrics);
    assert_eq!(of(Some("text/plain;version=0.0.4")), Dialect::Prometheus);
    assert_eq!(of(None), Dialect::Prometheus);
}

#[test]
fn a_time_far_away_is_no_time() {
    for time in ["1e300", "NaN", "-inf", "x"] {
        let foreign = parse_text(&format!("up 1 {time}\n# EOF"), Dialect::OpenMetrics);
        assert!(foreign.samples.is_empty() && foreign.errors.len() == 1, "{time}");
    }
    assert_eq!(good("up 1 -0.0015\n# EOF", Dialect::OpenMetrics), ["up{} 1 @-2"]);
    let time = Some(Timestamp::from_millis(i64::MAX));
    let foreign = parse_text("up 1 9223372036854775807", Dialect::Prometheus);
    assert_eq!(foreign.samples[0].time, time);
}

fn dialect() -> impl Strategy<Value = Dialect> {
    prop_oneof![Just(Dialect::Prometheus), Just(Dialect::OpenMetrics)]
}

/// What any text must keep to.
fn holds(body: &str, dialect: Dialect) {
    let foreign = parse_text(body, dialect);
    let lines = body.lines().count();
    assert!(foreign.samples.len() + foreign.errors.len() + foreign.more_errors <= lines + 1);
    assert!(foreign.errors.len() <= MAX_ERRORS);
    for sample in &foreign.samples {
        assert!(!sample.name.is_empty());
        assert!(sample.labels.is_sorted_by(|a, b| a.0 < b.0));
        assert!(sample.labels.iter().all(|(name, value)| !name.is_empty() && !value.is_empty() && name != "__name__"));
        assert!(matches!(sample.value, ForeignValue::Number(value) if value.is_finite()));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_text_is_survived(body in "\\PC*", dialect in dialect()) {
        holds(&body, dialect);
    }

    #[test]
    fn text_of_the_formats_own_characters_is_survived(body in "[a{}\"\\\\=, \t\n\r#.1eEOFTYP_é-]{0,200}", dialect in dialect()) {
        holds(&body, dialect);
    }

    #[test]
    fn a_damaged_page_is_survived(at in 0..NODE.len(), cut in 0..20_usize, put in "[{}\"\\\\=, \n#é]{0,3}", dialect in dialect()) {
        let end = (at + cut).min(NODE.len());
        holds(&format!("{}{put}{}", &NODE[..at], &NODE[end..]), dialect);
    }
}
