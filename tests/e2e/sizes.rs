//! Tokens of any size and shape at the gateway: none matches what it should not, and none hurts. Run on the mesh of [`classes`](crate::classes).
//!
//! Envoy takes no head of a request that is larger than 60 KiB, and Istio has no field for another limit. What the filters make of a token that is larger is seen
//! on an Envoy by itself, which takes 8 MiB.

use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tollgate_tests::frames::{self, Outcome};
use tollgate_tests::{LocalMesh, Target, envoy, exchange, repository, tollgate};

use crate::shared::block_on;
use crate::vouched::{ISSUER, signer, token};

type Test = fn() -> Result<()>;

pub(crate) const TESTS: &[(&str, Test)] = &[(
    "a_megabyte_of_a_token_is_read_where_envoy_takes_it",
    a_megabyte_is_read,
)];

/// What Envoy takes of a request's head, unless it is told otherwise: Istio does not.
const HEAD: usize = 60 << 10;

/// What a service says that it was sent; nothing if the gateway did not let the request through.
async fn over_http1(
    gateway: SocketAddr,
    path: &str,
    headers: &[(&str, &str)],
) -> Result<(u16, Option<String>)> {
    let headers: Vec<(&[u8], &[u8])> = headers
        .iter()
        .map(|(name, value)| (name.as_bytes(), value.as_bytes()))
        .collect();
    let answer = exchange(gateway, path, &headers).await?;
    let class = answer
        .header("x-headers")
        .and_then(|said| said.split(';').next());
    Ok((answer.status, class.map(str::to_owned)))
}

pub(crate) async fn a_token_of_any_size_is_answered(mesh: &LocalMesh) -> Result<()> {
    let gateway = mesh.gateway_address()?;
    let mut seen = Vec::new();
    for size in [
        1 << 10,
        10 << 10,
        30 << 10,
        40 << 10,
        64 << 10,
        100 << 10,
        300 << 10,
        1 << 20,
        4 << 20,
    ] {
        // The claim that counts is behind the long one.
        let long = "x".repeat(size);
        // Each may send ten at once.
        let tenant = format!("size-{size}");
        let sized = token(&json!({"long": long, "plan": "vip", "tenant": tenant}))?;
        let vip = format!(
            "Bearer {}",
            token(&json!({"plan": "vip", "tenant": tenant}))?
        );
        let bearer = format!("Bearer {sized}");
        let in_query = format!("/users/alice?access_token={sized}");
        let fits = sized.len() + 1_000 < HEAD;
        for (place, path, headers) in [
            (
                "header",
                "/users/alice",
                vec![("authorization", bearer.as_str())],
            ),
            ("query", in_query.as_str(), vec![]),
        ] {
            let what = format!("{size} bytes in the {place}, {} of a token", sized.len());
            match over_http1(gateway, path, &headers).await {
                Ok((status, class)) => {
                    let expected = if fits {
                        (200, Some("user-type=vip"))
                    } else {
                        (431, None)
                    };
                    ensure!(
                        (status, class.as_deref()) == expected,
                        "{what}: {status}, {class:?}"
                    );
                    seen.push((size, place, status.to_string()));
                }
                // Envoy answers and closes before it has read all of it, and then the answer may be lost.
                Err(_) if !fits => seen.push((size, place, "closed".to_owned())),
                Err(error) => return Err(error.context(what)),
            }
        }
        let field = |name: &str, value: &str| (name.as_bytes().to_vec(), value.as_bytes().to_vec());
        let fields = [
            field(":method", "GET"),
            field(":scheme", "http"),
            field(":authority", "shop"),
            field(":path", "/users/alice"),
            field("authorization", &bearer),
        ];
        match frames::send(gateway, &fields, None).await? {
            Outcome::Answered(status, body) => {
                ensure!(
                    status == if fits { 200 } else { 431 },
                    "{size} bytes over HTTP/2: {status} {body:.300}"
                );
                seen.push((size, "HTTP/2", status.to_string()));
            }
            Outcome::Ended(how) => {
                ensure!(!fits, "{size} bytes over HTTP/2: {how}");
                seen.push((size, "HTTP/2", how.to_owned()));
            }
        }
        // The next one is fine, each time.
        for _ in 0..4 {
            let (status, class) =
                over_http1(gateway, "/users/alice", &[("authorization", &vip)]).await?;
            ensure!(
                status == 200 && class.as_deref() == Some("user-type=vip"),
                "after {size} bytes: {status}, {class:?}"
            );
        }
    }
    eprintln!("tokens by size: {seen:?}");
    let told = seen.iter().any(|(_, _, how)| how == "431");
    ensure!(told, "nobody was told that it is too much: {seen:?}");
    crate::hostile::no_vm_has_failed(mesh).await
}

