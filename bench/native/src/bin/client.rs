//! `whorl-bench-client KIND URL [options]`: the reference client over hyper, prints one line of JSON.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use lexopt::prelude::*;
use whorl_bench_native::client::{self, Options, Stack};
use whorl_bench_native::pinning;

const HELP: &str = "\
usage: whorl-bench-client KIND URL [options]
       whorl-bench-client versions

kinds
  get               GETs, each body read as a whole
  stream            GETs, each body read by pieces
  post_json         POSTs of a JSON document that the server sends back
  post_bytes        the same, as bytes that are not read as JSON
  post_form         POSTs of a form of some fields
  post_multipart    POSTs of a form with a file of --size bytes in it
  get_redirected    GETs that are redirected once
  pages             GETs of text, each by a client of its own
  echo              messages of a WebSocket that sends them back
  first_response    one GET: the process's CPU time at its end
  peak_memory       some GETs by pieces: the process's greatest resident memory
  memory_in_flight  GETs that the server holds: resident memory for each

options
  --stack NAME        hyper, hyper-openssl or openssl (hyper)
  --full-handshakes   resume no session (openssl)
  --connections N     at once (8)
  --size BYTES        of a body (1024)
  --warm-up SECONDS   before the window (0.2)
  --seconds SECONDS   of the window (1)
  --directory PATH    with the TLS server's authority.pem, and for uploads (.)
  --core N            run on this core

versions prints those of the libraries that are linked and are no crates.";

fn run() -> Result<()> {
    let mut output = std::io::stdout();
    let mut words = Vec::new();
    let (mut connections, mut size) = (8, 1024);
    let (mut warm_up, mut window) = (0.2, 1.0);
    let (mut stack, mut resume) = (Stack::default(), true);
    let (mut directory, mut core) = (PathBuf::from("."), None);
    let mut parser = lexopt::Parser::from_env();
    while let Some(argument) = parser.next()? {
        match argument {
            Long("connections") => connections = parser.value()?.parse()?,
            Long("size") => size = parser.value()?.parse()?,
            Long("warm-up") => warm_up = parser.value()?.parse()?,
            Long("seconds") => window = parser.value()?.parse()?,
            Long("stack") => stack = parse_stack(&parser.value()?.string()?)?,
            Long("full-handshakes") => resume = false,
            Long("directory") => directory = parser.value()?.into(),
            Long("core") => core = Some(parser.value()?.parse()?),
            Long("help") | Short('h') => return writeln!(output, "{HELP}").map_err(Into::into),
            Value(word) => words.push(word.string()?),
            other => return Err(other.unexpected().into()),
        }
    }
    if words == ["versions"] {
        return writeln!(output, "{}", client::versions()).map_err(Into::into);
    }
    let [kind, url] = <[String; 2]>::try_from(words).map_err(|_| anyhow::anyhow!("give a kind and a URL"))?;
    if let Some(core) = core {
        pinning::pin_to_core(core)?;
    }
    pinning::raise_file_limit()?;
    let options = Options {
        stack,
        resume,
        directory,
        connections,
        size,
        warm_up: Duration::try_from_secs_f64(warm_up).context("--warm-up")?,
        window: Duration::try_from_secs_f64(window).context("--seconds")?,
    };
    writeln!(output, "{}", client::run(&kind, &url, &options)?)?;
    Ok(())
}

fn parse_stack(name: &str) -> Result<Stack> {
    match name {
        "hyper" => Ok(Stack::Hyper),
        "hyper-openssl" => Ok(Stack::HyperOpenssl),
        "openssl" => Ok(Stack::Openssl),
        _ => bail!("unknown stack {name:?}; see --help"),
    }
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Nothing is left to do if standard error is gone.
            let _ = writeln!(std::io::stderr(), "whorl-bench-client: {error:#}");
            ExitCode::FAILURE
        }
    }
}
