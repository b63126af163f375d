//! Events that a program answers with, as the API takes them; the call's deployment and the moment of the answer
//! where they do not say.

use selfheal_model::{
    CheckName, CheckStatus, Confidence, DeploymentId, Event, EventKind, FailureReason, Labels, Map, MetricName, Origin,
    SignalName, Timestamp, Value,
};

/// Events of one answer. More belongs to the API.
pub const MAX_EVENTS: usize = 200;

/// Bytes of a name.
const MAX_NAME: usize = 200;

/// Labels of one sample.
const MAX_LABELS: usize = 32;

/// Bytes of a signal's fields, written as JSON.
const MAX_FIELDS: usize = 8 * 1024;

/// Bytes of a health event's message.
const MAX_MESSAGE: usize = 1024;

const REASONS: [FailureReason; 8] = [
    FailureReason::Timeout,
    FailureReason::Refused,
    FailureReason::Reset,
    FailureReason::Dns,
    FailureReason::Tls,
    FailureReason::Status,
    FailureReason::Body,
    FailureReason::Exit,
];

/// One object of `events`; a `metrics` object is several events.
///
/// # Errors
/// What is wrong with it; nothing of it is taken.
pub fn read(event: &Value, deployment: &DeploymentId, now: Timestamp) -> Result<Vec<Event>, String> {
    let fields = event.as_object().ok_or_else(|| "it is no object".to_owned())?;
    let deployment = match fields.get("deployment") {
        None | Some(Value::Null) => deployment.clone(),
        Some(_) => DeploymentId::from(name(fields, "deployment")?),
    };
    let time = match fields.get("time") {
        None | Some(Value::Null) => now,
        Some(time) => {
            let parsed = time.as_str().and_then(|text| text.parse::<Timestamp>().ok());
            // a clock that runs fast does not make news of the future
            parsed.ok_or_else(|| format!("`time` is {time}; expected RFC 3339"))?.min(now)
        }
    };
    let event = |kind| Event { deployment: deployment.clone(), time, kind, origin: Origin::External };
    match fields.get("type").and_then(Value::as_str) {
        Some("metric") => {
            let value = number(fields.get("value")).ok_or_else(|| "`value` is no finite number".to_owned())?;
            let (name, labels) = (MetricName::from(name(fields, "name")?), labels(fields.get("labels"))?);
            Ok(vec![event(EventKind::Metric { name, value, labels })])
        }
        Some("metrics") => {
            let labels = labels(fields.get("labels"))?;
            let values = fields.get("values").and_then(Value::as_object).ok_or("`values` is no object")?;
            values
                .iter()
                .map(|(name, value)| {
                    let value = number(Some(value)).ok_or_else(|| format!("`{name}` is no finite number"))?;
                    let (name, labels) = (MetricName::from(well_named(name)?), labels.clone());
                    Ok(event(EventKind::Metric { name, value, labels }))
                })
                .collect()
        }
        Some("health") => Ok(vec![event(health(fields)?)]),
        Some("signal") => {
            let said = match fields.get("fields") {
                None | Some(Value::Null) => Map::new(),
                Some(Value::Object(said)) => said.clone(),
                Some(other) => return Err(format!("`fields` is {other}; expected an object")),
            };
            let size = serde_json::to_vec(&said).map_or(usize::MAX, |text| text.len());
            if size > MAX_FIELDS {
                return Err(format!("`fields` is {size} bytes; at most {MAX_FIELDS} are taken"));
            }
            Ok(vec![event(EventKind::Signal { name: SignalName::from(name(fields, "name")?), fields: said })])
        }
        _ => Err("`type` is metric, metrics, health or signal".to_owned()),
    }
}

fn health(fields: &Map) -> Result<EventKind, String> {
    let status = match fields.get("status").and_then(Value::as_str) {
        Some("healthy") => CheckStatus::Healthy,
        Some("unhealthy") => CheckStatus::Unhealthy,
        _ => return Err("`status` is healthy or unhealthy".to_owned()),
    };
    let reason = match fields.get("reason").and_then(Value::as_str) {
        None => None,
        Some(word) => {
            let known = REASONS.into_iter().find(|reason| reason.as_str() == word);
            Some(
                known
                    .ok_or_else(|| format!("`reason` is none of {}", REASONS.map(FailureReason::as_str).join(", ")))?,
            )
        }
    };
    let confidence = match fields.get("confidence") {
        None | Some(Value::Null) => None,
        Some(said) => {
            let sure = number(Some(said)).and_then(Confidence::new);
            Some(sure.ok_or_else(|| format!("`confidence` is {said}; expected a number from 0 to 1"))?)
        }
    };
    let message = fields.get("message").and_then(Value::as_str).unwrap_or("");
    Ok(EventKind::Health {
        check: CheckName::from(name(fields, "check")?),
        replica: fields.get("replica").and_then(Value::as_u64).and_then(|replica| u32::try_from(replica).ok()),
        status,
        latency_ms: number(fields.get("latency_ms")).filter(|millis| *millis >= 0.0),
        reason,
        message: message[..message.floor_char_boundary(MAX_MESSAGE)].to_owned(),
        confidence,
    })
}

