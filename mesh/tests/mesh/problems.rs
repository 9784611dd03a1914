//! What is said of manifests that are well-formed and make no mesh: every message, whole.

use crate::load;

/// The problems of the shop with `more`, as they are printed.
#[track_caller]
fn says(more: &str, expected: &[&str]) {
    match load(more) {
        Ok(_) => panic!("is accepted:\n{more}"),
        Err(problems) => assert_eq!(problems.to_string(), expected.join("\n"), "of\n{more}"),
    }
}

fn deployment(labels: &str, annotations: &str, spec: &str) -> String {
    format!(
        "apiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: a, namespace: ecommerce}}\nspec:\n  selector: {{matchLabels: \
         {{app: a}}}}\n  template:\n    metadata:\n      labels: {{app: a{labels}}}\n      annotations: {{{annotations}}}\n    \
         spec:\n{spec}"
    )
}

const CONTAINER: &str = "      containers: [{name: a, image: a}]\n";

fn service(spec: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: a, namespace: ecommerce}}\nspec:\n{spec}"
    )
}

fn networking(kind: &str, spec: &str) -> String {
    format!(
        "apiVersion: networking.istio.io/v1\nkind: {kind}\nmetadata: {{name: a, namespace: \
         ecommerce}}\nspec:\n{spec}"
    )
}

fn virtual_service(spec: &str) -> String {
    networking("VirtualService", spec)
}

fn destination_rule(spec: &str) -> String {
    networking("DestinationRule", spec)
}

fn peer_authentication(namespace: &str, spec: &str) -> String {
    format!(
        "apiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata: {{name: a, \
         namespace: {namespace}}}\nspec:\n{spec}"
    )
}

fn plugin(namespace: &str, spec: &str) -> String {
    format!(
        "apiVersion: extensions.istio.io/v1alpha1\nkind: WasmPlugin\nmetadata: {{name: a, \
         namespace: {namespace}}}\nspec:\n{spec}"
    )
}

#[test]
fn of_workloads() {
    says(
        &deployment(", version: v1", "", CONTAINER)
            .replace("matchLabels: {app: a}", "matchLabels: {app: b}"),
        &[
            "more.yaml:5: spec.selector.matchLabels: does not select the pods of this Deployment's \
             own template; write the template's labels here",
        ],
    );
    says(
        &deployment("", "proxy.istio.io/config: x", CONTAINER),
        &[
            "more.yaml:9: spec.template.metadata.annotations[\"proxy.istio.io/config\"]: is not \
             implemented by the local mesh; remove it to go on without what it does",
        ],
    );
    says(
        &deployment(", istio.io/rev: canary", "", CONTAINER),
        &[
            "more.yaml:8: spec.template.metadata.labels[\"istio.io/rev\"]: is not implemented by \
             the local mesh; remove it to go on without what it does",
        ],
    );
    says(
        &deployment("", "inject.istio.io/templates: grpc-agent", CONTAINER),
        &[
            "more.yaml:9: spec.template.metadata.annotations[\"inject.istio.io/templates\"]: \
             the template \"grpc-agent\" is not implemented by the local mesh; write gateway or sidecar",
        ],
    );
    says(
        &deployment(
            ", sidecar.istio.io/inject: 'false'",
            "inject.istio.io/templates: gateway",
            CONTAINER,
        ),
        &[
            "more.yaml:9: spec.template.metadata.annotations[\"inject.istio.io/templates\"]: has \
             no effect: nothing is injected into this pod. Label it sidecar.istio.io/inject: \
             \"true\", or its namespace ecommerce istio-injection: enabled",
        ],
    );
    says(
        &deployment(
            "",
            "",
            "      enableServiceLinks: true\n      containers: [{name: a, image: a}]\n",
        ),
        &[
            "more.yaml:11: spec.template.spec.enableServiceLinks: is not implemented by the local \
             mesh; write false, and name Services by their host names",
        ],
    );
    says(
        &deployment(
            "",
            "",
            "      serviceAccountName: nobody\n      containers: [{name: a, image: a}]\n",
        ),
        &[
            "more.yaml:11: spec.template.spec.serviceAccountName: there is no ServiceAccount \
             nobody in the namespace ecommerce",
        ],
    );
    says(
        &deployment(
            "",
            "",
            "      containers:\n      - name: a\n        image: ':v1'\n",
        ),
        &["more.yaml:13: spec.template.spec.containers[0].image: \":v1\" names no image"],
    );
    says(
        &deployment(
            "",
            "",
            "      containers:\n      - name: a\n        image: a\n        ports: [{name: web, \
             containerPort: 80}]\n        readinessProbe:\n          httpGet: {port: http}\n",
        ),
        &[
            "more.yaml:16: spec.template.spec.containers[0].readinessProbe.httpGet.port: http is \
             not a port of this container, which has web (80)",
        ],
    );
    says(
        &deployment(
            "",
            "",
            "      containers:\n      - {name: a, image: a, ports: [{containerPort: 80}]}\n      - \
             {name: b, image: b, ports: [{containerPort: 80}]}\n",
        ),
        &[
            "more.yaml:11: spec.template.spec.containers: the containers a and b of one pod both \
             listen on port 80",
        ],
    );
    says(
        "apiVersion: v1\nkind: Namespace\nmetadata:\n  name: b\n  labels: \
         {istio.io/dataplane-mode: ambient}\n",
        &[
            "more.yaml:5: metadata.labels[\"istio.io/dataplane-mode\"]: is not implemented by the \
             local mesh; write istio-injection: enabled for sidecars",
        ],
    );
}

