//! `collm ps`: the edges and clouds that run on this machine.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::Serialize;

use crate::{
    args::PsArgs,
    running::{self, Running},
    ui::{self, table},
};

/// A server, as JSON.
#[derive(Debug, Serialize)]
struct Entry {
    #[serde(flatten)]
    running: Running,
    uptime_seconds: u64,
}

pub(super) fn run(args: &PsArgs) -> anyhow::Result<()> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |passed| passed.as_secs());
    let entry = |running: Running| Entry { uptime_seconds: now.saturating_sub(running.since), running };
    let entries: Vec<Entry> = running::list().into_iter().map(entry).collect();
    if args.json {
        ui::print::line(serde_json::to_string_pretty(&entries)?)?;
    } else if entries.is_empty() {
        ui::print::line(format_args!("nothing runs; start an edge with: collm edge --model smollm2-135m"))?;
    } else {
        ui::print::line(table::text(
            &["role", "model", "address", "cloud", "pid", "up"],
            entries.iter().map(Entry::row),
        ))?;
    }
    Ok(())
}

impl Entry {
    fn row(&self) -> Vec<String> {
        let Running { role, model, url, cloud, pid, .. } = &self.running;
        let up = humantime::format_duration(Duration::from_secs(self.uptime_seconds)).to_string();
        let cloud = cloud.clone().unwrap_or_else(|| "–".to_owned());
        vec![role.clone(), model.clone(), url.clone(), cloud, pid.to_string(), up]
    }
}
