//! Who may ask: everybody, or whoever has one of the server's keys.

use axum::{
    extract::{Request, State},
    http::header::AUTHORIZATION,
    middleware::Next,
    response::Response,
};
use sha2::{Digest, Sha256};
use subtle::{Choice, ConstantTimeEq};

use crate::{Api, error::ApiError};

/// Digests of keys. Digests have one length, so comparing them tells nothing about a key, its length included.
#[derive(Default)]
pub(crate) struct Keys(Vec<[u8; 32]>);

impl Keys {
    /// Compares with all keys, however early one fits.
    fn admit(&self, key: &str) -> bool {
        let digest = digest(key);
        self.0.iter().fold(Choice::from(0), |found, known| found | known.ct_eq(&digest)).into()
    }
}

impl FromIterator<String> for Keys {
    fn from_iter<I: IntoIterator<Item = String>>(keys: I) -> Self {
        Self(keys.into_iter().map(|key| digest(&key)).collect())
    }
}

fn digest(key: &str) -> [u8; 32] {
    Sha256::digest(key).into()
}

/// Lets requests pass that carry a key, or all if there are none.
pub(crate) async fn check(State(api): State<Api>, request: Request, next: Next) -> Result<Response, ApiError> {
    if !api.keys.0.is_empty() {
        let key = bearer(&request).ok_or(ApiError::NoKey)?;
        if !api.keys.admit(key) {
            return Err(ApiError::WrongKey);
        }
    }
    Ok(next.run(request).await)
}

fn bearer(request: &Request) -> Option<&str> {
    let (scheme, key) = request.headers().get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| key.trim())
}
