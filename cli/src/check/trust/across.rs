//! What one proxy believes of another: whoever is trusted must write itself what is believed of it, and rest it on something that was verified.
//!
//! A sidecar sees who is connected, and not what it does. Whether the gateway that it trusts writes `user-type`, or hands on what a client sent, only the mesh
//! knows.

use std::collections::BTreeSet;
use std::ops::Not;

use tollgate_bundle::together::{Limiter, told};
use tollgate_common::header::{TENANT_ID, TENANT_TIER};
use tollgate_common::{ConfigError, StringMatch};
use tollgate_host::same_name;
use tollgate_mesh::api::Objects;
use tollgate_mesh::model::{Passage, Role, Traffic, Workload};
use tollgate_mesh::source::nearest;
use tollgate_mesh::{Code, Mesh, Problem};
use user_classifier::condition::{Subject, Test};
use user_classifier::config::{Compiled, Tenants};

use super::{CLASSIFIER, Known, LIMITER, at, find, listed};

/// Tells what proxies believe of others that do not vouch for it. Of a field that `problems` has an error of already nothing more is told.
pub(super) fn look(
    mesh: &Mesh,
    objects: &Objects,
    passages: &[Passage<'_>],
    known: &[Known<'_>],
    problems: &mut Vec<Problem>,
) {
    let neighbours = Neighbours::of(mesh, objects, known);
    let mut found = Vec::new();
    let inbound = passages
        .iter()
        .filter(|passage| matches!(passage.traffic, Traffic::Inbound(_)));
    // A plugin believes the same wherever it runs; only its rules may stand behind one limiter or another.
    let mut seen = BTreeSet::new();
    let mut ruled = BTreeSet::new();
    for passage in inbound {
        for plugin in &passage.plugins {
            let Some(this) = find(known, plugin) else {
                continue;
            };
            let before = limiter_before(passage, this, known);
            let is_new = seen.insert(this.name());
            if !ruled.insert((this.name(), before.map(Known::name))) {
                continue;
            }
            for belief in beliefs(this, mesh) {
                if is_new {
                    neighbours.look(&belief, &mut found);
                }
                if let (Some(classifier), CLASSIFIER) = (this.classifier(), belief.section) {
                    let before = before.and_then(Known::limiter);
                    neighbours.rules(&belief, classifier, before, &mut found);
                }
            }
            if is_new {
                templates(this, &neighbours, &mut found);
            }
        }
    }
    let place = |problem: &Problem| (problem.file.clone(), problem.line, problem.field.clone());
    let mut refused: BTreeSet<_> = problems
        .iter()
        .filter(|problem| problem.code == Code::Trust)
        .map(place)
        .collect();
    let mut told: BTreeSet<Problem> = BTreeSet::new();
    // Of several proxies with the same plugin, and of several whom it trusts, the first is enough for a rule; of those whom it trusts each is told.
    found.retain(|problem| {
        let is_rule = problem.field.ends_with(".type");
        (!is_rule || refused.insert(place(problem))) && told.insert(problem.clone())
    });
    problems.extend(found);
}

/// The limiter that a request passes before a plugin, or in it, if it is a bundle.
fn limiter_before<'k, 'a>(
    passage: &Passage<'_>,
    this: &Known<'_>,
    known: &'k [Known<'a>],
) -> Option<&'k Known<'a>> {
    let end = passage
        .plugins
        .iter()
        .position(|plugin| *plugin == this.plugin);
    let before = passage.plugins.iter().take(end? + 1);
    let limiters = before
        .filter_map(|plugin| find(known, plugin))
        .filter(|known| known.limiter().is_some());
    limiters.last()
}

/// Whose word a plugin takes for which headers.
struct Belief<'a> {
    believer: &'a Known<'a>,
    section: &'static str,
    /// The list of those whom it believes.
    field: String,
    peers: &'a [StringMatch],
    headers: Vec<Believed<'a>>,
}

/// A header that is kept as it comes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Believed<'a> {
    /// Who would have to write it.
    owner: Owner,
    name: &'a str,
    /// Whether something is known to go by it. A service may, in any case.
    is_used: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Owner {
    /// A user-classifier, which has it as its header.
    Classifier,
    /// A tenant-rate-limit.
    Limiter,
    /// A rule of a user-classifier.
    Rule,
}

