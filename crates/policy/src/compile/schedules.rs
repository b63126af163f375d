//! `schedules:`, playbooks that are run when their time comes.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use smol_str::SmolStr;

use super::keys::Keys;
use super::links::Possible;
use super::names::{PlaybookNames, Surroundings};
use super::playbooks::ReadPlaybook;
use super::reader::{Defined, Reader};
use super::scripts::Scripts;
use super::yaml::{Node, Span};
use super::{inputs, intervals};
use crate::schedule::{Schedule, When};
use crate::schema;
use selfheal_model::units::format_duration;
use selfheal_model::{Cron, Effectfulness, Map, PlaybookName, Zone};
use selfheal_script::Names;

const DAY: Duration = Duration::from_secs(24 * 3600);
/// What comes more often than cron could say is a rule's work.
const MIN_EVERY: Duration = Duration::from_secs(60);
const MAX_EVERY: Duration = Duration::from_secs(366 * 24 * 3600);
/// Runs that are spread further belong to the next time.
const MAX_JITTER: Duration = DAY;
/// What was missed longer ago is not wanted any more.
const MAX_CATCH_UP: Duration = Duration::from_secs(7 * 24 * 3600);

/// Everything a schedule may name.
pub(crate) struct Schedules<'a> {
    pub scripts: &'a Scripts<'a>,
    pub playbooks: &'a BTreeMap<String, ReadPlaybook>,
    pub playbook_names: &'a PlaybookNames,
    pub around: &'a Surroundings<'a>,
    pub settings: &'a Map,
}

