//! Over a thousand attempts to be somebody else, made up by a generator: none wins a class, a tenant, or a route that is for others.
//!
//! The shop as it ships, with a class `pilot` beside its own that a signed cookie keeps; the services are programs that say what they were sent. What they
//! are sent must be, name by name, what they are sent without the attempt. Another seed than the usual one is `TOLLGATE_TEST_SEED=7`.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail, ensure};
use futures::{StreamExt, stream};
use serde_json::{Value, json};
use tollgate_tests::frames::{self, Outcome};
use tollgate_tests::sticky::{cookie, is_in, named};
use tollgate_tests::tokens::Signer;
use tollgate_tests::{Filter, Form, LocalMesh, Manifests, Options, Target, send};

use crate::tokens::{forged, is_genuine};

const ATTEMPTS: usize = 2_000;
/// Under way at once: what is malformed Envoy keeps waiting for a second.
const AT_ONCE: usize = 32;
const SEED: u64 = 0x5EED_0F5B_00F5;

const KEPT: &str = "kept-pilot";
const SALT: &str = "spoofs";
const PILOT: (&str, &str, &str) = ("pilot", SALT, "claim sub");
const LIFETIME: u64 = 3_600;
const KEY: (&str, &str) = ("new", "0123456789abcdef0123456789abcdef");
const OLD_KEY: (&str, &str) = ("old", "fedcba9876543210fedcba9876543210");
const STRANGE_KEY: (&str, &str) = ("gone", "00000000000000001111111111111111");

/// What the filters and the gateway say of a request, in a name's plain spelling.
const OWNED: [&str; 5] = [
    "user-type",
    "x-tenant-id",
    "x-tenant-tier",
    "x-experiment",
    "x-pool",
];

/// Paths of the shop, each of another service. To the last one trailers come through.
const PATHS: [&str; 4] = ["/products", "/orders/dave", "/cart/dave", "/users/dave"];

/// In each certificate that a client makes up.
const FORGED: &str = "f0rged";

pub(crate) fn mesh(form: Form) -> Result<LocalMesh> {
    let manifests = Manifests::of(form)?;
    // Of one tenant and of nobody's come thousands of requests.
    manifests.lift_limits(&["anonymous", "globex"])?;
    let (classifier, indent) = Filter::UserClassifier.place(form);
    let keys = json!([KEY, OLD_KEY].map(|(id, secret)| json!({"id": id, "secret": secret})));
    let pilot = json!({
        "type": "pilot",
        "when": [
            {"claim": {"name": "plan", "exact": "pilot"}},
            {"percent": {"share": 50, "salt": SALT, "claim": "sub"}},
        ],
        "set": {"requestHeaders": {"x-experiment": "pilot", "x-pool": "pilot"}},
        "sticky": {"cookie": KEPT, "for": "1h"},
    });
    let trial = json!({
        "type": "trial",
        "when": {"percent": {"share": 50, "salt": "trial", "cookie": "visitor"}},
        "set": {"requestHeaders": {"x-experiment": "trial"}},
        "sticky": {"cookie": "kept-trial", "for": "1h"},
    });
    manifests.replace(
        classifier,
        &format!("\n{indent}rules:\n"),
        &format!(
            "\n{indent}selfAssignable: [trial]\n{indent}stickyKeys: {keys}\n{indent}rules:\n{indent}- {pilot}\n{indent}- {trial}\n"
        ),
    )?;
    // What a route does by chance says nothing of who somebody was taken for.
    for (file, most, few) in [("product", 90, 10), ("user", 95, 5)] {
        let file = format!("istio/routing/{file}-service.yaml");
        manifests.replace_all(&file, &format!("weight: {most}"), "weight: 100")?;
        manifests.replace_all(&file, &format!("weight: {few}\n"), "weight: 0\n")?;
    }
    manifests.replace(
        "services/kubernetes/user-service.yaml",
        "  - name: http\n    port: 3004\n",
        "  - name: http2\n    port: 3004\n",
    )?;
    let echo = env!("CARGO_BIN_EXE_echo");
    let run = ["product", "cart", "order", "user"].map(|name| format!("{name}-service={echo}"));
    LocalMesh::start(
        manifests,
        Options {
            run: run.into(),
            ..Options::default()
        },
    )
}

