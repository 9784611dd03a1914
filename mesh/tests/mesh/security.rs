//! Tokens and access rules: what the filters are that verify and decide, and where they stand.

use serde_json::{Value, json};

use crate::snapshots::check;
use crate::{array, configuration, named, names, shop_and};

/// A public key, of an issuer of nobody's.
pub(crate) const JWKS: &str =
    r#"{"keys":[{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}"#;

pub(crate) fn authentication(namespace: &str, name: &str, spec: &str) -> String {
    security("RequestAuthentication", namespace, name, spec)
}

pub(crate) fn policy(namespace: &str, name: &str, spec: &str) -> String {
    security("AuthorizationPolicy", namespace, name, spec)
}

fn security(kind: &str, namespace: &str, name: &str, spec: &str) -> String {
    format!(
        "---\napiVersion: security.istio.io/v1\nkind: {kind}\nmetadata: {{name: {name}, namespace: {namespace}}}\nspec:\n{spec}\n"
    )
}

const GATEWAY: (&str, &str) = ("ingressgateway-0", "0.0.0.0_8080");
const CART: (&str, &str) = ("cart-service-0", "0.0.0.0_3002");
const PRODUCT: (&str, &str) = ("product-service-v1-0", "0.0.0.0_3001");

/// The HTTP filters of a listener.
fn filters(more: &str, (pod, listener): (&str, &str)) -> Vec<Value> {
    let configuration = configuration(&shop_and(more), pod);
    let listener = named(&configuration.listeners, listener);
    array(
        listener,
        "/filter_chains/0/filters/0/typed_config/http_filters",
    )
    .to_vec()
}

/// The names of the policies in the filters for this action, as Envoy knows them.
fn policies(filters: &[Value], action: &str) -> Vec<String> {
    let of_action = |filter: &&Value| {
        filter["name"] == "envoy.filters.http.rbac"
            && filter["typed_config"]["rules"]["action"] == action
    };
    let filters = filters.iter().filter(of_action);
    filters
        .filter_map(|filter| filter["typed_config"]["rules"]["policies"].as_object())
        .flat_map(|policies| policies.keys().cloned())
        .collect()
}

/// The only rule of the only policy of a filter.
fn rule(spec: &str) -> Value {
    let filters = filters(&policy("ecommerce", "a", spec), CART);
    named(&filters, "envoy.filters.http.rbac")["typed_config"]["rules"]["policies"]["ns[ecommerce]-policy[a]-rule[0]"]
        .clone()
}

#[test]
fn tokens_and_rules_stand_between_the_phases_that_are_named_for_them() {
    let plugin = |phase: &str| {
        format!(
            "---\napiVersion: extensions.istio.io/v1alpha1\nkind: WasmPlugin\nmetadata: {{name: {}, namespace: istio-system}}\nspec: \
             {{url: 'oci://registry/a:1', phase: {phase}}}\n",
            phase.to_lowercase().replace('_', "-")
        )
    };
    let more = ["AUTHN", "AUTHZ", "STATS", "UNSPECIFIED_PHASE"]
        .map(plugin)
        .concat()
        + &authentication(
            "istio-system",
            "a",
            &format!("  jwtRules: [{{issuer: shop, jwks: '{JWKS}'}}]"),
        )
        + &policy("istio-system", "deny", "  action: DENY\n  rules: [{}]")
        + &policy("istio-system", "allow", "  {}");
    let order = [
        "extensions.istio.io/wasmplugin/istio-system.authn",
        "envoy.filters.http.jwt_authn",
        "extensions.istio.io/wasmplugin/istio-system.tenant-rate-limit",
        "extensions.istio.io/wasmplugin/istio-system.authz",
        "envoy.filters.http.rbac",
        "envoy.filters.http.rbac",
        "extensions.istio.io/wasmplugin/istio-system.stats",
        "extensions.istio.io/wasmplugin/istio-system.unspecified-phase",
        "envoy.filters.http.grpc_stats",
        "envoy.filters.http.fault",
        "envoy.filters.http.cors",
        "envoy.filters.http.router",
    ];
    let gateway = filters(&more, GATEWAY);
    assert_eq!(names(&gateway), order);
    assert_eq!(gateway[4]["typed_config"]["rules"]["action"], "DENY");
    assert_eq!(gateway[5]["typed_config"]["rules"]["action"], "ALLOW");
    // A sidecar verifies and decides on what comes in, never on what goes out.
    let sidecar = filters(&more, PRODUCT);
    assert!(names(&sidecar).contains(&"envoy.filters.http.jwt_authn"));
    let configuration = configuration(&shop_and(&more), PRODUCT.0);
    let outbound = configuration.listeners.last().expect("what goes out");
    let outbound = array(
        outbound,
        "/filter_chains/0/filters/0/typed_config/http_filters",
    );
    assert!(!names(outbound).contains(&"envoy.filters.http.jwt_authn"));
    assert!(!names(outbound).contains(&"envoy.filters.http.rbac"));
}

