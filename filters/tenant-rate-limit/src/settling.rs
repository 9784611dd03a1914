//! What becomes of a request between its admission and the end of its response, if a limit that it met is settled by that: what the response says is looked for, and what was found is
//! charged or given back.
//!
//! | The response | counts for |
//! |---|---|
//! | says what it was | that, at most `max` |
//! | has a status of 400 or more and does not say it | the estimate: whoever refuses or fails has mostly done nothing, and an outage must not use up quotas |
//! | does not say it, or not so that it can be read | `max`, unless `unsettled: estimate` |
//! | did not come to its end, or did not come | the same. A client chooses when to hang up, and must not choose by that what it pays |
//!
//! Nothing that a client sends is looked at. If the VM dies, what was in flight in it stays at the estimate.

use tollgate_host::{Copies, HeaderMap, Host};

use crate::filter::Shared;
use crate::limit::Standing;
use crate::limiter::{Tenant, number};
use crate::meters::Trouble;
use crate::settle::{Receipt, Settled, Source};

/// One request that is to be settled.
#[derive(Debug)]
pub(crate) struct Settling {
    /// Whose it is.
    pub(crate) tenant: Tenant,
    /// Its route, whose limits it has met beside those of its tenant.
    pub(crate) route: Option<usize>,
    /// What was charged and is not settled yet.
    pub(crate) receipts: Vec<Receipt>,
    /// Whether the response tells of an error.
    failed: bool,
}

/// What is known of what a request counts for in a limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Found {
    /// What it is.
    Units(u64),
    /// Nothing, and that is all that will be.
    Not(Trouble),
}

impl Settling {
    /// A request that was charged so, if there is anything to be settled.
    pub(crate) fn of(
        tenant: Tenant,
        route: Option<usize>,
        receipts: Vec<Receipt>,
    ) -> Option<Box<Self>> {
        (!receipts.is_empty()).then(|| {
            Box::new(Self {
                tenant,
                route,
                receipts,
                failed: false,
            })
        })
    }

    /// The response has begun. How the tenant now stands with limits that could be settled, by their indices among all that the request met.
    pub(crate) fn on_headers(
        &mut self,
        shared: &Shared,
        host: &mut dyn Host,
    ) -> Vec<(usize, Standing)> {
        let headers = match host.headers(tollgate_host::Map::ResponseHeaders) {
            Ok(headers) => headers,
            Err(error) => {
                log::debug!("the proxy does not show a response's headers: {error:?}");
                HeaderMap::default()
            }
        };
        self.failed = status(&headers).is_some_and(|status| status >= 400);
        self.settle(shared, host, |settled| match &settled.source {
            Source::Header(name) => found(&headers, name),
        })
    }

    /// The request is gone. What is not known by now never will be.
    pub(crate) fn end(&mut self, shared: &Shared, host: &mut dyn Host) {
        self.settle(shared, host, |_| Found::Not(Trouble::Ended));
    }

    /// Settles what is known.
    fn settle(
        &mut self,
        shared: &Shared,
        host: &mut dyn Host,
        find: impl Fn(&Settled) -> Found,
    ) -> Vec<(usize, Standing)> {
        let Self {
            tenant,
            route,
            receipts,
            failed,
        } = self;
        let Some((limits, whose)) = shared.met(tenant, *route) else {
            return Vec::new();
        };
        let mut told = Vec::new();
        for receipt in receipts.iter_mut() {
            let mut troubles = Vec::new();
            let bills = receipt.due(|owed| {
                let limit = limits.get(owed.limit)?;
                let settled = limit.settled.as_ref()?;
                let (units, trouble) = match find(settled) {
                    Found::Units(units) if units > settled.max => {
                        (settled.max, Some(Trouble::OverMax))
                    }
                    Found::Units(units) => (units, None),
                    Found::Not(Trouble::Absent) if *failed => (settled.estimate, None),
                    Found::Not(trouble) if *failed => (settled.estimate, Some(trouble)),
                    Found::Not(trouble) => (settled.fallback(), Some(trouble)),
                };
                troubles.extend(trouble.map(|trouble| (owed.limit, trouble)));
                Some(units)
            });
            if bills.is_empty() {
                continue;
            }
            match shared.ledger.settle(receipt, &bills, host) {
                Ok(Some(standings)) => {
                    let indices = bills.iter().map(|bill| bill.owed.limit);
                    told.extend(indices.zip(standings));
                }
                Ok(None) => {}
                Err(failure) => {
                    log::debug!("cannot settle a request: {failure:?}");
                    let indices = bills.iter().map(|bill| bill.owed.limit);
                    troubles = indices.map(|limit| (limit, Trouble::Unavailable)).collect();
                }
            }
            for (index, trouble) in troubles {
                let name = limits
                    .get(index)
                    .map_or("none", |limit| limit.name.as_str());
                shared
                    .meters
                    .unsettled(whose, (name, index, *route), trouble, host);
            }
        }
        receipts.retain(|receipt| !receipt.owed.is_empty());
        shared.meters.effects(shared.ledger.take_effects(), host);
        told
    }
}

/// The status of a response.
fn status(headers: &HeaderMap) -> Option<u64> {
    headers.first(":status").and_then(number)
}

/// What a header says.
fn found(headers: &HeaderMap, name: &str) -> Found {
    match headers.copies(name) {
        Copies::Absent => Found::Not(Trouble::Absent),
        Copies::One(value) => match number(value) {
            Some(units) => Found::Units(units),
            None => Found::Not(Trouble::Unreadable),
        },
        Copies::Several => Found::Not(Trouble::Unreadable),
    }
}
