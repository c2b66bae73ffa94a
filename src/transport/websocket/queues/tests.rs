//! The queues around the websocket: their order, their bounds, and the clock exchange.

use futures::FutureExt;

use super::*;
use rollback_lab_link::wire::relay::{
    ClientFrame, Member, decode_client, encode_forwarded, encode_token, encode_welcome,
};

const SENT_AT: Duration = Duration::from_micros(55);

fn assigned(byte: u8) -> String {
    let id = PeerId(serde_json::from_value(format!("{byte:032x}").into()).unwrap());
    serde_json::to_string(&PeerEvent::IdAssigned(id)).unwrap()
}

fn welcomed() -> Shared {
    let shared = Shared::default();
    let roster = Roster {
        slot: 0,
        capacity: 2,
        nonce: [7; 16],
        members: vec![Member {
            slot: 0,
            peer: [1; 16],
        }],
    };
    shared.on_text(&assigned(1));
    shared.on_binary(&encode_welcome(&roster).unwrap(), Duration::ZERO);
    assert!(matches!(
        shared.next_event(),
        Some(ServerEvent::IdAssigned(_))
    ));
    assert_eq!(shared.next_event(), Some(ServerEvent::Welcome(roster)));
    let running = OutFrame::Binary(encode_running(false).to_vec());
    assert_eq!(
        sent(&shared),
        [running],
        "the server learns what client this is"
    );
    shared
}

fn sent(shared: &Shared) -> Vec<OutFrame> {
    let clock = LabClock::manual(0);
    clock.advance(SENT_AT);
    std::iter::from_fn(|| shared.next_outgoing(&clock).now_or_never()).collect()
}

#[test]
fn nothing_goes_to_the_relay_before_the_welcome_or_after_the_end() {
    let shared = Shared::default();
    let send = |shared: &Shared| shared.queue_relay(&[1], Urgency::Game);
    assert_eq!(send(&shared), Err(RelaySendError::NoRelay));
    let shared = welcomed();
    assert_eq!(send(&shared), Ok(()));
    shared.end(ServerEvent::Lost {
        reason: String::new(),
        reconnecting: false,
    });
    assert_eq!(send(&shared), Err(RelaySendError::Ended));
    assert_eq!(sent(&shared), []);
}

#[test]
fn signals_and_control_go_first_and_the_oldest_game_packet_gives_way() {
    let shared = welcomed();
    for at in 0..70 {
        shared.queue_relay(&[at], Urgency::Game).unwrap();
    }
    shared.queue_relay(&[200], Urgency::Control).unwrap();
    shared.queue_signal(&PeerRequest::KeepAlive);
    let sent = sent(&shared);
    assert!(matches!(sent[0], OutFrame::Text(_)));
    assert_eq!(sent[1], OutFrame::Binary(vec![200]));
    assert_eq!(sent[2], OutFrame::Binary(vec![6]));
    assert_eq!(sent.len(), 66);
    assert_eq!(shared.stats().relay_send_dropped, 6);
}

#[test]
fn a_game_that_does_not_read_loses_the_oldest_packets_and_no_event() {
    let shared = welcomed();
    let mut frame = [0; 8];
    for at in 0..2_000_u16 {
        let len = encode_forwarded(1, &at.to_le_bytes(), &mut frame).unwrap();
        shared.on_binary(&frame[..len], Duration::ZERO);
        if at == 0 {
            shared.relay_wait_over();
            shared.emit(ServerEvent::Connected);
        }
    }
    assert_eq!(shared.stats().relay_receive_dropped, 2_000 - 1_024);
    assert_eq!(shared.next_event(), Some(ServerEvent::Connected));
    assert_eq!(
        shared.next_relayed(),
        Some(RelayedPacket {
            source: 1,
            payload: 976_u16.to_le_bytes().to_vec(),
            received_at: Duration::ZERO
        })
    );
}

fn forwarded(datagram: ClockDatagram) -> Vec<u8> {
    let mut payload = [0; MAX_CLOCK];
    let length = datagram.encode(&mut payload);
    let mut frame = [0; 32];
    let length = encode_forwarded(1, &payload[..length], &mut frame).unwrap();
    frame[..length].to_vec()
}

#[test]
fn a_question_about_the_clock_is_answered_before_anything_else_and_without_the_game() {
    let shared = welcomed();
    shared.queue_relay(&[1], Urgency::Control).unwrap();
    let asked = forwarded(ClockDatagram::Ask { asked: 77 });
    shared.on_binary(&asked, Duration::from_micros(40));
    let OutFrame::Binary(answer) = &sent(&shared)[0] else {
        panic!("an answer is a binary frame");
    };
    let Ok(ClientFrame::Forward {
        destination: 1,
        payload,
    }) = decode_client(answer)
    else {
        panic!("{answer:?} goes back to the asking member");
    };
    assert_eq!(
        ClockDatagram::decode(payload),
        Some(ClockDatagram::Answer(ClockAnswer {
            asked: 77,
            received: 40,
            answered: 55,
            step_us: 1,
        }))
    );
    assert_eq!(shared.next_event(), None, "the game gets no event of it");
}

#[test]
fn an_answer_comes_with_the_time_at_which_it_was_read() {
    let shared = welcomed();
    let answer = ClockAnswer {
        asked: 1,
        received: 2,
        answered: 3,
        step_us: 100,
    };
    let received_at = Duration::from_micros(9);
    shared.on_binary(&forwarded(ClockDatagram::Answer(answer)), received_at);
    assert_eq!(
        shared.next_event(),
        Some(ServerEvent::ClockAnswered {
            source: 1,
            answer,
            received_at
        })
    );
    assert_eq!(shared.stats().relay_received, 0, "no packet of the game");
}