#[test]
fn a_policy_is_for_its_namespace_or_from_the_root_namespace_for_all_and_there_for_what_it_selects()
{
    let deny = |namespace: &str, name: &str, selector: &str| {
        policy(
            namespace,
            name,
            &format!("{selector}  action: DENY\n  rules: [{{}}]"),
        )
    };
    let cart = "  selector: {matchLabels: {app: cart-service}}\n";
    let more = [
        deny("istio-system", "mesh", ""),
        deny("istio-system", "carts-of-the-mesh", cart),
        deny("ecommerce", "shop", ""),
        deny("ecommerce", "carts", cart),
        policy("ecommerce", "nothing", cart),
        policy(
            "ecommerce",
            "some",
            "  rules:\n  - {to: [{operation: {methods: [GET]}}]}\n  - {to: [{operation: {methods: [PUT]}}]}",
        ),
    ]
    .concat();
    let rule_of = |namespace: &str, policy: &str, rule: u8| {
        format!("ns[{namespace}]-policy[{policy}]-rule[{rule}]")
    };
    let at = |place| {
        let filters = filters(&more, place);
        (policies(&filters, "DENY"), policies(&filters, "ALLOW"))
    };
    assert_eq!(
        at(GATEWAY),
        (vec![rule_of("istio-system", "mesh", 0)], vec![])
    );
    let some = [
        rule_of("ecommerce", "some", 0),
        rule_of("ecommerce", "some", 1),
    ];
    assert_eq!(
        at(PRODUCT),
        (
            vec![
                rule_of("ecommerce", "shop", 0),
                rule_of("istio-system", "mesh", 0)
            ],
            some.to_vec()
        )
    );
    let (denied, allowed) = at(CART);
    assert_eq!(
        denied,
        [
            rule_of("ecommerce", "carts", 0),
            rule_of("ecommerce", "shop", 0),
            rule_of("istio-system", "carts-of-the-mesh", 0),
            rule_of("istio-system", "mesh", 0),
        ]
    );
    assert_eq!(allowed.len(), 3, "{allowed:?}");
}

#[test]
fn a_policy_without_rules_matches_nothing_and_an_empty_rule_everything() {
    let never = json!({
        "permissions": [{"not_rule": {"any": true}}],
        "principals": [{"not_id": {"any": true}}],
    });
    assert_eq!(rule("  {}"), never);
    assert_eq!(rule("  rules: []"), never);
    let always = json!({
        "permissions": [{"and_rules": {"rules": [{"any": true}]}}],
        "principals": [{"and_ids": {"ids": [{"any": true}]}}],
    });
    assert_eq!(rule("  rules: [{}]"), always);
}

