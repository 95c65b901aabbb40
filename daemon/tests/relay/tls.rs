//! An upstream behind TLS: trusted by the authority that the settings name, refused without it, its phases measured.

use std::net::SocketAddr;
use std::sync::Arc;

use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;

use super::upstream::*;

/// A server for `localhost` that answers every request alike, and its certificate in PEM.
async fn server(answer: Vec<u8>) -> (SocketAddr, String) {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((connection, _)) = listener.accept().await {
            let (acceptor, answer) = (acceptor.clone(), answer.clone());
            tokio::spawn(async move {
                // Who does not trust us hangs up.
                let Ok(mut connection) = acceptor.accept(connection).await else { return };
                let mut bytes = Vec::new();
                while connection.read_buf(&mut bytes).await.is_ok_and(|count| count > 0) {
                    if bytes.ends_with(QUESTION.as_bytes()) {
                        connection.write_all(&answer).await.unwrap();
                        connection.flush().await.unwrap();
                        bytes.clear();
                    }
                }
            });
        }
    });
    (address, made.cert.pem())
}

#[tokio::test]
async fn an_upstream_behind_tls_is_reached_and_its_phases_measured() {
    let (address, certificate) = server(whole(r#"{"model":"m-1","choices":[]}"#, "")).await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("ca.pem");
    std::fs::write(&file, certificate).unwrap();
    let url = format!("[upstreams.up]\nurl = \"https://localhost:{}/v1\"\n", address.port());
    let trusted = Daemon::new(&format!("{url}ca_file = \"{}\"\n", file.display()), None).await;
    let ask = |daemon: &Daemon| {
        let path = "/r/r1/v1/chat/completions";
        let request = reqwest::Client::new().post(format!("http://{}{path}", daemon.service.addr));
        async move {
            let response = request.body(QUESTION).send().await.unwrap();
            (response.status().as_u16(), response.json::<Value>().await.unwrap())
        }
    };
    for _ in 0..2 {
        assert_eq!(ask(&trusted).await.1["model"], "m-1");
    }
    let report = trusted.report("r1").await;
    let (first, second) = (&report["calls"][0], &report["calls"][1]);
    for phase in ["dns", "connect", "tls", "send", "generate"] {
        assert!(first["phases"][phase].as_u64().is_some(), "{phase}: {first}");
    }
    assert_eq!(
        (&first["relay"]["reused"], &second["relay"]["reused"]),
        (&false.into(), &true.into())
    );
    assert!(second["phases"]["tls"].is_null(), "{second}");
    let stranger = Daemon::new(&url, None).await;
    let (status, body) = ask(&stranger).await;
    assert_eq!((status, body["error"]["code"].as_str()), (502, Some("upstream_tls")), "{body}");
}
