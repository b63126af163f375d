//! Every adapter behind one door: limits, deadlines, the redactor and the credential's expiry are the same for all.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::time::Instant;

use super::exec::ExecAdapter;
use super::http::HttpAdapter;
use super::process::ProcessAdapter;
use super::{Adapter, AdapterContext, AdaptersConfig, CallEnd, OBSERVE_EVERY, auth};
use selfheal_contract::{DesiredDeployment, Observation, StepCall, StepEnd};
use selfheal_model::{AdapterDef, Deployment, Effectfulness, FailureClass, Labels, MetricName, Outcome, Value};

/// An adapter ends its call by itself at the deadline; one that does not is left alone this much later, so that no
/// step waits for ever.
const OVERRUN: Duration = Duration::from_secs(5);

/// The longest a look at a deployment may take before it counts as not seen.
const OBSERVE_WITHIN: Duration = Duration::from_secs(20);

/// Stands before the kept end of a log that was cut.
const CUT: &str = "… ";

/// The adapters of this process, by type.
pub struct Adapters {
    context: AdapterContext,
    by_kind: BTreeMap<&'static str, Arc<dyn Adapter>>,
}

/// The end of a call, and what of it was cut for the engine: history keeps that.
#[derive(Clone, Debug, PartialEq)]
pub struct Called {
    pub end: StepEnd,
    /// The last 64 KiB of a log that was longer than the engine takes.
    pub long_log: Option<String>,
    pub long_output: Option<Value>,
}

/// Of a log so much is kept.
const MAX_KEPT: usize = 64 * 1024;

impl Adapters {
    pub fn new(config: AdaptersConfig) -> Self {
        let context = AdapterContext::new(config);
        let process: Arc<dyn Adapter> = Arc::new(ProcessAdapter::new(context.clone()));
        let exec: Arc<dyn Adapter> = Arc::new(ExecAdapter::new(context.clone()));
        let http: Arc<dyn Adapter> = Arc::new(HttpAdapter::new(context.clone()));
        Adapters { by_kind: BTreeMap::from([("process", process), ("exec", exec), ("http", http)]), context }
    }

    /// What the adapters work with; its redactor knows every secret that was used.
    pub fn context(&self) -> &AdapterContext {
        &self.context
    }

    /// Tries one verb once. Always ends, at the latest a little after the call's timeout. Dropping the future
    /// cancels as far as that is possible.
    pub fn call(&self, call: StepCall) -> BoxFuture<'static, StepEnd> {
        let called = self.call_in_full(call);
        Box::pin(async move { called.await.end })
    }

    /// As [`Adapters::call`], with what was too long for the engine.
    pub fn call_in_full(&self, call: StepCall) -> BoxFuture<'static, Called> {
        let adapter = self.by_kind.get(call.adapter.kind.as_str()).cloned();
        let context = self.context.clone();
        Box::pin(async move {
            let began = Instant::now();
            let id = call.id.clone();
            let end = match (refusal(&call, &context), adapter) {
                (Some(refused), _) => CallEnd { outcome: refused, log: String::new() },
                (None, Some(adapter)) => {
                    let timeout = call.timeout;
                    tokio::time::timeout(timeout + OVERRUN, adapter.call(call)).await.unwrap_or_else(|_| CallEnd {
                        outcome: Outcome::unknown(format!("the adapter did not end within {timeout:?}")),
                        log: String::new(),
                    })
                }
                (None, None) => CallEnd { outcome: no_such_kind(&call.adapter), log: String::new() },
            };
            let (outcome, log) = (context.redactor.outcome(end.outcome), context.redactor.text(&end.log));
            let long_output = match &outcome {
                Outcome::Done { output, .. } => {
                    Some(output).filter(|output| length(output) > Outcome::MAX_OUTPUT).cloned()
                }
                Outcome::Failed { .. } | Outcome::Unknown { .. } => None,
            };
            let long_log = (log.len() > Outcome::MAX_OUTPUT).then(|| last_bytes(&log, MAX_KEPT));
            let log = last_bytes(&log, Outcome::MAX_OUTPUT);
            Called { end: StepEnd { id, outcome: bounded(outcome), log, took: began.elapsed() }, long_log, long_output }
        })
    }

    /// Looks at a deployment; the expiry of its credential is added whatever its adapter.
    pub fn observe(&self, desired: &DesiredDeployment) -> BoxFuture<'static, Result<Observation, String>> {
        let (deployment, found) = (desired.deployment.clone(), self.find(desired));
        let context = self.context.clone();
        Box::pin(async move {
            let (adapter, def) = found?;
            let seen = tokio::time::timeout(OBSERVE_WITHIN, adapter.observe(&def, &deployment))
                .await
                .unwrap_or_else(|_| Err(format!("it could not be looked at within {OBSERVE_WITHIN:?}")));
            let mut observation = seen.map_err(|why| context.redactor.text(&why).into_owned())?;
            observation.facts = context.redactor.facts(observation.facts);
            if deployment.auth.is_some()
                && let Some(seconds) = auth::expires_in(&context, &deployment.id)
            {
                observation.metrics.push((MetricName::new("auth_expires_in_seconds"), seconds, Labels::default()));
            }
            Ok(observation)
        })
    }

    /// Adopts what runs of a deployment; starts it if it never ran.
    pub fn ensure(&self, desired: &DesiredDeployment) -> BoxFuture<'static, Result<(), String>> {
        let (deployment, found) = (desired.deployment.clone(), self.find(desired));
        let context = self.context.clone();
        Box::pin(async move {
            let (adapter, def) = found?;
            adapter.ensure(&def, &deployment).await.map_err(|why| context.redactor.text(&why).into_owned())
        })
    }

    /// How often a deployment wants to be looked at.
    pub fn observe_every(&self, desired: &DesiredDeployment) -> Duration {
        self.find(desired).map_or(OBSERVE_EVERY, |(adapter, _)| adapter.observe_every())
    }

    fn find(&self, desired: &DesiredDeployment) -> Result<(Arc<dyn Adapter>, Arc<AdapterDef>), String> {
        let def = desired.adapter.clone().ok_or_else(|| "it has no adapter: it is watched only".to_owned())?;
        let adapter = self.by_kind.get(def.kind.as_str()).cloned();
        adapter.map(|adapter| (adapter, def.clone())).ok_or_else(|| format!("no adapter of type `{}`", def.kind))
    }
}

