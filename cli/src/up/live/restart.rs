//! Finds what an edit asks for that a running mesh cannot become: whatever its processes were started with.

use std::collections::BTreeMap;

use semver::Version;
use tollgate_mesh::api::apps::DeploymentSpec;
use tollgate_mesh::api::core;
use tollgate_mesh::api::{Object, Objects};
use tollgate_mesh::model::{Container, DATABASE_URL, MutualTls, PROXY, Role, Workload};
use tollgate_mesh::source::{Source, join};
use tollgate_mesh::{Manifests, Problem};

use crate::envoy::keeps_environments;

/// The namespace's label that decides which pods have a sidecar.
const INJECTION: &str = "istio-injection";

/// Every change from `before` to `after` that only takes place when processes are started, where it is written.
pub(crate) fn needed(before: &Manifests, after: &Manifests, envoy: &Version) -> Vec<Problem> {
    let mut problems = match keeps_environments(envoy) {
        true => environments(before, after, envoy),
        false => Vec::new(),
    };
    for old in &before.mesh.workloads {
        if find(&after.mesh.workloads, old).is_none()
            && let Some(deployment) = deployment(before, old)
        {
            problems.push(problem(
                &deployment.source,
                "metadata.name",
                format!("the Deployment {} is gone from here", old.name),
            ));
        }
    }
    for new in &after.mesh.workloads {
        let Some(deployment) = deployment(after, new) else {
            continue;
        };
        match find(&before.mesh.workloads, new) {
            Some(old) => Changes {
                before,
                after,
                deployment,
            }
            .find(&as_run(old), &as_run(new), &mut problems),
            None => problems.push(problem(
                &deployment.source,
                "metadata.name",
                format!("the Deployment {} is new", new.name),
            )),
        }
    }
    // One value may be of many containers.
    let mut told = Vec::new();
    for problem in problems {
        if !told.contains(&problem) {
            told.push(problem);
        }
    }
    told
}

/// Modules that are to have another environment, where their Envoy keeps that which they have.
fn environments(before: &Manifests, after: &Manifests, envoy: &Version) -> Vec<Problem> {
    let objects = &after.objects.wasm_plugins;
    let changed = after.mesh.plugins.iter().filter(|new| {
        let mut old = before.mesh.plugins.iter();
        let old = old.find(|old| old.full_name() == new.full_name());
        old.is_some_and(|old| !old.has_environment_of(new))
    });
    let written = changed.filter_map(|plugin| {
        let mut objects = objects.iter();
        objects.find(|object| object.name == plugin.name && object.namespace == plugin.namespace)
    });
    let told = written.map(|object| {
        let what = format!(
            "the environment of the module of {} changed, and Envoy {envoy} keeps the one that it was started with",
            object.name
        );
        problem(&object.source, "spec.vmConfig.env", what)
    });
    told.collect()
}

fn problem(source: &Source, field: &str, what: String) -> Problem {
    source.problem(field, format!("{what}; restart `tollgate up` for it"))
}

fn find<'a>(workloads: &'a [Workload], like: &Workload) -> Option<&'a Workload> {
    workloads
        .iter()
        .find(|workload| workload.name == like.name && workload.namespace == like.namespace)
}

fn deployment<'a>(
    manifests: &'a Manifests,
    workload: &Workload,
) -> Option<&'a Object<DeploymentSpec>> {
    manifests.objects.deployments.iter().find(|deployment| {
        deployment.name == workload.name && deployment.namespace == workload.namespace
    })
}

/// What changed of one workload.
struct Changes<'a> {
    before: &'a Manifests,
    after: &'a Manifests,
    /// As it is now.
    deployment: &'a Object<DeploymentSpec>,
}

