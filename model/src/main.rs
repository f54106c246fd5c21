//! `cargo run -p optimist-model`: checks the whole protocol. With `without-<mechanism>`, prints how a read goes stale
//! without it. `--faults` and `--restarts` set how many calls to Redis may go unanswered, and how often Redis may
//! restart.

use std::process::ExitCode;
use std::time::Instant;

use optimist_model::mechanisms::{MECHANISMS, by_name};
use optimist_model::{Protocol, WHOLE, check};

fn main() -> ExitCode {
    let mut protocol = WHOLE;
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let known = match word.as_str() {
            "--faults" => words.next().and_then(|n| n.parse().ok()).map(|n| protocol.faults = n),
            "--restarts" => words.next().and_then(|n| n.parse().ok()).map(|n| protocol.restarts = n),
            name => by_name(name).map(|mechanism| {
                println!("Without this: {}.", mechanism.what);
                protocol = mechanism.without;
            }),
        };
        if known.is_none() {
            eprintln!("optimist-model [without-MECHANISM] [--faults N] [--restarts N]");
            MECHANISMS.iter().for_each(|one| eprintln!("  without-{:<18} {}", one.name, one.what));
            return ExitCode::FAILURE;
        }
    }
    report(protocol)
}

/// Success if the protocol keeps its guarantee.
fn report(protocol: Protocol) -> ExitCode {
    let began = Instant::now();
    let checked = check(protocol);
    let seconds = began.elapsed().as_secs_f64();
    println!("{} states, {} steps, {seconds:.1} s", checked.states, checked.steps);
    match checked.counterexample {
        None => {
            println!("No read returns less than what was known when it began.");
            ExitCode::SUCCESS
        }
        Some(path) => {
            println!("A stale read:\n{path}");
            ExitCode::FAILURE
        }
    }
}
