//! `whorl-bench-serve KIND`: the reference server over tokio, the HTTP server, and the certificates of TLS rows.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Result, bail};
use lexopt::prelude::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use whorl_bench_native::certificates::Tickets;
use whorl_bench_native::http_server::{self, Options};
use whorl_bench_native::{certificates, pinning};

const HELP: &str = "\
usage: whorl-bench-serve echo [--core N]
       whorl-bench-serve http [--core N] [--tls DIRECTORY] [--tickets] [--block]
       whorl-bench-serve certificate DIRECTORY

echo and http listen on a free port of 127.0.0.1, print it as one line of JSON, and end with the process that
started them. certificate writes authority.pem and, signed by it for localhost and 127.0.0.1, certificate.pem
and key.pem (ECDSA P-256).

pages of http
  /bytes/N  /close/N   N bytes, the second followed by the end of the connection
  /gzip/N              N bytes of JSON text, compressed
  /text/N              N bytes of HTML
  /redirect/N          a 302 to /bytes/N
  /json                the JSON text that was posted
  /sink                how many bytes were posted, which are discarded
  /echo                a WebSocket that sends its messages back
  /hold/N              N bytes, once /release is requested
  /held/N              nothing, once N requests for /hold are in flight

options
  --core N             run on this core
  --tls DIRECTORY      with the certificate and key in it
  --tickets            give session tickets; without them every handshake is a full one
  --block              sleep while nothing is readable, instead of spinning";

/// One read of the echo server.
const READ_BUFFER: usize = 64 * 1024;

struct Arguments {
    words: Vec<String>,
    core: Option<usize>,
    tls: Option<PathBuf>,
    tickets: Tickets,
    spin: bool,
}

fn arguments() -> Result<Option<Arguments>> {
    let mut arguments =
        Arguments { words: Vec::new(), core: None, tls: None, tickets: Tickets::None, spin: true };
    let mut parser = lexopt::Parser::from_env();
    while let Some(argument) = parser.next()? {
        match argument {
            Long("core") => arguments.core = Some(parser.value()?.parse()?),
            Long("tls") => arguments.tls = Some(parser.value()?.into()),
            Long("tickets") => arguments.tickets = Tickets::Given,
            Long("block") => arguments.spin = false,
            Long("help") | Short('h') => return Ok(None),
            Value(word) => arguments.words.push(word.string()?),
            other => return Err(other.unexpected().into()),
        }
    }
    Ok(Some(arguments))
}

fn run() -> Result<()> {
    let Some(arguments) = arguments()? else {
        return writeln!(std::io::stdout(), "{HELP}").map_err(Into::into);
    };
    if let Some(core) = arguments.core {
        pinning::pin_to_core(core)?;
    }
    let words: Vec<&str> = arguments.words.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["echo"] => {
            pinning::end_with_parent()?;
            serve_echo()
        }
        ["http"] => {
            pinning::end_with_parent()?;
            pinning::raise_file_limit()?;
            let tls = arguments
                .tls
                .as_deref()
                .map(|directory| certificates::server_config(directory, arguments.tickets))
                .transpose()?;
            let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
            say_port(listener.local_addr()?.port())?;
            http_server::serve(&listener, Options { tls, spin: arguments.spin })
        }
        ["certificate", directory] => certificates::write(Path::new(directory)),
        _ => bail!("give a kind of server; see --help"),
    }
}

/// One line of JSON for the runner.
fn say_port(port: u16) -> Result<()> {
    let mut output = std::io::stdout();
    writeln!(output, "{{\"port\": {port}}}")?;
    output.flush()?;
    Ok(())
}

/// Accepts until the process ends, each connection in a task of its own.
fn serve_echo() -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    let tasks = tokio::task::LocalSet::new();
    tasks.block_on(&runtime, async move {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        say_port(listener.local_addr()?.port())?;
        loop {
            let (stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            // A connection that breaks is the client's affair; it reports what it missed.
            tokio::task::spawn_local(echo(stream));
        }
    })
}

async fn echo(mut stream: TcpStream) -> std::io::Result<()> {
    let mut buffer = vec![0_u8; READ_BUFFER];
    loop {
        let count = stream.read(&mut buffer).await?;
        if count == 0 {
            return Ok(());
        }
        stream.write_all(buffer.get(..count).unwrap_or_default()).await?;
    }
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Nothing is left to do if standard error is gone.
            let _ = writeln!(std::io::stderr(), "whorl-bench-serve: {error:#}");
            ExitCode::FAILURE
        }
    }
}
