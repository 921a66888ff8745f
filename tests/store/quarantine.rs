//! Rows that somebody, or a fault, has made unreadable: each affects only itself.

use serde_json::{Value, json};
use sockerless_lambda::health::{Check, Health};
use sockerless_lambda::state::model::{DeletionPolicy, Known, Status};
use sockerless_lambda::state::{
    Binding, Cancelled, Facts, Image, NewContainer, Page, Reader, Removed, ResolveError, Row, Started, StateError,
    Store,
};
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _, Row as _};

use crate::all_rows::all_rows;
use crate::support::{Fixture, at, config, ended, id, new, options, path, status, write};

/// What a column of each declared type can be damaged to.
pub(crate) const INTEGERS: [&str; 6] = ["NULL", "-1", "'x'", "x'00'", "1.5", "9223372036854775807"];
const TEXTS: [&str; 6] = ["NULL", "''", "'{'", "'[7]'", "x'00ff'", "CAST(x'22ff22' AS TEXT)"];
const BLOBS: [&str; 4] = ["NULL", "x''", "x'0102'", "'text'"];

/// Damage that makes a container unreadable, in the words of an `UPDATE`. The container's function is its fourth.
pub(crate) const UNREADABLE: [&str; 24] = [
    "config = '{'",
    "config = 7",
    "config = NULL",
    "config = CAST(x'ff' AS TEXT)",
    "config = replace(config, '\"bootstrap\"', '\"a protocol of tomorrow\"')",
    "config = replace(config, '\"memory_mb\":128', '\"memory_mb\":4294967296')",
    "status = ''",
    "status = NULL",
    "status = replace(status, '\"reruns\":0', '\"reruns\":-1')",
    "status = replace(status, '\"code\":3', '\"code\":256')",
    "status = replace(status, '\"exited\":', '\"left\":')",
    "status = substr(status, 1, length(status) - 1)",
    "name = CAST(x'ff' AS TEXT)",
    "created_at = NULL",
    "created_at = 'yesterday'",
    "generation = -1",
    "starts = NULL",
    "name = NULL",
    "observed_generation = NULL",
    "revision = -1",
    "revision = 1.5",
    "removed = NULL",
    "watched = 7",
    "due_at = 'x'",
];

pub(crate) fn incarnated() -> Status {
    Status { incarnation: 3, ..status(1, Some(ended(1, 3))) }
}

pub(crate) async fn by_hand(fixture: &Fixture) -> SqliteConnection {
    SqliteConnectOptions::new().filename(path(&fixture.directory)).connect().await.unwrap()
}

pub(crate) async fn run(connection: &mut SqliteConnection, sql: &str) -> Result<(), sqlx::Error> {
    sqlx::query(AssertSqlSafe(sql.to_owned())).execute(connection).await.map(drop)
}

pub(crate) async fn text(connection: &mut SqliteConnection, sql: &str) -> String {
    sqlx::query_scalar(AssertSqlSafe(sql.to_owned())).fetch_one(connection).await.unwrap()
}

