//! `wardline serve`: the broker, until it is told to stop.

use std::path::PathBuf;

use rustix::process::Signal;
use tokio::signal::unix::{SignalKind, signal};

use super::{Failure, Outcome};
use crate::{config::Config, log, serve};

/// Options of `wardline serve`.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// The configuration file
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
}

/// Runs the command.
pub fn run(args: Args) -> Outcome {
    let config = Config::load(&args.config, crate::config::environment())
        .map_err(|problems| Failure::usage(problems.to_string()))?;
    log::start(config.log.format, config.log.level);
    for warning in &config.warnings {
        tracing::warn!("{warning}");
    }
    let runtime =
        tokio::runtime::Runtime::new().map_err(|error| Failure::failed(format!("no runtime: {error}")))?;
    runtime.block_on(serve_until_told(config))
}

async fn serve_until_told(config: Config) -> Outcome {
    let handler =
        |kind| signal(kind).map_err(|error| Failure::failed(format!("cannot take signals: {error}")));
    let (mut terminate, mut interrupt) =
        (handler(SignalKind::terminate())?, handler(SignalKind::interrupt())?);
    let mut hangup = handler(SignalKind::hangup())?;
    // Taken, so that a file at the process's limit (`ulimit -f`) fails the write, which is said, instead of killing us.
    let _file_size = handler(SignalKind::from_raw(Signal::XFSZ.as_raw()))?;

    let running = serve::start(config).await.map_err(|error| Failure::failed(error.to_string()))?;
    announce(&running);
    let failure = loop {
        tokio::select! {
            _ = terminate.recv() => break None,
            _ = interrupt.recv() => break None,
            failure = running.failed() => break Some(failure),
            _ = hangup.recv() => match running.reload() {
                Ok(()) => tracing::info!("reloaded"),
                Err(error) => tracing::error!(%error, "not reloaded; all stays as it was"),
            },
        }
    };
    tracing::info!("stopping");
    let stopped = running.stop().await;
    match (failure, stopped) {
        (Some(failure), _) => Err(Failure::failed(failure)),
        (None, Err(unfinished)) => {
            tracing::warn!("{unfinished}");
            Ok(())
        }
        (None, Ok(())) => Ok(()),
    }
}

/// One line that a person or a supervisor waits for.
#[expect(clippy::print_stdout, reason = "the line that the contract promises on standard output")]
fn announce(running: &serve::Running) {
    let mut line = String::from("ready");
    for listening in running.listening() {
        line.push_str(&format!(" {}={}://{}", listening.name, listening.transport, listening.address));
    }
    if let Some(address) = running.http() {
        line.push_str(&format!(" http=http://{address}"));
    }
    println!("{line}");
}
