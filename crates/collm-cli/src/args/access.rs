//! Arguments about keys and encryption: a server's own, and those of its clients.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};
use clap::{Args, builder::NonEmptyStringValueParser};
use collm_node::{
    CloudEndpoint, CloudKey,
    access::{Access, Keys},
    tls::{Authorities, ServerTls},
};
use tracing::warn;

/// Who may connect to a server that is started here.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Access")]
pub(crate) struct ServerAccessArgs {
    /// Encrypt with this certificate: a PEM file, the server's certificate first, then those that signed it
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    pub(crate) tls_cert: Option<PathBuf>,

    /// The private key of --tls-cert, a PEM file
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    pub(crate) tls_key: Option<PathBuf>,

    /// Answer only those who send this key as `Authorization: Bearer KEY`; several are separated by commas. Other people on
    /// this machine can read arguments, but not the environment
    #[arg(
        long = "api-key",
        value_name = "KEY",
        env = "COLLM_API_KEY",
        hide_env_values = true,
        value_delimiter = ',',
        value_parser = NonEmptyStringValueParser::new()
    )]
    pub(crate) keys: Vec<String>,

    /// Answer those who send one of the keys in this file: one a line, lines that begin with # are comments
    #[arg(long = "api-key-file", value_name = "FILE")]
    pub(crate) key_file: Option<PathBuf>,

    /// Let other machines connect although encryption or keys are missing. Text can be guessed from uploaded states
    #[arg(long)]
    pub(crate) allow_remote: bool,
}

impl ServerAccessArgs {
    /// Reads the files.
    pub(crate) fn settle(&self) -> anyhow::Result<ServerAccess> {
        let mut keys = self.keys.clone();
        if let Some(file) = &self.key_file {
            keys.extend(keys_in(file)?);
        }
        let tls = match (&self.tls_cert, &self.tls_key) {
            (Some(certificate), Some(key)) => Some(ServerTls::load(certificate, key)?),
            _ => None,
        };
        let access = Access { tls, keys: keys.iter().cloned().collect::<Keys>(), allow_remote: self.allow_remote };
        Ok(ServerAccess { access, keys })
    }
}

/// A server's protection, and the keys themselves for who checks them elsewhere.
#[derive(Debug, Default)]
pub(crate) struct ServerAccess {
    pub(crate) access: Access,
    pub(crate) keys: Vec<String>,
}

/// How an edge shows its cloud who it is, and the cloud who that is.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "The way to the cloud")]
pub(crate) struct CloudAccessArgs {
    /// For https: believe certificates that these authorities signed (a PEM file), in place of those that the system and
    /// browsers trust
    #[arg(long, value_name = "FILE")]
    pub(crate) cloud_ca: Option<PathBuf>,

    /// The key that the cloud asks for
    #[arg(
        long,
        value_name = "KEY",
        env = "COLLM_CLOUD_KEY",
        hide_env_values = true,
        value_parser = NonEmptyStringValueParser::new()
    )]
    pub(crate) cloud_key: Option<String>,

    /// A file whose first line is the key that the cloud asks for
    #[arg(long, value_name = "FILE", conflicts_with = "cloud_key")]
    pub(crate) cloud_key_file: Option<PathBuf>,
}

impl CloudAccessArgs {
    /// The cloud at `url`, approached like this.
    pub(crate) fn endpoint(&self, url: &str) -> anyhow::Result<CloudEndpoint> {
        let key = first_key(self.cloud_key.as_deref(), self.cloud_key_file.as_deref())?;
        let endpoint = CloudEndpoint {
            authorities: self.cloud_ca.as_deref().map(Authorities::load).transpose()?,
            key: key.as_deref().map(CloudKey::new).transpose()?,
            ..CloudEndpoint::new(url)
        };
        if endpoint.key.is_some() && !endpoint.is_encrypted() && !endpoint.is_on_this_machine() {
            warn!("the key goes to {url} without encryption: whoever is on the way can use it; write https://");
        }
        Ok(endpoint)
    }
}

/// How somebody who asks a running edge shows who they are, and the edge who that is.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "The way to the edge")]
pub(crate) struct EdgeAccessArgs {
    /// For https: believe certificates that these authorities signed (a PEM file), in place of those that browsers trust
    #[arg(long, value_name = "FILE")]
    pub(crate) edge_ca: Option<PathBuf>,

    /// The key that the edge asks for
    #[arg(
        long,
        value_name = "KEY",
        env = "COLLM_API_KEY",
        hide_env_values = true,
        value_parser = NonEmptyStringValueParser::new()
    )]
    pub(crate) api_key: Option<String>,

    /// A file whose first line is the key that the edge asks for
    #[arg(long, value_name = "FILE", conflicts_with = "api_key")]
    pub(crate) api_key_file: Option<PathBuf>,
}

impl EdgeAccessArgs {
    pub(crate) fn key(&self) -> anyhow::Result<Option<String>> {
        first_key(self.api_key.as_deref(), self.api_key_file.as_deref())
    }
}

fn first_key(key: Option<&str>, file: Option<&Path>) -> anyhow::Result<Option<String>> {
    match (key, file) {
        (Some(key), _) => Ok(Some(key.to_owned())),
        (None, Some(file)) => Ok(keys_in(file)?.into_iter().next()),
        (None, None) => Ok(None),
    }
}

/// The keys of a file; never none.
fn keys_in(file: &Path) -> anyhow::Result<Vec<String>> {
    let text = std::fs::read_to_string(file).with_context(|| format!("cannot read the keys in {}", file.display()))?;
    warn_if_public(file);
    let keys = keys_of(&text);
    ensure!(!keys.is_empty(), "{} holds no key; write one with: openssl rand -hex 32", file.display());
    Ok(keys)
}

fn keys_of(text: &str) -> Vec<String> {
    text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')).map(str::to_owned).collect()
}

#[cfg(unix)]
fn warn_if_public(file: &Path) {
    use std::os::unix::fs::PermissionsExt as _;
    if std::fs::metadata(file).is_ok_and(|found| found.permissions().mode() & 0o004 != 0) {
        warn!("everybody on this machine can read the keys in {}; run: chmod 600 {0}", file.display());
    }
}

#[cfg(not(unix))]
fn warn_if_public(_: &Path) {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_file_has_one_key_a_line() {
        assert_eq!(keys_of("# of the gateway\none\n\n  two  \n"), ["one", "two"]);
        assert!(keys_of("# none\n").is_empty());
    }
}
