//! The schema: brought up to date, and checked against every statement.

use optimist_plane::config::Config;
use optimist_plane::postgres::pool::connection_config;
use optimist_plane::statements::name;
use optimist_plane::tls;

use refinery::Target;
use tokio_postgres::Client;

use crate::domains::{REGISTRY, statements};
use crate::{indexing, partitioning, sharding};

refinery::embed_migrations!("../migrations");

/// Makes the partitions that there are to be ahead.
const LEAVES: &str =
    "select make_leaf(name, leaf_now(name) + n) from partitioned, generate_series(0, ahead) n";

/// Brings the schema up to date, or `to` a migration; with `citus`, also spreads people's own tables over shards. Safe to run at once from several places: one works, the rest wait.
pub async fn migrate(
    config: &Config,
    to: Option<i32>,
    citus: bool,
) -> std::result::Result<(), Box<dyn std::error::Error>> {
    let url = config.migrate_database_url.as_deref().unwrap_or(&config.database_url);
    let authorities = config.database_ca.as_ref();
    let mut connection = tls::postgres(url, authorities)?;
    connection.options("-c lock_timeout=10000 -c timezone=UTC").application_name("optimist-migrate");
    let (mut client, driver) = connection.connect(tls::connector(authorities)).await?;
    let driver = tokio::spawn(driver);
    client
        .batch_execute("set lock_timeout = 0; select pg_advisory_lock(7083410); set lock_timeout = '10s'")
        .await?;
    let target = to.map_or(Target::Latest, Target::Version);
    let report = migrations::runner().set_target(target).run_async(&mut client).await?;
    for applied in report.applied_migrations() {
        tracing::info!(version = applied.version(), name = applied.name(), "migrated");
    }
    grant(&client, config).await?;
    // A former schema may lack the tables of this release's seeds.
    if to.is_none() {
        for seed in REGISTRY.domains.iter().filter_map(|domain| domain.seed) {
            seed(&client).await?;
        }
        if partitioning::bring_into_partitions(&client).await? {
            client.batch_execute(LEAVES).await?;
            indexing::build(&client).await?;
            if citus {
                sharding::spread(&client).await?;
            }
        }
        grant(&client, config).await?;
    }
    drop(client);
    driver.await??;
    Ok(())
}

/// The role that serves may use what the migrating role owns, and change none of it.
async fn grant(client: &Client, config: &Config) -> Result<(), tokio_postgres::Error> {
    if let Some(role) = serving_role(config).filter(|_| config.migrate_database_url.is_some()) {
        let role = format!("\"{}\"", role.replace('"', "\"\""));
        client
            .batch_execute(&format!(
                "grant usage on schema public to {role};
                 grant select, insert, update, delete on all tables in schema public to {role};
                 grant usage on all sequences in schema public to {role};
                 grant execute on all functions in schema public to {role};
                 revoke all on refinery_schema_history from {role}"
            ))
            .await?;
    }
    Ok(())
}

fn serving_role(config: &Config) -> Option<String> {
    config.database_url.parse::<tokio_postgres::Config>().ok()?.get_user().map(str::to_owned)
}

/// Prepares every statement of every domain, and says which fails.
pub async fn check_statements(config: &Config) -> std::result::Result<(), Box<dyn std::error::Error>> {
    let authorities = config.database_ca.as_ref();
    let connection = connection_config(&config.database_url, authorities)?;
    let (client, driver) = connection.connect(tls::connector(authorities)).await?;
    tokio::spawn(driver);
    let mut failures = 0;
    let mut count = 0;
    for sql in statements() {
        count += 1;
        let name = name(sql);
        if let Err(error) = client.prepare(sql).await {
            failures += 1;
            println!(
                "{name}: {}",
                error.as_db_error().map_or_else(|| error.to_string(), |error| error.message().to_owned())
            );
        }
    }
    println!("{count} statements, {failures} failures");
    if failures > 0 { Err("a statement does not fit the schema".into()) } else { Ok(()) }
}