/// The same numbers for the same seed.
struct Random(u64);

impl Random {
    fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % n as u64) as usize
    }

    fn pick<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[self.below(of.len())]
    }

    fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }
}

type Field = (Vec<u8>, Vec<u8>);

fn field(name: &str, value: impl AsRef<[u8]>) -> Field {
    (name.as_bytes().to_vec(), value.as_ref().to_vec())
}

/// In which way somebody tries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Trick {
    Spelling,
    Several,
    Spaces,
    Folded,
    HopByHop,
    PseudoHeader,
    Trailer,
    Token,
    Tokens,
    Cookie,
    Outputs,
    Certificate,
}

const TRICKS: [Trick; 12] = [
    Trick::Spelling,
    Trick::Several,
    Trick::Spaces,
    Trick::Folded,
    Trick::HopByHop,
    Trick::PseudoHeader,
    Trick::Trailer,
    Trick::Token,
    Trick::Tokens,
    Trick::Cookie,
    Trick::Outputs,
    Trick::Certificate,
];

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Who {
    Nobody,
    /// A customer of globex, of the plan that pilots have, and not in their share.
    Mallory,
}

/// What those who try have at hand.
struct Stock {
    now: u64,
    mallory: String,
    insider: String,
    /// What each writes into `authorization`.
    of_mallory: String,
    of_insider: String,
    forged: Vec<(String, String)>,
    /// A cookie that the gateway gave the insider.
    stolen: String,
}

impl Stock {
    fn new(mesh: &LocalMesh) -> Result<Self> {
        let mallory = named("mallory", |name| !is_in(50, 100, SALT, name))?;
        let insider = named("ivy", |name| is_in(50, 100, SALT, name))?;
        let issuer = Signer::local(mesh.manifests())?;
        let of = |sub: &str| {
            let claims = json!({"sub": sub, "tenant": "globex", "plan": "pilot"});
            mesh.manifests().bearer_saying(&claims)
        };
        let (of_mallory, of_insider) = (of(&mallory)?, of(&insider)?);
        let genuine = of_mallory.strip_prefix("Bearer ").context("a bearer")?;
        let mut forged = forged(&issuer, genuine)?;
        forged.retain(|(what, _)| !is_genuine(what));
        Ok(Self {
            now: SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs(),
            mallory,
            insider,
            of_mallory,
            of_insider,
            forged,
            stolen: String::new(),
        })
    }

    /// A cookie that is right for somebody.
    fn right(&self, of: &str) -> String {
        cookie(KEY, KEPT, PILOT, of, self.now + LIFETIME / 2)
    }

