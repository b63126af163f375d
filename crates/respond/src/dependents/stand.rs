//! How one alert of a dependent stands with people: the table of what it hears and what becomes of it.

use std::time::Duration;

use crate::remedy::{Root, limits_of};
use selfheal_model::{DeploymentId, Timestamp};
use selfheal_policy::Policy;

/// The figures that hold for one deployment.
#[derive(Clone, Copy, Debug)]
pub(super) struct Terms {
    /// `dependency_hold`
    pub hold: Duration,
    /// `dependency_wait`
    pub wait: Duration,
    pub grace: Duration,
}

impl Terms {
    pub fn of(policy: &Policy, id: &DeploymentId) -> Self {
        let limits = limits_of(policy, id);
        Terms { hold: limits.dependency_hold, wait: limits.dependency_wait, grace: limits.grace }
    }
}

/// What is said of it to people, and since when.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(super) enum Stand {
    /// Its first word waits: what it depends on may turn out to be out.
    Waiting { since: Timestamp },
    /// Not told: its root is out.
    Held { root: Root, since: Timestamp },
    /// Not told yet: its root is back since then, and it may end by itself.
    Grace { root: Root, held_since: Timestamp, since: Timestamp },
    /// It was held for as long as anything is. Told with its root named, which is still out.
    Named { root: Root, since: Timestamp },
    /// Nothing it depends on explains it: told as any other.
    Free,
    /// It fires no more. `explained`: a root explained it to its end. `over`: since when its episode is over, too.
    Ended { explained: bool, over: Option<Timestamp> },
}

/// A run that began before a root was out may end long after the alert did; it ends within its deadline, mostly.
const KEPT: Duration = Duration::from_secs(3600);

/// What happens to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Heard {
    /// It fires. `known`: people may have heard of it in this episode. `back`: what was its root, and is not out any more.
    Fired {
        known: bool,
        back: Option<Root>,
    },
    /// This root is out.
    Out(Root),
    /// Nothing it depends on is out.
    Clear,
    /// Its time is over.
    Due,
    Resolved,
    EpisodeOver,
}

impl Stand {
    /// Before its first firing.
    pub const NEW: Stand = Stand::Ended { explained: false, over: None };

    pub fn after(self, heard: Heard, now: Timestamp, terms: Terms) -> Stand {
        match (self, heard) {
            (stand, Heard::Resolved) => {
                let explained = matches!(stand, Stand::Held { .. } | Stand::Grace { .. });
                Stand::Ended { explained, over: None }
            }
            (Stand::Ended { explained, .. }, Heard::EpisodeOver) => Stand::Ended { explained, over: Some(now) },
            (stand, Heard::EpisodeOver) => stand,
            (_, Heard::Fired { known, back }) => Stand::firing(known, back, now, terms),
            (stand @ Stand::Ended { .. }, _) => stand,
            (Stand::Waiting { .. } | Stand::Free, Heard::Out(root)) => Stand::Held { root, since: now },
            (Stand::Held { since, .. }, Heard::Out(root)) => Stand::Held { root, since },
            // a root that comes and goes holds it no longer than one that stays away
            (Stand::Grace { held_since, .. }, Heard::Out(root)) => Stand::Held { root, since: held_since },
            (Stand::Named { since, .. }, Heard::Out(root)) => Stand::Named { root, since },
            (Stand::Held { root, since }, Heard::Clear) => {
                Stand::Grace { root: Root { back_at: Some(now), ..root }, held_since: since, since: now }
            }
            (Stand::Named { .. }, Heard::Clear) => Stand::Free,
            (Stand::Held { root, since }, Heard::Due) => Stand::Named { root, since },
            (Stand::Waiting { .. } | Stand::Grace { .. } | Stand::Free, Heard::Due) => Stand::Free,
            (stand @ Stand::Named { .. }, Heard::Due) => stand,
            (stand @ (Stand::Waiting { .. } | Stand::Grace { .. } | Stand::Free), Heard::Clear) => stand,
        }
    }

    fn firing(known: bool, back: Option<Root>, now: Timestamp, terms: Terms) -> Stand {
        let in_grace = |root: &Root| root.back_at.filter(|at| now < *at + terms.grace);
        match back.and_then(|root| Some((in_grace(&root)?, root))) {
            Some((since, root)) => Stand::Grace { root, held_since: now, since },
            None if known => Stand::Free,
            None => Stand::Waiting { since: now },
        }
    }

