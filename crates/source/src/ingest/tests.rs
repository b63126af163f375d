use proptest::prelude::*;

use super::*;
use selfheal_model::{CheckStatus, EventKind, FailureReason};

fn arrival() -> Timestamp {
    "2026-11-23T20:00:00Z".parse().expect("a time")
}

fn parse_text(body: &str) -> Parsed {
    parse(body.as_bytes(), None, arrival(), &Limits::default())
}

/// The one error of a body that gives nothing else.
fn why(body: &str) -> String {
    let parsed = parse_text(body);
    assert_eq!(parsed.events, [], "{body}");
    assert_eq!(parsed.errors.len(), 1, "{body}: {:?}", parsed.errors);
    parsed.errors[0].why.clone()
}

fn metric(value: impl std::fmt::Display) -> String {
    format!(r#"{{"type":"metric","deployment":"web","name":"cpu_percent","value":{value}}}"#)
}

fn values(parsed: &Parsed) -> Vec<f64> {
    let value = |event: &Event| match &event.kind {
        EventKind::Metric { value, .. } => *value,
        other => panic!("no metric: {other:?}"),
    };
    parsed.events.iter().map(value).collect()
}

#[test]
fn every_type_is_read_whole() {
    let body = r#"[
        {"type":"metric","deployment":"web","name":"disk_percent","value":91.2,"labels":{"mount":"/"},"time":"2026-11-23T19:59:58Z"},
        {"type":"metrics","deployment":"web","values":{"cpu_percent":91.2,"memory_percent":50}},
        {"type":"health","deployment":"web","check":"http","replica":1,"status":"unhealthy","confidence":0.4,"latency_ms":5012,"reason":"timeout","message":"slow"},
        {"type":"signal","deployment":"web","name":"deployment_failed","fields":{"version":"v42"}}
    ]"#;
    let parsed = parse_text(body);
    assert_eq!(parsed.errors, []);
    assert_eq!(parsed.events.len(), 5);
    assert_eq!(parsed.events[0].time, arrival() - Duration::from_secs(2));
    let EventKind::Metric { name, labels, .. } = &parsed.events[0].kind else { panic!("no metric") };
    assert_eq!((name.as_str(), labels.get("mount")), ("disk_percent", Some("/")));
    assert_eq!(parsed.events[2].time, arrival());
    assert_eq!(
        parsed.events[3].kind,
        EventKind::Health {
            check: "http".into(),
            replica: Some(1),
            status: CheckStatus::Unhealthy,
            latency_ms: Some(5012.0),
            reason: Some(FailureReason::Timeout),
            message: "slow".to_owned(),
            confidence: selfheal_model::Confidence::new(0.4),
        }
    );
    let EventKind::Signal { fields, .. } = &parsed.events[4].kind else { panic!("no signal") };
    assert_eq!(fields["version"], "v42");
}

#[test]
fn object_array_and_lines_are_told_apart_by_their_looks() {
    assert_eq!(values(&parse_text(&metric(1))), [1.0]);
    assert_eq!(values(&parse_text(&format!("\u{feff}  {}\n", metric(1)))), [1.0]);
    assert_eq!(values(&parse_text(&format!("[{},\n{}]", metric(1), metric(2)))), [1.0, 2.0]);
    assert_eq!(values(&parse_text(&format!("{}\r\n\n{}\n", metric(1), metric(2)))), [1.0, 2.0]);
    let pretty = metric(1).replace(',', ",\n  ").replace('{', "{\n  ").replace('}', "\n}");
    assert_eq!(values(&parse_text(&pretty)), [1.0]);
    let lines = parse(metric(1).as_bytes(), Some("application/x-ndjson; charset=utf-8"), arrival(), &Limits::default());
    assert_eq!(values(&lines), [1.0]);
    assert!(why("").contains("holds no event"));
    assert!(parse_text("[]").errors[0].why.contains("holds no event"));
}

#[test]
fn malformed_json_amid_lines_costs_only_its_line() {
    let body = format!("{}\n{{\"type\":\"metric\",\n{}\nnonsense\n{}", metric(1), metric(2), metric(3));
    let parsed = parse_text(&body);
    assert_eq!(values(&parsed), [1.0, 2.0, 3.0]);
    assert_eq!(parsed.errors.iter().map(|error| error.place).collect::<Vec<_>>(), [Place::Line(2), Place::Line(4)]);
    assert!(parsed.errors[0].why.contains("is no JSON"), "{}", parsed.errors[0]);
}

