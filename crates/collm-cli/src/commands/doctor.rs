//! `collm doctor`: what this machine computes with, where models are kept, and whether the cloud lets this edge in.

use std::time::{Duration, SystemTime};

use anyhow::Context as _;
use collm_core::frame::{Refusal, RefusalCode};
use collm_ggml::{DeviceInfo, DeviceKind};
use collm_model::{Holding, fetch::Fetcher, store};
use collm_node::{CloudEndpoint, probe};

use crate::{
    args::DoctorArgs,
    commands::runtime,
    models, nodes, process,
    ui::{
        self,
        colour::{ERROR, GOOD, Painted},
        table,
    },
};

/// Clocks that differ by less are taken for equal.
const CLOCKS_APART: Duration = Duration::from_secs(3);

/// One thing that was looked at.
struct Finding {
    what: &'static str,
    found: anyhow::Result<String>,
}

pub(super) fn run(args: &DoctorArgs) -> anyhow::Result<()> {
    let mut findings = vec![
        Finding { what: "processor", found: Ok(processor()) },
        Finding { what: "devices", found: Ok(devices()) },
        Finding { what: "cache", found: cache() },
    ];
    if let Some(part) = &args.part {
        findings.push(Finding { what: "part", found: describe_part(part) });
    }
    if let Some(cloud) = &args.cloud {
        findings.push(Finding { what: "cloud", found: self::cloud(args, cloud) });
    }
    findings.push(Finding { what: "slow", found: Ok(slow(args)) });
    let healthy = findings.iter().all(|finding| finding.found.is_ok());
    anstream::println!("{}", table::text(&[], findings.iter().map(Finding::row)));
    anyhow::ensure!(healthy, "something is wrong; see above");
    Ok(())
}

impl Finding {
    fn row(&self) -> Vec<String> {
        let (mark, text) = match &self.found {
            Ok(text) => (Painted(GOOD, "ok").to_string(), text.clone()),
            Err(error) => (Painted(ERROR, "bad").to_string(), format!("{error:#}")),
        };
        vec![mark, self.what.to_owned(), text]
    }
}

fn processor() -> String {
    let features = process::processor_features();
    let features = if features.is_empty() { "no vector extensions known".to_owned() } else { features.join(" ") };
    format!("{} cores usable, {features}", process::usable_cores().len())
}

fn devices() -> String {
    collm_ggml::devices().iter().map(describe_device).collect::<Vec<_>>().join("; ")
}

fn describe_device(device: &DeviceInfo) -> String {
    let kind = match device.kind {
        DeviceKind::Processor => "processor",
        DeviceKind::Graphics => "graphics",
        DeviceKind::Accelerator => "accelerator",
    };
    let layouts = device.weight_layouts.join(", ");
    let layouts = if layouts.is_empty() { String::new() } else { format!(", weights repacked as {layouts}") };
    format!("{} ({kind}: {}{layouts})", device.name, device.description.trim())
}

fn cache() -> anyhow::Result<String> {
    let fetcher = Fetcher::from_environment()?;
    let stored = store::list(&fetcher.cache, &fetcher.hub);
    let bytes = stored.iter().map(|model| model.bytes).sum();
    Ok(format!("{}, {} files, {}", fetcher.cache.root().display(), stored.len(), ui::size(bytes)))
}

fn describe_part(path: &std::path::Path) -> anyhow::Result<String> {
    let file = models::open(path)?;
    match file.holding() {
        Holding::Edge(part) => Ok(format!("edge part of {}, pair {}", part.identity.source_name, part.identity.pair)),
        Holding::Cloud(part) => Ok(format!("cloud part of {}, pair {}", part.identity.source_name, part.identity.pair)),
        Holding::Whole => Ok("a whole model, not split".to_owned()),
    }
}

/// Knocks as an edge would: connection, encryption, key, protocol, pair, distance, clock.
fn cloud(args: &DoctorArgs, url: &str) -> anyhow::Result<String> {
    let file = args.part.as_deref().map(models::open).transpose()?;
    let endpoint = args.cloud_access.endpoint(url)?;
    let who = nodes::knocking(file.as_ref());
    let probed = runtime()?
        .block_on(probe(&endpoint, &who))
        .with_context(|| format!("{url}; is `collm cloud` running there?"))?;
    let pair = match probed.refusal {
        // Nobody's pair fits; that it was compared means that all before it did.
        Some(Refusal { code: RefusalCode::Identity, .. }) if file.is_none() => "add --part FILE to compare the pair",
        Some(refusal) => return Err(refusal.into()),
        None => "it serves this part",
    };
    let encrypted = if endpoint.is_encrypted() { "encrypted" } else { "not encrypted" };
    let clock = probed.date.as_deref().and_then(clock).unwrap_or_else(|| "its clock is not known".to_owned());
    let (connect, round_trip) = (ui::time(probed.connect), ui::time(probed.round_trip));
    Ok(format!("{url}: {encrypted}, {connect} to connect, round trip {round_trip}; {clock}; {pair}"))
}

/// How far the clocks are apart. Certificates are believed only in their time.
fn clock(date: &str) -> Option<String> {
    let theirs = httpdate::parse_http_date(date).ok()?;
    let ours = SystemTime::now();
    let apart = ours.duration_since(theirs).or_else(|_| theirs.duration_since(ours)).ok()?;
    // Dates have no fractions of seconds, and this one has travelled.
    Some(if apart <= CLOCKS_APART {
        "clocks agree".to_owned()
    } else {
        format!("clocks are {} apart", ui::time(apart))
    })
}

/// What would be slow here, and why.
fn slow(args: &DoctorArgs) -> String {
    let mut reasons = Vec::new();
    let features = process::processor_features();
    if cfg!(target_arch = "x86_64") && !features.contains(&"avx2") {
        reasons.push("this processor has no AVX2: prompts take several times as long".to_owned());
    }
    if process::usable_cores().len() == 1 {
        reasons.push("one core computes and talks at once".to_owned());
    }
    if args.cloud.as_deref().is_some_and(|url| CloudEndpoint::new(url).is_on_this_machine()) {
        reasons.push(
            "edge and cloud on one machine wait for each other's cores: give each its own with --cores".to_owned(),
        );
    }
    if cfg!(debug_assertions) {
        reasons.push("this program is a debug build".to_owned());
    }
    if reasons.is_empty() { "nothing that can be seen from here".to_owned() } else { reasons.join("; ") }
}
