//! Connections of clients: taken, served by a few threads, each connection by one of them to its end, and when the daemon stops let finish
//! the requests under way. Who answers is others' business.

use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::available_parallelism;
use std::time::{Duration, SystemTime};

use axum::Router;
use axum::extract::Request;
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::{Next, from_fn, map_response};
use axum::response::{IntoResponse as _, Response};
use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::{AbortOnDropHandle, TaskTracker};

use crate::threads::Thread;

/// How long no connection is taken after one could not be, because too many files are open, say.
const BREATH: Duration = Duration::from_millis(200);

/// Threads that serve connections, at most: two pass on some 25,000 requests a second.
const THREADS: usize = 4;

/// The threads that serve connections. A connection stays with one of them, with the connections to upstreams that it needs: what passes
/// from one thread to another costs more than all else that is done for it.
#[derive(Debug)]
pub(super) struct Servers(Vec<Server>);

#[derive(Debug)]
struct Server {
    thread: Thread,
    /// Connections that it serves.
    load: Arc<AtomicUsize>,
}

/// Counts a connection for as long as it lives.
struct Served(Arc<AtomicUsize>);

impl Drop for Served {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Servers {
    /// Starts as many as there are CPUs. Fails when the system gives none.
    pub(super) fn start() -> io::Result<Self> {
        let count = available_parallelism().map_or(1, usize::from).min(THREADS);
        let server = |number| {
            let thread = Thread::start(&format!("dwell-http-{number}"), number, || {})?;
            Ok(Server { thread, load: Arc::default() })
        };
        (1..=count).map(server).collect::<io::Result<_>>().map(Self)
    }

    /// The one that serves the fewest connections.
    fn freest(&self) -> Option<&Server> {
        self.0.iter().min_by_key(|server| server.load.load(Ordering::Relaxed))
    }
}

/// The same routes, answered by the runtime that asks for this: what takes long, such as to take a report apart, must keep none of the
/// streams waiting that the connection's thread passes on. Whoever goes away takes the work with it.
pub(super) fn apart(routes: Router) -> Router {
    let runtime = Handle::current();
    dated(routes).layer(from_fn(move |request: Request, next: Next| {
        let answered = AbortOnDropHandle::new(runtime.spawn(next.run(request)));
        async {
            answered.await.unwrap_or_else(|error| {
                tracing::error!(%error, "a request could not be answered");
                StatusCode::INTERNAL_SERVER_ERROR.into_response()
            })
        }
    }))
}

/// The same routes, whose answers say when they were made, as those of every server that has a clock (RFC 9110, section 6.6.1).
pub(super) fn dated(routes: Router) -> Router {
    routes.layer(map_response(async |mut response: Response| {
        if let Ok(now) = HeaderValue::from_str(&httpdate::fmt_http_date(SystemTime::now())) {
            response.headers_mut().entry(header::DATE).or_insert(now);
        }
        response
    }))
}

/// Serves connections until told to stop, and lets the requests under way finish.
pub(super) async fn serve(
    listener: TcpListener,
    router: Router,
    (servers, stop): (Arc<Servers>, CancellationToken),
) {
    let connections = TaskTracker::new();
    let mut http = http1::Builder::new();
    // What is relayed keeps the spelling of its headers.
    http.preserve_header_case(true);
    // Nor gets it a date that it did not come with; answers of our own are dated where they are made.
    http.auto_date_header(false);
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stop.cancelled() => break,
        };
        match accepted {
            Ok((connection, _)) => {
                let Some(server) = servers.freest() else { break };
                server.load.fetch_add(1, Ordering::Relaxed);
                let served = Served(server.load.clone());
                // One of its own to look at: all would wait for each other's looks.
                let (http, router, stop) = (http.clone(), router.clone(), stop.child_token());
                let serving = async move {
                    // Its bytes wake the thread that serves it.
                    match connection.into_std().and_then(TcpStream::from_std) {
                        Ok(connection) => serve_one(http, connection, router, stop).await,
                        Err(error) => tracing::warn!(%error, "cannot serve a connection"),
                    }
                    drop(served);
                };
                connections.spawn_on(serving, server.thread.handle());
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
    match ended {
        Err(error) if error.is_parse_too_large() => {
            tracing::warn!(
                "a request was refused with 431: its head has more than 100 headers or 400 KiB"
            );
        }
        Err(error) => tracing::debug!(%error, "a connection ended early"),
        Ok(()) => {}
    }
}
