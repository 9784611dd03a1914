//! The filter: reads who a request is from, says so in headers, charges the tenant's limits, and answers what they refuse.
//!
//! # Host calls
//!
//! A request that is admitted costs at most nine:
//!
//! | calls | for |
//! |---|---|
//! | 1 | the request's headers, all at once |
//! | 0 to 2 | setting `x-tenant-id` and `x-tenant-tier`, each only where it is not right already |
//! | 1 to 2 | the monotonic clock if the tier, or a record in the tenant's row, has a rate; the wall clock if it has a quota |
//! | 2 | reading and replacing the tenant's record, once more for each time that another worker was faster |
//! | 2 | `RateLimit-Policy` and `RateLimit` on the response |
//!
//! One more is needed for each other spelling of the two headers that a client sends, and to read the shared record
//! when a row of the table is full.
//!
//! # When the proxy fails
//!
//! A request that cannot be charged is not admitted: if shared data cannot be read or written, it is answered with 503. If the
//! client's copies of the headers cannot be replaced, or the request's headers not be read, it is answered with 500.

use std::rc::Rc;

use tollgate_common::{Refusal, header, refusal, series_name};
use tollgate_host::filter::give_up;
use tollgate_host::{
    Action, HeaderMap, Host, LocalResponse, Map, MetricKind, Plugin, Request, Stream,
};

use crate::answer;
use crate::config::{Config, Tier};
use crate::ledger::{Decision, Failure, Ledger, Limits};
use crate::limiter::{Limiter, Tenant};

const GRPC_RESOURCE_EXHAUSTED: u32 = 8;
const GRPC_UNAVAILABLE: u32 = 14;

/// The plugin.
#[derive(Debug)]
pub struct TenantRateLimit {
    limiter: Rc<Limiter>,
    ledger: Rc<Ledger>,
}

/// One request on its way through the plugin.
#[derive(Debug)]
pub struct TenantStream {
    limiter: Rc<Limiter>,
    ledger: Rc<Ledger>,
    /// Of an admitted request, its tier and the value of `RateLimit`.
    admitted: Option<(usize, String)>,
}

impl Plugin for TenantRateLimit {
    type Stream = TenantStream;

    fn configure(
        configuration: &[u8],
        plugin_name: &str,
        host: &mut dyn Host,
    ) -> Result<Self, String> {
        let config = Config::parse(configuration).map_err(|error| error.to_string())?;
        Self::new(config, plugin_name, host)
    }

    fn stream(&self) -> TenantStream {
        TenantStream {
            limiter: self.limiter.clone(),
            ledger: self.ledger.clone(),
            admitted: None,
        }
    }
}

impl TenantRateLimit {
    /// The plugin with a configuration that has been read.
    pub fn new(config: Config, plugin_name: &str, host: &mut dyn Host) -> Result<Self, String> {
        let ledger = Ledger::open(plugin_name, config.individually, host)
            .map_err(|error| format!("the proxy's shared data does not work: {error:?}"))?;
        Ok(Self {
            limiter: Rc::new(Limiter::new(config)),
            ledger: Rc::new(ledger),
        })
    }
}

impl Stream for TenantStream {
    fn on_request_headers(&mut self, request: &mut Request, host: &mut dyn Host) -> Action {
        let limiter = self.limiter.clone();
        let tenant = limiter.identify(request.headers());
        let Some(tier) = limiter.tier(tenant.tier) else {
            return give_up(host);
        };

        // First of all, so that whoever logs or counts a refused request sees no client's claim either.
        let owned = request.own(header::TENANT_ID, tenant.id.as_bytes(), host);
        if let Err(error) =
            owned.and_then(|()| request.own(header::TENANT_TIER, tier.name.as_bytes(), host))
        {
            log::error!("cannot replace the client's tenant headers: {error:?}");
            return give_up(host);
        }

        let limits = Limits {
            tenant: &tier.limits,
            route: &[],
        };
        let account = limiter.account(&tenant, tier);
        match self.ledger.charge(account, limits, 1, host) {
            Ok(Decision::Admitted { standings }) => {
                self.admitted = Some((tenant.tier, answer::standings(&tier.limits, &standings)));
                Action::Continue
            }
            Ok(Decision::Refused { standings, by } | Decision::TooCostly { standings, by }) => {
                let grpc = is_grpc(request.headers());
                refuse(
                    &limiter,
                    &tenant,
                    tier,
                    &answer::refusal(&tenant.id, tier, &standings, &by),
                    grpc,
                    host,
                )
            }
            Err(failure) => unavailable(failure, host),
        }
    }

