//! What a program says of itself: asked when a policy is loaded, and again only when its command or its files changed.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use serde_json::json;

use super::Options;
use super::child::{Ended, Program};
use super::document::{self, Request};
use crate::auth;
use crate::params::Fields;
use selfheal_model::{AdapterSpec, Effectfulness, Facts, FieldKind, FieldSpec, Map, Outcome, Value, Verb, VerbSpec};

/// A saved policy is live in under a second, so describing is not the place for work; a slow interpreter may start.
const DESCRIBE_WITHIN: Duration = Duration::from_secs(5);

/// Verbs of one program.
const MAX_VERBS: usize = 64;

/// Descriptions remembered: the entries of a policy, and of the policies before it.
const MAX_KEPT: usize = 64;

/// Words that are the protocol's own and no verbs of a program.
const OWN_WORDS: [&str; 2] = ["describe", "observe"];

/// The types of fields as programs name them.
const KINDS: &str = "text, integer, number, boolean, duration, size, list, map, secret, any";

/// What programs said of themselves, by what was run.
#[derive(Debug, Default)]
pub struct Described(Mutex<BTreeMap<Asked, AdapterSpec>>);

/// The same question has the same answer.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Asked {
    command: Vec<String>,
    env: Vec<(String, String)>,
    /// Of every part of the command that is a file: when it last changed, and its size.
    files: Vec<Option<(SystemTime, u64)>>,
}

impl Described {
    /// What the program of these options says of itself. Blocks for as long as the program takes.
    ///
    /// # Errors
    /// The options are wrong, the program cannot be asked, or its answer cannot be read.
    pub fn spec(&self, options: &Map, policy_dir: &Path) -> Result<AdapterSpec, String> {
        let read = Options::read(options)?;
        let dir = if policy_dir.as_os_str().is_empty() { Path::new(".") } else { policy_dir };
        let dir = std::path::absolute(dir).unwrap_or_else(|_| dir.to_owned());
        // secrets are for calls; what an adapter can do does not depend on them
        let env: Vec<_> = read.env.into_iter().filter(|(_, value)| !value.contains("${")).collect();
        let program = Program { command: read.command, dir, env };
        let asked = Asked {
            command: program.command.clone(),
            env: program.env.clone(),
            files: program.command.iter().map(|part| stamp(&program.dir.join(part))).collect(),
        };
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&asked).cloned();
        let said = match known {
            Some(said) => said,
            None => {
                let said = parse(&ask(&program)?).map_err(|why| format!("{}: {why}", said_by(&program)))?;
                let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
                if kept.len() >= MAX_KEPT {
                    kept.clear();
                }
                kept.insert(asked, said.clone());
                said
            }
        };
        Ok(AdapterSpec { options: super::fields(options), ..said })
    }
}

fn stamp(path: &Path) -> Option<(SystemTime, u64)> {
    let metadata = std::fs::metadata(path).ok().filter(std::fs::Metadata::is_file)?;
    Some((metadata.modified().ok()?, metadata.len()))
}

fn said_by(program: &Program) -> String {
    format!("`{}` answered `describe` with something else than verbs", program.command.join(" "))
}

/// Asks on a thread of its own: the caller may or may not be inside a runtime.
fn ask(program: &Program) -> Result<Map, String> {
    let nothing = Map::new();
    let request = Request {
        verb: "describe",
        deployment: None,
        target: &nothing,
        params: &nothing,
        facts: &Facts::default(),
        idempotency_key: None,
        fence: None,
        deadline_ms: u64::try_from(DESCRIBE_WITHIN.as_millis()).unwrap_or(u64::MAX),
    }
    .bytes();
    let asking = program.clone();
    let thread = std::thread::spawn(move || -> std::io::Result<Ended> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        Ok(runtime.block_on(asking.run(&request, DESCRIBE_WITHIN, &|_| {})))
    });
    let ended = thread
        .join()
        .map_err(|_| format!("asking `{}` broke", program.name()))?
        .map_err(|error| format!("`{}` cannot be asked: {error}", program.name()))?;
    document::answer(program, &ended).map_err(|outcome| match outcome {
        Outcome::Failed { why, .. } | Outcome::Unknown { why } => {
            format!("the program was asked to describe itself: {why}")
        }
        Outcome::Done { .. } => "the program did not describe itself".to_owned(),
    })
}

