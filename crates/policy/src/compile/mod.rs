//! The order in which a policy is put together.
//!
//! 1. *Parse*: every file becomes a tree with places (`yaml`); a value that is no YAML is left out, the rest is read.
//! 2. *Open*: every map is checked against the table of its section (`keys`), and what the files define is known by
//!    name (`names`).
//! 3. *Resolve*: values, conditions and references are read against those names. A mistake in one file, or in one key,
//!    does not keep references elsewhere from being checked.

mod auth;
mod checks;
mod config;
mod deployments;
mod fields;
mod guards;
mod inhibition;
mod inputs;
pub(crate) mod intake;
mod intervals;
pub(crate) mod keys;
mod ladders;
mod links;
mod names;
mod playbooks;
pub(crate) mod reader;
mod receivers;
pub(crate) mod remediations;
mod routes;
mod rules;
mod schedules;
mod scripts;
pub(crate) mod secrets;
mod steps;
pub(crate) mod storage;
pub(crate) mod units;
pub(crate) mod values;
pub(crate) mod yaml;

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

use smol_str::format_smolstr;

use super::{CONFIGURATION, Policy, TimeIntervals, UnknownDeployments};
use crate::ladder::Ladder;
use crate::route::Route;
use crate::schema;
use config::Settings;
use deployments::{Adapters, Deployments};
use keys::Keys;
use ladders::{Known, NamedLadders};
use links::Possible;
use names::Surroundings;
use playbooks::PlaybookFiles;
use reader::{Defined, Lookup, Origin, Reader};
use receivers::{MailDefaults, Templates};
pub(crate) use receivers::{NOBODY, nobody};
use routes::Named;
use rules::{OfRulesFile, RuleFiles};
use schedules::Schedules;
use scripts::Scripts;
use selfheal_contract::SourceFile;
use selfheal_contract::diagnostic::{Diagnostic, Level};
use selfheal_contract::receiver::Receiver;
use selfheal_model::{
    AdapterCatalog, AdapterDef, AdapterName, Map, ReceiverName, RuleName, Severity, VerbSpec, fingerprint,
};
use selfheal_script::{ProblemSeverity, ScriptHost};
use yaml::{Kind, Node, Span, parse};

pub(crate) fn compile(
    files: &[SourceFile],
    catalog: &dyn AdapterCatalog,
    env: Lookup<'_>,
    file: Lookup<'_>,
) -> Result<Policy, Vec<Diagnostic>> {
    compile_noting_secrets(Origin::Folder, files, catalog, env, file).map(|(policy, _)| policy)
}

/// Compiles, and says where secrets stand in the files themselves.
pub(crate) fn compile_noting_secrets(
    origin: Origin,
    files: &[SourceFile],
    catalog: &dyn AdapterCatalog,
    env: Lookup<'_>,
    file: Lookup<'_>,
) -> Result<(Policy, BTreeSet<Span>), Vec<Diagnostic>> {
    let reader = Reader::new(origin, files, env, file);
    let read = whole(&reader, catalog);
    let failed = reader.has_errors();
    let literal_secrets = reader.literal_secrets();
    let mut diagnostics = reader.into_diagnostics();
    match read {
        Some(mut policy) if !failed => {
            policy.warnings = diagnostics;
            Ok((policy, literal_secrets))
        }
        _ => {
            if diagnostics.iter().all(|one| one.severity == Level::Warning) {
                diagnostics.insert(0, no_configuration());
            }
            Err(diagnostics)
        }
    }
}

fn no_configuration() -> Diagnostic {
    Diagnostic {
        file: CONFIGURATION.to_owned(),
        line: 1,
        column: 1,
        length: 1,
        severity: Level::Error,
        code: "missing-file".to_owned(),
        message: format!("there is no {CONFIGURATION}"),
        help: Some("`selfheal init` writes one".to_owned()),
        source_line: String::new(),
    }
}

/// Every file's documents, by what kind of file it is.
#[derive(Default)]
struct Documents {
    configuration: Option<Node>,
    rules: Vec<Node>,
    playbooks: Vec<Node>,
    deployments: Vec<Node>,
}

