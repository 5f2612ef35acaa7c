//! What is logged, to stderr: warnings by default, more with -v; `COLLM_LOG` overrules both.

use anstream::{AutoStream, ColorChoice};
use tracing_subscriber::{EnvFilter, fmt};

/// Starts logging for the whole process, once it is decided whether there are colours.
pub(crate) fn start(verbose: u8) {
    let default = match verbose {
        0 => "warn,collm_ggml=error",
        1 => "info,collm_ggml=warn",
        _ => "debug",
    };
    let filter = EnvFilter::try_from_env("COLLM_LOG").unwrap_or_else(|_| EnvFilter::new(default));
    let colours = AutoStream::choice(&std::io::stderr()) != ColorChoice::Never;
    fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(colours).with_target(verbose > 1).init();
}
