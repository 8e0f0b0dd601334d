//! The native side of whorl's benchmarks: a load client that costs little against the server it drives, an HTTP
//! server that costs its client nothing, and the references (an echo server over tokio, an HTTP client
//! over hyper).
//!
//! Nothing here is part of the package. The load client and the HTTP server run in one thread over one epoll, on a
//! core of their own. The load client reads the measured process's CPU clock itself at both ends of the steady
//! window, and a measured client its own, so that start-up, warm-up and the driver's delays never enter a figure.

pub mod certificates;
pub mod client;
pub mod http_server;
pub mod load;
pub mod meter;
pub mod pinning;
mod poll;