    /// A cookie that says of Mallory what is not to be believed.
    fn forged_cookie(&self, random: &mut Random) -> String {
        let me = self.mallory.as_str();
        let end = self.now + LIFETIME / 2 + random.below(600) as u64;
        let over = self.now - random.below(9_000) as u64;
        let right = self.right(me);
        match random.below(14) {
            // Signed by somebody else.
            0 => cookie((KEY.0, STRANGE_KEY.1), KEPT, PILOT, me, end),
            1 => cookie(STRANGE_KEY, KEPT, PILOT, me, end),
            2 => cookie((STRANGE_KEY.0, KEY.1), KEPT, PILOT, me, end),
            3 => cookie((KEY.0, OLD_KEY.1), KEPT, PILOT, me, end),
            // For something else.
            4 => cookie(
                KEY,
                "kept-trial",
                ("trial", "trial", "cookie visitor"),
                me,
                end,
            ),
            5 => cookie(KEY, KEPT, ("vip", SALT, "claim sub"), me, end),
            6 => cookie(KEY, KEPT, ("pilot", "other", "claim sub"), me, end),
            // At another time.
            7 => cookie(KEY, KEPT, PILOT, me, over),
            8 => cookie(KEY, KEPT, PILOT, me, end + LIFETIME),
            // Of somebody else: as the gateway gave it, and as it could have given it.
            9 => self.stolen.clone(),
            10 => {
                let key = *random.pick(&[KEY, OLD_KEY]);
                cookie(key, KEPT, PILOT, &self.insider, end)
            }
            // Changed.
            11 => {
                let mut bytes = right.into_bytes();
                let at = random.below(bytes.len());
                bytes[at] = if bytes[at] == b'7' { b'8' } else { b'7' };
                String::from_utf8_lossy(&bytes).into_owned()
            }
            12 => {
                let cut = random.below(right.len());
                let cut = right.get(..cut).unwrap_or_default().to_owned();
                random
                    .pick(&[
                        cut,
                        format!("{right}0"),
                        format!("{right}."),
                        format!(".{right}"),
                    ])
                    .clone()
            }
            _ => {
                let (head, tail) = right.split_once('.').unwrap_or_default();
                let end = tail.split('.').next().unwrap_or_default();
                let all = [
                    String::new(),
                    "..".to_owned(),
                    "pilot".to_owned(),
                    format!("{head}.{end}."),
                    format!("{head}.+{tail}"),
                    format!("{head}.0{tail}"),
                    format!("{}.{tail}", OLD_KEY.0),
                    format!("{head}.18446744073709551615.{}", "0".repeat(32)),
                ];
                random.pick(&all).clone()
            }
        }
    }
}

/// A request of somebody who tries.
struct Attempt {
    tricks: Vec<Trick>,
    over_http2: bool,
    who: Who,
    path: String,
    connection: String,
    /// Over HTTP/2 they come first, unless a trick puts one elsewhere.
    pseudo: Vec<Field>,
    fields: Vec<Field>,
    trailers: Option<Vec<Field>>,
}

/// A header and what somebody would like it to say.
fn claim(random: &mut Random) -> (&'static str, &'static str) {
    *random.pick(&[
        ("user-type", "vip"),
        ("user-type", "premium"),
        ("user-type", "pilot"),
        ("x-tenant-id", "acme"),
        ("x-tenant-id", "initech"),
        ("x-tenant-tier", "premium"),
        ("x-experiment", "pilot"),
        ("x-pool", "pilot"),
    ])
}

/// A name as some server may read it for the same.
fn spelled(name: &str, random: &mut Random) -> String {
    let separator = *random.pick(&[
        '-', '_', '.', '~', '!', '#', '$', '%', '&', '\'', '*', '+', '^', '`', '|',
    ]);
    let one_only = random.one_in(3);
    let mut first = true;
    let case = random.below(4);
    name.chars()
        .map(|c| match c {
            '-' if one_only && !std::mem::take(&mut first) => '-',
            '-' => separator,
            c if case == 1 || (case == 2 && random.one_in(2)) => c.to_ascii_uppercase(),
            c => c,
        })
        .collect()
}

/// Words that servers read loosely, in a value.
fn loosely(value: &str, random: &mut Random) -> Vec<u8> {
    let mut bytes = match random.below(6) {
        0 => value.to_uppercase(),
        1 => format!("\"{value}\""),
        2 => format!("standard, {value}"),
        3 => format!("{value},standard"),
        _ => value.to_owned(),
    }
    .into_bytes();
    if random.one_in(8) {
        bytes.push(*random.pick(b"\xff\xa0;=\x80"));
    }
    bytes
}

impl Attempt {
    fn new(number: usize, random: &mut Random, stock: &Stock) -> Self {
        let first = TRICKS[number % TRICKS.len()];
        let mut tricks = vec![first];
        while random.one_in(3) {
            tricks.push(*random.pick(&TRICKS));
        }
        let mut attempt = Self {
            tricks: tricks.clone(),
            over_http2: random.one_in(2),
            who: *random.pick(&[Who::Nobody, Who::Mallory]),
            path: (*random.pick(&PATHS)).to_owned(),
            connection: "close".to_owned(),
            pseudo: Vec::new(),
            fields: Vec::new(),
            trailers: None,
        };
        // Where there is a share of Mallory to be won, it is Mallory who tries.
        if tricks.contains(&Trick::Cookie) {
            attempt.who = Who::Mallory;
        }
        for (name, value) in [
            (":method", "GET"),
            (":scheme", "http"),
            (":authority", "shop.example.com"),
        ] {
            attempt.pseudo.push(field(name, value));
        }
        if attempt.who == Who::Mallory {
            attempt
                .fields
                .push(field("authorization", &stock.of_mallory));
        }
        for trick in tricks {
            attempt.play(trick, random, stock);
        }
        let path = field(":path", attempt.path.replace(' ', "%20"));
        let at = random.below(attempt.pseudo.len() + 1).min(3);
        attempt.pseudo.insert(at, path);
        attempt
    }

