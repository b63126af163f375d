//! `rules/**/*.yaml`: rules with the defaults of their file.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use smol_str::SmolStr;

use super::keys::Keys;
use super::ladders::{Clears, LadderNode};
use super::reader::{Defined, Reader};
use super::scripts::Scripts;
use super::units;
use super::yaml::{Kind, Node, Span};
use crate::TimeIntervals;
use crate::rule::{Level, NoData, Rule, RuleMode};
use crate::schema;
use selfheal_contract::BuiltInAlert;
use selfheal_model::{ALERTNAME, Labels, Map, RuleName, Severity, fingerprint};
use selfheal_script::{Condition, Func, Names, Template};

const SEVERITIES: [(&str, Severity); 3] =
    [("info", Severity::Info), ("warning", Severity::Warning), ("critical", Severity::Critical)];

/// A rule as it stands in its file, its defaults filled in.
pub(crate) struct RuleNode {
    pub name: String,
    node: Node,
    /// Of the name.
    span: Span,
    enabled: bool,
}

/// A rule that could be understood, with what its ladders are written from.
pub(crate) struct ReadRule {
    pub rule: Arc<Rule>,
    pub ladders: Vec<(Severity, LadderNode)>,
    /// Rules its conditions count with `firing`, with the place.
    pub firing: Vec<(String, Span)>,
    /// Where its `select` stands, if it has one.
    pub select: Option<Span>,
}

/// The parts of the rules files that need no other file.
#[derive(Default)]
pub(crate) struct RuleFiles {
    pub rules: Vec<RuleNode>,
    pub ladders: BTreeMap<String, Node>,
    pub ladder_names: Defined,
    pub defined: Defined,
    pub disabled: Vec<String>,
}

impl RuleFiles {
    /// One document; gives its `settings:`.
    pub fn add<'n>(&mut self, reader: &'n Reader<'n>, document: &'n Node) -> Option<&'n Node> {
        let keys = Keys::of(reader, &schema::RULES_FILE, document)?;
        let defaults = keys.section("defaults");
        if let Some(defaults) = defaults {
            Keys::check_defaults(reader, &schema::RULE, defaults);
        }
        if let Some(entry) = defaults.and_then(|node| node.entries()?.iter().find(|entry| entry.key == "alert")) {
            reader.error(entry.key_span, "conflict", "defaults have no `alert`: every rule has its own name");
        }
        if let Some(node) = keys.section("rules") {
            for node in reader.list(node, "a list of rules") {
                self.rule(reader, node, defaults);
            }
        }
        if let Some(node) = keys.section("ladders") {
            self.add_ladders(reader, node);
        }
        let settings = keys.section("settings");
        settings
    }

    fn rule(&mut self, reader: &Reader<'_>, node: &Node, defaults: Option<&Node>) {
        let node = match defaults {
            Some(defaults) => node.over(defaults),
            None => node.clone(),
        };
        let Some(keys) = Keys::of(reader, &schema::RULE, &node) else { return };
        let Some(name) = keys.name("alert") else { return };
        let span = keys.section("alert").map_or(node.span, |name| name.span);
        if BuiltInAlert::from_name(&name).is_some() {
            reader.error(
                span,
                "reserved-name",
                format!("selfheal raises `{name}` by itself; give the rule another name"),
            );
        }
        if !self.defined.add(reader, "rule", &name, span) {
            return;
        }
        let enabled = keys.boolean("enabled");
        if !enabled {
            self.disabled.push(name.clone());
        }
        self.rules.push(RuleNode { name, span, node, enabled });
    }

    pub fn add_ladders(&mut self, reader: &Reader<'_>, node: &Node) {
        let Some(entries) = node.entries() else {
            reader.wrong_type(node, "a map of names to lists of playbooks");
            return;
        };
        for entry in entries {
            if self.ladder_names.add(reader, "ladder", &entry.key, entry.key_span) {
                self.ladders.insert(entry.key.clone(), entry.value.clone());
            }
        }
    }

    /// Compiles every rule.
    pub fn compile(&self, scripts: &Scripts<'_>, settings: &Map, settings_hash: u64) -> Vec<ReadRule> {
        self.rules
            .iter()
            .filter_map(|rule| {
                let read = compile(scripts, rule, settings, settings_hash);
                read.filter(|_| rule.enabled)
            })
            .collect()
    }
}

