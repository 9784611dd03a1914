//! The replay: the filter itself, asked about each request of a log at the time at which it began.

use std::cmp::Ordering;
use std::collections::binary_heap::PeekMut;
use std::collections::{BinaryHeap, HashMap};
use std::rc::Rc;
use std::thread;

use anyhow::anyhow;
use tenant_rate_limit::TenantRateLimit;
use tollgate_common::header;
use tollgate_common::refusal::Refusal;
use tollgate_host::{Action, Plugin, Request, Stream};

use super::log::Traffic;
use super::progress::Progress;
use super::proxy::{Proxy, Shared};
use super::time::MILLISECOND;

/// Why a request was refused.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Cause {
    /// In a word, as in metrics: `limited`, `blocked`.
    pub reason: String,
    /// The limit that refused, of several the one that takes longest.
    pub limit: Option<String>,
}

impl Cause {
    /// For people: the limit, or what else it was.
    pub(crate) fn shown(&self) -> String {
        match (&self.limit, self.reason.as_str()) {
            (Some(limit), "limited") => limit.clone(),
            (Some(limit), reason) => format!("{limit} ({reason})"),
            (None, reason) => reason.to_owned(),
        }
    }
}

/// A tenant that requests were from.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Tenant {
    /// Its id; `None` for requests that are nobody's.
    pub id: Option<String>,
    /// Its tier.
    pub tier: Option<String>,
}

/// What becomes of one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Verdict {
    /// Whose it is, as an index of [`Replay::tenants`].
    pub tenant: u32,
    /// Why it is refused, as an index of [`Replay::causes`]; [`NONE`] if it is not.
    pub cause: u32,
    /// Why limits in shadow would have refused it, likewise.
    pub shadowed: u32,
}

/// No cause.
pub(crate) const NONE: u32 = u32::MAX;

impl Verdict {
    pub(crate) fn is_refused(self) -> bool {
        self.cause != NONE
    }
}

/// What became of all requests of some logs.
#[derive(Debug, Default)]
pub(crate) struct Replay {
    pub tenants: Vec<Tenant>,
    pub causes: Vec<Cause>,
    /// In the order of the log's entries.
    pub verdicts: Vec<Verdict>,
}

/// The name of the plugin, which no proxy sees.
const NAME: &str = "simulate";

/// How requests come to the filter.
#[derive(Clone, Debug)]
pub(crate) struct Setting {
    /// The worker threads of the proxy, among which requests take turns.
    pub workers: u32,
    /// The paths of claims, by their numbers in the log.
    pub claims: Vec<Vec<String>>,
}

/// Asks the filter with each of these configurations (JSON) about all requests. No configuration knows of another, so each has a thread.
pub(crate) fn replay(
    configurations: &[String],
    traffic: &Traffic,
    setting: &Setting,
    progress: &Progress,
) -> anyhow::Result<Vec<Replay>> {
    let all = traffic.entries.len() * configurations.len();
    let replay = |configuration: &String| {
        let replayed = |more| progress.replayed(more, all);
        one(configuration, traffic, setting, &replayed)
    };
    thread::scope(|scope| {
        let threads: Vec<_> = configurations
            .iter()
            .map(|configuration| scope.spawn(move || replay(configuration)))
            .collect();
        let joined = threads.into_iter().map(|thread| {
            thread
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        });
        joined.collect()
    })
}

/// How many requests are replayed until that is told.
const TOLD_AFTER: usize = 10_000;