impl Changes<'_> {
    fn find(&self, old: &Workload, new: &Workload, problems: &mut Vec<Problem>) {
        // It explains whatever else is different then: without a sidecar, its container is one like any other.
        if old.role != new.role {
            return problems.push(self.role(new));
        }
        let first = problems.len();
        let source = &self.deployment.source;
        let mut note = |field: &str, what: String| problems.push(problem(source, field, what));
        if old.replicas != new.replicas {
            note(
                "spec.replicas",
                format!(
                    "{} has {} running, and {} are asked for",
                    new.name,
                    pods(old.replicas),
                    new.replicas
                ),
            );
        }
        let template = "spec.template.metadata";
        for (kind, old, new) in [
            ("labels", &old.labels, &new.labels),
            ("annotations", &old.annotations, &new.annotations),
        ] {
            for name in different(old, new) {
                let value = match new.get(name) {
                    Some(value) => format!("is {value:?} now"),
                    None => "is gone".to_owned(),
                };
                let what = format!("{name} {value}, and running pods keep their {kind}");
                note(&join(&format!("{template}.{kind}"), name), what);
            }
        }
        if old.service_account != new.service_account {
            let what = format!(
                "the pods run as {:?}, and a certificate for {:?} is issued at the start",
                old.service_account, new.service_account
            );
            note("spec.template.spec.serviceAccountName", what);
        }
        if old.proxy_env != new.proxy_env {
            let mut written = self.deployment.spec.template.spec.containers.iter();
            let index = written.position(|container| container.name == PROXY);
            let field = match index {
                Some(index) => format!("spec.template.spec.containers[{index}].env"),
                None => "spec.template.spec.containers".to_owned(),
            };
            note(
                &field,
                format!("the environment of the proxies of {} changed", new.name),
            );
        }
        let values = self.containers(&old.containers, &new.containers, &mut note);
        problems.extend(values);
        if problems.len() > first || old == new {
            return;
        }
        // What is not in the Deployment itself: the ports of Gateways.
        if old.gateway_ports != new.gateway_ports {
            problems.extend(self.gateway_ports(old, new));
        } else {
            problems.push(problem(
                source,
                "spec.template",
                format!("the pods of {} are others now", new.name),
            ));
        }
    }

    /// Notes what is another in the Deployment, and returns what is another in objects that its containers have values from.
    fn containers(
        &self,
        old: &[Container],
        new: &[Container],
        note: &mut impl FnMut(&str, String),
    ) -> Vec<Problem> {
        let names = |containers: &[Container]| -> Vec<String> {
            containers
                .iter()
                .map(|container| container.name.clone())
                .collect()
        };
        let all = "spec.template.spec.containers";
        if names(old) != names(new) {
            let what = format!(
                "the containers are {}, and {} are running",
                listed(&names(new)),
                listed(&names(old))
            );
            note(all, what);
            return Vec::new();
        }
        let written = &self.deployment.spec.template.spec.containers;
        let mut values = Vec::new();
        for (old, new) in old.iter().zip(new) {
            let index = written
                .iter()
                .position(|container| container.name == new.name);
            let place = format!("{all}[{}]", index.unwrap_or(0));
            let now = index.and_then(|index| written.get(index));
            let was = self.was(&new.name);
            // What was not written anew differs by the values that it is made of.
            let by_value = |same: fn(&core::Container, &core::Container) -> bool| {
                was.zip(now).is_some_and(|(was, now)| same(was, now))
            };
            let env_by_value = old.env != new.env && by_value(|was, now| was.env == now.env);
            let of_values = match now.filter(|_| env_by_value) {
                Some(now) => self.values(now),
                None => Vec::new(),
            };
            let explained = !of_values.is_empty();
            values.extend(of_values);
            let running = |what: &str| format!("{what} of the container {} changed", new.name);
            if old.image != new.image {
                let what = format!(
                    "{:?} is running, and {:?} is asked for",
                    old.image.reference, new.image.reference
                );
                note(&format!("{place}.image"), what);
            }
            for (field, differs, what) in [
                ("env", old.env != new.env && !explained, "the environment"),
                (
                    "command",
                    old.command != new.command
                        && !(explained && by_value(|was, now| was.command == now.command)),
                    "the command",
                ),
                (
                    "args",
                    old.args != new.args
                        && !(explained && by_value(|was, now| was.args == now.args)),
                    "the arguments",
                ),
                ("ports", old.ports != new.ports, "the ports"),
                (
                    "readinessProbe",
                    old.readiness != new.readiness,
                    "the readiness probe",
                ),
            ] {
                if differs {
                    note(&format!("{place}.{field}"), running(what));
                }
            }
        }
        values
    }

    /// A container of this workload as it was written.
    fn was(&self, name: &str) -> Option<&core::Container> {
        let mut deployments = self.before.objects.deployments.iter();
        let was = deployments.find(|was| {
            was.name == self.deployment.name && was.namespace == self.deployment.namespace
        })?;
        let mut containers = was.spec.template.spec.containers.iter();
        containers.find(|container| container.name == name)
    }

    /// The values of Secrets and ConfigMaps that a container's variables have and that are others now, where they are written.
    fn values(&self, container: &core::Container) -> Vec<Problem> {
        let namespace = &self.deployment.namespace;
        let sources = container.env.iter().filter_map(|v| v.value_from.as_ref());
        let changed = sources.filter_map(|from| {
            let old = value(&self.before.objects, namespace, from);
            let new = value(&self.after.objects, namespace, from);
            if old.as_ref().map(|old| old.bytes) == new.as_ref().map(|new| new.bytes) {
                return None;
            }
            let is = if new.is_some() {
                "is another now"
            } else {
                "is gone from here"
            };
            let Value { source, field, .. } = new.or(old)?;
            let what =
                format!("{is}, and running containers keep the value they were started with");
            Some(problem(source, &field, what))
        });
        changed.collect()
    }

    fn role(&self, new: &Workload) -> Problem {
        let what = match new.role {
            Role::Sidecar => "get a sidecar",
            Role::Gateway => "become a gateway",
            Role::Plain => "lose their proxy",
        };
        let what = format!("the running pods of {} would {what}", new.name);
        let namespace = self
            .after
            .objects
            .namespaces
            .iter()
            .find(|namespace| namespace.name == new.namespace);
        match namespace {
            Some(namespace) => {
                problem(&namespace.source, &join("metadata.labels", INJECTION), what)
            }
            None => problem(&self.deployment.source, "metadata.namespace", what),
        }
    }

    /// The Gateways that were edited, or else the Services that say on which port a Gateway's port really is.
    fn gateway_ports(&self, old: &Workload, new: &Workload) -> Vec<Problem> {
        let what = format!(
            "{} listens on {}, and would have to listen on {}",
            new.name,
            listed(&old.gateway_ports),
            listed(&new.gateway_ports)
        );
        let selects = |selector: &BTreeMap<String, String>| {
            selector
                .iter()
                .all(|(name, value)| new.labels.get(name) == Some(value))
        };
        let (before, after) = (&self.before.objects, &self.after.objects);
        let mut problems = Vec::new();
        for gateway in after.gateways.iter().filter(|g| selects(&g.spec.selector)) {
            let was = same_object(&before.gateways, gateway);
            if was.is_none_or(|was| was.spec != gateway.spec) {
                problems.push(problem(&gateway.source, "spec.servers", what.clone()));
            }
        }
        for gateway in before.gateways.iter().filter(|g| selects(&g.spec.selector)) {
            if same_object(&after.gateways, gateway).is_none() {
                problems.push(problem(
                    &gateway.source,
                    "metadata.name",
                    format!("the Gateway {} is gone from here, and {what}", gateway.name),
                ));
            }
        }
        if problems.is_empty() {
            let services = after.services.iter().filter(|service| {
                service.namespace == new.namespace && selects(&service.spec.selector)
            });
            let changed = services.filter(|service| {
                same_object(&before.services, service)
                    .is_none_or(|was| was.spec.ports != service.spec.ports)
            });
            problems.extend(
                changed.map(|service| problem(&service.source, "spec.ports", what.clone())),
            );
        }
        if problems.is_empty() {
            problems.push(problem(&self.deployment.source, "metadata.name", what));
        }
        problems
    }
}

