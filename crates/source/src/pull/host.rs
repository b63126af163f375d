//! The machine that selfheal runs on, as the kernel tells of it: processor, memory, disks, network, load.
//!
//! Names carry their unit; what only grows ends in `_total`. A share of the processor is that since the last round, so
//! the first has none.

use std::collections::BTreeSet;

use procfs::{Current, CurrentSI, FromRead};
use smol_str::SmolStr;

use crate::formats::{Foreign, ForeignSample, ForeignValue};

/// File systems that are no disks: what is in them says nothing of how full the machine is.
const NO_DISKS: [&str; 20] = [
    "autofs",
    "bpf",
    "cgroup",
    "cgroup2",
    "configfs",
    "debugfs",
    "devpts",
    "devtmpfs",
    "fusectl",
    "hugetlbfs",
    "mqueue",
    "nsfs",
    "overlay",
    "proc",
    "pstore",
    "rpc_pipefs",
    "securityfs",
    "squashfs",
    "sysfs",
    "tracefs",
];
/// Disks told of; a machine with more mounts than that has them by machinery.
const MAX_MOUNTS: usize = 64;
const MAX_INTERFACES: usize = 64;

/// What is remembered between rounds.
#[derive(Default)]
pub(super) struct Host {
    /// Ticks of the processor: busy, waiting for disks, all.
    before: Option<(u64, u64, u64)>,
}

impl Host {
    /// # Errors
    /// The kernel does not say; there is no /proc.
    pub fn read(&mut self) -> Result<Foreign, String> {
        let mut samples = Samples::default();
        self.processor(&mut samples)?;
        memory(&mut samples)?;
        load(&mut samples)?;
        // what is missing here, in a container for example, does not take the rest with it
        disks(&mut samples);
        network(&mut samples);
        if let Ok(uptime) = procfs::Uptime::current() {
            samples.add("uptime_seconds", uptime.uptime);
        }
        Ok(Foreign { samples: samples.0, ..Foreign::default() })
    }

    fn processor(&mut self, samples: &mut Samples) -> Result<(), String> {
        let stat = procfs::KernelStats::current().map_err(|error| format!("/proc/stat: {error}"))?;
        let time = &stat.total;
        let waiting = time.iowait.unwrap_or(0);
        let busy = time.user
            + time.nice
            + time.system
            + time.irq.unwrap_or(0)
            + time.softirq.unwrap_or(0)
            + time.steal.unwrap_or(0);
        let all = busy + waiting + time.idle;
        if let Some((busy_before, waiting_before, all_before)) = self.before
            && all > all_before
        {
            let percent = |now: u64, before: u64| now.saturating_sub(before) as f64 / (all - all_before) as f64 * 100.0;
            samples.add("cpu_percent", percent(busy, busy_before));
            samples.add("cpu_iowait_percent", percent(waiting, waiting_before));
        }
        self.before = Some((busy, waiting, all));
        samples.add("cpu_count", stat.cpu_time.len() as f64);
        samples.add("context_switches_total", stat.ctxt as f64);
        samples.add("processes_blocked", f64::from(stat.procs_blocked.unwrap_or(0)));
        Ok(())
    }
}

/// Collects what a round comes to.
#[derive(Default)]
struct Samples(Vec<ForeignSample>);

impl Samples {
    fn add(&mut self, name: &str, value: f64) {
        self.labelled(name, &[], value);
    }

    fn labelled(&mut self, name: &str, labels: &[(&str, &str)], value: f64) {
        let labels = labels.iter().map(|(name, value)| (SmolStr::new(name), SmolStr::new(value))).collect();
        self.0.push(ForeignSample { name: SmolStr::new(name), labels, value: ForeignValue::Number(value), time: None });
    }
}

fn memory(samples: &mut Samples) -> Result<(), String> {
    let info = procfs::Meminfo::current().map_err(|error| format!("/proc/meminfo: {error}"))?;
    let (total, available) = (info.mem_total as f64, info.mem_available.unwrap_or(info.mem_free) as f64);
    samples.add("memory_total_bytes", total);
    samples.add("memory_available_bytes", available);
    if total > 0.0 {
        samples.add("memory_percent", (1.0 - available / total) * 100.0);
    }
    if info.swap_total > 0 {
        samples.add("swap_percent", (1.0 - info.swap_free as f64 / info.swap_total as f64) * 100.0);
    }
    Ok(())
}

fn load(samples: &mut Samples) -> Result<(), String> {
    let load = procfs::LoadAverage::current().map_err(|error| format!("/proc/loadavg: {error}"))?;
    for (name, value) in [("load1", load.one), ("load5", load.five), ("load15", load.fifteen)] {
        samples.add(name, f64::from(value));
    }
    Ok(())
}

/// Every disk once, under the first place it is mounted at.
fn disks(samples: &mut Samples) {
    let Ok(mounts) = procfs::mounts() else { return };
    let mut known = BTreeSet::new();
    let is_disk = |kind: &str| !NO_DISKS.contains(&kind);
    for mount in mounts.iter().filter(|mount| is_disk(&mount.fs_vfstype)).take(MAX_MOUNTS) {
        let Ok(disk) = rustix::fs::statvfs(mount.fs_file.as_str()) else { continue };
        if disk.f_blocks == 0 || !known.insert((mount.fs_spec.clone(), disk.f_fsid)) {
            continue;
        }
        let labels = [("mount", mount.fs_file.as_str())];
        let (all, free, available) = (disk.f_blocks as f64, disk.f_bfree as f64, disk.f_bavail as f64);
        let used = all - free;
        // as df counts: of what others than root may use
        samples.labelled("disk_percent", &labels, used / (used + available).max(1.0) * 100.0);
        samples.labelled("disk_available_bytes", &labels, available * disk.f_frsize as f64);
        samples.labelled("disk_total_bytes", &labels, all * disk.f_frsize as f64);
        if disk.f_files > 0 {
            let used = 1.0 - disk.f_ffree as f64 / disk.f_files as f64;
            samples.labelled("disk_inodes_percent", &labels, used * 100.0);
        }
    }
}

fn network(samples: &mut Samples) {
    let Ok(status) = procfs::net::InterfaceDeviceStatus::from_file("/proc/net/dev") else { return };
    let mut interfaces: Vec<_> = status.0.values().filter(|interface| interface.name != "lo").collect();
    interfaces.sort_by(|one, other| one.name.cmp(&other.name));
    for interface in interfaces.into_iter().take(MAX_INTERFACES) {
        let labels = [("interface", interface.name.as_str())];
        for (name, value) in [
            ("network_receive_bytes_total", interface.recv_bytes),
            ("network_transmit_bytes_total", interface.sent_bytes),
            ("network_receive_errors_total", interface.recv_errs),
            ("network_transmit_errors_total", interface.sent_errs),
        ] {
            samples.labelled(name, &labels, value as f64);
        }
    }
}
