//! Texts: bounded in characters, without control characters.
//!
//! `MOST` includes the space around a text, which is dropped, so that a schema can say what is accepted.

use std::borrow::Cow;
use std::error::Error;
use std::fmt;
use std::marker::PhantomData;
use std::ops::Deref;

use bytes::BytesMut;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;
use tokio_postgres::types::{IsNull, ToSql, Type, to_sql_checked};

use super::{Refused, describe};

/// One line, without the space around it. `LEAST` is 0 or 1.
pub type Line<const LEAST: usize, const MOST: usize> = Bounded<LEAST, MOST, false, false>;
/// The same, of several lines.
pub type Text<const LEAST: usize, const MOST: usize> = Bounded<LEAST, MOST, true, false>;
/// One line just as it was sent.
pub type VerbatimLine<const LEAST: usize, const MOST: usize> = Bounded<LEAST, MOST, false, true>;
/// Several lines just as they were sent.
pub type VerbatimText<const LEAST: usize, const MOST: usize> = Bounded<LEAST, MOST, true, true>;

/// A text within bounds.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Bounded<const LEAST: usize, const MOST: usize, const LINES: bool, const VERBATIM: bool>(String);

impl<const LEAST: usize, const MOST: usize, const LINES: bool, const VERBATIM: bool> TryFrom<String>
    for Bounded<LEAST, MOST, LINES, VERBATIM>
{
    type Error = Refused;

    fn try_from(text: String) -> Result<Self, Refused> {
        // A text of too few characters is refused as empty.
        const { assert!(LEAST <= 1) }
        if text.chars().count() > MOST {
            return Err(Refused::new(format!("must have at most {MOST} characters")));
        }
        let is_refused = |character: char| match character {
            '\n' | '\r' | '\t' => !LINES,
            // Marks that reorder the text after them: they would let a name pose as another, or disturb the text around it.
            '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => !LINES,
            character => character.is_control(),
        };
        if text.chars().any(is_refused) {
            return Err(Refused::new("must not contain control characters"));
        }
        let text = if VERBATIM { text } else { text.trim().to_owned() };
        if text.chars().count() < LEAST {
            return Err(Refused::new("must not be empty"));
        }
        Ok(Bounded(text))
    }
}

impl<const LEAST: usize, const MOST: usize, const LINES: bool, const VERBATIM: bool>
    From<Bounded<LEAST, MOST, LINES, VERBATIM>> for String
{
    fn from(text: Bounded<LEAST, MOST, LINES, VERBATIM>) -> String {
        text.0
    }
}

/// An empty text, where that is within the bounds.
impl<const MOST: usize, const LINES: bool, const VERBATIM: bool> Default
    for Bounded<0, MOST, LINES, VERBATIM>
{
    fn default() -> Self {
        Bounded(String::new())
    }
}

/// Shows only the length: a text may be private, and debug output may be logged.
impl<const LEAST: usize, const MOST: usize, const LINES: bool, const VERBATIM: bool> fmt::Debug
    for Bounded<LEAST, MOST, LINES, VERBATIM>
{
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} bytes of text", self.0.len())
    }
}

/// Stored as plain text.
impl<const LEAST: usize, const MOST: usize, const LINES: bool, const VERBATIM: bool> ToSql
    for Bounded<LEAST, MOST, LINES, VERBATIM>
{
    fn to_sql(&self, kind: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        self.0.to_sql(kind, out)
    }

    fn accepts(kind: &Type) -> bool {
        <String as ToSql>::accepts(kind)
    }

    to_sql_checked!();
}

impl<const LEAST: usize, const MOST: usize, const LINES: bool, const VERBATIM: bool> Deref
    for Bounded<LEAST, MOST, LINES, VERBATIM>
{
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

/// Characters that a line may not hold: control characters, and marks that reorder the text after them.
const NOT_IN_LINE: &str = r"\u0000-\u001f\u007f-\u009f\u202a-\u202e\u2066-\u2069";
/// Characters that lines may not hold: control characters other than tabs and line breaks.
const NOT_IN_LINES: &str = r"\u0000-\u0008\u000b\u000c\u000e-\u001f\u007f-\u009f";
/// Space, which is dropped around a text.
const SPACE: &str = r"\u0009-\u000d \u0085\u00a0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000";
/// No control characters.
const UNCONTROLLED: &str = r"^[^\u0000-\u001f\u007f-\u009f]*$";

impl<const LEAST: usize, const MOST: usize, const LINES: bool, const VERBATIM: bool> JsonSchema
    for Bounded<LEAST, MOST, LINES, VERBATIM>
{
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Text".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let refused = if LINES { NOT_IN_LINES } else { NOT_IN_LINE };
        // A text that must not be empty must not be all space.
        let visible = if LEAST > 0 { format!("[^{refused}{SPACE}][^{refused}]*") } else { String::new() };
        let pattern = format!("^[^{refused}]*{visible}$");
        json_schema!({"type": "string", "minLength": LEAST, "maxLength": MOST, "pattern": pattern})
    }
}

