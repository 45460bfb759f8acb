//! Runs an emulator until it is interrupted.

mod chaos_args;
mod welcome;

use std::error::Error;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::process::ExitCode;

use chaos_args::ChaosArgs;
use chrono::Utc;
use clap::{Parser, Subcommand};
use tracing_subscriber::EnvFilter;
use workos_emulator::{
    DeliveryOptions, Emulator, EndpointChange, NewDirectory, NewUser, Options, SeedFile, UnknownCursor, WorldError,
    is_http_url,
};

/// An emulator of WorkOS Directory Sync.
#[derive(Parser)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Serve the API and send webhooks until interrupted.
    Serve(Box<Serve>),
}

#[derive(clap::Args)]
struct Serve {
    /// Port of the API.
    #[arg(long, default_value_t = 8085)]
    port: u16,
    /// Address that the API listens on.
    #[arg(long, default_value = "127.0.0.1")]
    bind: IpAddr,
    /// Bearer key that the API accepts.
    #[arg(long, default_value = "sk_test_emulator")]
    api_key: String,
    /// Where to send webhooks; it need not be up yet.
    #[arg(long, value_name = "URL")]
    endpoint: Option<String>,
    /// Secret that webhooks are signed with.
    #[arg(long, default_value = "whsec_emulator")]
    secret: String,
    /// Make what this YAML file describes: organizations, directories, users, groups.
    #[arg(long, value_name = "FILE")]
    seed_file: Option<PathBuf>,
    /// Make an example directory with this many users.
    #[arg(long, value_name = "NUMBER", default_value_t = 0)]
    users: usize,
    /// Decides the ids; by default they are new in each run, as a consumer remembers those of the last.
    #[arg(long)]
    seed: Option<u64>,
    /// Multiplies the rate limits; 0 is none at all.
    #[arg(long, value_name = "FACTOR", default_value_t = 1.0, value_parser = factor)]
    limits_scale: f64,
    /// Tell of deactivations and of deleted directories as environments from before October 2023 do.
    #[arg(long)]
    older_deletions: bool,
    /// What GET /events does about a cursor that it does not know.
    #[arg(long, value_enum, value_name = "WAY", default_value_t = UnknownCursor::Restart)]
    unknown_cursor: UnknownCursor,
    #[command(flatten)]
    chaos: ChaosArgs,
}

fn factor(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(factor) if factor == 0.0 || (0.001..=1e6).contains(&factor) => Ok(factor),
        _ => Err("it is 0, or a number from 0.001 to 1000000".to_owned()),
    }
}

#[tokio::main]
async fn main() -> ExitCode {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("warn,workos_emulator=info"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    let Command::Serve(serve) = Cli::parse().command;
    match run(*serve).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            let mut cause = error.source();
            while let Some(error) = cause {
                eprintln!("  because: {error}");
                cause = error.source();
            }
            ExitCode::FAILURE
        }
    }
}

async fn run(serve: Serve) -> Result<(), Box<dyn Error>> {
    let seed_file = serve.seed_file.as_deref().map(read_seed_file).transpose()?;
    if let Some(url) = serve.endpoint.as_deref().filter(|url| !is_http_url(url)) {
        return Err(format!("--endpoint {url:?} is no http or https URL: nothing could be sent there").into());
    }
    let emulator = Emulator::start(options(&serve)).await?;
    if let Some(url) = &serve.endpoint {
        let secret = Some(serve.secret.clone());
        emulator
            .change(|world| world.add_webhook_endpoint(url, EndpointChange { secret, ..EndpointChange::default() }));
    }
    if let Some(seed) = seed_file {
        emulator.change(|world| world.plant(seed))?;
    }
    if serve.users > 0 {
        make_example(&emulator, serve.users)?;
    }
    println!("{}", welcome::text(&emulator, &serve.secret));
    if serve.chaos.any() {
        println!("\nChaos reigns, with the seed {}", serve.chaos.chaos_seed);
    }
    tokio::signal::ctrl_c().await?;
    emulator.stop().await;
    Ok(())
}

fn options(serve: &Serve) -> Options {
    Options {
        bind: SocketAddr::new(serve.bind, serve.port),
        api_key: serve.api_key.clone(),
        seed: serve.seed.unwrap_or_else(|| Utc::now().timestamp_micros().unsigned_abs()),
        limits_scale: serve.limits_scale,
        older_deletions: serve.older_deletions,
        unknown_cursor: serve.unknown_cursor,
        webhook_secret: Some(serve.secret.clone()),
        delivery: DeliveryOptions { wait_for_first_answer: true, ..DeliveryOptions::default() },
        webhook_chaos: serve.chaos.webhooks(),
        api_chaos: serve.chaos.api(),
        chaos_seed: serve.chaos.chaos_seed,
        ..Options::default()
    }
}

fn read_seed_file(path: &std::path::Path) -> Result<SeedFile, String> {
    let text = std::fs::read_to_string(path).map_err(|error| format!("cannot read {}: {error}", path.display()))?;
    SeedFile::parse(&text).map_err(|error| format!("{}: {error}", path.display()))
}

/// Makes a directory in which everybody is in one department's group, and in that of the whole company.
fn make_example(emulator: &Emulator, users: usize) -> Result<(), WorldError> {
    emulator.change(|world| {
        let acme = world.create_directory(NewDirectory::named("Acme"));
        let everyone = world.create_group(&acme, "Everyone")?;
        let mut departments = Vec::new();
        for name in ["Engineering", "Sales", "People"] {
            departments.push((name, world.create_group(&acme, name)?));
        }
        for number in 0..users {
            let (department, group) = &departments[number % departments.len()];
            let mut new = NewUser::invented(number, "acme.example");
            new.department = (*department).to_owned();
            new.role = (number == 0).then(|| "admin".to_owned());
            let user = world.create_user(&acme, new)?;
            world.add_member(&everyone, &user)?;
            world.add_member(group, &user)?;
        }
        Ok(())
    })
}
