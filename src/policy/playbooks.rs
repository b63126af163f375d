//! `playbooks/**/*.yaml`: one or several playbooks, separated by `---`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::inputs;
use super::keys::Keys;
use super::reader::{Defined, Reader};
use super::rules::note_firing;
use super::scripts::Scripts;
use super::steps::{self, Part, Steps, Surroundings};
use super::yaml::{Node, Span};
use crate::model::{Map, PlaybookName, fingerprint};
use crate::playbook::guard::Mode;
use crate::playbook::{OnFailure, Playbook, Verify};
use crate::script::Names;

const HOLD: Duration = Duration::from_secs(30);
const WITHIN: Duration = Duration::from_secs(5 * 60);

/// A playbook as it stands in its file.
struct PlaybookNode {
    name: String,
    node: Node,
    span: Span,
    enabled: bool,
}

/// A playbook that could be understood.
pub(super) struct ReadPlaybook {
    pub playbook: Arc<Playbook>,
    /// The verbs it asks of the deployment it runs on; those of `best_effort` steps may be missing there.
    pub verbs: Vec<String>,
    /// Rules its conditions count with `firing`, with the place.
    pub firing: Vec<(String, Span)>,
}

#[derive(Default)]
pub(super) struct PlaybookFiles {
    nodes: Vec<PlaybookNode>,
    pub defined: Defined,
    pub disabled: Vec<String>,
}

impl PlaybookFiles {
    pub fn add(&mut self, reader: &Reader<'_>, document: &Node) {
        let Some(keys) = Keys::of(reader, "playbook", document) else { return };
        let Some(name) = keys.name("playbook") else { return };
        let span = keys.section("playbook").map_or(document.span, |node| node.span);
        let enabled = keys.boolean("enabled", true);
        if !enabled {
            self.disabled.push(name.clone());
        } else if !self.defined.add(reader, "playbook", &name, span) {
            return;
        }
        self.nodes.push(PlaybookNode { name, node: document.clone(), span, enabled });
    }

    /// Compiles every playbook; a disabled one only for its mistakes.
    pub fn compile(
        &self,
        scripts: &Scripts<'_>,
        settings: &Map,
        around: &Surroundings<'_>,
    ) -> BTreeMap<String, ReadPlaybook> {
        self.nodes
            .iter()
            .filter_map(|written| {
                let read = compile(scripts, written, settings, around);
                read.filter(|_| written.enabled).map(|read| (written.name.clone(), read))
            })
            .collect()
    }
}

fn compile(
    scripts: &Scripts<'_>,
    written: &PlaybookNode,
    settings: &Map,
    around: &Surroundings<'_>,
) -> Option<ReadPlaybook> {
    let reader = scripts.reader;
    let keys = Keys::of(reader, "playbook", &written.node)?;
    let _ = (keys.raw("playbook"), keys.raw("enabled"));
    let description = keys.text("description").unwrap_or_default();
    let mode = keys.get("mode").and_then(|node| mode(reader, node)).unwrap_or_default();
    let inputs = keys.section("inputs").map(|node| inputs::read(reader, node)).unwrap_or_default();
    let input_names: Vec<String> = inputs.iter().map(|input| input.name.clone()).collect();
    let names = Names { settings: Some(settings), inputs: Some(&input_names), has_value: true, ..Names::default() };
    let mut steps = Steps::new(scripts, &names, around);
    let main = keys.required("steps").map(|node| steps.read(node, Part::Main)).unwrap_or_default();
    if main.is_empty()
        && let Some(node) = keys.section("steps")
        && !steps.broken
    {
        reader.error(node.span, "empty-value", "a playbook has at least one step");
    }
    let rescue = keys.section("rescue").map(|node| steps.read(node, Part::Rescue)).unwrap_or_default();
    let finally = keys.section("finally").map(|node| steps.read(node, Part::Finally)).unwrap_or_default();
    let words = [("stop", OnFailure::Stop), ("undo", OnFailure::Undo)];
    let on_failure = keys.get("on_failure").and_then(|node| reader.word(node, &words)).unwrap_or_default();
    if on_failure == OnFailure::Undo
        && let Some(node) = keys.section("on_failure")
        && main.iter().all(|step| step.undo.is_none())
        && !steps.broken
    {
        reader.error(node.span, "conflict", "`on_failure: undo`, but no step has an `undo`");
    }
    let verify = match keys.section("verify") {
        Some(node) => steps.verify(node),
        None => Some(Verify { until: None, hold: HOLD, within: WITHIN }),
    };
    keys.finish_file(&["parallel"]);
    let (broken, firing) = (steps.broken, std::mem::take(&mut steps.firing));
    let verbs = steps::asked_verbs(main.iter().chain(&rescue).chain(&finally));
    let verify = verify?;
    if broken || main.is_empty() {
        return None;
    }
    let playbook = Playbook {
        name: PlaybookName::new(&written.name),
        source: reader.source_ref(written.span),
        description,
        mode,
        inputs,
        steps: main,
        on_failure,
        rescue,
        finally,
        verify,
        hash: fingerprint([written.node.canonical().as_str()]),
    };
    Some(ReadPlaybook { playbook: Arc::new(playbook), verbs, firing })
}

fn mode(reader: &Reader<'_>, node: &Node) -> Option<Mode> {
    if node.plain() == Some("approve") {
        reader.error(node.span, "not-built-yet", "`mode: approve` is not built yet; there are auto and observe");
        return None;
    }
    reader.word(node, &[("auto", Mode::Auto), ("observe", Mode::Observe)])
}

impl Steps<'_> {
    /// `verify:`; `None` where its condition is wrong.
    fn verify(&mut self, node: &Node) -> Option<Verify> {
        let reader = self.scripts.reader;
        let keys = Keys::of(reader, "verify", node)?;
        let until = keys.raw("until").map(|node| {
            let condition = self.scripts.condition(node, &self.names_here(Part::Main));
            if let Some(condition) = &condition {
                note_firing(self.scripts, condition, node, &mut self.firing);
            }
            condition
        });
        let hold = keys.duration("hold", HOLD);
        let within = keys.positive_duration("within", WITHIN);
        keys.finish(&[]);
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
