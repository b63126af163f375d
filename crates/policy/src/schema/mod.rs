//! The schema of every policy file: one table of keys for each kind of map.
//!
//! The reader takes from these tables which keys a map may have, which it must have, their defaults and bounds, and
//! the names it suggests for a misspelt key. The JSON Schema for editors ([`json`]) and the reference page
//! (`reference`) are written from the same tables.
//!
//! Invariant: a key that is not in a table is never read ([`Section::key`] panics in debug builds), and a test reads
//! every key of every table. What an adapter takes (its options and a deployment's `target`) is declared by the
//! adapter, not here.

mod configuration;
mod deployments;
mod guards;

pub(crate) mod json;
mod notifications;
mod playbooks;

pub(crate) mod reference;
mod rules;

use std::time::Duration;

use selfheal_model::units::parse_duration;

pub(crate) use configuration::*;
pub(crate) use deployments::*;
pub(crate) use guards::*;
pub(crate) use notifications::*;
pub(crate) use playbooks::*;
pub(crate) use rules::*;

/// One kind of map in a policy file.
pub(crate) struct Section {
    /// What messages call it: `rule`, `check`, …
    pub title: &'static str,
    /// Where it stands, for the reference: `selfheal.yaml: server`.
    pub place: &'static str,
    pub about: &'static str,
    pub keys: &'static [Key],
    /// A map has exactly one of these keys; empty: no such choice.
    pub one_of: &'static [&'static str],
    /// Keys that the format has and this build refuses.
    pub not_built: &'static [&'static str],
    pub others: Others,
}

/// What keys that no table has mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Others {
    /// A mistake.
    Refused,
    /// A mistake, unless they start with `x-`: those may hold anything, such as anchors.
    Extensions,
    /// Options of the adapter, which declares them itself.
    OfTheAdapter,
}

/// One key of a section.
pub(crate) struct Key {
    pub name: &'static str,
    pub form: Form,
    pub about: &'static str,
    pub presence: Presence,
    /// A value as it is written in YAML.
    pub example: &'static str,
    /// The release that introduced the key.
    pub since: &'static str,
    /// The key belongs beside one of these; empty: it may always stand.
    pub only_with: &'static [&'static str],
}

