//! `chorus tap`: what is said on the group, decoded, a line each. It listens and never sends.

mod line;
mod listener;

use std::time::Duration;

use chorus_proto::types::DATAGRAM_BYTES_MAX;
use clap::Args;
use tokio::time::{Instant, sleep, timeout_at};

use super::place::Place;
use super::{Failure, clock, output};
use crate::config;
use crate::transport;
use line::{Line, Style};
use listener::{Datagram, Listener};

/// Without `--for`: longer than anybody looks.
const FOR_EVER: Duration = Duration::from_secs(365 * 24 * 3_600);
/// After an error of the socket, which is some ICMP message come back.
const PAUSE: Duration = Duration::from_millis(10);

/// Show what is said on the group, a line each
///
/// Listens on the multicast group and prints every message: when it came (UTC), who said it to whom, and what it says,
/// in the notation of the project's scripts. It never sends. What travels by unicast, such as votes, replies and
/// answers to controllers, is not heard here.
///
/// A datagram that cannot be opened is shown with the reason; not when only some messages, senders or recipients are
/// asked for.
#[derive(Debug, Args)]
pub(super) struct Tap {
    /// Only these messages: HEARTBEAT,VOTEME
    #[arg(long, value_name = "NAMES", value_delimiter = ',', ignore_case = true, value_parser = names())]
    message: Vec<String>,
    /// All but these messages: HELLO,HEARTBEAT
    #[arg(long, value_name = "NAMES", value_delimiter = ',', ignore_case = true, value_parser = names(), conflicts_with = "message")]
    except: Vec<String>,
    /// Only what this node says, or `controller`
    #[arg(long, value_name = "NODE")]
    from: Option<String>,
    /// Only what is said to this node, or to `all`
    #[arg(long, value_name = "NODE")]
    to: Option<String>,
    /// Stop after so many lines
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
    /// Stop after so long
    #[arg(long = "for", value_name = "DURATION")]
    duration: Option<String>,
    /// One JSON object on a line for each, with all fields
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    place: Place,
}

fn names() -> clap::builder::PossibleValuesParser {
    clap::builder::PossibleValuesParser::new(chorus_proto::message::NAMES)
}

impl Tap {
    pub(super) async fn run(self) -> Result<(), Failure> {
        let duration = match &self.duration {
            Some(text) => config::duration(text)
                .map_err(|remedy| Failure::wrong(format!("--for is '{text}': {remedy}")))?,
            None => FOR_EVER,
        };
        let cluster = self.place.find()?;
        let socket = transport::listening_socket(&cluster.transport)?;
        let mut listener = Listener::new(cluster.secret)?;
        let mut left = self.count.unwrap_or(u64::MAX);
        let until = Instant::now() + duration;
        // One byte more than there may be: a longer datagram is seen to be one.
        let mut buffer = [0; DATAGRAM_BYTES_MAX + 1];
        let mut heard = false;
        while left > 0 {
            let wake = listener.patience_ends().map_or(until, |patience| patience.min(until));
            let lines = match timeout_at(wake, socket.recv_from(&mut buffer)).await {
                Ok(Ok((length, from))) => {
                    heard = true;
                    let datagram =
                        Datagram { at_ms: clock::unix_ms(), from, bytes: buffer[..length].to_vec() };
                    listener.hear(datagram, Instant::now())
                }
                Ok(Err(_)) => {
                    sleep(PAUSE).await;
                    continue;
                }
                Err(_over) => listener.lose_patience(),
            };
            for line in lines.iter().filter(|line| self.wants(line)) {
                output::data(&line.show(&listener, self.style()))?;
                left -= 1;
                if left == 0 {
                    break;
                }
            }
            if Instant::now() >= until {
                break;
            }
        }
        if !heard {
            output::talk(&format!("nothing was heard on {}", cluster.transport.group));
        }
        Ok(())
    }

    fn style(&self) -> Style {
        if self.json { Style::Json } else { Style::Words }
    }

    fn wants(&self, line: &Line) -> bool {
        let Ok(opened) = &line.opened else {
            return self.message.is_empty() && self.from.is_none() && self.to.is_none();
        };
        let is = |name: &String| name.eq_ignore_ascii_case(opened.message.name());
        (self.message.is_empty() || self.message.iter().any(is))
            && !self.except.iter().any(is)
            && self.from.as_ref().is_none_or(|from| *from == opened.sender_name)
            && self.to.as_ref().is_none_or(|to| to == line::recipient(opened))
    }
}