#[test]
fn of_services() {
    says(
        &service("  ports: [{name: http, port: 80}]\n"),
        &[
            "more.yaml:4: spec.selector: a Service without selector is not implemented by the \
             local mesh; write the labels of the pods behind it",
        ],
    );
    says(
        &service(
            "  selector: {app: cart-service}\n  ports:\n  - {name: http, port: 3002}\n  - {name: \
             http-b, port: 3002}\n",
        ),
        &["more.yaml:8: spec.ports[1].port: 3002 is there twice"],
    );
    says(
        &service(
            "  selector: {app: cart-service}\n  ports:\n  - {name: http, port: 80, targetPort: \
             web}\n",
        ),
        &[
            "more.yaml:7: spec.ports[0].targetPort: web is not a port of the pods of cart-service, \
             which declare http (3002); declare it there under containers[].ports",
        ],
    );
    says(
        &service("  selector: {app: cart-service}\n  ports:\n  - {name: http, port: 80}\n"),
        &[
            "more.yaml:7: spec.ports[0].port: 80 is not a port of the pods of cart-service, which \
             declare http (3002); declare it there under containers[].ports",
        ],
    );
    says(
        &service("  selector: {app: cart-service}\n  ports:\n  - {name: tcp, port: 3002}\n"),
        &[
            "more.yaml:7: spec.ports[0].name: the local mesh routes only HTTP, and the pods of \
             cart-service have a sidecar; write http for HTTP, or label the pods \
             sidecar.istio.io/inject: \"false\"",
        ],
    );
    says(
        &service("  selector: {app: legacy}\n  ports:\n  - {name: grpc-web, port: 8000}\n"),
        &[
            "more.yaml:7: spec.ports[0].name: grpc-web is not implemented by the local mesh; write \
             http or grpc",
        ],
    );
}

#[test]
fn of_gateways() {
    says(
        &networking(
            "Gateway",
            "  selector: {istio: egressgateway}\n  servers: [{port: {number: 80, name: http, \
             protocol: HTTP}, hosts: ['*']}]\n",
        ),
        &[
            "more.yaml:5: spec.selector: selects no gateway; there must be a Deployment whose pods \
             have these labels and the annotation inject.istio.io/templates: gateway",
        ],
    );
    says(
        &networking(
            "Gateway",
            "  selector: {istio: ingressgateway}\n  servers: []\n",
        ),
        &["more.yaml:6: spec.servers: is empty, write at least one server"],
    );
    says(
        &networking(
            "Gateway",
            "  selector: {istio: ingressgateway}\n  servers:\n  - port: {number: 80, name: http, \
             protocol: HTTP}\n    hosts: []\n",
        ),
        &["more.yaml:8: spec.servers[0].hosts: is empty, write \"*\" for any host"],
    );
}

