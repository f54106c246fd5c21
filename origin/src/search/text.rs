//! Texts as words: the same words that the schema's `search_words` makes of them, with their places in the text.
//!
//! Postgres finds messages by its own words; these serve queries, ranks and highlights. This file knows no query.

use unicode_normalization::UnicodeNormalization as _;
use unicode_normalization::char::{canonical_combining_class, decompose_compatible};

/// Characters of a word that count.
pub const WORD: usize = 64;

/// Characters without which a word is the same: marks, joiners, and what chooses a colour or a form.
const DROPPED: &[(char, char)] = &[
    ('\u{ad}', '\u{ad}'),
    ('\u{300}', '\u{36f}'),
    ('\u{591}', '\u{5bd}'),
    ('\u{640}', '\u{640}'),
    ('\u{64b}', '\u{65f}'),
    ('\u{670}', '\u{670}'),
    ('\u{200c}', '\u{200d}'),
    ('\u{fe00}', '\u{fe0f}'),
    ('\u{1f3fb}', '\u{1f3ff}'),
];

/// Characters that end a word.
const BETWEEN: &[(char, char)] = &[
    ('\u{0}', '/'),
    (':', '@'),
    ('[', '`'),
    ('{', '\u{bf}'),
    ('\u{d7}', '\u{d7}'),
    ('\u{f7}', '\u{f7}'),
    ('\u{5be}', '\u{5be}'),
    ('\u{60c}', '\u{60c}'),
    ('\u{61b}', '\u{61b}'),
    ('\u{61f}', '\u{61f}'),
    ('\u{964}', '\u{965}'),
    ('\u{1680}', '\u{1680}'),
    ('\u{180e}', '\u{180e}'),
    ('\u{2000}', '\u{20ff}'),
    ('\u{2200}', '\u{22ff}'),
    ('\u{2e00}', '\u{2e7f}'),
    ('\u{3000}', '\u{3004}'),
    ('\u{3008}', '\u{303f}'),
    ('\u{30fb}', '\u{30fb}'),
    ('\u{fe10}', '\u{fe1f}'),
    ('\u{fe30}', '\u{fe6f}'),
    ('\u{feff}', '\u{feff}'),
    ('\u{fff0}', '\u{ffff}'),
];

/// Characters of scripts that put no spaces between words (Thai to Burmese, Chinese, Japanese) or whose words grow by particles
/// (Korean), and emoji. Each two neighbours are a word.
const PAIRED: &[(char, char)] = &[
    ('\u{e00}', '\u{eff}'),
    ('\u{1000}', '\u{11ff}'),
    ('\u{1780}', '\u{17ff}'),
    ('\u{2190}', '\u{21ff}'),
    ('\u{2300}', '\u{2bff}'),
    ('\u{3005}', '\u{3007}'),
    ('\u{3040}', '\u{312f}'),
    ('\u{31f0}', '\u{31ff}'),
    ('\u{3400}', '\u{9fff}'),
    ('\u{a960}', '\u{a97f}'),
    ('\u{ac00}', '\u{d7ff}'),
    ('\u{f900}', '\u{faff}'),
    ('\u{1f000}', '\u{1faff}'),
    ('\u{20000}', '\u{3ffff}'),
];

fn is_in(ranges: &[(char, char)], character: char) -> bool {
    ranges.iter().any(|(first, last)| (*first..=*last).contains(&character))
}

/// What a word is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// What stands between two spaces.
    Whole,
    /// Two neighbours of a run without spaces.
    Pair,
    /// The first character of a run by itself, and the last one.
    First,
    Last,
}

/// A word of a text, and where it stands: from this character of the text to before that one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Word {
    pub text: String,
    pub kind: Kind,
    pub start: usize,
    pub end: usize,
}

/// A character as words have it, and the place of those that it was made of.
#[derive(Clone, Copy)]
struct Folded {
    character: char,
    start: usize,
    end: usize,
}

/// Letters that become one with the letter before them, though they are no marks: of Korean, and vowels of Indian scripts.
const JOINING: &[(char, char)] = &[
    ('\u{9be}', '\u{9be}'),
    ('\u{9d7}', '\u{9d7}'),
    ('\u{b3e}', '\u{b3e}'),
    ('\u{b56}', '\u{b57}'),
    ('\u{bbe}', '\u{bbe}'),
    ('\u{bd7}', '\u{bd7}'),
    ('\u{cc2}', '\u{cc2}'),
    ('\u{cd5}', '\u{cd6}'),
    ('\u{d3e}', '\u{d3e}'),
    ('\u{d57}', '\u{d57}'),
    ('\u{dcf}', '\u{dcf}'),
    ('\u{ddf}', '\u{ddf}'),
    ('\u{102e}', '\u{102e}'),
    ('\u{1160}', '\u{11ff}'),
    ('\u{1b35}', '\u{1b35}'),
    ('\u{11127}', '\u{11127}'),
    ('\u{1133e}', '\u{1133e}'),
    ('\u{11357}', '\u{11357}'),
    ('\u{114b0}', '\u{114b0}'),
    ('\u{114ba}', '\u{114ba}'),
    ('\u{114bd}', '\u{114bd}'),
    ('\u{115af}', '\u{115af}'),
    ('\u{11930}', '\u{11930}'),
];

/// Whether a character belongs to the one before it. It may be a form of one that does: half as wide, or by itself.
fn continues(character: char) -> bool {
    if character.is_ascii() {
        return false;
    }
    let mut first = None;
    decompose_compatible(character, |part| {
        first.get_or_insert(part);
    });
    let first = first.unwrap_or(character);
    canonical_combining_class(first) != 0 || is_in(DROPPED, first) || is_in(JOINING, first)
}

