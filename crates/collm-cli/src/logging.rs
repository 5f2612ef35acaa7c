//! What is logged, to stderr: warnings by default, more with -v; `COLLM_LOG` overrules both.

use std::io::IsTerminal as _;

use tracing_subscriber::{EnvFilter, fmt};

/// Starts logging for the whole process.
pub(crate) fn start(verbose: u8) {
    let default = match verbose {
        0 => "warn,collm_ggml=error",
        1 => "info,collm_ggml=warn",
        _ => "debug",
    };
    let filter = EnvFilter::try_from_env("COLLM_LOG").unwrap_or_else(|_| EnvFilter::new(default));
    let colours = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(colours).with_target(verbose > 1).init();
}
