//! TLS load: echo inside long-lived sessions, and full handshakes.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsFd;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, ClientConnection, DigitallySignedStruct, SignatureScheme};

use super::churn::connect;
use super::{Exchange, Options, drive, message};
use crate::meter::{Meter, Report};
use crate::poll::{Poller, Waiting};

/// Echo of `options.size` bytes inside TLS sessions with `address`.
pub fn tls_echo(address: SocketAddr, options: Options, meter: &mut Meter) -> Result<Report> {
    run(address, options, meter, ConnectionUse::Long)
}

/// Full TLS handshakes (no resumption), each followed by one message, its echo and both close_notify alerts.
pub fn tls_handshakes(address: SocketAddr, options: Options, meter: &mut Meter) -> Result<Report> {
    run(address, options, meter, ConnectionUse::OneMessage)
}

fn run(
    address: SocketAddr,
    options: Options,
    meter: &mut Meter,
    connection_use: ConnectionUse,
) -> Result<Report> {
    let config = Arc::new(client_config()?);
    let exchanges = (0..options.connections)
        .map(|connection| {
            Ok(Tls {
                address,
                stream: connect(address)?,
                session: session(&config)?,
                config: Arc::clone(&config),
                connection_use,
                expected: message(connection, options.size),
                received: 0,
                waiting: Waiting::Read,
            })
        })
        .collect::<Result<Vec<_>>>()?;
    drive(exchanges, options.spin, meter)
}

/// How long a session is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ConnectionUse {
    Long,
    OneMessage,
}

/// What one read brought.
enum TlsProgress {
    /// Nothing, or part of the echo.
    Partial,
    /// The whole echo.
    Received,
    /// The server's end of the connection, after the whole echo.
    Ended,
}

struct Tls {
    address: SocketAddr,
    stream: TcpStream,
    session: ClientConnection,
    config: Arc<ClientConfig>,
    connection_use: ConnectionUse,
    expected: Vec<u8>,
    received: usize,
    waiting: Waiting,
}

impl Tls {
    fn flush(&mut self, poller: &Poller, token: usize) -> Result<()> {
        while self.session.wants_write() {
            match self.session.write_tls(&mut self.stream) {
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                // The server did not wait for our close_notify; the next read says that it is gone.
                Err(error) if is_gone(&error) && self.is_over() => return Ok(()),
                Err(error) => return Err(error).context("write"),
            }
        }
        self.waiting.update(self.session.wants_write(), poller, self.stream.as_fd(), token)
    }

    fn send_message(&mut self) -> Result<()> {
        self.received = 0;
        self.session.writer().write_all(&self.expected).context("encrypting")
    }

    /// Reads what is there, and compares it with what was sent.
    fn receive(&mut self, scratch: &mut [u8]) -> Result<TlsProgress> {
        match self.session.read_tls(&mut self.stream) {
            // Some servers end with a bare FIN after the client's close_notify.
            Ok(0) if self.is_over() => return Ok(TlsProgress::Ended),
            Ok(0) => bail!("the server closed after {} of {} bytes", self.received, self.expected.len()),
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(TlsProgress::Partial),
            Err(error) if is_gone(&error) && self.is_over() => return Ok(TlsProgress::Ended),
            Err(error) => return Err(error).context("read"),
        }
        let state = self.session.process_new_packets().context("TLS")?;
        let mut whole = false;
        while self.received < self.expected.len() {
            let count = match self.session.reader().read(scratch) {
                Ok(0) => break,
                Ok(count) => count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error).context("decrypting"),
            };
            let end = self.received + count;
            if self.expected.get(self.received..end) != scratch.get(..count) {
                bail!("the echo differs from what was sent, between bytes {} and {end}", self.received);
            }
            self.received = end;
            whole = end == self.expected.len();
        }
        if state.peer_has_closed() {
            self.session.send_close_notify();
        }
        Ok(if whole { TlsProgress::Received } else { TlsProgress::Partial })
    }

    /// Whether this session has done all it was made for.
    fn is_over(&self) -> bool {
        self.connection_use == ConnectionUse::OneMessage && self.received == self.expected.len()
    }
}

fn is_gone(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe)
}

impl Exchange for Tls {
    fn start(&mut self, poller: &Poller, token: usize) -> Result<()> {
        self.session.set_buffer_limit(None);
        self.waiting = Waiting::Read;
        poller.add(self.stream.as_fd(), token, self.waiting.interest())?;
        self.send_message()?;
        self.flush(poller, token)
    }

    fn advance(&mut self, poller: &Poller, token: usize, scratch: &mut [u8]) -> Result<u64> {
        let finished = match self.receive(scratch)? {
            TlsProgress::Received if self.connection_use == ConnectionUse::Long => {
                self.send_message()?;
                1
            }
            TlsProgress::Received | TlsProgress::Partial => 0,
            TlsProgress::Ended => {
                self.stream = connect(self.address)?;
                self.session = session(&self.config)?;
                self.start(poller, token)?;
                return Ok(1);
            }
        };
        self.flush(poller, token)?;
        Ok(finished)
    }
}

fn session(config: &Arc<ClientConfig>) -> Result<ClientConnection> {
    let name = ServerName::try_from("localhost")?;
    ClientConnection::new(Arc::clone(config), name).context("no TLS session")
}

fn client_config() -> Result<ClientConfig> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AnyCertificate(provider)))
        .with_no_client_auth();
    config.resumption = Resumption::disabled();
    Ok(config)
}

/// Takes any certificate: the server is ours, on loopback, with a certificate made for this run.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
