//! What an edge may know of the engine, and nothing else of it: the effects it is asked to carry out, the payloads it
//! answers with, and the pictures it shows.
//!
//! Invariant: plain data. Nothing here decides, and nothing here names a rule, a playbook or a script.

mod builtin;
pub mod diagnostic;
pub mod effect;
pub mod explanation;
pub mod guard;
pub mod input;
pub mod notification;
pub mod receiver;
pub mod saved;
pub mod view;

pub use builtin::BuiltInAlert;
pub use diagnostic::{Diagnostic, SourceFile};
pub use effect::{Attempt, Delivery, Desired, DesiredDeployment, Effect, OperatorAnswer, StepCall};
pub use guard::Guard;
pub use input::{
    DeliveryResult, Gap, Intake, Observation, Operator, OperatorCommand, SilenceAsked, SilenceEnd, StepEnd, Storage,
    Upgraded,
};
