//! `storage:`: how sure a written event is, and how long what is written is kept.

use std::time::Duration;

use super::keys::Keys;
use super::reader::Reader;
use super::yaml::Node;
use crate::schema;
use selfheal_model::Bytes;

/// Between two syncs of an interval there is at most so much to lose.
const LONGEST_INTERVAL: Duration = Duration::from_secs(60);
/// A shorter one costs what `sync` costs.
const SHORTEST_INTERVAL: Duration = Duration::from_millis(1);
/// Less than this holds no history worth its name, and no segment of a journal.
const SMALLEST: Bytes = Bytes(1024 * 1024);

/// When what was taken is safe.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Durability {
    /// Before it is acknowledged: a stop of the machine loses nothing.
    #[default]
    Sync,
    /// At the latest so long after; at once where something acts. A stop of the machine may lose what came since, a
    /// kill of selfheal does not.
    Interval(Duration),
}

/// How long something is kept: what is older, or beyond the size, goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keep {
    pub age: Duration,
    pub size: Bytes,
}

/// The whole section.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StorageRules {
    pub durability: Durability,
    /// Of the journal, for `replay`: what recovery needs is kept whatever this says.
    pub journal: Keep,
    pub history: Keep,
}

const DAY: Duration = Duration::from_secs(24 * 3600);
const GIB: u64 = 1024 * 1024 * 1024;

impl Default for StorageRules {
    fn default() -> Self {
        StorageRules {
            durability: Durability::default(),
            journal: Keep { age: DAY * 7, size: Bytes(10 * GIB) },
            // a scan of all of it, the slowest query there can be, stays in the order of a second
            history: Keep { age: DAY * 90, size: Bytes(GIB) },
        }
    }
}

pub(crate) fn storage(reader: &Reader<'_>, node: Option<&Node>) -> StorageRules {
    let mut rules = StorageRules::default();
    let Some(keys) = node.and_then(|node| Keys::of(reader, &schema::STORAGE, node)) else { return rules };
    if let Some(node) = keys.get("durability") {
        rules.durability = durability(reader, node);
    }
    if let Some(node) = keys.get("journal") {
        keep(reader, &schema::JOURNAL, node, &mut rules.journal);
    }
    if let Some(node) = keys.get("history") {
        keep(reader, &schema::HISTORY, node, &mut rules.history);
    }
    rules
}

/// `sync`, or an interval such as `100ms`.
fn durability(reader: &Reader<'_>, node: &Node) -> Durability {
    if node.plain() == Some("sync") {
        return Durability::Sync;
    }
    if !node.plain().is_some_and(|text| text.starts_with(|first: char| first.is_ascii_digit())) {
        reader.wrong_type(node, "sync, or an interval such as 100ms");
        return Durability::default();
    }
    match reader.duration(node) {
        Some(interval) if (SHORTEST_INTERVAL..=LONGEST_INTERVAL).contains(&interval) => Durability::Interval(interval),
        Some(_) => {
            reader.error(node.span, "out-of-range", "an interval is at least 1ms and at most 1m; or write sync");
            Durability::default()
        }
        None => Durability::default(),
    }
}

/// `{ keep: 7d, max_size: 10GiB }`
fn keep(reader: &Reader<'_>, section: &'static schema::Section, node: &Node, rule: &mut Keep) {
    let Some(keys) = Keys::of(reader, section, node) else { return };
    rule.age = keys.duration("keep");
    if let Some(node) = keys.get("max_size")
        && let Some(size) = reader.size(node)
    {
        if size < SMALLEST {
            reader.error(node.span, "out-of-range", "less than 1MiB keeps nothing");
        } else {
            rule.size = size;
        }
    }
}
