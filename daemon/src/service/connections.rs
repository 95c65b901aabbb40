//! Connections of clients: taken, served, and when the daemon stops let finish the requests under way. Who answers is others' business.

use std::pin::pin;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// How long no connection is taken after one could not be, because too many files are open, say.
const BREATH: Duration = Duration::from_millis(200);

/// Serves connections until told to stop, and lets the requests under way finish.
pub(super) async fn serve(listener: TcpListener, router: Router, stop: CancellationToken) {
    let connections = TaskTracker::new();
    let mut http = http1::Builder::new();
    // What is relayed keeps the spelling of its headers.
    http.preserve_header_case(true);
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stop.cancelled() => break,
        };
        match accepted {
            Ok((connection, _)) => {
                let served = serve_one(http.clone(), connection, router.clone(), stop.clone());
                connections.spawn(served);
            }
            Err(error) => {
                tracing::warn!(%error, "cannot take a connection");
                tokio::time::sleep(BREATH).await;
            }
        }
    }
    drop(listener);
    connections.close();
    connections.wait().await;
}

/// Serves a connection to its end, or until it is upgraded.
async fn serve_one(
    http: http1::Builder,
    connection: TcpStream,
    router: Router,
    stop: CancellationToken,
) {
    // Small frames must not wait for the client's acknowledgement of the ones before: 40 ms on the first token.
    if let Err(error) = connection.set_nodelay(true) {
        tracing::debug!(%error, "cannot set TCP_NODELAY");
    }
    let service = TowerToHyperService::new(router);
    let mut served = pin!(http.serve_connection(TokioIo::new(connection), service).with_upgrades());
    let ended = tokio::select! {
        biased;
        ended = served.as_mut() => ended,
        () = stop.cancelled() => {
            served.as_mut().graceful_shutdown();
            served.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection ended early");
    }
}