/// A store whose schema refuses nothing any more, with a row to be damaged in each table, number 1 or `broken`, and a sound
/// one beside it.
pub(crate) async fn fixture() -> (Fixture, Health) {
    let fixture = Fixture::new().await;
    for (n, name) in [(1, "broken"), (2, "sound")] {
        fixture.create(n, name).await;
        fixture.facts.write(write(id(n), 0, incarnated())).await.unwrap();
        let image = Image { reference: name.to_owned(), id: "sha256:0".to_owned(), created_at: at(1), digest: None };
        fixture.wishes.put_image(image, "pull", at(1)).await.unwrap();
        fixture.facts.set_log_progress(name, at(1)).await.unwrap();
        fixture.facts.set_role_logs(name, false).await.unwrap();
        fixture.create(n + 10, "removed").await;
        fixture.wishes.remove(&id(n + 10), false, at(1)).await.unwrap();
    }
    fixture.facts.record_sweep(&["broken".to_owned(), "sound".to_owned()].into(), at(1)).await.unwrap();
    let Fixture { directory, store, .. } = fixture;
    store.close().await.unwrap();
    let mut connection = SqliteConnectOptions::new().filename(path(&directory)).connect().await.unwrap();
    run(&mut connection, "PRAGMA writable_schema = ON").await.unwrap();
    run(
        &mut connection,
        "UPDATE sqlite_schema SET sql = replace(replace(replace(replace(replace(sql, 'STRICT, WITHOUT', 'WITHOUT'), \
         'STRICT', ''), 'NOT NULL', ''), 'CHECK (length(id) = 32)', ''), 'CHECK (kind IN (''container'', ''image''))', '') \
         WHERE type = 'table' AND name NOT LIKE '\\_sqlx%' ESCAPE '\\'",
    )
    .await
    .unwrap();
    connection.close().await.unwrap();
    let (store, health) = (Store::open(&options(&directory)).await.unwrap(), Health::default());
    store.report_to(&health);
    (Fixture::over(directory, store), health)
}

/// All pages, each with one row.
async fn containers(reader: &Reader) -> Vec<Row<String>> {
    let (mut below, mut all) = (None, Vec::new());
    loop {
        let Page { rows, next } = reader.containers(below, 1).await.unwrap();
        all.extend(rows.into_iter().map(|row| row.map(|container| container.name)));
        let Some(next) = next else { return all };
        below = Some(next);
    }
}

async fn events(reader: &Reader) -> usize {
    let (mut after, mut count) = (0, 0);
    while let Some(next) = {
        let page = reader.events(after, 1).await.unwrap();
        count += page.rows.iter().flatten().count();
        page.next
    } {
        after = next;
    }
    count
}

/// Everything that reads several rows works, and has the sound ones; the sound container can be written.
pub(crate) async fn look(fixture: &Fixture, what: &str) {
    let Fixture { reader, facts, wishes, store, .. } = fixture;
    store.pulse().audit().await.unwrap();
    assert!(containers(reader).await.contains(&Ok("sound".to_owned())), "{what}");
    for running in [false, true] {
        let listed = reader.listed(None, 10, running).await.unwrap().readable();
        assert_eq!(listed.filter(|listed| listed.container.name == "sound").count(), usize::from(!running), "{what}");
    }
    let images = reader.image_groups(None, 10).await.unwrap().groups;
    assert!(images.iter().flat_map(|group| &group.references).any(|image| image.reference == "sound"), "{what}");
    reader.counts().await.unwrap();
    let owners = facts.function_owners(&[id(2).to_string()[..24].to_owned()]).await.unwrap();
    assert!(owners.iter().all(|owner| owner.id == id(2) && owner.function.is_some()), "{what}");
    let presences = facts.function_presence(i64::MIN, 100).await.unwrap().rows;
    assert!(presences.iter().any(|row| row.id == Some(id(2))), "{what}");
    assert!(all_rows(facts).await.unwrap().iter().flatten().any(|container| container.id == id(2)), "{what}");
    assert!(facts.wished().await.unwrap().contains(&id(11)), "{what}");
    facts.due().await.unwrap();
    facts.watched().await.unwrap();
    assert!(events(reader).await > 2, "{what}");
    assert!(reader.images().await.unwrap().iter().any(|image| image.reference == "sound"), "{what}");
    assert!(reader.image("sound").await.unwrap().is_some(), "{what}");
    reader.image("broken").await.unwrap();
    reader.tombstone("removed", at(2)).await.unwrap();
    assert!(facts.log_progress().await.unwrap().contains_key("sound"), "{what}");
    assert!(facts.roles_without_logs().await.unwrap().contains("sound"), "{what}");
    assert!(facts.sightings().await.unwrap().iter().any(|seen| seen.function_name == "sound"), "{what}");
    assert_eq!(reader.resolve("sound").await.unwrap(), id(2), "{what}");
    // Nothing that leaves an event: each is read again for every damage.
    assert_eq!(wishes.cancel(&id(2), at(3)).await.unwrap(), Cancelled::NotRunning, "{what}");
    facts.set_log_progress("sound", at(3)).await.unwrap();
}

