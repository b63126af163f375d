//! A policy as it is kept: all it was compiled from, so that recovery and replay compile the very same one without the
//! folder, the environment or any program.
//!
//! Invariant: no secret is in a [`PolicyRecord`]. A literal one is blanked in the text; what the environment and files
//! answered, which may be anything, is kept apart in [`Answers`].

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use smol_str::{SmolStr, format_smolstr};

use super::Policy;
use super::compile::compile_noting_secrets;
use crate::compile::reader::{Lookup, Origin};
use crate::compile::yaml::Span;
use selfheal_contract::{Diagnostic, SourceFile};
use selfheal_model::{AdapterCatalog, AdapterSpec, Map, VerbSpec, fingerprint, lasting};

/// Of the record's bytes.
const FORM: u8 = 1;
const ZSTD_LEVEL: i32 = 3;
/// What stands in place of a literal secret: a text in every style of YAML.
const BLANK: &str = "\"redacted\"";

/// What a policy was compiled from, without its secrets.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PolicyRecord {
    pub version: SmolStr,
    pub(crate) files: Vec<SourceFile>,
    /// The adapter types there were.
    kinds: Vec<String>,
    /// What each adapter said of itself, in the order of asking.
    described: Vec<Described>,
}

/// What `${NAME}` and `${file:PATH}` came to, where they were filled in. May hold secrets.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Answers {
    env: BTreeMap<String, Option<String>>,
    files: BTreeMap<String, Option<String>>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Described {
    kind: String,
    answer: Result<AdapterSpec, String>,
    /// Of each verb, which the API's form of it leaves out.
    settle: Vec<Option<Duration>>,
}

/// A compiled policy with what is kept of it.
pub struct Recorded {
    pub policy: Policy,
    pub record: PolicyRecord,
    pub answers: Answers,
}

/// Why a record gives no policy.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    #[error("it is of form {0}, which this version does not know; use a later one")]
    Form(u8),
    #[error("it cannot be decoded: {0}")]
    Undecodable(String),
    #[error("it does not compile with this version: {0}")]
    Mistakes(String),
}

/// Compiles, and keeps what it is compiled from. What was filled in and what adapters said are part of the version.
///
/// # Errors
/// Every mistake of every file, in order of file and line.
pub fn compile_recording(
    files: &[SourceFile],
    catalog: &dyn AdapterCatalog,
    env: Lookup<'_>,
    file: Lookup<'_>,
) -> Result<Recorded, Vec<Diagnostic>> {
    let answers = RefCell::new(Answers::default());
    let described = RefCell::new(Vec::new());
    let (mut policy, secrets) = {
        let env = |name: &str| answers.borrow_mut().env.entry(name.to_owned()).or_insert_with(|| env(name)).clone();
        let file = |path: &str| answers.borrow_mut().files.entry(path.to_owned()).or_insert_with(|| file(path)).clone();
        let catalog = Recording { catalog, described: &described };
        compile_noting_secrets(Origin::Folder, files, &catalog, &env, &file)?
    };
    let (answers, described) = (answers.into_inner(), described.into_inner());
    policy.version = version(&policy.version, &answers, &described);
    let record = PolicyRecord {
        version: policy.version.clone(),
        files: blanked(files, &secrets),
        kinds: catalog.kinds().into_iter().map(str::to_owned).collect(),
        described,
    };
    Ok(Recorded { policy, record, answers })
}

fn version(of_files: &str, answers: &Answers, described: &[Described]) -> SmolStr {
    let texts = [
        serde_json::to_string(answers).unwrap_or_default(),
        serde_json::to_string(described).unwrap_or_default(),
        of_files.to_owned(),
    ];
    format_smolstr!("{:016x}", fingerprint(texts.iter().map(String::as_str)))
}

/// The files with something else in place of every literal secret.
fn blanked(files: &[SourceFile], secrets: &BTreeSet<Span>) -> Vec<SourceFile> {
    let mut files = files.to_vec();
    // from the end, so that what comes before keeps its place
    for Span { file, start, end } in secrets.iter().rev() {
        let Some(file) = files.get_mut(*file) else { continue };
        let Some(written) = file.text.get(*start..*end) else { continue };
        // a block's range reaches to what comes next, whose indentation must stay
        let end = start + written.trim_end().len();
        file.text.replace_range(*start..end, BLANK);
    }
    files
}

