//! Operators' words about silences and acknowledgements: each is answered in its turn, and every one that changed
//! something is audited.

use super::Held;
use super::acks::Ack;
use crate::alerts::Alerts;
use crate::turn::Turn;
use selfheal_contract::effect::{Effect, OperatorAnswer};
use selfheal_contract::input::{Operator, OperatorCommand, SilenceAsked};
use selfheal_contract::view::{AuditEntry, Change};

impl Held {
    /// Whether this word is for this part.
    pub fn answers(command: &OperatorCommand) -> bool {
        matches!(
            command,
            OperatorCommand::Silence(_)
                | OperatorCommand::ExpireSilence { .. }
                | OperatorCommand::Ack { .. }
                | OperatorCommand::Unack { .. }
        )
    }

    pub fn operator(&mut self, turn: &mut Turn<'_>, alerts: &Alerts, operator: Operator) {
        let Operator { who, command, ticket } = operator;
        let done = match command {
            OperatorCommand::Silence(asked) => self.make_silence(turn, &who, asked),
            OperatorCommand::ExpireSilence { id } => {
                self.expire_silence(turn, &id).map(|()| (OperatorAnswer::Ok, format!("ended silence {id}")))
            }
            OperatorCommand::Ack { alert, take, comment } => {
                let because = if comment.is_empty() { String::new() } else { format!(": {comment}") };
                let ack = Ack { by: who.clone(), at: turn.now, take, comment };
                let what = if take { "took over" } else { "acknowledged" };
                self.acknowledge(turn, alerts, &alert, ack)
                    .map(|key| (OperatorAnswer::Ok, format!("{what} {key}{because}")))
            }
            OperatorCommand::Unack { alert } => self
                .unacknowledge(turn, &alert)
                .map(|key| (OperatorAnswer::Ok, format!("took back the acknowledgement of {key}"))),
            _ => unreachable!("only what `answers` names comes here"),
        };
        let answer = done.map(|(answer, what)| {
            turn.show(Change::Audit(AuditEntry { at: turn.now, who, what }));
            answer
        });
        turn.effects.push(Effect::Answer { ticket, answer });
    }

    fn make_silence(
        &mut self,
        turn: &mut Turn<'_>,
        who: &str,
        asked: SilenceAsked,
    ) -> Result<(OperatorAnswer, String), String> {
        let what: Vec<String> = asked.matchers.0.iter().map(ToString::to_string).collect();
        let because = if asked.comment.is_empty() { String::new() } else { format!(": {}", asked.comment) };
        let word = if asked.id.is_some() { "changed the silence of" } else { "silenced" };
        let id = self.silence(turn, who, asked)?;
        let silence = self.silences.get(&id);
        let until = silence.map(|silence| silence.ends_at.to_string()).unwrap_or_default();
        let repair = if silence.is_some_and(|silence| silence.lets_repair()) { ", its repair goes on" } else { "" };
        let text = format!("{word} {{{}}} until {until} ({id}){repair}{because}", what.join(" "));
        Ok((OperatorAnswer::Id(id), text))
    }
}
