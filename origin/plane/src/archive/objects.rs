//! The store of the archive's objects: a folder, or a bucket that speaks S3.
//!
//! A month of a table is one object, its rows as CSV under zstd, and a manifest beside it, which is written last. Each writing has
//! names of its own, so that nothing is replaced.

use std::io::Write as _;
use std::sync::Arc;

use futures_util::TryStreamExt as _;
use futures_util::stream::BoxStream;
use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use object_store::buffered::BufWriter;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::prefix::PrefixStore;
use object_store::{ObjectStore, ObjectStoreExt as _};
use optimist_shared::ids::{Uuid, parse_id};
use optimist_shared::session::hex;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use tokio::io::AsyncWriteExt as _;

use crate::archive::csv::Records;
use crate::archive::http::{self, OverRustls};
use crate::archive::owner::{Outcome, Sink, Trouble};
use crate::config::Config;
use crate::tls::{self, Authorities};

/// Twice as fast as Postgres copies, and a fifth of the CSV's size.
const LEVEL: i32 = 6;

/// What an object holds: written after it.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    pub table: String,
    pub month: String,
    pub rows: u64,
    /// Of the rows as CSV, in the order of the table's key.
    pub sha256: String,
    /// The newest migration when it was written.
    pub schema: i32,
    pub columns: Vec<String>,
    /// The partition's bounds: from, and to before.
    pub from: String,
    pub to: String,
}

/// A person on the list of the erased.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Erased {
    pub user: Uuid,
    pub keeps_messages: bool,
}

/// The end of the name of someone's whose messages stay.
const KEPT: &str = ".keep";

impl Erased {
    fn parse(name: &str) -> Option<Erased> {
        let (id, keeps_messages) = match name.strip_suffix(KEPT) {
            Some(id) => (id, true),
            None => (name, false),
        };
        Some(Erased { user: parse_id(id)?, keeps_messages })
    }
}

/// An object's name, without its end.
pub fn name(table: &str, month: &str, version: i32) -> String {
    format!("{table}/{month}/{version}")
}

pub struct Store {
    inner: Arc<dyn ObjectStore>,
}

impl Store {
    pub fn of(config: &Config) -> Outcome<Store> {
        let none = || Trouble("OPTIMIST_ARCHIVE_URL is not set".to_owned());
        let url = config.archive_url.as_deref().ok_or_else(none)?;
        let inner: Arc<dyn ObjectStore> = match url.strip_prefix("s3://") {
            Some(place) => {
                let (bucket, prefix) = place.split_once('/').unwrap_or((place, ""));
                Arc::new(PrefixStore::new(bucket_of(bucket, config.archive_ca.as_ref())?.build()?, prefix))
            }
            None => {
                let folder = url.strip_prefix("file://").unwrap_or(url);
                std::fs::create_dir_all(folder)?;
                Arc::new(LocalFileSystem::new_with_prefix(folder)?.with_fsync(true))
            }
        };
        Ok(Store { inner })
    }

    /// Begins an object.
    pub fn write(&self, name: &str) -> Outcome<Writing> {
        let path = Path::from(format!("{name}.csv.zst"));
        let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), LEVEL)?;
        encoder.include_checksum(true)?;
        let upload = BufWriter::new(self.inner.clone(), path);
        Ok(Writing { encoder, upload, digest: Summing::default() })
    }

    pub async fn put_manifest(&self, name: &str, manifest: &Manifest) -> Outcome<()> {
        let text = serde_json::to_vec_pretty(manifest)?;
        self.inner.put(&Path::from(format!("{name}.json")), text.into()).await?;
        Ok(())
    }

    pub async fn manifest(&self, name: &str) -> Outcome<Manifest> {
        let bytes = self.inner.get(&Path::from(format!("{name}.json"))).await?.bytes().await?;
        Ok(serde_json::from_slice(&bytes)?)
    }

    /// Begins to read an object.
    pub async fn read(&self, name: &str) -> Outcome<Reading> {
        let stream = self.inner.get(&Path::from(format!("{name}.csv.zst"))).await?.into_stream();
        Ok(Reading {
            stream,
            decoder: zstd::stream::write::Decoder::new(Vec::new())?,
            records: Records::default(),
        })
    }

    /// Reads an object whole, and compares it with its manifest.
    pub async fn check(&self, name: &str) -> Outcome<Manifest> {
        let manifest = self.manifest(name).await?;
        let (mut reading, mut sum) = (self.read(name).await?, Summing::default());
        while let Some((records, count)) = reading.next().await? {
            sum.add(&records, count);
        }
        let (rows, sha256) = sum.end();
        match rows == manifest.rows && sha256 == manifest.sha256 {
            true => Ok(manifest),
            false => Err(Trouble("its rows are not those of its manifest".to_owned())),
        }
    }

    /// Deletes the objects of a table's month, but for one.
    pub async fn delete_but(&self, table: &str, month: &str, kept: Option<i32>) -> Outcome<u64> {
        let kept = kept.map(|version| format!("{version}."));
        let mut deleted = 0;
        let objects: Vec<_> =
            self.inner.list(Some(&Path::from(format!("{table}/{month}")))).try_collect().await?;
        for object in objects {
            let file = object.location.filename().unwrap_or_default();
            if !kept.as_ref().is_some_and(|kept| file.starts_with(kept)) {
                self.inner.delete(&object.location).await?;
                deleted += 1;
            }
        }
        Ok(deleted)
    }

    /// Notes an erased person beside the objects: a database of before does not know of them. The object's name says whom and
    /// whether their messages stay, and the store says when. Nothing removes it.
    pub async fn note_erased(&self, erased: Erased) -> Outcome<()> {
        let Erased { user, keeps_messages } = erased;
        let kept = if keeps_messages { KEPT } else { "" };
        self.inner.put(&Path::from(format!("erased/{user}{kept}")), Vec::new().into()).await?;
        Ok(())
    }

    pub async fn erased(&self) -> Outcome<Vec<Erased>> {
        let mut objects = self.inner.list(Some(&Path::from("erased")));
        let mut erased = Vec::new();
        while let Some(object) = objects.try_next().await? {
            erased.extend(object.location.filename().and_then(Erased::parse));
        }
        Ok(erased)
    }
}