pub(crate) async fn a_token_of_any_shape_is_answered(mesh: &LocalMesh) -> Result<()> {
    let gateway = mesh.gateway_address()?;
    let nested = |depth: usize| {
        let objects = (0..depth).fold(json!("vip"), |inner, _| json!({ "plan": inner }));
        let lists = (0..depth).fold(json!("staff"), |inner, _| json!([inner]));
        [objects, lists]
    };
    let years = |years: Value| json!({"account": {"years": years}});
    let mut cases = vec![
        // Eight bytes, as a number has; these are those of ten. And one, as a bool has.
        (years(json!("12345678")), Some("standard")),
        (
            years(json!("\u{0}\u{0}\u{0}\u{0}\u{0}\u{0}$@")),
            Some("standard"),
        ),
        (years(json!(10)), Some("vip")),
        (years(json!("")), Some("standard")),
        (years(json!(null)), Some("standard")),
        (years(json!([10])), Some("standard")),
        (json!({"flag": "\u{1}"}), Some("standard")),
        (json!({"flag": "1"}), Some("standard")),
        (json!({"flag": ""}), Some("standard")),
        (json!({"flag": null}), Some("standard")),
        (json!({"flag": [true]}), Some("standard")),
        (json!({"flag": true}), Some("flagged")),
        (json!({"plan": ""}), Some("standard")),
        (json!({"plan": null}), Some("standard")),
        (json!({"nick": null}), Some("standard")),
        (json!({"groups": null}), Some("standard")),
        (json!({"groups": [null]}), Some("standard")),
        (json!({"groups": [null, null, "staff"]}), Some("staff")),
        (json!({"groups": [[null, "staff"]]}), Some("standard")),
        (
            json!({"plan": "vip", "a": [null, {"b": null}], "c": null}),
            Some("vip"),
        ),
        (
            json!({"plan": "vip", "": "", "many": vec![json!({"a": null}); 500]}),
            Some("vip"),
        ),
    ];
    for depth in [2, 10, 50, 90, 1_000] {
        let [objects, lists] = nested(depth);
        cases.push((json!({"plan": objects}), None));
        cases.push((json!({"groups": lists}), None));
    }
    let vip = token(&json!({"plan": "vip", "tenant": "shapes"}))?;
    let vip = format!("Bearer {vip}");
    let mut refused = 0;
    for (number, (claims, expected)) in cases.iter_mut().enumerate() {
        // Each may send ten at once.
        claims["tenant"] = json!(format!("shape-{number}"));
        let bearer = format!("Bearer {}", token(claims)?);
        let (status, class) =
            over_http1(gateway, "/users/alice", &[("authorization", &bearer)]).await?;
        match expected {
            Some(expected) => ensure!(
                status == 200 && class == Some(format!("user-type={expected}")),
                "{claims:.200}: {status}, {class:?}"
            ),
            // Envoy reads no token that is too deep.
            None => ensure!(
                status == 401 || (status == 200 && class.as_deref() == Some("user-type=standard")),
                "{claims:.200}: {status}, {class:?}"
            ),
        }
        refused += u32::from(status == 401);
    }
    eprintln!(
        "{} tokens of odd shapes, of which {refused} were refused by Envoy",
        cases.len()
    );
    let (status, class) = over_http1(gateway, "/users/alice", &[("authorization", &vip)]).await?;
    ensure!(
        status == 200 && class.as_deref() == Some("user-type=vip"),
        "afterwards: {status}, {class:?}"
    );
    crate::hostile::no_vm_has_failed(mesh)
        .await
        .context("afterwards")
}

/// An Envoy by itself; it ends with this.
struct Alone {
    envoy: Child,
    admin: SocketAddr,
    listeners: Vec<SocketAddr>,
    _folder: tempfile::TempDir,
}

impl Drop for Alone {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.envoy.kill();
        let _ = self.envoy.wait();
    }
}

