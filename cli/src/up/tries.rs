//! What somebody may want to try first with a mesh, and what is to be seen then.
//!
//! Every line holds for the manifests that run: paths and hosts are those of their routes; tenants, users and counters are
//! those of the plugins at the gateway.

use std::cmp::Reverse;
use std::sync::Arc;

use serde_json::Value;
use tenant_rate_limit::config::{Allowance, Config as Limits};
use tenant_rate_limit::limit::Kind;
use tollgate_common::OneOrMany;
use tollgate_mesh::Manifests;
use tollgate_mesh::api::networking::{HttpMatchRequest, HttpRoute, StringMatch, ValueMatch};
use tollgate_mesh::model::Role;
use user_classifier::Config as Classes;
use user_classifier::config::When;

use super::papers::{Papers, this_program, word};
use super::statistics::counters::section;
use crate::issuer::Issuer;

/// The shop's catalogue, which shows more than its other paths.
const CATALOGUE: &str = "/products";

/// More than this nobody uses up by hand.
const LARGEST_BURST: u64 = 50;
/// Of a limit that gives back faster than this, in nanoseconds, requests in turn use up nothing.
const SHORTEST_INTERVAL: u64 = 50_000_000;
/// A user of whom no rule of the shop knows anything.
const ANYBODY: &str = "carol";

/// A command, and what is to be seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Try {
    pub(crate) what: String,
    /// For a shell, perhaps of several lines.
    pub(crate) command: String,
}

/// What to try at a gateway (`http://…`) where this local issuer is believed, if any is.
pub(crate) fn tries(
    manifests: &Manifests,
    issuer: Option<&Arc<Issuer>>,
    gateway: &str,
) -> Vec<Try> {
    let mut workloads = manifests.mesh.workloads.iter();
    let workload = workloads.find(|workload| workload.role == Role::Gateway);
    // Of several ports nobody knows here which routes are behind the first.
    let entry = workload
        .filter(|workload| workload.gateway_ports.len() == 1)
        .and_then(|_| entry(manifests));
    let (Some(workload), Some(entry)) = (workload, entry) else {
        return vec![Try {
            what: "what the gateway answers".to_owned(),
            command: format!("curl -i {gateway}/"),
        }];
    };
    let plugins = &manifests.mesh.plugins;
    let plugins = || plugins.iter().filter(|plugin| plugin.selects(workload));
    let sections = |filter| plugins().filter_map(move |plugin| section(plugin, filter));
    let limits = sections("tenant-rate-limit").find_map(|section| read_limits(&section));
    let classes =
        sections("user-classifier").find_map(|section| serde_json::from_value(section).ok());

    let url = format!("{gateway}{}", entry.path);
    let host = entry.host.as_deref().map(|host| header("host", host));
    let host = host.unwrap_or_default();
    let papers = limits
        .as_ref()
        .and_then(|limits| Papers::of(limits, issuer));
    // What comes before the command, and the command's options.
    let of_tenant = |id: &str| match &papers {
        Some(Papers::Headers(name)) => (String::new(), header(name, id)),
        Some(Papers::Token(issuer)) => token(issuer, ANYBODY, Some(id)),
        None => Default::default(),
    };
    let mut tries = Vec::new();
    // Of whom nothing can be shown, nothing is to be seen.
    let shown = limits.as_ref().filter(|_| papers.is_some());
    let tenants = shown.map(tenants).unwrap_or_default();
    match tenants.iter().max_by_key(|t| (t.at_once, Reverse(t.id))) {
        Some(tenant) => {
            let (before, options) = of_tenant(tenant.id);
            tries.push(Try {
                what: format!(
                    "{} is of the tier {}: RateLimit says what is left",
                    tenant.id, tenant.tier
                ),
                command: format!("{before}curl -i {url}{host}{options}"),
            });
        }
        None => tries.push(Try {
            what: format!("an answer of {}", entry.service),
            command: format!("curl -i {url}{host}"),
        }),
    }
    if let Some(class) = classes.as_ref().and_then(|classes| class(classes, &entry)) {
        let shown = match (class.given, issuer) {
            (Given::Header(name, value), _) => Some((String::new(), header(name, value))),
            (Given::User(user), Some(issuer)) => Some(token(issuer, user, None)),
            (Given::User(_), None) => None,
        };
        tries.extend(shown.map(|(before, options)| Try {
            what: format!(
                "a user of the class {}: always {}",
                class.name, class.destination
            ),
            command: format!("{before}curl {url}{host}{options}"),
        }));
    }
    let tight = tenants.iter().filter(|tenant| tenant.can_be_used_up);
    if let Some(tenant) = tight.min_by_key(|tenant| (tenant.at_once, tenant.id)) {
        let (before, options) = of_tenant(tenant.id);
        tries.push(Try {
            what: format!(
                "{} is of the tier {}: {} at once, then 429",
                tenant.id, tenant.tier, tenant.at_once
            ),
            command: format!(
                "{before}curl -s -o /dev/null -w '%{{http_code}} '{host}{options} \\\n  '{url}?[1-{}]'",
                tenant.at_once + 5
            ),
        });
    }
    let counted =
        sections("business-metrics").filter_map(|section| serde_json::from_value(section).ok());
    let counted = counted.flat_map(|config: business_metrics::Config| config.metrics);
    let refused = limits
        .as_ref()
        .and_then(|limits| limits.metrics.refused.clone());
    let counters = counted.map(|metric| metric.name).chain(refused);
    if let Some(begin) = common_beginning(counters) {
        tries.push(Try {
            what: "what the Envoys have counted".to_owned(),
            command: format!("{} metrics '{begin}*'", this_program()),
        });
    }
    tries
}

