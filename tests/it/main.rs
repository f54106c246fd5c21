//! The API on real stores, through the embedded edge.

#![allow(clippy::unwrap_used)] // A test that cannot go on panics.

mod addresses;
mod api;
mod archive;
mod audit;
mod blocks;
mod bounds;
mod deliveries;
mod drafts;
mod erasure;
mod events;
mod export;
mod fairness;
mod growth;
mod hosting;
mod jobs;
mod journal;
mod keys;
mod letters;
mod live;
mod limits;
mod locks;
mod log_ins;
mod misses;
mod names;
mod one_trip;
mod origin;
mod pages;
mod partitions;
mod posting;
mod presence;
mod processes;
mod projections;
mod replicas;
mod search;
mod segments;
mod shards;
mod staleness;
mod statistics;
mod tls;
mod trail;
mod unread;
mod write_behind;
