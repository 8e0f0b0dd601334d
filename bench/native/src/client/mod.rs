//! The reference client: hyper-util's pooled client in one thread, doing what the Python clients do.
//!
//! What a body needs (decompression, JSON) is done here as well, by the crates a Rust program would take.

mod body;
mod memory;
#[cfg(feature = "openssl")]
mod openssl;
mod websocket;
mod work;

use std::cell::RefCell;
use std::path::PathBuf;
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
use body::Outgoing;
use websocket::Echo;
use work::{Http, Work};

/// How often the clock is read while requests run.
const TICK: Duration = Duration::from_millis(10);
/// Bodies streamed before the peak of memory is read.
const STREAMED: usize = 5;

/// What requests are made by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Stack {
    /// hyper, and rustls under TLS.
    #[default]
    Hyper,
    /// hyper, and OpenSSL under TLS.
    HyperOpenssl,
    /// OpenSSL over sockets, and nothing else.
    Openssl,
}

/// What to do, and for how long.
#[derive(Clone, Debug)]
pub struct Options {
    /// What requests are made by.
    pub stack: Stack,
    /// Whether a session that the server gave a ticket for is resumed; by hyper it always is.
    pub resume: bool,
    /// Requests at once.
    pub connections: usize,
    /// Bytes of a body.
    pub size: usize,
    /// Before the window.
    pub warm_up: Duration,
    /// Of the window.
    pub window: Duration,
    /// Has authority.pem, which a TLS server's certificate is signed by; a file to be uploaded is made in it.
    pub directory: PathBuf,
}

/// The versions of the libraries that are linked and are not crates, as one line of JSON.
#[must_use]
pub fn versions() -> String {
    #[cfg(feature = "openssl")]
    return format!("{{\"OpenSSL of the references\": \"{}\"}}", ::openssl::version::version());
    #[cfg(not(feature = "openssl"))]
    "{}".to_owned()
}

/// Does `kind` with `url`, and returns one line of JSON.
pub fn run(kind: &str, url: &str, options: &Options) -> Result<String> {
    let url: Uri = url.parse().with_context(|| format!("not a URL: {url:?}"))?;
    match options.stack {
        Stack::Hyper => run_hyper(kind, url, options),
        #[cfg(feature = "openssl")]
        Stack::HyperOpenssl => openssl::run_hyper(kind, url, options),
        #[cfg(feature = "openssl")]
        Stack::Openssl => openssl::run(kind, &url, options),
        #[cfg(not(feature = "openssl"))]
        Stack::HyperOpenssl | Stack::Openssl => {
            Ok("{\"unavailable\": \"built without OpenSSL, whose headers pkg-config did not find\"}"
                .to_owned())
        }
    }
}

fn run_hyper(kind: &str, url: Uri, options: &Options) -> Result<String> {
    let connector = tcp_connector();
    if url.scheme_str() != Some("https") {
        return block_on(with(connector, kind, url, options));
    }
    let connector = HttpsConnectorBuilder::new()
        .with_tls_config(certificates::client_config(&options.directory)?)
        .https_only()
        .enable_http1()
        .wrap_connector(connector);
    block_on(with(connector, kind, url, options))
}

fn tcp_connector() -> HttpConnector {
    let mut connector = HttpConnector::new();
    connector.set_nodelay(true);
    connector.enforce_http(false);
    connector
}

fn block_on<F: Future<Output = Result<String>>>(main: F) -> Result<String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    LocalSet::new().block_on(&runtime, main)
}

async fn with<C>(connector: C, kind: &str, url: Uri, options: &Options) -> Result<String>
where
    C: Connect + Clone + Send + Sync + 'static,
{
    let http = Http::new(client(connector.clone()), url.clone(), options.size, &options.directory)?;
    match kind {
        "get" => repeated(http, Work::Get, options).await,
        "stream" => repeated(http, Work::Stream, options).await,
        "post_json" => repeated(http, Work::PostJson, options).await,
        "post_bytes" => repeated(http, Work::PostBytes, options).await,
        "post_form" => repeated(http, Work::PostForm, options).await,
        "post_multipart" => {
            http.make_upload()?;
            repeated(http, Work::PostMultipart, options).await
        }
        "get_redirected" => repeated(http, Work::Redirected, options).await,
        "pages" => {
            let workers = (0..options.connections).map(|_| {
                let (http, connector) = (http.clone(), connector.clone());
                async move || http.clone().by(client(connector.clone())).get_text().await
            });
            in_window(workers, options).await
        }
        "echo" => {
            let mut workers = Vec::new();
            for connection in 0..options.connections {
                let mut echo = Echo::open(&url, connection, options.size).await?;
                workers.push(async move || echo.round_trip().await);
            }
            in_window(workers, options).await
        }
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

/// A client with a pool of its own.
fn client<C: Connect + Clone>(connector: C) -> Client<C, Outgoing> {
    Builder::new(TokioExecutor::new()).build(connector)
}

/// One kind of request on every connection, by one client.
async fn repeated<C>(http: Http<C>, work: Work, options: &Options) -> Result<String>
where
    C: Connect + Clone + Send + Sync + 'static,
{
    let workers = (0..options.connections).map(|_| {
        let http = http.clone();
        async move || http.perform(work).await
    });
    in_window(workers, options).await
}

/// Repeats each worker's work, and reads the clock at both ends of the window.
async fn in_window<W>(workers: impl IntoIterator<Item = W>, options: &Options) -> Result<String>
where
    W: AsyncFnMut() -> Result<()> + 'static,
{
    let this = i32::try_from(std::process::id())?;
    let meter = Rc::new(RefCell::new(Meter::new(options.warm_up, options.window, Some(this))?));
    let mut tasks = JoinSet::new();
    for mut work in workers {
        let meter = Rc::clone(&meter);
        tasks.spawn_local(async move {
            loop {
                if let Err(error) = work().await {
                    return error;
                }
                meter.borrow_mut().add(1);
            }
        });
    }
    while meter.borrow_mut().phase()? != RunPhase::Done {
        tokio::select! {
            () = tokio::time::sleep(TICK) => {}
            Some(ended) = tasks.join_next() => return Err(ended?),
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
