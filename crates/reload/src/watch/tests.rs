use std::fs;
use std::os::unix::fs::symlink;

use super::*;

const DEADLINE: Duration = Duration::from_secs(20);

/// A policy folder under watch.
struct Scene {
    dir: tempfile::TempDir,
    changed: signals::Receiver<()>,
    _watching: Watching,
}

impl Scene {
    async fn new(means: Means, prepare: impl FnOnce(&Path)) -> Scene {
        let dir = tempfile::tempdir().expect("a folder");
        let policy = dir.path().join("policy");
        fs::create_dir(&policy).expect("made");
        fs::write(policy.join("selfheal.yaml"), "format: 1\n").expect("written");
        prepare(&policy);
        let (sender, changed) = signals::channel(1);
        let watching = start(&policy, sender, means);
        let mut scene = Scene { dir, changed, _watching: watching };
        scene.signal("the first look").await;
        scene
    }

    fn policy(&self) -> PathBuf {
        self.dir.path().join("policy")
    }

    async fn signal(&mut self, what: &str) {
        tokio::time::timeout(DEADLINE, self.changed.recv())
            .await
            .unwrap_or_else(|_| panic!("waited in vain: {what}"))
            .expect("the watch runs");
    }

    /// The folder reads so, if need be after more signals.
    async fn reads(&mut self, path: &str, text: Option<&str>) {
        loop {
            let files = PolicyFolder { dir: self.policy() }.read();
            let found = files.iter().flatten().find(|file| file.path == path).map(|file| file.text.as_str());
            if files.is_ok() && found == text {
                return;
            }
            self.signal(&format!("{path} reads {text:?}, but it is {found:?} in {files:?}")).await;
        }
    }
}

#[tokio::test]
async fn a_save_in_place_is_noticed() {
    let mut scene = Scene::new(Means::Notifications, |_| {}).await;
    for text in ["1", "2", "3"] {
        fs::write(scene.policy().join("selfheal.yaml"), text).expect("written");
        scene.reads("selfheal.yaml", Some(text)).await;
    }
}

#[tokio::test]
async fn only_a_change_of_what_is_read_gives_a_signal() {
    let mut scene = Scene::new(Means::Notifications, |_| {}).await;
    let (new, file) = (scene.policy().join(".new"), scene.policy().join("selfheal.yaml"));
    fs::write(&new, "format: 1\n").expect("written");
    fs::rename(&new, &file).expect("renamed");
    fs::write(scene.policy().join("notes.txt"), "no policy").expect("written");
    fs::write(&new, "format: 1 # new\n").expect("written");
    fs::rename(&new, &file).expect("renamed");
    scene.signal("the save").await;
    scene.reads("selfheal.yaml", Some("format: 1 # new\n")).await;
    // that signal was for the new text: the same text and other files gave none
    assert!(scene.changed.try_recv().is_err());
}

#[tokio::test]
async fn rename_on_save_is_noticed_again_and_again() {
    let mut scene = Scene::new(Means::Notifications, |policy| {
        fs::create_dir(policy.join("rules")).expect("made");
        fs::write(policy.join("rules/a.yaml"), "0").expect("written");
    })
    .await;
    let (new, file) = (scene.policy().join("rules/.a.yaml.tmp"), scene.policy().join("rules/a.yaml"));
    for text in ["1", "2", "3"] {
        fs::write(&new, text).expect("written");
        fs::rename(&new, &file).expect("renamed");
        scene.signal("the rename").await;
        scene.reads("rules/a.yaml", Some(text)).await;
    }
    fs::remove_file(&file).expect("removed");
    scene.signal("the removal").await;
    scene.reads("rules/a.yaml", None).await;
}

#[tokio::test]
async fn new_subfolders_are_watched_too() {
    let mut scene = Scene::new(Means::Notifications, |_| {}).await;
    let deep = scene.policy().join("rules/web/eu");
    fs::create_dir_all(&deep).expect("made");
    fs::write(deep.join("a.yaml"), "1").expect("written");
    scene.signal("a file in new folders").await;
    scene.reads("rules/web/eu/a.yaml", Some("1")).await;
    fs::write(deep.join("a.yaml"), "2").expect("written");
    scene.signal("a save in a new folder").await;
    scene.reads("rules/web/eu/a.yaml", Some("2")).await;
    // gone and made anew under its old name
    fs::remove_dir_all(scene.policy().join("rules")).expect("removed");
    fs::create_dir_all(&deep).expect("made");
    fs::write(deep.join("a.yaml"), "3").expect("written");
    scene.reads("rules/web/eu/a.yaml", Some("3")).await;
    fs::write(deep.join("a.yaml"), "4").expect("written");
    scene.reads("rules/web/eu/a.yaml", Some("4")).await;
}

