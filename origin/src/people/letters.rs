//! Mails about accounts: what they say, the tokens in them, and the rows that wait to be sent.
//!
//! Whoever asks for a mail learns nothing from the answer: it is the same whether or not an account has the address, and the
//! address's owner is told by mail.

pub mod locale;
pub mod queue;
pub mod sending;
pub mod token;
pub mod words;
