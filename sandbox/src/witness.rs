//! Tells a test of every call on its way through the sandbox.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::http::Shared;
use crate::model::{Operation, Request};
use crate::wire::Incoming;

/// How far a call has come, in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// It was carried out or refused; its answer is not sent.
    Processed,
    /// Its answer waits for time to pass.
    Waits,
    /// Its answer is on its way, or there will be none.
    Over,
}

/// A call.
#[derive(Clone, Debug)]
pub struct Call {
    /// Counts the calls.
    pub number: u64,
    /// The access key id that it is signed with; empty: none.
    pub caller: String,
    /// What is asked for.
    pub operation: Operation,
    /// The function or log group that it names.
    pub resource: Option<String>,
    /// AWS's id of it.
    pub request_id: String,
}

/// Somebody who is told of each stage of each call, while the sandbox waits.
#[derive(Clone)]
pub struct Witness(Arc<Tell>);

type Tell = dyn Fn(&Call, Stage) + Send + Sync;

impl Witness {
    /// Somebody who is told.
    pub fn new(tell: impl Fn(&Call, Stage) + Send + Sync + 'static) -> Self {
        Self(Arc::new(tell))
    }
}

impl fmt::Debug for Witness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Witness")
    }
}

/// A call that the witness is told of. It is over when this is dropped.
pub(crate) struct Account<'a> {
    pub(crate) call: Call,
    witness: Option<&'a Witness>,
}

impl<'a> Account<'a> {
    pub(crate) fn open(shared: &'a Shared, incoming: &Incoming<'_>, request: &Request, request_id: &str) -> Self {
        let call = Call {
            number: shared.calls.fetch_add(1, Ordering::Relaxed),
            caller: incoming.access_key().unwrap_or_default().to_owned(),
            operation: request.operation(),
            resource: request.resource().map(str::to_owned),
            request_id: request_id.to_owned(),
        };
        Self { call, witness: shared.witness.as_ref() }
    }

    pub(crate) fn tell(&self, stage: Stage) {
        if let Some(Witness(tell)) = self.witness {
            tell(&self.call, stage);
        }
    }
}

impl Drop for Account<'_> {
    fn drop(&mut self) {
        self.tell(Stage::Over);
    }
}
