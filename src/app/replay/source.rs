//! Recorded inputs, in order of time: out of a journal, or out of a file of events.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;

use anyhow::Context;

use super::stage::Outcomes;
use crate::app::clock;
use selfheal_engine::Input;
use selfheal_model::{Event, StepAttemptId, Timestamp};
use selfheal_source::ingest;
use selfheal_store::record::StoredInput;
use selfheal_store::{Store, replay};

/// So many events may be out of order; beyond, one that comes late is handed over late.
const DISORDER: usize = 100_000;
/// Bytes of lines that are parsed at once.
const CHUNK: usize = 1 << 20;
/// Bad lines that are named; the rest is counted by the last.
const NAMED: usize = 100;

/// An input and when it came.
pub struct Recorded {
    pub at: Timestamp,
    pub input: Input,
}

/// A line that is no event.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Bad {
    /// 1-based.
    pub line: usize,
    pub why: String,
}

/// What came from outside, and how the calls ended that were made. Everything else is what a policy made of it.
///
/// # Errors
/// The journal cannot be read.
pub fn of_journal(store: &Store) -> anyhow::Result<(Vec<Recorded>, Outcomes)> {
    let mut inputs = Vec::new();
    let mut outcomes = Outcomes::new();
    let first = store.begins_at()?;
    for batch in store.tail(first.saturating_sub(1))? {
        for (at, input) in batch?.inputs {
            match input {
                StoredInput::StepEnded(end) => {
                    if let Some(key) = called(&end.id) {
                        outcomes.entry(key).or_default().push_back((end.outcome, end.took));
                    }
                }
                StoredInput::Events(_)
                | StoredInput::Posted(_)
                | StoredInput::Observed(..)
                | StoredInput::Operator(_)
                | StoredInput::ClockMoved(_) => {
                    let input = input.into_input(&mut |_| None).map_err(replay::ReplayError::from)?;
                    inputs.push(Recorded { at, input });
                }
                StoredInput::PolicyReplaced(_)
                | StoredInput::PolicyInvalid(_)
                | StoredInput::DeliveryEnded(..)
                | StoredInput::Probed(..)
                | StoredInput::Tick
                | StoredInput::Resumed(..)
                | StoredInput::Storage(_)
                | StoredInput::Intake(_)
                | StoredInput::Diverged(_)
                | StoredInput::Upgraded(_)
                | StoredInput::Draining => {}
            }
        }
    }
    Ok((inputs, outcomes))
}

/// The deployment and the step of `<deployment>-<nth>/<step>/<attempt>`. A step mostly goes by its verb's name; where it
/// does not, the call is answered as one that was never made.
fn called(id: &StepAttemptId) -> Option<(selfheal_model::DeploymentId, selfheal_model::Verb)> {
    let (_, step, _) = id.parts()?;
    let (deployment, _) = id.whole_run().rsplit_once('-')?;
    Some((deployment.into(), step.into()))
}

/// # Errors
/// The file cannot be opened.
pub fn of_file(path: &Path) -> anyhow::Result<Lines> {
    let reader: Box<dyn Read> = match path.as_os_str() == "-" {
        true => Box::new(std::io::stdin()),
        false => Box::new(File::open(path).with_context(|| format!("cannot read {}", path.display()))?),
    };
    Ok(Lines {
        reader: BufReader::with_capacity(CHUNK, reader),
        waiting: BinaryHeap::new(),
        bad: Vec::new(),
        bad_seen: 0,
        lines: 0,
        arrivals: 0,
        is_over: false,
    })
}

/// The events of a file, in order of their time.
pub struct Lines {
    reader: BufReader<Box<dyn Read>>,
    waiting: BinaryHeap<Reverse<Waiting>>,
    bad: Vec<Bad>,
    bad_seen: usize,
    lines: usize,
    arrivals: u64,
    is_over: bool,
}

/// Of the same instant what came first goes first.
struct Waiting {
    at: Timestamp,
    arrival: u64,
    event: Event,
}

impl PartialEq for Waiting {
    fn eq(&self, other: &Self) -> bool {
        (self.at, self.arrival) == (other.at, other.arrival)
    }
}

impl Eq for Waiting {}

impl PartialOrd for Waiting {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Waiting {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.arrival).cmp(&(other.at, other.arrival))
    }
}

impl Lines {
    /// Reads whole lines until enough is known about the order.
    fn fill(&mut self) {
        while !self.is_over && self.waiting.len() <= DISORDER {
            let mut chunk = Vec::with_capacity(CHUNK);
            let mut lines = 0;
            while chunk.len() < CHUNK {
                match self.reader.read_until(b'\n', &mut chunk) {
                    Ok(0) => {
                        self.is_over = true;
                        break;
                    }
                    Ok(_) => lines += 1,
                    Err(error) => {
                        self.bad.push(Bad { line: self.lines + lines + 1, why: error.to_string() });
                        self.is_over = true;
                        break;
                    }
                }
            }
            self.parse(&chunk);
            self.lines += lines;
        }
    }

    fn parse(&mut self, chunk: &[u8]) {
        let limits = ingest::Limits { events: usize::MAX, ..ingest::Limits::default() };
        let parsed = ingest::parse(chunk, Some("application/x-ndjson"), clock::wall(), &limits);
        for event in parsed.events {
            self.arrivals += 1;
            self.waiting.push(Reverse(Waiting { at: event.time, arrival: self.arrivals, event }));
        }
        for error in parsed.errors {
            self.bad_seen += 1;
            if self.bad_seen <= NAMED {
                let line = if let ingest::Place::Line(line) = error.place { line } else { 1 };
                self.bad.push(Bad { line: self.lines + line, why: error.why });
            }
        }
    }
}

impl Iterator for Lines {
    type Item = Result<Recorded, Bad>;

    fn next(&mut self) -> Option<Self::Item> {
        self.fill();
        if !self.bad.is_empty() {
            return Some(Err(self.bad.remove(0)));
        }
        let Reverse(first) = self.waiting.pop()?;
        let at = first.at;
        let mut events = vec![first.event];
        // what is of one instant is handed over together, as a body would
        while self.waiting.peek().is_some_and(|Reverse(next)| next.at == at) {
            if let Some(Reverse(next)) = self.waiting.pop() {
                events.push(next.event);
            }
        }
        Some(Ok(Recorded { at, input: Input::Events(events) }))
    }
}
