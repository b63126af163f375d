//! The verbs that act. Each works on one replica at a time and stops at the first that does not come back.

use std::collections::BTreeSet;
use std::sync::PoisonError;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::json;

use super::operation::{Operation, VerbError};
use super::replica::{self, Stopped};
use super::system::{self, Signalled};
use super::{SICK, releases};
use crate::auth;
use crate::params::Fields;
use selfheal_model::{AuthThen, Bytes, Outcome, Value};

type Done = Result<Value, VerbError>;

/// Whether a replica that was started is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wait {
    UntilReady,
    No,
}

/// What a rolling restart did.
#[derive(Debug, Default)]
struct Rolled {
    restarted: Vec<u32>,
    /// Were down before.
    started: Vec<u32>,
    /// Did not end at SIGTERM.
    killed: Vec<u32>,
    /// Above the wanted count.
    stopped: Vec<u32>,
}

impl Rolled {
    fn output(&self) -> Value {
        json!({ "restarted": self.restarted, "started": self.started, "killed": self.killed, "stopped": self.stopped })
    }
}

pub async fn restart(operation: &Operation) -> Done {
    let params = Fields(&operation.call.params);
    let grace = params.duration("grace").map_err(VerbError::permanent)?.unwrap_or(operation.target.grace);
    let wanted = wanted(operation);
    let which = match params.text("replicas").map_err(VerbError::permanent)?.as_deref() {
        None | Some("all") => wanted,
        Some(SICK) => {
            let sick: BTreeSet<u32> = operation.call.sick_replicas.iter().copied().collect();
            let chosen: Vec<u32> =
                wanted.into_iter().filter(|index| sick.contains(index) || !is_up(operation, *index)).collect();
            if chosen.is_empty() {
                return Err(VerbError::conflict("no replica is sick or down"));
            }
            chosen
        }
        Some(other) => return Err(VerbError::permanent(format!("`replicas: {other}` is neither sick nor all"))),
    };
    let mut rolled = Rolled::default();
    roll(operation, which, grace, Wait::UntilReady, &mut rolled).await?;
    stop_surplus(operation, grace, &mut rolled).await?;
    Ok(rolled.output())
}

pub async fn scale(operation: &Operation) -> Done {
    let params = Fields(&operation.call.params);
    for name in ["cpu", "disk"] {
        if params.get(name).is_some() {
            let why = format!("`{name}` cannot be scaled: the process adapter has `replicas` and `memory` only");
            return Err(VerbError::unsupported(why));
        }
    }
    let replicas = params.count("replicas").map_err(VerbError::permanent)?;
    let memory = params.size("memory").map_err(VerbError::permanent)?;
    if replicas.is_none() && memory.is_none() {
        return Err(VerbError::permanent("`scale` needs `replicas` or `memory`"));
    }
    let mut bounded = Vec::new();
    let (had, had_memory) = operation.managed.read(|state| (state.replicas, state.memory));
    let to = replicas.map_or(had, |asked| {
        let to = asked.clamp(operation.target.min_replicas, operation.target.max_replicas);
        if to != asked {
            bounded.push(format!("{asked} replicas are beyond the bound, went to {to}"));
        }
        to
    });
    let to_memory = memory.map_or(had_memory, |asked| Some(within_memory(operation, asked, &mut bounded).0));
    bounded.iter().for_each(|line| operation.note(line));
    let is_whole = (0..to).all(|index| is_up(operation, index)) && surplus(operation, to).is_empty();
    if to == had && to_memory == had_memory && is_whole {
        let limits = if bounded.is_empty() { String::new() } else { format!(" ({})", bounded.join("; ")) };
        return Err(VerbError::conflict(format!("it is already so: {to} replicas{limits}")));
    }
    operation.go_on()?;
    operation.progress.begin();
    let write = |state: &mut super::state::State| (state.replicas, state.memory) = (to, to_memory);
    operation.managed.change(write).map_err(VerbError::transient)?;
    let mut rolled = Rolled::default();
    let down_or_all: Vec<u32> = if to_memory == had_memory {
        (0..to).filter(|index| !is_up(operation, *index)).collect()
    } else {
        // the limit is told by the environment, so only a new process hears of it
        (0..to).collect()
    };
    roll(operation, down_or_all, operation.target.grace, Wait::UntilReady, &mut rolled).await?;
    stop_surplus(operation, operation.target.grace, &mut rolled).await?;
    let mut output =
        json!({ "replicas": to, "replicas_before": had, "memory": to_memory, "memory_before": had_memory });
    if !bounded.is_empty() {
        output["bounded"] = json!(bounded);
    }
    Ok(output)
}