#[test]
fn a_member_who_asks_without_end_fills_no_memory_and_starves_no_game_packet() {
    let shared = welcomed();
    for asked in 0..10_000 {
        let question = forwarded(ClockDatagram::Ask { asked });
        shared.on_binary(&question, Duration::ZERO);
    }
    shared.queue_relay(&[6], Urgency::Game).unwrap();
    let sent = sent(&shared);
    assert_eq!(sent.len(), MAX_CLOCKS_OUT + 1);
    assert_eq!(sent.last(), Some(&OutFrame::Binary(vec![6])));
    let answer = forwarded(ClockDatagram::Answer(ClockAnswer {
        asked: 0,
        received: 0,
        answered: 0,
        step_us: 0,
    }));
    shared.emit(ServerEvent::Connected);
    for _ in 0..10_000 {
        shared.on_binary(&answer, Duration::ZERO);
    }
    assert_eq!(shared.next_event(), Some(ServerEvent::Connected));
}

#[test]
fn without_a_relay_no_clock_is_asked_for() {
    let shared = Shared::default();
    shared.ask_clock(1);
    assert_eq!(sent(&shared), []);
    let shared = welcomed();
    shared.ask_clock(1);
    assert_eq!(sent(&shared).len(), 1);
}

#[test]
fn second_id_is_swallowed() {
    let shared = Shared::default();
    let mut signals = shared.take_signals().unwrap();
    assert_eq!(shared.on_text(&assigned(1)), TextSeen::FirstId);
    assert_eq!(shared.on_text(&assigned(2)), TextSeen::Other);
    assert_eq!(shared.on_text("{\"Later\":1}"), TextSeen::Other);
    assert_eq!(shared.stats().unknown_text, 1);
    assert!(signals.try_recv().is_ok());
    assert!(signals.try_recv().is_err(), "matchbox sees one id");
    assert!(shared.take_signals().is_none());
}

#[test]
fn malformed_frames_are_counted_and_do_not_make_a_relay() {
    let shared = Shared::default();
    shared.on_binary(&[0xf1, 0, 0], Duration::ZERO);
    shared.on_binary(&[], Duration::ZERO);
    assert_eq!(shared.stats().malformed.values().sum::<u64>(), 2);
    shared.relay_wait_over();
    assert_eq!(shared.next_event(), Some(ServerEvent::NoRelay));
    assert_eq!(shared.next_event(), None);
}

fn resumed_roster() -> Roster {
    Roster {
        slot: 1,
        capacity: 2,
        nonce: [7; 16],
        members: vec![Member {
            slot: 1,
            peer: [9; 16],
        }],
    }
}

#[test]
fn an_outage_drops_packets_keeps_signals_and_is_counted() {
    let shared = welcomed();
    let token = ResumeToken::new(&[5; 91]).unwrap();
    assert_eq!(
        shared.on_binary(&encode_token(&token), Duration::ZERO),
        Some(token)
    );
    shared.set_running(true);
    shared.queue_relay(&[1], Urgency::Game).unwrap();
    shared.queue_relay(&[2], Urgency::Control).unwrap();
    let at = Duration::from_millis;
    shared.lose("broken".into(), at(100));
    assert_eq!(
        shared.queue_relay(&[3], Urgency::Game),
        Err(RelaySendError::Lost)
    );
    shared.queue_signal(&PeerRequest::KeepAlive);
    shared.record_attempt(at(150));
    shared.record_attempt(at(400));
    let roster = resumed_roster();
    shared.on_binary(&encode_welcome(&roster).unwrap(), at(700));
    let events: Vec<_> = std::iter::from_fn(|| shared.next_event()).collect();
    assert_eq!(
        events,
        [
            ServerEvent::Lost {
                reason: "broken".into(),
                reconnecting: true
            },
            ServerEvent::Resumed {
                attempts: 2,
                away: at(600)
            },
            ServerEvent::Roster(roster),
        ]
    );
    let sent = sent(&shared);
    assert_eq!(sent[0], OutFrame::Binary(encode_running(true).to_vec()));
    assert!(matches!(sent[1], OutFrame::Text(_)), "{sent:?}");
    assert_eq!(sent.len(), 2, "packets from before the outage are old");
    assert_eq!(
        shared.stats().outages,
        [Outage {
            lost_at: at(100),
            attempts: 2,
            first_attempt_at: Some(at(150)),
            resumed_at: Some(at(700)),
        }]
    );
    assert_eq!(shared.queue_relay(&[4], Urgency::Game), Ok(()));
}

#[test]
fn a_page_that_resumes_gets_its_id_from_the_roster_and_matchbox_gets_it_once() {
    let shared = Shared::default();
    let mut signals = shared.take_signals().unwrap();
    let welcome = encode_welcome(&resumed_roster()).unwrap();
    shared.on_binary(&welcome, Duration::ZERO);
    shared.on_binary(&welcome, Duration::ZERO);
    let id = PeerId(uuid::Uuid::from_bytes([9; 16]));
    assert_eq!(shared.next_event(), Some(ServerEvent::IdAssigned(id)));
    assert!(matches!(signals.try_recv(), Ok(PeerEvent::IdAssigned(own)) if own == id));
    assert!(signals.try_recv().is_err(), "once");
}

#[test]
fn outages_without_end_fill_no_memory() {
    let shared = welcomed();
    for _ in 0..10_000 {
        shared.lose(String::new(), Duration::ZERO);
        shared.on_binary(&encode_welcome(&resumed_roster()).unwrap(), Duration::ZERO);
    }
    assert_eq!(shared.stats().outages.len(), MAX_OUTAGES);
    let events = std::iter::from_fn(|| shared.next_event()).count();
    assert_eq!(events, MAX_IN);
}
