//! Declares SQL statements, so that a module's list of them is complete by construction.
//!
//! `check-statements` prepares that list against the migrated schema. Nothing is checked here.

/// Declares constants of SQL, and `STATEMENTS`, the list of all of them. A statement's first line names it:
/// `-- messages::post`.
#[macro_export]
macro_rules! statements {
    ($($(#[$attribute:meta])* $visibility:vis const $name:ident: &str = $sql:expr;)*) => {
        $($(#[$attribute])* $visibility const $name: &str = $sql;)*

        /// Every statement of this module.
        pub const STATEMENTS: &[&str] = &[$($name),*];
    };
}
pub use statements;
