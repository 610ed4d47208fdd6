//! Peer "tokio" of bench/world.py (file_read) and bench/tails.py (tails.rs). It keeps the contract of the other peers.
//!
//! `tasks` tasks read pages of one file, which was just written, at changing places. With pread=0 each has a
//! `tokio::fs::File`, seeks and reads, which is what the manual has, and two calls of the pool; with pread=1 they share a
//! `std::fs::File` and read by `read_exact_at` within `spawn_blocking`, which is the least that Tokio can do it with.

mod tails;

use std::collections::HashMap;
use std::fs;
use std::io::{SeekFrom, Write};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;
use tokio::io::{AsyncReadExt, AsyncSeekExt};

const PAGE: usize = 4096;
const PAGES: u64 = 4096;

/// Removes the file when the run is over.
struct Scratch(PathBuf);

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

fn cpu_seconds() -> f64 {
    let usage = unsafe {
        let mut usage = std::mem::zeroed::<libc::rusage>();
        assert_eq!(libc::getrusage(libc::RUSAGE_SELF, &mut usage), 0);
        usage
    };
    let seconds = |t: libc::timeval| t.tv_sec as f64 + t.tv_usec as f64 / 1e6;
    seconds(usage.ru_utime) + seconds(usage.ru_stime)
}

fn next(at: u64) -> u64 {
    (at * 5 + 1) % PAGES
}

fn verify(page: &[u8], at: u64) {
    assert!(page[0] == at as u8 && page[PAGE - 1] == at as u8, "wrong bytes");
}

async fn by_fs(path: PathBuf, first: u64, each: u64) {
    let mut file = tokio::fs::File::open(path).await.unwrap();
    let (mut page, mut at) = ([0; PAGE], first);
    for _ in 0..each {
        at = next(at);
        file.seek(SeekFrom::Start(at * PAGE as u64)).await.unwrap();
        file.read_exact(&mut page).await.unwrap();
        verify(&page, at);
    }
}

async fn by_pread(file: Arc<fs::File>, first: u64, each: u64) {
    let (mut page, mut at) = (vec![0; PAGE], first);
    for _ in 0..each {
        at = next(at);
        let (place, file) = (at * PAGE as u64, file.clone());
        let read = move || file.read_exact_at(&mut page, place).map(|()| page);
        page = tokio::task::spawn_blocking(read).await.unwrap().unwrap();
        verify(&page, at);
    }
}

async fn file_read(args: HashMap<String, u64>) {
    let get = |key: &str, otherwise| *args.get(key).unwrap_or(&otherwise);
    let (n, tasks, pread) = (get("n", 200000), get("tasks", 64), get("pread", 0) != 0);
    let scratch = Scratch(std::env::temp_dir().join(format!("weft-bench-tokio-{}", std::process::id())));
    let mut file = fs::File::create(&scratch.0).unwrap();
    for i in 0..PAGES {
        file.write_all(&[i as u8; PAGE]).unwrap();
    }
    let file = Arc::new(fs::File::open(&scratch.0).unwrap());

    let (cpu, start) = (cpu_seconds(), Instant::now());
    let all: Vec<_> = (0..tasks)
        .map(|i| match pread {
            false => tokio::spawn(by_fs(scratch.0.clone(), i * 61, n / tasks)),
            true => tokio::spawn(by_pread(file.clone(), i * 61, n / tasks)),
        })
        .collect();
    for task in all {
        task.await.unwrap();
    }
    let (seconds, ops) = (start.elapsed().as_secs_f64(), n / tasks * tasks);
    println!(
        r#"{{"peer":"tokio","workload":"file_read","ops":{ops},"seconds":{seconds:.6},"ns_per_op":{:.2},"cpu_s":{:.6}}}"#,
        seconds * 1e9 / ops as f64,
        cpu_seconds() - cpu
    );
}

fn version() -> String {
    let mut lines = include_str!("../Cargo.lock").lines();
    lines.find(|line| *line == r#"name = "tokio""#);
    lines.next().unwrap().replace("version = ", "Tokio ").replace('"', "")
}

fn main() {
    let mut words = std::env::args().skip(1);
    match words.next().unwrap_or_default().as_str() {
        "list" => println!("file_read {}", tails::WORKLOADS.join(" ")),
        "version" => println!("{}", version()),
        name if name == "file_read" || tails::WORKLOADS.contains(&name) => {
            let name = name.to_string();
            let number = |word: String| {
                let (key, value) = word.split_once('=').expect("key=value");
                (key.to_string(), value.parse().expect("a number"))
            };
            let args: HashMap<String, u64> = words.map(number).collect();
            let threads = *args.get("threads").unwrap_or(&2) as usize;
            let mut builder = tokio::runtime::Builder::new_multi_thread();
            let runtime = builder.worker_threads(threads).enable_all().build().unwrap();
            let root = match name.as_str() {
                "file_read" => runtime.spawn(file_read(args)),
                _ => runtime.spawn(tails::run(name, args)),
            };
            runtime.block_on(root).unwrap();
        }
        _ => {
            eprintln!("usage: peer list | version | WORKLOAD [key=value...]");
            std::process::exit(2);
        }
    }
}
