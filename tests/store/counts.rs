//! Counts without a scan, batches, the eviction of images, and the narrow reads of a sweep.

use std::collections::BTreeSet;

use serde_json::json;
use sockerless_lambda::state::model::life::is_running;
use sockerless_lambda::state::model::{
    Cause, ContainerConfig, ContainerId, Function, FunctionState, Known, RunPhase, Status,
};
use sockerless_lambda::state::{Counts, Image, ImageRemoval, MAX_BATCH, MAX_IMAGES, NewContainer, StateError};
use sqlx::Connection as _;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};

use crate::support::{Fixture, at, config, ended, id, new, path, run, status, write};

/// The migration that has brought the counts.
const MIGRATION: &str = include_str!("../../src/state/migrations/0005_counts.sql");

async fn sql(fixture: &Fixture) -> SqliteConnection {
    SqliteConnection::connect_with(&SqliteConnectOptions::new().filename(path(&fixture.directory))).await.unwrap()
}

fn with_image(n: u8, reference: &str) -> NewContainer {
    NewContainer {
        config: ContainerConfig { image_reference: reference.to_owned(), ..config() },
        ..new(n, &n.to_string())
    }
}

fn image(reference: &str, id: &str, secs: i64) -> Image {
    Image { reference: reference.to_owned(), id: id.to_owned(), created_at: at(secs), digest: None }
}

async fn references(fixture: &Fixture) -> BTreeSet<String> {
    fixture.reader.images().await.unwrap().into_iter().map(|image| image.reference).collect()
}

/// Fills the store with as many references as it may hold, `r0` the oldest; each is an image of its own.
async fn fill_with_images(fixture: &Fixture) {
    let mut connection = sql(fixture).await;
    sqlx::query(
        "WITH RECURSIVE n (i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < ?1 - 1) \
         INSERT INTO image (reference, id, created_at) SELECT 'r' || i, 'sha256:' || i, i FROM n",
    )
    .bind(MAX_IMAGES)
    .execute(&mut connection)
    .await
    .unwrap();
    connection.close().await.unwrap();
}

#[tokio::test]
async fn counts_follow_every_change() {
    let fixture = Fixture::new().await;
    let counts = async || {
        let Counts { containers, running, images } = fixture.reader.counts().await.unwrap();
        (containers, running, images)
    };
    assert_eq!(counts().await, (0, 0, 0));
    for n in [1, 2, 3] {
        fixture.create(n, &n.to_string()).await;
    }
    fixture.wishes.start(&id(1), at(10)).await.unwrap();
    fixture.wishes.start(&id(2), at(10)).await.unwrap();
    fixture.wishes.put_image(image("a", "sha256:1", 1), "pull", at(1)).await.unwrap();
    fixture.wishes.put_image(image("a", "sha256:2", 2), "pull", at(2)).await.unwrap();
    assert_eq!(counts().await, (3, 2, 1));
    fixture.wishes.cancel(&id(1), at(11)).await.unwrap();
    assert_eq!(counts().await, (3, 1, 1), "stopped before it was issued");
    fixture.facts.write(write(id(2), 0, status(2, Some(ended(1, 3))))).await.unwrap();
    assert_eq!(counts().await, (3, 0, 1), "its run has ended");
    fixture.wishes.start(&id(2), at(12)).await.unwrap();
    fixture.wishes.remove(&id(2), true, at(13)).await.unwrap();
    fixture.wishes.remove(&id(3), false, at(13)).await.unwrap();
    assert_eq!(counts().await, (1, 0, 1), "what is being removed is not visible");
    fixture.facts.forget(&id(3)).await.unwrap();
    fixture
        .wishes
        .delete_images(vec![ImageRemoval { reference: "a".to_owned(), is_last: true }], at(14))
        .await
        .unwrap();
    assert_eq!(counts().await, (1, 0, 0));
    let rows: i64 = sqlx::query_scalar("SELECT containers - (SELECT count(*) FROM container) FROM object_count")
        .fetch_one(&mut sql(&fixture).await)
        .await
        .unwrap();
    assert_eq!(rows, 0, "the count of all rows, which creates are held against");
    sqlx::query("UPDATE object_count SET running = 7, images = -1").execute(&mut sql(&fixture).await).await.unwrap();
    let fixture = fixture.crash().await;
    assert_eq!(fixture.reader.counts().await.unwrap(), Counts { containers: 1, running: 0, images: 0 });
}