/// A bucket by the usual variables of AWS, over the TLS that the origin's other connections use.
fn bucket_of(bucket: &str, authorities: Option<&Authorities>) -> Outcome<AmazonS3Builder> {
    let tls = tls::client(authorities).map_err(|error| Trouble(error.to_string()))?;
    let builder = AmazonS3Builder::from_env()
        .with_bucket_name(bucket)
        .with_http_connector(OverRustls(tls))
        .with_retry(http::retries());
    let endpoint = builder.get_config_value(&AmazonS3ConfigKey::Endpoint).unwrap_or_default();
    if let Some(reason) = refusal_of_endpoint(&endpoint, authorities.is_some()) {
        return Err(Trouble(reason.to_owned()));
    }
    Ok(builder.with_allow_http(endpoint.starts_with("http://")))
}

/// The reason for which an endpoint is refused, if it is. Without one, AWS's own is used.
fn refusal_of_endpoint(endpoint: &str, has_authorities: bool) -> Option<&'static str> {
    match endpoint.split_once("://") {
        None if endpoint.is_empty() => None,
        Some(("https", _)) => None,
        Some(("http", _)) if has_authorities => {
            Some("the store's endpoint must begin with `https://` where an authority is given")
        }
        Some(("http", rest)) if tls::is_near(rest) => None,
        _ => Some("the store's endpoint must begin with `https://`, except on the loopback"),
    }
}

/// Counts rows, and computes their digest.
#[derive(Default)]
pub struct Summing {
    rows: u64,
    hash: Sha256,
}

impl Summing {
    pub fn add(&mut self, records: &[u8], count: u64) {
        self.rows += count;
        self.hash.update(records);
    }

    pub fn end(self) -> (u64, String) {
        (self.rows, hex(&self.hash.finalize()))
    }
}

impl Sink for Summing {
    async fn take(&mut self, records: &[u8], count: u64) -> Outcome<()> {
        self.add(records, count);
        Ok(())
    }
}

/// An object under way. It exists once it is finished.
pub struct Writing {
    encoder: zstd::stream::write::Encoder<'static, Vec<u8>>,
    upload: BufWriter,
    digest: Summing,
}

impl Writing {
    /// Returns its rows and their digest.
    pub async fn finish(mut self) -> Outcome<(u64, String)> {
        let rest = self.encoder.finish()?;
        self.upload.put(rest.into()).await?;
        self.upload.shutdown().await?;
        Ok(self.digest.end())
    }
}

impl Sink for Writing {
    async fn take(&mut self, records: &[u8], count: u64) -> Outcome<()> {
        self.digest.add(records, count);
        self.encoder.write_all(records)?;
        let compressed = std::mem::take(self.encoder.get_mut());
        self.upload.put(compressed.into()).await?;
        Ok(())
    }
}

/// An object that is read piece by piece.
pub struct Reading {
    stream: BoxStream<'static, object_store::Result<bytes::Bytes>>,
    decoder: zstd::stream::write::Decoder<'static, Vec<u8>>,
    records: Records,
}

impl Reading {
    /// The next whole records, and how many.
    pub async fn next(&mut self) -> Outcome<Option<(Vec<u8>, u64)>> {
        while let Some(piece) = self.stream.try_next().await? {
            self.decoder.write_all(&piece)?;
            self.decoder.flush()?;
            let (records, count) = self.records.take(&std::mem::take(self.decoder.get_mut()));
            if count > 0 {
                return Ok(Some((records, count)));
            }
        }
        match self.records.is_whole() {
            true => Ok(None),
            false => Err(Trouble("it ends within a row".to_owned())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_is_reached_over_tls_or_on_this_machine() {
        for (good, has_authorities) in [
            ("", false),
            ("", true),
            ("https://s3.internal", true),
            ("https://s3.internal:9000", false),
            ("http://127.0.0.1:9000", false),
        ] {
            assert_eq!(refusal_of_endpoint(good, has_authorities), None, "{good}");
        }
        for (bad, has_authorities) in [
            ("http://s3.internal", false),
            ("HTTP://127.0.0.1", false),
            ("http://127.0.0.1:9000", true),
            ("http://127.0.0.1@s3.internal", false),
            ("s3.internal", false),
        ] {
            assert!(refusal_of_endpoint(bad, has_authorities).is_some(), "{bad}");
        }
    }
}
