//! The network of one row: a namespace for every player, for the server and a second server, links
//! to a router between them, and the packet filters that the router applies.
//!
//! ```text
//! A (10.77.1.2) --+
//! B (10.77.2.2) --+-- R --+-- S (10.77.9.2)
//! C (10.77.3.2) --+       +-- T (10.77.8.2), the second server
//! ```
//!
//! A player behind a NAT is `192.168.K.2` behind `NA`, which has the address in the router's net.

use std::fmt;

use crate::process::{output_of, program};

/// Where the server listens.
pub(crate) const SERVER: &str = "10.77.9.2:3536";
/// Where the second server listens.
pub(crate) const OTHER_SERVER: &str = "10.77.8.2:3536";
/// The server's port.
const PORT: u16 = 3536;

/// One machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Node {
    Router,
    Server,
    OtherServer,
    Player(usize),
    /// The router of a player's home.
    Nat(usize),
}

pub(crate) const A: Node = Node::Player(0);
pub(crate) const B: Node = Node::Player(1);
pub(crate) const S: Node = Node::Server;

impl Node {
    /// Its subnet at the router.
    const fn subnet(self) -> usize {
        match self {
            Self::Router => 0,
            Self::Server => 9,
            Self::OtherServer => 8,
            Self::Player(player) | Self::Nat(player) => player + 1,
        }
    }
}

/// The letter of a player.
pub(crate) fn letter(player: usize) -> char {
    char::from(b'A' + u8::try_from(player).unwrap_or(25))
}

impl fmt::Display for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Router => f.write_str("R"),
            Self::Server => f.write_str("S"),
            Self::OtherServer => f.write_str("T"),
            Self::Player(player) => write!(f, "{}", letter(*player)),
            Self::Nat(player) => write!(f, "N{}", letter(*player)),
        }
    }
}

/// The namespaces of one row; they are removed with this value.
#[derive(Debug)]
pub(crate) struct Network {
    row: usize,
    nodes: Vec<Node>,
}

impl Network {
    /// Makes them, for `players` players of whom the first `nats` are behind a NAT. `row` sets the
    /// names of this row's namespaces apart from those of other rows.
    pub(crate) fn build(row: usize, players: usize, nats: usize) -> Result<Self, String> {
        let mut network = Self {
            row,
            nodes: Vec::new(),
        };
        network.add(Node::Router)?;
        network.inside(Node::Router, "echo 1 > /proc/sys/net/ipv4/ip_forward")?;
        for node in [Node::Server, Node::OtherServer] {
            network.add(node)?;
            network.join(node, "eth0", node)?;
        }
        for player in 0..players {
            let node = Node::Player(player);
            network.add(node)?;
            if player < nats {
                network.add_nat(player)?;
            } else {
                network.join(node, "eth0", node)?;
            }
        }
        Ok(network)
    }

    fn add(&mut self, node: Node) -> Result<(), String> {
        output_of(program("ip").args(["netns", "add", &self.name(node)]))?;
        self.nodes.push(node);
        self.inside(node, "ip link set lo up")
    }

    /// Joins a node to the router; the router's end is named after `who` can be reached there.
    fn join(&self, node: Node, device: &str, who: Node) -> Result<(), String> {
        let (net, path) = (node.subnet(), self.path(node));
        self.inside(
            Node::Router,
            &format!(
                "ip link add to{who} type veth peer name {device} netns {path}
                 ip addr add 10.77.{net}.1/24 dev to{who}
                 ip link set to{who} up"
            ),
        )?;
        self.inside(
            node,
            &format!(
                "ip addr add 10.77.{net}.2/24 dev {device}
                 ip link set {device} up
                 ip route add default via 10.77.{net}.1"
            ),
        )
    }

    fn add_nat(&mut self, player: usize) -> Result<(), String> {
        let (node, nat) = (Node::Player(player), Node::Nat(player));
        let net = node.subnet();
        self.add(nat)?;
        self.join(nat, "wan", node)?;
        let path = self.path(node);
        self.inside(
            nat,
            &format!(
                "ip link add lan type veth peer name eth0 netns {path}
                 ip addr add 192.168.{net}.1/24 dev lan
                 ip link set lan up
                 echo 1 > /proc/sys/net/ipv4/ip_forward
                 iptables -t nat -A POSTROUTING -o wan -j MASQUERADE"
            ),
        )?;
        self.inside(
            node,
            &format!(
                "ip addr add 192.168.{net}.2/24 dev eth0
                 ip link set eth0 up
                 ip route add default via 192.168.{net}.1"
            ),
        )
    }