fn no_such_kind(def: &AdapterDef) -> Outcome {
    Outcome::failed(FailureClass::Unsupported, format!("this build has no adapter of type `{}`", def.kind))
}

/// What no adapter is asked to judge: calls that are too old, not allowed, or name a verb it does not have.
fn refusal(call: &StepCall, context: &AdapterContext) -> Option<Outcome> {
    let (verb, def) = (&call.verb, &call.adapter);
    let Some(spec) = def.verb(verb.as_str()) else {
        let known: Vec<&str> = def.verbs.iter().map(|spec| spec.verb.as_str()).collect();
        let why = format!("adapter `{}` has no verb `{verb}`; it has {}", def.name, known.join(", "));
        return Some(Outcome::failed(FailureClass::Unsupported, why));
    };
    if def.allow.verbs.as_ref().is_some_and(|allowed| !allowed.contains(verb)) {
        let why = format!("adapter `{}` is not allowed to `{verb}`", def.name);
        return Some(Outcome::failed(FailureClass::Permanent, why));
    }
    if !def.allow.select.matches(&labels_of(&call.deployment)) {
        let why = format!("adapter `{}` is not allowed to act on `{}`", def.name, call.deployment.id);
        return Some(Outcome::failed(FailureClass::Permanent, why));
    }
    if spec.effect != Effectfulness::Read && context.now() > call.not_after {
        let why = format!("not begun: it was decided too long ago to be done after {}", call.not_after);
        return Some(Outcome::failed(FailureClass::Permanent, why));
    }
    None
}

fn labels_of(deployment: &Deployment) -> Labels {
    deployment.labels.with_label("deployment", deployment.id.as_str())
}

/// Bytes of an output as text.
fn length(output: &Value) -> usize {
    match output {
        Value::String(text) => text.len(),
        other => other.to_string().len(),
    }
}

/// Cuts the output to what the engine keeps. An output that is no text and too long becomes the beginning of its JSON.
fn bounded(outcome: Outcome) -> Outcome {
    let Outcome::Done { output, facts, events } = outcome else { return outcome };
    let output = match output {
        Value::String(text) => Value::String(first_bytes(text, Outcome::MAX_OUTPUT)),
        other => {
            let written = other.to_string();
            if written.len() > Outcome::MAX_OUTPUT {
                Value::String(first_bytes(written, Outcome::MAX_OUTPUT))
            } else {
                other
            }
        }
    };
    Outcome::Done { output, facts, events }
}

fn first_bytes(mut text: String, most: usize) -> String {
    text.truncate(text.floor_char_boundary(most));
    text
}

fn last_bytes(text: &str, most: usize) -> String {
    if text.len() <= most {
        return text.to_owned();
    }
    let from = text.ceil_char_boundary(text.len() - most + CUT.len());
    format!("{CUT}{}", &text[from..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_output_is_cut_between_characters() {
        let long = "ü".repeat(Outcome::MAX_OUTPUT);
        let Outcome::Done { output, .. } = bounded(Outcome::done(format!("x{long}"))) else { panic!("not done") };
        let text = output.as_str().unwrap();
        assert!(text.len() <= Outcome::MAX_OUTPUT && text.len() >= Outcome::MAX_OUTPUT - 1);
        assert!(text.starts_with("xü") && text.ends_with('ü'));
        let Outcome::Done { output, .. } = bounded(Outcome::done(serde_json::json!({"a": long}))) else {
            panic!("not done")
        };
        assert!(output.as_str().is_some_and(|text| text.starts_with("{\"a\":")));
    }

    #[test]
    fn of_a_log_the_end_is_kept() {
        let log = last_bytes(&format!("{}the end", "ü".repeat(5_000)), 100);
        assert!(log.len() <= 100 && log.starts_with(CUT) && log.ends_with("the end"), "{log}");
    }
}
