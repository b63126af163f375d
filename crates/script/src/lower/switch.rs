//! `switch`: the first arm whose value, range and guard fit.

use rhai::{Expr, Position, RangeCase, SwitchCasesCollection};

use super::{Lowerer, Type};
use crate::ast::{Arm, Node, NumberRange, Switch};
use crate::value::Value;

impl Lowerer<'_> {
    pub(super) fn switch(&mut self, subject: &Expr, cases: &SwitchCasesCollection) -> (Node, Type) {
        let (subject, subject_gives) = self.expr(subject);
        let mut gives = None;
        let mut arms = Vec::new();
        let mut otherwise = None;
        for (index, parts) in cases.expressions.iter().enumerate() {
            let guard = match &parts.lhs {
                Expr::BoolConstant(true, _) => None,
                guard => {
                    let (code, gives) = self.expr(guard);
                    self.must_be_bool(gives, guard.start_position(), "`if`");
                    Some(code)
                }
            };
            let (body, body_gives) = self.expr(&parts.rhs);
            gives = Some(gives.map_or(body_gives, |gives: Type| gives.or(body_gives)));
            if cases.def_case == Some(index) {
                otherwise = Some(body);
                continue;
            }
            let ranges = cases.ranges.iter().filter(|range| range.index() == index).map(number_range).collect();
            let values = self.case_values(cases, index, parts.rhs.start_position());
            for value in &values {
                self.comparable_case(subject_gives, value, parts.rhs.start_position());
            }
            arms.push(Arm { values, ranges, guard, body });
        }
        let mut gives = gives.unwrap_or(Type::Nothing);
        if otherwise.is_none() {
            gives = gives.or(Type::Nothing);
        }
        (Node::Switch(Box::new(Switch { subject, arms, otherwise })), gives)
    }

    /// The values of one arm.
    fn case_values(&mut self, cases: &SwitchCasesCollection, arm: usize, at: Position) -> Vec<Value> {
        let has_range = cases.ranges.iter().any(|range| range.index() == arm);
        let mut hashes: Vec<u64> =
            cases.cases.iter().filter(|(_, list)| list.blocks.contains(&arm)).map(|(hash, _)| *hash).collect();
        hashes.sort_unstable();
        let mut values = Vec::new();
        for hash in hashes {
            match self.parsed.case_values.get(&hash) {
                Some(value) => values.push(value.clone()),
                // Rhai lists a range here too.
                None if has_range => {}
                None => {
                    let help = "a case is a text, a number, a range of whole numbers, true, false or ()".to_owned();
                    self.complain(at, "not-available", "this case cannot be compared with", Some(help));
                }
            }
        }
        values
    }

    /// Reports a case that the subject never equals.
    fn comparable_case(&mut self, subject: Type, case: &Value, at: Position) {
        let case_gives = Type::of(case);
        let certain = |gives: Type| !matches!(gives, Type::Any | Type::Nothing);
        if certain(subject) && certain(case_gives) && subject != case_gives {
            let message = format!("`switch` cannot compare {} with {}", subject.describe(), case_gives.describe());
            self.complain(at, "type-mismatch", message, None);
        }
    }
}

fn number_range(range: &RangeCase) -> NumberRange {
    match range {
        RangeCase::ExclusiveInt(range, _) => NumberRange { from: range.start, to: range.end, inclusive: false },
        RangeCase::InclusiveInt(range, _) => NumberRange { from: *range.start(), to: *range.end(), inclusive: true },
    }
}
