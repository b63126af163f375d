//! `playbooks/**/*.yaml`: one or several playbooks, separated by `---`.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::deployments::cycles;
use super::guards::MODES;
use super::inputs;
use super::keys::Keys;
use super::names::{PlaybookNames, Surroundings};
use super::reader::Reader;
use super::scripts::Scripts;
use super::steps::{self, Call, Part, Steps};
use super::yaml::{Node, Span};
use crate::playbook::{InputKind, InputSpec, OnFailure, Playbook, Step, StepKind, Verify};
use crate::schema;
use selfheal_model::{Map, PlaybookName, fingerprint};
use selfheal_script::Names;

/// A playbook of a file, opened.
struct PlaybookNode<'n> {
    name: String,
    document: &'n Node,
    keys: Keys<'n>,
    inputs: Vec<InputSpec>,
    span: Span,
    enabled: bool,
}

/// A playbook that could be understood.
pub(crate) struct ReadPlaybook {
    pub playbook: Arc<Playbook>,
    /// The verbs it and the playbooks it runs ask of the deployment it is on; those of `best_effort` steps may be
    /// missing there.
    pub verbs: Vec<String>,
    /// The playbooks it runs.
    calls: Vec<Call>,
    /// Those of them it cannot do without.
    needs: Vec<String>,
    /// A step of it waits for a person.
    approves: bool,
    /// Rules its conditions count with `firing`, with the place.
    pub firing: Vec<(String, Span)>,
}

#[derive(Default)]
pub(crate) struct PlaybookFiles<'n> {
    nodes: Vec<PlaybookNode<'n>>,
    pub names: PlaybookNames,
}

impl<'n> PlaybookFiles<'n> {
    /// Opens the playbooks of all files: their names and inputs are known, and nothing else was read yet.
    pub fn open(reader: &'n Reader<'n>, documents: &'n [Node]) -> PlaybookFiles<'n> {
        let mut files = PlaybookFiles::default();
        documents.iter().for_each(|document| files.add(reader, document));
        files
    }

    fn add(&mut self, reader: &'n Reader<'n>, document: &'n Node) {
        let Some(keys) = Keys::of(reader, &schema::PLAYBOOK, document) else { return };
        let Some(name) = keys.name("playbook") else { return };
        let span = keys.section("playbook").map_or(document.span, |node| node.span);
        let enabled = keys.boolean("enabled");
        if !enabled {
            self.names.declared.disabled.push(name.clone());
        } else if !self.names.declared.enabled.add(reader, "playbook", &name, span) {
            return;
        }
        let inputs = own_inputs(reader, &keys);
        if enabled {
            self.names.inputs.insert(name.clone(), inputs.whole.then(|| inputs.inputs.clone()));
        }
        self.nodes.push(PlaybookNode { name, document, keys, inputs: inputs.inputs, span, enabled });
    }

    /// Compiles every playbook; a disabled one only for its mistakes.
    pub fn compile(
        &self,
        scripts: &Scripts<'_>,
        settings: &Map,
        around: &Surroundings<'_>,
    ) -> BTreeMap<String, ReadPlaybook> {
        let reader = scripts.reader;
        let mut read = BTreeMap::new();
        for written in &self.nodes {
            let playbook = compile(scripts, written, settings, around, &self.names);
            if let Some(playbook) = playbook.filter(|_| written.enabled) {
                read.insert(written.name.clone(), playbook);
            }
        }
        check_calls(reader, &read);
        let whole: Vec<Vec<String>> = read.keys().map(|name| all_verbs(&read, name)).collect();
        read.values_mut().zip(whole).for_each(|(playbook, verbs)| playbook.verbs = verbs);
        read
    }
}

/// The inputs of one playbook.
struct OwnInputs {
    inputs: Vec<InputSpec>,
    /// None of them has a mistake.
    whole: bool,
}

fn own_inputs(reader: &Reader<'_>, keys: &Keys<'_>) -> OwnInputs {
    let Some(node) = keys.section("inputs") else {
        return OwnInputs { inputs: Vec::new(), whole: true };
    };
    let inputs = inputs::read(reader, node);
    OwnInputs { whole: node.entries().map(<[_]>::len) == Some(inputs.len()), inputs }
}

/// No playbook runs itself, and none that waits for a person runs beside other steps.
fn check_calls(reader: &Reader<'_>, read: &BTreeMap<String, ReadPlaybook>) {
    let edges: BTreeMap<&str, Vec<(&str, Span)>> = read
        .iter()
        .map(|(name, playbook)| {
            (name.as_str(), playbook.calls.iter().map(|call| (call.name.as_str(), call.span)).collect())
        })
        .collect();
    for (path, span) in cycles(&edges) {
        let message = format!("these playbooks run each other in a circle: {}", path.join(" → "));
        reader.error(span, "cycle", message);
    }
    for call in read.values().flat_map(|playbook| &playbook.calls).filter(|call| call.beside_others) {
        let asks = reached(read, &call.name, |playbook| playbook.calls.iter().map(|call| call.name.as_str()).collect());
        if let Some(asks) = asks.into_iter().find(|name| read.get(*name).is_some_and(|playbook| playbook.approves)) {
            let by = if asks == call.name { String::new() } else { format!(" by way of `{asks}`") };
            let message = format!("`{}` waits for a person{by}: {}", call.name, steps::APPROVE_ALONE);
            reader.error(call.span, "conflict", message);
        }
    }
}

/// A playbook and all that are reached from it, each once.
fn reached<'p>(
    read: &'p BTreeMap<String, ReadPlaybook>,
    from: &'p str,
    next: impl Fn(&'p ReadPlaybook) -> Vec<&'p str>,
) -> Vec<&'p str> {
    let mut found = vec![from];
    let mut at = 0;
    while let Some(name) = found.get(at) {
        for other in read.get(*name).map(&next).unwrap_or_default() {
            if !found.contains(&other) {
                found.push(other);
            }
        }
        at += 1;
    }
    found
}

