//! Two real ggrs sessions over an in-memory network, with validation in front of each.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
};

use ggrs::{
    Config, DesyncDetection, Frame, GgrsRequest, NonBlockingSocket, P2PSession, PlayerType,
    PredictRepeatLast, SessionBuilder, SessionState,
};
use serde::Serialize;

use super::super::{
    Checked, Limits, MAX_MESSAGE, MessageKind, Owner, PlayerBounds, SentPings, decode, encode,
    inspect_outgoing,
};

/// The messages of ggrs, with public fields.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Raw {
    pub magic: u16,
    pub body: RawBody,
}

#[derive(Clone, Debug, Serialize)]
pub(super) enum RawBody {
    SyncRequest(u32),
    SyncReply(u32),
    Input {
        statuses: Vec<(bool, Frame)>,
        disconnect_requested: bool,
        start_frame: Frame,
        ack_frame: Frame,
        bytes: Vec<u8>,
    },
    InputAck(Frame),
    QualityReport(i16, u128),
    QualityReply(u128),
    ChecksumReport(u128, Frame),
    KeepAlive,
}

pub(super) fn raw_bytes(raw: &Raw) -> Vec<u8> {
    postcard::to_stdvec(raw).unwrap()
}

/// Run-length encodes `bytes` as one literal run.
pub(super) fn literal(bytes: &[u8]) -> Vec<u8> {
    let mut code = bytes.len() << 1;
    let mut encoded = Vec::new();
    while code > 127 {
        encoded.push(u8::try_from(code & 127).unwrap() | 128);
        code >>= 7;
    }
    encoded.push(u8::try_from(code).unwrap());
    encoded.extend_from_slice(bytes);
    encoded
}

#[derive(Debug)]
pub(super) struct TestConfig;

impl Config for TestConfig {
    type Input = u8;
    type InputPredictor = PredictRepeatLast;
    type State = u64;
    type Address = usize;
}

/// What one peer's transport knows of the other.
#[derive(Debug)]
pub(super) struct Gate {
    pub players: [PlayerBounds; 2],
    pub pings: SentPings,
    pub magic: Option<u16>,
    pub current_frame: Frame,
    pub desync_interval: Option<u32>,
    pub max_prediction: Frame,
}

impl Gate {
    pub(super) fn limits(&self) -> Limits<'_> {
        Limits {
            players: &self.players,
            input_bytes: Some(1),
            max_prediction: self.max_prediction,
            max_input_delay: 2,
            desync_interval: self.desync_interval,
            current_frame: self.current_frame,
            remote_magic: self.magic,
            sent_pings: &self.pings,
        }
    }

    fn accept(&mut self, remote: usize, checked: &Checked) {
        self.magic = Some(checked.magic);
        self.players[remote].record(checked);
    }
}

#[derive(Debug)]
pub(super) struct Net {
    pub inbox: [VecDeque<Vec<u8>>; 2],
    pub gates: [Gate; 2],
    /// All messages that either session sent.
    pub sent: Vec<Vec<u8>>,
    pub kinds: Vec<MessageKind>,
    pub refused: Vec<&'static str>,
    /// Whether messages reach ggrs without validation.
    pub open: bool,
}

struct Socket {
    me: usize,
    net: Arc<Mutex<Net>>,
}

impl NonBlockingSocket<usize> for Socket {
    fn send_to(&mut self, message: &ggrs::Message, to: &usize) {
        let mut net = self.net.lock().unwrap();
        let mut out = [0; MAX_MESSAGE];
        let len = encode(message, &mut out).unwrap();
        let outgoing = inspect_outgoing(&out[..len]).unwrap();
        let gate = &mut net.gates[self.me];
        if let Some(newest) = outgoing.newest_input_frame {
            gate.players[self.me].last_frame = newest;
        }
        if let Some(ping) = outgoing.ping {
            gate.pings.record(ping);
        }
        net.inbox[*to].push_back(out[..len].to_vec());
        net.sent.push(out[..len].to_vec());
    }

