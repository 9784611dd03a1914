//! `tollgate simulate` as a user calls it, with what docs/simulate.md shows of it.

mod piped;

use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::path::Path;

use serde_json::{Value, json};
use tempfile::TempDir;

const BLESS: &str = "TOLLGATE_BLESS=1 cargo test -p tollgate --test simulate";

/// Exit code, standard output and standard error.
fn simulate(folder: &Path, args: &[&str], input: &[u8]) -> (Option<i32>, String, String) {
    let output = piped::tollgate(folder, "simulate", args, input);
    let [out, err] = [output.stdout, output.stderr].map(|text| String::from_utf8(text).unwrap());
    (output.status.code(), out, err)
}

fn told(folder: &Path, args: &[&str]) -> String {
    let (code, out, err) = simulate(folder, args, b"");
    assert_eq!((code, err.as_str()), (Some(0), ""), "{out}");
    out
}

/// Ten a second at most, for whoever `x-tenant-id` names.
const LIMITS: &str = "tenant: {from: [{header: x-tenant-id}], unknown: {tier: free}}\n\
    tiers: {free: {limits: [{name: rate, requests: 1, per: 1s, burst: 2}]}}\n";

/// A folder with limits and a log.
fn folder(log: &str) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("limits.yaml"), LIMITS).unwrap();
    fs::write(folder.path().join("access.log"), log).unwrap();
    folder
}

const CALL: [&str; 4] = ["--config", "limits.yaml", "--log", "access.log"];

/// A line of Istio's JSON, so many milliseconds after eight o'clock.
fn line(milliseconds: u64, tenant: &str) -> String {
    let (seconds, rest) = (milliseconds / 1000, milliseconds % 1000);
    let (minutes, seconds) = (seconds / 60, seconds % 60);
    let object = json!({
        "start_time": format!("2026-11-21T08:{minutes:02}:{seconds:02}.{rest:03}Z"),
        "method": "GET", "path": "/products", "authority": "shop", "response_code": 200, "duration": 12,
        "x_tenant_id": tenant,
    });
    format!("{object}\n")
}

/// An hour of a gateway: the same whenever it is made.
fn hour() -> String {
    let mut random = 7_u64;
    let mut below = |limit: u64| {
        random = random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (random >> 33) % limit
    };
    let mut requests: Vec<(u64, &str)> = Vec::new();
    for second in 0..3_600_u64 {
        let mut add = |count: u64, tenant| {
            for _ in 0..count {
                requests.push((second * 1000 + below(1000), tenant));
            }
        };
        // Busier in the middle of the hour.
        add(2 + u64::from((1_200..2_700).contains(&second)) * 2, "acme");
        add(u64::from(second % 2 == 0), "globex");
        add(
            u64::from(second % 4 == 0 && second > 600) + u64::from(second % 97 == 0) * 4,
            "initech",
        );
        add(u64::from(second % 60 == 0), "umbrella");
        // A job of acme's: 100 requests at once, and for a while.
        if second % 600 < 4 && second > 4 {
            add(60, "acme");
        }
        if (2_000..2_060).contains(&second) {
            add(2, "umbrella");
        }
    }
    requests.sort_by_key(|(moment, _)| moment + 12);
    requests
        .iter()
        .map(|(moment, tenant)| line(*moment, tenant))
        .collect()
}

