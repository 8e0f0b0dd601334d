//! The reference client: hyper-util's pooled client in one thread, doing what the Python clients do.
//!
//! What a body needs (decompression, JSON) is done here as well, by the crates a Rust program would take.

mod memory;
mod work;

use std::cell::RefCell;
use std::path::Path;
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use hyper::Uri;
use hyper_rustls::HttpsConnectorBuilder;
use hyper_util::client::legacy::connect::{Connect, HttpConnector};
use hyper_util::client::legacy::{Builder, Client};
use hyper_util::rt::TokioExecutor;
use tokio::task::{JoinSet, LocalSet};

use crate::certificates;
use crate::meter::{Meter, RunPhase, cpu_time_of_this_process};
use work::{Http, Work};

/// How often the clock is read while requests run.
const TICK: Duration = Duration::from_millis(10);
/// Bodies streamed before the peak of memory is read.
const STREAMED: usize = 5;

/// What to do, and for how long.
#[derive(Clone, Debug)]
pub struct Options {
    /// Requests at once.
    pub connections: usize,
    /// Bytes of a body.
    pub size: usize,
    /// Before the window.
    pub warm_up: Duration,
    /// Of the window.
    pub window: Duration,
}

/// Does `kind` with `url`, and returns one line of JSON. `trusted` has the authority of a TLS server's certificate.
pub fn run(kind: &str, url: &str, trusted: Option<&Path>, options: &Options) -> Result<String> {
    let uri: Uri = url.parse().with_context(|| format!("not a URL: {url:?}"))?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let builder = Client::builder(TokioExecutor::new());
    let mut connector = HttpConnector::new();
    connector.set_nodelay(true);
    match trusted {
        None => LocalSet::new().block_on(&runtime, with(builder, connector, kind, uri, options)),
        Some(directory) => {
            connector.enforce_http(false);
            let connector = HttpsConnectorBuilder::new()
                .with_tls_config(certificates::client_config(directory)?)
                .https_only()
                .enable_http1()
                .wrap_connector(connector);
            LocalSet::new().block_on(&runtime, with(builder, connector, kind, uri, options))
        }
    }
}

async fn with<C>(builder: Builder, connector: C, kind: &str, url: Uri, options: &Options) -> Result<String>
where
    C: Connect + Clone + Send + Sync + 'static,
{
    let http = Http::new(builder.build(connector), url, options.size);
    match kind {
        "get" => in_window(http, Work::Get, options).await,
        "stream" => in_window(http, Work::Stream, options).await,
        "post_json" => in_window(http, Work::PostJson, options).await,
        "first_response" => {
            http.get().await?;
            let cpu = cpu_time_of_this_process()?.as_secs_f64();
            Ok(format!("{{\"operations\": 1, \"seconds\": {cpu:.9}, \"cpu_seconds\": {cpu:.9}}}"))
        }
        "peak_memory" => {
            for _ in 0..STREAMED {
                http.stream().await?;
            }
            Ok(format!("{{\"value\": {}}}", memory::peak_bytes()?))
        }
        "memory_in_flight" => {
            let each = memory_in_flight(&http, options.connections).await?;
            Ok(format!("{{\"value\": {each}}}"))
        }
        _ => bail!("unknown kind {kind:?}; see --help"),
    }
}

/// Repeats the work on every connection, and reads the clock at both ends of the window.
async fn in_window<C>(http: Http<C>, work: Work, options: &Options) -> Result<String>
where
    C: Connect + Clone + Send + Sync + 'static,
{
    let this = i32::try_from(std::process::id())?;
    let meter = Rc::new(RefCell::new(Meter::new(options.warm_up, options.window, Some(this))?));
    let mut workers = JoinSet::new();
    for _ in 0..options.connections {
        let (http, meter) = (http.clone(), Rc::clone(&meter));
        workers.spawn_local(async move {
            loop {
                if let Err(error) = http.perform(work).await {
                    return error;
                }
                meter.borrow_mut().add(1);
            }
        });
    }
    while meter.borrow_mut().phase()? != RunPhase::Done {
        tokio::select! {
            () = tokio::time::sleep(TICK) => {}
            Some(ended) = workers.join_next() => return Err(ended?),
        }
    }
    Ok(meter.borrow().report()?.to_json())
}

/// Resident memory per request, while `count` of them are held by the server.
async fn memory_in_flight<C>(http: &Http<C>, count: usize) -> Result<f64>
where
    C: Connect + Clone + Send + Sync + 'static,
{
    let started = Instant::now();
    let mut waiting = JoinSet::new();
    let mut readings = Vec::new();
    for target in [memory::BEFORE, count] {
        while waiting.len() < target {
            let http = http.clone();
            waiting.spawn_local(async move { http.get().await });
        }
        http.request_page(&format!("/held/{target}")).await?;
        readings.push(memory::resident_bytes()?);
    }
    http.request_page("/release").await?;
    while let Some(ended) = waiting.join_next().await {
        ended?.with_context(|| format!("after {:.1} s", started.elapsed().as_secs_f64()))?;
    }
    let &[before, after] = readings.as_slice() else { bail!("two readings were taken") };
    Ok((after as f64 - before as f64) / (count - memory::BEFORE) as f64)
}
