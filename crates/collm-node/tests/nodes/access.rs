//! Encryption and keys between real nodes, with certificates made here.

use std::{fs, net::SocketAddr, path::PathBuf};

use collm_core::policy::Mode;
use collm_engine::scripted::ScriptedEngine;
use collm_node::{
    CloudEndpoint, CloudKey, CloudOptions,
    access::{Access, Keys},
    tls::{Authorities, ServerTls, TlsFileError},
};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use tempfile::TempDir;

use crate::world::{Ended, RunningCloud, answer, cloud_options, edge_config, request, script, sizes, start_edge};

/// An authority with one certificate that it signed, as files.
struct Issued {
    folder: TempDir,
}

impl Issued {
    /// A certificate for the server of this name or address.
    fn to(server: &str) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut authority = CertificateParams::new(Vec::new()).expect("no names");
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let signing = KeyPair::generate().expect("randomness");
        let root = authority.self_signed(&signing).expect("a certificate");
        let key = KeyPair::generate().expect("randomness");
        let issuer = Issuer::new(authority, signing);
        let server = CertificateParams::new(vec![server.to_owned()]).expect("a name");
        let certificate = server.signed_by(&key, &issuer).expect("a certificate");
        let issued = Self { folder };
        for (name, pem) in [("ca", root.pem()), ("cert", certificate.pem()), ("key", key.serialize_pem())] {
            fs::write(issued.path(name), pem).expect("room for a file");
        }
        issued
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn server(&self) -> ServerTls {
        ServerTls::load(&self.path("cert"), &self.path("key")).expect("the two are a pair")
    }

    fn authorities(&self) -> Authorities {
        Authorities::load(&self.path("ca")).expect("a certificate")
    }
}

fn keys(keys: &[&str]) -> Keys {
    keys.iter().map(|key| (*key).to_owned()).collect()
}

async fn cloud(access: Access) -> RunningCloud {
    RunningCloud::start_with(CloudOptions { access, ..cloud_options() }).await
}

fn encrypted(address: SocketAddr) -> CloudEndpoint {
    CloudEndpoint::new(format!("https://{address}"))
}

/// One answer of an edge with this cloud.
async fn ask(cloud: CloudEndpoint) -> Ended {
    let edge = start_edge(edge_config(), Some(cloud), ScriptedEngine::edge(script(), sizes())).await;
    answer(&edge, request(1, Mode::Collaborative)).await
}

#[track_caller]
fn together(ended: &Ended) {
    assert_eq!((ended.tokens.len(), ended.losses.as_slice()), (60, &[][..]));
    assert!(ended.finished.stats.asks > 0, "the cloud was needed");
}

/// The answer is complete without the cloud, and says why it had to be.
#[track_caller]
fn alone(ended: &Ended, expected: &str) {
    assert!(ended.losses[0].contains(expected), "{:?} lacks {expected:?}", ended.losses);
    assert_eq!((ended.tokens.len(), ended.is_degraded()), (60, true));
}

#[tokio::test]
async fn answers_come_over_an_encrypted_connection() {
    let issued = Issued::to("127.0.0.1");
    let cloud = cloud(Access { tls: Some(issued.server()), keys: keys(&["one", "two"]), allow_remote: false }).await;
    let authorities = Some(issued.authorities());
    let key = Some(CloudKey::new("two").expect("a key"));
    together(&ask(CloudEndpoint { authorities, key, ..encrypted(cloud.address) }).await);
}

#[tokio::test]
async fn a_certificate_that_is_not_trusted_is_told_with_what_to_do() {
    let issued = Issued::to("127.0.0.1");
    let cloud = cloud(Access { tls: Some(issued.server()), ..Access::default() }).await;
    let others = Some(Issued::to("127.0.0.1").authorities());
    alone(&ask(CloudEndpoint { authorities: others, ..encrypted(cloud.address) }).await, "--cloud-ca");
    alone(&ask(encrypted(cloud.address)).await, "--cloud-ca");
}

#[tokio::test]
async fn a_certificate_of_another_name_is_told_with_what_to_do() {
    let issued = Issued::to("cloud.example");
    let cloud = cloud(Access { tls: Some(issued.server()), ..Access::default() }).await;
    let authorities = Some(issued.authorities());
    alone(&ask(CloudEndpoint { authorities, ..encrypted(cloud.address) }).await, "use the name");
}

#[tokio::test]
async fn one_side_that_encrypts_alone_reaches_nobody() {
    let issued = Issued::to("127.0.0.1");
    let open = RunningCloud::start().await;
    let authorities = Some(issued.authorities());
    alone(&ask(CloudEndpoint { authorities, ..encrypted(open.address) }).await, "write http://");
    let closed = cloud(Access { tls: Some(issued.server()), ..Access::default() }).await;
    alone(&ask(CloudEndpoint::new(closed.url())).await, "connection to the cloud is lost");
}

#[tokio::test]
async fn a_key_that_does_not_fit_is_refused_once() {
    let cloud = cloud(Access { keys: keys(&["one", "two"]), ..Access::default() }).await;
    let with_key = |key: Option<&str>| {
        let key = key.map(|key| CloudKey::new(key).expect("a key"));
        ask(CloudEndpoint { key, ..CloudEndpoint::new(cloud.url()) })
    };
    together(&with_key(Some("one")).await);
    for (key, expected) in [(Some("one,two"), "does not know this edge's key"), (None, "--cloud-key-file")] {
        let ended = with_key(key).await;
        alone(&ended, expected);
        assert_eq!(ended.finished.stats.connections, 1, "what will not change is not tried again");
    }
}

#[test]
fn files_of_no_use_are_named() {
    let (issued, other) = (Issued::to("127.0.0.1"), Issued::to("127.0.0.1"));
    let [certificate, key, missing] = ["cert", "key", "nothing"].map(|name| issued.path(name));
    let load = ServerTls::load;
    assert!(matches!(load(&missing, &key), Err(TlsFileError::Unreadable { path, .. }) if path == missing));
    assert!(matches!(load(&key, &key), Err(TlsFileError::NoCertificate { path }) if path == key));
    assert!(matches!(load(&certificate, &certificate), Err(TlsFileError::NoKey { path }) if path == certificate));
    assert!(matches!(load(&certificate, &other.path("key")), Err(TlsFileError::NoPair { .. })));
    assert!(matches!(Authorities::load(&key), Err(TlsFileError::NoCertificate { .. })));
}
