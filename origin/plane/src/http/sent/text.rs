//! Texts: bounded in characters, without control characters, and with something to see where they must not be empty.
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
pub type Line<const LEAST: usize, const MOST: usize> = Bounded<LEAST, MOST, false>;
/// The same, of several lines.
pub type Text<const LEAST: usize, const MOST: usize> = Bounded<LEAST, MOST, true>;
/// A text within bounds.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Bounded<const LEAST: usize, const MOST: usize, const LINES: bool>(String);

impl<const LEAST: usize, const MOST: usize, const LINES: bool> TryFrom<String>
    for Bounded<LEAST, MOST, LINES>
{
    type Error = Refused;

    fn try_from(text: String) -> Result<Self, Refused> {
        // A text of too few characters is refused as empty.
        const { assert!(LEAST <= 1) }
        if text.chars().count() > MOST {
            return Err(Refused::new(format!("must have at most {MOST} characters")));
        }
        let is_refused = |character: char| match character {
            '\n' | '\r' | '\t' | LINE_SEPARATOR | PARAGRAPH_SEPARATOR => !LINES,
            // Marks that reorder the text after them: they would let a name pose as another, or disturb the text around it.
            '\u{202a}'..='\u{202e}' => !LINES,
            character => character.is_control(),
        };
        if text.chars().any(is_refused) {
            return Err(Refused::new("must not contain control characters"));
        }
        if !LINES && !are_isolates_closed(&text) {
            return Err(Refused::new("must close each bidirectional isolate before the next"));
        }
        let is_visible = text.chars().any(is_visible);
        if LEAST > 0 && !is_visible {
            return Err(Refused::new("must not be empty"));
        }
        // With nothing to see it is as empty as one of spaces.
        let text = if is_visible { text.trim() } else { "" };
        Ok(Bounded(text.to_owned()))
    }
}

const LINE_SEPARATOR: char = '\u{2028}';
const PARAGRAPH_SEPARATOR: char = '\u{2029}';

/// Whether each bidirectional isolate (U+2066 to U+2068) ends by its mark (U+2069), and holds no other: then it reorders nothing
/// outside itself. A name in Hebrew may hold one.
fn are_isolates_closed(text: &str) -> bool {
    let mut is_open = false;
    let follows = |character: char| {
        let (opens, closes) = (matches!(character, '\u{2066}'..='\u{2068}'), character == '\u{2069}');
        let is_right = !(opens && is_open || closes && !is_open);
        is_open = opens || is_open && !closes;
        is_right
    };
    text.chars().all(follows) && !is_open
}

/// Whether a character leaves a trace of its own. Joiners and selectors, which shape others, do not.
fn is_visible(character: char) -> bool {
    let is_invisible = |(first, last): &(char, char)| (*first..=*last).contains(&character);
    !character.is_whitespace() && !character.is_control() && !INVISIBLE.iter().any(is_invisible)
}

/// What Unicode lets a renderer leave out (`Default_Ignorable_Code_Point`), marks of annotations, and the blank of Braille.
const INVISIBLE: [(char, char); 19] = [
    ('\u{ad}', '\u{ad}'),
    ('\u{34f}', '\u{34f}'),
    ('\u{61c}', '\u{61c}'),
    ('\u{115f}', '\u{1160}'),
    ('\u{17b4}', '\u{17b5}'),
    ('\u{180b}', '\u{180f}'),
    ('\u{200b}', '\u{200f}'),
    ('\u{202a}', '\u{202e}'),
    ('\u{2060}', '\u{206f}'),
    ('\u{2800}', '\u{2800}'),
    ('\u{3164}', '\u{3164}'),
    ('\u{fe00}', '\u{fe0f}'),
    ('\u{feff}', '\u{feff}'),
    ('\u{ffa0}', '\u{ffa0}'),
    ('\u{fff0}', '\u{fff8}'),
    ('\u{fff9}', '\u{fffb}'),
    ('\u{1bca0}', '\u{1bca3}'),
    ('\u{1d173}', '\u{1d17a}'),
    ('\u{e0000}', '\u{e0fff}'),
];

impl<const LEAST: usize, const MOST: usize, const LINES: bool> From<Bounded<LEAST, MOST, LINES>> for String {
    fn from(text: Bounded<LEAST, MOST, LINES>) -> String {
        text.0
    }
}

/// An empty text, where that is within the bounds.
impl<const MOST: usize, const LINES: bool> Default for Bounded<0, MOST, LINES> {
    fn default() -> Self {
        Bounded(String::new())
    }
}

/// Shows only the length: a text may be private, and debug output may be logged.
impl<const LEAST: usize, const MOST: usize, const LINES: bool> fmt::Debug for Bounded<LEAST, MOST, LINES> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} bytes of text", self.0.len())
    }
}

/// Stored as plain text.
impl<const LEAST: usize, const MOST: usize, const LINES: bool> ToSql for Bounded<LEAST, MOST, LINES> {
    fn to_sql(&self, kind: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        self.0.to_sql(kind, out)
    }

    fn accepts(kind: &Type) -> bool {
        <String as ToSql>::accepts(kind)
    }

    to_sql_checked!();
}