/// As Kubernetes mounts a ConfigMap: files are links through `..data`, which is itself a link that is swapped.
fn mount(folder: &Path, version: &str) {
    let data = folder.join(format!("..{version}"));
    fs::create_dir_all(&data).expect("made");
    fs::write(data.join("a.yaml"), version).expect("written");
    symlink(format!("..{version}"), folder.join("..data_tmp")).expect("linked");
    fs::rename(folder.join("..data_tmp"), folder.join("..data")).expect("swapped");
    if folder.join("a.yaml").symlink_metadata().is_err() {
        symlink("..data/a.yaml", folder.join("a.yaml")).expect("linked");
    }
}

#[tokio::test]
async fn a_swapped_config_map_is_noticed_here_and_behind_a_link() {
    let elsewhere = tempfile::tempdir().expect("a folder");
    let far = elsewhere.path().to_owned();
    mount(&far, "v1");
    let mut scene = Scene::new(Means::Notifications, |policy| {
        mount(&policy.join("rules"), "v1");
        symlink(&far, policy.join("playbooks")).expect("linked");
    })
    .await;
    for version in ["v2", "v3"] {
        mount(&scene.policy().join("rules"), version);
        scene.signal("the swap").await;
        scene.reads("rules/a.yaml", Some(version)).await;
        mount(&far, version);
        scene.signal("the swap behind the link").await;
        scene.reads("playbooks/a.yaml", Some(version)).await;
    }
    // and a write into the real folder itself
    fs::write(far.join("..v3/a.yaml"), "v3 edited").expect("written");
    scene.reads("playbooks/a.yaml", Some("v3 edited")).await;
}

#[tokio::test]
async fn the_whole_folder_may_be_swapped_by_a_link() {
    let dir = tempfile::tempdir().expect("a folder");
    for version in ["v1", "v2"] {
        fs::create_dir(dir.path().join(version)).expect("made");
        fs::write(dir.path().join(version).join("selfheal.yaml"), version).expect("written");
    }
    let current = dir.path().join("current");
    symlink("v1", &current).expect("linked");
    let (sender, changed) = signals::channel(1);
    let watching = watch(&current, sender);
    let mut scene = Scene { dir, changed, _watching: watching };
    scene.signal("the first look").await;
    symlink("v2", scene.dir.path().join("new")).expect("linked");
    fs::rename(scene.dir.path().join("new"), &current).expect("swapped");
    scene.signal("the swap").await;
    let files = PolicyFolder { dir: current }.read().expect("readable");
    assert_eq!(files[0].text, "v2");
}

#[tokio::test]
async fn without_notifications_changes_are_found_by_looking() {
    let mut scene = Scene::new(Means::Polling(Duration::from_millis(20)), |_| {}).await;
    for text in ["1", "2"] {
        fs::write(scene.policy().join("selfheal.yaml"), text).expect("written");
        scene.signal("the save").await;
        scene.reads("selfheal.yaml", Some(text)).await;
    }
}

#[tokio::test]
async fn a_file_that_breaks_and_is_mended_gives_a_signal_each_time() {
    let mut scene = Scene::new(Means::Notifications, |_| {}).await;
    let file = scene.policy().join("selfheal.yaml");
    fs::write(&file, b"half \xff").expect("written");
    scene.signal("the break").await;
    assert!(PolicyFolder { dir: scene.policy() }.read().is_err());
    fs::write(&file, "whole").expect("written");
    scene.reads("selfheal.yaml", Some("whole")).await;
}

#[tokio::test]
async fn the_watch_ends_when_it_is_dropped_or_nobody_listens() {
    let scene = Scene::new(Means::Notifications, |_| {}).await;
    let Scene { mut changed, _watching: watching, .. } = scene;
    drop(watching);
    // the thread's sender is gone with it
    let ended = tokio::time::timeout(DEADLINE, async { while changed.recv().await.is_some() {} });
    ended.await.expect("the thread ended");
}
