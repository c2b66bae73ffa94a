//! A player leaves a session of three, over real ggrs sessions: what ggrs 0.13 does by itself, and what
//! it does behind [`PeerInputs`] and [`Departure`].

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ggrs::{
    DesyncDetection, GgrsEvent, GgrsRequest, NonBlockingSocket, P2PSession, PlayerType,
    SessionBuilder, SessionState,
};

use super::super::*;
use super::rig::TestConfig;

const PLAYERS: usize = 3;
const FRAME: Duration = Duration::from_micros(16_667);

/// A packet under way: due tick, sender, receiver, bytes.
type Packet = (u64, usize, usize, Vec<u8>);

struct Gate {
    players: [PlayerBounds; PLAYERS],
    pings: SentPings,
    magic: Option<u16>,
    inputs: PeerInputs,
}

struct Net {
    tick: u64,
    random: u64,
    /// Delay of a packet in ticks, at least and at most; one in so many is lost.
    delay: (u64, u64),
    lose_one_in: u64,
    flying: VecDeque<Packet>,
    /// The newest input packet of each peer to each other: a link repeats it while the game stalls.
    last_inputs: [[Option<Vec<u8>>; PLAYERS]; PLAYERS],
    /// Inputs change, so that predictions fail.
    varied: bool,
    /// `gates[me][other]`.
    gates: Vec<Vec<Gate>>,
    current: [Frame; PLAYERS],
    window: Frame,
    /// Messages reach ggrs without validation.
    open: bool,
}

impl Net {
    fn roll(&mut self, below: u64) -> u64 {
        self.random = self
            .random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.random >> 33) % below
    }

    fn send(&mut self, from: usize, to: usize, bytes: Vec<u8>) {
        if self.lose_one_in > 0 && self.roll(self.lose_one_in) == 0 {
            return;
        }
        let (least, most) = self.delay;
        let due = self.tick + least + self.roll(most - least + 1);
        self.flying.push_back((due, from, to, bytes));
    }

    fn now(&self) -> Duration {
        FRAME * u32::try_from(self.tick).unwrap()
    }

    fn decode(&mut self, me: usize, from: usize, bytes: &[u8]) -> Option<ggrs::Message> {
        let (now, current_frame) = (self.now(), self.current[me]);
        let gate = &mut self.gates[me][from];
        if gate.inputs.is_closed() {
            return None;
        }
        let limits = Limits {
            players: &gate.players,
            input_bytes: Some(1),
            max_prediction: self.window,
            max_input_delay: 4,
            desync_interval: Some(1),
            current_frame,
            remote_magic: gate.magic,
            sent_pings: &gate.pings,
        };
        let (message, checked) = decode(bytes, &limits).unwrap();
        gate.magic = Some(checked.magic);
        gate.inputs.record(now, bytes, &checked);
        if let Some(newest) = checked.newest_input_frame {
            gate.players[from].record(&checked);
            for other in self.gates[me].iter_mut() {
                let known = &mut other.players[from].last_frame;
                *known = newest.max(*known);
            }
        }
        Some(message)
    }
}

struct Socket(usize, Arc<Mutex<Net>>);

impl NonBlockingSocket<usize> for Socket {
    fn send_to(&mut self, message: &ggrs::Message, to: &usize) {
        let mut net = self.1.lock().unwrap();
        let mut out = [0; MAX_MESSAGE];
        let len = encode(message, &mut out).unwrap();
        let outgoing = inspect_outgoing(&out[..len]).unwrap();
        let gate = &mut net.gates[self.0][*to];
        if let Some(newest) = outgoing.newest_input_frame {
            gate.players[self.0].last_frame = newest;
            net.last_inputs[self.0][*to] = Some(out[..len].to_vec());
        }
        let gate = &mut net.gates[self.0][*to];
        if let Some(ping) = outgoing.ping {
            gate.pings.record(ping);
        }
        net.send(self.0, *to, out[..len].to_vec());
    }

    fn receive_all_messages(&mut self) -> Vec<(usize, ggrs::Message)> {
        let mut net = self.1.lock().unwrap();
        let tick = net.tick;
        let due = |(at, _, to, _): &Packet| *at <= tick && *to == self.0;
        let came: Vec<Packet> = net.flying.iter().filter(|p| due(p)).cloned().collect();
        net.flying.retain(|packet| !due(packet));
        let mut messages = Vec::new();
        for (_, from, _, bytes) in came {
            let message = if net.open {
                postcard::from_bytes(&bytes).ok()
            } else {
                net.decode(self.0, from, &bytes)
            };
            messages.extend(message.map(|message| (from, message)));
        }
        let (now, current, window) = (net.now(), net.current[self.0], net.window);
        for (from, gate) in net.gates[self.0].iter().enumerate() {
            let Some(magic) = gate.magic.filter(|_| from != self.0 && !net.open) else {
                continue;
            };
            let peer_inputs = &gate.inputs;
            if peer_inputs.holds_time_out(now, current, window) {
                messages.push((from, keep_alive(magic).unwrap()));
            }
        }
        messages
    }
}