impl Documents {
    fn read(reader: &Reader<'_>) -> Documents {
        let mut read = Documents::default();
        for (file, source) in reader.files.iter().enumerate() {
            let is_yaml = source.path.ends_with(".yaml");
            let folder = source.path.split_once('/').map(|(folder, _)| folder);
            let into = match folder {
                _ if !is_yaml => continue,
                None if source.path == CONFIGURATION => None,
                Some("rules") => Some(&mut read.rules),
                Some("playbooks") => Some(&mut read.playbooks),
                Some("deployments") => Some(&mut read.deployments),
                _ => continue,
            };
            let (mut documents, mistakes) = parse(file, &source.text);
            mistakes.into_iter().for_each(|mistake| reader.mistake(mistake));
            documents.retain(|document| !document.is_null());
            if folder != Some("playbooks")
                && let Some(second) = documents.get(1)
            {
                let message = "only playbooks may stand several in a file, separated by `---`";
                reader.error(second.span, "several-documents", message);
                documents.truncate(1);
            }
            match into {
                Some(into) => into.extend(documents),
                None => {
                    read.configuration = documents.into_iter().next();
                    if read.configuration.is_none() && !reader.configuration_is_unread() {
                        config::format(
                            reader,
                            file,
                            &Node { span: Span { file, start: 0, end: 1 }, kind: Kind::List(Vec::new()) },
                        );
                    }
                }
            }
        }
        read
    }
}

