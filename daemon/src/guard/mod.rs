//! What keeps strangers out of the pages: tokens, a gateway's secret and the certificate, each from files that are read
//! again on SIGHUP. Without such files everyone who reaches the pages may do everything, and nothing is encrypted.
//!
//! - `tokens`: who may read what is private, write, and moderate; and the sessions that a browser holds in their place.
//! - `tls`: certificate and key.
//!
//! What a request may do with it is `http`'s to decide.

mod tls;
mod tokens;

use std::path::PathBuf;
use std::sync::Arc;

use rustls::ServerConfig;
use tokio::sync::watch;

use crate::keys::{self, KeyError};

pub use tls::{Trust, client};
pub use tokens::{Held, Kind, Right, Tokens};

/// Where it all is kept.
#[derive(Clone, Debug, Default)]
pub struct Files {
    /// Tokens of those who may read what is private.
    pub readers: Option<PathBuf>,
    /// Tokens of those who may write besides.
    pub writers: Option<PathBuf>,
    /// Tokens of those who may moderate besides.
    pub moderators: Option<PathBuf>,
    /// The secret by which a gateway shows that its `Forwarded` can be believed.
    pub gateway: Option<PathBuf>,
    /// The certificate and those that lead to its root, as PEM, and the private key of the first.
    pub tls: Option<(PathBuf, PathBuf)>,
}

/// Why a file cannot be used. Each sentence names the file and the remedy.
#[derive(Debug, thiserror::Error)]
pub enum GuardError {
    /// It is not there, or others may read it.
    #[error(transparent)]
    File(#[from] KeyError),
    /// It holds no tokens.
    #[error(
        "the token file {path} {what}: it holds one token a line, each of 16 to 200 visible ASCII characters, as \
         `openssl rand -hex 32` makes one"
    )]
    NoTokens {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// Certificate and key do not make a server.
    #[error("{path} cannot be used for TLS: {what}; certificate and key are PEM files, and belong together")]
    Tls {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
}

/// What the files say.
#[derive(Debug, Default)]
struct Said {
    tokens: Tokens,
    gateway: Tokens,
    tls: Option<Arc<ServerConfig>>,
}

/// What the files said when they were read last; one for all who hold it.
#[derive(Clone, Debug, Default)]
pub struct Guard {
    files: Files,
    said: watch::Sender<Arc<Said>>,
}

impl Guard {
    /// Reads the files.
    ///
    /// # Errors
    /// With the first that cannot be used.
    pub fn read(files: Files) -> Result<Self, GuardError> {
        let said = Said::read(&files)?;
        Ok(Self { files, said: watch::Sender::new(Arc::new(said)) })
    }

    /// Reads the files again; if one of them cannot be used, everything stays as it was.
    ///
    /// # Errors
    /// With that file.
    pub fn reread(&self) -> Result<(), GuardError> {
        self.said.send_replace(Arc::new(Said::read(&self.files)?));
        Ok(())
    }

    /// Who may do what.
    #[must_use]
    pub fn tokens(&self) -> Guarded {
        Guarded(self.said())
    }

    /// Returns once the files hold this token no more, or give it another right; for nobody's (none) it never does.
    pub async fn forgets(&self, held: Option<Held>) {
        let Some(held) = held else { return std::future::pending().await };
        let mut said = self.said.subscribe();
        // What is there at the beginning counts too: it may have been read since the token was shown.
        drop(said.wait_for(|said| !said.tokens.know(held)).await);
    }

    /// Whether this is a gateway's secret.
    #[must_use]
    pub fn is_gateway(&self, secret: &str) -> bool {
        self.said().gateway.held(secret).is_some()
    }

    /// With what connections are encrypted, if they are.
    #[must_use]
    pub fn tls(&self) -> Option<Arc<ServerConfig>> {
        self.said().tls.clone()
    }

    /// Whether connections are encrypted.
    #[must_use]
    pub fn is_tls(&self) -> bool {
        self.files.tls.is_some()
    }

    fn said(&self) -> Arc<Said> {
        Arc::clone(&self.said.borrow())
    }
}

/// The tokens of one moment: a request is judged by one version of the files.
#[derive(Clone, Debug)]
pub struct Guarded(Arc<Said>);

impl std::ops::Deref for Guarded {
    type Target = Tokens;

    fn deref(&self) -> &Tokens {
        &self.0.tokens
    }
}

impl Said {
    fn read(files: &Files) -> Result<Self, GuardError> {
        let mut tokens = Tokens::default();
        for (right, path) in [
            (Right::Read, &files.readers),
            (Right::Write, &files.writers),
            (Right::Moderate, &files.moderators),
        ] {
            if let Some(path) = path {
                tokens.add(right, path, &keys::secret(path)?)?;
            }
        }
        let mut gateway = Tokens::default();
        if let Some(path) = &files.gateway {
            gateway.add(Right::Read, path, &keys::secret(path)?)?;
        }
        let tls = files.tls.as_ref().map(|(certificate, key)| tls::server(certificate, key)).transpose()?;
        Ok(Self { tokens, gateway, tls })
    }
}
