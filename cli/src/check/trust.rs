//! What the filters of a proxy say together, one plugin after the other: a type must not rest on a tenant whom clients choose, nor a sidecar believe peers
//! whose word a limiter overwrites; and what cannot be meant. What one proxy believes of [another](across) follows.
//!
//! The filters see their own configuration alone, and the bundle its sections. What requests pass before, only the mesh knows.

mod across;

use std::collections::{BTreeMap, BTreeSet};

use tollgate_bundle::together::{Limiter, overwritten, unfounded, unfounded_alone};
use tollgate_common::config::below;
use tollgate_common::header::{TENANT_ID, TENANT_TIER};
use tollgate_common::{ConfigError, StringMatch};
use tollgate_host::same_name;
use tollgate_mesh::api::Objects;
use tollgate_mesh::api::extensions::{FailStrategy, PluginPhase};
use tollgate_mesh::model::{Passage, Plugin, Traffic};
use tollgate_mesh::source::Source;
use tollgate_mesh::{Code, Mesh, Problem};
use user_classifier::config::Compiled;

use crate::build::variant;

/// What is wrong between the filters of each proxy, and between proxies, each once.
pub(crate) fn problems(mesh: &Mesh, objects: &Objects) -> Vec<Problem> {
    let known: Vec<Known<'_>> = mesh
        .plugins
        .iter()
        .filter_map(|plugin| Known::of(plugin, objects))
        .collect();
    // If there is no issuer at all, they are elsewhere: the shop's is an overlay.
    let has_issuers = !mesh.authentications.is_empty();
    let passages = mesh.passages();
    let mut problems = Vec::new();
    let mut told = BTreeSet::new();
    for passage in &passages {
        let mut found = Vec::new();
        look(passage, &known, has_issuers, &mut found);
        // Of several proxies with the same plugins, the first.
        problems.extend(found.into_iter().filter(|problem| {
            told.insert((
                problem.code,
                problem.file.clone(),
                problem.line,
                problem.field.clone(),
            ))
        }));
    }
    across::look(mesh, objects, &passages, &known, &mut problems);
    problems.extend(known.iter().filter_map(fails_open));
    left_to_clients(mesh, objects, &passages, &mut problems);
    problems
}

/// Tells a filter whose failure lets clients say what it would have taken away.
fn fails_open(this: &Known<'_>) -> Option<Problem> {
    if this.plugin.fail_strategy != FailStrategy::FailOpen {
        return None;
    }
    let mut headers: Vec<&str> = Vec::new();
    if let Some(classifier) = this.classifier() {
        headers.push(&classifier.header);
        headers.extend(classifier.set.iter().map(String::as_str));
    }
    // A classifier that nobody vouches to takes them away, and one with `trust` from all who are not trusted.
    let by_classifier = |it: &Compiled| it.trusted.is_some() || !it.vouched;
    if this.limiter().is_some() || this.classifier().is_some_and(by_classifier) {
        headers.extend([TENANT_ID, TENANT_TIER]);
    }
    if headers.is_empty() {
        return None;
    }
    let message = format!(
        "is FAIL_OPEN: whenever the module cannot be fetched or its VM has died, requests pass with {} as their clients wrote them; write FAIL_CLOSE or FAIL_RELOAD, or \
         leave it out",
        listed(&headers)
    );
    let problem = this.source.problem("spec.failStrategy", message);
    Some(problem.of(Code::Doubt))
}

/// Tells headers that a proxy writes from the tokens of one issuer alone, and that clients with a token of another write as they like.
fn left_to_clients(
    mesh: &Mesh,
    objects: &Objects,
    passages: &[Passage<'_>],
    problems: &mut Vec<Problem>,
) {
    let mut told = BTreeSet::new();
    for passage in passages {
        let place = format!("{}/{}", passage.workload.namespace, passage.workload.name);
        for left in mesh.left_to_clients(passage.workload) {
            let mut same = objects.request_authentications.iter();
            let object =
                same.find(|object| left.authentication == (&object.namespace, &object.name));
            let Some(object) = object else {
                continue;
            };
            if !told.insert((left.authentication, left.field.clone())) {
                continue;
            }
            let message = format!(
                "\"{}\" is left as clients write it at {place} beside a valid token of {}, whose rule is tried first and writes no such header \
                 (Envoys before envoyproxy/envoy#46586, such as 1.37, look no further); let that rule write it, too, from a claim of its tokens or from one that they \
                 never have",
                left.header, left.issuer
            );
            problems.push(object.source.problem(&left.field, message).of(Code::Doubt));
        }
    }
}

/// What is known of a plugin, if its module is ours.
fn find<'k, 'a>(known: &'k [Known<'a>], plugin: &Plugin) -> Option<&'k Known<'a>> {
    known.iter().find(|known| known.plugin == plugin)
}

/// Where a field is, `file:line`, for messages of others.
fn at(source: &Source, field: &str) -> String {
    let (file, line) = source.locate(field);
    let file = file.strip_prefix(".").unwrap_or(file);
    format!("{}:{line}", file.display())
}

/// `a, b and c`.
fn listed(names: &[impl AsRef<str>]) -> String {
    let names: Vec<&str> = names.iter().map(AsRef::as_ref).collect();
    match names.as_slice() {
        [rest @ .., last] if !rest.is_empty() => format!("{} and {last}", rest.join(", ")),
        names => names.concat(),
    }
}

/// A plugin whose module is ours.
struct Known<'a> {
    plugin: &'a Plugin,
    source: &'a Source,
    /// What it says; `None` if its filter refuses it.
    said: Option<Said>,
}

/// What plugins say that others depend on.
struct Said {
    limiter: Option<tenant_rate_limit::Config>,
    classifier: Option<Compiled>,
    is_bundle: bool,
}

impl<'a> Known<'a> {
    fn of(plugin: &'a Plugin, objects: &'a Objects) -> Option<Self> {
        let same = objects
            .wasm_plugins
            .iter()
            .find(|object| object.name == plugin.name && object.namespace == plugin.namespace);
        let json = plugin.configuration.as_deref().unwrap_or("").as_bytes();
        let said = |limiter, classifier, is_bundle| Said {
            limiter,
            classifier,
            is_bundle,
        };
        let said = match variant::plugin(&plugin.module) {
            "tenant-rate-limit" => tenant_rate_limit::Config::parse(json)
                .ok()
                .map(|limiter| said(Some(limiter), None, false)),
            "user-classifier" => Compiled::read(json)
                .ok()
                .map(|classifier| said(None, Some(classifier), false)),
            "tollgate" => tollgate_bundle::Config::parse(json)
                .ok()
                .map(|config| said(config.tenant_rate_limit, config.user_classifier, true)),
            "business-metrics" => Some(said(None, None, false)),
            _ => return None,
        };
        Some(Self {
            plugin,
            source: &same?.source,
            said,
        })
    }

    fn limiter(&self) -> Option<&tenant_rate_limit::Config> {
        self.said.as_ref()?.limiter.as_ref()
    }

    fn classifier(&self) -> Option<&Compiled> {
        self.said.as_ref()?.classifier.as_ref()
    }

