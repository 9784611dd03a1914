//! What is said of manifests that are wrong: every message, whole.

use std::path::{Path, PathBuf};

use tollgate_mesh::api::Objects;

/// All problems of a text, as they are printed.
fn problems(text: &str) -> String {
    problems_of("m.yaml", text)
}

fn problems_of(file: &str, text: &str) -> String {
    match Objects::parse(Path::new(file), text) {
        Ok(_) => String::new(),
        Err(problems) => problems.to_string(),
    }
}

/// A VirtualService with this `http`, whose first line is line 6.
fn routes(http: &str) -> String {
    format!(
        "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: a}}\nspec:\n  hosts: [a]\n{http}"
    )
}

#[track_caller]
fn says(text: &str, expected: &[&str]) {
    assert_eq!(problems(text), expected.join("\n"), "of\n{text}");
}

#[test]
fn a_known_field_that_is_not_implemented_is_told_from_a_typing_error() {
    says(
        &routes(
            "  http:\n  - redirect: {uri: /}\n    timout: 10s\n    zzz: 1\n    route: [{destination: {host: a}}]\n",
        ),
        &[
            "m.yaml:7: spec.http[0].redirect: HTTPRoute.redirect is not implemented by the local mesh yet",
            "m.yaml:8: spec.http[0].timout: HTTPRoute has no field \"timout\", did you mean \"timeout\"?",
            "m.yaml:9: spec.http[0].zzz: HTTPRoute has no field \"zzz\", it has name, match, route, timeout, retries, rewrite, fault, headers",
        ],
    );
}

#[test]
fn a_misspelt_field_that_is_not_implemented_is_still_recognised() {
    says(
        &routes("  http:\n  - redirct: {uri: /}\n    route: [{destination: {host: a}}]\n"),
        &[
            "m.yaml:7: spec.http[0].redirct: HTTPRoute has no field \"redirct\", did you mean \"redirect\"?",
        ],
    );
}

#[test]
fn a_field_in_the_spelling_of_protobuf_is_recognised() {
    says(
        "apiVersion: extensions.istio.io/v1alpha1\nkind: WasmPlugin\nmetadata: {name: a}\nspec:\n  url: oci://x/y:z\n  \
         plugin_config: {}\n",
        &[
            "m.yaml:6: spec.plugin_config: WasmPlugin has no field \"plugin_config\", did you mean \"pluginConfig\"?",
        ],
    );
}

#[test]
fn durations_need_a_unit() {
    says(
        &routes("  http:\n  - timeout: \"10\"\n    route: [{destination: {host: a}}]\n"),
        &["m.yaml:7: spec.http[0].timeout: \"10\" is not a duration, write \"10s\""],
    );
    says(
        &routes("  http:\n  - timeout: 10\n    route: [{destination: {host: a}}]\n"),
        &["m.yaml:7: spec.http[0].timeout: 10 is not a duration, write \"10s\""],
    );
    says(
        &routes("  http:\n  - timeout: soon\n    route: [{destination: {host: a}}]\n"),
        &["m.yaml:7: spec.http[0].timeout: \"soon\" is not a duration, write \"10s\""],
    );
}

#[test]
fn numbers_are_in_their_range_and_without_quotes() {
    says(
        &routes("  http:\n  - route: [{destination: {host: a, port: {number: 70000}}}]\n"),
        &[
            "m.yaml:7: spec.http[0].route[0].destination.port.number: 70000 is not between 0 and 65535",
        ],
    );
    says(
        &routes("  http:\n  - route:\n    - destination: {host: a}\n      weight: \"10\"\n"),
        &["m.yaml:9: spec.http[0].route[0].weight: \"10\" is a string, write 10 without quotes"],
    );
    says(
        &routes("  http:\n  - route:\n    - destination: {host: a}\n      weight: -1\n"),
        &["m.yaml:9: spec.http[0].route[0].weight: -1 is not between 0 and 4294967295"],
    );
    says(
        &routes("  http:\n  - route:\n    - destination: {host: a}\n      weight: 1.5\n"),
        &["m.yaml:9: spec.http[0].route[0].weight: 1.5 is not a whole number"],
    );
}

