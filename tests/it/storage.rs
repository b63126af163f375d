//! Disks that fill up or cannot be written, data folders of other versions, damaged ones, and ones in use.

use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use crate::harness::{self, Bench};
use selfheal::app::Running;

const POLICY: &[(&str, &str)] = &[
    (
        "selfheal.yaml",
        r#"format: 1
receivers:
  - name: oncall
    webhook: [{ url: "@WEBHOOK_URL@" }]
route: { receiver: oncall, group_wait: 0s, group_interval: 1s }
"#,
    ),
    (
        "rules/disk.yaml",
        "rules:\n  - { alert: Disk, when: 'last(\"disk_percent\") > 90', clear_when: 'last(\"disk_percent\") < 80' }\n",
    ),
];

/// A small file system of its own, unmounted at the end.
struct Tmpfs<'p>(&'p Path);

impl<'p> Tmpfs<'p> {
    /// `None`, said loudly: this machine does not let the test mount one.
    fn mount(at: &'p Path, size: &str) -> Option<Tmpfs<'p>> {
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", size, "tmpfs"]).arg(at).output();
        match mounted {
            Ok(output) if output.status.success() => Some(Tmpfs(at)),
            other => {
                let why = other.map(|output| String::from_utf8_lossy(&output.stderr).into_owned());
                eprintln!("SKIPPED: no tmpfs can be mounted here, so a full disk is not tried: {why:?}");
                None
            }
        }
    }
}

impl Drop for Tmpfs<'_> {
    fn drop(&mut self) {
        // a busy one is unmounted as soon as it is not
        let _ = Command::new("umount").args(["-l"]).arg(self.0).output();
    }
}

fn disk(percent: f64) -> Value {
    json!({ "type": "metric", "deployment": "web", "name": "disk_percent", "value": percent })
}

