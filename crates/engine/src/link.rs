//! How messages travel between the halves: at once, within one turn, as they do live; or late, each after a time of its own,
//! as they would over a network.
//!
//! Invariant: every message arrives once, and those of one half arrive in the order in which they were sent.

use std::collections::VecDeque;
use std::time::Duration;

use selfheal_messages::{ToDetect, ToRespond};
use selfheal_model::Timestamp;

/// What the halves have to tell each other.
#[derive(Default)]
pub(crate) struct Outbox {
    pub to_respond: VecDeque<ToRespond>,
    pub to_detect: VecDeque<ToDetect>,
}

/// The connection between the halves.
#[derive(Default)]
pub(crate) enum Link {
    /// Every message arrives in the turn in which it was sent.
    #[default]
    Immediate,
    Delayed(Delayed),
}

/// Messages on their way, with the instants at which they arrive.
pub(crate) struct Delayed {
    seed: u64,
    to_respond: VecDeque<(Timestamp, ToRespond)>,
    to_detect: VecDeque<(Timestamp, ToDetect)>,
}

/// A message that has arrived.
#[expect(
    clippy::large_enum_variant,
    reason = "it lives on the stack between two calls, and a box would cost every message"
)]
pub(crate) enum Arrived {
    Respond(ToRespond),
    Detect(ToDetect),
}

impl Delayed {
    pub fn new(seed: u64) -> Self {
        Delayed { seed, to_respond: VecDeque::new(), to_detect: VecDeque::new() }
    }

    pub fn len(&self) -> usize {
        self.to_respond.len() + self.to_detect.len()
    }

    /// When the next message arrives.
    pub fn next_arrival(&self) -> Option<Timestamp> {
        let first = [self.to_respond.front().map(|(at, _)| *at), self.to_detect.front().map(|(at, _)| *at)];
        first.into_iter().flatten().min()
    }

    /// The first message that arrives up to `until`; of two at the same instant the one for respond.
    pub fn arrived(&mut self, until: Timestamp) -> Option<Arrived> {
        let next = self.next_arrival().filter(|at| *at <= until)?;
        if self.to_respond.front().is_some_and(|(at, _)| *at == next) {
            return self.to_respond.pop_front().map(|(_, message)| Arrived::Respond(message));
        }
        self.to_detect.pop_front().map(|(_, message)| Arrived::Detect(message))
    }

    /// Sends what is in the outbox.
    pub fn send(&mut self, now: Timestamp, outbox: Outbox) {
        let seed = self.seed;
        post(seed, now, &mut self.to_respond, outbox.to_respond);
        post(!seed, now, &mut self.to_detect, outbox.to_detect);
    }
}

/// Puts messages at the end of a queue; none arrives before the one in front of it.
fn post<M>(seed: u64, now: Timestamp, queue: &mut VecDeque<(Timestamp, M)>, messages: VecDeque<M>) {
    for message in messages {
        let at = now + delay(seed, now, queue.len());
        let at = queue.back().map_or(at, |(before, _)| at.max(*before));
        queue.push_back((at, message));
    }
}

/// How long a message takes. It follows from the seed, the instant and the messages ahead alone, so that a recovery comes to
/// the same delays as the engine before it.
///
/// One in two takes up to 3 ms, most others up to half a second, one in sixteen up to 4 s, one in 256 up to 15 s: longer than
/// the time in which respond expects an answer.
fn delay(seed: u64, now: Timestamp, ahead: usize) -> Duration {
    let mixed = mix(seed ^ mix(now.as_millis().cast_unsigned()) ^ (ahead as u64).rotate_left(40));
    let most = match mixed & 0xff {
        0 => 15_000,
        1..=15 => 4_000,
        16..=127 => 500,
        _ => 3,
    };
    Duration::from_millis((mixed >> 8) % most)
}

/// The finalizer of SplitMix64 (Steele, Lea, Flood: Fast splittable pseudorandom number generators, 2014).
fn mix(value: u64) -> u64 {
    let mut mixed = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}