/// Reads `{"verbs": […], "target": […]}`.
pub fn parse(document: &Map) -> Result<AdapterSpec, String> {
    let list = match document.get("verbs") {
        Some(Value::Array(list)) if list.len() <= MAX_VERBS => list,
        Some(Value::Array(list)) => return Err(format!("{} verbs; at most {MAX_VERBS} are taken", list.len())),
        Some(other) => return Err(format!("`verbs` is {other}; expected a list")),
        None => return Err(format!("`verbs` is missing in {}", json!(document))),
    };
    let mut verbs: Vec<VerbSpec> = Vec::with_capacity(list.len());
    for (index, entry) in list.iter().enumerate() {
        let spec = verb(entry).map_err(|why| format!("verbs[{index}]: {why}"))?;
        if verbs.iter().any(|known| known.verb == spec.verb) {
            return Err(format!("the verb `{}` is there twice", spec.verb));
        }
        verbs.push(spec);
    }
    let target = match document.get("target") {
        None | Some(Value::Null) => None,
        Some(list) => Some(fields("target", list)?),
    };
    Ok(AdapterSpec { options: Vec::new(), target, verbs: auth::with_refresh_auth(verbs) })
}

fn verb(entry: &Value) -> Result<VerbSpec, String> {
    const KEYS: [&str; 6] = ["verb", "about", "effect", "idempotent", "settle", "params"];
    let entry = match entry {
        Value::Object(entry) => entry,
        other => return Err(format!("{other} is no verb; expected {{\"verb\": …, \"effect\": …}}")),
    };
    if let Some(unknown) = entry.keys().find(|key| !KEYS.contains(&key.as_str())) {
        return Err(format!("`{unknown}` is no key of a verb; it has {}", KEYS.join(", ")));
    }
    let read = Fields(entry);
    let name = read.text("verb")?.ok_or_else(|| "`verb`, its name, is missing".to_owned())?;
    let well_named = |name: &str| {
        !name.is_empty() && name.chars().all(|letter| letter.is_ascii_alphanumeric() || "_-".contains(letter))
    };
    if !well_named(&name) {
        return Err(format!("{name:?} is no name of a verb; use letters, digits, _ and -"));
    }
    if OWN_WORDS.contains(&name.as_str()) {
        return Err(format!("`{name}` is the protocol's own word and not listed as a verb"));
    }
    Ok(VerbSpec {
        verb: Verb::new(&name),
        params: entry.get("params").filter(|list| !list.is_null()).map(|list| fields("params", list)).transpose()?,
        effect: effect(read.text("effect")?.as_deref())?,
        idempotent: read.boolean("idempotent")?.unwrap_or(false),
        settle: read.duration("settle")?,
    })
}

/// What a verb does. One that does not say is the worst it can be.
pub fn effect(word: Option<&str>) -> Result<Effectfulness, String> {
    match word {
        Some("read") => Ok(Effectfulness::Read),
        Some("change") => Ok(Effectfulness::Change),
        None | Some("disrupt") => Ok(Effectfulness::Disrupt),
        Some(other) => Err(format!("`effect: {other}` is none; it is read, change or disrupt")),
    }
}

/// A list of `{name, type, required, about}`.
pub fn fields(what: &str, list: &Value) -> Result<Vec<FieldSpec>, String> {
    const KEYS: [&str; 4] = ["name", "type", "required", "about"];
    let Value::Array(list) = list else { return Err(format!("`{what}` is {list}; expected a list of fields")) };
    let mut specs: Vec<FieldSpec> = Vec::with_capacity(list.len());
    for (index, entry) in list.iter().enumerate() {
        let place = |why: String| format!("{what}[{index}]: {why}");
        let Value::Object(entry) = entry else { return Err(place(format!("{entry} is no field"))) };
        if let Some(unknown) = entry.keys().find(|key| !KEYS.contains(&key.as_str())) {
            return Err(place(format!("`{unknown}` is no key of a field; it has {}", KEYS.join(", "))));
        }
        let read = Fields(entry);
        let name = read.text("name").map_err(place)?.ok_or_else(|| place("`name` is missing".to_owned()))?;
        if specs.iter().any(|known| known.name == name) {
            return Err(place(format!("`{name}` is there twice")));
        }
        let kind = kind(read.text("type").map_err(place)?.as_deref()).map_err(place)?;
        let required = read.boolean("required").map_err(place)?.unwrap_or(false);
        specs.push(FieldSpec { name, kind, required, about: read.text("about").map_err(place)?.unwrap_or_default() });
    }
    Ok(specs)
}

