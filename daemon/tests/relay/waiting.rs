//! Calls that bring no whole answer: what was waited for a server that says nothing is its generation, marked inferred, and not the network's.

use serde_json::Value;

use super::upstream::*;

const PATH: &str = "/r/r1/v1/chat/completions";

fn inferred(report: &Value) -> u64 {
    assert_eq!(report["inferred"]["generation"], report["account"]["generation"], "{report}");
    report["account"]["generation"].as_u64().unwrap()
}

#[tokio::test]
async fn a_client_that_gives_up_has_waited_for_generation() {
    for whole in [true, false] {
        let begun = format!("{}{}", stream_head(), chunk(&delta("Hel")));
        let steps = vec![write(begun), Step::AwaitClose];
        let mut upstream = Upstream::new(if whole { vec![Step::AwaitClose] } else { steps }).await;
        let daemon = Daemon::before(&upstream).await;
        let mut client = daemon.send(PATH, "", QUESTION).await;
        if whole {
            while upstream.requests.lock().unwrap().is_empty() {
                tokio::task::yield_now().await;
            }
        } else {
            read_to(&mut client, "Hel").await;
        }
        drop(client);
        tokio::time::timeout(PATIENCE, upstream.closed.recv()).await.unwrap().unwrap();
        let report = daemon.report("r1").await;
        assert!(inferred(&report) > 0, "{report}");
        let gateway = &report["calls"][0]["relay"]["gateway"];
        assert!(gateway["upstream_wait_ns"].as_u64().unwrap() > 0, "{gateway}");
    }
}

#[tokio::test]
async fn silence_is_generation_and_a_refusal_is_not() {
    let begun = format!("{}{}", stream_head(), chunk(&delta("Hel")));
    for (steps, words) in [
        (vec![Step::AwaitClose], "upstream_timeout"),
        (vec![write(begun), Step::AwaitClose], "Hel"),
    ] {
        let upstream = Upstream::new(steps).await;
        let config = format!(
            "[upstreams.up]\nurl = \"{}\"\nbudgets = {{ idle = \"50ms\", first_byte = \"50ms\" }}",
            upstream.url()
        );
        let daemon = Daemon::new(&config, None).await;
        let mut client = daemon.send(PATH, "", QUESTION).await;
        read_to(&mut client, words).await;
        let report = daemon.report("r1").await;
        assert!(inferred(&report) >= 50_000_000, "{report}");
    }
    let refusal = "HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n";
    let upstream = Upstream::new(vec![write(refusal)]).await;
    let daemon = Daemon::before(&upstream).await;
    let mut client = daemon.send(PATH, "", QUESTION).await;
    read_some(&mut client).await;
    assert_eq!(inferred(&daemon.report("r1").await), 0);
}
