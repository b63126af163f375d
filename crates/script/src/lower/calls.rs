//! Calls: which function is meant, whether its arguments fit, and what it reads.

use std::sync::Arc;

use rhai::{Expr, Position};

use super::{Lowerer, Type};
use crate::code::{Code, Root, bytes_of, seconds_of};
use crate::data::Data;
use crate::evidence::Read;
use crate::functions::{Gives, PLAIN, Param, Signature, plan, signature_of};
use crate::library::{Library, library_of};
use crate::reference::is_of_rhai;
use crate::suggest::setting_problem;

/// A constant argument; whether it came out of the settings, which a deployment may override.
struct Constant {
    data: Data,
    from_settings: bool,
}

impl Lowerer<'_> {
    /// A call as a function or, with a value before the dot, as a method.
    pub(super) fn named_call(
        &mut self,
        name: &str,
        holder: Option<(Code, Type)>,
        args: &[Expr],
        at: Position,
    ) -> (Code, Type) {
        let mut places: Vec<Position> = holder.iter().map(|_| at).collect();
        let mut codes: Vec<(Code, Type)> = holder.into_iter().collect();
        for arg in args {
            places.push(arg.start_position());
            codes.push(self.expr(arg));
        }
        let types: Vec<Type> = codes.iter().map(|(_, gives)| *gives).collect();
        let codes: Vec<Code> = codes.into_iter().map(|(code, _)| code).collect();

        if let Some(index) = self.known.get(&(name.to_owned(), codes.len())) {
            self.calls.insert(*index);
            return (Code::Call(*index, codes), Type::Any);
        }
        match (signature_of(name), library_of(name)) {
            (Some(signature), Some(library)) => self.extreme(signature, library, codes, &types, &places, at),
            (Some(signature), None) => self.ask(signature, codes, &places, at),
            (None, Some(library)) => self.library(library, codes, at),
            (None, None) if PLAIN.iter().any(|(plain, _)| *plain == name) => {
                self.plain(name, codes, &types, &places, at)
            }
            (None, None) => {
                match self.known.keys().filter(|(known, _)| known == name).map(|(_, count)| *count).next() {
                    Some(count) => {
                        let message = format!("`{name}` takes {}, not {}", arguments(count), codes.len());
                        self.complain(at, "wrong-arguments", message, None);
                    }
                    None if is_of_rhai(name) => self.beyond = true,
                    None => self.unknown_function(name, at),
                }
                (Code::Const(Data::Nothing), Type::Any)
            }
        }
    }

    /// Complains where a count of arguments is wrong.
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

    fn ask(
        &mut self,
        signature: &'static Signature,
        args: Vec<Code>,
        places: &[Position],
        at: Position,
    ) -> (Code, Type) {
        let gives = match signature.gives {
            Gives::Number => Type::Number,
            Gives::Bool => Type::Bool,
            Gives::Text => Type::Text,
            Gives::List => Type::Holder,
            Gives::Any => Type::Any,
        };
        if !self.counted(signature.name, signature.shape, signature.arity(), args.len(), at) {
            return (Code::Const(Data::Nothing), gives);
        }
        let constants: Vec<Option<Constant>> = args.iter().map(|arg| self.constant(arg)).collect();
        // One argument that is wrong for certain is told even where the other is computed.
        if constants.iter().any(Option::is_none) {
            self.reads_are_static = false;
            self.check_known(signature, &constants, places);
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
            return (Code::Ask(signature, args), gives);
        }
        let from_settings = constants.iter().flatten().any(|constant| constant.from_settings);
        let known: Vec<Data> = constants.into_iter().flatten().map(|constant| constant.data).collect();
        let values: Vec<_> = known.iter().map(Data::as_arg).collect();
        match plan(signature, &values) {
            Ok(read) => {
                self.remember(read.clone());
                if from_settings {
                    // A deployment's own settings may name another metric or window.
                    self.reads_are_static = false;
                    return (Code::Ask(signature, args), gives);
                }
                (Code::Read(Arc::new(read)), gives)
            }
            Err(bad) => {
                let place = places.get(bad.index).copied().unwrap_or(at);
                self.complain(place, "wrong-arguments", bad.message, Some(format!("write {}", signature.shape)));
                (Code::Const(Data::Nothing), gives)
            }
        }
    }

    /// Checks the arguments that are constants while others are not, with stand-ins for those.
    fn check_known(&mut self, signature: &'static Signature, constants: &[Option<Constant>], places: &[Position]) {
        let subject = if signature.subject == Some("time zone") { "UTC" } else { "x" };
        let stand_in = |param: &Param| match param {
            Param::Window | Param::Share | Param::Ahead | Param::Limit => Data::Int(1),
            Param::Fold => Data::text("max"),
            Param::Text(_) => Data::text("x"),
        };
        let stand_ins: Vec<Data> =
            std::iter::once(Data::text(subject)).chain(signature.params.iter().map(stand_in)).collect();
        let values: Vec<Data> = constants
            .iter()
            .zip(&stand_ins)
            .map(|(constant, stand_in)| constant.as_ref().map_or(stand_in, |constant| &constant.data).clone())
            .collect();
        let values: Vec<_> = values.iter().map(Data::as_arg).collect();
        if let Err(bad) = plan(signature, &values)
            && let Some(place) = places.get(bad.index)
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
    fn extreme(
        &mut self,
        signature: &'static Signature,
        library: &'static Library,
        args: Vec<Code>,
        types: &[Type],
        places: &[Position],
        at: Position,
    ) -> (Code, Type) {
        if args.len() != 2 {
            return self.ask(signature, args, places, at);
        }
        match (types.first(), self.constant(&args[0]).map(|constant| constant.data)) {
            (Some(Type::Text), _) | (_, Some(Data::Text(_))) => self.ask(signature, args, places, at),
            (Some(Type::Number), _) => (Code::Library(library, args), Type::Number),
            _ => {
                self.reads_are_static = false;
                (Code::Extreme(signature, library, args), Type::Number)
            }
        }
    }

    fn library(&mut self, library: &'static Library, args: Vec<Code>, at: Position) -> (Code, Type) {
        if !self.counted(library.name, library.shape, library.arity, args.len(), at) {
            return (Code::Const(Data::Nothing), Type::Any);
        }
        let gives = match library.name {
            "abs" | "floor" | "ceiling" | "round" | "sqrt" | "exp" | "ln" | "log10" | "to_int" | "to_float" | "len"
            | "parse_int" | "parse_float" | "index_of" => Type::Number,
            "is_empty" | "contains" | "starts_with" | "ends_with" => Type::Bool,
            "to_lower" | "to_upper" | "trim" | "replace" | "sub_string" | "to_string" | "type_of" => Type::Text,
            "split" | "keys" | "values" | "sort" | "reverse" | "range" => Type::Holder,
            _ => Type::Any,
        };
        (Code::Library(library, args), gives)
    }

    /// `has`, `duration`, `size`, `setting`
    fn plain(
        &mut self,
        name: &str,
        args: Vec<Code>,
        types: &[Type],
        places: &[Position],
        at: Position,
    ) -> (Code, Type) {
        let shape = PLAIN.iter().find(|(plain, _)| *plain == name).map_or("", |(_, shape)| *shape);
        let count = args.len();
        let (Some(arg), true) = (args.into_iter().next(), self.counted(name, shape, (1, 1), count, at)) else {
            return (Code::Const(Data::Nothing), if name == "has" { Type::Bool } else { Type::Any });
        };
        let place = places.first().copied().unwrap_or(at);
        match name {
            "has" => {
                if matches!(types.first(), Some(Type::Text)) && matches!(arg, Code::Const(_)) {
                    let message = "`has` of a text is always true".to_owned();
                    self.complain(place, "wrong-arguments", message, Some(format!("write {shape}")));
                }
                (Code::Has(Box::new(arg)), Type::Bool)
            }
            "setting" => (self.setting_call(arg, place), Type::Any),
            _ => {
                let converts = if name == "duration" { seconds_of } else { bytes_of };
                if let Code::Const(data) = &arg {
                    return match converts(data) {
                        Ok(data) => (Code::Const(data), Type::Number),
                        Err(message) => {
                            self.complain(place, "wrong-arguments", message, Some(format!("write {shape}")));
                            (Code::Const(Data::Nothing), Type::Number)
                        }
                    };
                }
                let boxed = Box::new(arg);
                (if name == "duration" { Code::Duration(boxed) } else { Code::Size(boxed) }, Type::Number)
            }
        }
    }

    fn setting_call(&mut self, arg: Code, at: Position) -> Code {
        if let (Code::Const(Data::Text(path)), Some(settings)) = (&arg, self.names.and_then(|names| names.settings)) {
            let parts: Vec<&str> = path.split('.').collect();
            if let Some((code, message, help)) = setting_problem(settings, &parts) {
                self.complain(at, code, message, help);
            }
        }
        Code::Setting(Box::new(arg))
    }

    fn constant(&self, code: &Code) -> Option<Constant> {
        match code {
            Code::Const(data) => Some(Constant { data: data.clone(), from_settings: false }),
            Code::Path(Root::Settings, path) => self
                .setting_now(path)
                .filter(|data| *data != Data::Nothing)
                .map(|data| Constant { data, from_settings: true }),
            Code::Setting(inner) => match inner.as_ref() {
                Code::Const(Data::Text(path)) => {
                    let parts: Vec<smol_str::SmolStr> = path.split('.').map(smol_str::SmolStr::new).collect();
                    self.constant(&Code::Path(Root::Settings, parts))
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