#[test]
fn a_string_that_looks_like_something_else_is_quoted_as_it_was_written() {
    says(
        "apiVersion: v1\nkind: Service\nmetadata:\n  name: a\n  labels: {version: 1.10}\nspec: {}\n",
        &["m.yaml:5: metadata.labels.version: 1.10 is not a string, write \"1.10\""],
    );
    says(
        "apiVersion: v1\nkind: Service\nmetadata:\n  name: a\n  annotations:\n    sidecar.istio.io/inject: false\nspec: {}\n",
        &[
            "m.yaml:6: metadata.annotations[\"sidecar.istio.io/inject\"]: false is not a string, write \"false\"",
        ],
    );
}

#[test]
fn flags_are_written_without_quotes() {
    says(
        &routes(
            "  http:\n  - match: [{ignoreUriCase: \"true\", uri: {exact: /}}]\n    route: [{destination: {host: a}}]\n",
        ),
        &[
            "m.yaml:7: spec.http[0].match[0].ignoreUriCase: \"true\" is a string, write true without quotes",
        ],
    );
}

#[test]
fn a_match_says_one_thing() {
    let with = |uri: &str| {
        routes(&format!(
            "  http:\n  - match: [{{uri: {uri}}}]\n    route: [{{destination: {{host: a}}}}]\n"
        ))
    };
    says(
        &with("{exact: /, prefix: /}"),
        &[
            "m.yaml:7: spec.http[0].match[0].uri: has several of exact, prefix and regex, write only one of them",
        ],
    );
    says(
        &with("{}"),
        &["m.yaml:7: spec.http[0].match[0].uri: is empty, write one of exact, prefix or regex"],
    );
    says(
        &with("{suffix: /}"),
        &[
            "m.yaml:7: spec.http[0].match[0].uri.suffix: StringMatch has no field \"suffix\", it has exact, prefix, regex",
        ],
    );
    says(
        &with("{regex: \"(\"}"),
        &[
            "m.yaml:7: spec.http[0].match[0].uri.regex: \"(\" is not a regular expression: unclosed group",
        ],
    );
    says(
        &with("{regex: \"(?=x)\"}"),
        &[
            "m.yaml:7: spec.http[0].match[0].uri.regex: \"(?=x)\" is not a regular expression: look-around, including \
             look-ahead and look-behind, is not supported",
        ],
    );
    says(
        &with("/"),
        &["m.yaml:7: spec.http[0].match[0].uri: \"/\" is not a mapping of exact, prefix, regex"],
    );
}

#[test]
fn what_is_missing_is_named_where_it_should_be() {
    says(
        &routes("  http:\n  - route:\n    - weight: 1\n"),
        &["m.yaml:8: spec.http[0].route[0].destination: is missing"],
    );
    says(
        "apiVersion: v1\nkind: Service\nmetadata: {}\nspec: {}\n",
        &["m.yaml:3: metadata.name: is missing"],
    );
    says(
        "apiVersion: v1\nkind: Service\nmetadata: {name: a}\n",
        &["m.yaml:1: spec: is missing"],
    );
    says(
        "apiVersion: v1\nkind: ServiceAccount\n",
        &["m.yaml:1: metadata: is missing"],
    );
    says(
        "apiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {name: a}\nspec:\n  servers:\n  - hosts: [\"*\"]\n    \
         port: {number: 80, protocol: HTTP}\n",
        &["m.yaml:7: spec.servers[0].port.name: is missing"],
    );
}

#[test]
fn a_value_of_an_enumeration_is_one_that_is_implemented() {
    let rule = |policy: &str| {
        format!(
            "apiVersion: networking.istio.io/v1beta1\nkind: DestinationRule\nmetadata: {{name: a}}\nspec:\n  host: a\n  \
             trafficPolicy:\n    {policy}\n"
        )
    };
    says(
        &rule("loadBalancer: {simple: PASSTHROUGH}"),
        &[
            "m.yaml:7: spec.trafficPolicy.loadBalancer.simple: PASSTHROUGH is not implemented by the local mesh yet, write \
             UNSPECIFIED, ROUND_ROBIN, LEAST_REQUEST, LEAST_CONN or RANDOM",
        ],
    );
    says(
        &rule("loadBalancer: {simple: LEAST_REQUESTS}"),
        &[
            "m.yaml:7: spec.trafficPolicy.loadBalancer.simple: \"LEAST_REQUESTS\" is not a SimpleLB, did you mean LEAST_REQUEST?",
        ],
    );
    says(
        &rule("tls: {mode: SIMPLE}"),
        &[
            "m.yaml:7: spec.trafficPolicy.tls.mode: SIMPLE is not implemented by the local mesh yet, write ISTIO_MUTUAL",
        ],
    );
    says(
        &rule("tls: {mode: 3}"),
        &["m.yaml:7: spec.trafficPolicy.tls.mode: 3 is not a TLSmode, write ISTIO_MUTUAL"],
    );
}

