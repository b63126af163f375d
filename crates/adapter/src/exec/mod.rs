//! Programs in any language: one JSON document in on stdin, one out on stdout, one run of the program for each call.
//!
//! Invariant: no text passes a shell. What a program does not say is never taken for success: without a document a
//! call has failed, without an end in time nobody knows.

mod child;
pub mod describe;
mod document;
mod events;
#[cfg(test)]
mod tests;

use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::sync::Semaphore;
use tokio::time::Instant;

pub use describe::Described;

use super::auth::{self, Refreshed};
use super::params::Fields;
use super::rendered_target;
use super::{Adapter, AdapterContext, CallEnd};
use child::Program;
use document::{Reader, Request};
use selfheal_contract::{Observation, StepCall};
use selfheal_model::{
    AdapterDef, Deployment, Facts, FailureClass, FieldKind, FieldSpec, Map, Outcome, SecretError, Value,
};

/// How long an observation may take when the entry sets no `timeout`. Less than the registry gives every adapter, so
/// that the program is killed here and its log read.
const OBSERVE_WITHIN: Duration = Duration::from_secs(15);

/// Observations run side by side; every deployment is looked at, and each look is a program.
const OBSERVES_AT_ONCE: usize = 8;

/// `{ type: exec, command, timeout, env }`
pub(crate) struct Options {
    /// Not empty.
    command: Vec<String>,
    /// The most a call may take, whatever its step says.
    timeout: Option<Duration>,
    /// Values as written.
    env: Vec<(String, String)>,
}

impl Options {
    fn read(options: &Map) -> Result<Options, String> {
        let fields = Fields(options);
        let command = fields.texts("command")?.filter(|command| command.first().is_some_and(|name| !name.is_empty()));
        let command =
            command.ok_or_else(|| "`command`, the program and its arguments, is missing or empty".to_owned())?;
        Ok(Options { command, timeout: fields.duration("timeout")?, env: fields.text_map("env")? })
    }

    fn within(&self, wanted: Duration) -> Duration {
        self.timeout.map_or(wanted, |most| most.min(wanted))
    }

    fn program(self, context: &AdapterContext) -> Result<Program, SecretError> {
        let mut env = Vec::with_capacity(self.env.len());
        for (name, value) in self.env {
            let value = if value.contains("${") { context.secret_text(&value)? } else { value };
            env.push((name, value));
        }
        Ok(Program { command: self.command, dir: context.policy_dir.clone(), env })
    }
}

/// The keys of an entry, for the policy compiler. A variable that refers to a secret is a secret.
fn fields(options: &Map) -> Vec<FieldSpec> {
    let env = match options.get("env") {
        Some(Value::Object(env)) => FieldKind::Object(
            env.iter()
                .map(|(name, value)| rendered_target::spec_of(name, value, "a variable of the program"))
                .collect(),
        ),
        _ => FieldKind::TextMap,
    };
    vec![
        FieldSpec::required("command", FieldKind::TextList, "the program and its arguments; no shell is involved"),
        FieldSpec::optional("timeout", FieldKind::Duration, "the most one call may take, whatever its step says"),
        FieldSpec::optional("env", env, "variables added to the program's environment"),
    ]
}

/// Runs people's own programs.
pub struct ExecAdapter {
    context: AdapterContext,
    observes: Semaphore,
}

impl ExecAdapter {
    pub fn new(context: AdapterContext) -> Self {
        ExecAdapter { context, observes: Semaphore::new(OBSERVES_AT_ONCE) }
    }

