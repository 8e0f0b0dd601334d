//! The references over OpenSSL: hyper with it in the place of rustls, and OpenSSL over sockets with nothing else.
//!
//! It is the system's OpenSSL. An interpreter that was built on the machine or comes from its distribution uses the
//! same library, so that a difference to its clients is none of OpenSSL's; the run shows both versions.

use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::{Arc, Mutex};

use anyhow::{Context, Result, bail};
use hyper::Uri;
use hyper_openssl::client::legacy::HttpsConnector;
use openssl::ssl::{
    ErrorCode, HandshakeError, MidHandshakeSslStream, Ssl, SslConnector, SslContext, SslMethod, SslSession,
    SslSessionCacheMode, SslStream, SslVerifyMode,
};
use openssl::x509::verify::X509VerifyFlags;

use super::{Options, block_on, tcp_connector, with};
use crate::load::churn::connect;
use crate::load::{Exchange, drive};
use crate::meter::Meter;
use crate::poll::{Poller, Waiting};

const AUTHORITY: &str = "authority.pem";

/// Does `kind` with hyper over OpenSSL, which resumes sessions where the server gives tickets.
pub(super) fn run_hyper(kind: &str, url: Uri, options: &Options) -> Result<String> {
    let mut tls = SslConnector::builder(SslMethod::tls_client())?;
    tls.set_ca_file(options.directory.join(AUTHORITY))?;
    let connector = HttpsConnector::with_connector(tcp_connector(), tls)?;
    block_on(with(connector, kind, url, options))
}

/// The last session that the server gave a ticket for.
type LastSession = Arc<Mutex<Option<SslSession>>>;

/// Opens a connection, makes a handshake, sends a GET, reads the response and closes, without end: what the
/// kernel and OpenSSL cost of it. Only the kind `get` is known.
pub(super) fn run(kind: &str, url: &Uri, options: &Options) -> Result<String> {
    if kind != "get" {
        bail!("OpenSSL alone has no kind {kind:?}");
    }
    let authority = url.authority().context("a URL without a host")?;
    let address: SocketAddr = authority.as_str().parse().context("the host is to be an address")?;
    let session = LastSession::default();
    let context = Arc::new(context(&options.directory, &session)?);
    let request = format!(
        "GET {} HTTP/1.1\r\nHost: {authority}\r\nAccept: */*\r\nAccept-Encoding: gzip, deflate\r\n\
         User-Agent: whorl-bench\r\n\r\n",
        url.path()
    );
    let exchanges = (0..options.connections)
        .map(|_| {
            Ok(Connection {
                address,
                context: Arc::clone(&context),
                session: options.resume.then(|| Arc::clone(&session)),
                request: request.clone(),
                response: Vec::new(),
                size: options.size,
                phase: TlsPhase::Closed,
            })
        })
        .collect::<Result<Vec<_>>>()?;
    let this = i32::try_from(std::process::id())?;
    let mut meter = Meter::new(options.warm_up, options.window, Some(this))?;
    Ok(drive(exchanges, false, &mut meter)?.to_json())
}

fn context(directory: &Path, session: &LastSession) -> Result<SslContext> {
    let mut context = SslContext::builder(SslMethod::tls_client())?;
    context.set_ca_file(directory.join(AUTHORITY))?;
    context.set_verify(SslVerifyMode::PEER);
    // As `ssl.create_default_context()` since Python 3.13.
    context.verify_param_mut().set_flags(X509VerifyFlags::X509_STRICT | X509VerifyFlags::PARTIAL_CHAIN)?;
    // One read of the socket for all records that have come, instead of two for each of them.
    context.set_read_ahead(true);
    context.set_session_cache_mode(SslSessionCacheMode::CLIENT | SslSessionCacheMode::NO_INTERNAL);
    let session = Arc::clone(session);
    context.set_new_session_callback(move |_, new| {
        if let Ok(mut last) = session.lock() {
            *last = Some(new);
        }
    });
    Ok(context.build())
}

