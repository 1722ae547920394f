//! Health, readiness, status and metrics over HTTP, on loopback unless configured otherwise.

mod bounded;

use std::{io, sync::Arc};

use axum::{
    Json, Router,
    extract::State,
    http::{StatusCode, header},
    response::IntoResponse,
    routing::get,
};
use tokio::net::TcpListener;

use self::bounded::Bounded;
use crate::{audited::Audited, clock, node::Node, snapshots::Keeper, status::Status};

/// Connections at a time: a few who watch, and no room for more to take descriptors from the journal.
pub(crate) const CONNECTIONS_MAX: usize = 64;

#[derive(Clone)]
struct Observed {
    node: Arc<Node>,
    keeper: Arc<Keeper>,
    audited: Audited,
}

/// Serves until `stopped` resolves.
///
/// # Errors
/// What the socket reports.
pub async fn serve(
    listener: TcpListener,
    node: Arc<Node>,
    keeper: Arc<Keeper>,
    audited: Audited,
    stopped: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    let routes = Router::new()
        .route("/healthz", get(health))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .route("/status", get(status))
        .with_state(Observed { node, keeper, audited });
    axum::serve(Bounded::new(listener, CONNECTIONS_MAX), routes).with_graceful_shutdown(stopped).await
}

/// The process answers and the journal takes records: it need not be restarted.
async fn health(State(Observed { node, .. }): State<Observed>) -> impl IntoResponse {
    match &*node.failure().borrow() {
        None => (StatusCode::OK, "ok\n".to_owned()),
        Some(failure) => (StatusCode::SERVICE_UNAVAILABLE, format!("{failure}\n")),
    }
}

/// It takes connections. An audit store that is away does not change that: the journal keeps the rows, alerting goes on, and
/// an orchestrator that sent clients elsewhere would end it.
async fn ready(State(Observed { node, audited, .. }): State<Observed>) -> impl IntoResponse {
    if let Some(failure) = &*node.failure().borrow() {
        return (StatusCode::SERVICE_UNAVAILABLE, format!("{failure}\n"));
    }
    if node.is_stopping() {
        return (StatusCode::SERVICE_UNAVAILABLE, "stopping\n".to_owned());
    }
    if !audited.is_kept() {
        return (StatusCode::OK, "ready\nno audit record is kept\n".to_owned());
    }
    let trouble = audited.error().map(|error| format!("audit store: {error}\n")).unwrap_or_default();
    (StatusCode::OK, format!("ready\naudit lag {} records\n{trouble}", audited.lag_records()))
}

/// All that `wardline status` tells, in JSON.
async fn status(State(Observed { node, keeper, audited }): State<Observed>) -> Json<Status> {
    Json(Status::of(&node, keeper.kept(), &audited, clock::now()))
}

async fn metrics(State(Observed { node, audited, .. }): State<Observed>) -> impl IntoResponse {
    let text = node.metrics().text(&node.observed(audited.lag_records()));
    ([(header::CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")], text)
}
