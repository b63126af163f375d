//! Whether two levels of a rule have the same ladder.
//!
//! A rise to a level with the same ladder changes nothing; a rise to a level with a ladder of its own starts that ladder.
//! Two ladders are the same if every key of every rung is the same, whatever a key is for.

use std::sync::Arc;

use selfheal_model::Selector;
use selfheal_policy::ladder::{Ladder, On, Rung};
use selfheal_script::{Condition, Param};

/// Compares what the policy files say, so that two levels that fill in the same `remediate` share one ladder.
pub(super) fn is_same_ladder(one: &Arc<Ladder>, other: &Arc<Ladder>) -> bool {
    Arc::ptr_eq(one, other)
        || (one.rungs.len() == other.rungs.len()
            && one.rungs.iter().zip(&other.rungs).all(|(one, other)| is_same_rung(one, other)))
}

fn is_same_rung(one: &Rung, other: &Rung) -> bool {
    // named one by one, so that a new key of a rung does not compile before it is compared here
    let Rung { playbook, with, if_, on, approval, batch, pause, repeat, give_up } = one;
    *playbook == other.playbook
        && are_same_entries(with, &other.with)
        && source_of(if_.as_ref()) == source_of(other.if_.as_ref())
        && are_same_targets(on.as_ref(), other.on.as_ref())
        && *approval == other.approval
        && *batch == other.batch
        && *pause == other.pause
        && *repeat == other.repeat
        && *give_up == other.give_up
}

fn source_of(condition: Option<&Condition>) -> Option<&str> {
    condition.map(Condition::source)
}

fn are_same_targets(one: Option<&On>, other: Option<&On>) -> bool {
    match (one, other) {
        (None, None) => true,
        (Some(On::Deployment(one)), Some(On::Deployment(other))) => is_same_param(one, other),
        (Some(On::Firing(one)), Some(On::Firing(other))) => one == other,
        (Some(On::Select(one)), Some(On::Select(other))) => is_same_selector(one, other),
        (None | Some(On::Deployment(_) | On::Firing(_) | On::Select(_)), _) => false,
    }
}

fn is_same_selector(one: &Selector, other: &Selector) -> bool {
    one.0.iter().map(ToString::to_string).eq(other.0.iter().map(ToString::to_string))
}

fn are_same_entries(one: &[(String, Param)], other: &[(String, Param)]) -> bool {
    one.len() == other.len() && one.iter().zip(other).all(|(a, b)| a.0 == b.0 && is_same_param(&a.1, &b.1))
}

fn is_same_param(one: &Param, other: &Param) -> bool {
    match (one, other) {
        (Param::Literal(a), Param::Literal(b)) => a == b,
        (Param::Template(a), Param::Template(b)) => a.source() == b.source(),
        (Param::List(a), Param::List(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| is_same_param(a, b)),
        (Param::Map(a), Param::Map(b)) => are_same_entries(a, b),
        (Param::Literal(_) | Param::Template(_) | Param::List(_) | Param::Map(_), _) => false,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::remedy::tests::bench::condition;

    fn ladder(rung: Rung) -> Arc<Ladder> {
        Arc::new(Ladder { rungs: vec![rung] })
    }

    fn plain() -> Rung {
        Rung::plain("restart".into(), vec![("how".to_owned(), Param::Literal("gently".into()))])
    }

    fn select(text: &str) -> On {
        On::Select(Selector(vec![text.parse().expect("a matcher")]))
    }

    fn on_deployment(id: &str) -> On {
        On::Deployment(Param::Literal(id.into()))
    }

    #[test]
    fn a_ladder_differs_if_any_key_of_a_rung_differs() {
        let all = [
            plain(),
            Rung { playbook: "rollback".into(), ..plain() },
            Rung { with: Vec::new(), ..plain() },
            Rung { with: vec![("how".to_owned(), Param::Literal("hard".into()))], ..plain() },
            Rung { if_: Some(condition()), ..plain() },
            Rung { on: Some(on_deployment("db")), ..plain() },
            Rung { on: Some(on_deployment("ci")), ..plain() },
            Rung { on: Some(On::Firing("db".into())), ..plain() },
            Rung { on: Some(On::Firing("ci".into())), ..plain() },
            Rung { on: Some(select("tier=db")), ..plain() },
            Rung { on: Some(select("tier!=db")), ..plain() },
            Rung { approval: true, ..plain() },
            Rung { batch: Some(2), ..plain() },
            Rung { pause: Duration::from_secs(9), ..plain() },
            Rung { repeat: Some(Duration::from_secs(9)), ..plain() },
            Rung { give_up: Duration::from_secs(9), ..plain() },
        ];
        for (i, one) in all.iter().enumerate() {
            for (j, other) in all.iter().enumerate() {
                let is_same = is_same_ladder(&ladder(one.clone()), &ladder(other.clone()));
                assert_eq!(is_same, i == j, "rungs {i} and {j}");
            }
        }
        let two = Arc::new(Ladder { rungs: vec![plain(), plain()] });
        assert!(!is_same_ladder(&two, &ladder(plain())), "the number of rungs differs");
    }
}
