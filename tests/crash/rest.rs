//! When does nothing happen any more, unless time passes?
//!
//! A plan runs on one thread. When that is about to park, no task can go on; then nothing is under way if no store reads
//! or writes, and every call that a daemon has open is known to wait in AWS for time to pass. Nothing is slept for.

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};

use sockerless_lambda::state::Facts;
use sockerless_sandbox::model::Operation;

/// A call that a daemon has sent and not got an answer to.
#[derive(Debug)]
struct Open {
    life: u32,
    operation: Operation,
    subject: String,
    nth: u32,
}

/// A call that waits in AWS for time to pass.
#[derive(Debug)]
struct Waiting {
    life: u32,
    operation: Operation,
    resource: Option<String>,
    number: u64,
}

#[derive(Debug, Default)]
struct Account {
    stores: BTreeMap<u32, Facts>,
    open: Vec<Open>,
    waiting: Vec<Waiting>,
    asks: Option<Waker>,
    reached: bool,
}

impl Account {
    fn at_rest(&self) -> bool {
        let open = |life: u32| self.open.iter().filter(|call| call.life == life).count();
        let waiting = |life: u32| self.waiting.iter().filter(|call| call.life == life).count();
        self.stores.iter().all(|(life, store)| store.are_idle() && open(*life) == waiting(*life))
    }
}

/// The account of everything that is under way.
#[derive(Debug, Default)]
pub(crate) struct Rest(Mutex<Account>);

impl Rest {
    fn account(&self) -> MutexGuard<'_, Account> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The thread has nothing to do: whoever waits for rest is woken if this is it.
    pub(crate) fn look(&self) {
        let mut account = self.account();
        if account.asks.is_some() && account.at_rest() {
            account.reached = true;
            account.asks.take().into_iter().for_each(Waker::wake);
        }
    }

    /// Returns when nothing happens any more unless time passes.
    pub(crate) async fn reached(&self) {
        self.account().reached = false;
        poll_fn(|context| {
            let mut account = self.account();
            if account.reached {
                return Poll::Ready(());
            }
            account.asks = Some(context.waker().clone());
            Poll::Pending
        })
        .await;
    }

    /// A daemon has opened its store.
    pub(crate) fn born(&self, life: u32, facts: Facts) {
        self.account().stores.insert(life, facts);
    }

    /// A daemon is no more; what it had under way does not count.
    pub(crate) fn dies(&self, life: u32) {
        let mut account = self.account();
        account.stores.remove(&life);
        account.open.retain(|call| call.life != life);
        account.waiting.retain(|call| call.life != life);
    }

    /// A daemon sends a call.
    pub(crate) fn sends(&self, life: u32, operation: Operation, subject: &str, nth: u32) {
        self.account().open.push(Open { life, operation, subject: subject.to_owned(), nth });
    }

    /// A daemon knows what came of a call. Gives the call's number.
    pub(crate) fn knows(&self, life: u32, operation: Operation, subject: &str) -> Option<u32> {
        let mut account = self.account();
        let is_open = |call: &Open| call.life == life && call.operation == operation && call.subject == subject;
        let is_waiting = |call: &Waiting| {
            let resource = call.resource.as_deref().unwrap_or_default();
            call.life == life && call.operation == operation && subject.ends_with(resource)
        };
        let open = account.open.iter().filter(|call| is_open(call)).count();
        let waiting = account.waiting.iter().filter(|call| is_waiting(call)).count();
        if open > waiting {
            // Of those that are alike, the ones that wait are the older ones.
            let answered = account.open.iter().rposition(is_open)?;
            return Some(account.open.remove(answered).nth);
        }
        // All of them wait in AWS: the daemon has given the oldest up.
        let index = account.waiting.iter().position(is_waiting)?;
        account.waiting.remove(index);
        let given_up = account.open.iter().position(is_open)?;
        Some(account.open.remove(given_up).nth)
    }

    /// AWS has a call that waits for time to pass.
    pub(crate) fn waits(&self, life: u32, operation: Operation, resource: Option<String>, number: u64) {
        let mut account = self.account();
        // One that has waited for its end may wait for its answer too.
        let known = account.waiting.iter().any(|call| call.number == number);
        if account.stores.contains_key(&life) && !known {
            account.waiting.push(Waiting { life, operation, resource, number });
        }
    }

    /// A call does not wait in AWS any more.
    pub(crate) fn is_over(&self, number: u64) {
        self.account().waiting.retain(|call| call.number != number);
    }

    /// What is under way, for a plan that never comes to rest.
    pub(crate) fn describe(&self) -> String {
        let account = self.account();
        let busy: Vec<_> = account.stores.iter().filter(|(_, store)| !store.are_idle()).map(|(life, _)| life).collect();
        format!("stores at work: {busy:?}, calls open: {:?}, calls waiting in AWS: {:?}", account.open, account.waiting)
    }
}
