//! The reference of all keys as a Markdown page: `docs/reference/policy-schema.md`.

use std::fmt::Write;

use super::{FileKind, Form, Key, Presence, Section, sections};

const HEAD: &str = "# Keys of policy files

Every key of every policy file, with its type, its default, its meaning and an example. The page is written from the tables the compiler
reads by; do not edit it (`SELFHEAL_BLESS=1 cargo test -p selfheal-policy` writes it anew). `selfheal schema config`, `rules`, `playbooks`
and `deployments` print the same as JSON Schema for editors. [Policy files](../policy.md) explains what belongs together.

A key without a default may be left out; the column then says what holds without it. All keys here exist since release ";

/// The reference page of all keys, as Markdown.
pub fn reference() -> String {
    let mut page = format!("{HEAD}{}.\n", super::FIRST_RELEASE);
    let all = sections();
    for kind in FileKind::ALL {
        let top = kind.section();
        let inside = |section: &&&Section| !std::ptr::eq(**section, top) && is_of(section, kind);
        write_section(&mut page, "##", top);
        all.iter().filter(inside).for_each(|section| write_section(&mut page, "###", section));
    }
    page
}

/// Whether the section stands under the heading of this kind of file.
fn is_of(section: &Section, kind: FileKind) -> bool {
    section.place.split(": ").next() == kind.section().place.split(": ").next()
}

fn write_section(page: &mut String, heading: &str, section: &'static Section) {
    // writing into a text cannot fail
    let _ = write!(page, "\n{heading} {}\n\n{}\n", title(section), section.about);
    if !section.one_of.is_empty() {
        let _ = write!(page, "\nExactly one of {} is written.\n", list(section.one_of));
    }
    if !section.not_built.is_empty() {
        let _ = write!(page, "\nNot built yet, and refused: {}.\n", list(section.not_built));
    }
    page.push_str("\n| key | type | default | meaning | example |\n| --- | --- | --- | --- | --- |\n");
    for key in section.keys {
        write_row(page, key);
    }
}

fn write_row(page: &mut String, key: &Key) {
    let default = match key.presence {
        Presence::Required => "required".to_owned(),
        Presence::Default(text) => code(text),
        Presence::Unset(words) => words.to_owned(),
    };
    let beside = match key.only_with {
        [] => String::new(),
        others => format!(" With {}.", list(others)),
    };
    let since = if key.since == super::FIRST_RELEASE { String::new() } else { format!(" Since {}.", key.since) };
    let example = match key.example {
        "" => String::new(),
        example => code(&format!("{}: {example}", key.name)),
    };
    let meaning = format!("{}{beside}{since}", key.about);
    let cells = [code(key.name), type_of(&key.form), default, meaning, example].map(|cell| cell.replace('|', "\\|"));
    let _ = writeln!(page, "| {} |", cells.join(" | "));
}

fn title(section: &Section) -> String {
    code(section.place)
}

/// The anchor that a heading gets on GitHub.
fn anchor(section: &Section) -> String {
    let kept = |letter: &char| letter.is_ascii_alphanumeric() || matches!(letter, ' ' | '-' | '_');
    let heading = section.place.to_lowercase();
    heading.chars().filter(kept).map(|letter| if letter == ' ' { '-' } else { letter }).collect()
}

fn link(section: &Section) -> String {
    format!("[{}](#{})", section.title, anchor(section))
}

fn code(text: &str) -> String {
    format!("`{text}`")
}

fn list(words: &[&str]) -> String {
    words.iter().map(|word| code(word)).collect::<Vec<_>>().join(", ")
}

fn type_of(form: &Form) -> String {
    match *form {
        Form::Text | Form::Name => "text".to_owned(),
        Form::Boolean => "`true` or `false`".to_owned(),
        Form::Number => "number".to_owned(),
        Form::Count(least, most) => format!("whole number from {least} to {most}"),
        Form::Duration => "duration".to_owned(),
        Form::PositiveDuration => "duration above `0s`".to_owned(),
        Form::Size => "size".to_owned(),
        Form::Rate => "rate".to_owned(),
        Form::Word(words) => list(words),
        Form::Words(words) => format!("one or a list of {}", list(words)),
        Form::WordMap(words) => format!("names to {}", list(words)),
        Form::Texts => "a text or a list of texts".to_owned(),
        Form::TextList => "list of texts".to_owned(),
        Form::TextMap => "names to texts".to_owned(),
        Form::Selector => "selector".to_owned(),
        Form::Secret => "secret".to_owned(),
        Form::SecretMap => "names to secrets".to_owned(),
        Form::Condition => "condition".to_owned(),
        Form::Expression => "expression".to_owned(),
        Form::Template => "template".to_owned(),
        Form::TemplateMap => "names to templates".to_owned(),
        Form::Notation(words, _) => words.to_owned(),
        Form::NotationList(words, _) => format!("a list: {words}"),
        Form::StatusCodes => "a status code or a list of them".to_owned(),
        Form::Parameters => "names to values; texts are templates".to_owned(),
        Form::Settings => "named values, nested as wanted".to_owned(),
        Form::Anything => "any value".to_owned(),
        Form::AnyList => "list of values".to_owned(),
        Form::Target => "fields of the adapter".to_owned(),
        Form::Map(section) => link(section),
        Form::List(section) => format!("list of {}", link(section)),
        Form::OneOrMany(section) => format!("one or a list of {}", link(section)),
        Form::MapOf(section) => format!("names to {}", link(section)),
        Form::Defaults(section) => format!("{} without required keys", link(section)),
        Form::TextOr(section) => format!("a text or {}", link(section)),
        Form::TextsOrMaps(section) => format!("list of texts and {}", link(section)),
        Form::DurationOr(section) => format!("duration or {}", link(section)),
        Form::Levels(section) => format!("severities to conditions or {}", link(section)),
        Form::Ladder(section) => format!("a name, {}, or a list of both", link(section)),
        Form::Ladders(section) => format!("names to lists of playbooks and {}", link(section)),
    }
}