/// An option of curl.
fn header(name: &str, value: &str) -> String {
    format!(" -H '{name}: {value}'")
}

/// A line that makes a token, and the option of curl that shows it.
fn token(issuer: &Issuer, user: &str, tenant: Option<&str>) -> (String, String) {
    let mut line = format!("T=$({} token --user {user}", this_program());
    if let Some(tenant) = tenant {
        line += &format!(" --tenant {tenant}");
    }
    let here = std::env::current_dir().unwrap_or_default();
    if let Some(overlay) = issuer.elsewhere(&here) {
        line += &format!(" \\\n  --overlay {}", word(overlay));
    }
    (
        format!("{line})\n"),
        r#" -H "authorization: Bearer $T""#.to_owned(),
    )
}

/// A route from outside.
struct Entry<'a> {
    path: String,
    /// What has to be asked for, if not everything is answered.
    host: Option<String>,
    service: &'a str,
    /// How it is matched, and the routes among which it is.
    uri: Option<&'a StringMatch>,
    routes: &'a [HttpRoute],
}

/// The shop's catalogue if it can be reached, else the first route that a plain request takes.
fn entry(manifests: &Manifests) -> Option<Entry<'_>> {
    let mut entries = Vec::new();
    for object in &manifests.objects.virtual_services {
        let gateways = object.spec.gateways.iter().filter(|name| *name != "mesh");
        let Some(gateway) = gateways.clone().next() else {
            continue;
        };
        let gateway = manifests.objects.gateways.iter().find(|found| {
            format!("{}/{}", found.namespace, found.name) == *gateway
                || (found.name == *gateway && found.namespace == object.namespace)
        });
        let of_gateway = gateway
            .into_iter()
            .flat_map(|gateway| &gateway.spec.servers);
        let of_gateway = of_gateway.flat_map(|server| &server.hosts);
        let of_gateway = of_gateway.map(|host| host.rsplit('/').next().unwrap_or(host));
        let own = object.spec.hosts.iter().map(String::as_str);
        // The most of both is what is narrower.
        let host = [own.collect::<Vec<_>>(), of_gateway.collect()]
            .into_iter()
            .find(|hosts| !hosts.contains(&"*"))
            .and_then(|hosts| Some((*hosts.first()?).replace('*', "www")));
        for route in &object.spec.http {
            let plain = route.matches.iter().filter(|request| is_plain(request));
            let uris = plain.map(|request| request.uri.as_ref());
            let any = route.matches.is_empty().then_some(None);
            for uri in uris.chain(any) {
                let path = match uri {
                    None => "/",
                    Some(StringMatch::Exact(path) | StringMatch::Prefix(path)) => path,
                    Some(StringMatch::Regex(_)) => continue,
                };
                let Some(to) = route.route.first() else {
                    continue;
                };
                entries.push(Entry {
                    path: path.to_owned(),
                    host: host.clone(),
                    service: short(&to.destination.host),
                    uri,
                    routes: &object.spec.http,
                });
            }
        }
    }
    let catalogue = entries.iter().position(|entry| entry.path == CATALOGUE);
    (!entries.is_empty()).then(|| entries.swap_remove(catalogue.unwrap_or(0)))
}

