//! Calls: which function is called, whether its arguments fit, and what it reads.

use std::sync::Arc;

use rhai::{Expr, FnCallExpr, Position};

use super::closures::instead_of;
use super::{Lowerer, Type};
use crate::ast::{Iteration, Node, Place, Target, bytes_of, seconds_of};
use crate::functions::{Gives, PLAIN, Param, Signature, signature_of};
use crate::library::{Library, library_of};
use crate::mutation::Change;
use crate::names::Root;
use crate::read::{Read, plan};
use crate::suggest::setting_problem;
use crate::value::Value;

/// An argument that is known at load, and whether a setting gave it, which a deployment may override.
struct Constant {
    data: Value,
    from_settings: bool,
}

/// What stands before the dot of a method.
pub(super) struct Holder {
    pub code: Node,
    pub gives: Type,
    /// Where it lies, if in a variable.
    pub place: Option<Place>,
}

impl Lowerer<'_> {
    /// `holder.name(…)`
    pub(super) fn method(&mut self, call: &FnCallExpr, holder: Holder, at: Position) -> (Node, Type) {
        let name = call.name.as_str();
        if !self.known.contains_key(&(name.to_owned(), call.args.len() + 1)) {
            if let Some(how) = Iteration::of(name)
                && call.args.first().is_some_and(|arg| self.is_closure(arg))
            {
                let iteration = self.iteration(how, holder.code, holder.gives, &call.args, at);
                return iteration.unwrap_or((Node::Const(Value::Nothing), Type::Any));
            }
            if let Some(change) = Change::of(name) {
                let target = match (holder.place, &holder.code) {
                    (Some(place), _) => Target::Place(place),
                    (None, Node::Path(..)) => {
                        let message = format!("`{name}` changes variables of the script only");
                        self.complain(at, "assignment", message, Some("copy it first: let list = …".to_owned()));
                        return (Node::Const(Value::Nothing), Type::Any);
                    }
                    (None, _) => Target::Temporary(Box::new(holder.code)),
                };
                let args = call.args.iter().map(|arg| self.expr(arg).0).collect();
                return self.change(change, target, args, at);
            }
            if let ("get", [index]) = (name, call.args.as_slice()) {
                let (index, _) = self.expr(index);
                return (Node::Index(Box::new((holder.code, index))), Type::Any);
            }
        }
        self.named_call(name, Some((holder.code, holder.gives)), &call.args, at)
    }

    /// `name(holder, …)`, as Rhai allows a method to be written.
    pub(super) fn method_as_function(&mut self, call: &FnCallExpr, at: Position) -> Option<(Node, Type)> {
        let name = call.name.as_str();
        let (first, rest) = call.args.split_first()?;
        let has_closure = rest.first().is_some_and(|arg| self.is_closure(arg));
        let is_method = (Iteration::of(name).is_some() && has_closure) || Change::of(name).is_some() || name == "get";
        if !is_method || self.known.contains_key(&(name.to_owned(), call.args.len())) {
            return None;
        }
        let (code, gives, place) = match self.place(first) {
            Some(place) => (place.node(), Type::Any, Some(place)),
            None => {
                let (code, gives) = self.expr(first);
                (code, gives, None)
            }
        };
        let mut method = call.clone();
        method.args = rest.iter().cloned().collect();
        Some(self.method(&method, Holder { code, gives, place }, at))
    }

    /// A call as a function or, with a value before the dot, as a method.
    pub(crate) fn named_call(
        &mut self,
        name: &str,
        holder: Option<(Node, Type)>,
        args: &[Expr],
        at: Position,
    ) -> (Node, Type) {
        let is_known = self.known.keys().any(|(known, _)| known == name);
        if !is_known && let Some(help) = instead_of(name) {
            let message = format!("`{name}` is not available in conditions");
            self.complain(at, "not-available", message, Some(help.to_owned()));
            return (Node::Const(Value::Nothing), Type::Any);
        }
        let mut positions: Vec<Position> = holder.iter().map(|_| at).collect();
        let mut codes: Vec<(Node, Type)> = holder.into_iter().collect();
        for arg in args {
            positions.push(arg.start_position());
            codes.push(self.expr(arg));
        }
        let types: Vec<Type> = codes.iter().map(|(_, gives)| *gives).collect();
        let codes: Vec<Node> = codes.into_iter().map(|(code, _)| code).collect();

        if let Some(index) = self.known.get(&(name.to_owned(), codes.len())) {
            self.calls.insert(*index);
            return (Node::Call(*index, codes), Type::Any);
        }
        match (signature_of(name), library_of(name)) {
            (Some(signature), Some(library)) => self.min_or_max(signature, library, codes, &types, &positions, at),
            (Some(signature), None) => self.computed_read(signature, codes, &positions, at),
            (None, Some(library)) => self.library(library, codes, at),
            (None, None) if PLAIN.iter().any(|(plain, _)| *plain == name) => {
                self.plain(name, codes, &types, &positions, at)
            }
            (None, None) => {
                match self.known.keys().filter(|(known, _)| known == name).map(|(_, count)| *count).next() {
                    Some(count) => {
                        let message = format!("`{name}` takes {}, not {}", arguments(count), codes.len());
                        self.complain(at, "wrong-arguments", message, None);
                    }
                    None => self.no_function(name, at),
                }
                (Node::Const(Value::Nothing), Type::Any)
            }
        }
    }

    /// Complains about a function that does not exist, or not so.
    fn no_function(&mut self, name: &str, at: Position) {
        if let Some(iteration) = Iteration::of(name) {
            let message = format!("`{name}` needs a list and a closure");
            self.complain(at, "wrong-arguments", message, Some(format!("write {}", iteration.shape())));
        } else if let Some(change) = Change::of(name) {
            let message = format!("`{name}` needs a list or map to change");
            self.complain(at, "wrong-arguments", message, Some(format!("write {}", change.shape())));
        } else {
            self.unknown_function(name, at);
        }
    }

    /// Reports a wrong number of arguments.
    fn counted(&mut self, name: &str, shape: &str, arity: (usize, usize), count: usize, at: Position) -> bool {
        if (arity.0..=arity.1).contains(&count) {
            return true;
        }
        let takes =
            if arity.0 == arity.1 { arguments(arity.0) } else { format!("{} or {} arguments", arity.0, arity.1) };
        let message = format!("`{name}` takes {takes}, not {count}");
        self.complain(at, "wrong-arguments", message, Some(format!("write {shape}")));
        false
    }

    fn computed_read(
        &mut self,
        signature: &'static Signature,
        args: Vec<Node>,
        positions: &[Position],
        at: Position,
    ) -> (Node, Type) {
        let gives = match signature.gives {
            Gives::Number => Type::Number,
            Gives::Bool => Type::Bool,
            Gives::Text => Type::Text,
            Gives::List => Type::Holder,
            Gives::Any => Type::Any,
        };
        if !self.counted(signature.name, signature.shape, signature.arity(), args.len(), at) {
            return (Node::Const(Value::Nothing), gives);
        }
        let constants: Vec<Option<Constant>> = args.iter().map(|arg| self.constant(arg)).collect();
        // One argument that is wrong for certain is told even where the other is computed.
        if constants.iter().any(Option::is_none) {
            self.reads_are_static = false;
            self.check_known(signature, &constants, positions);
            let name = signature.name;
            if self.names.is_some() {
                self.warn(
                    at,
                    "computed-read",
                    format!("what this `{name}` reads is only known when it runs"),
                    Some(
                        "the rule is evaluated on every event of its scope; a literal or a setting avoids that".into(),
                    ),
                );
            }
            return (Node::ComputedRead(signature, args), gives);
        }
        let from_settings = constants.iter().flatten().any(|constant| constant.from_settings);
        let known: Vec<Value> = constants.into_iter().flatten().map(|constant| constant.data).collect();
        let values: Vec<_> = known.iter().map(Value::as_arg).collect();
        match plan(signature, &values) {
            Ok(read) => {
                self.remember(read.clone());
                if from_settings {
                    // A deployment's own settings may name another metric or window.
                    self.reads_are_static = false;
                    return (Node::ComputedRead(signature, args), gives);
                }
                (Node::Read(Arc::new(read)), gives)
            }
            Err(bad) => {
                let place = positions.get(bad.index).copied().unwrap_or(at);
                self.complain(place, "wrong-arguments", bad.message, Some(format!("write {}", signature.shape)));
                (Node::Const(Value::Nothing), gives)
            }
        }
    }

    /// Checks the arguments that are constants while others are not, with stand-ins for those.
    fn check_known(&mut self, signature: &'static Signature, constants: &[Option<Constant>], positions: &[Position]) {
        let subject = if signature.subject == Some("time zone") { "UTC" } else { "x" };
        let stand_in = |param: &Param| match param {
            Param::Window | Param::Share | Param::Ahead | Param::Limit => Value::Int(1),
            Param::Fold => Value::text("max"),
            Param::Text(_) => Value::text("x"),
        };
        let stand_ins: Vec<Value> =
            std::iter::once(Value::text(subject)).chain(signature.params.iter().map(stand_in)).collect();
        let values: Vec<Value> = constants
            .iter()
            .zip(&stand_ins)
            .map(|(constant, stand_in)| constant.as_ref().map_or(stand_in, |constant| &constant.data).clone())
            .collect();
        let values: Vec<_> = values.iter().map(Value::as_arg).collect();
        if let Err(bad) = plan(signature, &values)
            && let Some(place) = positions.get(bad.index)
        {
            self.complain(*place, "wrong-arguments", bad.message, Some(format!("write {}", signature.shape)));
        }
    }

    fn remember(&mut self, read: Read) {
        if !self.reads.contains(&read) {
            self.reads.push(read);
        }
    }

    /// `min` and `max` are a metric's over a window, or the smaller and larger of two numbers.
    fn min_or_max(
        &mut self,
        signature: &'static Signature,
        library: &'static Library,
        args: Vec<Node>,
        types: &[Type],
        positions: &[Position],
        at: Position,
    ) -> (Node, Type) {
        if args.len() != 2 {
            return self.computed_read(signature, args, positions, at);
        }
        match (types.first(), self.constant(&args[0]).map(|constant| constant.data)) {
            (Some(Type::Text), _) | (_, Some(Value::Text(_))) => self.computed_read(signature, args, positions, at),
            (Some(Type::Number), _) => (Node::Library(library, args), Type::Number),
            _ => {
                self.reads_are_static = false;
                (Node::MinOrMax(signature, library, args), Type::Number)
            }
        }
    }

    fn library(&mut self, library: &'static Library, args: Vec<Node>, at: Position) -> (Node, Type) {
        if !self.counted(library.name, library.shape, library.arity, args.len(), at) {
            return (Node::Const(Value::Nothing), Type::Any);
        }
        let gives = match library.name {
            "abs" | "floor" | "ceiling" | "round" | "sqrt" | "exp" | "ln" | "log10" | "to_int" | "to_float" | "len"
            | "parse_int" | "parse_float" | "index_of" => Type::Number,
            "is_empty" | "contains" | "starts_with" | "ends_with" => Type::Bool,
            "to_lower" | "to_upper" | "trim" | "replace" | "sub_string" | "to_string" | "type_of" => Type::Text,
            "split" | "keys" | "values" | "sort" | "reverse" | "range" => Type::Holder,
            _ => Type::Any,
        };
        (Node::Library(library, args), gives)
    }

    /// `has`, `duration`, `size`, `setting`
    fn plain(
        &mut self,
        name: &str,
        args: Vec<Node>,
        types: &[Type],
        positions: &[Position],
        at: Position,
    ) -> (Node, Type) {
        let shape = PLAIN.iter().find(|(plain, _)| *plain == name).map_or("", |(_, shape)| *shape);
        let count = args.len();
        let (Some(arg), true) = (args.into_iter().next(), self.counted(name, shape, (1, 1), count, at)) else {
            return (Node::Const(Value::Nothing), if name == "has" { Type::Bool } else { Type::Any });
        };
        let place = positions.first().copied().unwrap_or(at);
        match name {
            "has" => {
                if matches!(types.first(), Some(Type::Text)) && matches!(arg, Node::Const(_)) {
                    let message = "`has` of a text is always true".to_owned();
                    self.complain(place, "wrong-arguments", message, Some(format!("write {shape}")));
                }
                (Node::Has(Box::new(arg)), Type::Bool)
            }
            "setting" => (self.setting_call(arg, place), Type::Any),
            _ => {
                let converts = if name == "duration" { seconds_of } else { bytes_of };
                if let Node::Const(data) = &arg {
                    return match converts(data) {
                        Ok(data) => (Node::Const(data), Type::Number),
                        Err(message) => {
                            self.complain(place, "wrong-arguments", message, Some(format!("write {shape}")));
                            (Node::Const(Value::Nothing), Type::Number)
                        }
                    };
                }
                let boxed = Box::new(arg);
                (if name == "duration" { Node::Duration(boxed) } else { Node::Size(boxed) }, Type::Number)
            }
        }
    }

    fn setting_call(&mut self, arg: Node, at: Position) -> Node {
        if let (Node::Const(Value::Text(path)), Some(settings)) = (&arg, self.names.and_then(|names| names.settings)) {
            let parts: Vec<&str> = path.split('.').collect();
            if let Some((code, message, help)) = setting_problem(settings, &parts) {
                self.complain(at, code, message, help);
            }
        }
        Node::Setting(Box::new(arg))
    }

    fn constant(&self, code: &Node) -> Option<Constant> {
        match code {
            Node::Const(data) => Some(Constant { data: data.clone(), from_settings: false }),
            Node::Path(Root::Settings, path) => self
                .setting_now(path)
                .filter(|data| *data != Value::Nothing)
                .map(|data| Constant { data, from_settings: true }),
            Node::Setting(inner) => match inner.as_ref() {
                Node::Const(Value::Text(path)) => {
                    let parts: Vec<smol_str::SmolStr> = path.split('.').map(smol_str::SmolStr::new).collect();
                    self.constant(&Node::Path(Root::Settings, parts))
                }
                _ => None,
            },
            _ => None,
        }
    }
}

fn arguments(count: usize) -> String {
    match count {
        0 => "no arguments".to_owned(),
        1 => "one argument".to_owned(),
        2 => "two arguments".to_owned(),
        count => format!("{count} arguments"),
    }
}
