//! The whole state as bytes and back: what a snapshot holds, and what tests compare.
//!
//! Invariant: equal states give equal bytes; an engine that was restored does with the same inputs what the one that
//! was saved would have done. Policies are no part of it: they are named by version and handed in.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use smol_str::SmolStr;

use super::Engine;
use super::link::Link;
use selfheal_contract::Effect;
use selfheal_contract::saved::{ENGINE_VERSION, RestoreError};
use selfheal_detect as detect;
use selfheal_detect::Detect;
use selfheal_model::Timestamp;
use selfheal_policy::PolicyOf;
use selfheal_respond as judge;
use selfheal_respond::Judge;

/// The state of both halves, with the version of the live policy.
#[derive(Serialize)]
struct Saving<'a> {
    engine_version: u32,
    now: Timestamp,
    policy: &'a str,
    detect: detect::saved::Saving<'a>,
    judge: judge::saved::Saving<'a>,
}

#[derive(Deserialize)]
struct Saved {
    now: Timestamp,
    policy: SmolStr,
    detect: detect::saved::Saved,
    judge: judge::saved::Saved,
}

/// What is read first: the rest may have another form.
#[derive(Deserialize)]
struct Head {
    engine_version: u32,
}

impl Engine {
    /// The whole state but the messages between the halves that have not arrived: live there are none between two inputs. With
    /// [`Engine::delay_messages`] a state is only complete while [`Engine::messages_on_their_way`] is 0.
    pub fn save(&self) -> Vec<u8> {
        let saving = Saving {
            engine_version: ENGINE_VERSION,
            now: self.now,
            policy: &self.policy.version,
            detect: self.detect.saving(),
            judge: self.judge.saving(),
        };
        rmp_serde::to_vec_named(&saving).expect("plain data always has a binary form")
    }

    /// `policy_of` gives a kept policy by its version.
    ///
    /// # Errors
    /// The bytes are no state of this version, or name a policy that is not kept.
    pub fn restore(bytes: &[u8], policy_of: &mut PolicyOf<'_>) -> Result<Engine, RestoreError> {
        let damaged = |error: rmp_serde::decode::Error| RestoreError::Damaged(error.to_string());
        let Head { engine_version } = rmp_serde::from_slice(bytes).map_err(damaged)?;
        if engine_version > ENGINE_VERSION {
            return Err(RestoreError::Version(engine_version));
        }
        let Saved { now, policy, detect, judge } = rmp_serde::from_slice(bytes).map_err(damaged)?;
        let policy = policy_of(&policy).ok_or(RestoreError::PolicyMissing(policy))?;
        let judge = Judge::restored(judge, policy.clone(), policy_of)?;
        let detect = Detect::restored(detect, policy.clone(), judge.watched_conditions())?;
        Ok(Engine { now, policy, detect, judge, link: Link::default() })
    }

    /// The policies the state needs to be restored: the live one and those that runs are pinned to.
    pub fn policy_versions(&self) -> BTreeSet<SmolStr> {
        let mut versions = self.judge.policy_versions();
        versions.insert(self.policy.version.clone());
        versions
    }

    /// What is released after the first batch of a life that goes on from a saved state, of which `effects` were decided:
    /// everything that is outstanding, once, in place of what the batch decided of it.
    pub fn released_after_recovery(&self, mut effects: Vec<Effect>) -> Vec<Effect> {
        effects.retain(|effect| match effect {
            Effect::Deliver(_) | Effect::Probe { .. } | Effect::Desired(_) => false,
            // what ended in this batch, and what was audited, is not outstanding
            Effect::Show(_)
            | Effect::StartStep(_)
            | Effect::CancelStep { .. }
            | Effect::Observe { .. }
            | Effect::Emitted(_)
            | Effect::Answer { .. } => true,
        });
        effects.extend(self.outstanding());
        effects
    }

    /// What is decided and has not ended, to be released again after a restart: what should run at the edges, whole;
    /// delivery attempts and probes under way, under their ids; everything there is to show. Never a step.
    pub fn outstanding(&self) -> Vec<Effect> {
        let mut effects = self.detect.outstanding();
        effects.extend(self.judge.outstanding(self.now));
        effects
    }
}