    fn receive_all_messages(&mut self) -> Vec<(usize, ggrs::Message)> {
        let mut net = self.net.lock().unwrap();
        let remote = 1 - self.me;
        let mut messages = Vec::new();
        while let Some(bytes) = net.inbox[self.me].pop_front() {
            if net.open {
                messages.extend(postcard::from_bytes(&bytes).map(|message| (remote, message)));
                continue;
            }
            match decode(&bytes, &net.gates[self.me].limits()) {
                Ok((message, checked)) => {
                    net.gates[self.me].accept(remote, &checked);
                    net.kinds.push(checked.kind);
                    messages.push((remote, message));
                }
                Err(error) => net.refused.push(error.reason()),
            }
        }
        messages
    }
}

pub(super) struct Rig {
    pub net: Arc<Mutex<Net>>,
    pub sessions: [P2PSession<TestConfig>; 2],
    states: [u64; 2],
    rolls: u32,
}

impl Rig {
    pub(super) fn new(input_delay: usize, desync_interval: Option<u32>) -> Self {
        let max_prediction = 8;
        let gate = |me: usize| Gate {
            players: [0, 1].map(|handle| {
                PlayerBounds::new(if handle == me {
                    Owner::Local
                } else {
                    Owner::Sender
                })
            }),
            pings: SentPings::default(),
            magic: None,
            current_frame: 0,
            desync_interval,
            max_prediction,
        };
        let net = Arc::new(Mutex::new(Net {
            inbox: [VecDeque::new(), VecDeque::new()],
            gates: [gate(0), gate(1)],
            sent: Vec::new(),
            kinds: Vec::new(),
            refused: Vec::new(),
            open: false,
        }));
        let session = |me: usize| {
            let mut builder = SessionBuilder::<TestConfig>::new()
                .with_num_players(2)
                .unwrap()
                .with_max_prediction_window(8)
                .with_input_delay(input_delay)
                .with_desync_detection_mode(match desync_interval {
                    Some(interval) => DesyncDetection::On { interval },
                    None => DesyncDetection::Off,
                });
            for handle in 0..2 {
                let player = if handle == me {
                    PlayerType::Local
                } else {
                    PlayerType::Remote(1 - me)
                };
                builder = builder.add_player(player, handle).unwrap();
            }
            builder
                .start_p2p_session(Socket {
                    me,
                    net: Arc::clone(&net),
                })
                .unwrap()
        };
        Self {
            sessions: [session(0), session(1)],
            net,
            states: [0; 2],
            rolls: 0,
        }
    }

    /// Runs the handshake. It needs no clock: every reply is followed by the next request.
    pub(super) fn synchronize(&mut self) {
        for _ in 0..20 {
            for session in &mut self.sessions {
                session.poll_remote_clients();
            }
        }
        for session in &self.sessions {
            assert_eq!(session.current_state(), SessionState::Running);
        }
    }

    pub(super) fn step(&mut self) {
        self.step_one(0);
        self.step_one(1);
    }

    /// One tick of one peer; inputs change often, so that predictions fail.
    pub(super) fn step_one(&mut self, me: usize) {
        self.rolls = self
            .rolls
            .wrapping_mul(1_664_525)
            .wrapping_add(1_013_904_223);
        let [.., input] = (self.rolls & 3).to_be_bytes();
        let session = &mut self.sessions[me];
        self.net.lock().unwrap().gates[me].current_frame = session.current_frame();
        if session.add_local_input(me, input).is_err() {
            return;
        }
        let Ok(requests) = session.advance_frame() else {
            return;
        };
        for request in requests {
            let state = &mut self.states[me];
            match request {
                GgrsRequest::SaveGameState { cell, frame } => {
                    cell.save(frame, Some(*state), Some(u128::from(*state)));
                }
                GgrsRequest::LoadGameState { cell, .. } => *state = cell.load().unwrap(),
                GgrsRequest::AdvanceFrame { inputs } => {
                    for (input, _) in inputs {
                        *state = state.wrapping_mul(31).wrapping_add(u64::from(input));
                    }
                }
            }
        }
    }

    pub(super) fn seen(&self, kind: MessageKind) -> bool {
        self.net.lock().unwrap().kinds.contains(&kind)
    }
}
