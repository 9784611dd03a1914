//! The filter: reads the request and how it ended, asks the core, counts.

use std::borrow::Cow;
use std::cell::{OnceCell, RefCell};
use std::rc::Rc;

use tollgate_common::Refusal;
use tollgate_common::body::require_callbacks;
use tollgate_common::claims::METADATA;
use tollgate_host::{
    Action, Chunk, HeaderMap, Host, HostError, Map, MetricId, MetricKind, Plugin, Request, Stream,
};

use crate::config::{compile, reads_bodies};
use crate::metrics::{Captured, Count, Identity, Metrics, Outcome, Settled};
use crate::series::{Series, SeriesKey};
use crate::value::{Number, Skip};

/// The business metrics of one configuration.
#[derive(Debug)]
pub struct BusinessMetrics {
    meters: Rc<Meters>,
}

/// The metrics and the series of them that this VM has defined. A new configuration starts with none; the host knows
/// those that it has already.
#[derive(Debug)]
struct Meters {
    metrics: Metrics,
    series: RefCell<Series<MetricId>>,
    /// The counters of what is folded and what is skipped; `None` and missing if the proxy would not define them.
    folded: Option<MetricId>,
    skipped: Vec<(Skip, MetricId)>,
}

impl Plugin for BusinessMetrics {
    type Stream = Measurement;

    fn configure(
        configuration: &[u8],
        plugin_name: &str,
        host: &mut dyn Host,
    ) -> Result<Self, String> {
        let metrics = compile(configuration).map_err(|error| error.to_string())?;
        let reader = reads_bodies(configuration);
        require_callbacks(reader, "business-metrics", host).map_err(|error| error.to_string())?;
        Ok(Self::new(metrics, plugin_name, host))
    }

    fn stream(&self) -> Measurement {
        Measurement {
            meters: Rc::clone(&self.meters),
            captured: None,
        }
    }
}

impl BusinessMetrics {
    /// The business metrics of a configuration that has been read.
    pub fn new(mut metrics: Metrics, plugin_name: &str, host: &mut dyn Host) -> Self {
        let series = metrics.share(plugin_name);
        // Defined now, so that they are there to be watched while they are still 0.
        let mut counter = |name: &str| {
            let defined = host.metric(MetricKind::Counter, name);
            let defined =
                defined.inspect_err(|error| log::warn!("{name} can't be defined: {error:?}"));
            defined.ok()
        };
        let skipped = metrics.skips().into_iter();
        let skipped = skipped
            .filter_map(|skip| Some((skip, counter(&metrics.skipped_series(skip))?)))
            .collect();
        let folded = counter(metrics.folded_metric());
        Self {
            meters: Rc::new(Meters {
                series: RefCell::new(Series::new(series)),
                metrics,
                folded,
                skipped,
            }),
        }
    }

    /// Whether a label is a claim.
    pub fn reads_claims(&self) -> bool {
        self.meters.metrics.reads_claims()
    }
}

/// The measurement of one request.
#[derive(Debug)]
pub struct Measurement {
    meters: Rc<Meters>,
    /// `None` as long as the request has not come by: it may have been answered before.
    captured: Option<Captured>,
}

impl Stream for Measurement {
    fn on_request_headers(&mut self, request: &mut Request, host: &mut dyn Host) -> Action {
        let metadata = || request.metadata(host).ok().map(Cow::Borrowed);
        let metrics = &self.meters.metrics;
        self.captured = Some(metrics.capture(request.headers(), Identity::Headers, metadata));
        Action::Continue
    }

    /// Whoever counts must not decide: the request goes on, and is counted with what the log shows of it.
    fn on_unreadable_request(&mut self, error: HostError, _host: &mut dyn Host) -> Action {
        log::debug!("the proxy does not show a request's headers: {error:?}");
        Action::Continue
    }

    /// Likewise.
    fn on_unreadable_trailers(&mut self, error: HostError, _host: &mut dyn Host) -> Action {
        log::debug!("the proxy does not show a request's trailers: {error:?}");
        Action::Continue
    }

    fn on_request_body(&mut self, chunk: &Chunk, host: &mut dyn Host) {
        if let Some(captured) = &mut self.captured {
            captured.request_body.read(chunk, host);
        }
    }

    fn on_response_headers(&mut self, host: &mut dyn Host) {
        let metrics = &self.meters.metrics;
        let Some(captured) = &mut self.captured else {
            return;
        };
        if metrics.asks_response(captured) {
            match host.headers(Map::ResponseHeaders) {
                Ok(headers) => metrics.respond(captured, &headers),
                Err(error) => {
                    log::debug!("the proxy does not show a response's headers: {error:?}")
                }
            }
        }
    }

    fn on_response_body(&mut self, chunk: &Chunk, host: &mut dyn Host) {
        if let Some(captured) = &mut self.captured {
            captured.response_body.read(chunk, host);
        }
    }

    fn on_log(&mut self, host: &mut dyn Host) {
        let Meters { metrics, .. } = &*self.meters;
        let mut captured = match self.captured.take() {
            Some(captured) => captured,
            None => answered_before(metrics, host),
        };
        let Settled { counts, skipped } = metrics.settle(&mut captured, &Ended::of(host));
        for count in counts {
            let key = metrics.series(count.metric, &mut captured, host);
            if let Err(error) = self.meters.count(key, count, host) {
                log::debug!("{} is not counted: {error:?}", metrics.name(key));
            }
        }
        for skip in skipped {
            if let Err(error) = self.meters.skip(skip, host) {
                log::debug!("a request that is skipped is not counted: {error:?}");
            }
        }
    }
}

/// What is known of a request that was answered before it got here.
fn answered_before(metrics: &Metrics, host: &dyn Host) -> Captured {
    let property = host
        .property(&["filter_state", FILTER_STATE])
        .ok()
        .flatten();
    let refusal = property.as_deref().and_then(Refusal::parse);
    let headers = host.headers(Map::RequestHeaders).unwrap_or_default();
    // Its claims were verified, whoever refused it.
    let metadata = || host.property(&METADATA).ok().flatten().map(Cow::Owned);
    metrics.capture(&headers, Identity::AnsweredBefore(refusal), metadata)
}

/// The key of [`tollgate_common::refusal::PROPERTY`] in the stream's filter state.
const FILTER_STATE: &str = "wasm.tollgate.refused";

/// How a request ended, as the proxy tells it: a call for each thing that is asked for.
struct Ended<'h> {
    host: &'h dyn Host,
    status: OnceCell<Option<u16>>,
    grpc_status: OnceCell<Option<u16>>,
    response_headers: OnceCell<HeaderMap>,
    duration: OnceCell<Option<u64>>,
    request_bytes: OnceCell<Option<u64>>,
    response_bytes: OnceCell<Option<u64>>,
}

