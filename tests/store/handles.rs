//! What a client can call a container that cannot be read.

use sockerless_lambda::state::{CreateRefused, Removed, ResolveError};

use crate::quarantine::{INTEGERS, UNREADABLE, by_hand, fixture, run};
use crate::support::{at, id, new};

/// Damage of the column by which removed containers are left out.
fn damages() -> Vec<String> {
    let removed = INTEGERS.into_iter().chain(["2"]).map(|value| format!("removed = {value}"));
    UNREADABLE.into_iter().map(str::to_owned).chain(removed).collect()
}

#[tokio::test]
async fn container_that_cannot_be_read_is_found_and_removed_by_each_of_its_handles() {
    let (fixture, _) = fixture().await;
    let mut connection = by_hand(&fixture).await;
    let cases = damages().into_iter().flat_map(|damage| [0, 1, 2].map(|handle| (damage.clone(), handle)));
    for (n, (damage, handle)) in (20..).zip(cases) {
        let has_name = !damage.starts_with("name = ");
        if handle == 0 && !has_name {
            continue;
        }
        let name = format!("c{n}");
        fixture.create(n, &name).await;
        let handles = [name.clone(), id(n).to_string(), id(n).to_string()[..12].to_owned()];
        let what = format!("{damage}, {}", handles[handle]);
        run(&mut connection, &format!("UPDATE container SET {damage} WHERE name = '{name}'")).await.unwrap();
        assert_eq!(fixture.reader.resolve(&handles[handle]).await.unwrap(), id(n), "{what}");
        if has_name {
            let refused = fixture.wishes.create(new(n + 100, &name)).await.unwrap().unwrap_err();
            assert_eq!(refused, CreateRefused::NameInUse { by: id(n) }, "{what}");
        }
        assert_eq!(fixture.wishes.remove(&id(n), true, at(50)).await.unwrap(), Removed::Recorded, "{what}");
        let gone = fixture.reader.resolve(&handles[handle]).await;
        assert!(matches!(gone, Err(ResolveError::NotFound)), "{what}: {gone:?}");
        fixture.create(n + 100, &name).await;
        assert_eq!(fixture.reader.resolve(&name).await.unwrap(), id(n + 100), "{what}");
    }
}

#[tokio::test]
async fn id_that_cannot_be_read_makes_no_beginning_of_another_one_ambiguous() {
    let (fixture, _) = fixture().await;
    let mut connection = by_hand(&fixture).await;
    for n in [30, 31] {
        fixture.create(n, &format!("c{n}")).await;
    }
    let beginning = &id(30).to_string()[..4];
    run(&mut connection, "UPDATE container SET id = x'1e1e1e' WHERE name = 'c31'").await.unwrap();
    assert_eq!(fixture.reader.resolve(beginning).await.unwrap(), id(30));
    fixture.wishes.remove(&id(30), true, at(50)).await.unwrap();
    run(&mut connection, "INSERT INTO tombstone (id, name, exit_code, at) VALUES (x'1e1e1e', 'x', 0, 51000000000)")
        .await
        .unwrap();
    let found = fixture.reader.tombstone(beginning, at(51)).await.unwrap().unwrap();
    assert_eq!(found.id, id(30));
}
