//! Real programs: small shells in a folder of their own.

use std::path::PathBuf;
use std::sync::Arc;

use rustix::process::{Pid, test_kill_process};
use serde_json::json;
use tempfile::TempDir;

use super::*;
use crate::{Adapters, AdaptersConfig, Catalog};
use selfheal_contract::{Attempt, DesiredDeployment, StepEnd};
use selfheal_model::{
    AdapterCatalog, AdapterName, Allow, AuthDef, AuthFetch, AuthFormat, AuthThen, EventKind, HealthyWhen, Labels,
    ResolveSecret, Secret, SecretSource, StepAttemptId, Timestamp, Verb,
};

/// How long anything may take before a test fails.
const PATIENCE: Duration = Duration::from_secs(15);

/// Answers every verb the same way; the request lies in the file `request`.
const DESCRIBE: &str = r#"read -r request
case "$request" in
  *'"verb":"describe"'*) echo '{"verbs":[
    {"verb":"restart","effect":"disrupt","idempotent":true,
     "params":[{"name":"grace","type":"duration"},{"name":"token","type":"secret"}]},
    {"verb":"logs","effect":"read"}]}'; exit ;;
esac
echo "$request" > request
"#;

struct Secrets;
impl ResolveSecret for Secrets {
    fn resolve(&self, secret: &Secret) -> Result<String, SecretError> {
        match secret.source() {
            SecretSource::Literal(text) => Ok(text.clone()),
            SecretSource::Env(name) if name == "TOKEN" => Ok("hunter2-hunter2".to_owned()),
            SecretSource::Env(name) => Err(SecretError::EnvMissing(name.clone())),
            SecretSource::File(path) => Err(SecretError::File { path: path.clone(), reason: "none".to_owned() }),
        }
    }
}

/// A policy folder with one program and one deployment.
struct World {
    folder: TempDir,
    adapters: Adapters,
    deployment: Deployment,
    options: Value,
    verbs: Vec<selfheal_model::VerbSpec>,
}

impl World {
    /// One whose program answers calls by `script`.
    fn new(script: &str) -> World {
        World::with(script, json!({}))
    }

    /// … with more in its entry.
    fn with(script: &str, more: Value) -> World {
        // another test may have installed it
        let _ = rustls::crypto::ring::default_provider().install_default();
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("ours.sh"), format!("{DESCRIBE}{script}\n")).unwrap();
        let mut options = json!({ "command": ["/bin/sh", "ours.sh"] });
        options.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let catalog = Catalog::new(folder.path().to_owned());
        let spec = catalog.describe("exec", options.as_object().unwrap()).unwrap_or_else(|why| panic!("{why}"));
        let adapters = Adapters::new(AdaptersConfig {
            policy_dir: folder.path().to_owned(),
            data_dir: folder.path().join("data"),
            secrets: Arc::new(Secrets),
            http: reqwest::Client::new(),
            clock: Arc::new(|| Timestamp::from_millis(1_795_000_000_000)),
        });
        World { folder, adapters, deployment: deployment(), options, verbs: spec.verbs }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap_or_default()
    }

    fn def(&self) -> Arc<AdapterDef> {
        Arc::new(AdapterDef {
            name: AdapterName::new("ours"),
            kind: "exec".to_owned(),
            options: self.options.as_object().unwrap().clone(),
            verbs: self.verbs.clone(),
            allow: Allow::default(),
        })
    }

    fn step(&self, verb: &str, params: Value) -> StepCall {
        StepCall {
            id: StepAttemptId::new("checkout-1/restart/1"),
            attempt: Attempt { number: 1, of: 1 },
            deployment: Arc::new(self.deployment.clone()),
            adapter: self.def(),
            verb: Verb::new(verb),
            params: params.as_object().unwrap().clone(),
            facts: Facts([("replicas".into(), json!(2))].into()),
            sick_replicas: Vec::new(),
            fence: 7,
            timeout: PATIENCE,
            not_after: Timestamp::MAX,
        }
    }

    async fn restart(&self) -> StepEnd {
        self.adapters.call(self.step("restart", json!({}))).await
    }

    async fn observe(&self) -> Result<Observation, String> {
        let deployment = Arc::new(self.deployment.clone());
        let desired = DesiredDeployment { deployment, adapter: Some(self.def()), replicas: Vec::new() };
        self.adapters.observe(&desired).await
    }
}

