//! This process, its cores and its children: where they run, and that no child outlives its parent.
//!
//! A child is this same program with another command. It tells its address with one JSON line on stdout, is killed when its
//! handle is dropped, and asks the system to be killed when the parent dies without a chance to drop anything.

use std::{
    io::{BufRead as _, BufReader},
    net::SocketAddr,
    process::{Child, ChildStdout, Command, Stdio},
};

use anyhow::{Context as _, ensure};
use serde::{Deserialize, Serialize};

use crate::{args::values::Cores, settings::without_settings, ui};

/// Environment variable by which a parent asks its child to die with it.
const DIE_WITH_PARENT: &str = "COLLM_DIE_WITH_PARENT";

/// First line of a server's stdout.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Ready {
    /// Where it listens.
    pub(crate) listening: SocketAddr,
    /// Where those who watch over it ask, if that is somewhere else.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) metrics: Option<SocketAddr>,
}

impl Ready {
    /// Tells whoever started this process that it serves.
    pub(crate) fn announce(self) -> anyhow::Result<()> {
        ui::print::line(serde_json::to_string(&self)?)?;
        Ok(())
    }
}

/// A server that is killed when this is dropped.
#[derive(Debug)]
pub(crate) struct Server {
    child: Child,
    ready: Ready,
    /// Kept open, or a later line of the child's would fail it.
    stdout: BufReader<ChildStdout>,
}

impl Server {
    /// Starts this program with `arguments` and waits until it serves. What it says on stderr goes to ours.
    pub(crate) fn start(arguments: &[String]) -> anyhow::Result<Self> {
        let name = arguments.first().map_or("server", String::as_str);
        let program = std::env::current_exe().context("cannot find the running program to start it again")?;
        let mut child = without_settings(&mut Command::new(program))
            .args(arguments)
            .env(DIE_WITH_PARENT, std::process::id().to_string())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start the {name} process"))?;
        let stdout = child.stdout.take().expect("stdout was asked to be a pipe");
        let nowhere = Ready { listening: SocketAddr::from(([127, 0, 0, 1], 0)), metrics: None };
        let mut server = Self { child, ready: nowhere, stdout: BufReader::new(stdout) };
        server.ready = server.first_line().with_context(|| format!("the {name} process did not start"))?;
        Ok(server)
    }

    fn first_line(&mut self) -> anyhow::Result<Ready> {
        let mut line = String::new();
        self.stdout.read_line(&mut line).context("cannot read its first line")?;
        ensure!(!line.is_empty(), "it ended with its message above");
        serde_json::from_str(&line).with_context(|| format!("it said {line:?} instead of its address"))
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.ready.listening
    }

    /// Where it tells its numbers, if it was started with `--metrics`.
    pub(crate) fn metrics(&self) -> Option<SocketAddr> {
        self.ready.metrics
    }

    /// Whether it has not ended by itself.
    pub(crate) fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended already; either way nothing of it remains.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Keeps the promise of [`Server`] from the child's side, first thing in `main`.
pub(crate) fn die_with_parent_if_asked() -> anyhow::Result<()> {
    let Some(parent) = std::env::var_os(DIE_WITH_PARENT) else { return Ok(()) };
    #[cfg(target_os = "linux")]
    {
        use rustix::process::{Pid, Signal, getppid, set_parent_process_death_signal};
        set_parent_process_death_signal(Some(Signal::KILL)).context("cannot ask to die with the parent process")?;
        // The parent may have died before that: then this process has been handed to another one.
        let is_there = parent.to_str().is_some_and(|parent| Pid::as_raw(getppid()).to_string() == parent);
        ensure!(is_there, "the parent process is gone");
    }
    #[cfg(not(target_os = "linux"))]
    let _ = parent;
    Ok(())
}

/// Runs this process, and every thread it will start, on these cores only.
pub(crate) fn pin(cores: &Cores) -> anyhow::Result<()> {
    #[cfg(target_os = "linux")]
    {
        use rustix::thread::{CpuSet, sched_setaffinity};
        let mut set = CpuSet::new();
        for &core in &cores.0 {
            ensure!((core as usize) < CpuSet::MAX_CPU, "core {core} does not exist; cores are numbered from 0");
            set.set(core as usize);
        }
        sched_setaffinity(None, &set).with_context(|| {
            format!("cannot run on the cores {:?} only; choose among those that this process may use", cores.0)
        })
    }
    #[cfg(not(target_os = "linux"))]
    anyhow::bail!("--cores {:?} needs Linux; leave it out here", cores.0)
}

/// Cores that this process may use, by number.
pub(crate) fn usable_cores() -> Vec<u32> {
    #[cfg(target_os = "linux")]
    {
        use rustix::thread::{CpuSet, sched_getaffinity};
        if let Ok(set) = sched_getaffinity(None) {
            return (0..CpuSet::MAX_CPU).filter(|&core| set.is_set(core)).map(|core| core as u32).collect();
        }
    }
    let count = std::thread::available_parallelism().map_or(1, usize::from);
    (0..count as u32).collect()
}

/// What makes kernels fast, of what this machine has.
pub(crate) fn processor_features() -> Vec<&'static str> {
    #[cfg(target_arch = "x86_64")]
    {
        let known = [
            ("avx2", is_x86_feature_detected!("avx2")),
            ("fma", is_x86_feature_detected!("fma")),
            ("f16c", is_x86_feature_detected!("f16c")),
            ("avx512f", is_x86_feature_detected!("avx512f")),
            ("avx512vnni", is_x86_feature_detected!("avx512vnni")),
            ("avx512bf16", is_x86_feature_detected!("avx512bf16")),
        ];
        known.into_iter().filter(|(_, present)| *present).map(|(name, _)| name).collect()
    }
    #[cfg(target_arch = "aarch64")]
    {
        let known = [
            ("neon", std::arch::is_aarch64_feature_detected!("neon")),
            ("dotprod", std::arch::is_aarch64_feature_detected!("dotprod")),
            ("i8mm", std::arch::is_aarch64_feature_detected!("i8mm")),
            ("sve", std::arch::is_aarch64_feature_detected!("sve")),
        ];
        known.into_iter().filter(|(_, present)| *present).map(|(name, _)| name).collect()
    }
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    Vec::new()
}

/// Bytes of memory that a process can have before others lose theirs; `None` where the system does not tell.
pub(crate) fn memory_available() -> Option<u64> {
    let told = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = told.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    Some(line.trim().strip_suffix(" kB")?.parse::<u64>().ok()? * 1024)
}