/// Every kind of end and policy, as rows whose columns were written before the migration.
#[tokio::test]
async fn the_migration_counts_what_is_running_as_the_model_does() {
    let fixture = Fixture::new().await;
    let policies = [json!("no"), json!({ "on_failure": { "max": 0 } }), json!({ "on_failure": { "max": 2 } })];
    let causes = [Cause::Exited, Cause::Deadline, Cause::Cancelled, Cause::NeverRan, Cause::Unknown];
    let phases =
        [RunPhase::Refused, RunPhase::Issued, RunPhase::Accepted { at: at(1) }, RunPhase::Running { since: at(1) }];
    let mut runs = vec![None];
    runs.extend(phases.map(|phase| Some(run(1, phase))));
    for (cause, code) in causes.into_iter().flat_map(|cause| [(cause, 0), (cause, 1)]) {
        let mut ended = ended(1, code);
        let RunPhase::Exited(exit) = &mut ended.phase else { panic!("it has ended") };
        exit.cause = cause;
        runs.extend([Some(ended.clone()), Some(sockerless_lambda::state::model::Run { start: 7, ..ended })]);
    }
    let numbered = |n: u16| ContainerId::from_bytes(std::array::from_fn(|place| n.to_be_bytes()[place % 2]));
    let mut n = 0_u16;
    for (policy, unknown) in policies.iter().flat_map(|policy| [(policy, "fail"), (policy, "rerun")]) {
        for (run, cancelled) in runs.iter().flat_map(|run| [(run, false), (run, true)]) {
            n += 1;
            let mut config = serde_json::to_value(config()).unwrap();
            config["restart"] = policy.clone();
            config["function"]["unknown_outcome"] = json!(unknown);
            let config = serde_json::from_value(config).unwrap();
            let new = NewContainer { id: numbered(n), config, ..new(1, &n.to_string()) };
            fixture.wishes.create(new).await.unwrap().unwrap();
            if !n.is_multiple_of(7) {
                fixture.wishes.start(&numbered(n), at(10)).await.unwrap();
            }
            if cancelled {
                fixture.wishes.cancel(&numbered(n), at(11)).await.unwrap();
            }
            let restarts = u32::from(n % 4);
            let status = Status { restarts, reruns: restarts, ..status(1, run.clone()) };
            fixture.facts.write(write(numbered(n), 0, status)).await.unwrap();
        }
    }
    let backfill = MIGRATION.split(';').find(|statement| statement.contains("UPDATE container SET running")).unwrap();
    let mut connection = sql(&fixture).await;
    let count = "SELECT group_concat(name) FROM (SELECT name FROM container WHERE running = 1 ORDER BY seq)";
    let written: String = sqlx::query_scalar(count).fetch_one(&mut connection).await.unwrap();
    sqlx::query("UPDATE container SET running = 0").execute(&mut connection).await.unwrap();
    sqlx::query(sqlx::AssertSqlSafe(backfill.to_owned())).execute(&mut connection).await.unwrap();
    let migrated: String = sqlx::query_scalar(count).fetch_one(&mut connection).await.unwrap();
    assert_eq!(migrated, written);

    let rows = crate::all_rows::all_rows(&fixture.facts).await.unwrap().into_iter().map(Result::unwrap);
    let rows: Vec<_> = rows.collect();
    let modelled = rows.iter().filter(|row| is_running(&row.spec, &row.status));
    let running = fixture.reader.counts().await.unwrap().running;
    assert_eq!(running, modelled.count());
    assert!((20..rows.len() - 20).contains(&running), "{running} of {} run: both kinds are there", rows.len());
    let listed: Vec<_> = fixture.reader.listed(None, 1_000, true).await.unwrap().readable().collect();
    assert_eq!(listed.len(), running);
    assert!(listed.iter().all(|row| is_running(&row.container.spec, &row.container.status)));
}

