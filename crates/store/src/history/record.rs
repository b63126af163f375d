//! Writes changes into the tables, inside the transaction it is given.
//!
//! Invariant: a view that says nothing new changes nothing. An id that comes again for another thing (a run's number
//! after the engine's state was lost) gets a row of its own.

use std::collections::BTreeSet;

use rusqlite::{OptionalExtension, Transaction, named_params, params, params_from_iter};
use serde::Serialize;
use serde_json::{Value, json};

use super::missing_range::MissingRange;
use super::reason::Standing;
use selfheal_contract::view::{AlertView, AuditEntry, Change, DeliveryView, EngineView, RunView, StepView};
use selfheal_model::{StepAttemptId, Timestamp};

/// Transitions kept of one episode, the newest: one that flaps for days must not fill the file.
pub(super) const MAX_TRANSITIONS: i64 = 1_000;

/// Tables whose rows go on for a while, and what is said of one whose end nobody saw.
const ENDING: [&str; 3] = ["alerts", "runs", "deliveries"];
const LOST: &str = "lost";

/// Writes the changes of one batch.
pub(super) struct Recorder<'a> {
    file: &'a Transaction<'a>,
    at: Timestamp,
    /// Rows that the changes are about.
    met: BTreeSet<(&'static str, i64)>,
}

/// What a view is in the file: its document, and the same as text.
fn document(view: &impl Serialize) -> Value {
    // these types have text keys only, so that this cannot fail
    serde_json::to_value(view).unwrap_or(Value::Null)
}

fn millis(at: Option<Timestamp>) -> Option<i64> {
    at.map(Timestamp::as_millis)
}

impl<'a> Recorder<'a> {
    pub fn new(file: &'a Transaction<'a>, at: Timestamp) -> Self {
        Recorder { file, at, met: BTreeSet::new() }
    }

    pub fn record(&mut self, change: &Change) -> rusqlite::Result<()> {
        match change {
            Change::Alert(view) => self.alert(view),
            Change::Run(view) => self.run(view),
            Change::Delivery(view) => self.delivery(view),
            Change::Engine(view) => self.policy(view),
            Change::Audit(entry) => self.audit(entry),
            // what a person answered is in the audit, and on the run
            Change::Deployment(_)
            | Change::DeploymentGone(_)
            | Change::Approval(_)
            | Change::Silence(_)
            | Change::SilenceGone(_) => Ok(()),
        }
    }

    /// One row for each episode: the alert and when its condition first held.
    fn alert(&mut self, view: &AlertView) -> rusqlite::Result<()> {
        let mut new = document(view);
        let deployment = view.labels.get("deployment");
        if let Some(members) = new.as_object_mut() {
            // the runs tell it, each in its own row
            members.remove("remediation");
            members.insert("deployment".to_owned(), json!(deployment));
        }
        let text = new.to_string();
        let known: Option<(i64, String)> = self
            .file
            .prepare_cached("SELECT row, view FROM alerts WHERE id = ?1 AND started_at = ?2")?
            .query_row(params![view.id.as_str(), view.started_at.as_millis()], |row| Ok((row.get(0)?, row.get(1)?)))
            .optional()?;
        if known.is_none() {
            self.lose_open("alerts", Some(view.id.as_str()))?;
        }
        let (row, before) = match known {
            Some((row, old)) if old == text => {
                self.met.insert(("alerts", row));
                return Ok(());
            }
            Some((row, old)) => (row, serde_json::from_str(&old).ok()),
            None => {
                self.file
                    .prepare_cached(
                        "INSERT INTO alerts (id, rule, deployment, state, severity, started_at, moves, view) \
                         VALUES (?1, ?2, ?3, '', '', ?4, 0, '')",
                    )?
                    .execute(params![view.id.as_str(), view.alert, deployment, view.started_at.as_millis()])?;
                (self.file.last_insert_rowid(), None)
            }
        };
        self.met.insert(("alerts", row));
        self.file
            .prepare_cached(
                "UPDATE alerts SET state = ?2, severity = ?3, fired_at = ?4, ended_at = ?5, view = ?6 WHERE row = ?1",
            )?
            .execute(params![
                row,
                new["state"].as_str(),
                view.severity.as_str(),
                millis(view.fired_at),
                millis(view.ended_at),
                text
            ])?;
        self.move_alert(row, before.as_ref(), &new)
    }