#[test]
fn lists_and_mappings_are_not_confused() {
    says(
        &routes("  http:\n    route: []\n"),
        &["m.yaml:6: spec.http: a mapping is not a list"],
    );
    says(
        "apiVersion: v1\nkind: Service\nmetadata: {name: a}\nspec:\n  selector: [app]\n",
        &["m.yaml:5: spec.selector: a list is not a mapping"],
    );
    says(
        "apiVersion: v1\nkind: Service\nmetadata: a\nspec: []\n",
        &[
            "m.yaml:3: metadata: \"a\" is not a mapping of name, namespace, labels, annotations, creationTimestamp, \
             generation, resourceVersion, uid, managedFields",
            "m.yaml:4: spec: a list is not a mapping of type, selector, ports, clusterIP, publishNotReadyAddresses, externalTrafficPolicy, ipFamilies, \
             ipFamilyPolicy, loadBalancerClass, allocateLoadBalancerNodePorts",
        ],
    );
}

#[test]
fn other_kinds_and_versions_are_refused_by_name() {
    says(
        "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {name: a}\n",
        &[
            "m.yaml:2: kind: kind ServiceEntry is not supported by the local mesh yet; it knows Namespace, Service, \
             ServiceAccount, Secret, ConfigMap, Deployment, StatefulSet, Gateway, VirtualService, DestinationRule, PeerAuthentication, RequestAuthentication, AuthorizationPolicy, WasmPlugin",
        ],
    );
    says(
        "apiVersion: networking.istio.io/v1\nkind: VirtualServce\nmetadata: {name: a}\n",
        &["m.yaml:2: kind: there is no kind VirtualServce, did you mean VirtualService?"],
    );
    says(
        "apiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {name: a}\n",
        &[
            "m.yaml:1: apiVersion: Gateway of gateway.networking.k8s.io/v1 is not supported by the local mesh yet, only of \
             networking.istio.io/v1 or networking.istio.io/v1beta1 or networking.istio.io/v1alpha3",
        ],
    );
    says(
        "kind: Service\n",
        &["m.yaml:1: apiVersion: is missing, write the object's version, such as \"apps/v1\""],
    );
    says(
        "- a\n",
        &["m.yaml:1: a list is not a manifest, write apiVersion, kind, metadata and spec"],
    );
}

#[test]
fn an_object_is_there_only_once() {
    let twice = "apiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {name: a, namespace: edge}\nspec: {servers: []}\n---\n\
                 apiVersion: networking.istio.io/v1beta1\nkind: Gateway\nmetadata:\n  namespace: edge\n  name: a\nspec: {servers: []}\n";
    says(
        twice,
        &[
            "m.yaml:10: metadata.name: Gateway edge/a is already at m.yaml:1, an object may be there only once",
        ],
    );
}

#[test]
fn names_are_what_kubernetes_takes() {
    says(
        "apiVersion: v1\nkind: ServiceAccount\nmetadata:\n  name: ../a\n  namespace: B\n",
        &[
            "m.yaml:4: metadata.name: \"../a\" is not a name, write lower-case letters, digits and \"-\"",
            "m.yaml:5: metadata.namespace: \"B\" is not a name, write lower-case letters, digits and \"-\"",
        ],
    );
    says(
        "apiVersion: v1\nkind: Namespace\nmetadata:\n  name: a\n  namespace: b\n",
        &["m.yaml:5: metadata.namespace: a Namespace is in no namespace, leave it out"],
    );
}

#[test]
fn a_key_is_there_only_once() {
    says(
        "apiVersion: v1\nkind: Service\nmetadata:\n  name: a\n  name: b\nspec: {}\nkind: Pod\n",
        &[
            "m.yaml:5: metadata.name: is here and on line 4, write it once",
            "m.yaml:7: kind: is here and on line 2, write it once",
        ],
    );
}

