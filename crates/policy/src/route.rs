//! The routing tree: the same fields and meaning as Alertmanager's.
//!
//! A node that takes an alert offers it to its children in their order; the first child that takes it ends the
//! search unless it says `continue`; where no child takes it, the node itself does. So every alert that the root
//! takes has at least one route.

use std::collections::BTreeMap;
use std::time::Duration;

use smol_str::{SmolStr, format_smolstr};

use selfheal_model::{GroupId, Labels, ReceiverName, Selector, TimeInterval, Timestamp};

/// One node of the routing tree. What a child leaves out is already filled in from its parent.
#[derive(Clone, Debug, PartialEq)]
pub struct Route {
    /// Its place in the tree, e.g. `0/2`; with the group labels it identifies a group across reloads.
    pub path: SmolStr,
    pub receiver: ReceiverName,
    pub group_by: GroupBy,
    pub group_wait: Duration,
    pub group_interval: Duration,
    pub repeat_interval: Duration,
    /// Holds "firing" while a ladder works, at most so long.
    pub wait_for_repair: Duration,
    pub matchers: Selector,
    pub continue_: bool,
    pub hours: Hours,
    pub routes: Vec<Route>,
}

/// Named times at which a route tells, and at which it does not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hours {
    /// It tells nothing while one of these holds.
    pub mute: Vec<SmolStr>,
    /// Where there are any, it tells only while one of these holds.
    pub active: Vec<SmolStr>,
}

impl Hours {
    /// While they keep a route from telling: when that may be over, at the earliest. By the wall clock.
    pub fn closed_until(&self, named: &BTreeMap<SmolStr, Vec<TimeInterval>>, wall: Timestamp) -> Option<Timestamp> {
        let intervals = |names: &[SmolStr]| names.iter().filter_map(|name| named.get(name)).flatten().collect();
        let (mute, active): (Vec<&TimeInterval>, Vec<&TimeInterval>) = (intervals(&self.mute), intervals(&self.active));
        let holds = |interval: &&TimeInterval| interval.contains(wall);
        let is_closed = mute.iter().any(holds) || (!self.active.is_empty() && !active.iter().any(holds));
        let boundaries = mute.iter().chain(&active).map(|interval| interval.next_boundary(wall));
        is_closed.then(|| boundaries.min().unwrap_or(Timestamp::MAX))
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GroupBy {
    /// `['...']`: every label.
    All,
    Labels(Vec<SmolStr>),
}

impl Route {
    /// A root that sends every alert to one receiver, with the defaults of the root.
    pub fn root(receiver: &str) -> Route {
        Route {
            path: "0".into(),
            receiver: ReceiverName::new(receiver),
            group_by: GroupBy::Labels(vec!["deployment".into()]),
            group_wait: Duration::from_secs(10),
            group_interval: Duration::from_secs(5 * 60),
            repeat_interval: Duration::from_secs(4 * 3600),
            wait_for_repair: Duration::ZERO,
            matchers: Selector::default(),
            continue_: false,
            hours: Hours::default(),
            routes: Vec::new(),
        }
    }

    /// The nodes that tell of an alert with these labels, in order of the tree. None only where the root has
    /// matchers of its own.
    pub fn matching(&self, labels: &Labels) -> Vec<&Route> {
        let mut taken = Vec::new();
        self.collect(labels, &mut taken);
        taken
    }

    /// Whether this node or one below it took the alert.
    fn collect<'a>(&'a self, labels: &Labels, taken: &mut Vec<&'a Route>) -> bool {
        if !self.matchers.matches(labels) {
            return false;
        }
        let before = taken.len();
        for child in &self.routes {
            if child.collect(labels, taken) && !child.continue_ {
                break;
            }
        }
        if taken.len() == before {
            taken.push(self);
        }
        true
    }

    /// The node at this place of the tree.
    pub fn find(&self, path: &str) -> Option<&Route> {
        if self.path == path {
            return Some(self);
        }
        self.routes.iter().find_map(|child| child.find(path))
    }

    /// What the alerts of a group have in common. A label that an alert does not carry is left out.
    pub fn group_labels(&self, labels: &Labels) -> Labels {
        match &self.group_by {
            GroupBy::All => labels.clone(),
            GroupBy::Labels(names) => {
                names.iter().filter_map(|name| labels.get(name).map(|value| (name.as_str(), value))).collect()
            }
        }
    }

    /// The group's identity: the same place and labels are the same group, before and after a reload.
    pub fn group_id(&self, group_labels: &Labels) -> GroupId {
        GroupId::new(format_smolstr!("{}{group_labels}", self.path))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(path: &str, matchers: &[&str], continue_: bool, routes: Vec<Route>) -> Route {
        let matchers = matchers.iter().map(|text| text.parse().expect("a matcher")).collect();
        Route {
            path: path.into(),
            receiver: ReceiverName::new(format!("receiver of {path}")),
            group_by: GroupBy::Labels(vec!["deployment".into()]),
            group_wait: Duration::ZERO,
            group_interval: Duration::ZERO,
            repeat_interval: Duration::ZERO,
            wait_for_repair: Duration::ZERO,
            matchers: Selector(matchers),
            continue_,
            hours: Hours::default(),
            routes,
        }
    }

    fn tree() -> Route {
        let databases = vec![route("0/1/0", &["severity=critical"], false, vec![])];
        let children = vec![
            route("0/0", &["team=~\"a|b\""], true, vec![]),
            route("0/1", &["tier=db"], false, databases),
            route("0/2", &["tier=~\".+\""], false, vec![]),
        ];
        route("0", &[], false, children)
    }

    #[test]
    fn children_come_first_and_the_first_match_ends_it_unless_it_continues() {
        let tree = tree();
        for (labels, expected) in [
            (vec![], vec!["0"]),
            (vec![("tier", "web")], vec!["0/2"]),
            (vec![("tier", "db")], vec!["0/1"]),
            (vec![("tier", "db"), ("severity", "critical")], vec!["0/1/0"]),
            (vec![("tier", "db"), ("team", "a")], vec!["0/0", "0/1"]),
            // a child that continues and is the only one keeps the alert from its parent
            (vec![("team", "b")], vec!["0/0"]),
            (vec![("team", "ab")], vec!["0"]),
        ] {
            let labels: Labels = labels.into_iter().collect();
            let paths: Vec<_> = tree.matching(&labels).into_iter().map(|route| route.path.as_str()).collect();
            assert_eq!(paths, expected, "{labels}");
        }
    }

    #[test]
    fn a_group_is_its_place_and_its_labels() {
        let labels: Labels = [("deployment", "shop"), ("severity", "critical")].into_iter().collect();
        let mut node = route("0/2", &[], false, vec![]);
        let own = node.group_labels(&labels);
        assert_eq!(node.group_id(&own).as_str(), r#"0/2{deployment="shop"}"#);
        assert_eq!(node.group_labels(&Labels::default()), Labels::default());
        node.group_by = GroupBy::All;
        assert_eq!(node.group_labels(&labels), labels);
        node.group_by = GroupBy::Labels(vec![]);
        assert_eq!(node.group_id(&node.group_labels(&labels)).as_str(), "0/2");
    }

    #[test]
    fn a_node_is_found_by_its_place() {
        let tree = tree();
        assert_eq!(tree.find("0/1/0").map(|route| route.path.as_str()), Some("0/1/0"));
        assert_eq!(tree.find("0/9"), None);
    }
}
