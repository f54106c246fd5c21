//! Output for a person: short lines, coloured where the terminal allows. No logging framework, no progress bars: cargo,
//! npm and apt draw their own.

use std::fmt::Display;
use std::io::{IsTerminal, Write};
use std::sync::OnceLock;

#[derive(Clone, Copy)]
pub enum Colour {
    Red,
    Green,
    Yellow,
    Cyan,
    Bold,
    Dim,
}

/// `text`, wrapped in the colour's escape codes if standard output is a terminal that wants them.
pub fn paint(colour: Colour, text: impl Display) -> String {
    if !coloured() {
        return text.to_string();
    }
    let code = match colour {
        Colour::Red => 31,
        Colour::Green => 32,
        Colour::Yellow => 33,
        Colour::Cyan => 36,
        Colour::Bold => 1,
        Colour::Dim => 2,
    };
    format!("\x1b[{code}m{text}\x1b[0m")
}

/// Prints one line. A closed pipe is no reason to leave servers and folders behind, so errors are ignored.
pub fn line(text: impl Display) {
    let _ = writeln!(std::io::stdout(), "{text}");
}

/// One line of progress: the current activity.
pub fn say(text: impl Display) {
    line(format_args!("{} {text}", paint(Colour::Cyan, "·")));
}

/// One line about something that a person may want to act on.
pub fn warn(text: impl Display) {
    line(format_args!("{} {text}", paint(Colour::Yellow, "!")));
}

/// A heading over a group of lines.
pub fn heading(text: impl Display) {
    line(format_args!("\n{}", paint(Colour::Bold, text)));
}

/// Set for a child whose output we pass on to a terminal.
pub const FORCE_COLOUR: &str = "CLICOLOR_FORCE";

pub fn coloured() -> bool {
    static COLOURED: OnceLock<bool> = OnceLock::new();
    *COLOURED.get_or_init(|| {
        let set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        let refused = set("NO_COLOR") || std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        (std::io::stdout().is_terminal() || set(FORCE_COLOUR)) && !refused
    })
}
