//! What is uploaded and from when on, in virtual time: feeds that a cloud does not take, tokens in place of states, uploads that wait
//! for the first ask, and edges that keep tokens to themselves.

use std::time::Duration;

use collm_core::{
    edge::{Event, Loss, Request, Stats, SubmitError},
    frame::{Feed, ToCloud},
    ids::SessionId,
    policy::{Mode, RunAhead, Threshold},
    sampling::Sampling,
    states::Encoding,
    upload::{FeedChoice, FeedReason, UploadSettings, UploadStart},
};
use collm_engine::scripted::Script;
use collm_testkit::{Entry, Plan, World, request};

/// Turns do not end, so that answers have the length asked for.
fn quiet() -> Plan {
    Plan::quiet(Script { turn_ends: 0.0, ..Script::default() })
}

/// An edge that uploads so.
fn uploading(change: impl FnOnce(&mut UploadSettings)) -> Plan {
    let mut plan = quiet();
    change(&mut plan.edges[0].config.upload);
    plan
}

/// Asks the cloud for every token.
fn unsure(session: u128) -> Request {
    Request { thresholds: Threshold::NEVER.into(), stop: vec![], ..request(session, 1.0) }
}

/// Asks for nothing.
fn sure(session: u128) -> Request {
    Request { thresholds: Threshold::ALWAYS.into(), ..unsure(session) }
}

fn played(plan: Plan) -> World {
    let mut world = World::new(plan);
    world.run();
    world
}

fn stats(world: &World, session: u128) -> Stats {
    world.answer(session).end.clone().expect("the world has come to rest").expect("no engine failed").1
}

fn feed(world: &World, session: u128) -> (Feed, FeedReason) {
    let chosen = stats(world, session).feed.expect("the mode has a cloud");
    (chosen.feed, chosen.reason)
}

fn losses(world: &World) -> Vec<Loss> {
    let loss = |entry: &Entry| match entry {
        Entry::Told(_, Event::Degraded(loss)) => Some(loss.clone()),
        _ => None,
    };
    world.log().iter().filter_map(|(_, entry)| loss(entry)).collect()
}

/// When anything was sent to a cloud, the first frame of a stream included.
fn departures(world: &World) -> Vec<Duration> {
    let sent = |entry: &Entry| matches!(entry, Entry::Connected(_) | Entry::Transmitted(..));
    world.log().iter().filter(|(_, entry)| sent(entry)).map(|(at, _)| at.0).collect()
}

fn first_ask(world: &World) -> Option<Duration> {
    let asks = |entry: &Entry| matches!(entry, Entry::Transmitted(_, ToCloud::Ask(_) | ToCloud::Score { .. }));
    world.log().iter().find(|(_, entry)| asks(entry)).map(|(at, _)| at.0)
}

#[test]
fn a_session_that_is_refused_for_its_feed_goes_on_with_what_the_cloud_takes() {
    for (encoding, choice) in [(Encoding::Rotated22, FeedChoice::States), (Encoding::F32, FeedChoice::Tokens)] {
        let mut plan = uploading(|upload| (upload.encoding, upload.collaborative) = (encoding, choice));
        plan.clouds[0].config.encodings = vec![Encoding::F16, Encoding::F32];
        plan.clouds[0].config.holds_whole = false;
        let world = played(plan.asking(0, unsure(1)).asking(2_000, unsure(2)));
        let expected = (Feed::States(Encoding::F32), FeedReason::NotTaken);
        assert_eq!((feed(&world, 1), feed(&world, 2)), (expected, expected), "{encoding:?}");
        assert_eq!(losses(&world), [], "nobody is told: the cloud answers everything");
        assert_eq!((stats(&world, 1).connections, stats(&world, 2).connections), (2, 1), "the second one knows");
        assert_eq!((stats(&world, 1).cloud_tokens, stats(&world, 2).cloud_tokens), (16, 16));
    }
}

#[test]
fn a_session_that_has_told_something_is_finished_without_the_cloud() {
    let mut plan = uploading(|upload| upload.encoding = Encoding::Int8);
    plan.clouds[0].config.encodings = vec![Encoding::F32];
    plan.link.latency = Duration::from_millis(100);
    plan.exact = false;
    // Half of the tokens are sure, and the first of them is told before the refusal comes.
    let mixed = |session| Request { thresholds: Threshold::new(0.5).expect("a number").into(), ..unsure(session) };
    let world = played(plan.asking(0, mixed(1)).asking(2_000, mixed(2)));
    assert!(matches!(&losses(&world)[..], [Loss::Refused(refusal)] if refusal.message.contains("does not take int8")));
    assert_eq!(feed(&world, 2), (Feed::States(Encoding::F32), FeedReason::NotTaken));
}

