//! A posted body into events, whatever it is written in: what the API hands over, the parsers of `source` read, and the
//! policy has a word in.

use selfheal_api::{Form, Ingested, NotTaken};
use selfheal_model::{DeploymentId, Event, Labels, Origin, PostedAlert, Timestamp};
use selfheal_policy::{Policy, UnknownDeployments};
use selfheal_source::attribution::{Attributed, Attribution, attribute};
use selfheal_source::formats::{
    Alerts, Dialect, Foreign, FormatError, OtlpEncoding, parse_alerts, parse_otlp, parse_remote_write, parse_text,
};
use selfheal_source::ingest::{self, Limits};

/// What a body came to.
pub struct Read {
    pub taken: Taken,
    pub answer: Ingested,
    /// What is no event or no sample.
    pub unreadable: usize,
    /// About deployments that the policy does not list, where it rejects them.
    pub unknown_deployment: usize,
    /// Of the events, those that are over a day old.
    pub late: usize,
}

/// What the engine gets of a body.
#[derive(Debug, PartialEq)]
pub enum Taken {
    Events(Vec<Event>),
    Alerts(Vec<PostedAlert>),
}

impl Taken {
    pub fn len(&self) -> usize {
        match self {
            Taken::Events(events) => events.len(),
            Taken::Alerts(alerts) => alerts.len(),
        }
    }
}

/// The events of a body, and what to answer.
///
/// # Errors
/// It cannot be read at all.
pub fn parse(body: &bytes::Bytes, form: Form, arrival: Timestamp, policy: &Policy) -> Result<Read, NotTaken> {
    let none = Labels::default();
    match form {
        Form::Events { content_type } => Ok(own(body, content_type.as_deref(), arrival, policy)),
        Form::RemoteWrite { content_type } => {
            let foreign = parse_remote_write(content_type.as_deref(), body).map_err(not_taken)?;
            Ok(placed(foreign, &none, arrival, policy))
        }
        Form::Otlp { content_type } => {
            let encoding = OtlpEncoding::of_content_type(content_type.as_deref()).map_err(not_taken)?;
            Ok(placed(parse_otlp(encoding, body).map_err(not_taken)?, &none, arrival, policy))
        }
        Form::Alerts => Ok(alerts(parse_alerts(body).map_err(not_taken)?)),
        Form::Text { content_type, labels } => {
            let text = std::str::from_utf8(body).map_err(|_| NotTaken::Unreadable("is no UTF-8".to_owned()))?;
            let foreign = parse_text(text, Dialect::of_content_type(content_type.as_deref()));
            Ok(placed(foreign, &labels, arrival, policy))
        }
    }
}

fn not_taken(error: FormatError) -> NotTaken {
    match error {
        FormatError::UnknownMessage(why) => NotTaken::Unsupported(why),
        other => NotTaken::Unreadable(other.to_string()),
    }
}

fn own(body: &[u8], content_type: Option<&str>, arrival: Timestamp, policy: &Policy) -> Read {
    let limits = Limits::default();
    let mut parsed = ingest::parse(body, content_type, arrival, &limits);
    let unreadable = parsed.errors.len() + parsed.more_errors;
    let readable = parsed.events.len();
    if policy.unknown_deployments == UnknownDeployments::Reject {
        parsed.admit(&limits, |event| match policy.deployments.contains_key(&event.deployment) {
            true => Ok(()),
            false => Err(unknown_deployment(policy, &event.deployment)),
        });
    }
    let unknown_deployment = readable - parsed.events.len();
    let answer = Ingested {
        accepted: parsed.events.len(),
        understood: parsed.events.len(),
        rejected: parsed.errors.len() + parsed.more_errors,
        errors: parsed.errors.iter().map(|error| serde_json::json!(error)).collect(),
    };
    Read { taken: Taken::Events(parsed.events), answer, unreadable, unknown_deployment, late: parsed.late }
}

fn placed(foreign: Foreign, labels: &Labels, arrival: Timestamp, policy: &Policy) -> Read {
    let understood = foreign.samples.len() + foreign.without_value;
    let attribution = Attribution {
        labels,
        deployment_from: &policy.intake.deployment_from,
        keeps: &|_| true,
        arrival,
        origin: Origin::External,
    };
    let Attributed { mut events, errors, more_errors, late, .. } = attribute(foreign, &attribution);
    let placed = events.len();
    if policy.unknown_deployments == UnknownDeployments::Reject {
        // such a sender sends what it has, also of what nobody asked for: that is no mistake of it
        events.retain(|event| policy.deployments.contains_key(&event.deployment));
    }
    let rejected = errors.len() + more_errors;
    let errors = errors.into_iter().map(|why| serde_json::json!({ "why": why })).collect();
    let answer = Ingested { accepted: events.len(), understood: understood.saturating_sub(rejected), rejected, errors };
    let unknown_deployment = placed - events.len();
    Read { taken: Taken::Events(events), answer, unreadable: rejected, unknown_deployment, late }
}

fn alerts(read: Alerts) -> Read {
    let Alerts { alerts, errors, more_errors } = read;
    let rejected = errors.len() + more_errors;
    let errors = errors.into_iter().map(|why| serde_json::json!({ "why": why })).collect();
    let answer = Ingested { accepted: alerts.len(), understood: alerts.len(), rejected, errors };
    Read { taken: Taken::Alerts(alerts), answer, unreadable: rejected, unknown_deployment: 0, late: 0 }
}

fn unknown_deployment(policy: &Policy, id: &DeploymentId) -> String {
    let near = policy
        .deployments
        .keys()
        .map(|known| (strsim::damerau_levenshtein(known.as_str(), id.as_str()), known))
        .min()
        .filter(|(distance, _)| *distance <= 2);
    match near {
        Some((_, known)) => format!("deployment `{id}` is not listed; did you mean `{known}`?"),
        None => format!("deployment `{id}` is not listed, and `unknown_deployments` is `reject`"),
    }
}
