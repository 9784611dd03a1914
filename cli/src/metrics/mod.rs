//! `tollgate metrics`: the business numbers of a running mesh, as a table.
//!
//! [`up`](crate::up) says in its run's folder where its Envoys are and what its plugins were told to count. Each Envoy is asked
//! for what its Wasm filters have counted ([`exposition`]), [`mod@tally`] puts the pods of a workload together, [`mod@declared`] knows
//! what the manifests say of it, and [`mod@text`] and [`mod@json`] write it. With `--url`, anything that answers in
//! Prometheus' text format is asked instead.

mod declared;
mod exposition;
mod json;
mod tally;
mod text;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, anyhow};
use reqwest::Url;
use tokio::task::JoinSet;
use tollgate_mesh::source::nearest;

use crate::args::{MetricsArgs, MetricsFormat};
use crate::console::{say, shown};
use crate::error::{FAILURE, Hint};
use crate::up::status::{self, Running, Status};
use crate::workspace::Workspace;

pub(crate) use declared::{Declared, declared};

use exposition::Exposition;
use tally::{Unknown, Wanted, tally};

/// An Envoy on this machine answers within milliseconds; one behind a tunnel may take longer.
const PATIENCE: Duration = Duration::from_secs(10);

/// What the metrics of Wasm filters are called inside Envoy.
const OF_FILTERS: &str = r"^wasmcustom\.";

/// Where Envoys answer.
const PATH: &str = "/stats/prometheus";

/// Somebody to ask.
#[derive(Clone, Debug)]
struct Source {
    /// Which pod it is, or which URL, for people.
    name: String,
    /// Empty if nobody knows.
    workload: String,
    url: Url,
}

/// Prints them.
pub(crate) async fn run(args: MetricsArgs) -> anyhow::Result<ExitCode> {
    let (sources, declared) = if args.url.is_empty() {
        let status = find(args.mesh.as_deref())?;
        (of_mesh(&status)?, status.metrics)
    } else {
        let sources = args.url.iter().map(|url| of_url(url));
        (sources.collect::<anyhow::Result<_>>()?, Vec::new())
    };
    let all = sources.len();
    let (answers, silent) = ask(sources).await?;
    if silent.len() == all {
        let (name, reason) = silent.first().context("the mesh has no Envoy")?;
        return Err(anyhow!("{name}: {reason}")).hint(match args.url.is_empty() {
            true => "the mesh runs, and none of its Envoys answers: look at its logs, or start it anew",
            false => "name the admin interface of an Envoy, or the port 15090 of a pod on a cluster; its path is /stats/prometheus",
        });
    }
    let mut wanted = Wanted {
        names: args.names,
        by: args.by,
        ..Wanted::default()
    };
    for LabelFilter { name, value } in args.label {
        wanted.labels.entry(name).or_default().push(value);
    }
    // A mesh that runs here was asked for what filters count alone.
    let elsewhere = !args.url.is_empty();
    let all = tally(&answers, &declared, |name| {
        elsewhere && wanted.leaves_out(name)
    });
    let metrics = wanted.of(all).map_err(unknown)?;
    let text = match args.format {
        MetricsFormat::Text => text::text(&metrics)?,
        MetricsFormat::Json => format!("{}\n", json::json(&metrics, &silent)),
    };
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes())
        .and_then(|()| out.flush())
        .context("cannot write the metrics")?;
    for (name, reason) in &silent {
        say(format!("warning: without {name}: {reason}"));
    }
    // Sums without some of their parts.
    Ok(match silent.is_empty() {
        true => ExitCode::SUCCESS,
        false => ExitCode::from(FAILURE),
    })
}

/// The mesh that runs, or the one of several that was named.
fn find(wanted: Option<&str>) -> anyhow::Result<Status> {
    let elsewhere = "or name an Envoy that runs elsewhere: --url http://127.0.0.1:15000";
    let workspace = Workspace::current().hint(elsewhere)?;
    choose(status::running(workspace.target_directory())?, wanted)
}

fn choose(running: Vec<Running>, wanted: Option<&str>) -> anyhow::Result<Status> {
    let starting = running.iter().any(|run| run.status.is_none());
    let mut serving: Vec<(PathBuf, Status)> = running
        .into_iter()
        .filter_map(|run| Some((run.run, run.status?)))
        .collect();
    let listed = |serving: &[(PathBuf, Status)]| {
        let names = serving.iter().map(|(run, status)| match &status.gateway {
            Some(gateway) => gateway.clone(),
            None => shown(run.display()),
        });
        Vec::from_iter(names)
    };
    let there = listed(&serving);
    if let Some(wanted) = wanted {
        serving.retain(|(run, status)| is(run, status, wanted));
        if serving.is_empty() && !there.is_empty() {
            return Err(anyhow!(
                "--mesh {wanted}: no running mesh has this gateway or folder"
            ))
            .hint(format!("there is {}", there.join(", ")));
        }
    }
    match serving.len() {
        1 => Ok(serving.remove(0).1),
        0 if starting => Err(anyhow!("a mesh is being started, and does not serve yet"))
            .hint("try again when `tollgate up` says that it is ready"),
        0 => Err(anyhow!("no mesh of this checkout is running")).hint(
            "start one with `tollgate up`, send it something, and ask again in another terminal;\n\
             or name an Envoy that runs elsewhere: --url http://127.0.0.1:15000",
        ),
        count => Err(anyhow!("{count} meshes are running")).hint(format!(
            "say which by its gateway, one of:\n{}",
            Vec::from_iter(listed(&serving).iter().map(|name| format!("--mesh {name}"))).join("\n")
        )),
    }
}

