//! Mode auto: whether the link makes collaboration worthwhile. Shared by all sessions of an edge, since they share the link.
//!
//! With a time per token as budget, it is worthwhile if the budget leaves room to ask. Without, it is unless asking makes a token so
//! slow that it is felt: several times slower than the edge alone, and slower than people read. Once the edge has gone alone the
//! link has to be clearly better before it is trusted again, and since nothing is measured meanwhile, one answer now and then, the
//! probe, collaborates to find out. The pause between probes doubles as long as they fail.

use std::{fmt, time::Duration};

use super::{
    Request, controller,
    outlook::{Costs, Outlook},
};
use crate::{
    budget::{Budget, Target},
    ids::SessionId,
    policy::Threshold,
    time::Time,
};

/// Asks that must be answered before their cost is believed.
const ASKS_MIN: u32 = 4;

/// Collaboration is too slow if a token takes so many times what it takes the edge alone …
const SLOWER_MAX: u32 = 2;

/// … and longer than this: ten tokens a second, about twice as fast as people read.
const NOTICED: Duration = Duration::from_millis(100);

/// A budget that leaves less than this to ask about leaves nothing worth the upload.
const SHARE_MIN: f64 = 0.02;

/// How much better than what was too bad a link must be to be used again.
const BETTER: f64 = 0.7;

/// From when the edge went alone to the first probe.
const PAUSE_FIRST: Duration = Duration::from_secs(10);

/// Between two probes at most.
const PAUSE_MAX: Duration = Duration::from_secs(300);

/// What mode auto chose for an answer, and why.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum AutoChoice {
    /// With the cloud: nothing is known of the link yet.
    Untried,
    /// With the cloud: the link is good enough.
    Worthwhile,
    /// With the cloud: it was too far a while ago, and this answer finds out whether it still is.
    Probing,
    /// At the edge: there is no cloud.
    NoCloud,
    /// At the edge: the cloud failed a moment ago.
    CloudDown,
    /// At the edge: asking makes tokens too slow.
    TooSlow {
        /// Estimated time per token with the cloud.
        with_cloud: Duration,
        /// And without.
        alone: Duration,
    },
    /// At the edge: the budget leaves no time for asking.
    OverBudget {
        /// What an ask adds.
        ask: Duration,
    },
    /// At the edge: the link was too slow, and another answer finds out whether it still is.
    Awaiting,
}

impl AutoChoice {
    /// Whether the cloud is asked.
    pub fn uses_cloud(self) -> bool {
        matches!(self, Self::Untried | Self::Worthwhile | Self::Probing)
    }

    /// The word for programs.
    pub fn name(self) -> &'static str {
        match self {
            Self::Untried => "untried",
            Self::Worthwhile => "worthwhile",
            Self::Probing => "probing",
            Self::NoCloud => "no_cloud",
            Self::CloudDown => "cloud_down",
            Self::TooSlow { .. } => "too_slow",
            Self::OverBudget { .. } => "over_budget",
            Self::Awaiting => "awaiting",
        }
    }
}

impl fmt::Display for AutoChoice {
    /// A sentence for people.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Untried => f.write_str("with the cloud, since nothing is known of the link yet"),
            Self::Worthwhile => f.write_str("with the cloud, since the link is good enough"),
            Self::Probing => f.write_str("with the cloud, to find out whether the link is still too slow"),
            Self::NoCloud => f.write_str("at the edge, since there is no cloud"),
            Self::CloudDown => f.write_str("at the edge, since the cloud failed a moment ago"),
            Self::TooSlow { with_cloud, alone } => write!(
                f,
                "at the edge, since a token takes about {with_cloud:.0?} with the cloud and {alone:.0?} without"
            ),
            Self::OverBudget { ask } => {
                write!(f, "at the edge, since asking costs about {ask:.0?} and the budget leaves no time for it")
            }
            Self::Awaiting => {
                f.write_str("at the edge, while another answer finds out whether the link is still too slow")
            }
        }
    }
}

/// Remembers whether the link was too slow.
#[derive(Debug)]
pub(super) struct Switch {
    state: State,
    pause: Duration,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Answers collaborate unless it is too slow.
    Trusted,
    /// They do not unless it is clearly good enough; from a moment on one of them finds out.
    Distrusted { probe_from: Time },
    /// It is finding out.
    Probing { probe: SessionId },
}

/// What an answer would have from collaborating.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Prospect {
    Unknown,
    Good,
    /// And what is said of it.
    Bad(AutoChoice),
}