fn one(
    configuration: &str,
    traffic: &Traffic,
    setting: &Setting,
    replayed: &dyn Fn(usize),
) -> anyhow::Result<Replay> {
    let origin = traffic.entries.first().map_or(0, |entry| entry.time);
    let shared = Rc::new(Shared::new(origin));
    let mut workers = Vec::new();
    for _ in 0..setting.workers.max(1) {
        let mut proxy = Proxy::new(shared.clone(), &setting.claims);
        let plugin = TenantRateLimit::configure(configuration.as_bytes(), NAME, &mut proxy);
        workers.push((plugin.map_err(|wrong| anyhow!(wrong))?, proxy));
    }
    let mut known = Known::default();
    let mut verdicts = Vec::with_capacity(traffic.entries.len());
    let mut in_flight: BinaryHeap<InFlight<<TenantRateLimit as Plugin>::Stream>> =
        BinaryHeap::new();
    let mut ticks = Ticks {
        period: workers.iter().find_map(|(_, proxy)| proxy.tick),
        last: origin,
    };
    let turns = (0..workers.len()).cycle();
    for ((number, entry), turn) in traffic.entries.iter().enumerate().zip(turns) {
        while let Some(next) = in_flight.peek_mut() {
            let end = next.end;
            let until = end.min(entry.time);
            ticks.pass(until, &mut workers, &shared);
            if end > entry.time {
                break;
            }
            shared.set_time(end);
            let InFlight {
                mut stream, turn, ..
            } = PeekMut::pop(next);
            stream.keep_estimate();
            stream.on_log(&mut workers[turn].1);
            stream.on_delete(&mut workers[turn].1);
        }
        // While nothing is in flight, nothing has to be told.
        ticks.skip(entry.time);
        let (plugin, proxy) = &mut workers[turn];
        shared.set_time(entry.time);
        proxy.begin(entry.parts(&traffic.arenas));
        let unreadable = |error| anyhow!("a request cannot be read: {error:?}");
        let mut request = Request::read(proxy).map_err(unreadable)?;
        let mut stream = plugin.stream();
        let action = stream.on_request_headers(&mut request, proxy);
        verdicts.push(known.verdict(&request, proxy, action));
        // What is refused, and what took no time, ends at once.
        if action == Action::Continue && entry.duration > 0 {
            let lasts = u64::from(entry.duration) * MILLISECOND;
            let end = entry.time.saturating_add(lasts);
            in_flight.push(InFlight {
                end,
                number,
                turn,
                stream,
            });
        } else {
            stream.keep_estimate();
            stream.on_log(proxy);
            stream.on_delete(proxy);
        }
        if (number + 1) % TOLD_AFTER == 0 {
            replayed(TOLD_AFTER);
        }
    }
    Ok(Replay {
        tenants: known.tenants,
        causes: known.causes,
        verdicts,
    })
}

/// The calls that a filter asked for at regular times.
struct Ticks {
    /// How often, in nanoseconds.
    period: Option<u64>,
    last: u64,
}

impl Ticks {
    /// Calls all workers as often as they would have been called until this moment.
    fn pass(&mut self, until: u64, workers: &mut [(TenantRateLimit, Proxy)], shared: &Shared) {
        let Some(period) = self.period else { return };
        while let Some(next) = self.last.checked_add(period).filter(|next| *next <= until) {
            self.last = next;
            shared.set_time(self.last);
            for (plugin, proxy) in &mut *workers {
                plugin.on_tick(proxy);
            }
        }
    }

    /// Goes on from this moment.
    fn skip(&mut self, until: u64) {
        self.last = self
            .last
            .max(until.saturating_sub(self.period.unwrap_or_default()));
    }
}

/// A request that was admitted, until it ends. The first in a heap is the one that ends first.
struct InFlight<S> {
    end: u64,
    /// Of several that end at one moment, which came first.
    number: usize,
    /// The worker.
    turn: usize,
    stream: S,
}

impl<S> InFlight<S> {
    fn order(&self) -> (u64, usize) {
        (self.end, self.number)
    }
}

impl<S> PartialEq for InFlight<S> {
    fn eq(&self, other: &Self) -> bool {
        self.order() == other.order()
    }
}

impl<S> Eq for InFlight<S> {}

impl<S> PartialOrd for InFlight<S> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<S> Ord for InFlight<S> {
    fn cmp(&self, other: &Self) -> Ordering {
        other.order().cmp(&self.order())
    }
}

/// How many different refusals are known by their properties.
const KEPT: usize = 65_536;