/// What a command of the tool prints.
fn printed(args: &[&str]) -> Result<String> {
    let output = Command::new(tollgate()?)
        .current_dir(repository())
        .args(args)
        .stderr(Stdio::inherit())
        .output()?;
    ensure!(output.status.success(), "tollgate {args:?} failed");
    Ok(String::from_utf8(output.stdout)?.trim_end().to_owned())
}

impl Alone {
    /// With a listener for each of these chains of modules and configurations, which verifies tokens and says what became of a request.
    fn start(chains: &[&[(&Path, Value)]]) -> Result<Self> {
        // Held until all are known, so that no two are one.
        let held = (0..=chains.len()).map(|_| TcpListener::bind("127.0.0.1:0"));
        let held: Vec<TcpListener> = held.collect::<std::io::Result<_>>()?;
        let addresses = held.iter().map(TcpListener::local_addr);
        let mut listeners: Vec<SocketAddr> = addresses.collect::<std::io::Result<_>>()?;
        let admin = listeners.pop().context("an address")?;
        let at = |address: SocketAddr| json!({"socket_address": {"address": "127.0.0.1", "port_value": address.port()}});
        let all = chains.iter().zip(&listeners).map(|(chain, address)| {
            let listener: Result<Value> = Ok(json!({"address": at(*address), "filter_chains": [{"filters": [connections(chain)?]}]}));
            listener
        });
        let all: Vec<Value> = all.collect::<Result<_>>()?;
        let bootstrap =
            json!({"admin": {"address": at(admin)}, "static_resources": {"listeners": all}});
        let folder = tempfile::tempdir()?;
        let file = folder.path().join("envoy.json");
        std::fs::write(&file, bootstrap.to_string())?;
        let program = match envoy()? {
            Some(envoy) => envoy.to_owned(),
            None => printed(&["envoy"])?.into(),
        };
        drop(held);
        let envoy = Command::new(program)
            .arg("--config-path")
            .arg(&file)
            .args([
                "--concurrency",
                "1",
                "--disable-hot-restart",
                "--log-level",
                "error",
            ])
            .spawn()?;
        Ok(Self {
            envoy,
            admin,
            listeners,
            _folder: folder,
        })
    }

