//! The certificates of the TLS rows: an authority made for the run, and what it has signed for this machine.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::NoServerSessionStorage;
use rustls::{ClientConfig, RootCertStore, ServerConfig};

/// What a client is to trust.
const AUTHORITY: &str = "authority.pem";
const CERTIFICATE: &str = "certificate.pem";
const KEY: &str = "key.pem";

/// Writes authority.pem, and certificate.pem and key.pem for localhost and 127.0.0.1, all ECDSA P-256.
pub fn write(directory: &Path) -> Result<()> {
    let authority_key = KeyPair::generate()?;
    let mut authority = CertificateParams::new(Vec::new())?;
    authority.distinguished_name.push(DnType::CommonName, "whorl's benchmarks");
    authority.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    authority.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    let authority_pem = authority.self_signed(&authority_key)?.pem();
    let issuer = Issuer::new(authority, authority_key);

    let key = KeyPair::generate()?;
    let mut server = CertificateParams::new(vec!["localhost".to_owned(), "127.0.0.1".to_owned()])?;
    server.distinguished_name.push(DnType::CommonName, "localhost");
    server.use_authority_key_identifier_extension = true;
    let certificate_pem = server.signed_by(&key, &issuer)?.pem();

    for (name, text) in
        [(AUTHORITY, authority_pem), (CERTIFICATE, certificate_pem), (KEY, key.serialize_pem())]
    {
        let path = directory.join(name);
        std::fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}

/// Whether a TLS server gives its clients session tickets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tickets {
    /// No session is resumed: every handshake is a full one, whatever the client keeps.
    None,
    /// As many as a server gives by default; one resumes any number of sessions.
    Given,
}

/// A server's side of TLS with the certificate in `directory`.
pub fn server_config(directory: &Path, tickets: Tickets) -> Result<Arc<ServerConfig>> {
    let certificates =
        CertificateDer::pem_file_iter(directory.join(CERTIFICATE))?.collect::<Result<Vec<_>, _>>()?;
    let key = PrivateKeyDer::from_pem_file(directory.join(KEY))?;
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(certificates, key)?;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    match tickets {
        Tickets::None => config.send_tls13_tickets = 0,
        Tickets::Given => config.ticketer = ring::Ticketer::new()?,
    }
    Ok(Arc::new(config))
}

/// A client's side of TLS that trusts the authority in `directory`.
pub fn client_config(directory: &Path) -> Result<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(directory.join(AUTHORITY))?)?;
    Ok(ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth())
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}
