//! The origin: the native service that owns Postgres.
//!
//! It answers what the edge forwards, and nothing that the edge has not signed. It never talks to clients directly.

mod app;
mod migrate;
mod partitioning;
mod indexing;
mod sharding;
mod domains;
mod favorites;

mod people;
mod circles;
mod presence;
mod journal;
mod deliveries;
mod notifications;
mod activity;
mod reactions;
mod reports;
mod messages;
mod statistics;
mod popular;
mod search;
mod unread;
mod erasure;
mod export;
mod trail;
mod operations;

use std::process::ExitCode;

use chrono::{DateTime, Utc};
use clap::{Parser, Subcommand};
use optimist_plane::archive;
use optimist_plane::audit::walk;
use optimist_plane::config::Config;
use optimist_plane::jobs;
use optimist_plane::months::Month;
use optimist_plane::openapi::Document;
use optimist_plane::postgres::pool::{Postgres, SESSION};
use optimist_plane::region::switch;
use optimist_plane::telemetry;
use optimist_shared::ids::parse_id;

use crate::domains::REGISTRY;
use crate::journal::sealing;
use crate::operations::policies;
use crate::people::admin;

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
    /// Bring the schema up to date, with the role that owns it, and tables into partitions.
    Migrate {
        /// Only up to this migration: the release before.
        #[arg(long, hide = true)]
        to: Option<i32>,
        /// Also spread people's own tables over the workers of a Citus cluster, of which this database is the coordinator. For trials.
        #[arg(long)]
        citus: bool,
    },
    /// Print the policy tables as Markdown.
    Routes,
    /// Print the OpenAPI document.
    Openapi,
    /// Run a job of this region now.
    Jobs {
        #[command(subcommand)]
        command: JobsCommand,
    },
    /// Say who administers the service, and who is shut out of it.
    Admin {
        #[command(subcommand)]
        command: AdminCommand,
    },
    /// Look after the archive of old months.
    Archive {
        #[command(subcommand)]
        command: ArchiveCommand,
    },
    /// Erase accounts, and look for what is left of them.
    Erasure {
        #[command(subcommand)]
        command: ErasureCommand,
    },
    /// Look after the keys that journals are sealed with.
    Keys {
        #[command(subcommand)]
        command: KeysCommand,
    },
    /// Compare all of Redis, and Postgres's own sums, with Postgres, and fail if anything differs.
    Check {
        /// One data type alone.
        data_type: Option<String>,
        /// Repair what differs; it counts as a difference all the same.
        #[arg(long)]
        repair: bool,
    },
    /// Check the configuration, and do nothing else.
    CheckConfig,
    /// Print every SQL statement, and the settings of the connections that run them, in JSON.
    Statements,
    /// Prepare every SQL statement against the migrated schema.
    CheckStatements,
}

#[derive(Subcommand)]
enum JobsCommand {
    /// Print the jobs' names, intervals and purposes.
    List,
    /// Run one, and say how many rows it dealt with.
    Run { name: String },
}

#[derive(Subcommand)]
enum AdminCommand {
    /// Make the account of this e-mail an administrator.
    Grant { email: String },
    /// Make it an ordinary one again.
    Revoke { email: String },
    /// End the sessions of this e-mail's account, and admit no more.
    Suspend {
        email: String,
        /// What its owner reads when they log in.
        #[arg(long)]
        reason: Option<String>,
        /// When the suspension ends by itself, as 2026-11-23T08:00:00Z.
        #[arg(long)]
        until: Option<DateTime<Utc>>,
    },
    /// Let a suspended account log in again.
    Restore { email: String },
}

#[derive(Subcommand)]
enum ArchiveCommand {
    /// Archive what is old enough, or one month of a table and of those that go with it.
    Run {
        table: Option<String>,
        /// Like 2026-05.
        #[arg(requires = "table")]
        month: Option<String>,
    },
    /// Print the months that are archived, on their way, or back.
    List,
    /// Read every object, and fail if one is missing, cut or changed.
    Verify,
    /// Bring a month of a table back, and of those that go with it.
    Restore { table: String, month: String },
}

