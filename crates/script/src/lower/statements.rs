//! Statements: `let`, assignment, `if`, loops, `return`, `throw`, `try`.

use rhai::{ASTFlags, Expr, FlowControl, FnCallExpr, Position, Stmt};
use smol_str::SmolStr;

use super::{Binding, Lowerer, Type};
use crate::ast::{Node, Statement, Try};
use crate::limits;
use crate::operators::Arith;

impl Lowerer<'_> {
    /// Names declared inside end with it.
    pub(crate) fn scoped<T>(&mut self, walk: impl FnOnce(&mut Self) -> T) -> T {
        let names = self.scope.len();
        let outcome = walk(self);
        self.scope.truncate(names);
        outcome
    }

    /// Statements; they give what the last one gives.
    pub(crate) fn block(&mut self, statements: &[Stmt]) -> (Node, Type) {
        let mut steps = Vec::new();
        let mut gives = Type::Nothing;
        let written: Vec<&Stmt> = statements.iter().filter(|statement| !statement.is_noop()).collect();
        for (index, statement) in written.iter().enumerate() {
            let last = index + 1 == written.len();
            if let Some((step, kind)) = self.statement(statement, last) {
                steps.push(step);
                gives = kind;
            }
        }
        // A lone expression needs no block around it.
        if let [Statement::Do(_)] = steps.as_slice()
            && let Some(Statement::Do(code)) = steps.pop()
        {
            return (code, gives);
        }
        (Node::Block(steps), gives)
    }

    fn statement(&mut self, statement: &Stmt, last: bool) -> Option<(Statement, Type)> {
        self.deeper(statement.position(), None, |lowerer| lowerer.statement_here(statement, last))
    }

    fn statement_here(&mut self, statement: &Stmt, last: bool) -> Option<(Statement, Type)> {
        Some(match statement {
            Stmt::Noop(_) => return None,
            Stmt::Expr(expr) => {
                let (code, gives) = self.expr(expr);
                (Statement::Do(code), gives)
            }
            Stmt::FnCall(call, at) => self.call_statement(call, *at),
            Stmt::Block(block) => {
                let (code, gives) = self.scoped(|lowerer| lowerer.block(block.statements()));
                (Statement::Do(code), gives)
            }
            Stmt::If(flow, at) => {
                if last && self.depth <= 1 && self.names.is_some() && open_ended(flow) {
                    let message = "where this `if` does not hold there is no answer, which is no data".to_owned();
                    self.warn(*at, "no-answer", message, Some("add else { false }".to_owned()));
                }
                let (code, gives) = self.branch(flow);
                (Statement::Do(code), gives)
            }
            Stmt::Var(variable, _, _) if self.bind_closure(&variable.0.name, &variable.1) => return None,
            Stmt::Var(variable, _, at) => {
                let (code, _) = self.expr(&variable.1);
                if self.locals >= limits::VARIABLES {
                    let message = format!("the script has more than {} variables", limits::VARIABLES);
                    self.complain(*at, "too-many-variables", message, None);
                    return None;
                }
                (Statement::Let(self.declare(&variable.0.name), code), Type::Nothing)
            }
            Stmt::Assignment(assignment) => self.assignment(
                &assignment.1.lhs,
                &assignment.1.rhs,
                assignment.0.get_op_assignment_info().map(|info| info.5),
                assignment.0.position(),
                last,
            )?,
            // An endless loop ends by `break`, which can carry the answer.
            Stmt::While(flow, _) if matches!(flow.expr, Expr::Unit(_)) => (self.while_loop(flow), Type::Any),
            Stmt::While(flow, _) => (self.while_loop(flow), Type::Nothing),
            Stmt::Do(flow, flags, _) => {
                let again = !flags.contains(ASTFlags::NEGATED);
                let (body, _) = self.scoped(|lowerer| lowerer.block(flow.body.statements()));
                let (guard, gives) = self.expr(&flow.expr);
                self.must_be_bool(gives, flow.expr.start_position(), "a loop");
                (Statement::While { guard: Some(guard), again, body_first: true, body }, Type::Nothing)
            }
            Stmt::For(parts, _) => {
                (self.for_loop(&parts.0.name, parts.1.as_ref().map(|name| name.name.as_str()), &parts.2), {
                    Type::Nothing
                })
            }
            Stmt::BreakLoop(_, flags, _) if !flags.contains(ASTFlags::BREAK) => (Statement::Continue, Type::Any),
            Stmt::BreakLoop(value, ..) => (Statement::Break(self.optional(value.as_deref()).0), Type::Any),
            Stmt::Return(value, flags, _) if flags.contains(ASTFlags::BREAK) => {
                (Statement::Throw(self.optional(value.as_deref()).0), Type::Any)
            }
            Stmt::Return(value, ..) => {
                let (code, gives) = self.optional(value.as_deref());
                (Statement::Return(code), gives)
            }
            Stmt::Switch(parts, at) => {
                let (subject, cases) = &**parts;
                if last && self.depth <= 1 && self.names.is_some() && cases.def_case.is_none() {
                    let message = "where no case of this `switch` fits there is no answer, which is no data";
                    self.warn(*at, "no-answer", message, Some("add _ => false".to_owned()));
                }
                let (code, gives) = self.switch(subject, cases);
                (Statement::Do(code), gives)
            }
            Stmt::TryCatch(flow, at) => {
                if last && self.depth <= 1 && self.names.is_some() {
                    let message = "where the body of this `try` fails there is no answer, which is no data";
                    let help = "assign to a variable in both blocks, and end with the variable".to_owned();
                    self.warn(*at, "no-answer", message, Some(help));
                }
                let (code, gives) = self.try_catch(flow);
                (Statement::Do(code), gives)
            }
            // What Rhai writes before a closure that uses variables around it.
            Stmt::Share(_) => return None,
            _ => {
                self.unavailable(statement.position(), "this statement");
                return None;
            }
        })
    }

    fn try_catch(&mut self, flow: &FlowControl) -> (Node, Type) {
        let (body, body_gives) = self.scoped(|lowerer| lowerer.block(flow.body.statements()));
        let (caught, (handler, _)) = self.scoped(|lowerer| {
            let caught = match &flow.expr {
                Expr::Variable(caught, ..) => Some(lowerer.declare(&caught.1)),
                _ => None,
            };
            (caught, lowerer.block(flow.branch.statements()))
        });
        (Node::Try(Box::new(Try { body, caught, handler })), body_gives)
    }

    fn optional(&mut self, value: Option<&Expr>) -> (Option<Node>, Type) {
        match value {
            Some(expr) => {
                let (code, gives) = self.expr(expr);
                (Some(code), gives)
            }
            None => (None, Type::Nothing),
        }
    }

    fn call_statement(&mut self, call: &FnCallExpr, at: Position) -> (Statement, Type) {
        let expr = Expr::FnCall(Box::new(call.clone()), at);
        let (code, gives) = self.expr(&expr);
        (Statement::Do(code), gives)
    }

    fn branch(&mut self, flow: &FlowControl) -> (Node, Type) {
        let (guard, guard_gives) = self.expr(&flow.expr);
        self.must_be_bool(guard_gives, flow.expr.start_position(), "`if`");
        let (then, then_gives) = self.scoped(|lowerer| lowerer.block(flow.body.statements()));
        let (otherwise, else_gives) = self.scoped(|lowerer| lowerer.block(flow.branch.statements()));
        (Node::If(Box::new((guard, then, otherwise))), then_gives.or(else_gives))
    }

    fn while_loop(&mut self, flow: &FlowControl) -> Statement {
        let endless = matches!(flow.expr, Expr::Unit(_));
        let guard = (!endless).then(|| {
            let (guard, gives) = self.expr(&flow.expr);
            self.must_be_bool(gives, flow.expr.start_position(), "a loop");
            guard
        });
        let (body, _) = self.scoped(|lowerer| lowerer.block(flow.body.statements()));
        Statement::While { guard, again: true, body_first: false, body }
    }

    fn for_loop(&mut self, item: &str, counter: Option<&str>, flow: &FlowControl) -> Statement {
        let (over, gives) = self.expr(&flow.expr);
        if matches!(gives, Type::Bool | Type::Number | Type::Text) {
            let message = format!("`for` needs a list or a range, not {}", gives.describe());
            self.complain(flow.expr.start_position(), "type-mismatch", message, Some("write for i in 0..3".to_owned()));
        }
        self.scoped(|lowerer| {
            let counter = counter.map(|name| lowerer.declare(name));
            let item = lowerer.declare(item);
            let (body, _) = lowerer.block(flow.body.statements());
            Statement::For { item, counter, over, body }
        })
    }

    /// `x = 5`, `x[0] = 5`, `x += 5`, of variables of the script only. As the last statement, `x = 5` is reported as a
    /// comparison written with the wrong operator.
    fn assignment(
        &mut self,
        target: &Expr,
        value: &Expr,
        op: Option<&'static str>,
        at: Position,
        last: bool,
    ) -> Option<(Statement, Type)> {
        let (code, _) = self.expr(value);
        let place = self.place(target);
        let is_element = place.as_ref().is_some_and(|place| !place.path.is_empty());
        let is_comparison = last && op.is_none() && self.depth <= 1 && !is_element;
        let Some(place) = place.filter(|_| !is_comparison) else {
            let (message, help) = match op {
                Some(op) => (format!("`{op}=` changes variables of the script only"), "declare it with let first"),
                None => ("`=` assigns; a comparison is written ==".to_owned(), "write =="),
            };
            // The other side is checked too, so that a name that does not exist is told at once.
            let _ = self.expr(target);
            self.complain(at, "assignment", message, Some(help.to_owned()));
            return None;
        };
        let op = match op {
            None => None,
            Some(symbol) => match Arith::of(symbol) {
                Some(op) => Some(op),
                None => {
                    self.complain(at, "not-available", format!("`{symbol}=` is not available in conditions"), None);
                    return None;
                }
            },
        };
        let statement = if place.path.is_empty() {
            Statement::Assign(place.slot, op, code)
        } else {
            Statement::AssignAt(place, op, code)
        };
        Some((statement, Type::Nothing))
    }

    /// `let is_high = |x| x > 80;`: the name stands for the closure from here on.
    fn bind_closure(&mut self, name: &str, value: &Expr) -> bool {
        let Some(closure) = self.closure(value) else { return false };
        self.scope.push((SmolStr::new(name), Binding::Closure(closure)));
        true
    }
}

/// Whether no branch runs where no guard of the `if` holds.
fn open_ended(flow: &FlowControl) -> bool {
    match flow.branch.statements() {
        [] => true,
        [Stmt::If(next, _)] => open_ended(next),
        _ => false,
    }
}