#[test]
fn the_page_shows_what_its_commands_print() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/simulate.md");
    let page = fs::read_to_string(&path).unwrap();
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("access.log"), hour()).unwrap();
    let mut made = String::new();
    let mut commands = Vec::new();
    for (number, part) in page.split("```").enumerate() {
        if number > 0 {
            made += "```";
        }
        if let Some(file) = part.strip_prefix("yaml\n# ").filter(|_| number % 2 == 1) {
            let (name, text) = file.split_once('\n').unwrap();
            fs::write(folder.path().join(name), text).unwrap();
        }
        match part
            .strip_prefix("\n$ tollgate simulate ")
            .filter(|_| number % 2 == 1)
        {
            None => made += part,
            Some(block) => {
                let command = block.lines().next().unwrap();
                let args: Vec<&str> = command.split(' ').collect();
                write!(
                    made,
                    "\n$ tollgate simulate {command}\n{}",
                    told(folder.path(), &args)
                )
                .unwrap();
                commands.push(args);
            }
        }
    }
    assert_eq!(commands.len(), 2);
    let html = told(
        folder.path(),
        &[commands[1].as_slice(), &["--format", "html"]].concat(),
    );
    let begin = html.find("<svg").unwrap();
    let end = html.find("</svg>").unwrap() + "</svg>\n".len();
    let picture = path.with_file_name("simulate.svg");
    if std::env::var_os("TOLLGATE_BLESS").is_some() {
        fs::write(&path, &made).unwrap();
        fs::write(&picture, &html[begin..end]).unwrap();
    }
    assert!(
        made == fs::read_to_string(&path).unwrap(),
        "docs/simulate.md is not what the commands print now; make it with {BLESS}:\n{made}"
    );
    assert!(
        html[begin..end] == fs::read_to_string(&picture).unwrap_or_default(),
        "docs/simulate.svg is not what the command draws now; make it with {BLESS}"
    );
}

#[test]
fn the_page_has_every_field_of_the_json() {
    let page =
        fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/simulate.md"))
            .unwrap();
    let (_, section) = page.split_once("\n## JSON\n").unwrap();
    let section = section.split("\n## ").next().unwrap();
    let folder = folder(
        &(line(0, "acme") + &line(1, "acme") + "x\n" + &line(2, "acme") + &line(3, "globex")),
    );
    let told = told_with_mistakes(
        folder.path(),
        &["--against", "limits.yaml", "--top", "1", "--format", "json"],
    );
    fn names(value: &Value, found: &mut Vec<String>) {
        match value {
            Value::Object(fields) => {
                for (name, value) in fields {
                    found.push(name.clone());
                    names(value, found);
                }
            }
            Value::Array(elements) => elements.iter().for_each(|element| names(element, found)),
            _ => {}
        }
    }
    let mut found = Vec::new();
    names(&serde_json::from_str(&told).unwrap(), &mut found);
    for name in found {
        assert!(
            section.contains(&format!("`{name}`")),
            "docs/simulate.md does not tell of {name}"
        );
    }
}

fn told_with_mistakes(folder: &Path, args: &[&str]) -> String {
    let (code, out, err) = simulate(folder, &[&CALL[..], args].concat(), b"");
    assert_eq!(code, Some(0), "{err}");
    out
}

#[test]
fn who_is_refused_is_told_with_time_line_and_limit() {
    // Written as requests end: the second to begin ended first.
    let log = [
        line(10, "acme"),
        line(0, "acme"),
        line(20, "acme"),
        line(400, "globex"),
        line(1_020, "acme"),
        line(1_030, "acme"),
    ];
    let folder = folder(&log.concat());
    let told = told(folder.path(), &[&CALL[..], &["--format", "json"]].concat());
    let told: Value = serde_json::from_str(&told).unwrap();
    assert_eq!(told["total"]["requests"], 6);
    assert_eq!(told["first"], "2026-11-21T08:00:00.000Z");
    let acme = &told["tenants"][0];
    assert_eq!(acme["tenant"], "acme");
    assert_eq!(acme["tier"], "free");
    assert_eq!(
        (&acme["requests"], &acme["refused"]),
        (&json!(5), &json!(2))
    );
    assert_eq!(
        acme["firstRefusal"],
        json!({"time": "2026-11-21T08:00:00.020Z", "file": "access.log", "line": 3})
    );
    assert_eq!(
        acme["by"],
        json!([{"reason": "limited", "limit": "rate", "requests": 2}])
    );
    assert_eq!(told["tenants"][1]["refused"], 0);
    let sum = |field: &str| {
        acme[field]
            .as_array()
            .unwrap()
            .iter()
            .map(|count| count.as_u64().unwrap())
            .sum::<u64>()
    };
    assert_eq!((sum("admittedOverTime"), sum("refusedOverTime")), (3, 2));
}