impl<'h> Ended<'h> {
    fn of(host: &'h dyn Host) -> Self {
        Self {
            host,
            status: OnceCell::new(),
            grpc_status: OnceCell::new(),
            response_headers: OnceCell::new(),
            duration: OnceCell::new(),
            request_bytes: OnceCell::new(),
            response_bytes: OnceCell::new(),
        }
    }

    /// A number of 8 bytes.
    fn property(&self, path: &'static str) -> Option<i64> {
        let bytes = self.host.property(&[path]).ok().flatten()?;
        Some(i64::from_le_bytes(bytes.try_into().ok()?))
    }
}

impl Outcome for Ended<'_> {
    /// 0 and nothing at all both mean that there was none.
    fn status(&self) -> Option<u16> {
        *self.status.get_or_init(|| {
            let code = self.property("response\0code")?;
            (code != 0).then(|| u16::try_from(code).unwrap_or(u16::MAX))
        })
    }

    fn grpc_status(&self) -> Option<u16> {
        *self.grpc_status.get_or_init(|| {
            let status = self.property("response\0grpc_status")?;
            Some(u16::try_from(status).unwrap_or(u16::MAX))
        })
    }

    fn response_headers(&self) -> &HeaderMap {
        self.response_headers
            .get_or_init(|| self.host.headers(Map::ResponseHeaders).unwrap_or_default())
    }

    fn number(&self, number: Number) -> Option<u64> {
        let (known, path, unit) = match number {
            Number::Duration => (&self.duration, "request\0duration", NANOSECONDS),
            Number::RequestBytes => (&self.request_bytes, "request\0size", 1),
            Number::ResponseBytes => (&self.response_bytes, "response\0size", 1),
        };
        *known.get_or_init(|| Some(u64::try_from(self.property(path)?).ok()? / unit))
    }
}

/// In a millisecond.
const NANOSECONDS: u64 = 1_000_000;

impl Meters {
    fn skip(&self, skip: Skip, host: &mut dyn Host) -> Result<(), HostError> {
        match self.skipped.iter().find(|(other, _)| *other == skip) {
            Some((_, id)) => host.increment(*id, 1),
            None => Ok(()),
        }
    }

    fn count(&self, key: SeriesKey, count: Count, host: &mut dyn Host) -> Result<(), HostError> {
        let mut series = self.series.borrow_mut();
        let id = match series.defined(key) {
            Some(id) => id,
            None => self.define(key, count.kind, &mut series, host)?,
        };
        match count.kind {
            // Nothing to add is an error to the proxy.
            MetricKind::Counter if count.value == 0 => Ok(()),
            MetricKind::Counter => {
                host.increment(id, i64::try_from(count.value).unwrap_or(i64::MAX))
            }
            MetricKind::Gauge | MetricKind::Histogram => host.record(id, count.value),
        }
    }