#[test]
fn of_virtual_services() {
    let route = "  http: [{route: [{destination: {host: legacy}}]}]\n";
    says(
        &virtual_service(&format!("  hosts: []\n{route}")),
        &[
            "more.yaml:5: spec.hosts: is empty, write the Service or the host that the routes are for",
        ],
    );
    says(
        &virtual_service(&format!("  hosts: [legacy, legacy]\n{route}")),
        &["more.yaml:5: spec.hosts[1]: \"legacy.ecommerce.svc.cluster.local\" is there twice"],
    );
    says(
        &virtual_service(&format!("  hosts: ['*']\n{route}")),
        &[
            "more.yaml:5: spec.hosts[0]: Istio refuses \"*\" in a VirtualService for sidecars; \
             name the Services, and write a VirtualService of its own for the gateway",
        ],
    );
    says(
        &virtual_service(&format!("  hosts: [nobody]\n{route}")),
        &["more.yaml:5: spec.hosts[0]: there is no Service \
             \"nobody.ecommerce.svc.cluster.local\"; there are \
             \"cart-service.ecommerce.svc.cluster.local\", \
             \"ingressgateway.istio-system.svc.cluster.local\", \
             \"legacy.ecommerce.svc.cluster.local\", \
             \"product-service.ecommerce.svc.cluster.local\""],
    );
    says(
        &virtual_service(&format!("  hosts: [product-servise]\n{route}")),
        &["more.yaml:5: spec.hosts[0]: there is no Service \
             \"product-servise.ecommerce.svc.cluster.local\", did you mean \
             \"product-service.ecommerce.svc.cluster.local\"?"],
    );
    says(
        &virtual_service(&format!("  hosts: [legacy.ecommerce]\n{route}")),
        &[
            "more.yaml:5: spec.hosts[0]: there is no Service \"legacy.ecommerce\"; Istio takes a \
             name with a dot as complete, write \"legacy.ecommerce.svc.cluster.local\"",
        ],
    );
    says(
        &virtual_service(&format!("  hosts: [product-service]\n{route}")),
        &[
            "shop.yaml:209: spec.hosts[0]: the VirtualService ecommerce/a has routes of \
             product-service.ecommerce.svc.cluster.local for sidecars already; Istio takes the \
             oldest of them and ignores the others",
        ],
    );
    says(
        &virtual_service(&format!("  hosts: ['*']\n  gateways: [nobody]\n{route}")),
        &[
            "more.yaml:6: spec.gateways[0]: there is no Gateway ecommerce/nobody; there are \
             \"ecommerce/ecommerce-gateway\"",
        ],
    );
    says(
        &(networking(
            "Gateway",
            "  selector: {istio: ingressgateway}\n  servers: [{port: {number: 80, name: http, \
             protocol: HTTP}, hosts: [other/*, a.example]}]\n---\n",
        ) + &virtual_service(&format!("  hosts: [b.example]\n  gateways: [a]\n{route}"))),
        &[
            "more.yaml:12: spec.hosts: the Gateway ecommerce/a opens none of \"b.example\"; to \
             VirtualServices of ecommerce it opens \"a.example\"",
        ],
    );
    says(
        &virtual_service("  hosts: [legacy]\n  http: []\n"),
        &["more.yaml:6: spec.http: is empty, write at least one route"],
    );
    says(
        &virtual_service("  hosts: [legacy]\n  http:\n  - timeout: 1s\n"),
        &["more.yaml:7: spec.http[0].route: is empty, write at least one destination"],
    );
    let to = |destinations: &str| {
        virtual_service(&format!(
            "  hosts: [legacy]\n  http:\n  - route:\n{destinations}"
        ))
    };
    says(
        &to("    - {destination: {host: legacy}}\n    - {destination: {host: cart-service}}\n"),
        &[
            "more.yaml:7: spec.http[0].route: the weights of its destinations are 0 in all, so no \
             request could go anywhere; write weights, 90 and 10 say",
        ],
    );
    says(
        &to(
            "    - {destination: {host: legacy}, weight: 4294967295}\n    - {destination: {host: \
             cart-service}, weight: 1}\n",
        ),
        &[
            "more.yaml:7: spec.http[0].route: the weights of its destinations are 4294967296 \
             in all, more than Envoy's 4294967295",
        ],
    );
    says(
        &to("    - destination: {host: nobody}\n"),
        &[
            "more.yaml:8: spec.http[0].route[0].destination.host: there is no Service \
             \"nobody.ecommerce.svc.cluster.local\"; there are \
             \"cart-service.ecommerce.svc.cluster.local\", \
             \"ingressgateway.istio-system.svc.cluster.local\", \
             \"legacy.ecommerce.svc.cluster.local\", \
             \"product-service.ecommerce.svc.cluster.local\"",
        ],
    );
    says(
        &to("    - destination:\n        host: legacy\n        port: {number: 81}\n"),
        &[
            "more.yaml:10: spec.http[0].route[0].destination.port.number: the Service \
             legacy.ecommerce.svc.cluster.local has no port 81; it has 80",
        ],
    );
    says(
        &(service(
            "  selector: {app: legacy}\n  ports: [{name: http, port: 80, targetPort: 8000}, {name: \
             tcp, port: 81, targetPort: 8000}]\n---\n",
        ) + &to(
            "    - destination: {host: a}\n    - {destination: {host: a, port: {number: 81}}, \
             weight: 1}\n",
        )),
        &[
            "more.yaml:15: spec.http[0].route[0].destination.port: the Service \
             a.ecommerce.svc.cluster.local has several ports, write which: 80, 81",
            "more.yaml:16: spec.http[0].route[1].destination.port: port 81 of \
             a.ecommerce.svc.cluster.local is not HTTP as its name says, so no HTTP request can go \
             there",
        ],
    );
    says(
        &to("    - destination: {host: product-service, subset: v3}\n"),
        &[
            "more.yaml:8: spec.http[0].route[0].destination.subset: to proxies of the namespace \
             ecommerce, product-service.ecommerce.svc.cluster.local has no subset \"v3\"; there \
             are \"v1\", \"v2\"",
        ],
    );
    says(
        &to("    - destination: {host: legacy, subset: v1}\n"),
        &[
            "more.yaml:8: spec.http[0].route[0].destination.subset: to proxies of the namespace \
             ecommerce, legacy.ecommerce.svc.cluster.local has no subset \"v1\"; there is no \
             DestinationRule for it",
        ],
    );
    says(
        &(destination_rule("  host: legacy\n---\n")
            + &to("    - destination: {host: legacy, subset: v1}\n")),
        &[
            "more.yaml:14: spec.http[0].route[0].destination.subset: to proxies of the namespace \
             ecommerce, legacy.ecommerce.svc.cluster.local has no subset \"v1\"; its \
             DestinationRule has no subsets",
        ],
    );
}

