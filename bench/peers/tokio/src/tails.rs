//! What bench/tails.py asks of Tokio: the same servers and loops as in bench/work_tails.c.
//!
//! A server has one task for each connection. A request is 64 bytes; the answer is the same, but that its first 8 bytes say
//! how much has been done beside. Tasks that compute do not await meanwhile, as a user's would not who does not know.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, UnixStream};
use tokio::spawn;
use tokio::sync::mpsc;
use tokio::task::{yield_now, JoinHandle};

pub type Args = HashMap<String, u64>;
pub const WORKLOADS: [&str; 6] =
    ["tails_blocked", "tails_hogs", "tails_pair", "tails_ready", "tails_storm", "tails_timers"];

const REQUEST: usize = 64;
const FINE: u64 = 32;
const BURST: usize = 1000;
const TICK: Duration = Duration::from_millis(1);

static BESIDE: AtomicU64 = AtomicU64::new(0);
static ARMED: AtomicU64 = AtomicU64::new(0);

fn get(args: &Args, key: &str, otherwise: u64) -> u64 {
    *args.get(key).unwrap_or(&otherwise)
}

fn compute(span: Duration) {
    let start = Instant::now();
    while start.elapsed() < span {}
}

/// Latencies in buckets of at most 1/32 of their value.
struct Histogram(Vec<AtomicU64>);

impl Histogram {
    fn new() -> Self {
        Self((0..64 * FINE).map(|_| AtomicU64::new(0)).collect())
    }

    fn add(&self, latency: Duration) {
        let ns = latency.as_nanos() as u64;
        let at = match ns {
            0..=31 => ns,
            _ => {
                let shift = 58 - ns.leading_zeros() as u64;
                (shift + 1) * FINE + (ns >> shift) - FINE
            }
        };
        self.0[at as usize].fetch_add(1, Relaxed);
    }

    fn total(&self) -> u64 {
        self.0.iter().map(|count| count.load(Relaxed)).sum()
    }

    fn percentile_us(&self, share: f64) -> f64 {
        let (due, mut below) = (self.total() as f64 * share, 0);
        for (i, count) in self.0.iter().enumerate() {
            below += count.load(Relaxed);
            if below as f64 >= due {
                let i = i as u64;
                let ns = if i < FINE { i } else { (i % FINE + FINE) << (i / FINE - 1) };
                return ns as f64 / 1e3;
            }
        }
        0.0
    }
}

/// One after the other, without a pause: each ends, and has started the next.
fn hog(span: Duration) -> std::pin::Pin<Box<dyn std::future::Future<Output = ()> + Send>> {
    Box::pin(async move {
        compute(span);
        BESIDE.fetch_add(1, Relaxed);
        spawn(hog(span));
    })
}

async fn hog_that_yields(span: Duration) {
    loop {
        compute(span);
        BESIDE.fetch_add(1, Relaxed);
        yield_now().await;
    }
}

async fn block(span: Duration) {
    loop {
        std::thread::sleep(span);
        BESIDE.fetch_add(1, Relaxed);
        yield_now().await;
    }
}

async fn storm() {
    loop {
        let all: Vec<JoinHandle<()>> = (0..BURST)
            .map(|_| {
                spawn(async {
                    BESIDE.fetch_add(1, Relaxed);
                })
            })
            .collect();
        for one in all {
            one.await.unwrap();
        }
    }
}

async fn timer(first: Instant, period: Duration) {
    ARMED.fetch_add(1, Relaxed);
    tokio::time::sleep_until(first.into()).await;
    loop {
        BESIDE.fetch_add(1, Relaxed);
        tokio::time::sleep(period).await;
    }
}

fn begin_beside(name: &str, args: &Args) {
    match name {
        "tails_hogs" => {
            let span = Duration::from_micros(get(args, "us", 1000));
            for _ in 0..get(args, "threads", 2) {
                match get(args, "yields", 0) {
                    0 => drop(spawn(hog(span))),
                    _ => drop(spawn(hog_that_yields(span))),
                }
            }
        }
        "tails_blocked" => drop(spawn(block(Duration::from_millis(get(args, "ms", 1000))))),
        "tails_storm" => drop(spawn(storm())),
        _ => (),
    }
}