#[test]
fn what_the_configuration_asks_for_and_the_log_lacks_is_told() {
    let limits = "tenant: {from: [{claim: org}, {header: x-tenant-id}], unknown: {tier: free}}\n\
        tiers: {free: {limits: [{name: parallel, concurrent: 1}]}}\n";
    let log = "127.0.0.1 - - [21/Nov/2026:08:00:00 +0000] \"GET /a HTTP/1.1\" 200 7\n";
    let folder = folder(log);
    fs::write(folder.path().join("limits.yaml"), limits).unwrap();
    let (code, out, err) = simulate(folder.path(), &CALL, b"");
    assert_eq!(code, Some(0), "{out}{err}");
    let told = [
        "limits.yaml: tenant.from[0].claim asks for the claim org, and the log is not said to have it; if one of its fields is that, name it with --claim 'org=FIELD'",
        "limits.yaml: tenant.from[1].header asks for the header x-tenant-id, and no request of the log has it; if one of its fields is that, name it with --header x-tenant-id=FIELD",
        "limits.yaml: tiers.free.limits[0].concurrent asks for requests in flight, and the log does not say how long requests took; each is replayed as if it had ended at once",
    ];
    assert_eq!(err.lines().collect::<Vec<_>>(), told);
    let (_, out, _) = simulate(
        folder.path(),
        &[&CALL[..], &["--format", "json"]].concat(),
        b"",
    );
    let report: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(report["lacking"], json!(told));
}

#[test]
fn a_service_takes_the_tenant_that_is_passed_on_from_the_log() {
    let limits = "tenant: {from: [{passedOn: {peers: [{exact: spiffe://cluster.local/ns/shop/sa/gateway}]}}], unknown: {tier: free}}\n\
        tiers: {free: {limits: [{name: rate, requests: 1, per: 1s, burst: 2}]}}\n";
    let with = |peer: &str| {
        let mut line: Value = serde_json::from_str(&line(0, "acme")).unwrap();
        line["downstream_peer_uri_san"] = json!(peer);
        format!("{line}\n")
    };
    let gateway = with("spiffe://cluster.local/ns/shop/sa/gateway");
    let log = gateway.repeat(3) + &with("spiffe://cluster.local/ns/shop/sa/other");
    let folder = folder(&log);
    fs::write(folder.path().join("limits.yaml"), limits).unwrap();
    let out = told(folder.path(), &[&CALL[..], &["--format", "json"]].concat());
    let report: Value = serde_json::from_str(&out).unwrap();
    let tenants: Vec<(&Value, &Value, &Value)> = report["tenants"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| (&one["tenant"], &one["requests"], &one["refused"]))
        .collect();
    assert_eq!(
        tenants,
        [
            (&json!("acme"), &json!(3), &json!(1)),
            (&json!("anonymous"), &json!(1), &json!(0))
        ]
    );
}

#[test]
fn lines_that_are_no_requests_are_told_and_counted() {
    let log = line(0, "acme")
        + "hello\n\n{\"start_time\":\"2026-11-21T08:00:00Z\",\"method\":null,\"path\":null}\n"
        + &"2026-11-21T08:00:00Z\tinfo\tenvoy\n".repeat(6);
    let folder = folder(&log);
    let (code, out, err) = simulate(folder.path(), &CALL, b"");
    assert_eq!(code, Some(0));
    assert_eq!(
        err,
        "access.log:2: is no JSON object: expected value at column 1\n\
         access.log:5: is no JSON object: invalid type: integer `2026`, expected an object at column 4\n\
         access.log:6: is no JSON object: invalid type: integer `2026`, expected an object at column 4\n\
         access.log:7: is no JSON object: invalid type: integer `2026`, expected an object at column 4\n\
         access.log:8: is no JSON object: invalid type: integer `2026`, expected an object at column 4\n\
         access.log: 2 more lines cannot be read\n"
    );
    assert_eq!(
        out.lines().next(),
        Some("access.log: 10 lines, read as JSON, 7 cannot be read, 1 without a request")
    );
}

