//! The steady window: what is counted, and between which two readings of which clocks.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::sys::time::TimeValLike;
use nix::time::{ClockId, clock_getcpuclockid};
use nix::unistd::Pid;

/// How long a run may go without finishing one operation before it is called stuck.
const STALL_LIMIT: Duration = Duration::from_secs(10);

/// Where a run is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RunPhase {
    /// Load runs, nothing is counted yet.
    WarmUp,
    /// Inside the window.
    Steady,
    /// The window is over; the report can be made.
    Done,
}

/// The readings taken at the start of the window.
#[derive(Clone, Copy, Debug)]
struct Reading {
    wall: Instant,
    operations: u64,
    measured_cpu: Option<Duration>,
    own_cpu: Duration,
}

/// What came out of one window. Times are seconds.
#[derive(Clone, Copy, Debug)]
pub struct Report {
    operations: u64,
    seconds: f64,
    cpu_seconds: Option<f64>,
    load_cpu_seconds: f64,
}

impl Report {
    /// The report as one line of JSON.
    #[must_use]
    pub fn to_json(&self) -> String {
        let cpu = self.cpu_seconds.map_or_else(|| "null".to_owned(), |seconds| format!("{seconds:.9}"));
        format!(
            "{{\"operations\": {}, \"seconds\": {:.9}, \"cpu_seconds\": {cpu}, \"load_cpu_seconds\": {:.9}}}",
            self.operations, self.seconds, self.load_cpu_seconds
        )
    }
}

/// Counts operations, and reads the clocks when the warm-up and the window end.
#[derive(Debug)]
pub struct Meter {
    measured: Option<ClockId>,
    warm_up_ends: Instant,
    window: Duration,
    operations: u64,
    last_progress: (Instant, u64),
    start: Option<Reading>,
    report: Option<Report>,
}

impl Meter {
    /// A meter whose warm-up begins now. `measured_process` is the process whose user and system time the
    /// report gives, all of its threads together.
    pub fn new(warm_up: Duration, window: Duration, measured_process: Option<i32>) -> Result<Self> {
        let measured = measured_process
            .map(|pid| clock_getcpuclockid(Pid::from_raw(pid)))
            .transpose()
            .context("no CPU clock for the measured process")?;
        let now = Instant::now();
        Ok(Self {
            measured,
            warm_up_ends: now + warm_up,
            window,
            operations: 0,
            last_progress: (now, 0),
            start: None,
            report: None,
        })
    }

    /// Adds finished operations.
    pub fn add(&mut self, operations: u64) {
        self.operations += operations;
    }

    /// Reads the clock, and takes the readings that are due.
    ///
    /// # Errors
    /// The measured process is gone, or nothing has finished for ten seconds.
    pub fn phase(&mut self) -> Result<RunPhase> {
        if self.report.is_some() {
            return Ok(RunPhase::Done);
        }
        let now = Instant::now();
        self.check_progress(now)?;
        match self.start {
            None if now < self.warm_up_ends => Ok(RunPhase::WarmUp),
            None => {
                self.start = Some(self.read()?);
                Ok(RunPhase::Steady)
            }
            Some(start) if now.duration_since(start.wall) < self.window => Ok(RunPhase::Steady),
            Some(start) => {
                let end = self.read()?;
                let cpu = start.measured_cpu.zip(end.measured_cpu).map(|(from, to)| to.saturating_sub(from));
                self.report = Some(Report {
                    operations: end.operations - start.operations,
                    seconds: end.wall.duration_since(start.wall).as_secs_f64(),
                    cpu_seconds: cpu.map(|time| time.as_secs_f64()),
                    load_cpu_seconds: end.own_cpu.saturating_sub(start.own_cpu).as_secs_f64(),
                });
                Ok(RunPhase::Done)
            }
        }
    }

    /// The report, once the phase is [`RunPhase::Done`].
    pub fn report(&self) -> Result<Report> {
        self.report.context("the window is not over")
    }

    fn check_progress(&mut self, now: Instant) -> Result<()> {
        if self.operations != self.last_progress.1 {
            self.last_progress = (now, self.operations);
        } else if now.duration_since(self.last_progress.0) > STALL_LIMIT {
            bail!(
                "stuck: no operation finished for {} s ({} before that)",
                STALL_LIMIT.as_secs(),
                self.operations
            );
        }
        Ok(())
    }

    fn read(&self) -> Result<Reading> {
        let measured_cpu = self.measured.map(cpu_time).transpose().context("the measured process is gone")?;
        Ok(Reading {
            wall: Instant::now(),
            operations: self.operations,
            measured_cpu,
            own_cpu: cpu_time_of_this_process()?,
        })
    }
}

/// User and system time of this process so far, all threads.
pub fn cpu_time_of_this_process() -> Result<Duration> {
    cpu_time(ClockId::CLOCK_PROCESS_CPUTIME_ID)
}

fn cpu_time(clock: ClockId) -> Result<Duration> {
    let time = clock.now().context("cannot read a CPU clock")?;
    Ok(Duration::from_nanos(u64::try_from(time.num_nanoseconds())?))
}
