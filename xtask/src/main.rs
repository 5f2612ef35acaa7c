//! Tasks of the workspace that cargo itself has no word for. `cargo xtask tidy` checks what the compiler cannot see.
//!
//! Absent on purpose: anything that builds, tests or formats. `run` and `.ci/run` call cargo for that.

mod tidy;

use std::{env, path::Path, process::ExitCode};

const USAGE: &str = "usage: cargo xtask tidy    check dependency directions, sources and result folders";

fn main() -> anyhow::Result<ExitCode> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["tidy"] => report(&tidy::check(workspace_root())?),
        ["help" | "--help" | "-h"] => {
            println!("{USAGE}");
            Ok(ExitCode::SUCCESS)
        }
        _ => {
            eprintln!("{USAGE}");
            Ok(ExitCode::from(2))
        }
    }
}

fn report(complaints: &[String]) -> anyhow::Result<ExitCode> {
    for complaint in complaints {
        eprintln!("tidy: {complaint}");
    }
    if complaints.is_empty() {
        println!("tidy: nothing to complain about");
        return Ok(ExitCode::SUCCESS);
    }
    eprintln!("tidy: {} complaints", complaints.len());
    Ok(ExitCode::FAILURE)
}

fn workspace_root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask is a folder of the workspace")
}
