//! A command check: a program's exit, and what it says on stdout.
//!
//! The program runs in a process group of its own, which is killed whole when its time is over or the check is no
//! longer wanted: nothing a check starts outlives it.

use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use serde::Deserialize;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::{Child, Command};
use tokio::time::timeout;

use super::replica_target::ReplicaTarget;
use super::verdict::{Fault, Findings};
use selfheal_model::{CheckStatus, Confidence, FailureReason};

/// Of each of stdout and stderr; what is beyond is read and forgotten, so that the program is not held up.
const MAX_OUTPUT: usize = 64 * 1024;
/// Of what a program says, in characters.
const MAX_WORDS: usize = 500;
/// After its exit, for what still lies in the pipes; a child it left behind may hold them open for ever.
const PIPE_GRACE: Duration = Duration::from_millis(200);

/// Kills the program's process group unless it ended by itself.
struct Group(Option<Pid>);

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(group) = self.0 {
            // it may have ended this very moment: then there is nothing to kill
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}

/// `{"status": "unhealthy", "confidence": 0.9, "message": "…"}` on stdout. What does not read as this is a message.
#[derive(Deserialize)]
struct Said {
    status: Option<CheckStatus>,
    confidence: Option<Confidence>,
    message: Option<String>,
}

pub(super) async fn attempt(
    command: &[String],
    dir: Option<&Path>,
    target: &ReplicaTarget<'_>,
    findings: &mut Findings,
) -> Result<String, Fault> {
    let exit = |why: String| Fault::new(FailureReason::Exit, why);
    let mut parts = Vec::with_capacity(command.len());
    for part in command {
        parts.push(target.fill(part)?);
    }
    let (program, arguments) = parts.split_first().ok_or_else(|| exit("the command is empty".to_owned()))?;
    let mut child = start(program, arguments, dir, target).map_err(|error| exit(format!("cannot start: {error}")))?;
    let id = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
    let mut group = Group(id);
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let status = finish(&mut child, &mut out, &mut err).await.map_err(|error| exit(format!("cannot wait: {error}")))?;
    group.0 = None;
    evaluate(status, &out, &err, findings)
}

fn start(
    program: &str,
    arguments: &[String],
    dir: Option<&Path>,
    target: &ReplicaTarget<'_>,
) -> std::io::Result<Child> {
    let mut command = Command::new(program);
    command
        .args(arguments)
        .env("DEPLOYMENT", target.deployment.as_str())
        .env("CHECK", target.check.as_str())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .kill_on_drop(true);
    for (name, value) in [("REPLICA", target.replica), ("PORT", target.port.map(u32::from))] {
        match value {
            Some(value) => command.env(name, value.to_string()),
            // selfheal's own must not pass for the replica's
            None => command.env_remove(name),
        };
    }
    if let Some(dir) = dir {
        command.current_dir(dir);
    }
    command.spawn()
}

/// Waits for the program's end while reading what it says.
async fn finish(child: &mut Child, out: &mut Vec<u8>, err: &mut Vec<u8>) -> std::io::Result<ExitStatus> {
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let reading = async { tokio::join!(read(stdout, out), read(stderr, err)) };
    tokio::pin!(reading);
    tokio::select! {
        _ = &mut reading => child.wait().await,
        status = child.wait() => {
            let _ = timeout(PIPE_GRACE, &mut reading).await;
            status
        }
    }
}

async fn read(pipe: Option<impl AsyncRead + Unpin>, into: &mut Vec<u8>) {
    let Some(mut pipe) = pipe else { return };
    let mut chunk = [0; 4096];
    while let Ok(count) = pipe.read(&mut chunk).await {
        if count == 0 {
            return;
        }
        let room = MAX_OUTPUT.saturating_sub(into.len());
        into.extend_from_slice(&chunk[..count.min(room)]);
    }
}

/// The exit decides; of a program that exits well, its own word does.
fn evaluate(status: ExitStatus, out: &[u8], err: &[u8], findings: &mut Findings) -> Result<String, Fault> {
    let out = String::from_utf8_lossy(out);
    let said: Option<Said> = serde_json::from_str(out.trim()).ok();
    let says_unhealthy = said.as_ref().is_some_and(|said| said.status == Some(CheckStatus::Unhealthy));
    findings.confidence = said.as_ref().and_then(|said| said.confidence);
    let words = said.map_or_else(|| last_line(&out).to_owned(), |said| said.message.unwrap_or_default());
    if status.success() && !says_unhealthy {
        return Ok(shorten(&words));
    }
    let err = String::from_utf8_lossy(err);
    let words = if words.trim().is_empty() { last_line(&err) } else { &words };
    let how = match (status.code(), std::os::unix::process::ExitStatusExt::signal(&status)) {
        (Some(0), _) => "says unhealthy".to_owned(),
        (Some(code), _) => format!("exit code {code}"),
        (None, Some(signal)) => format!("killed by signal {signal}"),
        (None, None) => "ended abnormally".to_owned(),
    };
    let why = if words.trim().is_empty() { how } else { format!("{how}: {}", shorten(words)) };
    Err(Fault::new(FailureReason::Exit, why))
}

fn last_line(text: &str) -> &str {
    text.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("").trim()
}

fn shorten(text: &str) -> String {
    match text.trim().char_indices().nth(MAX_WORDS) {
        Some((end, _)) => format!("{}…", &text.trim()[..end]),
        None => text.trim().to_owned(),
    }
}