#[test]
fn malformed_json_amid_an_array_costs_only_its_element() {
    let body = format!("[{},\n {},\n {{\"type\" \"metric\"}}, 7, , {}]", metric(1), metric("NaN"), metric(3));
    let parsed = parse_text(&body);
    assert_eq!(values(&parsed), [1.0, 3.0]);
    let said: Vec<String> = parsed.errors.iter().map(ToString::to_string).collect();
    assert!(said[0].starts_with("element 1: a number is not finite (line 2, column "), "{said:?}");
    assert!(said[1].starts_with("element 2: is no JSON: expected `:` (line 3, column 10)"), "{said:?}");
    assert!(said[2].contains("element 3") && said[2].contains("expected an event"), "{said:?}");
    assert!(said[3].contains("element 4: it is empty: one comma too many"), "{said:?}");
}

#[test]
fn an_array_that_breaks_off_keeps_what_came_before() {
    let parsed = parse_text(&format!("[{}, {}, {{\"type\":\"met", metric(1), metric(2)));
    assert_eq!(values(&parsed), [1.0, 2.0]);
    assert_eq!(parsed.errors.iter().map(|error| error.place).collect::<Vec<_>>(), [Place::Index(2), Place::Body]);
    let parsed = parse_text(&format!("[{}] []", metric(1)));
    assert_eq!(values(&parsed), [1.0]);
    assert!(parsed.errors[0].why.contains("more follows the array's end"));
}

