//! What an edge sends its cloud to compute on, and from when on: what people set, what is known of the cloud, and the choice.
//!
//! A session's first stream does not wait for its handshake, so the choice is made from earlier ones. What is not known is not
//! assumed: until a cloud has said that it holds the whole model, states go up.

use std::{collections::BTreeSet, time::Duration};

use crate::{frame::Feed, policy::Mode, states::Encoding};

/// What people set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UploadSettings {
    /// How states are written in collaborative mode.
    pub encoding: Encoding,
    /// What collaborative mode uploads.
    pub collaborative: FeedChoice,
    /// What exact mode uploads; its states are written in f32, since the cloud must compute on exactly what the edge computed on.
    pub exact: FeedChoice,
    /// From when on.
    pub start: UploadStart,
    /// Nothing but hidden states ever leaves: no token ids, no guesses, and no request that needs them there.
    pub private: bool,
}

impl UploadSettings {
    /// The paper's: half precision, from the first state on.
    pub const PAPER: Self = Self {
        encoding: Encoding::F16,
        collaborative: FeedChoice::States,
        exact: FeedChoice::States,
        start: UploadStart::Eager,
        private: false,
    };
}

/// Hidden states, or token ids.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FeedChoice {
    /// Hidden states: the cloud computes what the edge does not.
    States,
    /// Token ids, 4 bytes a position, to a cloud that holds the whole model and computes the edge's layers too.
    Tokens,
    /// Token ids where they are the faster way, by what is known of the cloud and the link.
    Auto,
}

/// From when on a session uploads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UploadStart {
    /// From its first state on, while the edge computes on: an ask finds everything there.
    Eager,
    /// From its first ask on: until then nothing leaves the device, not even that there is a session.
    Lazy,
}

/// What a session feeds its cloud with, and why.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChosenFeed {
    /// The feed.
    pub feed: Feed,
    /// The reason.
    pub reason: FeedReason,
}

/// Why a session feeds its cloud with what it does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FeedReason {
    /// It is set, or the mode has no other.
    Set,
    /// Token ids may not leave.
    Private,
    /// No handshake has said yet whether the cloud holds the whole model.
    CloudUnknown,
    /// The cloud does not take what would be chosen.
    NotTaken,
    /// It was not measured, or too long ago, how long states take to go up.
    LinkUnknown,
    /// States go up faster than the cloud would compute them.
    StatesFaster,
    /// The cloud computes states faster than they would go up.
    TokensFaster,
}

impl FeedReason {
    /// The word for programs.
    pub fn name(self) -> &'static str {
        match self {
            Self::Set => "set",
            Self::Private => "private",
            Self::CloudUnknown => "cloud-unknown",
            Self::NotTaken => "not-taken",
            Self::LinkUnknown => "link-unknown",
            Self::StatesFaster => "states-faster",
            Self::TokensFaster => "tokens-faster",
        }
    }
}

/// What the choice weighs, as far as it was measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct UploadCosts {
    /// Of the way to the cloud.
    pub bytes_per_second: Option<u64>,
    /// What a position costs in `[0, e1)`, as the edge has measured it: a cloud is hardly slower.
    pub lower: Option<Duration>,
}

/// What is known of the feeds that a cloud takes, from its handshakes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KnownFeeds {
    taken: BTreeSet<Feed>,
    refused: BTreeSet<Feed>,
}

impl KnownFeeds {
    /// A handshake passed, and the cloud said what it takes. Older clouds do not say.
    pub fn opened(&mut self, takes: &BTreeSet<Feed>) {
        if !takes.is_empty() {
            self.taken.clone_from(takes);
            self.refused.clear();
        }
    }

    /// The cloud refused a session for its feed.
    pub fn refuse(&mut self, feed: Feed) {
        self.taken.remove(&feed);
        self.refused.insert(feed);
    }

    /// Whether the cloud takes a feed, if that is known.
    pub fn take(&self, feed: Feed) -> Option<bool> {
        if self.refused.contains(&feed) {
            return Some(false);
        }
        (!self.taken.is_empty()).then(|| self.taken.contains(&feed))
    }
}