/// Whether a mesh was meant by this: its gateway's URL, address or port, or its run's folder or that one's name.
fn is(run: &Path, status: &Status, wanted: &str) -> bool {
    let wanted = wanted.trim_end_matches('/');
    let gateway = status.gateway.as_deref().is_some_and(|gateway| {
        let address = gateway.trim_start_matches("http://");
        let port = address.rsplit(':').next();
        [Some(gateway), Some(address), port].contains(&Some(wanted))
    });
    gateway
        || run.file_name().is_some_and(|name| name == wanted)
        || std::path::absolute(wanted).is_ok_and(|path| path == run)
}

fn of_mesh(status: &Status) -> anyhow::Result<Vec<Source>> {
    let sources = status.proxies.iter().map(|proxy| {
        let url = format!("http://{}{PATH}", proxy.admin);
        Ok(Source {
            name: proxy.pod.clone(),
            workload: proxy.workload.clone(),
            url: Url::parse_with_params(&url, [("filter", OF_FILTERS)])?,
        })
    });
    sources.collect()
}

/// A URL as it was given; without a path, where Envoys answer.
fn of_url(given: &str) -> anyhow::Result<Source> {
    let wrong = |why: String| {
        anyhow!("--url {given}: {why}")
            .hint("write e.g. --url http://127.0.0.1:15090/stats/prometheus")
    };
    let mut url = Url::parse(given).map_err(|error| wrong(error.to_string()))?;
    if url.scheme() != "http" {
        return Err(wrong(format!("{:?} is not http", url.scheme())));
    }
    if matches!(url.path(), "" | "/") {
        url.set_path(PATH);
    }
    Ok(Source {
        name: given.to_owned(),
        workload: String::new(),
        url,
    })
}

/// What each of them answered, with its workload, and who did not, with the reason.
type Answers = (Vec<(String, Exposition)>, Vec<(String, String)>);

async fn ask(sources: Vec<Source>) -> anyhow::Result<Answers> {
    // The user's proxy settings are not for this machine.
    let client = reqwest::Client::builder()
        .no_proxy()
        .timeout(PATIENCE)
        .build()
        .context("cannot make an HTTP client")?;
    let mut asked = JoinSet::new();
    for (position, source) in sources.into_iter().enumerate() {
        let client = client.clone();
        asked.spawn(async move {
            let answer = answer(&client, source.url.clone()).await;
            (position, source, answer)
        });
    }
    let mut all = Vec::new();
    while let Some(one) = asked.join_next().await {
        all.push(one.context("cannot wait for an answer")?);
    }
    all.sort_by_key(|(position, ..)| *position);
    let (mut answers, mut silent) = Answers::default();
    for (_, source, answer) in all {
        match answer {
            Ok(exposition) => answers.push((source.workload, exposition)),
            Err(reason) => silent.push((source.name, reason)),
        }
    }
    Ok((answers, silent))
}

async fn answer(client: &reqwest::Client, url: Url) -> Result<Exposition, String> {
    let said = |error: reqwest::Error| {
        // Its own text repeats the URL and leaves out why.
        let mut cause: &dyn std::error::Error = &error;
        while let Some(deeper) = cause.source() {
            cause = deeper;
        }
        format!("does not answer: {cause}")
    };
    let answer = client.get(url.clone()).send().await.map_err(said)?;
    let status = answer.status();
    if !status.is_success() {
        return Err(format!("{url} answers {status}"));
    }
    exposition::parse(&answer.text().await.map_err(said)?)
        .map_err(|error| format!("{url} answers what is not metrics: {error}"))
}

fn unknown(unknown: Unknown) -> anyhow::Error {
    let Unknown { what, name, known } = unknown;
    let hint = match (
        nearest(&name, known.iter().map(String::as_str)),
        known.len(),
    ) {
        (Some(near), _) => format!("did you mean {near}?"),
        (None, 0) => format!("nothing has a {what} yet: no plugin of the mesh counts"),
        (None, _) => format!("there is {}", known.join(", ")),
    };
    anyhow!("no {what} is called {name}").hint(hint)
}

