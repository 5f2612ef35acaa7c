//! An answer that ctrl-c ends. It is read on a thread of its own: whoever waits for the edge cannot wait for a key as well.

use std::{
    pin::pin,
    process,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

use anyhow::{Context as _, anyhow};
use tokio::{
    runtime::Runtime,
    sync::{Notify, mpsc},
};

use crate::{
    client::{EdgeClient, Question, Shown},
    commands::run::readable,
    report::Report,
    ui,
};

/// What a shell says of a program that ctrl-c ended.
const INTERRUPTED: i32 = 130;

/// Where answers come from.
pub(super) struct Replies<'a> {
    edge: EdgeClient,
    runtime: &'a Runtime,
    interruptions: Arc<Interruptions>,
}

/// How an answer ended.
pub(super) enum Reply {
    Complete(Box<Report>),
    /// After this text was shown.
    Cancelled {
        shown: String,
    },
}

/// Ctrl-c: the end of an answer if there is one, else of the program.
#[derive(Default)]
struct Interruptions {
    answering: AtomicBool,
    cancelled: Notify,
}

/// From the thread that reads.
enum Heard {
    Text { text: String, source: String, degraded: bool },
    Degraded(String),
    Ended(anyhow::Result<serde_json::Value>),
}

impl<'a> Replies<'a> {
    pub(super) fn of(edge: EdgeClient, runtime: &'a Runtime) -> Self {
        let interruptions = Arc::new(Interruptions::default());
        runtime.spawn(Arc::clone(&interruptions).watch());
        Self { edge, runtime, interruptions }
    }

    /// Shows the answer as it comes.
    pub(super) fn to(&self, question: Question) -> anyhow::Result<Reply> {
        let (tell, mut heard) = mpsc::unbounded_channel();
        let edge = self.edge.clone();
        // When nobody listens any more it lets go of the connection, which withdraws the question.
        thread::spawn(move || {
            let ended = edge.ask(&question, &mut |shown| tell.send(shown.into()).map_err(|_| anyhow!("cancelled")));
            let _ = tell.send(Heard::Ended(ended));
        });
        // Waited for from here on: ctrl-c counts at any moment of the answer, also while text is being shown.
        let cancelled = self.interruptions.cancelled.notified();
        self.interruptions.answering.store(true, Ordering::SeqCst);
        let reply = self.runtime.block_on(follow(&mut heard, cancelled));
        self.interruptions.answering.store(false, Ordering::SeqCst);
        reply
    }
}

/// Shows what is heard until the answer ends or is cancelled.
async fn follow(
    heard: &mut mpsc::UnboundedReceiver<Heard>,
    cancelled: impl Future<Output = ()>,
) -> anyhow::Result<Reply> {
    let mut cancelled = pin!(cancelled);
    let mut said = String::new();
    loop {
        let next = tokio::select! {
            next = heard.recv() => next.context("the answer broke off")?,
            () = &mut cancelled => return Ok(Reply::Cancelled { shown: said }),
        };
        match next {
            Heard::Text { text, source, degraded } => {
                said.push_str(&text);
                ui::answer::show(Shown::Text { text: &text, source: &source, degraded })?;
            }
            Heard::Degraded(reason) => ui::answer::show(Shown::Degraded(&reason))?,
            Heard::Ended(answer) => return Ok(Reply::Complete(Box::new(readable(answer?)?))),
        }
    }
}

impl Interruptions {
    async fn watch(self: Arc<Self>) {
        while tokio::signal::ctrl_c().await.is_ok() {
            if !self.answering.load(Ordering::SeqCst) {
                process::exit(INTERRUPTED);
            }
            self.cancelled.notify_waiters();
        }
    }
}

impl From<Shown<'_>> for Heard {
    fn from(shown: Shown<'_>) -> Self {
        match shown {
            Shown::Text { text, source, degraded } => {
                Self::Text { text: text.to_owned(), source: source.to_owned(), degraded }
            }
            Shown::Degraded(reason) => Self::Degraded(reason.to_owned()),
        }
    }
}
