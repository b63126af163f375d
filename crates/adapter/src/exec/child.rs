//! One run of a program: a document on its stdin, what it says on stdout and stderr, and its end.
//!
//! Invariant: a program that is no longer waited for is killed with its process group, and its pid is never signalled
//! once it was waited for.

use std::io;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, ChildStdin, Command};
use tokio::time::timeout;

use crate::process::INHERITED;

/// An answer may have so many bytes; it is one document about one deployment.
pub const MAX_ANSWER: usize = 1024 * 1024;

/// Of stderr so much is kept, the last of it. More than people are shown, for secrets are masked before it is cut to
/// that.
const MAX_LOG: usize = 64 * 1024;

/// A line of stderr longer than this is cut in pieces.
const MAX_LINE: usize = 4 * 1024;

/// After its program ended a pipe may be held open by what the program left running; so long it is read on.
const PIPE_GRACE: Duration = Duration::from_millis(200);

/// How long a killed program may take to be gone; it is left to the kernel then.
const KILL_WITHIN: Duration = Duration::from_secs(1);

/// What is run, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    /// Not empty.
    pub command: Vec<String>,
    pub dir: PathBuf,
    /// Added to what every program started by selfheal inherits.
    pub env: Vec<(String, String)>,
}

/// How a run ended.
#[derive(Debug)]
pub enum Ending {
    Exited(ExitStatus),
    /// It was killed because its time was over.
    OutOfTime,
    NotStarted(io::Error),
    /// It ran, but its end could not be seen.
    Lost(io::Error),
}

/// Everything that is known of a run.
#[derive(Debug)]
pub struct Ended {
    pub ending: Ending,
    /// At most [`MAX_ANSWER`] bytes.
    pub answer: Vec<u8>,
    /// Bytes of stdout beyond that.
    pub dropped: usize,
    pub log: String,
}

/// Gets each line of stderr as it comes.
pub type OnLine<'a> = &'a (dyn Fn(&str) + Send + Sync);

impl Program {
    /// As people call it.
    pub fn name(&self) -> &str {
        self.command.first().map_or("", String::as_str)
    }

    fn spawn(&self) -> io::Result<Child> {
        let (program, arguments) =
            self.command.split_first().ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "no command"))?;
        // a path starts at the policy's folder; a bare name is looked up in PATH
        let path = if program.contains('/') { self.dir.join(program) } else { Path::new(program).to_owned() };
        Command::new(path)
            .args(arguments)
            .env_clear()
            .envs(INHERITED.iter().filter_map(|name| Some((*name, std::env::var_os(name)?))))
            .envs(self.env.iter().map(|(name, value)| (name, value)))
            .current_dir(&self.dir)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
    }

    /// Runs the program once, for at most `within`. Dropping the future kills it.
    pub async fn run(&self, document: &[u8], within: Duration, on_line: OnLine<'_>) -> Ended {
        let (mut answer, mut log) = (Answer::default(), Log::new(on_line));
        let ending = match self.spawn() {
            Err(error) => Ending::NotStarted(error),
            Ok(child) => {
                let mut group = Group(child);
                match timeout(within, finish(&mut group.0, document, &mut answer, &mut log)).await {
                    Ok(Ok(status)) => Ending::Exited(status),
                    Ok(Err(error)) => Ending::Lost(error),
                    Err(_) => {
                        group.kill();
                        let _ = timeout(KILL_WITHIN, group.0.wait()).await;
                        Ending::OutOfTime
                    }
                }
            }
        };
        Ended { ending, answer: answer.kept, dropped: answer.dropped, log: log.end() }
    }
}

/// A program with all that it started and that stayed in its group.
struct Group(Child);