impl<const LEAST: usize, const MOST: usize, const LINES: bool> Deref for Bounded<LEAST, MOST, LINES> {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

/// Characters that a line may not hold: control characters, separators of lines, and marks that reorder the text after them.
const NOT_IN_LINE: &str = r"\u0000-\u001f\u007f-\u009f\u2028-\u202e";
/// Characters that lines may not hold: control characters other than tabs and line breaks.
const NOT_IN_LINES: &str = r"\u0000-\u0008\u000b\u000c\u000e-\u001f\u007f-\u009f";
/// The marks of isolates.
const ISOLATES: &str = r"\u2066-\u2069";
/// Space, which is dropped around a text.
const SPACE: &str = r"\u0009-\u000d \u0085\u00a0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000";

/// [`INVISIBLE`] as a part of a pattern's class. Characters beyond U+FFFF have no escape that all dialects know.
fn invisible() -> String {
    let shown = |character: char| match u16::try_from(u32::from(character)) {
        Ok(number) => format!("\\u{number:04x}"),
        Err(_) => character.to_string(),
    };
    INVISIBLE.iter().map(|(first, last)| format!("{}-{}", shown(*first), shown(*last))).collect()
}

/// The pattern of a text: of several lines or of one, and with something visible if it must not be empty.
fn pattern(lines: bool, is_required: bool) -> String {
    let (any, visible) = match lines {
        true => (format!("[^{NOT_IN_LINES}]"), format!("[^{NOT_IN_LINES}{SPACE}{}]", invisible())),
        false => {
            let plain = format!("[^{NOT_IN_LINE}{ISOLATES}]");
            let seen = format!("[^{NOT_IN_LINE}{SPACE}{}]", invisible());
            let isolate = |inside: &str| format!(r"[\u2066-\u2068]{plain}*{inside}\u2069");
            let any = format!("(?:{plain}|{})", isolate(""));
            (any, format!("(?:{seen}|{})", isolate(&format!("{seen}{plain}*"))))
        }
    };
    if is_required { format!("^{any}*{visible}{any}*$") } else { format!("^{any}*$") }
}

/// No control characters.
const UNCONTROLLED: &str = r"^[^\u0000-\u001f\u007f-\u009f]*$";

impl<const LEAST: usize, const MOST: usize, const LINES: bool> JsonSchema for Bounded<LEAST, MOST, LINES> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Text".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let pattern = pattern(LINES, LEAST > 0);
        json_schema!({"type": "string", "minLength": LEAST, "maxLength": MOST, "pattern": pattern})
    }
}

/// A text in an answer, within the bounds of `T`, the type that it was sent as.
pub struct Shown<T>(PhantomData<T>);

impl<const LEAST: usize, const MOST: usize, const LINES: bool> JsonSchema
    for Shown<Bounded<LEAST, MOST, LINES>>
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
        if let Ok(taken) = Bounded::<1, 16, LINES>::try_from(sent.to_owned()) {
            prop_assert!((1..=16).contains(&taken.chars().count()));
            prop_assert!(!taken.contains('\0'));
            let again = Bounded::<1, 16, LINES>::try_from(taken.to_string());
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
    }

    #[test]
    fn a_text_that_must_not_be_empty_shows_something() {
        let line = |text: &str| Line::<1, 20>::try_from(text.to_owned()).is_ok();
        let text = |text: &str| Text::<1, 20>::try_from(text.to_owned()).is_ok();
        for unseen in [
            "\u{200b}",
            "\u{2800}",
            "\u{3164}\u{feff}",
            " \u{ad} ",
            "\u{fe0f}",
            "\u{e0067}",
            "\u{2066}\u{2069}",
        ] {
            assert!(!line(unseen) && !text(unseen), "{unseen:?}");
            assert_eq!(Line::<0, 20>::try_from(unseen.to_owned()).unwrap().to_string(), "", "{unseen:?}");
        }
        let family = "\u{1f468}\u{200d}\u{1f469}\u{200d}\u{1f467}";
        let hebrew = "\u{2067}\u{5d3}\u{5e0}\u{5d4}\u{2069} (\u{2066}Dana\u{2069})";
        for seen in [family, hebrew, "\u{2764}\u{fe0f}", "\u{645}\u{200c}\u{647}", ".", "\u{e000}"] {
            assert!(line(seen) && text(seen), "{seen:?}");
            assert_eq!(Line::<1, 20>::try_from(format!(" {seen} ")).unwrap().to_string(), seen);
        }
    }

    #[test]
    fn a_line_is_one_line_and_reorders_nothing_outside() {
        let line = |text: &str| Line::<1, 20>::try_from(text.to_owned()).is_ok();
        for bad in ["A\u{2028}B", "A\u{2029}", "A\u{85}B", "A\u{b}B", "A\u{202e}B", "\u{202b}A\u{202c}"] {
            assert!(!line(bad), "{bad:?}");
        }
        for open in ["A\u{2067}B", "A\u{2069}B", "\u{2066}\u{2067}A\u{2069}\u{2069}", "\u{2069}A\u{2066}"] {
            assert!(!line(open), "{open:?}");
            assert!(Text::<1, 20>::try_from(open.to_owned()).is_ok(), "lines end what they open");
        }
        assert!(Text::<1, 20>::try_from("A\u{2028}B".to_owned()).is_ok());
    }

    #[test]
    fn the_invisible_are_those_that_unicode_ignores_and_few_more() {
        use icu_properties::CodePointSetData;
        use icu_properties::props::DefaultIgnorableCodePoint;
        let ignorable = CodePointSetData::new::<DefaultIgnorableCodePoint>();
        for character in '\0'..=char::MAX {
            let is_known = INVISIBLE.iter().any(|(first, last)| (*first..=*last).contains(&character));
            let is_added = matches!(character, '\u{2800}' | '\u{fff9}'..='\u{fffb}');
            assert_eq!(is_known, ignorable.contains(character) || is_added, "{character:?}");
        }
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