/// `None` where there is no configuration that could be read.
fn whole(reader: &Reader<'_>, catalog: &dyn AdapterCatalog) -> Option<Policy> {
    let file = reader.files.iter().position(|file| file.path == CONFIGURATION)?;
    let documents = Documents::read(reader);
    let host = functions(reader);
    let empty = Node { span: Span { file, start: 0, end: 0 }, kind: Kind::Map(Vec::new()) };
    let configuration = documents.configuration.as_ref().unwrap_or(&empty);
    if let Some(configuration) = &documents.configuration {
        config::format(reader, configuration.span.file, configuration);
    }
    let keys = Keys::configuration(reader, configuration)?;
    let _ = keys.raw("format");
    let named = [keys.section("time_intervals"), keys.section("mute_time_intervals")];
    let time_intervals = intervals::read(reader, named);
    let intake = intake::read(reader, &keys);
    let secrets = secrets::read(reader, keys.section("secrets"));
    let scripts =
        Scripts { reader, host: host.as_ref(), intervals: &time_intervals, units: &intake.units, secrets: &secrets };
    let server = config::server(reader, keys.section("server"));
    let data_dir = keys.text_or_default("data_dir");
    let storage = storage::storage(reader, keys.section("storage"));
    let (described, adapter_names) = config::adapters(reader, catalog, keys.section("adapters"));
    let words = [("register", UnknownDeployments::Register), ("reject", UnknownDeployments::Reject)];
    let unknown_deployments = keys.word("unknown_deployments", &words).unwrap_or_default();
    let lists = deployment_lists(reader, &documents, keys.section("deployments"));
    let deployments = Deployments::read(reader, &Adapters { described: &described, listed: &adapter_names }, &lists);
    let (receivers, route, receiver_names) = people(reader, &keys, &time_intervals);
    let inhibit_rules = inhibition::read(reader, keys.section("inhibit_rules"));
    let guards = guards::read(reader, &time_intervals, keys.section("guards"));

    let heartbeat = keys.get("heartbeat").and_then(|node| config::heartbeat(reader, node, &receiver_names));

    let of_rules: Vec<OfRulesFile<'_>> = documents.rules.iter().map(|node| rules::open_file(reader, node)).collect();
    let rule_files = RuleFiles::open(reader, of_rules.iter().flat_map(|file| &file.rules));
    let playbook_files = PlaybookFiles::open(reader, &documents.playbooks);
    let mut settings = Settings::default();
    of_rules.iter().filter_map(|file| file.settings).for_each(|node| settings.add(reader, node));
    let settings = Arc::new(settings.with(reader, keys.section("settings")));
    let mut named_ladders = NamedLadders::default();
    let ladder_sections = of_rules.iter().filter_map(|file| file.ladders).chain(keys.section("ladders"));
    ladder_sections.for_each(|node| named_ladders.add(reader, node));
    let schedules = keys.section("schedules");
    let remediations = keys.section("remediations");
    let severities = remediations::severities(reader, keys.section("severities"));

    let adapters: BTreeMap<AdapterName, Arc<AdapterDef>> =
        described.iter().map(|(name, described)| (name.clone(), described.def.clone())).collect();
    let around = Surroundings {
        verbs: verbs(catalog, &adapters),
        deployments: &deployments.all,
        listed: &deployments.listed,
        adapters: &adapters,
        receivers: &receiver_names,
        verbs_are_whole: described.len() == adapter_names.len(),
    };
    let playbooks = playbook_files.compile(&scripts, &settings, &around);

    let own = deployments.all.values().map(|one| serde_json::Value::Object(one.settings.clone()).to_string());
    let all_settings: Vec<String> =
        [serde_json::Value::Object((*settings).clone()).to_string()].into_iter().chain(own).collect();
    let settings_hash = fingerprint(all_settings.iter().map(String::as_str));
    let rules = rule_files.compile(&scripts, &settings, settings_hash);
    links::check_firing(reader, &rule_files.names, &rules, playbooks.values());
    links::check_selects(reader, &rules, &around);
    let known = Known {
        playbooks: &playbooks,
        playbook_names: &playbook_files.names,
        rules: &rules,
        rule_names: &rule_files.names,
        ladders: &named_ladders,
        around: &around,
        used: RefCell::default(),
    };
    let mut possible = Possible::new(reader, &around);
    let ladders = read_ladders(&scripts, &known, &mut possible);
    let remediations = remediations::read(&scripts, &known, &settings, remediations, &mut possible);
    known.read_unused(&scripts, &settings);
    let schedules = Schedules {
        scripts: &scripts,
        playbooks: &playbooks,
        playbook_names: &playbook_files.names,
        around: &around,
        settings: &settings,
    }
    .read(schedules);
    documents.configuration.as_ref()?;
    Some(Policy {
        heartbeat,
        schedules,
        version: version(reader.files),
        server,
        data_dir: PathBuf::from(data_dir),
        storage,
        adapters,
        unknown_deployments,
        deployments: deployments.all,
        receivers,
        route,
        inhibit_rules,
        guards,
        time_intervals: Arc::new(time_intervals.clone()),
        intake: intake.clone(),
        settings,
        remediations,
        severities,
        secrets: secrets.clone(),
        rules: rules.into_iter().filter_map(|read| Some((read.head.name, read.rule?))).collect(),
        ladders,
        playbooks: playbooks.into_values().map(|read| (read.playbook.name.clone(), read.playbook)).collect(),
        warnings: Vec::new(),
    })
}

fn version(files: &[SourceFile]) -> smol_str::SmolStr {
    let mut files: Vec<&SourceFile> = files.iter().collect();
    files.sort_by(|one, other| one.path.cmp(&other.path));
    format_smolstr!("{:016x}", fingerprint(files.iter().flat_map(|file| [&*file.path, &*file.text])))
}

fn functions(reader: &Reader<'_>) -> Option<ScriptHost> {
    let is_functions = |file: &&SourceFile| file.path.starts_with("rules/") && file.path.ends_with(".rhai");
    let functions: Vec<(String, String)> =
        reader.files.iter().filter(is_functions).map(|file| (file.path.clone(), file.text.clone())).collect();
    match ScriptHost::new(&functions) {
        Ok(host) => Some(host),
        Err(problems) => {
            for (path, problem) in problems {
                let file = reader.files.iter().position(|file| file.path == path).unwrap_or_default();
                let level = match problem.severity {
                    ProblemSeverity::Error => Level::Error,
                    ProblemSeverity::Warning => Level::Warning,
                };
                let span = Span { file, start: problem.span.start, end: problem.span.end };
                reader.say(span, level, problem.code, problem.message, problem.help);
            }
            None
        }
    }
}

