//! The process as the kernel sees it. Where the kernel does not say, nothing is shown.

use procfs::process::Process;

pub(super) fn resident_bytes() -> Option<u64> {
    let pages = Process::myself().ok()?.stat().ok()?.rss;
    Some(pages * procfs::page_size())
}

/// In user and kernel mode together.
pub(super) fn cpu_seconds() -> Option<f64> {
    let stat = Process::myself().ok()?.stat().ok()?;
    Some((stat.utime + stat.stime) as f64 / procfs::ticks_per_second() as f64)
}

/// Unix seconds; of the first look where the kernel does not say.
pub(super) fn started_at() -> f64 {
    let since_boot = || {
        let ticks = Process::myself().ok()?.stat().ok()?.starttime;
        let boot = procfs::boot_time_secs().ok()?;
        Some(boot as f64 + ticks as f64 / procfs::ticks_per_second() as f64)
    };
    since_boot().unwrap_or_else(|| super::seconds(crate::app::clock::wall()))
}
