//! `chorus health`: whether the local node is well, for those who watch over it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use clap::Args;

use super::{Failure, output, web};

/// A node that takes longer is not well.
const ANSWER_WAIT: Duration = Duration::from_secs(2);

/// Ask the local node whether it is well; exit code 0 means yes
#[derive(Debug, Args)]
pub(super) struct Health {
    /// Whether it can serve: it knows a leader and has applied what is committed
    #[arg(long)]
    ready: bool,
    /// Where the node serves its pages
    #[arg(
        long,
        env = "CHORUS_LISTEN",
        hide_env = true,
        value_name = "ADDR:PORT",
        default_value = "127.0.0.1:8000"
    )]
    listen: String,
}

impl Health {
    pub(super) async fn run(self) -> Result<(), Failure> {
        let address = self.listen.parse().map(reachable).map_err(|_| {
            Failure::wrong(format!(
                "--listen is '{}': an address and a port are needed, as in 127.0.0.1:8000",
                self.listen
            ))
        })?;
        let path = if self.ready { "/readyz?verbose" } else { "/livez" };
        let request = web::client(ANSWER_WAIT)?.get(format!("http://{address}{path}"));
        let answer = request.send().await.map_err(|error| {
            let cause = if error.is_timeout() { "it took too long" } else { "nobody listens there" };
            Failure::refused(format!("no node answers at {address}: {cause}"))
        })?;
        let status = answer.status();
        let text = answer.text().await.unwrap_or_default();
        if status.is_success() {
            return output::data(if self.ready { "ready" } else { "alive" });
        }
        let detail = serde_json::from_str::<serde_json::Value>(&text)
            .ok()
            .and_then(|problem| problem["detail"].as_str().map(str::to_owned))
            .unwrap_or(text);
        Err(Failure::refused(format!("the node at {address} is not well ({status}): {}", detail.trim())))
    }
}

/// A node that listens on all addresses is on loopback too.
fn reachable(listen: SocketAddr) -> SocketAddr {
    let ip = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, listen.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_on_all_addresses_is_asked_on_loopback() {
        let asked = |listen: &str| reachable(listen.parse().unwrap()).to_string();
        assert_eq!(asked("0.0.0.0:8001"), "127.0.0.1:8001");
        assert_eq!(asked("[::]:8001"), "[::1]:8001");
        assert_eq!(asked("10.0.0.2:8001"), "10.0.0.2:8001");
    }
}
