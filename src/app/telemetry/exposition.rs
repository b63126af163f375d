//! Gathers what is read at the moment of a look, and writes the page.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::{Look, Telemetry};
use crate::app::effects::UnderWay;
use crate::app::inbox::Inbox;
use selfheal_source::pull::Sources;
use selfheal_store::history::History;

/// The engine answers between two turns. A page without its figures is better than none.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);

/// What the page is made of.
pub struct Exposition {
    pub telemetry: Arc<Telemetry>,
    pub inbox: Inbox,
    pub under_way: Arc<UnderWay>,
    pub sources: Arc<Sources>,
    pub history: Arc<History>,
}

impl Exposition {
    /// Everything as OpenMetrics text.
    pub async fn text(&self) -> String {
        let engine = match self.inbox.query(|engine| engine.detect().figures()) {
            Ok(answer) => tokio::time::timeout(ANSWER_WITHIN, answer).await.ok().and_then(Result::ok),
            Err(_) => None,
        };
        self.telemetry.render(&Look {
            engine,
            lanes: self.inbox.standing(),
            sources: &self.sources.polls(),
            steps_under_way: self.under_way.steps.load(Ordering::SeqCst),
            deliveries_under_way: self.under_way.deliveries.load(Ordering::SeqCst),
            history_dropped: self.history.dropped(),
        })
    }
}