    /// Adds a field somewhere.
    fn add(&mut self, field: Field, random: &mut Random) {
        let at = random.below(self.fields.len() + 1);
        self.fields.insert(at, field);
    }

    fn play(&mut self, trick: Trick, random: &mut Random, stock: &Stock) {
        let (name, value) = claim(random);
        match trick {
            Trick::Spelling => {
                let field = field(&spelled(name, random), loosely(value, random));
                self.add(field, random);
            }
            Trick::Several => {
                for _ in 0..2 + random.below(4) {
                    let value = if random.one_in(4) { "standard" } else { value };
                    let field = field(&spelled(name, random), loosely(value, random));
                    self.add(field, random);
                }
            }
            Trick::Spaces => {
                let spaces = [" ", "\t", "  ", " \t ", "\t\t", ""];
                let (before, after) = (*random.pick(&spaces), *random.pick(&spaces));
                let mut name = spelled(name, random);
                match random.below(6) {
                    0 => name.push(' '),
                    1 => name.push('\t'),
                    2 => name.insert(0, ' '),
                    _ => {}
                }
                self.add(field(&name, format!("{before}{value}{after}")), random);
            }
            Trick::Folded => {
                let name = spelled(name, random);
                let all = [
                    (name.clone(), format!("\r\n {value}")),
                    (name.clone(), format!("standard\r\n\t{value}")),
                    (name.clone(), format!("{value}\r\n \r\n ")),
                    ("x-note".to_owned(), format!("a\r\n {name}: {value}")),
                    ("x-note".to_owned(), format!("a\r\n{name}: {value}")),
                    ("x-note".to_owned(), format!("a\n{name}: {value}")),
                    ("x-note".to_owned(), format!("a\r{name}: {value}")),
                    ("x-note".to_owned(), format!("a\0\r\n{name}: {value}")),
                ];
                let (name, value) = random.pick(&all);
                self.add(field(name, value), random);
            }
            Trick::HopByHop => {
                let owned = random.pick(&[
                    "user-type",
                    "x-tenant-id",
                    "x-tenant-tier",
                    "authorization",
                    "end-user",
                    "cookie",
                ]);
                let listed = if random.one_in(2) {
                    owned.to_uppercase()
                } else {
                    (*owned).to_owned()
                };
                self.connection = random
                    .pick(&[
                        format!("close, {listed}"),
                        format!("{listed}, close"),
                        format!("close,{listed},te"),
                    ])
                    .clone();
                if self.over_http2 {
                    self.add(field("connection", &listed), random);
                }
                if random.one_in(2) {
                    self.add(field(&spelled(name, random), value), random);
                }
            }
            Trick::PseudoHeader => {
                let extra = match random.below(8) {
                    0 => field(&format!(":{name}"), value),
                    1 => field(&format!(":{}", spelled(name, random)), value),
                    2 => field(":path", "/products"),
                    3 => field(":authority", format!("shop\r\n{name}: {value}")),
                    4 => field(":protocol", value),
                    5 => field(":status", "200"),
                    6 => field(":scheme", format!("http\r\n{name}: {value}")),
                    _ => field("", value),
                };
                if random.one_in(2) {
                    self.add(extra, random);
                } else {
                    let at = random.below(self.pseudo.len() + 1);
                    self.pseudo.insert(at, extra);
                }
                if random.one_in(3) {
                    self.path += &format!("?a= HTTP/1.1\r\n{name}: {value}\r\nx: ");
                }
            }
            Trick::Trailer => {
                let trailers = self.trailers.get_or_insert_default();
                for _ in 0..1 + random.below(3) {
                    let (name, value) = claim(random);
                    trailers.push(field(&spelled(name, random), loosely(value, random)));
                }
                match random.below(6) {
                    0 => trailers.push(field(":path", "/orders/dave")),
                    1 => trailers.push(field("authorization", &stock.of_insider)),
                    2 => trailers.push(field("cookie", format!("{KEPT}={}", stock.stolen))),
                    _ => {}
                }
                if random.one_in(3) {
                    self.add(field("trailer", name), random);
                }
            }
            Trick::Token => {
                let (_, token) = random.pick(&stock.forged);
                match random.below(5) {
                    0 => self.query("access_token", token),
                    1 => self.add(field("Authorization", format!("bearer {token}")), random),
                    2 => self.add(field("authorization", format!("Bearer  {token}\t")), random),
                    _ => self.add(field("authorization", format!("Bearer {token}")), random),
                }
            }
            Trick::Tokens => {
                let (one, other) = (
                    &random.pick(&stock.forged).1.clone(),
                    &random.pick(&stock.forged).1.clone(),
                );
                match random.below(5) {
                    0 => {
                        self.query("access_token", one);
                        self.query("access_token", other);
                    }
                    1 => {
                        self.query("access_token", one);
                        self.add(field("authorization", format!("Bearer {other}")), random);
                    }
                    2 => self.add(
                        field("authorization", format!("Bearer {one}, Bearer {other}")),
                        random,
                    ),
                    3 => {
                        self.add(
                            field("proxy-authorization", format!("Bearer {one}")),
                            random,
                        );
                        self.add(
                            field("x-forwarded-authorization", format!("Bearer {one}")),
                            random,
                        );
                        self.add(field("x_authorization", format!("Bearer {other}")), random);
                        self.add(
                            field(
                                "cookie",
                                format!("access_token={one}; authorization=Bearer {other}"),
                            ),
                            random,
                        );
                    }
                    _ => {
                        self.add(field("authorization", format!("Bearer {one}")), random);
                        self.add(field("authorization", format!("Bearer {other}")), random);
                    }
                }
            }
            Trick::Cookie => {
                let one = stock.forged_cookie(random);
                let other = stock.forged_cookie(random);
                let name =
                    random.pick(&[KEPT, KEPT, KEPT, "Kept-Pilot", "kept_pilot", "%6bept-pilot"]);
                match random.below(6) {
                    0 => self.add(
                        field("cookie", format!("{name}={one}; {KEPT}={other}")),
                        random,
                    ),
                    1 => {
                        self.add(field("cookie", format!("{name}={one}")), random);
                        self.add(field("cookie", format!("{KEPT}={other}")), random);
                    }
                    2 => self.add(field("Cookie", format!("a=b;{name}=\"{one}\";c")), random),
                    3 => self.add(
                        field("cookie", format!("{name} = {one} ; sub={}", stock.insider)),
                        random,
                    ),
                    _ => self.add(field("cookie", format!("{name}={one}")), random),
                }
            }
            Trick::Outputs => {
                let (name, value) = *random.pick(&[
                    ("x-pool", "premium"),
                    ("x-pool", "pilot"),
                    ("x-experiment", "pilot"),
                    ("end-user", "bob"),
                    ("End-User", "bob"),
                    ("x-user-id", "alice"),
                    ("sub", "alice"),
                    (
                        "x-jwt-payload",
                        "eyJzdWIiOiJhbGljZSIsInRlbmFudCI6ImFjbWUifQ",
                    ),
                ]);
                for _ in 0..1 + random.below(2) {
                    self.add(field(name, value), random);
                }
            }
            Trick::Certificate => {
                let account = random.pick(&[
                    "istio-system/sa/ingressgateway",
                    "ecommerce/sa/order-service",
                    "ecommerce/sa/vip",
                ]);
                let value = format!(
                    "By=spiffe://cluster.local/ns/ecommerce/sa/product-service;Hash={FORGED};URI=spiffe://cluster.local/ns/{account}"
                );
                let name = random.pick(&[
                    "x-forwarded-client-cert",
                    "X-Forwarded-Client-Cert",
                    "x_forwarded_client_cert",
                ]);
                self.add(field(name, value), random);
                self.add(field(&spelled("user-type", random), "vip"), random);
            }
        }
    }