    /// When it moves on by itself.
    pub fn until(&self, terms: Terms) -> Option<Timestamp> {
        match self {
            Stand::Waiting { since } => Some(*since + terms.hold),
            Stand::Held { since, .. } => Some(*since + terms.wait),
            Stand::Grace { since, .. } => Some(*since + terms.grace),
            Stand::Ended { over, .. } => over.map(|at| at + KEPT),
            Stand::Named { .. } | Stand::Free => None,
        }
    }

    /// By which root it is or was held in this firing, and since when.
    pub fn held_by(&self) -> Option<(&DeploymentId, Timestamp)> {
        match self {
            Stand::Held { root, since }
            | Stand::Named { root, since }
            | Stand::Grace { root, held_since: since, .. } => Some((&root.deployment, *since)),
            _ => None,
        }
    }

    /// People are not told of it now.
    pub fn mutes(&self) -> bool {
        matches!(self, Stand::Waiting { .. } | Stand::Held { .. } | Stand::Grace { .. })
    }

    /// People may hear of it from now on.
    pub fn tells(&self) -> bool {
        matches!(self, Stand::Named { .. } | Stand::Free)
    }

    /// In this span nobody watched: what waits waits for so much longer.
    pub fn stand_still(&mut self, gap: Duration) {
        match self {
            Stand::Waiting { since } | Stand::Held { since, .. } => *since = *since + gap,
            Stand::Grace { held_since, since, .. } => (*held_since, *since) = (*held_since + gap, *since + gap),
            Stand::Named { .. } | Stand::Free | Stand::Ended { .. } => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::guard::Outage;

    const TERMS: Terms =
        Terms { hold: Duration::from_secs(30), wait: Duration::from_secs(900), grace: Duration::from_secs(120) };

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_millis(0) + Duration::from_secs(seconds)
    }

    fn db(back_at: Option<Timestamp>) -> Root {
        Root { deployment: "db".into(), why: Outage::Unhealthy, since: at(0), back_at }
    }

    fn fired(known: bool, back: Option<Root>) -> Stand {
        Stand::NEW.after(Heard::Fired { known, back }, at(100), TERMS)
    }

    #[test]
    fn the_first_word_waits_and_that_of_a_relapse_people_know_of_does_not() {
        assert_eq!(fired(false, None), Stand::Waiting { since: at(100) });
        assert_eq!(fired(true, None), Stand::Free);
        assert_eq!(fired(false, None).until(TERMS), Some(at(130)));
    }

    #[test]
    fn what_fires_just_after_its_root_came_back_gets_what_is_left_of_the_grace() {
        let root = db(Some(at(40)));
        let grace = fired(true, Some(root.clone()));
        assert_eq!(grace, Stand::Grace { root, held_since: at(100), since: at(40) });
        assert_eq!(grace.until(TERMS), Some(at(160)));
        let long_ago = Timestamp::from_millis(0) - Duration::from_secs(20);
        assert_eq!(fired(true, Some(db(Some(long_ago)))), Stand::Free);
    }

    #[test]
    fn every_stand_has_an_answer_to_everything() {
        let (now, root) = (at(200), || db(None));
        let held = Stand::Held { root: root(), since: at(50) };
        let grace = Stand::Grace { root: db(Some(at(150))), held_since: at(50), since: at(150) };
        let named = Stand::Named { root: root(), since: at(50) };
        let back = Stand::Grace { root: db(Some(now)), held_since: at(50), since: now };
        let anew = Stand::Held { root: root(), since: now };
        let waiting = Stand::Waiting { since: at(190) };
        for (stand, when_out, when_clear, when_due) in [
            (waiting.clone(), &anew, &waiting, &Stand::Free),
            (held.clone(), &held, &back, &named),
            (grace.clone(), &held, &grace, &Stand::Free),
            (named.clone(), &named, &Stand::Free, &named),
            (Stand::Free, &anew, &Stand::Free, &Stand::Free),
            (Stand::NEW, &Stand::NEW, &Stand::NEW, &Stand::NEW),
        ] {
            for (heard, expected) in
                [(Heard::Out(root()), when_out), (Heard::Clear, when_clear), (Heard::Due, when_due)]
            {
                assert_eq!(stand.clone().after(heard.clone(), now, TERMS), *expected, "{stand:?} {heard:?}");
            }
            let explained = stand == held || stand == grace;
            assert_eq!(stand.after(Heard::Resolved, now, TERMS), Stand::Ended { explained, over: None });
        }
    }
}
