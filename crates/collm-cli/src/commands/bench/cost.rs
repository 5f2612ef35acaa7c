//! `collm bench cost`: what a token costs an edge part.

use collm_bench::decode_cost::{CostReport, edge_cost};
use collm_ggml::Threads;

use crate::{
    args::{BenchCostArgs, values::Auto},
    commands::evidence::Subject,
    exits::ExitSettings,
    results::ResultFolder,
    ui::{self, progress::ProgressMode},
};

pub(super) fn run(args: &BenchCostArgs, progress: ProgressMode) -> anyhow::Result<()> {
    let folder = args.out.as_deref().map(ResultFolder::create).transpose()?;
    let subject = Subject::prepare(&args.model, &args.shape, progress)?;
    let judges = ExitSettings::settle(&subject.edge, Auto::Auto, None)?.judges;
    let step = progress.step("measuring");
    let threads = Threads::unbound(args.threads as usize);
    let report = edge_cost(&subject.whole, &subject.edge, judges, &threads, args.rounds as usize)?;
    step.done("took");
    if let Some(folder) = folder {
        folder.write_summary(&report)?;
    }
    if args.json {
        ui::print::line(serde_json::to_string_pretty(&report)?)?;
    } else {
        ui::print::line(render(&report))?;
    }
    Ok(())
}

fn render(report: &CostReport) -> String {
    let [low, high] = report.quartiles;
    format!(
        "a token costs the edge part {:.1} % of what it costs the whole model (quartiles {:.1} % and {:.1} %, {} pairs)\n\
         whole model {:.2} ms, edge part with its check {:.2} ms a token",
        100.0 * report.ratio,
        100.0 * low,
        100.0 * high,
        report.rounds,
        report.whole_us / 1000.0,
        report.edge_us / 1000.0
    )
}
