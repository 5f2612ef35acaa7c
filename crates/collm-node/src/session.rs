//! Names of sessions: where randomness enters.

use collm_core::ids::SessionId;

/// The system gave no random numbers.
#[derive(Debug, thiserror::Error)]
#[error("no name for a session: the system's random numbers are out of order: {0}")]
pub struct SessionIdError(#[from] getrandom::Error);

/// A session nobody else knows or can guess.
///
/// # Errors
/// When the system has no random numbers.
pub fn fresh_session() -> Result<SessionId, SessionIdError> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes)?;
    Ok(SessionId(u128::from_be_bytes(bytes)))
}
