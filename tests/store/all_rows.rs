//! All rows at once, for tests, which have few.

use sockerless_lambda::state::model::Container;
use sockerless_lambda::state::{Facts, Row, StateError};

/// All containers, also those being removed and those that cannot be read, oldest first.
pub(crate) async fn all_rows(facts: &Facts) -> Result<Vec<Row<Container>>, StateError> {
    let (mut all, mut place) = (Vec::new(), Some(i64::MIN));
    while let Some(after) = place {
        let page = facts.containers(after, 500).await?;
        all.extend(page.rows);
        place = page.next;
    }
    Ok(all)
}
