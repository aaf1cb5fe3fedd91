//! `chorus health`: whether the local node is well, for those who watch over it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use clap::Args;

use super::reach::Reach;
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
    /// The node's --public-url: of one with https the certificate is checked
    #[arg(long, env = "CHORUS_PUBLIC_URL", hide_env = true, value_name = "URL")]
    public_url: Option<String>,
    #[command(flatten)]
    reach: Reach,
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
        let request = self.client(address)?.get(format!("{}{path}", self.url(address)));
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

impl Health {
    /// Asks the local node also where its name leads elsewhere.
    fn client(&self, address: SocketAddr) -> Result<reqwest::Client, Failure> {
        let url = self.url(address);
        let mut client = self.reach.client(ANSWER_WAIT, [url.as_str()])?;
        if let Some(host) = self.public_host() {
            client = client.resolve(&host, address);
        }
        web::built(client)
    }

    fn url(&self, address: SocketAddr) -> String {
        match self.public_host() {
            // The node's own port: what the public one leads to may be a gateway.
            Some(host) => format!("https://{host}:{}", address.port()),
            None => format!("http://{address}"),
        }
    }

    /// The name in the certificate, if there is one.
    fn public_host(&self) -> Option<String> {
        let url: reqwest::Url = self.public_url.as_deref()?.parse().ok()?;
        (url.scheme() == "https").then(|| url.host_str().map(str::to_owned))?
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