/// selfheal.yaml's own list and those of `deployments/`: a list, or `deployments:`.
fn deployment_lists<'n>(reader: &'n Reader<'n>, documents: &'n Documents, own: Option<&'n Node>) -> Vec<&'n Node> {
    let mut lists: Vec<&Node> = own.into_iter().collect();
    for document in &documents.deployments {
        if document.entries().is_none() {
            lists.push(document);
        } else if let Some(keys) = Keys::of(reader, &schema::DEPLOYMENTS_FILE, document) {
            lists.extend(keys.section("deployments"));
        }
    }
    lists
}

/// Every verb with what each adapter says of it; without adapters those of this build, so that a misspelt one is found.
fn verbs(
    catalog: &dyn AdapterCatalog,
    adapters: &BTreeMap<AdapterName, Arc<AdapterDef>>,
) -> BTreeMap<String, Vec<VerbSpec>> {
    let mut verbs: BTreeMap<String, Vec<VerbSpec>> = BTreeMap::new();
    let mut add = |specs: &[VerbSpec]| {
        for spec in specs {
            verbs.entry(spec.verb.to_string()).or_default().push(spec.clone());
        }
    };
    adapters.values().for_each(|adapter| add(&adapter.verbs));
    if adapters.is_empty() {
        for kind in catalog.kinds() {
            if let Ok(spec) = catalog.describe(kind, &Map::new()) {
                add(&spec.verbs);
            }
        }
    }
    verbs
}

/// Receivers and the routes to them.
fn people(
    reader: &Reader<'_>,
    keys: &Keys<'_>,
    intervals: &TimeIntervals,
) -> (BTreeMap<ReceiverName, Arc<Receiver>>, Route, Defined) {
    let smtp = keys.get("smtp");
    if let Some(node) = smtp {
        receivers::smtp(reader, node);
    }
    let from =
        keys.get("from").and_then(|node| reader.text(node).filter(|text| receivers::address(reader, node, text)));
    let templates = Templates::read(reader);
    let defaults = MailDefaults { smtp, from };
    let (mut all, mut listed) = receivers::read(reader, keys.section("receivers"), &defaults, &templates);
    let start = Span { end: keys.span.start + 1, ..keys.span };
    let items = match keys.section("receivers").map(|node| &node.kind) {
        Some(Kind::List(items)) => items.len(),
        _ => 0,
    };
    let route = match keys.section("route") {
        Some(node) => routes::read(reader, node, &Named { receivers: &listed, intervals }),
        None => {
            let mut names = listed.names();
            match (names.next(), names.next()) {
                (Some(only), None) => Route::root(only),
                (Some(_), Some(_)) => {
                    let message = "there are several receivers and no `route` that says who is told of what";
                    reader.error_with_help(start, "missing-key", message, "write `route: { receiver: … }`");
                    Route::root(NOBODY)
                }
                (None, _) if items > 0 || reader.configuration_is_unread() => Route::root(NOBODY),
                (None, _) => {
                    let message = "nobody is told of anything: there are no receivers and no route";
                    reader.warn(start, "nobody-is-told", message, Some("write `receivers:` and `route:`".to_owned()));
                    Route::root(NOBODY)
                }
            }
        }
    };
    if listed.0.is_empty() {
        all.insert(ReceiverName::new(NOBODY), Arc::new(receivers::nobody()));
        listed.0.insert(NOBODY.to_owned(), start);
    }
    (all, route, listed)
}

fn read_ladders(
    scripts: &Scripts<'_>,
    known: &Known<'_>,
    possible: &mut Possible<'_>,
) -> BTreeMap<(RuleName, Severity), Arc<Ladder>> {
    let mut ladders = BTreeMap::new();
    for read in known.rules {
        for (severity, node) in &read.ladders {
            let rungs = known.read(scripts, &read.head, node);
            rungs.iter().for_each(|rung| possible.rung(Some(&read.head), rung, known.rules, known.playbooks));
            if let Some(ladder) = ladders::ladder(rungs) {
                ladders.insert((read.head.name.clone(), *severity), ladder);
            }
        }
    }
    ladders
}