/// A text without capitals, marks and forms.
fn fold(text: &str) -> Vec<Folded> {
    let characters: Vec<char> = text.chars().collect();
    let (mut folded, mut start) = (Vec::with_capacity(characters.len()), 0);
    while start < characters.len() {
        let first = characters[start];
        let mut end = start + 1;
        while characters.get(end).is_some_and(|next| continues(*next)) {
            end += 1;
        }
        let mut put = |character| folded.push(Folded { character, start, end });
        if first.is_ascii() && end == start + 1 {
            put(first.to_ascii_lowercase());
        } else {
            let plain = characters[start..end].iter().copied().nfkd().filter(|c| !is_in(DROPPED, *c));
            for character in plain.nfc().flat_map(char::to_lowercase) {
                match character {
                    'ß' => ['s', 's'].into_iter().for_each(&mut put),
                    'æ' => ['a', 'e'].into_iter().for_each(&mut put),
                    'œ' => ['o', 'e'].into_iter().for_each(&mut put),
                    'ø' => put('o'),
                    'ł' => put('l'),
                    'đ' | 'ð' => put('d'),
                    'ı' => put('i'),
                    'ς' => put('σ'),
                    other => put(other),
                }
            }
        }
        start = end;
    }
    folded
}

/// A text as its words are made of it, with one space for whatever stands between them.
pub fn folded(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    for Folded { character, .. } in fold(text) {
        match is_in(BETWEEN, character) {
            false => plain.push(character),
            true if plain.is_empty() || plain.ends_with(' ') => {}
            true => plain.push(' '),
        }
    }
    plain.truncate(plain.trim_end().len());
    plain
}

/// The words of a text, in their order.
pub fn words(text: &str) -> Vec<Word> {
    let (mut words, mut whole, mut run) = (Vec::new(), Vec::new(), Vec::new());
    for folded in fold(text) {
        if is_in(BETWEEN, folded.character) {
            end_whole(&mut words, &mut whole);
            end_run(&mut words, &mut run);
        } else if is_in(PAIRED, folded.character) {
            end_whole(&mut words, &mut whole);
            run.push(folded);
        } else {
            end_run(&mut words, &mut run);
            whole.push(folded);
        }
    }
    end_whole(&mut words, &mut whole);
    end_run(&mut words, &mut run);
    words
}

fn word(kind: Kind, of: &[Folded]) -> Word {
    Word {
        text: of.iter().take(WORD).map(|folded| folded.character).collect(),
        kind,
        start: of.first().map_or(0, |folded| folded.start),
        end: of.last().map_or(0, |folded| folded.end),
    }
}

fn end_whole(words: &mut Vec<Word>, whole: &mut Vec<Folded>) {
    if !whole.is_empty() {
        words.push(word(Kind::Whole, whole));
        whole.clear();
    }
}

fn end_run(words: &mut Vec<Word>, run: &mut Vec<Folded>) {
    if let (Some(first), Some(last)) = (run.first(), run.last()) {
        words.push(word(Kind::First, std::slice::from_ref(first)));
        words.extend(run.windows(2).map(|pair| word(Kind::Pair, pair)));
        words.push(word(Kind::Last, std::slice::from_ref(last)));
        run.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(text: &str) -> Vec<String> {
        words(text).into_iter().map(|word| word.text).collect()
    }

    #[test]
    fn words_have_neither_capitals_nor_marks() {
        assert_eq!(texts("Über die STRASSE, Straße!"), ["uber", "die", "strasse", "strasse"]);
        assert_eq!(texts("don't 12abc 1e5x a_b"), ["don", "t", "12abc", "1e5x", "a", "b"]);
        assert_eq!(
            texts("Œuvre Æon Łódź ĐÀ Ελλάς ПРИВЕТ ёж"),
            ["oeuvre", "aeon", "lodz", "da", "ελλασ", "привет", "еж"]
        );
        assert_eq!(texts("ﬁn ² ½"), ["fin", "2", "1", "2"]);
        assert_eq!(texts(" .,! "), [""; 0]);
        assert_eq!(texts(&"x".repeat(80)), ["x".repeat(WORD)]);
    }

    #[test]
    fn neighbours_are_words_where_no_spaces_are() {
        assert_eq!(texts("我爱北京"), ["我", "我爱", "爱北", "北京", "京"]);
        assert_eq!(texts("hello你 好"), ["hello", "你", "你", "好", "好"]);
        assert_eq!(texts("👍🏽🎉❤️"), ["👍", "👍🎉", "🎉❤", "❤"]);
        // Half as wide, and in two characters: the same.
        assert_eq!(texts("ｶﾞが"), texts("ガか\u{3099}"));
        assert_eq!(texts("\u{1112}\u{1161}\u{11ab}국"), texts("한국"));
        assert_eq!(texts("ㅎㅏ"), texts("하"));
        assert_eq!(texts("\u{9c7}\u{9be}"), texts("\u{9cb}"));
    }

    #[test]
    fn a_word_knows_where_it_stands() {
        let words = words("Á\u{301}b ½ 北京");
        let places: Vec<_> = words.iter().map(|word| (word.text.as_str(), word.start, word.end)).collect();
        assert_eq!(
            places,
            [("ab", 0, 3), ("1", 4, 5), ("2", 4, 5), ("北", 6, 7), ("北京", 6, 8), ("京", 7, 8)]
        );
    }
}
