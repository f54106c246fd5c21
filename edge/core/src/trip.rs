//! The commands of one trip to Redis, with a slot for each reply: the code that adds a command also says how to read its
//! reply. [`crate::redis`] sends them.

use std::borrow::Cow;

use optimist_shared::scripts::Call;

use crate::host::Value;
use crate::redis::{Ask, Fields};

/// The commands of a trip, in the order of sending.
#[derive(Default)]
pub struct Trip<'a> {
    asks: Vec<Ask<'a>>,
    /// The index of the MGET that reads all plain values.
    values: Option<usize>,
}

/// The place of a reply, and how to read it.
pub struct Slot<F> {
    ask: usize,
    /// The index of a value in the MGET's reply.
    field: Option<usize>,
    read: F,
}

impl<'a> Trip<'a> {
    pub fn call<T, F>(&mut self, call: Call<'a>, read: F) -> Slot<F>
    where
        F: FnOnce(&mut Fields<'_>) -> T,
    {
        self.ask(Ask::Script(call), read)
    }

    /// Reads a field of a hash.
    pub fn field<T, F>(&mut self, key: String, field: String, read: F) -> Slot<F>
    where
        F: FnOnce(&mut Fields<'_>) -> T,
    {
        self.ask(Ask::Plain(vec![Cow::Borrowed(b"HGET"), owned(key), owned(field)]), read)
    }

    /// Reads a key that may be in another slot than the others.
    pub fn get<T, F>(&mut self, key: String, read: F) -> Slot<F>
    where
        F: FnOnce(&mut Fields<'_>) -> T,
    {
        self.ask(Ask::Plain(vec![Cow::Borrowed(b"GET"), owned(key)]), read)
    }

    /// Reads the first bytes of a key, or all of them, then as [`Trip::value`].
    pub fn bytes<T, F>(&mut self, key: String, first: Option<usize>, read: F) -> Slot<F>
    where
        F: FnOnce(&mut Fields<'_>) -> T,
    {
        let Some(first) = first else { return self.value(key, read) };
        let last = owned(first.saturating_sub(1).to_string());
        self.ask(Ask::Plain(vec![Cow::Borrowed(b"GETRANGE"), owned(key), Cow::Borrowed(b"0"), last]), read)
    }

    /// Reads a key, in one MGET with all other keys that the trip reads this way.
    pub fn value<T, F>(&mut self, key: String, read: F) -> Slot<F>
    where
        F: FnOnce(&mut Fields<'_>) -> T,
    {
        let ask = *self.values.get_or_insert(self.asks.len());
        if ask == self.asks.len() {
            // The most words of any trip's MGET.
            let mut words = Vec::with_capacity(5);
            words.push(Cow::Borrowed(&b"MGET"[..]));
            self.asks.push(Ask::Plain(words));
        }
        let mut field = None;
        if let Some(Ask::Plain(words)) = self.asks.get_mut(ask) {
            field = Some(words.len() - 1);
            words.push(owned(key));
        }
        Slot { ask, field, read }
    }

    pub fn asks(&self) -> &[Ask<'a>] {
        &self.asks
    }

    fn ask<F>(&mut self, ask: Ask<'a>, read: F) -> Slot<F> {
        self.asks.push(ask);
        Slot { ask: self.asks.len() - 1, field: None, read }
    }
}

fn owned(text: String) -> Cow<'static, [u8]> {
    Cow::Owned(text.into_bytes())
}

/// A trip's replies. A missing one reads as empty.
pub struct Answers(pub Vec<Vec<Value>>);

impl Answers {
    pub fn take<T>(&mut self, slot: Slot<impl FnOnce(&mut Fields<'_>) -> T>) -> T {
        let reply = self.0.get_mut(slot.ask).map(Vec::as_mut_slice).unwrap_or_default();
        (slot.read)(&mut Fields::new(match slot.field {
            Some(field) => reply.get_mut(field..=field).unwrap_or_default(),
            None => reply,
        }))
    }
}

#[cfg(test)]
mod tests {
    use optimist_shared::ids::Uuid;
    use optimist_shared::scripts::{Scalars as _, visit};

    use super::*;

    #[test]
    fn every_answer_is_read_from_its_own_slot() {
        let mut trip = Trip::default();
        let visited = trip.call(visit::call(Uuid::nil(), Uuid::nil()), visit_text);
        let first = trip.value("first".to_owned(), |reply| reply.text());
        let field = trip.field("hash".to_owned(), "field".to_owned(), |reply| reply.int());
        let second = trip.value("second".to_owned(), |reply| reply.text());
        assert_eq!(trip.asks().len(), 3, "plain values are one command");
        let Ask::Plain(words) = &trip.asks()[1] else { panic!("a script") };
        assert_eq!(words.join(&b' '), b"MGET first second");

        let bytes = |text: &str| Value::Bytes(text.into());
        let mut answers =
            Answers(vec![vec![bytes("done")], vec![bytes("1"), bytes("2")], vec![Value::Int(3)]]);
        assert_eq!((answers.take(second), answers.take(first)), ("2".to_owned(), "1".to_owned()));
        assert_eq!((answers.take(field), answers.take(visited)), (3, "done".to_owned()));
    }

    fn visit_text(reply: &mut Fields<'_>) -> String {
        reply.text()
    }

    #[test]
    fn what_is_missing_reads_as_nothing() {
        let mut trip = Trip::default();
        let first = trip.value("first".to_owned(), |reply| reply.bytes());
        let second = trip.value("second".to_owned(), |reply| (reply.text(), reply.int()));
        let mut answers = Answers(vec![vec![Value::Nil]]);
        assert_eq!((answers.take(first), answers.take(second)), (Vec::new(), (String::new(), 0)));
    }
}
