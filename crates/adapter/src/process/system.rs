//! What the kernel says of processes and ports, and the signals sent to them.
//!
//! Invariant: a signal goes only to a process whose start time is the one remembered: a pid that was given to
//! another program is never touched.

use std::collections::{BTreeMap, BTreeSet};
use std::{fs, io};

use procfs::process::{Process, Stat, all_processes};
use rustix::io::Errno;
use rustix::process::{
    Pid, PidfdFlags, Signal, kill_process_group, pidfd_open, pidfd_send_signal, test_kill_process_group,
};

/// A process that cannot be mistaken for another one since the machine started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    pub pid: u32,
    /// Clock ticks since the machine started.
    pub start: u64,
}

/// Whether a signal found its process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signalled {
    Sent,
    /// It has ended, or its pid is another process's now.
    Gone,
}

impl Identity {
    /// Who has this pid now, a zombie included.
    pub fn of(pid: u32) -> Option<Identity> {
        stat(pid).map(|stat| Identity { pid, start: stat.starttime })
    }

    /// Running: a zombie, and another process with the same pid, are not.
    pub fn is_alive(self) -> bool {
        stat(self.pid).is_some_and(|stat| stat.starttime == self.start && runs(&stat))
    }

    /// Sends `signal` to this process alone.
    ///
    /// # Errors
    /// The kernel refuses, mostly because the process belongs to another user.
    pub fn signal(self, signal: Signal) -> io::Result<Signalled> {
        let Some(pid) = self.as_pid() else { return Ok(Signalled::Gone) };
        // the descriptor holds the process before its start time is compared, so it cannot change in between
        match pidfd_open(pid, PidfdFlags::empty()) {
            Ok(held) if self.is_alive() => sent(pidfd_send_signal(held, signal)),
            Ok(_) | Err(Errno::SRCH) => Ok(Signalled::Gone),
            Err(error) => Err(error.into()),
        }
    }

    /// Sends `signal` to the process group this process leads, as long as any of it lives.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn signal_group(self, signal: Signal) -> io::Result<Signalled> {
        let Some(pid) = self.as_pid() else { return Ok(Signalled::Gone) };
        // while the leader lives, or is not yet waited for, its number cannot name another group
        let held = pidfd_open(pid, PidfdFlags::empty());
        if held.is_ok() && stat(self.pid).is_some_and(|stat| stat.starttime == self.start) {
            return sent(kill_process_group(pid, signal));
        }
        let mut any = Signalled::Gone;
        for member in self.members(&Table::read()) {
            if member.signal(signal)? == Signalled::Sent {
                any = Signalled::Sent;
            }
        }
        Ok(any)
    }

    /// Whether anything that this process started in its session still runs.
    pub fn group_is_alive(self) -> bool {
        if self.is_alive() {
            return true;
        }
        let Some(pid) = self.as_pid() else { return false };
        // cheap and mostly the end of it; zombies count as members there, so else look closely
        if test_kill_process_group(pid) == Err(Errno::SRCH) {
            return false;
        }
        !self.members(&Table::read()).is_empty()
    }

    /// The running processes of the session this process began. Empty when its pid was given away, for a number
    /// that still names a session is not given away.
    pub fn members(self, table: &Table) -> Vec<Identity> {
        if stat(self.pid).is_some_and(|stat| stat.starttime != self.start) {
            return Vec::new();
        }
        let members = table.session(self.pid).iter();
        members.map(|member| member.identity).filter(|member| member.start >= self.start).collect()
    }

    fn as_pid(self) -> Option<Pid> {
        i32::try_from(self.pid).ok().and_then(Pid::from_raw)
    }
}

fn sent(result: rustix::io::Result<()>) -> io::Result<Signalled> {
    match result {
        Ok(()) => Ok(Signalled::Sent),
        Err(Errno::SRCH) => Ok(Signalled::Gone),
        Err(error) => Err(error.into()),
    }
}

fn stat(pid: u32) -> Option<Stat> {
    Process::new(i32::try_from(pid).ok()?).ok()?.stat().ok()
}