/// A label that series must have, as it is typed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LabelFilter {
    /// Its name.
    pub name: String,
    /// Its value.
    pub value: String,
}

/// Reads `NAME=VALUE`.
pub(crate) fn parse_label(text: &str) -> Result<LabelFilter, String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok(LabelFilter {
            name: name.to_owned(),
            value: value.trim_matches('"').to_owned(),
        }),
        _ => Err("write NAME=VALUE, e.g. tenant=acme".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::render;

    fn mesh(name: &str, port: Option<u16>) -> Running {
        let status = port.map(|port| Status {
            gateway: Some(format!("http://127.0.0.1:{port}")),
            prometheus: None,
            proxies: Vec::new(),
            metrics: Vec::new(),
        });
        Running {
            run: PathBuf::from("/runs").join(name),
            status,
        }
    }

    #[test]
    fn the_only_mesh_is_meant_and_of_several_the_one_that_is_named() {
        let one = || vec![mesh("a", Some(8080)), mesh("starting", None)];
        let two = || vec![mesh("a", Some(8080)), mesh("b", Some(8081))];
        let gateway = |found: anyhow::Result<Status>| found.unwrap().gateway.unwrap();
        assert_eq!(gateway(choose(one(), None)), "http://127.0.0.1:8080");
        for wanted in [
            "8081",
            "127.0.0.1:8081",
            "http://127.0.0.1:8081/",
            "b",
            "/runs/b",
        ] {
            assert_eq!(
                gateway(choose(two(), Some(wanted))),
                "http://127.0.0.1:8081"
            );
        }
        let told = |running, wanted| render(&choose(running, wanted).unwrap_err());
        assert_eq!(
            told(two(), None),
            "error: 2 meshes are running\nhint: say which by its gateway, one of:\n      --mesh http://127.0.0.1:8080\n      \
             --mesh http://127.0.0.1:8081\n"
        );
        assert_eq!(
            told(one(), Some("808")),
            "error: --mesh 808: no running mesh has this gateway or folder\nhint: there is http://127.0.0.1:8080\n"
        );
        assert_eq!(
            told(vec![mesh("starting", None)], None),
            "error: a mesh is being started, and does not serve yet\nhint: try again when `tollgate up` says that it is ready\n"
        );
        assert_eq!(
            told(Vec::new(), None),
            "error: no mesh of this checkout is running\nhint: start one with `tollgate up`, send it something, and ask again in \
             another terminal;\n      or name an Envoy that runs elsewhere: --url http://127.0.0.1:15000\n"
        );
    }

    #[test]
    fn a_url_without_a_path_is_an_envoy() {
        let url = |given: &str| of_url(given).map(|source| source.url.to_string());
        assert_eq!(
            url("http://127.0.0.1:15000").unwrap(),
            "http://127.0.0.1:15000/stats/prometheus"
        );
        assert_eq!(
            url("http://localhost:15020/metrics?a=b").unwrap(),
            "http://localhost:15020/metrics?a=b"
        );
        assert_eq!(
            render(&url("127.0.0.1:15000").unwrap_err()),
            "error: --url 127.0.0.1:15000: relative URL without a base\n\
             hint: write e.g. --url http://127.0.0.1:15090/stats/prometheus\n"
        );
        assert_eq!(
            render(&url("https://x/").unwrap_err()),
            "error: --url https://x/: \"https\" is not http\n\
             hint: write e.g. --url http://127.0.0.1:15090/stats/prometheus\n"
        );
    }

    #[test]
    fn what_nothing_is_called_is_told_with_what_was_meant() {
        let told = |name: &str, known: &[&str]| {
            render(&unknown(Unknown {
                what: "metric",
                name: name.to_owned(),
                known: known.iter().map(|name| (*name).to_owned()).collect(),
            }))
        };
        assert_eq!(
            told(
                "shop_order_total",
                &["shop_orders_total", "shop_refused_total"]
            ),
            "error: no metric is called shop_order_total\nhint: did you mean shop_orders_total?\n"
        );
        assert_eq!(
            told("revenue", &["shop_orders_total", "shop_refused_total"]),
            "error: no metric is called revenue\nhint: there is shop_orders_total, shop_refused_total\n"
        );
        assert_eq!(
            told("revenue", &[]),
            "error: no metric is called revenue\nhint: nothing has a metric yet: no plugin of the mesh counts\n"
        );
    }

    #[test]
    fn a_label_is_a_name_and_a_value() {
        let label = |name: &str, value: &str| {
            Ok(LabelFilter {
                name: name.to_owned(),
                value: value.to_owned(),
            })
        };
        assert_eq!(parse_label("tenant=acme"), label("tenant", "acme"));
        assert_eq!(parse_label("route=\"/a?b=c\""), label("route", "/a?b=c"));
        assert_eq!(
            parse_label("tenant"),
            Err("write NAME=VALUE, e.g. tenant=acme".to_owned())
        );
    }
}
