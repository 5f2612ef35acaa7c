//! Random worlds by the hundred. `COLLM_SEED=… cargo nextest run --release -p collm-testkit --test worlds <profile>` plays one
//! again, `COLLM_WORLDS=…` plays more, `COLLM_TRACE=1` tells everything that happens.

use collm_testkit::{Profile, World};

/// Worlds of each profile unless the environment says otherwise.
const WORLDS: u64 = 500;

/// Says which world failed, whatever failed in it.
struct NamesSeed {
    profile: Profile,
    seed: u64,
}

impl Drop for NamesSeed {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let Self { profile, seed } = self;
            let name = profile.name();
            eprintln!("the world of seed {seed} failed; play it again:");
            eprintln!("COLLM_SEED={seed} cargo nextest run --release -p collm-testkit --test worlds -- --exact {name}");
        }
    }
}

fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable} is {text:?}; it must be a number")))
}

fn play(profile: Profile) {
    let seeds = match number("COLLM_SEED") {
        Some(seed) => seed..=seed,
        None => 1..=number("COLLM_WORLDS").unwrap_or(WORLDS),
    };
    for seed in seeds {
        let _names_seed = NamesSeed { profile, seed };
        World::new(profile.plan(seed)).run();
    }
}

#[test]
fn calm() {
    play(Profile::Calm);
}

#[test]
fn calm_baselines() {
    play(Profile::CalmBaselines);
}

#[test]
fn flaky() {
    play(Profile::Flaky);
}

#[test]
fn crowded() {
    play(Profile::Crowded);
}

#[test]
fn hostile_baselines() {
    play(Profile::HostileBaselines);
}

#[test]
fn hostile() {
    play(Profile::Hostile);
}