fn within_memory(operation: &Operation, asked: Bytes, bounded: &mut Vec<String>) -> Bytes {
    let machine = system::memory().map(|(total, _)| Bytes(total));
    match operation.target.max_memory.or(machine) {
        Some(most) if asked > most => {
            bounded.push(format!("{asked} of memory are beyond the bound, went to {most}"));
            most
        }
        _ => asked,
    }
}

pub async fn rollback(operation: &Operation) -> Done {
    let params = Fields(&operation.call.params);
    let force = params.boolean("force").map_err(VerbError::permanent)?.unwrap_or(false);
    let to = params.text("to").map_err(VerbError::permanent)?.unwrap_or_else(|| "previous".to_owned());
    let dir = &operation.target.dir;
    let there = releases::versions(dir);
    if there.is_empty() {
        return Err(VerbError::unsupported(format!("{} has no releases to roll back to", dir.display())));
    }
    let from = releases::current(dir);
    let version = match to.as_str() {
        "previous" => operation
            .managed
            .read(|state| {
                state.previous_version(|version| there.iter().any(|known| known == version)).map(str::to_owned)
            })
            .ok_or_else(|| {
                let known = releases::known(&there);
                VerbError::permanent(format!("no version before the current one is known; there are {known}"))
            })?,
        named if there.iter().any(|known| known == named) => named.to_owned(),
        missing => {
            let known = releases::known(&there);
            return Err(VerbError::permanent(format!("there is no version `{missing}`; there are {known}")));
        }
    };
    let runs_it = |index: &u32| {
        operation.managed.replica(*index).is_some_and(|replica| replica.version.as_deref() == Some(version.as_str()))
            && is_up(operation, *index)
    };
    if from.as_deref() == Some(version.as_str()) && wanted(operation).iter().all(runs_it) {
        return Err(VerbError::conflict(format!("it already runs {version}")));
    }
    operation.go_on()?;
    operation.progress.begin();
    releases::switch(dir, &version).map_err(|error| {
        VerbError::permanent(format!("`current` in {} cannot be switched to {version}: {error}", dir.display()))
    })?;
    operation.note(format!("current: {} -> {version}", from.as_deref().unwrap_or("nothing")));
    operation.managed.change(|state| state.saw_version(&version)).map_err(VerbError::transient)?;
    let mut rolled = Rolled::default();
    let wait = if force { Wait::No } else { Wait::UntilReady };
    roll(operation, wanted(operation), operation.target.grace, wait, &mut rolled).await?;
    stop_surplus(operation, operation.target.grace, &mut rolled).await?;
    let mut output = rolled.output();
    output["version"] = json!(version);
    output["version_before"] = json!(from);
    output["forced"] = json!(force);
    // nobody else sets the link of a folder on this machine
    output["reconciler"] = json!("none");
    Ok(output)
}

/// Fetches and delivers the credential, then does what the deployment's `auth.then` says.
pub async fn refresh_auth(operation: &Operation) -> Result<Value, Outcome> {
    let Some(auth) = &operation.call.deployment.auth else {
        return Err(VerbError::unsupported("the deployment has no `auth`").into());
    };
    operation.go_on()?;
    let delivered =
        auth::refresh(&operation.shared.context, &operation.call.deployment.id, auth, operation.time_left()).await?;
    operation.progress.begin();
    operation.note(format!("delivered to {}", delivered.path.display()));
    let mut output = json!({ "expires_at": delivered.expires_at });
    match auth.then {
        AuthThen::Nothing => {}
        AuthThen::Reload => output["reloaded"] = json!(reload(operation)?),
        AuthThen::Restart => {
            let mut rolled = Rolled::default();
            roll(operation, wanted(operation), operation.target.grace, Wait::UntilReady, &mut rolled).await?;
            output["restarted"] = json!(rolled.restarted);
        }
    }
    Ok(output)
}

/// Sets environment variables that hold over the target's, until they are set to null.
pub async fn configure(operation: &Operation) -> Done {
    let params = Fields(&operation.call.params);
    let set = params.object("set").map_err(VerbError::permanent)?;
    let set = set.ok_or_else(|| VerbError::permanent("`configure` needs `set`"))?;
    let then = params.text("then").map_err(VerbError::permanent)?.unwrap_or_else(|| "restart".to_owned());
    if !super::THEN.contains(&then.as_str()) {
        return Err(VerbError::permanent(format!("`then: {then}` is none of {}", super::THEN.join(", "))));
    }
    let mut env = operation.managed.read(|state| state.env.clone());
    for (name, value) in set.0 {
        if !super::target::is_name(name) {
            return Err(VerbError::permanent(format!("`{name}` is no name of an environment variable")));
        }
        match set.text(name).map_err(VerbError::permanent)? {
            Some(text) => env.insert(name.clone(), text),
            None if value.is_null() => env.remove(name),
            None => None,
        };
    }
    operation.go_on()?;
    operation.progress.begin();
    operation.managed.change(|state| state.env = env).map_err(VerbError::transient)?;
    let names: Vec<&String> = set.0.keys().collect();
    let mut output = json!({ "set": names });
    match then.as_str() {
        "reload" => output["reloaded"] = json!(reload(operation)?),
        "restart" => {
            let mut rolled = Rolled::default();
            roll(operation, wanted(operation), operation.target.grace, Wait::UntilReady, &mut rolled).await?;
            output["restarted"] = json!(rolled.restarted);
        }
        _ => {}
    }
    Ok(output)
}