#[test]
fn words_and_numbers_that_tools_read_differently_are_refused() {
    let label = |value: &str| {
        format!(
            "apiVersion: v1\nkind: Service\nmetadata:\n  name: a\n  labels: {{x: {value}}}\nspec: {{}}\n"
        )
    };
    for (word, flag) in [
        ("yes", "true"),
        ("On", "true"),
        ("y", "true"),
        ("no", "false"),
        ("OFF", "false"),
        ("N", "false"),
    ] {
        says(
            &label(word),
            &[&format!(
                "m.yaml:5: metadata.labels.x: {word} is {flag} to Kubernetes and a string to YAML 1.2, write {flag} or \"{word}\""
            )],
        );
    }
    for number in ["0755", "0o17", "0x1F", "0b101", "1_000", "-012"] {
        says(
            &label(number),
            &[&format!(
                "m.yaml:5: metadata.labels.x: {number} is read as different numbers by different tools, write it without \
                 prefix, leading zero and _, or quote it"
            )],
        );
    }
    says(
        &label(".inf"),
        &[
            "m.yaml:5: metadata.labels.x: .inf is a number that JSON does not have, write \".inf\" if it is a string",
        ],
    );
    for string in [
        "\"yes\"",
        "'0755'",
        "yesterday",
        "1.2.3",
        "10s",
        "0xyz",
        "2026-11-21",
        "1:30",
        "-x",
        "1e",
        "v_1",
    ] {
        says(&label(string), &[]);
    }
    says(
        "apiVersion: v1\nkind: Service\nmetadata:\n  name: a\n  labels:\n    on: x\nspec: {}\n",
        &["m.yaml:6: metadata.labels: the key on is not a string, write \"on\""],
    );
}

#[test]
fn broken_yaml_is_found_at_its_line() {
    says(
        "apiVersion: v1\nmetadata:\n\tname: a\n",
        &["m.yaml:3: is indented with a tab, write spaces"],
    );
    says(
        "apiVersion: v1\nmetadata:\n  name: a\n\tb: c\n",
        &["m.yaml:4: is indented with a tab, write spaces"],
    );
    says(
        "apiVersion: v1\nkind: a: b\n",
        &[
            "m.yaml:2: is not YAML: a colon where no field can begin; quote the value, or mend the indentation",
        ],
    );
    says(
        "apiVersion: v1\nmetadata: {name: a\nkind: Service\n",
        &["m.yaml:3: is not YAML: while parsing a flow mapping, did not find expected ',' or '}'"],
    );
    says(
        "a: *b\n",
        &["m.yaml:1: is not YAML: while parsing node, found unknown anchor"],
    );
    says(
        "a: !!binary aGk=\n",
        &["m.yaml:1: a: the tag tag:yaml.org,2002:binary is not supported, leave it out"],
    );
    // The documents before it are still looked at.
    says(
        "kind: Service\n---\na: 'b\n",
        &[
            "m.yaml:1: apiVersion: is missing, write the object's version, such as \"apps/v1\"",
            "m.yaml:3: is not YAML: while scanning a quoted scalar, found unexpected end of stream",
        ],
    );
}

#[test]
fn broken_json_is_found_at_its_line() {
    assert_eq!(
        problems_of("m.json", "{\n  \"a\": 1,\n}\n"),
        "m.json:3: is not JSON: key must be a string"
    );
    assert_eq!(
        problems_of(
            "m.json",
            "{\n\t\"apiVersion\": \"v1\",\n\t\"kind\": \"Service\",\n\t\"kind\": \"Pod\"\n}\n"
        ),
        "m.json:4: kind: is here and on line 3, write it once"
    );
    assert_eq!(
        problems_of(
            "m.json",
            "{\"apiVersion\": \"v1\", \"kind\": \"Service\",\n \"metadata\": {\"name\": \"a\", \"labels\": {\"\\ud83d\\ude00\": 1}},\n \"spec\": {}}"
        ),
        "m.json:2: metadata.labels[\"😀\"]: 1 is not a string, write \"1\""
    );
}

