//! Closures, the functions that call them, and the functions that change a list or map in place.

use std::sync::Arc;

use rhai::{Expr, FnCallExpr, FnPtr, Position, Stmt};

use super::{Binding, Lowerer, Type};
use crate::ast::{Closure, Iterate, Iteration, Node, Place, Target};
use crate::mutation::Change;
use crate::value::Value;

/// What the item is called in a closure without parameters.
pub(super) const THIS: &str = "this";

/// Functions that Rhai has and conditions do without, and what to write instead.
const UNAVAILABLE: [(&str, &str); 15] = [
    ("for_each", "write for x in list { … }"),
    ("retain", "write list = list.filter(|x| x > 80)"),
    ("drain", "keep the other items: write list = list.filter(|x| x <= 80)"),
    ("dedup", "write a loop that compares each item with the one before"),
    ("splice", "write list.insert(0, x) and list.remove(0)"),
    ("zip", "write for (x, i) in list { … other[i] … }"),
    ("concat", "write list + other"),
    ("reduce_rev", "write list.reverse().reduce(|sum, x| sum + x, 0)"),
    ("find_index", "write list.index_of(|x| x > 80)"),
    ("sort_by", "sort() orders numbers and texts"),
    ("sort_desc", "write list.sort().reverse()"),
    ("order_by", "sort() orders numbers and texts"),
    ("order", "write list.sort(), which leaves the list as it is and gives a sorted one"),
    ("order_desc", "write list.sort().reverse()"),
    ("curry", "a closure sees the variables around it"),
];

/// What to write instead of a function that conditions do without.
pub(super) fn instead_of(name: &str) -> Option<&'static str> {
    UNAVAILABLE.iter().find(|(known, _)| *known == name).map(|(_, help)| *help)
}

/// The name of a closure's function, and how many of its parameters are variables around it.
///
/// Rhai writes a closure that uses variables around it as a block: it shares the variables, then binds them with
/// `curry`.
fn closure_of(expr: &Expr) -> Option<(String, usize)> {
    match expr {
        Expr::DynamicConstant(value, _) => value.read_lock::<FnPtr>().map(|pointer| (pointer.fn_name().to_owned(), 0)),
        Expr::Stmt(block) => match block.statements().last()? {
            Stmt::Expr(inner) => match &**inner {
                Expr::FnCall(call, _) => curried(call),
                _ => None,
            },
            Stmt::FnCall(call, _) => curried(call),
            _ => None,
        },
        _ => None,
    }
}

fn curried(call: &FnCallExpr) -> Option<(String, usize)> {
    let (first, captured) = call.args.split_first().filter(|_| call.name == "curry")?;
    closure_of(first).map(|(name, _)| (name, captured.len()))
}

impl Lowerer<'_> {
    /// The closure that an expression writes, or that a variable names.
    pub(super) fn closure(&mut self, expr: &Expr) -> Option<Arc<Closure>> {
        if let Expr::Variable(variable, ..) = expr
            && let Some(Binding::Closure(closure)) = self.binding(&variable.1)
        {
            return Some(Arc::clone(closure));
        }
        let (name, captured) = closure_of(expr)?;
        let parsed = self.parsed;
        let definition = parsed.closure(&name)?;
        let own = definition.params.get(captured..).unwrap_or_default();
        Some(self.scoped(|lowerer| {
            let mut params: Vec<usize> = own.iter().map(|name| lowerer.declare(name)).collect();
            let takes_this = params.is_empty();
            if takes_this {
                params.push(lowerer.declare(THIS));
            }
            let (body, _) = lowerer.block(&definition.body);
            Arc::new(Closure { params, takes_this, body })
        }))
    }

    /// Whether an expression writes or names a closure.
    pub(super) fn is_closure(&self, expr: &Expr) -> bool {
        let is_named = |name: &str| matches!(self.binding(name), Some(Binding::Closure(_)));
        closure_of(expr).is_some() || matches!(expr, Expr::Variable(variable, ..) if is_named(&variable.1))
    }

    /// A call with a closure; `None` where the first argument is none.
    pub(super) fn iteration(
        &mut self,
        how: Iteration,
        holder: Node,
        holder_gives: Type,
        args: &[Expr],
        at: Position,
    ) -> Option<(Node, Type)> {
        let (first, rest) = args.split_first()?;
        let closure = self.closure(first)?;
        let gives = match how {
            Iteration::Map | Iteration::Filter => Type::Holder,
            Iteration::Some | Iteration::All => Type::Bool,
            Iteration::IndexOf => Type::Number,
            Iteration::Find | Iteration::FindMap | Iteration::Reduce => Type::Any,
        };
        if !matches!(holder_gives, Type::Any | Type::Holder | Type::Nothing) {
            let message = format!("`{}` needs a list, not {}", how.name(), holder_gives.describe());
            self.complain(at, "type-mismatch", message, None);
        }
        let wrong = match (how, rest) {
            (Iteration::Reduce, [] | [_]) | (_, []) => {
                let least = if how == Iteration::Reduce { 2 } else { 1 };
                !(least..=how.most_params()).contains(&closure.params.len())
                    || (how == Iteration::Reduce && closure.takes_this)
            }
            _ => true,
        };
        if wrong {
            let message = format!("`{}` does not take these arguments", how.name());
            self.complain(at, "wrong-arguments", message, Some(format!("write {}", how.shape())));
        }
        let initial = rest.first().map(|initial| self.expr(initial).0);
        let iterate = Iterate { how, holder, closure, initial };
        Some((Node::Iterate(Box::new(iterate)), gives))
    }

    /// A call that changes a list or map in place.
    pub(super) fn change(&mut self, change: Change, target: Target, args: Vec<Node>, at: Position) -> (Node, Type) {
        if args.len() != change.arguments() {
            let message = format!("`{}` does not take these arguments", change.name());
            self.complain(at, "wrong-arguments", message, Some(format!("write {}", change.shape())));
            return (Node::Const(Value::Nothing), Type::Any);
        }
        let gives = match change {
            Change::Pop | Change::Shift | Change::Remove => Type::Any,
            _ => Type::Nothing,
        };
        (Node::Change(change, target, args), gives)
    }

    /// A closure where none can stand.
    pub(super) fn lone_closure(&mut self, at: Position) {
        let names: Vec<&str> = Iteration::ALL.iter().map(|(name, _)| *name).collect();
        let help = format!("a closure is the argument of {}", names.join(", "));
        self.complain(at, "not-available", "a closure is not available here", Some(help));
    }

    /// The variable that an expression names, or the element below it: `x`, `x.a[0]`.
    pub(super) fn place(&mut self, expr: &Expr) -> Option<Place> {
        let (slot, links) = self.variable_and_links(expr)?;
        let mut path = Vec::new();
        for link in links {
            path.push(self.element(&link)?);
        }
        Some(Place { slot, path })
    }
}
