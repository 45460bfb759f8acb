//! `directory-mirror replay`: signs recorded events afresh and posts them to a running server.

mod curl;
mod event;
mod input;
mod order;
mod parse;
mod post;
mod report;
mod target;

use std::collections::HashSet;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use reqwest::Url;
use tokio::time::Instant;

use self::event::Event;
use self::post::{Answer, PostError, Poster};
use self::report::{Columns, Outcome, Progress, Tally, plain, say};
use self::target::{Target, TargetError};
use super::serve::{DotenvError, read_dotenv};
use crate::clock::Clock;
use crate::config::Secret;
use crate::webhook::signature;

/// The exit status for bad usage or input; clap's as well.
const BAD_INPUT: u8 = 2;
/// After so many events in a row without an answer, the server is taken for gone.
const MAX_SILENCE: usize = 3;

/// Sign recorded events afresh and post them, one after the other, to a running server
///
/// Every event is read before the first is posted: if anything is not an event, all such places are told and nothing is
/// sent. Each is posted in its own bytes, under a signature of the present time. A server takes an event once: of one
/// that it has, it accepts a copy and leaves it (--fresh-ids makes it new). Its answer is the same for both, so only
/// copies within one play are told apart, as "duplicate".
///
/// Exit status: 0 if the server accepted all, 1 if it refused any or was not there, 2 for bad usage or input.
#[derive(Debug, Args)]
pub(super) struct ReplayArguments {
    /// Files, folders (every .json, .jsonl and .ndjson in them, by sorted path), or - for standard input
    ///
    /// A file holds one event; a JSON array of events; an answer of the Events API; or lines, each of them an event or
    /// a row of an exported inbox.
    #[arg(required = true)]
    inputs: Vec<PathBuf>,
    /// The server, such as http://127.0.0.1:8080, or the whole URL of an endpoint [default: by BIND_ADDR, as serve]
    #[arg(long, value_parser = target::parse_url)]
    url: Option<Url>,
    /// The secret to sign with [default: the first of WORKOS_WEBHOOK_SECRET, from the environment or .env]
    ///
    /// The variable is the better place: everybody on this machine can see a command line.
    #[arg(long, value_parser = parse_secret)]
    secret: Option<Secret>,
    /// Post in a random order; the same seed gives the same order
    #[arg(long, value_name = "SEED", num_args = 0..=1, require_equals = true)]
    shuffle: Option<Option<u64>>,
    /// Post each event so many times in all
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=1000))]
    duplicate: u16,
    /// Post at most so many events a second
    #[arg(long, value_name = "R", value_parser = parse_rate)]
    rate: Option<f64>,
    /// Give each event a new id, so that a server that has it takes it as new; copies share it
    #[arg(long)]
    fresh_ids: bool,
    /// List what would be posted, and post nothing
    #[arg(long)]
    dry_run: bool,
    /// Print a curl command for each event, and post nothing; run them before the signatures grow old
    #[arg(long, conflicts_with = "dry_run")]
    print_curl: bool,
}

fn parse_secret(text: &str) -> Result<Secret, &'static str> {
    if text.is_empty() { Err("it is empty") } else { Ok(Secret::new(text)) }
}

fn parse_rate(text: &str) -> Result<f64, &'static str> {
    let rate = text.parse().ok().filter(|rate: &f64| *rate >= 0.001 && *rate <= 1e6);
    rate.ok_or("give a number of events a second, from 0.001 to 1000000")
}

