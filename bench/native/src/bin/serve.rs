//! `whorl-bench-serve KIND`: the reference servers over tokio, in one thread, and the certificate for TLS rows.

use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use lexopt::prelude::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use whorl_bench_native::pinning;

const HELP: &str = "\
usage: whorl-bench-serve echo [--core N]
       whorl-bench-serve http [--core N] [--body BYTES]
       whorl-bench-serve certificate DIRECTORY

echo and http listen on a free port of 127.0.0.1 and print it as one line of JSON; certificate writes
certificate.pem and key.pem (ECDSA P-256, self-signed, for localhost).";

/// One read of the echo server.
const READ_BUFFER: usize = 64 * 1024;

struct Arguments {
    words: Vec<String>,
    core: Option<usize>,
    body: usize,
}

fn arguments() -> Result<Option<Arguments>> {
    let mut arguments = Arguments { words: Vec::new(), core: None, body: 1024 };
    let mut parser = lexopt::Parser::from_env();
    while let Some(argument) = parser.next()? {
        match argument {
            Long("core") => arguments.core = Some(parser.value()?.parse()?),
            Long("body") => arguments.body = parser.value()?.parse()?,
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
        ["echo"] => serve(echo),
        ["http"] => {
            let answer = http_answer(arguments.body);
            serve(move |stream| answer_requests(stream, answer.clone()))
        }
        ["certificate", directory] => write_certificate(Path::new(directory)),
        _ => bail!("give a kind of server; see --help"),
    }
}

/// Accepts for ever, each connection in a task of its own.
fn serve<H, F>(handler: H) -> Result<()>
where
    H: Fn(TcpStream) -> F,
    F: Future<Output = std::io::Result<()>> + 'static,
{
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    let tasks = tokio::task::LocalSet::new();
    tasks.block_on(&runtime, async move {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let mut output = std::io::stdout();
        writeln!(output, "{{\"port\": {}}}", listener.local_addr()?.port())?;
        output.flush()?;
        loop {
            let (stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            // A connection that breaks is the client's affair; it reports what it missed.
            tokio::task::spawn_local(handler(stream));
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

fn http_answer(body: usize) -> Vec<u8> {
    let mut answer =
        format!("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {body}\r\n\r\n").into_bytes();
    answer.resize(answer.len() + body, b'x');
    answer
}

/// Answers every request head with the same bytes; requests have no body.
async fn answer_requests(mut stream: TcpStream, answer: Vec<u8>) -> std::io::Result<()> {
    let mut input = Vec::with_capacity(4096);
    loop {
        if stream.read_buf(&mut input).await? == 0 {
            return Ok(());
        }
        while let Some(end) = input.windows(4).position(|window| window == b"\r\n\r\n") {
            input.drain(..end + 4);
            stream.write_all(&answer).await?;
        }
    }
}

fn write_certificate(directory: &Path) -> Result<()> {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned(), "127.0.0.1".to_owned()])?;
    for (name, text) in [("certificate.pem", made.cert.pem()), ("key.pem", made.signing_key.serialize_pem())]
    {
        let path = directory.join(name);
        std::fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
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