async fn serve(name: &str, args: &Args) {
    if name == "tails_timers" {
        let n = get(args, "n", 1000000);
        let period = Duration::from_millis(get(args, "ms", 60000));
        let start = Instant::now();
        for i in 0..n {
            spawn(timer(start + period.mul_f64((i + 1) as f64 / n as f64), period));
        }
        while ARMED.load(Relaxed) < n {
            tokio::time::sleep(TICK).await;
        }
    }
    let listener = TcpListener::bind(("127.0.0.1", get(args, "port", 9000) as u16)).await.unwrap();
    begin_beside(name, args);
    loop {
        let (mut socket, _) = listener.accept().await.unwrap();
        socket.set_nodelay(true).unwrap();
        spawn(async move {
            let mut request = [0; REQUEST];
            while socket.read_exact(&mut request).await.is_ok() {
                request[..8].copy_from_slice(&BESIDE.load(Relaxed).to_ne_bytes());
                if socket.write_all(&request).await.is_err() {
                    break;
                }
            }
        });
    }
}

fn report(name: &str, ops: u64, start: Instant, cpu: f64, latencies: &Histogram) {
    let seconds = start.elapsed().as_secs_f64();
    println!(
        r#"{{"peer":"tokio","workload":"{name}","ops":{ops},"seconds":{seconds:.6},"ns_per_op":{:.2},"cpu_s":{:.6},"p50_us":{:.3},"p99_us":{:.3},"p999_us":{:.3},"max_us":{:.3},"samples":{}}}"#,
        seconds * 1e9 / ops as f64,
        crate::cpu_seconds() - cpu,
        latencies.percentile_us(0.5),
        latencies.percentile_us(0.99),
        latencies.percentile_us(0.999),
        latencies.percentile_us(1.0),
        latencies.total()
    );
}

async fn pair(args: &Args) {
    let (start, cpu) = (Instant::now(), crate::cpu_seconds());
    let span = Duration::from_millis(get(args, "ms", 2000));
    let (gaps, over) = (Arc::new(Histogram::new()), Arc::new(AtomicBool::new(false)));
    let (ping, mut pinged) = mpsc::channel::<u64>(1);
    let (pong, mut ponged) = mpsc::channel::<u64>(1);
    let back = spawn(async move {
        while let Some(v) = pinged.recv().await {
            pong.send(v).await.unwrap();
        }
    });
    let third = spawn({
        let (gaps, over) = (gaps.clone(), over.clone());
        async move {
            let mut last = Instant::now();
            while !over.load(Relaxed) {
                yield_now().await;
                let now = Instant::now();
                gaps.add(now - last);
                last = now;
            }
        }
    });
    let there = spawn(async move {
        let mut rounds = 0;
        while start.elapsed() < span {
            ping.send(rounds).await.unwrap();
            assert_eq!(ponged.recv().await, Some(rounds));
            rounds += 1;
        }
        over.store(true, Relaxed);
        rounds
    });
    let rounds = there.await.unwrap();
    third.await.unwrap();
    back.await.unwrap();
    report("tails_pair", rounds, start, cpu, &gaps);
}

async fn ready(args: &Args) {
    let (start, cpu) = (Instant::now(), crate::cpu_seconds());
    let end = start + Duration::from_millis(get(args, "ms", 2000));
    let late = Arc::new(Histogram::new());
    let readers: Vec<JoinHandle<u64>> = (0..get(args, "threads", 2))
        .map(|_| {
            spawn(async move {
                let (mut near, mut far) = UnixStream::pair().unwrap();
                let (mut buffer, mut reads) = ([7; REQUEST], 0);
                while Instant::now() < end {
                    near.write_all(&buffer).await.unwrap();
                    far.read_exact(&mut buffer).await.unwrap();
                    reads += 1;
                }
                reads
            })
        })
        .collect();
    let timers: Vec<JoinHandle<()>> = (0..get(args, "timers", 16))
        .map(|_| {
            let late = late.clone();
            spawn(async move {
                let mut due = start + TICK;
                while due < end {
                    tokio::time::sleep_until(due.into()).await;
                    late.add(Instant::now() - due);
                    due += TICK;
                }
            })
        })
        .collect();
    for one in timers {
        one.await.unwrap();
    }
    let mut reads = 0;
    for one in readers {
        reads += one.await.unwrap();
    }
    report("tails_ready", reads, start, cpu, &late);
}

pub async fn run(name: String, args: Args) {
    match name.as_str() {
        "tails_pair" => pair(&args).await,
        "tails_ready" => ready(&args).await,
        _ => serve(&name, &args).await,
    }
}
