//! Calls, and the plain names.

use super::{Failure, Interpreter, Outcome, Stop};
use crate::ast::{Node, bytes_of, inside, seconds_of, setting};
use crate::functions::Signature;
use crate::library::call;
use crate::limits;
use crate::names::Root;
use crate::read::{Arg, plan};
use crate::value::Value;
use smol_str::SmolStr;

impl Interpreter<'_> {
    pub(super) fn call(&mut self, code: &Node, frame: &mut Vec<Value>) -> Outcome {
        match code {
            Node::ComputedRead(signature, args) => {
                let args = self.all(args, frame)?;
                self.computed_read(signature, &args)
            }
            Node::MinOrMax(signature, library, args) => {
                let args = self.all(args, frame)?;
                if matches!(args.first(), Some(Value::Text(_))) {
                    return self.computed_read(signature, &args);
                }
                Ok(call(library, &args)?)
            }
            Node::Duration(inner) => Ok(seconds_of(&self.eval(inner, frame)?)?),
            Node::Size(inner) => Ok(bytes_of(&self.eval(inner, frame)?)?),
            Node::Setting(inner) => match self.eval(inner, frame)? {
                Value::Text(path) => Ok(setting(&self.vars.settings, &path)),
                Value::Nothing => Ok(Value::Nothing),
                other => Err(Stop::failed(format!("`setting` needs a text, not {}", other.kind()))),
            },
            Node::Library(library, args) => {
                let args = self.all(args, frame)?;
                if !matches!(library.name, "len" | "is_empty" | "type_of") {
                    self.spend(args.iter().map(Value::weight).sum())?;
                }
                let made = call(library, &args).map_err(|message| format!("`{}`: {message}", library.name))?;
                self.spend(made.weight())?;
                Ok(made)
            }
            Node::Call(index, args) => {
                let args = self.all(args, frame)?;
                self.function(*index, args)
            }
            _ => Ok(Value::Nothing),
        }
    }

    fn computed_read(&mut self, signature: &Signature, args: &[Value]) -> Outcome {
        let args: Vec<Arg<'_>> = args.iter().map(Value::as_arg).collect();
        let read = plan(signature, &args).map_err(|bad| bad.message)?;
        Ok(self.evidence.read(&read)?.into())
    }

    fn function(&mut self, index: usize, mut args: Vec<Value>) -> Outcome {
        let function = match index.checked_sub(self.shared.len()) {
            None => self.shared.get(index),
            Some(own) => self.own.get(own),
        };
        let Some(function) = function else { return Err(Stop::failed("a function is missing".to_owned())) };
        if self.calls >= limits::CALLS {
            return Err(Stop::limit(format!("`{}` calls deeper than {} levels", function.name, limits::CALLS)));
        }
        args.resize(function.locals.max(args.len()), Value::Nothing);
        self.calls += 1;
        let outcome = self.eval(&function.body, &mut args);
        self.calls -= 1;
        match outcome {
            Err(Stop::Return(data)) => Ok(data),
            Err(Stop::Failed(failure)) => {
                let message = format!("in `{}`: {}", function.name, failure.message);
                Err(Stop::Failed(Failure { message, ..failure }))
            }
            other => other,
        }
    }

    pub(super) fn path(&self, root: Root, path: &[SmolStr]) -> Outcome {
        let vars = self.vars;
        let whole = |data: Value| path.iter().try_fold(data, |data, name| data.member(name)).map_err(Stop::from);
        match root {
            Root::Deployment => whole(vars.deployment.clone().map_or(Value::Nothing, Value::Text)),
            Root::Value => whole(vars.value.map_or(Value::Nothing, Value::float)),
            Root::Severity => whole(vars.severity.map_or(Value::Nothing, |severity| Value::text(severity.as_str()))),
            Root::Labels => match path {
                [name] => Ok(vars.labels.get(name).map_or(Value::Nothing, Value::text)),
                _ => {
                    let all =
                        vars.labels.iter().map(|(name, value)| (SmolStr::new(name), Value::text(value))).collect();
                    whole(Value::map(all))
                }
            },
            Root::Settings => Ok(inside(&vars.settings, path)),
            Root::Inputs => Ok(inside(&vars.inputs, path)),
            Root::Steps => Ok(inside(&vars.steps, path)),
            Root::Failed => Ok(vars.failed.as_ref().map_or(Value::Nothing, |failed| inside(failed, path))),
        }
    }
}
