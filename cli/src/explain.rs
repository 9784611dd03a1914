//! `tollgate explain`: what a request is to user-classifier, and why.
//!
//! The filter itself decides, in a proxy that is only in memory; the explanation is of the same rules and the same request, in the words in which the filter
//! explains itself to callers who may ask.

use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::SystemTime;

use anyhow::{Context, anyhow, bail};
use serde_json::{Map, Value, json};
use tollgate_host::memory::MemoryHost;
use tollgate_host::{HeaderMap, Plugin, Request, Stream};
use tollgate_mesh::api::Objects;
use user_classifier::UserClassifier;
use user_classifier::condition::Truth;
use user_classifier::config::Compiled;
use user_classifier::explain::{Reason, Step, why};

use crate::args::{ExplainArgs, ExplainFormat};
use crate::build::variant;
use crate::check::plugins;
use crate::workspace::root_around;

/// A request, as a client sends it.
#[derive(Debug)]
struct Sent {
    method: String,
    url: String,
    headers: Vec<(String, String)>,
}

/// What became of it.
#[derive(Debug)]
struct Told {
    sent: Sent,
    header: String,
    user_type: Option<String>,
    /// The rule that decided.
    rule: Option<usize>,
    /// Whether the type was kept as it came.
    is_kept: bool,
    steps: Vec<Step>,
    /// The headers that a service would see and the client did not send, and those of the response.
    request: Vec<(String, String)>,
    response: Vec<(String, String)>,
}