#[derive(Subcommand)]
enum ErasureCommand {
    /// Erase an account, and wait for the end. Archived months follow with the next run of the archive.
    Apply {
        user: String,
        /// Its messages stay, as by a deleted account.
        #[arg(long)]
        keep_messages: bool,
    },
    /// Look for anything that is left of an erased account, and fail if there is something.
    Verify { user: String },
    /// Print what becomes of a person's rows in each table, and which columns were thought of.
    Tables,
}

#[derive(Subcommand)]
enum KeysCommand {
    /// Wrap every user's data key with the first key encryption key of the configuration; then the others may go.
    Rotate,
}

/// Many threads make and drop many small things: a fifth of the processor time that posting a message takes here was
/// spent in the system's allocator.
#[cfg(not(feature = "test-hooks"))]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// For tests it also counts the bytes that are allocated.
#[cfg(feature = "test-hooks")]
#[global_allocator]
static ALLOCATOR: cap::Cap<mimalloc::MiMalloc> = cap::Cap::new(mimalloc::MiMalloc, usize::MAX);

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match run(&arguments).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprint!("optimist-origin: {error}");
            // Postgres's own words are those of the cause.
            let causes = std::iter::successors(error.source(), |cause| cause.source());
            causes.for_each(|cause| eprint!(": {cause}"));
            eprintln!();
            ExitCode::FAILURE
        }
    }
}

async fn run(arguments: &Arguments) -> Result<(), Box<dyn std::error::Error>> {
    let load = || Config::load(arguments.config.as_deref(), &domains::key_rings());
    match &arguments.command {
        Command::Serve => {
            telemetry::start_logs();
            app::serve(load()?).await
        }
        Command::Migrate { to, citus } => {
            telemetry::start_logs();
            migrate::migrate(&load()?, *to, *citus).await
        }
        Command::Routes => {
            println!("{}", policies::render().trim_end());
            Ok(())
        }
        Command::Openapi => {
            println!("{}", std::str::from_utf8(&Document::of(&REGISTRY).json)?);
            Ok(())
        }
        Command::Jobs { command: JobsCommand::List } => {
            for job in REGISTRY.domains.iter().flat_map(|domain| domain.jobs) {
                println!("{:<22} every {:>4} s  {}", job.name, job.every.as_secs(), job.what);
            }
            Ok(())
        }
        Command::Jobs { command: JobsCommand::Run { name } } => {
            telemetry::start_logs();
            let job = REGISTRY.domains.iter().flat_map(|domain| domain.jobs).find(|job| job.name == name);
            let job = job.ok_or_else(|| format!("there is no job {name}: see `jobs list`"))?;
            let ctx = app::build(load()?)?;
            switch::learn(&ctx).await;
            tokio::spawn(switch::follow(ctx.clone()));
            let done =
                jobs::run_one(&ctx, job).await.map_err(|error| format!("{name}: {}", error.code.as_str()))?;
            println!("{done}");
            Ok(())
        }
        Command::Admin { command } => {
            telemetry::start_logs();
            let ctx = app::build(load()?)?;
            switch::learn(&ctx).await;
            let (email, found) = match command {
                AdminCommand::Grant { email } => (email, admin::set_role(&ctx, email, true).await),
                AdminCommand::Revoke { email } => (email, admin::set_role(&ctx, email, false).await),
                AdminCommand::Suspend { email, reason, until } => {
                    (email, admin::suspend(&ctx, email, *until, reason.as_deref()).await)
                }
                AdminCommand::Restore { email } => (email, admin::restore(&ctx, email).await),
            };
            let found = found.map_err(|error| error.code.as_str())?;
            if found { Ok(()) } else { Err(format!("there is no account of {email}").into()) }
        }
        Command::Archive { command } => {
            telemetry::start_logs();
            archive(&load()?, command).await
        }
        Command::Erasure { command } => {
            telemetry::start_logs();
            erase(load, command).await
        }
        Command::Keys { command: KeysCommand::Rotate } => {
            telemetry::start_logs();
            let config = load()?;
            let db = Postgres::new("postgres", &config.database_url, config.database_ca.as_ref(), 1)?;
            let rotated = sealing::rotate(&db, config.keys(sealing::JOURNAL_KEYS))
                .await
                .map_err(|error| error.code.as_str())?;
            println!("{rotated}");
            Ok(())
        }
        Command::Check { data_type, repair } => {
            telemetry::start_logs();
            check(load()?, data_type.as_deref(), *repair).await
        }
        Command::CheckConfig => Ok(load()?.check()?),
        Command::Statements => {
            let described = serde_json::json!({"session": SESSION, "statements": domains::described()});
            println!("{described}");
            Ok(())
        }
        Command::CheckStatements => migrate::check_statements(&load()?).await,
    }
}