pub(crate) fn names(health: &Health, table: &str) -> bool {
    health.degraded().get(&Check::Rows).is_some_and(|reason| reason.contains(&format!("{table}: 1")))
}

/// Says nothing that other tables do not say: what cannot be read of it is counted instead, and written at the next start.
const DERIVED: &str = "object_count";
/// Rows of these that cannot be read are found by the audit, dropped and made anew.
const MADE_ANEW: [&str; 2] = ["log_progress", "role_without_logs"];
/// Tables that are not this daemon's.
const NOT_OURS: [&str; 2] = ["_sqlx_migrations", "sqlite_sequence"];

/// Every column of every table that the database has is damaged in every way; a table without rows here is a new one.
#[tokio::test]
async fn row_of_any_table_that_cannot_be_read_affects_only_itself() {
    let (fixture, health) = fixture().await;
    let mut connection = by_hand(&fixture).await;
    let tables = sqlx::query("SELECT name FROM sqlite_schema WHERE type = 'table'").fetch_all(&mut connection).await;
    let tables: Vec<String> = tables.unwrap().iter().map(|row| row.get(0)).collect();
    let mut noticed = std::collections::BTreeSet::new();
    for table in tables.iter().filter(|table| !NOT_OURS.contains(&table.as_str())) {
        let columns = format!("SELECT name, type, pk FROM pragma_table_info('{table}')");
        let columns = sqlx::query(AssertSqlSafe(columns)).fetch_all(&mut connection).await.unwrap();
        let columns: Vec<(String, String, i64)> =
            columns.iter().map(|row| (row.get(0), row.get(1), row.get(2))).collect();
        let key = columns.iter().find(|column| column.2 == 1).unwrap().0.clone();
        let broken = if columns.iter().any(|column| column.0 == key && column.1 == "TEXT") { "'broken'" } else { "1" };
        let row = format!("{table} WHERE {key} = {broken}");
        assert_eq!(
            text(&mut connection, &format!("SELECT CAST(count(*) AS TEXT) FROM {row}")).await,
            "1",
            "no row in {table}"
        );
        let names_of: Vec<&str> = columns.iter().map(|column| column.0.as_str()).collect();
        let quoted = names_of.iter().map(|name| format!("quote({name})")).collect::<Vec<_>>().join(" || ',' || ");
        let values = text(&mut connection, &format!("SELECT {quoted} FROM {row}")).await;
        let again = format!("INSERT OR IGNORE INTO {table} ({}) VALUES ({values})", names_of.join(", "));
        for (column, kind, _) in columns.iter().filter(|column| column.0 != key || column.1 == "TEXT") {
            let before = text(&mut connection, &format!("SELECT quote({column}) FROM {row}")).await;
            let damages: &[&str] = match kind.as_str() {
                "INTEGER" => &INTEGERS,
                "TEXT" => &TEXTS,
                "BLOB" => &BLOBS,
                other => panic!("{table}.{column} is of the new type {other}"),
            };
            for damage in damages {
                let what = format!("{table}.{column} = {damage}");
                let update = format!("UPDATE {table} SET {column} = {damage} WHERE {key} = {broken}");
                if run(&mut connection, &update).await.is_err() {
                    assert!(column == &key && *damage == "NULL", "{what}");
                    continue;
                }
                look(&fixture, &what).await;
                if let Some(reason) = health.degraded().get(&Check::Rows) {
                    assert!(names(&health, table), "{what}: {reason}");
                    noticed.insert(table.clone());
                }
                let place = if column == &key { format!("{key} IS {damage}") } else { format!("{key} = {broken}") };
                let heal = format!("UPDATE {table} SET {column} = {before} WHERE {place}");
                run(&mut connection, &heal).await.unwrap();
                run(&mut connection, &again).await.unwrap();
                fixture.store.pulse().audit().await.unwrap();
                assert!(health.degraded().is_empty(), "{what}: {:?}", health.degraded());
            }
        }
    }
    let left_out = [&NOT_OURS[..], &MADE_ANEW, &[DERIVED]].concat();
    let is_ours = |table: &String| !left_out.contains(&table.as_str());
    let ours = tables.into_iter().filter(is_ours);
    assert_eq!(noticed, ours.collect(), "damage is noticed in every table");
}

