//! From text to Rhai's syntax tree, or to every problem that keeps it from being one.
//!
//! Invariant: no input overflows the stack or panics; what could nest too deep is refused by its words before Rhai
//! sees it.

use std::collections::BTreeMap;

use rhai::{AST, ASTNode, Engine, ParseErrorType, Position, Stmt};
use smol_str::SmolStr;

use super::condition::{ProblemSeverity, ScriptProblem};
use super::host::limits;
use super::scan::{Kind, Places};
use super::traps::{self, Trap};

/// A function's definition in a text.
pub(super) struct Definition {
    pub name: SmolStr,
    pub params: Vec<SmolStr>,
    pub at: Position,
    pub body: Vec<Stmt>,
}

/// A text that Rhai could read.
pub(super) struct Parsed {
    pub places: Places,
    pub statements: Vec<Stmt>,
    /// In the order they are written.
    pub functions: Vec<Definition>,
}

/// How Rhai begins the name of a closure's function.
const CLOSURE: &str = "anon$";

impl Parsed {
    /// The functions that somebody named.
    pub fn named_functions(&self) -> impl Iterator<Item = &Definition> {
        self.functions.iter().filter(|definition| !definition.name.starts_with(CLOSURE))
    }

    pub fn closures(&self) -> impl Iterator<Item = &Definition> {
        self.functions.iter().filter(|definition| definition.name.starts_with(CLOSURE))
    }
}

/// What was found out about a text that Rhai could not read.
pub(super) struct Unreadable {
    pub problems: Vec<ScriptProblem>,
    /// The text with its traps mended, byte for byte at the same places, where that made it readable.
    pub mended: Option<Parsed>,
    pub places: Places,
}

/// # Errors
/// Every problem found.
pub(super) fn parse(engine: &Engine, source: &str) -> Result<Parsed, Vec<ScriptProblem>> {
    read(engine, source).map_err(|unreadable| unreadable.problems)
}

/// # Errors
/// The problems, and what a look at the rest needs.
pub(super) fn read(engine: &Engine, source: &str) -> Result<Parsed, Box<Unreadable>> {
    let stop =
        |problem: ScriptProblem, places: Places| Box::new(Unreadable { problems: vec![problem], mended: None, places });
    if source.len() > limits::SOURCE_BYTES {
        let message = format!("the script is longer than {} bytes", limits::SOURCE_BYTES);
        return Err(stop(problem(0..0, "too-long", message, None), Places::new("")));
    }
    let places = Places::new(source);
    if places.words.is_empty() {
        let help = Some("write for example last(\"cpu_percent\") > 80".to_owned());
        return Err(stop(problem(0..source.len(), "empty", "the script is empty".to_owned(), help), places));
    }
    if let Some(problem) = too_deep(&places) {
        return Err(stop(problem, places));
    }
    let error = match engine.compile(source) {
        Ok(ast) => {
            let always: Vec<Trap> = traps::find(&places).into_iter().filter(|trap| trap.always).collect();
            let parsed = outline(&ast, places);
            if always.is_empty() {
                return Ok(parsed);
            }
            let problems = always.into_iter().map(|trap| trap.problem).collect();
            let places = parsed.places.clone();
            return Err(Box::new(Unreadable { problems, mended: Some(parsed), places }));
        }
        Err(error) => error,
    };
    let found = traps::find(&places);
    if found.is_empty() {
        let (kind, position) = (error.err_type(), error.position());
        let span = places.span(position);
        return Err(stop(problem(span, "syntax", syntax_message(kind), syntax_help(kind)), places));
    }
    let mended_text = traps::mend(source, &found);
    let mended = engine.compile(&mended_text).ok().map(|ast| outline(&ast, Places::new(&mended_text)));
    let mut problems: Vec<ScriptProblem> = found.into_iter().map(|trap| trap.problem).collect();
    problems.truncate(limits::PROBLEMS);
    Err(Box::new(Unreadable { problems, mended, places }))
}

pub(super) fn problem(
    span: std::ops::Range<usize>,
    code: &'static str,
    message: String,
    help: Option<String>,
) -> ScriptProblem {
    ScriptProblem { span, severity: ProblemSeverity::Error, code, message, help }
}