/// What a session of this mode uploads; `None` if nothing.
pub fn choose(
    mode: Mode,
    settings: &UploadSettings,
    known: &KnownFeeds,
    width: u32,
    costs: UploadCosts,
) -> Option<ChosenFeed> {
    let (choice, encoding) = match mode {
        Mode::Whole | Mode::Standalone => return None,
        Mode::Cloud => return Some(ChosenFeed { feed: Feed::Tokens, reason: FeedReason::Set }),
        Mode::Naive => (FeedChoice::States, Encoding::F32),
        Mode::Collaborative | Mode::Auto => (settings.collaborative, settings.encoding),
        Mode::Exact => (settings.exact, Encoding::F32),
    };
    let reason = match choice {
        FeedChoice::States => FeedReason::Set,
        _ if settings.private => FeedReason::Private,
        FeedChoice::Tokens if known.take(Feed::Tokens) == Some(false) => FeedReason::NotTaken,
        FeedChoice::Tokens => return Some(ChosenFeed { feed: Feed::Tokens, reason: FeedReason::Set }),
        FeedChoice::Auto => weigh(known, encoding.row_bytes(width), costs),
    };
    let feed = if reason == FeedReason::TokensFaster { Feed::Tokens } else { Feed::States(encoding) };
    if known.take(feed) == Some(false) {
        // What every cloud takes, and what carries the states of every model.
        return Some(ChosenFeed { feed: Feed::States(Encoding::F32), reason: FeedReason::NotTaken });
    }
    Some(ChosenFeed { feed, reason })
}

/// Whether token ids are the faster way: what the link saves on a position must outweigh that the cloud computes it in `[0, e1)`.
fn weigh(known: &KnownFeeds, state_bytes: usize, costs: UploadCosts) -> FeedReason {
    match (known.take(Feed::Tokens), costs) {
        (None, _) => FeedReason::CloudUnknown,
        (Some(false), _) => FeedReason::NotTaken,
        (Some(true), UploadCosts { bytes_per_second: Some(rate), lower: Some(lower) }) => {
            let sent = state_bytes as f64 / rate.max(1) as f64;
            if sent > lower.as_secs_f64() { FeedReason::TokensFaster } else { FeedReason::StatesFaster }
        }
        (Some(true), _) => FeedReason::LinkUnknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: UploadCosts = UploadCosts { bytes_per_second: Some(1 << 20), lower: Some(Duration::from_micros(500)) };

    fn settings(choice: FeedChoice) -> UploadSettings {
        UploadSettings { collaborative: choice, exact: choice, ..UploadSettings::PAPER }
    }

    fn known(takes: &[Feed]) -> KnownFeeds {
        let mut known = KnownFeeds::default();
        known.opened(&takes.iter().copied().collect());
        known
    }

    /// What collaborative mode chooses for states of 1152 bytes, which take 1.1 ms.
    fn chosen(choice: FeedChoice, known: &KnownFeeds, costs: UploadCosts) -> (Feed, FeedReason) {
        let chosen = choose(Mode::Collaborative, &settings(choice), known, 576, costs).expect("the mode uploads");
        (chosen.feed, chosen.reason)
    }

    const F16: Feed = Feed::States(Encoding::F16);
    const F32: Feed = Feed::States(Encoding::F32);

    #[test]
    fn what_is_not_known_is_not_assumed() {
        let (unknown, whole, part) = (KnownFeeds::default(), known(&[F16, F32, Feed::Tokens]), known(&[F16, F32]));
        let unmeasured = UploadCosts { bytes_per_second: None, ..ALL };
        assert_eq!(chosen(FeedChoice::Auto, &unknown, ALL), (F16, FeedReason::CloudUnknown));
        assert_eq!(chosen(FeedChoice::Auto, &part, ALL), (F16, FeedReason::NotTaken));
        assert_eq!(chosen(FeedChoice::Auto, &whole, unmeasured), (F16, FeedReason::LinkUnknown));
        assert_eq!(chosen(FeedChoice::Auto, &whole, ALL), (Feed::Tokens, FeedReason::TokensFaster));
        let fast = UploadCosts { bytes_per_second: Some(100 << 20), ..ALL };
        assert_eq!(chosen(FeedChoice::Auto, &whole, fast), (F16, FeedReason::StatesFaster));
    }

    #[test]
    fn what_is_refused_is_not_tried_again_until_the_cloud_says_otherwise() {
        let mut known = KnownFeeds::default();
        known.refuse(F16);
        assert_eq!(chosen(FeedChoice::States, &known, ALL), (F32, FeedReason::NotTaken));
        known.opened(&[F16, F32].into());
        assert_eq!(chosen(FeedChoice::States, &known, ALL), (F16, FeedReason::Set));
        assert_eq!(chosen(FeedChoice::Tokens, &known, ALL), (F16, FeedReason::NotTaken));
        known.opened(&BTreeSet::new());
        assert_eq!(known.take(F16), Some(true), "an older cloud does not say what it takes");
    }

    #[test]
    fn private_is_states() {
        let known = known(&[F16, F32, Feed::Tokens]);
        for choice in [FeedChoice::Tokens, FeedChoice::Auto] {
            let private = UploadSettings { private: true, ..settings(choice) };
            for (mode, feed) in [(Mode::Collaborative, F16), (Mode::Exact, F32)] {
                let chosen = choose(mode, &private, &known, 576, ALL);
                assert_eq!(chosen, Some(ChosenFeed { feed, reason: FeedReason::Private }));
            }
        }
    }
}