fn all_verbs(read: &BTreeMap<String, ReadPlaybook>, name: &str) -> Vec<String> {
    let mut verbs: Vec<String> = Vec::new();
    for name in reached(read, name, |playbook| playbook.needs.iter().map(String::as_str).collect()) {
        for verb in read.get(name).map(|playbook| playbook.verbs.as_slice()).unwrap_or_default() {
            if !verbs.contains(verb) {
                verbs.push(verb.clone());
            }
        }
    }
    verbs
}

fn compile(
    scripts: &Scripts<'_>,
    written: &PlaybookNode<'_>,
    settings: &Map,
    around: &Surroundings<'_>,
    playbooks: &PlaybookNames,
) -> Option<ReadPlaybook> {
    let reader = scripts.reader;
    let (keys, inputs) = (&written.keys, &written.inputs);
    let description = keys.text("description").unwrap_or_default();
    let mode = keys.word("mode", &MODES).unwrap_or_default();
    let input_names: Vec<String> = inputs.iter().map(|input| input.name.clone()).collect();
    let secrets = inputs.iter().filter(|input| input.kind == InputKind::Secret);
    let secret_inputs: Vec<String> = secrets.map(|input| input.name.clone()).collect();
    let names = Names {
        settings: Some(settings),
        inputs: Some(&input_names),
        secret_inputs: &secret_inputs,
        has_value: true,
        ..Names::default()
    };
    let mut steps = Steps::new(scripts, &names, around, playbooks);
    let main = keys.get("steps").map(|node| steps.read(node, Part::Main)).unwrap_or_default();
    if main.is_empty()
        && let Some(node) = keys.section("steps")
        && !steps.broken
    {
        reader.error(node.span, "empty-value", "a playbook has at least one step");
    }
    let rescue = keys.section("rescue").map(|node| steps.read(node, Part::Rescue)).unwrap_or_default();
    let finally = keys.section("finally").map(|node| steps.read(node, Part::Finally)).unwrap_or_default();
    let words = [("stop", OnFailure::Stop), ("undo", OnFailure::Undo)];
    let on_failure = keys.word("on_failure", &words).unwrap_or_default();
    if on_failure == OnFailure::Undo
        && let Some(node) = keys.section("on_failure")
        && !main.iter().any(Step::can_be_undone)
        && !steps.broken
    {
        reader.error(node.span, "conflict", "`on_failure: undo`, but no step has an `undo`");
    }
    let verify = match keys.section("verify") {
        Some(node) => steps.verify(node),
        None => Some(Verify {
            until: None,
            hold: schema::VERIFY.default_duration("hold"),
            within: schema::VERIFY.default_duration("within"),
        }),
    };
    let (broken, firing, calls) = (steps.broken, steps.firing, steps.calls);
    let (verbs, needs) = steps::asked(main.iter().chain(&rescue).chain(&finally));
    let verify = verify?;
    if broken || main.is_empty() {
        return None;
    }
    let playbook = Playbook {
        name: PlaybookName::new(&written.name),
        source: reader.source_ref(written.span),
        description,
        mode,
        inputs: inputs.clone(),
        steps: main,
        on_failure,
        rescue,
        finally,
        verify,
        hash: fingerprint([written.document.canonical().as_str()]),
    };
    let approves = playbook.all_steps().any(|(_, step)| matches!(step.kind, StepKind::Approve(_)));
    Some(ReadPlaybook { playbook: Arc::new(playbook), verbs, calls, needs, approves, firing })
}

impl Steps<'_> {
    /// `verify:`; `None` where its condition is wrong.
    fn verify(&mut self, node: &Node) -> Option<Verify> {
        let reader = self.scripts.reader;
        let keys = Keys::of(reader, &schema::VERIFY, node)?;
        let until = keys.raw("until").map(|node| {
            let condition = self.scripts.condition(node, &self.names_here(Part::Main));
            if let Some(condition) = &condition {
                self.scripts.note_firing(condition, node, &mut self.firing);
            }
            condition
        });
        let hold = keys.duration("hold");
        let within = keys.duration("within");
        if hold >= within {
            let at = keys.section("hold").or_else(|| keys.section("within")).map_or(node.span, |node| node.span);
            let message = "`hold` must be shorter than `within`: it could never hold so long before the time is over";
            reader.error(at, "conflict", message);
        }
        match until {
            Some(None) => None,
            until => Some(Verify { until: until.flatten(), hold, within }),
        }
    }
}