    /// Adds the transition from one document of an alert to the next, if it is one.
    fn move_alert(&self, row: i64, before: Option<&Value>, now: &Value) -> rusqlite::Result<()> {
        let before = before.and_then(Standing::of);
        let Some(transition) = Standing::of(now).and_then(|now| now.transition(before.as_ref(), self.at)) else {
            return Ok(());
        };
        let nth: i64 = self
            .file
            .prepare_cached("UPDATE alerts SET moves = moves + 1 WHERE row = ?1 RETURNING moves")?
            .query_one([row], |row| row.get(0))?;
        self.file
            .prepare_cached("INSERT INTO transitions (alert, nth, at, view) VALUES (?1, ?2, ?3, ?4)")?
            .execute(params![row, nth, self.at.as_millis(), transition.to_string()])?;
        self.file
            .prepare_cached("DELETE FROM transitions WHERE alert = ?1 AND nth <= ?2")?
            .execute([row, nth - MAX_TRANSITIONS])?;
        Ok(())
    }

    fn run(&mut self, view: &RunView) -> rusqlite::Result<()> {
        let mut new = document(view);
        if let Some(members) = new.as_object_mut() {
            members.remove("steps");
        }
        let text = new.to_string();
        let known = self.known_run(view)?;
        let row = match known {
            Some((row, old)) if old == text => row,
            Some((row, _)) => {
                self.put_run(row, view, &text)?;
                row
            }
            None => {
                self.lose_open("runs", Some(view.id.as_str()))?;
                self.file
                    .prepare_cached(
                        "INSERT INTO runs (id, playbook, deployment, cause, state, started_at, view) \
                         VALUES (?1, ?2, ?3, ?4, '', 0, '')",
                    )?
                    .execute(params![view.id.as_str(), view.playbook.as_str(), view.deployment.as_str(), view.cause])?;
                let row = self.file.last_insert_rowid();
                self.put_run(row, view, &text)?;
                row
            }
        };
        self.met.insert(("runs", row));
        for (nth, step) in (0..).zip(&view.steps) {
            self.step(row, nth, step)?;
        }
        Ok(())
    }

    fn put_run(&self, row: i64, view: &RunView, text: &str) -> rusqlite::Result<()> {
        let state = view.verdict.as_ref().unwrap_or(&view.state);
        self.file
            .prepare_cached(
                "UPDATE runs SET rule = ?2, alert = ?3, state = ?4, started_at = ?5, ended_at = ?6, view = ?7 \
                 WHERE row = ?1",
            )?
            .execute(params![
                row,
                view.alert_name,
                view.alert.as_deref(),
                state.as_str(),
                view.started_at.as_millis(),
                millis(view.ended_at),
                text
            ])?;
        Ok(())
    }

    /// The row of this very run. Its id is none without a doubt: an engine that lost its state counts anew. A run
    /// never changes what it runs and why, begins once, and begins no more when it has ended.
    fn known_run(&self, view: &RunView) -> rusqlite::Result<Option<(i64, String)>> {
        struct Known {
            row: i64,
            text: String,
            state: String,
            started_at: i64,
            ended_at: Option<i64>,
            does_the_same: bool,
        }
        let newest = self
            .file
            .prepare_cached(
                "SELECT row, view, state, started_at, ended_at, playbook = :playbook AND deployment = :deployment \
                 AND cause = :cause AND alert IS :alert FROM runs WHERE id = :id ORDER BY row DESC LIMIT 1",
            )?
            .query_row(
                named_params! {
                    ":id": view.id.as_str(),
                    ":playbook": view.playbook.as_str(),
                    ":deployment": view.deployment.as_str(),
                    ":cause": view.cause,
                    ":alert": view.alert.as_deref(),
                },
                |row| {
                    Ok(Known {
                        row: row.get(0)?,
                        text: row.get(1)?,
                        state: row.get(2)?,
                        started_at: row.get(3)?,
                        ended_at: row.get(4)?,
                        does_the_same: row.get(5)?,
                    })
                },
            )
            .optional()?;
        let started_at = view.started_at.as_millis();
        Ok(newest
            .filter(|known| {
                let may_begin = known.state == "waiting" && known.started_at <= started_at && known.ended_at.is_none();
                known.does_the_same && (known.started_at == started_at || may_begin)
            })
            .map(|known| (known.row, known.text)))
    }

    fn step(&self, run: i64, nth: i64, step: &StepView) -> rusqlite::Result<()> {
        self.file
            .prepare_cached(
                "INSERT INTO steps (run, nth, id, action, outcome, view) VALUES (?1, ?2, ?3, ?4, ?5, ?6) \
                 ON CONFLICT (run, nth) DO UPDATE SET id = excluded.id, action = excluded.action, \
                 outcome = excluded.outcome, view = excluded.view WHERE view <> excluded.view",
            )?
            .execute(params![run, nth, step.id, step.action, step.outcome.as_str(), document(step).to_string()])?;
        Ok(())
    }