    fn on_response_headers(&mut self, host: &mut dyn Host) {
        let Some((tier, standings)) = self.admitted.take() else {
            return;
        };
        let Some(tier) = self.limiter.tier(tier) else {
            return;
        };
        // Beside what the upstream says of limits of its own: both fields are lists.
        for (name, value) in [
            ("ratelimit-policy", &tier.policy),
            ("ratelimit", &standings),
        ] {
            if let Err(error) = host.add_header(Map::ResponseHeaders, name, value.as_bytes()) {
                log::debug!("cannot add {name} to a response: {error:?}");
            }
        }
    }
}

/// Whether Envoy takes a request for gRPC, and so answers it with trailers whose message is what would have been the body.
fn is_grpc(headers: &HeaderMap) -> bool {
    let rest = headers
        .first("content-type")
        .and_then(|value| value.strip_prefix(b"application/grpc"));
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(b"+"))
}

fn refuse(
    limiter: &Limiter,
    tenant: &Tenant,
    tier: &Tier,
    answer: &answer::Refusal<'_>,
    grpc: bool,
    host: &mut dyn Host,
) -> Action {
    let property = Refusal {
        tenant: tenant.id.as_str(),
        tier: &tier.name,
        limit: answer.limit,
    }
    .to_string();
    if let Err(error) = host.set_property(refusal::PROPERTY, property.as_bytes()) {
        log::debug!("cannot set {}: {error:?}", refusal::PROPERTY);
    }

    if let Some(metric) = limiter.refused_metric() {
        let series = series_name(
            metric,
            &[("tenant", limiter.label(tenant)), ("limit", answer.limit)],
        );
        let counted = host
            .metric(MetricKind::Counter, &series)
            .and_then(|id| host.increment(id, 1));
        if let Err(error) = counted {
            log::debug!("cannot count in {series}: {error:?}");
        }
    }

    let retry_after = answer.retry_after.to_string();
    let response = LocalResponse {
        status: 429,
        details: "tollgate_rate_limited",
        headers: &[
            ("content-type", b"application/problem+json"),
            ("cache-control", b"no-store"),
            ("retry-after", retry_after.as_bytes()),
            ("ratelimit-policy", tier.policy.as_bytes()),
            ("ratelimit", answer.standings.as_bytes()),
        ],
        body: if grpc {
            answer.detail.as_bytes()
        } else {
            answer.problem.as_bytes()
        },
        grpc_status: Some(GRPC_RESOURCE_EXHAUSTED),
    };
    if let Err(error) = host.respond(&response) {
        log::error!("the proxy does not take an answer: {error:?}");
    }
    Action::Stop
}

/// Answers a request that cannot be charged.
fn unavailable(failure: Failure, host: &mut dyn Host) -> Action {
    // One line for each request at most: the details of the answer tell an operator as much.
    log::debug!("cannot charge a request: {failure:?}");
    let response = LocalResponse {
        status: 503,
        details: failure.details(),
        headers: &[("retry-after", b"1"), ("cache-control", b"no-store")],
        body: b"",
        grpc_status: Some(GRPC_UNAVAILABLE),
    };
    if let Err(error) = host.respond(&response) {
        log::error!("the proxy does not take an answer: {error:?}");
    }
    Action::Stop
}
