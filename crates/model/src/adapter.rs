//! What an adapter says of itself: its verbs and their parameters, and the fields of its targets. Plain data, so
//! that a policy can be checked against adapters the core does not know.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Map;
use super::ids::{AdapterName, Verb};
use super::labels::Selector;

/// What a verb does to a deployment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Effectfulness {
    /// Only looks: needs no lease, counts in no budget.
    Read,
    /// Changes something without taking capacity away.
    Change,
    /// Takes capacity away for a while: counts in velocity and blast radius.
    Disrupt,
}

/// The type of one field, for checking and for saying what was expected.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FieldKind {
    Text,
    Integer,
    Number,
    Boolean,
    Duration,
    Size,
    /// A list of texts.
    TextList,
    /// Names to texts.
    TextMap,
    /// `9100-9119`
    PortRange,
    /// Never shown; `${…}` stays a reference.
    Secret,
    #[serde(deserialize_with = "lasting_words")]
    OneOf(Vec<&'static str>),
    Object(Vec<FieldSpec>),
    /// Anything at all.
    Any,
}

/// A name for good, for what is read back from a record. Names of adapter types and of their words are few, and each is
/// kept once.
pub fn lasting(name: &str) -> &'static str {
    static NAMES: Mutex<BTreeSet<&'static str>> = Mutex::new(BTreeSet::new());
    let mut names = NAMES.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(known) = names.get(name) {
        return known;
    }
    let lasting: &'static str = name.to_owned().leak();
    names.insert(lasting);
    lasting
}

fn lasting_words<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Vec<&'static str>, D::Error> {
    let words = Vec::<String>::deserialize(deserializer)?;
    Ok(words.iter().map(|word| lasting(word)).collect())
}

/// One named field of a target or of a verb's parameters.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FieldSpec {
    pub name: String,
    pub kind: FieldKind,
    pub required: bool,
    /// One line for people.
    pub about: String,
}

impl FieldSpec {
    pub fn required(name: &str, kind: FieldKind, about: &str) -> Self {
        FieldSpec { name: name.to_owned(), kind, required: true, about: about.to_owned() }
    }

    pub fn optional(name: &str, kind: FieldKind, about: &str) -> Self {
        FieldSpec { name: name.to_owned(), kind, required: false, about: about.to_owned() }
    }
}

/// One verb of an adapter.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VerbSpec {
    pub verb: Verb,
    /// `None`: any parameters are taken (a program's own verb that does not describe them).
    pub params: Option<Vec<FieldSpec>>,
    pub effect: Effectfulness,
    /// Safe to repeat under the same idempotency key after a crash.
    pub idempotent: bool,
    /// How long after an unknown outcome the adapter may still be at it; `None`: the step's timeout.
    #[serde(skip)]
    pub settle: Option<Duration>,
}

/// An entry of `adapters:` with what its type says of itself.
#[derive(Clone, Debug, PartialEq)]
pub struct AdapterDef {
    pub name: AdapterName,
    /// `process`, `exec`, `http`, …
    pub kind: String,
    /// The entry's own keys other than `type` and `allow`, checked against [`AdapterSpec::options`]. Secret fields
    /// stay as written (`${NAME}`), for the edge to resolve.
    pub options: Map,
    pub verbs: Vec<VerbSpec>,
    /// `allow:`: limits what this adapter may do at all.
    pub allow: Allow,
}

impl AdapterDef {
    pub fn verb(&self, verb: &str) -> Option<&VerbSpec> {
        self.verbs.iter().find(|spec| spec.verb.as_str() == verb)
    }
}

/// `allow: { verbs: [restart, logs], select: {…} }`
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Allow {
    /// `None`: every verb.
    pub verbs: Option<Vec<Verb>>,
    pub select: Selector,
}

/// What a type of adapter says of itself before it is used.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct AdapterSpec {
    /// Keys of the `adapters:` entry.
    pub options: Vec<FieldSpec>,
    /// Keys of a deployment's `target:`; `None`: anything.
    pub target: Option<Vec<FieldSpec>>,
    pub verbs: Vec<VerbSpec>,
}

/// Knows the adapter types of this build. The shell hands one to the policy compiler.
pub trait AdapterCatalog {
    /// The types that may stand after `type:`.
    fn kinds(&self) -> Vec<&'static str>;

    /// What the type says of itself with these options. A program's adapter may be asked with a call of its own.
    ///
    /// # Errors
    /// Why it cannot be asked, for the diagnostic on the entry.
    fn describe(&self, kind: &str, options: &Map) -> Result<AdapterSpec, String>;
}