fn beliefs<'a>(this: &'a Known<'a>, mesh: &Mesh) -> Vec<Belief<'a>> {
    let mut beliefs = Vec::new();
    if let Some(classifier) = this.classifier()
        && let Some(peers) = &classifier.trusted
    {
        let names = [TENANT_ID, TENANT_TIER];
        let is_used = rules_on_tenants(classifier) || names.iter().any(|name| mesh.goes_by(name));
        let tenant = names.map(|name| Believed {
            owner: Owner::Limiter,
            name,
            is_used,
        });
        let of_type = Believed {
            owner: Owner::Classifier,
            name: &classifier.header,
            is_used: true,
        };
        let set = classifier.set.iter().map(|name| Believed {
            owner: Owner::Rule,
            name,
            is_used: true,
        });
        beliefs.push(Belief {
            believer: this,
            section: CLASSIFIER,
            field: "trust.peers".to_owned(),
            peers,
            headers: [of_type].into_iter().chain(tenant).chain(set).collect(),
        });
    }
    let sources = this.limiter().into_iter();
    beliefs.extend(
        sources
            .flat_map(|limiter| limiter.passed_on())
            .map(|(source, peers)| Belief {
                believer: this,
                section: LIMITER,
                field: format!("tenant.from[{source}].passedOn.peers"),
                peers,
                headers: vec![Believed {
                    owner: Owner::Limiter,
                    name: TENANT_ID,
                    is_used: true,
                }],
            }),
    );
    beliefs
}

/// Whether a rule gives what not everybody may have for a tenant or a tier.
fn rules_on_tenants(classifier: &Compiled) -> bool {
    let nobody = |_: &Subject, _: &Test| false;
    let with = |tenants| classifier.unfounded(tenants, nobody).count();
    with(Tenants::Anyones) > with(Tenants::Vouched)
}

/// Tells templates of peers that no workload fits.
fn templates(this: &Known<'_>, neighbours: &Neighbours<'_>, found: &mut Vec<Problem>) {
    let sources = this.limiter().map(|limiter| limiter.sources.as_slice());
    for (position, source) in sources.unwrap_or_default().iter().enumerate() {
        let tenant_rate_limit::config::Source::Peer(template) = source else {
            continue;
        };
        let holds = |identity: &str| template.read(identity.as_bytes()).is_some();
        let Some(why) = neighbours.nobody(&holds) else {
            continue;
        };
        let message = format!(
            "\"{}\" {why}; write the namespaces and accounts of those who are meant",
            template.written()
        );
        let field = format!("tenant.from[{position}].peer");
        found.push(this.doubt(LIMITER, &field, message));
    }
}

/// The workloads, each with what it is told by and what requests pass at its proxy.
struct Neighbours<'a> {
    all: Vec<Neighbour<'a>>,
    mesh: &'a Mesh,
    known: &'a [Known<'a>],
}

struct Neighbour<'a> {
    workload: &'a Workload,
    identity: String,
    /// `namespace/name (file:line)`.
    place: String,
    /// What comes to it.
    passages: Vec<Passage<'a>>,
}

impl<'a> Neighbours<'a> {
    fn of(mesh: &'a Mesh, objects: &Objects, known: &'a [Known<'a>]) -> Self {
        let workloads = mesh.workloads.iter().chain(&mesh.stateful_sets);
        let all = workloads.map(|workload| {
            let is_it = |name: &str, namespace: &str| {
                name == workload.name && namespace == workload.namespace
            };
            let deployments = objects.deployments.iter();
            let deployment = deployments
                .filter(|object| is_it(&object.name, &object.namespace))
                .map(|object| &object.source);
            let sets = objects.stateful_sets.iter();
            let set = sets
                .filter(|object| is_it(&object.name, &object.namespace))
                .map(|object| &object.source);
            let name = format!("{}/{}", workload.namespace, workload.name);
            let place = match deployment.chain(set).next() {
                Some(source) => {
                    format!("{name} ({})", at(source, ""))
                }
                None => name,
            };
            let mut passages = mesh.passages_of(workload);
            passages.retain(|passage| passage.traffic != Traffic::Outbound);
            Neighbour {
                workload,
                identity: workload.identity(),
                place,
                passages,
            }
        });
        Self {
            all: all.collect(),
            mesh,
            known,
        }
    }

    /// Why an identity is nobody's, if it is.
    fn nobody(&self, holds: &dyn Fn(&str) -> bool) -> Option<String> {
        let mut those = self
            .all
            .iter()
            .filter(|neighbour| holds(&neighbour.identity))
            .peekable();
        let Some(first) = those.peek().map(|first| first.place.as_str()) else {
            return Some("is the identity of no workload of these manifests".to_owned());
        };
        those
            .all(|neighbour| neighbour.workload.role == Role::Plain)
            .then(|| {
                format!(
                    "is the identity of {first}, whose pods have no proxy and so no certificate"
                )
            })
    }

    /// Those who are believed, with whom they are listed as.
    fn believed<'b>(
        &'b self,
        belief: &'b Belief<'_>,
    ) -> impl Iterator<Item = (usize, &'b Neighbour<'a>)> {
        let peers = belief.peers.iter().enumerate();
        peers.flat_map(move |(position, peer)| {
            let those = self.all.iter();
            let those = those.filter(move |neighbour| {
                neighbour.workload.role != Role::Plain
                    && peer.matches(neighbour.identity.as_bytes())
            });
            those.map(move |neighbour| (position, neighbour))
        })
    }