/// The tenants and causes so far.
#[derive(Default)]
struct Known {
    tenants: Vec<Tenant>,
    /// By id and tier, with a zero byte between them, which neither has.
    by_name: HashMap<Vec<u8>, u32>,
    causes: Vec<Cause>,
    /// What a property of a refusal says.
    refusals: HashMap<Vec<u8>, Verdict>,
    name: Vec<u8>,
}

impl Known {
    fn verdict(&mut self, request: &Request, proxy: &Proxy, action: Action) -> Verdict {
        if action == Action::Continue {
            // As whoever is behind the filter sees it.
            let header = |name| request.headers().first(name);
            let shadowed = proxy.shadowed().and_then(Refusal::parse);
            return Verdict {
                tenant: self.tenant(header(header::TENANT_ID), header(header::TENANT_TIER)),
                cause: NONE,
                shadowed: shadowed
                    .map_or(NONE, |refusal| self.cause(refusal.reason, refusal.limit)),
            };
        }
        // Most refusals are as one before.
        let property = proxy.refusal().unwrap_or_default();
        if let Some(known) = self.refusals.get(property) {
            return *known;
        }
        let refusal = Refusal::parse(property);
        let cause = match &refusal {
            Some(refusal) => self.cause(refusal.reason, refusal.limit),
            // What the filter answers where it can say nothing of the request.
            None => {
                let status = proxy.answered.unwrap_or_default();
                self.cause(&format!("status {status}"), None)
            }
        };
        let id = refusal.and_then(|refusal| refusal.tenant);
        let tier = refusal.and_then(|refusal| refusal.tier);
        let verdict = Verdict {
            tenant: self.tenant(id.map(str::as_bytes), tier.map(str::as_bytes)),
            cause,
            shadowed: NONE,
        };
        if refusal.is_some() && self.refusals.len() < KEPT {
            self.refusals.insert(property.to_vec(), verdict);
        }
        verdict
    }

    fn cause(&mut self, reason: &str, limit: Option<&str>) -> u32 {
        let mut causes = self.causes.iter();
        let known =
            causes.position(|cause| cause.reason == reason && cause.limit.as_deref() == limit);
        let at = known.unwrap_or_else(|| {
            self.causes.push(Cause {
                reason: reason.to_owned(),
                limit: limit.map(str::to_owned),
            });
            self.causes.len() - 1
        });
        at as u32
    }

    fn tenant(&mut self, id: Option<&[u8]>, tier: Option<&[u8]>) -> u32 {
        self.name.clear();
        self.name.extend_from_slice(id.unwrap_or_default());
        self.name.push(0);
        self.name.extend_from_slice(tier.unwrap_or_default());
        if let Some(known) = self.by_name.get(&self.name) {
            return *known;
        }
        let text =
            |bytes: Option<&[u8]>| bytes.map(|bytes| String::from_utf8_lossy(bytes).into_owned());
        self.tenants.push(Tenant {
            id: text(id),
            tier: text(tier),
        });
        let number = self.tenants.len() as u32 - 1;
        self.by_name.insert(self.name.clone(), number);
        number
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};
    use tollgate_host::Host;
    use tollgate_host::memory::MemoryHost;

    use super::*;
    use crate::simulate::log::{self, Fields, Format};
    use crate::simulate::time::{self, SECOND};

    /// Sources of every kind, quotas beside rates, a route that is exempt and one that costs more.
    fn configuration() -> Value {
        json!({
            "tenant": {
                "from": [{"claim": "tenant"}, {"header": "x-tenant-id"}, {"path": "/t/{tenant}/**"}, {"query": "tenant"}],
                "missing": {"refuse": 401},
                "unknown": {"tier": "free", "individually": 3},
            },
            "tiers": {
                "gold": {"limits": [{"name": "rate", "requests": 100, "per": "1s", "burst": 50}]},
                "free": {"limits": [{"name": "rate", "requests": 2, "per": "1s", "burst": 3}, {"name": "minute", "quota": 20, "per": "minute"}, {"name": "watched", "quota": 8, "per": "minute", "mode": "shadow"}]},
                "banned": {"blocked": true},
                "ours": {"unlimited": true},
            },
            "tenants": {"acme": {"tier": "gold"}, "mallory": {"tier": "banned"}, "staff": {"tier": "ours"}},
            "routes": [
                {"match": {"path": {"exact": "/health"}}, "exempt": true},
                {"match": {"path": {"prefix": "/export"}, "method": {"exact": "POST"}}, "cost": {"query": "n", "min": 1, "max": 60, "default": 5}, "limits": [{"name": "exports", "requests": 10, "per": "1m"}]},
            ],
        })
    }

