//! What a person looks for: words, `"phrases"`, `-without`, `from:` a person and `in:` a circle. The last word may be the beginning of
//! one.
//!
//! A query becomes text searches for Postgres, and finds its words in a text. It runs no statement.

use std::collections::BTreeSet;
use std::fmt::{self, Write as _};

use optimist_shared::ids::{Uuid, parse_sent_id};

use crate::search::text::{Kind, Word, folded, words};

/// Characters of a query.
pub const LENGTH: usize = 1_000;
/// Words and phrases of a query.
const TERMS: usize = 16;
/// The words of all of them.
const WORDS: usize = 64;
/// The beginning of a word has so many characters: shorter ones are of too many words.
const BEGINNING: usize = 2;

/// The reason for which a query is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unclear {
    Long,
    Many,
    /// It says only what is not to be there.
    Nothing,
    From,
    In,
    Twice,
}

impl Unclear {
    pub fn reason(self) -> &'static str {
        match self {
            Unclear::Long => "must have at most 1000 characters",
            Unclear::Many => "has too many words: at most 16, or 64 with those of phrases",
            Unclear::Nothing => "must have a word to look for",
            Unclear::From => "has a `from:` without the id of a person, or `me`",
            Unclear::In => "has an `in:` without the id of a circle",
            Unclear::Twice => "has `from:` or `in:` twice",
        }
    }
}

/// Whose messages are looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Author {
    Me,
    Person(Uuid),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Query {
    terms: Vec<Term>,
    pub from: Option<Author>,
    pub within: Option<Uuid>,
}

/// A word or a phrase.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Term {
    text: String,
    is_without: bool,
    /// It may go on.
    is_open: bool,
    words: Vec<String>,
}

impl Term {
    /// `None` if there is no word in the text.
    fn new(text: &str, is_without: bool, is_last: bool) -> Option<Term> {
        let text = folded(text);
        let all = words(&text);
        let (first, last) = (all.first()?, all.last()?);
        // A single character of a run without spaces begins a pair, or ends the run. In a phrase it is a run of its own.
        let is_single = all.len() == 2 && first.kind == Kind::First;
        let is_pair = |nth: usize| all.get(nth).is_some_and(|word| word.kind == Kind::Pair);
        let begin = usize::from(is_single || (first.kind == Kind::First && is_pair(1)));
        let end = all.len() - usize::from(last.kind == Kind::Last && is_pair(all.len() - 2));
        let is_begun =
            is_last && !is_without && last.kind == Kind::Whole && last.text.chars().count() >= BEGINNING;
        let words = all.get(begin..end)?.iter().map(|word| word.text.clone()).collect();
        Some(Term { text, is_without, is_open: is_single || is_begun, words })
    }

    /// Where it stands among the words of a text: by the first word, and the one after the last.
    fn places<'a>(&'a self, text: &'a [Word]) -> impl Iterator<Item = &'a [Word]> {
        text.windows(self.words.len()).filter(move |place| {
            let last = self.words.len() - 1;
            self.words.iter().zip(*place).enumerate().all(|(nth, (sought, word))| {
                match nth == last && self.is_open {
                    true => word.text.starts_with(sought.as_str()),
                    false => word.text == *sought,
                }
            })
        })
    }
}

impl Query {
    pub fn parse(text: &str) -> Result<Query, Unclear> {
        if text.chars().count() > LENGTH {
            return Err(Unclear::Long);
        }
        let parts = parts(text);
        let mut query = Query { terms: Vec::new(), from: None, within: None };
        let count = parts.len();
        for (nth, part) in parts.into_iter().enumerate() {
            let value = |name: &str| {
                part.text.get(..name.len()).filter(|start| start.eq_ignore_ascii_case(name))?;
                part.text.get(name.len()..)
            };
            if part.is_quoted || part.is_without {
                query.terms.extend(Term::new(&part.text, part.is_without, false));
            } else if let Some(person) = value("from:") {
                let author = match person.eq_ignore_ascii_case("me") {
                    true => Author::Me,
                    false => Author::Person(parse_sent_id(person).ok_or(Unclear::From)?),
                };
                query.from.replace(author).map_or(Ok(()), |_| Err(Unclear::Twice))?;
            } else if let Some(circle) = value("in:") {
                let circle = parse_sent_id(circle).ok_or(Unclear::In)?;
                query.within.replace(circle).map_or(Ok(()), |_| Err(Unclear::Twice))?;
            } else {
                query.terms.extend(Term::new(&part.text, false, nth + 1 == count));
            }
        }
        let all: usize = query.terms.iter().map(|term| term.words.len()).sum();
        if query.terms.len() > TERMS || all > WORDS {
            return Err(Unclear::Many);
        }
        if query.terms.iter().all(|term| term.is_without) {
            return Err(Unclear::Nothing);
        }
        Ok(query)
    }