async fn told(bench: &Bench, what: &str) {
    let wanted = what.to_owned();
    harness::until(what, || {
        bench.webhook.requests().iter().any(|request| String::from_utf8_lossy(&request.body).contains(&wanted))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_refuses_events_goes_on_telling_and_recovers_by_itself() {
    let outside = tempfile::TempDir::new().expect("a folder");
    let Some(_mounted) = Tmpfs::mount(outside.path(), "size=8m") else { return };
    let data = outside.path().join("data");
    let bench = harness::start_with(POLICY, |options| options.data_dir = Some(data)).await;
    bench.event(disk(50.0)).await;
    let filler = outside.path().join("filler");
    // whatever is left
    let _ = std::fs::write(&filler, vec![0_u8; 8 * 1024 * 1024]);
    let mut refused = Value::Null;
    for number in 0..5_000 {
        let (status, answer) = bench.post("/api/v1/events", disk(51.0 + f64::from(number % 7)).to_string()).await;
        if status == 503 {
            refused = answer;
            break;
        }
    }
    assert_eq!(refused["title"], "not stored", "{refused}");
    assert!(refused["detail"].as_str().is_some_and(|detail| detail.contains("no space")), "{refused}");
    bench.wait_for_alert("StorageFailed", "firing").await;
    told(&bench, "StorageFailed").await;
    // what an operator says holds, and is said not to last
    let (_, answer) = bench.post("/api/v1/pause", json!({ "reason": "the disk" }).to_string()).await;
    assert!(answer.to_string().contains("forgotten by a restart"), "{answer}");

    std::fs::remove_file(&filler).expect("removed");
    bench
        .wait("events are taken again", "/api/v1/alerts", |alerts| {
            harness::find(alerts, |alert| alert["alert"] == "StorageFailed" && alert["state"] == "resolved")
        })
        .await;
    bench.event(disk(97.0)).await;
    bench.wait_for_alert("Disk", "firing").await;
    told(&bench, "\"Disk\"").await;
    let paused = bench.get("/api/v1/status").await;
    assert_eq!(paused["paused"]["reason"], "the disk", "{paused}");
    // and what was held in memory is written by now
    let Bench { dir, running, smtp, webhook, http } = bench;
    running.drain().await;
    let options = selfheal::app::Options {
        data_dir: Some(outside.path().join("data")),
        ..harness::options(dir.path().to_owned())
    };
    let running = Running::start(options).await.expect("it starts again");
    let bench = Bench { dir, running, smtp, webhook, http };
    assert_eq!(bench.get("/api/v1/status").await["paused"]["reason"], "the disk");
    bench.wait_for_alert("Disk", "firing").await;
    bench.stop().await;
}

/// A file system on a loop device; `None`, said loudly, where this machine does not let the test have one.
struct LoopDisk<'p>(&'p Path);

impl<'p> LoopDisk<'p> {
    fn mount(image: &Path, at: &'p Path) -> Option<LoopDisk<'p>> {
        std::fs::File::create(image).and_then(|file| file.set_len(64 * 1024 * 1024)).expect("a sparse file");
        let ran = |command: &mut Command| command.output().is_ok_and(|output| output.status.success());
        let made = ran(Command::new("mkfs.ext4").arg("-q").arg(image))
            && ran(Command::new("mount").args(["-o", "loop"]).arg(image).arg(at));
        if !made {
            eprintln!("SKIPPED: no loop device can be mounted here, so a disk that turns read-only is not tried");
        }
        made.then_some(LoopDisk(at))
    }

    /// What the kernel does to a file system whose disk fails: every write from now on is refused, also to open files.
    fn turn_read_only(&self) {
        let output = Command::new("mount").args(["-o", "remount,abort"]).arg(self.0).output().expect("mount runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
}

impl Drop for LoopDisk<'_> {
    fn drop(&mut self) {
        // a busy one is unmounted as soon as it is not
        let _ = Command::new("umount").args(["-l"]).arg(self.0).output();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_turns_read_only_refuses_events_and_goes_on_telling() {
    let outside = tempfile::TempDir::new().expect("a folder");
    let at = outside.path().join("disk");
    std::fs::create_dir(&at).expect("a folder");
    let Some(disk_of_its_own) = LoopDisk::mount(&outside.path().join("image"), &at) else { return };
    let data = at.join("data");
    let bench = harness::start_with(POLICY, |options| options.data_dir = Some(data.clone())).await;
    bench.event(disk(50.0)).await;
    disk_of_its_own.turn_read_only();
    let mut refused = Value::Null;
    for number in 0..50 {
        let (status, answer) = bench.post("/api/v1/events", disk(51.0 + f64::from(number)).to_string()).await;
        if status == 503 {
            refused = answer;
            break;
        }
    }
    assert_eq!(refused["title"], "not stored", "{refused}");
    bench.wait_for_alert("StorageFailed", "firing").await;
    told(&bench, "StorageFailed").await;
    let refused = bench.get("/api/v1/status").await;
    assert!(refused.is_object(), "what reads goes on: {refused}");
    bench.stop().await;
    // and a start on it is refused with the reason
    let policy = tempfile::TempDir::new().expect("a folder");
    harness::write(&policy, "selfheal.yaml", "format: 1\n");
    let options = selfheal::app::Options { data_dir: Some(data), ..harness::options(policy.path().to_owned()) };
    let error = match Running::start(options).await {
        Ok(_) => panic!("it starts on a disk that takes nothing"),
        Err(error) => format!("{error:#}"),
    };
    assert!(error.to_lowercase().contains("read-only"), "{error}");
}

/// Why an engine does not start.
async fn refusal(dir: &Path) -> String {
    match Running::start(harness::options(dir.to_owned())).await {
        Ok(running) => {
            running.drain().await;
            panic!("it starts");
        }
        Err(error) => format!("{error:#}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_data_folder_that_cannot_be_used_is_refused_with_a_way_out() {
    let bench = harness::start(POLICY).await;
    for _ in 0..50 {
        bench.event(disk(50.0)).await;
    }
    let told = refusal(bench.dir.path()).await;
    assert!(told.contains("in use by another selfheal"), "{told}");
    let Bench { dir, running, .. } = bench;
    running.drain().await;
    let data = dir.path().join("data");

    std::fs::write(data.join("format"), "99\n").expect("written");
    let told = refusal(dir.path()).await;
    assert!(told.contains("later version") && told.contains("99"), "{told}");
    std::fs::write(data.join("format"), "1\n").expect("written");

    // without its snapshots a recovery needs the whole journal
    std::fs::remove_dir_all(data.join("snapshot")).expect("removed");
    let segment = std::fs::read_dir(data.join("journal"))
        .expect("readable")
        .flatten()
        .map(|entry| entry.path())
        .find(|path| path.extension().is_some_and(|extension| extension == "db"))
        .expect("a segment");
    let mut bytes = std::fs::read(&segment).expect("readable");
    let half = bytes.len() / 2;
    bytes[half..].fill(0x5a);
    std::fs::write(&segment, bytes).expect("written");
    let told = refusal(dir.path()).await;
    assert!(told.contains("damaged") && told.contains("selfheal repair"), "{told}");

    let repair = |dir: &Path| {
        Command::new(env!("CARGO_BIN_EXE_selfheal"))
            .args(["repair", "--json", "--policy"])
            .arg(dir)
            .output()
            .expect("it runs")
    };
    let output = repair(dir.path());
    assert_eq!(output.status.code(), Some(1), "something is lost: {}", String::from_utf8_lossy(&output.stderr));
    let report: Value = serde_json::from_slice(&output.stdout).expect("one document");
    assert!(report["found"].as_array().is_some_and(|found| !found.is_empty()), "{report}");
    assert_eq!(repair(dir.path()).status.code(), Some(0), "a second repair finds nothing");
    let running = Running::start(harness::options(dir.path().to_owned())).await.expect("it starts after the repair");
    running.drain().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_folder_at_the_start_leaves_the_last_good_policy_running() {
    let bench = harness::start(POLICY).await;
    bench.event(disk(97.0)).await;
    bench.wait_for_alert("Disk", "firing").await;
    let Bench { dir, running, smtp, webhook, http } = bench;
    running.drain().await;
    harness::write(&dir, "rules/disk.yaml", "rules:\n  - { alert: Disk, wehn: 'true' }\n");
    let running = Running::start(harness::options(dir.path().to_owned())).await.expect("it starts all the same");
    let bench = Bench { dir, running, smtp, webhook, http };
    bench.wait_for_alert("Disk", "firing").await;
    bench.wait_for_alert("PolicyInvalid", "firing").await;
    bench.event(disk(50.0)).await;
    bench.wait_for_alert("Disk", "resolved").await;
    bench.stop().await;
    let nothing_known = tempfile::TempDir::new().expect("a folder");
    harness::write(&nothing_known, "selfheal.yaml", "format: 1\nnonsense: 1\n");
    assert!(refusal(nothing_known.path()).await.contains("nonsense"), "without a state there is nothing to go on with");
}
