//! `collm chat`: a conversation, on a terminal or line by line from stdin.
//!
//! Here is the conversation; what is typed is read in `input`, what it means is told apart in `said`, and an answer that can be
//! cancelled is in `reply`. Deliberately absent: who answers, which `collm run` decides alike.

mod input;
mod reply;
mod said;

use std::time::{Duration, Instant};

use collm_core::{
    budget::Target,
    policy::{Mode, Threshold},
    sampling::Sampling,
};

use self::{
    input::{Input, Typed},
    reply::{Replies, Reply},
    said::{HELP, Said},
};
use super::{run::Answerer, runtime};
use crate::{
    args::{ChatArgs, values::Auto},
    client::{Message, Prompt, Question},
    failure::Usage,
    report::Report,
    ui::{
        self,
        colour::{ERROR, FAINT, Painted},
        progress::ProgressMode,
    },
};

pub(super) fn run(args: ChatArgs, progress: ProgressMode, verbose: bool) -> anyhow::Result<()> {
    let sampling = args.sampling.settle().map_err(|error| Usage(error.to_string()))?;
    let answerer = Answerer::settle(&args.who, args.mode, progress)?;
    let mode = answerer.mode();
    // Held until the end: an edge that is started here lives in it.
    let runtime = runtime()?;
    let began = Instant::now();
    let edge = answerer.edge(&runtime, &args.engine, &args.who, progress)?;
    let started_here = args.who.edge.is_none();
    let mut chat = Chat {
        replies: Replies::of(edge, &runtime),
        turns: Vec::new(),
        system: args.system.map(|text| Message::new("system", text)),
        mode,
        threshold: args.threshold,
        budget: args.budget,
        tokens_max: args.max_tokens,
        sampling,
        load: started_here.then(|| began.elapsed()),
        last: None,
        verbose,
    };
    chat.converse(&mut Input::open()?)
}

/// A conversation.
struct Chat<'a> {
    replies: Replies<'a>,
    turns: Vec<Message>,
    system: Option<Message>,
    mode: Option<Mode>,
    /// `None` leaves it to the edge.
    threshold: Option<Auto<Threshold>>,
    /// In place of a threshold.
    budget: Option<Target>,
    tokens_max: u32,
    sampling: Sampling,
    /// What it took to start the edge; told once.
    load: Option<Duration>,
    last: Option<Report>,
    verbose: bool,
}

impl Chat<'_> {
    fn converse(&mut self, input: &mut Input) -> anyhow::Result<()> {
        if input.is_terminal() {
            anstream::eprintln!("{}", Painted(FAINT, "/help shows what there is besides talking; ctrl-d leaves"));
        }
        loop {
            let line = match input.next()? {
                Typed::Line(line) => line,
                Typed::Interrupted => continue,
                Typed::End => return Ok(()),
            };
            let heard = Said::parse(&line).map_err(|message| Usage(message).into()).and_then(|said| self.hear(said));
            match heard {
                Ok(()) => {}
                // A person can try again; a script must learn of it.
                Err(error) if input.is_terminal() => anstream::eprintln!("{} {error:#}", Painted(ERROR, "error:")),
                Err(error) => return Err(error),
            }
        }
    }

    fn hear(&mut self, said: Said) -> anyhow::Result<()> {
        match said {
            Said::Nothing => {}
            Said::Question(text) => return self.answer(text),
            Said::Mode(mode) => self.mode = mode.or(self.mode),
            Said::Threshold(None) | Said::Budget(None) => {}
            Said::Threshold(threshold) => (self.threshold, self.budget) = (threshold, None),
            Said::Budget(budget) => (self.threshold, self.budget) = (None, budget),
            Said::NoBudget => self.budget = None,
            Said::Clear => self.turns.clear(),
            Said::Stats => anstream::eprintln!("{}", self.numbers()),
            Said::Help => anstream::eprintln!("{HELP}"),
        }
        match said {
            Said::Mode(_) => anstream::eprintln!("mode {}", self.mode.map_or("of the edge's choice", Mode::name)),
            Said::Threshold(_) => anstream::eprintln!("threshold {}", self.threshold_in_force()),
            Said::Budget(_) | Said::NoBudget => anstream::eprintln!("budget {}", self.budget_in_force()),
            Said::Clear => anstream::eprintln!("a new conversation"),
            _ => {}
        }
        Ok(())
    }

    fn threshold_in_force(&self) -> String {
        match (self.budget, self.threshold) {
            (Some(budget), _) => format!("as the budget {budget} leaves room for"),
            (None, None) => "of the edge's choice".to_owned(),
            (None, Some(Auto::Auto)) => "auto".to_owned(),
            (None, Some(Auto::Given(threshold))) => threshold.value().to_string(),
        }
    }

    fn budget_in_force(&self) -> String {
        self.budget.map_or("of the edge's choice".to_owned(), |budget| budget.to_string())
    }

    fn numbers(&self) -> String {
        let numbers = self.last.as_ref().map(|report| ui::numbers::lines(report, self.load));
        numbers.unwrap_or_else(|| "no answer yet".to_owned())
    }

    fn answer(&mut self, text: String) -> anyhow::Result<()> {
        self.turns.push(Message::new("user", text));
        let reply = self.replies.to(self.question());
        ui::print::line("")?;
        match reply {
            Ok(Reply::Complete(report)) => {
                self.turns.push(Message::new("assistant", report.text.clone()));
                anstream::eprintln!("{}", ui::answer::legend(&report));
                self.last = Some(*report);
                if self.verbose {
                    anstream::eprintln!("{}", self.numbers());
                }
                Ok(())
            }
            // What was seen is part of the conversation.
            Ok(Reply::Cancelled { shown }) => {
                self.turns.push(Message::new("assistant", shown));
                anstream::eprintln!("{}", Painted(FAINT, "cancelled"));
                Ok(())
            }
            Err(error) => {
                self.turns.pop();
                Err(error)
            }
        }
    }

    fn question(&self) -> Question {
        let turns = self.system.iter().chain(&self.turns).cloned().collect();
        let question = Question::new(Prompt::Conversation(turns), Threshold::DEFAULT, self.tokens_max)
            .at(self.threshold)
            .within(self.budget, None)
            .sampled(&self.sampling);
        match self.mode {
            Some(mode) => question.in_mode(mode),
            None => question,
        }
    }
}
