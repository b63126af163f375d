//! The `selfheal` binary: everything is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    selfheal::cli::main()
}
