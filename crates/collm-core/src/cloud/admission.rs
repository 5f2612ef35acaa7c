//! Who is let in: the handshake, and the memory budget.
//!
//! Memory is budgeted before it is taken. Idle contexts give way, least recently used first: their key-value slot when
//! another context must compute (see `batch`), their states when another context's states do not fit.

use super::{Cloud, CloudConfig, context::Context};
use crate::{
    frame::{Feed, Open, PROTOCOL, Refusal, RefusalCode},
    ids::SessionId,
    time::Time,
};

/// Whether the handshake passes.
pub(super) fn check(open: &Open, config: &CloudConfig) -> Result<(), Refusal> {
    let (ours, theirs) = (&config.identity, &open.identity);
    let refuse = |code, message| Err(Refusal { code, message });
    if open.protocol != PROTOCOL {
        let message = format!(
            "the edge speaks protocol {} and this cloud speaks {PROTOCOL}; update the older one",
            open.protocol
        );
        return refuse(RefusalCode::Protocol, message);
    }
    if ours != theirs {
        return refuse(RefusalCode::Identity, difference(ours, theirs));
    }
    if open.feed == Feed::Tokens && !config.holds_whole {
        let message =
            "this cloud holds only its part and needs hidden states; start it with the whole model to send tokens"
                .into();
        return refuse(RefusalCode::Feed, message);
    }
    if !config.takes().contains(&open.feed) {
        let takes: Vec<&str> = config.takes().into_iter().map(Feed::name).collect();
        let message = format!("this cloud does not take {}; it takes {}", open.feed.name(), takes.join(", "));
        return refuse(RefusalCode::Feed, message);
    }
    if let Err(error) = open.sampling.clone().validated() {
        return refuse(RefusalCode::Malformed, error.to_string());
    }
    if open.sampling.looks_back() && open.feed != Feed::Tokens && !open.tells_tokens {
        let message = "this sampling looks at the tokens before, and the session does not tell them".into();
        return refuse(RefusalCode::Malformed, message);
    }
    Ok(())
}

/// The cloud takes nobody new.
pub(super) fn draining() -> Refusal {
    Refusal { code: RefusalCode::Draining, message: "this cloud is stopping; retry later or elsewhere".into() }
}

/// The session is served on another stream.
pub(super) fn superseded() -> Refusal {
    Refusal { code: RefusalCode::Superseded, message: "the session was opened by another connection".into() }
}

/// The session needs more positions than a context has here.
pub(super) fn outgrown(context_max: u32) -> Refusal {
    let message = format!("the session outgrows this cloud's context of {context_max} positions");
    Refusal { code: RefusalCode::ContextLength, message }
}

fn difference(ours: &crate::frame::Identity, theirs: &crate::frame::Identity) -> String {
    let fields = [
        ("pair", ours.pair.clone(), theirs.pair.clone()),
        ("source model", ours.source.clone(), theirs.source.clone()),
        ("upload layer", ours.upload_at.to_string(), theirs.upload_at.to_string()),
        ("width", ours.width.to_string(), theirs.width.to_string()),
        ("vocabulary", ours.vocabulary.to_string(), theirs.vocabulary.to_string()),
    ];
    let differing: Vec<String> = fields
        .into_iter()
        .filter(|(_, ours, theirs)| ours != theirs)
        .map(|(name, ours, theirs)| format!("{name} {theirs} at the edge, {ours} here"))
        .collect();
    format!("the halves do not belong together ({}); use both files of one split", differing.join("; "))
}

impl Cloud {
    /// Makes room for one more context.
    pub(super) fn admit_context(&mut self, now: Time) -> Result<(), Refusal> {
        if self.contexts.len() < self.config.contexts_max as usize || self.drop_least_recent(now, None) {
            return Ok(());
        }
        let message = format!("all {} contexts are in use; retry later", self.config.contexts_max);
        Err(Refusal { code: RefusalCode::Busy, message })
    }

    /// Makes room for `bytes` more of uploads by `session`.
    pub(super) fn admit_bytes(&mut self, now: Time, session: SessionId, bytes: usize) -> Result<(), Refusal> {
        let bytes_max = self.config.states_bytes_max;
        let own = self.contexts.get(&session).map_or(0, Context::bytes);
        // A session that cannot fit at all must not drive out the others first.
        let possible = own + bytes <= bytes_max;
        while self.states_bytes() + bytes > bytes_max {
            if !possible || !self.drop_least_recent(now, Some(session)) {
                let message = format!("the {bytes_max} bytes for hidden states are in use; retry later");
                return Err(Refusal { code: RefusalCode::Busy, message });
            }
        }
        Ok(())
    }

    /// Drops the idle context that was not used for longest, except one; parked ones first. Its edge, if there, hears of it when it
    /// needs it.
    fn drop_least_recent(&mut self, now: Time, except: Option<SessionId>) -> bool {
        let hold = self.config.hold;
        let parked = |context: &Context| Self::is_parked(&self.peers, context);
        let held_until = |context: &Context| if parked(context) { now } else { context.used + hold };
        let idle = |context: &&Context| Some(context.session) != except && context.gives_way(now, held_until(context));
        let idle = self.contexts.values().filter(idle);
        let Some(context) = idle.min_by_key(|context| (!parked(context), context.used)) else {
            return false;
        };
        self.forget(context.session);
        true
    }

    /// Bytes of uploads held for all sessions.
    pub(super) fn states_bytes(&self) -> usize {
        self.contexts.values().map(Context::bytes).sum()
    }
}
