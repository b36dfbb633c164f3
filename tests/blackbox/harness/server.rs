//! The real program, as a process that can be killed.
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::time::{Duration, Instant};

use super::http::Client;
use super::wait_until;

/// How long a start may take: recovery of what tests write, on a machine with two busy cores.
const START_WAIT: Duration = Duration::from_secs(60);

/// What OPERATIONS.md tells the allocator where the memory limit is small: else glibc keeps more than the limit in its
/// arenas.
pub const ALLOCATOR: [(&str, &str); 3] =
    [("MALLOC_ARENA_MAX", "4"), ("MALLOC_MMAP_THRESHOLD_", "1048576"), ("MALLOC_TRIM_THRESHOLD_", "2097152")];

/// `proximadb serve`.
pub struct Server {
    child: Option<Child>,
    data: PathBuf,
    pipelines: Option<PathBuf>,
    environment: Vec<(String, String)>,
    log: PathBuf,
    client: Option<Client>,
}

impl Server {
    /// Starts a server on a free port and waits until it is ready. Its log is kept beside `data`.
    pub fn start(data: &Path, pipelines: Option<&Path>) -> Self {
        Self::start_with(data, pipelines, &[])
    }

    /// The same with variables in its environment.
    pub fn start_with(data: &Path, pipelines: Option<&Path>, environment: &[(&str, &str)]) -> Self {
        let environment =
            environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let mut server = Self {
            child: None,
            data: data.to_owned(),
            pipelines: pipelines.map(Path::to_owned),
            environment,
            log: data.with_extension("log"),
            client: None,
        };
        server.launch();
        server.wait_ready();
        server
    }

    /// Starts the process and reads its address; does not wait until it is ready.
    pub fn launch(&mut self) {
        if let Err(problem) = self.try_launch() {
            self.fail(problem);
        }
    }

    /// Starts a server that may refuse to: `None` if it ends instead of becoming ready.
    pub fn try_start(data: &Path) -> Option<Self> {
        let mut server = Self {
            child: None,
            data: data.to_owned(),
            pipelines: None,
            environment: Vec::new(),
            log: data.with_extension("log"),
            client: None,
        };
        if server.try_launch().is_err() {
            return None;
        }
        let ready = wait_until("the server to be ready, or to end", START_WAIT, || {
            let ended = server.child.as_mut().is_some_and(|child| child.try_wait().unwrap().is_some());
            if ended { Some(false) } else { (server.try_get("/readyz") == Some(200)).then_some(true) }
        });
        ready.then_some(server)
    }

    fn try_launch(&mut self) -> Result<(), &'static str> {
        assert!(self.child.is_none(), "it is running");
        let log = std::fs::File::options().create(true).append(true).open(&self.log).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_proximadb"));
        command.args(["serve", "--listen", "127.0.0.1:0", "--data-dir"]).arg(&self.data);
        if let Some(pipelines) = &self.pipelines {
            command.arg("--pipelines").arg(pipelines);
        }
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log).spawn().unwrap();
        let stdout = BufReader::new(child.stdout.take().expect("stdout is piped"));
        let (sender, address) = sync_channel(1);
        // Goes on reading, so that the server never waits for a full pipe.
        std::thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                if let Some(address) = line.trim().strip_prefix("listening on ") {
                    let _ = sender.try_send(address.to_owned());
                }
            }
        });
        self.child = Some(child);
        match address.recv_timeout(START_WAIT) {
            Ok(address) => self.client = Some(Client::new(&address)),
            Err(RecvTimeoutError::Timeout) => return Err("it did not say `listening on …`"),
            Err(RecvTimeoutError::Disconnected) => return Err("it ended before it said `listening on …`"),
        }
        Ok(())
    }

    /// Waits for `/readyz`.
    pub fn wait_ready(&mut self) {
        let deadline = Instant::now() + START_WAIT;
        loop {
            if self.try_get("/readyz") == Some(200) {
                return;
            }
            if let Some(status) = self.child.as_mut().and_then(|child| child.try_wait().unwrap()) {
                self.fail(&format!("it ended with {status} before it was ready"));
            }
            if Instant::now() >= deadline {
                self.fail("it is not ready");
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn try_get(&self, path: &str) -> Option<u16> {
        Some(self.client().try_send(reqwest::Method::GET, path, None).ok()?.status)
    }

    fn fail(&self, what: &str) -> ! {
        let log = self.log();
        let tail: Vec<&str> = log.lines().rev().take(40).collect();
        let tail: Vec<&str> = tail.into_iter().rev().collect();
        panic!("server over {:?}: {what}; its log ends with\n{}", self.data, tail.join("\n"));
    }

    /// Its REST door.
    pub fn client(&self) -> &Client {
        self.client.as_ref().expect("the server was started")
    }

    /// Everything it has logged, over all its lives.
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.as_ref().expect("it is running").id()
    }

    /// Resident memory, bytes.
    pub fn resident_bytes(&self) -> u64 {
        self.status_bytes("VmRSS:")
    }

    /// The part of it that is no mapped file: what the system cannot take back.
    pub fn anonymous_bytes(&self) -> u64 {
        self.status_bytes("RssAnon:")
    }

    fn status_bytes(&self, key: &str) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix(key)).expect("a process has a size");
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
    }

    /// Ends it in the middle of whatever it does.
    pub fn kill9(&mut self) {
        let mut child = self.child.take().expect("it is running");
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// Waits until it has ended by itself.
    pub fn wait_end(&mut self, within: Duration) -> ExitStatus {
        let mut child = self.child.take().expect("it was running");
        wait_until("the server to end by itself", within, || child.try_wait().unwrap())
    }

    /// Changes a variable of its environment from the next start on.
    pub fn set_environment(&mut self, name: &str, value: &str) {
        self.environment.retain(|(known, _)| known != name);
        self.environment.push((name.to_owned(), value.to_owned()));
    }

    /// Asks it to end, and waits until it has.
    pub fn sigterm(&mut self) -> ExitStatus {
        let pid = self.pid().to_string();
        assert!(Command::new("sh").args(["-c", "kill -TERM \"$0\"", &pid]).status().unwrap().success());
        let mut child = self.child.take().expect("it is running");
        wait_until("the server to end after SIGTERM", Duration::from_secs(60), || child.try_wait().unwrap())
    }

    /// Starts it again over the same data, on another port.
    pub fn restart(&mut self) {
        self.launch();
        self.wait_ready();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
        if std::thread::panicking() {
            let log = self.log();
            let lines: Vec<&str> = log.lines().collect();
            eprintln!(
                "--- log of the server over {:?}\n{}",
                self.data,
                lines[lines.len().saturating_sub(60)..].join("\n")
            );
        }
    }
}