fn same_object<'a, T>(objects: &'a [Object<T>], like: &Object<T>) -> Option<&'a Object<T>> {
    objects
        .iter()
        .find(|object| object.name == like.name && object.namespace == like.namespace)
}

/// Without what its processes do not know of: what a sidecar demands of who connects, which is told to it while it runs, and a
/// database's URL from a Secret, in whose place they have another.
fn as_run(workload: &Workload) -> Workload {
    let mut workload = workload.clone();
    workload.mutual_tls = MutualTls::Permissive;
    for container in &mut workload.containers {
        if container.secret_env.contains(DATABASE_URL) {
            container.env.retain(|(name, _)| name != DATABASE_URL);
        }
        container.secret_env.clear();
    }
    workload
}

/// A value of a Secret or ConfigMap, and where it is written.
struct Value<'a> {
    source: &'a Source,
    field: String,
    bytes: &'a [u8],
}

fn value<'a>(
    objects: &'a Objects,
    namespace: &str,
    from: &core::EnvVarSource,
) -> Option<Value<'a>> {
    if let Some(wanted) = &from.secret_key_ref {
        let mut secrets = objects.secrets.iter();
        let secret = secrets.find(|s| s.name == wanted.name && s.namespace == namespace)?;
        let text = secret.spec.string_data.get(&wanted.key);
        let data = secret.spec.data.get(&wanted.key);
        let text = text.map(|text| ("stringData", text.as_bytes()));
        let (field, bytes) = text.or(data.map(|data| ("data", data.0.as_slice())))?;
        return Some(Value {
            source: &secret.source,
            field: join(field, &wanted.key),
            bytes,
        });
    }
    let wanted = from.config_map_key_ref.as_ref()?;
    let mut maps = objects.config_maps.iter();
    let map = maps.find(|map| map.name == wanted.name && map.namespace == namespace)?;
    Some(Value {
        source: &map.source,
        field: join("data", &wanted.key),
        bytes: map.spec.data.get(&wanted.key)?.as_bytes(),
    })
}

