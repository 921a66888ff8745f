//! Does the harness notice what must never happen? What a wrong daemon would do is done by hand.

use std::collections::BTreeMap;

use serde_json::Value;
use sockerless_sandbox::model::Request;
use sockerless_sandbox::model::lambda_api::FunctionName;

use super::acts::new_function;
use super::play::Sabotage;
use super::stage::{Broken, Stage};

/// Does it.
pub(crate) async fn commit(
    stage: &mut Stage,
    foreign: &BTreeMap<String, Value>,
    sabotage: Sabotage,
) -> Result<(), Broken> {
    match sabotage {
        Sabotage::DeleteForeign => {
            let name = foreign.keys().next().ok_or("nothing is foreign")?;
            let delete = Request::DeleteFunction(FunctionName::parse(name, None));
            stage.by_hand(&delete).map(drop).map_err(|error| error.to_string())
        }
        Sabotage::LeaveSomething => {
            stage.by_hand(&new_function("left-behind", &[])).map(drop).map_err(|error| error.to_string())
        }
        Sabotage::ForgetTheIntent => Ok(()),
    }
}
