//! The first sync of a large directory, and a reconcile of what is equal. `SYNC_USERS`, `SYNC_GROUPS` and
//! `SYNC_MEMBERSHIPS` make it larger.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use directory_mirror::cli::compare::differences;
use workos_emulator::{Amount, BulkSpec, NewDirectory};

use crate::outage::number;
use crate::served::{Served, Tables, command, database};
use crate::support::{Engine, Scene, on_both_engines, wait_until};

on_both_engines!(each_page_is_asked_for_once_and_a_reconcile_writes_no_row);

const PATIENCE: Duration = Duration::from_secs(3600);
const MOST_MEMORY_MB: u64 = 100;

async fn each_page_is_asked_for_once_and_a_reconcile_writes_no_row(engine: Engine) {
    let scene = Scene::set(engine).await;
    let spec = BulkSpec {
        users: Amount::Number(number("SYNC_USERS", 450)),
        groups: Amount::Number(number("SYNC_GROUPS", 5)),
        memberships: Amount::Number(number("SYNC_MEMBERSHIPS", 1300)),
        silent: true,
    };
    let directory = scene.emulator.create_directory(NewDirectory::named("Large"));
    let made = scene.emulator.bulk_create(&directory, spec).unwrap();
    let served = Served::start(&scene).await;
    let mut tables = Tables::open(&scene, engine).await;
    let started = Instant::now();
    let synced = async || tables.number("(SELECT count(*) FROM directories WHERE sync_status = 'synced')").await > 0;
    assert!(wait_until(PATIENCE, synced).await, "the first sync does not end");
    let first = started.elapsed();
    let truth = scene.emulator.truth();
    let mut members: BTreeMap<&String, usize> = made.groups.iter().map(|group| (group, 0)).collect();
    truth.members.iter().for_each(|(group, _)| *members.get_mut(group).unwrap() += 1);
    let pages = |records: usize| records.div_ceil(100).max(1);
    let fewest =
        pages(made.users.len()) + pages(made.groups.len()) + members.values().map(|n| pages(*n)).sum::<usize>();
    let counts = scene.emulator.request_counts();
    let requests = usize::try_from(counts.values().sum::<u64>()).unwrap();
    let (memory, processor) = (served.peak_memory_mb(), served.processor_seconds());
    println!(
        "{engine:?}: {} users, {} groups, {} memberships in {first:?} and {processor:?} s of processor: {requests} requests \
         ({fewest} pages), at most {memory:?} MB resident",
        made.users.len(),
        made.groups.len(),
        made.memberships
    );
    // The directories and the directory itself are asked for as well.
    assert!(requests <= fewest * 105 / 100 + 2, "{requests} requests for {fewest} pages: {counts:?}");
    assert!(memory.is_none_or(|memory| memory < MOST_MEMORY_MB), "{memory:?} MB");
    assert_eq!(differences(&database(&scene).copy_mirror().await.unwrap(), &truth), Vec::<String>::new());

    count_writes(&mut tables, engine).await;
    scene.emulator.reset_request_counts();
    let started = Instant::now();
    let scene = tokio::task::spawn_blocking(move || {
        let output = command(&scene, &["sync", "--all"]).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        scene
    });
    let scene = scene.await.unwrap();
    let counts = scene.emulator.request_counts();
    let requests = usize::try_from(counts.values().sum::<u64>()).unwrap();
    let written = tables.number("(SELECT count(*) FROM test_writes)").await;
    let peak = served.peak_memory_mb();
    println!(
        "{engine:?}: reconciled in {:?}: {requests} requests, {written} rows written, at most {peak:?} MB",
        started.elapsed()
    );
    assert_eq!(written, 0, "a reconcile of what is equal writes rows");
    assert!(requests <= fewest * 105 / 100 + 2, "{requests} requests for {fewest} pages: {counts:?}");
    drop(served);
    scene.stop().await;
}

/// Counts from now on what is written to the public tables, even if it is the same as before.
async fn count_writes(tables: &mut Tables, engine: Engine) {
    tables.run("CREATE TABLE test_writes (id integer)").await;
    if engine == Engine::Postgres {
        let function = "CREATE FUNCTION test_wrote() RETURNS trigger LANGUAGE plpgsql AS \
                        $$ BEGIN INSERT INTO test_writes VALUES (1); RETURN NULL; END $$";
        tables.run(function).await;
    }
    for table in ["users", "groups", "group_members"] {
        for change in ["INSERT", "UPDATE", "DELETE"] {
            let action = match engine {
                Engine::Postgres => "FOR EACH ROW EXECUTE FUNCTION test_wrote()",
                Engine::Sqlite => "BEGIN INSERT INTO test_writes VALUES (1); END",
            };
            let name = format!("test_{table}_{change}");
            tables.run(&format!("CREATE TRIGGER {name} AFTER {change} ON {table} {action}")).await;
        }
    }
}
