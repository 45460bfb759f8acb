//! Both engines have the same tables, and configuration is documented.

use std::collections::BTreeMap;

use crate::support::{Engine, Scene, connect, root, run};

/// Table or view, its columns in order, and whether each may be null, read from the migrations.
fn tables(engine: &str) -> BTreeMap<String, Vec<(String, bool)>> {
    let folder = root().join("migrations").join(engine);
    let mut text = String::new();
    let mut migrations: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    migrations.sort();
    for migration in migrations {
        text.push_str(&std::fs::read_to_string(migration.join("up.sql")).unwrap());
    }
    let mut tables = BTreeMap::new();
    for statement in text.split(';').map(str::trim) {
        let Some(rest) = statement.split_once("CREATE TABLE ").map(|(_, rest)| rest) else { continue };
        let (name, columns) = rest.split_once('(').unwrap();
        let columns = columns
            .lines()
            .map(str::trim)
            .filter(|line| line.starts_with(|first: char| first.is_ascii_lowercase()))
            .map(|line| {
                let name = line.split_whitespace().next().unwrap().to_owned();
                (name, !(line.contains("NOT NULL") || line.contains("PRIMARY KEY")))
            })
            .collect();
        tables.insert(name.trim().to_owned(), columns);
    }
    tables
}

#[test]
fn both_engines_have_the_same_columns() {
    let tables_of_both = [tables("postgres"), tables("sqlite")];
    assert!(tables_of_both[0].len() >= 10);
    assert_eq!(tables_of_both[0], tables_of_both[1]);
}

#[test]
fn schema_rs_names_every_column_of_the_migrations() {
    let schema = std::fs::read_to_string(root().join("src/db/schema.rs")).unwrap();
    for (table, columns) in tables("postgres") {
        let start = schema.find(&format!("    {table} (")).unwrap_or_else(|| panic!("schema.rs lacks {table}"));
        let block = &schema[start..start + schema[start..].find("\n    }").unwrap()];
        for (column, nullable) in columns {
            // `type` is a word of Rust's.
            let name = if column == "type" { "kind" } else { &column };
            let line = block.lines().find(|line| line.trim().starts_with(&format!("{name} -> ")));
            let line = line.unwrap_or_else(|| panic!("schema.rs lacks {table}.{column}"));
            assert_eq!(line.contains("Nullable<"), nullable, "{table}.{column}");
        }
    }
}

#[test]
fn every_variable_is_documented_in_the_example() {
    let example = std::fs::read_to_string(root().join(".env.example")).unwrap();
    for name in directory_mirror::config::VARIABLES {
        let documented =
            example.lines().any(|line| line.trim_start_matches(['#', ' ']).starts_with(&format!("{name}=")));
        assert!(documented, ".env.example lacks {name}");
    }
}

#[test]
fn on_postgresql_too_down_takes_back_what_up_made_even_with_rows() {
    run(async {
        let mut scene = Scene::set(Engine::Postgres).await;
        scene.emulator.create_directory(workos_emulator::NewDirectory::named("Acme"));
        scene.start_service().await;
        scene.settle().await;
        scene.service.take().unwrap().stop().await;
        let client = connect(&scene.variables).await;
        client.batch_execute("SET search_path TO directory_sync").await.unwrap();
        let mut migrations: Vec<_> =
            std::fs::read_dir(root().join("migrations/postgres")).unwrap().map(|entry| entry.unwrap().path()).collect();
        migrations.sort();
        let objects = "SELECT count(*) FROM pg_class WHERE relnamespace = 'directory_sync'::regnamespace \
                       AND relkind IN ('r', 'v') AND relname NOT LIKE '\\_\\_%'";
        let before: i64 = client.query_one(objects, &[]).await.unwrap().get(0);
        assert_eq!(before, tables("postgres").len() as i64 + 1, "the tables and a view");
        for migration in migrations.iter().rev() {
            client.batch_execute(&std::fs::read_to_string(migration.join("down.sql")).unwrap()).await.unwrap();
        }
        assert_eq!(client.query_one(objects, &[]).await.unwrap().get::<_, i64>(0), 0);
        for migration in &migrations {
            client.batch_execute(&std::fs::read_to_string(migration.join("up.sql")).unwrap()).await.unwrap();
        }
        scene.stop().await;
    });
}
