//! Every limit of the rule language in one place. Each keeps one bad file from holding up the rest of the engine.

use rhai::Engine;

/// Length of a condition or of a file of functions, in bytes.
pub const SOURCE_BYTES: usize = 64 * 1024;
/// Brackets within brackets, as written; bounds the parser's stack.
pub const BRACKETS: usize = 32;
/// Operators in one statement; bounds how deep a chain of operators makes the tree.
pub const OPERATORS: usize = 128;
/// `else` keywords in one script; each makes the tree deeper.
pub const ELSES: usize = 64;
/// Depth of an expression, as parsed.
pub const EXPRESSION_DEPTH: usize = 64;
/// Operations of one evaluation; one operation per node evaluated, more for large values.
pub const OPERATIONS: u64 = 100_000;
/// Function calls within function calls during one evaluation.
pub const CALLS: usize = 16;
/// Depth of one evaluation over all functions; bounds the interpreter's stack.
pub const NESTING: usize = 160;
/// Length of a text that a script makes, in bytes.
pub const TEXT_BYTES: usize = 16 * 1024;
/// Items of one list.
pub const LIST_ITEMS: usize = 1_000;
/// Entries of one map.
pub const MAP_ENTRIES: usize = 500;
/// Items of a list or map, all levels together; bounds the cost of comparing, printing and dropping a value.
pub const VALUE_ITEMS: usize = 20_000;
/// Lists within lists.
pub const VALUE_DEPTH: usize = 16;
/// Functions of one file or condition.
pub const FUNCTIONS: usize = 512;
/// Variables of one script.
pub const VARIABLES: usize = 128;
/// Problems reported for one script; nobody reads more.
pub const PROBLEMS: usize = 20;

/// Sets the limits of a Rhai engine. No other function does.
pub fn apply(engine: &mut Engine) {
    engine.set_max_expr_depths(EXPRESSION_DEPTH, EXPRESSION_DEPTH);
    engine.set_max_operations(OPERATIONS);
    engine.set_max_call_levels(CALLS);
    engine.set_max_string_size(TEXT_BYTES);
    engine.set_max_array_size(LIST_ITEMS);
    engine.set_max_map_size(MAP_ENTRIES);
    engine.set_max_functions(FUNCTIONS);
    engine.set_max_variables(VARIABLES);
    engine.set_max_modules(0);
}
