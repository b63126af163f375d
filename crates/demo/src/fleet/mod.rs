//! `selfheal demo --fleet`: two hundred simulated deployments, eight stories of what goes wrong, in virtual time.
//!
//! The engine is the real one, the fleet is not: its members are a few numbers, so that hours take seconds. What must never
//! happen is held from the outside at every call.

mod policy;
mod world;

use std::time::Duration;

use world::{Fault, World};

const MINUTE: Duration = Duration::from_secs(60);

/// What a story came to.
#[derive(Clone, Debug)]
pub struct Told {
    pub title: &'static str,
    /// Figures, a line each.
    pub lines: Vec<String>,
    /// What should have been otherwise; empty: all is well.
    pub wrong: Vec<String>,
}

/// All stories of one drill.
#[derive(Clone, Debug)]
pub struct Drill {
    pub told: Vec<Told>,
    pub calls: usize,
    pub messages: usize,
}

impl Drill {
    pub fn is_good(&self) -> bool {
        self.told.iter().all(|told| told.wrong.is_empty())
    }
}

/// Plays every story. The same seed plays the same drill.
///
/// # Errors
/// The drill's own policy does not compile, or a saved engine is not restored.
pub fn drill(seed: u64) -> anyhow::Result<Drill> {
    let mut stage = Stage { world: World::new()?, dice: seed, told: Vec::new(), begun: selfheal_model::Timestamp::MIN };
    stage.world.pass(3 * MINUTE);
    stage.sensor_fault();
    stage.dependency_down();
    stage.groups_of_one_and_two();
    stage.bad_rollout();
    stage.playbook_that_makes_it_worse();
    stage.flapping_check();
    stage.nobody_answers();
    stage.killed_in_the_middle()?;
    // what comes after the last story is held as well
    if let Some(last) = stage.told.last_mut() {
        last.wrong.append(&mut stage.world.broken);
    }
    Ok(Drill { calls: stage.world.calls.len(), messages: stage.world.messages.len(), told: stage.told })
}

/// Plays it and says what came of it; true when everything held.
///
/// # Errors
/// As [`drill`].
pub fn run() -> anyhow::Result<bool> {
    anstream::println!(
        "selfheal demo --fleet: {} simulated deployments in four tiers, in virtual time\n",
        policy::FLEET - 1
    );
    let drill = drill(1)?;
    for (number, told) in drill.told.iter().enumerate() {
        anstream::println!("{}. {}", number + 1, told.title);
        told.lines.iter().for_each(|line| anstream::println!("   {line}"));
        told.wrong.iter().for_each(|wrong| anstream::println!("   WRONG: {wrong}"));
        anstream::println!();
    }
    let verdict = if drill.is_good() { "every guard held" } else { "NOT every guard held" };
    anstream::println!("{verdict}; {} calls of verbs, {} messages to people", drill.calls, drill.messages);
    Ok(drill.is_good())
}

struct Stage {
    world: World,
    dice: u64,
    told: Vec<Told>,
    begun: selfheal_model::Timestamp,
}

impl Stage {
    fn begin(&mut self) {
        self.begun = self.world.now();
    }

