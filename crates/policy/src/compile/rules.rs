//! `rules/**/*.yaml`: rules with the defaults of their file.

use std::sync::Arc;
use std::time::Duration;

use smol_str::SmolStr;

use super::keys::Keys;
use super::names::RuleNames;
use super::reader::{Origin, Reader};
use super::scripts::Scripts;
use super::units;
use super::yaml::{Kind, Node, Span};
use crate::TimeIntervals;
use crate::rule::{Level, NoData, Rule, RuleMode};
use crate::schema;
use selfheal_contract::BuiltInAlert;
use selfheal_model::{ALERTNAME, Labels, Map, RuleName, Selector, Severity, fingerprint};
use selfheal_script::{Condition, Func, Names, Template};

const SEVERITIES: [(&str, Severity); 3] =
    [("info", Severity::Info), ("warning", Severity::Warning), ("critical", Severity::Critical)];

/// How an alert gets clear, as far as it matters for proving a cure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Clears {
    /// Nothing but the end of a signal's window makes it clear: that proves nothing.
    OnlyWithTime,
    OnEvidence,
}

impl Clears {
    pub fn of(level: Option<&Level>) -> Clears {
        let only_signals = level.is_some_and(|level| {
            level.clear_when.is_none()
                && level.when.reads_are_static()
                && !level.when.reads().is_empty()
                && level.when.reads().iter().all(|read| matches!(read.func, Func::Signal | Func::SignalAge))
        });
        if only_signals { Clears::OnlyWithTime } else { Clears::OnEvidence }
    }
}

/// A ladder as written, for one severity of one rule.
pub(crate) struct LadderNode {
    pub node: Node,
    pub settings: Arc<Map>,
    pub has_value: bool,
    pub clears: Clears,
}

/// A rule of a file, opened.
struct RuleNode<'n> {
    name: String,
    /// Of the name.
    span: Span,
    keys: Keys<'n>,
    enabled: bool,
}

/// What a rule comes to. Its references are there also where the rest of it has mistakes.
pub(crate) struct ReadRule {
    /// `None` where the rule has mistakes.
    pub rule: Option<Arc<Rule>>,
    pub head: RuleHead,
    pub ladders: Vec<(Severity, LadderNode)>,
    /// Rules its conditions count with `firing`, with the place.
    pub firing: Vec<(String, Span)>,
    /// Where its `select` stands, if it has one.
    pub select_span: Option<Span>,
}

/// What others ask of a rule.
pub(crate) struct RuleHead {
    pub name: RuleName,
    pub select: Selector,
    pub per: Vec<SmolStr>,
    pub routine: bool,
}

impl RuleHead {
    /// Whether its alerts are about one deployment each.
    pub fn has_deployment(&self) -> bool {
        self.per.iter().any(|label| label == "deployment")
    }
}

/// The sections of a rules file that are read by others.
#[derive(Default)]
pub(crate) struct OfRulesFile<'n> {
    pub rules: Vec<Node>,
    pub settings: Option<&'n Node>,
    pub ladders: Option<&'n Node>,
}

/// Opens one rules file.
pub(crate) fn open_file<'n>(reader: &'n Reader<'n>, document: &'n Node) -> OfRulesFile<'n> {
    let Some(keys) = Keys::of(reader, &schema::RULES_FILE, document) else { return OfRulesFile::default() };
    let defaults = keys.section("defaults");
    if let Some(defaults) = defaults {
        Keys::check_defaults(reader, &schema::RULE, defaults);
    }
    if let Some(entry) = defaults.and_then(|node| node.entries()?.iter().find(|entry| entry.key == "alert")) {
        reader.error(entry.key_span, "conflict", "defaults have no `alert`: every rule has its own name");
    }
    let list = keys.section("rules").map(|node| reader.list(node, "a list of rules")).unwrap_or_default();
    let filled = |node: &Node| defaults.map_or_else(|| node.clone(), |defaults| node.over(defaults));
    OfRulesFile {
        rules: list.iter().map(filled).collect(),
        settings: keys.section("settings"),
        ladders: keys.section("ladders"),
    }
}

/// The rules of all files, opened: their names are known, and nothing else was read yet.
pub(crate) struct RuleFiles<'n> {
    rules: Vec<RuleNode<'n>>,
    pub names: RuleNames,
}

impl<'n> RuleFiles<'n> {
    pub fn open(reader: &'n Reader<'n>, nodes: impl Iterator<Item = &'n Node>) -> RuleFiles<'n> {
        let mut files = RuleFiles { rules: Vec::new(), names: RuleNames::default() };
        nodes.for_each(|node| files.rule(reader, node));
        files
    }

    fn rule(&mut self, reader: &'n Reader<'n>, node: &'n Node) {
        let Some(keys) = Keys::of(reader, &schema::RULE, node) else { return };
        let Some(name) = keys.name("alert") else { return };
        let span = keys.section("alert").map_or(node.span, |name| name.span);
        if reader.origin == Origin::Folder && BuiltInAlert::from_name(&name).is_some() {
            reader.error(
                span,
                "reserved-name",
                format!("selfheal raises `{name}` by itself; give the rule another name"),
            );
        }
        if !self.names.0.enabled.add(reader, "rule", &name, span) {
            return;
        }
        let enabled = keys.boolean("enabled");
        if !enabled {
            self.names.0.disabled.push(name.clone());
        }
        self.rules.push(RuleNode { name, span, keys, enabled });
    }

    /// Compiles every rule; a disabled one only for its mistakes.
    pub fn compile(&self, scripts: &Scripts<'_>, settings: &Arc<Map>, settings_hash: u64) -> Vec<ReadRule> {
        let read = self.rules.iter().map(|rule| (rule.enabled, compile(scripts, rule, settings, settings_hash)));
        read.filter(|(enabled, _)| *enabled).map(|(_, read)| read).collect()
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
        scripts.note_firing(&condition, node, firing);
        units::check(scripts, node, &condition, self.value.as_ref());
        Some(condition)
    }
}

fn compile(scripts: &Scripts<'_>, written: &RuleNode<'_>, settings: &Arc<Map>, settings_hash: u64) -> ReadRule {
    let reader = scripts.reader;
    let keys = &written.keys;
    let description = keys.text("description").unwrap_or_default();
    let selects = keys.section("select");
    let select = selects.and_then(|node| reader.selector(node)).unwrap_or_default();
    let per = per(reader, keys);
    let plain = Names { settings: Some(settings), ..Names::default() };
    let value = keys.raw("value").map(|node| scripts.number(node, &plain));
    let names = Names { has_value: value.is_some(), ..plain };
    let mut firing = Vec::new();
    if let (Some(Some(condition)), Some(node)) = (&value, keys.section("value")) {
        scripts.note_firing(condition, node, &mut firing);
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
    let levels = levels(scripts, keys, &shared, &mut firing);
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
    let head = RuleHead { name: RuleName::new(&written.name), select, per, routine };
    let compiled: Option<Vec<Level>> = levels.into_iter().map(|level| level.level).collect();
    let rule = compiled.filter(|levels| whole && !levels.is_empty()).map(|levels| {
        let mut rule = Rule {
            name: head.name.clone(),
            source: reader.source_ref(written.span),
            description,
            select: head.select.clone(),
            per: head.per.clone(),
            value: value.flatten(),
            levels,
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
        Arc::new(rule)
    });
    ReadRule { rule, head, ladders, firing, select_span: selects.map(|node| node.span) }
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
    settings: &Arc<Map>,
    has_value: bool,
) -> Vec<(Severity, LadderNode)> {
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
