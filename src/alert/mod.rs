//! What happens to an alert, and where word of it goes: its life as one transition table, the routing tree, and
//! the receivers.

pub mod inhibit;
pub mod lifecycle;
pub mod notification;
pub mod receiver;
pub mod route;