#[test]
fn of_destination_rules() {
    says(
        &destination_rule("  host: nobody\n"),
        &[
            "more.yaml:5: spec.host: there is no Service \"nobody.ecommerce.svc.cluster.local\"; \
             there are \"cart-service.ecommerce.svc.cluster.local\", \
             \"ingressgateway.istio-system.svc.cluster.local\", \
             \"legacy.ecommerce.svc.cluster.local\", \
             \"product-service.ecommerce.svc.cluster.local\"",
        ],
    );
    says(
        &destination_rule("  host: '*.example'\n"),
        &[
            "more.yaml:5: spec.host: there is no Service \"*.example\"; there are \
             \"cart-service.ecommerce.svc.cluster.local\", \
             \"ingressgateway.istio-system.svc.cluster.local\", \
             \"legacy.ecommerce.svc.cluster.local\", \
             \"product-service.ecommerce.svc.cluster.local\"",
        ],
    );
    says(
        &destination_rule("  host: product-service\n  subsets:\n  - {name: v1}\n"),
        &[
            "shop.yaml:227: spec.subsets[0].name: there is another subset \"v1\" of \
             product-service.ecommerce.svc.cluster.local; Istio takes one of them",
        ],
    );
    for name in ["v|1", "-v1", "v1-", &"v".repeat(64)] {
        says(
            &destination_rule(&format!(
                "  host: legacy\n  subsets:\n  - {{name: '{name}'}}\n"
            )),
            &[&format!(
                "more.yaml:7: spec.subsets[0].name: {name:?} is not a name; write letters, digits and \
                 dashes between them, at most 63"
            )],
        );
    }
    says(
        &(destination_rule(
            "  host: legacy\n  trafficPolicy: {loadBalancer: {simple: RANDOM}}\n---\n",
        ) + &destination_rule(
            "  host: legacy\n  trafficPolicy: {loadBalancer: {simple: RANDOM}}\n",
        )
        .replace("name: a,", "name: b,")),
        &[
            "more.yaml:13: spec.trafficPolicy: another DestinationRule of ecommerce has a \
             trafficPolicy for legacy.ecommerce.svc.cluster.local already; Istio takes that of the \
             oldest and ignores the others",
        ],
    );
}

