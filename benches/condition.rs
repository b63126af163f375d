//! What one evaluation of a condition of two parts costs: on the fast path, by the interpreter, and in plain
//! Rhai.
//!
//! `cargo bench --bench condition`
#![allow(clippy::disallowed_methods, reason = "a benchmark reads the clock")]

use std::hint::black_box;
use std::time::{Duration, Instant};

use selfheal_model::Map;
use selfheal_script::{Condition, Evidence, Expect, Names, Read, Reading, ScriptHost, Truth, Vars};

const SOURCE: &str = r#"avg("cpu", "5m") > 60.0 && last("cpu") > 99.5"#;
const TIMES: u32 = 2_000_000;

/// Both parts have to be looked at.
struct Warm;

impl Evidence for Warm {
    fn read(&self, read: &Read) -> Result<Reading, String> {
        Ok(Reading::Number(if read.window.is_some() { 70.0 } else { 40.0 }))
    }
}

fn measured(what: &str, mut once: impl FnMut()) -> Duration {
    let began = Instant::now();
    for _ in 0..TIMES {
        once();
    }
    let each = began.elapsed() / TIMES;
    println!("{what:<28} {:>6} ns", each.as_nanos());
    each
}

fn main() {
    let host = ScriptHost::new(&[]).unwrap_or_else(|problems| panic!("{problems:?}"));
    let compiled = Condition::compile(&host, SOURCE, Expect::Bool, &Names::default());
    let (condition, _) = compiled.unwrap_or_else(|problems| panic!("{problems:?}"));
    let fast_path = condition.fast_path(&Map::new()).expect("it is arithmetic");
    let vars = Vars::default();

    let mut engine = rhai::Engine::new();
    engine.register_fn("avg", |_: &str, _: &str| black_box(70.0_f64));
    engine.register_fn("last", |_: &str| black_box(40.0_f64));
    let ast = engine.compile(SOURCE).expect("it is Rhai");

    println!("{SOURCE}");
    measured("the fast path", || {
        let truth = fast_path.run(f64::NAN, |index| black_box(Some([70.0, 40.0][index])));
        assert_eq!(black_box(truth), Some(0.0));
    });
    measured("the interpreter", || assert_eq!(black_box(condition.truth(&vars, &Warm)), Truth::False));
    measured("Rhai", || assert_eq!(black_box(engine.eval_ast::<bool>(&ast).ok()), Some(false)));
}