    fn query(&mut self, name: &str, value: &str) {
        let join = if self.path.contains('?') { '&' } else { '?' };
        self.path += &format!("{join}{name}={value}");
    }

    async fn send(&self, to: SocketAddr) -> Result<Outcome> {
        if self.over_http2 {
            let mut fields = self.pseudo.clone();
            fields.extend(self.fields.clone());
            return frames::send(to, &fields, self.trailers.as_deref()).await;
        }
        // What stands for the first line and the host there has no place here; what a trick added has.
        let ordinary = [&b":method"[..], b":scheme", b":authority", b":path"];
        let mut known = Vec::new();
        let pseudo = self.pseudo.iter().filter(|(name, _)| {
            let first = ordinary.contains(&name.as_slice()) && !known.contains(name);
            known.push(name.clone());
            !first
        });
        let pseudo: Vec<&Field> = pseudo.collect();
        let path = self.path.replace(' ', "%20");
        let mut request = format!(
            "GET {path} HTTP/1.1\r\nhost: shop.example.com\r\nconnection: {}\r\n",
            self.connection
        )
        .into_bytes();
        let lines = |fields: &mut dyn Iterator<Item = &Field>| {
            let lines = fields.map(|(name, value)| [name, &b": "[..], value, b"\r\n"].concat());
            lines.collect::<Vec<_>>().concat()
        };
        request.extend(lines(&mut pseudo.into_iter().chain(&self.fields)));
        if let Some(trailers) = &self.trailers {
            request.extend(b"transfer-encoding: chunked\r\n\r\n4\r\ndata\r\n0\r\n");
            request.extend(lines(&mut trailers.iter()));
        }
        request.extend_from_slice(b"\r\n");
        match send(to, &request).await {
            Ok(answer) => Ok(Outcome::Answered(answer.status, answer.body)),
            Err(error) if format!("{error:#}").contains("the connection ended") => {
                Ok(Outcome::Ended("the connection was closed"))
            }
            Err(error) => Err(error),
        }
    }