/// A sample's labels.
///
/// # Errors
/// They are not names to texts, or too many.
pub fn labels(value: Option<&Value>) -> Result<Labels, String> {
    match value {
        None | Some(Value::Null) => Ok(Labels::default()),
        Some(Value::Object(said)) if said.len() <= MAX_LABELS => said
            .iter()
            .map(|(name, value)| {
                let value = value.as_str().ok_or_else(|| format!("the label `{name}` is {value}; expected a text"))?;
                Ok((well_named(name)?, value))
            })
            .collect(),
        Some(Value::Object(said)) => Err(format!("{} labels; at most {MAX_LABELS} are taken", said.len())),
        Some(other) => Err(format!("`labels` is {other}; expected an object of texts")),
    }
}

fn name<'a>(fields: &'a Map, key: &str) -> Result<&'a str, String> {
    let said = fields.get(key).and_then(Value::as_str).ok_or_else(|| format!("`{key}` is missing or no text"))?;
    well_named(said)
}

fn well_named(name: &str) -> Result<&str, String> {
    let letters = |letter: char| letter.is_alphanumeric() || "_-.:/@+".contains(letter);
    if name.is_empty() || name.len() > MAX_NAME || !name.chars().all(letters) {
        return Err(format!("{name:?} is no name; use letters, digits and _ - . : / @ +, at most {MAX_NAME} bytes"));
    }
    Ok(name)
}

fn number(value: Option<&Value>) -> Option<f64> {
    value.and_then(Value::as_f64).filter(|number| number.is_finite())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_event_is_about_its_own_deployment_and_now_unless_it_says_otherwise() {
        let (own, now) = (DeploymentId::from("own"), Timestamp::from_millis(1_000_000));
        let take = |event: Value| read(&event, &own, now).unwrap_or_else(|why| panic!("{event}: {why}"));
        let signal = take(json!({"type": "signal", "name": "rolled"}));
        assert_eq!((&signal[0].deployment, signal[0].time), (&own, now));
        let other = take(json!({"type": "signal", "deployment": "other", "name": "x", "time": "2100-01-01T00:00:00Z"}));
        assert_eq!((other[0].deployment.as_str(), other[0].time), ("other", now));
        assert_eq!(take(json!({"type": "metrics", "values": {"a": 1, "b": 2.5}})).len(), 2);
        let health = take(json!({"type": "health", "check": "http", "status": "unhealthy", "reason": "timeout"}));
        assert!(matches!(health[0].kind, EventKind::Health { reason: Some(FailureReason::Timeout), .. }));
        let unsure = take(json!({"type": "health", "check": "http", "status": "healthy", "confidence": 0.25}));
        let EventKind::Health { confidence, .. } = unsure[0].kind else { panic!("no health") };
        assert_eq!(confidence, Confidence::new(0.25));
    }

    #[test]
    fn a_wrong_event_says_what_is_wrong() {
        let (own, now) = (DeploymentId::from("own"), Timestamp::from_millis(0));
        for (event, said) in [
            (json!("text"), "no object"),
            (json!({"type": "metrik"}), "type"),
            (json!({"type": "metric", "name": "a", "value": "1"}), "value"),
            (json!({"type": "metric", "name": "a{b}", "value": 1}), "no name"),
            (json!({"type": "metric", "name": "a", "value": 1, "labels": {"x": 1}}), "label"),
            (json!({"type": "health", "check": "c", "status": "sick"}), "status"),
            (json!({"type": "health", "check": "c", "status": "healthy", "confidence": -0.1}), "from 0 to 1"),
            (json!({"type": "signal", "name": "s", "fields": {"x": "y".repeat(9_000)}}), "bytes"),
            (json!({"type": "signal", "name": "s", "time": "soon"}), "time"),
        ] {
            let why = read(&event, &own, now).unwrap_err();
            assert!(why.contains(said), "{event}: {why}");
        }
    }
}
