//! A certificate authority of a test's own, which no public list knows. OpenSSL makes its certificates.

use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::stores::folder;

pub struct Authority {
    folder: TempDir,
}

/// A server's certificate for `localhost` and 127.0.0.1, and its key: files in PEM.
pub struct Certificate {
    pub certificate: PathBuf,
    pub key: PathBuf,
}

const OPENSSL: &str = "\
[req]
distinguished_name = name
prompt = no
[name]
CN = A test
[authority]
basicConstraints = critical, CA:TRUE
[server]
basicConstraints = critical, CA:FALSE
subjectAltName = DNS:localhost, IP:127.0.0.1
";

impl Authority {
    pub fn new() -> Authority {
        let authority = Authority { folder: folder() };
        std::fs::write(authority.path("openssl.cnf"), OPENSSL).expect("its configuration");
        authority.make("authority", &[]);
        authority
    }

    /// Its own certificate, in PEM.
    pub fn file(&self) -> PathBuf {
        self.path("authority.pem")
    }

    pub fn certify(&self) -> Certificate {
        let (own, key) = (self.file(), self.path("authority.key"));
        self.make("server", &["-CA".as_ref(), &own, "-CAkey".as_ref(), &key]);
        Certificate { certificate: self.path("server.pem"), key: self.path("server.key") }
    }

    fn make(&self, kind: &str, signed_by: &[&Path]) {
        let output = Command::new("openssl")
            .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"])
            .args(["-days", "2", "-extensions", kind, "-config"])
            .arg(self.path("openssl.cnf"))
            .arg("-keyout")
            .arg(self.path(&format!("{kind}.key")))
            .arg("-out")
            .arg(self.path(&format!("{kind}.pem")))
            .args(signed_by)
            .output()
            .expect("openssl");
        assert!(output.status.success(), "openssl: {}", String::from_utf8_lossy(&output.stderr));
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
}

impl Default for Authority {
    fn default() -> Authority {
        Authority::new()
    }
}