/// SIGHUP to every replica that is up.
fn reload(operation: &Operation) -> Result<Vec<u32>, VerbError> {
    let mut reloaded = Vec::new();
    for (index, running) in operation.managed.read(|state| state.running.clone()) {
        let Some(identity) = running.identity() else { continue };
        match identity.signal(Signal::HUP) {
            Ok(Signalled::Sent) => reloaded.push(index),
            Ok(Signalled::Gone) => operation.note(format!("replica {index} is down and was not reloaded")),
            Err(error) => return Err(VerbError::permanent(format!("replica {index} cannot be reloaded: {error}"))),
        }
    }
    Ok(reloaded)
}

fn wanted(operation: &Operation) -> Vec<u32> {
    (0..operation.managed.read(|state| state.replicas)).collect()
}

fn is_up(operation: &Operation, index: u32) -> bool {
    operation.managed.replica(index).is_some_and(|replica| replica.is_alive())
}

fn surplus(operation: &Operation, wanted: u32) -> Vec<u32> {
    operation.managed.read(|state| state.running.keys().copied().filter(|index| *index >= wanted).collect())
}

/// Replaces replicas one at a time: those that are down or sick first, so that a change that does not work takes down
/// nothing that works.
async fn roll(
    operation: &Operation,
    mut which: Vec<u32>,
    grace: Duration,
    wait: Wait,
    rolled: &mut Rolled,
) -> Result<(), VerbError> {
    which.sort_by_key(|index| (is_up(operation, *index), !operation.call.sick_replicas.contains(index), *index));
    for index in which {
        operation.go_on()?;
        replace(operation, index, grace, wait, rolled).await?;
    }
    Ok(())
}

/// Once a replica is stopped it is started again, even if the call is cancelled meanwhile.
async fn replace(
    operation: &Operation,
    index: u32,
    grace: Duration,
    wait: Wait,
    rolled: &mut Rolled,
) -> Result<(), VerbError> {
    let stopped = match operation.managed.replica(index) {
        Some(running) => replica::stop(operation, index, &running, grace).await?,
        None => Stopped::WasDown,
    };
    operation.progress.begin();
    let running = replica::start(&operation.shared, &operation.managed, &operation.target, index)?;
    match stopped {
        Stopped::WasDown => rolled.started.push(index),
        Stopped::Terminated => rolled.restarted.push(index),
        Stopped::Killed => {
            rolled.restarted.push(index);
            rolled.killed.push(index);
        }
    }
    let (pid, port) = (running.pid.unwrap_or(0), running.port.map_or("none".to_owned(), |port| port.to_string()));
    let version = running.version.as_deref().map_or(String::new(), |version| format!(", version {version}"));
    operation.note(format!("replica {index} started: pid {pid}, port {port}{version}"));
    if wait == Wait::UntilReady {
        replica::wait_ready(operation, index, &running).await?;
        operation.note(format!("replica {index} is ready"));
    }
    Ok(())
}

/// Stops the replicas above the wanted count, the last one first.
async fn stop_surplus(operation: &Operation, grace: Duration, rolled: &mut Rolled) -> Result<(), VerbError> {
    let wanted = operation.managed.read(|state| state.replicas);
    for index in surplus(operation, wanted).into_iter().rev() {
        operation.go_on()?;
        if let Some(running) = operation.managed.replica(index)
            && replica::stop(operation, index, &running, grace).await? == Stopped::Killed
        {
            rolled.killed.push(index);
        }
        operation.managed.change(|state| state.running.remove(&index)).map_err(VerbError::transient)?;
        let me = (operation.managed.id.clone(), index);
        operation.shared.ports.lock().unwrap_or_else(PoisonError::into_inner).retain(|_, holder| *holder != me);
        rolled.stopped.push(index);
        operation.note(format!("replica {index} stopped"));
    }
    Ok(())
}