#[test]
fn a_dry_run_is_only_counted() {
    let dry = |name: &str| {
        policy("ecommerce", name, "  {}").replace(
            "namespace: ecommerce",
            "namespace: ecommerce, annotations: {istio.io/dry-run: 'true'}",
        )
    };
    let config =
        |more: &str| named(&filters(more, CART), "envoy.filters.http.rbac")["typed_config"].clone();
    let only = config(&dry("a"));
    assert_eq!(only.get("rules"), None);
    assert_eq!(only["shadow_rules"]["action"], "ALLOW");
    assert_eq!(only["shadow_rules_stat_prefix"], "istio_dry_run_allow_");
    let both = config(&(dry("a") + &policy("ecommerce", "b", "  {}")));
    let names = |field: &str| {
        let policies = both[field]["policies"].as_object().expect("policies");
        policies.keys().cloned().collect::<Vec<_>>()
    };
    assert_eq!(names("rules"), ["ns[ecommerce]-policy[b]-rule[0]"]);
    assert_eq!(names("shadow_rules"), ["ns[ecommerce]-policy[a]-rule[0]"]);
}

/// Everything that a rule can say. What it becomes is istiod's, read off its sources.
#[test]
fn rules_become_what_istiod_makes_of_them() {
    let spec = r#"  selector: {matchLabels: {app: cart-service}}
  action: DENY
  rules:
  - from:
    - source:
        principals: [cluster.local/ns/ecommerce/sa/cart-service, "*", "*/sa/default", cluster.local/ns/ecommerce/*]
        notPrincipals: [cluster.local/ns/ecommerce/sa/product-service]
        requestPrincipals: ["*", https://shop.example/alice, https://shop.example/*, "*/alice", "*.example/alice", "*lice", shop*]
        notRequestPrincipals: [shop/mallory]
        namespaces: [ecommerce, "*-system"]
        notNamespaces: [istio-system]
        ipBlocks: [10.1.2.3, 10.1.0.0/16]
        notIpBlocks: ["2001:db8::/32"]
        remoteIpBlocks: [192.0.2.0/24]
        notRemoteIpBlocks: [192.0.2.7]
    - source:
        serviceAccounts: [cart-service, istio-system/ingressgateway]
        notServiceAccounts: [product-service]
    to:
    - operation:
        hosts: [shop.example, "*.shop.example", "shop.*", "*"]
        notHosts: [admin.shop.example]
        ports: ["3002"]
        notPorts: ["3001"]
        methods: [GET, "P*"]
        notMethods: [PATCH]
        paths: [/cart, "/cart/*", "*.json", "*", "/cart/{*}/items/{**}"]
        notPaths: [/cart/mallory]
    - operation: {methods: [DELETE]}
    when:
    - {key: "request.headers[x-tenant]", values: [acme, "a*", "*e", "*"], notValues: [globex]}
    - {key: source.ip, values: [10.0.0.0/8]}
    - {key: remote.ip, notValues: [192.0.2.1]}
    - {key: source.namespace, values: [ecommerce]}
    - {key: source.principal, values: ["*"]}
    - {key: source.serviceAccount, values: [cart-service]}
    - {key: request.auth.principal, values: [shop/alice]}
    - {key: request.auth.audiences, values: [shop, "*.example"]}
    - {key: request.auth.presenter, values: [app]}
    - {key: "request.auth.claims[groups]", values: [admin], notValues: [guest]}
    - {key: "request.auth.claims[https://shop.example/realm][plan]", values: [gold, platinum]}
    - {key: destination.ip, values: [10.0.0.0/8]}
    - {key: destination.port, values: ["3002"]}
    - {key: connection.sni, values: ["*.shop.example"]}
  - {}"#;
    let filters = filters(&policy("ecommerce", "all", spec), CART);
    check("rules.json", named(&filters, "envoy.filters.http.rbac"));
}

#[test]
fn a_port_is_where_it_is_on_this_machine_and_another_one_nowhere() {
    let more = policy(
        "istio-system",
        "ports",
        "  action: DENY\n  rules: [{to: [{operation: {ports: ['8080', '3001']}}]}]",
    );
    let ports = |place| {
        let filters = filters(&more, place);
        let config = &named(&filters, "envoy.filters.http.rbac")["typed_config"];
        let rule = &config["rules"]["policies"]["ns[istio-system]-policy[ports]-rule[0]"];
        rule["permissions"][0]["and_rules"]["rules"][0]["or_rules"]["rules"].clone()
    };
    let mesh = shop_and(&more);
    let site = crate::site(&mesh);
    let gateway = site.pods[&crate::pod(&mesh, GATEWAY.0)].gateway[&8080].port();
    let product = site.pods[&crate::pod(&mesh, PRODUCT.0)].inbound[&3001].port();
    let nowhere = json!({"not_rule": {"any": true}});
    assert_eq!(
        ports(GATEWAY),
        json!([{"destination_port": gateway}, nowhere])
    );
    assert_eq!(
        ports(PRODUCT),
        json!([nowhere, {"destination_port": product}])
    );
    assert_eq!(ports(CART), json!([nowhere, nowhere]));
}

#[test]
fn tokens_of_one_issuer_are_valid_or_not_there() {
    let spec = format!("  jwtRules: [{{issuer: shop, jwks: '{JWKS}'}}]");
    let more = authentication("istio-system", "a", &spec);
    let at = |place| {
        let filters = filters(&more, place);
        named(&filters, "envoy.filters.http.jwt_authn")["typed_config"].clone()
    };
    let mut expected = json!({
        "@type": "type.googleapis.com/envoy.extensions.filters.http.jwt_authn.v3.JwtAuthentication",
        "providers": {"origins-0": {
            "issuer": "shop",
            "local_jwks": {"inline_string": JWKS},
            "forward": false,
            "payload_in_metadata": "payload",
            "normalize_payload_in_metadata": {"space_delimited_claims": ["permission", "scope"]},
            "clear_route_cache": true,
        }},
        "rules": [{
            "match": {"prefix": "/"},
            "requires": {"requires_any": {"requirements": [{"provider_name": "origins-0"}, {"allow_missing": {}}]}},
        }],
        "bypass_cors_preflight": true,
    });
    assert_eq!(at(GATEWAY), expected);
    expected["providers"]["origins-0"]["clear_route_cache"] = json!(false);
    assert_eq!(at(CART), expected);
}

/// Two objects, two issuers, and all that a rule can say.
#[test]
fn tokens_become_what_istiod_makes_of_them() {
    let all = format!(
        r#"  selector: {{matchLabels: {{istio: ingressgateway}}}}
  jwtRules:
  - issuer: https://shop.example
    audiences: [shop, app]
    jwks: '{JWKS}'
    fromHeaders: [{{name: x-token}}, {{name: authorization, prefix: "Bearer "}}]
    fromParams: [token]
    fromCookies: [session]
    outputPayloadToHeader: x-payload
    outputClaimToHeaders: [{{header: x-plan, claim: realm.plan}}]
    forwardOriginalToken: true
    timeout: 3s
    spaceDelimitedClaims: [roles, scope]"#
    );
    let more = authentication("istio-system", "z", &all)
        + &authentication(
            "istio-system",
            "a",
            &format!("  jwtRules: [{{issuer: partner, jwks: '{JWKS}'}}]"),
        );
    let gateway = filters(&more, GATEWAY);
    check(
        "tokens.json",
        named(&gateway, "envoy.filters.http.jwt_authn"),
    );
    // Only one of the two is for a sidecar.
    let cart = filters(&more, CART);
    let providers = &named(&cart, "envoy.filters.http.jwt_authn")["typed_config"]["providers"];
    assert_eq!(providers["origins-0"]["issuer"], "partner");
    assert_eq!(providers.as_object().map(serde_json::Map::len), Some(1));
}