/// What the levels of a rule share.
struct Shared<'k> {
    names: Names<'k>,
    for_: Duration,
    keep_firing_for: Duration,
    clear_when: Option<Condition>,
    value: Option<Condition>,
}

impl Shared<'_> {
    /// A condition of the rule; what it reads of other rules is noted.
    fn condition(&self, scripts: &Scripts<'_>, node: &Node, firing: &mut Vec<(String, Span)>) -> Option<Condition> {
        let condition = scripts.condition(node, &self.names)?;
        note_firing(scripts, &condition, node, firing);
        units::check(scripts, node, &condition, self.value.as_ref());
        Some(condition)
    }
}

fn compile(scripts: &Scripts<'_>, written: &RuleNode, settings: &Map, settings_hash: u64) -> Option<ReadRule> {
    let reader = scripts.reader;
    let keys = Keys::of(reader, &schema::RULE, &written.node)?;
    let _ = (keys.raw("alert"), keys.raw("enabled"));
    let description = keys.text("description").unwrap_or_default();
    let selects = keys.section("select");
    let select = selects.and_then(|node| reader.selector(node)).unwrap_or_default();
    let per = per(reader, &keys);
    let plain = Names { settings: Some(settings), ..Names::default() };
    let value = keys.raw("value").map(|node| scripts.number(node, &plain));
    let names = Names { has_value: value.is_some(), ..plain };
    let mut firing = Vec::new();
    if let (Some(Some(condition)), Some(node)) = (&value, keys.section("value")) {
        note_firing(scripts, condition, node, &mut firing);
    }
    let mut shared = Shared {
        names,
        for_: keys.duration("for"),
        keep_firing_for: keys.duration("keep_firing_for"),
        clear_when: None,
        value: value.clone().flatten(),
    };
    let clear_when = keys.raw("clear_when").map(|node| shared.condition(scripts, node, &mut firing));
    shared.clear_when = clear_when.clone().flatten();
    let rule_ladder = keys.section("remediate");
    let levels = levels(scripts, &keys, &shared, &mut firing);
    let words = [("keep", NoData::Keep), ("resolve", NoData::Resolve), ("alert", NoData::Alert)];
    let no_data = keys.word("no_data", &words).unwrap_or_default();
    let cooldown = keys.duration("cooldown");
    let labels = keys.section("labels").and_then(|node| own_labels(reader, node, &per)).unwrap_or_default();
    let summary = keys.raw("summary").map(|node| scripts.template(node, &shared.names));
    let annotations = keys.section("annotations").map(|node| annotations(scripts, node, &shared.names));
    let words = [("live", RuleMode::Live), ("shadow", RuleMode::Shadow)];
    let mode = keys.word("mode", &words).unwrap_or_default();
    let routine = keys.boolean("routine");
    let ladders = level_ladders(&levels, keys.has("levels"), rule_ladder, settings, shared.names.has_value);
    let whole = value.as_ref().is_none_or(Option::is_some)
        && summary.as_ref().is_none_or(Option::is_some)
        && clear_when.as_ref().is_none_or(Option::is_some);
    let compiled: Vec<Level> = levels.into_iter().map(|level| level.level).collect::<Option<_>>()?;
    if compiled.is_empty() || !whole {
        return None;
    }
    let mut rule = Rule {
        name: RuleName::new(&written.name),
        source: reader.source_ref(written.span),
        description,
        select,
        per,
        value: value.flatten(),
        levels: compiled,
        no_data,
        cooldown,
        labels,
        summary: summary.flatten(),
        annotations: annotations.unwrap_or_default(),
        mode,
        routine,
        hash: 0,
    };
    rule.hash = hash(&rule, settings_hash, scripts.intervals);
    Some(ReadRule { rule: Arc::new(rule), ladders, firing, select: selects.map(|node| node.span) })
}