#[tokio::test]
async fn container_that_cannot_be_read_is_listed_refuses_all_and_is_removed_by_force() {
    let (fixture, health) = fixture().await;
    let Fixture { reader, facts, wishes, .. } = &fixture;
    let mut connection = by_hand(&fixture).await;
    for (n, damage) in (20..).zip(UNREADABLE) {
        let name = format!("c{n}");
        fixture.create(n, &name).await;
        facts.write(write(id(n), 0, incarnated())).await.unwrap();
        let seq = reader.container(&id(n)).await.unwrap().unwrap().seq;
        run(&mut connection, &format!("UPDATE container SET {damage} WHERE seq = {seq}")).await.unwrap();

        let Err(dead) = containers(reader).await.remove(0) else { panic!("{damage} can be read") };
        assert_eq!((dead.seq, dead.id), (seq, Some(id(n))), "{damage}");
        assert_eq!(dead.name.as_deref(), (!damage.starts_with("name")).then_some(name.as_str()), "{damage}");
        assert!(names(&health, "container"), "{damage}");
        let refused = |error: StateError| matches!(error, StateError::Unreadable(_));
        assert!(refused(reader.container(&id(n)).await.unwrap_err()), "{damage}");
        assert!(refused(wishes.start(&id(n), at(50)).await.unwrap_err()), "{damage}");
        assert!(refused(wishes.cancel(&id(n), at(50)).await.unwrap_err()), "{damage}");
        assert!(refused(wishes.rename(&id(n), "new", at(50)).await.unwrap_err()), "{damage}");
        assert!(refused(wishes.remove(&id(n), false, at(50)).await.unwrap_err()), "{damage}");
        assert!(refused(facts.write(write(id(n), 1, incarnated())).await.unwrap_err()), "{damage}");

        assert_eq!(wishes.remove(&id(n), true, at(50)).await.unwrap(), Removed::Recorded, "{damage}");
        assert!(health.degraded().is_empty(), "{damage}");
        let removed = reader.container(&id(n)).await.unwrap().unwrap();
        assert!(removed.is_removed() && removed.status.run.is_none(), "{damage}");
        let lost = damage.starts_with("status = '") || damage.starts_with("status = NULL");
        assert_eq!(removed.status.incarnation, if lost { 0 } else { 3 }, "{damage}");
        assert_eq!((removed.status.function, removed.due_at), (Known::Maybe, Some(at(50))), "{damage}");
        assert!(facts.wished().await.unwrap().contains(&id(n)), "{damage}");
        assert_eq!(reader.tombstone(&id(n).to_string(), at(51)).await.unwrap().unwrap().exit_code, 125, "{damage}");
        let last = fixture.events().await.pop().unwrap();
        assert_eq!((last.action.as_str(), last.actor_id), ("destroy", id(n).to_string()), "{damage}");
        assert!(matches!(reader.resolve(&id(n).to_string()).await, Err(ResolveError::NotFound)), "{damage}");
        facts.forget(&id(n)).await.unwrap();
        assert_eq!(reader.container(&id(n)).await.unwrap(), None, "{damage}");
    }
}