    /// The series of a key, or where there is no room for it that of its metric where all labels are `other`, which always has its place.
    fn define(
        &self,
        key: SeriesKey,
        kind: MetricKind,
        series: &mut Series<MetricId>,
        host: &mut dyn Host,
    ) -> Result<MetricId, HostError> {
        let folded = self.metrics.folded(key);
        let name = self.metrics.name(key);
        if key == folded || series.admit(&name, host).unwrap_or(false) {
            let id = host.metric(kind, &name)?;
            series.define(key, id);
            return Ok(id);
        }
        if let Some(counter) = self.folded {
            host.increment(counter, 1)?;
        }
        if let Some(id) = series.defined(folded) {
            return Ok(id);
        }
        let id = host.metric(kind, &self.metrics.name(folded))?;
        series.define(folded, id);
        Ok(id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::*;
    use proptest::sample::select;
    use std::collections::BTreeMap;
    use tollgate_common::refusal;
    use tollgate_host::Body;
    use tollgate_host::memory::{Call, MemoryHost, Phase};

    /// The configuration of the shop's gateway.
    const SHOP: &str = r#"{
        "labels": {
            "tenant":    {"from": "tenant", "values": ["acme", "globex", "initech", "anonymous"]},
            "tier":      {"from": "tier", "values": ["premium", "standard", "free"]},
            "user_type": {"from": "userType", "values": ["vip", "premium", "standard"]},
            "route":     {"from": "route"},
            "status":    {"from": "status"}
        },
        "routes": ["/products", "/products/{id}", "/cart/{userId}", "/cart/{userId}/{itemId}", "/orders", "/orders/{userId}", "/users", "/users/{id}"],
        "metrics": [
            {"name": "shop_requests_total", "labels": ["tenant", "tier", "user_type", "route", "status"]},
            {"name": "shop_orders_total", "when": {"method": "POST", "route": "/orders"}, "labels": ["tenant", "user_type", "status"]}
        ]
    }"#;

    const FOLDED: &str = "tollgate_folded_total";

    fn filter(configuration: &str, host: &mut MemoryHost) -> BusinessMetrics {
        BusinessMetrics::configure(configuration.as_bytes(), "business-metrics", host).unwrap()
    }

    /// A request as the filter meets it.
    #[derive(Clone, Debug, Default)]
    struct Met {
        headers: Vec<(Vec<u8>, Vec<u8>)>,
        /// Answered before it got to the filter: the refusal that the limiter left, if it was the limiter.
        answered_before: Option<Option<Vec<u8>>>,
        status: u64,
        /// Of a verified token.
        claims: Option<serde_json::Value>,
        response: Vec<(&'static str, &'static str)>,
        /// Numbers that the proxy knows, by their paths.
        numbers: Vec<([&'static str; 2], i64)>,
    }

    impl Met {
        fn new(headers: &[(&str, &str)], status: u64) -> Self {
            let headers = headers
                .iter()
                .map(|(n, v)| (n.as_bytes().to_vec(), v.as_bytes().to_vec()))
                .collect();
            Self {
                headers,
                status,
                ..Self::default()
            }
        }

        fn claims(self, claims: serde_json::Value) -> Self {
            Self {
                claims: Some(claims),
                ..self
            }
        }

        fn response(self, headers: &[(&'static str, &'static str)]) -> Self {
            Self {
                response: headers.to_vec(),
                ..self
            }
        }

        fn number(mut self, path: [&'static str; 2], number: i64) -> Self {
            self.numbers.push((path, number));
            self
        }

        fn answered_before(self, refusal: Option<&str>) -> Self {
            Self {
                answered_before: Some(refusal.map(|text| text.as_bytes().to_vec())),
                ..self
            }
        }
    }

    fn run(filter: &BusinessMetrics, host: &mut MemoryHost, met: &Met) {
        host.begin(&met.headers);
        if let Some(claims) = &met.claims {
            host.set_claims(claims.clone());
        }
        if let Some(Some(refusal)) = &met.answered_before {
            host.set_property(refusal::PROPERTY, refusal).unwrap();
        }
        let mut stream = filter.stream();
        if met.answered_before.is_none() {
            let mut request = Request::read(host).unwrap();
            assert_eq!(
                stream.on_request_headers(&mut request, host),
                Action::Continue
            );
        }
        end(stream, host, met);
    }

    fn end(mut stream: Measurement, host: &mut MemoryHost, met: &Met) {
        host.phase = Phase::Log;
        host.response = HeaderMap::from_pairs(&met.response);
        host.set_attribute(&["response", "code"], &met.status.to_le_bytes());
        for (path, number) in &met.numbers {
            host.set_attribute(path, &number.to_le_bytes());
        }
        host.reset_calls();
        stream.on_log(host);
    }

    fn counts(host: &MemoryHost) -> BTreeMap<String, i64> {
        host.metric_names()
            .into_iter()
            .map(|name| (name.clone(), host.metric_value(&name).unwrap()))
            .collect()
    }

    #[test]
    fn a_known_sequence_gives_exact_counts() {
        let mut host = MemoryHost::new();
        let filter = filter(SHOP, &mut host);
        let alice = [
            ("x-tenant-id", "acme"),
            ("x-tenant-tier", "premium"),
            ("user-type", "vip"),
        ];
        let with = |more: &[(&str, &str)], status| Met::new(&[&alice[..], more].concat(), status);
        let order = [(":method", "POST"), (":path", "/orders")];
        let forged = Met::new(&[&alice[..], &order[..]].concat(), 429);
        for met in [
            with(&[(":path", "/products/7?x=1")], 200),
            with(&[(":path", "/products/8")], 200),
            with(&order, 201),
            // The gateway found nobody to answer, and a client that did not wait.
            with(&order, 503),
            with(&[(":path", "/products")], 0),
            // Refused: what the client claims of itself in its headers does not count, what the limiter found does.
            forged
                .clone()
                .answered_before(Some("initech free rate limited")),
            forged
                .clone()
                .answered_before(Some("initech free daily limited")),
            forged
                .clone()
                .answered_before(Some("zeta free rate limited")),
            // Refused because it names nobody.
            forged.clone().answered_before(Some("? ? ? missing")),
            // Refused by somebody who does not say whose request it was.
            Met {
                status: 403,
                ..forged
            }
            .answered_before(None),
            Met::new(&[(":path", "/admin")], 404),
        ] {
            run(&filter, &mut host, &met);
        }
        let requests = |tenant, tier, user_type, route, status| {
            format!(
                "tenant=.={tenant};.;tier=.={tier};.;user_type=.={user_type};.;route=.={route};.;status=.={status};.;shop_requests_total"
            )
        };
        let orders = |tenant, user_type, status| {
            format!(
                "tenant=.={tenant};.;user_type=.={user_type};.;status=.={status};.;shop_orders_total"
            )
        };
        assert_eq!(
            counts(&host),
            BTreeMap::from([
                (FOLDED.to_owned(), 0),
                (
                    requests("acme", "premium", "vip", "/products/{id}", "200"),
                    2
                ),
                (requests("acme", "premium", "vip", "/orders", "201"), 1),
                (requests("acme", "premium", "vip", "/orders", "503"), 1),
                (requests("acme", "premium", "vip", "/products", "none"), 1),
                (requests("initech", "free", "none", "/orders", "429"), 2),
                (requests("other", "free", "none", "/orders", "429"), 1),
                (requests("none", "none", "none", "/orders", "429"), 1),
                (requests("none", "none", "none", "/orders", "403"), 1),
                (requests("none", "none", "none", "other", "404"), 1),
                (orders("acme", "vip", "201"), 1),
                (orders("acme", "vip", "503"), 1),
                (orders("initech", "none", "429"), 2),
                (orders("other", "none", "429"), 1),
                (orders("none", "none", "429"), 1),
                (orders("none", "none", "403"), 1),
            ])
        );
    }

    #[test]
    fn host_calls_are_the_fewest_possible() {
        let mut host = MemoryHost::new();
        let filter = filter(SHOP, &mut host);
        let order = Met::new(
            &[
                (":method", "POST"),
                (":path", "/orders"),
                ("x-tenant-id", "acme"),
            ],
            201,
        );
        run(&filter, &mut host, &order);
        assert_eq!(
            host.all_calls(),
            BTreeMap::from([
                (Call::Property, 1),
                (Call::Shared, 2),
                (Call::SetShared, 2),
                (Call::Metric, 2),
                (Call::Increment, 2)
            ])
        );
        // From its second request on a series costs its increment alone.
        run(&filter, &mut host, &order);
        assert_eq!(
            host.all_calls(),
            BTreeMap::from([(Call::Property, 1), (Call::Increment, 2)])
        );
        let refused = order.answered_before(Some("acme premium rate limited"));
        run(&filter, &mut host, &refused);
        run(&filter, &mut host, &refused);
        assert_eq!(
            host.all_calls(),
            BTreeMap::from([
                (Call::Headers, 1),
                (Call::Property, 2),
                (Call::Increment, 2)
            ])
        );
    }

    #[test]
    fn series_beyond_the_limit_are_counted_together() {
        let mut host = MemoryHost::new();
        let filter = filter(
            r#"{
                "labels": {"tenant": {"from": "tenant", "values": ["a", "b", "c"]}},
                "metrics": [{"name": "x_total", "labels": ["tenant"]}, {"name": "y_total"}],
                "maxSeries": 2,
                "foldedMetric": "x_folded_total"
            }"#,
            &mut host,
        );
        for tenant in ["a", "b", "c", "c", "a", "zeta"] {
            run(
                &filter,
                &mut host,
                &Met::new(&[("x-tenant-id", tenant)], 200),
            );
        }
        assert_eq!(
            counts(&host),
            BTreeMap::from([
                ("tenant=.=a;.;x_total".to_owned(), 2),
                ("tenant=.=b;.;x_total".to_owned(), 1),
                // `c` twice, and `zeta`, which is `other` by itself.
                ("tenant=.=other;.;x_total".to_owned(), 3),
                ("x_folded_total".to_owned(), 2),
                ("y_total".to_owned(), 6),
            ])
        );
    }

    #[test]
    fn a_new_configuration_goes_on_counting_in_the_same_series() {
        let mut host = MemoryHost::new();
        let met = Met::new(&[(":path", "/orders")], 200);
        for _ in 0..2 {
            let filter = filter(SHOP, &mut host);
            run(&filter, &mut host, &met);
        }
        let name = "tenant=.=none;.;tier=.=none;.;user_type=.=none;.;route=.=/orders;.;status=.=200;.;shop_requests_total";
        assert_eq!(host.metric_value(name), Some(2));
    }

    #[test]
    fn a_source_that_no_metric_needs_costs_no_call() {
        let metric = |labels: &str, metric: &str| {
            format!(
                r#"{{"labels": {{{labels}}}, "metrics": [{{"name": "x", {metric} "labels": [{}]}}]}}"#,
                if labels.is_empty() { "" } else { r#""l""# }
            )
        };
        let duration = ["request", "duration"];
        let met = Met::new(&[("content-type", "application/grpc")], 200)
            .claims(serde_json::json!({"plan": "gold"}))
            .response(&[("x-cache", "hit")])
            .number(["response", "grpc_status"], 0)
            .number(duration, 1)
            .number(["request", "size"], 1)
            .number(["response", "size"], 1);
        let count = (Call::Increment, 1);
        let property = (Call::Property, 1);
        for (configuration, request, log) in [
            (metric("", ""), vec![], vec![count]),
            (
                metric(r#""l": {"from": "method"}"#, ""),
                vec![],
                vec![count],
            ),
            (
                metric(r#""l": {"constant": "eu"}"#, ""),
                vec![],
                vec![count],
            ),
            (
                metric(r#""l": {"from": "limit", "atMost": 5}"#, ""),
                vec![],
                vec![count],
            ),
            (
                metric(r#""l": {"from": "status"}"#, ""),
                vec![],
                vec![property, count],
            ),
            (
                metric(
                    r#""l": {"from": "statusClass"}"#,
                    r#""when": {"status": "2xx"},"#,
                ),
                vec![],
                vec![property, count],
            ),
            (
                metric(
                    r#""l": {"from": "grpcStatus"}"#,
                    r#""when": {"grpcStatus": 0},"#,
                ),
                vec![],
                vec![property, count],
            ),
            (
                metric(r#""l": {"claim": "plan", "values": ["gold"]}"#, ""),
                vec![property],
                vec![count],
            ),
            (
                metric(
                    r#""l": {"responseHeader": "x-cache", "values": ["hit"]}"#,
                    r#""when": {"responseHeaders": {"x-cache": {"exact": "hit"}}},"#,
                ),
                vec![],
                vec![(Call::Headers, 1), count],
            ),
            (
                metric("", r#""type": "histogram", "value": {"from": "duration"},"#),
                vec![],
                vec![property, (Call::Record, 1)],
            ),
            (
                metric("", r#""value": {"from": "requestBytes"},"#),
                vec![],
                vec![property, count],
            ),
            (
                metric("", r#""value": {"from": "responseBytes"},"#),
                vec![],
                vec![property, count],
            ),
            // Nothing is asked for a request that is none of any metric.
            (
                metric(
                    r#""l": {"claim": "plan", "values": ["gold"]}"#,
                    r#""when": {"method": "PUT", "status": 200},"#,
                ),
                vec![],
                vec![],
            ),
            // And of one that turns out to be none, nothing more.
            (
                metric(
                    r#""l": {"responseHeader": "x-cache", "values": ["hit"]}"#,
                    r#""when": {"status": 404},"#,
                ),
                vec![],
                vec![property],
            ),
        ] {
            let mut host = MemoryHost::new();
            let filter = filter(&configuration, &mut host);
            // So that all series are there.
            run(&filter, &mut host, &met);
            host.begin(&met.headers);
            host.set_claims(met.claims.clone().unwrap());
            let mut stream = filter.stream();
            let mut headers = Request::read(&host).unwrap();
            host.reset_calls();
            stream.on_request_headers(&mut headers, &mut host);
            assert_eq!(
                host.all_calls(),
                request.into_iter().collect(),
                "{configuration}"
            );
            end(stream, &mut host, &met);
            assert_eq!(
                host.all_calls(),
                log.into_iter().collect(),
                "{configuration}"
            );
        }
    }

    #[test]
    fn labels_from_claims_responses_and_refusals() {
        let mut host = MemoryHost::new();
        let filter = filter(
            r#"{
                "labels": {
                    "plan": {"claim": ["shop", "plan"], "values": ["gold", "7", "true"]},
                    "cache": {"responseHeader": "X-Cache", "values": ["hit"]},
                    "code": {"from": "grpcStatus"},
                    "limit": {"from": "limit", "values": ["rate"]},
                    "reason": {"from": "reason"},
                    "zone": {"constant": "eu-1"}
                },
                "metrics": [{"name": "x_total", "labels": ["plan", "cache", "code", "limit", "reason", "zone"]}]
            }"#,
            &mut host,
        );
        let shop = |plan: serde_json::Value| serde_json::json!({"shop": {"plan": plan}});
        let grpc = [("content-type", "application/grpc+proto")];
        let plain = Met::new(&[], 200);
        for (met, labels) in [
            (plain.clone(), "none none none none none"),
            (
                plain
                    .clone()
                    .claims(shop("gold".into()))
                    .response(&[("x-cache", "hit")]),
                "gold hit none none none",
            ),
            (
                plain
                    .clone()
                    .claims(shop(7.into()))
                    .response(&[("x-cache", "hit"), ("x-cache", "hit")]),
                "7 other none none none",
            ),
            (
                plain.clone().claims(shop(true.into())),
                "true none none none none",
            ),
            (
                plain.clone().claims(shop(7.5.into())),
                "other none none none none",
            ),
            (
                plain.clone().claims(shop("".into())),
                "none none none none none",
            ),
            (
                plain.clone().claims(shop(serde_json::json!(["gold"]))),
                "other none none none none",
            ),
            (
                Met::new(&grpc, 200).number(["response", "grpc_status"], 14),
                "none none 14 none none",
            ),
            (
                Met::new(&grpc, 200).number(["response", "grpc_status"], 99),
                "none none other none none",
            ),
            // Of a request that is none of gRPC a proxy makes a status of HTTP one of gRPC.
            (
                plain.clone().number(["response", "grpc_status"], 2),
                "none none none none none",
            ),
            (
                Met::new(&[], 429)
                    .claims(shop("gold".into()))
                    .answered_before(Some("acme premium rate limited")),
                "gold none none rate limited",
            ),
            (
                Met::new(&[], 429).answered_before(Some("acme premium daily limited")),
                "none none none other limited",
            ),
            (
                Met::new(&[], 403).answered_before(Some("acme premium ? blocked")),
                "none none none none blocked",
            ),
        ] {
            let [plan, cache, code, limit, reason] = labels.split(' ').collect::<Vec<_>>()[..]
            else {
                panic!("{labels}")
            };
            let name = format!(
                "plan=.={plan};.;cache=.={cache};.;code=.={code};.;limit=.={limit};.;reason=.={reason};.;zone=.=eu-1;.;x_total"
            );
            let before = host.metric_value(&name).unwrap_or_default();
            run(&filter, &mut host, &met);
            assert_eq!(
                host.metric_value(&name),
                Some(before + 1),
                "{met:?}: {:?}",
                counts(&host)
            );
        }
    }

    #[test]
    fn conditions_on_who_how_it_ended_and_what_refused_it() {
        let mut host = MemoryHost::new();
        let filter = filter(
            r#"{
                "metrics": [
                    {"name": "acme_total", "when": {"tenant": "acme", "tier": ["premium"], "userType": "vip"}},
                    {"name": "unavailable_total", "when": {"grpcStatus": [4, 14]}},
                    {"name": "cached_total", "when": {"responseHeaders": {"X-Cache": {"exact": "hit"}}}},
                    {"name": "rate_total", "when": {"limit": ["rate", "daily"], "tenant": "initech"}},
                    {"name": "blocked_total", "when": {"reason": "blocked"}}
                ]
            }"#,
            &mut host,
        );
        let acme = [
            ("x-tenant-id", "acme"),
            ("x-tenant-tier", "premium"),
            ("user-type", "vip"),
        ];
        let grpc = Met::new(&[("content-type", "application/grpc")], 200);
        let status = |status| grpc.clone().number(["response", "grpc_status"], status);
        for met in [
            Met::new(&acme, 200),
            Met::new(&acme, 200).response(&[("x-cache", "hit")]),
            Met::new(&acme[..2], 200).response(&[("x-cache", "hit"), ("x-cache", "hit")]),
            // What a refused client says of itself is not believed.
            Met::new(&acme, 429).answered_before(Some("initech free rate limited")),
            Met::new(&acme, 429).answered_before(Some("acme premium rate limited")),
            Met::new(&acme, 403).answered_before(Some("initech free ? blocked")),
            status(14),
            status(0),
            Met::new(&[], 503).number(["response", "grpc_status"], 14),
        ] {
            run(&filter, &mut host, &met);
        }
        let expected = [
            ("acme_total", 2),
            ("blocked_total", 1),
            ("cached_total", 1),
            ("rate_total", 1),
            (FOLDED, 0),
            ("unavailable_total", 1),
        ];
        assert_eq!(
            counts(&host),
            expected
                .map(|(name, count)| (name.to_owned(), count))
                .into()
        );
    }

    #[test]
    fn values_are_added_set_and_recorded() {
        let mut host = MemoryHost::new();
        let filter = filter(
            r#"{
                "labels": {"method": {"from": "method"}},
                "metrics": [
                    {"name": "sent_bytes_total", "value": {"from": "responseBytes"}, "labels": ["method"]},
                    {"name": "last_bytes", "type": "gauge", "value": {"from": "requestBytes"}},
                    {"name": "duration_milliseconds", "type": "histogram", "value": {"from": "duration"}, "labels": ["method"]}
                ]
            }"#,
            &mut host,
        );
        for (duration, request, response) in
            [(1_999_999, 70, 1_000), (5_000_000_000, 3, 0), (0, 0, 24)]
        {
            let met = Met::new(&[], 200)
                .number(["request", "duration"], duration)
                .number(["request", "size"], request)
                .number(["response", "size"], response);
            run(&filter, &mut host, &met);
        }
        // The proxy knows nothing of it.
        run(&filter, &mut host, &Met::new(&[], 0));
        assert_eq!(
            host.metric_value("method=.=GET;.;sent_bytes_total"),
            Some(1_024)
        );
        assert_eq!(host.metric_value("last_bytes"), Some(0));
        assert_eq!(
            host.recorded("method=.=GET;.;duration_milliseconds"),
            [1, 5_000, 0]
        );
    }

    #[test]
    fn numbers_of_headers_are_exact_or_skipped_with_the_reason() {
        let mut host = MemoryHost::new();
        let filter = filter(
            r#"{
                "labels": {"tenant": {"from": "tenant", "values": ["acme"]}},
                "metrics": [
                    {"name": "revenue_cents_total", "when": {"status": 201}, "value": {"responseHeader": "x-total", "scale": 100, "max": 100000}, "labels": ["tenant"]},
                    {"name": "items_total", "when": {"status": 201}, "value": {"header": "x-items"}}
                ]
            }"#,
            &mut host,
        );
        let skipped = |host: &MemoryHost, reason: &str| {
            host.metric_value(&format!("reason=.={reason};.;tollgate_skipped_total"))
        };
        for reason in ["missing", "malformed", "negative", "fraction", "too_large"] {
            assert_eq!(skipped(&host, reason), Some(0), "there to be watched");
        }
        let order = |total: &'static str, items: &'static str| {
            Met::new(&[("x-tenant-id", "acme"), ("x-items", items)], 201)
                .response(&[("x-total", total)])
        };
        for met in [
            order("19.99", "2"),
            order("0.07", "1"),
            order("1000", "3"),
            order("0", "0"),
            order("1000.01", "1"),
            order("-5", "1"),
            order("19.999", "1"),
            order("a lot", "one"),
            order("19.99", "1").response(&[]),
            order("19.99", "1").response(&[("x-total", "1"), ("x-total", "1")]),
            // Not of a metric: it says nothing of it.
            Met {
                status: 500,
                ..order("nothing", "nothing")
            },
            // A client's word is not taken of a request that was answered before it got here.
            order("1", "1000000").answered_before(None),
        ] {
            run(&filter, &mut host, &met);
        }
        let of =
            |tenant: &str| host.metric_value(&format!("tenant=.={tenant};.;revenue_cents_total"));
        assert_eq!(of("acme"), Some(1_999 + 7 + 100_000));
        assert_eq!(of("none"), Some(100));
        assert_eq!(host.metric_value("items_total"), Some(2 + 1 + 3 + 5));
        for (reason, count) in [
            ("too_large", 1),
            ("negative", 1),
            ("fraction", 1),
            ("malformed", 3),
            ("missing", 2),
        ] {
            assert_eq!(skipped(&host, reason), Some(count), "{reason}");
        }
    }

    /// What orders are worth, by the body of the response and by that of the request.
    const REVENUE: &str = r#"{
        "labels": {"tenant": {"from": "tenant", "values": ["acme"]}},
        "routes": ["/orders"],
        "metrics": [
            {"name": "revenue_cents_total", "when": {"method": "POST", "route": "/orders", "status": 201}, "value": {"responseBody": "/totalCents"}, "labels": ["tenant"]},
            {"name": "tips_cents_total", "when": {"method": "POST", "route": "/orders", "status": 201}, "value": {"requestBody": "/tip", "scale": 100}},
            {"name": "requests_total"}
        ],
        "maxBodyBytes": 100
    }"#;

    const JSON: (&str, &str) = ("content-type", "application/json");

    type Headers<'a> = &'a [(&'a str, &'a str)];

    /// A request and its response, each body in these pieces. Says how often the proxy was asked for headers and for pieces of bodies on the way.
    fn exchange(
        filter: &BusinessMetrics,
        host: &mut MemoryHost,
        (headers, body): (Headers<'_>, &[&[u8]]),
        (status, response, response_body): (u16, Headers<'_>, &[&[u8]]),
    ) -> (u64, u64) {
        host.begin(headers);
        let mut stream = filter.stream();
        stream.on_request_headers(&mut Request::read(host).unwrap(), host);
        host.reset_calls();
        for piece in body {
            let chunk = host.chunk(Body::Request, piece, false);
            stream.on_request_body(&chunk, host);
        }
        host.begin_response(status, response);
        stream.on_response_headers(host);
        for piece in response_body {
            let chunk = host.chunk(Body::Response, piece, false);
            stream.on_response_body(&chunk, host);
        }
        host.phase = Phase::Log;
        let calls = (host.calls(Call::Headers), host.calls(Call::Body));
        host.set_attribute(&["response", "code"], &u64::from(status).to_le_bytes());
        stream.on_log(host);
        calls
    }

    #[test]
    fn numbers_of_bodies_are_exact_or_skipped_with_the_reason() {
        let mut host = MemoryHost::new();
        let filter = filter(REVENUE, &mut host);
        let order = [
            (":method", "POST"),
            (":path", "/orders"),
            ("x-tenant-id", "acme"),
            JSON,
        ];
        let tip: &[&[u8]] = &[br#"{"userId": "a", "ti"#, br#"p": 0.29}"#];
        let total: &[&[u8]] = &[br#"{"id": 7, "totalC"#, br#"ents": 4590}"#];
        let long = "x".repeat(101);
        let packed = [JSON, ("content-encoding", "gzip")];
        let whole = exchange(&filter, &mut host, (&order, tip), (201, &[JSON], total));
        assert_eq!(whole, (1, 4));
        // A failed order is worth nothing, and its answer is not looked at.
        let failed = exchange(&filter, &mut host, (&order, tip), (503, &[JSON], total));
        assert_eq!(failed, (1, 2));
        for (response, body) in [
            (&packed[..], total),
            (&[JSON][..], &[long.as_bytes()]),
            (&[JSON], &[br#"{"totalCents": 45"#]),
            (&[JSON], &[b"<ok/>"]),
            (&[JSON], &[br#"{"totalCents": 45.5}"#]),
            (&[JSON], &[]),
            (&[("content-type", "text/event-stream")], &[b"data: 1\n\n"]),
        ] {
            exchange(&filter, &mut host, (&order, tip), (201, response, body));
        }
        // Others' bodies pass without a call.
        let get = [(":method", "GET"), (":path", "/orders"), JSON];
        let other = exchange(&filter, &mut host, (&get, tip), (201, &[JSON], total));
        assert_eq!(other, (0, 0));
        assert_eq!(
            host.metric_value("tenant=.=acme;.;revenue_cents_total"),
            Some(4_590)
        );
        assert_eq!(host.metric_value("tips_cents_total"), Some(8 * 29));
        assert_eq!(host.metric_value("requests_total"), Some(10));
        for (reason, count) in [
            ("compressed", 1),
            ("oversized", 1),
            ("truncated", 1),
            ("not_json", 1),
            ("fraction", 1),
            ("missing", 1),
            ("content_type", 1),
            ("negative", 0),
        ] {
            let name = format!("reason=.={reason};.;tollgate_skipped_total");
            assert_eq!(host.metric_value(&name), Some(count), "{reason}");
        }
    }

    /// A header that clients write, with room for three values.
    const FIRST_COME: &str = r#"{
        "labels": {"shop": {"header": "x-shop", "values": ["web"], "atMost": 3}, "status": {"from": "status"}},
        "metrics": [
            {"name": "requests_total", "labels": ["shop", "status"]},
            {"name": "orders_total", "when": {"method": "POST", "status": 201}, "labels": ["shop"]}
        ],
        "maxSeries": 8
    }"#;

    #[test]
    fn the_bounds_are_the_proxy_s_and_not_a_worker_s_or_a_configuration_s() {
        let first = MemoryHost::new();
        let mut hosts: Vec<MemoryHost> = (0..4).map(|_| first.worker()).collect();
        let mut total = 0;
        // Three configurations after each other, the last with another metric.
        for configuration in [
            FIRST_COME.to_owned(),
            FIRST_COME.to_owned(),
            FIRST_COME.replace("orders_total", "placed_total"),
        ] {
            let filters: Vec<BusinessMetrics> = hosts
                .iter_mut()
                .map(|host| filter(&configuration, host))
                .collect();
            for n in 0..400_u64 {
                let worker = (n * 7 % 4) as usize;
                let shop = format!("shop-{}", n % 50 + 50 * (n % 3));
                let method = if n % 5 == 0 { "POST" } else { "GET" };
                let met = Met::new(
                    &[("x-shop", &shop), (":method", method)],
                    [200, 201, 404, 500][(n / 3 % 4) as usize],
                );
                run(&filters[worker], &mut hosts[worker], &met);
                total += 1;
            }
        }
        let counts = counts(&first);
        let shops: std::collections::BTreeSet<&str> = counts
            .keys()
            .filter_map(|name| name.strip_prefix("shop=.=")?.split_once(";.;"))
            .map(|(shop, _)| shop)
            .collect();
        assert_eq!(shops.len(), 4, "{shops:?}");
        assert!(shops.contains("other") && shops.contains("shop-0"));
        // Without the series where all labels are `other`, and the counter without labels.
        let together = |name: &str| {
            name.replace("status=.=other;.;", "")
                .starts_with("shop=.=other;.;")
        };
        let alone = counts.keys().filter(|name| {
            name.contains("=.=")
                && (!together(name)
                    || name.contains("status=.=") && !name.contains("status=.=other"))
        });
        assert_eq!(alone.count(), 8, "{counts:#?}");
        assert!(counts[FOLDED] > 0);
        let requests = counts
            .iter()
            .filter(|(name, _)| name.ends_with("requests_total"));
        assert_eq!(requests.map(|(_, count)| count).sum::<i64>(), total);
    }

    #[test]
    fn a_value_takes_a_place_only_where_it_is_counted() {
        let mut host = MemoryHost::new();
        let filter = filter(
            r#"{
                "labels": {"shop": {"header": "x-shop", "atMost": 1}},
                "metrics": [{"name": "orders_total", "when": {"status": 201}, "labels": ["shop"]}]
            }"#,
            &mut host,
        );
        for (shop, status) in [
            ("mallory", 404),
            ("mallory", 429),
            ("acme", 201),
            ("mallory", 201),
        ] {
            run(&filter, &mut host, &Met::new(&[("x-shop", shop)], status));
        }
        assert_eq!(host.metric_value("shop=.=acme;.;orders_total"), Some(1));
        assert_eq!(host.metric_value("shop=.=other;.;orders_total"), Some(1));
        assert_eq!(host.metric_names().len(), 3);
    }

    #[test]
    fn without_shared_data_requests_are_counted_together() {
        let mut host = MemoryHost::new();
        let filter = filter(FIRST_COME, &mut host);
        host.fail(Call::Shared, HostError::Status(10));
        run(&filter, &mut host, &Met::new(&[("x-shop", "web")], 200));
        host.heal(Call::Shared);
        run(&filter, &mut host, &Met::new(&[("x-shop", "web")], 200));
        let of = |shop: &str, status: &str| {
            host.metric_value(&format!(
                "shop=.={shop};.;status=.={status};.;requests_total"
            ))
        };
        assert_eq!(of("other", "other"), Some(1));
        assert_eq!(of("web", "200"), Some(1));
    }

    #[test]
    fn conditions_are_about_request_and_response() {
        let mut host = MemoryHost::new();
        let filter = filter(
            r#"{
                "metrics": [
                    {"name": "web_total", "when": {"headers": {"X-Channel": {"exact": "web"}}}},
                    {"name": "api_total", "when": {"path": {"prefix": "/api/"}, "method": ["PUT", "PATCH"]}},
                    {"name": "failed_total", "when": {"status": ["5xx", 429]}}
                ]
            }"#,
            &mut host,
        );
        let api = [(":path", "/api/a?b"), (":method", "PATCH")];
        let web = ("x-channel", "web");
        for met in [
            Met::new(&[web], 200),
            // Neither of two copies counts, nor what a refused client wrote.
            Met::new(&[web, web], 200),
            Met::new(&[web], 429).answered_before(Some("acme premium rate limited")),
            Met::new(&api, 502),
            Met::new(&api, 0).answered_before(None),
            Met::new(&[(":path", "/?x=/api/"), (":method", "PUT")], 500),
        ] {
            run(&filter, &mut host, &met);
        }
        let expected = [
            ("api_total", 2),
            ("failed_total", 3),
            (FOLDED, 0),
            ("web_total", 1),
        ];
        assert_eq!(
            counts(&host),
            expected
                .map(|(name, count)| (name.to_owned(), count))
                .into()
        );
    }

    #[test]
    fn labels_from_headers_methods_and_classes() {
        let mut host = MemoryHost::new();
        let filter = filter(
            r#"{
                "labels": {
                    "channel": {"header": "X-Channel", "values": ["web", "app"]},
                    "method": {"from": "method"},
                    "class": {"from": "statusClass"}
                },
                "metrics": [{"name": "x_total", "labels": ["channel", "method", "class"]}]
            }"#,
            &mut host,
        );
        for (headers, status, series) in [
            (vec![("x-channel", "web")], 204, "web GET 2xx"),
            (
                vec![("x-channel", "WEB"), (":method", "PROPFIND")],
                404,
                "other other 4xx",
            ),
            (
                vec![("x-channel", "web"), ("x-channel", "web")],
                99,
                "other GET other",
            ),
            (vec![("x-channel", "")], 700, "none GET other"),
            (vec![(":method", "POST")], u64::MAX, "none POST other"),
            (vec![(":method", "DELETE")], 0, "none DELETE none"),
        ] {
            let met = Met::new(&headers, status);
            run(&filter, &mut host, &met);
            let [channel, method, class] = series.split(' ').collect::<Vec<_>>()[..] else {
                panic!("{series}")
            };
            let name =
                format!("channel=.={channel};.;method=.={method};.;class=.={class};.;x_total");
            assert_eq!(
                host.metric_value(&name),
                Some(1),
                "{series}: {:?}",
                counts(&host)
            );
        }
    }

    #[test]
    fn a_proxy_that_does_not_answer_costs_labels_and_not_the_count() {
        let mut host = MemoryHost::new();
        let filter = filter(SHOP, &mut host);
        host.begin(&[("x-tenant-id", "acme")]);
        let mut stream = filter.stream();
        assert_eq!(
            stream.on_unreadable_request(HostError::Malformed, &mut host),
            Action::Continue
        );
        host.phase = Phase::Log;
        host.fail(Call::Headers, HostError::Malformed);
        host.fail(Call::Property, HostError::Status(2));
        stream.on_log(&mut host);
        let name = "tenant=.=none;.;tier=.=none;.;user_type=.=none;.;route=.=none;.;status=.=none;.;shop_requests_total";
        assert_eq!(host.metric_value(name), Some(1));
        // What can't be counted is not, and the next request is none the worse for it.
        host.heal(Call::Headers);
        for call in [Call::Metric, Call::Increment] {
            host.fail(call, HostError::Status(2));
            run(&filter, &mut host, &Met::new(&[(":path", "/orders")], 200));
            host.heal(call);
        }
        run(&filter, &mut host, &Met::new(&[(":path", "/orders")], 200));
        let name = "tenant=.=none;.;tier=.=none;.;user_type=.=none;.;route=.=/orders;.;status=.=none;.;shop_requests_total";
        assert_eq!(host.metric_value(name), Some(1));
    }

    #[test]
    fn the_refusal_is_read_where_it_is_written() {
        assert_eq!(FILTER_STATE, format!("wasm.{}", refusal::PROPERTY));
    }

    const HOSTILE: &str = r#"{
        "labels": {
            "tenant": {"from": "tenant", "values": ["a", "b"]},
            "tier":   {"from": "tier", "values": ["x"]},
            "class":  {"from": "userType", "values": ["vip"]},
            "chan":   {"header": "chan", "values": ["web", "app"]},
            "route":  {"from": "route"},
            "status": {"from": "status"},
            "method": {"from": "method"}
        },
        "routes": ["/", "/a", "/{x}", "/a/{x}"],
        "metrics": [
            {"name": "all_total", "labels": ["tenant", "tier", "class", "chan", "route", "status", "method"]},
            {"name": "some_total", "labels": ["chan", "status"], "when": {"route": ["/a", "/{x}"], "status": ["2xx", 404], "headers": {"h": {"prefix": "v"}}}},
            {"name": "plain_total"}
        ],
        "maxSeries": 5
    }"#;

    /// Says again, as plainly as it can be said, which series a request belongs to.
    fn plain_reading(met: &Met) -> Vec<String> {
        let headers = |name: &str| -> Vec<Vec<u8>> {
            let mut all = met.headers.clone();
            for (pseudo, value) in [(":method", "GET"), (":path", "/")] {
                if !all.iter().any(|(n, _)| n == pseudo.as_bytes()) {
                    all.push((pseudo.as_bytes().to_vec(), value.as_bytes().to_vec()));
                }
            }
            all.into_iter()
                .filter(|(n, _)| n == name.as_bytes())
                .map(|(_, v)| v)
                .collect()
        };
        let among = |value: &[u8], values: &[&str]| {
            let value = String::from_utf8_lossy(value).into_owned();
            if values.contains(&value.as_str()) {
                value
            } else {
                "other".to_owned()
            }
        };
        let label = |values: Vec<Vec<u8>>, declared: &[&str]| match &values[..] {
            [] => "none".to_owned(),
            [value] if value.is_empty() => "none".to_owned(),
            [value] => among(value, declared),
            _ => "other".to_owned(),
        };
        let words: Vec<Vec<u8>> = match &met.answered_before {
            Some(Some(text)) => text
                .split(|byte| *byte == b' ')
                // In the place of a tenant and of its tier there may be nobody.
                .map(|word| {
                    if word == b"?" {
                        Vec::new()
                    } else {
                        word.to_vec()
                    }
                })
                .collect(),
            _ => Vec::new(),
        };
        let identity = |name: &str, word: usize| match &met.answered_before {
            None => headers(name),
            Some(_) => words.get(word).cloned().into_iter().collect(),
        };
        let believed = |name: &str| {
            if met.answered_before.is_some() {
                Vec::new()
            } else {
                headers(name)
            }
        };
        let tenant = label(identity("x-tenant-id", 0), &["a", "b"]);
        let tier = label(identity("x-tenant-tier", 1), &["x"]);
        let class = label(believed("user-type"), &["vip"]);
        let chan = label(believed("chan"), &["web", "app"]);
        let method = label(
            headers(":method"),
            &[
                "GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH",
            ],
        );
        let path = String::from_utf8_lossy(&headers(":path")[0]).into_owned();
        let path = path.split('?').next().unwrap().to_owned();
        let route = match path.as_str() {
            "/" => "/",
            "/a" | "/a/" => "/a",
            "/b" | "/b/" => "/{x}",
            "/a/7" => "/a/{x}",
            _ => "other",
        };
        let status = match met.status {
            0 => "none".to_owned(),
            code @ 100..=599 => code.to_string(),
            _ => "other".to_owned(),
        };
        let mut series = vec![
            format!(
                "tenant=.={tenant};.;tier=.={tier};.;class=.={class};.;chan=.={chan};.;route=.={route};.;status=.={status};.;method=.={method};.;all_total"
            ),
            "plain_total".to_owned(),
        ];
        let h = believed("h");
        if matches!(route, "/a" | "/{x}")
            && ((200..300).contains(&met.status) || met.status == 404)
            && h.len() == 1
            && h[0].first() == Some(&b'v')
        {
            series.push(format!("chan=.={chan};.;status=.={status};.;some_total"));
        }
        series
    }

    fn met() -> impl Strategy<Value = Met> {
        let value = || {
            prop_oneof![
                4 => select(vec!["a", "b", "x", "vip", "web", "app", "v1", "", "other", "none", "a;.;b"]).prop_map(|v| v.as_bytes().to_vec()),
                1 => vec(any::<u8>(), 0..6),
            ]
        };
        let name = select(vec![
            "x-tenant-id",
            "x-tenant-tier",
            "user-type",
            "chan",
            "h",
            "x_tenant_id",
        ]);
        let headers = vec(
            (name.prop_map(|name| name.as_bytes().to_vec()), value()),
            0..6,
        );
        let path = select(vec!["/", "/a", "/a?q", "/b", "/a/7", "/a/", "/a/7/8", "*"]);
        let method = select(vec!["GET", "POST", "BREW", "\u{fffd}"]);
        let refusal = prop_oneof![
            Just(None),
            Just(Some("a x rate limited")),
            Just(Some("zeta y daily too_costly")),
            Just(Some("b x ? blocked")),
            Just(Some("? ? ? missing"))
        ];
        let answered_before = proptest::option::of(
            refusal.prop_map(|text| text.map(|text| text.as_bytes().to_vec())),
        );
        let status = prop_oneof![4 => select(vec![0, 200, 201, 404, 429, 503]), 1 => any::<u64>()];
        (headers, path, method, answered_before, status).prop_map(
            |(mut headers, path, method, answered_before, status)| {
                headers.push((b":path".to_vec(), path.as_bytes().to_vec()));
                headers.push((b":method".to_vec(), method.as_bytes().to_vec()));
                Met {
                    headers,
                    answered_before,
                    status,
                    ..Met::default()
                }
            },
        )
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(500))]

        #[test]
        fn requests_are_counted_as_a_plain_reading_says(all in vec(met(), 0..40)) {
            let mut host = MemoryHost::new();
            let filter = filter(&HOSTILE.replace("\"maxSeries\": 5", "\"maxSeries\": 1000"), &mut host);
            let mut expected = BTreeMap::from([(FOLDED.to_owned(), 0)]);
            for met in &all {
                run(&filter, &mut host, met);
                for series in plain_reading(met) {
                    *expected.entry(series).or_default() += 1;
                }
            }
            prop_assert_eq!(counts(&host), expected);
        }

        #[test]
        fn series_are_bounded_and_no_request_is_lost(all in vec(met(), 0..60)) {
            let mut host = MemoryHost::new();
            let filter = filter(HOSTILE, &mut host);
            let mut expected = BTreeMap::<String, i64>::new();
            for met in &all {
                run(&filter, &mut host, met);
                for series in plain_reading(met) {
                    *expected.entry(series.rsplit(';').next().unwrap().to_owned()).or_default() += 1;
                }
            }
            let mut counts = counts(&host);
            let folded = counts.remove(FOLDED).unwrap();
            // maxSeries, and for each of the two metrics with labels the series where all of them are `other`, and the
            // one without labels, which is no further series of anything.
            prop_assert!(counts.len() <= 5 + 3, "{counts:?}");
            let all_other = counts.iter().filter(|(name, _)| !name.split(";.;").any(|part| part.contains("=.=") && !part.ends_with("=.=other")));
            prop_assert!(folded <= all_other.map(|(_, count)| count).sum::<i64>());
            let mut by_metric = BTreeMap::<String, i64>::new();
            for (name, count) in &counts {
                *by_metric.entry(name.rsplit(';').next().unwrap().to_owned()).or_default() += count;
            }
            prop_assert_eq!(by_metric, expected);
        }

        #[test]
        fn no_request_makes_it_panic(
            headers in vec((vec(any::<u8>(), 0..12), vec(any::<u8>(), 0..24)), 0..8),
            path in vec(any::<u8>(), 0..64),
            refusal in vec(any::<u8>(), 0..24),
            code in vec(any::<u8>(), 0..12),
            passed in any::<bool>(),
        ) {
            let mut host = MemoryHost::new();
            let filter = filter(SHOP, &mut host);
            let mut headers = headers;
            headers.push((b":path".to_vec(), path));
            host.begin(&headers);
            host.set_property(refusal::PROPERTY, &refusal).unwrap();
            let mut stream = filter.stream();
            if passed {
                stream.on_request_headers(&mut Request::read(&host).unwrap(), &mut host);
            }
            host.phase = Phase::Log;
            host.set_attribute(&["response", "code"], &code);
            stream.on_log(&mut host);
            let total: i64 = counts(&host).iter().filter(|(name, _)| name.ends_with("shop_requests_total")).map(|(_, count)| count).sum();
            prop_assert_eq!(total, 1);
        }

        #[test]
        fn no_configuration_makes_it_panic(configuration in vec(any::<u8>(), 0..64)) {
            let _ = BusinessMetrics::configure(&configuration, "business-metrics", &mut MemoryHost::new());
        }
    }
}