    fn tell(&self) -> String {
        let all = |fields: &[Field]| {
            let lines = fields.iter().map(|(name, value)| {
                format!("  {}: {}\n", name.escape_ascii(), value.escape_ascii())
            });
            lines.collect::<String>()
        };
        format!(
            "{:?} of {:?} over HTTP/{}, {:?}, connection {:?}\n{}{}trailers\n{}",
            self.tricks,
            self.who,
            if self.over_http2 { 2 } else { 1 },
            self.path,
            self.connection,
            all(&self.pseudo),
            all(&self.fields),
            all(self.trailers.as_deref().unwrap_or_default()),
        )
    }
}

/// Who a request was taken for, by what a service was sent and by which of its pods.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Seen {
    pod: String,
    owned: Vec<(String, String)>,
    trailers: Vec<String>,
    forged: Vec<String>,
}

impl Seen {
    fn read(body: &str) -> Result<Self> {
        let told: Value =
            serde_json::from_str(body).with_context(|| format!("no service answered {body:?}"))?;
        let fields = |of: &str| {
            let fields = told[of].as_array().into_iter().flatten();
            let fields = fields.filter_map(|field| {
                Some((field[0].as_str()?.to_owned(), field[1].as_str()?.to_owned()))
            });
            fields.collect::<Vec<_>>()
        };
        let is_owned = |name: &str| {
            let plain = name
                .to_ascii_lowercase()
                .replace(|c: char| !c.is_ascii_alphanumeric(), "-");
            OWNED.contains(&plain.as_str()) || name.eq_ignore_ascii_case("end-user")
        };
        let headers = fields("headers");
        let mut owned = headers.clone();
        owned.retain(|(name, _)| is_owned(name));
        owned.sort();
        let trailers = fields("trailers")
            .into_iter()
            .map(|(name, _)| name)
            .filter(|name| is_owned(name));
        let forged = headers.into_iter().filter(|(name, value)| {
            name.eq_ignore_ascii_case("x-forwarded-client-cert") && value.contains(FORGED)
        });
        Ok(Self {
            pod: told["pod"].as_str().context("no pod")?.to_owned(),
            owned,
            trailers: trailers.collect(),
            forged: forged.map(|(_, value)| value).collect(),
        })
    }

