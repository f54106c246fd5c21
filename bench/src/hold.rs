//! `--hold`: keeps the systems of the warm-read benchmarks running for a profiler.

use std::path::{Path, PathBuf};

use optimist_tests::Kind;

use crate::closed_loop::{CONNECTIONS, Subject};
use crate::parts::warm::MEMBERS;
use crate::peers;
use crate::region::Region;

/// Prints the `wrk` commands to run, and waits for Ctrl-C.
pub async fn run() {
    let region = Region::start().await;
    let (embedded, workerd) = (region.edge(Kind::Embedded), region.edge(Kind::Cloudflare));
    let circle = region.circle(&embedded.url, MEMBERS).await;
    let (fastify, worker) =
        (peers::fastify(&region), peers::worker(region.redis.port, None, region.folder.path()));
    circle.warm(&fastify.url).await;
    println!(
        "redis {} postgres {} {}",
        region.redis.url(),
        region.database_url(),
        region.folder.path().display()
    );
    for (name, url, process) in [
        ("embedded", &embedded.url, &embedded.process),
        ("workerd", &workerd.url, &workerd.process),
        ("fastify", &fastify.url, &fastify.process),
        ("worker", &worker.url, &worker.process),
    ] {
        let subject = circle.reads(name, url, Vec::new());
        subject.check();
        let (script, requests) = files(&subject, &region.folder.path().join(name));
        println!(
            "{name}, process {}: wrk -t1 -c{CONNECTIONS} -d10s -s {} {url} -- {}",
            process.id(),
            script.display(),
            requests.display()
        );
    }
    // If the signal handler cannot be installed, end at once.
    let _ = tokio::signal::ctrl_c().await;
}

fn files(subject: &Subject, folder: &Path) -> (PathBuf, PathBuf) {
    std::fs::create_dir_all(folder).expect("a folder");
    subject.files(folder, 0)
}
