//! Health, readiness and metrics over HTTP, on loopback unless configured otherwise.

use std::{io, sync::Arc};

use axum::{
    Router,
    extract::State,
    http::{StatusCode, header},
    response::IntoResponse,
    routing::get,
};
use tokio::{net::TcpListener, sync::watch};
use wardline_audit::Progress;

use crate::{heartbeat, node::Node};

#[derive(Clone)]
struct Observed {
    node: Arc<Node>,
    audit: watch::Receiver<Progress>,
}

/// Serves until `stopped` resolves.
///
/// # Errors
/// What the socket reports.
pub async fn serve(
    listener: TcpListener,
    node: Arc<Node>,
    audit: watch::Receiver<Progress>,
    stopped: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    let routes = Router::new()
        .route("/healthz", get(health))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .with_state(Observed { node, audit });
    axum::serve(listener, routes).with_graceful_shutdown(stopped).await
}

/// The process answers and the journal takes records: it need not be restarted.
async fn health(State(Observed { node, .. }): State<Observed>) -> impl IntoResponse {
    match &*node.failure().borrow() {
        None => (StatusCode::OK, "ok\n".to_owned()),
        Some(failure) => (StatusCode::SERVICE_UNAVAILABLE, format!("{failure}\n")),
    }
}

/// It takes connections and has reached its audit store: it may be sent clients.
async fn ready(State(Observed { node, audit }): State<Observed>) -> impl IntoResponse {
    let not = |reason: String| (StatusCode::SERVICE_UNAVAILABLE, reason);
    if let Some(failure) = &*node.failure().borrow() {
        return not(format!("{failure}\n"));
    }
    if node.is_stopping() {
        return not("stopping\n".to_owned());
    }
    let progress = audit.borrow();
    let lag = heartbeat::lag(&node, &progress);
    match (&progress.last_error, progress.audited_up_to) {
        // The journal keeps the rows meanwhile, so that alerting goes on; only new work is better sent elsewhere.
        (Some(error), _) => not(format!("audit store: {error}; {lag} records wait\n")),
        (None, None) => not("the audit store has not been reached yet\n".to_owned()),
        (None, Some(_)) => (StatusCode::OK, format!("ready\naudit lag {lag} records\n")),
    }
}

async fn metrics(State(Observed { node, audit }): State<Observed>) -> impl IntoResponse {
    let lag = heartbeat::lag(&node, &audit.borrow());
    let text = node.metrics().text(&node.counters(), node.next_offset().0, lag);
    ([(header::CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")], text)
}
