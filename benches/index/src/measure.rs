//! Time, CPU time and memory of this process, and passes over all queries.
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};
use serde_json::{Value, json};

use crate::Result;

/// CPU time of all threads of this process: what neighbours on the machine disturb least.
pub fn cpu_seconds() -> f64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

/// A line of `/proc/self/status` in bytes, 0 where there is none.
fn status(name: &str) -> u64 {
    let text = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    let kib = line.and_then(|line| line.trim_matches([':', ' ', '\t', 'k', 'B']).parse::<u64>().ok());
    kib.unwrap_or(0) * 1024
}

/// Resident memory: of the process alone, and of files mapped.
pub fn memory() -> Value {
    json!({"anonymous": status("RssAnon"), "mapped": status("RssFile")})
}

/// Resident memory at its highest since [`forget_peak`].
pub fn peak() -> u64 {
    status("VmHWM")
}

/// Resident memory now.
pub fn resident() -> u64 {
    status("VmRSS")
}

/// Starts counting the peak anew.
pub fn forget_peak() -> Result<()> {
    Ok(std::fs::write("/proc/self/clear_refs", "5")?)
}

/// Runs `call` for each of `count` queries on so many threads, again and again for `seconds` and at least
/// three times. Returns the fastest pass: whatever else runs on the machine only ever adds.
pub fn passes<F>(count: usize, threads: usize, seconds: f64, call: F) -> Result<Value>
where
    F: Fn(usize) -> Result<()> + Sync,
{
    let began = Instant::now();
    let (mut walls, mut cpus) = (Vec::new(), Vec::new());
    while walls.len() < 3 || began.elapsed().as_secs_f64() < seconds {
        let (start, cpu) = (Instant::now(), cpu_seconds());
        pass(count, threads, &call)?;
        walls.push(start.elapsed().as_secs_f64());
        cpus.push(cpu_seconds() - cpu);
    }
    Ok(json!({"wall_s": least(&walls), "cpu_s": least(&cpus), "passes": walls.len()}))
}

fn pass<F>(count: usize, threads: usize, call: &F) -> Result<()>
where
    F: Fn(usize) -> Result<()> + Sync,
{
    if threads == 1 {
        return (0..count).try_for_each(call);
    }
    let next = AtomicUsize::new(0);
    let work = || loop {
        let at = next.fetch_add(1, Ordering::Relaxed);
        if at >= count {
            return Ok(());
        }
        call(at)?;
    };
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        workers.into_iter().try_for_each(|worker| worker.join().map_err(|_| "a searching thread panicked")?)
    })
}

fn least(values: &[f64]) -> f64 {
    values.iter().copied().fold(f64::INFINITY, f64::min)
}

/// How long each call takes, one by one, in µs: median and 99th percentile over queries, each the fastest of
/// three, since on a shared machine the slowest call tells of the scheduler.
pub fn latency<F>(count: usize, call: F) -> Result<Value>
where
    F: Fn(usize) -> Result<()>,
{
    let mut times = vec![Duration::MAX; count];
    for _ in 0..3 {
        for (at, time) in times.iter_mut().enumerate() {
            let start = Instant::now();
            call(at)?;
            *time = start.elapsed().min(*time);
        }
    }
    times.sort_unstable();
    let micros = |share: f64| {
        let time = times.get((times.len().saturating_sub(1) as f64 * share) as usize);
        time.map_or(f64::NAN, |time| time.as_secs_f64() * 1e6)
    };
    Ok(json!({"p50_us": micros(0.5), "p99_us": micros(0.99)}))
}