/// Whether a GET with nothing special about it matches.
fn is_plain(request: &HttpMatchRequest) -> bool {
    let HttpMatchRequest {
        name: _,
        uri: _,
        ignore_uri_case: _,
        method,
        authority,
        headers,
        without_headers,
        query_params,
    } = request;
    method
        .as_ref()
        .is_none_or(|method| *method == StringMatch::Exact("GET".to_owned()))
        && authority.is_none()
        && headers.is_empty()
        && without_headers.is_empty()
        && query_params.is_empty()
}

fn short(host: &str) -> &str {
    host.split('.').next().unwrap_or(host)
}

/// A tenant that is listed, and what it may do.
struct Tenant<'a> {
    id: &'a str,
    tier: &'a str,
    /// Requests from rest.
    at_once: u64,
    /// By hand, and to be had back soon.
    can_be_used_up: bool,
}

fn tenants(limits: &Limits) -> Vec<Tenant<'_>> {
    let tenants = limits.tenants.iter().filter_map(|(id, listed)| {
        let plan = limits.plans.get(listed.plan as usize)?;
        let Allowance::Limits(set) = &plan.allowance else {
            return None;
        };
        let (at_once, interval) = set
            .limits
            .iter()
            .map(|limit| match limit.kind {
                Kind::Rate { interval, burst } => (burst, interval),
                // A day's worth is nothing to use up for a look.
                Kind::Quota { quota, .. } => (quota / limit.cost(1).max(1), 0),
            })
            .min()?;
        Some(Tenant {
            id,
            tier: limits.tiers.get(plan.tier)?,
            at_once,
            can_be_used_up: at_once <= LARGEST_BURST && interval >= SHORTEST_INTERVAL,
        })
    });
    tenants.collect()
}

fn read_limits(section: &Value) -> Option<Limits> {
    Limits::parse(section.to_string().as_bytes()).ok()
}

/// A class that has a route of its own.
struct Class<'a> {
    name: &'a str,
    given: Given<'a>,
    destination: String,
}

/// What gives a class.
#[derive(Clone, Copy)]
enum Given<'a> {
    /// A header with this value.
    Header(&'a str, &'a str),
    /// A token of this user (`sub`).
    User(&'a str),
}

fn class<'a>(classes: &'a Classes, entry: &Entry<'_>) -> Option<Class<'a>> {
    // Before it, others might decide.
    let rule = classes.rules.first()?;
    let condition = match &rule.when {
        When::One(condition) => condition,
        When::All(conditions) => match conditions.as_slice() {
            [condition] => condition,
            _ => return None,
        },
    };
    let given = match (&condition.header, &condition.claim) {
        (Some(wanted), None) => {
            let one_of = wanted.one_of.as_ref().and_then(|values| values.first());
            Given::Header(&wanted.name, wanted.exact.as_ref().or(one_of)?)
        }
        (None, Some(wanted)) if wanted.name == OneOrMany::One("sub".to_owned()) => {
            let one_of = wanted.one_of.as_ref().and_then(|values| values.first());
            Given::User(wanted.exact.as_ref().or(one_of)?)
        }
        _ => return None,
    };
    let exactly = ValueMatch::Value(StringMatch::Exact(rule.user_type.clone()));
    let gives = |request: &HttpMatchRequest| {
        let mut headers = request.headers.iter();
        request.uri.as_ref() == entry.uri
            && headers.next().is_some_and(|(name, is)| {
                name.eq_ignore_ascii_case(&classes.header) && *is == exactly
            })
            && headers.next().is_none()
    };
    let route = entry
        .routes
        .iter()
        .find(|route| route.matches.iter().any(gives))?;
    let [to] = route.route.as_slice() else {
        return None;
    };
    let service = short(&to.destination.host);
    let destination = match &to.destination.subset {
        Some(subset) => format!("{service} {subset}"),
        None => service.to_owned(),
    };
    Some(Class {
        name: &rule.user_type,
        given,
        destination,
    })
}

