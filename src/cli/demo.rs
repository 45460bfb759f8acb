//! `directory-mirror demo`: a company's week against the built-in emulator.

use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use comfy_table::Table;
use comfy_table::presets::UTF8_FULL_CONDENSED;
use indicatif::{ProgressBar, ProgressStyle};
use workos_emulator::{Deactivation, Emulator, NewDirectory, NewUser, Options, UserChange, WorldError};

use super::compare::differences;
use crate::app::Service;
use crate::clock::Clock;
use crate::config::Config;
use crate::db::{DbError, MirrorCopy};
use crate::model::UserState;
use crate::telemetry;

const SECRET: &str = "demo-webhook-secret";
const PEOPLE: usize = 200;
const TEAMS: [&str; 6] = ["Engineering", "Design", "Sales", "Support", "Finance", "Everyone"];
const FIRST_NAMES: [&str; 14] =
    ["Ada", "Bela", "Chidi", "Dana", "Emeka", "Freya", "Goran", "Hana", "Ines", "Jonas", "Kira", "Luis", "Mei", "Noor"];
const LAST_NAMES: [&str; 15] = [
    "Abe", "Berg", "Costa", "Diaz", "Eze", "Falk", "Gupta", "Haas", "Ito", "Jansen", "Khan", "Lund", "Moreau", "Novak",
    "Okafor",
];
/// How long the mirror may take to become equal after a day.
const PATIENCE: Duration = Duration::from_secs(60);
const LOGS: &str = "off";

/// Options of the demo.
#[derive(Debug, Args)]
pub(super) struct DemoArguments {
    /// Leave the emulator and the server up afterwards, until Ctrl-C
    #[arg(long)]
    keep_running: bool,
}

