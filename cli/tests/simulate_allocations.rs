//! What `tollgate simulate` asks the allocator for, by the line of a log. A replay once spent most of its time there, and unlike a time this number is the same
//! on every machine.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};

use clap::Parser as _;
use tollgate::args::Cli;

/// Counts how often memory is asked for.
struct Counting;

static ASKED: AtomicU64 = AtomicU64::new(0);

#[allow(unsafe_code, reason = "an allocator is told what it may believe")]
// SAFETY: every call goes to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ASKED.fetch_add(1, Ordering::Relaxed);
        // SAFETY: as above.
        unsafe { System.alloc(layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ASKED.fetch_add(1, Ordering::Relaxed);
        // SAFETY: as above.
        unsafe { System.realloc(pointer, layout, size) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// A claim as the tenant, a tier that is listed and one that is not, two limits.
const LIMITS: &str = "tenant: {from: [{claim: tenant}], unknown: {tier: free}}\n\
    tiers:\n\
    \x20 premium: {limits: [{name: rate, requests: 10, per: 1s, burst: 40}]}\n\
    \x20 free: {limits: [{name: rate, requests: 1, per: 1s, burst: 20}, {name: hourly, quota: 600, per: hour}]}\n\
    tenants: {acme: {tier: premium}}\n";

const JSON: &str = "--claim=tenant=x_tenant_id";
const COMMON: &str = "--claim=tenant=user";

/// So many lines, of tenants that send more than they may: three of four requests are refused.
fn log(option: &str, lines: u64) -> String {
    let mut log = String::new();
    for number in 0..lines {
        let (seconds, milliseconds) = (number / 60, number % 60 * 16);
        let (hours, minutes, seconds) = (seconds / 3_600, seconds / 60 % 60, seconds % 60);
        // The last one has eight letters: of a claim as long as that the filter asks what type it has.
        let tenant = ["acme", "initech", "globex-2", "umbrella"][(number % 4) as usize];
        let written = match option {
            JSON => writeln!(
                log,
                r#"{{"start_time":"2026-11-21T{hours:02}:{minutes:02}:{seconds:02}.{milliseconds:03}Z","method":"GET","path":"/products/{number}","authority":"shop","response_code":200,"duration":0,"x_tenant_id":"{tenant}"}}"#
            ),
            _ => writeln!(
                log,
                r#"192.0.2.7 - {tenant} [21/Nov/2026:{hours:02}:{minutes:02}:{seconds:02} +0000] "GET /products/{number} HTTP/1.1" 200 5"#
            ),
        };
        written.unwrap();
    }
    log
}

/// How often a replay of so many lines asks for memory, in a process that does nothing else.
fn asked(folder: &Path, option: &str, lines: u64) -> u64 {
    fs::write(folder.join("limits.yaml"), LIMITS).unwrap();
    fs::write(folder.join("access.log"), log(option, lines)).unwrap();
    let output = Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "the_process_that_is_counted",
            "--ignored",
            "--nocapture",
        ])
        .env(OPTION, option)
        .current_dir(folder)
        .output()
        .unwrap();
    let [out, err] = [output.stdout, output.stderr].map(|text| String::from_utf8(text).unwrap());
    assert!(output.status.success(), "{out}{err}");
    assert!(out.contains(" refused (7"), "{out}");
    let told = err.lines().find_map(|line| line.strip_prefix(TOLD));
    told.unwrap().parse().unwrap()
}

/// The option of the command that is counted.
const OPTION: &str = "TOLLGATE_TEST_OPTION";

/// What its number is told behind.
const TOLD: &str = "memory was asked for so often: ";

#[test]
#[ignore = "another test starts it, in a folder with a log"]
fn the_process_that_is_counted() {
    let Ok(option) = std::env::var(OPTION) else {
        return;
    };
    let command = [
        "tollgate",
        "simulate",
        "--config=limits.yaml",
        "--log=access.log",
        &option,
    ];
    let cli = Cli::try_parse_from(command).unwrap();
    let before = ASKED.load(Ordering::Relaxed);
    tollgate::run(cli).unwrap();
    eprintln!("\n{TOLD}{}", ASKED.load(Ordering::Relaxed) - before);
}

#[test]
fn a_line_more_asks_for_memory_a_few_times_more() {
    let folder = tempfile::tempdir().unwrap();
    const LINES: u64 = 20_000;
    // Most of these are the filter's own.
    for (option, most) in [(JSON, 15.0), (COMMON, 11.0)] {
        let [once, twice] = [LINES, 2 * LINES].map(|lines| asked(folder.path(), option, lines));
        let each = (twice - once) as f64 / LINES as f64;
        assert!(
            each <= most,
            "{option}: {each}, and at most {most} is allowed"
        );
    }
}
