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
//! | 1 to 2 | the monotonic clock if the tier has a rate, the wall clock if it has a quota |
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
    Action, Expected, HeaderMap, Host, HostError, LocalResponse, Map, MetricKind, Plugin, Request,
    Stream,
};

use crate::answer;
use crate::config::{Config, Tier};
use crate::limit::{Kind, Limit, Now};
use crate::limiter::{Limiter, Tenant};
use crate::row::{Row, Verdict};
use crate::table::{Place, Seed, Table};

/// How often a charge is tried while other workers charge the same record. Each failure means that another worker succeeded, so only
/// a proxy with very many workers, all of them with requests of one tenant, could get here. It answers 503: nothing passes uncharged.
const TRIES: usize = 100;

const GRPC_RESOURCE_EXHAUSTED: u32 = 8;
const GRPC_UNAVAILABLE: u32 = 14;

/// The plugin.
#[derive(Debug)]
pub struct TenantRateLimit {
    limiter: Rc<Limiter>,
}

/// One request on its way through the plugin.
#[derive(Debug)]
pub struct TenantStream {
    limiter: Rc<Limiter>,
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
            admitted: None,
        }
    }
}

impl TenantRateLimit {
    /// The plugin with a configuration that has been read.
    pub fn new(config: Config, plugin_name: &str, host: &mut dyn Host) -> Result<Self, String> {
        let seed = agree_on_seed(plugin_name, host)
            .map_err(|error| format!("the proxy's shared data does not work: {error:?}"))?;
        Ok(Self {
            limiter: Rc::new(Limiter::new(config, plugin_name, seed)),
        })
    }
}

/// The seed that the first worker of the proxy chose.
fn agree_on_seed(plugin: &str, host: &mut dyn Host) -> Result<Seed, HostError> {
    let key = Table::seed_key(plugin);
    for _ in 0..TRIES {
        let read = host.shared(&key)?;
        let expected = match read {
            None => Expected::Absent,
            Some(value) => match Seed::try_from(value.bytes.as_slice()) {
                Ok(seed) => return Ok(seed),
                Err(_) => Expected::Version(value.version),
            },
        };
        let seed = (u128::from(host.random()) << 64 | u128::from(host.random())).to_le_bytes();
        if host.set_shared(&key, &seed, expected)? {
            return Ok(seed);
        }
    }
    Err(HostError::Malformed)
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

        let now = now(&tier.limits, host);
        let mut verdict = charge(&limiter.place(&tenant, tier), &tier.limits, now, host);
        if verdict == Ok(Verdict::Full) {
            verdict = charge(&limiter.together(tier), &tier.limits, now, host);
        }
        match verdict {
            Ok(Verdict::Admit { standings, .. }) => {
                self.admitted = Some((tenant.tier, answer::standings(&tier.limits, &standings)));
                Action::Continue
            }
            Ok(Verdict::Refuse { standings, by }) => {
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
            Ok(Verdict::Full) => unavailable(&HostError::Malformed, host),
            Err(error) => unavailable(&error, host),
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

/// The time on the clocks that these limits go by.
fn now(limits: &[Limit], host: &dyn Host) -> Now {
    let rate = limits
        .iter()
        .any(|limit| matches!(limit.kind, Kind::Rate { .. }));
    let quota = limits
        .iter()
        .any(|limit| matches!(limit.kind, Kind::Quota { .. }));
    Now {
        monotonic: if rate { host.monotonic() } else { 0 },
        utc: if quota { host.now() } else { 0 },
    }
}

/// Charges a request to the record at `place`, together with whatever other workers do there at the same time.
fn charge(
    place: &Place,
    limits: &[Limit],
    now: Now,
    host: &mut dyn Host,
) -> Result<Verdict, HostError> {
    for _ in 0..TRIES {
        let read = host.shared(&place.key)?;
        let expected = read
            .as_ref()
            .map_or(Expected::Absent, |value| Expected::Version(value.version));
        let row = match &read {
            None => Row::default(),
            Some(value) => Row::parse(&value.bytes).unwrap_or_else(|| {
                // Nobody else writes these keys. As after a restart, everyone in this row starts at rest.
                log::error!(
                    "{} bytes in shared data are not a row of records, starting anew",
                    value.bytes.len()
                );
                Row::default()
            }),
        };
        let verdict = row.charge(place.id, place.capacity, limits, now);
        match &verdict {
            Verdict::Admit { row, .. } => {
                if host.set_shared(&place.key, row, expected)? {
                    return Ok(verdict);
                }
            }
            Verdict::Refuse { .. } | Verdict::Full => return Ok(verdict),
        }
    }
    Err(HostError::Malformed)
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
fn unavailable(error: &HostError, host: &mut dyn Host) -> Action {
    log::error!("cannot charge a request: {error:?}");
    let response = LocalResponse {
        status: 503,
        details: "tollgate_rate_limit_unavailable",
        headers: &[("retry-after", b"1"), ("cache-control", b"no-store")],
        body: b"",
        grpc_status: Some(GRPC_UNAVAILABLE),
    };
    if let Err(error) = host.respond(&response) {
        log::error!("the proxy does not take an answer: {error:?}");
    }
    Action::Stop
}