/// What an answer in mode auto asks for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wish {
    pub(super) session: SessionId,
    /// Where no budget sets it.
    pub(super) threshold: Threshold,
    pub(super) budget: Option<Budget>,
}

impl Wish {
    /// Of a request.
    pub(super) fn of(request: &Request) -> Self {
        Self { session: request.session, threshold: request.thresholds.exit2, budget: request.budget }
    }

    /// Of an answer that was chosen for under this id.
    pub(super) fn known_as(self, session: SessionId) -> Self {
        Self { session, ..self }
    }
}

impl Default for Switch {
    fn default() -> Self {
        Self { state: State::Trusted, pause: PAUSE_FIRST }
    }
}

impl Switch {
    /// What to do for an answer, at its begin or while it collaborates.
    pub(super) fn choose(&mut self, now: Time, wish: Wish, outlook: &mut Outlook) -> AutoChoice {
        let prospect = self.prospect(wish, outlook);
        match (prospect, self.state) {
            (Prospect::Unknown, State::Trusted) => AutoChoice::Untried,
            (Prospect::Unknown, State::Probing { probe }) if probe == wish.session => AutoChoice::Probing,
            (Prospect::Good, _) => {
                *self = Self::default();
                AutoChoice::Worthwhile
            }
            (Prospect::Bad(why), State::Trusted) => self.distrust(now, why),
            (Prospect::Bad(why), State::Probing { probe }) if probe == wish.session => self.distrust(now, why),
            (Prospect::Bad(_) | Prospect::Unknown, State::Distrusted { probe_from }) if now >= probe_from => {
                self.state = State::Probing { probe: wish.session };
                outlook.forget_ask_cost();
                AutoChoice::Probing
            }
            (Prospect::Bad(why), _) => why,
            (Prospect::Unknown, _) => AutoChoice::Awaiting,
        }
    }

    /// An answer is over: if it was the probe and found nothing out, the next one may.
    pub(super) fn release(&mut self, now: Time, session: SessionId) {
        if self.state == (State::Probing { probe: session }) {
            self.state = State::Distrusted { probe_from: now };
        }
    }

    fn distrust(&mut self, now: Time, why: AutoChoice) -> AutoChoice {
        self.state = State::Distrusted { probe_from: now + self.pause };
        self.pause = (self.pause * 2).min(PAUSE_MAX);
        why
    }

    fn prospect(&self, wish: Wish, outlook: &Outlook) -> Prospect {
        let costs = outlook.costs_after(ASKS_MIN);
        let Some(ask) = costs.ask else { return Prospect::Unknown };
        let leeway = if self.state == State::Trusted { 1.0 } else { BETTER };
        let share = match wish.budget.map(|budget| budget.target) {
            Some(Target::TimePerToken(target)) => {
                let affordable = controller::affordable(target, costs).is_some_and(|share| share * leeway >= SHARE_MIN);
                return if affordable { Prospect::Good } else { Prospect::Bad(AutoChoice::OverBudget { ask }) };
            }
            Some(Target::CloudShare(share)) => share.value(),
            None => outlook.asked_share(wish.threshold),
        };
        prospect_of_share(share, ask, costs, leeway)
    }
}

