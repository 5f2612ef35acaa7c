//! Encryption and keys as arguments say: an edge and a cloud process, and who asks the edge.

use std::{fs, path::PathBuf};

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use serde_json::Value;
use tempfile::TempDir;

use crate::harness::{Parts, Server, collm, run_err, run_ok, stderr, stdout};

/// Certificates of an authority that lives as long as this, and keys to ask with.
struct Secrets {
    folder: TempDir,
}

impl Secrets {
    fn make() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut authority = CertificateParams::new(Vec::new()).expect("no names");
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        authority.distinguished_name.push(DnType::CommonName, "an authority of this test");
        let signing = KeyPair::generate().expect("randomness");
        let root = authority.self_signed(&signing).expect("a certificate");
        let key = KeyPair::generate().expect("randomness");
        let server = CertificateParams::new(vec!["localhost".to_owned()]).expect("a name");
        let certificate = server.signed_by(&key, &Issuer::new(authority, signing)).expect("a certificate");
        let secrets = Self { folder };
        for (name, text) in [
            ("ca", root.pem()),
            ("cert", certificate.pem()),
            ("key", key.serialize_pem()),
            ("keys", "# who may ask\none\ntwo\n".to_owned()),
            ("wrong", "three\n".to_owned()),
        ] {
            fs::write(secrets.folder.path().join(name), text).expect("room for a file");
        }
        secrets
    }

    fn path(&self, name: &str) -> String {
        let path: PathBuf = self.folder.path().join(name);
        path.display().to_string()
    }

    /// A server that encrypts and asks for a key.
    fn server(&self, arguments: &[&str]) -> Server {
        let (certificate, key, keys) = (self.path("cert"), self.path("key"), self.path("keys"));
        let access =
            ["--tls-cert", &certificate, "--tls-key", &key, "--api-key-file", &keys, "--listen", "127.0.0.1:0"];
        Server::start(&[arguments, &access].concat())
    }
}

/// The name that the certificate is for.
fn https(server: &Server) -> String {
    format!("https://localhost:{}", server.address.port())
}

#[test]
fn everything_is_encrypted_from_question_to_cloud() {
    let (parts, secrets) = (Parts::split(), Secrets::make());
    let cloud = secrets.server(&["cloud", "--part", &parts.cloud()]);
    let (part, url, ca, keys) = (parts.edge(), https(&cloud), secrets.path("ca"), secrets.path("keys"));
    let of_cloud = ["--part", &part, "--cloud", &url, "--cloud-ca", &ca, "--cloud-key-file", &keys];
    let edge = secrets.server(&[&["edge"], &of_cloud[..]].concat());
    let question = ["run", "Why is the sky blue?", "--max-tokens", "24", "--json", "--quiet"];
    let of_edge = ["--edge", &https(&edge), "--edge-ca", &ca, "--api-key", "two"];
    let answer: Value = serde_json::from_str(&run_ok(&[&question, &of_edge[..]].concat())).expect("a report");
    assert_eq!(answer["degraded"], false, "{answer}");
    assert!(answer["stats"]["asks"].as_u64() > Some(0), "{answer}");

    for (options, expected) in
        [(&["--edge-ca", &ca, "--api-key", "three"][..], "key"), (&["--api-key", "two"], "--edge-ca")]
    {
        let (message, _) = run_err(&[&question[..], &["--edge", &https(&edge)], options].concat());
        assert!(message.contains(expected), "{message}");
    }
}

#[test]
fn a_cloud_that_does_not_let_the_edge_in_says_what_to_do() {
    let (parts, secrets) = (Parts::split(), Secrets::make());
    let cloud = secrets.server(&["cloud", "--part", &parts.cloud()]);
    let (ca, wrong, key, url) = (secrets.path("ca"), secrets.path("wrong"), secrets.path("keys"), https(&cloud));
    let common =
        ["run", "Why is the sky blue?", "--part", &parts.edge(), "--cloud", &url, "--max-tokens", "16", "--quiet"];
    for (options, expected) in [
        (&["--cloud-ca", &ca, "--cloud-key-file", &wrong][..], "does not know this edge's key"),
        (&["--cloud-ca", &ca], "--cloud-key-file"),
        (&["--cloud-key-file", &key], "--cloud-ca"),
    ] {
        let output = collm(&[&common, options].concat()).output().expect("the program starts");
        assert!(stderr(&output).contains(expected), "{}", stderr(&output));
        assert!(output.status.success() && !stdout(&output).trim().is_empty(), "the edge answers alone");
    }
}

#[test]
fn files_that_are_no_secrets_are_refused_before_anything_is_loaded() {
    let secrets = Secrets::make();
    let (certificate, key, empty) = (secrets.path("cert"), secrets.path("key"), secrets.path("nothing"));
    for (options, expected) in [
        (["--tls-cert", &certificate, "--tls-key", &certificate], "holds no private key"),
        (["--tls-cert", &empty, "--tls-key", &key], "cannot read"),
        (["--api-key-file", &empty, "--listen", "127.0.0.1:0"], "cannot read the keys"),
    ] {
        let (message, _) = run_err(&[&["edge", "--model", "/nowhere"], &options[..]].concat());
        assert!(message.contains(expected), "{message}");
    }
    let (message, code) = run_err(&["cloud", "--model", "m", "--tls-cert", &certificate]);
    assert!(message.contains("--tls-key") && code == 2, "{message}");
}

#[test]
fn the_doctor_knocks_as_an_edge_would() {
    let (parts, others, secrets) =
        (Parts::split(), Parts::split_with(&["--upload-at", "12", "--tail", "20-29"]), Secrets::make());
    let cloud = secrets.server(&["cloud", "--part", &parts.cloud()]);
    let (url, ca, keys, wrong) = (https(&cloud), secrets.path("ca"), secrets.path("keys"), secrets.path("wrong"));
    let doctor = ["doctor", "--cloud", &url, "--cloud-ca", &ca];
    let said = run_ok(&[&doctor[..], &["--part", &parts.edge(), "--cloud-key-file", &keys]].concat());
    for expected in ["encrypted", "round trip", "clocks agree", "it serves this part", "wait for each other's cores"] {
        assert!(said.contains(expected), "{expected}: {said}");
    }
    assert!(run_ok(&[&doctor[..], &["--cloud-key-file", &keys]].concat()).contains("add --part FILE"));
    for (options, expected) in [
        (&["--cloud-key-file", &wrong][..], "does not know this edge's key"),
        (&["--cloud-key-file", &keys, "--part", &others.edge()], "use both files of one split"),
    ] {
        let output = collm(&[&doctor[..], options].concat()).output().expect("the program starts");
        assert!(stdout(&output).contains(expected) && !output.status.success(), "{}", stdout(&output));
    }
}