    fn says(&self, name: &str) -> Option<&str> {
        let mut copies = self.owned.iter().filter(|(own, _)| own == name);
        copies.next().map(|(_, value)| value.as_str())
    }
}

/// What a service is sent for an honest request.
async fn honest(
    gateway: SocketAddr,
    path: &str,
    headers: &[(&str, &str)],
) -> Result<(Seen, Option<String>)> {
    let headers: Vec<(&[u8], &[u8])> = headers
        .iter()
        .map(|(name, value)| (name.as_bytes(), value.as_bytes()))
        .collect();
    let answer = tollgate_tests::exchange(gateway, path, &headers).await?;
    ensure!(answer.status == 200, "{path} {headers:?}: {answer:?}");
    let cookie = answer
        .header("set-cookie")
        .and_then(|cookie| cookie.split(';').next());
    Ok((Seen::read(&answer.body)?, cookie.map(str::to_owned)))
}

/// What is to be won: if nobody could win it, nothing would be proven. Returns the cookie that the insider was given.
async fn what_is_to_be_won(mesh: &LocalMesh, stock: &Stock) -> Result<String> {
    let gateway = mesh.gateway_address()?;
    let alice = mesh.bearer("alice", "acme")?;
    let (seen, _) = honest(gateway, "/products", &[("authorization", &alice)]).await?;
    ensure!(
        seen.says("user-type") == Some("vip")
            && seen.says("x-tenant-id") == Some("acme")
            && seen.says("x-tenant-tier") == Some("premium")
            && seen.pod.contains("v2"),
        "alice is {seen:?}"
    );
    let (seen, _) = honest(gateway, "/orders/dave", &[("authorization", &alice)]).await?;
    ensure!(seen.pod.contains("premium"), "an order of acme: {seen:?}");
    let bob = mesh.bearer("bob", "acme")?;
    let (seen, _) = honest(gateway, "/cart/dave", &[("authorization", &bob)]).await?;
    ensure!(
        seen.pod.contains("v2") && seen.says("end-user") == Some("bob"),
        "a cart of bob: {seen:?}"
    );
    let is_pilot = |seen: &Seen| {
        ["user-type", "x-experiment", "x-pool"]
            .iter()
            .all(|name| seen.says(name) == Some("pilot"))
    };
    let (seen, given) = honest(
        gateway,
        "/products",
        &[("authorization", &stock.of_insider)],
    )
    .await?;
    ensure!(is_pilot(&seen), "who is in the share: {seen:?}");
    let given = given.context("the insider was given no cookie")?;
    // What is signed with the gateway's keys for the one who brings it counts, also once more: so signatures are what all others lack.
    for key in [KEY, OLD_KEY] {
        let own = cookie(key, KEPT, PILOT, &stock.mallory, stock.now + LIFETIME / 2);
        let own = format!("{KEPT}={own}");
        for _ in 0..2 {
            let headers = [
                ("authorization", stock.of_mallory.as_str()),
                ("cookie", own.as_str()),
            ];
            let (seen, _) = honest(gateway, "/products", &headers).await?;
            ensure!(is_pilot(&seen), "with a cookie of Mallory's own: {seen:?}");
        }
    }
    let stolen = given.strip_prefix(&format!("{KEPT}="));
    Ok(stolen
        .with_context(|| format!("the cookie {given}"))?
        .to_owned())
}