/// Why the demo cannot go on.
#[derive(Debug, thiserror::Error)]
enum DemoError {
    #[error("no temporary folder can be made: {0}")]
    Folder(std::io::Error),
    #[error("the emulator cannot start: {0}")]
    Emulator(#[from] workos_emulator::StartError),
    #[error("the server cannot start: {0}")]
    Server(#[from] crate::app::StartError),
    #[error("{0}")]
    Config(#[from] crate::config::ConfigProblems),
    #[error("the mirror cannot be read: {0}")]
    Db(#[from] DbError),
    #[error("the emulator refuses a change: {0}")]
    World(#[from] WorldError),
}

pub(super) async fn run(arguments: DemoArguments) -> ExitCode {
    match play(&arguments).await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("the demo failed: {error}");
            ExitCode::FAILURE
        }
    }
}

struct Stage {
    emulator: Emulator,
    service: Service,
}

async fn play(arguments: &DemoArguments) -> Result<bool, DemoError> {
    let folder = tempfile::Builder::new().prefix("directory-mirror-demo-").tempdir().map_err(DemoError::Folder)?;
    let database = folder.path().join("mirror.db");
    let emulator = Emulator::start(Options { directory_users_per_second: 0, ..Options::default() }).await?;
    let mut world = World::open(&emulator)?;
    let config = demo_config(&emulator, &database)?;
    telemetry::start(config.log_format, LOGS);
    let service = Service::start(&config, Clock::system()).await?;
    let webhook = format!("http://{}{}", service.address(), crate::webhook::PATH);
    emulator.register_endpoint(&webhook, SECRET);
    println!("An emulated WorkOS at {}, directory-mirror at http://{}.\n", emulator.url(), service.address());
    let stage = Stage { emulator, service };

    let bar = ProgressBar::new(World::DAYS.len() as u64 + 1);
    if let Ok(style) = ProgressStyle::with_template("{bar:28} {pos}/{len} {msg}") {
        bar.set_style(style);
    }
    let mut equal = stage.settle(&bar, "Before the week: a first sync of 200 people").await?;
    for (day, what) in World::DAYS.iter().enumerate() {
        world.play_day(day)?;
        equal = stage.settle(&bar, what).await?;
    }
    bar.finish_and_clear();
    let mirror = stage.service.db().copy_mirror().await?;
    print_tables(&mirror);
    let verdict = report(&stage, &mirror, equal, &database);
    if arguments.keep_running {
        println!("\nBoth keep running until Ctrl-C, and the database goes with them:");
        println!("  curl http://{}/health", stage.service.address());
        println!("  curl {}/emulator/deliveries   (the control API: emulator/README.md)", stage.emulator.url());
        println!(
            "  curl -H 'Authorization: Bearer {}' '{}/directory_users?directory={}'",
            stage.emulator.api_key(),
            stage.emulator.url(),
            world.directory
        );
        let _ = tokio::signal::ctrl_c().await;
    }
    stage.service.stop().await;
    stage.emulator.stop().await;
    if !arguments.keep_running {
        // The database is small and worth a look, so it stays.
        let _ = folder.keep();
    }
    Ok(verdict)
}

fn demo_config(emulator: &Emulator, database: &std::path::Path) -> Result<Config, crate::config::ConfigProblems> {
    let variables = [
        ("DATABASE_URL", format!("sqlite:{}", database.display())),
        ("WORKOS_API_BASE_URL", emulator.url().to_owned()),
        ("WORKOS_API_KEY", emulator.api_key()),
        ("WORKOS_WEBHOOK_SECRET", SECRET.to_owned()),
        ("WORKOS_DIRECTORY_USERS_PER_SECOND", "0".to_owned()),
        ("BIND_ADDR", "127.0.0.1:0".to_owned()),
    ];
    Config::read(&|name| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| value.clone()))
}

impl Stage {
    /// Waits until the mirror equals the emulator; answers whether it does.
    async fn settle(&self, bar: &ProgressBar, what: &str) -> Result<bool, DemoError> {
        bar.set_message(what.to_owned());
        let started = tokio::time::Instant::now();
        let mut equal = false;
        while !equal && started.elapsed() < PATIENCE {
            self.emulator.wait_for_deliveries(PATIENCE).await;
            let backlog = self.service.db().backlog().await?;
            equal = backlog.pending == 0
                && differences(&self.service.db().copy_mirror().await?, &self.emulator.truth()).is_empty();
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        bar.inc(1);
        let mark = if equal { "equal" } else { "NOT EQUAL" };
        let line = format!("{what:<58} {mark} after {:.2} s", started.elapsed().as_secs_f64());
        if bar.is_hidden() {
            println!("{line}");
        } else {
            bar.println(line);
        }
        Ok(equal)
    }
}

/// The company.
struct World {
    emulator: Emulator,
    directory: String,
    groups: Vec<String>,
    users: Vec<String>,
    /// The identity provider knows a person who is hired again.
    leaver_idp_id: Option<String>,
}

impl World {
    const DAYS: [&'static str; 5] = [
        "Monday: five hires join Engineering",
        "Tuesday: Design is dissolved, its people move to Support",
        "Wednesday: a marriage, a promotion and a renamed team",
        "Thursday: three people leave",
        "Friday: one of them is hired again, under a new id",
    ];

    fn open(emulator: &Emulator) -> Result<Self, WorldError> {
        let directory = emulator.create_directory(NewDirectory::named("Acme"));
        let mut world =
            Self { emulator: emulator.clone(), directory, groups: Vec::new(), users: Vec::new(), leaver_idp_id: None };
        for team in TEAMS {
            world.groups.push(emulator.create_group(&world.directory, team)?);
        }
        for _ in 0..PEOPLE {
            world.hire(world.users.len() % (TEAMS.len() - 1))?;
        }
        Ok(world)
    }

    fn hire(&mut self, team: usize) -> Result<String, WorldError> {
        let count = self.users.len();
        let (first, last) = (FIRST_NAMES[count % FIRST_NAMES.len()], LAST_NAMES[count % LAST_NAMES.len()]);
        let mut person = NewUser::named(first, last, "acme.example");
        person.email = format!("{}.{}{count}@acme.example", first.to_lowercase(), last.to_lowercase());
        let user = self.emulator.create_user(&self.directory, person)?;
        self.emulator.add_member(&self.groups[team], &user)?;
        self.emulator.add_member(&self.groups[TEAMS.len() - 1], &user)?;
        self.users.push(user.clone());
        Ok(user)
    }

    fn play_day(&mut self, day: usize) -> Result<(), WorldError> {
        match day {
            0 => (0..5).try_for_each(|_| self.hire(0).map(drop)),
            1 => {
                let truth = self.emulator.truth();
                for (_, user) in truth.members.iter().filter(|(group, _)| *group == self.groups[1]) {
                    self.emulator.add_member(&self.groups[3], user)?;
                }
                self.emulator.delete_group(&self.groups[1])
            }
            2 => {
                let marriage = UserChange { last_name: Some("Lindqvist".to_owned()), ..UserChange::default() };
                self.emulator.update_user(&self.users[10], marriage)?;
                let promotion = UserChange {
                    job_title: Some("Head of Sales".to_owned()),
                    role: Some("admin".to_owned()),
                    ..UserChange::default()
                };
                self.emulator.update_user(&self.users[12], promotion)?;
                self.emulator.rename_group(&self.groups[3], "Customer Care")
            }
            3 => {
                self.leaver_idp_id = self.emulator.truth().users.get(&self.users[20]).map(|user| user.idp_id.clone());
                self.emulator.deactivate_user(&self.users[20], Deactivation::DeletedGone)?;
                self.emulator.deactivate_user(&self.users[21], Deactivation::DeletedKept)?;
                self.emulator.deactivate_user(&self.users[22], Deactivation::UpdatedInactive)
            }
            _ => {
                let mut person = NewUser::named("Goran", "Falk", "acme.example");
                person.email = "goran.falk20@acme.example".to_owned();
                person.idp_id.clone_from(&self.leaver_idp_id);
                let user = self.emulator.create_user(&self.directory, person)?;
                self.emulator.add_member(&self.groups[0], &user)?;
                self.emulator.add_member(&self.groups[TEAMS.len() - 1], &user).map(drop)
            }
        }
    }
}

fn print_tables(mirror: &MirrorCopy) {
    let mut groups = Table::new();
    groups.load_style(UTF8_FULL_CONDENSED).set_header(["group", "members", "state"]);
    for row in &mirror.groups {
        let members = mirror.members.iter().filter(|(group, _)| group == row.record.id.as_str()).count();
        let state = if row.deleted_at.is_some() { "deleted" } else { "" };
        groups.add_row([row.record.name.clone(), members.to_string(), state.to_owned()]);
    }
    println!("\n{groups}");
    let mut users = Table::new();
    users.load_style(UTF8_FULL_CONDENSED).set_header(["user", "email", "state", "deleted", "groups"]);
    let changed = mirror.users.iter().filter(|row| row.state == UserState::Inactive);
    for row in changed.chain(mirror.users.iter().rev().take(6)) {
        let groups = mirror.members.iter().filter(|(_, user)| user == row.record.id.as_str()).count();
        users.add_row([
            row.record.display_name.clone().unwrap_or_default(),
            row.record.email.clone().unwrap_or_default(),
            row.state.as_str().to_owned(),
            if row.deleted_at.is_some() { "yes".to_owned() } else { String::new() },
            groups.to_string(),
        ]);
    }
    println!("{users}\n(those who left, and the six newest of {} users)", mirror.users.len());
}

fn report(stage: &Stage, mirror: &MirrorCopy, equal: bool, database: &std::path::Path) -> bool {
    let found = differences(mirror, &stage.emulator.truth());
    let events = stage.emulator.deliveries().len();
    let requests: u64 = stage.emulator.request_counts().values().sum();
    println!("\n{events} events delivered, {requests} API requests.");
    if equal && found.is_empty() {
        println!("The mirror equals the emulator.");
    } else {
        println!("The mirror differs from the emulator:");
        found.iter().take(20).for_each(|difference| println!("  {difference}"));
    }
    println!("\nTo look further:");
    println!("  sqlite3 {} 'SELECT display_name, state FROM users LIMIT 5'", database.display());
    println!("  docs/DATA-MODEL.md explains the tables; `demo --keep-running` leaves both servers up for play.");
    equal && found.is_empty()
}
