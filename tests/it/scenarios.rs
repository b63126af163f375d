//! Stories in data: `tests/scenarios/NAME/` is a policy folder with `story.yaml` (what happens, when) and
//! `transcript.txt` (what selfheal did). `SELFHEAL_BLESS=1 cargo test scenarios` writes the transcripts anew.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;

use crate::world::{Behaviour, START, World};
use selfheal_contract::DeliveryResult;
use selfheal_model::{CheckStatus, FailureClass, Outcome, Value, units};

type PerDeployment<T> = BTreeMap<String, BTreeMap<String, T>>;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Story {
    /// How long it is watched.
    run: String,
    story: Vec<Moment>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Moment {
    at: String,
    #[serde(default)]
    gauge: PerDeployment<f64>,
    #[serde(default)]
    no_gauge: BTreeMap<String, String>,
    #[serde(default)]
    check: PerDeployment<CheckStatus>,
    #[serde(default)]
    fact: PerDeployment<Value>,
    #[serde(default)]
    signal: BTreeMap<String, String>,
    #[serde(default)]
    on: PerDeployment<Vec<Told>>,
    /// `ok`, or a status: 5xx and 429 may work later, other 4xx do not.
    #[serde(default)]
    receiver: BTreeMap<String, Vec<String>>,
    #[serde(default)]
    operator: Option<OperatorWord>,
    #[serde(default)]
    gap: Option<String>,
    /// Files of the policy that are saved with this text.
    #[serde(default)]
    save: BTreeMap<String, String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum OperatorWord {
    Pause,
    Resume,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Told {
    /// `done`, `unknown`, or the class of a failure.
    outcome: String,
    takes: Option<String>,
    #[serde(default)]
    gauge: BTreeMap<String, f64>,
    #[serde(default)]
    check: BTreeMap<String, CheckStatus>,
    #[serde(default)]
    fact: BTreeMap<String, Value>,
}

fn span(text: &str) -> Duration {
    units::parse_duration(text).unwrap_or_else(|error| panic!("{error}"))
}

impl Told {
    fn behaviour(self) -> Behaviour {
        let failed = |class| Outcome::failed(class, "as the story says");
        let outcome = match self.outcome.as_str() {
            "done" => Outcome::done(Value::Null),
            "unknown" => Outcome::unknown("as the story says"),
            "transient" => failed(FailureClass::Transient),
            "permanent" => failed(FailureClass::Permanent),
            "unauthorized" => failed(FailureClass::Unauthorized),
            "unsupported" => failed(FailureClass::Unsupported),
            "conflict" => failed(FailureClass::Conflict),
            other => panic!("`{other}` is no outcome"),
        };
        Behaviour {
            outcome,
            takes: self.takes.as_deref().map_or(Duration::from_secs(2), span),
            set: self.gauge.into_iter().collect(),
            checks: self.check.into_iter().collect(),
            facts: self.fact.into_iter().collect(),
        }
    }
}

fn delivery(word: &str) -> DeliveryResult {
    match word {
        "ok" => DeliveryResult::Delivered,
        status if status.starts_with('5') || status == "429" => {
            DeliveryResult::Transient { why: format!("status {status}"), retry_after: None }
        }
        status => DeliveryResult::Permanent { why: format!("status {status}") },
    }
}

fn policy_files(dir: &Path, inside: &Path, into: &mut BTreeMap<String, String>) {
    for entry in fs::read_dir(dir.join(inside)).unwrap_or_else(|error| panic!("{}: {error}", dir.display())) {
        let name = inside.join(entry.expect("an entry").file_name());
        if dir.join(&name).is_dir() {
            policy_files(dir, &name, into);
        } else if name.extension().is_some_and(|extension| extension == "yaml" || extension == "rhai")
            && name != Path::new("story.yaml")
        {
            let text = fs::read_to_string(dir.join(&name)).expect("a readable file");
            into.insert(name.to_string_lossy().into_owned(), text);
        }
    }
}

fn play(dir: &Path) -> String {
    let mut files = BTreeMap::new();
    policy_files(dir, Path::new(""), &mut files);
    let borrowed = |files: &BTreeMap<String, String>| -> Vec<(String, String)> {
        files.iter().map(|(path, text)| (path.clone(), text.clone())).collect()
    };
    let text = fs::read_to_string(dir.join("story.yaml")).expect("a story");
    let story: Story = serde_yaml::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", dir.display()));
    let owned = borrowed(&files);
    let mut world = World::new(&owned.iter().map(|(path, text)| (path.as_str(), text.as_str())).collect::<Vec<_>>());
    for moment in story.story {
        let at = START + span(&moment.at);
        world.run(at.since(world.now));
        tell(&mut world, moment, &mut files);
    }
    let end = START + span(&story.run);
    world.run(end.since(world.now));
    world.told() + "\n"
}

fn tell(world: &mut World, moment: Moment, files: &mut BTreeMap<String, String>) {
    for (deployment, gauges) in moment.gauge {
        gauges.iter().for_each(|(metric, value)| world.gauge(&deployment, metric, *value));
    }
    for (deployment, metric) in moment.no_gauge {
        world.no_gauge(&deployment, &metric);
    }
    for (deployment, checks) in moment.check {
        checks.iter().for_each(|(check, status)| world.check(&deployment, check, *status));
    }
    for (deployment, facts) in moment.fact {
        facts.into_iter().for_each(|(name, value)| world.fact(&deployment, &name, value));
    }
    for (deployment, verbs) in moment.on {
        for (verb, told) in verbs {
            told.into_iter().for_each(|told| world.on(&deployment, &verb, told.behaviour()));
        }
    }
    for (receiver, results) in moment.receiver {
        world.receiver(&receiver, results.iter().map(|word| delivery(word)));
    }
    if let Some(gap) = moment.gap {
        world.gap(span(&gap));
    }
    match moment.operator {
        Some(OperatorWord::Pause) => world.pause(),
        Some(OperatorWord::Resume) => world.resume(),
        None => {}
    }
    for (deployment, signal) in moment.signal {
        world.signal(&deployment, &signal);
    }
    if !moment.save.is_empty() {
        files.extend(moment.save);
        world.policy(&files.iter().map(|(path, text)| (path.as_str(), text.as_str())).collect::<Vec<_>>());
    }
}

fn scenarios() -> Vec<PathBuf> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scenarios");
    let mut found: Vec<_> =
        fs::read_dir(dir).expect("the scenarios").map(|entry| entry.expect("an entry").path()).collect();
    found.sort();
    found
}

#[test]
fn scenarios_go_as_written() {
    let bless = std::env::var_os("SELFHEAL_BLESS").is_some();
    let mut wrong = Vec::new();
    for dir in scenarios() {
        let told = play(&dir);
        let file = dir.join("transcript.txt");
        if bless {
            fs::write(&file, &told).expect("the transcript can be written");
            continue;
        }
        let expected = fs::read_to_string(&file).unwrap_or_default();
        if told != expected {
            let differs = told.lines().zip(expected.lines()).position(|(new, old)| new != old);
            let line = differs.map_or("the end".to_owned(), |line| format!("line {}", line + 1));
            wrong.push(format!("{} differs at {line}; it went\n{told}", dir.display()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn scenarios_go_the_same_way_twice() {
    for dir in scenarios() {
        assert_eq!(play(&dir), play(&dir), "{}", dir.display());
    }
}
