//! One HTTP/1.1 connection. The harness shares the machine with what it measures, so it does as little as it
//! can per request: no pool, no header map, no copy of the body.
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

use crate::Trouble;

/// A connection that stays open between requests.
#[derive(Debug)]
pub struct Connection {
    host: String,
    stream: BufReader<TcpStream>,
}

impl Connection {
    /// Connects to `host:port`.
    pub async fn open(host: &str) -> Result<Self, Trouble> {
        let stream =
            TcpStream::connect(host).await.map_err(|error| format!("connecting to {host}: {error}"))?;
        stream.set_nodelay(true)?;
        Ok(Self { host: host.to_owned(), stream: BufReader::with_capacity(64 << 10, stream) })
    }

    /// Sends a request and reads its answer: status and body.
    pub async fn call(&mut self, method: &str, path: &str, body: &[u8]) -> Result<(u16, Vec<u8>), Trouble> {
        let head = format!(
            "{method} {path} HTTP/1.1\r\nhost: {}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
            self.host,
            body.len()
        );
        let stream = self.stream.get_mut();
        // One write of what is small, so that it is one packet.
        if body.len() < 16 << 10 {
            stream.write_all(&[head.as_bytes(), body].concat()).await?;
        } else {
            stream.write_all(head.as_bytes()).await?;
            stream.write_all(body).await?;
        }
        self.answer().await
    }

    /// Sends JSON; an answer other than 2xx is an error with its text.
    pub async fn json(&mut self, method: &str, path: &str, body: &Value) -> Result<Value, Trouble> {
        let body = if body.is_null() { Vec::new() } else { serde_json::to_vec(body)? };
        let (status, answer) = self.call(method, path, &body).await?;
        expect_ok(method, path, status, &answer)?;
        Ok(serde_json::from_slice(&answer)?)
    }

    async fn answer(&mut self) -> Result<(u16, Vec<u8>), Trouble> {
        let mut line = String::new();
        self.stream.read_line(&mut line).await?;
        let status = line.split(' ').nth(1).and_then(|code| code.parse().ok());
        let status: u16 = status.ok_or_else(|| format!("no HTTP answer from {}: {line:?}", self.host))?;
        let (mut length, mut is_chunked) = (0, false);
        loop {
            line.clear();
            self.stream.read_line(&mut line).await?;
            let header = line.trim_end().to_ascii_lowercase();
            match header.split_once(':') {
                Some(("content-length", value)) => length = value.trim().parse()?,
                Some(("transfer-encoding", value)) => is_chunked = value.trim() == "chunked",
                Some(_) => {}
                None => break,
            }
        }
        let body = if is_chunked { self.chunks().await? } else { self.take(length).await? };
        Ok((status, body))
    }

    async fn take(&mut self, length: usize) -> Result<Vec<u8>, Trouble> {
        let mut body = vec![0; length];
        self.stream.read_exact(&mut body).await?;
        Ok(body)
    }

    async fn chunks(&mut self) -> Result<Vec<u8>, Trouble> {
        let mut body = Vec::new();
        loop {
            let mut line = String::new();
            self.stream.read_line(&mut line).await?;
            let length = usize::from_str_radix(line.trim(), 16)?;
            let chunk = self.take(length + 2).await?;
            body.extend_from_slice(&chunk[..length]);
            if length == 0 {
                return Ok(body);
            }
        }
    }
}

/// An answer other than 2xx as an error.
pub fn expect_ok(method: &str, path: &str, status: u16, answer: &[u8]) -> Result<(), Trouble> {
    if (200..300).contains(&status) {
        return Ok(());
    }
    Err(format!("{method} {path}: {status} {}", String::from_utf8_lossy(answer)).into())
}