fn per(reader: &Reader<'_>, keys: &Keys<'_>) -> Vec<SmolStr> {
    let Some(node) = keys.section("per") else { return vec!["deployment".into()] };
    let mut per: Vec<SmolStr> = Vec::new();
    for item in reader.list(node, "a list of labels such as [deployment]") {
        let Some(label) = reader.text(item) else { continue };
        if !reader.label_name(&label, item.span) {
            continue;
        }
        if label == ALERTNAME {
            reader.error(
                item.span,
                "reserved-label",
                format!("`{ALERTNAME}` is the rule's name, and no part of its scope"),
            );
        } else if per.iter().any(|known| *known == label) {
            reader.error(item.span, "duplicate-name", format!("`{label}` stands here twice"));
        } else {
            per.push(label.into());
        }
    }
    per
}

/// One level with the nodes its ladder comes from.
struct ReadLevel {
    severity: Severity,
    level: Option<Level>,
    remediate: Option<Node>,
}

fn levels(
    scripts: &Scripts<'_>,
    keys: &Keys<'_>,
    shared: &Shared<'_>,
    firing: &mut Vec<(String, Span)>,
) -> Vec<ReadLevel> {
    let reader = scripts.reader;
    let severity = keys.word("severity", &SEVERITIES);
    let when = keys.raw("when");
    let Some(node) = keys.section("levels") else {
        let Some(node) = when else {
            if keys.has("levels") {
                reader.error(keys.span, "empty-value", "`levels` has nothing behind it");
            } else {
                keys.missing("when");
            }
            return Vec::new();
        };
        let condition = shared.condition(scripts, node, firing);
        let severity = severity.unwrap_or_default();
        let level = condition.map(|when| Level {
            severity,
            when,
            clear_when: shared.clear_when.clone(),
            for_: shared.for_,
            keep_firing_for: shared.keep_firing_for,
        });
        return vec![ReadLevel { severity, level, remediate: None }];
    };
    for entry in [keys.entry("when"), keys.entry("severity")].into_iter().flatten() {
        let message = format!("a rule has `levels` or `{}`, not both", entry.key);
        reader.error(entry.key_span, "conflict", message);
    }
    let Some(entries) = node.entries() else {
        reader.wrong_type(node, "a map of severities to conditions");
        return Vec::new();
    };
    let mut levels = Vec::new();
    for entry in entries {
        let Some((_, severity)) = SEVERITIES.iter().find(|(word, _)| *word == entry.key) else {
            let known = SEVERITIES.iter().map(|(word, _)| *word);
            reader.unknown(entry.key_span, "unknown-key", "severity", &entry.key, known);
            continue;
        };
        levels.push(level(scripts, *severity, &entry.value, shared, firing));
    }
    levels.sort_by_key(|level| level.severity);
    if entries.is_empty() {
        reader.error(node.span, "empty-value", "`levels` needs at least one of info, warning, critical");
    }
    levels
}

