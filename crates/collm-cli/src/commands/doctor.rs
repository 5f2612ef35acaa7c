//! `collm doctor`: what this machine computes with, where models are kept, and whether the cloud can be reached.

use std::{
    net::{TcpStream, ToSocketAddrs as _},
    time::{Duration, Instant},
};

use anyhow::Context as _;
use collm_ggml::{DeviceInfo, DeviceKind};
use collm_model::{Holding, fetch::Fetcher, store};

use crate::{
    args::DoctorArgs,
    failure::usage,
    models, process,
    ui::{
        self,
        colour::{ERROR, GOOD, Painted},
        table,
    },
};

/// Longest wait for a cloud that does not answer.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// Connections whose fastest is the round trip.
const ROUND_TRIPS: usize = 5;

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
        findings.push(Finding { what: "cloud", found: round_trip(cloud) });
    }
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

/// Time to open a connection: one round trip, whatever the cloud is doing.
fn round_trip(url: &str) -> anyhow::Result<String> {
    let Some(authority) = url.strip_prefix("http://") else {
        return usage(format!("{url} is not an address of a cloud; write http://host:port"));
    };
    let mut addresses =
        authority.trim_end_matches('/').to_socket_addrs().with_context(|| format!("cannot find {authority}"))?;
    let address = addresses.next().with_context(|| format!("{authority} has no address"))?;
    let mut fastest = CONNECT_TIMEOUT;
    for _ in 0..ROUND_TRIPS {
        let began = Instant::now();
        TcpStream::connect_timeout(&address, CONNECT_TIMEOUT)
            .with_context(|| format!("cannot connect to {address}; is `collm cloud` running there?"))?;
        fastest = fastest.min(began.elapsed());
    }
    Ok(format!("{url} accepts connections, {} to open one", ui::time(fastest)))
}
