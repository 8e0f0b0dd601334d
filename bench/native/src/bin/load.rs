//! `whorl-bench-load KIND TARGET [options]`: drives a server, prints one line of JSON.

use std::io::Write;
use std::net::SocketAddr;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use lexopt::prelude::*;
use whorl_bench_native::load::{self, Options};
use whorl_bench_native::meter::Meter;
use whorl_bench_native::pinning;

const HELP: &str = "\
usage: whorl-bench-load KIND TARGET [options]

kinds and targets
  tcp ADDRESS         echo over TCP
  tls ADDRESS         echo over TLS
  udp ADDRESS         echo of datagrams
  unix PATH           echo over a Unix-domain socket
  fifo DIRECTORY      echo through FIFOs request-N and answer-N
  handshake ADDRESS   TLS handshakes, each with one message, then closed
  churn ADDRESS       connections of one message each
  http ADDRESS        keep-alive GETs
  hold ADDRESS        opens connections, says so, and holds them until standard input ends

options
  --connections N     at once (8)
  --size BYTES        of a message (1024)
  --warm-up SECONDS   before the window (0.2)
  --seconds SECONDS   of the window (1)
  --pid PID           process whose CPU time is reported
  --core N            run on this core
  --block             sleep while nothing is readable, instead of spinning";

struct Arguments {
    kind: String,
    target: String,
    options: Options,
    warm_up: Duration,
    window: Duration,
    pid: Option<i32>,
    core: Option<usize>,
}

fn arguments() -> Result<Option<Arguments>> {
    let mut words = Vec::new();
    let mut options = Options { connections: 8, size: 1024, spin: true };
    let (mut warm_up, mut window, mut pid, mut core) = (0.2, 1.0, None, None);
    let mut parser = lexopt::Parser::from_env();
    while let Some(argument) = parser.next()? {
        match argument {
            Long("connections") => options.connections = parser.value()?.parse()?,
            Long("size") => options.size = parser.value()?.parse()?,
            Long("warm-up") => warm_up = parser.value()?.parse()?,
            Long("seconds") => window = parser.value()?.parse()?,
            Long("pid") => pid = Some(parser.value()?.parse()?),
            Long("core") => core = Some(parser.value()?.parse()?),
            Long("block") => options.spin = false,
            Long("help") | Short('h') => return Ok(None),
            Value(word) => words.push(word.string()?),
            other => return Err(other.unexpected().into()),
        }
    }
    let [kind, target] =
        <[String; 2]>::try_from(words).map_err(|_| anyhow::anyhow!("give a kind and a target"))?;
    let warm_up = Duration::try_from_secs_f64(warm_up).context("--warm-up")?;
    let window = Duration::try_from_secs_f64(window).context("--seconds")?;
    Ok(Some(Arguments { kind, target, options, warm_up, window, pid, core }))
}

fn run() -> Result<()> {
    let mut output = std::io::stdout();
    let Some(Arguments { kind, target, options, warm_up, window, pid, core }) = arguments()? else {
        return writeln!(output, "{HELP}").map_err(Into::into);
    };
    if let Some(core) = core {
        pinning::pin_to_core(core)?;
    }
    pinning::raise_file_limit()?;
    let address = || target.parse::<SocketAddr>().with_context(|| format!("not an address: {target:?}"));
    if kind == "hold" {
        return load::hold_connections(address()?, options.connections);
    }
    let meter = &mut Meter::new(warm_up, window, pid)?;
    let report = match kind.as_str() {
        "tcp" => load::tcp_echo(address()?, options, meter),
        "tls" => load::tls_echo(address()?, options, meter),
        "udp" => load::udp_echo(address()?, options, meter),
        "unix" => load::unix_echo(Path::new(&target), options, meter),
        "fifo" => load::fifo_echo(Path::new(&target), options, meter),
        "handshake" => load::tls_handshakes(address()?, options, meter),
        "churn" => load::connect_and_close(address()?, options, meter),
        "http" => load::http_load(address()?, options, meter),
        _ => bail!("unknown kind {kind:?}; see --help"),
    }?;
    writeln!(output, "{}", report.to_json())?;
    Ok(())
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Nothing is left to do if standard error is gone.
            let _ = writeln!(std::io::stderr(), "whorl-bench-load: {error:#}");
            ExitCode::FAILURE
        }
    }
}