#[tokio::test]
async fn container_without_a_readable_id_is_removed_by_its_name_or_number() {
    let (fixture, health) = fixture().await;
    let Fixture { reader, wishes, .. } = &fixture;
    let mut connection = by_hand(&fixture).await;
    run(&mut connection, "UPDATE container SET id = x'01' WHERE seq = 1").await.unwrap();
    for handle in ["broken", "~1"] {
        let Err(ResolveError::State(StateError::Unreadable(dead))) = reader.resolve(handle).await else {
            panic!("{handle} has an id")
        };
        assert_eq!((dead.seq, dead.id, dead.shown_id().as_str()), (1, None, "~1"));
    }
    assert!(matches!(reader.resolve("~2").await, Err(ResolveError::NotFound)), "it has an id");
    assert!(matches!(wishes.create(new(9, "broken")).await, Err(StateError::Unreadable(_))), "the name is taken");
    assert_eq!(wishes.remove_unidentified(2, at(50)).await.unwrap(), Removed::NotFound);

    let retained = "UPDATE container SET config = replace(config, '\"delete\"', '\"retain\"') WHERE seq = 1";
    run(&mut connection, retained).await.unwrap();
    assert_eq!(wishes.remove_unidentified(1, at(50)).await.unwrap(), Removed::Unidentified);
    run(&mut connection, "UPDATE container SET config = replace(config, '\"retain\"', '\"delete\"')").await.unwrap();
    containers(reader).await;
    assert!(names(&health, "container"));
    assert_eq!(wishes.remove_unidentified(1, at(50)).await.unwrap(), Removed::Recorded);
    assert!(health.degraded().is_empty());
    assert!(matches!(reader.resolve("broken").await, Err(ResolveError::NotFound)));
    assert_eq!(fixture.events().await.pop().unwrap().actor_id, "~1");
}

#[tokio::test]
async fn container_that_breaks_while_it_is_removed_is_cleaned_up_all_the_same() {
    let (fixture, health) = fixture().await;
    let mut connection = by_hand(&fixture).await;
    fixture.wishes.remove(&id(1), true, at(40)).await.unwrap();
    let kept = config_with_retained_function();
    let broken = json!({ "incarnation": 3, "function": 7 }).to_string();
    run(&mut connection, &format!("UPDATE container SET status = '{broken}', config = '{kept}' WHERE seq = 1"))
        .await
        .unwrap();
    assert!(matches!(fixture.reader.container(&id(1)).await, Err(StateError::Unreadable(dead)) if dead.removed));
    assert_eq!(fixture.wishes.remove(&id(1), true, at(50)).await.unwrap(), Removed::NotFound, "clients do not see it");
    fixture.facts.replace_unreadable(&id(1), at(50)).await.unwrap();
    assert!(health.degraded().is_empty());
    let row = fixture.reader.container(&id(1)).await.unwrap().unwrap();
    assert_eq!((row.status.incarnation, row.spec.remove), (3, Some(at(40))));
    assert_eq!(row.spec.config.function.deletion_policy, DeletionPolicy::Retain);
    fixture.facts.replace_unreadable(&id(2), at(50)).await.unwrap();
    assert!(!fixture.reader.container(&id(2)).await.unwrap().unwrap().is_removed(), "a sound one stays as it is");
}

fn config_with_retained_function() -> String {
    let mut kept = serde_json::to_value(config()).unwrap();
    kept["function"]["deletion_policy"] = json!("retain");
    kept["tty"] = json!("neither true nor false");
    kept.to_string()
}