fn runs(stat: &Stat) -> bool {
    !matches!(stat.state, 'Z' | 'X' | 'x')
}

/// One process as the table shows it.
#[derive(Clone, Copy, Debug)]
pub struct Member {
    pub identity: Identity,
    pub resident_bytes: u64,
    /// Clock ticks of itself and of the children it waited for.
    pub cpu_ticks: u64,
    pub threads: u64,
}

/// All running processes at one moment, by session.
#[derive(Debug, Default)]
pub struct Table {
    by_session: BTreeMap<u32, Vec<Member>>,
}

impl Table {
    /// Processes that end while it is read are left out.
    pub fn read() -> Table {
        let mut by_session: BTreeMap<u32, Vec<Member>> = BTreeMap::new();
        let Ok(processes) = all_processes() else { return Table::default() };
        for stat in processes.flatten().filter_map(|process| process.stat().ok()).filter(runs) {
            let (Ok(session), Ok(pid)) = (u32::try_from(stat.session), u32::try_from(stat.pid)) else { continue };
            let waited_for = u64::try_from(stat.cutime + stat.cstime).unwrap_or(0);
            by_session.entry(session).or_default().push(Member {
                identity: Identity { pid, start: stat.starttime },
                resident_bytes: stat.rss.saturating_mul(procfs::page_size()),
                cpu_ticks: stat.utime + stat.stime + waited_for,
                threads: u64::try_from(stat.num_threads).unwrap_or(0),
            });
        }
        Table { by_session }
    }

    pub fn session(&self, leader: u32) -> &[Member] {
        self.by_session.get(&leader).map_or(&[], Vec::as_slice)
    }
}

/// A process that carries a marker in its environment.
#[derive(Debug)]
pub struct Marked {
    pub identity: Identity,
    pub environment: BTreeMap<String, String>,
}

/// The running session leaders whose environment has `variable` beginning with `prefix`.
pub fn marked(variable: &str, prefix: &str) -> Vec<Marked> {
    let Ok(processes) = all_processes() else { return Vec::new() };
    let mut found = Vec::new();
    for process in processes.flatten() {
        let Ok(stat) = process.stat() else { continue };
        if stat.session != stat.pid || !runs(&stat) {
            continue;
        }
        // another user's environment cannot be read, and is not ours
        let Ok(environment) = process.environ() else { continue };
        let environment: BTreeMap<String, String> = environment
            .into_iter()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .collect();
        let ours = environment.get(variable).is_some_and(|value| value.starts_with(prefix));
        if let (true, Ok(pid)) = (ours, u32::try_from(stat.pid)) {
            found.push(Marked { identity: Identity { pid, start: stat.starttime }, environment });
        }
    }
    found
}

/// The ports somebody listens on, on any address of this machine.
///
/// # Errors
/// The kernel's table cannot be read.
pub fn listening_ports() -> io::Result<BTreeSet<u16>> {
    let four = procfs::net::tcp().map_err(io::Error::other)?;
    // a machine without IPv6 has no such table
    let six = procfs::net::tcp6().unwrap_or_default();
    let listens = |state: &procfs::net::TcpState| *state == procfs::net::TcpState::Listen;
    Ok(four.iter().chain(&six).filter(|entry| listens(&entry.state)).map(|entry| entry.local_address.port()).collect())
}

/// Differs after every start of the machine: start times are only comparable within one.
pub fn boot_id() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned()
}

/// Seconds since the process started.
pub fn age(start: u64) -> Option<f64> {
    use procfs::Current;
    let up = procfs::Uptime::current().ok()?.uptime;
    Some((up - start as f64 / procfs::ticks_per_second() as f64).max(0.0))
}

/// The machine's memory: all of it, and what is free to be used.
pub fn memory() -> Option<(u64, Option<u64>)> {
    use procfs::Current;
    let memory = procfs::Meminfo::current().ok()?;
    Some((memory.mem_total, memory.mem_available))
}