    /// Tells identities that are nobody's, and those who pass on what others write.
    fn look(&self, belief: &Belief<'_>, found: &mut Vec<Problem>) {
        let this = belief.believer;
        for (position, peer) in belief.peers.iter().enumerate() {
            let holds = |identity: &str| peer.matches(identity.as_bytes());
            if let Some(why) = self.nobody(&holds) {
                let instead = match self.nearest(peer) {
                    Some(near) => format!("did you mean \"{near}\"?"),
                    None => "write that of a workload which has a proxy".to_owned(),
                };
                let message = format!("\"{}\" {why}; {instead}", peer.written());
                let field = format!("{}[{position}]", belief.field);
                found.push(this.doubt(belief.section, &field, message));
            }
        }
        for (position, neighbour) in self.believed(belief) {
            let open: BTreeSet<Believed<'_>> = belief
                .headers
                .iter()
                .filter(|header| self.is_open(neighbour, header.name))
                .copied()
                .collect();
            let field = format!("{}[{position}]", belief.field);
            let is_gateway = neighbour.workload.role == Role::Gateway;
            // What nothing goes by may be of use to a service, or to nobody.
            let (errors, doubts): (Vec<_>, Vec<_>) = open
                .into_iter()
                .partition(|header| is_gateway && header.is_used);
            if !errors.is_empty() {
                let message = passes_on(neighbour, &errors);
                let field = this.field(belief.section, &field);
                found.push(this.source.problem(&field, message).of(Code::Across));
            }
            if !doubts.is_empty() {
                let message = passes_on(neighbour, &doubts);
                found.push(this.doubt(belief.section, &field, message));
            }
        }
    }

    /// Whether a proxy hands on what it was sent in a header.
    fn is_open(&self, neighbour: &Neighbour<'_>, header: &str) -> bool {
        let is_owned = |passage: &Passage<'_>| {
            let known = |plugin| find(self.known, plugin);
            passage.written.contains(header)
                || passage.plugins.iter().any(|plugin| {
                    // What others wrote, and what is wrong in itself, may write anything.
                    known(plugin).is_none_or(|known| known.said.is_none() || owns(known, header))
                })
        };
        neighbour.passages.iter().all(is_owned).not()
            && !self.mesh.guards(neighbour.workload, header)
    }

    /// Tells rules that rest on tenants whom somebody takes from clients before he passes them on. A limiter in front of the rules, `here`, writes the
    /// tier anew.
    fn rules(
        &self,
        belief: &Belief<'_>,
        classifier: &Compiled,
        here: Option<&tenant_rate_limit::Config>,
        found: &mut Vec<Problem>,
    ) {
        for (position, neighbour) in self.believed(belief) {
            let of_neighbour = neighbour.passages.iter().filter_map(|passage| {
                let mut limiters = passage.plugins.iter().rev().filter_map(|plugin| {
                    let known = find(self.known, plugin)?;
                    Some((known, known.limiter()?))
                });
                limiters.next().map(|found| (passage, found))
            });
            for (passage, (limiting, config)) in of_neighbour {
                let peer = format!("{}[{position}]", belief.field);
                let at = |field: &str| {
                    format!(
                        "{}, as {} passes it on, whom {peer} believes",
                        limiting.place(field),
                        neighbour.place
                    )
                };
                let is_vouched = |name: &str| limiting.finds_written(passage, name);
                let there = Limiter {
                    config,
                    at: &at,
                    is_vouched: &is_vouched,
                };
                let table = here.unwrap_or(config);
                let (tenants, because) = there.tenants(table);
                let of_table = Limiter {
                    config: table,
                    ..there
                };
                let is_nobody = |subject: &Subject, test: &Test| of_table.is_nobody(subject, test);
                let errors: Vec<ConfigError> =
                    told(classifier.unfounded(tenants, is_nobody), &because);
                found.extend(errors.iter().map(|error| {
                    let field = belief.believer.field(CLASSIFIER, &error.path);
                    let problem = belief.believer.source.problem(&field, &error.message);
                    problem.of(Code::Across)
                }));
            }
        }
    }

    /// The identity that was probably meant: one that is written nearly so, or the same account elsewhere.
    fn nearest(&self, peer: &StringMatch) -> Option<String> {
        let (key, text) = peer.literal()?;
        let proxied = self
            .all
            .iter()
            .filter(|neighbour| neighbour.workload.role != Role::Plain);
        // A prefix is compared with as much of each.
        let parts = text.split('/').count();
        let cut = |identity: &str| match key {
            "prefix" => {
                let mut cut: Vec<&str> = identity.split('/').take(parts - 1).collect();
                cut.push("");
                cut.join("/")
            }
            _ => identity.to_owned(),
        };
        let identities: BTreeSet<String> =
            proxied.map(|neighbour| cut(&neighbour.identity)).collect();
        let near = nearest(text, identities.iter().map(String::as_str)).map(str::to_owned);
        near.or_else(|| {
            let account = |identity: &str| identity.split_once("/sa/").map(|(_, it)| it.to_owned());
            let wanted = account(text).filter(|wanted| !wanted.is_empty())?;
            let mut same = identities
                .iter()
                .filter(|identity| account(identity).as_ref() == Some(&wanted));
            let only = same.next()?;
            same.next().is_none().then(|| only.clone())
        })
    }
}