    /// One request: milliseconds since the one before, and its line in the log.
    fn request() -> impl Strategy<Value = (u64, Value)> {
        let id = prop_oneof![
            4 => prop::sample::select(vec!["acme", "globex", "a", "b", "c", "d", "mallory", "staff", "ACME "]).prop_map(str::to_owned),
            1 => "[ -~]{0,8}",
        ];
        let path = prop_oneof![
            2 => Just("/products".to_owned()),
            1 => Just("/health".to_owned()),
            1 => (0_u32..80).prop_map(|n| format!("/export/all?n={n}")),
            1 => "/t/[a-c%]{1,3}/x",
            1 => "/x[?]tenant=[a-c]{0,2}",
            1 => "/[ -~]{0,12}",
        ];
        let gap = prop_oneof![3 => 0_u64..3, 2 => 0_u64..900, 1 => 0_u64..90_000];
        let optional = |strategy: BoxedStrategy<String>| prop::option::weighted(0.5, strategy);
        let method = prop::sample::select(vec!["GET", "POST"]);
        (gap, optional(id.clone().boxed()), optional(id.boxed()), path, method, 0_u32..2_000).prop_map(
            |(gap, claim, header, path, method, duration)| {
                (gap, json!({"claim": claim, "x_tenant_id": header, "path": path, "method": method, "duration": duration, "authority": "shop"}))
            },
        )
    }