/// Of asking about this share of the tokens.
fn prospect_of_share(share: f64, ask: Duration, costs: Costs, leeway: f64) -> Prospect {
    let alone = costs.step;
    let with_cloud = alone + costs.catch_up + ask.mul_f64(share);
    let slowest = (alone * SLOWER_MAX).max(NOTICED);
    if with_cloud <= slowest.mul_f64(leeway) {
        Prospect::Good
    } else {
        Prospect::Bad(AutoChoice::TooSlow { with_cloud, alone })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::edge::outlook::AskCost;

    const A: SessionId = SessionId(1);
    const B: SessionId = SessionId(2);

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn at(seconds: u64) -> Time {
        Time(Duration::from_secs(seconds))
    }

    fn wish(session: SessionId) -> Wish {
        Wish { session, threshold: Threshold::NEVER, budget: None }
    }

    fn asked(cost: u64) -> AskCost {
        AskCost { delay: Some(ms(cost)), rows: 1, compute: ms(1) }
    }

    /// A device that takes 20 ms a token, and a link on which each ask has cost so many milliseconds.
    struct Scene {
        switch: Switch,
        outlook: Outlook,
    }

    impl Scene {
        fn new() -> Self {
            let mut outlook = Outlook::default();
            outlook.first_took(ms(20));
            Self { switch: Switch::default(), outlook }
        }

        fn asks_cost(&mut self, count: u32, cost: u64) {
            (0..count).for_each(|_| self.outlook.asked(asked(cost)));
        }

        fn choose(&mut self, seconds: u64, session: SessionId) -> AutoChoice {
            self.switch.choose(at(seconds), wish(session), &mut self.outlook)
        }
    }

    #[test]
    fn a_cold_start_collaborates_until_enough_is_known() {
        let mut scene = Scene::new();
        assert_eq!(scene.choose(0, A), AutoChoice::Untried);
        scene.asks_cost(ASKS_MIN - 1, 5_000);
        assert_eq!(scene.choose(0, A), AutoChoice::Untried);
        scene.asks_cost(1, 5_000);
        assert!(!scene.choose(0, A).uses_cloud());
    }

    #[test]
    fn links_near_the_limit_do_not_flap() {
        let mut scene = Scene::new();
        // The limit is 100 ms a token: asks of 80 ms on top of 20.
        let mut switches = 0;
        let mut last = true;
        for round in 0u64..2_000 {
            // At its begin, and in the middle.
            for _ in 0..2 {
                let now = scene.choose(round, A).uses_cloud();
                scene.asks_cost(if now { 4 } else { 0 }, 74 + [0, 6, 14, 9, 3][round as usize % 5]);
                switches += u32::from(now != last);
                last = now;
            }
            scene.switch.release(at(round), A);
        }
        assert!((1..=25).contains(&switches), "{switches} switches in 2000 answers; all but the first are probes");
    }

    #[test]
    fn slow_and_unnoticed_is_good_enough() {
        let mut scene = Scene::new();
        scene.asks_cost(30, 70);
        assert_eq!(scene.choose(0, A), AutoChoice::Worthwhile, "4.5 times slower, and still faster than people read");
        scene.asks_cost(60, 200);
        let AutoChoice::TooSlow { with_cloud, alone } = scene.choose(0, A) else { panic!("too slow") };
        assert!(with_cloud > ms(200) && alone == ms(20));
        let slow_device = Wish { threshold: Threshold::NEVER, ..wish(B) };
        let mut outlook = Outlook::default();
        outlook.first_took(ms(200));
        (0..9).for_each(|_| outlook.asked(asked(190)));
        let choice = Switch::default().choose(at(0), slow_device, &mut outlook);
        assert_eq!(choice, AutoChoice::Worthwhile, "the edge alone is no faster than half of it");
    }

    #[test]
    fn probes_come_after_pauses_that_grow_and_find_a_link_that_got_good() {
        let mut scene = Scene::new();
        scene.asks_cost(9, 900);
        assert!(!scene.choose(0, A).uses_cloud());
        assert!(!scene.choose(9, A).uses_cloud());
        assert_eq!(scene.choose(10, A), AutoChoice::Probing);
        assert_eq!(scene.choose(10, B), AutoChoice::Awaiting, "one probe is enough");
        scene.asks_cost(ASKS_MIN, 900);
        assert!(!scene.choose(11, A).uses_cloud(), "the probe falls to the edge while it is answered");
        assert!(!scene.choose(30, A).uses_cloud(), "the pause has doubled");
        assert_eq!(scene.choose(31, B), AutoChoice::Probing);
        scene.asks_cost(ASKS_MIN, 10);
        assert_eq!(scene.choose(32, B), AutoChoice::Worthwhile);
        assert_eq!(scene.choose(32, A), AutoChoice::Worthwhile);
    }

    #[test]
    fn a_probe_that_finds_nothing_out_makes_room() {
        let mut scene = Scene::new();
        scene.asks_cost(9, 900);
        scene.choose(0, A);
        assert_eq!(scene.choose(10, A), AutoChoice::Probing);
        scene.switch.release(at(11), B);
        assert_eq!(scene.choose(11, B), AutoChoice::Awaiting, "not the probe's to release");
        scene.switch.release(at(11), A);
        assert_eq!(scene.choose(11, B), AutoChoice::Probing);
    }

    #[test]
    fn a_time_budget_decides_by_what_it_leaves() {
        let mut scene = Scene::new();
        scene.asks_cost(30, 2_000);
        let of = |text: &str| Wish { budget: Some(text.parse::<Target>().expect("a target").into()), ..wish(A) };
        let mut choose = |text| Switch::default().choose(at(0), of(text), &mut scene.outlook);
        assert_eq!(choose("tpot=100ms"), AutoChoice::Worthwhile, "one token in 25");
        assert_eq!(choose("tpot=21ms"), AutoChoice::OverBudget { ask: ms(2_000) });
        assert!(!choose("cloud=50%").uses_cloud(), "a second for each token");
        assert_eq!(choose("cloud=2%"), AutoChoice::Worthwhile);
    }
}