/// Why a play does not begin, or ends early.
#[derive(Debug, thiserror::Error)]
enum ReplayError {
    #[error(transparent)]
    Dotenv(#[from] DotenvError),
    #[error(transparent)]
    Target(#[from] TargetError),
    #[error("{}\n{} problem(s), so nothing is posted", .0.join("\n"), .0.len())]
    Input(Vec<String>),
    #[error("there are no events in what was named")]
    NoEvents,
    #[error(transparent)]
    Post(#[from] PostError),
    #[error("the server has stopped answering: {0} of {1} events were not posted")]
    Silence(usize, usize),
}

impl ReplayError {
    fn status(&self) -> ExitCode {
        match self {
            Self::Dotenv(_) | Self::Target(_) | Self::Input(_) | Self::NoEvents => ExitCode::from(BAD_INPUT),
            Self::Post(_) | Self::Silence(..) => ExitCode::FAILURE,
        }
    }
}

pub(super) async fn run(arguments: ReplayArguments) -> ExitCode {
    match replay(&arguments).await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("{error}");
            error.status()
        }
    }
}

async fn replay(arguments: &ReplayArguments) -> Result<bool, ReplayError> {
    let events = read_events(arguments)?;
    let seed = arguments.shuffle.map(|seed| seed.unwrap_or_else(choose_seed));
    let order = order::order(events.len(), usize::from(arguments.duplicate), seed);
    let play: Vec<&Event> = order.into_iter().map(|index| &events[index]).collect();
    let columns = Columns::new(play.len(), &events);
    if arguments.dry_run {
        for (index, event) in play.iter().enumerate() {
            say(columns.line(index + 1, event, format_args!("{} bytes", event.body.len())));
        }
        say(format_args!("{} would be posted; this was a dry run", play.len()));
        return Ok(true);
    }
    read_dotenv()?;
    let lookup = |name: &str| std::env::var(name).ok();
    let target = Target::find(arguments.url.as_ref(), arguments.secret.as_ref(), &lookup)?;
    if arguments.print_curl {
        print_curl(&play, &columns, &target);
        return Ok(true);
    }
    let poster = Poster::new(target, Clock::system())?;
    post_all(&play, &poster, Pace::new(arguments.rate), Progress::new(columns)).await
}

fn read_events(arguments: &ReplayArguments) -> Result<Vec<Event>, ReplayError> {
    let mut found = input::read(&arguments.inputs, &mut std::io::stdin().lock());
    if !found.problems.is_empty() {
        return Err(ReplayError::Input(found.problems.iter().map(|problem| plain(&problem.to_string())).collect()));
    }
    if found.events.is_empty() {
        return Err(ReplayError::NoEvents);
    }
    if arguments.fresh_ids {
        event::refresh_ids(&mut found.events);
    }
    Ok(found.events)
}

/// A seed that is short enough to be typed again.
fn choose_seed() -> u64 {
    let seed = uuid::Uuid::now_v7().as_u128() as u64 & 0xFFFF_FFFF;
    eprintln!("this order again: --shuffle={seed}");
    seed
}

fn print_curl(play: &[&Event], columns: &Columns, target: &Target) {
    let now = Clock::system().now();
    for (index, event) in play.iter().enumerate() {
        say(format_args!("# {}", columns.line(index + 1, event, "").trim_end()));
        say(curl::command(event, target.url.as_str(), &signature::sign(&target.secret, now, &event.body)));
    }
    let holds = target.tolerance.as_secs();
    eprintln!("these signatures hold for {holds} s, or what the server's WEBHOOK_TOLERANCE says");
}

async fn post_all(play: &[&Event], poster: &Poster, mut pace: Pace, progress: Progress) -> Result<bool, ReplayError> {
    let started = Instant::now();
    let (mut tally, mut taken, mut silent) = (Tally::default(), HashSet::new(), 0);
    let mut failure = None;
    for (index, event) in play.iter().enumerate() {
        let now = Instant::now();
        let at = pace.take(now);
        if at > now {
            tokio::time::sleep_until(at).await;
        }
        let answer = match poster.post(&event.body).await {
            Ok(answer) => answer,
            Err(error) => {
                failure = Some(error.into());
                break;
            }
        };
        silent = if matches!(answer, Answer::Silence(_)) { silent + 1 } else { 0 };
        let taken_before = matches!(answer, Answer::Accepted) && !taken.insert(&event.id);
        let outcome = Outcome::of(answer, taken_before);
        tally.add(&outcome);
        progress.tell(index + 1, event, &outcome);
        if silent == MAX_SILENCE && index + 1 < play.len() {
            failure = Some(ReplayError::Silence(play.len() - index - 1, play.len()));
            break;
        }
    }
    progress.finish();
    if tally != Tally::default() {
        say(tally.summary(started.elapsed()));
    }
    failure.map_or(Ok(tally.refused == 0), Err)
}

/// Keeps postings apart.
struct Pace {
    period: Duration,
    next: Option<Instant>,
}

impl Pace {
    fn new(rate: Option<f64>) -> Self {
        Self { period: rate.map_or(Duration::ZERO, |rate| Duration::from_secs_f64(1.0 / rate)), next: None }
    }

    /// When an event that is ready `now` may be posted. Time that was lost is not caught up with.
    fn take(&mut self, now: Instant) -> Instant {
        let at = self.next.map_or(now, |next| next.max(now));
        self.next = Some(at + self.period);
        at
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_events_a_second_than_told() {
        let (start, mut pace) = (Instant::now(), Pace::new(Some(4.0)));
        let mut at = |milliseconds| {
            let now = start + Duration::from_millis(milliseconds);
            pace.take(now).duration_since(start).as_millis()
        };
        assert_eq!([at(0), at(0), at(1), at(3000), at(3001)], [0, 250, 500, 3000, 3250]);
        let mut free = Pace::new(None);
        assert_eq!([free.take(start), free.take(start)], [start; 2]);
        assert!(["0", "-1", "NaN", "inf", "x"].iter().all(|rate| parse_rate(rate).is_err()));
    }
}
