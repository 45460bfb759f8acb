//! Makes a large directory and says what it took: seconds, and on Linux the most memory that the process ever had.
//!
//! `cargo run --release -p workos-emulator --example bulk -- [silent]`

use std::time::Instant;

use workos_emulator::{Amount, BulkSpec, NewDirectory, Options, World};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let silent = std::env::args().any(|argument| argument == "silent");
    let mut world = World::new(&Options::default());
    let acme = world.create_directory(NewDirectory::named("Acme"));
    let started = Instant::now();
    let made = world.bulk_create(
        &acme,
        BulkSpec {
            users: Amount::Number(100_000),
            groups: Amount::Number(1_000),
            memberships: Amount::Number(500_000),
            silent,
        },
    )?;
    let (users, groups, memberships) = (made.users.len(), made.groups.len(), made.memberships);
    println!("{users} users, {groups} groups, {memberships} memberships in {:.1?}", started.elapsed());
    println!("{} events", world.take_events().len());
    if let Ok(status) = std::fs::read_to_string("/proc/self/status") {
        println!("{}", status.lines().find(|line| line.starts_with("VmHWM")).unwrap_or_default());
    }
    Ok(())
}