    fn throw(&mut self, sides: usize) -> usize {
        // a linear congruence is dice enough for a drill
        self.dice = self.dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.dice >> 33).unwrap_or_default() % sides.max(1)
    }

    /// Ends a story with its figures, and with whatever the world itself found broken.
    fn end(&mut self, title: &'static str, mut wrong: Vec<String>) {
        let since = self.begun;
        let calls = self.world.calls_since(since).len();
        let figures = |counts: std::collections::BTreeMap<String, usize>| {
            let parts: Vec<String> = counts.iter().map(|(what, count)| format!("{what} {count}")).collect();
            if parts.is_empty() { "none".to_owned() } else { parts.join(", ") }
        };
        let lines = vec![
            format!("calls of verbs: {calls}; ended runs: {}", figures(self.world.verdicts_since(since))),
            format!("held back by: {}", figures(self.world.refused_since(since))),
            format!("messages to people: {}", self.world.told_since(since, "")),
        ];
        wrong.append(&mut self.world.broken);
        self.told.push(Told { title, lines, wrong });
        // the next story begins in a calm world
        self.world.pass(15 * MINUTE);
    }

    fn sensor_fault(&mut self) {
        self.begin();
        let all: Vec<String> = ["web", "api", "cache", "db"].iter().flat_map(|tier| self.world.ids(tier)).collect();
        all.iter().for_each(|id| self.world.fault(id, Fault::Sensor));
        self.world.pass(10 * MINUTE);
        let mut wrong = Vec::new();
        if !self.world.calls_since(self.begun).is_empty() {
            wrong.push("something was repaired although only the sensor was sick".to_owned());
        }
        let told = self.world.told_since(self.begun, "the sensor is suspect");
        if told != 1 {
            wrong.push(format!("people were told {told} times that the sensor is suspect"));
        }
        all.iter().for_each(|id| self.world.mend(id));
        self.world.pass(2 * MINUTE);
        self.end("everything is sick at once: the sensor lies", wrong);
    }

    fn dependency_down(&mut self) {
        self.begin();
        self.world.fault("db-1", Fault::Hung);
        self.world.pass(10 * MINUTE);
        let mut wrong = Vec::new();
        let acted: Vec<_> = self.world.calls_since(self.begun).iter().map(|call| call.deployment.clone()).collect();
        if acted != ["db-1"] {
            wrong.push(format!("not the root alone was repaired: {acted:?}"));
        }
        if !self.world.sick().is_empty() {
            wrong.push(format!("{} are still sick", self.world.sick().len()));
        }
        let told: Vec<_> = self.world.messages_since(self.begun).collect();
        let of_others = told.iter().flat_map(|message| &message.about).find(|id| *id != "db-1");
        if let Some(other) = of_others {
            wrong.push(format!("people were told of {other}, which its root explains"));
        }
        let new: Vec<_> = told.iter().flat_map(|message| &message.new).collect();
        if new != ["db-1"] {
            wrong.push(format!("people were not told once, of the root: {new:?}"));
        }
        let named = told.iter().map(|message| message.dependents).max().unwrap_or_default();
        if named != policy::DEPENDENTS {
            wrong.push(format!("the root's message counts {named} of {} dependents", policy::DEPENDENTS));
        }
        self.end(
            "a database is down under fifty that need it: people hear of the root, and it alone is repaired",
            wrong,
        );
    }

    fn groups_of_one_and_two(&mut self) {
        self.begin();
        for id in ["db-alone", "db-left", "db-right"] {
            self.world.fault(id, Fault::Hung);
        }
        self.world.pass(15 * MINUTE);
        let mut wrong = Vec::new();
        let left: Vec<_> =
            ["db-alone", "db-left", "db-right"].into_iter().filter(|id| self.world.is_faulty(id)).collect();
        if !left.is_empty() {
            wrong.push(format!("{left:?} were not repaired"));
        }
        let calls = self.world.calls_since(self.begun);
        let at = |id: &str| calls.iter().find(|call| call.deployment == id).map(|call| call.at);
        if let (Some(one), Some(other)) = (at("db-left"), at("db-right")) {
            let apart = one.max(other).since(one.min(other));
            if apart < Duration::from_secs(30) {
                wrong.push(format!("the two of a pair were repaired {apart:?} apart, before the first was proved"));
            }
        }
        self.end("groups of one and of two: one at a time, the next after a cure", wrong);
    }

    fn bad_rollout(&mut self) {
        self.begin();
        let eu: Vec<String> = self.world.ids("web").into_iter().filter(|id| self.world.region_of(id) == "eu").collect();
        // above the third that makes it a bad rollout, of all that stand in the region
        let sick: Vec<String> = eu.iter().take(48).cloned().collect();
        sick.iter().for_each(|id| self.world.fault(id, Fault::BadVersion));
        self.world.pass(30 * MINUTE);
        let mut wrong = Vec::new();
        let rolled = self.world.calls_since(self.begun).len();
        if rolled == 0 {
            wrong.push("nothing was rolled back".to_owned());
        }
        let mut times: Vec<_> = self.world.calls_since(self.begun).iter().map(|call| call.at).collect();
        times.dedup();
        let most =
            times.iter().map(|at| self.world.calls_since(self.begun).iter().filter(|call| call.at == *at).count());
        if most.max().unwrap_or_default() > 2 {
            wrong.push("more than two were rolled back at once".to_owned());
        }
        sick.iter().for_each(|id| self.world.mend(id));
        self.end("a bad release in one region: rolled back two at a time, no faster than capacity may go", wrong);
    }

    fn playbook_that_makes_it_worse(&mut self) {
        self.begin();
        for n in 1..=8 {
            self.world.fault(&format!("cache-{n}"), Fault::Misses);
            self.world.pass(4 * MINUTE);
        }
        let mut wrong = Vec::new();
        let calls = self.world.calls_since(self.begun).len();
        if calls != 3 {
            wrong.push(format!("the bad playbook ran {calls} times"));
        }
        let told = self.world.told_since(self.begun, "has failed 3 times on");
        if told != 1 {
            wrong.push(format!("people were told {told} times that the playbook is out of service"));
        }
        (1..=8).for_each(|n| self.world.mend(&format!("cache-{n}")));
        self.end("a playbook that makes things worse: out of service after three", wrong);
    }

    fn flapping_check(&mut self) {
        self.begin();
        self.world.fault("web-7", Fault::Flapping);
        self.world.pass(20 * MINUTE);
        let mut wrong = Vec::new();
        let calls = self.world.calls_since(self.begun).len();
        if calls > 2 {
            wrong.push(format!("a flapping check set off {calls} repairs"));
        }
        self.world.mend("web-7");
        self.end("a check that flaps: it is not believed", wrong);
    }

    fn nobody_answers(&mut self) {
        self.begin();
        self.world.fault("db-3", Fault::DiskFull);
        self.world.pass(45 * MINUTE);
        let mut wrong = Vec::new();
        if !self.world.calls_since(self.begun).is_empty() {
            wrong.push("it acted without an answer".to_owned());
        }
        let asked = self.world.told_since(self.begun, "May selfheal run expand on db-3");
        let denied = self.world.verdicts_since(self.begun).get("denied").copied().unwrap_or_default();
        if (asked, denied) != (1, 1) {
            wrong.push(format!("asked {asked} times, denied {denied} times"));
        }
        self.world.mend("db-3");
        self.end("an approval that nobody answers: it is a no", wrong);
    }

    fn killed_in_the_middle(&mut self) -> anyhow::Result<()> {
        self.begin();
        let tiers = ["web", "api", "cache", "db"];
        let mut sick = Vec::new();
        while sick.len() < 8 {
            let tier = self.throw(tiers.len());
            let ids = self.world.ids(tiers[tier]);
            let id = ids[self.throw(ids.len())].clone();
            // its dependents would make another story of it
            if id != "db-1" && !sick.contains(&id) {
                self.world.fault(&id, Fault::Hung);
                sick.push(id);
            }
        }
        self.world.pass(Duration::from_secs(40));
        for _ in 0..3 {
            self.world.pass(Duration::from_secs(7));
            self.world.kill(Duration::from_secs(5))?;
        }
        self.world.pass(60 * MINUTE);
        let mut wrong = Vec::new();
        let left = sick.iter().filter(|id| self.world.is_faulty(id)).count();
        if left > 0 {
            wrong.push(format!("{left} of {} were never repaired", sick.len()));
        }
        for id in &sick {
            let calls = self.world.calls_since(self.begun).iter().filter(|call| call.deployment == *id).count();
            if calls > 1 {
                wrong.push(format!("{id} was restarted {calls} times"));
            }
        }
        self.end("random faults, and the engine is killed three times in the middle: nothing twice", wrong);
        Ok(())
    }
}
