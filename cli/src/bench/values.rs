//! The metrics' memory and series while more and more invented values come: both may grow until there are as many series as the configuration allows, and not beyond.
//!
//! Each request has two values that nobody has used before, one in a header and one in a claim of its token, and they are of all shapes that are hard to bear: long, no UTF-8, full of what
//! separates labels from each other, of control characters and line breaks (in the claim: a header cannot have any).

use std::fmt;

use anyhow::ensure;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;
use serde_json::{Value, json};
use tokio::runtime::Handle;

use super::load::{Client, Source, Stop};
use super::proxy::{Admin, Listener, Proxy, wasm_filter};
use super::report::{Row, mebibytes, table};
use super::usage::Process;
use super::{Bench, Progress};
use crate::up::blocking;

const PLUGIN: &str = "business-metrics";

/// Requests, if nobody says how many.
const VALUES: u64 = 1_000_000;

/// How often it is looked at.
const LOOKS: u64 = 10;

/// The bound of the configuration. A series more for each metric holds what is beyond it.
const MAX_SERIES: u64 = 1_000;

/// After so many requests all series are there.
const UNTIL_FULL: u64 = 2 * MAX_SERIES;

/// The metric that every request is counted in.
const METRIC: &str = "values_total";

/// What was seen.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Values {
    requests: u64,
    max_series: u64,
    memory_before_bytes: u64,
    memory_after_bytes: u64,
    /// Until there were as many series as may be.
    grown_for_series_bytes: i64,
    /// From then on.
    grown_since_bytes: i64,
    grown_in_second_half_bytes: i64,
    looks: Vec<Look>,
}

/// How it was after some requests.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Look {
    requests: u64,
    memory_bytes: u64,
    series: u64,
    /// The sum of all series.
    counted: u64,
}

/// Lets them come.
pub(crate) async fn measure(bench: &Bench<'_>) -> anyhow::Result<Values> {
    let module = &bench.module(PLUGIN)?.path;
    let filter = wasm_filter(PLUGIN, module, PLUGIN, &configuration().to_string());
    let mut proxy = Proxy::start(
        bench.keeper,
        &bench.envoy,
        &bench.folder,
        "values",
        bench.workers,
        &[Listener::new(PLUGIN, Some(filter)).behind(claims_of_a_header())],
    )
    .await?;
    let run = Run {
        process: proxy.process.clone(),
        admin: proxy.admin(),
        client: Client::connect(proxy.address(PLUGIN)?, bench.connections())?,
        requests: bench.ids.unwrap_or(VALUES),
        warm_up: bench.requests,
        stop: bench.stop.clone(),
    };
    let here = Handle::current();
    let values = proxy.during(blocking(move || run.run(&here))).await?;
    proxy.require_health().await?;
    proxy.stop().await;
    Ok(values)
}

fn configuration() -> Value {
    json!({
        "labels": {
            "shop": { "header": SHOP, "values": ["web"], "atMost": 1_000 },
            "plan": { "claim": PLAN, "values": ["gold"], "atMost": 100 },
            "status": { "from": "status" },
        },
        "metrics": [{ "name": METRIC, "labels": ["shop", "plan", "status"] }],
        "maxSeries": MAX_SERIES,
    })
}

/// The header that the label `shop` is from.
const SHOP: &str = "x-shop";
/// The claim that the label `plan` is from.
const PLAN: &str = "plan";
/// The header that has the claims of a token, as a `google.protobuf.Value` in base64.
const CLAIMS: &str = "x-claims";

/// Leaves what a header says where Envoy leaves the claims of a token that it has verified: a new token for each request, and nobody verifies it.
fn claims_of_a_header() -> Value {
    json!({
        "name": "envoy.filters.http.header_to_metadata",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.header_to_metadata.v3.Config",
            "request_rules": [{
                "header": CLAIMS,
                "on_header_present": {
                    "metadata_namespace": "envoy.filters.http.jwt_authn",
                    "key": "payload",
                    "type": "PROTOBUF_VALUE",
                    "encode": "BASE64",
                },
                "remove": true,
            }],
        },
    })
}

struct Run {
    process: Process,
    admin: Admin,
    client: Client,
    requests: u64,
    warm_up: u64,
    stop: Stop,
}

impl Run {
    const PART: u64 = 10_000;