/// The names whose values differ.
fn different<'a>(
    old: &'a BTreeMap<String, String>,
    new: &'a BTreeMap<String, String>,
) -> Vec<&'a String> {
    let mut names: Vec<&String> = old.keys().chain(new.keys()).collect();
    names.sort();
    names.dedup();
    names.retain(|name| old.get(*name) != new.get(*name));
    names
}

fn pods(count: u32) -> String {
    match count {
        1 => "1 pod".to_owned(),
        count => format!("{count} pods"),
    }
}

fn listed(words: &[impl ToString]) -> String {
    let words: Vec<String> = words.iter().map(ToString::to_string).collect();
    if words.is_empty() {
        "none".to_owned()
    } else {
        words.join(", ")
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use tollgate_mesh::Mesh;
    use tollgate_mesh::api::Objects;

    use super::*;

    const MANIFESTS: &str = "\
apiVersion: v1
kind: Namespace
metadata:
  name: shop
  labels: {istio-injection: enabled}
---
apiVersion: v1
kind: ServiceAccount
metadata: {name: cart, namespace: shop}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: cart, namespace: shop}
spec:
  replicas: 1
  selector: {matchLabels: {app: cart}}
  template:
    metadata:
      labels: {app: cart}
      annotations:
        sidecar.istio.io/extraStatTags: tenant
    spec:
      containers:
      - name: cart
        image: cart:v1
        ports: [{containerPort: 3002}]
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: edge, namespace: shop}
spec:
  selector: {matchLabels: {app: edge}}
  template:
    metadata:
      labels: {app: edge}
      annotations: {inject.istio.io/templates: gateway}
    spec:
      containers: [{name: istio-proxy, image: auto}]