#[tokio::test]
async fn removals_of_a_batch_are_one_commit_with_all_their_events() {
    let fixture = Fixture::new().await;
    for n in 1..=9 {
        fixture.create(n, &n.to_string()).await;
    }
    fixture.wishes.start(&id(4), at(10)).await.unwrap();
    let commits = async || {
        let count: i64 =
            sqlx::query_scalar("SELECT commits FROM instance").fetch_one(&mut sql(&fixture).await).await.unwrap();
        count
    };
    let before = commits().await;
    let ids = (1..=9).map(id).collect::<Vec<_>>();
    let removed = fixture.wishes.remove_idle(ids.clone(), at(20)).await.unwrap();
    assert_eq!(removed, ids.iter().copied().filter(|one| *one != id(4)).collect::<Vec<_>>(), "what runs stays");
    assert_eq!(commits().await, before + 1);
    assert_eq!(fixture.actions().await.iter().filter(|action| *action == "destroy").count(), 8);
    assert!(fixture.wishes.remove_idle(ids, at(21)).await.unwrap().is_empty());
    let many = vec![ContainerId::from_bytes([9; 32]); MAX_BATCH + 1];
    assert!(matches!(fixture.wishes.remove_idle(many, at(22)).await, Err(StateError::Misuse(_))));
}

#[tokio::test]
async fn image_reference_beyond_the_limit_evicts_the_oldest_unused() {
    let fixture = Fixture::new().await;
    fill_with_images(&fixture).await;
    fixture.wishes.create(with_image(1, "r0")).await.unwrap().unwrap();
    fixture.wishes.create(with_image(2, "r2")).await.unwrap().unwrap();
    fixture.wishes.remove(&id(2), false, at(5)).await.unwrap();
    let before = references(&fixture).await;
    let events = fixture.reader.last_event().await.unwrap();

    assert!(fixture.wishes.put_image(image("new", "sha256:new", 1), "pull", at(9)).await.unwrap());
    let after = references(&fixture).await;
    assert_eq!(before.difference(&after).collect::<Vec<_>>(), ["r1"], "a container uses r0");
    assert_eq!(after.difference(&before).collect::<Vec<_>>(), ["new"]);
    let events_read = fixture.reader.events(events, 10).await.unwrap();
    let events_read: Vec<_> = events_read.readable().map(|event| (event.action, event.actor_id)).collect();
    let events_read: Vec<_> = events_read.iter().map(|(action, actor)| (action.as_str(), actor.as_str())).collect();
    assert_eq!(events_read, [("untag", "sha256:1"), ("delete", "sha256:1"), ("pull", "new")]);

    assert!(fixture.wishes.put_image(image("new", "sha256:new", 2), "pull", at(10)).await.unwrap());
    assert_eq!(references(&fixture).await, after, "a reference that is known needs no room");
    assert!(fixture.wishes.put_image(image("newer", "sha256:newer", 3), "pull", at(11)).await.unwrap());
    let left = references(&fixture).await;
    assert_eq!(after.difference(&left).collect::<Vec<_>>(), ["r2"], "its container is being removed");
    assert_eq!(fixture.reader.counts().await.unwrap().images, usize::try_from(MAX_IMAGES).unwrap());
}