#[test]
fn entries_of_a_har_file_without_a_time_are_told_and_the_others_replayed() {
    let request = json!({"method": "GET", "url": "http://shop/products", "headers": [{"name": "x-tenant-id", "value": "acme"}]});
    let har = json!({"log": {"entries": [
        {"request": request},
        {"startedDateTime": "2026-11-21T08:00:00Z", "request": request},
        {"startedDateTime": "today", "request": request},
    ]}});
    let folder = folder(&har.to_string());
    let (code, out, err) = simulate(folder.path(), &CALL, b"");
    assert_eq!(code, Some(0), "{err}");
    assert_eq!(
        err,
        "access.log:1: does not say when the request began\naccess.log:3: \"today\" is no moment\n"
    );
    assert_eq!(
        out.lines().next(),
        Some("access.log: 3 entries, read as HAR, 2 cannot be read")
    );
}

#[test]
fn what_cannot_be_replayed_is_refused_with_what_to_write() {
    let refused = |log: &str, args: &[&str]| {
        let folder = folder(log);
        fs::write(folder.path().join("wrong.yaml"), LIMITS.replace("1s", "1")).unwrap();
        let (code, out, err) = simulate(folder.path(), args, b"");
        assert_eq!((code, out.as_str()), (Some(1), ""), "{err}");
        err
    };
    let call = |more: &[&'static str]| [&CALL[..], more].concat();
    assert_eq!(refused("", &CALL), "error: access.log is empty\n");
    assert_eq!(
        refused("\n\u{1b}[2Jhello\n", &CALL),
        "error: access.log:2: \"\\u{1b}[2Jhello\" is in no format that is known: Envoy's or Istio's default, JSON, Common or Combined Log Format, \
         HAR; name one with --log-format, or write the format string of your access log there\n"
    );
    assert_eq!(
        refused(&line(0, "acme"), &call(&["--claim", "tenant=who"])),
        "error: --claim tenant=who: no line of access.log has a field \"who\"\n"
    );
    assert_eq!(
        refused(
            "192.0.2.7 - - [21/Nov/2026:08:00:00 +0000] \"GET / HTTP/1.1\" 200 5\n",
            &call(&["--header", "x-tenant-id=tenant"])
        ),
        "error: access.log, read as the Common Log Format: --header x-tenant-id=tenant: there is no field \"tenant\" in this format, write one of: \
         host, ident, user, time, request, status, bytes\n"
    );
    assert_eq!(
        refused("x\n", &call(&["--log-format", "json"])),
        "access.log:1: is no JSON object: expected value at column 1\nerror: there is no request to replay\n"
    );
    assert_eq!(
        refused(
            &line(0, "acme"),
            &call(&["--claim", "org=x_org", "--claim", "org=x_tenant_id"])
        ),
        "error: --claim org=x_org and --claim org=x_tenant_id: a request has it once, name one field\n"
    );
    let missing = refused("", &["--config", "limits.yaml", "--log", "none.log"]);
    assert!(
        missing.starts_with("error: cannot read none.log"),
        "{missing}"
    );
    assert_eq!(
        refused("", &["--config", "wrong.yaml", "--log", "access.log"]),
        "error: wrong.yaml:2: tiers.free.limits[0].per: \"1\" is not a duration, write \"1s\"\n"
    );
    let folder = folder("");
    let (code, _, err) = simulate(folder.path(), &call(&["--log-format", "apache"]), b"");
    assert_eq!(code, Some(2));
    assert!(
        err.contains(
            "write envoy, istio, json, common, combined, har, or a format string of Envoy such as"
        ),
        "{err}"
    );
}

#[test]
fn every_format_is_replayed_alike() {
    let tenants = ["acme", "acme", "acme", "globex", "acme"];
    let each = |write: &dyn Fn(usize, &str) -> String| -> String {
        tenants
            .iter()
            .enumerate()
            .map(|(at, tenant)| write(at, tenant))
            .collect()
    };
    let har = json!({"log": {"version": "1.2", "entries": tenants.iter().enumerate().map(|(at, tenant)| json!({
        "startedDateTime": format!("2026-11-21T09:00:0{at}.000+01:00"), "time": 3.5,
        "request": {"method": "GET", "url": "http://shop/products", "headers": [{"name": "X-Tenant-Id", "value": tenant}, {"name": ":path", "value": "/x"}]},
        "response": {"status": 200},
    })).collect::<Vec<_>>()}});
    let limits = LIMITS.replace("1s", "1h");
    let logs: [(&str, String, &[&str]); 6] = [
        (
            "json",
            each(&|at, tenant| line(at as u64 * 1000, tenant)),
            &[],
        ),
        ("har", har.to_string(), &[]),
        (
            "envoy",
            each(&|at, tenant| {
                format!(
                    "[2026-11-21T08:00:0{at}.000Z] \"GET / HTTP/1.1\" 200 - 0 60 6 5 \"-\" \"{tenant}\" \"0b1e\" \"shop\" \"10.0.0.1:80\"\n"
                )
            }),
            &["--header", "x-tenant-id=REQ(USER-AGENT)"],
        ),
        (
            "combined",
            each(&|at, tenant| {
                format!(
                    "192.0.2.7 - {tenant} [21/Nov/2026:09:00:0{at} +0100] \"GET / HTTP/1.1\" 200 60 \"-\" \"curl\"\n"
                )
            }),
            &["--header", "x-tenant-id=user"],
        ),
        (
            "common",
            each(&|at, tenant| {
                format!(
                    "192.0.2.7 - {tenant} [21/Nov/2026:03:00:0{at} -0500] \"GET / HTTP/1.1\" 200 60\n"
                )
            }),
            &["--header", "x-tenant-id=user"],
        ),
        (
            "own",
            each(&|at, tenant| format!("179524800{at}.000 /a?b {tenant} end\n")),
            &[
                "--log-format",
                "%START_TIME(%s.%3f)% %REQ(:PATH)% %REQ(X-TENANT-ID):20% end\n",
            ],
        ),
    ];
    for (format, log, args) in logs {
        let folder = folder(&log);
        fs::write(folder.path().join("limits.yaml"), &limits).unwrap();
        let told = told(
            folder.path(),
            &[&CALL[..], args, &["--format", "json"]].concat(),
        );
        let told: Value = serde_json::from_str(&told).unwrap();
        assert_eq!(told["logs"][0]["format"], format);
        assert_eq!(told["logs"][0]["lines"], 5, "{format}");
        let tenants: Vec<_> = told["tenants"]
            .as_array()
            .unwrap()
            .iter()
            .map(|t| {
                (
                    t["tenant"].as_str().unwrap(),
                    t["requests"].as_u64(),
                    t["refused"].as_u64(),
                )
            })
            .collect();
        assert_eq!(
            tenants,
            [("acme", Some(4), Some(2)), ("globex", Some(1), Some(0))],
            "{format}"
        );
        assert_eq!(told["first"], "2026-11-21T08:00:00.000Z", "{format}");
    }
}

#[test]
fn standard_input_compressed_logs_and_several_logs_are_one_replay() {
    let folder = folder(&line(5, "acme"));
    let mut compressed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    compressed
        .write_all((line(0, "acme") + &line(7, "acme")).as_bytes())
        .unwrap();
    fs::write(
        folder.path().join("old.log.gz"),
        compressed.finish().unwrap(),
    )
    .unwrap();
    let args = [
        &CALL[..],
        &["--log", "old.log.gz", "--log", "-", "--format", "json"],
    ]
    .concat();
    let (code, out, err) = simulate(folder.path(), &args, line(9, "acme").as_bytes());
    assert_eq!((code, err.as_str()), (Some(0), ""));
    let told: Value = serde_json::from_str(&out).unwrap();
    let files: Vec<_> = told["logs"]
        .as_array()
        .unwrap()
        .iter()
        .map(|log| log["file"].as_str().unwrap())
        .collect();
    assert_eq!(files, ["access.log", "old.log.gz", "<stdin>"]);
    assert_eq!(told["tenants"][0]["requests"], 4);
    assert_eq!(told["tenants"][0]["firstRefusal"]["file"], "old.log.gz");
}

#[test]
fn the_limits_of_manifests_are_found() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let log: String = (0..30).map(|at| line(at, "initech")).collect();
    let folder = folder(&log);
    let log = folder.path().join("access.log");
    // The plugin, the bundle in its overlay, and all manifests of the repository.
    for config in [
        "wasm-plugins/tenant-rate-limit/plugin.yaml",
        "istio/overlays/bundle",
        ".",
    ] {
        let args = [
            "--config",
            config,
            "--log",
            log.to_str().unwrap(),
            "--claim",
            "tenant=x_tenant_id",
            "--format",
            "json",
        ];
        let told: Value = serde_json::from_str(&told(&root, &args)).unwrap();
        assert_eq!(
            (&told["tenants"][0]["tier"], &told["tenants"][0]["refused"]),
            (&json!("free"), &json!(20)),
            "{config}"
        );
    }
    let args = [
        "--config",
        "wasm-plugins/tenant-rate-limit/plugin.yaml",
        "--log",
        "x",
        "--namespace",
        "shop",
    ];
    let (code, _, err) = simulate(&root, &args, b"");
    assert_eq!(code, Some(1));
    assert_eq!(
        err,
        "error: no configuration of tenant-rate-limit is in the namespace shop of wasm-plugins/tenant-rate-limit/plugin.yaml, name another with \
         --namespace: istio-system\n"
    );
}