    /// Awaits that it serves.
    async fn ready(&mut self) -> Result<()> {
        let deadline = Instant::now() + Duration::from_secs(120);
        loop {
            if let Ok(answer) = exchange(self.admin, "/ready", &[]).await
                && answer.status == 200
            {
                return Ok(());
            }
            let ended = self.envoy.try_wait()?;
            ensure!(ended.is_none(), "Envoy ended: {ended:?}");
            ensure!(Instant::now() < deadline, "Envoy does not serve");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

/// A connection manager that verifies tokens as the mesh has it done, and whose answers say whom the filters took a request for.
fn connections(chain: &[(&Path, Value)]) -> Result<Value> {
    let filter = |name: &str, of: &str, mut config: Value| {
        config["@type"] = json!(format!("type.googleapis.com/envoy.extensions.filters.{of}"));
        json!({"name": name, "typed_config": config})
    };
    let mut filters = vec![filter(
        "envoy.filters.http.jwt_authn",
        "http.jwt_authn.v3.JwtAuthentication",
        json!({
            "providers": {"tests": {
                "issuer": ISSUER,
                "local_jwks": {"inline_string": signer()?.jwks()?},
                "payload_in_metadata": "payload",
            }},
            "rules": [{"match": {"prefix": "/"}, "requires": {"provider_name": "tests"}}],
        }),
    )];
    for (number, (module, configuration)) in chain.iter().enumerate() {
        let name = format!("plugin-{number}");
        let configuration = json!({"@type": "type.googleapis.com/google.protobuf.StringValue", "value": configuration.to_string()});
        let vm =
            json!({"runtime": "envoy.wasm.runtime.v8", "code": {"local": {"filename": module}}});
        let config = json!({"name": name, "vm_config": vm, "configuration": configuration, "failure_policy": "FAIL_RELOAD"});
        filters.push(filter(
            &name,
            "http.wasm.v3.Wasm",
            json!({"config": config}),
        ));
    }
    filters.push(filter(
        "envoy.filters.http.router",
        "http.router.v3.Router",
        json!({}),
    ));
    let said = ["user-type", "x-tenant-id"].map(
        |name| json!({"header": {"key": format!("x-{name}"), "value": format!("%REQ({name})%")}}),
    );
    Ok(filter(
        "envoy.filters.network.http_connection_manager",
        "network.http_connection_manager.v3.HttpConnectionManager",
        json!({
            "stat_prefix": "tests",
            "max_request_headers_kb": 8192,
            "http_filters": filters,
            "route_config": {"virtual_hosts": [{
                "name": "all",
                "domains": ["*"],
                "routes": [{"match": {"prefix": "/"}, "direct_response": {"status": 200}, "response_headers_to_add": said}],
            }]},
        }),
    ))
}

fn a_megabyte_is_read() -> Result<()> {
    let built: Vec<String> = printed(&["build"])?.lines().map(str::to_owned).collect();
    let module = |name: &str| {
        let file = format!("{name}.wasm");
        let mut words = built.iter().flat_map(|line| line.split_whitespace());
        let path = words.find(|word| word.ends_with(&file));
        let path = path.with_context(|| format!("no {file} among {built:?}"))?;
        anyhow::Ok(repository().join(path))
    };
    let classifier = json!({
        "default": "standard",
        "tenant": {"vouched": true},
        "rules": [
            {"type": "huge", "when": {"claim": {"name": "long", "in": ["x", "y"]}}},
            {"type": "matched", "when": {"claim": {"name": "long", "regex": "x+"}}},
            {"type": "numbered", "when": {"claim": {"name": "long", "number": {"atLeast": 0}}}},
            {"type": "staff", "when": {"claim": {"name": "groups", "contains": {"exact": "staff"}}}},
            {"type": "vip", "when": {"claim": {"name": "plan", "exact": "vip"}}},
        ],
    });
    let limiter = json!({
        "tenant": {"from": [{"claim": "tenant"}], "missing": {"tenant": "anonymous"}, "unknown": {"tier": "all"}},
        "tiers": {"all": {"limits": [{"name": "rate", "requests": 1000, "per": "1s"}]}},
    });
    let bundle = json!({"tenantRateLimit": limiter, "userClassifier": classifier});
    let (limits, classes, both) = (
        module("tenant-rate-limit")?,
        module("user-classifier")?,
        module("tollgate")?,
    );
    let mut alone = Alone::start(&[
        &[(&limits, limiter), (&classes, classifier)],
        &[(&both, bundle)],
    ])?;
    block_on(async {
        alone.ready().await?;
        for to in &alone.listeners {
            for size in [100 << 10, 1 << 20, 5 << 20] {
                let x = "x".repeat(size);
                for (claims, class, tenant) in [
                    (
                        json!({"long": x, "plan": "vip", "tenant": "acme"}),
                        "vip",
                        "acme",
                    ),
                    (json!({"plan": x, "tenant": "acme"}), "standard", "acme"),
                    (json!({"plan": "vip", "tenant": x}), "vip", "anonymous"),
                    (
                        json!({"groups": [x, null, "staff"], "tenant": "acme"}),
                        "staff",
                        "acme",
                    ),
                    (
                        json!({"groups": vec![json!(null); size / 5], "plan": "vip", "tenant": "acme"}),
                        "vip",
                        "acme",
                    ),
                    (json!({x: "vip", "tenant": "acme"}), "standard", "acme"),
                ] {
                    let bearer = format!("Bearer {}", token(&claims)?);
                    let answer =
                        exchange(*to, "/", &[(b"authorization", bearer.as_bytes())]).await?;
                    ensure!(
                        answer.status == 200
                            && answer.header("x-user-type") == Some(class)
                            && answer.header("x-x-tenant-id") == Some(tenant),
                        "{} of a token, {claims:.60}: {answer:?}",
                        bearer.len()
                    );
                    let small = format!(
                        "Bearer {}",
                        token(&json!({"plan": "vip", "tenant": "acme"}))?
                    );
                    let answer =
                        exchange(*to, "/", &[(b"authorization", small.as_bytes())]).await?;
                    ensure!(
                        answer.status == 200 && answer.header("x-user-type") == Some("vip"),
                        "afterwards: {answer:?}"
                    );
                }
            }
        }
        let stats = exchange(alone.admin, "/stats?filter=wasm", &[]).await?;
        let failed = stats.body.lines().filter_map(|line| line.split_once(": "));
        let failed: Vec<_> = failed
            .filter(|(name, n)| {
                *n != "0" && ["fail", "vm_reload"].iter().any(|word| name.contains(word))
            })
            .collect();
        ensure!(
            stats.body.contains("vm_reload") && failed.is_empty(),
            "{failed:?}"
        );
        Ok(())
    })
}