#[test]
fn aliases_cannot_blow_up() {
    let mut text = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
    for level in 1..10 {
        let before = format!("*a{}", level - 1);
        text.push_str(&format!(
            "a{level}: &a{level} [{}]\n",
            [before.as_str(); 10].join(", ")
        ));
    }
    says(
        &text,
        &["m.yaml:7: a6[0]: aliases make this file too large, write the values out"],
    );
    says(
        "metadata: &a\n  labels: *a\n",
        &["m.yaml:2: metadata.labels: is an alias of the value that it is in, write the value out"],
    );
    says(
        &"[".repeat(200),
        &["m.yaml:1: is nested more than 100 deep"],
    );
}

#[test]
fn the_items_of_a_list_are_objects_of_their_own() {
    says(
        "apiVersion: v1\nkind: List\nitems:\n- apiVersion: v1\n  kind: Service\n  metadata: {name: a}\n  spec:\n    prots: []\n\
         - apiVersion: v1\n  kind: Pod\n",
        &[
            "m.yaml:8: items[0].spec.prots: Service has no field \"prots\", did you mean \"ports\"?",
            "m.yaml:10: items[1].kind: kind Pod is not supported by the local mesh yet; it knows Namespace, Service, \
             ServiceAccount, Secret, ConfigMap, Deployment, StatefulSet, Gateway, VirtualService, DestinationRule, \
             PeerAuthentication, RequestAuthentication, AuthorizationPolicy, WasmPlugin",
        ],
    );
    says(
        "apiVersion: v1\nkind: List\nitem: []\n",
        &["m.yaml:3: item: List has no field \"item\", did you mean \"items\"?"],
    );
}

#[test]
fn what_a_local_process_would_not_see_is_refused() {
    let pod = |container: &str, pod: &str| {
        format!(
            "apiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: a}}\nspec:\n  selector: {{matchLabels: {{app: a}}}}\n  \
             template:\n    spec:\n      containers:\n      - name: a\n        image: a\n{container}{pod}"
        )
    };
    says(
        &pod(
            "        env:\n        - name: KEY\n          valueFrom: {fieldRef: {fieldPath: metadata.name}}\n",
            "",
        ),
        &[
            "m.yaml:13: spec.template.spec.containers[0].env[0].valueFrom.fieldRef: EnvVarSource.fieldRef is not implemented \
             by the local mesh yet",
        ],
    );
    says(
        &pod(
            "",
            "      volumes:\n      - name: c\n        configMap: {name: c}\n",
        ),
        &[
            "m.yaml:13: spec.template.spec.volumes[0].configMap: Volume.configMap is not implemented by the local mesh yet",
        ],
    );
    says(
        &pod("        resources: {limits: {memory: 1GB}}\n", ""),
        &[
            "m.yaml:11: spec.template.spec.containers[0].resources.limits.memory: \"1GB\" is not a quantity, write \"100m\", \
             \"0.5\", \"128Mi\" or the like",
        ],
    );
    says(
        &pod("", "      initContainers: []\n"),
        &[
            "m.yaml:11: spec.template.spec.initContainers: PodSpec.initContainers is not implemented by the local mesh yet",
        ],
    );
}

#[test]
fn problems_are_events_for_programs() {
    let problems = Objects::parse(Path::new("m.yaml"), "kind: Service\n").unwrap_err();
    assert_eq!(
        serde_json::to_string(&problems).unwrap(),
        r#"[{"file":"m.yaml","line":1,"field":"apiVersion","reason":"is missing, write the object's version, such as \"apps/v1\""}]"#
    );
}

