//! Certificate and key, as rustls wants them.

use std::path::Path;
use std::sync::Arc;

use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use rustls_platform_verifier::BuilderVerifierExt as _;

use super::GuardError;
use crate::keys;

/// What a server with this certificate says and accepts: TLS 1.2 and 1.3, HTTP/1.1.
///
/// # Errors
/// Names the file that cannot be used.
pub(super) fn server(certificate: &Path, key: &Path) -> Result<Arc<ServerConfig>, GuardError> {
    let wrong = |path: &Path, what: String| GuardError::Tls { path: path.to_owned(), what };
    let pem = keys::public(certificate)?;
    let chain: Vec<_> = CertificateDer::pem_slice_iter(&pem)
        .collect::<Result<_, _>>()
        .map_err(|error| wrong(certificate, error.to_string()))?;
    if chain.is_empty() {
        return Err(wrong(certificate, "it holds no certificate".to_owned()));
    }
    let private = PrivateKeyDer::from_pem_slice(&keys::secret(key)?)
        .map_err(|error| wrong(key, format!("it holds no private key ({error})")))?;
    let mut server = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, private))
        .map_err(|error| wrong(key, error.to_string()))?;
    server.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(server))
}

/// Whom a client believes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trust<'a> {
    /// Nobody: it speaks without TLS.
    Nobody,
    /// Whom this machine trusts.
    Machine,
    /// The authority of this certificate, or several, as PEM.
    Authority(&'a Path),
}

/// What a client says and accepts: TLS 1.2 and 1.3.
///
/// # Errors
/// Names the file that cannot be used.
pub fn client(trust: Trust<'_>) -> Result<ClientConfig, GuardError> {
    let place = match trust {
        Trust::Authority(path) => path,
        _ => Path::new("what this machine trusts"),
    };
    let wrong = |error: rustls::Error| GuardError::Tls { path: place.to_owned(), what: error.to_string() };
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(wrong)?;
    let roots = match trust {
        Trust::Machine => return Ok(builder.with_platform_verifier().map_err(wrong)?.with_no_client_auth()),
        Trust::Nobody => RootCertStore::empty(),
        Trust::Authority(path) => authority(path)?,
    };
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}

fn authority(path: &Path) -> Result<RootCertStore, GuardError> {
    let wrong = |what: String| GuardError::Tls { path: path.to_owned(), what };
    let pem = keys::public(path)?;
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&pem) {
        let certificate = certificate.map_err(|error| wrong(error.to_string()))?;
        roots.add(certificate).map_err(|error| wrong(error.to_string()))?;
    }
    if roots.is_empty() { Err(wrong("it holds no certificate".to_owned())) } else { Ok(roots) }
}
