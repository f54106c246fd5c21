//! Messages in a Tantivy index of their own, searched as a person with circles of their own searches: by words, within what they may
//! read, ranked by text and time.
//!
//! It reads from its input `circle id, whether the circle is public, milliseconds, body`, one message a line, separated by tabs, until a
//! line `.`; then the searcher's circles, separated by tabs; then queries. It answers the messages with `ready <bytes>`, and each query with the
//! number of its results and the nanoseconds that it took. It loads no texts, and knows only the rights that it was told of.

use std::io::{BufRead, Write};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use tantivy::collector::TopDocs;
use tantivy::query::{
    BooleanQuery, ConstScoreQuery, Occur, PhrasePrefixQuery, PhraseQuery, Query, TermQuery, TermSetQuery,
};
use tantivy::schema::{FAST, Field, INDEXED, IndexRecordOption, STRING, Schema, TEXT};
use tantivy::{DocId, Index, IndexWriter, Score, SegmentReader, Term, doc};

/// Bytes that the writer may hold in memory.
const MEMORY: usize = 200_000_000;
/// Results of a page.
const PAGE: usize = 20;
/// A message that is so many milliseconds newer may have a score that is smaller by the factor e: a month.
const MONTH: f32 = 2_592_000_000.0;

struct Fields {
    body: Field,
    circle: Field,
    public: Field,
    at: Field,
}

fn main() -> Result<()> {
    let mut schema = Schema::builder();
    let fields = Fields {
        body: schema.add_text_field("body", TEXT),
        circle: schema.add_text_field("circle", STRING),
        public: schema.add_u64_field("public", INDEXED),
        at: schema.add_u64_field("at", FAST),
    };
    let folder = tempfile::tempdir()?;
    let index = Index::create_in_dir(folder.path(), schema.build())?;
    let mut lines = std::io::stdin().lock().lines();
    let mut writer: IndexWriter = index.writer_with_num_threads(1, MEMORY)?;
    for line in lines.by_ref() {
        let line = line?;
        if line == "." {
            break;
        }
        let [circle, public, at, body] = line.splitn(4, '\t').collect::<Vec<_>>()[..] else {
            bail!("{line}")
        };
        writer.add_document(doc!(
            fields.circle => circle, fields.public => u64::from(public == "t"), fields.at => at.parse::<u64>()?, fields.body => body,
        ))?;
    }
    writer.commit()?;
    writer.wait_merging_threads()?;
    let bytes: u64 = std::fs::read_dir(folder.path())?
        .flatten()
        .flat_map(|file| file.metadata())
        .map(|file| file.len())
        .sum();
    println!("ready {bytes}");

    let mine = lines.next().context("the searcher's circles")??;
    let mine: Vec<Term> =
        mine.split('\t').map(|circle| Term::from_field_text(fields.circle, circle)).collect();
    let searcher = index.reader()?.searcher();
    for line in lines {
        let line = line?;
        let began = Instant::now();
        let query = BooleanQuery::new(vec![
            (Occur::Must, words(&fields, &line)?),
            (Occur::Must, readable(&fields, &mine)),
        ]);
        let found = searcher.search(&query, &TopDocs::with_limit(PAGE).tweak_score(by_text_and_time))?;
        println!("{} {}", found.len(), began.elapsed().as_nanos());
        std::io::stdout().flush()?;
    }
    Ok(())
}

fn by_text_and_time(segment: &SegmentReader) -> impl Fn(DocId, Score) -> Score + use<> {
    let at = segment.fast_fields().u64("at").expect("a column").first_or_default_col(0);
    move |message, score| score.ln() + at.get_val(message) as f32 / MONTH
}

/// Public circles, and the searcher's own. It counts for nothing in the score.
fn readable(fields: &Fields, mine: &[Term]) -> Box<dyn Query> {
    let public = TermQuery::new(Term::from_field_u64(fields.public, 1), IndexRecordOption::Basic);
    let either = BooleanQuery::new(vec![
        (Occur::Should, Box::new(public) as Box<dyn Query>),
        (Occur::Should, Box::new(TermSetQuery::new(mine.to_vec()))),
    ]);
    Box::new(ConstScoreQuery::new(Box::new(either), 0.0))
}

/// `word a`, `without a b` (b is unwanted), `both a b`, `phrase a b` or `beginning a`.
fn words(fields: &Fields, line: &str) -> Result<Box<dyn Query>> {
    let parts: Vec<&str> = line.split(' ').collect();
    let term = |word: &str| Term::from_field_text(fields.body, word);
    let word =
        |word: &str| -> Box<dyn Query> { Box::new(TermQuery::new(term(word), IndexRecordOption::WithFreqs)) };
    Ok(match parts[..] {
        ["word", a] => word(a),
        ["without", a, b] => {
            Box::new(BooleanQuery::new(vec![(Occur::Must, word(a)), (Occur::MustNot, word(b))]))
        }
        ["both", a, b] => Box::new(BooleanQuery::new(vec![(Occur::Must, word(a)), (Occur::Must, word(b))])),
        ["phrase", a, b] => Box::new(PhraseQuery::new(vec![term(a), term(b)])),
        ["beginning", a] => Box::new(PhrasePrefixQuery::new(vec![term(a)])),
        _ => bail!("{line}"),
    })
}