#[test]
fn of_peer_authentications() {
    says(
        &peer_authentication("istio-system", "  mtls: {mode: PERMISSIVE}\n"),
        &[
            "shop.yaml:237: metadata.name: a second PeerAuthentication for all pods of the \
             namespace istio-system beside a (more.yaml:1); Istio takes the oldest and ignores the \
             others",
        ],
    );
    says(
        &peer_authentication(
            "istio-system",
            "  selector: {matchLabels: {app: cart-service}}\n",
        ),
        &[
            "more.yaml:5: spec.selector: Istio ignores a PeerAuthentication that has a selector \
             in istio-system; put it into the namespace of the pods",
        ],
    );
    says(
        &peer_authentication("ecommerce", "  selector: {matchLabels: {app: legacy}}\n"),
        &[
            "more.yaml:5: spec.selector.matchLabels: selects no pod with a sidecar in the \
             namespace ecommerce",
        ],
    );
    says(
        &(peer_authentication(
            "ecommerce",
            "  selector: {matchLabels: {app: cart-service}}\n---\n",
        ) + &peer_authentication(
            "ecommerce",
            "  selector: {matchLabels: {app: cart-service}}\n",
        )
        .replace("name: a,", "name: b,")),
        &[
            "more.yaml:9: metadata.name: a second PeerAuthentication for the pods of cart-service \
             beside a (more.yaml:1); Istio takes the oldest and ignores the others",
        ],
    );
}

#[test]
fn of_plugins() {
    says(
        &plugin("ecommerce", "  url: file:///a.wasm\n"),
        &[
            "more.yaml:5: spec.url: the scheme file is not implemented by the local mesh, write \
             oci://registry/path/module:tag",
        ],
    );
    says(
        &plugin(
            "ecommerce",
            "  url: oci://a/b\n  selector: {matchLabels: {app: legacy}}\n",
        ),
        &["more.yaml:6: spec.selector.matchLabels: selects no pod with a proxy in ecommerce"],
    );
    says(
        &plugin(
            "istio-system",
            "  url: oci://a/b\n  selector: {matchLabels: {app: nobody}}\n",
        ),
        &["more.yaml:6: spec.selector.matchLabels: selects no pod with a proxy in any namespace"],
    );
    says(
        &plugin(
            "ecommerce",
            "  url: oci://a/b\n  match:\n  - ports: [{number: 3002}, {number: 9999}]\n",
        ),
        &[
            "more.yaml:7: spec.match[0].ports: what leaves a pod towards the Services' ports 3002 \
             cannot be told apart by the local mesh; write mode: SERVER for what comes in, or \
             leave the ports out",
        ],
    );
}

#[test]
fn everything_that_is_wrong_is_said_at_once_in_the_order_of_the_lines() {
    says(
        &virtual_service(
            "  hosts: [nobody]\n  gateways: [mesh, nowhere]\n  http:\n  - route:\n    - \
             destination: {host: nobody}\n",
        ),
        &[
            "more.yaml:5: spec.hosts[0]: there is no Service \
             \"nobody.ecommerce.svc.cluster.local\"; there are \
             \"cart-service.ecommerce.svc.cluster.local\", \
             \"ingressgateway.istio-system.svc.cluster.local\", \
             \"legacy.ecommerce.svc.cluster.local\", \
             \"product-service.ecommerce.svc.cluster.local\"",
            "more.yaml:6: spec.gateways[1]: there is no Gateway ecommerce/nowhere; there are \
             \"ecommerce/ecommerce-gateway\"",
            "more.yaml:9: spec.http[0].route[0].destination.host: there is no Service \
             \"nobody.ecommerce.svc.cluster.local\"; there are \
             \"cart-service.ecommerce.svc.cluster.local\", \
             \"ingressgateway.istio-system.svc.cluster.local\", \
             \"legacy.ecommerce.svc.cluster.local\", \
             \"product-service.ecommerce.svc.cluster.local\"",
        ],
    );
}