/// Explains the requests of the command line.
pub(crate) fn run(args: &ExplainArgs) -> anyhow::Result<ExitCode> {
    let configuration = match &args.plugin {
        Some(file) => of_file(file)?,
        None => of_manifests(&args.manifests, &args.namespace)?,
    };
    let configuration = configuration.to_string();
    let mut out = anstream::stdout().lock();
    for sent in requests(args)? {
        let told = explain(configuration.as_bytes(), sent, args)?;
        match args.format {
            ExplainFormat::Text => write!(out, "{}", text(&told)?)?,
            ExplainFormat::Json => writeln!(out, "{}", told.json())?,
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// The one pluginConfig of a file.
fn of_file(file: &Path) -> anyhow::Result<Value> {
    let found = tollgate_mesh::documents(&[file.to_owned()]);
    if let Some(problem) = found.problems.first() {
        bail!("{problem}");
    }
    match found.documents.as_slice() {
        [one] => Ok(one.value.clone()),
        several => bail!(
            "{} has {} documents, and one is needed",
            file.display(),
            several.len()
        ),
    }
}

/// The configuration of the classifier in a namespace, be it a plugin of its own or a section of the bundle.
fn of_manifests(paths: &[PathBuf], namespace: &str) -> anyhow::Result<Value> {
    let paths = if paths.is_empty() {
        let here = std::env::current_dir().context("cannot tell the current folder")?;
        vec![root_around(&here)?]
    } else {
        paths.to_vec()
    };
    let objects = Objects::load(&paths).map_err(|problems| anyhow!("{problems}"))?;
    let mut found: Vec<Value> = Vec::new();
    let mut elsewhere: Vec<&str> = Vec::new();
    for plugin in &objects.wasm_plugins {
        let configuration = plugin.spec.plugin_config.clone().unwrap_or_default();
        let of_classifier = match variant::plugin(plugins::module(&plugin.spec.url)) {
            "user-classifier" => Some(Value::Object(configuration)),
            "tollgate" => section(&configuration),
            _ => None,
        };
        match of_classifier {
            Some(configuration) if plugin.namespace == namespace => found.push(configuration),
            Some(_) => elsewhere.push(&plugin.namespace),
            None => {}
        }
    }
    match found.len() {
        1 => found.pop().context("one was found"),
        0 if elsewhere.is_empty() => bail!("no user-classifier is in these manifests"),
        0 => bail!(
            "no user-classifier is in the namespace {namespace}, name another with --namespace: {}",
            elsewhere.join(", ")
        ),
        several => bail!(
            "{several} user-classifiers are in the namespace {namespace}, name the configuration of one with --plugin"
        ),
    }
}

/// The classifier's section of a bundle; a limiter beside it vouches for tenants without being asked.
fn section(configuration: &Map<String, Value>) -> Option<Value> {
    let mut section = configuration.get("userClassifier")?.clone();
    if configuration.contains_key("tenantRateLimit")
        && let Some(fields) = section.as_object_mut()
        && !fields.contains_key("trust")
        && !fields.contains_key("tenant")
    {
        fields.insert("tenant".to_owned(), json!({ "vouched": true }));
    }
    Some(section)
}

fn requests(args: &ExplainArgs) -> anyhow::Result<Vec<Sent>> {
    let Some(file) = &args.har else {
        let url = args.url.clone().context("there is no URL")?;
        return Ok(vec![Sent {
            method: args.request.clone(),
            url,
            headers: args.headers.clone(),
        }]);
    };
    let name = file.display();
    let text = fs::read_to_string(file).with_context(|| format!("cannot read {name}"))?;
    let har: Value =
        serde_json::from_str(&text).with_context(|| format!("{name} is no HAR file"))?;
    let entries = har.pointer("/log/entries").and_then(Value::as_array);
    let entries =
        entries.with_context(|| format!("{name} is no HAR file: it has no log.entries"))?;
    let mut requests = Vec::with_capacity(entries.len());
    for (number, entry) in entries.iter().enumerate() {
        let request = &entry["request"];
        let text = |field: &str| {
            let text = request[field].as_str().map(str::to_owned);
            text.with_context(|| {
                format!("{name}: log.entries[{number}].request.{field} is no text")
            })
        };
        let mut headers = Vec::new();
        for header in request["headers"].as_array().into_iter().flatten() {
            let (Some(name), Some(value)) = (header["name"].as_str(), header["value"].as_str())
            else {
                bail!(
                    "{name}: log.entries[{number}].request.headers has something else than names and values"
                );
            };
            // A browser that speaks HTTP/2 saves parts of the request line among them.
            if !name.starts_with(':') {
                headers.push((name.to_ascii_lowercase(), value.to_owned()));
            }
        }
        headers.extend(args.headers.iter().cloned());
        requests.push(Sent {
            method: text("method")?,
            url: text("url")?,
            headers,
        });
    }
    Ok(requests)
}

/// A proxy that is about to show the filter this request.
fn proxy(sent: &Sent, args: &ExplainArgs) -> anyhow::Result<MemoryHost> {
    let url = &sent.url;
    let (scheme, rest) = url
        .split_once("://")
        .with_context(|| format!("{url:?} is no URL, write e.g. http://shop/products"))?;
    let (authority, path) = match rest.find('/') {
        Some(at) => rest.split_at(at),
        None => (rest, "/"),
    };
    let path = path.split('#').next().unwrap_or(path);
    let mut headers: Vec<(String, String)> = [
        (":method", sent.method.as_str()),
        (":scheme", scheme),
        (":authority", authority),
        (":path", path),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .to_vec();
    for (name, value) in &sent.headers {
        match name.as_str() {
            "host" => {
                if let Some((_, authority)) =
                    headers.iter_mut().find(|(name, _)| name == ":authority")
                {
                    authority.clone_from(value);
                }
            }
            name => headers.push((name.to_owned(), value.clone())),
        }
    }
    for (name, value) in [("x-tenant-id", &args.tenant), ("x-tenant-tier", &args.tier)] {
        let Some(value) = value else { continue };
        // As tenant-rate-limit does it, nothing is left of what the client sent.
        headers.retain(|(other, _)| other != name);
        headers.push((name.to_owned(), value.clone()));
    }
    let mut host = MemoryHost::new();
    host.begin(&headers);
    let now = match args.time {
        Some(seconds) => u128::from(seconds) * 1_000_000_000,
        None => SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)?
            .as_nanos(),
    };
    host.set_time(u64::try_from(now)?);
    host.set_attribute(
        &["source", "address"],
        std::net::SocketAddr::new(args.source, 0)
            .to_string()
            .as_bytes(),
    );
    if let Some(peer) = &args.peer {
        host.set_attribute(&["connection", "mtls"], &[1]);
        host.set_attribute(&["connection", "uri_san_peer_certificate"], peer.as_bytes());
    }
    if !args.claims.is_empty() {
        let claims: Map<String, Value> = args.claims.iter().cloned().collect();
        host.set_claims(Value::Object(claims));
    }
    Ok(host)
}

fn explain(configuration: &[u8], sent: Sent, args: &ExplainArgs) -> anyhow::Result<Told> {
    let unreadable = |error| anyhow!("the request cannot be read: {error:?}");
    let compiled = Compiled::read(configuration)
        .map_err(|problems| anyhow!(problems.within("pluginConfig")))?;
    let mut host = proxy(&sent, args)?;
    let mut request = Request::read(&host).map_err(unreadable)?;
    let why =
        user_classifier::filter::explain(&compiled, &mut request, &mut host).map_err(unreadable)?;
    // And what the filter makes of it.
    let mut host = proxy(&sent, args)?;
    let before = pairs(&host.request);
    let header = compiled.header.clone();
    let mut stream = UserClassifier::new(compiled).stream();
    let mut request = Request::read(&host).map_err(unreadable)?;
    stream.on_request_headers(&mut request, &mut host);
    let after = pairs(&host.request);
    host.begin_response::<&str, &str>(200, &[]);
    stream.on_response_headers(&mut host);
    let response = pairs(&host.response);
    let find = |name: &str| {
        after
            .iter()
            .find(|(other, _)| other == name)
            .map(|(_, value)| value.clone())
    };
    let user_type = find(&header);
    let is_kept = why.is_none();
    let (decision, steps) = why.unwrap_or_default();
    Ok(Told {
        sent,
        user_type,
        rule: decision.rule,
        is_kept,
        steps,
        request: after
            .into_iter()
            .filter(|pair| !before.contains(pair) && pair.0 != header)
            .collect(),
        response: response
            .into_iter()
            .filter(|(name, _)| name != ":status")
            .collect(),
        header,
    })
}

fn pairs(map: &HeaderMap) -> Vec<(String, String)> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    map.iter()
        .map(|(name, value)| (text(name), text(value)))
        .collect()
}

/// The rules that are told of many: the last ones, with the one that decides.
const TOLD_RULES: usize = 20;

fn text(told: &Told) -> Result<String, std::fmt::Error> {
    let mut text = String::new();
    writeln!(text, "{} {}", told.sent.method, told.sent.url)?;
    let user_type = told.user_type.as_deref().unwrap_or("none");
    let why = why(told.rule, told.is_kept);
    writeln!(text, "  {}: {user_type} ({why})", told.header)?;
    for (name, value) in &told.request {
        writeln!(text, "  {name}: {value}")?;
    }
    for (name, value) in &told.response {
        writeln!(text, "  in the response {name}: {value}")?;
    }
    let left_out = told.steps.len().saturating_sub(TOLD_RULES);
    if left_out > 0 {
        writeln!(text, "  {left_out} rules before these do not hold")?;
    }
    for step in told.steps.iter().skip(left_out) {
        writeln!(
            text,
            "  rules[{}] {}: {}",
            step.rule,
            step.user_type,
            word(step.reason.truth)
        )?;
        lines(&step.reason, 2, &mut text)?;
    }
    Ok(text)
}

fn lines(reason: &Reason, depth: usize, text: &mut String) -> std::fmt::Result {
    let found = reason
        .found
        .as_ref()
        .map(|found| format!(": {found}"))
        .unwrap_or_default();
    writeln!(
        text,
        "{}{} {}{found}",
        "  ".repeat(depth),
        reason.truth.mark(),
        reason.condition
    )?;
    reason
        .within
        .iter()
        .try_for_each(|inner| lines(inner, depth + 1, text))
}

fn word(truth: Truth) -> &'static str {
    match truth {
        Truth::Yes => "holds",
        Truth::No => "does not hold",
        Truth::Unclear => "is unclear",
    }
}

impl Told {
    fn json(&self) -> Value {
        fn condition(reason: &Reason) -> Value {
            let mut value =
                json!({"condition": reason.condition, "outcome": outcome(reason.truth)});
            if let Some(found) = &reason.found {
                value["found"] = json!(found);
            }
            if !reason.within.is_empty() {
                value["within"] = reason.within.iter().map(condition).collect();
            }
            value
        }
        let mapping = |pairs: &[(String, String)]| -> Value {
            pairs
                .iter()
                .map(|(name, value)| (name.clone(), json!(value)))
                .collect::<Map<_, _>>()
                .into()
        };
        let rules = self.steps.iter().map(|step| {
            json!({"rule": step.rule, "type": step.user_type, "outcome": outcome(step.reason.truth), "when": condition(&step.reason)})
        });
        json!({
            "request": {"method": self.sent.method, "url": self.sent.url},
            "header": self.header,
            "type": self.user_type,
            "rule": self.rule,
            "kept": self.is_kept,
            "requestHeaders": mapping(&self.request),
            "responseHeaders": mapping(&self.response),
            "rules": rules.collect::<Value>(),
        })
    }
}

fn outcome(truth: Truth) -> &'static str {
    match truth {
        Truth::Yes => "holds",
        Truth::No => "doesNotHold",
        Truth::Unclear => "unclear",
    }
}
