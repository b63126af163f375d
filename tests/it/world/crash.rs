//! Journals, the death of the process, and what comes back.

use std::collections::BTreeMap;
use std::time::Duration;

use super::disk::FaultyJournal;
use super::effects::in_words;
use super::{Due, OBSERVE_EVERY, SAMPLE_EVERY, World};
use selfheal_contract::saved::ENGINE_VERSION;
use selfheal_contract::view::{ApprovalState, Change};
use selfheal_contract::{DeliveryResult, Effect, Gap, Upgraded};
use selfheal_engine::{Engine, Input};
use selfheal_store::journal::{Batch, Journal, MemoryJournal};
use selfheal_store::record::StoredInput;
use selfheal_store::replay::{self, BatchReplay};
use selfheal_store::writer::Writer;

/// When a process dies.
pub enum Moment {
    /// Between two batches.
    Quiet,
    /// The input was handled and not written down.
    BeforeCommit(Input),
    /// The input is written down, and nothing decided on it has left.
    BeforeRelease(Input),
}

impl World {
    /// The process will die once, right after this record.
    pub fn crash_after(&mut self, record: usize, away: Duration, happened: bool) {
        self.dies = Some((record, away, happened));
    }

    /// From now on every input is journalled, for [`World::crash`]; a state to recover from is the present one.
    pub fn keep_journal(&mut self) {
        self.writer = Some(Writer::new(FaultyJournal::default(), self.now));
        self.first_snapshot = self.engine.save();
        self.take_snapshot();
    }

    fn kept(&self) -> &MemoryJournal {
        &self.writer.as_ref().expect("a journal is kept").journal().kept
    }

    /// How many batches there are since then.
    pub fn journalled(&self) -> usize {
        self.writer.as_ref().map_or(0, |writer| writer.journal().kept.rows().len())
    }

    /// The rows of all batches since then.
    pub fn journal_rows(&self) -> Vec<Vec<u8>> {
        self.kept().rows().to_vec()
    }

    /// Of the state as the journal has it. With delays only while no message is on its way between the halves: a state does
    /// not hold those.
    pub fn take_snapshot(&mut self) {
        if !self.disk_fails() && self.engine.messages_on_their_way() == 0 {
            self.snapshot = Some((self.kept().last_sequence(), self.engine.save()));
        }
    }

    /// The process dies with all it had under way and comes back after `away`, from its snapshot and journal. The
    /// moment's input was handled and not written, or written and its effects never left.
    pub fn crash(&mut self, moment: Moment, away: Duration, happened: &mut dyn FnMut() -> bool) {
        let before = self.engine.save();
        let expected = match moment {
            // what was not written is forgotten with the process
            _ if self.disk_fails() => None,
            Moment::Quiet => Some(before),
            Moment::BeforeCommit(input) => {
                self.engine.handle(self.now, input, &mut Vec::new());
                Some(before)
            }
            Moment::BeforeRelease(input) => {
                let mut effects = Vec::new();
                let mut batch = Batch::begin(self.now);
                batch.take_in(self.now, &input);
                self.engine.handle(self.now, input, &mut effects);
                batch.decide(&effects);
                let writer = self.writer.as_mut().expect("a journal is kept");
                writer.journal_mut().kept.append(&batch).expect("memory takes it");
                Some(self.engine.save())
            }
        };
        self.die(happened);
        let upgraded;
        (self.engine, upgraded) = self.recovered();
        let is_as_it_was = expected.is_none_or(|expected| self.engine.save() == expected);
        assert!(is_as_it_was, "recovery came to another state at {}", self.now);
        let mut journal = std::mem::take(self.writer.as_mut().expect("a journal is kept").journal_mut());
        (journal.known, journal.blind_looks) = (journal.kept.last_sequence(), 0);
        self.writer = Some(Writer::new(journal, self.now));
        self.forget_views();
        // a pause that was never written down is gone
        let engine = |effect| if let Effect::Show(Change::Engine(view)) = effect { Some(view) } else { None };
        self.paused = self.engine.outstanding().into_iter().find_map(engine).is_some_and(|view| view.paused.is_some());
        let from = self.now.min(self.engine.now());
        self.now = self.now + away;
        self.next_sample = self.now + SAMPLE_EVERY;
        self.next_observe = self.now + OBSERVE_EVERY;
        self.say("crashed and came back".to_owned());
        let mut effects = Vec::new();
        let mut batch = Batch::begin(self.now);
        let resumed = Input::Resumed { from, to: self.now, because: Gap::Stopped };
        let clock = Input::ClockMoved { offset_ms: self.wall_offset_ms };
        let upgraded = std::mem::take(&mut self.comes_back_as_another).then_some(Input::Upgraded(upgraded));
        for input in [resumed, clock].into_iter().chain(upgraded) {
            batch.take_in(self.now, &input);
            self.engine.handle(self.now, input, &mut effects);
        }
        batch.decide(&effects);
        let effects = self.engine.released_after_recovery(effects);
        self.settle(batch, effects);
    }