#[test]
fn what_istio_refuses_of_retries_rewrites_and_faults_is_refused() {
    let route = |what: &str| {
        routes(&format!(
            "  http:\n  - route: [{{destination: {{host: a}}}}]\n    {what}\n"
        ))
    };
    for (what, expected) in [
        (
            "retries: {attempts: 3, retryOn: \"5xx, reset\"}",
            "retries.retryOn: \" reset\" is not a condition for a retry; write, without spaces between them, statuses or some of \
             5xx,gateway-error,reset,reset-before-request,connect-failure,retriable-4xx,refused-stream,retriable-status-codes,\
             retriable-headers,envoy-ratelimited,http3-post-connect-failure,cancelled,deadline-exceeded,internal,\
             resource-exhausted,unavailable",
        ),
        (
            "retries: {perTryTimeout: 2s}",
            "retries: has perTryTimeout and no attempts, without which nothing is tried again; write attempts: 3, say",
        ),
        (
            "retries: {attempts: -1}",
            "retries.attempts: -1 is not between 0 and 2147483647",
        ),
        (
            "retries: {attempts: 1, retryRemoteLocalities: true}",
            "retries.retryRemoteLocalities: HTTPRetry.retryRemoteLocalities is not implemented by the local mesh yet",
        ),
        (
            "retries: {attempts: 1, perTryTimeout: 0s}",
            "retries.perTryTimeout: is not a whole number of milliseconds above 0, as Istio demands; write \"100ms\" or more",
        ),
        (
            "timeout: 1.0005s",
            "timeout: is not a whole number of milliseconds above 0, as Istio demands; write \"100ms\" or more",
        ),
        (
            "rewrite: {}",
            "rewrite: is empty, write uri, uriRegexRewrite or authority",
        ),
        (
            "rewrite: {uri: /, uriRegexRewrite: {match: a, rewrite: b}}",
            "rewrite: has both uri and uriRegexRewrite, write only one of them",
        ),
        (
            "rewrite: {uriRegexRewrite: {match: ^/(a), rewrite: '/\\2'}}",
            "rewrite.uriRegexRewrite: rewrite names the group \\2, and match has 1",
        ),
        (
            "rewrite: {uriRegexRewrite: {match: a, rewrite: '\\x'}}",
            "rewrite.uriRegexRewrite: rewrite has a \\ without a group's number, write \\\\ for the character itself",
        ),
        ("fault: {}", "fault: is empty, write delay, abort or both"),
        (
            "fault: {abort: {httpStatus: 500}}",
            "fault.abort.percentage: is missing",
        ),
        (
            "fault: {abort: {httpStatus: 99, percentage: {value: 10}}}",
            "fault.abort.httpStatus: 99 is not a status, write one from 200 to 599",
        ),
        (
            "fault: {delay: {fixedDelay: 5s, percentage: {value: 101}}}",
            "fault.delay.percentage.value: 101 is not between 0 and 100",
        ),
        (
            "fault: {delay: {exponentialDelay: 5s, percentage: {value: 1}}}",
            "fault.delay.exponentialDelay: Delay.exponentialDelay is not implemented by the local mesh yet",
        ),
        (
            "headers: {request: {set: {a: \"%DOWNSTREAM_REMOTE_ADDRESS%\"}}}",
            "headers.request.set.a: \"%DOWNSTREAM_REMOTE_ADDRESS%\" has a command of Envoy, which is not implemented by the \
             local mesh yet; write %% for a percent sign",
        ),
    ] {
        says(
            &route(what),
            &[&format!("m.yaml:8: spec.http[0].{expected}")],
        );
    }
}

#[test]
fn what_istio_refuses_of_pools_and_outliers_is_refused_and_what_it_ignores_too() {
    for (what, expected) in [
        (
            "connectionPool: {tcp: {maxConnections: 0}}",
            "connectionPool.tcp.maxConnections: 0 is no limit at all to Istio; write at least 1, or leave it out",
        ),
        (
            "connectionPool: {http: {maxRequestsPerConnection: 3000000000}}",
            "connectionPool.http.maxRequestsPerConnection: 3000000000 is not between 0 and 2147483647",
        ),
        (
            "connectionPool: {http: {h2UpgradePolicy: UPGRADE}}",
            "connectionPool.http.h2UpgradePolicy: HTTPSettings.h2UpgradePolicy is not implemented by the local mesh yet",
        ),
        (
            "outlierDetection: {consecutiveErrors: 3}",
            "outlierDetection.consecutiveErrors: OutlierDetection.consecutiveErrors is not implemented by the local mesh yet",
        ),
        (
            "outlierDetection: {maxEjectionPercent: 101}",
            "outlierDetection.maxEjectionPercent: 101 is not between 0 and 100",
        ),
        (
            "outlierDetection: {maxEjectionPercent: 0}",
            "outlierDetection.maxEjectionPercent: 0 is 10 to Istio; leave outlierDetection out if no pod is to be passed over",
        ),
        (
            "outlierDetection: {consecutiveLocalOriginFailures: 3}",
            "outlierDetection: has consecutiveLocalOriginFailures, which counts only with splitExternalLocalOriginErrors: true",
        ),
        (
            "loadBalancer: {simple: PASSTHROUGH}",
            "loadBalancer.simple: PASSTHROUGH is not implemented by the local mesh yet, write UNSPECIFIED, ROUND_ROBIN, \
             LEAST_REQUEST, LEAST_CONN or RANDOM",
        ),
    ] {
        says(
            &format!(
                "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {{name: a}}\nspec:\n  host: a\n  \
                 trafficPolicy:\n    {what}\n"
            ),
            &[&format!("m.yaml:7: spec.trafficPolicy.{expected}")],
        );
    }
}

