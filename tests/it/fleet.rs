//! The drill of `selfheal demo --fleet`: in every story the guards hold, and people are told once, with the reason.

use selfheal_demo::fleet::drill;

#[test]
fn safety_drill_of_a_fleet() {
    let drill = drill(7).unwrap_or_else(|error| panic!("{error:#}"));
    let wrong: Vec<String> = drill
        .told
        .iter()
        .filter(|told| !told.wrong.is_empty())
        .map(|told| format!("{}:\n  {}\n  {}", told.title, told.wrong.join("\n  "), told.lines.join("\n  ")))
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert_eq!(drill.told.len(), 8);
}