#[test]
fn what_is_not_finite_is_refused_as_such() {
    for value in ["NaN", "Infinity", "-Infinity", "1e999", "-1e999", "\"NaN\"", "\"-inf\""] {
        assert!(why(&metric(value)).contains("not finite"), "{value}: {}", why(&metric(value)));
    }
    assert!(why(&metric("\"91\"")).contains(r#"`value` is the text "91"; expected a number"#));
    let body = r#"{"type":"metrics","deployment":"web","values":{"a":1,"b":null,"c d":2,"e":3}}"#;
    let parsed = parse_text(body);
    assert_eq!(values(&parsed), [1.0, 3.0]);
    assert_eq!(parsed.errors.len(), 1);
    assert!(parsed.errors[0].why.contains("`values.b` is null") && parsed.errors[0].why.contains("\"c d\" holds ' '"));
}

#[test]
fn the_future_is_put_right_or_refused_and_the_past_is_kept() {
    let at = |time: &str| format!(r#"{{"type":"signal","deployment":"web","name":"deployed","time":"{time}"}}"#);
    assert_eq!(parse_text(&at("2026-11-23T20:04:59Z")).events[0].time, arrival());
    assert!(why(&at("2050-01-01T00:00:00Z")).contains("more than 5 min ahead"));
    assert!(why(&at("20:00")).contains("expected RFC 3339"));
    assert!(why(&at("2026-11-23T20:00:00Z").replace("\"2026-11-23T20:00:00Z\"", "1795000000")).contains("the number"));
    let old = parse_text(&at("2026-11-20T20:00:00Z"));
    assert_eq!((old.events.len(), old.late, old.errors.len()), (1, 1, 0));
}

#[test]
fn what_is_unknown_missing_or_of_the_wrong_type_is_named_with_what_was_expected() {
    for (body, expected) in [
        (r#"{"deployment":"web"}"#, "`type` is missing; expected metric, metrics, health or signal"),
        (r#"{"type":"gauge","deployment":"web"}"#, "`type` is \"gauge\"; expected metric"),
        (r#"{"type":"metric","name":"a","value":1}"#, "`deployment` is missing; expected the deployment's id"),
        (r#"{"type":"metric","deployment":"web","value":1}"#, "`name` is missing; expected the metric's name"),
        (r#"{"type":"metric","deployment":7,"name":"a","value":1}"#, "`deployment` is the number 7; expected"),
        (r#"{"type":"metric","deployment":"","name":"a","value":1}"#, "which is empty"),
        (r#"{"type":"metric","deployment":"web","name":"a{b='c'}","value":1}"#, "holds '{'"),
        (r#"{"type":"metric","deployment":"web","name":"a","vaule":1}"#, "did you mean `value`?"),
        (
            r#"{"type":"metric","deployment":"web","name":"a","value":1,"colour":1}"#,
            "`colour` is no key of a metric event; it has type",
        ),
        (
            r#"{"type":"metric","deployment":"web","name":"a","value":1,"value":2}"#,
            "the key `value` stands there twice",
        ),
        (
            r#"{"type":"metric","deployment":"web","name":"a","value":1,"labels":{"port":80}}"#,
            "the label `port` is the number 80; expected a text",
        ),
        (
            r#"{"type":"metric","deployment":"web","name":"a","value":1,"labels":{"a-b":"c"}}"#,
            "the label name \"a-b\" is none",
        ),
        (
            r#"{"type":"metric","deployment":"web","name":"a","value":1,"labels":{"deployment":"x"}}"#,
            "the event's own key",
        ),
        (r#"{"type":"metrics","deployment":"web","values":{}}"#, "`values` is empty"),
        (
            r#"{"type":"health","deployment":"web","check":"http","status":"down"}"#,
            "`status` is the text \"down\"; expected healthy or unhealthy",
        ),
        (
            r#"{"type":"health","deployment":"web","check":"http","status":"healthy","reason":"sad"}"#,
            "expected one of timeout, refused",
        ),
        (
            r#"{"type":"health","deployment":"web","check":"http","status":"healthy","replica":-1}"#,
            "a whole number from 0",
        ),
        (
            r#"{"type":"health","deployment":"web","check":"http","status":"healthy","confidence":1.5}"#,
            "`confidence` is the number 1.5; expected a number from 0 to 1",
        ),
        (r#"{"type":"signal","deployment":"web","name":"x","fields":[1]}"#, "`fields` is a list; expected an object"),
        (r#""metric""#, "expected an event"),
    ] {
        assert!(why(body).contains(expected), "{body}\n gave: {}\n not: {expected}", why(body));
    }
}

#[test]
fn everything_is_bounded() {
    let long = "x".repeat(2_000);
    let label = |name: &str, value: &str| {
        format!(r#"{{"type":"metric","deployment":"web","name":"a","value":1,"labels":{{"{name}":"{value}"}}}}"#)
    };
    assert!(why(&metric(1).replace("cpu_percent", &long)).contains("is 2000 bytes long; at most 200"));
    assert!(why(&label("a", &long)).contains("the label `a` is 2000 bytes; at most 1024"));
    assert!(why(&label(&long, "a")).contains("at most 200 bytes"));
    let many: Vec<String> = (0..33).map(|index| format!(r#""l{index}":"v""#)).collect();
    let body =
        format!(r#"{{"type":"metric","deployment":"web","name":"a","value":1,"labels":{{{}}}}}"#, many.join(","));
    assert!(why(&body).contains("has 33 labels; at most 32"));
    let fields =
        format!(r#"{{"type":"signal","deployment":"web","name":"a","fields":{{"x":"{}"}}}}"#, "y".repeat(9_000));
    assert!(why(&fields).contains("at most 8192 are taken"));
    let body = format!(
        r#"{{"type":"health","deployment":"web","check":"c","status":"healthy","message":"{}"}}"#,
        "ü".repeat(1_000)
    );
    let EventKind::Health { message, .. } = &parse_text(&body).events[0].kind else { panic!("no health") };
    assert!(message.len() <= MAX_MESSAGE && message.ends_with('…') && message.starts_with('ü'));
    let deep = format!(r#"{{"type":"signal","deployment":"web","name":"a","fields":{}"#, "[".repeat(100_000));
    assert!(why(&deep).contains("recursion limit"));
}

#[test]
fn more_events_or_errors_than_one_request_may_hold_are_said() {
    let limits = Limits { events: 2, errors: 2, ..Limits::default() };
    let body: Vec<String> = (0..5).map(metric).collect();
    let parsed = parse(body.join("\n").as_bytes(), None, arrival(), &limits);
    assert_eq!(values(&parsed), [0.0, 1.0]);
    assert_eq!(parsed.errors[0].place, Place::Line(3));
    assert!(parsed.errors[0].why.contains("over 2 events in one request"));
    let parsed = parse(b"[1,2,3,4,5]", None, arrival(), &limits);
    assert_eq!((parsed.errors.len(), parsed.more_errors), (2, 3));
}

#[test]
fn an_error_is_written_with_its_place() {
    let written = |place| serde_json::to_value(LineError { place, why: "so".to_owned() }).expect("plain data");
    assert_eq!(written(Place::Line(3)), serde_json::json!({"line": 3, "why": "so"}));
    assert_eq!(written(Place::Index(0)), serde_json::json!({"index": 0, "why": "so"}));
    assert_eq!(written(Place::Body), serde_json::json!({"why": "so"}));
}

/// Texts that come near to events: their own pieces in any order.
fn nearly_events() -> impl Strategy<Value = String> {
    let pieces = prop::sample::select(vec![
        "[",
        "]",
        "{",
        "}",
        ",",
        ":",
        "\n",
        "\"",
        "\\",
        "NaN",
        "1e999",
        "-1",
        "null",
        " ",
        "\"type\"",
        "\"metric\"",
        "\"metrics\"",
        "\"values\"",
        "\"deployment\"",
        "\"a\"",
        "\"name\"",
        "\"value\"",
        "\"time\"",
        "\"2026-11-23T20:00:00Z\"",
        "ü",
        "\u{feff}",
        r#"{"type":"metric","deployment":"web","name":"cpu_percent","value":1}"#,
    ]);
    prop::collection::vec(pieces, 0..40).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn any_bytes_give_an_answer(body in prop::collection::vec(any::<u8>(), 0..300)) {
        let parsed = parse(&body, None, arrival(), &Limits::default());
        prop_assert!(!parsed.events.is_empty() || !parsed.errors.is_empty());
    }

    #[test]
    fn nearly_events_give_an_answer(body in nearly_events(), lines in any::<bool>()) {
        let parsed = parse(body.as_bytes(), lines.then_some("application/x-ndjson"), arrival(), &Limits::default());
        prop_assert!(!parsed.events.is_empty() || !parsed.errors.is_empty());
    }

    /// Whatever bad lines stand between them, all good ones come through, in order.
    #[test]
    fn good_lines_survive_bad_ones(lines in prop::collection::vec(prop_oneof![Just(None), "[^\n]{0,30}".prop_map(Some)], 2..12)) {
        let mut sent = Vec::new();
        let body: Vec<String> = lines.iter().enumerate().map(|(index, bad)| match bad {
            Some(bad) => format!("{bad}\u{1}"),
            None => { sent.push(index as f64); metric(index) }
        }).collect();
        let parsed = parse(body.join("\n").as_bytes(), Some("application/x-ndjson"), arrival(), &Limits::default());
        prop_assert_eq!(values(&parsed), sent);
    }
}

/// One field of a would-be sample as somebody may write it.
fn field() -> impl Strategy<Value = String> {
    prop_oneof![
        prop::sample::select(vec![
            r#""type":"metric""#,
            r#""type":"metrics""#,
            r#""type":1"#,
            r#""deployment":"web""#,
            r#""deployment":"we b""#,
            r#""deployment":"\u0077eb""#,
            r#""name":"cpu""#,
            r#""name":"""#,
            r#""name":null"#,
            r#""value":1"#,
            r#""value":-0.5e3"#,
            r#""value":18446744073709551615"#,
            r#""value":1e400"#,
            r#""value":"1""#,
            r#""value":NaN"#,
            r#""labels":{}"#,
            r#""labels":{"a":"b","c":"d"}"#,
            r#""labels":{"a":"b","a":"c"}"#,
            r#""labels":{"a-b":"c"}"#,
            r#""labels":{"deployment":"x"}"#,
            r#""labels":{"a":"\n"}"#,
            r#""labels":{"a":1}"#,
            r#""labels":null"#,
            r#""time":"2026-11-23T19:59:58Z""#,
            r#""time":"2026-11-23T20:01:00+00:00""#,
            r#""time":"2026-11-24T20:00:00Z""#,
            r#""time":"soon""#,
            r#""time":null"#,
            r#""extra":1"#,
        ])
        .prop_map(str::to_owned),
        "\"[a-z]{1,3}\":[0-9]{1,3}",
    ]
}

proptest! {
    #[test]
    fn what_is_read_quickly_is_what_would_have_been_read(
        fields in prop::collection::vec(field(), 0..5),
        is_whole in any::<bool>(),
        close in prop::sample::select(vec!["}", "} ", "}}", "", ",}"]),
    ) {
        let mut all = fields;
        if is_whole {
            all.extend([r#""type":"metric""#, r#""deployment":"web""#, r#""name":"cpu""#, r#""value":1.5"#].map(str::to_owned));
        }
        let text = format!("{{{}{close}", all.join(","));
        if let Some(event) = quick::sample(text.as_bytes(), arrival(), &Limits::default()) {
            let piece = Piece::of_body(text.as_bytes());
            let object::Read { events, problems } =
                object::read(piece.fields().expect("it was read"), arrival(), &Limits::default());
            prop_assert_eq!((events, problems), (vec![event], vec![]));
        }
    }
}

#[test]
fn what_comes_by_the_hundred_thousand_is_read_quickly() {
    for text in [
        metric(91.2),
        r#"{"type":"metric","deployment":"web","name":"cpu","value":1,"labels":{"mount":"/"},"time":"2026-11-23T19:59:58Z"}"#.into(),
    ] {
        assert!(quick::sample(text.as_bytes(), arrival(), &Limits::default()).is_some(), "{text}");
    }
}