/// What all names begin with, or one of them if that is nothing.
fn common_beginning(mut names: impl Iterator<Item = String>) -> Option<String> {
    let first = names.next()?;
    let common = names.fold(first.clone(), |common, name| {
        let same = common.chars().zip(name.chars()).take_while(|(a, b)| a == b);
        same.map(|(a, _)| a).collect()
    });
    Some(if common.is_empty() { first } else { common })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    /// What is said of a part of this workspace, as lines.
    fn said(paths: &[&str]) -> Vec<String> {
        said_with(paths, None)
    }

    fn said_with(paths: &[&str], issuer: Option<&Arc<Issuer>>) -> Vec<String> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let paths: Vec<_> = paths.iter().map(|path| root.join(path)).collect();
        let manifests = tollgate_mesh::load_watched(&paths).result.unwrap();
        let mut tries = tries(&manifests, issuer, "http://127.0.0.1:8080");
        for Try { command, .. } in &mut tries {
            *command = command.replace(&this_program(), "target/release/tollgate");
        }
        for line in tries.iter().flat_map(|Try { command, .. }| command.lines()) {
            // Behind two columns of space, in a terminal of 80, also with a port of five digits; but for a folder's name.
            assert!(line.len() <= 77 || line.contains("--overlay "), "{line}");
        }
        tries
            .into_iter()
            .map(|Try { what, command }| format!("{what}: {command}"))
            .collect()
    }

    #[test]
    fn the_shop_has_tenants_vips_limits_and_counters_with_both_forms_of_the_filters() {
        let folder = tempfile::tempdir().unwrap();
        let overlay = folder.path().join(crate::issuer::OVERLAY);
        std::fs::create_dir_all(overlay.join("issuer")).unwrap();
        let issuer = Arc::new(Issuer::of_overlay(&overlay).unwrap());
        let overlay = word(&overlay);
        for shop in [".", "istio/overlays/bundle"] {
            assert_eq!(
                said_with(&[shop], Some(&issuer)),
                [
                    format!(
                        "acme is of the tier premium: RateLimit says what is left: \
                         T=$(target/release/tollgate token --user carol --tenant acme \\\n  --overlay {overlay})\n\
                         curl -i http://127.0.0.1:8080/products -H \"authorization: Bearer $T\""
                    ),
                    format!(
                        "a user of the class vip: always product-service v2: \
                         T=$(target/release/tollgate token --user alice \\\n  --overlay {overlay})\n\
                         curl http://127.0.0.1:8080/products -H \"authorization: Bearer $T\""
                    ),
                    format!(
                        "initech is of the tier free: 10 at once, then 429: \
                         T=$(target/release/tollgate token --user carol --tenant initech \\\n  --overlay {overlay})\n\
                         curl -s -o /dev/null -w '%{{http_code}} ' -H \"authorization: Bearer $T\" \\\n  \
                         'http://127.0.0.1:8080/products?[1-15]'"
                    ),
                    "what the Envoys have counted: target/release/tollgate metrics 'shop_*'"
                        .to_owned(),
                ],
                "{shop}"
            );
        }
        // With an issuer of whom no token can be had here.
        assert_eq!(
            said(&["."]),
            [
                "an answer of product-service: curl -i http://127.0.0.1:8080/products",
                "what the Envoys have counted: target/release/tollgate metrics 'shop_*'",
            ]
        );
    }

    #[test]
    fn headers_are_shown_where_they_are_believed() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("plugins.yaml");
        let plugin = |name: &str, config: &str| {
            format!(
                "apiVersion: extensions.istio.io/v1alpha1\nkind: WasmPlugin\nmetadata: {{name: {name}, namespace: istio-system}}\nspec:\n  \
                 url: oci://example.com/{name}:1\n  selector: {{matchLabels: {{istio: ingressgateway}}}}\n  pluginConfig: {config}\n---\n"
            )
        };
        let limiter = "{tenant: {from: [{header: x-org}], unknown: {tier: t}}, tiers: {t: {limits: [{name: a, requests: 5, per: 1s}]}}, \
                       tenants: {acme: {tier: t}}}";
        let classifier = "{default: a, selfAssignable: [vip], rules: [{type: vip, when: [{header: {name: x-user-id, in: [alice]}}]}]}";
        let plugins = plugin("tenant-rate-limit", limiter) + &plugin("user-classifier", classifier);
        std::fs::write(&file, plugins).unwrap();
        assert_eq!(
            said(&["services", "istio", file.to_str().unwrap()]),
            [
                "acme is of the tier t: RateLimit says what is left: curl -i http://127.0.0.1:8080/products -H 'x-org: acme'",
                "a user of the class vip: always product-service v2: curl http://127.0.0.1:8080/products -H 'x-user-id: alice'",
                "acme is of the tier t: 5 at once, then 429: curl -s -o /dev/null -w '%{http_code} ' -H 'x-org: acme' \\\n  \
                 'http://127.0.0.1:8080/products?[1-10]'",
            ]
        );
    }

    #[test]
    fn without_plugins_nothing_of_theirs_is_promised() {
        assert_eq!(
            said(&["services", "istio"]),
            ["an answer of product-service: curl -i http://127.0.0.1:8080/products"]
        );
        assert_eq!(
            said(&["services", "istio", "wasm-plugins/user-classifier"]),
            ["an answer of product-service: curl -i http://127.0.0.1:8080/products"]
        );
        assert_eq!(
            said(&["services", "istio/ingress"]),
            ["what the gateway answers: curl -i http://127.0.0.1:8080/"]
        );
    }

    #[test]
    fn another_mesh_is_asked_for_its_own_hosts_and_paths() {
        let mesh = "\
apiVersion: v1
kind: Namespace
metadata: {name: books, labels: {istio-injection: enabled}}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: edge, namespace: books}
spec:
  selector: {matchLabels: {app: edge}}
  template:
    metadata: {labels: {app: edge}, annotations: {inject.istio.io/templates: gateway}}
    spec: {containers: [{name: istio-proxy, image: auto}]}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: reviews, namespace: books}
