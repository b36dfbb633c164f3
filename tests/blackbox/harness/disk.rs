//! A file system of our own in a file, which can be frozen: every write to it then waits, reads go on.
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use super::skip;

/// How long a freeze lasts at most, should this process be killed in it.
const THAW_SECONDS: u32 = 180;

/// An ext4 in a loop device.
pub struct Disk(PathBuf);

impl Disk {
    /// Makes it and mounts it at `at`; skips the test where that is not possible (no root, no loop devices), or fails
    /// it with `PROXIMADB_REQUIRE=freeze`.
    pub fn mount(at: &Path, bytes: u64) -> Option<Self> {
        let image = at.with_extension("img");
        std::fs::create_dir_all(at).unwrap();
        std::fs::File::create(&image).unwrap().set_len(bytes).unwrap();
        let steps: [(&str, &[&str], &[&Path]); 3] = [
            ("mkfs.ext4", &["-q", "-F"], &[&image]),
            ("mount", &["-o", "loop,noatime"], &[&image, at]),
            ("fsfreeze", &["--help"], &[]),
        ];
        for (program, options, paths) in steps {
            if let Err(why) = run(program, options, paths) {
                let _ = run("umount", &["-l"], &[at]);
                return skip("freeze", &format!("no disk can be stalled here: {why}"));
            }
        }
        let disk = Self(at.to_owned());
        match disk.freeze() {
            Ok(_) => Some(disk),
            Err(why) => skip("freeze", &format!("no disk can be stalled here: {why}")),
        }
    }

    /// Stalls it until the answer is dropped.
    pub fn freeze(&self) -> Result<Frozen, String> {
        run("fsfreeze", &["-f"], &[&self.0])?;
        // A process that writes to a frozen disk cannot be killed: should this one be, somebody has to thaw.
        let thaw = format!("sleep {THAW_SECONDS}; fsfreeze -u \"$0\"");
        let watch = Command::new("sh")
            .args(["-c", &thaw])
            .arg(&self.0)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        Ok(Frozen { at: self.0.clone(), watch: watch.unwrap() })
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = run("umount", &["-l"], &[&self.0]);
    }
}

/// A disk that is stalled.
pub struct Frozen {
    at: PathBuf,
    watch: Child,
}

impl Drop for Frozen {
    fn drop(&mut self) {
        let thawed = run("fsfreeze", &["-u"], &[&self.at]);
        let _ = self.watch.kill();
        let _ = self.watch.wait();
        if let Err(why) = thawed {
            eprintln!("{:?} stays frozen: {why}", self.at);
        }
    }
}

fn run(program: &str, options: &[&str], paths: &[&Path]) -> Result<(), String> {
    match Command::new(program).args(options).args(paths).output() {
        Ok(done) if done.status.success() => Ok(()),
        Ok(done) => Err(format!("{program}: {}", String::from_utf8_lossy(&done.stderr).trim())),
        Err(error) => Err(format!("{program}: {error}")),
    }
}
