//! Arguments of the experiments of `collm bench`: what is measured in long runs that can be interrupted.

use std::{path::PathBuf, time::Duration};

use clap::Args;
use collm_core::policy::Threshold;
use collm_link::Bandwidth;
use collm_model::ExitsFile;

use super::{
    ExitsChoice,
    values::{self, Auto},
};

/// What all experiments let people choose.
#[derive(Debug, Args)]
pub(crate) struct ExperimentArgs {
    /// File of prompts, a JSON object a line with a field prompt, turns (the first is taken) or instruction
    #[arg(long, value_name = "FILE")]
    pub(crate) prompts: PathBuf,

    /// Small numbers, for a look; what is given besides counts
    #[arg(long)]
    pub(crate) quick: bool,

    /// Bandwidth of the link, each way
    #[arg(long, value_name = "RATE", default_value = "30mbit")]
    pub(crate) bandwidth: Bandwidth,

    /// Model to split: path or reference
    #[arg(long, value_name = "REF", default_value = "smollm2-135m")]
    pub(crate) model: String,

    /// File of fitted exits to split it with; none leaves out those that come with this program
    #[arg(long, value_name = "FILE|none")]
    pub(crate) exits: Option<ExitsChoice>,

    /// Arguments for the edge besides, as in "--feed tokens" or "--upload-when lazy"
    #[arg(long, value_name = "ARGUMENTS", allow_hyphen_values = true, default_value = "", hide_default_value = true)]
    pub(crate) edge_args: String,

    /// Folder for machine, commit, command, rows as they come, summary and plots. One that was made with the same settings goes on
    /// after its rows; without a folder nothing is kept
    #[arg(long, value_name = "DIR")]
    pub(crate) out: Option<PathBuf>,
}

impl ExperimentArgs {
    /// As settings name it: a file by its content, which a calibration changes in place.
    pub(crate) fn exits_name(&self) -> anyhow::Result<String> {
        match &self.exits {
            None => Ok("those of the program".to_owned()),
            Some(ExitsChoice::Without) => Ok("none".to_owned()),
            Some(ExitsChoice::File(path)) => Ok(ExitsFile::open(path)?.digest().to_string()),
        }
    }

    fn choose<T>(&self, given: Option<T>, usual: T, quick: T) -> T {
        given.unwrap_or(if self.quick { quick } else { usual })
    }
}

/// As settings name it.
pub(crate) fn threshold_name(threshold: Auto<Threshold>) -> String {
    match threshold {
        Auto::Auto => "auto".to_owned(),
        Auto::Given(threshold) => threshold.value().to_string(),
    }
}

/// How much is measured: decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Sizes {
    /// Prompts.
    pub(crate) limit: usize,
    /// Prompts that slow ways of answering answer.
    pub(crate) slow_limit: usize,
    /// Tokens of an answer at most.
    pub(crate) tokens_max: u32,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Starts a cloud with the whole model and an edge part as two processes on one core each, behind an emulated link, and answers every \
prompt in every way in turns: the paper's rows, running ahead and exact mode, and the paper's own way with one part of its method \
left out. Ratios are medians over answers to the same prompt with as many tokens, so the slow ways, which answer fewer prompts, can be compared, too.

Examples:
  collm bench paper --prompts prompts.jsonl --quick
  collm bench paper --prompts prompts.jsonl --out results/2026-01-31-paper
  collm bench paper --prompts spec_bench.jsonl --category summarization --limit 20 --slow-limit 2 --out results/2026-01-31-paper-long")]
pub(crate) struct BenchPaperArgs {
    #[command(flatten)]
    pub(crate) common: ExperimentArgs,

    /// Take only prompts of this category
    #[arg(long, value_name = "NAME")]
    pub(crate) category: Option<String>,

    /// Prompts to take [default: 100; 2 with --quick]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) limit: Option<u32>,

    /// Prompts that the naive split and the ablation without a context manager answer, which re-send everything for every token [default: 20; 1 with --quick]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32))]
    pub(crate) slow_limit: Option<u32>,

    /// Tokens of an answer at most [default: 64; 16 with --quick]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(2..))]
    pub(crate) max_tokens: Option<u32>,

    /// Round-trip time of the link
    #[arg(long, value_name = "TIME", default_value = "3ms", value_parser = values::duration)]
    pub(crate) rtt: Duration,
}