pub(crate) async fn a_thousand_attempts_win_no_class_and_no_tenant(mesh: &LocalMesh) -> Result<()> {
    let gateway = mesh.gateway_address()?;
    let mut stock = Stock::new(mesh)?;
    stock.stolen = what_is_to_be_won(mesh, &stock).await?;
    let mut expected = BTreeMap::new();
    for path in PATHS {
        let (nobody, _) = honest(gateway, path, &[]).await?;
        let (mallory, _) = honest(gateway, path, &[("authorization", &stock.of_mallory)]).await?;
        for (seen, tenant) in [(&nobody, "anonymous"), (&mallory, "globex")] {
            ensure!(
                seen.says("user-type") == Some("standard")
                    && seen.says("x-tenant-id") == Some(tenant)
                    && seen.owned.len() <= 4,
                "{path}: {seen:?}"
            );
        }
        ensure!(
            mallory.says("end-user") == Some(&stock.mallory),
            "{mallory:?}"
        );
        expected.insert((path, Who::Mallory), vec![mallory, nobody.clone()]);
        expected.insert((path, Who::Nobody), vec![nobody]);
    }

    let seed = match std::env::var("TOLLGATE_TEST_SEED") {
        Ok(seed) => seed.parse().context("TOLLGATE_TEST_SEED is no number")?,
        Err(_) => SEED,
    };
    let mut random = Random(seed.max(1));
    let mut counts: BTreeMap<Trick, [usize; 3]> = BTreeMap::new();
    let mut statuses: BTreeMap<u16, usize> = BTreeMap::new();
    // All are made up before the first is sent, so that the same seed makes the same.
    let attempts: Vec<Attempt> = (0..ATTEMPTS)
        .map(|number| Attempt::new(number, &mut random, &stock))
        .collect();
    let sent = attempts.iter().enumerate();
    let sent =
        sent.map(|(number, attempt)| async move { (number, attempt, attempt.send(gateway).await) });
    let mut outcomes = stream::iter(sent).buffer_unordered(AT_ONCE);
    while let Some((number, attempt, outcome)) = outcomes.next().await {
        let told = || format!("attempt {number} of seed {seed}: {}", attempt.tell());
        let outcome = outcome.with_context(told)?;
        let place = match outcome {
            Outcome::Answered(200, body) => {
                let seen = Seen::read(&body).with_context(told)?;
                let path = PATHS.iter().find(|path| attempt.path.starts_with(*path));
                // A second `:path` may be the one that counts.
                let honest = path.and_then(|path| expected.get(&(*path, attempt.who)));
                if !honest.context("no such path")?.contains(&seen) {
                    bail!("{}\nwas taken for {seen:?}", told());
                }
                *statuses.entry(200).or_default() += 1;
                0
            }
            Outcome::Answered(status, body) => {
                ensure!(
                    [400, 401, 403, 404].contains(&status),
                    "{}\nwas answered {status} {body}",
                    told()
                );
                *statuses.entry(status).or_default() += 1;
                1
            }
            Outcome::Ended(_) => 2,
        };
        for trick in &attempt.tricks {
            counts.entry(*trick).or_default()[place] += 1;
        }
    }
    let answered: usize = statuses.values().sum();
    eprintln!(
        "{ATTEMPTS} attempts of seed {seed}, of which {answered} were answered: {statuses:?}; arrived, refused, ended: {counts:?}"
    );
    ensure!(
        answered >= 1_000,
        "only {answered} were answered: {statuses:?}"
    );
    let arrived = statuses.get(&200).copied().unwrap_or_default();
    ensure!(
        arrived >= 500,
        "only {arrived} came to a service: {statuses:?}"
    );
    for trick in TRICKS {
        let [arrived, refused, ended] = counts.get(&trick).copied().unwrap_or_default();
        ensure!(
            arrived + refused + ended >= 100,
            "{trick:?} was tried too seldom: {counts:?}"
        );
        // Envoy itself refuses whatever it takes for a pseudo-header that has no place there.
        ensure!(
            arrived > 0 || trick == Trick::PseudoHeader,
            "none with {trick:?} came to a service: {counts:?}"
        );
    }
    // It is still to be won by those whom it is for.
    what_is_to_be_won(mesh, &stock)
        .await
        .context("afterwards")?;
    Ok(())
}
