//! JSON that is valid and holds what no model has, at the places that statements extract: one such row affects only itself.

use sockerless_lambda::state::model::Status;

use crate::quarantine::{by_hand, fixture, incarnated, look, run, text};
use crate::support::{at, id, write};

/// What stands at the place: numbers beyond 64 bits are REAL for SQLite, `true` is the integer 1.
const VALUES: [&str; 9] =
    ["1e300", "18446744073709551616", "9223372036854775807", "-1", "1.5", "\"text\"", "null", "[]", "true"];

/// Every path that a statement of the store extracts, by column.
const PATHS: [(&str, &[&str]); 2] = [
    ("status", &["$", "$.incarnation", "$.create_sent_at", "$.function", "$.function.is"]),
    (
        "config",
        &[
            "$",
            "$.image_uri",
            "$.working_dir",
            "$.entrypoint",
            "$.cmd",
            "$.env",
            "$.labels",
            "$.docker_config",
            "$.docker_host_config",
            "$.function",
            "$.function.payload",
            "$.function.protocol",
        ],
    ),
];

#[tokio::test]
async fn value_of_any_type_at_an_extracted_path_affects_only_its_row() {
    let (fixture, _) = fixture().await;
    let sound = Status { create_sent_at: Some(at(2)), ..incarnated() };
    fixture.facts.write(write(id(2), 1, sound)).await.unwrap();
    let mut connection = by_hand(&fixture).await;
    run(&mut connection, "UPDATE container SET watched = 1 WHERE seq IN (1, 3)").await.unwrap();
    for (column, paths) in PATHS {
        let before = text(&mut connection, &format!("SELECT quote({column}) FROM container WHERE seq = 1")).await;
        for (path, value) in paths.iter().flat_map(|path| VALUES.map(|value| (path, value))) {
            let what = format!("{column} {path} = {value}");
            let damage =
                format!("UPDATE container SET {column} = json_set({column}, '{path}', json('{value}')) WHERE seq = 1");
            run(&mut connection, &damage).await.unwrap();
            look(&fixture, &what).await;
            let presences = fixture.facts.function_presence(i64::MIN, 100).await.unwrap().rows;
            assert_eq!(presences.len(), 4, "{what}");
            assert_eq!(presences[0].id, Some(id(1)), "{what}");

            run(&mut connection, "UPDATE instance SET horizon = NULL").await.unwrap();
            let adopted = fixture.facts.adopt(0, at(60)).await;
            let horizon = adopted.unwrap_or_else(|error| panic!("{what}: {error}")).horizon;
            assert_eq!(horizon, Some(at(3)), "{what}: the sound rows have it");
            run(&mut connection, &format!("UPDATE container SET {column} = {before} WHERE seq = 1")).await.unwrap();
        }
    }
}
