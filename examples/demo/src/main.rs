//! The whole thing on one machine: an embedded DynamoDB with Streams, a shop that writes orders, the adapter as a process of
//! its own, and a sink that shows what arrives. At the end it compares what was written with what arrived.
#![allow(clippy::disallowed_methods)] // it runs in real time

mod adapter;
mod options;
mod screen;
mod shop;
mod sink;
mod story;

use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use adapter::Adapter;
use clap::Parser as _;
use options::Options;
use screen::Screen;
use story::Story;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;

/// How long the tail may take after the last write.
const PATIENCE: Duration = Duration::from_secs(20);

type Failure = Box<dyn std::error::Error + Send + Sync>;

fn main() -> ExitCode {
    if std::env::args().nth(1).as_deref() == Some(adapter::ARGUMENT) {
        return dynamodb_streams_adapter::app::process::start(std::env::vars_os());
    }
    show(Options::parse())
}

#[tokio::main]
async fn show(options: Options) -> ExitCode {
    match run(options).await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(failure) => screen::say(&format!("the demo could not go on: {failure}\n"), 1),
    }
}

async fn run(options: Options) -> Result<bool, Failure> {
    let story = Arc::new(Story::default());
    let screen = Arc::new(Screen::new());
    let database = TcpListener::bind("127.0.0.1:0").await?;
    let sink = TcpListener::bind("127.0.0.1:0").await?;
    let (database_url, sink_url) = (url(&database)?, url(&sink)?);
    let (stop_database, stopped) = oneshot::channel::<()>();
    let engine = dynoxide::Database::memory().map_err(|error| error.to_string())?;
    let server = tokio::spawn(dynoxide::server::serve_with_shutdown(database, engine, async move {
        let _ = stopped.await;
    }));

    let folder = tempfile::tempdir()?;
    let moods = Arc::new(sink::Moods::default());
    let sink = tokio::spawn(sink::serve(sink, story.clone(), screen.clone(), moods.clone()));
    let shop = shop::Shop::open(&database_url).await?;
    let mut adapter = Adapter::start(&database_url, &sink_url, folder.path()).await?;
    screen.introduce(&database_url, &sink_url, adapter.page(), adapter.log_path(), options.chaos);

    let written = write_until_told(&options, &shop, &story, &screen, &moods, &mut adapter).await;
    moods.behave();
    screen.note("no more orders are written; waiting for the rest to arrive");
    let complete = wait_for_the_tail(&story, &screen).await;
    adapter.stop().await;
    screen.clear_line();
    let verdict = story.verdict();
    screen.line(&verdict.to_string());
    if !complete || !verdict.is_good() {
        screen.line(&format!("The end of the adapter's log:\n{}", adapter.end_of_log()));
    }
    sink.abort();
    let _ = stop_database.send(());
    let _ = server.await;
    written?;
    Ok(verdict.is_good())
}

/// Writes orders until the time is over or Ctrl-C is pressed, and makes trouble if that is wanted.
async fn write_until_told(
    options: &Options,
    shop: &shop::Shop,
    story: &Story,
    screen: &Screen,
    moods: &sink::Moods,
    adapter: &mut Adapter,
) -> Result<(), Failure> {
    let begun = Instant::now();
    let mut ticks = tokio::time::interval(Duration::from_secs(1) / options.rate);
    let mut summaries = tokio::time::interval(screen.summary_interval());
    let mut troubles = tokio::time::interval(Duration::from_secs(3));
    troubles.tick().await;
    let mut terminated = signal(SignalKind::terminate())?;
    let mut interrupted = signal(SignalKind::interrupt())?;
    let mut trouble = 0;
    loop {
        tokio::select! {
            _ = ticks.tick() => shop.next_change(story).await?,
            _ = summaries.tick() => screen.summary(&story.summary()),
            _ = troubles.tick(), if options.chaos => {
                trouble += 1;
                match trouble % 4 {
                    1 => screen.note(moods.fail_now_and_then()),
                    2 => { screen.note("the adapter is killed (SIGKILL) and started again"); adapter.kill_and_restart().await?; }
                    3 => screen.note(moods.poison_one_order()),
                    _ => screen.note(moods.behave()),
                }
            }
            _ = interrupted.recv() => return Ok(()),
            _ = terminated.recv() => return Ok(()),
        }
        if options.seconds.is_some_and(|seconds| begun.elapsed() >= Duration::from_secs(seconds)) {
            return Ok(());
        }
    }
}

async fn wait_for_the_tail(story: &Story, screen: &Screen) -> bool {
    let begun = Instant::now();
    while begun.elapsed() < PATIENCE {
        if story.is_complete() {
            return true;
        }
        screen.summary(&story.summary());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    false
}

fn url(listener: &TcpListener) -> Result<String, Failure> {
    Ok(format!("http://{}", listener.local_addr()?))
}
