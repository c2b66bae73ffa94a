//! Malformed bytes on the server's websocket and port: it answers with a reason or not at all, and
//! continues to serve.

use std::io::{Read, Write};

use crate::support::{Client, TIMEOUT, http_get, metric, run, server};
use rollback_lab_link::wire::relay::{MAX_FRAME_LEN, MAX_PAYLOAD_LEN};
use rollback_lab_server::LabServer;

const MAX_SIGNAL_LEN: usize = 64 * 1024;

async fn still_serves(server: &LabServer) {
    let (mut a, _, roster_a) = Client::join(server, "still-serves").await;
    let (mut b, _, roster_b) = Client::join(server, "still-serves").await;
    a.forward(roster_b.slot, b"there").await;
    assert_eq!(b.packet().await, (roster_a.slot, b"there".to_vec()));
    b.forward(roster_a.slot, b"back").await;
    assert_eq!(a.packet().await, (roster_b.slot, b"back".to_vec()));
}

#[test]
fn a_packet_above_1200_bytes_closes_with_the_reason() {
    run(async {
        let server = server();
        let (mut client, ..) = Client::join(&server, "r").await;
        let mut frame = vec![0; MAX_FRAME_LEN + 1];
        frame[0] = 0x11;
        client.binary(frame).await;
        let reason = format!("relay packet of 1201 bytes exceeds {MAX_PAYLOAD_LEN}");
        assert_eq!(client.closed().await, (1009, reason));
        still_serves(&server).await;
    });
}

#[test]
fn a_signal_above_64_kib_closes_with_the_reason_and_one_of_64_kib_does_not() {
    run(async {
        let server = server();
        let (mut client, ..) = Client::join(&server, "r").await;
        client.text("x".repeat(MAX_SIGNAL_LEN)).await;
        client.text("x".repeat(MAX_SIGNAL_LEN + 1)).await;
        let reason = "signaling text of 65537 bytes exceeds 65536".to_owned();
        assert_eq!(client.closed().await, (1009, reason));
        let malformed = "rollback_lab_server_malformed_total{reason=\"json\"} ";
        assert_eq!(
            metric(&server, malformed),
            1,
            "64 KiB were read, and no JSON"
        );
        still_serves(&server).await;
    });
}

#[test]
fn a_message_above_the_read_limit_closes_as_too_large() {
    run(async {
        let server = server();
        let (mut client, ..) = Client::join(&server, "r").await;
        // Only the header of a frame of 1 GiB, written past the client library.
        let raw = client.socket.get_mut();
        let header = [0x82, 0xff, 0, 0, 0, 0, 0x40, 0, 0, 0, 1, 2, 3, 4];
        futures::AsyncWriteExt::write_all(raw, &header)
            .await
            .expect("the header fits");
        let (code, reason) = client.closed().await;
        assert_eq!(code, 1009, "{reason}");
        still_serves(&server).await;
    });
}

#[test]
fn malformed_frames_are_counted_and_the_connection_is_kept() {
    run(async {
        let server = server();
        let (mut client, ..) = Client::join(&server, "r").await;
        let frames: [&[u8]; 5] = [&[], &[0x11], &[0x12, 0], &[0x21, 0, 1], &[0xff; 40]];
        for frame in frames {
            client.binary(frame.to_vec()).await;
        }
        let deep = "[".repeat(60_000);
        for text in [
            "",
            "{}",
            "null",
            "\"Nothing\"",
            "{\"Signal\":{\"receiver\":1}}",
            &deep,
        ] {
            client.text(text.to_owned()).await;
        }
        // The forwarded packet shows that all of the above was read.
        let (mut other, _, roster) = Client::join(&server, "r").await;
        client.forward(roster.slot, b"alive").await;
        assert_eq!(other.packet().await, (0, b"alive".to_vec()));
        let count = |reason: &str| {
            metric(
                &server,
                &format!("rollback_lab_server_malformed_total{{reason=\"{reason}\"}} "),
            )
        };
        assert_eq!(count("tooShort"), 2);
        assert_eq!(count("kind"), 1);
        assert_eq!(count("version"), 2);
        assert_eq!(count("json"), 6);
    });
}

#[test]
fn the_server_survives_broken_websocket_frames_and_broken_http() {
    run(async {
        let server = server();
        let (mut client, ..) = Client::join(&server, "r").await;
        // A text frame that is not UTF-8, then a reserved opcode.
        for frame in [
            [0x81, 0x82, 0, 0, 0, 0, 0xff, 0xff].as_slice(),
            &[0x8b, 0x80, 0, 0, 0, 0],
        ] {
            let raw = client.socket.get_mut();
            let _ = futures::AsyncWriteExt::write_all(raw, frame).await;
        }
        let (code, reason) = client.closed().await;
        assert_eq!(code, 1002, "{reason}");

        for request in [
            b"\x00\xff\x00\xff\r\n\r\n".as_slice(),
            b"GET /r HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\n\r\n",
            b"POST /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
        ] {
            let mut stream = std::net::TcpStream::connect(server.local_addr()).expect("it listens");
            stream.set_read_timeout(Some(TIMEOUT)).expect("settable");
            stream.write_all(request).expect("the request fits");
            stream.shutdown(std::net::Shutdown::Write).expect("open");
            let mut answer = Vec::new();
            let _ = stream.read_to_end(&mut answer);
            assert!(
                !answer.starts_with(b"HTTP/1.1 101") && !answer.starts_with(b"HTTP/1.1 200"),
                "{}",
                String::from_utf8_lossy(&answer)
            );
        }
        let (status, _) = http_get(&server, "/some-room");
        assert!(status.contains("400"), "a room is no page: {status}");
        still_serves(&server).await;
    });
}
