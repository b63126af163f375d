//! `selfheal send`: events from arguments, from a file, or from stdin as they come.
//!
//! Invariant: a line is sent once, unless the connection broke before its answer came; what the engine refuses for now
//! is sent again, what it refuses for good is said with the line it stands in.

mod input;

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use bytes::Bytes;
use reqwest::StatusCode;
use serde_json::{Map, Value, json};
use tokio::time::Instant;

use super::args::SendArgs;
use super::client::{Answer, Client};
use super::exit;
use super::output::{self, text};
use super::verbs::pairs;
use input::{Batch, Input};
use selfheal_model::units::format_duration;

const PATH: &str = "/api/v1/events";
/// How long to wait before the next try where the engine does not say, and at least.
const RETRY: Duration = Duration::from_secs(1);
const SHORTEST_RETRY: Duration = Duration::from_millis(100);
/// Bad lines that `--json` lists; all are counted, and without `--json` all are printed as they come.
const MAX_LISTED: usize = 1_000;

/// Label and field values are texts, whatever they look like.
fn texts(list: &[String]) -> anyhow::Result<Map<String, Value>> {
    list.iter()
        .map(|pair| {
            let (name, value) = pair.split_once('=').with_context(|| format!("`{pair}` is not name=value"))?;
            Ok((name.to_owned(), Value::String(value.to_owned())))
        })
        .collect()
}

fn events_of(args: &SendArgs, deployment: &str) -> anyhow::Result<Vec<Value>> {
    let mut events = Vec::new();
    if !args.metrics.is_empty() {
        let values = pairs(&args.metrics)?;
        if let Some((name, value)) = values.iter().find(|(_, value)| !value.is_number()) {
            bail!("metric `{name}` needs a number, not {value}");
        }
        let labels = texts(&args.labels)?;
        events.push(json!({ "type": "metrics", "deployment": deployment, "values": values, "labels": labels }));
    }
    if let Some(name) = &args.signal {
        events
            .push(json!({ "type": "signal", "deployment": deployment, "name": name, "fields": texts(&args.fields)? }));
    }
    if let Some(health) = &args.health {
        let (check, status) = health.split_once('=').with_context(|| format!("`{health}` is not check=status"))?;
        let mut event = json!({ "type": "health", "deployment": deployment, "check": check, "status": status });
        if let Some(message) = &args.message {
            event["message"] = json!(message);
        }
        events.push(event);
    }
    if events.is_empty() {
        bail!("nothing to send: give metrics as name=value, --signal, --health or --file");
    }
    Ok(events)
}

pub async fn send(args: SendArgs) -> anyhow::Result<u8> {
    let client = Client::new(&args.engine)?;
    match (&args.file, &args.deployment) {
        (Some(file), _) => send_file(&args, client, file).await,
        (None, Some(deployment)) => {
            let body = serde_json::to_vec(&events_of(&args, deployment)?)?;
            show_whole(&args, client.post(PATH, body).await?)
        }
        (None, None) => bail!("name a deployment, or give --file"),
    }
}

/// What became of one body.
fn show_whole(args: &SendArgs, answer: Answer) -> anyhow::Result<u8> {
    if args.json {
        output::json(&answer.body);
        return Ok(if answer.status.is_success() { 0 } else { exit::RUNTIME });
    }
    for error in answer.body["errors"].as_array().into_iter().flatten() {
        anstream::eprintln!("event {}: {}", text(error.get("line").unwrap_or(&error["index"])), text(&error["why"]));
    }
    if answer.status.is_success() || answer.body["accepted"].is_number() {
        anstream::println!("{} accepted, {} rejected", answer.body["accepted"], answer.body["rejected"]);
        return Ok(if answer.status.is_success() { 0 } else { exit::RUNTIME });
    }
    answer.ok().map(|_| 0)
}

