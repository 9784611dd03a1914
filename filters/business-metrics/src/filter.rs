//! The filter: reads the request and its status, asks the core, counts.

use std::cell::RefCell;
use std::rc::Rc;

use tollgate_common::Refusal;
use tollgate_host::{Action, Host, HostError, Map, MetricId, MetricKind, Plugin, Request, Stream};

use crate::config::compile;
use crate::metrics::{Captured, Identity, Metrics, Place, Series, SeriesKey};

/// The business metrics of one configuration.
#[derive(Debug)]
pub struct BusinessMetrics {
    counters: Rc<Counters>,
}

/// The metrics and the series of them that this VM has defined. A new configuration starts with none; the host knows
/// those that it has already.
#[derive(Debug)]
struct Counters {
    metrics: Metrics,
    series: RefCell<Series<MetricId>>,
}

impl Plugin for BusinessMetrics {
    type Stream = Measurement;

    fn configure(
        configuration: &[u8],
        _plugin_name: &str,
        host: &mut dyn Host,
    ) -> Result<Self, String> {
        let metrics = compile(configuration).map_err(|error| error.to_string())?;
        Ok(Self::new(metrics, host))
    }

    fn stream(&self) -> Measurement {
        Measurement {
            counters: Rc::clone(&self.counters),
            captured: None,
        }
    }
}

impl BusinessMetrics {
    /// The business metrics of a configuration that has been read.
    pub fn new(metrics: Metrics, host: &mut dyn Host) -> Self {
        // Defined now, so that it is there to be watched while it is still 0.
        if let Err(error) = host.metric(MetricKind::Counter, metrics.folded_metric()) {
            log::warn!("{} can't be defined: {error:?}", metrics.folded_metric());
        }
        let series = RefCell::new(Series::new(metrics.max_series()));
        Self {
            counters: Rc::new(Counters { metrics, series }),
        }
    }
}

/// The measurement of one request.
#[derive(Debug)]
pub struct Measurement {
    counters: Rc<Counters>,
    /// `None` as long as the request has not come by: it may have been answered before.
    captured: Option<Captured>,
}

impl Stream for Measurement {
    fn on_request_headers(&mut self, request: &mut Request, _host: &mut dyn Host) -> Action {
        self.captured = Some(
            self.counters
                .metrics
                .capture(request.headers(), Identity::Headers),
        );
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

    fn on_log(&mut self, host: &mut dyn Host) {
        let captured = match self.captured.take() {
            Some(captured) => captured,
            None => answered_before(&self.counters.metrics, host),
        };
        for key in self.counters.metrics.series(captured, status(host)) {
            if let Err(error) = self.counters.count(key, host) {
                log::debug!(
                    "{} is not counted: {error:?}",
                    self.counters.metrics.name(key)
                );
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
    metrics.capture(&headers, Identity::AnsweredBefore(refusal))
}

/// The key of [`tollgate_common::refusal::PROPERTY`] in the stream's filter state.
const FILTER_STATE: &str = "wasm.tollgate.refused";

/// The status of the response, a number of 8 bytes; 0 and nothing at all both mean that there was none.
fn status(host: &dyn Host) -> Option<u16> {
    let bytes = host.property(&["response", "code"]).ok().flatten()?;
    let code = u64::from_le_bytes(bytes.try_into().ok()?);
    (code > 0).then(|| u16::try_from(code).unwrap_or(u16::MAX))
}

impl Counters {
    fn count(&self, key: SeriesKey, host: &mut dyn Host) -> Result<(), HostError> {
        let folded = self.metrics.folded(key);
        let place = self.series.borrow().place(key, folded);
        let id = match place {
            Place::Defined(id) => id,
            Place::Definable => self.define(key, folded, host)?,
            Place::Folded => {
                let counter = host.metric(MetricKind::Counter, self.metrics.folded_metric())?;
                host.increment(counter, 1)?;
                let place = self.series.borrow().place(folded, folded);
                match place {
                    Place::Defined(id) => id,
                    Place::Definable | Place::Folded => self.define(folded, folded, host)?,
                }
            }
        };
        host.increment(id, 1)
    }

    fn define(
        &self,
        key: SeriesKey,
        folded: SeriesKey,
        host: &mut dyn Host,
    ) -> Result<MetricId, HostError> {
        let id = host.metric(MetricKind::Counter, &self.metrics.name(key))?;
        self.series.borrow_mut().define(key, folded, id);
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
    }

    impl Met {
        fn new(headers: &[(&str, &str)], status: u64) -> Self {
            let headers = headers
                .iter()
                .map(|(n, v)| (n.as_bytes().to_vec(), v.as_bytes().to_vec()))
                .collect();
            Self {
                headers,
                answered_before: None,
                status,
            }
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
        host.phase = Phase::Log;
        host.set_attribute(&["response", "code"], &met.status.to_le_bytes());
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
            BTreeMap::from([(Call::Property, 1), (Call::Metric, 2), (Call::Increment, 2)])
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