struct Match {
    net: Arc<Mutex<Net>>,
    sessions: Vec<P2PSession<TestConfig>>,
    states: [u64; PLAYERS],
    departures: [Option<Departure>; PLAYERS],
    shared: [[Frame; PLAYERS]; PLAYERS],
    desyncs: usize,
}

impl Match {
    fn new(seed: u64, window: usize, input_delay: usize) -> Self {
        let gate = |me: usize, other: usize| Gate {
            players: std::array::from_fn(|handle| {
                PlayerBounds::new(match handle {
                    _ if handle == me => Owner::Local,
                    _ if handle == other => Owner::Sender,
                    _ => Owner::Other,
                })
            }),
            pings: SentPings::default(),
            magic: None,
            inputs: PeerInputs::default(),
        };
        let mut gates: Vec<Vec<Gate>> = (0..PLAYERS)
            .map(|me| (0..PLAYERS).map(|other| gate(me, other)).collect())
            .collect();
        for gate in gates.iter_mut().flatten() {
            gate.inputs.restart(Duration::ZERO);
        }
        let net = Arc::new(Mutex::new(Net {
            tick: 0,
            random: seed,
            delay: (0, 0),
            lose_one_in: 0,
            flying: VecDeque::new(),
            last_inputs: Default::default(),
            varied: true,
            gates,
            current: [0; PLAYERS],
            window: Frame::try_from(window).unwrap(),
            open: false,
        }));
        let sessions = (0..PLAYERS).map(|me| {
            let builder = SessionBuilder::<TestConfig>::new()
                .with_num_players(PLAYERS)
                .unwrap()
                .with_max_prediction_window(window)
                .with_input_delay(input_delay)
                .with_disconnect_timeout(Duration::from_secs(3_600))
                .with_desync_detection_mode(DesyncDetection::On { interval: 1 });
            let builder = (0..PLAYERS).fold(builder, |builder, handle| {
                let player = match handle {
                    _ if handle == me => PlayerType::Local,
                    _ => PlayerType::Remote(handle),
                };
                builder.add_player(player, handle).unwrap()
            });
            let socket = Socket(me, Arc::clone(&net));
            builder.start_p2p_session(socket).unwrap()
        });
        let mut this = Self {
            sessions: sessions.collect(),
            net,
            states: [0; PLAYERS],
            departures: [None; PLAYERS],
            shared: [[NULL_FRAME; PLAYERS]; PLAYERS],
            desyncs: 0,
        };
        for _ in 0..40 {
            for session in &mut this.sessions {
                session.poll_remote_clients();
            }
            this.net.lock().unwrap().tick += 1;
        }
        let running =
            |session: &P2PSession<TestConfig>| session.current_state() == SessionState::Running;
        assert!(this.sessions.iter().all(running));
        this
    }

    /// One update of peer `me`, as an app takes it.
    fn step(&mut self, me: usize) {
        let session = &mut self.sessions[me];
        let before = session.current_frame();
        let input = {
            let mut net = self.net.lock().unwrap();
            if net.varied { net.roll(4) as u8 } else { 0 }
        };
        session.add_local_input(me, input).unwrap();
        for request in session.advance_frame().unwrap() {
            let state = &mut self.states[me];
            match request {
                GgrsRequest::SaveGameState { cell, frame } => {
                    cell.save(frame, Some(*state), Some(u128::from(*state)));
                }
                GgrsRequest::LoadGameState { cell, .. } => *state = cell.load().unwrap(),
                GgrsRequest::AdvanceFrame { inputs } => {
                    for (input, _) in inputs {
                        *state = state.wrapping_mul(31).wrapping_add(u64::from(input) + 1);
                    }
                }
            }
        }
        let desyncs = session
            .events()
            .filter(|event| matches!(event, GgrsEvent::DesyncDetected { .. }));
        self.desyncs += desyncs.count();
        let mut net = self.net.lock().unwrap();
        net.current[me] = session.current_frame();
        for to in 0..PLAYERS {
            let stalled = session.current_frame() == before;
            if let Some(packet) = net.last_inputs[me][to].clone().filter(|_| stalled) {
                net.send(me, to, packet);
            }
        }
    }