#[test]
fn a_page_has_no_script_whatever_a_log_says() {
    let evil = "<script>alert(1)</script>";
    let log = line(0, evil)
        + &line(1, "acme")
        + &format!("{{\"start_time\":\"{evil}\",\"path\":\"/\"}}\n");
    let folder = folder(&log);
    fs::rename(
        folder.path().join("access.log"),
        folder.path().join("<img src=x onerror=alert(1)>.log"),
    )
    .unwrap();
    fs::rename(
        folder.path().join("limits.yaml"),
        folder.path().join("\"><script>.yaml"),
    )
    .unwrap();
    let args = [
        "--config",
        "\"><script>.yaml",
        "--against",
        "\"><script>.yaml",
        "--log",
        "<img src=x onerror=alert(1)>.log",
        "--format",
        "html",
    ];
    let (code, page, _) = simulate(folder.path(), &args, b"");
    assert_eq!(code, Some(0));
    assert!(
        !page.contains("<script") && !page.contains("<img"),
        "{page}"
    );
    assert!(
        page.contains("&lt;img src=x onerror=alert(1)&gt;.log"),
        "{page}"
    );
    assert!(
        page.contains("default-src 'none'"),
        "no policy forbids scripts"
    );
    for outside in ["src=\"", "href=", "url(", "@import"] {
        assert!(!page.contains(outside), "{outside} in {page}");
    }
}

