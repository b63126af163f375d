//! Conditions that are arithmetic over metrics, as a short program over numbers; the engine uses it to decide most rules
//! without the interpreter.
//!
//! Invariant: where a program gives an answer, the condition has the same answer; where it cannot tell, it gives `None`.
//! True is 1, false is 0, unknown and missing are NaN; every other number is finite.

use crate::ast::{Node, bytes_of, inside, seconds_of, setting};
use crate::func::Func;
use crate::names::Root;
use crate::operators::{Arith, Compare};
use crate::read::Read;
use crate::value::Value;
use selfheal_model::Map;

/// A condition whose program would be longer is left to the interpreter.
const MAX_OPS: usize = 64;
/// Values on the stack of a program.
const STACK: usize = 16;
/// Larger whole numbers are not exact as floats.
const EXACT: i64 = 1 << 53;

#[derive(Clone, Copy, Debug)]
enum Op {
    Push(f64),
    Read(u16),
    Value,
    Arith(Arith),
    Compare(Compare),
    Not,
    Negate,
    Has,
    /// `&&` of the two values on top; a jump skips it where the first one decides.
    And,
    Or,
    /// Jumps to that operation where the top is false.
    SkipIfFalse(u16),
    SkipIfTrue(u16),
    /// Jumps to that operation where the top is not missing, else drops it.
    SkipIfSome(u16),
}

/// The kind of a value on the stack, known when the program is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Bool,
    /// A whole number: two of them calculate without rounding.
    Whole,
    Number,
    Nothing,
}

/// A condition as a short program over numbers; see [`Condition::fast_path`](crate::Condition::fast_path).
#[derive(Clone, Debug)]
pub struct FastPath {
    ops: Vec<Op>,
    reads: Vec<Read>,
}

impl FastPath {
    /// `settings` are those of the deployment concerned. `None`: the condition is more than arithmetic over metrics.
    pub(crate) fn of(code: &Node, settings: &Map) -> Option<FastPath> {
        let mut compiler = Compiler { settings, ops: Vec::new(), reads: Vec::new() };
        compiler.code(code, 0)?;
        (compiler.ops.len() <= MAX_OPS).then_some(FastPath { ops: compiler.ops, reads: compiler.reads })
    }

    /// The reads of the program; [`FastPath::run`] asks for them by their index.
    pub fn reads(&self) -> &[Read] {
        &self.reads
    }

    /// Runs the program: 1 is true, 0 is false, NaN is no data, any other number is that of a value expression. `None`:
    /// the interpreter must decide. `value` is the number of the rule's `value:`, NaN where it has none. `read` answers a
    /// read by its index with a number, with NaN for no data, or with `None` where it cannot tell.
    pub fn run(&self, value: f64, mut read: impl FnMut(usize) -> Option<f64>) -> Option<f64> {
        let mut stack = [f64::NAN; STACK];
        let mut top = 0;
        let mut at = 0;
        while let Some(op) = self.ops.get(at) {
            at += 1;
            match *op {
                Op::Push(number) => push(&mut stack, &mut top, number)?,
                Op::Read(index) => push(&mut stack, &mut top, read(usize::from(index))?)?,
                Op::Value => push(&mut stack, &mut top, value)?,
                Op::Arith(op) => pair(&mut stack, &mut top, |left, right| calculated(op, left, right))?,
                Op::Compare(op) => pair(&mut stack, &mut top, |left, right| compared(op, left, right))?,
                Op::And => pair(&mut stack, &mut top, |left, right| if right == 0.0 { 0.0 } else { left * right })?,
                Op::Or => pair(&mut stack, &mut top, |left, right| if right == 1.0 { 1.0 } else { left + right })?,
                Op::Not => one(&mut stack, top, |value| 1.0 - value)?,
                Op::Negate => one(&mut stack, top, |value| -value)?,
                Op::Has => one(&mut stack, top, |value| if value.is_nan() { 0.0 } else { 1.0 })?,
                Op::SkipIfFalse(to) if *stack.get(top.checked_sub(1)?)? == 0.0 => at = usize::from(to),
                Op::SkipIfTrue(to) if *stack.get(top.checked_sub(1)?)? == 1.0 => at = usize::from(to),
                Op::SkipIfSome(to) if !stack.get(top.checked_sub(1)?)?.is_nan() => at = usize::from(to),
                Op::SkipIfSome(_) => top -= 1,
                Op::SkipIfFalse(_) | Op::SkipIfTrue(_) => {}
            }
        }
        stack.get(top.checked_sub(1)?).copied()
    }
}

fn push(stack: &mut [f64; STACK], top: &mut usize, value: f64) -> Option<()> {
    *stack.get_mut(*top)? = value;
    *top += 1;
    Some(())
}

fn one(stack: &mut [f64; STACK], top: usize, apply: impl FnOnce(f64) -> f64) -> Option<()> {
    let place = stack.get_mut(top.checked_sub(1)?)?;
    *place = apply(*place);
    Some(())
}

fn pair(stack: &mut [f64; STACK], top: &mut usize, apply: impl FnOnce(f64, f64) -> f64) -> Option<()> {
    let right = *stack.get(top.checked_sub(1)?)?;
    *top -= 1;
    let left = stack.get_mut(top.checked_sub(1)?)?;
    *left = apply(*left, right);
    Some(())
}

fn calculated(op: Arith, left: f64, right: f64) -> f64 {
    let number = op.of_floats(left, right);
    // what is missing stays missing, also to the power of 0
    if number.is_finite() && !left.is_nan() && !right.is_nan() { number } else { f64::NAN }
}

fn compared(op: Compare, left: f64, right: f64) -> f64 {
    match left.partial_cmp(&right) {
        Some(order) => f64::from(u8::from(op.holds(order))),
        None => f64::NAN,
    }
}

