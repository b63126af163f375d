//! From source to Rhai's syntax tree, or to every problem that keeps Rhai from reading the source.
//!
//! Invariant: no input overflows the stack or panics; a source that could nest too deep is refused by its tokens before
//! Rhai parses it.

use std::collections::{BTreeMap, BTreeSet};

use rhai::{AST, ASTNode, Engine, Expr, ParseErrorType, Position, Stmt};
use smol_str::SmolStr;

use crate::common_mistakes::{self, Mistake};
use crate::lexer::{SourceText, TokenKind};
use crate::limits;
use crate::problem::ScriptProblem;
use crate::value::Value;

/// The definition of a function or closure in a source.
pub(crate) struct Definition {
    pub name: SmolStr,
    pub params: Vec<SmolStr>,
    pub at: Position,
    pub body: Vec<Stmt>,
}

impl Definition {
    fn is_closure(&self) -> bool {
        self.name.starts_with(CLOSURE)
    }
}

/// A source that Rhai could read.
pub(crate) struct Parsed {
    pub places: SourceText,
    pub statements: Vec<Stmt>,
    /// In the order they are written; closures too.
    pub functions: Vec<Definition>,
    /// What each hash of a `switch` case stands for.
    pub case_values: BTreeMap<u64, Value>,
}

/// How Rhai begins the name of a closure's function.
const CLOSURE: &str = "anon$";

impl Parsed {
    /// The functions that have a name.
    pub fn named_functions(&self) -> impl Iterator<Item = &Definition> {
        self.functions.iter().filter(|definition| !definition.is_closure())
    }

    /// The closure that Rhai calls `name`.
    pub fn closure(&self, name: &str) -> Option<&Definition> {
        self.functions.iter().find(|definition| definition.is_closure() && definition.name == name)
    }
}

/// A source that Rhai could not read, or that has a mistake although Rhai could read it.
pub(crate) struct Unreadable {
    pub problems: Vec<ScriptProblem>,
    /// The source with its mistakes mended, with the same byte offsets, where that made it readable.
    pub mended: Option<Parsed>,
    pub places: SourceText,
}

/// Parses a source.
///
/// # Errors
/// Every problem found.
pub(crate) fn parse(engine: &Engine, source: &str) -> Result<Parsed, Vec<ScriptProblem>> {
    read(engine, source).map_err(|unreadable| unreadable.problems)
}

/// Parses a source.
///
/// # Errors
/// The problems, and what the search for further problems needs.
pub(crate) fn read(engine: &Engine, source: &str) -> Result<Parsed, Box<Unreadable>> {
    let stop = |problem: ScriptProblem, places: SourceText| {
        Box::new(Unreadable { problems: vec![problem], mended: None, places })
    };
    if source.len() > limits::SOURCE_BYTES {
        let message = format!("the script is longer than {} bytes", limits::SOURCE_BYTES);
        return Err(stop(ScriptProblem::error(0..0, "too-long", message, None), SourceText::new("")));
    }
    let places = SourceText::new(source);
    if places.tokens.is_empty() {
        let help = Some("write for example last(\"cpu_percent\") > 80".to_owned());
        return Err(stop(
            ScriptProblem::error(0..source.len(), "empty", "the script is empty".to_owned(), help),
            places,
        ));
    }
    if let Some(problem) = too_deep(&places) {
        return Err(stop(problem, places));
    }
    let error = match engine.compile(source) {
        Ok(ast) => {
            let always: Vec<Mistake> =
                common_mistakes::find(&places).into_iter().filter(|mistake| mistake.always).collect();
            let parsed = outline(engine, &ast, places);
            if always.is_empty() {
                return Ok(parsed);
            }
            let problems = always.into_iter().map(|mistake| mistake.problem).collect();
            let places = parsed.places.clone();
            return Err(Box::new(Unreadable { problems, mended: Some(parsed), places }));
        }
        Err(error) => error,
    };
    let found = common_mistakes::find(&places);
    if found.is_empty() {
        let (kind, position) = (error.err_type(), error.position());
        let span = places.span(position);
        return Err(stop(ScriptProblem::error(span, "syntax", syntax_message(kind), syntax_help(kind)), places));
    }
    let mended_text = common_mistakes::mend(source, &found);
    let mended = engine.compile(&mended_text).ok().map(|ast| outline(engine, &ast, SourceText::new(&mended_text)));
    let mut problems: Vec<ScriptProblem> = found.into_iter().map(|mistake| mistake.problem).collect();
    problems.truncate(limits::PROBLEMS);
    Err(Box::new(Unreadable { problems, mended, places }))
}

