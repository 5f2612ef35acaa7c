//! Who may ask: everybody, or whoever has one of the server's keys.

use axum::{
    extract::{Request, State},
    http::header::AUTHORIZATION,
    middleware::Next,
    response::Response,
};
use collm_node::access::bearer;

use crate::{Api, error::ApiError};

/// Lets requests pass that carry a key, or all if there are none.
pub(crate) async fn check(State(api): State<Api>, request: Request, next: Next) -> Result<Response, ApiError> {
    if !api.keys.is_empty() {
        let value = request.headers().get(AUTHORIZATION).and_then(|value| value.to_str().ok());
        let key = value.and_then(bearer).ok_or(ApiError::NoKey)?;
        if !api.keys.admit(key) {
            return Err(ApiError::WrongKey);
        }
    }
    Ok(next.run(request).await)
}