    fn tick(&mut self, playing: &[usize]) {
        for &me in playing {
            self.step(me);
        }
        self.net.lock().unwrap().tick += 1;
    }

    /// What `me` does about player `gone` in an update; `by_game`: its game disconnects the player.
    fn attend(&mut self, me: usize, other: usize, gone: usize, by_game: bool) {
        let mut net = self.net.lock().unwrap();
        let now = net.now();
        let leaving = self.departures[me].is_some();
        if shares_inputs(net.gates[me][gone].inputs.silence(now), leaving) {
            let reported = net.gates[me][other].inputs.reported(gone);
            let theirs = reported.map_or(NULL_FRAME, |(_, frame)| frame);
            let after = theirs.max(self.shared[me][other]);
            let peer_inputs = &net.gates[me][gone].inputs;
            self.shared[me][other] = peer_inputs.last_frame().max(after);
            let packets: Vec<Vec<u8>> = peer_inputs
                .packets_after(after)
                .map(<[u8]>::to_vec)
                .collect();
            for packet in packets {
                let Some(magic) = net.gates[other][gone].magic else {
                    continue;
                };
                let mut out = [0; MAX_MESSAGE];
                let len = stand_in(magic, PLAYERS, inputs(&packet).unwrap(), &mut out).unwrap();
                let due = net.tick + net.delay.1;
                net.flying
                    .push_back((due, gone, other, out[..len].to_vec()));
            }
        }
        let reported = net.gates[me][other].inputs.reported(gone);
        if reported.is_some_and(|(disconnected, _)| disconnected) {
            self.departures[me].get_or_insert(Departure::new(now));
        }
        let Some(departure) = &mut self.departures[me] else {
            return;
        };
        let stands = (net.current[me], net.window);
        let reported = std::iter::once(reported.map(|(_, frame)| frame));
        let peer_inputs = &mut net.gates[me][gone].inputs;
        let (close, due) = departure.step(now, peer_inputs, reported, stands);
        if close {
            peer_inputs.close();
        }
        match due {
            DepartureStep::Wait => {}
            DepartureStep::Notice => {
                drop(net);
                if by_game {
                    self.sessions[me].disconnect_player(gone).unwrap();
                }
            }
            DepartureStep::Release => {
                for gate in &mut net.gates[me] {
                    gate.players[gone].disconnected = true;
                }
                let packet = net.gates[me][other].inputs.newest_packet();
                if let Some(packet) = packet.map(<[u8]>::to_vec) {
                    let due = net.tick;
                    net.flying.push_back((due, other, me, packet));
                }
            }
        }
    }

    fn frames(&self, of: &[usize]) -> Vec<Frame> {
        of.iter()
            .map(|&me| self.sessions[me].current_frame())
            .collect()
    }
}

/// Disconnects player 2 of three at once, in the frame in which its last input is that of the frame
/// before.
fn disconnect_at_once(behind: bool) -> Match {
    let mut game = Match::new(1, 8, 0);
    {
        let mut net = game.net.lock().unwrap();
        (net.open, net.varied) = (true, false);
    }
    for _ in 0..30 {
        game.tick(&[0, 1, 2]);
    }
    if behind {
        game.tick(&[0, 1]);
        game.tick(&[0, 1]);
    }
    // Takes in what the others sent in the last tick.
    game.sessions[0].poll_remote_clients();
    game.sessions[0].disconnect_player(2).unwrap();
    game
}

#[test]
fn ggrs_by_itself_panics_when_a_player_is_disconnected_one_frame_after_its_last_input() {
    let panics = |behind| {
        let mut game = disconnect_at_once(behind);
        catch_unwind(AssertUnwindSafe(|| game.step(0))).is_err()
    };
    assert!(
        panics(false),
        "the fault of ggrs 0.13 that the notice waits for"
    );
    assert!(!panics(true));
}

#[test]
fn ggrs_by_itself_panics_when_survivors_know_different_last_inputs() {
    let mut game = Match::new(1, 8, 0);
    game.net.lock().unwrap().open = true;
    for _ in 0..30 {
        game.tick(&[0, 1, 2]);
    }
    // Player 2 sends one more input, which only peer 0 gets.
    game.step(2);
    game.net
        .lock()
        .unwrap()
        .flying
        .retain(|(_, from, to, _)| (*from, *to) != (2, 1));
    for _ in 0..4 {
        game.tick(&[0, 1]);
    }
    for me in [0, 1] {
        game.sessions[me].disconnect_player(2).unwrap();
    }
    let panics = catch_unwind(AssertUnwindSafe(|| {
        for _ in 0..30 {
            game.tick(&[0, 1]);
        }
    }));
    assert!(
        panics.is_err(),
        "peer 0 loads the frame of peer 1 in every update"
    );
}

