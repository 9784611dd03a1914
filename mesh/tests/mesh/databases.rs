//! Databases: StatefulSets that do not run here, the Services in front of them, and the Secrets that lead to them.

use tollgate_mesh::model::{Protocol, Role};

use crate::{configuration, load, names, shop_and, site, workload};

const DATABASE: &str = "\
apiVersion: v1
kind: Secret
metadata: {name: database, namespace: ecommerce}
type: Opaque
data:
  password: aHVudGVyMg==
  broken: /w==
stringData:
  url: postgres://shop:hunter2@postgres:5432/shop
---
apiVersion: v1
kind: ConfigMap
metadata: {name: settings, namespace: ecommerce}
data: {region: north}
binaryData: {logo: /w==}
---
apiVersion: v1
kind: Service
metadata: {name: postgres, namespace: ecommerce}
spec:
  clusterIP: None
  selector: {app: postgres}
  ports: [{name: tcp-postgres, port: 5432, targetPort: postgres}]
---
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: postgres, namespace: ecommerce}
spec:
  serviceName: postgres
  replicas: 1
  selector: {matchLabels: {app: postgres}}
  template:
    metadata:
      labels: {app: postgres, sidecar.istio.io/inject: \"false\"}
    spec:
      containers:
      - name: postgres
        image: postgres:17
        env:
        - name: POSTGRES_PASSWORD
          valueFrom: {secretKeyRef: {name: database, key: password}}
        ports: [{name: postgres, containerPort: 5432}]
        readinessProbe:
          exec: {command: [pg_isready]}
        livenessProbe:
          tcpSocket: {port: postgres}
        volumeMounts: [{name: data, mountPath: /var/lib/postgresql}]
  volumeClaimTemplates:
  - metadata: {name: data}
    spec:
      accessModes: [ReadWriteOnce]
      resources: {requests: {storage: 1Gi}}
";

/// A Deployment with these variables, whose first line is line 11 behind the database.
fn client(env: &str) -> String {
    let env = env.replace('\n', "\n        ");
    format!(
        "apiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: client, namespace: ecommerce}}\nspec:\n  selector: \
         {{matchLabels: {{app: client}}}}\n  template:\n    metadata: {{labels: {{app: client}}}}\n    spec:\n      containers:\n      \
         - {{name: client, image: client, env: [\n        {env}]}}\n---\n{DATABASE}"
    )
}

#[test]
fn a_stateful_set_is_known_and_does_not_run() {
    let mesh = shop_and(DATABASE);
    assert!(
        !mesh
            .workloads
            .iter()
            .any(|workload| workload.name == "postgres")
    );
    let [postgres] = mesh.stateful_sets.as_slice() else {
        panic!("{:?}", mesh.stateful_sets)
    };
    assert_eq!((postgres.role, postgres.replicas), (Role::Plain, 1));
    assert_eq!(postgres.ports(), [5432]);
    assert_eq!(
        postgres.containers[0].env,
        [("POSTGRES_PASSWORD".to_owned(), "hunter2".to_owned())]
    );
    assert!(
        site(&mesh)
            .pods
            .keys()
            .all(|pod| !pod.name.starts_with("postgres"))
    );
}

#[test]
fn a_database_s_service_is_nothing_that_http_requests_can_go_to() {
    let mesh = shop_and(DATABASE);
    let service = &mesh.services["postgres.ecommerce.svc.cluster.local"];
    assert_eq!(
        (service.ports[0].protocol, service.headless),
        (Protocol::Tcp, true)
    );
    let proxy = configuration(&mesh, "cart-service-0");
    let clusters = names(&proxy.clusters).join(" ");
    assert!(!clusters.contains("postgres"), "{clusters}");
    let routes = proxy.routes["http_proxy"].to_string();
    assert!(!routes.contains("postgres"), "{routes}");

    // With an address of its own it has a cluster as on a cluster, and nobody in it.
    let mesh = shop_and(&DATABASE.replace("  clusterIP: None\n", ""));
    let proxy = configuration(&mesh, "cart-service-0");
    let cluster = crate::named(
        &proxy.clusters,
        "outbound|5432||postgres.ecommerce.svc.cluster.local",
    );
    assert_eq!(
        cluster["load_assignment"]["endpoints"][0]["lb_endpoints"],
        serde_json::json!([])
    );
    assert!(!proxy.routes["http_proxy"].to_string().contains("postgres"));
}

#[test]
fn variables_come_from_secrets_and_config_maps() {
    let mesh = shop_and(&client(
        "{name: PASSWORD, valueFrom: {secretKeyRef: {name: database, key: password}}},\n{name: DATABASE_URL, valueFrom: \
         {secretKeyRef: {name: database, key: url}}},\n{name: REGION, valueFrom: {configMapKeyRef: {name: settings, key: \
         region}}},\n{name: COPY, value: $(REGION)/$(PASSWORD)},\n{name: NONE, valueFrom: {secretKeyRef: {name: other, key: a, \
         optional: true}}},\n{name: EMPTY}",
    ));
    let container = &workload(&mesh, "client").containers[0];
    let env: Vec<String> = container
        .env
        .iter()
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    assert_eq!(
        env,
        [
            "PASSWORD=hunter2",
            "DATABASE_URL=postgres://shop:hunter2@postgres:5432/shop",
            "REGION=north",
            "COPY=north/hunter2",
            "EMPTY=",
        ]
    );
    assert_eq!(
        Vec::from_iter(&container.secret_env),
        ["DATABASE_URL", "PASSWORD"]
    );
}

#[test]
fn values_that_are_not_there_are_refused() {
    let problems = load(&client(
        "{name: A, valueFrom: {secretKeyRef: {name: other, key: a}}},\n{name: B, valueFrom: {secretKeyRef: {name: database, key: \
         urk}}},\n{name: C, valueFrom: {configMapKeyRef: {name: database, key: url}}},\n{name: D, valueFrom: {secretKeyRef: {name: \
         database, key: broken}}},\n{name: E, valueFrom: {configMapKeyRef: {name: settings, key: logo}}},\n{name: F, value: a, \
         valueFrom: {configMapKeyRef: {name: settings, key: region}}},\n{name: G, valueFrom: {}}",
    ));
    let field = "spec.template.spec.containers[0].env";
    assert_eq!(
        problems.expect_err("problems").to_string(),
        [
            format!(
                "more.yaml:11: {field}[0].valueFrom.secretKeyRef.name: the Secret other of the namespace ecommerce is not among the \
                 manifests, and its values are taken from nowhere else; add it to them, with the key \"a\""
            ),
            format!(
                "more.yaml:12: {field}[1].valueFrom.secretKeyRef.key: the Secret database has no \"urk\", it has \"password\", \
                 \"url\", \"broken\""
            ),
            format!(
                "more.yaml:13: {field}[2].valueFrom.configMapKeyRef.name: the ConfigMap database of the namespace ecommerce is not \
                 among the manifests, and its values are taken from nowhere else; add it to them, with the key \"url\""
            ),
            format!(
                "more.yaml:14: {field}[3].valueFrom.secretKeyRef.key: the value of \"broken\" is not text (UTF-8, without NUL), \
                 which a variable has to be"
            ),
            format!(
                "more.yaml:15: {field}[4].valueFrom.configMapKeyRef.key: the value of \"logo\" is not text (UTF-8, without NUL), \
                 which a variable has to be"
            ),
            format!("more.yaml:16: {field}[5].valueFrom: is beside a value, write only one of them"),
            format!("more.yaml:17: {field}[6].valueFrom: write one of secretKeyRef and configMapKeyRef"),
        ]
        .join("\n")
    );
}

/// Without the Secret, which is kept where secrets are kept.
fn without_secret(manifests: &str) -> String {
    let (before, secret) = manifests
        .split_once("apiVersion: v1\nkind: Secret\n")
        .expect("a Secret");
    let (_, behind) = secret.split_once("---\n").expect("more");
    format!("{before}{behind}")
}

#[test]
fn a_database_s_secret_need_not_be_among_the_manifests() {
    let url = "{name: DATABASE_URL, valueFrom: {secretKeyRef: {name: database, key: url}}}";
    // Nor what a StatefulSet takes from it.
    let mesh = shop_and(&without_secret(&client(url)));
    let container = &workload(&mesh, "client").containers[0];
    assert_eq!(container.env, []);
    assert_eq!(Vec::from_iter(&container.secret_env), ["DATABASE_URL"]);
    assert_eq!(mesh.stateful_sets[0].containers[0].env, []);

    // What is made of its value is nothing that anybody could know.
    let uses = format!(
        "{{name: EARLIER, value: $(DATABASE_URL)}},\n{url},\n{{name: A, value: $(DATABASE_URL)?sslmode=disable}},\n{{name: B, \
         value: $$(DATABASE_URL)}},\n{{name: C, valueFrom: {{secretKeyRef: {{name: database, key: password}}}}}}"
    );
    let uses = client(&uses).replace(
        "image: client,",
        "image: client, args: [migrate, $(DATABASE_URL)],",
    );
    let field = "spec.template.spec.containers[0]";
    let message = "$(DATABASE_URL) is of the Secret database, which is not among the manifests; add it to them, or write this \
                   without $(DATABASE_URL)";
    assert_eq!(
        load(&without_secret(&uses)).expect_err("problems").to_string(),
        [
            format!("more.yaml:10: {field}.args[1]: {message}"),
            format!("more.yaml:13: {field}.env[2].value: {message}"),
            format!(
                "more.yaml:15: {field}.env[4].valueFrom.secretKeyRef.name: the Secret database of the namespace ecommerce is not \
                 among the manifests, and its values are taken from nowhere else; add it to them, with the key \"password\""
            ),
        ]
        .join("\n")
    );
    shop_and(&uses);
}

#[test]
fn secrets_do_not_show_their_values() {
    let objects = tollgate_mesh::api::Objects::parse("m.yaml".as_ref(), DATABASE).expect("objects");
    assert_eq!(
        format!("{:?}", objects.secrets[0].spec),
        "{\"broken\", \"password\", \"url\"}"
    );
}

#[test]
fn http_to_what_does_not_run_is_refused() {
    let http = DATABASE.replace("tcp-postgres", "http-postgres");
    assert_eq!(
        load(&http).expect_err("problems").to_string(),
        "more.yaml:23: spec.ports[0].name: the local mesh does not run the StatefulSet postgres, so no HTTP request to it could be \
         answered; name the port tcp-… if it is a database, or write a Deployment"
    );
    let headless = "apiVersion: v1\nkind: Service\nmetadata: {name: names, namespace: ecommerce}\nspec:\n  clusterIP: None\n  \
                    selector: {app: cart-service}\n  ports: [{name: http, port: 3002}]\n";
    assert_eq!(
        load(headless).expect_err("problems").to_string(),
        "more.yaml:5: spec.clusterIP: a Service that only names its pods is not implemented for HTTP by the local mesh; leave \
         clusterIP out"
    );
    let elsewhere = DATABASE.replace("targetPort: postgres", "targetPort: pg");
    assert_eq!(
        load(&elsewhere).expect_err("problems").to_string(),
        "more.yaml:23: spec.ports[0].targetPort: pg is not a port of the pods of postgres, which declare postgres (5432); declare \
         it there under containers[].ports"
    );
}

#[test]
fn only_what_runs_must_say_by_http_that_it_is_ready() {
    let problems = load(
        "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: client, namespace: ecommerce}\nspec:\n  selector: {matchLabels: \
         {app: client}}\n  template:\n    metadata: {labels: {app: client}}\n    spec:\n      containers:\n      - name: a\n        \
         image: a\n        readinessProbe: {exec: {command: [a]}}\n        livenessProbe: {periodSeconds: 1}\n",
    );
    assert_eq!(
        problems.expect_err("problems").to_string(),
        "more.yaml:12: spec.template.spec.containers[0].readinessProbe: the local mesh asks containers whether they are ready only \
         by HTTP; write httpGet\n\
         more.yaml:13: spec.template.spec.containers[0].livenessProbe: must have one of httpGet, exec and tcpSocket"
    );
}
