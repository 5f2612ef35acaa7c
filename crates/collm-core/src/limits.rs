//! Every limit that a peer or a caller can run into, in one place. Exceeding one is a named error, never a truncation.

/// Bounds on what one side accepts from the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Positions in one upload frame. Prompts go up in chunks of this size at most, so that an ask never waits behind megabytes.
    pub upload_rows_max: u32,
    /// Bytes of one encoded frame.
    pub frame_bytes_max: usize,
    /// How many tokens back the repetition penalty may reach.
    pub recent_tokens_max: u32,
    /// Tokens whose logits a session may bias.
    pub biased_tokens_max: u32,
    /// Most likely tokens that may be told beside each.
    pub log_probs_max: u32,
    /// Asks of a session that are open at once, and so what one answer can be about.
    pub open_asks_max: u32,
    /// Tokens in one frame that tells how likely they were.
    pub scores_max: u32,
    /// End-of-generation tokens that a session may name.
    pub stop_tokens_max: u32,
    /// Characters of a text that a peer sends (a refusal's message, a session's name).
    pub text_chars_max: usize,
}

impl Limits {
    /// What both sides use unless configured otherwise. 64 rows of f16 states of width 8192 are 1 MiB.
    pub const DEFAULT: Self = Self {
        upload_rows_max: 64,
        frame_bytes_max: 4 << 20,
        recent_tokens_max: 1024,
        biased_tokens_max: 1024,
        log_probs_max: 20,
        open_asks_max: 64,
        scores_max: 256,
        stop_tokens_max: 64,
        text_chars_max: 1024,
    };
}

impl Default for Limits {
    fn default() -> Self {
        Self::DEFAULT
    }
}
