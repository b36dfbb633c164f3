//! Fail points: named steps of the durable path at which a test ends, slows or fails the program.
//!
//! They are in builds with debug assertions, so the program that tests start has them and a release has not.
//! `FAILPOINTS=wal::after_sync=abort@3` ends the process at the third time it passes the point, as `kill -9`
//! would; `=sleep(200)` waits so many milliseconds each time; `=error` fails the step. Several are joined by `;`.

/// Every fail point there is: the tests go through all of them.
pub const POINTS: [&str; 17] = [
    // A group of entries: not in the file yet, in the file, durable.
    "wal::before_write",
    "wal::before_sync",
    "wal::after_sync",
    // A new file of the log is durable and holds no entry.
    "wal::file_created",
    // The log is cut behind what is flushed: a file of it is about to go.
    "wal::before_remove",
    // A segment: its files are written, their names not durable; all durable, named by no manifest.
    "store::segment_before_dir_fsync",
    "store::segment_written",
    // Rows that died since, written for a manifest to come.
    "store::deletes_written",
    // A manifest: its draft is durable; renamed; its name durable.
    "store::manifest_before_rename",
    "store::manifest_renamed",
    "store::manifest_after_rename",
    // A file that no manifest names is about to go.
    "store::before_collect",
    // A merge: its manifest is durable, readers still use what was merged.
    "shard::merge_published",
    // A graph: its file is there, no manifest names it.
    "shard::graph_written",
    // A flush: its manifest is durable, and readers use it; the log is not cut.
    "shard::flush_published",
    // A new collection: its directory is there; the catalog names it.
    "catalog::before_insert",
    "catalog::inserted",
];

/// Reads what the environment asks for; a mistake in it ends the process, for a test that arms nothing would pass
/// without testing anything. Without this call, the first point that is passed does the same.
#[cfg(debug_assertions)]
pub fn arm() {
    armed::armed();
}

/// Reads nothing, in a release.
#[cfg(not(debug_assertions))]
pub fn arm() {}

/// Passes a point. `Err` where the environment asks for a failure; ends the process where it asks for that.
#[cfg(debug_assertions)]
pub fn pass(point: &'static str) -> std::io::Result<()> {
    armed::pass(point)
}

/// Passes a point: nothing, in a release.
#[cfg(not(debug_assertions))]
#[inline(always)]
pub fn pass(_: &'static str) -> std::io::Result<()> {
    Ok(())
}

#[cfg(debug_assertions)]
mod armed {
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::time::Duration;

    #[derive(Debug, PartialEq)]
    enum Action {
        Abort,
        Sleep(Duration),
        Error,
    }

    #[derive(Debug)]
    pub struct Armed {
        point: String,
        action: Action,
        /// Only at this passage, from 1; `None` at each.
        at: Option<u64>,
        passed: AtomicU64,
    }

    pub fn armed() -> &'static [Armed] {
        static ARMED: OnceLock<Vec<Armed>> = OnceLock::new();
        ARMED.get_or_init(|| {
            let text = std::env::var("FAILPOINTS").unwrap_or_default();
            parse(&text).unwrap_or_else(|problem| {
                eprintln!("FAILPOINTS={text:?}: {problem}");
                std::process::abort()
            })
        })
    }

    pub fn pass(point: &'static str) -> std::io::Result<()> {
        for one in armed().iter().filter(|one| one.point == point) {
            let passed = one.passed.fetch_add(1, Ordering::Relaxed) + 1;
            if one.at.is_some_and(|at| at != passed) {
                continue;
            }
            match one.action {
                Action::Abort => {
                    eprintln!("fail point {point}: the process ends at passage {passed}");
                    std::process::abort();
                }
                Action::Sleep(pause) => std::thread::sleep(pause),
                Action::Error => return Err(std::io::Error::other(format!("fail point {point}"))),
            }
        }
        Ok(())
    }

    fn parse(text: &str) -> Result<Vec<Armed>, String> {
        text.split(';').map(str::trim).filter(|one| !one.is_empty()).map(parse_one).collect()
    }

    fn parse_one(text: &str) -> Result<Armed, String> {
        let (point, action) = text.split_once('=').ok_or_else(|| format!("{text:?} is not POINT=ACTION"))?;
        if !super::POINTS.contains(&point) {
            return Err(format!("there is no point {point:?}; there are {}", super::POINTS.join(", ")));
        }
        let (action, at) = match action.split_once('@') {
            None => (action, None),
            Some((action, at)) => {
                let number = at.parse().map_err(|_| format!("{at:?} is not a number of passages"))?;
                (action, Some(number))
            }
        };
        let millis = action.strip_prefix("sleep(").and_then(|rest| rest.strip_suffix(')')?.parse().ok());
        let action = match (action, millis) {
            ("abort", _) => Action::Abort,
            ("error", _) => Action::Error,
            (_, Some(millis)) => Action::Sleep(Duration::from_millis(millis)),
            _ => return Err(format!("{action:?} is none of abort, error, sleep(MILLISECONDS)")),
        };
        Ok(Armed { point: point.to_string(), action, at, passed: AtomicU64::new(0) })
    }

    #[cfg(test)]
    #[allow(clippy::unwrap_used)]
    mod tests {
        use super::*;

        #[test]
        fn what_is_armed_is_said_in_full_or_refused() {
            let armed = parse("wal::before_sync=sleep(20); wal::after_sync=abort@3;").unwrap();
            assert_eq!((&armed[0].action, armed[0].at), (&Action::Sleep(Duration::from_millis(20)), None));
            assert_eq!((&armed[1].action, armed[1].at), (&Action::Abort, Some(3)));
            for wrong in [
                "wal::after_sink=abort",
                "wal::after_sync",
                "wal::after_sync=stop",
                "wal::after_sync=abort@x",
            ] {
                assert!(parse(wrong).is_err(), "{wrong}");
            }
        }
    }
}