fn kind(word: Option<&str>) -> Result<FieldKind, String> {
    Ok(match word {
        None | Some("any") => FieldKind::Any,
        Some("text" | "string") => FieldKind::Text,
        Some("integer") => FieldKind::Integer,
        Some("number") => FieldKind::Number,
        Some("boolean") => FieldKind::Boolean,
        Some("duration") => FieldKind::Duration,
        Some("size") => FieldKind::Size,
        Some("list") => FieldKind::TextList,
        Some("map") => FieldKind::TextMap,
        Some("secret") => FieldKind::Secret,
        Some(other) => {
            let near = KINDS.split(", ").find(|known| strsim::damerau_levenshtein(known, other) <= 2);
            let hint = near.map_or(String::new(), |near| format!("; did you mean `{near}`?"));
            return Err(format!("`{other}` is no type of a field; there are {KINDS}{hint}"));
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(document: Value) -> Result<AdapterSpec, String> {
        parse(document.as_object().unwrap())
    }

    #[test]
    fn a_description_is_read_and_what_it_leaves_out_is_the_worst() {
        let spec = read(json!({
            "verbs": [
                {"verb": "restart"},
                {"verb": "scale", "effect": "change", "idempotent": true, "settle": "90s", "params": [
                    {"name": "replicas", "type": "integer", "required": true, "about": "to so many"},
                    {"name": "note"}
                ]}
            ],
            "target": [{"name": "app", "type": "text", "required": true}]
        }))
        .unwrap();
        let (restart, scale) = (&spec.verbs[0], &spec.verbs[1]);
        assert_eq!((restart.effect, restart.idempotent, &restart.params), (Effectfulness::Disrupt, false, &None));
        assert_eq!((scale.effect, scale.idempotent), (Effectfulness::Change, true));
        assert_eq!(scale.settle, Some(Duration::from_secs(90)));
        let params = scale.params.as_ref().unwrap();
        assert_eq!(params[0], FieldSpec::required("replicas", FieldKind::Integer, "to so many"));
        assert_eq!(params[1], FieldSpec::optional("note", FieldKind::Any, ""));
        assert_eq!(spec.target.unwrap()[0].name, "app");
        assert_eq!(spec.verbs[2].verb.as_str(), auth::REFRESH_AUTH);
    }

    #[test]
    fn a_wrong_description_names_its_place() {
        for (document, said) in [
            (json!({"verb": "restart"}), "`verbs` is missing"),
            (json!({"verbs": "restart"}), "expected a list"),
            (json!({"verbs": [{"effect": "read"}]}), "verbs[0]: `verb`"),
            (json!({"verbs": [{"verb": "a"}, {"verb": "a"}]}), "twice"),
            (json!({"verbs": [{"verb": "a b"}]}), "no name"),
            (json!({"verbs": [{"verb": "observe"}]}), "protocol"),
            (json!({"verbs": [{"verb": "a", "efect": "read"}]}), "`efect` is no key"),
            (json!({"verbs": [{"verb": "a", "effect": "harm"}]}), "read, change or disrupt"),
            (json!({"verbs": [{"verb": "a", "params": [{"name": "p", "type": "intger"}]}]}), "did you mean `integer`"),
            (json!({"verbs": [{"verb": "a", "params": [{"name": "p"}, {"name": "p"}]}]}), "params[1]"),
            (json!({"verbs": [], "target": {}}), "`target`"),
        ] {
            let why = read(document.clone()).unwrap_err();
            assert!(why.contains(said), "{document}: {why}");
        }
    }
}
