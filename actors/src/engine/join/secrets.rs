//! The credentials of the daemon and of engines that join: a certificate whose key never leaves this process, a random
//! token, and the join file that carries the certificate's hash and the token to the engines.

use std::io::Write as _;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use anyhow::Context as _;
use demask_api::PROTOCOL;
use demask_api::join::{JoinFile, SECRET, bytes_of_hex, hex};
use rand::TryRngCore as _;
use rand::rngs::OsRng;
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::PrivatePkcs8KeyDer;
use tokio_rustls::rustls::version::TLS13;

/// The name in the certificate. Engines compare its hash instead.
const NAME: &str = "demask";

/// The secrets of one daemon. They are created at each start.
pub(super) struct Secrets {
    token: [u8; SECRET],
    certificate: [u8; SECRET],
    pub(super) acceptor: TlsAcceptor,
}

impl Secrets {
    /// Makes a certificate with its key, and a token.
    ///
    /// # Errors
    /// An error if the system has no random numbers.
    pub(super) fn new() -> anyhow::Result<Self> {
        let made = rcgen::generate_simple_self_signed([NAME.to_owned()])?;
        let key = PrivatePkcs8KeyDer::from(made.key_pair.serialize_der());
        let certificate = Sha256::digest(made.cert.der()).into();
        let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_protocol_versions(&[&TLS13])?
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key.into())?;
        // Each connection proves itself; none is resumed.
        config.send_tls13_tickets = 0;
        let mut token = [0; SECRET];
        OsRng.try_fill_bytes(&mut token).context("random numbers")?;
        Ok(Self {
            token,
            certificate,
            acceptor: TlsAcceptor::from(Arc::new(config)),
        })
    }

    /// Returns whether a peer's token is the right one, in a time that does not depend on where they differ.
    pub(super) fn opens(&self, token: &str) -> bool {
        bytes_of_hex(token).is_some_and(|token| token.ct_eq(&self.token).into())
    }

    /// Writes the join file, which only the user can read. Whoever reads it finds a whole one, before and after.
    ///
    /// # Errors
    /// Any error of the file system.
    pub(super) fn write(&self, path: &Path, address: SocketAddr) -> anyhow::Result<()> {
        let file = JoinFile {
            protocol: PROTOCOL,
            host: address.ip().to_string(),
            port: address.port(),
            token: hex(&self.token),
            certificate: hex(&self.certificate),
        };
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
        let written = || -> anyhow::Result<()> {
            // It has the mode 0600 from the beginning.
            let mut new = tempfile::NamedTempFile::new_in(folder.unwrap_or(Path::new(".")))?;
            new.write_all(&serde_json::to_vec(&file)?)?;
            new.as_file().sync_all()?;
            new.persist(path)?;
            Ok(())
        };
        written().with_context(|| format!("the join file {}", path.display()))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn the_file_is_the_users_alone_and_its_token_opens_and_no_other() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("join");
        let (one, other) = (Secrets::new().unwrap(), Secrets::new().unwrap());
        one.write(&path, "127.0.0.1:7".parse().unwrap()).unwrap();
        let mode = path.metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let file = JoinFile::read(&path).unwrap();
        assert!(one.opens(&file.token) && !other.opens(&file.token));
        assert!(!one.opens(&file.certificate) && !one.opens("") && !one.opens(&file.token[1..]));
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