async fn send_file(args: &SendArgs, client: Client, file: &Path) -> anyhow::Result<u8> {
    let sender = Sender { client, retry_for: args.retry_for };
    let mut batches = match input::open(file).await? {
        Input::Whole(body) => return show_whole(args, sender.deliver("application/json", body.into()).await?),
        Input::Lines(batches) => batches,
    };
    let mut sent = Sent { quiet: args.json, ..Sent::default() };
    while let Some(batch) = batches.next().await {
        if let Err(error) = sent.take(&sender, batch?).await {
            sent.show();
            return Err(error);
        }
    }
    sent.show();
    Ok(if sent.rejected == 0 { 0 } else { exit::FAILED })
}

/// Sends bodies, again and again while the engine says that it has no room, or nothing at all.
struct Sender {
    client: Client,
    retry_for: Duration,
}

impl Sender {
    /// # Errors
    /// It was not taken within `retry_for`.
    async fn deliver(&self, content_type: &'static str, body: Bytes) -> anyhow::Result<Answer> {
        let mut first: Option<Instant> = None;
        loop {
            let (trouble, wait) = match self.client.post_as(PATH, content_type, body.clone()).await {
                Ok(answer) if is_busy(answer.status) => (anyhow!(answer.why()), answer.retry_after.unwrap_or(RETRY)),
                Ok(answer) => return Ok(answer),
                Err(error) if is_ours(&error) => return Err(error),
                Err(error) => (error, RETRY),
            };
            let is_first = first.is_none();
            let began = *first.get_or_insert_with(Instant::now);
            let left = self.retry_for.saturating_sub(began.elapsed());
            if left.is_zero() {
                return Err(trouble);
            }
            if is_first {
                anstream::eprintln!("selfheal: {trouble:#}; trying again for {}", format_duration(self.retry_for));
            }
            tokio::time::sleep(wait.max(SHORTEST_RETRY).min(left)).await;
        }
    }
}

fn is_busy(status: StatusCode) -> bool {
    matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE)
}

/// A request that could not even be made is no better a second time.
fn is_ours(error: &anyhow::Error) -> bool {
    error.downcast_ref::<reqwest::Error>().is_some_and(reqwest::Error::is_builder)
}

/// What became of all lines so far.
#[derive(Default)]
struct Sent {
    accepted: u64,
    rejected: u64,
    /// For `--json`.
    errors: Vec<Value>,
    quiet: bool,
}

impl Sent {
    /// # Errors
    /// The engine took nothing of the batch.
    async fn take(&mut self, sender: &Sender, batch: Batch) -> anyhow::Result<()> {
        for (line, why) in &batch.unsendable {
            self.rejected += 1;
            self.bad_line(*line, why);
        }
        let Some(first) = batch.numbers.first().copied() else { return Ok(()) };
        let answer = sender
            .deliver("application/x-ndjson", batch.body.into())
            .await
            .with_context(|| format!("line {first} and what follows were not sent"))?;
        let (Some(accepted), Some(rejected)) = (answer.body["accepted"].as_u64(), answer.body["rejected"].as_u64())
        else {
            return answer.ok().map(drop).with_context(|| format!("line {first} and what follows were not taken"));
        };
        self.accepted += accepted;
        self.rejected += rejected;
        for error in answer.body["errors"].as_array().into_iter().flatten() {
            // counted from 1 within the batch
            let place = error["line"].as_u64().and_then(|line| usize::try_from(line).ok());
            let line = place.and_then(|line| batch.numbers.get(line.checked_sub(1)?)).unwrap_or(&first);
            self.bad_line(*line, &text(&error["why"]));
        }
        Ok(())
    }

    fn bad_line(&mut self, line: usize, why: &str) {
        if !self.quiet {
            anstream::eprintln!("line {line}: {why}");
        } else if self.errors.len() < MAX_LISTED {
            self.errors.push(json!({ "line": line, "why": why }));
        }
    }

    fn show(&self) {
        if self.quiet {
            output::json(&json!({ "accepted": self.accepted, "rejected": self.rejected, "errors": self.errors }));
        } else {
            anstream::println!("{} accepted, {} rejected", self.accepted, self.rejected);
        }
    }
}