    /// A field of a filter's configuration, as the manifest has it.
    fn field(&self, section: &str, field: &str) -> String {
        match &self.said {
            Some(said) if said.is_bundle => format!("spec.pluginConfig.{section}.{field}"),
            _ => format!("spec.pluginConfig.{field}"),
        }
    }

    /// Where a field of the limiter is, for those who read of another plugin.
    fn place(&self, field: &str) -> String {
        let field = self.field(LIMITER, field);
        format!("{field} in {}", at(self.source, &field))
    }

    /// Whether it finds a header as the proxy wrote it from a token, and not as a client did.
    fn finds_written(&self, passage: &Passage<'_>, header: &str) -> bool {
        passage.written.contains(header) && self.plugin.phase != PluginPhase::Authn
    }

    fn name(&self) -> String {
        format!("{}/{}", self.plugin.namespace, self.plugin.name)
    }

    /// A problem of the classifier.
    fn problem(&self, error: &ConfigError) -> Problem {
        let field = self.field(CLASSIFIER, &error.path);
        self.source.problem(&field, &error.message).of(Code::Trust)
    }

    fn doubt(&self, section: &str, field: &str, message: String) -> Problem {
        let field = self.field(section, field);
        self.source.problem(&field, message).of(Code::Doubt)
    }
}

const LIMITER: &str = "tenantRateLimit";
const CLASSIFIER: &str = "userClassifier";

/// What is wrong with what a request passes.
fn look(
    passage: &Passage<'_>,
    known: &[Known<'_>],
    has_issuers: bool,
    problems: &mut Vec<Problem>,
) {
    let place = format!("{}/{}", passage.workload.namespace, passage.workload.name);
    let mut before: Vec<&Known<'_>> = Vec::new();
    // What others wrote may write and take away anything.
    let mut is_clear = true;
    for plugin in &passage.plugins {
        let Some(this) = find(known, plugin) else {
            is_clear = false;
            continue;
        };
        is_clear &= this.said.is_some();
        before.push(this);
        claims(this, passage, &place, has_issuers, problems);
        if passage.traffic == Traffic::Outbound {
            peers_of_outbound(this, &place, problems);
        }
        let Some(classifier) = this.classifier() else {
            continue;
        };
        let (_, earlier) = before.split_last().unwrap_or((&this, &[]));
        same_header(this, classifier, earlier, &place, problems);
        if classifier.trusted.is_some() && matches!(passage.traffic, Traffic::Gateway(_)) {
            let message = format!(
                "believes peers at the gateway {place}, where a client's certificate is whatever the gateway's own credentials verify, and not an \
                 identity of the mesh; leave it out there, and write it at sidecars"
            );
            problems.push(this.doubt(CLASSIFIER, "trust", message));
        }
        // In a bundle the limiter is in front of the classifier, and itself has said what is wrong with the two.
        if this.limiter().is_some() {
            continue;
        }
        let limiter = earlier.iter().rev().find_map(|earlier| {
            let config = earlier.limiter()?;
            Some((earlier, config))
        });
        let found = match limiter {
            Some((by, config)) => {
                let at = |field: &str| by.place(field);
                let is_vouched = |name: &str| by.finds_written(passage, name);
                let limiter = Limiter {
                    config,
                    at: &at,
                    is_vouched: &is_vouched,
                };
                unfounded(classifier, limiter)
            }
            None if is_clear && vouching(this, earlier, passage).is_none() && !cleaned(earlier) => {
                let nobody = format!("no tenant-rate-limit runs before it at {place}");
                let written = |name: &str| this.finds_written(passage, name);
                let mut found = unfounded_alone(classifier, written, &nobody);
                if classifier.vouched && found.is_empty() {
                    let open = [TENANT_ID, TENANT_TIER].into_iter();
                    let open: Vec<&str> = open.filter(|header| !written(header)).collect();
                    let (open, they) = match open[..] {
                        [alone] => (alone, "it"),
                        _ => ("x-tenant-id and x-tenant-tier", "them"),
                    };
                    let message = format!(
                        "is said of {open}, and {nobody}, nor a classifier with `trust`, and no RequestAuthentication writes {they} from a claim \
                         (outputClaimToHeaders): clients write {they} as they like; let one of these see to it, or leave \
                         this out; if something in front of the proxy does, let a tenant-rate-limit say so: `{{header: x-tenant-id, vouched: true}}`"
                    );
                    found.push(ConfigError::new("tenant.vouched", message));
                }
                found
            }
            None => Vec::new(),
        };
        problems.extend(found.iter().map(|error| this.problem(error)));
        if !classifier.says_who_vouches
            && !classifier.vouched
            && classifier.trusted.is_none()
            && !cleaned(earlier)
            && let Some(by) = vouching(this, earlier, passage)
        {
            let message = format!(
                "is missing, so x-tenant-id and x-tenant-tier are taken away at {place}, where {by} vouches for them; write `tenant: {{vouched: true}}`"
            );
            problems.push(this.problem(&ConfigError::new("tenant", message)));
        }
    }
    // Before or behind it: whoever comes last has written what services see.
    for believing in &before {
        for limiting in &before {
            let (Some(classifier), Some(config)) = (believing.classifier(), limiting.limiter())
            else {
                continue;
            };
            // The bundle itself has said what is wrong with the two.
            if !std::ptr::eq(*limiting, *believing) {
                let at = |field: &str| limiting.place(field);
                let is_vouched = |name: &str| limiting.finds_written(passage, name);
                let limiter = Limiter {
                    config,
                    at: &at,
                    is_vouched: &is_vouched,
                };
                let error = overwritten(classifier, limiter);
                problems.extend(error.iter().map(|error| believing.problem(error)));
            }
            problems.extend(other_peers(believing, classifier, limiting, config));
        }
    }
}

/// Tells who is believed of what a workload sends: there nobody is connected but itself, without a certificate.
fn peers_of_outbound(this: &Known<'_>, place: &str, problems: &mut Vec<Problem>) {
    let limiter = this.limiter().into_iter();
    let sources = limiter.flat_map(|limiter| limiter.sources.iter().enumerate());
    let by_limiter = sources.filter_map(|(position, source)| {
        let kind = match source {
            tenant_rate_limit::config::Source::PassedOn(_) => "passedOn",
            tenant_rate_limit::config::Source::Peer(_) => "peer",
            _ => return None,
        };
        Some((LIMITER, format!("tenant.from[{position}].{kind}")))
    });
    let trusting = this.classifier().filter(|it| it.trusted.is_some());
    let by_classifier = trusting.map(|_| (CLASSIFIER, "trust".to_owned()));
    for (section, field) in by_limiter.take(1).chain(by_classifier) {
        let message = format!(
            "goes by who is connected, and runs on what leaves {place}, too, where that is nobody with a certificate: what the service passes on is taken away there; write \
             `match: [{{mode: SERVER}}]`"
        );
        problems.push(this.doubt(section, &field, message));
    }
}

/// Tells two lists of those who are believed, of a classifier and of a limiter beside it, that are not the same.
fn other_peers(
    believing: &Known<'_>,
    classifier: &Compiled,
    limiting: &Known<'_>,
    limiter: &tenant_rate_limit::Config,
) -> Option<Problem> {
    let trusted = classifier.trusted.as_ref()?;
    let (source, _) = limiter.passed_on().next()?;
    let texts = |peers: &mut dyn Iterator<Item = &StringMatch>| -> BTreeMap<String, String> {
        let texts = peers.map(|peer| (format!("{peer:?}"), format!("{:?}", peer.written())));
        texts.collect()
    };
    let here = texts(&mut trusted.iter());
    let there = texts(&mut limiter.passed_on().flat_map(|(_, peers)| peers));
    let alone = |these: &BTreeMap<String, String>, others: &BTreeMap<String, String>, place| {
        let alone = these.iter().filter(|(peer, _)| !others.contains_key(*peer));
        let alone: Vec<&str> = alone.map(|(_, text)| text.as_str()).collect();
        let are = if alone.len() == 1 { "is" } else { "are" };
        (!alone.is_empty()).then(|| format!("{} {are} {place} alone", listed(&alone)))
    };
    let apart = [alone(&here, &there, "here"), alone(&there, &here, "there")];
    let apart: Vec<String> = apart.into_iter().flatten().collect();
    if apart.is_empty() {
        return None;
    }
    let message = format!(
        "is not the list of the limiter beside it ({}): {}; a tenant reaches the service from those alone who are in both, so write the same in both",
        limiting.place(&format!("tenant.from[{source}].passedOn.peers")),
        apart.join(", ")
    );
    Some(believing.doubt(CLASSIFIER, "trust.peers", message))
}

/// Who says which tenant a request is of, before a classifier is asked.
fn vouching(this: &Known<'_>, earlier: &[&Known<'_>], passage: &Passage<'_>) -> Option<String> {
    let mut plugins = earlier.iter().rev();
    let plugin = plugins.find(|earlier| {
        let trusts = |classifier: &Compiled| classifier.trusted.is_some();
        earlier.limiter().is_some() || earlier.classifier().is_some_and(trusts)
    });
    let by_claims = [TENANT_ID, TENANT_TIER]
        .iter()
        .all(|header| this.finds_written(passage, header));
    match plugin {
        Some(plugin) => Some(plugin.name()),
        None if by_claims => Some("a RequestAuthentication".to_owned()),
        None => None,
    }
}

