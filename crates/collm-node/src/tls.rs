//! Encryption of connections: certificates from files, in words of what people can do about them.
//!
//! Deliberately absent: making certificates, renewing them (restart the server), and certificates of clients (keys say who
//! they are).

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        self, CertificateError, ServerConfig,
        crypto::ring,
        pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    },
};
use tonic::transport::{Certificate, ClientTlsConfig};

/// Why files are of no use for encryption.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TlsFileError {
    /// It cannot be read.
    #[error("cannot read {path}: {source}")]
    Unreadable {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It is no file of certificates.
    #[error("{path} holds no certificate; give a PEM file, with lines -----BEGIN CERTIFICATE-----")]
    NoCertificate {
        /// Which file.
        path: PathBuf,
    },
    /// It is no file of a key.
    #[error("{path} holds no private key; give a PEM file, with a line like -----BEGIN PRIVATE KEY-----")]
    NoKey {
        /// Which file.
        path: PathBuf,
    },
    /// The two do not belong together, or are of a kind that is not supported.
    #[error(
        "the certificate {certificates} and the key {key} are no pair: {source}; give the two that were issued together"
    )]
    NoPair {
        /// The file of the server's certificate.
        certificates: PathBuf,
        /// The file of its key.
        key: PathBuf,
        /// Why.
        source: rustls::Error,
    },
}

/// A server's certificate and key.
#[derive(Debug, Clone)]
pub struct ServerTls(ServerConfig);

impl ServerTls {
    /// From PEM files: the server's certificate followed by those that signed it, and its key.
    ///
    /// # Errors
    /// When a file is of no use, or the two do not belong together.
    pub fn load(certificates: &Path, key: &Path) -> Result<Self, TlsFileError> {
        let chain = read_certificates(certificates)?.1;
        let private =
            PrivateKeyDer::from_pem_slice(&read(key)?).map_err(|_| TlsFileError::NoKey { path: key.to_owned() })?;
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("the provider has ciphers for TLS 1.2 and 1.3")
            .with_no_client_auth()
            .with_single_cert(chain, private)
            .map_err(|source| {
                let (certificates, key) = (certificates.to_owned(), key.to_owned());
                TlsFileError::NoPair { certificates, key, source }
            })?;
        Ok(Self(config))
    }

    /// What connections are taken with, for clients that speak `protocol` (as ALPN names it).
    pub(crate) fn acceptor(&self, protocol: &[u8]) -> TlsAcceptor {
        let mut config = self.0.clone();
        config.alpn_protocols = vec![protocol.to_vec()];
        TlsAcceptor::from(Arc::new(config))
    }
}

/// Certificates of those whose signature on a server's certificate is believed.
#[derive(Debug, Clone)]
pub struct Authorities(Certificate);

impl Authorities {
    /// From a PEM file.
    ///
    /// # Errors
    /// When the file is of no use.
    pub fn load(path: &Path) -> Result<Self, TlsFileError> {
        Ok(Self(Certificate::from_pem(read_certificates(path)?.0)))
    }
}

/// How a client checks its server: with these authorities, or with the system's and those that browsers trust.
pub(crate) fn client(authorities: Option<&Authorities>) -> ClientTlsConfig {
    match authorities {
        Some(Authorities(certificates)) => ClientTlsConfig::new().ca_certificate(certificates.clone()),
        // A system without any, as in a small container, is no fault.
        None if rustls_native_certs::load_native_certs().certs.is_empty() => ClientTlsConfig::new().with_webpki_roots(),
        None => ClientTlsConfig::new().with_webpki_roots().with_native_roots(),
    }
}

/// What to do when a connection failed for this, if it is about encryption.
pub(crate) fn advice(error: &(dyn std::error::Error + 'static)) -> Option<&'static str> {
    match tls_error(error)? {
        // A wrong signature: another authority of the same name.
        rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer | CertificateError::BadSignature) => {
            Some("name the authority that signed the cloud's certificate with --cloud-ca FILE")
        }
        rustls::Error::InvalidCertificate(
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
        ) => Some("use the name that the cloud's certificate is for"),
        rustls::Error::InvalidCertificate(
            CertificateError::Expired
            | CertificateError::ExpiredContext { .. }
            | CertificateError::NotValidYet
            | CertificateError::NotValidYetContext { .. },
        ) => Some("renew the cloud's certificate, or set this machine's clock"),
        rustls::Error::InvalidMessage(_) => {
            Some("the cloud seems to speak without TLS: write http://, or give it --tls-cert")
        }
        _ => None,
    }
}

/// Errors of encryption travel inside those of input and output.
fn tls_error<'a>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a rustls::Error> {
    let inner = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
    error.downcast_ref().or_else(|| inner?.downcast_ref())
}

/// The bytes of a file that holds at least one certificate, and the certificates.
fn read_certificates(path: &Path) -> Result<(Vec<u8>, Vec<CertificateDer<'static>>), TlsFileError> {
    let bytes = read(path)?;
    let certificates = CertificateDer::pem_slice_iter(&bytes).collect::<Result<Vec<_>, _>>().unwrap_or_default();
    if certificates.is_empty() {
        return Err(TlsFileError::NoCertificate { path: path.to_owned() });
    }
    Ok((bytes, certificates))
}

fn read(path: &Path) -> Result<Vec<u8>, TlsFileError> {
    fs::read(path).map_err(|source| TlsFileError::Unreadable { path: path.to_owned(), source })
}