/// Counts what makes a tree deep: brackets, operators of one statement, chains of `else`.
fn too_deep(places: &Places) -> Option<ScriptProblem> {
    let (mut brackets, mut operators, mut elses) = (0_usize, 0_usize, 0_usize);
    for word in &places.words {
        let refuse = |message: String| {
            let help = Some("split it into several functions or variables".to_owned());
            Some(problem(word.span.clone(), "too-deep", message, help))
        };
        match (word.kind, places.text(word)) {
            (Kind::Symbol, "(" | "[" | "{" | "#{" | "?[") => {
                brackets += 1;
                if brackets > limits::BRACKETS {
                    return refuse(format!("brackets nest deeper than {} levels", limits::BRACKETS));
                }
                operators += 1;
            }
            (Kind::Symbol, ")" | "]") => brackets = brackets.saturating_sub(1),
            (Kind::Symbol, "}") => {
                brackets = brackets.saturating_sub(1);
                operators = 0;
            }
            (Kind::Symbol, ";") => operators = 0,
            (Kind::Symbol, ",") => {}
            (Kind::Symbol, _) => operators += 1,
            (Kind::Name, "else") => {
                elses += 1;
                if elses > limits::ELSES {
                    return refuse(format!("the script has more than {} `else`", limits::ELSES));
                }
            }
            // Interpolations inside a text are parsed too, and could nest on their own.
            (Kind::Text, text) if text.starts_with('`') => {
                let depth = text.matches(['(', '[', '{', '!', '-', '+']).count();
                if depth > limits::BRACKETS {
                    return refuse(format!("the text has more than {} brackets and signs", limits::BRACKETS));
                }
            }
            _ => {}
        }
        if operators > limits::OPERATORS {
            return refuse(format!("one statement has more than {} operators and brackets", limits::OPERATORS));
        }
    }
    None
}

/// Takes the tree apart. Rhai shows a function's body only by walking; which function a statement belongs to is told
/// by its position.
fn outline(ast: &AST, places: Places) -> Parsed {
    let mut bodies: BTreeMap<usize, (Definition, usize)> = BTreeMap::new();
    for definition in ast.iter_fn_def() {
        let start = places.offset(definition.body.start_position());
        let end = places.offset(definition.body.end_position());
        let found = Definition {
            name: SmolStr::new(definition.name.as_str()),
            params: definition.params.iter().map(|name| SmolStr::new(name.as_str())).collect(),
            at: definition.body.start_position(),
            body: Vec::new(),
        };
        bodies.insert(start, (found, end));
    }
    if !bodies.is_empty() {
        ast.walk(&mut |path: &[ASTNode<'_>]| {
            if let [ASTNode::Stmt(statement)] = path {
                let at = places.offset(statement.position());
                if let Some((_, (definition, end))) = bodies.range_mut(..=at).next_back()
                    && at < *end
                {
                    definition.body.push((*statement).clone());
                }
            }
            true
        });
    }
    let functions = bodies.into_values().map(|(definition, _)| named(definition, &places)).collect();
    Parsed { statements: ast.statements().to_vec(), functions, places }
}

/// Points a definition at its name instead of its body.
fn named(mut definition: Definition, places: &Places) -> Definition {
    let body = places.offset(definition.at);
    let name = places
        .words
        .windows(2)
        .rfind(|pair| pair[1].span.start < body && places.text(&pair[0]) == "fn")
        .map(|pair| pair[1].span.start);
    if let Some(start) = name {
        let before = &places.source()[..start];
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap_or("").chars().count() + 1;
        if let (Ok(line), Ok(column)) = (u16::try_from(line), u16::try_from(column)) {
            definition.at = Position::new(line, column);
        }
    }
    definition
}

/// Rhai's own sentence, begun in lower case as all of ours are.
fn syntax_message(kind: &ParseErrorType) -> String {
    match kind {
        ParseErrorType::UnexpectedEOF => "the script ends before it is complete".to_owned(),
        ParseErrorType::MissingToken(token, _) => format!("`{token}` is missing here"),
        ParseErrorType::ExprExpected(_) => "an expression is missing here".to_owned(),
        ParseErrorType::ExprTooDeep => "the expression nests too deep".to_owned(),
        ParseErrorType::Reserved(word) => format!("`{word}` cannot be used here"),
        ParseErrorType::UnknownOperator(operator) => format!("`{operator}` is no operator"),
        ParseErrorType::LiteralTooLarge(..) => "this literal is too large".to_owned(),
        other => {
            let text = other.to_string();
            let mut letters = text.chars();
            letters.next().map_or_else(String::new, |first| first.to_lowercase().chain(letters).collect())
        }
    }
}

fn syntax_help(kind: &ParseErrorType) -> Option<String> {
    let help = match kind {
        ParseErrorType::UnexpectedEOF => "a bracket, quote or operand is missing at the end",
        ParseErrorType::MissingToken(token, _) if token == ";" => {
            "two expressions follow each other; an operator such as && is missing between them, or a `;`"
        }
        _ => return None,
    };
    Some(help.to_owned())
}
