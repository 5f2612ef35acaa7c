//! Signs of life for steps that take longer than a breath: a bar on a terminal, a line now and then elsewhere.

use std::{
    io::IsTerminal as _,
    time::{Duration, Instant},
};

use collm_model::Progress;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Pause between two lines where there is no terminal.
const LINE_EVERY: Duration = Duration::from_secs(5);

/// How progress is shown, decided once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ProgressMode {
    Bars,
    Lines,
    Silent,
}

impl ProgressMode {
    pub(crate) fn detect(quiet: bool) -> Self {
        match (quiet, std::io::stderr().is_terminal()) {
            (true, _) => Self::Silent,
            (false, true) => Self::Bars,
            (false, false) => Self::Lines,
        }
    }

    /// Starts a step whose length is not known yet.
    pub(crate) fn step(self, what: impl Into<String>) -> Step {
        let what = what.into();
        let bar = ProgressBar::with_draw_target(None, self.target()).with_message(what.clone());
        bar.set_style(spinner());
        bar.enable_steady_tick(Duration::from_millis(120));
        let now = Instant::now();
        Step { mode: self, what, bar, sized: false, began: now, line: now }
    }

    fn target(self) -> ProgressDrawTarget {
        match self {
            Self::Bars => ProgressDrawTarget::stderr(),
            Self::Lines | Self::Silent => ProgressDrawTarget::hidden(),
        }
    }
}

/// A step under way. Dropping it clears its bar.
pub(crate) struct Step {
    mode: ProgressMode,
    what: String,
    bar: ProgressBar,
    sized: bool,
    began: Instant,
    line: Instant,
}

impl Step {
    /// How far it is.
    pub(crate) fn show(&mut self, progress: Progress) {
        let (done, total) = (progress.done_bytes, progress.total_bytes);
        if let (Some(total), false) = (total, self.sized) {
            self.sized = true;
            self.bar.set_style(sized_bar());
            self.bar.set_length(total);
        }
        self.bar.set_position(done);
        self.line(|| match total {
            Some(total) => format!("{} of {}", super::size(done), super::size(total)),
            None => super::size(done),
        });
    }

    /// The step goes on with something else.
    pub(crate) fn now(&mut self, detail: &str) {
        self.bar.set_message(format!("{} ({detail})", self.what));
        self.line(|| detail.to_owned());
    }

    /// So many of `total` alike pieces are done; says how long the rest will take.
    pub(crate) fn count(&mut self, done: usize, total: usize) {
        let left = match done {
            0 => String::new(),
            _ => format!(", {} left", super::time(self.began.elapsed().mul_f64((total - done) as f64 / done as f64))),
        };
        self.now(&format!("{done} of {total}{left}"));
    }

    /// So many of `total` runs are done, which are not alike; `left` is how long the rest will take, if that is known.
    pub(crate) fn runs(&mut self, done: usize, total: usize, left: Option<Duration>, detail: &str) {
        let left = left.map_or_else(String::new, |left| format!(", {} left", super::long_time(left)));
        if !self.sized {
            self.sized = true;
            self.bar.set_style(counted_bar());
            self.bar.set_length(total as u64);
        }
        self.bar.set_position(done as u64);
        self.bar.set_message(format!("{}{left} ({detail})", self.what));
        self.line(|| format!("{done} of {total}{left} ({detail})"));
    }

    /// The step is over; says so with how long it took, if anybody had to wait.
    pub(crate) fn done(self, outcome: &str) {
        let took = self.began.elapsed();
        self.bar.finish_and_clear();
        if self.mode != ProgressMode::Silent && took >= Duration::from_millis(500) {
            anstream::eprintln!(
                "{} {outcome} {}",
                self.what,
                super::colour::Painted(super::colour::FAINT, super::time(took))
            );
        }
    }

    fn line(&mut self, detail: impl FnOnce() -> String) {
        if self.mode == ProgressMode::Lines && self.line.elapsed() >= LINE_EVERY {
            self.line = Instant::now();
            anstream::eprintln!("{}: {}", self.what, detail());
        }
    }
}

impl Drop for Step {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

fn spinner() -> ProgressStyle {
    ProgressStyle::with_template("{spinner} {msg} {elapsed}").expect("the template is fixed")
}

fn counted_bar() -> ProgressStyle {
    ProgressStyle::with_template("[{bar:30}] {pos}/{len} {msg}").expect("the template is fixed").progress_chars("=> ")
}

fn sized_bar() -> ProgressStyle {
    let template = "{msg} [{bar:30}] {bytes}/{total_bytes} {bytes_per_sec}, {eta} left";
    ProgressStyle::with_template(template).expect("the template is fixed").progress_chars("=> ")
}