/// Whether a plugin writes a header itself, or takes it away from whoever may not say it.
fn owns(known: &Known<'_>, header: &str) -> bool {
    let is_it = |name: &str| same_name(name.as_bytes(), header.as_bytes());
    let is_tenant = is_it(TENANT_ID) || is_it(TENANT_TIER);
    let by_classifier = known.classifier().is_some_and(|classifier| {
        is_it(&classifier.header)
            || classifier.set.iter().any(|name| is_it(name))
            // One that nobody vouches to takes tenants away.
            || (is_tenant && (classifier.trusted.is_some() || !classifier.vouched))
    });
    by_classifier || (is_tenant && known.limiter().is_some())
}

/// What there is to say of who passes on headers as others wrote them.
fn passes_on(neighbour: &Neighbour<'_>, headers: &[Believed<'_>]) -> String {
    let identity = &neighbour.identity;
    let place = &neighbour.place;
    let of = |owner: Owner| {
        let names = headers.iter().filter(|header| header.owner == owner);
        let names: Vec<&str> = names.map(|header| header.name).collect();
        names.is_empty().not().then(|| listed(&names))
    };
    let names: Vec<&str> = headers.iter().map(|header| header.name).collect();
    let names = listed(&names);
    let is_gateway = neighbour.workload.role == Role::Gateway;
    let mut mend = Vec::new();
    if let Some(name) = of(Owner::Classifier) {
        mend.push(match is_gateway {
            true => format!("a user-classifier that writes {name}"),
            false => format!("a user-classifier of {name} with `trust`"),
        });
    }
    if of(Owner::Limiter).is_some() {
        mend.push(match is_gateway {
            true => "a tenant-rate-limit".to_owned(),
            false if mend.is_empty() => {
                "a user-classifier with `trust`, or a tenant-rate-limit".to_owned()
            }
            false => String::new(),
        });
    }
    if let Some(name) = of(Owner::Rule) {
        mend.push(match is_gateway {
            true => format!("a user-classifier with a rule that sets {name}"),
            false => format!("a user-classifier with {name} in `trust.headers`"),
        });
    }
    mend.retain(|mend| !mend.is_empty());
    let mend = listed(&mend);
    match is_gateway {
        true => format!(
            "\"{identity}\" is the gateway {place}, where nothing takes {names} away from clients, so here what they write would be believed; \
             let {mend} run there, or believe it no more"
        ),
        false => format!(
            "\"{identity}\" is {place}, which passes on {names} as anybody in the mesh writes it: nothing that runs on what comes to it takes \
             that away; let {mend} run there (`match: [{{mode: SERVER}}]`), or believe it no more"
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{
        self, BY_CLAIM, FIRST, GOLD, MESH, NONE, SECOND, TRUST, VOUCHED, classifier, issuer,
        limiter, plugin,
    };

    /// What is told of more than one proxy, with names in the place of where workloads are.
    fn told(plugins: &[String]) -> Vec<String> {
        let manifests = plugins.concat() + "---" + MESH;
        let lines: Vec<&str> = manifests.lines().collect();
        let mut told = tests::told(plugins);
        told.retain(|message| !message.starts_with("TG0302"));
        for (name, namespace) in [("gateway", "edge"), ("report", "jobs"), ("bare", "jobs")] {
            let metadata = format!("metadata: {{name: {name}, namespace: {namespace}}}");
            let mut two = lines.windows(2);
            // Lines are counted from 1, and an object begins with its `apiVersion`.
            let Some(line) = two.position(|two| two == ["kind: Deployment", &metadata]) else {
                continue;
            };
            let place = format!("{namespace}/{name} (m.yaml:{line})");
            for message in &mut told {
                *message = message.replace(&place, &name.to_ascii_uppercase());
            }
        }
        told
    }

    /// What runs at the gateway: a limiter and a classifier.
    fn gateway() -> [String; 2] {
        [
            limiter("edge", FIRST, "claim: tenant"),
            classifier("edge", SECOND, BY_CLAIM) + VOUCHED,
        ]
    }

    /// What runs at the sidecars of `shop`.
    fn sidecar(configuration: &str) -> String {
        let spec = format!("{SECOND}  match: [{{mode: SERVER}}]\n");
        plugin("shop", "user-classifier", &spec, configuration)
    }

    /// The same with these peers.
    fn trusting(peers: &str) -> String {
        sidecar(&format!("    trust: {{peers: [{peers}]}}\n"))
    }

    fn passed_on(peers: &str) -> String {
        let spec = format!("{FIRST}  match: [{{mode: SERVER}}]\n");
        limiter("shop", &spec, &format!("passedOn: {{peers: [{peers}]}}"))
    }

    /// A workload `name` of its own account, with these labels, and annotations perhaps.
    fn workload(name: &str, namespace: &str, labels: &str, more: &str) -> String {
        format!(
            "---\napiVersion: v1\nkind: ServiceAccount\nmetadata: {{name: {name}, namespace: {namespace}}}\n---\napiVersion: apps/v1\nkind: \
             Deployment\nmetadata: {{name: {name}, namespace: {namespace}}}\nspec:\n  selector: {{matchLabels: {{app: {name}}}}}\n  template:\n    \
             metadata: {{labels: {{app: {name}{labels}}}{more}}}\n    spec: {{serviceAccountName: {name}, containers: [{{name: {name}, image: \
             \"{name}:1\", ports: [{{containerPort: 3004}}]}}]}}\n"
        )
    }

    const EDGE: &str = "{exact: spiffe://cluster.local/ns/edge/sa/default}";
    const JOBS: &str = "---\napiVersion: v1\nkind: Namespace\nmetadata: {name: jobs, labels: {istio-injection: enabled}}\n";

    #[test]
    fn a_gateway_that_is_believed_takes_away_what_clients_write() {
        let [by_limiter, by_classifier] = gateway();
        let all = |plugins: &[&String]| {
            let plugins: Vec<String> = plugins.iter().copied().cloned().collect();
            told(&plugins)
        };
        let golden = sidecar(&format!("{TRUST}    rules:\n{GOLD}"));
        let plain = sidecar(TRUST);
        assert_eq!(all(&[&golden, &by_limiter, &by_classifier]), NONE);
        assert_eq!(
            all(&[&golden]),
            [
                "TG0304 m.yaml:11: spec.pluginConfig.trust.peers[0]: \"spiffe://cluster.local/ns/edge/sa/default\" is the gateway GATEWAY, where nothing takes user-type, x-tenant-id and x-tenant-tier away from clients, so here what they write would be \
                 believed; let a user-classifier that writes user-type and a tenant-rate-limit run there, or believe it no more"
            ]
        );
        assert_eq!(
            all(&[&golden, &by_classifier]),
            [
                "TG0304 m.yaml:11: spec.pluginConfig.trust.peers[0]: \"spiffe://cluster.local/ns/edge/sa/default\" is the gateway GATEWAY, where nothing takes x-tenant-id and x-tenant-tier away from clients, so here what they write would be believed; \
                 let a tenant-rate-limit run there, or believe it no more"
            ]
        );
        // Nothing here goes by tenants; a service may.
        assert_eq!(
            all(&[&plain, &by_classifier]),
            [
                "TG0303 m.yaml:11: spec.pluginConfig.trust.peers[0]: \"spiffe://cluster.local/ns/edge/sa/default\" is the gateway GATEWAY, where nothing takes x-tenant-id and x-tenant-tier away from clients, so here what they write would be believed; \
                 let a tenant-rate-limit run there, or believe it no more"
            ]
        );
        assert_eq!(
            all(&[&plain, &by_limiter]),
            [
                "TG0304 m.yaml:11: spec.pluginConfig.trust.peers[0]: \"spiffe://cluster.local/ns/edge/sa/default\" is the gateway GATEWAY, where nothing takes user-type away from clients, so here what they write would be believed; let a user-classifier \
                 that writes user-type run there, or believe it no more"
            ]
        );
        // A classifier takes tenants away where nobody vouches for them.
        let alone = by_classifier.replace(VOUCHED, "");
        assert_eq!(all(&[&golden, &alone]), NONE);
        assert_eq!(all(&[&plain, &alone]), NONE);
        // One of another header writes another header.
        let other = by_classifier.replace("    default", "    header: x-class\n    default");
        let found = all(&[&plain, &by_limiter, &other]);
        assert_eq!(found.len(), 1, "{found:?}");
        // What a filter of others does there, nobody here knows.
        let others = plugin("edge", "own-classes", SECOND, "    a: 1\n");
        assert_eq!(all(&[&golden, &others]), NONE);
        // A bundle has both.
        let bundle = plugin(
            "edge",
            "tollgate",
            FIRST,
            "    tenantRateLimit:\n      tenant: {from: [{claim: a}], unknown: {tier: free}}\n      tiers: {free: {unlimited: true}}\n    \
             userClassifier: {default: standard}\n",
        );
        assert_eq!(all(&[&golden, &bundle]), NONE);
        assert_eq!(
            all(&[
                &golden,
                &bundle.replace("    userClassifier: {default: standard}\n", "")
            ])
            .len(),
            1
        );
    }

    #[test]
    fn a_header_that_is_trusted_is_one_that_a_rule_of_the_gateway_sets() {
        let [by_limiter, by_classifier] = gateway();
        let trusting = sidecar(&TRUST.replace("]}", "], headers: [x-pool]}"));
        let sets = classifier("edge", SECOND, BY_CLAIM)
            + "      set: {requestHeaders: {X-Pool: a}}\n"
            + VOUCHED;
        assert_eq!(told(&[trusting.clone(), by_limiter.clone(), sets]), NONE);
        assert_eq!(
            told(&[trusting.clone(), by_limiter.clone(), by_classifier.clone()]),
            [
                "TG0304 m.yaml:11: spec.pluginConfig.trust.peers[0]: \"spiffe://cluster.local/ns/edge/sa/default\" is the gateway GATEWAY, where nothing takes x-pool away from clients, so here what they write would be believed; let a user-classifier \
                 with a rule that sets x-pool run there, or believe it no more"
            ]
        );
        // The gateway itself may write it from a token, a policy or its routes may see to it.
        let issuer = issuer("a", "edge").replace(
            "issuer:",
            "outputClaimToHeaders: [{header: X-Pool, claim: pool}], issuer:",
        );
        let denies = |header: &str, namespace: &str| {
            format!(
                "---\napiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {{name: none, namespace: {namespace}}}\nspec:\n  \
                 action: DENY\n  rules: [{{when: [{{key: 'request.headers[{header}]', values: ['*']}}]}}]\n"
            )
        };
        let with = |more: String| {
            told(&[
                trusting.clone(),
                by_limiter.clone(),
                by_classifier.clone(),
                more,
            ])
        };
        assert_eq!(with(issuer), NONE);
        assert_eq!(with(denies("X-Pool", "edge")), NONE);
        assert_eq!(with(denies("x-other", "edge")).len(), 1);
        // A rule that lets some with the header pass takes it from nobody.
        for (what, instead) in [
            ("values: ['*']", "values: [internal]"),
            ("values: ['*']", "values: ['*'], notValues: [internal]"),
            (
                "rules: [{when:",
                "rules: [{to: [{operation: {paths: [/admin]}}], when:",
            ),
            (
                "rules: [{when:",
                "rules: [{from: [{source: {notIpBlocks: [10.0.0.0/8]}}], when:",
            ),
            ("action: DENY", "action: ALLOW"),
        ] {
            let narrow = denies("x-pool", "edge").replace(what, instead);
            assert_eq!(with(narrow).len(), 1, "{instead}");
        }
        // Where no token is verified, nobody has one; where one is, who has it passes.
        let nameless = "rules: [{from: [{source: {notRequestPrincipals: ['*']}}], when:";
        let nameless = denies("x-pool", "edge").replace("rules: [{when:", nameless);
        assert_eq!(with(nameless.clone()), NONE);
        assert_eq!(with(nameless + &tests::issuer("a", "edge")).len(), 1);
        assert_eq!(with(denies("x-pool", "shop")).len(), 1);
        let routes = "---\napiVersion: v1\nkind: Service\nmetadata: {name: cart, namespace: shop}\nspec: {selector: {app: cart}, ports: [{name: http, port: \
                      3002}]}\n---\napiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: cart, namespace: shop}\nspec:\n  \
                      hosts: ['*']\n  gateways: [edge/gateway]\n  http:\n  - match: [{uri: {prefix: /cart}}]\n    headers: {request: {remove: \
                      [X-Pool]}}\n    route: [{destination: {host: cart}}]\n  - headers: {request: {set: {x-pool: a}}}\n    route: [{destination: \
                      {host: cart}}]\n";
        assert_eq!(with(routes.to_owned()), NONE);
        assert_eq!(
            with(routes.replace("remove: [X-Pool]", "remove: [x-other]")).len(),
            1
        );
    }

    #[test]
    fn routes_and_policies_that_go_by_a_tenant_are_something() {
        let [_, by_classifier] = gateway();
        let code = |more: &str| {
            let found = told(&[sidecar(TRUST), by_classifier.clone(), more.to_owned()]);
            assert_eq!(found.len(), 1, "{found:?}");
            found[0][..6].to_owned()
        };
        let route = "---\napiVersion: v1\nkind: Service\nmetadata: {name: cart, namespace: shop}\nspec: {selector: {app: cart}, ports: [{name: http, port: \
                     3002}]}\n---\napiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: cart, namespace: shop}\nspec:\n  hosts: \
                     [cart]\n  http: [{match: [{headers: {x-tenant-tier: {exact: gold}}}], route: [{destination: {host: cart}}]}, {route: \
                     [{destination: {host: cart}}]}]\n";
        let policy = "---\napiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: gold, namespace: shop}\nspec:\n  rules: [{when: \
                      [{key: 'request.headers[X-Tenant-Id]', values: [acme]}]}]\n";
        assert_eq!(code(route), "TG0304");
        assert_eq!(code(policy), "TG0304");
        assert_eq!(code(&route.replace("x-tenant-tier", "x-other")), "TG0303");
    }

    #[test]
    fn whom_a_limiter_believes_has_a_limiter() {
        let [by_limiter, by_classifier] = gateway();
        assert_eq!(told(&[passed_on(EDGE), by_limiter]), NONE);
        assert_eq!(
            told(&[passed_on(EDGE), by_classifier]),
            [
                "TG0304 m.yaml:13: spec.pluginConfig.tenant.from[0].passedOn.peers[0]: \"spiffe://cluster.local/ns/edge/sa/default\" is the gateway GATEWAY, where nothing takes x-tenant-id away from clients, so here what they write would be believed; let a \
                 tenant-rate-limit run there, or believe it no more"
            ]
        );
    }

    #[test]
    fn whom_a_proxy_believes_is_somebody() {
        let with = |plugin: String, more: &str| {
            let mut all = vec![plugin];
            all.extend(gateway());
            all.push(more.to_owned());
            told(&all)
        };
        let nobody = "is the identity of no workload of these manifests";
        let at = "TG0303 m.yaml:11: spec.pluginConfig.trust.peers[1]:";
        for (peer, expected) in [
            // Misspelt.
            (
                "{exact: spiffe://cluster.local/ns/edge/sa/defualt}",
                format!(
                    "{at} \"spiffe://cluster.local/ns/edge/sa/defualt\" {nobody}; did you mean \"spiffe://cluster.local/ns/edge/sa/default\"?"
                ),
            ),
            (
                "{prefix: spiffe://cluster.local/ns/shops/}",
                format!(
                    "{at} \"spiffe://cluster.local/ns/shops/\" {nobody}; did you mean \"spiffe://cluster.local/ns/shop/\"?"
                ),
            ),
            // The account of another namespace, or of another trust domain.
            (
                "{exact: spiffe://cluster.local/ns/istio-system/sa/report}",
                format!(
                    "{at} \"spiffe://cluster.local/ns/istio-system/sa/report\" {nobody}; did you mean \"spiffe://cluster.local/ns/jobs/sa/report\"?"
                ),
            ),
            (
                "{exact: spiffe://td/ns/jobs/sa/report}",
                format!(
                    "{at} \"spiffe://td/ns/jobs/sa/report\" {nobody}; did you mean \"spiffe://cluster.local/ns/jobs/sa/report\"?"
                ),
            ),
            (
                "{exact: spiffe://cluster.local/ns/far/sa/away}",
                format!(
                    "{at} \"spiffe://cluster.local/ns/far/sa/away\" {nobody}; write that of a workload which has a proxy"
                ),
            ),
            (
                "{regex: 'spiffe://cluster\\.local/ns/far/.*'}",
                format!(
                    "{at} \"spiffe://cluster\\\\.local/ns/far/.*\" {nobody}; write that of a workload which has a proxy"
                )
                .replace("\\\\", "\\"),
            ),
            // Without a proxy nobody has a certificate.
            (
                "{exact: spiffe://cluster.local/ns/jobs/sa/bare}",
                format!(
                    "{at} \"spiffe://cluster.local/ns/jobs/sa/bare\" is the identity of BARE, whose pods have no proxy and so no \
                     certificate; write that of a workload which has a proxy"
                ),
            ),
        ] {
            let others = JOBS.to_owned()
                + &workload("bare", "jobs", ", sidecar.istio.io/inject: \"false\"", "")
                + &workload("report", "jobs", "", "").replace("[{containerPort: 3004}]", "[]");
            assert_eq!(
                with(trusting(&format!("{EDGE}, {peer}")), &others),
                [expected],
                "{peer}"
            );
        }
        let template = |template: &str| {
            let spec = format!("{FIRST}  match: [{{mode: SERVER}}]\n");
            with(limiter("shop", &spec, &format!("peer: \"{template}\"")), "")
        };
        assert_eq!(template("spiffe://cluster.local/ns/{tenant}/sa/*"), NONE);
        assert_eq!(
            template("spiffe://cluster.local/ns/tenant-{tenant}/sa/*"),
            [
                "TG0303 m.yaml:13: spec.pluginConfig.tenant.from[0].peer: \"spiffe://cluster.local/ns/tenant-{tenant}/sa/*\" is the identity of no \
                 workload of these manifests; write the namespaces and accounts of those who are meant"
            ]
        );
    }

    #[test]
    fn a_service_that_is_believed_believes_not_everybody() {
        let [by_limiter, by_classifier] = gateway();
        let report = "{exact: spiffe://cluster.local/ns/jobs/sa/report}";
        let others = JOBS.to_owned() + &workload("report", "jobs", "", "");
        let with = |trusting: String, of_jobs: &str| {
            told(&[
                trusting,
                by_limiter.clone(),
                by_classifier.clone(),
                of_jobs.to_owned(),
                others.clone(),
            ])
        };
        assert_eq!(
            with(trusting(&format!("{EDGE}, {report}")), ""),
            [
                "TG0303 m.yaml:11: spec.pluginConfig.trust.peers[1]: \"spiffe://cluster.local/ns/jobs/sa/report\" is REPORT, which \
                 passes on user-type, x-tenant-id and x-tenant-tier as anybody in the mesh writes it: nothing that runs on what comes to it takes \
                 that away; let a user-classifier of user-type with `trust` run there (`match: [{mode: SERVER}]`), or believe it no more"
            ]
        );
        assert_eq!(
            with(passed_on(report), ""),
            [
                "TG0303 m.yaml:13: spec.pluginConfig.tenant.from[0].passedOn.peers[0]: \"spiffe://cluster.local/ns/jobs/sa/report\" is REPORT, which passes on x-tenant-id as anybody in the mesh writes it: nothing that runs on what comes to it takes that away; \
                 let a user-classifier with `trust`, or a tenant-rate-limit run there (`match: [{mode: SERVER}]`), or believe it no more"
            ]
        );
        let believes = trusting(EDGE).replace("namespace: shop", "namespace: jobs");
        assert_eq!(
            with(trusting(&format!("{EDGE}, {report}")), &believes),
            NONE
        );
        // Outbound there is nobody's certificate to look at, so what runs there alone helps nobody, and is told itself.
        let outbound = believes.replace("mode: SERVER", "mode: CLIENT");
        let found = with(trusting(&format!("{EDGE}, {report}")), &outbound);
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(
            found[0].contains("runs on what leaves jobs/report"),
            "{found:?}"
        );
        // Nothing comes to a job that has no port, so what it says it says itself.
        let job = others.replace("[{containerPort: 3004}]", "[]");
        assert_eq!(
            told(&[
                trusting(&format!("{EDGE}, {report}")),
                by_limiter.clone(),
                by_classifier.clone(),
                job
            ]),
            NONE
        );
    }

    #[test]
    fn a_rule_does_not_rest_on_tenants_whom_clients_choose_at_the_gateway() {
        let golden = sidecar(&format!("{TRUST}    rules:\n{GOLD}"));
        let by_classifier = classifier("edge", SECOND, BY_CLAIM) + VOUCHED;
        let header = limiter("edge", FIRST, "header: x-customer");
        let with = |sidecar: &str, limiter: &str| {
            told(&[
                sidecar.to_owned(),
                by_classifier.clone(),
                limiter.to_owned(),
            ])
        };
        assert_eq!(
            with(&golden, &header),
            [
                "TG0304 m.yaml:13: spec.pluginConfig.rules[0].type: \"gold\" rests on a tenant or a tier, and clients choose their tenant by the \
                 header x-customer (spec.pluginConfig.tenant.from[0] in m.yaml:40, as GATEWAY passes it on, whom trust.peers[0] \
                 believes): take it from a claim or a peer, write `vouched: true` there if something in front lets no client name a tenant that is \
                 not its own, or write \"gold\" in selfAssignable if anybody may call himself so"
            ]
        );
        let vouched = header.replace("header: x-customer", "{header: x-customer, vouched: true}");
        assert_eq!(with(&golden, &vouched), NONE);
        let anybody = golden.replace("    rules", "    selfAssignable: [gold]\n    rules");
        assert_eq!(with(&anybody, &header), NONE);
        let by_claim = sidecar(&format!("{TRUST}    rules:\n{BY_CLAIM}"));
        assert_eq!(with(&by_claim, &header), NONE);
        // Whoever shows nothing there is told here.
        let free = golden.replace("exact: gold", "in: [free, gold]");
        assert_eq!(
            with(&free, &limiter("edge", FIRST, "claim: tenant")),
            [
                "TG0304 m.yaml:13: spec.pluginConfig.rules[0].type: \"gold\" would be given to whoever shows no tenant, who is \"anonymous\" in the \
                 tier \"free\" (spec.pluginConfig.tenant.missing in m.yaml:38, as GATEWAY passes it on, whom trust.peers[0] \
                 believes): ask for another tenant or tier, or write \"gold\" in selfAssignable if anybody may call himself so"
            ]
        );
        // A limiter at the sidecar has tiers of its own.
        let believing = passed_on(EDGE);
        let found = told(&[
            golden.clone(),
            by_classifier.clone(),
            header,
            believing.clone(),
        ]);
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(
            found[0].starts_with(
                "TG0304 m.yaml:13: spec.pluginConfig.rules[0].type: \"gold\" rests on"
            ),
            "{found:?}"
        );
        let anonymous = believing.replace(
            "unknown: {tier: free}",
            "missing: {refuse: 401}\n      unknown: {tier: gold}",
        );
        let rules = golden.replace("exact: gold", "in: [gold, best]");
        let best = anonymous.replace(
            "gold: {unlimited: true}",
            "gold: {unlimited: true}, best: {unlimited: true}",
        );
        let found = told(&[
            rules,
            by_classifier.clone(),
            limiter("edge", FIRST, "claim: tenant"),
            best,
        ]);
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(
            found[0].contains("who is \"anonymous\" in the tier \"gold\" (spec.pluginConfig.tenant.missing in m.yaml:38, as GATEWAY"),
            "{found:?}"
        );
    }
}