#[test]
fn a_secret_s_data_is_base64() {
    says(
        "apiVersion: v1\nkind: Secret\nmetadata: {name: a}\ndata:\n  password: hunter2!\n",
        &[
            "m.yaml:5: data.password: is not base64; write the value itself under stringData instead",
        ],
    );
}

mod files {
    use super::*;

    const SERVICE: &str = "apiVersion: v1\nkind: Service\nmetadata: {name: a}\nspec: {}\n";
    const OTHER: &str = "apiVersion: v1\nkind: Service\nmetadata: {name: b}\nspec: {}\n";

    /// What is said of these files, or the names of the Services that were read; `@` stands for the folder they are in.
    #[track_caller]
    fn read(files: &[(&str, &str)], paths: &[&str]) -> String {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        let paths: Vec<PathBuf> = paths.iter().map(|path| folder.path().join(path)).collect();
        match Objects::load(&paths) {
            Ok(objects) => {
                let names: Vec<String> = objects
                    .services
                    .into_iter()
                    .map(|service| service.name)
                    .collect();
                names.join(" ")
            }
            Err(problems) => problems
                .to_string()
                .replace(folder.path().to_str().unwrap(), "@"),
        }
    }

    fn resources(names: &str) -> String {
        format!(
            "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\nresources:\n{names}"
        )
    }

    #[test]
    fn a_plain_folder_is_all_its_manifests() {
        let files = [
            ("b/x.yml", OTHER),
            ("a.yaml", SERVICE),
            (".hidden/x.yaml", "wrong"),
            (".x.yaml", "wrong"),
            ("README.md", "# x"),
        ];
        assert_eq!(read(&files, &["."]), "a b");
        assert_eq!(read(&files, &["b", "a.yaml"]), "b a");
        assert_eq!(
            read(&[("README.md", "# x")], &["."]),
            "@:1: has no manifests: no kustomization.yaml, and no .yaml, .yml or .json file"
        );
    }

    #[test]
    fn a_kustomization_is_what_it_names() {
        let root = resources("- ./shop\n- x.yaml\n");
        let shop = resources("- ../base\n");
        let base = resources("- y.yaml\n");
        let files = [
            ("root/kustomization.yaml", root.as_str()),
            ("root/x.yaml", SERVICE),
            ("root/unnamed.yaml", "wrong"),
            ("root/shop/kustomization.yml", shop.as_str()),
            ("root/base/Kustomization", base.as_str()),
            ("root/base/y.yaml", OTHER),
        ];
        assert_eq!(read(&files, &["root"]), "b a");
        assert_eq!(read(&files, &["root/kustomization.yaml"]), "b a");
    }

    #[test]
    fn what_a_kustomization_cannot_name() {
        let root = resources(
            "- ../outside.yaml\n- missing.yaml\n- plain\n- https://example.com/x.yaml\n- broken.yaml\n- kustomization.yaml\n",
        );
        let files = [
            ("root/kustomization.yaml", root.as_str()),
            ("outside.yaml", SERVICE),
            ("root/plain/x.yaml", SERVICE),
            ("root/broken.yaml", "\n- x: *y\n"),
        ];
        assert_eq!(
            read(&files, &["root"]),
            "@/root/broken.yaml:2: is not YAML: while parsing node, found unknown anchor\n\
             @/root/kustomization.yaml:4: resources[0]: \"../outside.yaml\" is a file outside of @/root, name a folder with \
             a kustomization.yaml instead\n\
             @/root/kustomization.yaml:5: resources[1]: \"missing.yaml\" does not exist\n\
             @/root/kustomization.yaml:6: resources[2]: \"plain\" is a folder without kustomization.yaml\n\
             @/root/kustomization.yaml:7: resources[3]: \"https://example.com/x.yaml\" is remote, which the local mesh does \
             not implement yet\n\
             @/root/kustomization.yaml:9: resources[5]: \"kustomization.yaml\" is a kustomization, name its folder instead"
        );
    }

