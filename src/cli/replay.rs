//! `selfheal replay`.

use serde_json::json;

use super::args::ReplayArgs;
use super::{exit, output};
use crate::app::replay::{Difference, Replayed, Source, Transcript, replay as play};
use selfheal_model::Timestamp;

/// Exits 1 when two policies differ, a journal does not replay, or `--strict` and a line is no event.
pub fn replay(args: &ReplayArgs) -> anyhow::Result<u8> {
    let instant = |text: &Option<String>| text.as_ref().map(|text| text.parse::<Timestamp>()).transpose();
    let from = instant(&args.from).map_err(|why| anyhow::anyhow!("--from: {why}"))?;
    let until = instant(&args.until).map_err(|why| anyhow::anyhow!("--until: {why}"))?;
    let source = Source::of(&args.source);
    let mut first = play(&source, args.policy.as_deref())?;
    first.transcript.cut(from, until);
    let second = args.against.as_deref().map(|dir| play(&source, Some(dir))).transpose()?;
    let difference = second.map(|mut second| {
        second.transcript.cut(from, until);
        first.transcript.difference(&second.transcript)
    });
    let fails = difference.as_ref().is_some_and(|difference| !difference.is_none())
        || !first.divergences.is_empty()
        || (args.strict && !first.bad.is_empty());
    if args.json {
        output::json(&json!({
            "transcript": first.transcript,
            "difference": difference,
            "bad_lines": first.bad,
            "divergences": first.divergences,
        }));
    } else {
        show(&first, difference.as_ref(), args.quiet);
    }
    Ok(if fails { exit::FAILED } else { 0 })
}

fn show(replayed: &Replayed, difference: Option<&Difference>, quiet: bool) {
    for bad in &replayed.bad {
        anstream::eprintln!("line {}: {}", bad.line, bad.why);
    }
    match difference {
        Some(difference) => {
            for line in &difference.only_first {
                anstream::println!("- {} {}", line.at, line.text);
            }
            for line in &difference.only_second {
                anstream::println!("+ {} {}", line.at, line.text);
            }
            if difference.is_none() {
                anstream::println!("no difference");
            }
        }
        None => {
            if !quiet {
                for line in &replayed.transcript.lines {
                    anstream::println!("{} {}", line.at, line.text);
                }
            }
            summary(&replayed.transcript);
        }
    }
    for divergence in &replayed.divergences {
        anstream::eprintln!("the journal has other decisions: {divergence}");
    }
}

fn summary(transcript: &Transcript) {
    let rules = transcript
        .rules
        .iter()
        .map(|(rule, summary)| vec![rule.clone(), summary.fired.to_string(), format!("{:.0}", summary.seconds_firing)]);
    output::table(&["rule", "fired", "seconds firing"], rules.collect());
    let playbooks = transcript.playbooks.iter().flat_map(|(playbook, verdicts)| {
        verdicts.iter().map(|(verdict, runs)| vec![playbook.clone(), output::tinted(verdict), runs.to_string()])
    });
    output::table(&["playbook", "verdict", "runs"], playbooks.collect());
    let receivers = transcript.receivers.iter().map(|(receiver, sent)| vec![receiver.clone(), sent.to_string()]);
    output::table(&["receiver", "messages"], receivers.collect());
    if !transcript.refused.is_empty() {
        let refused = transcript.refused.iter().map(|(guard, times)| vec![guard.clone(), times.to_string()]);
        output::table(&["guard", "refused"], refused.collect());
    }
}
