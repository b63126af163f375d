//! One replica: started, stopped, waited for.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, PoisonError};
use std::time::Duration;
use std::{env, io};

use rustix::process::Signal;
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep};

use super::operation::{Operation, VerbError};
use super::releases::{self, Place};
use super::state::{MARKER, Managed, Running};
use super::system::{self, Identity};
use super::target::{Names, Ready, Target, fill, read_env_file};
use super::{Shared, logs};
use selfheal_model::FailureClass;

/// What a replica gets of selfheal's own environment. The rest may hold secrets of selfheal; what a program needs of
/// it is named in `env`.
pub const INHERITED: [&str; 13] = [
    "PATH",
    "HOME",
    "USER",
    "LOGNAME",
    "SHELL",
    "LANG",
    "LC_ALL",
    "LC_CTYPE",
    "TZ",
    "TMPDIR",
    "LD_LIBRARY_PATH",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
];

/// How often a process is looked at while it is waited for.
const POLL: Duration = Duration::from_millis(20);

/// How often readiness is asked for while it is waited for.
const READY_POLL: Duration = Duration::from_millis(100);

/// How long one question for readiness may take while it is waited for.
const PROBE_WITHIN: Duration = Duration::from_secs(2);

/// The kernel ends a process at SIGKILL at once, unless it hangs in a device.
const KILL_WITHIN: Duration = Duration::from_secs(5);

/// How long the way a process ended may take to be known after it has ended.
const EXIT_KNOWN_WITHIN: Duration = Duration::from_millis(300);

/// Lines of a replica's log that explain why it did not start.
const EXPLAINING_LINES: usize = 5;

/// How a replica came to be stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stopped {
    WasDown,
    Terminated,
    /// It did not end within the grace.
    Killed,
}

/// Starts a replica and writes it down, before and after: a kill of selfheal in between leaves no process unknown.
///
/// # Errors
/// Nothing was started.
pub fn start(shared: &Shared, managed: &Arc<Managed>, target: &Target, index: u32) -> Result<Running, VerbError> {
    let place = releases::place(&target.dir).map_err(VerbError::permanent)?;
    let before = managed.replica(index);
    let port = match &target.ports {
        None => None,
        Some(range) => Some(choose_port(shared, managed, index, range, before.as_ref().and_then(|was| was.port))?),
    };
    let incarnation = managed
        .change(|state| {
            state.last_incarnation += 1;
            let incarnation = state.last_incarnation;
            state.running.insert(
                index,
                Running {
                    pid: None,
                    start: 0,
                    port,
                    version: place.version.clone(),
                    incarnation,
                    started_at: shared.context.now(),
                    ended: None,
                },
            );
            incarnation
        })
        .map_err(VerbError::transient)?;
    let spawned = spawn(managed, target, index, incarnation, port, &place);
    let (child, identity) = match spawned {
        Ok(spawned) => spawned,
        Err(why) => {
            let noted = why.clone();
            let written = managed.change(|state| {
                if let Some(replica) = state.running.get_mut(&index) {
                    replica.ended = Some(noted);
                }
            });
            if let Err(error) = written {
                tracing::warn!(deployment = %managed.id, %error, "a failed start could not be written down");
            }
            return Err(VerbError::permanent(format!("replica {index} cannot be started: {why}")));
        }
    };
    let written = managed.change(|state| {
        state.started = true;
        if before.is_some() {
            state.restarts += 1;
        }
        let replica = state.running.get_mut(&index)?;
        (replica.pid, replica.start) = (Some(identity.pid), identity.start);
        Some(replica.clone())
    });
    tokio::spawn(wait_for(managed.clone(), child, index, incarnation));
    match written {
        Ok(Some(running)) => Ok(running),
        Ok(None) => Err(VerbError::Unknown(format!("replica {index} was forgotten while it was started"))),
        Err(error) => Err(VerbError::Unknown(format!("replica {index} was started, but {error}"))),
    }
}

fn spawn(
    managed: &Managed,
    target: &Target,
    index: u32,
    incarnation: u64,
    port: Option<u16>,
    place: &Place,
) -> Result<(Child, Identity), String> {
    let names = Names { port, replica: index, version: place.version.as_deref().unwrap_or("") };
    let parts = target.command.iter().map(|part| fill(part, &names)).collect::<Result<Vec<_>, _>>()?;
    let (program, arguments) = parts.split_first().ok_or_else(|| "`command` is empty".to_owned())?;
    let environment = environment(managed, target, incarnation, &names)?;
    let log_path = logs::path(&managed.dir, index);
    let log = logs::open(&log_path);
    let log = log.map_err(|error| format!("its log {} cannot be opened: {error}", log_path.display()))?;
    let errors = log.try_clone().map_err(|error| format!("its log cannot be opened twice: {error}"))?;
    let mut command = Command::new(program);
    command
        .args(arguments)
        .current_dir(&place.dir)
        .env_clear()
        .envs(environment)
        .stdin(Stdio::null())
        .stdout(log)
        .stderr(errors);
    #[expect(unsafe_code, reason = "pre_exec is the only way to run code between fork and exec")]
    // SAFETY: between fork and exec only async-signal-safe calls are allowed; setsid(2) is one, and nothing is
    // allocated or locked.
    unsafe {
        command.pre_exec(|| rustix::process::setsid().map(|_| ()).map_err(io::Error::from));
    }
    let child = command.spawn().map_err(|error| cannot_run(program, &place.dir, &error))?;
    let pid = child.id().ok_or_else(|| "it ended before it was seen".to_owned())?;
    // it cannot be gone: even when it has ended, it stays until it is waited for
    let identity = Identity::of(pid).ok_or_else(|| format!("process {pid} cannot be seen in /proc"))?;
    Ok((child, identity))
}