impl Group {
    fn kill(&self) {
        // an id is there only until the program was waited for, so it cannot be another's
        let pid = self.0.id().and_then(|pid| i32::try_from(pid).ok()).and_then(Pid::from_raw);
        if let Some(pid) = pid
            && let Err(error) = kill_process_group(pid, Signal::KILL)
        {
            tracing::debug!(pid = pid.as_raw_nonzero().get(), %error, "a program's group could not be killed");
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.kill();
    }
}

async fn finish(child: &mut Child, document: &[u8], answer: &mut Answer, log: &mut Log<'_>) -> io::Result<ExitStatus> {
    let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let talking = async {
        tokio::join!(
            tell(stdin, document),
            read(stdout, |bytes| answer.push(bytes)),
            read(stderr, |bytes| log.push(bytes))
        )
    };
    tokio::pin!(talking);
    tokio::select! {
        _ = &mut talking => child.wait().await,
        status = child.wait() => {
            let _ = timeout(PIPE_GRACE, &mut talking).await;
            status
        }
    }
}

/// A program may answer without reading what it was told.
async fn tell(stdin: Option<ChildStdin>, document: &[u8]) {
    let Some(mut stdin) = stdin else { return };
    if stdin.write_all(document).await.is_ok() {
        let _ = stdin.write_all(b"\n").await;
    }
}

async fn read(pipe: Option<impl AsyncRead + Unpin>, mut take: impl FnMut(&[u8])) {
    let Some(mut pipe) = pipe else { return };
    let mut chunk = vec![0; 16 * 1024];
    while let Ok(count) = pipe.read(&mut chunk).await {
        if count == 0 {
            return;
        }
        take(&chunk[..count]);
    }
}

#[derive(Default)]
struct Answer {
    kept: Vec<u8>,
    dropped: usize,
}

impl Answer {
    /// What is too much is read and dropped: a program in the middle of its work is not to hang or die of it.
    fn push(&mut self, bytes: &[u8]) {
        let room = MAX_ANSWER.saturating_sub(self.kept.len()).min(bytes.len());
        self.kept.extend_from_slice(&bytes[..room]);
        self.dropped += bytes.len() - room;
    }
}

/// The last lines of stderr.
struct Log<'a> {
    on_line: OnLine<'a>,
    kept: String,
    line: Vec<u8>,
}

impl<'a> Log<'a> {
    fn new(on_line: OnLine<'a>) -> Self {
        Log { on_line, kept: String::new(), line: Vec::new() }
    }

    fn push(&mut self, bytes: &[u8]) {
        for byte in bytes {
            if *byte == b'\n' {
                self.end_line();
            } else {
                self.line.push(*byte);
                if self.line.len() >= MAX_LINE {
                    self.end_line();
                }
            }
        }
    }

    fn end_line(&mut self) {
        let line = String::from_utf8_lossy(&self.line).into_owned();
        self.line.clear();
        let line = line.trim_end_matches('\r');
        (self.on_line)(line);
        self.kept.push_str(line);
        self.kept.push('\n');
        // cut in whole lines and not at every line, so that a long log costs little
        if self.kept.len() > 2 * MAX_LOG {
            let from = self.kept.ceil_char_boundary(self.kept.len() - MAX_LOG);
            let from = self.kept[from..].find('\n').map_or(from, |at| from + at + 1);
            self.kept.drain(..from);
        }
    }

    fn end(mut self) -> String {
        if !self.line.is_empty() {
            self.end_line();
        }
        self.kept
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_long_log_the_last_whole_lines_are_kept() {
        let quiet = |_: &str| {};
        let mut log = Log::new(&quiet);
        for number in 0..20_000 {
            log.push(format!("line {number} ü\n").as_bytes());
        }
        log.push(b"the end");
        let kept = log.end();
        assert!(kept.len() <= 2 * MAX_LOG + MAX_LINE, "{} bytes", kept.len());
        assert!(kept.starts_with("line ") && kept.ends_with("line 19999 ü\nthe end\n"));
    }

    #[test]
    fn a_line_without_an_end_is_cut_in_pieces() {
        let quiet = |_: &str| {};
        let mut log = Log::new(&quiet);
        log.push(&vec![b'x'; MAX_LINE + 1]);
        assert_eq!(log.end().lines().map(str::len).collect::<Vec<_>>(), [MAX_LINE, 1]);
    }
}
