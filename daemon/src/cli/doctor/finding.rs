//! What can be found, and what to do about it.

use serde::Serialize;
use serde_json::{Map, Value};

/// Whether somebody has to do something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Level {
    /// Something does not work, or soon will not.
    Problem,
    /// Worth knowing.
    Note,
}

macro_rules! codes {
    ($($(#[$about:meta])* $name:ident = $code:literal, $level:ident, $remedy:literal;)+) => {
        /// Every finding that there is, by what it is about.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(super) enum Code { $($(#[$about])* $name),+ }

        impl Code {
            /// As programs know it.
            pub(super) fn name(self) -> &'static str {
                match self { $(Self::$name => $code),+ }
            }

            fn level(self) -> Level {
                match self { $(Self::$name => Level::$level),+ }
            }

            /// What to do.
            pub(super) fn remedy(self) -> &'static str {
                match self { $(Self::$name => $remedy),+ }
            }
        }
    };
}

codes! {
    /// No interface could carry a group.
    NoInterface = "no-interface", Problem,
        "bring an interface up (`ip link set NAME up`), or give the nodes each other's addresses with --peers";
    /// The interface is down, or cannot multicast.
    InterfaceDown = "interface-down", Problem,
        "bring it up (`ip link set NAME up`), and let it multicast (`ip link set NAME multicast on`)";
    /// The group's port belongs to a program that does not share it.
    GroupPortTaken = "group-port-taken", Problem,
        "end that program (`ss -ulpn` names it), or choose another port with --group on every node";
    /// Nothing can be sent to the group.
    CannotSend = "cannot-send", Problem,
        "let UDP out to the group in this machine's firewall, and give the interface an IPv4 address";
    /// What is sent to the group does not come back on this machine.
    OwnVoice = "own-voice", Problem,
        "let UDP to the group in through this machine's firewall: `iptables -A INPUT -d GROUP -p udp -j ACCEPT`";
    /// Nobody is there.
    Nobody = "nobody-heard", Problem,
        "start a node; if one runs elsewhere, look at the group and port, the interface, the key, firewalls, and whether the \
         network carries multicast; --peers asks nodes by unicast";
    /// A node's multicast does not come here, its unicast does.
    NotHeard = "multicast-not-heard", Problem,
        "copies by unicast make up for it; let the group in through the firewall here, and let switches and access points \
         carry it (IGMP snooping needs a querier; Wi-Fi often drops multicast), or leave it so and list --peers";
    /// What is sent to the group from here does not come to a node.
    NotCarried = "multicast-not-carried", Problem,
        "let the group in through that machine's firewall, and let switches and access points carry it from here; copies by \
         unicast make up for it meanwhile";
    /// One node hears another by unicast alone.
    UnicastOnly = "unicast-only", Problem,
        "run the doctor on that machine; copies by unicast make up for it meanwhile";
    /// A node is heard, and does not answer.
    UnicastBlocked = "unicast-blocked", Problem,
        "let UDP between the nodes' own ports pass in both directions: votes, replies and copies go by unicast; --unicast \
         gives each node a port that a firewall can name";
    /// A voter is not there.
    VoterMissing = "voter-missing", Problem,
        "start it, or run the doctor on its machine; if it is gone for good, `chorus members replace`";
    /// Somebody else must be asked.
    PlaysDead = "plays-dead", Note, "`chorus revive NODE`, or start it again";
    /// Datagrams are lost.
    Loss = "loss", Problem,
        "look for a bad cable, a half-duplex port, a busy Wi-Fi channel, or a node without processor time; Chorus repairs \
         losses, and pays for it with time";
    /// Answers take long.
    SlowNetwork = "slow-network", Problem,
        "raise --heartbeat and the election timeouts on every node, or look for what delays datagrams";
    /// Large datagrams do not pass.
    DatagramSize = "datagram-size", Problem,
        "let datagrams of 1,428 bytes with IP and UDP pass, in fragments too, on every tunnel, VLAN and firewall between \
         the machines";
    /// Large datagrams are cut.
    Fragments = "fragments", Note,
        "raise the MTU to 1,428 or more: one lost fragment loses the datagram";
    /// Multicast came at first, and no more.
    Faded = "multicast-faded", Problem,
        "a switch snoops IGMP and nobody queries: turn a querier on in one switch or router of the network, or snooping off";
    /// A bridge of this machine will forget who listens.
    NoQuerier = "snooping-without-querier", Problem,
        "`ip link set BRIDGE type bridge mcast_querier 1`, or `mcast_snooping 0`";
    /// Another cluster with the same secret.
    OtherCluster = "other-cluster", Problem,
        "one of the two needs a group or a key of its own; a node that was restored or recovered belongs to the cluster of \
         the later epoch";
    /// Somebody with another secret.
    OtherSecret = "other-secret", Problem,
        "give that cluster another group or port; if the machine is one of yours, copy cluster.key to it again";
    /// Bytes that are not Chorus'.
    Noise = "noise", Problem,
        "another program uses this group and port, or another version of Chorus does: choose another with --group";
    /// Clocks differ.
    Clock = "clock", Problem,
        "set the clock by NTP (`timedatectl`): times in the log and the age of requests rest on it, safety does not";
    /// The disk is slow.
    SlowSync = "slow-sync", Problem,
        "put the data on a faster disk, or raise the election timeouts on every node to ten times this or more";
    /// The disk is almost full, or is.
    DiskSpace = "disk-space", Problem,
        "make room: below the reserve (--disk-reserve) the node takes no writes, and a full disk ends it";
    /// The data cannot be looked at.
    DataDirectory = "data-directory", Problem, "run the doctor as the user of the node, or as root";
    /// A key that others may read.
    KeyReadable = "key-readable", Problem,
        "`chmod 600` the file. If others can have read it: `chorus key rotate` gives the cluster another cluster.key, and \
         `chorus key retire` ends the old one; another control.key is made by `chorus key generate DIR`, its control.pub \
         goes to every node, and each is started again";
    /// A key that the others hold.
    KeyMissing = "key-missing", Problem,
        "it asks for the key by itself, of whoever is heard: let UDP between the nodes' own ports pass; and do not retire the \
         older key before it holds this one";
    /// Pages that cannot be reached.
    PagesUnreachable = "pages-unreachable", Problem,
        "let TCP to that port in there, and give the node the URL that others reach with --public-url";
    /// A small receive buffer.
    ReceiveBuffer = "receive-buffer", Note,
        "`sysctl -w net.core.rmem_max=8388608` and start the node again: a leader sends no more at once than a quarter of it";
    /// Different programs.
    Versions = "versions", Note, "bring all nodes to one version, one after the other";
    /// Nobody leads.
    NoLeader = "no-leader", Problem, "the findings above say why; without a majority nothing is written";
    /// A node complains.
    Complaint = "complaint", Problem, "the node's log says more";
}

/// One thing that was found.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Finding {
    pub(super) code: Code,
    /// With the values, one sentence.
    pub(super) sentence: String,
    /// The values alone.
    pub(super) values: Map<String, Value>,
}

impl Finding {
    pub(super) fn new(code: Code, sentence: impl Into<String>) -> Self {
        Self { code, sentence: sentence.into(), values: Map::new() }
    }

    /// The same with one more value.
    pub(super) fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.values.insert(name.to_owned(), value.into());
        self
    }

    pub(super) fn level(&self) -> Level {
        self.code.level()
    }
}
