//! Which answers an experiment is made of.

use std::time::Duration;

use collm_link::{Bandwidth, LinkSpec};

use super::{super::subject::Subject, Row, Variant};
use crate::{args::ExperimentArgs, prompts::AskedFor};

/// Every prompt, at every distance, in every way.
#[derive(Debug)]
pub(in crate::commands::bench) struct Plan {
    pub(in crate::commands::bench) prompts: Vec<AskedFor>,
    /// Round-trip times.
    pub(in crate::commands::bench) rtts: Vec<Duration>,
    /// In the order they take turns. The first is what the others are compared with.
    pub(in crate::commands::bench) variants: Vec<Variant>,
    /// Prompts that slow variants answer.
    pub(in crate::commands::bench) slow_limit: usize,
    /// Each way.
    pub(in crate::commands::bench) bandwidth: Bandwidth,
    /// Of an answer.
    pub(in crate::commands::bench) tokens_max: u32,
}

/// One answer to make.
#[derive(Debug, Clone, Copy)]
pub(in crate::commands::bench) struct Run<'a> {
    pub(in crate::commands::bench) prompt: usize,
    pub(in crate::commands::bench) rtt: Duration,
    pub(in crate::commands::bench) variant: &'a Variant,
}

impl Run<'_> {
    /// Whether this is its row.
    pub(super) fn made(&self, row: &Row) -> bool {
        row.prompt == self.prompt && row.rtt_ms == rtt_ms(self.rtt) && row.variant == self.variant.name
    }

    /// Runs that take about as long.
    pub(super) fn kind(&self) -> (Duration, &'static str) {
        (self.rtt, self.variant.name)
    }
}

pub(in crate::commands::bench) fn rtt_ms(rtt: Duration) -> f64 {
    rtt.as_secs_f64() * 1e3
}

impl Plan {
    /// All of them, in order: what is compared is neighbours in time.
    pub(in crate::commands::bench) fn runs(&self) -> Vec<Run<'_>> {
        let mut runs = Vec::new();
        for prompt in 0..self.prompts.len() {
            for &rtt in &self.rtts {
                let variants = self.variants.iter().filter(|variant| !variant.slow || prompt < self.slow_limit);
                runs.extend(variants.map(|variant| Run { prompt, rtt, variant }));
            }
        }
        runs
    }

    /// What the answers are about.
    pub(in crate::commands::bench) fn subject<'a>(&self, common: &'a ExperimentArgs) -> anyhow::Result<Subject<'a>> {
        Subject::of(common, self.prompts.iter().map(|asked| asked.prompt.as_str()), self.tokens_max)
    }

    pub(super) fn link(&self, rtt: Duration) -> LinkSpec {
        LinkSpec { rtt, up: self.bandwidth, down: self.bandwidth, ..LinkSpec::PERFECT }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use collm_core::policy::Mode;

    use super::*;

    /// Cloud-only and a slow way, on three prompts at two distances.
    pub(in crate::commands::bench::answering) fn plan() -> Plan {
        let asked = |prompt: &str| AskedFor { prompt: prompt.to_owned(), ..AskedFor::default() };
        Plan {
            prompts: ["a", "b", "c"].map(asked).to_vec(),
            rtts: vec![Duration::ZERO, Duration::from_millis(80)],
            variants: vec![Variant::new("cloud-only", Mode::Cloud), Variant::new("naive", Mode::Naive).slow()],
            slow_limit: 1,
            bandwidth: "30mbit".parse().expect("a bandwidth"),
            tokens_max: 8,
        }
    }

    #[test]
    fn variants_take_turns_and_slow_ones_answer_fewer_prompts() {
        let plan = plan();
        let runs: Vec<(usize, u128, &str)> =
            plan.runs().iter().map(|run| (run.prompt, run.rtt.as_millis(), run.variant.name)).collect();
        let first = [(0, 0, "cloud-only"), (0, 0, "naive"), (0, 80, "cloud-only"), (0, 80, "naive")];
        let rest = [(1, 0, "cloud-only"), (1, 80, "cloud-only"), (2, 0, "cloud-only"), (2, 80, "cloud-only")];
        assert_eq!(runs, [first, rest].concat());
    }
}
