//! Stories in virtual time: what happens to alerts, and the lines people read of it.

mod bench;
mod deliveries;
mod grouping;
mod held;
mod repairs;
mod routing;