impl BenchPaperArgs {
    pub(crate) fn sizes(&self) -> Sizes {
        let limit = self.common.choose(self.limit, 100, 2);
        let slow_limit = self.common.choose(self.slow_limit, 20, 1).min(limit);
        let tokens_max = self.common.choose(self.max_tokens, 64, 16);
        Sizes { limit: limit as usize, slow_limit: slow_limit as usize, tokens_max }
    }
}

#[derive(Debug, Args)]
#[command(after_help = "\
Starts a cloud with the whole model and an edge part as two processes on one core each, behind an emulated link, and answers every \
prompt in every way at every round-trip time, in turns. Prints where one way becomes faster than another.

Examples:
  collm bench rtt --prompts prompts.jsonl --quick
  collm bench rtt --prompts prompts.jsonl --out results/2026-01-31-rtt
  collm bench rtt --prompts prompts.jsonl --limit 5 --rtt 0ms,80ms --threshold 0.8")]
pub(crate) struct BenchRttArgs {
    #[command(flatten)]
    pub(crate) common: ExperimentArgs,

    /// Prompts to take [default: 10; 1 with --quick]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) limit: Option<u32>,

    /// Tokens of an answer at most [default: 64; 16 with --quick]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(2..))]
    pub(crate) max_tokens: Option<u32>,

    /// Round-trip times to measure at [default: 0ms,5ms,10ms,20ms,40ms,80ms,160ms; 0ms,20ms,80ms with --quick]
    #[arg(long, value_name = "LIST", value_delimiter = ',', value_parser = values::duration)]
    rtt: Option<Vec<Duration>>,

    /// Confidence from which on a guess of the edge is taken, or auto: what was calibrated for the edge part
    #[arg(long, value_name = "auto|0..1", default_value = "auto", value_parser = values::threshold_or_auto)]
    pub(crate) threshold: Auto<Threshold>,
}

impl BenchRttArgs {
    pub(crate) fn sizes(&self) -> Sizes {
        let limit = self.common.choose(self.limit, 10, 1) as usize;
        Sizes { limit, slow_limit: limit, tokens_max: self.common.choose(self.max_tokens, 64, 16) }
    }

    /// Round-trip times.
    pub(crate) fn rtts(&self) -> Vec<Duration> {
        let ms = |times: &[u64]| times.iter().copied().map(Duration::from_millis).collect();
        self.common.choose(self.rtt.clone(), ms(&[0, 5, 10, 20, 40, 80, 160]), ms(&[0, 20, 80]))
    }
}

#[derive(Debug, Args)]
#[command(after_help = "\
Records the frames of an edge that answers each prompt, with the time it computed between them, and the frames of cloud-only answers. \
Then it lets more and more clients replay them against one cloud process on a core of its own: they wait for its answers where the \
recorded edge waited, and compute nothing. So two cores stand for a cloud and many devices. There is no link in between.

Examples:
  collm bench clients --prompts prompts.jsonl --quick
  collm bench clients --prompts prompts.jsonl --out results/2026-01-31-clients
  collm bench clients --prompts prompts.jsonl --clients 1,8,64 --duration 60s")]
pub(crate) struct BenchClientsArgs {
    #[command(flatten)]
    pub(crate) common: ExperimentArgs,

    /// Prompts to record [default: 16; 2 with --quick]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub(crate) limit: Option<u32>,

    /// Tokens of an answer at most [default: 64; 16 with --quick]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(2..))]
    pub(crate) max_tokens: Option<u32>,

    /// Clients at once [default: 1,2,4,8,16,32; 1,4 with --quick]
    #[arg(long, value_name = "LIST", value_delimiter = ',', value_parser = clap::value_parser!(u32).range(1..=256))]
    clients: Option<Vec<u32>>,

    /// How long each number of clients asks in each way [default: 20s; 3s with --quick]
    #[arg(long, value_name = "TIME", value_parser = values::duration)]
    pub(crate) duration: Option<Duration>,

    /// Confidence from which on a guess of the edge is taken, or auto: what was calibrated for the edge part
    #[arg(long, value_name = "auto|0..1", default_value = "auto", value_parser = values::threshold_or_auto)]
    pub(crate) threshold: Auto<Threshold>,
}

impl BenchClientsArgs {
    pub(crate) fn sizes(&self) -> Sizes {
        let limit = self.common.choose(self.limit, 16, 2) as usize;
        Sizes { limit, slow_limit: limit, tokens_max: self.common.choose(self.max_tokens, 64, 16) }
    }

    /// Clients at once, by rising number.
    pub(crate) fn clients(&self) -> Vec<u32> {
        let mut clients = self.common.choose(self.clients.clone(), vec![1, 2, 4, 8, 16, 32], vec![1, 4]);
        clients.sort_unstable();
        clients.dedup();
        clients
    }

