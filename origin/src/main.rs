//! The origin: the native service that owns Postgres.
//!
//! It answers what the edge forwards, and nothing that the edge has not signed. It never talks to clients directly.

mod app;
mod request;
mod config;
mod error;
mod hooks;
mod telemetry;

mod breaker;
mod postgres;
mod redis;
mod cache;
mod region;
mod relay;
mod jobs;
mod session;
mod limits;
mod idempotency;

mod body;
mod cursor;
mod auth;
mod me;
mod circles;
mod members;
mod messages;
mod openapi;
mod policies;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "optimist-origin", version, about = "The origin of an Optimist region.")]
struct Arguments {
    /// A TOML file with settings; the environment wins over it.
    #[arg(long, global = true, env = "OPTIMIST_CONFIG")]
    config: Option<std::path::PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Answer the edge, until SIGTERM.
    Serve,
    /// Bring the schema up to date, with the role that owns it.
    Migrate,
    /// Print the policy tables as Markdown.
    Routes,
    /// Print the OpenAPI document.
    Openapi,
    /// Prepare every SQL statement against the migrated schema.
    CheckStatements,
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match run(&arguments).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("optimist-origin: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(arguments: &Arguments) -> Result<(), Box<dyn std::error::Error>> {
    let load = || config::Config::load(arguments.config.as_deref());
    match arguments.command {
        Command::Serve => {
            telemetry::start_logs();
            app::serve(load()?).await
        }
        Command::Migrate => {
            telemetry::start_logs();
            postgres::migrate(&load()?).await
        }
        Command::Routes => {
            println!("{}", policies::render().trim_end());
            Ok(())
        }
        Command::Openapi => {
            println!("{}", openapi::document());
            Ok(())
        }
        Command::CheckStatements => postgres::check_statements(&load()?).await,
    }
}
