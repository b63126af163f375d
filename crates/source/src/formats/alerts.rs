//! Alerts as they are posted to an Alertmanager (API v2): Prometheus, vmalert, Grafana and Loki do so.
//!
//! Invariant: pure and total, as the other formats; a wrong alert is named with its reason and takes no good one with it.

use serde::Deserialize;

use super::{FormatError, MAX_ERRORS};
use crate::ingest::{cut, label_name};
use selfheal_model::{ALERTNAME, Labels, PostedAlert, Timestamp};

/// Alerts of one body; Prometheus sends 64 at a time.
pub const MAX_ALERTS: usize = 10_000;
/// Labels, and annotations, of one alert.
const MAX_PAIRS: usize = 64;
/// Of a label's value, in bytes. What is longer is no name of anything.
const MAX_LABEL_VALUE: usize = 1024;
/// Of an annotation, in bytes: it travels in messages. What is longer is cut.
const MAX_ANNOTATION: usize = 4 * 1024;
/// Of the address behind it, in bytes.
const MAX_URL: usize = 2 * 1024;

/// What a body came to.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Alerts {
    /// In the order of the body.
    pub alerts: Vec<PostedAlert>,
    /// Why others are none, at most [`MAX_ERRORS`], each with its place.
    pub errors: Vec<String>,
    pub more_errors: usize,
}

#[derive(Deserialize)]
struct Written {
    #[serde(default)]
    labels: std::collections::BTreeMap<String, String>,
    #[serde(default)]
    annotations: std::collections::BTreeMap<String, String>,
    #[serde(default, rename = "startsAt")]
    starts_at: Option<String>,
    #[serde(default, rename = "endsAt")]
    ends_at: Option<String>,
    #[serde(default, rename = "generatorURL")]
    generator_url: Option<String>,
}

/// # Errors
/// The body is no list of objects.
pub fn parse_alerts(body: &[u8]) -> Result<Alerts, FormatError> {
    let written: Vec<serde_json::Value> =
        serde_json::from_slice(body).map_err(|error| FormatError::NotJson(format!("a list of alerts ({error})")))?;
    if written.len() > MAX_ALERTS {
        return Err(FormatError::TooMany { what: format!("has {} alerts", written.len()) });
    }
    let mut read = Alerts::default();
    for (place, one) in written.into_iter().enumerate() {
        let alert = serde_json::from_value::<Written>(one).map_err(|error| error.to_string()).and_then(posted);
        match alert {
            Ok(alert) => read.alerts.push(alert),
            Err(why) if read.errors.len() < MAX_ERRORS => read.errors.push(format!("alert {}: {why}", place + 1)),
            Err(_) => read.more_errors += 1,
        }
    }
    Ok(read)
}

fn posted(written: Written) -> Result<PostedAlert, String> {
    let Written { labels, annotations, starts_at, ends_at, generator_url } = written;
    // an empty label is one that is not there
    let labels: Vec<(String, String)> = labels.into_iter().filter(|(_, value)| !value.is_empty()).collect();
    if labels.len() > MAX_PAIRS || annotations.len() > MAX_PAIRS {
        return Err(format!("it has more than {MAX_PAIRS} labels or annotations"));
    }
    for (name, value) in &labels {
        if !label_name(name) {
            return Err(format!("{:?} is no name of a label", cut(name, 40)));
        }
        if value.len() > MAX_LABEL_VALUE {
            return Err(format!("the label `{name}` has {} bytes; at most {MAX_LABEL_VALUE} are taken", value.len()));
        }
    }
    let labels: Labels = labels.into_iter().collect();
    if labels.get(ALERTNAME).is_none() {
        return Err(format!("it has no label `{ALERTNAME}`"));
    }
    let (starts_at, ends_at) = (time("startsAt", starts_at)?, time("endsAt", ends_at)?);
    if let (Some(starts), Some(ends)) = (starts_at, ends_at)
        && ends < starts
    {
        return Err(format!("it ends ({ends}) before it starts ({starts})"));
    }
    let annotations = annotations.into_iter().map(|(name, text)| (name, cut(&text, MAX_ANNOTATION))).collect();
    let generator_url = generator_url.unwrap_or_default();
    if generator_url.len() > MAX_URL {
        return Err(format!("its `generatorURL` has {} bytes; at most {MAX_URL} are taken", generator_url.len()));
    }
    Ok(PostedAlert { labels, annotations, starts_at, ends_at, generator_url })
}

/// Nothing, and the zero time of Go, say nothing.
fn time(name: &str, text: Option<String>) -> Result<Option<Timestamp>, String> {
    let Some(text) = text.filter(|text| !text.is_empty() && !text.starts_with("0001-01-01T00:00:00")) else {
        return Ok(None);
    };
    text.parse().map(Some).map_err(|error: String| format!("`{name}`: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_prometheus_posts_is_read() {
        let body = br#"[{"labels":{"alertname":"PodDown","deployment":"web","empty":""},
            "annotations":{"summary":"it is down"},"startsAt":"2026-11-29T08:00:00.5Z","endsAt":"0001-01-01T00:00:00Z",
            "generatorURL":"http://prometheus/graph"}]"#;
        let read = parse_alerts(body).expect("a list");
        let expected = PostedAlert {
            labels: [("alertname", "PodDown"), ("deployment", "web")].into_iter().collect(),
            annotations: [("summary", "it is down")].into_iter().collect(),
            starts_at: Some("2026-11-29T08:00:00.5Z".parse().expect("a time")),
            ends_at: None,
            generator_url: "http://prometheus/graph".to_owned(),
        };
        assert_eq!(read, Alerts { alerts: vec![expected], ..Alerts::default() });
    }

    #[test]
    fn a_wrong_alert_is_named_and_takes_no_good_one_with_it() {
        let body = br#"[
            {"labels":{"alertname":"Good"}},
            {"labels":{"severity":"page"}},
            {"labels":{"alertname":"A","a b":"c"}},
            {"labels":{"alertname":"A"},"startsAt":"yesterday"},
            {"labels":{"alertname":"A"},"startsAt":"2026-11-29T08:00:00Z","endsAt":"2026-11-29T07:00:00Z"},
            {"labels":{"alertname":7}},
            "no alert"]"#;
        let read = parse_alerts(body).expect("a list");
        assert_eq!(read.alerts.len(), 1);
        let said = [
            "alert 2: it has no label `alertname`",
            "alert 3: \"a b\" is no name of a label",
            "alert 4: `startsAt`: ",
            "alert 5: it ends (",
            "alert 6: invalid type",
            "alert 7: invalid type",
        ];
        assert_eq!(read.errors.len(), said.len(), "{:?}", read.errors);
        for (error, begin) in read.errors.iter().zip(said) {
            assert!(error.starts_with(begin), "{error}");
        }
    }

    #[test]
    fn a_body_that_is_no_list_is_refused_as_a_whole() {
        for body in [&b""[..], b"{}", b"[", b"null", b"\xff"] {
            let error = parse_alerts(body).expect_err("no list").to_string();
            assert!(error.contains("a list of alerts"), "{error}");
        }
        let many = format!("[{}]", vec!["{}"; MAX_ALERTS + 1].join(","));
        assert!(parse_alerts(many.as_bytes()).is_err());
    }
}