---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: edge, namespace: shop}
spec:
  selector: {app: edge}
  servers:
  - port: {number: 8080, name: http, protocol: HTTP}
    hosts: ['*']
---
apiVersion: v1
kind: Service
metadata: {name: cart, namespace: shop}
spec:
  selector: {app: cart}
  ports: [{name: http, port: 3002}]
";

    const NEWEST: Version = Version::new(1, 40, 0);

    fn manifests(text: &str) -> Manifests {
        let objects = Objects::parse(Path::new("shop.yaml"), text).unwrap();
        let mesh = Mesh::build(objects.clone()).unwrap();
        Manifests { mesh, objects }
    }

    fn found(from: &str, to: &str) -> Vec<String> {
        assert_eq!(MANIFESTS.matches(from).count(), 1, "{from}");
        let after = MANIFESTS.replace(from, to);
        let problems = needed(&manifests(MANIFESTS), &manifests(&after), &NEWEST);
        problems.iter().map(Problem::to_string).collect()
    }

    #[test]
    fn what_a_running_mesh_can_become_needs_nothing() {
        assert_eq!(
            found("name: http, port: 3002", "name: http2, port: 3002"),
            [""; 0]
        );
        assert_eq!(found("hosts: ['*']", "hosts: [shop.example.com]"), [""; 0]);
        let peer = "apiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata: {name: a, namespace: shop}\nspec: \
                    {mtls: {mode: STRICT}}\n---\napiVersion: v1\nkind: Namespace\n";
        assert_eq!(found("apiVersion: v1\nkind: Namespace\n", peer), [""; 0]);
    }

    #[test]
    fn a_module_keeps_the_environment_that_it_was_started_with_in_envoys_that_do_not_see_another() {
        let plugin = |env: &str| {
            format!(
                "{MANIFESTS}---\napiVersion: extensions.istio.io/v1alpha1\nkind: WasmPlugin\nmetadata: {{name: classes, namespace: shop}}\nspec:\n  \
                 url: oci://registry/user-classifier:1\n{env}"
            )
        };
        let with = |value: &str| {
            plugin(&format!(
                "  vmConfig:\n    env: [{{name: KEY, value: {value}}}]\n"
            ))
        };
        let line = plugin("").lines().count() + 1;
        let told = |from: &str, to: &str, envoy: &Version| -> Vec<String> {
            let problems = needed(&manifests(from), &manifests(to), envoy);
            problems.iter().map(Problem::to_string).collect()
        };
        let oldest = Version::new(1, 37, 0);
        let keeps = |line: usize, field: &str| {
            [format!(
                "shop.yaml:{line}: {field}: the environment of the module of classes changed, and Envoy 1.37.0 keeps the one that it was \
                 started with; restart `tollgate up` for it"
            )]
        };
        assert_eq!(
            told(&with("a"), &with("b"), &oldest),
            keeps(line + 1, "spec.vmConfig.env")
        );
        assert_eq!(told(&plugin(""), &with("b"), &oldest).len(), 1);
        assert_eq!(told(&with("a"), &plugin(""), &oldest).len(), 1);
        for (from, to) in [
            (with("a"), with("a")),
            (MANIFESTS.to_owned(), with("a")),
            (with("a"), MANIFESTS.to_owned()),
        ] {
            assert_eq!(told(&from, &to, &oldest), [""; 0]);
        }
        assert_eq!(told(&with("a"), &with("b"), &NEWEST), [""; 0]);
    }

    #[test]
    fn a_proxy_keeps_the_environment_that_it_was_started_with() {
        assert_eq!(
            found(
                "{name: istio-proxy, image: auto}",
                "{name: istio-proxy, image: auto, env: [{name: KEY, value: a}]}"
            ),
            [
                "shop.yaml:38: spec.template.spec.containers[0].env: the environment of the proxies of edge changed; restart \
                 `tollgate up` for it"
            ]
        );
    }

    #[test]
    fn what_pods_were_started_with_is_told_by_its_field() {
        assert_eq!(
            found("replicas: 1", "replicas: 3"),
            [
                "shop.yaml:15: spec.replicas: cart has 1 pod running, and 3 are asked for; restart `tollgate up` for it"
            ]
        );
        assert_eq!(
            found("extraStatTags: tenant", "extraStatTags: tenant,tier"),
            [
                "shop.yaml:21: spec.template.metadata.annotations[\"sidecar.istio.io/extraStatTags\"]: \
                 sidecar.istio.io/extraStatTags is \"tenant,tier\" now, and running pods keep their annotations; restart \
                 `tollgate up` for it"
            ]
        );
        assert_eq!(
            found(
                "image: cart:v1",
                "image: cart:v2\n        env: [{name: A, value: b}]"
            ),
            [
                "shop.yaml:25: spec.template.spec.containers[0].image: \"cart:v1\" is running, and \"cart:v2\" is asked for; \
                 restart `tollgate up` for it",
                "shop.yaml:26: spec.template.spec.containers[0].env: the environment of the container cart changed; restart \
                 `tollgate up` for it"
            ]
        );
        assert_eq!(
            found(
                "      containers:\n",
                "      serviceAccountName: cart\n      containers:\n"
            ),
            [
                "shop.yaml:23: spec.template.spec.serviceAccountName: the pods run as \"default\", and a certificate for \
                 \"cart\" is issued at the start; restart `tollgate up` for it"
            ]
        );
    }

    #[test]
    fn what_a_gateway_trusts_is_what_it_was_started_with() {
        let before = "annotations: {inject.istio.io/templates: gateway}";
        let after = "annotations:\n        inject.istio.io/templates: gateway\n        proxy.istio.io/config: |\n          \
                     gatewayTopology: {numTrustedProxies: 1}";
        assert_eq!(
            found(before, after),
            [
                "shop.yaml:38: spec.template.metadata.annotations[\"proxy.istio.io/config\"]: proxy.istio.io/config is \
                 \"gatewayTopology: {numTrustedProxies: 1}\\n\" now, and running pods keep their annotations; restart `tollgate up` for it"
            ]
        );
    }

    #[test]
    fn a_value_is_told_once_where_it_is_written() {
        let container = "      - name: NAME
        image: cart:v1
        args: [--region, $(REGION)]
        env:
        - {name: DATABASE_URL, valueFrom: {secretKeyRef: {name: database, key: url}}}
        - {name: PASSWORD, valueFrom: {secretKeyRef: {name: database, key: password, optional: true}}}
        - {name: REGION, valueFrom: {configMapKeyRef: {name: settings, key: region}}}
        - {name: COPY, value: $(PASSWORD)}
";
        let text = format!(
            "{}---
apiVersion: v1
kind: Secret
metadata: {{name: database, namespace: shop}}
data: {{password: aHVudGVyMg==}}
stringData:
  url: postgres://shop@db/shop
---
apiVersion: v1
kind: ConfigMap
metadata: {{name: settings, namespace: shop}}
data:
  region: north
---
apiVersion: apps/v1
kind: Deployment
metadata: {{name: cart, namespace: shop}}
spec:
  selector: {{matchLabels: {{app: cart}}}}
  template:
    metadata: {{labels: {{app: cart}}}}
    spec:
      containers:
{}{}",
            "apiVersion: v1\nkind: Namespace\nmetadata: {name: shop}\n",
            container.replace("NAME", "one"),
            container.replace("NAME", "two")
        );
        let found = |from: &str, to: &str| -> Vec<String> {
            assert!(text.contains(from), "{from}");
            let after = text.replace(from, to);
            let problems = needed(&manifests(&text), &manifests(&after), &NEWEST);
            problems.iter().map(Problem::to_string).collect()
        };
        assert_eq!(
            found("aHVudGVyMg==", "aHVudGVyMw=="),
            [
                "shop.yaml:8: data.password: is another now, and running containers keep the value they were \
                 started with; restart `tollgate up` for it"
            ]
        );
        assert_eq!(
            found("data: {password: aHVudGVyMg==}\n", ""),
            [
                "shop.yaml:8: data.password: is gone from here, and running containers keep the value they were \
                 started with; restart `tollgate up` for it"
            ]
        );
        assert_eq!(
            found("region: north", "region: south"),
            [
                "shop.yaml:16: data.region: is another now, and running containers keep the value they were \
                 started with; restart `tollgate up` for it"
            ]
        );
        // The same value in another way, and one that containers do not have here.
        assert_eq!(
            found(
                "data: {password: aHVudGVyMg==}\nstringData:\n",
                "stringData:\n  password: hunter2\n"
            ),
            [""; 0]
        );
        assert_eq!(
            found("postgres://shop@db/shop", "postgres://shop@db2/shop"),
            [""; 0]
        );
        // What is written anew in the Deployment is told there.
        let both = found("$(PASSWORD)", "x");
        assert_eq!(both.len(), 2, "{both:?}");
        assert!(
            both[0].contains("containers[0].env: the environment of the container one changed"),
            "{both:?}"
        );
    }

    #[test]
    fn deployments_that_come_and_go_are_told() {
        assert_eq!(
            found(
                "metadata: {name: cart, namespace: shop}\nspec:\n  replicas",
                "metadata: {name: cart2, namespace: shop}\nspec:\n  replicas"
            ),
            [
                "shop.yaml:13: metadata.name: the Deployment cart is gone from here; restart `tollgate up` for it",
                "shop.yaml:13: metadata.name: the Deployment cart2 is new; restart `tollgate up` for it"
            ]
        );
    }

    #[test]
    fn what_other_objects_ask_of_pods_is_told_where_they_do() {
        assert_eq!(
            found("number: 8080", "number: 8443"),
            [
                "shop.yaml:45: spec.servers: edge listens on 8080, and would have to listen on 8443; restart `tollgate up` for \
                 it"
            ]
        );
        let service = "apiVersion: v1\nkind: Service\nmetadata: {name: edge, namespace: shop}\nspec:\n  selector: {app: \
                       edge}\n  ports: [{name: http, port: 8080, targetPort: 9090}]\n---\napiVersion: v1\nkind: \
                       ServiceAccount\n";
        assert_eq!(
            found("apiVersion: v1\nkind: ServiceAccount\n", service),
            [
                "shop.yaml:12: spec.ports: edge listens on 8080, and would have to listen on 9090; restart `tollgate up` for it"
            ]
        );
    }

    #[test]
    fn a_namespace_that_loses_its_label_is_told() {
        let gateway = MANIFESTS.replace(
            "annotations: {inject.istio.io/templates: gateway}",
            "annotations: {}",
        );
        let plain = gateway.split("---\napiVersion: networking").next().unwrap();
        let before = manifests(plain);
        let after = manifests(&plain.replace("  labels: {istio-injection: enabled}\n", ""));
        let problems: Vec<String> = needed(&before, &after, &NEWEST)
            .iter()
            .map(Problem::to_string)
            .collect();
        assert_eq!(
            problems,
            [
                "shop.yaml:3: metadata.labels.istio-injection: the running pods of cart would lose their proxy; restart \
                 `tollgate up` for it",
                "shop.yaml:3: metadata.labels.istio-injection: the running pods of edge would lose their proxy; restart \
                 `tollgate up` for it"
            ]
        );
    }
}
