//! The same in a bucket, on a real S3 server: over TLS of a private authority, and while the server fails or stalls.

use std::sync::atomic::Ordering;

use optimist_tests::authority::Authority;
use optimist_tests::bucket::{Bucket, Failing};
use optimist_tests::proxy::{Mode, Proxy};

use super::*;

impl Aged {
    /// With the archive in a bucket that answers at this address.
    async fn in_bucket(bucket: &Bucket, address: &str) -> Aged {
        let mut aged = Aged::start().await;
        aged.settings.extend(bucket.settings(address));
        // A second for a minute.
        aged.settings.push(("OPTIMIST_TEST_DISABLED".to_owned(), "patience,lapse".to_owned()));
        aged
    }

    #[track_caller]
    fn fails(&self, arguments: &[&str], more: &[(&str, &str)], why: &str) {
        let (succeeded, output) = self.try_archive(arguments, more);
        assert!(!succeeded && output.contains(why), "{arguments:?}: {output}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_takes_months_and_gives_them_back_unless_an_object_is_cut_changed_or_missing() {
    let authority = Authority::new();
    let bucket = Bucket::certified(&authority);
    let mut aged = Aged::in_bucket(&bucket, &bucket.address).await;
    let before = aged.all();
    aged.fails(&["run"], &[], "certificate");
    let authority = authority.file().display().to_string();
    aged.settings.push(("OPTIMIST_ARCHIVE_CA_FILE".to_owned(), authority));
    let in_clear = format!("http://{}", bucket.address);
    aged.fails(&["run"], &[("AWS_ENDPOINT_URL", &in_clear)], "must begin with `https://`");
    assert_eq!((aged.all(), bucket.names()), (before.clone(), Vec::new()));

    for step in ["archive.written", "archive.described", "archive.leaving"] {
        aged.fails(&["run"], &[("OPTIMIST_TEST_ABORT", step)], "");
    }
    aged.archive(&["run"]);
    aged.archive(&["verify"]);
    let names = bucket.names();
    assert_eq!(names.len(), 12, "an object and its manifest of three tables and two months: {names:?}");
    assert!(aged.archive(&["list"]).contains(&format!("messages/{}/", aged.months[0])));

    let month = aged.months[0].clone();
    let object =
        names.iter().find(|name| name.starts_with(&format!("messages/{month}/")) && name.ends_with(".zst"));
    let object = object.expect("the older month's messages");
    let manifest = object.replace(".csv.zst", ".json");
    let (whole, described) = (bucket.get(object), bucket.get(&manifest));
    let mut changed = whole.clone();
    changed[whole.len() / 2] ^= 1;
    for (what, name, bytes) in [
        ("cut", object, Some(&whole[..whole.len() / 2])),
        ("changed", object, Some(&changed[..])),
        ("missing", object, None),
        ("not described", &manifest, None),
    ] {
        match bytes {
            Some(bytes) => bucket.put(name, bytes),
            None => bucket.delete(name),
        }
        aged.fails(&["verify"], &[], "1 objects are not");
        aged.fails(&["restore", "messages", &month], &[], "");
        assert!(!aged.is_attached("messages", &month), "{what}");
        bucket.put(object, &whole);
        bucket.put(&manifest, &described);
    }
    for month in aged.months.clone() {
        aged.archive(&["restore", "messages", &month]);
    }
    assert_eq!((aged.all(), bucket.names()), (before, Vec::new()));
    // They are found by their words, as other months are.
    let unindexed = "select count(*) from leaves('messages')
        where not exists (
            select from pg_index part join pg_inherits on inhrelid = indexrelid
            where inhparent = 'messages_words'::regclass and indrelid = leaf_name('messages', leaves)::regclass and indisvalid)";
    assert_eq!(aged.system.sql(unindexed), "0");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_fails_or_stalls_is_asked_again_and_then_given_up_and_loses_nothing() {
    let bucket = Bucket::plain();
    let failing = Failing::before(&bucket).await;
    let proxy = Proxy::start(&failing.address).await;
    let aged = Aged::in_bucket(&bucket, &proxy.address()).await;
    let before = aged.all();

    failing.left.store(u32::MAX, Ordering::Relaxed);
    let began = Instant::now();
    aged.fails(&["run"], &[], "500");
    failing.left.store(0, Ordering::Relaxed);
    proxy.set(Mode::HalfOpen);
    aged.fails(&["run"], &[], "");
    assert!(began.elapsed() < Duration::from_secs(60), "{:?}", began.elapsed());
    proxy.set(Mode::Open);
    assert!(aged.months.iter().all(|month| aged.is_attached("messages", month)));
    assert_eq!(aged.all(), before);

    // As a client sees a server that has a bad moment.
    failing.left.store(3, Ordering::Relaxed);
    aged.archive(&["run"]);
    assert!(aged.months.iter().all(|month| !aged.is_attached("messages", month)));
    aged.archive(&["verify"]);
    let began = Instant::now();
    failing.left.store(u32::MAX, Ordering::Relaxed);
    failing.stalls.store(true, Ordering::Relaxed);
    aged.fails(&["restore", "messages", &aged.months[0]], &[], "");
    failing.left.store(0, Ordering::Relaxed);
    proxy.set(Mode::HalfOpen);
    aged.fails(&["verify"], &[], "6 objects are not");
    assert!(began.elapsed() < Duration::from_secs(90), "{:?}", began.elapsed());
    proxy.set(Mode::Open);
    for month in &aged.months {
        aged.archive(&["restore", "messages", month]);
    }
    assert_eq!(aged.all(), before);
}