    pub(crate) fn duration(&self) -> Duration {
        self.common.choose(self.duration, Duration::from_secs(20), Duration::from_secs(3))
    }
}

#[derive(Debug, Args)]
#[command(after_help = "\
Lets the pure cores of an edge and a cloud make long answers without any engine: outcomes are scripted, and what is measured is what \
the cores themselves take for uploads, asks, answers and rollbacks.

Examples:
  collm bench core
  collm bench core --answers 200 --out results/2026-01-31-core")]
pub(crate) struct BenchCoreArgs {
    /// Answers to make of each kind
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(crate) answers: u32,

    /// Tokens of an answer
    #[arg(long, value_name = "N", default_value_t = 1500, value_parser = clap::value_parser!(u32).range(2..=100_000))]
    pub(crate) max_tokens: u32,

    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,

    /// Folder for machine, commit, command, rows and summary
    #[arg(long, value_name = "DIR")]
    pub(crate) out: Option<PathBuf>,
}

#[cfg(test)]
mod tests {
    use clap::{Parser, error::ErrorKind};

    use super::*;
    use crate::args::{BenchCommand, Cli, Command};

    fn bench(arguments: &[&str]) -> Result<BenchCommand, ErrorKind> {
        let parsed = Cli::try_parse_from([&["collm", "bench"][..], arguments].concat());
        match parsed.map_err(|error| error.kind())?.command {
            Command::Bench(args) => Ok(args.command),
            other => panic!("bench became {other:?}"),
        }
    }

    fn paper(more: &[&str]) -> BenchPaperArgs {
        match bench(&[&["paper", "--prompts", "p"][..], more].concat()) {
            Ok(BenchCommand::Paper(args)) => args,
            other => panic!("no paper: {other:?}"),
        }
    }

    #[test]
    fn quick_is_small_and_what_is_given_besides_counts() {
        let usual = Sizes { limit: 100, slow_limit: 20, tokens_max: 64 };
        assert_eq!(paper(&[]).sizes(), usual);
        assert_eq!(paper(&["--quick"]).sizes(), Sizes { limit: 2, slow_limit: 1, tokens_max: 16 });
        let given = paper(&["--quick", "--limit", "7", "--max-tokens", "9"]).sizes();
        assert_eq!(given, Sizes { limit: 7, slow_limit: 1, tokens_max: 9 });
        // Slow ways answer no more prompts than the others.
        assert_eq!(paper(&["--limit", "5"]).sizes(), Sizes { limit: 5, slow_limit: 5, tokens_max: 64 });
        assert_eq!(paper(&[]).rtt, Duration::from_millis(3));
    }

    #[test]
    fn distances_and_clients_are_lists() {
        let Ok(BenchCommand::Rtt(args)) = bench(&["rtt", "--prompts", "p", "--rtt", "1ms,2s"]) else {
            panic!("no rtt")
        };
        assert_eq!(args.rtts(), [Duration::from_millis(1), Duration::from_secs(2)]);
        let Ok(BenchCommand::Rtt(args)) = bench(&["rtt", "--prompts", "p"]) else { panic!("no rtt") };
        assert_eq!((args.rtts().len(), args.threshold), (7, Auto::Auto));
        let clients = |more: &[&str]| match bench(&[&["clients", "--prompts", "p"][..], more].concat()) {
            Ok(BenchCommand::Clients(args)) => args.clients(),
            other => panic!("no clients: {other:?}"),
        };
        assert_eq!(clients(&["--clients", "8,2,8"]), [2, 8]);
        assert_eq!(clients(&["--quick"]), [1, 4]);
    }

    #[test]
    fn what_cannot_be_measured_is_refused() {
        for (arguments, kind) in [
            (&["paper"][..], ErrorKind::MissingRequiredArgument),
            (&["paper", "--prompts", "p", "--limit", "0"], ErrorKind::ValueValidation),
            (&["rtt", "--prompts", "p", "--rtt", "80"], ErrorKind::ValueValidation),
            (&["rtt", "--prompts", "p", "--max-tokens", "1"], ErrorKind::ValueValidation),
            (&["clients", "--prompts", "p", "--clients", "0"], ErrorKind::ValueValidation),
            (&["core", "--answers", "0"], ErrorKind::ValueValidation),
        ] {
            assert_eq!(bench(arguments).expect_err("refused"), kind, "{arguments:?}");
        }
    }
}
