//! A database that was restored from a backup, as docs/OPERATIONS.md tells it: with `recover`, and without.

use std::process::{Command, Output};

use chrono::{TimeDelta, Utc};
use directory_mirror::cli::compare::differences;
use directory_mirror::db::{Db, DbError, Round};
use directory_mirror::model::{DirectoryId, UserState};
use tempfile::TempDir;
use workos_emulator::{Deactivation, NewDirectory, NewUser, UserChange};

use crate::support::{Engine, PATIENCE, SECRET, Scene, connect, on_both_engines, postgres_binaries, wait_until};

on_both_engines!(
    scans_alone_mend_a_restored_database,
    a_place_that_is_ahead_of_the_inbox_is_rewound,
    many_who_left_since_the_backup_need_no_confirmation,
    a_restore_alone_heals_by_the_poller_and_the_schedule,
    a_process_from_before_the_restore_is_shut_out,
    it_tells_before_it_does,
);

/// A company whose mirror was backed up while the service ran, and that has changed since.
struct Story {
    scene: Scene,
    directory: String,
    users: Vec<String>,
    groups: Vec<String>,
    backup: TempDir,
}

impl Story {
    async fn begin(engine: Engine, variables: &[(&'static str, &str)]) -> Self {
        let mut scene = Scene::set(engine).await;
        scene.set_variable("LEASE_TTL", "1s");
        for (name, value) in variables {
            scene.set_variable(name, value);
        }
        scene.start_service().await;
        scene.emulator.register_endpoint(&scene.webhook(), SECRET);
        let directory = scene.emulator.create_directory(NewDirectory::named("Acme"));
        let groups: Vec<String> =
            (0..3).map(|n| scene.emulator.create_group(&directory, &format!("Team {n}")).unwrap()).collect();
        let invented = (0..60).map(|n| NewUser::invented(n, "acme.example"));
        let users: Vec<String> = invented.map(|user| scene.emulator.create_user(&directory, user).unwrap()).collect();
        for (number, user) in users.iter().enumerate() {
            scene.emulator.add_member(&groups[number % 3], user).unwrap();
        }
        scene.settle().await;
        let backup = back_up(&scene);
        Self { scene, directory, users, groups, backup }
    }

    /// The first users leave, and some of everything else happens; all of it is acknowledged, and lost by the restore.
    async fn go_on(&self, leavers: usize) {
        let (emulator, users, groups) = (&self.scene.emulator, &self.users, &self.groups);
        for (number, user) in users[..leavers].iter().enumerate() {
            let manner =
                [Deactivation::DeletedGone, Deactivation::DeletedKept, Deactivation::UpdatedInactive][number % 3];
            emulator.deactivate_user(user, if leavers > 20 { Deactivation::DeletedGone } else { manner }).unwrap();
        }
        let title = UserChange { job_title: Some("Anew".to_owned()), ..UserChange::default() };
        emulator.update_user(&users[leavers], title).unwrap();
        emulator.remove_member(&groups[(leavers + 1) % 3], &users[leavers + 1]).unwrap();
        emulator.rename_group(&groups[0], "Renamed").unwrap();
        emulator.delete_group(&groups[1]).unwrap();
        let hire = emulator.create_user(&self.directory, NewUser::invented(9999, "acme.example")).unwrap();
        emulator.add_member(&groups[2], &hire).unwrap();
        let second = emulator.create_directory(NewDirectory::named("Second"));
        emulator.create_user(&second, NewUser::invented(1, "second.example")).unwrap();
        self.scene.settle().await;
    }

    /// Puts the backup in the place of the database. No webhook is posted from then on.
    async fn restore(&mut self) {
        self.scene.service.take().unwrap().stop().await;
        restore(&self.scene, &self.backup).await;
        let active = self.active(&Db::connect(&self.database()).unwrap()).await;
        assert_eq!(active, self.users.len(), "the backup is from before");
    }

    fn database(&self) -> directory_mirror::config::DatabaseConfig {
        let url = url(&self.scene).to_owned();
        directory_mirror::config::read_database_config(&|name| (name == "DATABASE_URL").then(|| url.clone())).unwrap()
    }

    fn run(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_directory-mirror"));
        command.args(arguments).env_clear().current_dir(std::env::temp_dir());
        command.envs(self.scene.variables.iter().map(|(name, value)| (*name, value.as_str())));
        command.output().unwrap()
    }

    async fn recover(&self, arguments: &[&str]) -> String {
        // The worker of the backup counts as alive for as long as its last lease runs.
        let mut output = None;
        wait_until(PATIENCE, async || {
            let done = output.insert(self.run(&[&["recover", "--yes"], arguments].concat()));
            done.status.success()
        })
        .await;
        let output = output.unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    async fn active(&self, db: &Db) -> usize {
        let mirror = db.copy_mirror().await.unwrap();
        let active = mirror.users.iter().filter(|row| row.state == UserState::Active && row.deleted_at.is_none());
        active.filter(|row| self.users.iter().any(|user| row.record.id.as_str() == user)).count()
    }

    /// Starts the service and waits until it equals the emulator, those who left being inactive. It does not wait for
    /// what is looked at once more a minute later, since the backup is younger than that.
    async fn comes_back(&mut self, leavers: usize) {
        self.scene.start_service().await;
        let db = self.scene.service().db();
        let mut found = Vec::new();
        let equal = wait_until(PATIENCE, async || {
            found = differences(&db.copy_mirror().await.unwrap(), &self.scene.emulator.truth());
            let at_rest = db.directory_health().await.unwrap().iter().all(|health| {
                let synced = health.directory.sync_status.as_str() == "synced";
                synced && health.scan_requested_at.is_none() && health.braked_at.is_none()
            });
            found.is_empty() && at_rest && db.backlog().await.unwrap().pending == 0
        })
        .await;
        assert!(equal, "the mirror differs ({} ways): {found:#?} {:?}", found.len(), db.directory_health().await);
        assert_eq!(self.active(db).await, self.users.len() - leavers, "those who left are inactive");
    }
}

fn url(scene: &Scene) -> &str {
    scene.variables.iter().find(|(name, _)| *name == "DATABASE_URL").map(|(_, url)| url.as_str()).unwrap()
}

fn file(scene: &Scene) -> Option<&str> {
    url(scene).strip_prefix("sqlite:")
}

fn success(command: &mut Command) {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// By the commands of docs/OPERATIONS.md, while the service runs.
fn back_up(scene: &Scene) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let to = folder.path().join("backup");
    match file(scene) {
        Some(file) => {
            use diesel::connection::SimpleConnection;
            let mut connection = <diesel::SqliteConnection as diesel::Connection>::establish(file).unwrap();
            connection.batch_execute(&format!("VACUUM INTO '{}'", to.display())).unwrap();
        }
        None => {
            let pg_dump = postgres_binaries().unwrap().join("pg_dump");
            success(
                Command::new(pg_dump)
                    .args(["--format=custom", "--schema=directory_sync", "--file"])
                    .arg(to)
                    .arg(url(scene)),
            );
        }
    }
    folder
}

async fn restore(scene: &Scene, backup: &TempDir) {
    let from = backup.path().join("backup");
    match file(scene) {
        Some(file) => {
            for beside in ["-wal", "-shm"] {
                let _ = std::fs::remove_file(format!("{file}{beside}"));
            }
            std::fs::copy(from, file).unwrap();
        }
        None => {
            connect(&scene.variables).await.batch_execute("DROP SCHEMA directory_sync CASCADE").await.unwrap();
            let pg_restore = postgres_binaries().unwrap().join("pg_restore");
            success(Command::new(pg_restore).args(["--exit-on-error", "--dbname", url(scene)]).arg(from));
        }
    }
}

const POLLS: (&str, &str) = ("EVENTS_POLL_INTERVAL", "50ms");
const NO_SCHEDULE: (&str, &str) = ("RECONCILE_INTERVAL", "0");

async fn scans_alone_mend_a_restored_database(engine: Engine) {
    let mut story = Story::begin(engine, &[NO_SCHEDULE]).await;
    story.go_on(6).await;
    story.restore().await;
    let told = story.recover(&[]).await;
    assert!(told.contains("EVENTS_POLL_INTERVAL=0") && told.contains("1 directories"), "{told}");
    assert_eq!(told, story.recover(&[]).await, "to do it again does no harm");
    story.comes_back(6).await;
    story.scene.stop().await;
}

async fn a_place_that_is_ahead_of_the_inbox_is_rewound(engine: Engine) {
    let mut story = Story::begin(engine, &[POLLS, NO_SCHEDULE]).await;
    story.go_on(6).await;
    story.restore().await;
    // As after a backup whose tables are not of one moment.
    let db = Db::connect(&story.database()).unwrap();
    let mut state = db.poller().await.unwrap().unwrap();
    state.read_to = Some(Utc::now() + TimeDelta::hours(1));
    state.round = Some(Round { began_at: Utc::now(), cursor: "event_of_then".to_owned(), reached: Utc::now() });
    db.save_poller(&state).await.unwrap();
    story.recover(&[]).await;
    // The test is too short for a gap: the poller looks five minutes back by itself.
    let (place, kept) = (db.poller().await.unwrap().unwrap(), db.restored().await.unwrap().newest_event_at.unwrap());
    assert!(place.round.is_none() && place.read_to.unwrap() <= kept - TimeDelta::hours(1), "{place:?}");
    drop(db);
    story.comes_back(6).await;
    let db = story.scene.service().db();
    let emitted = story.scene.emulator.events().len();
    let whole = async || db.event_outcomes().await.unwrap().len() == emitted;
    assert!(wait_until(PATIENCE, whole).await, "the inbox lacks events that came after the backup");
    story.scene.stop().await;
}

async fn many_who_left_since_the_backup_need_no_confirmation(engine: Engine) {
    let mut story = Story::begin(engine, &[POLLS, NO_SCHEDULE]).await;
    story.go_on(40).await;
    story.restore().await;
    story.recover(&["--since", "2h"]).await;
    story.comes_back(40).await;
    story.scene.stop().await;
}

async fn a_restore_alone_heals_by_the_poller_and_the_schedule(engine: Engine) {
    let mut story = Story::begin(engine, &[POLLS]).await;
    story.go_on(6).await;
    story.restore().await;
    story.comes_back(6).await;
    story.scene.stop().await;
}

async fn a_process_from_before_the_restore_is_shut_out(engine: Engine) {
    let mut story = Story::begin(engine, &[NO_SCHEDULE]).await;
    let directory = DirectoryId::from_stored(story.directory.clone());
    // Restarts and requests that the backup does not know of: their tokens and numbers would be given out again.
    story.scene.service.take().unwrap().stop().await;
    let db = Db::connect(&story.database()).unwrap();
    let mut outlived = db.new_lease(Utc::now()).await.unwrap();
    for _ in 0..3 {
        outlived = db.new_lease(Utc::now()).await.unwrap();
    }
    let asked = db.next_numbers(&directory, &outlived, 1000).await.unwrap() + 999;
    db.give_back(&outlived).await.unwrap();
    drop(db);
    restore(&story.scene, &story.backup).await;
    story.recover(&[]).await;
    let db = Db::connect(&story.database()).unwrap();
    for directory in [&directory, &DirectoryId::from_stored("directory_unknown".to_owned())] {
        let late = db.next_number(directory, &outlived).await;
        assert!(matches!(late, Err(DbError::LeaseLost(_))), "{late:?}");
    }
    let lease = db.new_lease(Utc::now()).await.unwrap();
    assert!(lease.token() > outlived.token(), "{} has the token of another", lease.token());
    let number = db.next_number(&directory, &lease).await.unwrap();
    assert!(number > asked, "an answer to request {asked} would block that to {number}");
    if engine == Engine::Postgres {
        let seen = db.seen_alive(&outlived).await;
        assert!(matches!(seen, Err(DbError::Forgotten)), "{seen:?}");
    }
    db.give_back(&lease).await.unwrap();
    drop(db);
    story.comes_back(0).await;
    story.scene.stop().await;
}

async fn it_tells_before_it_does(engine: Engine) {
    let mut story = Story::begin(engine, &[NO_SCHEDULE]).await;
    let refused = story.run(&["recover", "--yes"]);
    assert_eq!(refused.status.code(), Some(1), "{refused:?}");
    assert!(String::from_utf8_lossy(&refused.stderr).contains("stop it first"), "{refused:?}");
    story.scene.service.take().unwrap().stop().await;
    let db = Db::connect(&story.database()).unwrap();
    let state = async || (db.poller().await.unwrap(), db.directory_health().await.unwrap()[0].scan_requested_at);
    let before = state().await;
    assert!(story.run(&["recover", "--dry-run"]).status.success());
    for (arguments, words) in [(&[][..], "--yes"), (&["--yes", "--since", "2999-01-01T00:00:00Z"], "future")] {
        let refused = story.run(&[&["recover"], arguments].concat());
        assert_eq!(refused.status.code(), Some(2), "{refused:?}");
        assert!(String::from_utf8_lossy(&refused.stderr).contains(words), "{refused:?}");
    }
    assert_eq!(before, state().await, "nothing was changed");
    let told = story.recover(&["--since", "200d"]).await;
    assert!(told.contains("keeps older events no more"), "{told}");
    assert!(state().await.1.is_some());
    story.scene.stop().await;
}
