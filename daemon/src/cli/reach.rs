//! How the nodes' pages are reached: whose certificates are believed, and the token that is shown.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderValue};
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::ClientRequestBuilder;
use tokio_tungstenite::tungstenite::http::Uri;
use zeroize::Zeroizing;

use super::Failure;
use crate::guard::{self, Trust};
use crate::keys;

/// How long a node may take to take a connection.
const CONNECT_WAIT: Duration = Duration::from_secs(1);
const PROTOCOL: &str = "chorus.v1.json";

/// The flags that say it.
#[derive(Clone, Debug, Default, Args)]
pub(super) struct Reach {
    /// Whose certificates are believed where the nodes' pages are served by TLS, as PEM [default: whom this machine trusts]
    #[arg(long, env = "CHORUS_CA_FILE", hide_env = true, value_name = "FILE")]
    ca_file: Option<PathBuf>,
    /// A token for the nodes' pages, where they ask for one
    #[arg(long, env = "CHORUS_TOKEN_FILE", hide_env = true, value_name = "FILE")]
    token_file: Option<PathBuf>,
}

/// A connection, with TLS or without.
pub(super) trait Wire: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Wire for T {}

impl Reach {
    /// A client that gives up after `wait`, for these URLs.
    pub(super) fn client<'a>(
        &self,
        wait: Duration,
        urls: impl IntoIterator<Item = &'a str>,
    ) -> Result<reqwest::ClientBuilder, Failure> {
        let encrypted = urls.into_iter().any(|url| url.starts_with("https:"));
        let mut headers = HeaderMap::new();
        if let Some(shown) = self.authorization()? {
            headers.insert(AUTHORIZATION, shown);
        }
        Ok(reqwest::Client::builder()
            .connect_timeout(CONNECT_WAIT)
            .timeout(wait)
            .default_headers(headers)
            .tls_backend_preconfigured(guard::client(self.trust(encrypted))?)
            // The nodes are on this network; a proxy for the world does not know them.
            .no_proxy())
    }

    /// The feed of the node at `url`; none when it does not take the connection.
    pub(super) async fn feed(&self, url: &str) -> Result<Option<WebSocketStream<Box<dyn Wire>>>, Failure> {
        let address = format!("{}/ws", url.replacen("http", "ws", 1));
        let Ok(address) = address.parse::<Uri>() else { return Ok(None) };
        let Some(stream) = self.connect(&address).await? else { return Ok(None) };
        let mut request = ClientRequestBuilder::new(address).with_sub_protocol(PROTOCOL);
        if let Some(shown) = self.authorization()? {
            request = request.with_header("Authorization", shown.to_str().unwrap_or_default());
        }
        Ok(tokio_tungstenite::client_async(request, stream).await.ok().map(|(socket, _)| socket))
    }

    async fn connect(&self, address: &Uri) -> Result<Option<Box<dyn Wire>>, Failure> {
        let encrypted = address.scheme_str() == Some("wss");
        let host = address.host().unwrap_or_default().trim_matches(['[', ']']).to_owned();
        let port = address.port_u16().unwrap_or(if encrypted { 443 } else { 80 });
        let Ok(stream) = TcpStream::connect((host.as_str(), port)).await else { return Ok(None) };
        if !encrypted {
            return Ok(Some(Box::new(stream)));
        }
        let Ok(name) = ServerName::try_from(host) else { return Ok(None) };
        let connector = TlsConnector::from(Arc::new(guard::client(self.trust(true))?));
        Ok(connector.connect(name, stream).await.ok().map(|stream| Box::new(stream) as Box<dyn Wire>))
    }

    fn trust(&self, encrypted: bool) -> Trust<'_> {
        match &self.ca_file {
            Some(path) => Trust::Authority(path),
            None if encrypted => Trust::Machine,
            None => Trust::Nobody,
        }
    }

    /// What is shown with every request.
    fn authorization(&self) -> Result<Option<HeaderValue>, Failure> {
        let Some(path) = &self.token_file else { return Ok(None) };
        let bytes = keys::secret(path)?;
        let token = bytes.split(|byte| *byte == b'\n').next().unwrap_or_default().trim_ascii();
        let shown = Zeroizing::new([b"Bearer ", token].concat());
        let mut value =
            HeaderValue::from_bytes(&shown).ok().filter(|_| !token.is_empty()).ok_or_else(|| {
                Failure::wrong(format!("the token file {} holds no token in its first line", path.display()))
            })?;
        value.set_sensitive(true);
        Ok(Some(value))
    }
}
