//! Evidence that tests write down.

use std::collections::BTreeMap;
use std::sync::Mutex;

use crate::evidence::{Evidence, Reading};
use crate::func::Func;
use crate::read::Read;
use selfheal_model::units::format_duration;

/// Answers by `func subject [window] [other]`, written as in a script: `last cpu`, `avg cpu 5m`, `open a b`.
#[derive(Default)]
pub(crate) struct FakeEvidence {
    pub answers: BTreeMap<String, Result<Reading, String>>,
    pub asked: Mutex<Vec<String>>,
}

impl FakeEvidence {
    pub fn new() -> FakeEvidence {
        FakeEvidence::default()
    }

    pub fn number(self, key: &str, number: f64) -> FakeEvidence {
        self.with(key, Reading::Number(number))
    }

    pub fn bool(self, key: &str, value: bool) -> FakeEvidence {
        self.with(key, Reading::Bool(value))
    }

    pub fn text(self, key: &str, text: &str) -> FakeEvidence {
        self.with(key, Reading::Text(text.into()))
    }

    pub fn with(mut self, key: &str, reading: Reading) -> FakeEvidence {
        self.answers.insert(key.to_owned(), Ok(reading));
        self
    }

    pub fn error(mut self, key: &str, message: &str) -> FakeEvidence {
        self.answers.insert(key.to_owned(), Err(message.to_owned()));
        self
    }

    pub fn asked(&self) -> Vec<String> {
        self.asked.lock().map(|asked| asked.clone()).unwrap_or_default()
    }
}

pub(crate) fn key(read: &Read) -> String {
    let func = match read.func {
        Func::SuccessRate => "success_rate".to_owned(),
        Func::SignalAge => "signal_age".to_owned(),
        Func::SignalField => "signal_field".to_owned(),
        other => format!("{other:?}").to_lowercase(),
    };
    let mut key = func;
    for part in [Some(read.subject.to_string()), read.window.map(format_duration), read.other.clone().map(Into::into)] {
        if let Some(part) = part.filter(|part| !part.is_empty()) {
            key.push(' ');
            key.push_str(&part);
        }
    }
    key
}

impl Evidence for FakeEvidence {
    fn read(&self, read: &Read) -> Result<Reading, String> {
        let key = key(read);
        if let Ok(mut asked) = self.asked.lock() {
            asked.push(key.clone());
        }
        self.answers.get(&key).cloned().unwrap_or(Ok(Reading::Missing))
    }
}
