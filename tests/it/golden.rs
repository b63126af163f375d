//! Journals that this engine version wrote once. Whoever changes what the engine decides finds that they fold otherwise
//! now: then `ENGINE_VERSION` has to grow, so that a crash and an upgrade at once do not end in a divergence.
//! `SELFHEAL_BLESS=1 cargo test golden` writes them anew.

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::sim::{self, Cast};
use crate::world::{START, compile, in_words};
use selfheal_contract::Effect;
use selfheal_contract::saved::ENGINE_VERSION;
use selfheal_engine::Engine;
use selfheal_model::fingerprint;
use selfheal_store::journal::MemoryJournal;
use selfheal_store::replay::{self, BatchReplay};

/// Stories of the simulator, and how much of each.
const STORIES: [(Cast, u64, usize); 6] = [
    (Cast::Narrow, 7, 30),
    (Cast::Narrow, 19, 30),
    (Cast::Narrow, 42, 30),
    (Cast::Wide, 1001, 60),
    (Cast::Wide, 1002, 60),
    (Cast::Wide, 1003, 60),
];
/// The first version that wrote wide ones.
const WIDE_SINCE: u32 = 5;

fn folder(version: u32, seed: u64) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(format!("tests/golden/{version}/{seed}"))
}

/// Rows one after the other, each with its length before it.
fn write(cast: Cast, seed: u64, acts: usize) {
    let (policy, world) = sim::begun(cast, seed, acts);
    let dir = folder(ENGINE_VERSION, seed);
    std::fs::create_dir_all(&dir).expect("made");
    let mut bytes = Vec::new();
    for row in world.journal_rows() {
        bytes.extend(u32::try_from(row.len()).expect("a short row").to_le_bytes());
        bytes.extend(row);
    }
    std::fs::write(dir.join("rows"), bytes).expect("written");
    std::fs::write(dir.join("policy.json"), serde_json::to_string_pretty(&policy).expect("plain data"))
        .expect("written");
    std::fs::write(dir.join("decisions"), decisions(seed)).expect("written");
}

fn rows(version: u32, seed: u64) -> Vec<Vec<u8>> {
    let bytes = std::fs::read(folder(version, seed).join("rows")).expect("a golden journal");
    let mut rest = bytes.as_slice();
    let mut rows = Vec::new();
    while let Some((length, after)) = rest.split_first_chunk() {
        let (row, after) = after.split_at(u32::from_le_bytes(*length) as usize);
        rows.push(row.to_vec());
        rest = after;
    }
    rows
}

/// Folds a journal of a version; `each` hears what every batch came to.
fn folded(version: u32, seed: u64, mut each: impl FnMut(u64, &BatchReplay, &[Effect])) {
    let text = std::fs::read_to_string(folder(version, seed).join("policy.json")).expect("its policy");
    let files: Vec<(String, String)> = serde_json::from_str(&text).expect("files");
    let variant = |from: &str, to: &str| {
        let files: Vec<(&str, String)> =
            files.iter().map(|(path, text)| (path.as_str(), text.replace(from, to))).collect();
        let files: Vec<(&str, &str)> = files.iter().map(|(path, text)| (*path, text.as_str())).collect();
        compile(&files)
    };
    // those of the simulator's acts
    let policies: BTreeMap<String, _> = [variant("", ""), variant("> 80", "> 85")]
        .into_iter()
        .map(|policy| (policy.version.to_string(), policy))
        .collect();
    let mut engine = Engine::new(START, variant("", "")).0;
    for batch in MemoryJournal::of_rows(rows(version, seed)).batches() {
        let batch = batch.unwrap_or_else(|error| panic!("a row of an older form is no longer read: {error}"));
        let sequence = batch.sequence;
        let mut effects = Vec::new();
        let folded = replay::apply(&mut engine, batch, &mut |version| policies.get(version).cloned(), &mut effects);
        each(sequence, &folded.unwrap_or_else(|error| panic!("{error}")), &effects);
    }
}

/// One line for each batch on which something was decided: what, and a hash of all of it.
fn decisions(seed: u64) -> String {
    let mut lines = String::new();
    folded(ENGINE_VERSION, seed, |sequence, folded, effects| {
        assert_eq!(*folded, BatchReplay::Same, "the engine decides otherwise now; ENGINE_VERSION has to grow");
        let acts = |effect: &&Effect| matches!(effect, Effect::StartStep(_) | Effect::Deliver(_));
        let decided: Vec<String> = effects.iter().filter(acts).map(in_words).collect();
        if !decided.is_empty() {
            let hash = fingerprint(decided.iter().map(String::as_str));
            lines += &format!("{sequence} {} {hash:016x}\n", decided.len());
        }
    });
    lines
}

/// Journals of former versions are still read; they move the state and are not compared.
#[test]
fn journals_of_former_versions_fold_mute() {
    for version in 1..ENGINE_VERSION {
        let written = |(cast, ..): &(Cast, u64, usize)| *cast == Cast::Narrow || version >= WIDE_SINCE;
        for (_, seed, _) in STORIES.into_iter().filter(written) {
            let mut batches = 0;
            folded(version, seed, |sequence, folded, _| {
                let is_mute = matches!(folded, BatchReplay::Mute { engine_version, .. } if *engine_version == version);
                assert!(is_mute, "batch {sequence} of version {version}: {folded:?}");
                batches += 1;
            });
            assert!(batches > 20, "{batches} batches prove little");
        }
    }
}

#[test]
fn golden_journals_fold_to_the_decisions_they_were_written_with() {
    for (cast, seed, acts) in STORIES {
        if std::env::var_os("SELFHEAL_BLESS").is_some() {
            write(cast, seed, acts);
        }
        let expected =
            std::fs::read_to_string(folder(ENGINE_VERSION, seed).join("decisions")).expect("what was decided");
        assert!(expected.lines().count() > 5, "story {seed} decides too little to prove anything");
        assert!(
            decisions(seed) == expected,
            "story {seed} comes to other calls or messages now: if that is meant, ENGINE_VERSION has to grow \
             and the journals be blessed anew"
        );
    }
}
