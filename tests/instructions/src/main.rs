//! Holds the hot paths to the instructions that they are known to take. Wall time on a shared machine is noise; instructions
//! are the same under any load, so a few percent more are seen.
//!
//! `tests/instructions/run [--accept] [NAME...]` counts all, or those whose names begin so, and fails when one takes more than
//! `baseline.toml` and the allowance say. `--accept` makes what was counted the baseline.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "its output is its purpose")]
#![allow(clippy::expect_used, reason = "a benchmark that does not do what it is for must not be counted")]

mod baseline;
mod benchmarks;
mod callgrind;
mod operation;

use std::{
    env,
    error::Error,
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Mutex,
    thread,
};

use baseline::{Baseline, Verdict};
use benchmarks::{ALL, Benchmark};
use callgrind::CountError;

const ACCEPT: &str = "--accept";

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let done = match arguments.as_slice() {
        [run, name] if run == callgrind::RUN => run_one(name),
        arguments => guard(arguments),
    };
    done.unwrap_or_else(|error| {
        eprintln!("{error}");
        ExitCode::FAILURE
    })
}

/// What runs under callgrind.
fn run_one(name: &str) -> Result<ExitCode, Box<dyn Error>> {
    let benchmark = benchmarks::named(name).ok_or_else(|| format!("there is no benchmark {name}"))?;
    operation::repeat(&mut *(benchmark.prepare)());
    Ok(ExitCode::SUCCESS)
}

fn guard(arguments: &[String]) -> Result<ExitCode, Box<dyn Error>> {
    let accept = arguments.iter().any(|argument| argument == ACCEPT);
    let prefixes: Vec<&String> = arguments.iter().filter(|argument| *argument != ACCEPT).collect();
    let chosen = |benchmark: &&Benchmark| {
        prefixes.is_empty() || prefixes.iter().any(|prefix| benchmark.name.starts_with(prefix.as_str()))
    };
    let chosen: Vec<&Benchmark> = ALL.iter().filter(chosen).collect();
    if chosen.is_empty() {
        let names: Vec<_> = ALL.iter().map(|benchmark| benchmark.name).collect();
        return Err(format!("no benchmark is called so; there are {}", names.join(", ")).into());
    }
    let toolchain = baseline::toolchain()?;
    let file = baseline_file();
    let known = match Baseline::read(&file) {
        Err(_) if accept => Baseline::empty(toolchain.clone()),
        read => read?,
    };
    let profiles = profiles()?;
    let counts = count_all(&chosen, &profiles)?;
    let over = report(&known, &counts, &toolchain);
    println!("profiles, for callgrind_annotate: {}", profiles.display());
    if accept {
        accepted(known, &counts, toolchain).write(&file)?;
        println!("accepted as the baseline: {}", file.display());
        return Ok(ExitCode::SUCCESS);
    }
    if over {
        println!(
            "A hot path takes more instructions than it did. If that is what the change is worth, accept it with \
             `tests/instructions/run --accept` and commit the baseline with it."
        );
        return Ok(ExitCode::FAILURE);
    }
    Ok(ExitCode::SUCCESS)
}

fn baseline_file() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("baseline.toml")
}

/// Beside the program.
fn profiles() -> std::io::Result<PathBuf> {
    let profiles = env::current_exe()?.with_file_name("instructions");
    fs::create_dir_all(&profiles)?;
    Ok(profiles)
}

/// As many at a time as there are processors: they do not disturb each other's counts.
fn count_all(chosen: &[&Benchmark], profiles: &Path) -> Result<Vec<(&'static str, u64)>, CountError> {
    const WHOLE: &str = "no worker panics while it holds this";
    let queue = Mutex::new(chosen.iter().enumerate());
    let counts = Mutex::new(Vec::new());
    let next = || queue.lock().expect(WHOLE).next();
    let work = || {
        while let Some((at, benchmark)) = next() {
            let counted = callgrind::count(benchmark.name, profiles).map(|count| (benchmark.name, count));
            counts.lock().expect(WHOLE).push((at, counted));
        }
    };
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(work);
        }
    });
    let mut counts = counts.into_inner().expect(WHOLE);
    counts.sort_unstable_by_key(|(at, _)| *at);
    counts.into_iter().map(|(_, counted)| counted).collect()
}

/// Prints how the counts stand to the baseline; whether that is a failure.
fn report(known: &Baseline, counts: &[(&'static str, u64)], toolchain: &str) -> bool {
    let allowance = known.allowance(toolchain);
    println!("{:<28} {:>9} {:>9} {:>7}", "instructions of", "baseline", "now", "ratio");
    let mut over = false;
    for &(name, now) in counts {
        let verdict = known.judge(name, now, allowance);
        let (then, ratio) = match known.instructions.get(name) {
            Some(&then) => (then.to_string(), format!("{:.3}", now as f64 / then as f64)),
            None => ("-".to_owned(), "-".to_owned()),
        };
        let remark = match verdict {
            Verdict::Held => "",
            Verdict::Fewer => "  fewer: keep it with --accept",
            Verdict::More => "  MORE",
            Verdict::Unknown => "  NOT IN THE BASELINE",
        };
        over |= matches!(verdict, Verdict::More | Verdict::Unknown);
        println!("{name:<28} {then:>9} {now:>9} {ratio:>7}{remark}");
    }
    if known.toolchain != toolchain {
        println!(
            "The baseline is of {}, this is {toolchain}: {allowance} % more are allowed, and a change of compiler \
             should accept a new one.",
            known.toolchain
        );
    }
    over
}

/// The baseline with these counts in place of its own; without those of benchmarks that are gone, or of another compiler.
fn accepted(known: Baseline, counts: &[(&'static str, u64)], toolchain: String) -> Baseline {
    let mut accepted = Baseline::empty(toolchain);
    if known.toolchain == accepted.toolchain {
        accepted.instructions = known.instructions;
        accepted.instructions.retain(|name, _| benchmarks::named(name).is_some());
    }
    accepted.instructions.extend(counts.iter().map(|&(name, now)| (name.to_owned(), now)));
    accepted
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_baseline_has_every_benchmark_once_and_no_other() {
        let baseline = Baseline::read(&baseline_file()).unwrap();
        let names: BTreeSet<_> = ALL.iter().map(|benchmark| benchmark.name).collect();
        assert_eq!(names.len(), ALL.len(), "a name is used twice");
        assert_eq!(baseline.instructions.keys().map(String::as_str).collect::<BTreeSet<_>>(), names);
    }
}
