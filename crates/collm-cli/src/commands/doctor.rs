//! `collm doctor`: what this machine computes with, where models are kept, whether the cloud lets this edge in, and what would
//! be slow.

use std::time::{Duration, SystemTime};

use anyhow::Context as _;
use collm_core::frame::{Refusal, RefusalCode};
use collm_ggml::{DeviceInfo, DeviceKind};
use collm_model::{Holding, fetch::Fetcher, store};
use collm_node::{CloudEndpoint, Probed, probe};

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

/// A distance from which on waiting for the cloud shows: the time of some tokens of a small model.
const ROUND_TRIP_FAR: Duration = Duration::from_millis(50);

/// One thing that was looked at.
struct Finding {
    what: &'static str,
    found: anyhow::Result<String>,
}

pub(super) fn run(args: &DoctorArgs) -> anyhow::Result<()> {
    let devices = collm_ggml::devices();
    let mut findings = vec![
        Finding { what: "processor", found: Ok(processor()) },
        Finding { what: "devices", found: Ok(devices.iter().map(describe_device).collect::<Vec<_>>().join("; ")) },
        Finding { what: "kernels", found: kernels(&devices) },
        Finding { what: "cache", found: cache() },
    ];
    if let Some(part) = &args.part {
        findings.push(Finding { what: "part", found: describe_part(part) });
    }
    let mut round_trip = None;
    if let Some(url) = &args.cloud {
        let cloud = knock(args, url).and_then(|cloud| {
            round_trip = Some(cloud.round_trip);
            describe_cloud(args, url, cloud)
        });
        findings.push(Finding { what: "cloud", found: cloud });
    }
    findings.push(Finding { what: "slow", found: Ok(slow(args, &devices, round_trip)) });
    let healthy = findings.iter().all(|finding| finding.found.is_ok());
    ui::print::line(table::text(&[], findings.iter().map(Finding::row)))?;
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

/// What the processor's kernels use; where they are chosen when the program starts, this tells which were.
fn kernels(devices: &[DeviceInfo]) -> anyhow::Result<String> {
    let processor = devices.iter().find(|device| device.kind == DeviceKind::Processor);
    let processor = processor
        .context("there are none for this processor; do the libraries lie beside the program as it was built?")?;
    Ok(processor.kernel_features.join(" "))
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
fn knock(args: &DoctorArgs, url: &str) -> anyhow::Result<Probed> {
    let file = args.part.as_deref().map(models::open).transpose()?;
    let endpoint = args.cloud_access.endpoint(url)?;
    let who = nodes::knocking(file.as_ref());
    runtime()?.block_on(probe(&endpoint, &who)).with_context(|| format!("{url}; is `collm cloud` running there?"))
}

fn describe_cloud(args: &DoctorArgs, url: &str, probed: Probed) -> anyhow::Result<String> {
    let pair = match probed.refusal {
        // Nobody's pair fits; that it was compared means that all before it did.
        Some(Refusal { code: RefusalCode::Identity, .. }) if args.part.is_none() => {
            "add --part FILE to compare the pair"
        }
        Some(refusal) => return Err(refusal.into()),
        None => "it serves this part",
    };
    let encrypted = if CloudEndpoint::new(url).is_encrypted() { "encrypted" } else { "not encrypted" };
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
fn slow(args: &DoctorArgs, devices: &[DeviceInfo], round_trip: Option<Duration>) -> String {
    let mut reasons = Vec::new();
    let features = process::processor_features();
    if cfg!(target_arch = "x86_64") && !features.contains(&"avx2") {
        reasons.push("this processor has no AVX2: prompts take several times as long".to_owned());
    }
    let unused = unused(&features, devices);
    if !unused.is_empty() {
        let unused = unused.join(" ");
        reasons.push(format!("the kernels do not use {unused}, which this processor has: build here with ./run build"));
    }
    if process::usable_cores().len() == 1 {
        reasons.push("one core computes and talks at once".to_owned());
    }
    reasons.extend(args.part.as_deref().and_then(too_large));
    if args.cloud.as_deref().is_some_and(|url| CloudEndpoint::new(url).is_on_this_machine()) {
        reasons.push(
            "edge and cloud on one machine wait for each other's cores: give each its own with --cores".to_owned(),
        );
    }
    if let Some(far) = round_trip.filter(|round_trip| *round_trip >= ROUND_TRIP_FAR) {
        let far = ui::time(far);
        reasons.push(format!("the cloud is {far} away: every guess of the edge that it corrects costs at least that"));
    }
    if cfg!(debug_assertions) {
        reasons.push("this program is a debug build".to_owned());
    }
    if reasons.is_empty() { "nothing that can be seen from here".to_owned() } else { reasons.join("; ") }
}

/// Features of the processor that make kernels fast, and that its kernels were built without.
fn unused<'a>(features: &[&'a str], devices: &[DeviceInfo]) -> Vec<&'a str> {
    let Some(processor) = devices.iter().find(|device| device.kind == DeviceKind::Processor) else { return Vec::new() };
    let is_used = |feature: &str| processor.kernel_features.iter().any(|used| *used == name_in_kernels(feature));
    features.iter().copied().filter(|feature| !is_used(feature)).collect()
}

/// What ggml calls a feature of the processor.
fn name_in_kernels(feature: &str) -> String {
    match feature {
        "avx512f" => "AVX512".to_owned(),
        "avx512vnni" => "AVX512_VNNI".to_owned(),
        "avx512bf16" => "AVX512_BF16".to_owned(),
        "i8mm" => "MATMUL_INT8".to_owned(),
        other => other.to_uppercase(),
    }
}

/// Whether the weights of a part fit into memory that is free. Files that cannot be read are another finding's.
fn too_large(part: &std::path::Path) -> Option<String> {
    let (part, free) = (std::fs::metadata(part).ok()?.len(), process::memory_available()?);
    (part > free).then(|| {
        let (part, free) = (ui::size(part), ui::size(free));
        format!("the part's {part} do not fit into the {free} of memory that are free: weights are read from disk again and again")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn features_that_kernels_leave_unused_are_found() {
        let processor = DeviceInfo {
            name: "CPU".into(),
            description: String::new(),
            kind: DeviceKind::Processor,
            memory_free_bytes: 0,
            memory_total_bytes: 0,
            weight_layouts: Vec::new(),
            kernel_features: ["SSE3", "AVX2", "AVX512"].map(str::to_owned).to_vec(),
        };
        assert_eq!(unused(&["avx2", "avx512f", "avx512vnni"], &[processor]), ["avx512vnni"]);
        assert!(unused(&["avx2"], &[]).is_empty(), "that there are no kernels is another finding");
    }
}
