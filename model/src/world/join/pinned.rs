//! TLS to the one daemon whose certificate a join file names by its hash. No certificate authority is asked, and no
//! name is compared: a peer that proves that it holds the key of that certificate is the daemon.

use std::sync::Arc;

use demask_api::join::{SECRET, bytes_of_hex};
use sha2::{Digest as _, Sha256};
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use tokio_rustls::rustls::crypto::{self, CryptoProvider, WebPkiSupportedAlgorithms};
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use tokio_rustls::rustls::version::TLS13;
use tokio_rustls::rustls::{CertificateError, ClientConfig, DigitallySignedStruct, Error, SignatureScheme};

/// The name that the client sends. The daemon does not look at it.
const NAME: &str = "demask";

/// Accepts one certificate.
#[derive(Debug)]
struct PinnedCertificate {
    sha256: [u8; SECRET],
    algorithms: WebPkiSupportedAlgorithms,
}

impl ServerCertVerifier for PinnedCertificate {
    fn verify_server_cert(
        &self,
        found: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if Sha256::digest(found).as_slice() == self.sha256 {
            return Ok(ServerCertVerified::assertion());
        }
        Err(CertificateError::ApplicationVerificationFailure.into())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::General("TLS 1.2 is not supported".to_owned()))
    }

    /// Checks that the other side holds the certificate's key. Without this check, anyone who has seen the certificate
    /// could present it.
    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        crypto::verify_tls13_signature(message, certificate, signed, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

/// Returns a connector that accepts the certificate with this hash and no other, and the name to connect with.
///
/// # Errors
/// An error if the hash is none, or if the TLS library lacks what is needed.
pub(super) fn connector(sha256: &str) -> Result<(TlsConnector, ServerName<'static>), Error> {
    let general = |what: &str| Error::General(what.to_owned());
    let sha256 =
        bytes_of_hex(sha256).ok_or_else(|| general("the join file has no valid certificate hash"))?;
    let provider: Arc<CryptoProvider> = Arc::new(crypto::ring::default_provider());
    let algorithms = provider.signature_verification_algorithms;
    let config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(PinnedCertificate { sha256, algorithms }))
        .with_no_client_auth();
    let name = ServerName::try_from(NAME).map_err(|_| general("the server's name"))?;
    Ok((TlsConnector::from(Arc::new(config)), name))
}

/// Returns whether a connection failed because the daemon is another one than the join file names.
pub(super) fn is_other_daemon(error: &std::io::Error) -> bool {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>());
    matches!(inner, Some(Error::InvalidCertificate(_)))
}
