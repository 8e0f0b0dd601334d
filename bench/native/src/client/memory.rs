//! This process's memory, as the kernel counts it.

use anyhow::{Context, Result};

/// Requests in flight at the first reading, so that what is made once is not divided among the rest.
pub(super) const BEFORE: usize = 100;

/// Resident memory now.
pub(super) fn resident_bytes() -> Result<u64> {
    read("/proc/self/smaps_rollup", "Rss:")
}

/// The most there has been.
pub(super) fn peak_bytes() -> Result<u64> {
    read("/proc/self/status", "VmHWM:")
}

fn read(path: &str, name: &str) -> Result<u64> {
    let text = std::fs::read_to_string(path)?;
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(name))
        .with_context(|| format!("no {name} in {path}"))?;
    let kibibytes: u64 = line.trim().trim_end_matches("kB").trim().parse()?;
    Ok(kibibytes * 1024)
}