fn deployment() -> Deployment {
    Deployment {
        id: "checkout".into(),
        adapter: Some(AdapterName::new("ours")),
        labels: Labels::default(),
        depends_on: Vec::new(),
        target: json!({"app": "shop"}).as_object().unwrap().clone(),
        checks: Vec::new(),
        healthy_when: HealthyWhen::All,
        auth: None,
        settings: Map::new(),
        source: None,
    }
}

/// The class and reason of a failure.
fn failure(end: &StepEnd) -> (FailureClass, &str) {
    match &end.outcome {
        Outcome::Failed { class, why } => (*class, why),
        other => panic!("{other:?}\n{}", end.log),
    }
}

async fn until(what: &str, holds: impl Fn() -> bool) {
    let look = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    assert!(tokio::time::timeout(PATIENCE, look).await.is_ok(), "{what} did not come");
}

fn is_alive(pid: &str) -> bool {
    let pid = pid.trim().parse().ok().and_then(Pid::from_raw);
    // a zombie still has its number, so its state is asked too
    pid.is_some_and(|pid| test_kill_process(pid).is_ok())
        && pid
            .and_then(|pid| procfs::process::Process::new(pid.as_raw_nonzero().get()).ok())
            .and_then(|process| process.stat().ok())
            .is_some_and(|stat| stat.state != 'Z')
}

#[tokio::test]
async fn a_call_is_one_document_in_and_one_out() {
    let world = World::new(
        r#"echo "first line" >&2; echo "second line" >&2
        echo '{"outcome":"done","message":"rolled","output":{"pods":2},"facts":{"version":"v2","gone":null},
               "events":[{"type":"signal","name":"rolled"},{"type":"nonsense"}],"outptu":1}'"#,
    );
    let end = world.adapters.call(world.step("restart", json!({"grace": "5s; touch pwned"}))).await;
    let request: Value = serde_json::from_str(&world.read("request")).unwrap();
    assert_eq!(
        request,
        json!({
            "verb": "restart", "deployment": "checkout", "target": {"app": "shop"},
            "params": {"grace": "5s; touch pwned"}, "facts": {"replicas": 2},
            "idempotency_key": "checkout-1/restart/1@7", "fence": 7, "deadline_ms": 15_000
        })
    );
    assert!(!world.path("pwned").exists());
    let Outcome::Done { output, facts, events } = &end.outcome else { panic!("{:?}", end.outcome) };
    assert_eq!(output, &json!({"pods": 2}));
    assert_eq!(facts.0.iter().collect::<Vec<_>>(), [(&"version".into(), &json!("v2"))]);
    assert_eq!(events.len(), 1);
    assert_eq!(
        (&events[0].deployment, events[0].time),
        (&world.deployment.id, Timestamp::from_millis(1_795_000_000_000))
    );
    assert!(matches!(&events[0].kind, EventKind::Signal { name, .. } if name.as_str() == "rolled"));
    let log: Vec<&str> = end.log.lines().collect();
    assert_eq!(log[..2], ["first line", "second line"]);
    for odd in ["`outptu` means nothing", "event 1 was not taken", "rolled"] {
        assert!(end.log.contains(odd), "{}", end.log);
    }
}