    #[test]
    fn what_is_in_flight_is_so_until_it_ends() {
        let configuration = json!({
            "tenant": {"from": [{"header": "x-tenant-id"}], "unknown": {"tier": "all"}},
            "tiers": {"all": {"limits": [{"name": "parallel", "concurrent": 2}]}},
        });
        let begin = 1_795_248_005 * SECOND;
        // Seconds from the first on, and how many milliseconds it takes. Who is in flight for long is not taken for dead.
        let requests = [
            (0, 60_000, true),
            (20, 25_000, true),
            (40, 10, false),
            (45, 5_000, true),
            (50, 0, true),
            (59, 2_000, true),
            (59, 2_000, false),
            (60, 1, true),
            (500, 1, true),
        ];
        let mut log = String::new();
        for (seconds, duration, _) in requests {
            let moment = time::rfc(begin + seconds * SECOND);
            let line = json!({"start_time": moment, "duration": duration, "x_tenant_id": "acme", "method": "GET", "path": "/"});
            log += &format!("{line}\n");
        }
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("access.log");
        std::fs::write(&file, log).unwrap();
        let mut fields = Fields::default();
        fields.want(&configuration);
        let progress = Progress::new();
        let traffic = log::read(&[file], Some(&Format::Json), &fields, &progress).unwrap();
        for workers in 1..4 {
            let setting = Setting {
                workers,
                claims: Vec::new(),
            };
            let replay =
                &replay(&[configuration.to_string()], &traffic, &setting, &progress).unwrap()[0];
            let admitted: Vec<bool> = replay.verdicts.iter().map(|v| !v.is_refused()).collect();
            assert_eq!(
                admitted,
                requests.map(|(_, _, admitted)| admitted),
                "{workers} workers"
            );
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn a_replay_decides_as_the_filter_does_in_the_memory_proxy(requests in prop::collection::vec(request(), 1..400), workers in 1_u32..4) {
            let configuration = configuration();
            let begin = 1_795_248_005 * SECOND;
            // As it would have been: the filter, a proxy in memory, and a clock that goes on.
            let mut hosts = vec![MemoryHost::new()];
            for _ in 1..workers {
                hosts.push(hosts[0].worker());
            }
            hosts[0].set_time(begin);
            let plugins: Vec<TenantRateLimit> = hosts
                .iter_mut()
                .map(|host| TenantRateLimit::configure(configuration.to_string().as_bytes(), NAME, host).unwrap())
                .collect();
            let mut log = String::new();
            let mut expected = Vec::new();
            // In the log from the first request on.
            let gaps = std::iter::once(0).chain(requests.iter().skip(1).map(|(gap, _)| *gap));
            for (number, (gap, (_, line))) in gaps.zip(&requests).enumerate() {
                hosts[0].advance(gap * MILLISECOND);
                let moment = hosts[0].time();
                let turn = number % hosts.len();
                let (host, plugin) = (&mut hosts[turn], &plugins[turn]);
                let text = |field: &str| line[field].as_str();
                let said = |field| text(field).filter(|value| !matches!(*value, "" | "-"));
                let mut headers = vec![(":method", text("method").unwrap()), (":path", text("path").unwrap())];
                headers.extend(said("x_tenant_id").map(|id| ("x-tenant-id", id)));
                host.begin(&headers);
                if let Some(claim) = said("claim") {
                    host.set_claims(json!({"tenant": claim}));
                }
                let mut request = Request::read(host).unwrap();
                let action = plugin.stream().on_request_headers(&mut request, host);
                let id = request.headers().first("x-tenant-id").map(|id| String::from_utf8_lossy(id).into_owned());
                let details = host.answer().map(|answer| answer.details.clone());
                let shadowed = host.property(&[tollgate_common::refusal::SHADOWED]).unwrap();
                expected.push((id, action == Action::Stop, details, shadowed));
                let mut line = line.clone();
                line["start_time"] = json!(time::rfc(moment));
                log += &format!("{line}\n");
            }

            let folder = tempfile::tempdir().unwrap();
            let file = folder.path().join("access.log");
            std::fs::write(&file, log).unwrap();
            let claims = vec![vec!["tenant".to_owned()]];
            let mut fields = Fields { claims: vec![(claims[0].clone(), "claim".to_owned())], ..Fields::default() };
            fields.want(&configuration);
            let progress = Progress::new();
            let traffic = log::read(&[file], Some(&Format::Json), &fields, &progress).unwrap();
            prop_assert_eq!(traffic.files[0].unreadable, 0, "{:?}", traffic.files);
            let setting = Setting { workers, claims };
            let replay = &replay(&[configuration.to_string()], &traffic, &setting, &progress).unwrap()[0];

            prop_assert_eq!(replay.verdicts.len(), expected.len());
            for (number, (verdict, (id, refused, details, shadowed))) in replay.verdicts.iter().zip(&expected).enumerate() {
                prop_assert_eq!(verdict.is_refused(), *refused, "request {}: {}", number, requests[number].1);
                let tenant = &replay.tenants[verdict.tenant as usize];
                let watched = replay.causes.get(verdict.shadowed as usize);
                let watched = watched.and_then(|cause| cause.limit.as_deref());
                let shadowed = shadowed.as_deref().map(|words| Refusal::parse(words).unwrap());
                prop_assert_eq!(watched, shadowed.and_then(|shadowed| shadowed.limit), "request {}", number);
                let nobody = details.as_deref().is_some_and(|details| details.starts_with("tollgate_tenant_missing") || details.starts_with("tollgate_tenant_unusable"));
                if !nobody {
                    prop_assert_eq!(&tenant.id, id, "request {}", number);
                }
                if let (true, Some(details)) = (verdict.is_refused(), details) {
                    let reason = &replay.causes[verdict.cause as usize].reason;
                    let word = match details.as_str() {
                        "tollgate_rate_limited" => "limited",
                        "tollgate_too_costly" => "too_costly",
                        "tollgate_tenant_blocked" => "blocked",
                        "tollgate_tenant_missing" => "missing",
                        "tollgate_tenant_unusable" => "unusable",
                        other => other,
                    };
                    prop_assert_eq!(reason, word);
                }
            }
        }
    }
}
