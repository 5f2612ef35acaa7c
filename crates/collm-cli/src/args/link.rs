//! Arguments that describe an emulated link.

use std::time::Duration;

use clap::Args;
use collm_link::{Bandwidth, LinkSpec};

use super::values;

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  collm link --rtt 80ms --up 30mbit --down 100mbit --to 127.0.0.1:7070
  collm link --rtt 20ms --jitter 5ms --listen 127.0.0.1:7071 --to cloud.example:7070

Then point the edge at the link instead of the cloud: collm edge --cloud http://127.0.0.1:7071 …
Ctrl-c ends it and prints what has passed.")]
pub(crate) struct LinkArgs {
    /// Where the link leads
    #[arg(long, value_name = "HOST:PORT")]
    pub(crate) to: String,

    /// Where it listens; port 0 picks a free one
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:0")]
    pub(crate) listen: String,

    #[command(flatten)]
    pub(crate) shape: LinkShapeArgs,

    /// Each chunk takes up to this much longer
    #[arg(long, value_name = "TIME", default_value = "0ms", value_parser = values::duration)]
    pub(crate) jitter: Duration,

    /// Names the jitter: the same seed draws the same
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) seed: u64,
}

/// The link of a home or an office, as in the paper's measurements: about 30 Mbit/s.
#[derive(Debug, Clone, Args)]
pub(crate) struct LinkShapeArgs {
    /// Round-trip time
    #[arg(long, value_name = "TIME", default_value = "20ms", value_parser = values::duration)]
    pub(crate) rtt: Duration,

    /// Bandwidth from the edge, as in 30mbit, 500kbit or unlimited
    #[arg(long, value_name = "RATE", default_value = "30mbit")]
    pub(crate) up: Bandwidth,

    /// Bandwidth to the edge
    #[arg(long, value_name = "RATE", default_value = "100mbit")]
    pub(crate) down: Bandwidth,
}

impl LinkArgs {
    pub(crate) fn spec(&self) -> LinkSpec {
        LinkSpec { jitter: self.jitter, seed: self.seed, ..self.shape.spec() }
    }
}

impl LinkShapeArgs {
    pub(crate) fn spec(&self) -> LinkSpec {
        LinkSpec { rtt: self.rtt, up: self.up, down: self.down, ..LinkSpec::PERFECT }
    }
}