#[tokio::test]
async fn safety_no_shell_text() {
    let world = World::new(r#"echo '{"outcome":"done"}'"#);
    let texts = json!({ "reason": "$(touch pwned); `touch pwned`; ' && touch pwned #" });
    let end = world.adapters.call(world.step("restart", texts.clone())).await;
    assert!(matches!(end.outcome, Outcome::Done { .. }), "{:?}", end.outcome);
    let request: Value = serde_json::from_str(&world.read("request")).unwrap();
    assert_eq!(request["params"], texts, "it arrives as it was written");
    assert!(!world.path("pwned").exists(), "and nothing ever ran it");
}

#[tokio::test]
async fn what_the_engine_does_not_take_of_a_long_log_and_answer_is_kept_beside() {
    let world = World::new(
        "for n in $(seq 1 2000); do echo \"line $n of the log\" >&2; done; printf '{\"outcome\":\"done\",\"output\":\"%s\"}' \"$(head -c 9000 /dev/zero | tr '\\0' o)\"",
    );
    let called = world.adapters.call_in_full(world.step("restart", json!({}))).await;
    let Outcome::Done { output, .. } = &called.end.outcome else { panic!("{:?}", called.end.outcome) };
    assert_eq!(output.as_str().map(str::len), Some(Outcome::MAX_OUTPUT));
    assert_eq!(called.long_output.as_ref().and_then(serde_json::Value::as_str).map(str::len), Some(9_000));
    assert!(called.end.log.len() <= Outcome::MAX_OUTPUT && called.end.log.contains("line 2000 of the log"));
    let long = called.long_log.unwrap_or_default();
    assert!(long.contains("line 1 of the log") && long.contains("line 2000 of the log"), "{} bytes", long.len());
}

#[tokio::test]
async fn a_message_alone_is_the_output() {
    let world = World::new(r#"echo '{"outcome":"done","message":"restarted"}'; exit 3"#);
    assert_eq!(world.restart().await.outcome, Outcome::done("restarted"), "the document counts, not the exit code");
}

#[tokio::test]
async fn every_way_to_fail_is_told_apart() {
    use FailureClass::{Conflict, Permanent, Transient, Unauthorized, Unsupported};
    for (script, class, said) in [
        (r#"echo '{"outcome":"failed","class":"transient","message":"busy"}'"#, Transient, "busy"),
        (r#"echo '{"outcome":"failed","class":"unauthorized","message":"who"}'"#, Unauthorized, "who"),
        (r#"echo '{"outcome":"failed","class":"conflict","message":"so"}'"#, Conflict, "so"),
        (r#"echo '{"outcome":"failed","class":"unsupported","message":"no"}'"#, Unsupported, "no"),
        (r#"echo '{"outcome":"failed"}'"#, Permanent, "no more"),
        (r#"echo '{"outcome":"failed","class":"odd","message":"x"}'"#, Permanent, "x"),
        (r#"echo '{"outcome":"well"}'"#, Permanent, "done, failed or unknown"),
        (r#"echo '{"message":"hm"}'"#, Permanent, "`outcome` is missing"),
        ("echo one >&2; echo the reason >&2; exit 4", Permanent, "exit code 4: the reason"),
        ("exit 0", Permanent, "without an answer"),
        (r#"echo "restarting …"; echo '{"outcome":"done"}'"#, Permanent, "restarting …"),
        ("echo '[1]'", Permanent, "no JSON object"),
        ("head -c 3000000 /dev/zero", Permanent, "3000000 bytes"),
    ] {
        let world = World::new(script);
        let end = world.restart().await;
        let (got, why) = failure(&end);
        assert_eq!(got, class, "{script}: {why}");
        assert!(why.contains(said), "{script}: {why}");
    }
}

#[tokio::test]
async fn nobody_knows_is_an_answer_of_its_own() {
    for (script, said) in
        [(r#"echo '{"outcome":"unknown","message":"lost it"}'"#, "lost it"), ("kill -KILL $$", "killed by signal 9")]
    {
        let end = World::new(script).restart().await;
        assert!(matches!(&end.outcome, Outcome::Unknown { why } if why.contains(said)), "{:?}", end.outcome);
    }
}

#[tokio::test]
async fn a_program_that_cannot_be_run_was_not_begun() {
    let mut world = World::new("");
    world.options = json!({ "command": ["./nowhere"] });
    let end = world.restart().await;
    let (class, why) = failure(&end);
    assert_eq!(class, FailureClass::Permanent);
    assert!(why.contains("cannot run `./nowhere`"), "{why}");
}

#[tokio::test]
async fn out_of_time_is_unknown_and_kills_what_the_program_started() {
    let world = World::with("echo waiting >&2; sleep 600 & echo $! > child; wait", json!({ "timeout": "1s" }));
    let end = world.restart().await;
    assert!(matches!(&end.outcome, Outcome::Unknown { why } if why.contains("in time") && why.contains("waiting")));
    assert_eq!(end.log, "waiting\n");
    assert!(end.took < PATIENCE);
    let child = world.read("child");
    assert!(!child.trim().is_empty());
    until("the end of the child", || !is_alive(&child)).await;
    let request: Value = serde_json::from_str(&world.read("request")).unwrap();
    assert_eq!(request["deadline_ms"], 1_000);
}

#[tokio::test]
async fn a_call_that_is_dropped_kills_what_the_program_started() {
    let world = World::new("sleep 600 & echo $! > child.new; mv child.new child; wait");
    let call = world.adapters.call(world.step("restart", json!({})));
    tokio::select! {
        end = call => panic!("it ended: {:?}", end.outcome),
        () = until("the child", || world.path("child").exists()) => {}
    }
    let child = world.read("child");
    until("the end of the child", || !is_alive(&child)).await;
}

#[tokio::test]
async fn what_a_program_leaves_running_does_not_hold_its_answer_back() {
    let world = World::new(r#"sleep 600 & echo $! > child; echo '{"outcome":"done","output":1}'"#);
    let end = world.restart().await;
    assert_eq!(end.outcome, Outcome::done(1));
    let child = world.read("child");
    assert!(is_alive(&child), "a service that the program started lives on");
    let pid = child.trim().parse().ok().and_then(Pid::from_raw).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
}

#[tokio::test]
async fn secrets_reach_the_program_and_nothing_else() {
    let mut world = World::with(
        r#"echo "using $KEY" >&2
        case "$request" in *hunter2-hunter2*hunter2-hunter2*) seen=both ;; esac
        echo "{\"outcome\":\"done\",\"output\":\"$seen $MODE $KEY\"}""#,
        json!({ "env": { "KEY": "${TOKEN}", "MODE": "plain" } }),
    );
    world.deployment.target.insert("key".to_owned(), json!("${TOKEN}"));
    let end = world.adapters.call(world.step("restart", json!({"token": "${TOKEN}", "grace": "${TOKEN}"}))).await;
    assert_eq!(end.outcome, Outcome::done("both plain ***"));
    assert_eq!(end.log, "using ***\n");
    let request: Value = serde_json::from_str(&world.read("request")).unwrap();
    assert_eq!(request["params"]["grace"], "${TOKEN}", "only a declared secret is filled in");

    world.deployment.target.insert("key".to_owned(), json!("${NOT_THERE}"));
    let end = world.restart().await;
    assert!(failure(&end).1.contains("NOT_THERE"));
}

#[test]
fn a_variable_that_refers_to_a_secret_stays_as_written() {
    let world = World::with("", json!({ "env": { "KEY": "${TOKEN}", "MODE": "plain" } }));
    let options = fields(world.options.as_object().unwrap());
    let env = options.iter().find(|field| field.name == "env").unwrap();
    let FieldKind::Object(env) = &env.kind else { panic!("{:?}", env.kind) };
    assert_eq!(env.iter().map(|field| &field.kind).collect::<Vec<_>>(), [&FieldKind::Secret, &FieldKind::Text]);
}

#[tokio::test]
async fn an_observation_has_facts_replicas_and_samples() {
    let world = World::new(
        r#"echo '{"outcome":"done","facts":{"replicas":2,"version":"v1"},
        "replicas":[{"port":8080,"pid":12},{"index":1,"up":false,"incarnation":3}],
        "metrics":[{"name":"queue","value":4,"labels":{"shard":"a"}},{"name":"bad"}],
        "events":[{"type":"metric","name":"cpu_percent","value":12.5}]}'"#,
    );
    let seen = world.observe().await.unwrap();
    assert_eq!(seen.facts.get("version"), Some(&json!("v1")));
    let replicas: Vec<_> = seen.replicas.iter().map(|one| (one.index, one.port, one.up, one.incarnation)).collect();
    assert_eq!(replicas, [(0, Some(8080), true, 0), (1, None, false, 3)]);
    let metrics: Vec<_> =
        seen.metrics.iter().map(|(name, value, labels)| (name.as_str(), *value, labels.len())).collect();
    assert_eq!(metrics, [("queue", 4.0, 1), ("cpu_percent", 12.5, 0)]);
    let request: Value = serde_json::from_str(&world.read("request")).unwrap();
    assert_eq!((&request["verb"], &request["fence"]), (&json!("observe"), &Value::Null));
}

#[tokio::test]
async fn a_program_that_does_not_observe_shows_nothing_and_one_that_fails_says_why() {
    let world = World::new(r#"echo '{"outcome":"failed","class":"unsupported"}'"#);
    assert_eq!(world.observe().await, Ok(Observation::default()));
    let world = World::new("echo no such app >&2; exit 1");
    assert!(world.observe().await.is_err_and(|why| why.contains("no such app")));
}

#[tokio::test]
async fn a_credential_is_fetched_whatever_the_program() {
    let mut world = World::new(
        r#"case "$request" in
        *'"verb":"refresh_auth"'*) echo '{"outcome":"failed","class":"unsupported"}' ;;
        *) echo '{"outcome":"done","output":"restarted"}' ;;
        esac"#,
    );
    let end = world.adapters.call(world.step(auth::REFRESH_AUTH, json!({}))).await;
    assert_eq!(failure(&end).0, FailureClass::Unsupported, "without `auth` it is the program's to answer: {end:?}");
    let auth = |then| AuthDef {
        fetch: AuthFetch::Command { command: ["sh", "-c", "echo a-new-token"].map(str::to_owned).to_vec() },
        deliver_to: "token".into(),
        format: AuthFormat::Token,
        then,
    };
    world.deployment.auth = Some(auth(AuthThen::Restart));
    let end = world.adapters.call(world.step(auth::REFRESH_AUTH, json!({}))).await;
    assert_eq!(end.outcome, Outcome::done("restarted"));
    assert_eq!(world.read("token"), "a-new-token");
    world.deployment.auth = Some(auth(AuthThen::Reload));
    let end = world.adapters.call(world.step(auth::REFRESH_AUTH, json!({}))).await;
    assert_eq!(failure(&end).0, FailureClass::Unsupported, "the program has no `reload`");
}

#[test]
fn a_description_is_asked_once_until_the_program_changes() {
    let folder = tempfile::tempdir().unwrap();
    let script = |verb: &str| {
        let text = format!("echo x >> asked; echo '{{\"verbs\":[{{\"verb\":\"{verb}\"}}]}}'\n");
        std::fs::write(folder.path().join("ours.sh"), text).unwrap();
    };
    let asked = || std::fs::read_to_string(folder.path().join("asked")).unwrap_or_default().lines().count();
    let catalog = Catalog::new(folder.path().to_owned());
    let options = json!({ "command": ["/bin/sh", "ours.sh"] });
    let first_verb = || catalog.describe("exec", options.as_object().unwrap()).unwrap().verbs[0].verb.clone();
    script("one");
    assert_eq!((first_verb().as_str(), first_verb().as_str(), asked()), ("one", "one", 1));
    script("another");
    assert_eq!((first_verb().as_str(), asked()), ("another", 2));
}

#[tokio::test]
async fn a_program_that_does_not_describe_itself_is_an_error_with_its_reason() {
    let folder = tempfile::tempdir().unwrap();
    for (options, said) in [
        (json!({}), "`command`"),
        (json!({ "command": [] }), "`command`"),
        (json!({ "command": ["./nowhere"] }), "cannot run `./nowhere`"),
        (json!({ "command": ["/bin/sh", "-c", "echo no database >&2; exit 1"] }), "no database"),
        (json!({ "command": ["/bin/sh", "-c", "echo '{\"outcome\":\"done\"}'"] }), "`verbs` is missing"),
    ] {
        let catalog = Catalog::new(folder.path().to_owned());
        let why = catalog.describe("exec", options.as_object().unwrap()).unwrap_err();
        assert!(why.contains(said), "{options}: {why}");
    }
}

/// The example is what people copy, so it runs here: every verb, a fence that is over, a key that comes twice.
#[tokio::test]
async fn the_python_example_works() {
    if std::process::Command::new("python3").arg("--version").output().is_err() {
        assert!(std::env::var_os("CI").is_none(), "python3 is missing, and CI has to have it");
        eprintln!("SKIPPED: python3 is not installed, the Python example was not run");
        return;
    }
    let example = concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/adapters/python/ours.py");
    let mut world = World::new("");
    world.options = json!({ "command": ["python3", example] });
    let catalog = Catalog::new(world.folder.path().to_owned());
    let spec = catalog.describe("exec", world.options.as_object().unwrap()).unwrap_or_else(|why| panic!("{why}"));
    let names: Vec<&str> = spec.verbs.iter().map(|verb| verb.verb.as_str()).collect();
    assert_eq!(names, ["restart", "scale", "rollback", "logs", auth::REFRESH_AUTH]);
    assert_eq!(spec.target.unwrap()[0].name, "app");
    world.verbs = spec.verbs;

    let broken = |how: &str| {
        let run = std::process::Command::new("python3")
            .args([example, "--break", how, "shop"])
            .current_dir(world.folder.path())
            .status();
        assert!(run.unwrap().success());
    };
    let call = |verb: &str, key: &str, fence: u64, params: Value| {
        let step = StepCall { id: StepAttemptId::new(key), fence, ..world.step(verb, params) };
        world.adapters.call(step)
    };
    let ready = || async { world.observe().await.unwrap().facts.get("ready_replicas").cloned() };
    assert_eq!(ready().await, Some(json!(2)));
    broken("crash");
    assert_eq!(ready().await, Some(json!(0)));
    let end = call("restart", "a", 1, json!({})).await;
    assert!(matches!(&end.outcome, Outcome::Done { output, facts, .. }
        if output["restarted"] == 2 && facts.get("ready_replicas") == Some(&json!(2))));
    assert!(end.log.contains("2 of 2 replicas of v1 are ready"), "{}", end.log);

    broken("release");
    let restarted = call("restart", "b", 2, json!({})).await;
    assert_eq!(restarted.outcome.word(), "done");
    assert_eq!(ready().await, Some(json!(0)), "a restart does not cure a bad release");
    assert_eq!(call("rollback", "c", 3, json!({})).await.outcome.word(), "done");
    let seen = world.observe().await.unwrap();
    assert_eq!((seen.facts.get("version"), seen.replicas.len()), (Some(&json!("v1")), 2));

    let scaled = call("scale", "d", 4, json!({"replicas": 4})).await;
    assert!(matches!(&scaled.outcome, Outcome::Done { output, .. } if output["replicas_before"] == 2));
    let again = call("scale", "d", 4, json!({"replicas": 4})).await;
    assert_eq!(again.outcome, scaled.outcome, "the same key has the same answer");
    assert_eq!(failure(&call("scale", "e", 5, json!({"replicas": 4})).await).0, FailureClass::Conflict);
    assert_eq!(failure(&call("restart", "f", 3, json!({})).await).0, FailureClass::Conflict, "an old fence");
    let logs = call("logs", "g", 0, json!({"lines": 1})).await;
    assert_eq!(logs.outcome, Outcome::done("4 of 4 replicas of v1 are ready\n"));
    assert_eq!(failure(&call(auth::REFRESH_AUTH, "h", 6, json!({})).await).0, FailureClass::Unsupported);
}