spec:
  selector: {matchLabels: {app: reviews}}
  template:
    metadata: {labels: {app: reviews}}
    spec: {containers: [{name: reviews, image: reviews, ports: [{containerPort: 9080}]}]}
---
apiVersion: v1
kind: Service
metadata: {name: reviews, namespace: books}
spec: {selector: {app: reviews}, ports: [{name: http, port: 9080}]}
---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: edge, namespace: books}
spec:
  selector: {app: edge}
  servers: [{port: {number: 8080, name: http, protocol: HTTP}, hosts: ['books/*.example.com']}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: reviews, namespace: books}
spec:
  hosts: ['*']
  gateways: [edge]
  http:
  - match: [{uri: {prefix: /admin}, headers: {x-key: {exact: a}}}, {uri: {exact: /reviews}, method: {exact: GET}}]
    route: [{destination: {host: reviews.books.svc.cluster.local}}]
";
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("books.yaml");
        std::fs::write(&file, mesh).unwrap();
        assert_eq!(
            said(&[file.to_str().unwrap()]),
            [
                "an answer of reviews: curl -i http://127.0.0.1:8080/reviews -H 'host: www.example.com'"
            ]
        );
        // The second port's routes may be others.
        let twice = mesh.replace(
            "servers: [",
            "servers: [{port: {number: 8081, name: more, protocol: HTTP}, hosts: ['*']}, ",
        );
        std::fs::write(&file, twice).unwrap();
        assert_eq!(
            said(&[file.to_str().unwrap()]),
            ["what the gateway answers: curl -i http://127.0.0.1:8080/"]
        );
    }
}