/// Player 2 vanishes at a random moment; peers learn of it at different ones, or only by the report of
/// the other. Returns the game after five seconds.
fn leave(
    seed: u64,
    window: usize,
    input_delay: usize,
    by_game: [bool; 2],
    knows: [bool; 2],
) -> Match {
    let mut game = Match::new(seed, window, input_delay);
    {
        let mut net = game.net.lock().unwrap();
        net.delay = (1, 1 + seed % 5);
        net.lose_one_in = [0, 4, 8][(seed % 3) as usize];
    }
    for _ in 0..(40 + seed % 7) {
        game.tick(&[0, 1, 2]);
    }
    let known_after = [seed % 11, seed / 11 % 13];
    for tick in 0..300 {
        for me in [0, 1] {
            let net = game.net.lock().unwrap();
            let now = net.now();
            drop(net);
            if tick == known_after[me] && knows[me] {
                game.departures[me].get_or_insert(Departure::new(now));
            }
        }
        // Frame rates differ a little, so that every phase occurs.
        let turn = if (tick + seed).is_multiple_of(9) {
            &[0][..]
        } else {
            &[0, 1]
        };
        game.tick(turn);
        game.attend(0, 1, 2, by_game[0]);
        game.attend(1, 0, 2, by_game[1]);
    }
    game
}

/// ggrs drops every input packet but the first one until an acknowledgement has reached the sender, if the
/// sender has an input delay: over a path longer than the window all games stand still, and go on only by
/// what ggrs repeats by the wall clock.
#[test]
fn a_match_with_input_delay_goes_on_over_a_path_longer_than_its_window() {
    for (window, input_delay) in [(8, 1), (8, 2), (3, 1)] {
        let frames = |open: bool| {
            let mut game = Match::new(7, window, input_delay);
            {
                let mut net = game.net.lock().unwrap();
                net.open = open;
                net.delay = (12, 12);
            }
            for _ in 0..300 {
                game.tick(&[0, 1, 2]);
            }
            game.frames(&[0, 1, 2]).into_iter().min().unwrap()
        };
        let (alone, validated) = (frames(true), frames(false));
        let case = format!("window {window}, delay {input_delay}: {alone} and {validated} frames");
        assert!(validated > alone + 20, "{case}");
    }
}

/// ggrs keeps inputs for twice the window, and drops what a peer sends that catches up more frames at once:
/// the same inputs come again with its next frame.
#[test]
fn inputs_of_a_peer_that_catches_up_at_once_are_read_when_they_come() {
    for window in [2, 3, 8] {
        let frames_after = |open: bool| {
            let mut game = Match::new(7, window, 4);
            {
                let mut net = game.net.lock().unwrap();
                net.open = open;
                net.delay = (1, 1);
            }
            for _ in 0..40 {
                game.tick(&[0, 1, 2]);
            }
            for _ in 0..2 * window + 4 {
                game.tick(&[0, 1]);
            }
            for _ in 0..3 * window {
                game.step(2);
            }
            // As far as its inputs and the window reach.
            for _ in 0..40 {
                game.tick(&[0, 1]);
            }
            game.frames(&[0, 1]).into_iter().min().unwrap()
        };
        let (alone, validated) = (frames_after(true), frames_after(false));
        let case = format!("window {window}: {alone} and {validated} frames");
        assert!(validated > alone, "{case}");
    }
}

#[test]
fn two_survivors_go_on_and_agree_however_the_third_leaves() {
    for seed in 0..200 {
        for (window, input_delay) in [(8, 0), (8, 2), (4, 1), (3, 0), (2, 0), (2, 1)] {
            for (by_game, knows) in [
                ([true, true], [true, true]),
                ([true, false], [true, true]),
                ([true, false], [true, false]),
            ] {
                let case = format!(
                    "seed {seed}, window {window}, delay {input_delay}, {by_game:?} {knows:?}"
                );
                let played = catch_unwind(|| leave(seed, window, input_delay, by_game, knows));
                let mut game = played.unwrap_or_else(|_| panic!("{case}: ggrs panicked"));
                let before = game.frames(&[0, 1]);
                for _ in 0..120 {
                    game.tick(&[0, 1]);
                }
                let after = game.frames(&[0, 1]);
                assert!(
                    after
                        .iter()
                        .zip(&before)
                        .all(|(after, before)| after - before > 40),
                    "{case}: {before:?} to {after:?}"
                );
                assert_eq!(game.desyncs, 0, "{case}");
            }
        }
    }
}
