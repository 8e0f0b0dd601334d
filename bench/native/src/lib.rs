//! The native side of whorl's benchmarks: a load client that costs little beside the server it drives, and
//! two reference servers (an echo server and a small HTTP server over tokio).
//!
//! Nothing here is part of the package. The client runs in one thread over one epoll, on a core of its own, and
//! reads the measured process's CPU clock itself at both ends of the steady window, so that start-up, warm-up
//! and the driver's own delays never enter a figure.

pub mod load;
pub mod meter;
pub mod pinning;