struct Compiler<'m> {
    settings: &'m Map,
    ops: Vec<Op>,
    reads: Vec<Read>,
}

impl Compiler<'_> {
    /// `under` is how many values are on the stack before. `None`: the interpreter must decide.
    fn code(&mut self, code: &Node, under: usize) -> Option<Kind> {
        if under >= STACK || self.ops.len() > MAX_OPS {
            return None;
        }
        match code {
            Node::Const(data) => self.constant(data),
            Node::Path(Root::Value, path) if path.is_empty() => {
                self.ops.push(Op::Value);
                Some(Kind::Number)
            }
            Node::Path(Root::Settings, path) => self.constant(&inside(self.settings, path)),
            Node::Setting(inner) => match inner.as_ref() {
                Node::Const(Value::Text(path)) => self.constant(&setting(self.settings, path)),
                _ => None,
            },
            Node::Duration(inner) => self.constant(&seconds_of(constant_of(inner)?).ok()?),
            Node::Size(inner) => self.constant(&bytes_of(constant_of(inner)?).ok()?),
            Node::Read(read) => {
                if !is_number_of_a_metric(read.func) {
                    return None;
                }
                let known = self.reads.iter().position(|own| own == read.as_ref());
                let index = known.unwrap_or_else(|| {
                    self.reads.push(read.as_ref().clone());
                    self.reads.len() - 1
                });
                self.ops.push(Op::Read(u16::try_from(index).ok()?));
                Some(Kind::Number)
            }
            Node::Not(inner) => {
                self.truth(inner, under)?;
                self.ops.push(Op::Not);
                Some(Kind::Bool)
            }
            Node::Negate(inner) => match self.code(inner, under)? {
                Kind::Number => {
                    self.ops.push(Op::Negate);
                    Some(Kind::Number)
                }
                Kind::Whole | Kind::Bool | Kind::Nothing => None,
            },
            Node::Has(inner) => {
                self.code(inner, under)?;
                self.ops.push(Op::Has);
                Some(Kind::Bool)
            }
            Node::Arith(op, parts) => {
                let kinds = (self.code(&parts.0, under)?, self.code(&parts.1, under + 1)?);
                let numbers = matches!(kinds, (Kind::Number, Kind::Number | Kind::Whole) | (Kind::Whole, Kind::Number));
                self.ops.push(Op::Arith(*op));
                numbers.then_some(Kind::Number)
            }
            Node::Compare(op, parts) => {
                let kinds = (self.code(&parts.0, under)?, self.code(&parts.1, under + 1)?);
                let number = |kind| matches!(kind, Kind::Number | Kind::Whole);
                self.ops.push(Op::Compare(*op));
                (number(kinds.0) && number(kinds.1)).then_some(Kind::Bool)
            }
            Node::And(parts) => self.decide(parts, under, Op::And, Op::SkipIfFalse),
            Node::Or(parts) => self.decide(parts, under, Op::Or, Op::SkipIfTrue),
            Node::Coalesce(parts) => self.coalesce(parts, under),
            _ => None,
        }
    }

    fn truth(&mut self, code: &Node, under: usize) -> Option<()> {
        matches!(self.code(code, under)?, Kind::Bool | Kind::Nothing).then_some(())
    }

    fn constant(&mut self, data: &Value) -> Option<Kind> {
        let (number, kind) = match data {
            Value::Nothing => (f64::NAN, Kind::Nothing),
            Value::Bool(value) => (f64::from(u8::from(*value)), Kind::Bool),
            Value::Int(whole) if (-EXACT..=EXACT).contains(whole) => (*whole as f64, Kind::Whole),
            Value::Float(number) => (*number, Kind::Number),
            Value::Int(_) | Value::Text(_) | Value::List(_) | Value::Map(_) => return None,
        };
        self.ops.push(Op::Push(number));
        Some(kind)
    }

    fn decide(&mut self, parts: &[Node], under: usize, join: Op, skip: fn(u16) -> Op) -> Option<Kind> {
        let mut skips = Vec::new();
        for (index, part) in parts.iter().enumerate() {
            if index == 0 {
                self.truth(part, under)?;
            } else {
                skips.push(self.ops.len());
                self.ops.push(skip(0));
                self.truth(part, under + 1)?;
                self.ops.push(join);
            }
        }
        self.land(&skips, skip)?;
        (!parts.is_empty()).then_some(Kind::Bool)
    }

    fn coalesce(&mut self, parts: &[Node], under: usize) -> Option<Kind> {
        let mut skips = Vec::new();
        let mut kind = Kind::Nothing;
        for (index, part) in parts.iter().enumerate() {
            if index > 0 {
                skips.push(self.ops.len());
                self.ops.push(Op::SkipIfSome(0));
            }
            kind = match (kind, self.code(part, under)?) {
                (Kind::Nothing, other) | (other, Kind::Nothing) => other,
                (Kind::Bool, Kind::Bool) => Kind::Bool,
                (Kind::Number, Kind::Number) => Kind::Number,
                // which of the two it is is known only when it runs
                _ => return None,
            };
        }
        self.land(&skips, Op::SkipIfSome)?;
        Some(kind)
    }

    fn land(&mut self, skips: &[usize], skip: fn(u16) -> Op) -> Option<()> {
        let here = u16::try_from(self.ops.len()).ok()?;
        for place in skips {
            *self.ops.get_mut(*place)? = skip(here);
        }
        Some(())
    }
}

fn is_number_of_a_metric(func: Func) -> bool {
    func.is_number_of_metric()
}

fn constant_of(code: &Node) -> Option<&Value> {
    match code {
        Node::Const(data) => Some(data),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