fn cannot_run(program: &str, dir: &Path, error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound if program.contains('/') => {
            format!("the program `{program}` does not exist (working directory {})", dir.display())
        }
        io::ErrorKind::NotFound => format!("the program `{program}` is not in PATH"),
        io::ErrorKind::PermissionDenied => format!("the program `{program}` may not be run: {error}"),
        _ => format!("the program `{program}` cannot be run: {error}"),
    }
}

fn environment(
    managed: &Managed,
    target: &Target,
    incarnation: u64,
    names: &Names<'_>,
) -> Result<BTreeMap<String, String>, String> {
    let mut environment: BTreeMap<String, String> =
        INHERITED.iter().filter_map(|name| Some(((*name).to_owned(), env::var(name).ok()?))).collect();
    if let Some(path) = &target.env_file {
        environment.extend(read_env_file(path)?);
    }
    for (name, value) in &target.env {
        environment.insert(name.clone(), fill(value, names)?);
    }
    let memory = managed.read(|state| {
        environment.extend(state.env.clone());
        state.memory
    });
    if let Some(port) = names.port {
        environment.insert("PORT".to_owned(), port.to_string());
    }
    environment.insert("REPLICA".to_owned(), names.replica.to_string());
    if !names.version.is_empty() {
        environment.insert("VERSION".to_owned(), names.version.to_owned());
    }
    if let Some(bytes) = memory {
        environment.insert("MEMORY_LIMIT".to_owned(), bytes.to_string());
    }
    environment.insert(MARKER.to_owned(), managed.marker(names.replica, incarnation));
    Ok(environment)
}

/// The lowest free port of the range: held by no other replica, and nobody listens on it. A replica keeps its port
/// while it can.
fn choose_port(
    shared: &Shared,
    managed: &Managed,
    index: u32,
    range: &RangeInclusive<u16>,
    before: Option<u16>,
) -> Result<u16, VerbError> {
    let listening = system::listening_ports()
        .map_err(|error| VerbError::transient(format!("cannot tell which ports are in use: {error}")))?;
    let me = (managed.id.clone(), index);
    let mut held = shared.ports.lock().unwrap_or_else(PoisonError::into_inner);
    let is_free = |port: &u16| !listening.contains(port) && held.get(port).is_none_or(|holder| *holder == me);
    let kept = before.filter(|port| range.contains(port)).filter(is_free);
    let Some(port) = kept.or_else(|| range.clone().find(|port| is_free(port))) else {
        let strangers: BTreeSet<u16> =
            range.clone().filter(|port| listening.contains(port) && !held.contains_key(port)).collect();
        let strangers: Vec<String> = strangers.iter().map(u16::to_string).collect();
        let named =
            if strangers.is_empty() { String::new() } else { format!("; others listen on {}", strangers.join(", ")) };
        return Err(VerbError::permanent(format!(
            "no port of {}-{} is free for replica {index}{named}",
            range.start(),
            range.end()
        )));
    };
    held.retain(|_, holder| *holder != me);
    held.insert(port, me);
    Ok(port)
}

/// Waits for a child so that it does not stay as a zombie, and writes down how it ended.
async fn wait_for(managed: Arc<Managed>, mut child: Child, index: u32, incarnation: u64) {
    let how = match child.wait().await {
        Ok(status) => describe_exit(status),
        Err(error) => format!("ended, it is not known how: {error}"),
    };
    tracing::info!(deployment = %managed.id, replica = index, "replica {how}");
    if !managed.dir.exists() {
        return;
    }
    let written = managed.change(|state| {
        if let Some(replica) = state.running.get_mut(&index).filter(|replica| replica.incarnation == incarnation) {
            replica.ended = Some(how);
        }
    });
    if let Err(error) = written {
        tracing::warn!(deployment = %managed.id, %error, "the end of a replica could not be written down");
    }
}

fn describe_exit(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exited with code {code}"),
        (None, Some(signal)) => format!("was ended by signal {signal}"),
        (None, None) => status.to_string(),
    }
}

