//! Who may connect to a server of this project, and who could listen in: keys and encryption, for the cloud and for the
//! edge's API alike. Deliberately absent: how a key travels (metadata there, headers here), which is each server's own.

use std::net::SocketAddr;

use sha2::{Digest, Sha256};
use subtle::{Choice, ConstantTimeEq};
use tracing::warn;

use crate::tls::ServerTls;

/// What protects a server.
#[derive(Debug, Clone, Default)]
pub struct Access {
    /// `None`: what is said can be read on the way.
    pub tls: Option<ServerTls>,
    /// Empty: everybody who can connect may ask.
    pub keys: Keys,
    /// Whether other machines may connect although one of the above is missing: on a network that is trusted.
    pub allow_remote: bool,
}

/// Reachable by others without protection, and without saying that this is meant.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{address} can be reached by other machines, and there is {lacking}; add what is missing, listen on 127.0.0.1, or allow \
     remote clients explicitly if the network is trusted"
)]
pub struct Exposed {
    /// Where it would listen.
    pub address: SocketAddr,
    /// What is missing.
    pub lacking: &'static str,
}

impl Access {
    /// Whether a server so protected may listen there. Says so loudly where it may only because it was allowed to.
    ///
    /// # Errors
    /// When other machines can connect, encryption or keys are missing, and nobody allowed that.
    pub fn check(&self, address: SocketAddr) -> Result<(), Exposed> {
        let Some(lacking) = self.lacking().filter(|_| !address.ip().is_loopback()) else { return Ok(()) };
        if !self.allow_remote {
            return Err(Exposed { address, lacking });
        }
        warn!(
            "other machines can reach {address}, and there is {lacking}: whoever is on the network can read or use it"
        );
        Ok(())
    }

    fn lacking(&self) -> Option<&'static str> {
        match (&self.tls, self.keys.is_empty()) {
            (None, true) => Some("neither encryption nor a key"),
            (None, false) => Some("no encryption"),
            (Some(_), true) => Some("no key"),
            (Some(_), false) => None,
        }
    }
}

/// Digests of keys. Digests have one length, so comparing them tells nothing about a key, its length included.
#[derive(Debug, Clone, Default)]
pub struct Keys(Vec<[u8; 32]>);

impl Keys {
    /// Whether no key is asked for.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Compares with all keys, however early one fits.
    pub fn admit(&self, key: &str) -> bool {
        let digest = digest(key);
        self.0.iter().fold(Choice::from(0), |found, known| found | known.ct_eq(&digest)).into()
    }
}

impl FromIterator<String> for Keys {
    fn from_iter<I: IntoIterator<Item = String>>(keys: I) -> Self {
        Self(keys.into_iter().map(|key| digest(&key)).collect())
    }
}

/// The key in the value of an `authorization` header or metadatum: `Bearer KEY`.
pub fn bearer(value: &str) -> Option<&str> {
    let (scheme, key) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| key.trim())
}

fn digest(key: &str) -> [u8; 32] {
    Sha256::digest(key).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(keys: &[&str]) -> Keys {
        keys.iter().map(|key| (*key).to_owned()).collect()
    }

    #[test]
    fn any_of_the_keys_fits_and_no_other() {
        let keys = keys(&["one", "two"]);
        assert!(keys.admit("one") && keys.admit("two"));
        assert!(!keys.admit("three") && !keys.admit("") && !keys.admit("one,two"));
    }

    #[test]
    fn a_bearer_is_named_in_any_case() {
        assert_eq!(bearer("bearer  one "), Some("one"));
        assert_eq!(bearer("Basic one"), None);
        assert_eq!(bearer("one"), None);
    }

    #[test]
    fn what_others_reach_needs_protection_or_permission() {
        let (near, far) = (SocketAddr::from(([127, 0, 0, 1], 1)), SocketAddr::from(([0, 0, 0, 0], 1)));
        let keyed = Access { keys: keys(&["one"]), ..Access::default() };
        assert_eq!(Access::default().check(near), Ok(()));
        assert!(Access::default().check(far).is_err_and(|exposed| exposed.lacking.contains("neither")));
        assert!(keyed.check(far).is_err_and(|exposed| exposed.lacking.contains("encryption")));
        assert_eq!(Access { allow_remote: true, ..keyed }.check(far), Ok(()));
    }
}
