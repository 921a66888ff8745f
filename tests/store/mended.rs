//! Rows that cannot be read and that the daemon or a client gets rid of without SQL, and what they are still used for.

use sockerless_lambda::health::Check;
use sockerless_lambda::state::{Image, ImageRemoval};

use crate::quarantine::{UNREADABLE, by_hand, fixture, names, run, text};
use crate::support::{Fixture, at, config, id};

/// Whatever is damaged, a log is read again, and a role is tried again.
#[tokio::test]
async fn rows_that_are_found_out_anew_are_dropped_by_the_audit() {
    let (fixture, health) = fixture().await;
    let Fixture { facts, store, .. } = &fixture;
    let mut connection = by_hand(&fixture).await;
    for damage in [
        "log_progress SET log_group = x'00ff' WHERE log_group",
        "log_progress SET log_group = CAST(x'22ff22' AS TEXT) WHERE log_group",
        "log_progress SET read_through = NULL WHERE log_group",
        "log_progress SET read_through = 1.5 WHERE log_group",
        "role_without_logs SET role_arn = x'00' WHERE role_arn",
        "role_without_logs SET role_arn = CAST(x'ff' AS TEXT) WHERE role_arn",
    ] {
        run(&mut connection, &format!("UPDATE {damage} = 'broken'")).await.unwrap();
        facts.log_progress().await.unwrap();
        facts.roles_without_logs().await.unwrap();
        assert!(health.degraded().contains_key(&Check::Rows), "{damage}");
        store.pulse().audit().await.unwrap();
        assert!(health.degraded().is_empty(), "{damage}: {:?}", health.degraded());
        assert_eq!(
            facts.log_progress().await.unwrap().len() + facts.roles_without_logs().await.unwrap().len(),
            3,
            "{damage}"
        );
        facts.set_log_progress("broken", at(1)).await.unwrap();
        facts.set_role_logs("broken", false).await.unwrap();
        assert_eq!(
            facts.log_progress().await.unwrap().len() + facts.roles_without_logs().await.unwrap().len(),
            4,
            "{damage}"
        );
    }
}

#[tokio::test]
async fn image_reference_that_cannot_be_read_is_forgotten_by_name_or_by_the_audit() {
    let (fixture, health) = fixture().await;
    let Fixture { reader, wishes, store, .. } = &fixture;
    let mut connection = by_hand(&fixture).await;
    let broken = Image { reference: "broken".to_owned(), id: "sha256:0".to_owned(), created_at: at(1), digest: None };
    for damage in ["id = NULL", "created_at = 'x'", "digest = x'00'", "id = CAST(x'ff' AS TEXT)"] {
        run(&mut connection, &format!("UPDATE image SET {damage} WHERE reference = 'broken'")).await.unwrap();
        assert!(reader.has_unreadable_image("broken").await.unwrap(), "{damage}");
        assert!(names(&health, "image"), "{damage}");
        let removal = ImageRemoval { reference: "broken".to_owned(), is_last: true };
        assert_eq!(wishes.delete_images(vec![removal.clone()], at(2)).await.unwrap(), [removal], "{damage}");
        assert!(health.degraded().is_empty(), "{damage}");
        assert_eq!(reader.counts().await.unwrap().images, 1, "{damage}");
        assert!(wishes.put_image(broken.clone(), "pull", at(1)).await.unwrap(), "{damage}");
    }
    for damage in ["NULL", "x'00ff'", "CAST(x'22ff22' AS TEXT)"] {
        run(&mut connection, &format!("UPDATE image SET reference = {damage} WHERE reference = 'broken'"))
            .await
            .unwrap();
        reader.images().await.unwrap();
        assert!(names(&health, "image"), "{damage}");
        store.pulse().audit().await.unwrap();
        assert!(health.degraded().is_empty(), "{damage}");
        assert_eq!(reader.counts().await.unwrap().images, 1, "{damage}");
        assert!(wishes.put_image(broken.clone(), "pull", at(1)).await.unwrap(), "{damage}");
    }
    assert!(!reader.has_unreadable_image("broken").await.unwrap());
}

#[tokio::test]
async fn container_that_cannot_be_read_uses_its_image() {
    let (fixture, _) = fixture().await;
    let Fixture { reader, wishes, .. } = &fixture;
    let mut connection = by_hand(&fixture).await;
    wishes.remove(&id(2), true, at(50)).await.unwrap();
    let reference = config().image_reference;
    for damage in UNREADABLE.into_iter().chain(["id = x'01'", "id = NULL", "running = NULL", "running = 'x'"]) {
        let (fixture_row, shown) = ("container WHERE seq = 1", id(1).to_string());
        let before = text(
            &mut connection,
            &format!("SELECT 'config = ' || quote(config) || ', status = ' || quote(status) FROM {fixture_row}"),
        )
        .await;
        run(&mut connection, &format!("UPDATE container SET {damage} WHERE seq = 1")).await.unwrap();
        let shown = if damage.starts_with("id") { "~1".to_owned() } else { shown };
        assert_eq!(reader.image_user(&reference, false).await.unwrap(), Some(shown.clone()), "{damage}");
        let counts_as_running = damage.starts_with("running");
        let user = reader.image_user(&reference, true).await.unwrap();
        assert_eq!(user, counts_as_running.then_some(shown), "{damage}");
        let heal = format!(
            "UPDATE container SET {before}, id = x'{}', name = 'broken', created_at = 1, generation = 1, starts = 0, \
             observed_generation = 1, revision = 1, removed = 0, watched = 0, due_at = NULL, running = 0 WHERE seq = 1",
            id(1)
        );
        run(&mut connection, &heal).await.unwrap();
    }
}