    /// What an attempt wrote, in full; of several attempts of a step the last one's stays.
    pub fn output(&self, step: &StepAttemptId, log: Option<&str>, output: Option<&Value>) -> rusqlite::Result<()> {
        let whole = step.whole_run();
        let Some((_, step, _)) = step.parts() else { return Ok(()) };
        self.file
            .prepare_cached(
                "INSERT OR REPLACE INTO outputs (run, step, log, output) \
                 SELECT max(row), ?2, ?3, ?4 FROM runs WHERE id = ?1 HAVING max(row) IS NOT NULL",
            )?
            .execute(params![whole, step, log, output.map(Value::to_string)])?;
        Ok(())
    }

    fn delivery(&mut self, view: &DeliveryView) -> rusqlite::Result<()> {
        let row: Option<i64> = self
            .file
            .prepare_cached(
                "INSERT INTO deliveries (id, receiver, state, started_at, ended_at, view) \
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6) ON CONFLICT (id, started_at) DO UPDATE \
                 SET state = excluded.state, ended_at = excluded.ended_at, view = excluded.view RETURNING row",
            )?
            .query_row(
                params![
                    view.id.as_str(),
                    view.receiver.as_str(),
                    view.state.as_str(),
                    view.created_at.as_millis(),
                    millis(view.ended_at),
                    document(view).to_string()
                ],
                |row| row.get(0),
            )
            .optional()?;
        self.met.extend(row.map(|row| ("deliveries", row)));
        Ok(())
    }

    /// One row for each time a policy went live; the one before ends.
    fn policy(&mut self, view: &EngineView) -> rusqlite::Result<()> {
        let newest: Option<(i64, String, String)> = self
            .file
            .prepare_cached("SELECT row, version, view FROM policies ORDER BY row DESC LIMIT 1")?
            .query_row([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
            .optional()?;
        let live_at = view.policy_loaded_at;
        if let Some((row, version, text)) = newest {
            if version == view.policy_version.as_str() {
                return Ok(());
            }
            let mut old: Value = serde_json::from_str(&text).unwrap_or_default();
            old["until"] = json!(live_at);
            self.file
                .prepare_cached("UPDATE policies SET ended_at = ?2, view = ?3 WHERE row = ?1")?
                .execute(params![row, live_at.as_millis(), old.to_string()])?;
        }
        let new = json!({
            "version": view.policy_version,
            "live_at": live_at,
            "until": null,
            "rules": view.rules,
            "playbooks": view.playbooks,
            "mode": view.guard_mode,
        });
        self.file
            .prepare_cached("INSERT INTO policies (version, started_at, view) VALUES (?1, ?2, ?3)")?
            .execute(params![view.policy_version.as_str(), live_at.as_millis(), new.to_string()])?;
        Ok(())
    }

    fn audit(&self, entry: &AuditEntry) -> rusqlite::Result<()> {
        self.file
            .prepare_cached("INSERT INTO audit (started_at, ended_at, view) VALUES (?1, ?1, ?2)")?
            .execute(params![entry.at.as_millis(), document(entry).to_string()])?;
        Ok(())
    }

    pub fn gap(&self, gap: &MissingRange) -> rusqlite::Result<()> {
        self.file.prepare_cached("INSERT INTO gaps (started_at, ended_at, view) VALUES (?1, ?2, ?3)")?.execute(
            params![gap.from.map_or(0, Timestamp::as_millis), gap.to.as_millis(), gap.document().to_string()],
        )?;
        Ok(())
    }

    /// Everything that has not ended and that no change was about: nobody saw how it went on.
    pub fn lose_unmet(&mut self) -> rusqlite::Result<()> {
        for table in ENDING {
            self.lose_open(table, None)?;
        }
        Ok(())
    }

    fn lose_open(&self, table: &'static str, id: Option<&str>) -> rusqlite::Result<()> {
        let of_it = if id.is_some() { " AND id = ?1" } else { "" };
        let open: Vec<(i64, String)> = self
            .file
            .prepare_cached(&format!("SELECT row, view FROM {table} WHERE ended_at IS NULL{of_it}"))?
            .query_map(params_from_iter(id), |row| Ok((row.get(0)?, row.get(1)?)))?
            .collect::<rusqlite::Result<_>>()?;
        for (row, text) in open {
            if self.met.contains(&(table, row)) {
                continue;
            }
            let before: Value = serde_json::from_str(&text).unwrap_or_default();
            let mut now = before.clone();
            now["state"] = json!(LOST);
            now["ended_at"] = json!(self.at);
            self.file
                .prepare_cached(&format!(
                    "UPDATE {table} SET state = '{LOST}', ended_at = ?2, view = ?3 WHERE row = ?1"
                ))?
                .execute(params![row, self.at.as_millis(), now.to_string()])?;
            if table == "alerts" {
                self.move_alert(row, Some(&before), &now)?;
            }
        }
        Ok(())
    }
}
