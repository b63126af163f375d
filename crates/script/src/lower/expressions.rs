//! Expressions: constants, names, members, operators; reports mistakes that are certain before anything is read.

use rhai::{ASTFlags, Expr, FnCallExpr, Position};
use smol_str::SmolStr;

use super::calls::Holder;
use super::closures::THIS;
use super::{Binding, Lowerer, Type};
use crate::ast::{Node, Place};
use crate::func::Func;
use crate::names::Root;
use crate::operators::{Arith, Compare};
use crate::parse::constant_of;
use crate::value::Value;

/// A member, an index or a call after a value: `.name`, `[index]`, `.name(…)`.
pub(super) enum Link<'e> {
    Member(&'e str, Position),
    Index(&'e Expr),
    Method(&'e FnCallExpr, Position),
    /// Anything else, which conditions do without.
    Other(Position),
}

/// Takes `a.b[c].d(e)` apart: what it begins with, and the links after it.
fn chain(expr: &Expr) -> (&Expr, Vec<Link<'_>>) {
    let mut links = Vec::new();
    let (first, mut rest, mut indexes, mut ends) = match expr {
        Expr::Dot(pair, flags, _) => (&pair.lhs, &pair.rhs, false, flags.contains(ASTFlags::BREAK)),
        Expr::Index(pair, flags, _) => (&pair.lhs, &pair.rhs, true, flags.contains(ASTFlags::BREAK)),
        other => return (other, links),
    };
    loop {
        let (here, next) = match rest {
            Expr::Dot(pair, flags, _) if !ends => {
                (&pair.lhs, Some((&pair.rhs, false, flags.contains(ASTFlags::BREAK))))
            }
            Expr::Index(pair, flags, _) if !ends => {
                (&pair.lhs, Some((&pair.rhs, true, flags.contains(ASTFlags::BREAK))))
            }
            other => (other, None),
        };
        links.push(match here {
            index if indexes => Link::Index(index),
            Expr::Property(property, at) => Link::Member(property.2.as_str(), *at),
            Expr::MethodCall(call, at) => Link::Method(call, *at),
            other => Link::Other(other.start_position()),
        });
        match next {
            Some((after, is_index, breaks)) => (rest, indexes, ends) = (after, is_index, breaks),
            None => return (first, links),
        }
    }
}

impl Lowerer<'_> {
    pub(crate) fn expr(&mut self, expr: &Expr) -> (Node, Type) {
        self.deeper(expr.start_position(), (Node::Const(Value::Nothing), Type::Any), |lowerer| lowerer.expr_here(expr))
    }

    fn expr_here(&mut self, expr: &Expr) -> (Node, Type) {
        if let Some(value) = constant_of(expr) {
            let gives = Type::of(&value);
            return (Node::Const(value), gives);
        }
        match expr {
            Expr::InterpolatedString(pieces, _) => {
                (Node::Interpolated(pieces.iter().map(|piece| self.expr(piece).0).collect()), Type::Text)
            }
            Expr::Array(items, _) => (Node::List(items.iter().map(|item| self.expr(item).0).collect()), Type::Holder),
            Expr::Map(entries, _) => {
                let entries = &entries.0;
                let lowered = entries
                    .iter()
                    .map(|(name, value)| (SmolStr::new(name.name.as_str()), self.expr(value).0))
                    .collect();
                (Node::Map(lowered), Type::Holder)
            }
            Expr::Variable(variable, _, at) => self.variable(&variable.1, variable.2.is_empty(), *at),
            Expr::ThisPtr(at) => self.variable(THIS, true, *at),
            Expr::DynamicConstant(_, at) => {
                self.lone_closure(*at);
                (Node::Const(Value::Nothing), Type::Any)
            }
            Expr::Stmt(block) => self.scoped(|lowerer| lowerer.block(block.statements())),
            Expr::FnCall(call, at) => self.fn_call(call, *at),
            Expr::Dot(..) | Expr::Index(..) => self.linked(expr),
            Expr::And(parts, _) => (Node::And(self.deciders(parts, "&&")), Type::Bool),
            Expr::Or(parts, _) => (Node::Or(self.deciders(parts, "||")), Type::Bool),
            Expr::Coalesce(parts, _) => {
                let lowered: Vec<(Node, Type)> = parts.iter().map(|part| self.expr(part)).collect();
                let gives = lowered.iter().map(|(_, gives)| *gives).reduce(Type::or).unwrap_or(Type::Any);
                (Node::Coalesce(lowered.into_iter().map(|(code, _)| code).collect()), gives)
            }
            _ => {
                self.unavailable(expr.start_position(), "this expression");
                (Node::Const(Value::Nothing), Type::Any)
            }
        }
    }

    /// A part of Rhai that conditions do without.
    pub(crate) fn unavailable(&mut self, at: Position, what: &str) {
        let help = "a condition has operators, function calls, let, if, for, while and functions of its own";
        self.complain(at, "not-available", format!("{what} is not available in conditions"), Some(help.to_owned()));
    }

    fn variable(&mut self, name: &str, plain: bool, at: Position) -> (Node, Type) {
        if !plain {
            self.unavailable(at, "a module");
        } else if let Some(slot) = self.local(name) {
            return (Node::Local(slot), Type::Any);
        } else if matches!(self.binding(name), Some(Binding::Closure(_))) {
            self.lone_closure(at);
        } else if let Some(root) = self.root(name) {
            return self.path(root, Vec::new(), at);
        } else {
            self.unknown_name(name, at);
        }
        (Node::Const(Value::Nothing), Type::Any)
    }

    fn deciders(&mut self, parts: &[Expr], symbol: &str) -> Vec<Node> {
        parts
            .iter()
            .map(|part| {
                let (code, gives) = self.expr(part);
                self.must_be_bool(gives, part.start_position(), &format!("`{symbol}`"));
                code
            })
            .collect()
    }

    /// Reports a deciding expression that is certainly not true or false.
    pub(crate) fn must_be_bool(&mut self, gives: Type, at: Position, what: &str) {
        if matches!(gives, Type::Number | Type::Text | Type::Holder) {
            let message = format!("{what} needs true or false; this is {}", gives.describe());
            self.complain(at, "not-a-bool", message, Some("compare it with something, for example > 0".to_owned()));
        }
    }

    /// Members, indexes and methods after a value.
    fn linked(&mut self, expr: &Expr) -> (Node, Type) {
        let (first, links) = chain(expr);
        let mut rest = links.as_slice();
        let (mut code, mut gives) = match first {
            Expr::Variable(variable, _, at) if variable.2.is_empty() && self.binding(&variable.1).is_none() => {
                match self.root(&variable.1) {
                    Some(root) => {
                        let path = leading_members(rest);
                        rest = &rest[path.len()..];
                        let at = path.last().map_or(*at, |(_, at)| *at);
                        self.path(root, path.into_iter().map(|(name, _)| name).collect(), at)
                    }
                    None => self.expr(first),
                }
            }
            _ => self.expr(first),
        };
        // The variable or its element that a method after it changes in place.
        let mut place = match first {
            Expr::Variable(variable, ..) => self.local(&variable.1).map(|slot| Place { slot, path: Vec::new() }),
            _ => None,
        };
        for link in rest {
            if let Link::Method(call, at) = link {
                let holder = Holder { code, gives, place: place.take() };
                (code, gives) = self.method(call, holder, *at);
                continue;
            }
            if let Link::Member(name @ ("len" | "is_empty"), at) = link
                && !matches!(code, Node::Path(Root::Labels, _))
            {
                place = None;
                (code, gives) = self.property(code, name, *at);
                continue;
            }
            let Some(element) = self.element(link) else { continue };
            if let Some(place) = &mut place {
                place.path.push(element.clone());
            }
            code = match element {
                Node::Const(Value::Text(name)) if matches!(link, Link::Member(..)) => {
                    Node::Member(Box::new(code), name)
                }
                element => Node::Index(Box::new((code, element))),
            };
            gives = Type::Any;
        }
        (code, gives)
    }

    /// The name or index of a link.
    pub(super) fn element(&mut self, link: &Link<'_>) -> Option<Node> {
        match link {
            Link::Member(name, _) => Some(Node::Const(Value::text(name))),
            Link::Index(index) => Some(self.expr(index).0),
            Link::Method(_, at) | Link::Other(at) => {
                self.unavailable(*at, "this after a value");
                None
            }
        }
    }

    /// The variable that an expression begins with, and the links after it.
    pub(super) fn variable_and_links<'e>(&self, expr: &'e Expr) -> Option<(usize, Vec<Link<'e>>)> {
        let (first, links) = chain(expr);
        let Expr::Variable(variable, ..) = first else { return None };
        let only_elements = links.iter().all(|link| matches!(link, Link::Member(..) | Link::Index(_)));
        self.local(&variable.1).filter(|_| only_elements).map(|slot| (slot, links))
    }

    /// `list.len`, as Rhai has it beside `list.len()`.
    fn property(&mut self, holder: Node, name: &str, at: Position) -> (Node, Type) {
        self.named_call(name, Some((holder, Type::Any)), &[], at)
    }

    /// An operator or a call.
    fn fn_call(&mut self, call: &FnCallExpr, at: Position) -> (Node, Type) {
        if call.is_qualified() {
            self.unavailable(at, "a module");
            return (Node::Const(Value::Nothing), Type::Any);
        }
        if call.capture_parent_scope {
            self.unavailable(at, "a call with `!`");
        }
        if !call.is_operator_call() {
            if let Some(method) = self.method_as_function(call, at) {
                return method;
            }
            return self.named_call(&call.name, None, &call.args, at);
        }
        match (call.name.as_str(), call.args.as_slice()) {
            ("!", [inner]) => {
                let (code, gives) = self.expr(inner);
                self.must_be_bool(gives, inner.start_position(), "`!`");
                (Node::Not(Box::new(code)), Type::Bool)
            }
            ("-", [inner]) => match self.expr(inner) {
                (Node::Const(Value::Int(whole)), _) if whole != i64::MIN => {
                    (Node::Const(Value::Int(-whole)), Type::Number)
                }
                (Node::Const(Value::Float(number)), _) => (Node::Const(Value::Float(-number)), Type::Number),
                (code, _) => (Node::Negate(Box::new(code)), Type::Number),
            },
            ("+", [inner]) => self.expr(inner),
            (name, [left, right]) => self.operator(name, left, right, at),
            (name, args) => self.named_call(name, None, args, at),
        }
    }

    fn operator(&mut self, name: &str, left: &Expr, right: &Expr, at: Position) -> (Node, Type) {
        if let Some(op) = Compare::of(name) {
            return self.comparison(op, left, right, at);
        }
        let (left_code, left_gives) = self.expr(left);
        let (right_code, right_gives) = self.expr(right);
        let pair = Box::new((left_code, right_code));
        if let Some(op) = Arith::of(name) {
            let gives = self.arithmetic(op, left_gives, right_gives, at);
            return (Node::Arith(op, pair), gives);
        }
        match name {
            // Rhai writes `item in holder` as `contains(holder, item)`.
            "contains" | "in" => (Node::In(Box::new((pair.1, pair.0))), Type::Bool),
            ".." => (Node::Range(pair, false), Type::Holder),
            "..=" => (Node::Range(pair, true), Type::Holder),
            "&" | "|" => {
                let help = format!("write {name}{name}");
                self.complain(
                    at,
                    "not-available",
                    format!("`{name}` works on bits; conditions use {name}{name}"),
                    Some(help),
                );
                (Node::Const(Value::Nothing), Type::Bool)
            }
            _ => {
                self.complain(at, "not-available", format!("`{name}` is not available in conditions"), None);
                (Node::Const(Value::Nothing), Type::Any)
            }
        }
    }

    fn arithmetic(&mut self, op: Arith, left: Type, right: Type, at: Position) -> Type {
        for gives in [left, right] {
            let joins = op == Arith::Add && matches!(gives, Type::Text | Type::Holder);
            if matches!(gives, Type::Bool | Type::Text | Type::Holder) && !joins && !(op == Arith::Add && left != right)
            {
                let message = format!("`{}` cannot calculate with {}", op.symbol(), gives.describe());
                self.complain(at, "type-mismatch", message, None);
                return Type::Number;
            }
        }
        match (op, left, right) {
            (Arith::Add, Type::Text, _) | (Arith::Add, _, Type::Text) => Type::Text,
            (Arith::Add, Type::Holder, _) | (Arith::Add, _, Type::Holder) => Type::Holder,
            (Arith::Add, Type::Any, _) | (Arith::Add, _, Type::Any) => Type::Any,
            _ => Type::Number,
        }
    }

    fn comparison(&mut self, op: Compare, left: &Expr, right: &Expr, at: Position) -> (Node, Type) {
        let symbol = op.symbol();
        let (left_code, left_gives) = self.expr(left);
        let (right_code, right_gives) = self.expr(right);
        let nothing = [left, right].into_iter().find(|side| matches!(side, Expr::Unit(_)));
        let chained = op.is_ordering() && matches!(&left_code, Node::Compare(inner, _) if inner.is_ordering());
        if let Some(nothing) = nothing {
            let message = format!("comparing with () by `{symbol}` is always unknown");
            let help = "ask with has(x) whether there is data, or give a default with x ?? 0".to_owned();
            self.complain(nothing.position(), "compare-with-nothing", message, Some(help));
        } else if chained {
            let help = "write a < b && b < c".to_owned();
            self.complain(at, "chained-comparison", "comparisons cannot be chained", Some(help));
        } else {
            self.comparable(op, left_gives, right_gives, at);
            self.status_word(&left_code, &right_code, right.start_position());
            self.status_word(&right_code, &left_code, left.start_position());
        }
        (Node::Compare(op, Box::new((left_code, right_code))), Type::Bool)
    }

    /// A verdict is one of two words; any other never equals it.
    fn status_word(&mut self, asked: &Node, word: &Node, at: Position) {
        let asks_status = match asked {
            Node::Read(read) => read.func == Func::Status,
            Node::ComputedRead(signature, _) => signature.func == Func::Status,
            _ => false,
        };
        if let (true, Node::Const(Value::Text(word))) = (asks_status, word)
            && !matches!(word.as_str(), "healthy" | "unhealthy")
        {
            let help = "write \"healthy\" or \"unhealthy\"".to_owned();
            self.warn(at, "never-equal", format!("a status is never \"{word}\""), Some(help));
        }
    }

    fn comparable(&mut self, op: Compare, left: Type, right: Type, at: Position) {
        let certain = |gives: Type| !matches!(gives, Type::Any | Type::Nothing);
        let symbol = op.symbol();
        if certain(left) && certain(right) && left != right {
            let message = format!("`{symbol}` cannot compare {} with {}", left.describe(), right.describe());
            let help = match (left, right) {
                (Type::Number, Type::Text) | (Type::Text, Type::Number) => Some(
                    "write the number without quotes, or duration(\"5m\") for seconds and size(\"2GiB\") for bytes; what is in \
                     milliseconds (`…_ms`, latency) takes the number itself, 2000 for 2s"
                        .to_owned(),
                ),
                _ => None,
            };
            self.complain(at, "type-mismatch", message, help);
        } else if op.is_ordering() && matches!(left, Type::Bool | Type::Holder) {
            let message = format!("`{symbol}` needs numbers or texts, not {}", left.describe());
            self.complain(at, "type-mismatch", message, None);
        }
    }
}

/// The members right after a name: `.a`, `["a"]`.
fn leading_members(links: &[Link<'_>]) -> Vec<(SmolStr, Position)> {
    links
        .iter()
        .map_while(|link| match link {
            Link::Member(name, at) => Some((SmolStr::new(name), *at)),
            Link::Index(Expr::StringConstant(name, at)) => Some((SmolStr::new(name.as_str()), *at)),
            _ => None,
        })
        .collect()
}