    #[test]
    fn what_a_kustomization_cannot_do() {
        let transforms = format!("{}images: []\nressources: []\n", resources("- x.yaml\n"));
        assert_eq!(
            read(&[("kustomization.yaml", &transforms)], &["."]),
            "@/kustomization.yaml:5: images: Kustomization.images is not implemented by the local mesh yet\n\
             @/kustomization.yaml:6: ressources: Kustomization has no field \"ressources\", did you mean \"resources\"?"
        );
        assert_eq!(
            read(
                &[("kustomization.yaml", "apiVersion: v1\nkind: Component\n")],
                &["."]
            ),
            "@/kustomization.yaml:1: apiVersion: \"v1\" is not supported, write kustomize.config.k8s.io/v1beta1\n\
             @/kustomization.yaml:2: kind: \"Component\" is not supported, write Kustomization"
        );
        assert_eq!(
            read(&[("kustomization.yaml", "")], &["."]),
            "@/kustomization.yaml:1: is empty, write resources: and what it consists of"
        );
    }

    #[test]
    fn folders_that_include_each_other_are_refused() {
        let (a, b) = (resources("- ../b\n"), resources("- ../a\n"));
        assert_eq!(
            read(
                &[("a/kustomization.yaml", &a), ("b/kustomization.yaml", &b)],
                &["a"]
            ),
            "@/b/kustomization.yaml:4: resources[0]: \"../a\" includes this kustomization again, a folder cannot be a part \
             of itself"
        );
    }

    #[test]
    fn folders_around_a_kustomization_are_refused_as_kustomize_does() {
        let (root, overlay) = (resources("- x.yaml\n"), resources("- ../..\n"));
        assert_eq!(
            read(
                &[
                    ("kustomization.yaml", &root),
                    ("x.yaml", SERVICE),
                    ("overlays/a/kustomization.yaml", &overlay)
                ],
                &["overlays/a"]
            ),
            "@/overlays/a/kustomization.yaml:4: resources[0]: \"../..\" is a folder around this kustomization, which \
             kustomize refuses; name the folders in it that are needed"
        );
    }

    #[test]
    fn nothing_is_read_twice() {
        let root = resources("- a\n- b\n- a/x.yaml\n");
        let (a, b) = (resources("- x.yaml\n"), resources("- ../a\n"));
        let files = [
            ("kustomization.yaml", root.as_str()),
            ("a/kustomization.yaml", a.as_str()),
            ("a/x.yaml", SERVICE),
            ("b/kustomization.yaml", b.as_str()),
        ];
        assert_eq!(
            read(&files, &["."]),
            "@/b/kustomization.yaml:4: resources[0]: \"../a\" is read twice, it was named by @/kustomization.yaml:4 already\n\
             @/kustomization.yaml:6: resources[2]: \"a/x.yaml\" is read twice, it was named by @/a/kustomization.yaml:4 already"
        );
        assert_eq!(
            read(&files, &["a", "a/x.yaml"]),
            "@/a/x.yaml:1: is read twice, it was named by @/a/kustomization.yaml:4 already"
        );
    }

    #[test]
    fn the_same_object_in_two_files_names_both() {
        assert_eq!(
            read(
                &[("a.yaml", SERVICE), ("b.yaml", &format!("\n{SERVICE}"))],
                &["."]
            ),
            "@/b.yaml:4: metadata.name: Service default/a is already at @/a.yaml:1, an object may be there only once"
        );
    }

    #[test]
    fn files_that_cannot_be_read() {
        assert_eq!(
            read(&[], &["x.yaml"]),
            "@/x.yaml:1: cannot be read: No such file or directory (os error 2)"
        );
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.yaml");
        std::fs::write(&path, b"a: b\nc: \xff\n").unwrap();
        let problems = Objects::load(&[path]).unwrap_err().to_string();
        assert_eq!(
            problems.replace(folder.path().to_str().unwrap(), "@"),
            "@/x.yaml:2: is not UTF-8"
        );
    }
}