/// Refuses a source whose tree could be too deep: counts brackets, operators of one statement and `else`.
fn too_deep(places: &SourceText) -> Option<ScriptProblem> {
    let (mut brackets, mut operators, mut elses) = (0_usize, 0_usize, 0_usize);
    for token in &places.tokens {
        let refuse = |message: String| {
            let help = Some("split it into several functions or variables".to_owned());
            Some(ScriptProblem::error(token.span.clone(), "too-deep", message, help))
        };
        match (token.kind, places.text(token)) {
            (TokenKind::Symbol, "(" | "[" | "{" | "#{" | "?[") => {
                brackets += 1;
                if brackets > limits::BRACKETS {
                    return refuse(format!("brackets nest deeper than {} levels", limits::BRACKETS));
                }
                operators += 1;
            }
            (TokenKind::Symbol, ")" | "]") => brackets = brackets.saturating_sub(1),
            (TokenKind::Symbol, "}") => {
                brackets = brackets.saturating_sub(1);
                operators = 0;
            }
            (TokenKind::Symbol, ";") => operators = 0,
            (TokenKind::Symbol, ",") => {}
            (TokenKind::Symbol, _) => operators += 1,
            (TokenKind::Name, "else") => {
                elses += 1;
                if elses > limits::ELSES {
                    return refuse(format!("the script has more than {} `else`", limits::ELSES));
                }
            }
            // Interpolations inside a text are parsed too, and could nest on their own.
            (TokenKind::Text, text) if text.starts_with('`') => {
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

/// Takes the tree apart.
fn outline(engine: &Engine, ast: &AST, places: SourceText) -> Parsed {
    let mut functions: Vec<Definition> = ast
        .iter_fn_def()
        .map(|definition| {
            let (name, count) = (definition.name.as_str(), definition.params.len());
            let found = Definition {
                name: SmolStr::new(name),
                params: definition.params.iter().map(|name| SmolStr::new(name.as_str())).collect(),
                at: definition.body.start_position(),
                body: body_of(ast, name, count),
            };
            if found.is_closure() { found } else { named(found, &places) }
        })
        .collect();
    functions.sort_by_key(|definition| places.offset(definition.at));
    let has_switch = places.tokens.iter().any(|token| places.text(token) == "switch");
    let case_values = if has_switch { case_values(engine, &places) } else { BTreeMap::new() };
    Parsed { statements: ast.statements().to_vec(), functions, case_values, places }
}

/// The statements of a function. Rhai shows them only by walking a tree, so the tree of this function alone is walked.
fn body_of(ast: &AST, name: &str, params: usize) -> Vec<Stmt> {
    let mut alone = ast.clone_functions_only();
    alone.retain_functions(|_, _, known, count| known == name && count == params);
    let mut body = Vec::new();
    alone.walk(&mut |path: &[ASTNode<'_>]| {
        if let [ASTNode::Stmt(statement)] = path {
            body.push((*statement).clone());
        }
        true
    });
    body
}

/// The literals of a source by the hash that Rhai gives them in a `switch`, which keeps the hash of a case and not its
/// value. Each literal is compiled as the only case of a `switch` to learn its hash.
fn case_values(engine: &Engine, places: &SourceText) -> BTreeMap<u64, Value> {
    let mut literals: BTreeSet<String> = ["()", "true", "false"].map(str::to_owned).into();
    for token in &places.tokens {
        let text = places.text(token);
        match token.kind {
            TokenKind::Number => literals.extend([text.to_owned(), format!("-{text}")]),
            TokenKind::Text | TokenKind::Quoted => literals.extend([text.to_owned()]),
            _ => {}
        }
    }
    let mut values = BTreeMap::new();
    for literal in literals {
        let Ok(ast) = engine.compile(format!("switch {literal} {{ {literal} => 0 }}")) else { continue };
        let [Stmt::Switch(parts, _)] = ast.statements() else { continue };
        if let Some(value) = constant_of(&parts.0) {
            values.extend(parts.1.cases.keys().map(|hash| (*hash, value.clone())));
        }
    }
    values
}

/// The value of an expression that is a plain constant.
pub(crate) fn constant_of(expr: &Expr) -> Option<Value> {
    Some(match expr {
        Expr::BoolConstant(value, _) => Value::Bool(*value),
        Expr::IntegerConstant(whole, _) => Value::Int(*whole),
        Expr::FloatConstant(number, _) => Value::float(**number),
        Expr::CharConstant(letter, _) => Value::text(letter.to_string()),
        Expr::StringConstant(text, _) => Value::text(text.as_str()),
        Expr::Unit(_) => Value::Nothing,
        _ => return None,
    })
}

/// Sets the position of a definition to its name instead of its body.
fn named(mut definition: Definition, places: &SourceText) -> Definition {
    let body = places.offset(definition.at);
    let name = places
        .tokens
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

/// Rhai's message, beginning in lower case as all messages do.
fn syntax_message(kind: &ParseErrorType) -> String {
    match kind {
        ParseErrorType::UnexpectedEOF => "the script ends before it is complete".to_owned(),
        ParseErrorType::MissingToken(token, _) => format!("`{token}` is missing here"),
        ParseErrorType::ExprExpected(_) => "an expression is missing here".to_owned(),
        ParseErrorType::ExprTooDeep => "the expression nests too deep".to_owned(),
        ParseErrorType::Reserved(token) => format!("`{token}` cannot be used here"),
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