    /// Dies between two batches and comes back as a version that finds all of the journal's tail decided by another one.
    pub fn crash_and_upgrade(&mut self, away: Duration) {
        self.comes_back_as_another = true;
        self.crash(Moment::Quiet, away, &mut || false);
    }

    /// What was under way may have happened or not; nobody hears of its end.
    fn die(&mut self, happened: &mut dyn FnMut() -> bool) {
        self.acting.clear();
        for due in std::mem::take(&mut self.due).into_values() {
            if !happened() {
                continue;
            }
            match due {
                Due::Step { call, behaviour } => self.take_effect(call.deployment.id.as_str(), behaviour),
                Due::Delivered { delivery, result: DeliveryResult::Delivered } => {
                    self.sent.push((*delivery.notification).clone());
                }
                Due::Delivered { .. } | Due::Observe(_) | Due::Input(_) => {}
            }
        }
    }

    fn recovered(&self) -> (Engine, Upgraded) {
        let (sequence, state) = self.snapshot.as_ref().expect("a snapshot is there");
        let mut policy_of = |version: &str| self.policies.get(version).cloned();
        let mut engine = Engine::restore(state, &mut policy_of).unwrap_or_else(|error| panic!("{error}"));
        if let Some(seed) = self.delays {
            engine.delay_messages(seed);
        }
        let mut upgraded = Upgraded::default();
        for batch in self.kept().batches().skip(usize::try_from(*sequence).expect("it fits")) {
            let mut batch = batch.unwrap_or_else(|error| panic!("{error}"));
            if self.comes_back_as_another {
                batch.engine_version = ENGINE_VERSION - 1;
            }
            match replay::apply(&mut engine, batch, &mut policy_of, &mut Vec::new()) {
                Ok(BatchReplay::Same) => {}
                Ok(BatchReplay::Mute { engine_version, unknown_steps }) => {
                    upgraded.from = engine_version;
                    upgraded.batches += 1;
                    upgraded.unknown_steps.extend(unknown_steps);
                }
                Ok(BatchReplay::Diverged(divergence)) => panic!("{divergence}"),
                Err(error) => panic!("{error}"),
            }
        }
        (engine, upgraded)
    }

    /// The next life shows all that goes on; what only this one knew of is gone.
    fn forget_views(&mut self) {
        use selfheal_contract::view::AlertStateWord::Resolved;
        self.alerts.retain(|_, view| view.state == Resolved);
        self.runs.retain(|_, view| view.ended_at.is_some());
        self.approvals.retain(|_, view| view.state != ApprovalState::Waiting);
        self.silences.clear();
    }

    /// Every event that somebody was told is stored is in the journal.
    pub fn check_acknowledged(&self) {
        let mut kept: BTreeMap<String, usize> = BTreeMap::new();
        for batch in self.kept().batches() {
            let batch = batch.unwrap_or_else(|error| panic!("{error}"));
            for (_, input) in batch.inputs {
                if let StoredInput::Events(events) = input {
                    for event in events {
                        *kept.entry(format!("{event:?}")).or_default() += 1;
                    }
                }
            }
        }
        for event in &self.acknowledged {
            let count = kept.get_mut(&format!("{event:?}")).filter(|count| **count > 0);
            let count = count.unwrap_or_else(|| panic!("an acknowledged event is lost: {event:?}"));
            *count -= 1;
        }
    }

    /// What the journal since [`World::keep_journal`] decides when it is folded anew, in words.
    pub fn replayed(&self) -> Vec<String> {
        let mut policy_of = |version: &str| self.policies.get(version).cloned();
        let mut engine =
            Engine::restore(&self.first_snapshot, &mut policy_of).unwrap_or_else(|error| panic!("{error}"));
        if let Some(seed) = self.delays {
            engine.delay_messages(seed);
        }
        let mut words = Vec::new();
        for batch in self.kept().batches() {
            let batch = batch.unwrap_or_else(|error| panic!("{error}"));
            let mut effects = Vec::new();
            let folded = replay::apply(&mut engine, batch, &mut policy_of, &mut effects);
            assert_eq!(folded, Ok(BatchReplay::Same));
            words.extend(effects.iter().map(in_words));
        }
        words
    }
}
