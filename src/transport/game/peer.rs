//! What the game's side keeps of one remote peer: the messages of this tick to it, the bounds that
//! its own messages are checked against, and the packets of inputs that came.

use std::collections::VecDeque;
use std::time::Duration;

use bevy_matchbox::matchbox_socket::PeerId;
use ggrs::{Frame, Message as GgrsMessage, NULL_FRAME};

use super::packets::{InputPacket, InputPackets};
use crate::transport::EpisodeBounds;
use crate::transport::exchange::{Exchange, Inbound, Order, Outgoing, Payload};
use rollback_lab_link::cause::{Arrival, Pause};
use rollback_lab_link::ggrs_wire::{
    self, Bundle, Checked, GgrsWireError, Limits, Owner, PeerInputs, PlayerBounds, SentPings,
};
use rollback_lab_link::wire::Path;

/// A checked message of a peer's game.
pub(super) struct DataMessage {
    pub(super) message: GgrsMessage,
    /// Its newest input frame, if no message had brought it before.
    pub(super) newest_input: Option<Frame>,
}

/// Checksum reports kept until they are compared: as many as ggrs keeps.
const MAX_CHECKSUMS: usize = 32;

/// One remote peer.
pub(in crate::transport) struct GamePeer {
    pub(super) id: PeerId,
    /// Control messages sent to it.
    pub(super) control_sent: u64,
    /// The messages of this tick.
    pub(super) bundle: Bundle,
    /// First and last input frame in the bundle.
    bundled: Option<(Frame, Frame)>,
    pub(super) players: Vec<PlayerBounds>,
    pub(super) sent_pings: SentPings,
    pub(super) magic: Option<u16>,
    pub(in crate::transport) packets: InputPackets,
    /// Its input packets on their way into ggrs.
    pub(in crate::transport) inputs: PeerInputs,
    /// Frames and checksums that it reported, oldest first.
    pub(in crate::transport) checksums: VecDeque<(Frame, u128)>,
}

impl GamePeer {
    pub(super) fn new(id: PeerId) -> Self {
        Self {
            id,
            control_sent: 0,
            bundle: Bundle::default(),
            bundled: None,
            players: Vec::new(),
            sent_pings: SentPings::default(),
            magic: None,
            packets: InputPackets::new(),
            inputs: PeerInputs::default(),
            checksums: VecDeque::with_capacity(MAX_CHECKSUMS),
        }
    }

    /// Another episode begins, between the players of `bounds`.
    pub(super) fn start_epoch(&mut self, now: Duration, bounds: &EpisodeBounds) {
        self.bundle.clear();
        self.bundled = None;
        self.sent_pings = SentPings::default();
        self.magic = None;
        self.packets.restart();
        self.inputs.restart(now);
        self.checksums.clear();
        let owner = |player_slot: &Option<PeerId>| match player_slot {
            None => Owner::Local,
            Some(id) if *id == self.id => Owner::Sender,
            Some(_) => Owner::Other,
        };
        let owners = bounds.player_slots.iter().map(owner);
        self.players = owners.map(PlayerBounds::new).collect();
    }

    /// Adds an encoded message to the packet of this tick.
    pub(super) fn send(
        &mut self,
        message: &[u8],
        outgoing: &ggrs_wire::Outgoing,
        epoch: u16,
        exchange: &Exchange,
    ) {
        if !self.bundle.push(message) {
            self.flush(epoch, exchange);
            if !self.bundle.push(message) {
                exchange.order(Order::CountUnsendable(self.id));
                return;
            }
        }
        let Some(last) = outgoing.newest_input_frame else {
            return;
        };
        let first = outgoing.first_input_frame.unwrap_or(last);
        let (first_before, last_before) = self.bundled.unwrap_or((first, last));
        self.bundled = Some((first.min(first_before), last.max(last_before)));
        if last > self.newest(Owner::Local) {
            self.set_newest_local(last);
        }
    }

    /// Hands the packet of this tick to the network task.
    pub(super) fn flush(&mut self, epoch: u16, exchange: &Exchange) {
        let inputs = self.bundled.take();
        if let Some(payload) = Payload::new(self.bundle.bytes()).filter(|of| !of.is_empty()) {
            exchange.send(Outgoing {
                to: self.id,
                epoch,
                inputs,
                payload,
            });
        }
        self.bundle.clear();
    }