    fn name(&self, node: Node) -> String {
        format!("{}-{node}", self.row)
    }

    /// The file that stands for a node's namespace.
    pub(crate) fn path(&self, node: Node) -> String {
        format!("/run/netns/{}", self.name(node))
    }

    /// Runs a script in a node's namespace, up to its first failure.
    pub(crate) fn inside(&self, node: Node, script: &str) -> Result<(), String> {
        let mut command = program("nsenter");
        command
            .arg(format!("--net={}", self.path(node)))
            .args(["--", "sh", "-ec", script]);
        output_of(&mut command).map(drop)
    }

    fn filter(&self, rule: &str) -> Result<(), String> {
        self.inside(Node::Router, &format!("iptables {rule}"))
    }

    /// Drops every packet from and to a node, or no longer does.
    pub(crate) fn block(&self, node: Node, blocked: bool) -> Result<(), String> {
        let change = if blocked { "-I" } else { "-D" };
        self.filter(&format!("{change} FORWARD -i to{node} -j DROP"))?;
        self.filter(&format!("{change} FORWARD -o to{node} -j DROP"))
    }

    /// Drops UDP from one node to another.
    pub(crate) fn drop_udp(&self, from: Node, to: Node) -> Result<(), String> {
        self.filter(&format!("-I FORWARD -p udp -i to{from} -o to{to} -j DROP"))
    }

    /// Loses a share of the TCP segments from and to the server, in percent.
    pub(crate) fn lose_tcp(&self, percent: u32) -> Result<(), String> {
        let share = f64::from(percent) / 100.0;
        for end in ["--dport", "--sport"] {
            self.filter(&format!(
                "-I FORWARD -p tcp {end} {PORT} -m statistic --mode random --probability {share} \
                 -j DROP"
            ))?;
        }
        Ok(())
    }

    /// A middlebox answers what goes to the server with a reset, or no longer does.
    pub(crate) fn reset_tcp(&self, on: bool) -> Result<(), String> {
        let change = if on { "-I" } else { "-D" };
        self.filter(&format!(
            "{change} FORWARD -p tcp --dport {PORT} -j REJECT --reject-with tcp-reset"
        ))
    }

    /// The server's address leads to the second server.
    pub(crate) fn redirect_server(&self) -> Result<(), String> {
        let server = SERVER.trim_end_matches(":3536");
        self.filter(&format!(
            "-t nat -A PREROUTING -d {server} -p tcp -j DNAT --to-destination {OTHER_SERVER}"
        ))
    }

    /// Gives a player an address in another net: the old one and its routes are gone.
    pub(crate) fn renumber(&self, player: usize) -> Result<(), String> {
        let node = Node::Player(player);
        let net = node.subnet() + 4;
        self.inside(
            Node::Router,
            &format!("ip addr add 10.77.{net}.1/24 dev to{node}"),
        )?;
        self.inside(
            node,
            &format!(
                "ip addr flush dev eth0
                 ip addr add 10.77.{net}.2/24 dev eth0
                 ip route add default via 10.77.{net}.1"
            ),
        )
    }

    /// A player's NAT forgets its UDP mappings and uses other ports from now on.
    pub(crate) fn forget_nat(&self, player: usize) -> Result<(), String> {
        self.inside(
            Node::Nat(player),
            "iptables -t nat -I POSTROUTING -o wan -p udp -j MASQUERADE --to-ports 50000-50999
             conntrack -D -p udp",
        )
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        for node in &self.nodes {
            // Whatever stays is removed with the namespaces around it.
            let _ = output_of(program("ip").args(["netns", "delete", &self.name(*node)]));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_two_rows_differ_and_fit_an_interface() {
        let of = |row| Network {
            row,
            nodes: Vec::new(),
        };
        assert_eq!(of(3).name(Node::Nat(1)), "3-NB");
        assert_ne!(of(3).path(A), of(13).path(A));
        assert!(format!("to{}", Node::Player(2)).len() < 16);
    }

    #[test]
    fn every_node_has_a_net_of_its_own() {
        let nodes = [Node::Router, S, Node::OtherServer, A, B, Node::Player(2)];
        let nets: Vec<usize> = nodes.iter().map(|node| node.subnet()).collect();
        let mut unique = nets.clone();
        unique.sort_unstable();
        unique.dedup();
        assert_eq!(unique.len(), nets.len());
        assert_eq!((letter(0), letter(2)), ('A', 'C'));
    }
}