#[tokio::test]
async fn the_first_reference_of_an_image_outlives_its_tags() {
    let fixture = Fixture::new().await;
    fill_with_images(&fixture).await;
    // `r2` and the newest are tags of `r0`, which Lambda is given for them.
    let tags = "UPDATE image SET id = 'sha256:0' WHERE reference = 'r2'";
    sqlx::query(tags).execute(&mut sql(&fixture).await).await.unwrap();
    assert!(fixture.wishes.put_image(image("tag", "sha256:0", 20_000), "tag", at(9)).await.unwrap());
    let left = references(&fixture).await;
    assert!(left.contains("r0") && !left.contains("r1"), "r1 is older than r2");
    let events = fixture.reader.last_event().await.unwrap();
    assert!(fixture.wishes.put_image(image("tag-2", "sha256:0", 20_001), "tag", at(9)).await.unwrap());
    let left = references(&fixture).await;
    assert!(left.contains("r0") && !left.contains("r2"), "a tag goes before the reference that it stands for");
    let events_read: Vec<_> =
        fixture.reader.events(events, 10).await.unwrap().readable().map(|event| event.action).collect();
    assert_eq!(events_read, ["untag", "tag"], "the image is still there");
}

#[tokio::test]
async fn a_new_image_reference_is_refused_only_when_all_are_in_use() {
    let fixture = Fixture::new().await;
    fill_with_images(&fixture).await;
    fixture.wishes.create(with_image(1, "r0")).await.unwrap().unwrap();
    let clone = "INSERT INTO container (id, name, created_at, generation, starts, cancelled, config, revision, status, \
         observed_generation, image_reference) SELECT randomblob(32), i.reference, c.created_at, 1, 0, 0, c.config, 0, \
         c.status, 1, i.reference FROM image AS i, container AS c WHERE i.reference <> 'r0'";
    sqlx::query(clone).execute(&mut sql(&fixture).await).await.unwrap();
    let before = references(&fixture).await;
    assert!(!fixture.wishes.put_image(image("new", "sha256:new", 1), "pull", at(9)).await.unwrap());
    assert_eq!(references(&fixture).await, before);
    assert_eq!(fixture.actions().await, ["create"], "nothing was pulled");
    assert!(fixture.wishes.put_image(image("r7", "sha256:7", 7), "pull", at(9)).await.unwrap());
    fixture.wishes.remove(&id(1), false, at(10)).await.unwrap();
    assert!(fixture.wishes.put_image(image("new", "sha256:new", 1), "pull", at(11)).await.unwrap());
    assert!(!references(&fixture).await.contains("r0"));
}

#[tokio::test]
async fn users_of_images_are_counted_and_found() {
    let fixture = Fixture::new().await;
    for reference in ["a", "b", "c"] {
        fixture.wishes.put_image(image(reference, reference, 1), "pull", at(1)).await.unwrap();
    }
    for (n, reference) in [(1, "a"), (2, "a"), (3, "b"), (4, "forgotten"), (5, "b")] {
        fixture.wishes.create(with_image(n, reference)).await.unwrap().unwrap();
    }
    fixture.wishes.start(&id(1), at(2)).await.unwrap();
    fixture.wishes.remove(&id(3), false, at(3)).await.unwrap();
    let groups = fixture.reader.image_groups(None, 9).await.unwrap().groups;
    let users: Vec<_> = groups.iter().map(|group| (group.references[0].reference.as_str(), group.users)).collect();
    assert_eq!(users, [("c", 0), ("b", 1), ("a", 2)]);
    let listed: Vec<_> = fixture.reader.listed(None, 9, false).await.unwrap().readable().collect();
    let ids: Vec<_> = listed.iter().map(|row| (row.container.name.as_str(), row.image_id.as_deref())).collect();
    assert_eq!(ids, [("5", Some("b")), ("4", None), ("2", Some("a")), ("1", Some("a"))]);
    let user = async |reference, running| fixture.reader.image_user(reference, running).await.unwrap();
    assert_eq!((user("a", false).await, user("a", true).await), (Some(id(2).to_string()), Some(id(1).to_string())));
    assert_eq!((user("b", true).await, user("c", false).await), (None, None));
}

