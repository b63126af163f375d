//! Statements: `let`, assignment, `if`, loops, `return`, `throw`.

use rhai::{ASTFlags, Expr, FlowControl, FnCallExpr, Position, Stmt};

use super::{Lowerer, Type};
use crate::code::{Code, Step};
use crate::data::Arith;
use crate::host::limits;

impl Lowerer<'_> {
    /// Names declared inside end with it.
    pub(super) fn scoped<T>(&mut self, walk: impl FnOnce(&mut Self) -> T) -> T {
        let names = self.scope.len();
        let outcome = walk(self);
        self.scope.truncate(names);
        outcome
    }

    /// Statements; they give what the last one gives.
    pub(super) fn block(&mut self, statements: &[Stmt]) -> (Code, Type) {
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
        if let [Step::Do(_)] = steps.as_slice()
            && let Some(Step::Do(code)) = steps.pop()
        {
            return (code, gives);
        }
        (Code::Block(steps), gives)
    }

    fn statement(&mut self, statement: &Stmt, last: bool) -> Option<(Step, Type)> {
        self.deeper(statement.position(), None, |lowerer| lowerer.statement_here(statement, last))
    }

    fn statement_here(&mut self, statement: &Stmt, last: bool) -> Option<(Step, Type)> {
        Some(match statement {
            Stmt::Noop(_) => return None,
            Stmt::Expr(expr) => {
                let (code, gives) = self.expr(expr);
                (Step::Do(code), gives)
            }
            Stmt::FnCall(call, at) => self.call_statement(call, *at),
            Stmt::Block(block) => {
                let (code, gives) = self.scoped(|lowerer| lowerer.block(block.statements()));
                (Step::Do(code), gives)
            }
            Stmt::If(flow, at) => {
                if last && self.depth <= 1 && self.names.is_some() && open_ended(flow) {
                    let message = "where this `if` does not hold there is no answer, which is no data".to_owned();
                    self.warn(*at, "no-answer", message, Some("add else { false }".to_owned()));
                }
                let (code, gives) = self.branch(flow);
                (Step::Do(code), gives)
            }
            Stmt::Var(variable, _, at) => {
                let (code, _) = self.expr(&variable.1);
                if self.locals >= limits::VARIABLES {
                    let message = format!("the script has more than {} variables", limits::VARIABLES);
                    self.complain(*at, "too-many-variables", message, None);
                    return None;
                }
                (Step::Let(self.declare(&variable.0.name), code), Type::Nothing)
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
                (Step::While { guard: Some(guard), again, body_first: true, body }, Type::Nothing)
            }
            Stmt::For(parts, _) => {
                (self.for_loop(&parts.0.name, parts.1.as_ref().map(|name| name.name.as_str()), &parts.2), {
                    Type::Nothing
                })
            }
            Stmt::BreakLoop(_, flags, _) if !flags.contains(ASTFlags::BREAK) => (Step::Continue, Type::Any),
            Stmt::BreakLoop(value, ..) => (Step::Break(self.optional(value.as_deref()).0), Type::Any),
            Stmt::Return(value, flags, _) if flags.contains(ASTFlags::BREAK) => {
                (Step::Throw(self.optional(value.as_deref()).0), Type::Any)
            }
            Stmt::Return(value, ..) => {
                let (code, gives) = self.optional(value.as_deref());
                (Step::Return(code), gives)
            }
            Stmt::Switch(parts, _) => {
                self.beyond = true;
                let (subject, cases) = &**parts;
                let _ = self.expr(subject);
                for case in &cases.expressions {
                    let _ = self.expr(&case.lhs);
                    let _ = self.expr(&case.rhs);
                }
                return None;
            }
            Stmt::TryCatch(flow, _) => {
                self.beyond = true;
                let _ = self.scoped(|lowerer| lowerer.block(flow.body.statements()));
                let _ = self.scoped(|lowerer| {
                    if let Expr::Variable(caught, ..) = &flow.expr {
                        lowerer.declare(&caught.1);
                    }
                    lowerer.block(flow.branch.statements())
                });
                return None;
            }
            _ => {
                self.beyond = true;
                return None;
            }
        })
    }

    fn optional(&mut self, value: Option<&Expr>) -> (Option<Code>, Type) {
        match value {
            Some(expr) => {
                let (code, gives) = self.expr(expr);
                (Some(code), gives)
            }
            None => (None, Type::Nothing),
        }
    }

    fn call_statement(&mut self, call: &FnCallExpr, at: Position) -> (Step, Type) {
        let expr = Expr::FnCall(Box::new(call.clone()), at);
        let (code, gives) = self.expr(&expr);
        (Step::Do(code), gives)
    }

    fn branch(&mut self, flow: &FlowControl) -> (Code, Type) {
        let (guard, guard_gives) = self.expr(&flow.expr);
        self.must_be_bool(guard_gives, flow.expr.start_position(), "`if`");
        let (then, then_gives) = self.scoped(|lowerer| lowerer.block(flow.body.statements()));
        let (otherwise, else_gives) = self.scoped(|lowerer| lowerer.block(flow.branch.statements()));
        (Code::If(Box::new((guard, then, otherwise))), then_gives.or(else_gives))
    }

    fn while_loop(&mut self, flow: &FlowControl) -> Step {
        let endless = matches!(flow.expr, Expr::Unit(_));
        let guard = (!endless).then(|| {
            let (guard, gives) = self.expr(&flow.expr);
            self.must_be_bool(gives, flow.expr.start_position(), "a loop");
            guard
        });
        let (body, _) = self.scoped(|lowerer| lowerer.block(flow.body.statements()));
        Step::While { guard, again: true, body_first: false, body }
    }

    fn for_loop(&mut self, item: &str, counter: Option<&str>, flow: &FlowControl) -> Step {
        let (over, gives) = self.expr(&flow.expr);
        if matches!(gives, Type::Bool | Type::Number | Type::Text) {
            let message = format!("`for` needs a list or a range, not {}", gives.describe());
            self.complain(flow.expr.start_position(), "type-mismatch", message, Some("write for i in 0..3".to_owned()));
        }
        self.scoped(|lowerer| {
            let counter = counter.map(|name| lowerer.declare(name));
            let item = lowerer.declare(item);
            let (body, _) = lowerer.block(flow.body.statements());
            Step::For { item, counter, over, body }
        })
    }

    /// `x = 5` and `x += 5`, of variables of the script only; as the last statement it was meant as a comparison.
    fn assignment(
        &mut self,
        target: &Expr,
        value: &Expr,
        op: Option<&'static str>,
        at: Position,
        last: bool,
    ) -> Option<(Step, Type)> {
        let (code, _) = self.expr(value);
        let slot = match target {
            Expr::Variable(variable, ..) => self.local(&variable.1),
            _ => None,
        };
        if is_part_of_a_variable(self, target) {
            self.beyond = true;
            let _ = self.expr(target);
            return None;
        }
        let Some(slot) = slot.filter(|_| !(last && op.is_none() && self.depth <= 1)) else {
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
        Some((Step::Assign(slot, op, code), Type::Nothing))
    }
}

/// `list[0]` or `map.key` of a variable of the script.
fn is_part_of_a_variable(lowerer: &Lowerer<'_>, target: &Expr) -> bool {
    match target {
        Expr::Dot(pair, ..) | Expr::Index(pair, ..) => match &pair.lhs {
            Expr::Variable(variable, ..) => lowerer.local(&variable.1).is_some(),
            _ => false,
        },
        _ => false,
    }
}

/// Whether some way through the `if` meets no branch at all.
fn open_ended(flow: &FlowControl) -> bool {
    match flow.branch.statements() {
        [] => true,
        [Stmt::If(next, _)] => open_ended(next),
        _ => false,
    }
}
