//! Redis with TLS, under our own certificate authority.

use std::path::Path;
use std::process::Command;

use optimist_tests::processes::free_port;
use optimist_tests::stores::Redis;

/// Makes a Redis listen with TLS as well; returns that port and the authority's certificate (PEM).
pub async fn add_to(redis: &Redis, folder: &Path) -> (u16, String) {
    let file = |name: &str| folder.join(name).display().to_string();
    let (authority, authority_key) = (file("authority.crt"), file("authority.key"));
    let (certificate, key, request) = (file("redis.crt"), file("redis.key"), file("redis.csr"));
    let extensions = file("redis.ext");
    std::fs::write(&extensions, "subjectAltName=DNS:localhost,IP:127.0.0.1").expect("a file");
    let curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"];
    let new = |rest: &[&str]| openssl(&[&["req"], &curve[..], rest].concat());
    new(&["-x509", "-days", "2", "-subj", "/CN=bench", "-keyout", &authority_key, "-out", &authority]);
    new(&["-subj", "/CN=localhost", "-keyout", &key, "-out", &request]);
    let signing = ["-CA", &authority, "-CAkey", &authority_key, "-CAcreateserial", "-extfile", &extensions];
    openssl(&[&["x509", "-req", "-days", "2", "-in", &request, "-out", &certificate], &signing[..]].concat());
    let port = free_port();
    let mut command = redis::cmd("CONFIG");
    command.arg("SET").arg(&[
        "tls-cert-file",
        &certificate,
        "tls-key-file",
        &key,
        "tls-ca-cert-file",
        &authority,
    ]);
    command.arg(&["tls-auth-clients", "no", "tls-port", &port.to_string()]);
    let mut connection = redis.connect().await;
    let _: () = command.query_async(&mut connection).await.expect("a Redis that was built with TLS");
    (port, std::fs::read_to_string(authority).expect("a certificate"))
}

fn openssl(arguments: &[&str]) {
    let output = Command::new("openssl").args(arguments).output().expect("openssl");
    assert!(output.status.success(), "openssl: {}", String::from_utf8_lossy(&output.stderr));
}
