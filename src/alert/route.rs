//! The routing tree: the same fields and meaning as Alertmanager's.

use std::time::Duration;

use smol_str::SmolStr;

use crate::model::{ReceiverName, Selector};

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
    pub routes: Vec<Route>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GroupBy {
    /// `['...']`: every label.
    All,
    Labels(Vec<SmolStr>),
}