#[test]
fn what_limits_in_shadow_would_refuse_is_told_beside_what_is_refused() {
    let log: String = (0..5).map(|at| line(at, "acme")).collect();
    let folder = folder(&log);
    let limits = LIMITS.replace(
        "burst: 2}",
        "burst: 4}, {name: watched, quota: 1, per: day, mode: shadow}",
    );
    fs::write(folder.path().join("limits.yaml"), limits).unwrap();
    let json: Value = serde_json::from_str(&told(
        folder.path(),
        &[&CALL[..], &["--format", "json"]].concat(),
    ))
    .unwrap();
    let acme = &json["tenants"][0];
    assert_eq!(
        (&acme["refused"], &acme["shadowed"]),
        (&json!(1), &json!(3))
    );
    assert_eq!(
        acme["shadowedBy"],
        json!([{"reason": "limited", "limit": "watched", "requests": 3}])
    );
    let text = told(folder.path(), &CALL);
    assert!(
        text.contains(
            "limits.yaml: 4 admitted, 1 refused (20.0 %); limits in shadow would refuse 3\n"
        ),
        "{text}"
    );
    assert!(text.contains(" rate 1; in shadow watched 3\n"), "{text}");
}

#[test]
fn requests_are_in_flight_for_as_long_as_they_took() {
    // Each takes 12 ms.
    let log: String = [0, 3, 6, 12, 14, 15, 3_590_000]
        .map(|at| line(at, "acme"))
        .concat();
    let folder = folder(&log);
    let limits = LIMITS.replace(
        "rate, requests: 1, per: 1s, burst: 2",
        "parallel, concurrent: 2",
    );
    fs::write(folder.path().join("limits.yaml"), limits).unwrap();
    let told: Value = serde_json::from_str(&told(
        folder.path(),
        &[&CALL[..], &["--format", "json"]].concat(),
    ))
    .unwrap();
    let acme = &told["tenants"][0];
    assert_eq!(
        acme["by"],
        json!([{"reason": "limited", "limit": "parallel", "requests": 2}])
    );
    assert_eq!(acme["firstRefusal"]["line"], 3);
}