    async fn perform(&self, call: StepCall) -> CallEnd {
        let (program, within, target, params) = match self.prepare(&call) {
            Ok(prepared) => prepared,
            Err(why) => return not_begun(why),
        };
        let key = call.idempotency_key();
        let request = Request {
            verb: call.verb.as_str(),
            deployment: Some(call.deployment.id.as_str()),
            target: &target,
            params: &params,
            facts: &call.facts,
            idempotency_key: Some(&key),
            fence: Some(call.fence),
            deadline_ms: millis(within),
        };
        let on_line = |line: &str| {
            let line = self.context.redactor.text(line);
            tracing::debug!(deployment = %call.deployment.id, verb = %call.verb, %line, "the adapter says");
        };
        let mut ended = program.run(&request.bytes(), within, &on_line).await;
        let mut reader = Reader { deployment: &call.deployment.id, now: self.context.now(), notes: Vec::new() };
        let outcome = match document::answer(&program, &ended) {
            Ok(document) => reader.outcome(&document),
            Err(outcome) => outcome,
        };
        for note in reader.notes {
            ended.log.push_str(&note);
            ended.log.push('\n');
        }
        CallEnd { outcome, log: ended.log }
    }

    fn prepare(&self, call: &StepCall) -> Result<(Program, Duration, Map, Map), String> {
        let options = Options::read(&call.adapter.options)?;
        let within = options.within(call.timeout);
        let missing = |error: SecretError| error.to_string();
        let program = options.program(&self.context).map_err(missing)?;
        let target = rendered_target::target(&self.context, &call.deployment.target).map_err(missing)?;
        let params = rendered_target::params(&self.context, call).map_err(missing)?;
        Ok((program, within, target, params))
    }

    async fn look(&self, adapter: &AdapterDef, deployment: &Deployment) -> Result<Observation, String> {
        let began = Instant::now();
        let _turn = self.observes.acquire().await.map_err(|error| error.to_string())?;
        let options = Options::read(&adapter.options)?;
        // what was waited for the turn is gone from what the registry allows
        let within = options.within(OBSERVE_WITHIN).saturating_sub(began.elapsed());
        let missing = |error: SecretError| error.to_string();
        let program = options.program(&self.context).map_err(missing)?;
        let target = rendered_target::target(&self.context, &deployment.target).map_err(missing)?;
        let request = Request {
            verb: "observe",
            deployment: Some(deployment.id.as_str()),
            target: &target,
            params: &Map::new(),
            facts: &Facts::default(),
            idempotency_key: None,
            fence: None,
            deadline_ms: millis(within),
        };
        let ended = program.run(&request.bytes(), within, &|_| {}).await;
        let mut reader = Reader { deployment: &deployment.id, now: self.context.now(), notes: Vec::new() };
        let document = document::answer(&program, &ended).map_err(|outcome| match outcome {
            Outcome::Failed { why, .. } | Outcome::Unknown { why } => why,
            Outcome::Done { .. } => "it was not observed".to_owned(),
        })?;
        let seen = reader.observation(&document);
        for note in reader.notes {
            let note = self.context.redactor.text(&note);
            tracing::warn!(deployment = %deployment.id, adapter = %adapter.name, %note, "an odd observation");
        }
        seen
    }
}

impl Adapter for ExecAdapter {
    fn call(&self, call: StepCall) -> BoxFuture<'_, CallEnd> {
        Box::pin(async move {
            if call.verb.as_str() == auth::REFRESH_AUTH && call.deployment.auth.is_some() {
                return match auth::refresh_auth(&self.context, call).await {
                    Refreshed::Done(outcome) => CallEnd { outcome, log: String::new() },
                    Refreshed::Then(next) => self.perform(*next).await,
                };
            }
            self.perform(call).await
        })
    }

    fn observe<'a>(
        &'a self,
        adapter: &'a AdapterDef,
        deployment: &'a Deployment,
    ) -> BoxFuture<'a, Result<Observation, String>> {
        Box::pin(self.look(adapter, deployment))
    }

    /// What runs is the program's own affair; it is asked when a rule wants something of it.
    fn ensure<'a>(
        &'a self,
        _adapter: &'a AdapterDef,
        _deployment: &'a Deployment,
    ) -> BoxFuture<'a, Result<(), String>> {
        Box::pin(async { Ok(()) })
    }
}

fn not_begun(why: String) -> CallEnd {
    CallEnd { outcome: Outcome::failed(FailureClass::Permanent, why), log: String::new() }
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}
