//! Starting, health and metrics, shutting down.

use std::time::{Duration, Instant};

use crate::support::{Client, http_get, metric, metric_becomes, run, server};
use rollback_lab_link::wire::relay::CLOSE_SERVER_STOPS;
use rollback_lab_server::{LabServer, ServerError, ServerSettings};

#[test]
fn health_and_metrics_are_readable_over_plain_http() {
    run(async {
        let server = server();
        let (status, rest) = http_get(&server, "/healthz");
        assert_eq!(status, "HTTP/1.1 200 OK");
        assert!(rest.ends_with("ok\n"), "{rest}");

        let (mut a, ..) = Client::join(&server, "r").await;
        let (mut b, ..) = Client::join(&server, "r").await;
        let _other = Client::join(&server, "s").await;
        a.forward(1, b"four").await;
        b.packet().await;
        b.forward(0, b"five!").await;
        a.packet().await;
        assert_eq!(metric(&server, "rollback_lab_server_rooms "), 2);
        assert_eq!(metric(&server, "rollback_lab_server_peers "), 3);
        metric_becomes(&server, "rollback_lab_server_forwards_total ", 2).await;
        metric_becomes(&server, "rollback_lab_server_queue_seconds_count ", 2).await;
        metric_becomes(
            &server,
            "rollback_lab_server_added_latency_seconds_count ",
            2,
        )
        .await;
        for reason in [
            "rateLimited",
            "stale",
            "ringFull",
            "unknownSlot",
            "tooLarge",
            "receiverLost",
        ] {
            let line = format!("rollback_lab_server_drops_total{{reason=\"{reason}\"}} ");
            assert_eq!(metric(&server, &line), 0);
        }
        let (_, text) = http_get(&server, "/metrics");
        assert!(text.contains("application/openmetrics-text"));
        assert!(text.ends_with("# EOF\n"), "the text is whole");
    });
}

#[test]
fn a_public_address_is_refused_with_the_reason_until_it_is_allowed() {
    let everywhere = ServerSettings {
        bind: "0.0.0.0:0".parse().expect("an address"),
        ..ServerSettings::default()
    };
    let error = LabServer::start(everywhere).expect_err("it is public");
    assert!(matches!(error, ServerError::PublicAddress { .. }));
    let text = error.to_string();
    for part in [
        "cannot listen at 0.0.0.0:0",
        "there is no admission yet",
        "--allow-public",
    ] {
        assert!(text.contains(part), "{text}");
    }
}

#[test]
fn a_taken_port_is_an_error_that_names_it() {
    let first = server();
    let error = LabServer::start(ServerSettings {
        bind: first.local_addr(),
        ..ServerSettings::default()
    })
    .expect_err("the port is taken");
    assert!(matches!(error, ServerError::Bind { .. }), "{error}");
    assert!(error.to_string().contains(&first.local_addr().to_string()));
}

#[test]
fn a_shutdown_closes_connections_with_its_own_code_and_frees_the_port() {
    run(async {
        let server = server();
        let address = server.local_addr();
        let (mut a, ..) = Client::join(&server, "r").await;
        let closing = std::thread::spawn(move || {
            let start = Instant::now();
            server.shutdown();
            start.elapsed()
        });
        assert_eq!(
            a.closed().await,
            (CLOSE_SERVER_STOPS, "server stops".to_owned())
        );
        // Reading on answers the close frame.
        a.receive().await;
        drop(a);
        let took = closing.join().expect("it does not panic");
        assert!(
            took < Duration::from_secs(3),
            "the client answered, but the shutdown took {took:?}"
        );
        let again = LabServer::start(ServerSettings {
            bind: address,
            ..ServerSettings::default()
        });
        again.expect("the port is free again").shutdown();
    });
}

#[test]
fn a_shutdown_does_not_wait_for_a_client_that_does_not_answer() {
    run(async {
        let server = server();
        let _silent = Client::join(&server, "r").await;
        let start = Instant::now();
        server.shutdown();
        let took = start.elapsed();
        assert!(took < Duration::from_secs(5), "it took {took:?}");
    });
}