impl PolicyRecord {
    /// The policy, with the version it had.
    ///
    /// # Errors
    /// This version of selfheal reads the files otherwise than the one that wrote the record.
    pub fn compile(&self, answers: &Answers) -> Result<Policy, RecordError> {
        let env = |name: &str| answers.env.get(name).cloned().flatten();
        let file = |path: &str| answers.files.get(path).cloned().flatten();
        let catalog = Replaying {
            kinds: self.kinds.iter().map(|kind| lasting(kind)).collect(),
            described: RefCell::new(self.described.iter()),
        };
        match compile_noting_secrets(Origin::Record, &self.files, &catalog, &env, &file) {
            Ok((mut policy, _)) => {
                policy.version = self.version.clone();
                Ok(policy)
            }
            Err(mistakes) => Err(RecordError::Mistakes(selfheal_contract::diagnostic::render(&mistakes, false))),
        }
    }

    pub fn to_bytes(&self) -> Vec<u8> {
        to_bytes(self)
    }

    /// # Errors
    /// The bytes are no record.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, RecordError> {
        from_bytes(bytes)
    }
}

impl Answers {
    pub fn to_bytes(&self) -> Vec<u8> {
        to_bytes(self)
    }

    /// # Errors
    /// The bytes are no answers.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, RecordError> {
        from_bytes(bytes)
    }
}

fn to_bytes(data: &impl Serialize) -> Vec<u8> {
    let body = rmp_serde::to_vec_named(data).expect("plain data always has a binary form");
    let mut bytes = vec![FORM];
    bytes.extend(zstd::bulk::compress(&body, ZSTD_LEVEL).expect("memory is compressed into memory"));
    bytes
}

fn from_bytes<T: serde::de::DeserializeOwned>(bytes: &[u8]) -> Result<T, RecordError> {
    let undecodable = |why: &dyn std::fmt::Display| RecordError::Undecodable(why.to_string());
    match bytes.split_first() {
        Some((&FORM, body)) => {
            let body = zstd::stream::decode_all(body).map_err(|error| undecodable(&error))?;
            rmp_serde::from_slice(&body).map_err(|error| undecodable(&error))
        }
        Some((form, _)) => Err(RecordError::Form(*form)),
        None => Err(undecodable(&"it is empty")),
    }
}

/// Notes what the real catalog says.
struct Recording<'a> {
    catalog: &'a dyn AdapterCatalog,
    described: &'a RefCell<Vec<Described>>,
}

impl AdapterCatalog for Recording<'_> {
    fn kinds(&self) -> Vec<&'static str> {
        self.catalog.kinds()
    }

    fn describe(&self, kind: &str, options: &Map) -> Result<AdapterSpec, String> {
        let answer = self.catalog.describe(kind, options);
        let settle = answer.iter().flat_map(|spec| spec.verbs.iter().map(|verb| verb.settle)).collect();
        self.described.borrow_mut().push(Described { kind: kind.to_owned(), answer: answer.clone(), settle });
        answer
    }
}

/// Says again what was noted, in the same order: the same files ask the same questions.
struct Replaying<'a> {
    kinds: Vec<&'static str>,
    described: RefCell<std::slice::Iter<'a, Described>>,
}

impl AdapterCatalog for Replaying<'_> {
    fn kinds(&self) -> Vec<&'static str> {
        self.kinds.clone()
    }

    fn describe(&self, kind: &str, _options: &Map) -> Result<AdapterSpec, String> {
        let Some(noted) = self.described.borrow_mut().next().filter(|noted| noted.kind == kind) else {
            return Err(format!("the record has no answer of an adapter of type `{kind}` here"));
        };
        let mut spec = noted.answer.clone()?;
        let verbs = spec.verbs.into_iter().zip(&noted.settle);
        spec.verbs = verbs.map(|(verb, settle)| VerbSpec { settle: *settle, ..verb }).collect();
        Ok(spec)
    }
}
