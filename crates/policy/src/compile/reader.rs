//! Collects the mistakes of all files, each with its place.
//!
//! Invariant: what comes out is in order of file and line, and the same for the same files.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

use super::yaml::{Mistake, Span};
use crate::CONFIGURATION;
use selfheal_contract::SourceFile;
use selfheal_contract::diagnostic::{Diagnostic, Level};

/// Resolves a name, `None` where there is nothing of that name.
pub(crate) type Lookup<'a> = &'a dyn Fn(&str) -> Option<String>;

/// Where the files come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// The policy folder: every rule of this version holds.
    Folder,
    /// A record that an earlier version accepted: a rule that came later must not keep recovery from using it.
    Record,
}

pub(crate) struct Reader<'a> {
    pub origin: Origin,
    pub files: &'a [SourceFile],
    pub(crate) env: Lookup<'a>,
    pub(crate) file: Lookup<'a>,
    /// Where each file's lines start.
    lines: Vec<Vec<usize>>,
    diagnostics: RefCell<Vec<Diagnostic>>,
    /// Files that are no YAML: what they define is not known, so that nobody is blamed for naming it.
    unreadable: RefCell<BTreeSet<usize>>,
    /// Where a secret's value stands in a file.
    literal_secrets: RefCell<BTreeSet<Span>>,
}

impl<'a> Reader<'a> {
    pub fn new(origin: Origin, files: &'a [SourceFile], env: Lookup<'a>, file: Lookup<'a>) -> Self {
        let starts = |file: &SourceFile| {
            std::iter::once(0).chain(file.text.match_indices('\n').map(|(newline, _)| newline + 1)).collect()
        };
        let lines = files.iter().map(starts).collect();
        Reader {
            origin,
            files,
            env,
            file,
            lines,
            diagnostics: RefCell::default(),
            unreadable: RefCell::default(),
            literal_secrets: RefCell::default(),
        }
    }

    /// This value is a secret and stands in the file itself.
    pub fn note_secret(&self, span: Span) {
        self.literal_secrets.borrow_mut().insert(span);
    }

    pub fn literal_secrets(&self) -> BTreeSet<Span> {
        self.literal_secrets.borrow().clone()
    }

    pub fn error(&self, span: Span, code: &str, message: impl Into<String>) {
        self.say(span, Level::Error, code, message.into(), None);
    }

    pub fn error_with_help(&self, span: Span, code: &str, message: impl Into<String>, help: impl Into<String>) {
        self.say(span, Level::Error, code, message.into(), Some(help.into()));
    }

    pub fn warn(&self, span: Span, code: &str, message: impl Into<String>, help: Option<String>) {
        self.say(span, Level::Warning, code, message.into(), help);
    }

    pub fn mistake(&self, mistake: Mistake) {
        if matches!(mistake.code, "yaml-syntax" | "yaml-trap" | "too-large") {
            self.unreadable.borrow_mut().insert(mistake.span.file);
        }
        self.say(mistake.span, Level::Error, mistake.code, mistake.message, mistake.help);
    }

    /// Whether a name may be defined in a file that could not be read.
    pub fn may_be_unread(&self, folder: &str) -> bool {
        self.unreadable.borrow().iter().any(|file| {
            let path = &self.files[*file].path;
            path == CONFIGURATION || path.starts_with(folder)
        })
    }

    /// Whether selfheal.yaml could not be read whole.
    pub fn configuration_is_unread(&self) -> bool {
        self.unreadable.borrow().iter().any(|file| self.files[*file].path == CONFIGURATION)
    }

    pub fn say(&self, span: Span, level: Level, code: &str, message: String, help: Option<String>) {
        let diagnostic = self.diagnostic(span, level, code, message, help);
        self.diagnostics.borrow_mut().push(diagnostic);
    }

    fn diagnostic(&self, span: Span, severity: Level, code: &str, message: String, help: Option<String>) -> Diagnostic {
        let source = &self.files[span.file];
        let (line, column, source_line) = self.place(span);
        let shown = &source_line[source_line.char_indices().nth(column - 1).map_or(source_line.len(), |(at, _)| at)..];
        let wanted = source.text.get(span.start..span.end.max(span.start)).unwrap_or("");
        let length = wanted.lines().next().unwrap_or("").trim_end().chars().count().min(shown.chars().count());
        Diagnostic {
            file: source.path.clone(),
            line: u32::try_from(line).unwrap_or(u32::MAX),
            column: u32::try_from(column).unwrap_or(u32::MAX),
            length: u32::try_from(length.max(1)).unwrap_or(1),
            severity,
            code: code.to_owned(),
            message,
            help,
            source_line: source_line.to_owned(),
        }
    }

