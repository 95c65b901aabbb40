//! A saved baseline marked on the time axis of Grafana, where `dwell.toml` names one: who looks at a change sees which side of it is the past.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Result, ensure};
use dwell_probes::regression::Baseline;
use dwell_probes::time::Stamp;
use serde_json::json;

use crate::https;
use crate::settings::{Grafana, UpstreamArgs, Watching};

/// How long Grafana may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// Tells the Grafana of `dwell.toml`, if there is one.
pub(super) async fn annotate(baseline: &Baseline) -> Result<()> {
    let config = std::env::var_os("DWELL_CONFIG").map(PathBuf::from);
    let args = UpstreamArgs { config, ..UpstreamArgs::default() };
    let watching = Watching::read(&args, &|name| std::env::var(name).ok())?;
    match &watching.grafana {
        Some(grafana) => send(grafana, &baseline.name, baseline.samples.len()).await,
        None => Ok(()),
    }
}

async fn send(grafana: &Grafana, name: &str, runs: usize) -> Result<()> {
    let url = format!("{}/api/annotations", grafana.url);
    let annotation = json!({
        "time": Stamp::now().0 / 1_000_000,
        "tags": ["dwell", "baseline", name],
        "text": format!("The baseline {name} was saved, of {runs} runs."),
    });
    let client = https::client()?.timeout(PATIENCE).build()?;
    let request = client.post(url).json(&annotation);
    let request = match &grafana.token {
        Some(token) => request.bearer_auth(token.reveal()),
        None => request,
    };
    // An address may hold a key.
    let answer = request.send().await.map_err(reqwest::Error::without_url)?;
    ensure!(answer.status().is_success(), "it answered {}", answer.status());
    Ok(())
}

#[cfg(test)]
mod tests {
    use axum::http::StatusCode;
    use axum::routing::post;
    use axum::{Json, Router};
    use serde_json::Value;
    use tokio::sync::mpsc;

    use super::*;

    #[tokio::test]
    async fn grafana_is_told_and_its_refusal_too() {
        let (told, mut inbox) = mpsc::channel(1);
        let take = async move |Json(annotation): Json<Value>| told.send(annotation).await.unwrap();
        let router = Router::new()
            .route("/api/annotations", post(take))
            .route("/closed/api/annotations", post(async || StatusCode::FORBIDDEN));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, router).await });
        let grafana = Grafana { url: url.clone(), token: None };
        send(&grafana, "main", 7).await.unwrap();
        let annotation = inbox.recv().await.unwrap();
        assert_eq!(annotation["tags"], json!(["dwell", "baseline", "main"]));
        assert_eq!(annotation["text"], "The baseline main was saved, of 7 runs.");
        let closed = Grafana { url: format!("{url}/closed"), token: None };
        let refused = send(&closed, "main", 7).await.unwrap_err().to_string();
        assert!(refused.contains("403"), "{refused}");
    }
}