#[tokio::test]
async fn instance_that_cannot_be_read_is_a_doubt_until_it_is_adopted() {
    for damage in
        ["epoch = 'x'", "epoch = -1", "adopted_at = 'x'", "horizon = x'00'", "doubt = x'00'", "commits = NULL"]
    {
        let (fixture, _) = fixture().await;
        fixture.facts.next_epoch().await.unwrap();
        run(&mut by_hand(&fixture).await, &format!("UPDATE instance SET {damage}")).await.unwrap();
        let fixture = fixture.crash().await;
        let instance = fixture.reader.instance().await.unwrap();
        assert!(instance.doubt.is_some(), "{damage}");
        fixture.create(9, "new").await;
        run(&mut by_hand(&fixture).await, "UPDATE container SET status = '{' WHERE seq = 1").await.unwrap();
        let adopted = fixture.facts.adopt(5, at(60)).await.unwrap();
        assert_eq!((adopted.doubt, adopted.epoch, adopted.adopted_at), (None, 6, Some(at(60))), "{damage}");
        let horizon = if damage.starts_with("horizon") { at(0) } else { at(1) };
        assert_eq!(adopted.horizon, Some(horizon), "{damage}: an unknown horizon protects every function");
    }
}

#[tokio::test]
async fn instance_without_an_id_serves_reads_and_draws_no_other() {
    for damage in ["UPDATE instance SET id = 'x'", "UPDATE instance SET id = NULL", "DELETE FROM instance"] {
        let (fixture, _) = fixture().await;
        run(&mut by_hand(&fixture).await, damage).await.unwrap();
        let fixture = fixture.crash().await;
        assert!(fixture.reader.instance().await.is_err(), "{damage}");
        assert!(fixture.facts.next_epoch().await.is_err(), "{damage}");
        look_without_audit(&fixture.reader, &fixture.facts).await;
        fixture.create(9, "new").await;
        fixture.store.close().await.unwrap();
    }
}

/// As one that is bound to other settings than the daemon has: its functions would be out of reach.
#[tokio::test]
async fn instance_whose_binding_cannot_be_read_is_not_bound_again() {
    let binding = Binding {
        function_prefix: "skls".to_owned(),
        region: "eu-west-1".to_owned(),
        account: "123456789012".to_owned(),
        claims_log_group: "/claims".to_owned(),
    };
    let other = Binding { function_prefix: "mine".to_owned(), ..binding.clone() };
    for damage in ["region = NULL", "function_prefix = x'00'", "account = CAST(x'ff' AS TEXT)", "claims_log_group = ''"]
    {
        let (fixture, health) = fixture().await;
        let Fixture { facts, wishes, store, .. } = &fixture;
        assert_eq!(facts.bind(binding.clone()).await.unwrap(), binding);
        run(&mut by_hand(&fixture).await, &format!("UPDATE instance SET {damage}, adopted_at = 'x'")).await.unwrap();
        assert!(facts.binding().await.is_err(), "{damage}");
        assert!(facts.bind(other.clone()).await.is_err(), "{damage}");
        let instance = facts.instance().await.unwrap();
        assert!(instance.doubt.is_some(), "{damage}");
        assert_eq!(facts.readable_binding(&binding).await.unwrap(), binding, "{damage}");
        let known = facts.readable_binding(&other).await.unwrap();
        let prefix = if damage.starts_with("function_prefix") { "mine" } else { "skls" };
        assert_eq!(known, Binding { function_prefix: prefix.to_owned(), ..binding.clone() }, "{damage}");
        store.pulse().audit().await.unwrap();
        assert!(names(&health, "instance"), "{damage}");
        assert_eq!(wishes.start(&id(2), at(50)).await.unwrap(), Started::Recorded, "{damage}");

        assert_eq!(facts.mend_binding(binding.clone()).await.unwrap(), binding, "{damage}");
        assert_eq!(facts.adopt(0, at(60)).await.unwrap().doubt, None, "{damage}");
        assert_eq!(facts.binding().await.unwrap(), Some(binding.clone()), "{damage}");
        store.pulse().audit().await.unwrap();
        assert!(health.degraded().is_empty(), "{damage}");
    }
}

async fn look_without_audit(reader: &Reader, facts: &Facts) {
    assert_eq!(containers(reader).await.len(), 2);
    assert_eq!(all_rows(facts).await.unwrap().len(), 4);
}

/// `[[[…]]]`, this many levels.
fn nested(levels: usize) -> Value {
    serde_json::from_str(&format!("{}{}", "[".repeat(levels), "]".repeat(levels))).unwrap()
}

