//! What /proc tells of processes and of the machine.
use crate::Trouble;

/// Resident memory of a process, bytes.
#[derive(Debug, Clone, Copy)]
pub struct Resident {
    /// All of it, mapped files included.
    pub total: u64,
    /// Without mapped files: what the system cannot take back.
    pub anonymous: u64,
}

/// Resident memory of a process.
pub fn resident(pid: u32) -> Result<Resident, Trouble> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let field = |name: &str| -> Result<u64, Trouble> {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).ok_or("no such field")?;
        Ok(line.trim().trim_end_matches(" kB").parse::<u64>()? * 1024)
    };
    Ok(Resident { total: field("VmRSS:")?, anonymous: field("RssAnon:")? })
}

/// Seconds of processor time that a process has used; `None` once it is gone.
pub fn cpu_seconds(pid: u32) -> Option<f64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in parentheses may hold spaces; user and system time are fields 14 and 15.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks = fields.get(11)?.parse::<f64>().ok()? + fields.get(12)?.parse::<f64>().ok()?;
    // USER_HZ is 100 on every Linux that Rust runs on.
    Some(ticks / 100.0)
}

/// Load averages of 1, 5 and 15 minutes.
pub fn load() -> String {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split_whitespace().take(3).collect::<Vec<_>>().join(" ")
}

/// Processor time of the whole machine, and of that what was ours neither to use nor to give: (total, stolen).
pub fn machine_ticks() -> (u64, u64) {
    let text = std::fs::read_to_string("/proc/stat").unwrap_or_default();
    let fields: Vec<u64> = text
        .lines()
        .next()
        .unwrap_or_default()
        .split_whitespace()
        .skip(1)
        .filter_map(|field| field.parse().ok())
        .collect();
    // Guest time, after the eighth, is part of user time.
    (fields.iter().take(8).sum(), fields.get(7).copied().unwrap_or_default())
}

/// Processor and number of cores.
pub fn machine() -> String {
    let text = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model =
        text.lines().find(|line| line.starts_with("model name")).and_then(|line| line.split_once(':'));
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    format!("{}, {cores} cores", model.map_or("unknown processor", |(_, model)| model.trim()))
}

/// The commit that the working directory stands at, "+" where it was changed since.
pub fn commit() -> String {
    let git = |arguments: &[&str]| {
        let output = std::process::Command::new("git").args(arguments).output().ok()?;
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let Some(commit) = git(&["rev-parse", "--short", "HEAD"]) else { return "unknown".into() };
    let is_clean =
        git(&["status", "--porcelain", "--untracked-files=no"]).is_some_and(|text| text.is_empty());
    if is_clean { commit } else { commit + "+" }
}
