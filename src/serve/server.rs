//! One port for HTTP/1.1 and HTTP/2 (with prior knowledge, so gRPC too), and a shutdown that lets requests finish.
use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use super::limits::Limits;

/// A client that has not sent a request's head by then is not going to.
const HEADER_TIMEOUT: Duration = Duration::from_secs(30);

/// Pings on idle HTTP/2 connections: a peer that is gone is noticed although TCP alone would wait for hours.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(30);

/// Requests at once on one HTTP/2 connection. Each may hold a body, so this bounds a connection's memory.
const HTTP2_STREAMS_MAX: u32 = 256;

/// Out of file descriptors: others must close first, and accepting at once again would only burn a core.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Serves until `shutdown`, then takes no more connections and lets requests in flight finish, for at most
/// `limits.drain`.
///
/// Errors: the listener itself is broken.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    limits: Limits,
    shutdown: CancellationToken,
) -> io::Result<()> {
    let connections = Arc::new(Semaphore::new(limits.connections_max));
    let graceful = GracefulShutdown::new();
    let mut builder = Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEADER_TIMEOUT);
    builder
        .http2()
        .timer(TokioTimer::new())
        .adaptive_window(true)
        .keep_alive_interval(KEEP_ALIVE_INTERVAL)
        .max_concurrent_streams(HTTP2_STREAMS_MAX);
    loop {
        let place = tokio::select! {
            () = shutdown.cancelled() => break,
            place = connections.clone().acquire_owned() => place,
        };
        let stream = tokio::select! {
            () = shutdown.cancelled() => break,
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => stream,
                Err(error) if is_of_one_connection(&error) => continue,
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            },
        };
        set_options(&stream);
        let service = TowerToHyperService::new(router.clone());
        let connection = builder.serve_connection(TokioIo::new(stream), service).into_owned();
        let connection = graceful.watch(connection);
        tokio::spawn(async move {
            let _place = place;
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a connection broke");
            }
        });
    }
    drop(listener);
    if tokio::time::timeout(limits.drain, graceful.shutdown()).await.is_err() {
        tracing::warn!(waited = ?limits.drain, "requests were still running when the time to drain was over");
    }
    Ok(())
}

fn set_options(stream: &TcpStream) {
    // Small answers must not wait for the client's delayed acknowledgement.
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "cannot set TCP_NODELAY");
    }
}

fn is_of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::net::SocketAddr;

    use axum::routing::get;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tower::{Service, ServiceExt};

    use super::*;

    /// The answer over HTTP/1.1, head and all.
    async fn http1(address: SocketAddr, path: &str) -> io::Result<String> {
        let mut stream = TcpStream::connect(address).await?;
        let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        Ok(answer)
    }

    /// The answer's text over HTTP/2 with prior knowledge, as gRPC clients speak it.
    async fn http2(address: SocketAddr) -> String {
        let endpoint = tonic::transport::Endpoint::from_shared(format!("http://{address}")).unwrap();
        let mut channel = endpoint.connect().await.unwrap();
        let request = axum::http::Request::builder().uri("/").body(tonic::body::Body::empty()).unwrap();
        let answer = channel.ready().await.unwrap().call(request).await.unwrap();
        assert_eq!(answer.version(), axum::http::Version::HTTP_2);
        let bytes = axum::body::to_bytes(axum::body::Body::new(answer.into_body()), 100).await.unwrap();
        String::from_utf8(bytes.to_vec()).unwrap()
    }

    #[tokio::test]
    async fn both_versions_of_http_share_the_port_and_requests_in_flight_outlive_shutdown() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shutdown = CancellationToken::new();
        let began = Arc::new(tokio::sync::Notify::new());
        let signal = began.clone();
        let router = Router::new().route("/", get(async || "here")).route(
            "/slow",
            get(async move || {
                signal.notify_one();
                tokio::time::sleep(Duration::from_millis(200)).await;
                "done"
            }),
        );
        let server = tokio::spawn(serve(listener, router, Limits::default(), shutdown.clone()));
        let answer = http1(address, "/").await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("\r\n\r\nhere"), "{answer}");
        assert_eq!(http2(address).await, "here");
        let request = tokio::spawn(async move { http1(address, "/slow").await });
        began.notified().await;
        shutdown.cancel();
        assert!(request.await.unwrap().unwrap().ends_with("done"));
        server.await.unwrap().unwrap();
        assert!(TcpStream::connect(address).await.is_err());
    }
}
