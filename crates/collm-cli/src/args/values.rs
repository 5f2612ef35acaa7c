//! From one word to one value. Messages say how to write it.

use std::time::Duration;

use collm_core::{
    budget::{Target, TargetError},
    confidence::ConfidenceMeasure,
    policy::{Mode, Threshold},
};
use collm_http::Origin;
use collm_link::{Bandwidth, BandwidthError, LinkSpec};
use collm_model::split::{LayerListError, parse_layer_list};

/// `10-11,16-29` or `15`: layers in the order they run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Layers(pub(crate) Vec<u32>);

/// A value, or the word `auto` for what the edge part says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Auto<T> {
    #[default]
    Auto,
    Given(T),
}

/// `0`, `0,2` or `0-3`: processor cores.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Cores(pub(crate) Vec<u32>);

pub(crate) fn layers(text: &str) -> Result<Layers, LayerListError> {
    parse_layer_list(text).map(Layers)
}

/// Cores are listed as layers are, but none is no choice.
pub(crate) fn cores(text: &str) -> Result<Cores, String> {
    let cores = parse_layer_list(text).ok().filter(|cores| !cores.is_empty());
    cores.map(Cores).ok_or_else(|| "write cores as in 0,2-3".to_owned())
}

/// `0.8`: a share of something, above 0 and at most 1.
pub(crate) fn share(text: &str) -> Result<f64, String> {
    let number = text.parse().ok().filter(|number| *number > 0.0 && *number <= 1.0);
    number.ok_or_else(|| "write a share above 0 and at most 1, as in 0.8".to_owned())
}

/// `128`: the rank of a shortlist's keys, which are stored in blocks of 32.
pub(crate) fn rank_of_keys(text: &str) -> Result<u32, String> {
    let number = text.parse().ok().filter(|number: &u32| *number > 0 && number.is_multiple_of(32));
    number.ok_or_else(|| "write a multiple of 32, as in 128".to_owned())
}

pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text).map_err(|_| "write a time as in 80ms, 2s or 5min".to_owned())
}

/// `64MiB`, `1.5GB` or a plain number of bytes.
pub(crate) fn bytes(text: &str) -> Result<usize, String> {
    let parsed = text.parse::<bytesize::ByteSize>().map_err(|_| "write a size as in 512MiB or 2GiB".to_owned())?;
    usize::try_from(parsed.as_u64()).map_err(|_| "more than this machine can address".to_owned())
}

pub(crate) fn threshold(text: &str) -> Result<Threshold, String> {
    let number = text.parse().ok().and_then(Threshold::new);
    number.ok_or_else(|| "write a confidence from 0 to 1, or more than 1 to ask for every token".to_owned())
}

/// `https://host:port`, as browsers say it. Not `*`: whoever lets every page ask should have named them.
pub(crate) fn origin(text: &str) -> Result<Origin, String> {
    let is_origin = text.split_once("://").is_some_and(|(scheme, host)| {
        ["http", "https"].contains(&scheme) && !host.is_empty() && !host.contains(['/', '*'])
    });
    let parsed = text.parse().ok().filter(|_| is_origin);
    parsed.ok_or_else(|| {
        "write an origin as browsers say it, as in https://chat.example or http://127.0.0.1:3000".to_owned()
    })
}

/// `tpot=60ms` or `cloud=20%`.
pub(crate) fn budget(text: &str) -> Result<Target, TargetError> {
    text.parse()
}

pub(crate) fn threshold_or_auto(text: &str) -> Result<Auto<Threshold>, String> {
    if text == "auto" { Ok(Auto::Auto) } else { threshold(text).map(Auto::Given) }
}

pub(crate) fn confidence(text: &str) -> Result<Auto<ConfidenceMeasure>, String> {
    if text == "auto" {
        return Ok(Auto::Auto);
    }
    text.parse().map(Auto::Given).map_err(|_| "the measures are auto, max-prob, margin, entropy and gate".to_owned())
}

pub(crate) fn mode(text: &str) -> Result<Mode, String> {
    let named = Mode::ALL.into_iter().find(|mode| mode.name() == text);
    named.ok_or_else(|| format!("the modes are {}", Mode::ALL.map(Mode::name).join(", ")))
}

/// `20ms,30mbit`: an emulated link, the bandwidth each way.
pub(crate) fn link(text: &str) -> Result<LinkSpec, String> {
    let (rtt, rate) = text.split_once(',').ok_or("write a round trip and a bandwidth as in 20ms,30mbit")?;
    let bandwidth: Bandwidth = rate.parse().map_err(|error: BandwidthError| error.to_string())?;
    let spec = LinkSpec { rtt: duration(rtt)?, up: bandwidth, down: bandwidth, ..LinkSpec::PERFECT };
    spec.validated().map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cores_are_a_list_that_is_not_empty() {
        assert_eq!(cores("0,2-3"), Ok(Cores(vec![0, 2, 3])));
        assert!(cores("").is_err());
        assert!(cores("all").is_err());
    }

    #[test]
    fn thresholds_are_numbers_from_zero() {
        assert_eq!(threshold("0.8"), Ok(Threshold::DEFAULT));
        assert!(threshold("-0.1").is_err());
        assert!(threshold("nan").is_err());
        assert!(threshold("inf").is_ok());
    }

    #[test]
    fn origins_are_named_one_by_one() {
        assert!(origin("https://chat.example").is_ok() && origin("http://127.0.0.1:3000").is_ok());
        for wrong in ["*", "https://*", "chat.example", "https://chat.example/", "file://a", "null"] {
            assert!(origin(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn budgets_say_how_they_are_written() {
        assert_eq!(budget("cloud=20%"), Target::cloud_share(0.2));
        assert!(budget("20%").is_err_and(|error| error.to_string().contains("tpot=60ms")));
    }

    #[test]
    fn auto_is_a_word_for_thresholds_and_measures() {
        assert_eq!(threshold_or_auto("auto"), Ok(Auto::Auto));
        assert_eq!(threshold_or_auto("0.8"), Ok(Auto::Given(Threshold::DEFAULT)));
        assert!(threshold_or_auto("high").is_err());
        assert_eq!(confidence("auto"), Ok(Auto::Auto));
        assert_eq!(confidence("max-prob"), Ok(Auto::Given(ConfidenceMeasure::MaxProb)));
        assert!(confidence("p1").is_err_and(|message| message.contains("margin")));
    }

    #[test]
    fn sizes_and_times_read_as_people_write_them() {
        assert_eq!(bytes("64MiB"), Ok(64 << 20));
        assert_eq!(duration("80ms"), Ok(Duration::from_millis(80)));
        assert!(bytes("many").is_err());
        assert!(duration("80").is_err());
    }

    #[test]
    fn links_are_a_time_and_a_rate() {
        let spec = link("20ms,30mbit").expect("a link");
        assert_eq!(
            (spec.rtt, spec.up, spec.down),
            (Duration::from_millis(20), spec.down, "30mbit".parse().expect("a rate"))
        );
        for wrong in ["20ms", "20,30mbit", "20ms,fast", "2days,30mbit"] {
            assert!(link(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn modes_are_the_words_of_the_table() {
        assert_eq!(mode("naive"), Ok(Mode::Naive));
        assert_eq!(mode("exact"), Ok(Mode::Exact));
        assert_eq!(mode("auto"), Ok(Mode::Auto));
        assert!(mode("edge").is_err_and(|message| message.starts_with("the modes are whole, cloud, naive")));
    }
}