    /// A text search for all words that are to be there, wherever they stand, and for none that are not to be: what the index answers
    /// by itself. Each word is quoted, and has no quotes in it.
    pub fn words(&self) -> String {
        let mut words = Vec::new();
        for term in &self.terms {
            let last = term.words.len() - 1;
            let quoted = term.words.iter().enumerate().map(|(nth, word)| {
                format!("'{word}'{}", if nth == last && term.is_open { ":*" } else { "" })
            });
            match (term.is_without, term.words.len()) {
                (false, _) => words.extend(quoted),
                (true, 1) => words.extend(quoted.map(|word| format!("!{word}"))),
                // The words of a phrase may be there, apart.
                (true, _) => {}
            }
        }
        words.join(" & ")
    }

    /// Whether [`Query::words`] is not all that is asked for.
    pub fn has_phrases(&self) -> bool {
        self.terms.iter().any(|term| term.words.len() > 1)
    }

    /// Whether a text has all that is to be there, and nothing that is not.
    pub fn matches(&self, text: &str) -> bool {
        let text = words(text);
        self.terms.iter().all(|term| term.places(&text).next().is_some() != term.is_without)
    }

    /// Where a text has any of what is to be there, in the order of its characters, without overlaps: from a character to before
    /// another.
    pub fn marks(&self, text: &str) -> Vec<(usize, usize)> {
        let text = words(text);
        let places = self.terms.iter().filter(|term| !term.is_without).flat_map(|term| term.places(&text));
        let places: BTreeSet<_> =
            places.filter_map(|place| Some((place.first()?.start, place.last()?.end))).collect();
        let mut marks: Vec<(usize, usize)> = Vec::new();
        for (start, end) in places {
            match marks.last_mut().filter(|last| start < last.1) {
                Some(last) => last.1 = last.1.max(end),
                None => marks.push((start, end)),
            }
        }
        marks
    }

    /// How much of a text is about what is looked for, from its beginning: a number above 0.
    pub fn weight(&self, text: &str) -> f64 {
        let text = words(text);
        let mut weight = 0.0;
        for term in self.terms.iter().filter(|term| !term.is_without) {
            // Further places add ever less, and the beginning of a word counts half.
            let (mut count, mut is_whole) = (0u32, false);
            for place in term.places(&text) {
                count += 1;
                is_whole |= place.last().map(|word| &word.text) == term.words.last();
            }
            weight += match count {
                // It stands further on.
                0 => 0.25,
                count => (1.0 + f64::from(count).ln()) * if is_whole { 1.0 } else { 0.5 },
            };
        }
        weight / (2.0 + text.len() as f64).ln()
    }
}

/// The query as it is understood. What differs only in capitals, marks or spaces is the same.
impl fmt::Display for Query {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut parts = Vec::new();
        match self.from {
            Some(Author::Me) => parts.push("from:me".to_owned()),
            Some(Author::Person(person)) => parts.push(format!("from:{person}")),
            None => {}
        }
        parts.extend(self.within.map(|circle| format!("in:{circle}")));
        for term in &self.terms {
            let is_begun =
                term.is_open && term.words.last().is_some_and(|word| word.chars().count() >= BEGINNING);
            parts.push(match (term.is_without, is_begun) {
                (true, _) => format!("-\"{}\"", term.text),
                (false, false) => format!("\"{}\"", term.text),
                (false, true) => term.text.replace(' ', "_"),
            });
        }
        parts.iter().enumerate().try_for_each(|(nth, part)| {
            if nth > 0 {
                formatter.write_char(' ')?;
            }
            formatter.write_str(part)
        })
    }
}

/// A part of a query between spaces or quotes.
struct Part {
    text: String,
    is_quoted: bool,
    is_without: bool,
}