#[test]
fn tenants_beyond_the_first_are_told_together() {
    let log: String = (0..50_u64)
        .map(|at| line(at, &format!("t{at}")))
        .collect::<String>()
        + &line(60, "t7")
        + &line(61, "t7");
    let folder = folder(&log);
    let told: Value = serde_json::from_str(&told(
        folder.path(),
        &[&CALL[..], &["--top", "3", "--format", "json"]].concat(),
    ))
    .unwrap();
    let tenants: Vec<_> = told["tenants"]
        .as_array()
        .unwrap()
        .iter()
        .map(|tenant| tenant["tenant"].as_str().unwrap())
        .collect();
    assert_eq!(tenants, ["t7", "t0", "t1"]);
    assert_eq!(
        (
            &told["others"]["tenants"],
            &told["others"]["requests"],
            &told["others"]["refused"]
        ),
        (&json!(47), &json!(47), &json!(0))
    );
    assert_eq!(
        (&told["total"]["requests"], &told["total"]["refused"]),
        (&json!(52), &json!(1))
    );
}

#[test]
fn a_limit_that_responses_settle_is_replayed_at_its_estimate() {
    let log: String = (0..5).map(|n| line(n * 1_000, "acme")).collect();
    let folder = folder(&log);
    let limits = "tenant: {from: [{header: x-tenant-id}], unknown: {tier: free}}\n\
        tiers: {free: {limits: [{name: tokens, quota: 1000, per: day, cost: {estimate: 300, max: 5000, settle: {json: /usage/total_tokens}}}]}}\n";
    fs::write(folder.path().join("limits.yaml"), limits).unwrap();
    let args = [&CALL[..], &["--format", "json"]].concat();
    let (code, out, err) = simulate(folder.path(), &args, b"");
    assert_eq!(code, Some(0), "{err}");
    assert_eq!(
        err,
        "limits.yaml: tiers.free.limits[0].cost.settle asks for what responses say, and no log has that; each request is replayed at the estimate\n"
    );
    let told: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(told["total"]["requests"], 5);
    assert_eq!(told["total"]["refused"], 2);
    assert_eq!(told["total"]["by"][0]["limit"], "tokens");
}