impl Schedules<'_> {
    pub fn read(&self, node: Option<&Node>) -> BTreeMap<SmolStr, Arc<Schedule>> {
        let reader = self.scripts.reader;
        let mut names = Defined::default();
        let mut possible = Possible::new(reader, self.around);
        let list = node.map(|node| reader.list(node, "a list of schedules")).unwrap_or_default();
        let read = list.iter().filter_map(|node| self.schedule(node, &mut names, &mut possible));
        read.map(|schedule| (schedule.name.clone(), Arc::new(schedule))).collect()
    }

    /// `None` also where it is disabled.
    fn schedule(&self, node: &Node, names: &mut Defined, possible: &mut Possible<'_>) -> Option<Schedule> {
        let reader = self.scripts.reader;
        let keys = Keys::of(reader, &schema::SCHEDULE, node)?;
        let span = keys.section("name").map_or(node.span, |node| node.span);
        let name = keys.name("name").filter(|name| names.add(reader, "schedule", name, span));
        let enabled = keys.boolean("enabled");
        let playbook = keys.get("playbook").and_then(|node| {
            let name = reader.text(node)?;
            self.playbook_names.known(reader, node, &name, std::iter::empty())?;
            Some((name, node.span))
        });
        let read = playbook.as_ref().and_then(|(name, _)| self.playbooks.get(name));
        let with_node = keys.section("with");
        let with = match &playbook {
            Some((name, span)) => self.with(name, with_node, *span),
            None => Vec::new(),
        };
        let select = keys.get("select").and_then(|node| reader.selector(node));
        if let (Some(select), Some(node)) = (&select, keys.section("select")) {
            self.around.warn_of_nobody(reader, node.span, select);
        }
        if let (Some((_, span)), Some(read), Some(select)) = (&playbook, read, &select) {
            possible.check(*span, read, select, "narrow `select` of the schedule, so that it leaves `{}` out");
        }
        let when = self.when(&keys, node);
        let jitter = jitter(reader, &keys, when.as_ref());
        let at_once = keys.count("at_once");
        let catch_up = at_most(reader, &keys, "catch_up", MAX_CATCH_UP).unwrap_or_default();
        if let (Some(read), Some(node), false) = (read, keys.section("catch_up"), catch_up.is_zero()) {
            self.warn_of_disruption(read, node);
        }
        let source = reader.source_ref(span);
        let (playbook, name) = (PlaybookName::from(playbook?.0), SmolStr::from(name?));
        let (select, when) = (select?, when?);
        let schedule = Schedule { name, source, playbook, with, select, when, jitter, at_once, catch_up };
        enabled.then_some(schedule)
    }

    fn with(&self, playbook: &str, node: Option<&Node>, span: Span) -> Vec<(String, selfheal_script::Param)> {
        // inputs with mistakes of their own say nothing about what they take
        let Some(taken) = self.playbook_names.inputs(playbook) else { return Vec::new() };
        let names = Names { settings: Some(self.settings), ..Names::default() };
        inputs::with(self.scripts, &PlaybookName::new(playbook), taken, node, span, &names)
    }

    /// Exactly one of `cron` and `every`.
    fn when(&self, keys: &Keys<'_>, node: &Node) -> Option<When> {
        let reader = self.scripts.reader;
        let zone = keys.get("timezone").map(|node| intervals::zone(reader, node));
        let cron = keys.get("cron").map(|node| self.cron(node));
        let every = keys.get("every").map(|node| every(reader, node));
        match (keys.has("cron"), keys.has("every")) {
            (true, true) => {
                reader.error(node.span, "conflict", "a schedule has `cron` or `every`, not both");
                return None;
            }
            (false, false) => {
                let help = "write for example `cron: \"0 3 * * *\"`, or `every: 7d`";
                let message = "this schedule does not say when: it has no `cron` and no `every`";
                reader.error_with_help(node.span, "missing-key", message, help);
            }
            _ => {}
        }
        if let (Some(node), false, true) = (keys.section("timezone"), keys.has("cron"), keys.has("every")) {
            reader.error(node.span, "conflict", "`every` counts from no wall clock, so it has no `timezone`");
        }
        match (cron, every) {
            (Some(cron), _) => Some(When::Cron { cron: cron?, zone: zone.unwrap_or_else(|| Some(Zone::utc()))? }),
            (None, every) => every.flatten().map(When::Every),
        }
    }

    fn cron(&self, node: &Node) -> Option<Cron> {
        let text = self.scripts.reader.text(node)?;
        match Cron::parse(&text) {
            Ok(cron) => Some(cron),
            Err(error) => {
                let as_written = node.scalar() == Some(text.as_str()) && !error.at.is_empty();
                let span = if as_written { self.scripts.place_in(node, &error.at) } else { node.span };
                self.scripts.reader.say(
                    span,
                    selfheal_contract::diagnostic::Level::Error,
                    "cron",
                    error.message,
                    error.help,
                );
                None
            }
        }
    }

    fn warn_of_disruption(&self, read: &ReadPlaybook, node: &Node) {
        let disrupts = |verb: &&String| {
            let specs = self.around.verbs.get(*verb).map(Vec::as_slice).unwrap_or_default();
            specs.iter().any(|spec| spec.effect == Effectfulness::Disrupt)
        };
        if let Some(verb) = read.verbs.iter().find(disrupts) {
            let message = format!(
                "`{}` disrupts with `{verb}`, and a time that was missed is never made up for that",
                read.playbook.name
            );
            self.scripts.reader.warn(node.span, "no-effect", message, None);
        }
    }
}

fn every(reader: &Reader<'_>, node: &Node) -> Option<Duration> {
    let every = reader.duration(node)?;
    if !(MIN_EVERY..=MAX_EVERY).contains(&every) {
        let (least, most) = (format_duration(MIN_EVERY), format_duration(MAX_EVERY));
        reader.error(node.span, "out-of-range", format!("`every` is at least {least} and at most {most}"));
        return None;
    }
    Some(every)
}

fn jitter(reader: &Reader<'_>, keys: &Keys<'_>, when: Option<&When>) -> Duration {
    let jitter = at_most(reader, keys, "jitter", MAX_JITTER).unwrap_or_default();
    if let (Some(When::Every(every)), Some(node)) = (when, keys.section("jitter"))
        && jitter > *every
    {
        let message = "`jitter` is longer than `every`: runs of one time would begin after those of the next";
        reader.error(node.span, "conflict", message);
    }
    jitter
}

fn at_most(reader: &Reader<'_>, keys: &Keys<'_>, key: &'static str, most: Duration) -> Option<Duration> {
    let node = keys.get(key)?;
    let span = reader.duration(node)?;
    if span > most {
        reader.error(node.span, "out-of-range", format!("`{key}` is at most {}", format_duration(most)));
        return None;
    }
    Some(span)
}