/// Where a connection is.
enum TlsPhase {
    Closed,
    Handshake { stream: MidHandshakeSslStream<TcpStream>, resuming: bool },
    Open(SslStream<TcpStream>),
}

struct Connection {
    address: SocketAddr,
    context: Arc<SslContext>,
    /// None where no session is to be resumed.
    session: Option<LastSession>,
    request: String,
    response: Vec<u8>,
    size: usize,
    phase: TlsPhase,
}

impl Connection {
    fn open(&mut self, poller: &Poller, token: usize) -> Result<()> {
        let stream = connect(self.address)?;
        poller.add(stream.as_fd(), token, Waiting::Read.interest())?;
        let mut tls = Ssl::new(&self.context)?;
        tls.param_mut().set_ip(self.address.ip())?;
        let last = self.session.as_ref().and_then(|session| session.lock().ok()?.clone());
        if let Some(session) = &last {
            // SAFETY: the session comes from the callback of the context that `tls` was made with.
            unsafe { tls.set_session(session) }?;
        }
        self.shake_hands(tls.connect(stream), last.is_some())
    }

    /// Continues with what a step of the handshake gave.
    fn shake_hands(
        &mut self,
        step: Result<SslStream<TcpStream>, HandshakeError<TcpStream>>,
        resuming: bool,
    ) -> Result<()> {
        match step {
            Ok(mut stream) => {
                if resuming != stream.ssl().session_reused() {
                    bail!("a session was {}resumed", if resuming { "not " } else { "" });
                }
                // A small request: the socket has room for it.
                if stream.ssl_write(self.request.as_bytes())? != self.request.len() {
                    bail!("the request was cut short");
                }
                self.phase = TlsPhase::Open(stream);
            }
            Err(HandshakeError::WouldBlock(stream)) => self.phase = TlsPhase::Handshake { stream, resuming },
            Err(error) => return Err(error).context("handshake"),
        }
        Ok(())
    }

    /// Reads what is there; whether that is the whole response.
    fn receive(&mut self, scratch: &mut [u8]) -> Result<bool> {
        let TlsPhase::Open(stream) = &mut self.phase else { return Ok(false) };
        loop {
            match stream.ssl_read(scratch) {
                Ok(count) => self.response.extend_from_slice(scratch.get(..count).unwrap_or_default()),
                Err(error) if error.code() == ErrorCode::WANT_READ => break,
                Err(error) if error.code() == ErrorCode::ZERO_RETURN => break,
                Err(error) => return Err(error).context("read"),
            }
        }
        let Some(head) = self.response.windows(4).position(|window| window == b"\r\n\r\n") else {
            return Ok(false);
        };
        if !self.response.starts_with(b"HTTP/1.1 200") {
            bail!("the server returned an error");
        }
        match self.response.len() - head - 4 {
            length if length > self.size => bail!("{length} bytes instead of {}", self.size),
            length => Ok(length == self.size),
        }
    }
}

impl Exchange for Connection {
    fn start(&mut self, poller: &Poller, token: usize) -> Result<()> {
        self.open(poller, token)
    }

    fn advance(&mut self, poller: &Poller, token: usize, scratch: &mut [u8]) -> Result<u64> {
        if let TlsPhase::Handshake { .. } = self.phase
            && let TlsPhase::Handshake { stream, resuming } =
                std::mem::replace(&mut self.phase, TlsPhase::Closed)
        {
            self.shake_hands(stream.handshake(), resuming)?;
        }
        if !self.receive(scratch)? {
            return Ok(0);
        }
        if let TlsPhase::Open(mut stream) = std::mem::replace(&mut self.phase, TlsPhase::Closed) {
            // Sends close_notify; the server's is not waited for.
            stream.shutdown()?;
        }
        self.response.clear();
        self.open(poller, token)?;
        Ok(1)
    }
}
