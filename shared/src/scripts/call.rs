//! The call of a script, independent of who sends it, and its reply, independent of who receives it. No I/O.

use std::borrow::Cow;

use super::Script;

/// A script with its keys and arguments, owned or borrowed. Nothing prints it: its arguments may be secrets.
#[derive(Clone)]
pub struct Call<'a> {
    pub script: &'static Script,
    pub keys: Vec<Cow<'a, str>>,
    pub arguments: Vec<Cow<'a, [u8]>>,
}

impl<'a> Call<'a> {
    pub(super) fn new(script: &'static Script) -> Call<'a> {
        Call { script, keys: Vec::new(), arguments: Vec::new() }
    }

    pub(super) fn keys(mut self, keys: impl IntoIterator<Item = impl Into<Cow<'a, str>>>) -> Call<'a> {
        self.keys.extend(keys.into_iter().map(Into::into));
        self
    }

    pub(super) fn text(self, text: impl Into<Cow<'a, str>>) -> Call<'a> {
        match text.into() {
            Cow::Borrowed(text) => self.bytes(Cow::Borrowed(text.as_bytes())),
            Cow::Owned(text) => self.bytes(Cow::Owned(text.into_bytes())),
        }
    }

    /// The value as text, or an empty argument.
    pub(super) fn optional(self, text: Option<impl ToString>) -> Call<'a> {
        self.text(text.map_or_else(String::new, |text| text.to_string()))
    }

    pub(super) fn flag(self, flag: bool) -> Call<'a> {
        self.text(if flag { "1" } else { "0" })
    }

    pub(super) fn number(self, number: u64) -> Call<'a> {
        self.text(number.to_string())
    }

    /// An epoch or a transaction: 16 hex digits.
    pub(super) fn hex(self, number: u64) -> Call<'a> {
        self.text(format!("{number:016x}"))
    }

    pub(super) fn bytes(mut self, bytes: Cow<'a, [u8]>) -> Call<'a> {
        if self.arguments.is_empty() {
            self.arguments.reserve(8);
        }
        self.arguments.push(bytes);
        self
    }

    /// Passes the words of an EVALSHA command, or of EVAL when `whole`, to `word` one by one.
    pub fn words(&self, whole: bool, mut word: impl FnMut(&[u8])) {
        self.script.head(whole, self.keys.len(), &mut word);
        self.keys.iter().for_each(|key| word(key.as_bytes()));
        self.arguments.iter().for_each(|argument| word(argument));
    }
}

/// A script's reply: a flat list of scalars, read from front to back. A scalar that is missing or of another type reads as
/// empty or 0: a script of another release must not stop this one.
pub trait Scalars {
    fn bytes(&mut self) -> Vec<u8>;

    fn int(&mut self) -> i64;

    fn text(&mut self) -> String {
        String::from_utf8(self.bytes()).unwrap_or_default()
    }

    /// A number that is never negative.
    fn count(&mut self) -> u64 {
        u64::try_from(self.int()).unwrap_or(0)
    }
}

/// Whether Redis answered that it does not know the script.
pub fn is_unknown_script(error: &str) -> bool {
    error.contains("NOSCRIPT") || error.contains("NoScript")
}

/// Whether Redis is a cluster and took nothing of a call, because the call's keys are of several slots. Clients spell the code
/// in their own ways.
pub fn crosses_slots(error: &str) -> bool {
    error.contains("CROSSSLOT") || error.contains("CrossSlot")
}

/// Whether an error that Redis answered is about the call alone: a key of another type, keys of several slots, or a fault of the
/// script's. Any other error says that Redis itself cannot work (loading, out of memory, read-only, refusing us).
pub fn is_about_the_call(error: &str) -> bool {
    let is_ours = error.contains("user_script:") && error.contains("attempt to");
    is_ours || error.contains("WRONGTYPE") || crosses_slots(error)
}