fn parts(text: &str) -> Vec<Part> {
    const QUOTES: &[char] = &['"', '“', '”', '„', '«', '»'];
    let mut parts = Vec::new();
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        let is_without = rest.starts_with('-');
        rest = rest.strip_prefix('-').unwrap_or(rest);
        let (part, is_quoted) = match rest.strip_prefix(QUOTES) {
            // Without its end, a phrase goes to the end of the query.
            Some(phrase) => (phrase.split_once(QUOTES).unwrap_or((phrase, "")), true),
            None => {
                let end = rest.find(|c: char| c.is_whitespace() || QUOTES.contains(&c)).unwrap_or(rest.len());
                (rest.split_at(end), false)
            }
        };
        parts.push(Part { text: part.0.to_owned(), is_quoted, is_without });
        rest = part.1.trim_start();
    }
    parts
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn words_of(text: &str) -> String {
        Query::parse(text).unwrap().words()
    }

    #[test]
    fn a_query_says_what_there_is_and_what_not() {
        assert_eq!(words_of("Über  -Müll garden"), "'uber' & !'mull' & 'garden':*");
        assert_eq!(words_of("„Guten Morgen“ -\"bad day\" don't"), "'guten' & 'morgen' & 'don' & 't'");
        assert_eq!(words_of("北京"), "'北京'");
        assert_eq!(words_of("京 我爱北"), "'京':* & '我爱' & '爱北'");
        assert_eq!(words_of("x"), "'x'");
        assert_eq!(words_of("🎉 \"open"), "'🎉':* & 'open'");
        assert!(
            ["\"a b\"", "-\"a b\" c", "我爱北", "don't"]
                .into_iter()
                .all(|text| Query::parse(text).unwrap().has_phrases())
        );
        assert!(!Query::parse("a -b 我爱 京 \"c\"").unwrap().has_phrases());
        let person = Uuid::from_u128(7);
        let query = Query::parse(&format!("word FROM:{person} in:{person}")).unwrap();
        assert_eq!((query.from, query.within), (Some(Author::Person(person)), Some(person)));
        assert_eq!(Query::parse("from:Me word").unwrap().from, Some(Author::Me));
    }

    #[test]
    fn what_is_no_query_says_why() {
        let unclear = |text: &str| Query::parse(text).unwrap_err();
        assert_eq!(unclear(""), Unclear::Nothing);
        assert_eq!(unclear("-without !!! \"\""), Unclear::Nothing);
        assert_eq!(unclear("from:ada word"), Unclear::From);
        assert_eq!(unclear("in: word"), Unclear::In);
        assert_eq!(unclear("from:me from:me word"), Unclear::Twice);
        assert_eq!(unclear(&"word ".repeat(17)), Unclear::Many);
        assert_eq!(unclear(&"北".repeat(70)), Unclear::Many);
        assert_eq!(unclear(&"x".repeat(1_001)), Unclear::Long);
        assert!(Query::parse(&"word ".repeat(16)).is_ok());
    }

    #[test]
    fn a_text_shows_where_it_has_what_is_looked_for() {
        let marks = |query: &str, text: &str| {
            let query = Query::parse(query).unwrap();
            query.matches(text).then(|| query.marks(text))
        };
        assert_eq!(marks("strasse gar", "Die Straße. Gärten"), Some(vec![(4, 10), (12, 18)]));
        assert_eq!(marks("\"good morning\"", "Good, morning"), Some(vec![(0, 13)]));
        assert_eq!(marks("\"good morning\"", "good old morning"), None);
        assert_eq!(marks("good -old", "good old morning"), None);
        assert_eq!(marks("\"🎉 🎉\"", "🎉 yes"), None);
        assert_eq!(marks("\"🎉 🎉\"", "🎉 🎉"), Some(vec![(0, 3)]));
        assert_eq!(marks("good -\"old good\"", "good old morning"), Some(vec![(0, 4)]));
        assert_eq!(marks("爱北京", "我爱北京。"), Some(vec![(1, 4)]));
        assert_eq!(marks("京", "我爱北京。北"), Some(vec![(3, 4)]));
        assert_eq!(marks("北", "我爱北京。北"), Some(vec![(2, 4), (5, 6)]));
        assert_eq!(marks("👍", "Yes 👍🏽!"), Some(vec![(4, 6)]));
        assert_eq!(Query::parse("good old").unwrap().marks("a good day"), [(2, 6)]);
    }

    #[test]
    fn a_text_that_says_more_of_it_weighs_more() {
        let query = Query::parse("rain").unwrap();
        let weights = ["rain, rain", "rain", "the rain on the roof", "rainy"].map(|text| query.weight(text));
        assert!(weights.windows(2).all(|two| two[0] > two[1]), "{weights:?}");
    }

    proptest! {
        /// Any text is a query or refused; a query that is written out is the same query, with one spelling.
        #[test]
        fn a_query_parses_as_it_is_written(
            text in "([-]?[\"“„]?(from:|in:|)[a-zA-Z0-9äÖß北京👍é'_.]{0,9}[\"”]?[ ]?){0,9}|\\PC{0,40}",
            shown in "\\PC{0,40}",
        ) {
            if let Ok(query) = Query::parse(&text) {
                let written = query.to_string();
                let again = Query::parse(&written);
                prop_assert_eq!(again.as_ref(), Ok(&query), "{:?}", written);
                prop_assert_eq!(again.unwrap().to_string(), written);
                let words = query.words();
                prop_assert!(words.matches('\'').count() % 2 == 0 && !words.contains('\\'), "{}", words);
                for shown in [&shown, &text] {
                    let length = shown.chars().count();
                    let marks = query.marks(shown);
                    prop_assert!(!query.matches(shown) || !marks.is_empty());
                    prop_assert!(marks.iter().all(|(start, end)| start < end && *end <= length));
                    prop_assert!(marks.windows(2).all(|two| two[0].1 <= two[1].0));
                    prop_assert!(query.weight(shown) > 0.0);
                }
            }
        }
    }
}