    /// `file:line`, to name another place in a message.
    pub fn at(&self, span: Span) -> String {
        let source = &self.files[span.file];
        format!("{}:{}", source.path, self.place(span).0)
    }

    /// Line and column of a span's start, both from 1, the column in characters; and that line's text.
    fn place(&self, span: Span) -> (usize, usize, &str) {
        let (text, lines) = (self.files[span.file].text.as_str(), &self.lines[span.file]);
        let mut at = span.start.min(text.len());
        while !text.is_char_boundary(at) {
            at -= 1;
        }
        let line = lines.partition_point(|start| *start <= at);
        let start = lines[line - 1];
        let end = lines.get(line).map_or(text.len(), |next| next - 1);
        (line, text[start..at].chars().count() + 1, text[start..end].trim_end_matches('\r'))
    }

    pub fn source_ref(&self, span: Span) -> selfheal_model::SourceRef {
        let source = &self.files[span.file];
        let (line, column, _) = self.place(span);
        selfheal_model::SourceRef {
            file: source.path.as_str().into(),
            line: u32::try_from(line).unwrap_or(u32::MAX),
            column: u32::try_from(column).unwrap_or(u32::MAX),
        }
    }

    /// Everything that was said, in order of file and line, each once; a line that is no YAML is told of once.
    pub fn into_diagnostics(self) -> Vec<Diagnostic> {
        let mut diagnostics = self.diagnostics.into_inner();
        let broken: BTreeSet<(String, u32)> = diagnostics
            .iter()
            .filter(|one| one.code.starts_with("yaml-"))
            .map(|one| (one.file.clone(), one.line))
            .collect();
        diagnostics.retain(|one| one.code.starts_with("yaml-") || !broken.contains(&(one.file.clone(), one.line)));
        let key = |one: &Diagnostic| {
            (one.file != CONFIGURATION, one.file.clone(), one.line, one.column, one.severity, one.message.clone())
        };
        diagnostics.sort_by_key(key);
        diagnostics.dedup();
        diagnostics
    }

    pub fn has_errors(&self) -> bool {
        self.diagnostics.borrow().iter().any(|one| one.severity == Level::Error)
    }

    /// Reports a name that resolves to nothing, with the nearest one there is.
    pub fn unknown<'n>(&self, span: Span, code: &str, what: &str, name: &str, known: impl Iterator<Item = &'n str>) {
        let known: Vec<&str> = known.collect();
        let help = did_you_mean(name, known.iter().copied()).or_else(|| match known.as_slice() {
            [] => None,
            few if few.len() <= 8 => Some(format!("there are: {}", few.join(", "))),
            _ => None,
        });
        self.say(span, Level::Error, code, format!("there is no {what} `{name}`"), help);
    }
}

/// The nearest of the names there are, as a help line.
pub(crate) fn did_you_mean<'n>(name: &str, known: impl Iterator<Item = &'n str>) -> Option<String> {
    let most = (name.chars().count() / 3).max(1);
    known
        .map(|one| (strsim::damerau_levenshtein(&name.to_lowercase(), &one.to_lowercase()), one))
        .filter(|(distance, _)| *distance <= most)
        .min()
        .map(|(_, one)| format!("did you mean `{one}`?"))
}

/// Names that were defined, each with its place: a second definition is a mistake.
#[derive(Default)]
pub(crate) struct Defined(pub BTreeMap<String, Span>);

impl Defined {
    /// Whether the name is new; says so if not.
    pub fn add(&mut self, reader: &Reader<'_>, what: &str, name: &str, span: Span) -> bool {
        if let Some(first) = self.0.get(name) {
            let message = format!("there is already a {what} `{name}`, at {}", reader.at(*first));
            reader.error(span, "duplicate-name", message);
            return false;
        }
        self.0.insert(name.to_owned(), span);
        true
    }

    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    pub fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }
}