    /// Decodes one message of a packet within `bounds`, and records its inputs.
    pub(super) fn decode(
        &mut self,
        message: &[u8],
        packet: &Inbound,
        bounds: &EpisodeBounds,
        current_frame: Frame,
        now: Duration,
    ) -> Result<DataMessage, GgrsWireError> {
        let (message, checked) = self.check(message, bounds, current_frame, now)?;
        let newest_input = self.record_inputs(&checked, packet);
        if let Some(checksum) = checked.checksum {
            if self.checksums.len() == MAX_CHECKSUMS {
                self.checksums.pop_front();
            }
            self.checksums.push_back(checksum);
        }
        Ok(DataMessage {
            message,
            newest_input,
        })
    }

    /// Decodes a message within `bounds`. One outside them is counted.
    pub(super) fn check(
        &mut self,
        payload: &[u8],
        bounds: &EpisodeBounds,
        current_frame: Frame,
        now: Duration,
    ) -> Result<(GgrsMessage, Checked), GgrsWireError> {
        let limits = Limits {
            players: &self.players,
            input_bytes: bounds.input_bytes,
            max_prediction: bounds.max_prediction,
            max_input_delay: bounds.max_input_delay,
            desync_interval: bounds.desync_interval,
            current_frame,
            remote_magic: self.magic,
            sent_pings: &self.sent_pings,
        };
        match ggrs_wire::decode(payload, &limits) {
            Ok((message, checked)) => {
                self.magic.get_or_insert(checked.magic);
                self.inputs.record(now, payload, &checked);
                Ok((message, checked))
            }
            Err(error) => {
                self.inputs.record_refused(error.clone());
                Err(error)
            }
        }
    }

    /// Records the packet of a checked message, if it carries inputs. Returns the newest input frame
    /// if it is new.
    fn record_inputs(&mut self, checked: &Checked, packet: &Inbound) -> Option<Frame> {
        let newest = checked.newest_input_frame?;
        let known = self.newest(Owner::Sender);
        let is_new = newest > known;
        // With input delay the first packet starts at the delay: the frames before it hold the
        // default input and are not sent.
        let first_new = checked
            .first_input_frame
            .map_or(newest, |first| first.max(known + 1));
        if let Some(first) = checked.first_input_frame {
            self.packets.push(InputPacket::First {
                arrival: arrival(first, newest, checked.confirmed_frame, packet),
                new: is_new.then_some((first_new, newest)),
            });
        }
        self.record_received(checked);
        is_new.then_some(newest)
    }

    /// The bounds of this peer's later messages.
    pub(super) fn record_received(&mut self, checked: &Checked) {
        for player in &mut self.players {
            if player.owner == Owner::Sender {
                player.record(checked);
            }
        }
    }

    /// Records a further copy of a data packet that came directly.
    pub(super) fn record_copy(&mut self, seq: u16) {
        self.packets.push(InputPacket::Copy { seq });
    }

    /// The inputs of peer `other` are known here through `last`, so this peer may report its
    /// disconnection at any frame up to that.
    pub(super) fn record_other(&mut self, bounds: &EpisodeBounds, other: PeerId, last: Frame) {
        for (player, player_slot) in self.players.iter_mut().zip(&bounds.player_slots) {
            if *player_slot == Some(other) {
                player.last_frame = player.last_frame.max(last);
            }
        }
    }

    fn newest(&self, owner: Owner) -> Frame {
        self.players
            .iter()
            .filter(|player| player.owner == owner)
            .map(|player| player.last_frame)
            .max()
            .unwrap_or(NULL_FRAME)
    }

    fn set_newest_local(&mut self, frame: Frame) {
        for player in &mut self.players {
            if player.owner == Owner::Local {
                player.last_frame = frame;
            }
        }
    }
}

/// A packet by its header, with the inputs in it.
fn arrival(first: Frame, newest: Frame, confirmed: Option<Frame>, packet: &Inbound) -> Arrival {
    let header = &packet.packet;
    let relay = packet.path == Path::Relay;
    Arrival {
        first,
        newest,
        confirmed,
        sent: header.sent,
        at: packet.at,
        seq: header.seq,
        relay,
        alone: relay && packet.route_is_direct,
        hidden: header.hidden,
        failed_over: header.failed_over,
        held: header.held,
        behind: header.behind,
        missing: header.missing,
        pause: header.pause.map(|pause| Pause {
            from: pause.from,
            to: pause.to,
            hidden: pause.hidden,
        }),
    }
}
