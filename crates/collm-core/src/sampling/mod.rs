//! From logits to a token and a confidence: a pure function of logits, settings, position and the tokens before.
//!
//! With a temperature the token is `argmax(logit / T + gumbel(seed, position, token))` over the tokens that top-k, top-p and
//! min-p keep (the Gumbel-max trick). The noise comes from a counter, not from a stream, so edge and cloud draw the same
//! noise at the same position whatever each computed before: a good guess stays a good guess, and a seed names one text.
//! `libm` instead of the platform's mathematics, since both ends must agree to the last bit.
//!
//! [`Sampling`] is what a requester says, [`Scoring`] one row's share of it, [`choose()`] (modules `choose`, `draw`) what comes of it;
//! `penalties` is what makes tokens more or less likely, [`crate::grammar`] what makes them impossible, [`LogProbs`] what can be told
//! beside the token.

mod choose;
mod draw;
mod log_probs;
mod penalties;
mod settings;
pub(crate) mod softmax;

pub use choose::{Choice, LogitsError, Scored, Scoring, choose, choose_within};
pub use log_probs::{LogProb, LogProbs};
pub use settings::{Sampling, SamplingError};