#[tokio::test]
async fn body_nested_too_deep_is_refused_before_the_commit() {
    let fixture = Fixture::new().await;
    let body = |n: u8, levels| {
        let mut config = config();
        config.docker_config = json!({ "Healthcheck": { "X": nested(levels) } });
        NewContainer { id: id(n), name: n.to_string(), at: at(1), config }
    };
    for (n, levels) in [(1, 40), (2, 120), (3, 125)] {
        let (deep, other) = (fixture.wishes.create(body(n, levels)), fixture.wishes.create(body(n + 10, 30)));
        let (deep, other) = tokio::join!(deep, other);
        let error = deep.unwrap_err();
        assert!(matches!(error, StateError::Unstorable(_)), "{levels}: {error}");
        assert!(error.to_string().contains("nested more than 36 levels"), "{error}");
        other.unwrap().unwrap();
        assert_eq!(fixture.reader.container(&id(n)).await.unwrap(), None, "nothing is recorded");
    }
    assert_eq!(fixture.actions().await, ["create", "create", "create"]);
}

#[tokio::test]
async fn status_that_could_not_be_read_again_is_refused_before_the_commit() {
    let fixture = Fixture::new().await;
    let [first, second] = [fixture.create(1, "one").await, fixture.create(2, "two").await];
    let too_large = status(u64::MAX, None);
    let (refused, other) = tokio::join!(
        fixture.facts.write(write(first, 0, too_large)),
        fixture.facts.write(write(second, 0, status(1, None)))
    );
    let error = refused.unwrap_err();
    assert!(matches!(error, StateError::Unstorable(_)), "{error}");
    assert!(error.to_string().contains("observed_generation"), "{error}");
    other.unwrap();
    assert_eq!(fixture.reader.container(&first).await.unwrap().unwrap().revision, 0);
}

#[tokio::test]
async fn start_after_damage_serves_the_rest() {
    let (fixture, _) = fixture().await;
    let mut connection = by_hand(&fixture).await;
    for damage in [
        "container SET status = '{' WHERE seq = 1",
        "tombstone SET exit_code = 256 WHERE seq = 1",
        "image SET created_at = NULL WHERE seq = 1",
        "event SET kind = 'planet' WHERE seq = 1",
        "log_progress SET read_through = 'x' WHERE log_group = 'broken'",
        "sighting SET times = -1 WHERE function_name = 'broken'",
        "role_without_logs SET role_arn = x'00' WHERE role_arn = 'broken'",
    ] {
        run(&mut connection, &format!("UPDATE {damage}")).await.unwrap();
    }
    connection.close().await.unwrap();
    let fixture = fixture.crash().await;
    let health = Health::default();
    fixture.store.report_to(&health);
    look(&fixture, "after a start").await;
    let reason = health.degraded()[&Check::Rows].clone();
    assert!(reason.starts_with("5 rows of the database cannot be read (container: 1, "), "{reason}");

    // What is recorded anew is mended by that.
    let image = Image { reference: "broken".to_owned(), id: "sha256:0".to_owned(), created_at: at(9), digest: None };
    assert!(fixture.wishes.put_image(image.clone(), "pull", at(9)).await.unwrap());
    assert_eq!(fixture.reader.image("broken").await.unwrap(), Some(image));
    fixture.facts.set_log_progress("broken", at(9)).await.unwrap();
    fixture.facts.record_sweep(&["broken".to_owned(), "sound".to_owned()].into(), at(9)).await.unwrap();
    let seen = fixture.facts.sightings().await.unwrap();
    assert_eq!((seen[0].times, seen[0].first_seen), (1, at(9)), "it is deleted later, not earlier");
    look(&fixture, "after mending").await;
    let reason = health.degraded()[&Check::Rows].clone();
    assert!(reason.starts_with("3 rows"), "{reason}");
}