/// A text in an answer, within the bounds of `T`, the type that it was sent as.
pub struct Shown<T>(PhantomData<T>);

impl<const LEAST: usize, const MOST: usize, const LINES: bool, const VERBATIM: bool> JsonSchema
    for Shown<Bounded<LEAST, MOST, LINES, VERBATIM>>
{
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Shown".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "string", "minLength": LEAST, "maxLength": MOST})
    }
}

/// A secret, such as a password: any characters but control characters, and nothing dropped. It has no `Debug`.
#[derive(Deserialize)]
#[serde(try_from = "String")]
pub struct Secret<const LEAST: usize, const MOST: usize>(pub String);

impl<const LEAST: usize, const MOST: usize> TryFrom<String> for Secret<LEAST, MOST> {
    type Error = Refused;

    fn try_from(text: String) -> Result<Self, Refused> {
        let length = text.chars().count();
        if length == 0 {
            return Err(Refused::new("must not be empty"));
        }
        if length < LEAST {
            return Err(Refused::new(format!("must have at least {LEAST} characters")));
        }
        if length > MOST {
            return Err(Refused::new(format!("must have at most {MOST} characters")));
        }
        if text.chars().any(char::is_control) {
            return Err(Refused::new("must not contain control characters"));
        }
        Ok(Secret(text))
    }
}

impl<const LEAST: usize, const MOST: usize> JsonSchema for Secret<LEAST, MOST> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Secret".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "string", "minLength": LEAST, "maxLength": MOST, "pattern": UNCONTROLLED})
    }
}

/// A text to search for, in a query.
pub struct Sought;

describe!(Sought, {"type": "string", "pattern": UNCONTROLLED});

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// An accepted text is accepted again, unchanged.
    fn is_taken_again<const LINES: bool>(sent: &str) -> std::result::Result<(), TestCaseError> {
        if let Ok(taken) = Bounded::<1, 16, LINES, false>::try_from(sent.to_owned()) {
            prop_assert!((1..=16).contains(&taken.chars().count()));
            prop_assert!(!taken.contains('\0'));
            let again = Bounded::<1, 16, LINES, false>::try_from(taken.to_string());
            prop_assert!(again == Ok(taken));
        }
        Ok(())
    }

    proptest! {
        #[test]
        fn a_text_that_was_taken_is_taken_again(sent in "[ \t\r\n]?\\PC{0,12}[\u{0}-\u{a0}\u{202a}\u{2066}]{0,2}\\PC{0,4}") {
            is_taken_again::<false>(&sent)?;
            is_taken_again::<true>(&sent)?;
        }
    }

    #[test]
    fn texts_are_trimmed_and_bounded() {
        let line = |text: &str| Line::<1, 3>::try_from(text.to_owned());
        assert_eq!(Line::<1, 4>::try_from(" A  ".to_owned()).unwrap().to_string(), "A");
        for bad in ["  Ada ", "   ", "A\n", "Adas", "A\nB", "A\u{202e}B"] {
            assert!(line(bad).is_err(), "{bad:?}");
        }
        assert!(Text::<1, 3>::try_from("A\nB".to_owned()).is_ok());
        assert!(Text::<1, 3>::try_from("A\0B".to_owned()).is_err());
        assert_eq!(VerbatimLine::<0, 4>::try_from(" A  ".to_owned()).unwrap().to_string(), " A  ");
    }

    #[test]
    fn secrets_are_bounded() {
        let password = |text: &str| Secret::<10, 200>::try_from(text.to_owned()).is_ok();
        let old = |text: &str| Secret::<1, 200>::try_from(text.to_owned()).is_ok();
        assert!(password("ten characters"));
        assert!(!password("too short"));
        assert!(old("too short"));
        assert!(!old(""));
        assert!(!old(&"x".repeat(201)));
        assert!(!old("a password\0"));
    }
}