    fn run(mut self, runtime: &Handle) -> anyhow::Result<Values> {
        // The same requests under other names: connections have their buffers before the first value comes.
        let mut known = Invented::new(["y-shop", "y-claims"]);
        let warm_up = self.client.send(&mut known, self.warm_up, &self.stop)?;
        let progress = Progress::new("Letting invented values come");
        let before = self.process.resident()?;
        let mut invented = Invented::new([SHOP, CLAIMS]);
        let mut looks: Vec<Look> = Vec::new();
        let mut sent = 0;
        let ends = (1..=LOOKS).map(|look| self.requests * look / LOOKS);
        let full = UNTIL_FULL.min(self.requests);
        for until in std::iter::once(full).chain(ends.filter(|end| *end > full)) {
            while sent < until {
                let part = (until - sent).min(Self::PART);
                let answers = self.client.send(&mut invented, part, &self.stop)?;
                sent += answers.admitted;
                progress.at(sent, self.requests);
            }
            let stats = runtime.block_on(self.admin.stats("wasmcustom"))?;
            // Of the first request. If it is not there, the filter has seen no claims, and these are the figures of something else.
            ensure!(
                stats.contains(";.;plan=.=line_break__0_;.;"),
                "the proxy has not counted what tokens claim: {stats:.1000}"
            );
            let (series, counted) = counted(&stats);
            looks.push(Look {
                requests: sent,
                memory_bytes: self.process.resident()?,
                series,
                counted: counted - warm_up.admitted.min(counted),
            });
        }
        let memory = |look: Option<&Look>| look.map_or(before, |look| look.memory_bytes);
        let (first, last) = (memory(looks.first()), memory(looks.last()));
        let half = memory(looks.get(looks.len() / 2));
        let grown = |from: u64, to: u64| to.cast_signed() - from.cast_signed();
        Ok(Values {
            requests: sent,
            max_series: MAX_SERIES,
            memory_before_bytes: before,
            memory_after_bytes: last,
            grown_for_series_bytes: grown(before, first),
            grown_since_bytes: grown(first, last),
            grown_in_second_half_bytes: grown(half, last),
            looks,
        })
    }
}

/// How many series of the metric there are, and their sum.
fn counted(stats: &str) -> (u64, u64) {
    let lines = stats.lines().filter_map(|line| line.rsplit_once(": "));
    let values = lines
        .filter(|(name, _)| name.ends_with(&format!(";.;{METRIC}")))
        .filter_map(|(_, value)| value.trim().parse::<u64>().ok());
    values.fold((0, 0), |(series, sum), value| (series + 1, sum + value))
}