/// Whether a key must be written, and what holds where it is not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Presence {
    Required,
    /// This value, as it would be written.
    Default(&'static str),
    /// What the words say, for people: `none`, `the parent's`.
    Unset(&'static str),
}

/// What a key holds.
#[derive(Clone, Copy)]
pub(crate) enum Form {
    Text,
    /// A text that is not empty.
    Name,
    Boolean,
    Number,
    /// A whole number from the first to the second.
    Count(u32, u32),
    /// `0s` or longer.
    Duration,
    /// Longer than `0s`.
    PositiveDuration,
    Size,
    /// `3/1h`
    Rate,
    Word(&'static [&'static str]),
    /// One of the words, or a list of them.
    Words(&'static [&'static str]),
    /// Names to one of the words.
    WordMap(&'static [&'static str]),
    /// One text or a list of texts.
    Texts,
    TextList,
    /// Names to texts.
    TextMap,
    /// A map of labels, or matchers.
    Selector,
    /// A value, or a reference `${…}` that is resolved when it is needed.
    Secret,
    /// Names to secrets.
    SecretMap,
    /// Rhai that answers true or false.
    Condition,
    /// Rhai that answers a number.
    Expression,
    /// MiniJinja.
    Template,
    /// Names to templates.
    TemplateMap,
    /// A scalar of a notation of its own: in words, and as a regular expression.
    Notation(&'static str, &'static str),
    /// A list of scalars of such a notation.
    NotationList(&'static str, &'static str),
    /// A status code or a list of them.
    StatusCodes,
    /// Values of any form, with templates in texts.
    Parameters,
    /// Named values, nested as wanted.
    Settings,
    /// Values of any form.
    Anything,
    /// A list of values of any form.
    AnyList,
    /// The fields that the deployment's adapter declares.
    Target,
    Map(&'static Section),
    List(&'static Section),
    OneOrMany(&'static Section),
    /// Names to maps.
    MapOf(&'static Section),
    /// A map of which no key is required: what it holds is filled into others.
    Defaults(&'static Section),
    /// One text, or a map.
    TextOr(&'static Section),
    /// A list of texts and maps.
    TextsOrMaps(&'static Section),
    DurationOr(&'static Section),
    /// `info`, `warning` and `critical` to conditions or maps.
    Levels(&'static Section),
    /// A playbook or ladder by name, a rung, or a list of playbooks and rungs.
    Ladder(&'static Section),
    /// Names to ladders.
    Ladders(&'static Section),
}

const FIRST_RELEASE: &str = "0.1";

/// A key that may be left out, with nothing in its place.
const fn key(name: &'static str, form: Form, about: &'static str) -> Key {
    Key { name, form, about, presence: Presence::Unset("none"), example: "", since: FIRST_RELEASE, only_with: &[] }
}

impl Key {
    const fn required(self) -> Key {
        Key { presence: Presence::Required, ..self }
    }

    /// What holds where the key is not written, as it would be written.
    const fn default(self, value: &'static str) -> Key {
        Key { presence: Presence::Default(value), ..self }
    }

    /// What holds where the key is not written, in words.
    const fn unset(self, meaning: &'static str) -> Key {
        Key { presence: Presence::Unset(meaning), ..self }
    }

    const fn example(self, example: &'static str) -> Key {
        Key { example, ..self }
    }

    const fn only_with(self, keys: &'static [&'static str]) -> Key {
        Key { only_with: keys, ..self }
    }

    /// The default as it would be written; empty where there is none.
    pub fn default_text(&self) -> &'static str {
        match self.presence {
            Presence::Default(text) => text,
            Presence::Required | Presence::Unset(_) => "",
        }
    }
}

impl Section {
    pub fn find(&self, name: &str) -> Option<&'static Key> {
        self.keys.iter().find(|key| key.name == name)
    }

    /// A key that the reader asks for.
    ///
    /// # Panics
    /// Where the table does not have it: the reader and its table disagree.
    pub fn key(&self, name: &str) -> &'static Key {
        self.find(name).unwrap_or_else(|| panic!("the table of a {} has no key `{name}`", self.title))
    }

    /// The default of a duration.
    ///
    /// # Panics
    /// Where the table has none.
    pub fn default_duration(&self, name: &str) -> Duration {
        parse_duration(self.key(name).default_text())
            .unwrap_or_else(|why| panic!("the table of a {} has no default duration for `{name}`: {why}", self.title))
    }

    pub fn names(&self) -> impl Iterator<Item = &'static str> {
        self.keys.iter().map(|key| key.name)
    }
}

impl Form {
    /// The maps inside a value of this form.
    pub fn section(&self) -> Option<&'static Section> {
        match self {
            Form::Map(section)
            | Form::List(section)
            | Form::OneOrMany(section)
            | Form::MapOf(section)
            | Form::Defaults(section)
            | Form::TextOr(section)
            | Form::TextsOrMaps(section)
            | Form::DurationOr(section)
            | Form::Levels(section)
            | Form::Ladder(section)
            | Form::Ladders(section) => Some(section),
            _ => None,
        }
    }
}

/// A kind of policy file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileKind {
    /// `selfheal.yaml`
    Config,
    /// `rules/**/*.yaml`
    Rules,
    /// `playbooks/**/*.yaml`
    Playbooks,
    /// `deployments/**/*.yaml`
    Deployments,
}

impl FileKind {
    /// All of them.
    pub const ALL: [FileKind; 4] = [FileKind::Config, FileKind::Rules, FileKind::Playbooks, FileKind::Deployments];

    /// `config`, `rules`, `playbooks` or `deployments`.
    pub fn as_str(self) -> &'static str {
        match self {
            FileKind::Config => "config",
            FileKind::Rules => "rules",
            FileKind::Playbooks => "playbooks",
            FileKind::Deployments => "deployments",
        }
    }

    pub(crate) fn section(self) -> &'static Section {
        match self {
            FileKind::Config => &CONFIGURATION,
            FileKind::Rules => &RULES_FILE,
            FileKind::Playbooks => &PLAYBOOK,
            FileKind::Deployments => &DEPLOYMENTS_FILE,
        }
    }
}

/// Every section, each once, from the top of each kind of file downwards.
pub(crate) fn sections() -> Vec<&'static Section> {
    let mut all: Vec<&'static Section> = FileKind::ALL.map(FileKind::section).to_vec();
    let mut at = 0;
    while let Some(section) = all.get(at) {
        for inner in section.keys.iter().filter_map(|key| key.form.section()) {
            if all.iter().all(|known| !std::ptr::eq(*known, inner)) {
                all.push(inner);
            }
        }
        at += 1;
    }
    all
}