#[tokio::test]
async fn images_come_in_pages_each_with_all_its_references() {
    let fixture = Fixture::new().await;
    let named = [("a", "x", 1), ("b", "y", 2), ("c", "x", 3), ("d", "z", 4), ("e", "y", 4), ("f", "w", 0)];
    for (reference, id, secs) in named {
        fixture.wishes.put_image(image(reference, id, secs), "pull", at(secs)).await.unwrap();
    }
    let (mut found, mut below) = (Vec::new(), None);
    loop {
        let page = fixture.reader.image_groups(below, 1).await.unwrap();
        let Some(group) = page.groups.first() else { break };
        below = page.next;
        let references: Vec<_> = group.references.iter().map(|image| image.reference.clone()).collect();
        found.push((group.references[0].id.clone(), references.concat()));
    }
    let expected = [("y", "eb"), ("z", "d"), ("x", "ca"), ("w", "f")];
    assert_eq!(found, expected.map(|(id, references)| (id.to_owned(), references.to_owned())));
}

fn function(name: &str) -> Function {
    Function {
        name: name.to_owned(),
        arn: format!("arn:{name}"),
        state: FunctionState::Active,
        updating: false,
        drift: Vec::new(),
        event_config: false,
        resolved_image: None,
        seen_at: at(1),
    }
}

#[tokio::test]
async fn a_sweep_reads_ids_and_settings_only() {
    let fixture = Fixture::new().await;
    for n in 1..=4 {
        fixture.create(n, &n.to_string()).await;
    }
    let there =
        Status { incarnation: 3, function: Known::Is(function("f")), create_sent_at: Some(at(77)), ..status(1, None) };
    fixture.facts.write(write(id(2), 0, there)).await.unwrap();
    fixture.facts.write(write(id(3), 0, Status { function: Known::Maybe, ..status(1, None) })).await.unwrap();
    let broken = "UPDATE container SET status = '{' WHERE name = '4'";
    sqlx::query(broken).execute(&mut sql(&fixture).await).await.unwrap();

    let first = fixture.facts.function_presence(0, 3).await.unwrap();
    let seen: Vec<_> = first.rows.iter().map(|row| (row.id, row.is_present, row.create_sent_at)).collect();
    assert_eq!(seen, [(Some(id(1)), false, None), (Some(id(2)), true, Some(at(77))), (Some(id(3)), false, None)]);
    let second = fixture.facts.function_presence(first.next.unwrap(), 3).await.unwrap();
    assert_eq!(second.rows.iter().map(|row| (row.id, row.is_present)).collect::<Vec<_>>(), [(Some(id(4)), false)]);
    assert_eq!(fixture.facts.function_presence(second.next.unwrap(), 3).await.unwrap().next, None);

    let beginnings = [2, 4, 9].map(|n| id(n).to_string()[..24].to_owned());
    let mut owners = fixture.facts.function_owners(&beginnings).await.unwrap();
    owners.sort_by_key(|owner| owner.id);
    assert_eq!(owners.iter().map(|owner| owner.id).collect::<Vec<_>>(), [id(2), id(4)]);
    let (incarnation, spec) = owners[0].function.clone().unwrap();
    assert_eq!((incarnation, spec.image_uri, spec.cmd, spec.env), (3, config().image_uri, None, None));
    assert_eq!(spec.function.payload, None);
    assert_eq!(spec.function.subnet_ids, config().function.subnet_ids);
    assert_eq!(owners[1].function, None, "its row cannot be read, but it is there");
    assert!(fixture.facts.has_row(&id(4)).await.unwrap() && !fixture.facts.has_row(&id(9)).await.unwrap());
}

#[tokio::test]
async fn a_native_images_command_and_environment_are_its_functions_settings() {
    let fixture = Fixture::new().await;
    let mut native = config();
    native.function.protocol = sockerless_lambda::state::model::Protocol::Native;
    native.cmd = Some(vec!["one \"two\"".to_owned()]);
    let (cmd, env) = (native.cmd.clone(), native.env.clone());
    fixture.wishes.create(NewContainer { config: native, ..new(1, "job") }).await.unwrap().unwrap();
    let owners = fixture.facts.function_owners(&[id(1).to_string()[..24].to_owned()]).await.unwrap();
    let (_, spec) = owners[0].function.clone().unwrap();
    assert_eq!((spec.cmd, spec.env, spec.entrypoint), (cmd, Some(env), None));
}