/// SIGTERM to the process group, after `grace` SIGKILL to all that is left of its session.
///
/// # Errors
/// The kernel refuses the signal, or the process does not even end at SIGKILL.
pub async fn stop(operation: &Operation, index: u32, running: &Running, grace: Duration) -> Result<Stopped, VerbError> {
    let Some(identity) = running.identity().filter(|identity| identity.group_is_alive()) else {
        return Ok(Stopped::WasDown);
    };
    let refused = |error: io::Error| VerbError::permanent(format!("replica {index} cannot be signalled: {error}"));
    operation.progress.begin();
    let was_up = identity.is_alive();
    identity.signal_group(Signal::TERM).map_err(refused)?;
    if is_gone_within(identity, grace).await {
        return Ok(if was_up { Stopped::Terminated } else { Stopped::WasDown });
    }
    let what = if identity.is_alive() { "did not end" } else { "left processes behind" };
    operation.note(format!("replica {index} (pid {}) {what} within {grace:?} of SIGTERM; sent SIGKILL", identity.pid));
    identity.signal_group(Signal::KILL).map_err(refused)?;
    for member in identity.members(&system::Table::read()) {
        member.signal(Signal::KILL).map_err(refused)?;
    }
    if is_gone_within(identity, KILL_WITHIN).await {
        return Ok(Stopped::Killed);
    }
    Err(VerbError::permanent(format!("replica {index} (pid {}) does not end, not even at SIGKILL", identity.pid)))
}

async fn is_gone_within(identity: Identity, span: Duration) -> bool {
    let deadline = Instant::now() + span;
    while identity.group_is_alive() {
        if Instant::now() >= deadline {
            return false;
        }
        sleep(POLL).await;
    }
    true
}

/// Waits until a replica that was just started is ready.
///
/// # Errors
/// It ended, was not ready in time, or the call was cancelled or ran out of time meanwhile.
pub async fn wait_ready(operation: &Operation, index: u32, running: &Running) -> Result<(), VerbError> {
    let ready = filled(&operation.target, index, running).map_err(VerbError::permanent)?;
    let began = Instant::now();
    let within = match &ready {
        Ready::After(span) => operation.target.ready_within.max(*span + PROBE_WITHIN),
        Ready::Http(_) | Ready::Tcp(_) => operation.target.ready_within,
    };
    loop {
        if !running.is_alive() {
            return Err(ended_at_start(operation, index, running, began.elapsed()).await);
        }
        let last = match &ready {
            Ready::After(span) if began.elapsed() >= *span => return Ok(()),
            Ready::After(_) => String::new(),
            asked => match probe(&operation.shared.context.http, asked, PROBE_WITHIN).await {
                Ok(()) if running.is_alive() => return Ok(()),
                Ok(()) => continue,
                Err(why) => why,
            },
        };
        if began.elapsed() >= within {
            let why = format!("replica {index} was not ready within {within:?} of its start: {last}");
            return Err(VerbError::Failed(FailureClass::Transient, why));
        }
        operation.go_on()?;
        sleep(READY_POLL).await;
    }
}

async fn ended_at_start(operation: &Operation, index: u32, running: &Running, after: Duration) -> VerbError {
    let deadline = Instant::now() + EXIT_KNOWN_WITHIN;
    let how = loop {
        let now = operation.managed.replica(index).filter(|now| now.incarnation == running.incarnation);
        match now.and_then(|now| now.ended) {
            Some(how) => break how,
            None if Instant::now() >= deadline => break "ended".to_owned(),
            None => sleep(POLL).await,
        }
    };
    let log = logs::tail(&logs::path(&operation.managed.dir, index), EXPLAINING_LINES).unwrap_or_default();
    let log = if log.is_empty() { "; it printed nothing".to_owned() } else { format!("; its log ends:\n{log}") };
    let why = format!("replica {index} {how} {:.1}s after its start{log}", after.as_secs_f64());
    VerbError::permanent(why)
}

/// What makes this replica ready.
pub fn filled(target: &Target, index: u32, running: &Running) -> Result<Ready, String> {
    let version = running.version.as_deref().unwrap_or("");
    target.ready.filled(&Names { port: running.port, replica: index, version })
}

/// Asks once whether a replica is ready. One that only has to live a while is asked elsewhere.
///
/// # Errors
/// What it answered instead.
pub async fn probe(http: &reqwest::Client, ready: &Ready, within: Duration) -> Result<(), String> {
    match ready {
        Ready::After(_) => Ok(()),
        Ready::Http(url) => match http.get(url).timeout(within).send().await {
            Ok(answer) if answer.status().is_success() => Ok(()),
            Ok(answer) => Err(format!("{url} answered {}", answer.status())),
            Err(error) if error.is_timeout() => Err(format!("{url} did not answer within {within:?}")),
            Err(error) if error.is_connect() => Err(format!("{url} takes no connections")),
            Err(error) => Err(format!("{url}: {error}")),
        },
        Ready::Tcp(address) => match tokio::time::timeout(within, tokio::net::TcpStream::connect(address)).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(format!("{address}: {error}")),
            Err(_) => Err(format!("{address} did not answer within {within:?}")),
        },
    }
}