/// Requests with values that nobody has used before.
struct Invented {
    headers: [&'static str; 2],
    next: u64,
    bytes: Vec<u8>,
}

impl Invented {
    /// Under these headers: the value, and the claims.
    fn new(headers: [&'static str; 2]) -> Self {
        Self {
            headers,
            next: 0,
            bytes: Vec::new(),
        }
    }
}

impl Source for Invented {
    fn next(&mut self) -> &[u8] {
        let n = self.next;
        self.next += 1;
        let bytes = &mut self.bytes;
        bytes.clear();
        bytes.extend_from_slice(b"GET /products/7 HTTP/1.1\r\nhost: shop.example.com\r\n");
        let [shop, claims] = self.headers;
        let payload = STANDARD.encode(token(&said(n)));
        for (name, value) in [(shop, sent(n)), (claims, payload.into_bytes())] {
            bytes.extend_from_slice(name.as_bytes());
            bytes.extend_from_slice(b": ");
            bytes.extend_from_slice(&value);
            bytes.extend_from_slice(b"\r\n");
        }
        bytes.extend_from_slice(b"\r\n");
        bytes
    }
}

/// What a header can have: anything but control characters.
fn sent(n: u64) -> Vec<u8> {
    let digits = n.to_string();
    let digits = digits.as_bytes();
    let join = |parts: &[&[u8]]| parts.concat();
    match n % 8 {
        0 => join(&[&b"long-".repeat(400), digits]),
        // Just as long as a value may be.
        1 => join(&[&b"l".repeat(128 - digits.len()), digits]),
        2 => join(&[b"a;.;b=.=", digits, b";.;.c=."]),
        3 => join(&[b"cache.", digits, b".tag.wasm_filter.component."]),
        // No UTF-8 anywhere, and UTF-8 that breaks off.
        4 => join(&[b"\x80\xfe\xff\xc0", digits, b"\xf5\xc1"]),
        5 => join(&[b"\xe2\x82", digits, b"\xf0\x9f\x98"]),
        6 => join(&[b"\"{}\\,\t' ", digits, b" %00%0a"]),
        _ => join(&["żółć 😀 ".as_bytes(), digits]),
    }
}

/// What a claim can be: any text.
fn said(n: u64) -> String {
    match n % 6 {
        0 => format!("line\nbreak\r\n{n}\r"),
        1 => format!("\0{n}\u{1}\u{1b}[2J\u{7f}\u{85}"),
        2 => format!(";.;plan=.={n};.;"),
        3 => format!("{}{n}", "ż".repeat(1_000)),
        4 => format!("\u{2028}{n}\u{202e}\u{fffd}"),
        _ => format!("# TYPE {n}\nvalues_total{{}} 1\n"),
    }
}

/// `{"plan": TEXT}` as a `google.protobuf.Value`.
fn token(text: &str) -> Vec<u8> {
    let string = field(3, text.as_bytes());
    let entry = [field(1, PLAN.as_bytes()), field(2, &string)].concat();
    field(5, &field(1, &entry))
}

/// A field of a message: its number, how long it is, and its bytes.
fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
    let mut message = vec![number << 3 | 2];
    let mut length = bytes.len();
    while length > 0x7f {
        message.push(length as u8 | 0x80);
        length >>= 7;
    }
    message.push(length as u8);
    message.extend_from_slice(bytes);
    message
}

impl fmt::Display for Values {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let head = ["requests", "memory", "series", "counted"].map(str::to_owned);
        let memory = |bytes: u64| mebibytes(bytes.cast_signed());
        let nothing = [
            "0".to_owned(),
            memory(self.memory_before_bytes),
            String::new(),
            String::new(),
        ];
        let mut rows = vec![Row(head), Row(nothing)];
        rows.extend(self.looks.iter().map(|look| {
            Row([
                look.requests.to_string(),
                memory(look.memory_bytes),
                look.series.to_string(),
                look.counted.to_string(),
            ])
        }));
        writeln!(
            f,
            "business-metrics, which defines {} series, and requests with two invented values each",
            self.max_series
        )?;
        f.write_str(&table(&rows))?;
        writeln!(
            f,
            "The proxy's memory grew by {} until all series were there and by {} since, of which {} in the second half.",
            mebibytes(self.grown_for_series_bytes),
            mebibytes(self.grown_since_bytes),
            mebibytes(self.grown_in_second_half_bytes)
        )
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use prost_types::value::Kind;

    use super::*;

    #[test]
    fn no_value_comes_twice_and_a_request_is_one() {
        let mut invented = Invented::new([SHOP, CLAIMS]);
        let (mut headers, mut claims) = (BTreeSet::new(), BTreeSet::new());
        for n in 0..1_000 {
            assert!(headers.insert(sent(n)) && claims.insert(said(n)), "{n}");
            let request = invented.next();
            let head = request.strip_suffix(b"\r\n\r\n").unwrap();
            assert_eq!(head.windows(2).filter(|pair| pair == b"\r\n").count(), 3);
        }
        business_metrics::check(configuration().to_string().as_bytes()).unwrap();
    }

    #[test]
    fn a_token_is_what_envoy_takes_it_for() {
        for n in 0..6 {
            let token = <prost_types::Value as prost::Message>::decode(&*token(&said(n))).unwrap();
            let Some(Kind::StructValue(claims)) = token.kind else {
                panic!("{token:?}");
            };
            let expected = Some(Kind::StringValue(said(n)));
            assert_eq!(claims.fields[PLAN].kind, expected);
        }
    }

    #[test]
    fn series_are_counted_whatever_their_names_are() {
        let stats = "wasmcustom.shop=.=a: 1;.;status=.=200;.;values_total: 7\nwasmcustom.tollgate_folded_total: 9\n\
                     wasmcustom.shop=.=b;.;status=.=200;.;values_total: 3\nwasm.envoy.wasm.runtime.v8.active: 4\n";
        assert_eq!(counted(stats), (2, 10));
    }
}