async fn archive(config: &Config, command: &ArchiveCommand) -> Result<(), Box<dyn std::error::Error>> {
    let month_of = |text: &str| {
        Month::parse(text).ok_or_else(|| format!("{text} is no month: it should be like 2026-05"))
    };
    match command {
        ArchiveCommand::Run { table: Some(table), month } => {
            let month = month_of(month.as_deref().unwrap_or_default())?;
            println!("{}", archive::run(config, Some((table, month))).await?);
        }
        ArchiveCommand::Run { table: None, .. } => println!("{}", archive::run(config, None).await?),
        ArchiveCommand::List => archive::list(config).await?.iter().for_each(|line| println!("{line}")),
        ArchiveCommand::Verify => {
            let findings = archive::verify(config).await?;
            for finding in &findings {
                println!("{:<32} {}", finding.object, finding.trouble.as_deref().unwrap_or("is the same"));
            }
            let wrong = findings.iter().filter(|finding| finding.trouble.is_some()).count();
            if wrong > 0 {
                return Err(format!("{wrong} objects are not as they were written").into());
            }
        }
        ArchiveCommand::Restore { table, month } => {
            println!("{}", archive::restore(config, table, month_of(month)?).await?);
        }
    }
    Ok(())
}

async fn erase(
    load: impl Fn() -> Result<Config, Box<dyn std::error::Error>>,
    command: &ErasureCommand,
) -> Result<(), Box<dyn std::error::Error>> {
    let id_of = |user: &str| parse_id(user).ok_or("a user's id is a UUID");
    match command {
        ErasureCommand::Apply { user, keep_messages } => {
            let user = id_of(user)?;
            let ctx = app::build(load()?)?;
            switch::learn(&ctx).await;
            tokio::spawn(switch::follow(ctx.clone()));
            let applied = erasure::apply(&ctx, user, *keep_messages).await;
            let exists = applied
                .map_err(|error| format!("{}: {}", error.code.as_str(), error.detail.unwrap_or_default()))?;
            println!("{}", if exists { "erased" } else { "on the list; there is no such account" });
        }
        ErasureCommand::Verify { user } => {
            let ctx = app::build(load()?)?;
            let left = erasure::verifying::verify(&ctx, id_of(user)?).await?;
            left.iter().for_each(|line| println!("{line}"));
            if !left.is_empty() {
                return Err(format!("{} remainders", left.len()).into());
            }
        }
        ErasureCommand::Tables => {
            for table in erasure::tables::TABLES {
                println!("{}|{}|{}", table.name, table.columns, table.what);
            }
        }
    }
    Ok(())
}

/// Prints what was compared, by data type.
async fn check(
    config: Config,
    data_type: Option<&str>,
    repair: bool,
) -> Result<(), Box<dyn std::error::Error>> {
    let known = walk::data_types(&REGISTRY);
    if let Some(unknown) = data_type.filter(|name| !known.contains(name)) {
        return Err(format!("there is no data type {unknown}; there are {}", known.join(", ")).into());
    }
    let ctx = app::build(config)?;
    let audit = walk::Audit { ctx: &ctx, repair, only: data_type };
    let findings = walk::check(audit).await;
    let findings =
        findings.map_err(|error| format!("{}: {}", error.code.as_str(), error.detail.unwrap_or_default()))?;
    println!("{:<16} {:>8} {:>8} {:>8}", "data type", "checked", "differ", "stale");
    for (name, tally) in &findings {
        println!("{name:<16} {:>8} {:>8} {:>8}", tally.checked, tally.conflicts, tally.stale);
    }
    let conflicts: i64 = findings.values().map(|tally| tally.conflicts).sum();
    if conflicts > 0 { Err(format!("{conflicts} differ from Postgres").into()) } else { Ok(()) }
}