/// Whether a classifier takes `x-tenant-id` and `x-tenant-tier` away, so that nobody behind it finds a client's.
fn cleaned(earlier: &[&Known<'_>]) -> bool {
    let mut classifiers = earlier.iter().filter_map(|earlier| earlier.classifier());
    classifiers.any(|classifier| classifier.trusted.is_none() && !classifier.vouched)
}

/// Tells headers that two classifiers write.
fn same_header(
    this: &Known<'_>,
    classifier: &Compiled,
    earlier: &[&Known<'_>],
    place: &str,
    problems: &mut Vec<Problem>,
) {
    for other in earlier {
        let Some(theirs) = other.classifier() else {
            continue;
        };
        let is_theirs = |header: &str| {
            let mut own = std::iter::once(&theirs.header).chain(&theirs.set);
            own.any(|own| same_name(own.as_bytes(), header.as_bytes()))
        };
        let own = std::iter::once((&classifier.header, "header".to_owned()));
        let set = classifier
            .set
            .iter()
            .map(|name| (name, set_at(classifier, name)));
        for (header, field) in own.chain(set).filter(|(header, _)| is_theirs(header)) {
            let message = format!(
                "\"{header}\" is also what {} writes at {place}, and this one would write it anew; write another header, or leave one of the two out",
                other.name()
            );
            problems.push(this.problem(&ConfigError::new(field, message)));
        }
    }
}

/// Where a request header is set, or kept from those who are trusted.
fn set_at(classifier: &Compiled, header: &str) -> String {
    let rules = classifier.classifier.rules();
    let sets = |outputs: &user_classifier::classifier::Outputs| {
        outputs.request.iter().any(|(name, _)| name == header)
    };
    match rules.iter().position(|rule| sets(&rule.outputs)) {
        Some(rule) => below(&format!("rules[{rule}].set.requestHeaders"), header),
        None => "trust.headers".to_owned(),
    }
}

/// Tells claims that are never there, and those that several issuers may make.
fn claims(
    this: &Known<'_>,
    passage: &Passage<'_>,
    place: &str,
    has_issuers: bool,
    problems: &mut Vec<Problem>,
) {
    let of_source = |source: usize| format!("tenant.from[{source}]");
    let of_rule = |rule: usize| format!("rules[{rule}].when");
    let by_limiter = this.limiter().and_then(tenant_rate_limit::Config::claim);
    let of_limiter = by_limiter.map(|source| (LIMITER, of_source(source)));
    let rules = this.classifier().map(Compiled::claims).unwrap_or_default();
    let of_classifier = rules.first().map(|rule| (CLASSIFIER, of_rule(*rule)));
    for (section, field) in of_limiter.into_iter().chain(of_classifier) {
        let message = if passage.traffic == Traffic::Outbound {
            format!(
                "asks for a claim of what leaves {place}, where no token is verified, so there never is one; write `match: [{{mode: SERVER}}]`"
            )
        } else if passage.issuers.is_empty() && has_issuers {
            format!(
                "asks for a claim at {place}, for which no RequestAuthentication is, so there never is one; write one that selects it"
            )
        } else if this.plugin.phase == PluginPhase::Authn {
            "asks for a claim before tokens are verified, so there never is one; write phase: AUTHZ"
                .to_owned()
        } else {
            continue;
        };
        problems.push(this.doubt(section, &field, message));
    }
    let named = this
        .limiter()
        .into_iter()
        .flat_map(|limiter| limiter.issuers());
    let is_known = |name: &str| passage.issuers.contains(name);
    for (source, name) in named.filter(|(_, name)| !passage.issuers.is_empty() && !is_known(name)) {
        let issuers: Vec<&str> = passage.issuers.iter().copied().collect();
        let message = format!(
            "\"{name}\" is none of the issuers that {place} knows ({}), so its claim is never there",
            issuers.join(", ")
        );
        problems.push(this.doubt(LIMITER, &format!("{}.issuer", of_source(source)), message));
    }
    if passage.issuers.len() < 2 {
        return;
    }
    let issuers: Vec<&str> = passage.issuers.iter().copied().collect();
    let issuers = issuers.join(", ");
    let by_limiter = this.limiter();
    if let Some(source) = by_limiter.and_then(tenant_rate_limit::Config::claim_of_any_issuer) {
        let message = format!(
            "believes a claim of each issuer that {place} knows ({issuers}), and any of them may name any tenant; write `issuer` beside it, the one \
             that is meant"
        );
        problems.push(this.doubt(LIMITER, &of_source(source), message));
    }
    let classifier = this.classifier().into_iter();
    let open = classifier.flat_map(|classifier| classifier.of_any_issuer(&passage.issuers));
    for rule in open.take(1) {
        let message = format!(
            "believes a claim of each issuer that {place} knows ({issuers}); add a condition on the claim iss for the one that is meant"
        );
        problems.push(this.doubt(CLASSIFIER, &of_rule(rule), message));
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    /// A gateway in `edge` and a sidecar in `shop`.
    pub(super) const MESH: &str = r#"
apiVersion: v1
kind: Namespace
metadata: {name: shop, labels: {istio-injection: enabled}}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: cart, namespace: shop}
spec:
  selector: {matchLabels: {app: cart}}
  template:
    metadata: {labels: {app: cart}}
    spec:
      containers:
      - {name: cart, image: "cart:1", ports: [{containerPort: 3002}, {containerPort: 3003}]}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: gateway, namespace: edge}
spec:
  selector: {matchLabels: {app: gateway}}
  template:
    metadata:
      labels: {app: gateway, sidecar.istio.io/inject: "true"}
      annotations: {inject.istio.io/templates: gateway}
    spec:
      containers: [{name: istio-proxy, image: auto}]
---
apiVersion: v1
kind: Service
metadata: {name: gateway, namespace: edge}
spec:
  selector: {app: gateway}
  ports: [{name: http, port: 80, targetPort: 8080}]
---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: gateway, namespace: edge}
spec:
  selector: {app: gateway}
  servers: [{port: {number: 80, name: http, protocol: HTTP}, hosts: ["*"]}]
"#;

    /// A plugin on lines of its own: `spec` from its fourth line on.
    pub(super) fn plugin(namespace: &str, module: &str, spec: &str, configuration: &str) -> String {
        format!(
            "---\napiVersion: extensions.istio.io/v1alpha1\nkind: WasmPlugin\nmetadata: {{name: {module}, namespace: {namespace}}}\nspec:\n  \
             url: oci://registry/{module}:1\n  phase: AUTHZ\n{spec}  pluginConfig:\n{configuration}"
        )
    }

    pub(super) fn limiter(namespace: &str, spec: &str, from: &str) -> String {
        let configuration = format!(
            "    tenant:\n      from:\n      - {from}\n      unknown: {{tier: free}}\n    tiers: {{free: {{unlimited: true}}, gold: {{unlimited: \
             true}}}}\n"
        );
        plugin(namespace, "tenant-rate-limit", spec, &configuration)
    }

    pub(super) fn classifier(namespace: &str, spec: &str, rules: &str) -> String {
        let configuration = format!("    default: standard\n    rules:\n{rules}");
        plugin(namespace, "user-classifier", spec, &configuration)
    }

    pub(super) fn issuer(name: &str, namespace: &str) -> String {
        format!(
            "---\napiVersion: security.istio.io/v1\nkind: RequestAuthentication\nmetadata: {{name: {name}, namespace: {namespace}}}\nspec:\n  \
             jwtRules: [{{issuer: \"https://{name}.test\", jwks: '{{\"keys\": [{{\"kty\": \"RSA\", \"n\": \"AQAB\", \"e\": \"AQAB\"}}]}}'}}]\n"
        )
    }

    pub(super) const GOLD: &str = "    - type: gold\n      when: {tier: {exact: gold}}\n";
    /// For a classifier behind a limiter.
    pub(super) const VOUCHED: &str = "    tenant: {vouched: true}\n";
    pub(super) const BY_CLAIM: &str =
        "    - type: vip\n      when: {claim: {name: plan, exact: vip}}\n";
    pub(super) const TRUST: &str =
        "    trust: {peers: [{exact: spiffe://cluster.local/ns/edge/sa/default}]}\n";
    pub(super) const FIRST: &str = "  priority: 30\n";
    pub(super) const SECOND: &str = "  priority: 20\n";

    /// What is told, with its code and without the file's name.
    pub(super) fn told(plugins: &[String]) -> Vec<String> {
        // Behind the plugins, so that their lines are easily counted.
        let manifests = plugins.concat() + "---" + MESH;
        let objects = Objects::parse(Path::new("m.yaml"), &manifests).unwrap();
        let mesh = Mesh::build(objects.clone()).unwrap();
        let told = problems(&mesh, &objects).into_iter();
        told.map(|problem| format!("{} {problem}", problem.code))
            .collect()
    }

    pub(super) const NONE: [&str; 0] = [];

    #[test]
    fn a_type_rests_on_tenants_that_a_limiter_in_front_vouches_for() {
        let claim = limiter("edge", FIRST, "claim: tenant");
        let gold = classifier("edge", SECOND, GOLD) + VOUCHED;
        assert_eq!(told(&[claim.clone(), gold.clone()]), NONE);
        assert_eq!(
            told(std::slice::from_ref(&gold)),
            [
                "TG0302 m.yaml:12: spec.pluginConfig.rules[0].type: \"gold\" rests on a tenant or a tier, and no tenant-rate-limit runs before it at \
                 edge/gateway: clients write x-tenant-id and x-tenant-tier as they like; let a limiter run before it, rest the rule on a claim, a \
                 peer or a source, or write \"gold\" in selfAssignable if anybody may call himself so"
            ]
        );
        // In front is not behind, not elsewhere, and not at some ports alone.
        for beside in [
            limiter("edge", "  priority: 10\n", "claim: tenant"),
            limiter("edge", "", "claim: tenant"),
            limiter(
                "shop",
                "  priority: 30\n  match: [{mode: SERVER}]\n",
                "peer: \"spiffe://cluster.local/ns/{tenant}/sa/*\"",
            ),
            limiter(
                "edge",
                "  priority: 30\n  match: [{mode: SERVER}]\n",
                "claim: tenant",
            ),
            limiter(
                "edge",
                "  priority: 30\n  match: [{ports: [{number: 81}]}]\n",
                "claim: tenant",
            ),
        ] {
            let found = told(&[gold.clone(), beside]);
            assert_eq!(found.len(), 1, "{found:?}");
            assert!(
                found[0].contains("no tenant-rate-limit runs before it at edge/gateway"),
                "{found:?}"
            );
        }
        // An earlier phase is in front whatever the priorities are.
        let authn = claim.replace(
            "phase: AUTHZ\n  priority: 30",
            "phase: AUTHN\n  priority: 1",
        );
        let authn = authn.replace("claim: tenant", "peer: \"spiffe://td/{tenant}\"");
        assert_eq!(told(&[gold.clone(), authn]), NONE);
        // What a filter of others writes, nobody here knows.
        let others = plugin("edge", "own-tenants", FIRST, "    a: 1\n");
        assert_eq!(told(&[gold.clone(), others.clone()]), NONE);
        assert_eq!(told(&[gold, others.replace("30", "10")]).len(), 1);
    }

    #[test]
    fn a_type_does_not_rest_on_tenants_whom_clients_choose() {
        let gold = classifier("edge", SECOND, GOLD) + VOUCHED;
        let header = limiter("edge", FIRST, "header: x-tenant-id");
        assert_eq!(
            told(&[header.clone(), gold.clone()]),
            [
                "TG0302 m.yaml:26: spec.pluginConfig.rules[0].type: \"gold\" rests on a tenant or a tier, and clients choose their tenant by the \
                 header x-tenant-id (spec.pluginConfig.tenant.from[0] in m.yaml:12): take it from a claim or a peer, write `vouched: true` \
                 there if something in front lets no client name a tenant that is not its own, or write \"gold\" in selfAssignable if anybody \
                 may call himself so"
            ]
        );
        let vouched = limiter("edge", FIRST, "{header: x-tenant-id, vouched: true}");
        assert_eq!(told(&[vouched, gold]), NONE);
        let free = classifier(
            "edge",
            SECOND,
            &GOLD.replace("exact: gold", "in: [free, gold]"),
        ) + VOUCHED;
        assert_eq!(
            told(&[limiter("edge", FIRST, "claim: tenant"), free]),
            [
                "TG0302 m.yaml:26: spec.pluginConfig.rules[0].type: \"gold\" would be given to whoever shows no tenant, who is \"anonymous\" in the \
                 tier \"free\" (spec.pluginConfig.tenant.missing in m.yaml:10): ask for another tenant or tier, or write \"gold\" in \
                 selfAssignable if anybody may call himself so"
            ]
        );
        // The bundle is asked by its own parser, which has told it.
        let self_assigned = (classifier("edge", SECOND, GOLD) + VOUCHED)
            .replace("    default", "    selfAssignable: [gold]\n    default");
        assert_eq!(told(&[header, self_assigned]), NONE);
    }

    #[test]
    fn a_bundle_has_both_or_one_of_them() {
        let gold = format!(
            "    userClassifier:\n      default: standard\n      rules:\n{}",
            GOLD.replace("    -", "      -")
                .replace("      when", "        when")
        ) + "  "
            + VOUCHED;
        let alone = plugin("edge", "tollgate", SECOND, &gold);
        let found = told(std::slice::from_ref(&alone));
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(
            found[0].starts_with("TG0302 m.yaml:13: spec.pluginConfig.userClassifier.rules[0].type: \"gold\" rests on"),
            "{found:?}"
        );
        assert_eq!(
            told(&[alone.clone(), limiter("edge", FIRST, "claim: tenant")]),
            NONE
        );
        let found = told(&[alone, limiter("edge", FIRST, "cookie: t")]);
        assert_eq!(found.len(), 1, "{found:?}");
        // A limiter in a bundle is in front of a classifier by itself.
        let bundle = "    tenantRateLimit:\n      tenant: {from: [{claim: a}], unknown: {tier: free}}\n      tiers: {free: {unlimited: true}}\n";
        let bundle = plugin("edge", "tollgate", FIRST, bundle);
        assert_eq!(
            told(&[bundle.clone(), (classifier("edge", SECOND, GOLD) + VOUCHED)]),
            NONE
        );
        let header = bundle.replace("claim: a", "header: a");
        let found = told(&[header, (classifier("edge", SECOND, GOLD) + VOUCHED)]);
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(
            found[0].contains("(spec.pluginConfig.tenantRateLimit.tenant.from[0] in m.yaml:11)"),
            "{found:?}"
        );
    }

    #[test]
    fn a_sidecar_does_not_believe_peers_whom_a_limiter_overwrites() {
        let server = "  match: [{mode: SERVER}]\n";
        let trusting = |rules: &str| {
            plugin(
                "shop",
                "user-classifier",
                &format!("{SECOND}{server}"),
                &format!("{TRUST}    rules:\n{rules}"),
            )
        };
        let gateway =
            limiter("edge", FIRST, "claim: tenant") + &classifier("edge", SECOND, VOUCHED);
        // By whom it trusts, tenants are vouched for, with no limiter here at all.
        assert_eq!(told(&[trusting(GOLD), gateway.clone()]), NONE);
        let passed_on = "passedOn: {peers: [{exact: spiffe://cluster.local/ns/edge/sa/default}]}";
        for priority in [FIRST, "  priority: 10\n"] {
            let spec = format!("{priority}{server}");
            let by_peer = limiter(
                "shop",
                &spec,
                "peer: \"spiffe://cluster.local/ns/{tenant}/sa/*\"",
            );
            assert_eq!(
                told(&[by_peer, trusting(GOLD), gateway.clone()]),
                [
                    "TG0302 m.yaml:26: spec.pluginConfig.trust: stands beside a limiter that writes anew the tenant that peers pass on \
                     (spec.pluginConfig.tenant.from in m.yaml:12): add a source `passedOn` with these peers there, or leave one of the two out"
                ]
            );
            assert_eq!(
                told(&[
                    limiter("shop", &spec, passed_on),
                    trusting(GOLD),
                    gateway.clone()
                ]),
                NONE
            );
        }
        let header = limiter("shop", &format!("{FIRST}{server}"), "header: x-tenant-id");
        let found = told(&[header, trusting(BY_CLAIM), gateway]);
        assert_eq!(
            found,
            [
                "TG0302 m.yaml:26: spec.pluginConfig.trust: stands beside a limiter that charges whomever a stranger names by the header \
                 x-tenant-id (spec.pluginConfig.tenant.from[0] in m.yaml:13): leave that source out, or one of the two"
            ]
        );
    }

    #[test]
    fn one_header_has_one_classifier() {
        let one = classifier("edge", FIRST, BY_CLAIM);
        let other =
            classifier("edge", SECOND, BY_CLAIM).replace("name: user-classifier", "name: other");
        assert_eq!(
            told(&[one.clone(), other.clone()]),
            [
                "TG0302 m.yaml:22: spec.pluginConfig.header: \"user-type\" is also what edge/user-classifier writes at edge/gateway, and this one \
                 would write it anew; write another header, or leave one of the two out"
            ]
        );
        let apart = other.replace("    default", "    header: x-class\n    default");
        assert_eq!(told(&[one.clone(), apart]), NONE);
        assert_eq!(
            told(&[
                one,
                classifier(
                    "shop",
                    &format!("{SECOND}  match: [{{mode: SERVER}}]\n"),
                    BY_CLAIM
                )
            ]),
            NONE
        );
    }

    #[test]
    fn claims_are_there_where_a_token_is_verified() {
        let by_claim = classifier("edge", SECOND, BY_CLAIM);
        // Where there is no issuer at all, they are told elsewhere.
        assert_eq!(told(std::slice::from_ref(&by_claim)), NONE);
        assert_eq!(told(&[by_claim.clone(), issuer("a", "edge")]), NONE);
        let none = "for which no RequestAuthentication is, so there never is one; write one that selects it";
        assert_eq!(
            told(&[
                by_claim.clone() + VOUCHED,
                limiter("edge", FIRST, "claim: tenant"),
                issuer("a", "shop")
            ]),
            [
                format!(
                    "TG0303 m.yaml:26: spec.pluginConfig.tenant.from[0]: asks for a claim at edge/gateway, {none}"
                ),
                format!(
                    "TG0303 m.yaml:13: spec.pluginConfig.rules[0].when: asks for a claim at edge/gateway, {none}"
                ),
            ]
        );
        let early = by_claim.replace("AUTHZ", "AUTHN");
        assert_eq!(
            told(&[early, issuer("a", "edge")]),
            [
                "TG0303 m.yaml:13: spec.pluginConfig.rules[0].when: asks for a claim before tokens are verified, so there never is one; write \
                 phase: AUTHZ"
            ]
        );
        let everywhere = classifier("shop", SECOND, BY_CLAIM);
        assert_eq!(
            told(&[everywhere, issuer("a", "shop")]),
            [
                "TG0303 m.yaml:13: spec.pluginConfig.rules[0].when: asks for a claim of what leaves shop/cart, where no token is verified, so there \
                 never is one; write `match: [{mode: SERVER}]`"
            ]
        );
    }

    #[test]
    fn of_several_issuers_a_rule_names_the_one_that_it_means() {
        let both = issuer("a", "edge") + &issuer("b", "edge");
        let by_claim = classifier("edge", SECOND, BY_CLAIM);
        assert_eq!(
            told(&[by_claim.clone(), both.clone()]),
            [
                "TG0303 m.yaml:13: spec.pluginConfig.rules[0].when: believes a claim of each issuer that edge/gateway knows (https://a.test, \
                 https://b.test); add a condition on the claim iss for the one that is meant"
            ]
        );
        let named = "    - type: vip\n      when: [{claim: {name: iss, exact: \"https://a.test\"}}, {claim: {name: plan, exact: vip}}]\n";
        assert_eq!(
            told(&[classifier("edge", SECOND, named), both.clone()]),
            NONE
        );
        // Which must hold with the claim, and not for both.
        for not_named in [
            "{not: {claim: {name: iss, exact: a}}}",
            "{claim: {name: iss, present: true}}",
            "{claim: {name: iss, prefix: \"https://\"}}",
            "{any: [{claim: {name: iss, exact: \"https://a.test\"}}, {path: {exact: /}}]}",
        ] {
            let not_named =
                named.replace("{claim: {name: iss, exact: \"https://a.test\"}}", not_named);
            assert_eq!(
                told(&[classifier("edge", SECOND, &not_named), both.clone()]).len(),
                1,
                "{not_named}"
            );
        }
        let anybody = by_claim.replace("    default", "    selfAssignable: [vip]\n    default");
        assert_eq!(told(&[anybody, both]), NONE);
    }

    #[test]
    fn tenants_are_vouched_for_where_somebody_does_it() {
        let by_claim = classifier("edge", SECOND, BY_CLAIM);
        let vouched = by_claim.clone() + VOUCHED;
        let claim = limiter("edge", FIRST, "claim: tenant");
        assert_eq!(told(&[vouched.clone(), claim.clone()]), NONE);
        assert_eq!(
            told(&[by_claim.clone(), claim]),
            [
                "TG0302 m.yaml:9: spec.pluginConfig.tenant: is missing, so x-tenant-id and x-tenant-tier are taken away at edge/gateway, where \
                 edge/tenant-rate-limit vouches for them; write `tenant: {vouched: true}`"
            ]
        );
        let nobody = |open: &str, they: &str| {
            [format!(
                "TG0302 m.yaml:14: spec.pluginConfig.tenant.vouched: is said of {open}, and no tenant-rate-limit runs before it at edge/gateway, nor a \
                 classifier with `trust`, and no RequestAuthentication writes {they} from a claim (outputClaimToHeaders): clients write {they} as \
                 they like; let one of these see to it, or leave this out; if something in front of the proxy does, let a tenant-rate-limit say so: \
                 `{{header: x-tenant-id, vouched: true}}`"
            )]
        };
        let neither = nobody("x-tenant-id and x-tenant-tier", "them");
        assert_eq!(told(std::slice::from_ref(&vouched)), neither);
        // Who takes them away on purpose says so.
        let denied = by_claim.clone() + "    tenant: {vouched: false}\n";
        let front = limiter("edge", FIRST, "claim: tenant");
        assert_eq!(told(&[denied.clone(), front]), NONE);
        let another = vouched
            .replace("name: user-classifier", "name: another")
            .replace("    default", "    header: x-class\n    default")
            .replace("priority: 20", "priority: 10");
        assert_eq!(told(&[denied, another]), NONE);
        // Behind it is not in front.
        let late = limiter("edge", "  priority: 10\n", "claim: tenant");
        assert_eq!(told(&[vouched.clone(), late]), neither);
        // A RequestAuthentication that writes both headers does; one of the two is not enough.
        let written = |headers: &str| {
            issuer("a", "edge").replace(
                "jwks: ",
                &format!("outputClaimToHeaders: [{headers}], jwks: "),
            )
        };
        let (id, tier) = (
            "{header: x-tenant-id, claim: tenant}",
            "{header: X-Tenant-Tier, claim: tier}",
        );
        let both = written(&format!("{id}, {tier}"));
        assert_eq!(told(&[vouched.clone(), both.clone()]), NONE);
        assert_eq!(
            told(&[(classifier("edge", SECOND, GOLD) + VOUCHED), both.clone()]),
            NONE
        );
        assert_eq!(told(&[vouched, written(id)]), nobody("x-tenant-tier", "it"));
        let found = told(&[by_claim, both]);
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(
            found[0].contains("where a RequestAuthentication vouches for them"),
            "{found:?}"
        );
        // At a sidecar it is a classifier with `trust` that does, of another header.
        let server = "  match: [{mode: SERVER}]\n";
        let trusting = plugin(
            "shop",
            "user-classifier",
            &format!("{FIRST}{server}"),
            TRUST,
        );
        let another = |end: &str| {
            let spec = format!("{SECOND}{server}");
            let another = classifier("shop", &spec, BY_CLAIM) + end;
            another
                .replace("name: user-classifier", "name: another")
                .replace("    default", "    header: x-class\n    default")
        };
        let gateway = limiter("edge", FIRST, "claim: tenant")
            + &classifier("edge", SECOND, BY_CLAIM)
            + VOUCHED;
        let with = |another| told(&[trusting.clone(), another, gateway.clone()]);
        assert_eq!(with(another(VOUCHED)), NONE);
        let found = with(another(""));
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(
            found[0].contains("at shop/cart, where shop/user-classifier vouches for them"),
            "{found:?}"
        );
    }

    #[test]
    fn a_gateway_trusts_no_peer() {
        let trusting = plugin("edge", "user-classifier", SECOND, TRUST);
        assert_eq!(
            told(&[trusting]),
            [
                "TG0303 m.yaml:10: spec.pluginConfig.trust: believes peers at the gateway edge/gateway, where a client's certificate is whatever the \
                 gateway's own credentials verify, and not an identity of the mesh; leave it out there, and write it at sidecars"
            ]
        );
    }
    #[test]
    fn what_a_token_writes_no_client_chose() {
        let writes = |headers: &str| {
            issuer("a", "edge").replace(
                "issuer:",
                &format!("outputClaimToHeaders: [{headers}], issuer:"),
            )
        };
        let gold = classifier("edge", SECOND, GOLD) + VOUCHED;
        let header = limiter("edge", FIRST, "header: X-Customer");
        let customer = writes("{header: x-customer, claim: tenant}");
        assert_eq!(
            told(&[gold.clone(), header.clone(), customer.clone()]),
            NONE
        );
        // If that is what the limiter reads, and after it was written.
        for (limiting, what) in [
            (
                limiter("edge", FIRST, "header: x-other"),
                "the header x-other",
            ),
            (header.replace("AUTHZ", "AUTHN"), "the header x-customer"),
            (
                header.replace(
                    "      - header: X-Customer\n",
                    "      - header: X-Customer\n      - query: t\n",
                ),
                "the query parameter t",
            ),
        ] {
            let found = told(&[gold.clone(), limiting, customer.clone()]);
            assert_eq!(found.len(), 1, "{found:?}");
            assert!(
                found[0].contains(&format!("clients choose their tenant by {what} (")),
                "{found:?}"
            );
        }
        // Without a limiter both headers must be written, and after they were.
        let id = "{header: x-tenant-id, claim: tenant}";
        let tier = "{header: x-tenant-tier, claim: tier}";
        let both = writes(&format!("{id}, {tier}"));
        assert_eq!(told(&[gold.clone(), both.clone()]), NONE);
        let found = told(&[gold.clone(), writes(tier)]);
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(
            found[0].contains("tenant.vouched: is said of x-tenant-id, and no"),
            "{found:?}"
        );
        let found = told(&[gold.clone(), writes(id)]);
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(
            found[0].contains("rests on a tenant or a tier"),
            "{found:?}"
        );
        assert_eq!(told(&[gold.replace("AUTHZ", "AUTHN"), both]).len(), 1);
    }

    #[test]
    fn a_rule_may_give_what_everybody_has() {
        let free = |user_type: &str, tiers: &str| {
            let rule = GOLD.replace("type: gold", &format!("type: {user_type}"));
            classifier(
                "edge",
                SECOND,
                &rule.replace("exact: gold", &format!("in: [{tiers}]")),
            ) + VOUCHED
        };
        let by_claim = limiter("edge", FIRST, "claim: tenant");
        let by_header = limiter("edge", FIRST, "header: t");
        for limiting in [by_claim, by_header] {
            let with = |classifier: String| told(&[classifier, limiting.clone()]);
            // The default, and the tier of whoever is nobody.
            assert_eq!(with(free("standard", "free, gold")), NONE);
            assert_eq!(with(free("basic", "free")), NONE);
            assert_eq!(with(free("basic", "free, gold")).len(), 1);
            let more = "      set: {requestHeaders: {x-pool: a}}\n";
            let found = with(free("standard", "free, gold").replace(VOUCHED, "") + more + VOUCHED);
            assert_eq!(found.len(), 1, "{found:?}");
        }
    }

    #[test]
    fn of_several_issuers_a_limiter_believes_each() {
        let both = issuer("a", "edge") + &issuer("b", "edge");
        let by_claim = limiter("edge", FIRST, "claim: tenant");
        assert_eq!(
            told(&[by_claim.clone(), both.clone()]),
            [
                "TG0303 m.yaml:12: spec.pluginConfig.tenant.from[0]: believes a claim of each issuer that edge/gateway knows (https://a.test, \
                 https://b.test), and any of them may name any tenant; write `issuer` beside it, the one that is meant"
            ]
        );
        let of = |issuer: &str| {
            let from = format!("{{claim: tenant, issuer: \"https://{issuer}.test\"}}");
            limiter("edge", FIRST, &from)
        };
        assert_eq!(told(&[of("b"), both.clone()]), NONE);
        assert_eq!(
            told(&[of("c"), both.clone()]),
            [
                "TG0303 m.yaml:12: spec.pluginConfig.tenant.from[0].issuer: \"https://c.test\" is none of the issuers that edge/gateway knows \
                 (https://a.test, https://b.test), so its claim is never there"
            ]
        );
        let by_header = limiter("edge", FIRST, "{header: x-customer, vouched: true}");
        assert_eq!(told(&[by_header, both]), NONE);
        assert_eq!(told(&[by_claim, issuer("a", "edge")]), NONE);
    }

    #[test]
    fn what_one_issuer_writes_clients_of_another_may_write() {
        let writes = |name: &str, header: &str| {
            issuer(name, "edge").replace(
                "issuer:",
                &format!("outputClaimToHeaders: [{{header: {header}, claim: tenant}}], issuer:"),
            )
        };
        // Envoy tries `a` first, and does not look at `b` where a token of `a` is valid.
        let gold = classifier("edge", SECOND, GOLD) + VOUCHED;
        let header = limiter("edge", FIRST, "header: x-customer");
        let with = |authentications: [String; 2]| {
            let found = told(&[&[gold.clone(), header.clone()], &authentications[..]].concat());
            let codes = found.iter().map(|message| message[..6].to_owned());
            (codes.collect::<Vec<_>>(), found)
        };
        let (codes, found) = with([issuer("a", "edge"), writes("b", "X-Customer")]);
        assert_eq!(codes, ["TG0302", "TG0303"], "{found:?}");
        assert!(
            found[0].contains("clients choose their tenant by the header x-customer"),
            "{found:?}"
        );
        assert_eq!(
            found[1],
            "TG0303 m.yaml:40: spec.jwtRules[0].outputClaimToHeaders[0].header: \"X-Customer\" is left as clients write it at edge/gateway beside a valid \
             token of https://a.test, whose rule is tried first and writes no such header (Envoys before envoyproxy/envoy#46586, such as 1.37, look no \
             further); let that rule write it, too, from a claim of its tokens or from one that they never have"
        );
        let (codes, found) = with([writes("a", "x-customer"), writes("b", "X-Customer")]);
        assert_eq!(codes, NONE, "{found:?}");
        let (codes, found) = with([writes("a", "x-customer"), issuer("b", "edge")]);
        assert_eq!(codes, NONE, "{found:?}");
    }

    #[test]
    fn a_filter_that_fails_open_lets_clients_say_what_it_takes_away() {
        let open =
            |plugin: String| plugin.replace("  phase:", "  failStrategy: FAIL_OPEN\n  phase:");
        let by_limiter = limiter("edge", FIRST, "claim: tenant");
        let by_classifier = classifier("edge", SECOND, BY_CLAIM) + VOUCHED;
        let end = "as their clients wrote them; write FAIL_CLOSE or FAIL_RELOAD, or leave it out";
        let begin = "spec.failStrategy: is FAIL_OPEN: whenever the module cannot be fetched or its VM has died, requests pass with";
        assert_eq!(
            told(&[open(by_limiter.clone()), open(by_classifier.clone())]),
            [
                format!("TG0303 m.yaml:7: {begin} x-tenant-id and x-tenant-tier {end}"),
                format!("TG0303 m.yaml:22: {begin} user-type {end}"),
            ]
        );
        let reload = by_limiter.replace("  phase:", "  failStrategy: FAIL_RELOAD\n  phase:");
        assert_eq!(told(&[reload, by_classifier]), NONE);
        // A classifier takes the tenant away, too, if nobody vouches for it, or of all who are not trusted.
        let alone = classifier("edge", FIRST, BY_CLAIM);
        let all_three = "user-type, x-tenant-id and x-tenant-tier";
        assert_eq!(
            told(&[open(alone.clone())]),
            [format!("TG0303 m.yaml:7: {begin} {all_three} {end}")]
        );
        let inbound = format!("{FIRST}  match: [{{mode: SERVER}}]\n");
        let trusting = plugin("shop", "user-classifier", &inbound, TRUST);
        assert_eq!(
            told(&[open(trusting), alone]),
            [format!("TG0303 m.yaml:7: {begin} {all_three} {end}")]
        );
        // In a bundle both do, and it is said once.
        let bundle = plugin(
            "edge",
            "tollgate",
            FIRST,
            "    tenantRateLimit:\n      tenant: {from: [{claim: a}], unknown: {tier: free}}\n      tiers: {free: {unlimited: true}}\n    \
             userClassifier: {default: standard, rules: [{type: vip, when: {claim: {name: plan, exact: vip}}}]}\n",
        );
        assert_eq!(
            told(&[open(bundle)]),
            [format!("TG0303 m.yaml:7: {begin} {all_three} {end}")]
        );
        // Who merely counts may be missed.
        let metrics = plugin(
            "edge",
            "business-metrics",
            FIRST,
            "    metrics: [{name: a_total}]\n",
        );
        assert_eq!(told(&[open(metrics)]), NONE);
    }

    #[test]
    fn peers_are_those_of_what_comes() {
        let gateway = limiter("edge", FIRST, "claim: tenant")
            + &classifier("edge", SECOND, BY_CLAIM)
            + VOUCHED;
        let message = "goes by who is connected, and runs on what leaves shop/cart, too, where that is nobody with a certificate: what the service passes \
                       on is taken away there; write `match: [{mode: SERVER}]`";
        let edge = "[{exact: spiffe://cluster.local/ns/edge/sa/default}]";
        for (plugin, field) in [
            (plugin("shop", "user-classifier", FIRST, TRUST), "trust"),
            (
                limiter("shop", FIRST, &format!("passedOn: {{peers: {edge}}}")),
                "tenant.from[0].passedOn",
            ),
            (
                limiter(
                    "shop",
                    FIRST,
                    "peer: \"spiffe://cluster.local/ns/{tenant}/sa/*\"",
                ),
                "tenant.from[0].peer",
            ),
        ] {
            let found = told(&[plugin.clone(), gateway.clone()]);
            assert_eq!(found.len(), 1, "{found:?}");
            assert!(
                found[0].ends_with(&format!("spec.pluginConfig.{field}: {message}")),
                "{found:?}"
            );
            let inbound = plugin.replace(FIRST, &format!("{FIRST}  match: [{{mode: SERVER}}]\n"));
            assert_eq!(told(&[inbound, gateway.clone()]), NONE);
        }
    }

    #[test]
    fn two_classifiers_write_no_header_both() {
        let sets = |name: &str, set: &str| {
            let rule = format!("{BY_CLAIM}      set: {{requestHeaders: {{{set}: a}}}}\n");
            let apart = format!("    header: {name}\n    default");
            classifier("edge", SECOND, &rule)
                .replace("name: user-classifier", &format!("name: {name}"))
                .replace("    default", &apart)
        };
        let one = sets("class", "x-pool").replace("priority: 20", "priority: 30");
        assert_eq!(told(&[one.clone(), sets("other", "x-group")]), NONE);
        let also = "is also what edge/class writes at edge/gateway, and this one would write it anew; write another header, or leave one of the \
                    two out";
        assert_eq!(
            told(&[one.clone(), sets("other", "X_Pool")]),
            [format!(
                "TG0302 m.yaml:30: spec.pluginConfig.rules[0].set.requestHeaders.x_pool: \"x_pool\" {also}"
            )]
        );
        assert_eq!(
            told(&[one.clone(), sets("x-pool", "x-group")]),
            [format!(
                "TG0302 m.yaml:25: spec.pluginConfig.header: \"x-pool\" {also}"
            )]
        );
        assert_eq!(
            told(&[one, sets("other", "class")]),
            [format!(
                "TG0302 m.yaml:30: spec.pluginConfig.rules[0].set.requestHeaders.class: \"class\" {also}"
            )]
        );
    }

    #[test]
    fn a_classifier_and_the_limiter_beside_it_believe_the_same() {
        let gateway = limiter("edge", FIRST, "claim: tenant")
            + &classifier("edge", SECOND, BY_CLAIM)
            + VOUCHED;
        let spec = |priority: &str| format!("{priority}  match: [{{mode: SERVER}}]\n");
        let edge = "{exact: spiffe://cluster.local/ns/edge/sa/default}";
        let cart = "{prefix: spiffe://cluster.local/ns/shop/}";
        let classes = |peers: &str| {
            let trust = format!("    trust: {{peers: [{peers}]}}\n");
            plugin("shop", "user-classifier", &spec(SECOND), &trust)
        };
        let limits = |peers: &str| {
            let from = format!("passedOn: {{peers: [{peers}]}}");
            limiter("shop", &spec(FIRST), &from)
        };
        let both = format!("{edge}, {cart}");
        let turned = format!("{cart}, {edge}");
        assert_eq!(
            told(&[classes(&both), limits(&turned), gateway.clone()]),
            NONE
        );
        let at = "TG0303 m.yaml:11: spec.pluginConfig.trust.peers: is not the list of the limiter beside it \
                  (spec.pluginConfig.tenant.from[0].passedOn.peers in m.yaml:24):";
        let mend = "; a tenant reaches the service from those alone who are in both, so write the same in both";
        assert_eq!(
            told(&[classes(&both), limits(edge), gateway.clone()]),
            [format!(
                "{at} \"spiffe://cluster.local/ns/shop/\" is here alone{mend}"
            )]
        );
        assert_eq!(
            told(&[classes(edge), limits(cart), gateway.clone()]),
            [format!(
                "{at} \"spiffe://cluster.local/ns/edge/sa/default\" is here alone, \"spiffe://cluster.local/ns/shop/\" is there alone{mend}"
            )]
        );
        let bundle = plugin(
            "shop",
            "tollgate",
            &spec(FIRST),
            &format!(
                "    tenantRateLimit:\n      tenant: {{from: [{{passedOn: {{peers: [{both}]}}}}], unknown: {{tier: free}}}}\n      tiers: {{free: \
                 {{unlimited: true}}}}\n    userClassifier:\n      trust: {{peers: [{edge}]}}\n"
            ),
        );
        assert_eq!(
            told(&[bundle, gateway]),
            [format!(
                "TG0303 m.yaml:15: spec.pluginConfig.userClassifier.trust.peers: is not the list of the limiter beside it \
                 (spec.pluginConfig.tenantRateLimit.tenant.from[0].passedOn.peers in m.yaml:12): \"spiffe://cluster.local/ns/shop/\" is there \
                 alone{mend}"
            )]
        );
    }
}