fn level(
    scripts: &Scripts<'_>,
    severity: Severity,
    node: &Node,
    shared: &Shared<'_>,
    firing: &mut Vec<(String, Span)>,
) -> ReadLevel {
    let mut condition = |node: &Node| shared.condition(scripts, node, firing);
    if !matches!(node.kind, Kind::Map(_)) {
        let level = condition(node).map(|when| Level {
            severity,
            when,
            clear_when: shared.clear_when.clone(),
            for_: shared.for_,
            keep_firing_for: shared.keep_firing_for,
        });
        return ReadLevel { severity, level, remediate: None };
    }
    let none = ReadLevel { severity, level: None, remediate: None };
    let Some(keys) = Keys::of(scripts.reader, &schema::LEVEL, node) else { return none };
    let when = keys.raw("when").and_then(&mut condition);
    let clear_when = keys.raw("clear_when").map(&mut condition);
    let for_ = keys.duration_or("for", shared.for_);
    let keep_firing_for = keys.duration_or("keep_firing_for", shared.keep_firing_for);
    let remediate = keys.raw("remediate").cloned();
    let level = match (when, clear_when) {
        (None, _) | (_, Some(None)) => None,
        (Some(when), clear_when) => Some(Level {
            severity,
            when,
            clear_when: clear_when.flatten().or_else(|| shared.clear_when.clone()),
            for_,
            keep_firing_for,
        }),
    };
    ReadLevel { severity, level, remediate }
}

/// A level without its own ladder has the rule's; `info` repairs only with its own.
fn level_ladders(
    levels: &[ReadLevel],
    has_levels: bool,
    of_rule: Option<&Node>,
    settings: &Map,
    has_value: bool,
) -> Vec<(Severity, LadderNode)> {
    let settings = Arc::new(settings.clone());
    levels
        .iter()
        .filter_map(|level| {
            let inherits = level.severity != Severity::Info || !has_levels;
            let node = match &level.remediate {
                Some(own) if own.is_null() => None,
                Some(own) => Some(own.clone()),
                None => of_rule.filter(|_| inherits).cloned(),
            };
            let clears = Clears::of(level.level.as_ref());
            node.map(|node| (level.severity, LadderNode { node, settings: settings.clone(), has_value, clears }))
        })
        .collect()
}

fn own_labels(reader: &Reader<'_>, node: &Node, per: &[SmolStr]) -> Option<Labels> {
    for entry in node.entries().unwrap_or_default() {
        if matches!(entry.key.as_str(), "alertname" | "severity") || per.iter().any(|label| *label == entry.key) {
            let message = format!("the label `{}` is set by selfheal itself", entry.key);
            reader.error(entry.key_span, "reserved-name", message);
        }
    }
    reader.labels(node)
}

fn annotations(scripts: &Scripts<'_>, node: &Node, names: &Names<'_>) -> Vec<(SmolStr, Template)> {
    let Some(entries) = node.entries() else {
        scripts.reader.wrong_type(node, "a map of names to texts");
        return Vec::new();
    };
    entries
        .iter()
        .filter_map(|entry| Some((SmolStr::new(&entry.key), scripts.template(&entry.value, names)?)))
        .collect()
}

pub(crate) fn note_firing(scripts: &Scripts<'_>, condition: &Condition, node: &Node, into: &mut Vec<(String, Span)>) {
    for read in condition.reads().iter().filter(|read| read.func == Func::Firing) {
        into.push((read.subject.to_string(), scripts.place_of(node, &read.subject)));
    }
}

/// Over everything that decides the rule's answer.
fn hash(rule: &Rule, settings_hash: u64, intervals: &TimeIntervals) -> u64 {
    let mut parts: Vec<String> = vec![
        format!("{settings_hash:x}"),
        rule.per.join(","),
        rule.select.0.iter().map(ToString::to_string).collect::<Vec<_>>().join(","),
        format!("{:?}", rule.no_data),
    ];
    let mut add = |condition: Option<&Condition>| {
        parts.push(condition.map_or_else(|| "-".to_owned(), |condition| format!("{:x}", condition.hash())));
        let reads = condition.map(Condition::reads).unwrap_or_default();
        for read in reads.iter().filter(|read| read.func == Func::InInterval) {
            parts.push(format!("{:?}", intervals.get(&read.subject)));
        }
    };
    add(rule.value.as_ref());
    for level in &rule.levels {
        add(Some(&level.when));
        add(level.clear_when.as_ref());
    }
    parts.extend(rule.levels.iter().map(|level| level.severity.to_string()));
    fingerprint(parts.iter().map(String::as_str))
}