#[test]
fn token_ids_go_up_where_they_are_chosen_and_taken() {
    for choice in [FeedChoice::Tokens, FeedChoice::Auto] {
        let plan = uploading(|upload| upload.collaborative = choice);
        let world = played(plan.asking(0, unsure(1)));
        let expected = match choice {
            FeedChoice::Tokens => (Feed::Tokens, FeedReason::Set),
            _ => (Feed::States(Encoding::F16), FeedReason::CloudUnknown),
        };
        assert_eq!(feed(&world, 1), expected);
        assert_eq!((stats(&world, 1).cloud_tokens, losses(&world).len()), (16, 0));
    }
}

#[test]
fn nothing_leaves_before_the_first_ask() {
    for choice in [FeedChoice::States, FeedChoice::Tokens] {
        for mode in [Mode::Collaborative, Mode::Exact] {
            let lazy = |session: Request| {
                let plan = uploading(|upload| {
                    (upload.start, upload.collaborative, upload.exact) = (UploadStart::Lazy, choice, choice);
                });
                played(plan.asking(0, Request { mode, ..session }))
            };
            let world = lazy(unsure(1));
            assert_eq!(departures(&world).first().copied(), first_ask(&world), "{mode:?}");
            assert_eq!((stats(&world, 1).cloud_tokens, losses(&world).len()), (16, 0));
            if mode == Mode::Collaborative {
                let world = lazy(sure(1));
                assert_eq!((departures(&world), stats(&world, 1).connections), (vec![], 0));
            }
        }
    }
}

#[test]
fn waiting_with_the_upload_changes_no_token() {
    let answer = |start, run_ahead| {
        let plan = uploading(|upload| upload.start = start);
        let mixed = Request { run_ahead, thresholds: Threshold::DEFAULT.into(), tokens_max: 60, ..unsure(1) };
        let world = played(plan.asking(0, mixed));
        (world.answer(1).ids(), stats(&world, 1).asks > 0)
    };
    let eager = answer(UploadStart::Eager, RunAhead::Never);
    assert!(eager.1, "something is asked");
    for run_ahead in [RunAhead::Never, RunAhead::Always(5), RunAhead::DEFAULT] {
        assert_eq!(answer(UploadStart::Lazy, run_ahead), eager, "{run_ahead:?}");
    }
}

#[test]
fn a_private_edge_sends_states_and_nothing_else() {
    for run_ahead in [RunAhead::Never, RunAhead::Always(8)] {
        let plan = uploading(|upload| {
            *upload = UploadSettings {
                collaborative: FeedChoice::Tokens,
                exact: FeedChoice::Tokens,
                private: true,
                ..*upload
            };
        });
        let asked = |session, mode| Request { mode, run_ahead, ..unsure(session) };
        let world = played(plan.asking(0, asked(1, Mode::Collaborative)).asking(0, asked(2, Mode::Exact)));
        assert_eq!(feed(&world, 1), (Feed::States(Encoding::F16), FeedReason::Private));
        assert_eq!(feed(&world, 2), (Feed::States(Encoding::F32), FeedReason::Private));
        let told = |entry: &Entry| match entry {
            Entry::Transmitted(_, ToCloud::Ask(ask)) => ask.guess.is_some(),
            Entry::Transmitted(_, ToCloud::States { tokens, .. }) => !tokens.is_empty(),
            Entry::Transmitted(_, ToCloud::Tokens { .. } | ToCloud::Generate { .. }) => true,
            _ => false,
        };
        assert!(!world.log().iter().any(|(_, entry)| told(entry)));
        if run_ahead != RunAhead::Never {
            assert!(stats(&world, 1).rollbacks > 0, "guesses that were kept back were wrong");
        }
    }
}

#[test]
fn a_private_edge_refuses_what_would_need_tokens_there() {
    let penalty = Sampling { repeat_penalty: 1.3, repeat_last_n: 8, ..Sampling::GREEDY };
    let requests = [
        Request { mode: Mode::Cloud, ..unsure(1) },
        Request { sampling: penalty.clone(), ..unsure(2) },
        Request { score_prompt: true, ..unsure(3) },
        Request { mode: Mode::Auto, sampling: penalty.clone(), ..unsure(4) },
        Request { mode: Mode::Standalone, sampling: penalty, ..unsure(5) },
    ];
    let mut plan = uploading(|upload| upload.private = true);
    for request in requests {
        plan = plan.asking(0, request);
    }
    let world = played(plan);
    let refused = |entry: &Entry| match entry {
        Entry::Submitted(id, Err(SubmitError::Private(_))) => Some(*id),
        _ => None,
    };
    let refused: Vec<SessionId> = world.log().iter().filter_map(|(_, entry)| refused(entry)).collect();
    assert_eq!(refused, [1, 2, 3, 4].map(SessionId), "what stays on the device may look at what it likes");
}
