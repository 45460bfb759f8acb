//! Runs an emulator until it is interrupted.

mod chaos_args;

use std::error::Error;
use std::net::{IpAddr, SocketAddr};

use chaos_args::ChaosArgs;
use chrono::Utc;
use clap::{Parser, Subcommand};
use tracing_subscriber::EnvFilter;
use workos_emulator::{Emulator, NewDirectory, NewUser, Options, WorldError};

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
    Serve(Serve),
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
    /// Where to send webhooks.
    #[arg(long)]
    endpoint: Option<String>,
    /// Secret that webhooks are signed with.
    #[arg(long, default_value = "whsec_emulator")]
    secret: String,
    /// Make an example directory with this many users.
    #[arg(long, default_value_t = 0)]
    users: usize,
    /// Decides the ids; by default they are new in each run, as a consumer remembers those of the last.
    #[arg(long)]
    seed: Option<u64>,
    #[command(flatten)]
    chaos: ChaosArgs,
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("warn,workos_emulator=info"));
    tracing_subscriber::fmt().with_env_filter(filter).init();
    let Command::Serve(serve) = Cli::parse().command;
    let options = Options {
        bind: SocketAddr::new(serve.bind, serve.port),
        api_key: serve.api_key,
        seed: serve.seed.unwrap_or_else(|| Utc::now().timestamp_micros().unsigned_abs()),
        webhook_chaos: serve.chaos.webhooks(),
        api_chaos: serve.chaos.api(),
        chaos_seed: serve.chaos.chaos_seed,
        ..Options::default()
    };
    let emulator = Emulator::start(options).await?;
    println!("Set in the consumer:");
    println!("  WORKOS_API_BASE_URL={}", emulator.url());
    println!("  WORKOS_API_KEY={}", emulator.api_key());
    println!("  WORKOS_WEBHOOK_SECRET={}", serve.secret);
    match &serve.endpoint {
        Some(url) => {
            emulator.register_endpoint(url, &serve.secret);
            println!("Webhooks go to {url}");
        }
        None => println!("No webhooks are sent: give an --endpoint"),
    }
    if serve.chaos.any() {
        println!("Chaos reigns, with the seed {}", serve.chaos.chaos_seed);
    }
    if serve.users > 0 {
        let id = make_example(&emulator, serve.users)?;
        println!("Made the directory Acme, {id}, with {} users", serve.users);
    }
    tokio::signal::ctrl_c().await?;
    emulator.stop().await;
    Ok(())
}

/// Makes a directory in which everybody is in one department's group, and in that of the whole company.
fn make_example(emulator: &Emulator, users: usize) -> Result<String, WorldError> {
    const FIRST: [&str; 8] = ["Ada", "Grace", "Alan", "Edsger", "Barbara", "Donald", "Radia", "Ken"];
    const LAST: [&str; 9] =
        ["Lovelace", "Hopper", "Turing", "Dijkstra", "Liskov", "Knuth", "Perlman", "Thompson", "Allen"];
    const DEPARTMENTS: [&str; 3] = ["Engineering", "Sales", "People"];
    let acme = emulator.create_directory(NewDirectory::named("Acme"));
    let everyone = emulator.create_group(&acme, "Everyone")?;
    let mut departments = Vec::new();
    for name in DEPARTMENTS {
        departments.push((name, emulator.create_group(&acme, name)?));
    }
    for number in 0..users {
        let (department, group) = &departments[number % DEPARTMENTS.len()];
        let mut new = NewUser::named(FIRST[number % FIRST.len()], LAST[number % LAST.len()], "acme.example");
        // The names repeat after 72 people; addresses do not.
        if number >= FIRST.len() * LAST.len() {
            new.email = format!("{number}.{}", new.email);
        }
        new.department = (*department).to_owned();
        new.role = (number == 0).then(|| "admin".to_owned());
        let user = emulator.create_user(&acme, new)?;
        emulator.add_member(&everyone, &user)?;
        emulator.add_member(group, &user)?;
    }
    Ok(acme)
}
