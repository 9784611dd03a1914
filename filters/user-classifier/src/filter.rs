//! The filter: reads the request, asks the classifier, writes the header.

use std::net::IpAddr;
use std::rc::Rc;

use tollgate_common::claims::Leaf;
use tollgate_common::header::{TENANT_ID, TENANT_TIER};
use tollgate_common::{TenantId, is_name};
use tollgate_host::filter::give_up;
use tollgate_host::{
    Action, Copies, Host, HostError, Map, Plugin, Request, Stream, Trailers, peer, source,
};

use crate::classifier::Decision;
use crate::condition::{Subject, Truth};
use crate::config::{Compiled, EXPLAIN, is_value};
use crate::explain::{self, Explain};
use crate::facts::{Facts, Outside, Reading};

/// The user-classifier with one configuration.
#[derive(Debug)]
pub struct UserClassifier {
    compiled: Rc<Compiled>,
}

impl Plugin for UserClassifier {
    type Stream = Classification;

    fn configure(
        configuration: &[u8],
        _plugin_name: &str,
        _host: &mut dyn Host,
    ) -> Result<Self, String> {
        let compiled = Compiled::read(configuration).map_err(|error| error.to_string())?;
        Ok(Self::new(compiled))
    }

    fn stream(&self) -> Classification {
        Classification {
            compiled: Rc::clone(&self.compiled),
            decision: Decision::default(),
            explanation: None,
        }
    }
}

impl UserClassifier {
    /// The user-classifier with a configuration that has been read.
    pub fn new(compiled: Compiled) -> Self {
        Self {
            compiled: Rc::new(compiled),
        }
    }

    /// Whether a rule may ask for claims.
    pub fn reads_claims(&self) -> bool {
        let subjects = self.compiled.classifier.subjects();
        let mut all = (0..self.compiled.of_rules).map(|at| subjects.get(at));
        all.any(|subject| matches!(subject, Some(Subject::Claim(_))))
    }
}

/// The classification of one request.
#[derive(Debug)]
pub struct Classification {
    compiled: Rc<Compiled>,
    /// What was decided, for the response.
    decision: Decision,
    /// Why, if whoever asked may know.
    explanation: Option<String>,
}

impl Stream for Classification {
    fn on_request_headers(&mut self, request: &mut Request, host: &mut dyn Host) -> Action {
        match self.classify(request, host) {
            Ok(()) => Action::Continue,
            Err(error) => {
                // A client's own copy may still be there, so nobody behind this filter may see the request.
                log::debug!("{} can't be written: {error:?}", self.compiled.header);
                give_up(host)
            }
        }
    }

    fn on_response_headers(&mut self, host: &mut dyn Host) {
        if let Err(error) = self.respond(host) {
            log::debug!("the response can't be written: {error:?}");
        }
    }

    fn on_request_trailers(&mut self, trailers: &mut Trailers, host: &mut dyn Host) -> Action {
        match self.strip(trailers, host) {
            Ok(()) => Action::Continue,
            Err(error) => {
                log::debug!("a trailer can't be taken away: {error:?}");
                give_up(host)
            }
        }
    }
}

impl Compiled {
    /// The headers that are the filter's.
    fn own(&self) -> impl Iterator<Item = &str> {
        let explain = self.explain.as_ref();
        std::iter::once(&self.header)
            .chain(&self.set)
            .map(String::as_str)
            .chain([explain.map_or(EXPLAIN, |explain| &explain.header)])
    }
}

impl Classification {
    /// Takes away what a client says in trailers of what this filter says in headers.
    fn strip(&self, trailers: &mut Trailers, host: &mut dyn Host) -> Result<(), HostError> {
        for own in self.compiled.own() {
            trailers.strip(own, host)?;
        }
        // Whoever vouches for tenants does it in headers.
        trailers.strip(TENANT_ID, host)?;
        trailers.strip(TENANT_TIER, host)
    }

    /// Writes what the request is. An error means that a copy that does not count may still be there.
    fn classify(&mut self, request: &mut Request, host: &mut dyn Host) -> Result<(), HostError> {
        let compiled = Rc::clone(&self.compiled);
        let Compiled {
            header,
            default,
            set,
            classifier,
            ..
        } = &*compiled;
        let asks = asks(compiled.explain.as_ref(), request, host)?;
        let Asked {
            peer,
            is_trusted,
            is_kept,
        } = clean(&compiled, request, host)?;
        if is_kept && asks.is_none() {
            log::debug!("{header}: kept as it came");
            return Ok(());
        }
        let outside = Connection {
            request,
            host,
            peer,
        };
        let facts = Facts::new(request.headers(), &outside);
        let decision = (!is_kept).then(|| classifier.decide(&facts));
        if let Some(explain) = asks {
            self.explanation = answer(explain, &compiled, decision.as_ref(), &facts);
        }
        let Some(decision) = decision else {
            log::debug!("{header}: kept as it came");
            return Ok(());
        };
        self.decision = decision;
        let rule = self.decision.rule;
        log::debug!("{header}: by rule {rule:?}");
        let rule = rule.and_then(|rule| classifier.rules().get(rule));
        match rule.map(|rule| &rule.user_type).or(default.as_ref()) {
            Some(user_type) => request.own(header, user_type.as_bytes(), host)?,
            None => request.strip(header, host)?,
        }
        let outputs = rule.map(|rule| &rule.outputs);
        let given = outputs.map_or(&[][..], |outputs| &outputs.request);
        for name in set {
            match given.iter().find(|(given, _)| given == name) {
                Some((_, value)) => request.own(name, value.as_bytes(), host)?,
                // What whoever is trusted says of it stands.
                None if is_trusted => {}
                None => request.strip(name, host)?,
            }
        }
        for (name, value) in outputs.map_or(&[][..], |outputs| &outputs.state) {
            // Whoever reads it finds nothing there then; a request is not worth less for that.
            if let Err(error) = host.set_property(name, value.as_bytes()) {
                log::debug!("{name} can't be set: {error:?}");
            }
        }
        Ok(())
    }

    /// What the deciding rule says to the client, and why it does.
    fn respond(&self, host: &mut dyn Host) -> Result<(), HostError> {
        if let Some(Explain { header, .. }) = &self.compiled.explain {
            match &self.explanation {
                Some(why) => host.set_header(Map::ResponseHeaders, header, why.as_bytes())?,
                // Not what a service says under this name either.
                None => host.remove_header(Map::ResponseHeaders, header.as_bytes())?,
            }
        }
        let rules = self.compiled.classifier.rules();
        let Some(rule) = self.decision.rule.and_then(|rule| rules.get(rule)) else {
            return Ok(());
        };
        for (name, value) in &rule.outputs.response {
            host.set_header(Map::ResponseHeaders, name, value.as_bytes())?;
        }
        if let Some(cookie) = &self.decision.cookie {
            host.add_header(Map::ResponseHeaders, "set-cookie", cookie.as_bytes())?;
        }
        Ok(())
    }
}

/// Whether a request asks why it is what it is; nobody behind hears that it did.
fn asks<'c>(
    explain: Option<&'c Explain>,
    request: &mut Request,
    host: &mut dyn Host,
) -> Result<Option<&'c Explain>, HostError> {
    let Some(explain) = explain else {
        // A proxy behind this one might take who asks for whoever passes the request on.
        request.strip(EXPLAIN, host)?;
        return Ok(None);
    };
    let asks = request.headers().first(&explain.header).is_some();
    request.strip(&explain.header, host)?;
    if !asks {
        return Ok(None);
    }
    // So that claims are told with what they are.
    let _ = request.metadata(host);
    Ok(Some(explain))
}

/// Why a request is what it is, if whoever asks may know. `decision` is `None` if its type is kept as it came.
fn answer(
    explain: &Explain,
    compiled: &Compiled,
    decision: Option<&Decision>,
    facts: &Facts<'_>,
) -> Option<String> {
    let classifier = &compiled.classifier;
    let mut reading = Reading::new(facts, classifier.subjects());
    if reading.truth(&explain.condition) != Truth::Yes {
        return None;
    }
    let rule = decision.and_then(|decision| classifier.rules().get(decision.rule?));
    let kept = || std::str::from_utf8(facts.headers().first(&compiled.header)?).ok();
    let user_type = match (decision, rule) {
        (None, _) => kept(),
        (_, Some(rule)) => Some(rule.user_type.as_str()),
        (_, None) => compiled.default.as_deref(),
    };
    Some(explain::line(user_type, decision, classifier, facts))
}

/// What is known of a request before rules are asked.
struct Asked {
    /// Who is connected, if that mattered.
    peer: Option<Option<Vec<u8>>>,
    /// Whether its word counts.
    is_trusted: bool,
    /// Whether the type is kept as it came.
    is_kept: bool,
}

/// Takes away what whoever is connected may not say: of tenants, and at a sidecar of all that it passes on.
fn clean(
    compiled: &Compiled,
    request: &mut Request,
    host: &mut dyn Host,
) -> Result<Asked, HostError> {
    let Some(trusted) = &compiled.trusted else {
        if !compiled.vouched {
            request.strip(TENANT_ID, host)?;
            request.strip(TENANT_TIER, host)?;
        }
        return Ok(Asked {
            peer: None,
            is_trusted: false,
            is_kept: false,
        });
    };
    let peer = peer::peer(host);
    let listed = |peer: &Vec<u8>| trusted.iter().any(|trusted| trusted.matches(peer));
    let is_trusted = peer.as_ref().is_some_and(listed);
    keep(request, TENANT_ID, is_trusted, is_id, host)?;
    keep(request, TENANT_TIER, is_trusted, is_word, host)?;
    let is_kept = keep(request, &compiled.header, is_trusted, is_word, host)?;
    for name in &compiled.set {
        keep(request, name, is_trusted, is_value, host)?;
    }
    Ok(Asked {
        peer: Some(peer),
        is_trusted,
        is_kept,
    })
}

/// Why a request is what it is; `None` if its type is kept as it came. For `tollgate explain`: with what was found, and without asking who asks.
pub fn explain(
    compiled: &Compiled,
    request: &mut Request,
    host: &mut dyn Host,
) -> Result<Option<(Decision, Vec<explain::Step>)>, HostError> {
    let Asked { peer, is_kept, .. } = clean(compiled, request, host)?;
    // So that claims are told with what they are.
    let _ = request.metadata(host);
    let outside = Connection {
        request,
        host,
        peer,
    };
    let facts = Facts::new(request.headers(), &outside);
    Ok((!is_kept).then(|| explain::explain(&compiled.classifier, &facts)))
}

fn is_id(id: &[u8]) -> bool {
    TenantId::normalise(id).is_some_and(|normal| normal.as_str().as_bytes() == id)
}

/// Leaves a header as it is if whoever sent it is trusted and says it once, in a form that it can have; else takes it away. Whether it was left.
fn keep(
    request: &mut Request,
    name: &str,
    is_trusted: bool,
    is_right: impl Fn(&[u8]) -> bool,
    host: &mut dyn Host,
) -> Result<bool, HostError> {
    let kept = match request.headers().copies(name) {
        Copies::One(value) if is_trusted && is_right(value) => Some(value.to_vec()),
        _ => None,
    };
    match &kept {
        // Takes other spellings away.
        Some(value) => request.own(name, value, host)?,
        None => request.strip(name, host)?,
    }
    Ok(kept.is_some())
}

fn is_word(value: &[u8]) -> bool {
    std::str::from_utf8(value).is_ok_and(is_name)
}

/// What the proxy knows of a request beside its headers.
struct Connection<'a> {
    request: &'a Request,
    host: &'a dyn Host,
    /// Who is connected, if that was asked before.
    peer: Option<Option<Vec<u8>>>,
}

impl Outside for Connection<'_> {
    fn metadata(&self) -> Option<&[u8]> {
        self.request.metadata(self.host).ok()
    }

    fn has_metadata(&self) -> bool {
        self.request.has_metadata()
    }

    fn claim(&self, leaf: &Leaf) -> Option<Vec<u8>> {
        self.host.property(&leaf.path()).ok().flatten()
    }

    fn peer(&self) -> Option<Vec<u8>> {
        match &self.peer {
            Some(known) => known.clone(),
            None => peer::peer(self.host),
        }
    }

    fn source(&self) -> Option<IpAddr> {
        source::source(self.host)
    }

    fn now(&self) -> u64 {
        self.host.now()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::*;
    use proptest::sample::select;
    use std::collections::BTreeMap;
    use tollgate_host::HeaderMap;
    use tollgate_host::memory::{Call, MemoryHost};

    const SHOP: &[u8] = br#"{
        "default": "standard",
        "tenant": {"vouched": true},
        "selfAssignable": ["vip"],
        "rules": [
            {"type": "vip", "when": [{"header": {"name": "x-user-id", "in": ["alice", "bob"]}}]},
            {"type": "premium", "when": [{"tier": {"exact": "premium"}}]}
        ]
    }"#;

    fn shop() -> UserClassifier {
        UserClassifier::configure(SHOP, "user-classifier", &mut MemoryHost::new()).unwrap()
    }

    /// What a service behind the filter may take for the user's type: it reads upper case as lower and underscores as hyphens.
    fn user_types(host: &MemoryHost) -> Vec<String> {
        let named = host.request.iter().filter(|(name, _)| {
            String::from_utf8_lossy(name)
                .to_lowercase()
                .replace('_', "-")
                == "user-type"
        });
        named
            .map(|(_, value)| String::from_utf8_lossy(value).into_owned())
            .collect()
    }

    /// Runs the filter as the module's shell does.
    fn run(filter: &UserClassifier, host: &mut MemoryHost) -> Action {
        match Request::read(host) {
            Ok(mut request) => filter.stream().on_request_headers(&mut request, host),
            Err(error) => filter.stream().on_unreadable_request(error, host),
        }
    }

    /// What the filter leaves of tenants, in headers and in trailers, of what this request says of them.
    fn tenants(configuration: &str, said: &[(&str, &[u8])]) -> [Vec<String>; 2] {
        let filter = UserClassifier::configure(
            configuration.as_bytes(),
            "user-classifier",
            &mut MemoryHost::new(),
        );
        let filter = filter.unwrap();
        let mut host = MemoryHost::new();
        host.begin(said);
        assert_eq!(run(&filter, &mut host), Action::Continue);
        let names = |fields: &HeaderMap| {
            let names = fields.iter().map(|(name, _)| name.to_ascii_lowercase());
            let names = names.map(|name| String::from_utf8_lossy(&name).into_owned());
            let plain = |name: &String| name.replace(['_', '.', '~'], "-");
            let of_tenants = |name: &String| plain(name).starts_with("x-tenant");
            names.filter(of_tenants).collect::<Vec<_>>()
        };
        let headers = names(&host.request);
        host.begin_trailers(said);
        let mut trailers = Trailers::read(&host).unwrap();
        let action = filter
            .stream()
            .on_request_trailers(&mut trailers, &mut host);
        assert_eq!(action, Action::Continue);
        [headers, names(&host.trailers)]
    }

    #[test]
    fn what_nobody_vouches_for_is_no_tenant() {
        let said: &[(&str, &[u8])] = &[
            (":path", b"/"),
            ("x-tenant-id", b"acme"),
            ("X-Tenant-Id", b"globex"),
            ("x_tenant_id", b"acme"),
            ("x.tenant-id", b"acme"),
            ("x-tenant-tier", b"premium"),
            ("x-tenant-tier", b"\xff"),
            ("X_TENANT-TIER", b""),
            ("x-tenant-name", b"kept"),
        ];
        let kept = vec!["x-tenant-name".to_owned()];
        for alone in [
            r#"{"default": "standard"}"#,
            r#"{"default": "standard", "tenant": {"vouched": false}}"#,
            r#"{"default": "standard", "rules": [{"type": "vip", "when": {"claim": {"name": "a", "exact": "b"}}}]}"#,
        ] {
            assert_eq!(
                tenants(alone, said),
                [kept.clone(), kept.clone()],
                "{alone}"
            );
        }
        // What something in front has cleaned is left as it is; it does so in headers alone.
        let vouched = r#"{"default": "standard", "tenant": {"vouched": true}}"#;
        let clean: &[(&str, &[u8])] = &[("x-tenant-id", b"acme"), ("x-tenant-tier", b"premium")];
        let both = clean.iter().map(|(name, _)| (*name).to_owned());
        assert_eq!(tenants(vouched, clean), [both.collect(), Vec::new()]);
    }

    fn classify(headers: &[(&str, &[u8])]) -> Vec<String> {
        let mut host = MemoryHost::new();
        host.begin(headers);
        assert_eq!(run(&shop(), &mut host), Action::Continue);
        user_types(&host)
    }

    #[test]
    fn the_first_rule_that_holds_decides() {
        assert_eq!(classify(&[]), ["standard"]);
        assert_eq!(classify(&[("x-user-id", b"alice")]), ["vip"]);
        assert_eq!(
            classify(&[("x-user-id", b"carol"), ("x-tenant-tier", b"premium")]),
            ["premium"]
        );
        assert_eq!(
            classify(&[("x-user-id", b"bob"), ("x-tenant-tier", b"premium")]),
            ["vip"]
        );
        assert_eq!(
            classify(&[("x-user-id", b"alice"), ("x-user-id", b"alice")]),
            ["standard"]
        );
        assert_eq!(classify(&[("x-user-id", b"Alice")]), ["standard"]);
        assert_eq!(classify(&[("x-user-id", b"\xff\xfe")]), ["standard"]);
        assert_eq!(classify(&[("x-user-id", b"")]), ["standard"]);
    }

    #[test]
    fn what_a_client_says_of_itself_is_taken_away() {
        assert_eq!(classify(&[("user-type", b"vip")]), ["standard"]);
        assert_eq!(classify(&[("user_type", b"vip")]), ["standard"]);
        assert_eq!(
            classify(&[
                ("User_Type", b"vip"),
                ("user-type", b"vip"),
                ("user-type", b"vip")
            ]),
            ["standard"]
        );
    }

    const GATEWAY: &[u8] = b"spiffe://cluster.local/ns/istio-system/sa/istio-ingressgateway";

    fn sidecar() -> UserClassifier {
        let config = br#"{
            "trust": {"peers": [{"exact": "spiffe://cluster.local/ns/istio-system/sa/istio-ingressgateway"}]},
            "rules": [
                {"type": "internal", "when": [{"peer": {"prefix": "spiffe://cluster.local/ns/jobs/"}}]},
                {"type": "premium", "when": [{"tier": {"exact": "premium"}}]}
            ]
        }"#;
        UserClassifier::configure(config, "user-classifier", &mut MemoryHost::new()).unwrap()
    }

    /// The type, tenant and tier that a service behind a sidecar sees in a request with these headers from this peer.
    fn behind_the_sidecar(peer: Option<&[u8]>, headers: &[(&str, &str)]) -> [Vec<String>; 3] {
        let mut host = MemoryHost::new();
        host.begin(headers);
        if let Some(peer) = peer {
            host.set_attribute(&["connection", "mtls"], &[1]);
            host.set_attribute(&["connection", "uri_san_peer_certificate"], peer);
        }
        assert_eq!(run(&sidecar(), &mut host), Action::Continue);
        ["user-type", TENANT_ID, TENANT_TIER].map(|name| {
            let named = host
                .request
                .iter()
                .filter(|(n, _)| tollgate_host::same_name(n, name.as_bytes()));
            named
                .map(|(_, value)| String::from_utf8_lossy(value).into_owned())
                .collect()
        })
    }

    const NOTHING: Vec<String> = Vec::new();

    fn one(text: &str) -> Vec<String> {
        vec![text.to_owned()]
    }

    #[test]
    fn a_sidecar_keeps_the_word_of_those_it_trusts() {
        let said = [
            ("user-type", "vip"),
            ("x-tenant-id", "acme"),
            ("x-tenant-tier", "free"),
        ];
        assert_eq!(
            behind_the_sidecar(Some(GATEWAY), &said),
            [one("vip"), one("acme"), one("free")]
        );
        // Those it does not trust say nothing, also not to its rules.
        let premium = [
            ("user-type", "vip"),
            ("x-tenant-id", "acme"),
            ("x-tenant-tier", "premium"),
        ];
        for stranger in [
            None,
            Some(&b"spiffe://cluster.local/ns/ecommerce/sa/evil"[..]),
            Some(b"spiffe://cluster.local/ns/istio-system/sa/istio-ingressgateway2"),
            Some(b""),
            Some(b"\xff"),
        ] {
            assert_eq!(
                behind_the_sidecar(stranger, &premium),
                [NOTHING; 3],
                "{stranger:?}"
            );
        }
        assert_eq!(
            behind_the_sidecar(Some(b"spiffe://cluster.local/ns/jobs/sa/nightly"), &premium),
            [one("internal"), NOTHING, NOTHING]
        );
        // Where the gateway did not say what it is, the sidecar's own rules do.
        assert_eq!(
            behind_the_sidecar(Some(GATEWAY), &premium[1..]),
            [one("premium"), one("acme"), one("premium")]
        );
    }

    #[test]
    fn a_trusted_word_counts_once_and_well_formed() {
        for said in [
            &[("user-type", "vip"), ("user-type", "vip")][..],
            &[("user_type", "vip")],
            &[("user-type", "VIP")],
            &[("user-type", "")],
            &[("user-type", "vip,premium")],
            &[("x-tenant-id", "Acme")],
            &[("x-tenant-id", "acme"), ("x-tenant-id", "acme")],
            &[("x-tenant-tier", "premium "), ("x_tenant_id", "acme")],
        ] {
            assert_eq!(
                behind_the_sidecar(Some(GATEWAY), said),
                [NOTHING; 3],
                "{said:?}"
            );
        }
        // Another spelling beside it is taken away, and the one there is stays.
        assert_eq!(
            behind_the_sidecar(
                Some(GATEWAY),
                &[("user-type", "vip"), ("user_type", "premium")]
            )[0],
            one("vip")
        );
    }

    #[test]
    fn a_sidecar_keeps_what_those_it_trusts_say_in_headers_that_it_lists() {
        let config = br#"{
            "trust": {
                "peers": [{"exact": "spiffe://cluster.local/ns/istio-system/sa/istio-ingressgateway"}],
                "headers": ["x-pool", "x-experiment"]
            },
            "rules": [{"type": "premium", "when": {"tier": {"exact": "premium"}}, "set": {"requestHeaders": {"x-pool": "own"}}}]
        }"#;
        let filter =
            UserClassifier::configure(config, "user-classifier", &mut MemoryHost::new()).unwrap();
        let arrives = |peer: &[u8], headers: &[(&str, &str)]| {
            let mut host = MemoryHost::new();
            host.begin(headers);
            host.set_attribute(&["connection", "mtls"], &[1]);
            host.set_attribute(&["connection", "uri_san_peer_certificate"], peer);
            assert_eq!(run(&filter, &mut host), Action::Continue);
            ["x-pool", "x-experiment"].map(|name| {
                let named = host.request.iter();
                let named = named.filter(|(n, _)| tollgate_host::same_name(n, name.as_bytes()));
                named
                    .map(|(_, value)| String::from_utf8_lossy(value).into_owned())
                    .collect::<Vec<_>>()
            })
        };
        let stranger = b"spiffe://cluster.local/ns/jobs/sa/nightly";
        let both = [("x-pool", "premium"), ("x-experiment", "checkout")];
        let typed = [("user-type", "vip"), both[0], both[1]];
        let tiered = [("x-tenant-tier", "premium"), both[0], both[1]];
        assert_eq!(
            arrives(GATEWAY, &typed),
            [one("premium"), one("checkout")],
            "with a type"
        );
        assert_eq!(
            arrives(GATEWAY, &both),
            [one("premium"), one("checkout")],
            "without one, and no rule holds"
        );
        assert_eq!(
            arrives(GATEWAY, &tiered),
            [one("own"), one("checkout")],
            "a rule that decides has the last word on what it sets"
        );
        for headers in [&typed, &tiered] {
            assert_eq!(arrives(stranger, headers), [NOTHING, NOTHING]);
        }
        // Once, and as a rule may set it.
        let long = "x".repeat(257);
        for forged in [
            &[("x-pool", "a"), ("x-pool", "a")][..],
            &[("x-pool", "a"), ("x-pool", "b")],
            &[("x_pool", "a")],
            &[("x-pool", "")],
            &[("x-pool", " a")],
            &[("x-pool", "\u{e9}")],
            &[("x-pool", "a\tb")],
            &[("x-pool", &long)],
        ] {
            assert_eq!(arrives(GATEWAY, forged), [NOTHING, NOTHING], "{forged:?}");
        }
        // In trailers nobody says anything.
        let mut host = MemoryHost::new();
        host.begin(&[("a", "b")]);
        host.begin_trailers(&[
            ("x-pool", "premium"),
            ("X_Experiment", "a"),
            ("grpc-status", "0"),
        ]);
        let mut trailers = Trailers::read(&host).unwrap();
        let mut stream = filter.stream();
        assert_eq!(
            stream.on_request_trailers(&mut trailers, &mut host),
            Action::Continue
        );
        let left: Vec<_> = host
            .trailers
            .iter()
            .map(|(name, _)| name.to_vec())
            .collect();
        assert_eq!(left, [b"grpc-status".to_vec()]);
    }

    #[test]
    fn what_is_said_in_trailers_is_taken_away() {
        let said = [
            ("user-type", "vip"),
            ("User_Type", "vip"),
            ("x-tenant-tier", "premium"),
            ("grpc-status", "0"),
        ];
        for (filter, left) in [(shop(), 1), (sidecar(), 1)] {
            let mut host = MemoryHost::new();
            host.begin_trailers(&said);
            let mut trailers = Trailers::read(&host).unwrap();
            let action = filter
                .stream()
                .on_request_trailers(&mut trailers, &mut host);
            assert_eq!(
                (action, host.trailers.iter().count()),
                (Action::Continue, left)
            );
            host.begin_trailers(&said);
            let mut trailers = Trailers::read(&host).unwrap();
            host.fail(Call::RemoveHeader, HostError::Status(2));
            let action = filter
                .stream()
                .on_request_trailers(&mut trailers, &mut host);
            assert_eq!(action, Action::Stop);
        }
    }

    #[test]
    fn claims_are_read_once_and_only_where_a_rule_needs_them() {
        let config = br#"{"default": "standard", "tenant": {"vouched": true}, "selfAssignable": ["beta"], "rules": [
            {"type": "beta", "when": [{"header": {"name": "x-beta", "exact": "true"}}]},
            {"type": "vip", "when": [{"claim": {"name": "plan", "exact": "vip"}}]},
            {"type": "staff", "when": [{"claim": {"name": "groups", "contains": {"exact": "staff"}}}]},
            {"type": "old", "when": [{"claim": {"name": ["account", "years"], "number": {"atLeast": 10}}}]}
        ]}"#;
        let filter =
            UserClassifier::configure(config, "user-classifier", &mut MemoryHost::new()).unwrap();
        for (headers, claims, expected, reads) in [
            (
                &[("x-beta", "true")][..],
                serde_json::json!({"plan": "vip"}),
                "beta",
                0,
            ),
            (&[], serde_json::json!({"plan": "vip"}), "vip", 1),
            (
                &[],
                serde_json::json!({"plan": null, "groups": [null, "staff"]}),
                "staff",
                1,
            ),
            (
                &[],
                serde_json::json!({"plan": ["vip"], "groups": "staff", "account": {"years": 10}}),
                "old",
                1,
            ),
            (
                &[],
                serde_json::json!({"account": {"years": "12345678"}}),
                "standard",
                1,
            ),
        ] {
            let mut host = MemoryHost::new();
            host.begin(headers);
            host.set_claims(claims);
            run(&filter, &mut host);
            assert_eq!(
                (user_types(&host), host.calls(Call::Property)),
                (one(expected), reads)
            );
        }
    }

    /// Claims of all kinds that read as the same bytes.
    fn odd_claim() -> impl Strategy<Value = serde_json::Value> {
        let eight = f64::from_le_bytes(*b"vip-plan");
        let texts = vec![
            "vip", "alice", "vip-plan", "b", "\u{1}", "\u{0}", "", "12345678",
        ];
        prop_oneof![
            3 => select(texts).prop_map(|text| serde_json::json!(text)),
            1 => Just(serde_json::json!(eight)),
            1 => Just(serde_json::json!(98)),
            1 => any::<bool>().prop_map(|value| serde_json::json!(value)),
            1 => Just(serde_json::Value::Null),
            1 => Just(serde_json::json!(["vip"])),
            1 => Just(serde_json::json!([null, "vip"])),
            1 => Just(serde_json::json!({"vip": "vip"})),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(1_000))]

        #[test]
        fn a_claim_by_itself_says_what_all_of_them_say(
            first in proptest::sample::subsequence(vec!["vip", "vip-plan", "b", "\u{1}", "", "12345678"], 1..4),
            second in select(vec!["alice", "vip-plan", "b", ""]),
            is_not in any::<bool>(),
            claims in (odd_claim(), odd_claim()),
        ) {
            let of_second = serde_json::json!({"claim": {"name": ["realm", "d"], "exact": second}});
            let second = match is_not {
                true => serde_json::json!([{"not": of_second}, {"claim": {"name": "c", "in": ["vip", "alice", "vip-plan"]}}]),
                false => of_second,
            };
            let config = serde_json::json!({"default": "standard", "tenant": {"vouched": true}, "rules": [
                {"type": "first", "when": {"claim": {"name": "c", "in": first}}},
                {"type": "second", "when": second},
            ]});
            let filter = UserClassifier::configure(
                config.to_string().as_bytes(), "user-classifier", &mut MemoryHost::new(),
            ).unwrap();
            let mut found = Vec::new();
            for together in [false, true] {
                let mut host = MemoryHost::new();
                host.set_claims(serde_json::json!({"c": claims.0, "realm": {"d": claims.1}}));
                let mut request = Request::read(&host).unwrap();
                if together {
                    request.metadata(&host).unwrap();
                }
                filter.stream().on_request_headers(&mut request, &mut host);
                found.push(user_types(&host));
            }
            prop_assert_eq!(&found[0], &found[1]);
        }
    }

    #[test]
    fn few_claims_that_are_certain_texts_are_read_by_themselves() {
        let equal =
            |name: &str, text: &str| serde_json::json!({"claim": {"name": name, "exact": text}});
        let reads = |rules: &[serde_json::Value], claims: serde_json::Value| {
            let rules: Vec<_> = rules
                .iter()
                .map(|when| serde_json::json!({"type": "t", "when": when}))
                .collect();
            let config = serde_json::json!({"default": "standard", "tenant": {"vouched": true}, "rules": rules});
            let filter = UserClassifier::configure(
                config.to_string().as_bytes(),
                "user-classifier",
                &mut MemoryHost::new(),
            )
            .unwrap();
            let mut host = MemoryHost::new();
            host.set_claims(claims);
            let mut request = Request::read(&host).unwrap();
            filter.stream().on_request_headers(&mut request, &mut host);
            (host.calls(Call::Property), request.has_metadata())
        };
        let none = serde_json::json!({});
        let (sub, plan) = (equal("sub", "alice"), equal("plan", "gold"));
        assert_eq!(reads(std::slice::from_ref(&sub), none.clone()), (1, false));
        assert_eq!(
            reads(&[sub.clone(), plan.clone()], none.clone()),
            (2, false)
        );
        let three = [sub.clone(), plan, equal("iss", "shop")];
        assert_eq!(reads(&three, none.clone()), (1, true));
        // Another question than whether it is a text.
        let present = serde_json::json!({"claim": {"name": "plan", "present": true}});
        assert_eq!(reads(&[sub.clone(), present], none.clone()), (1, true));
        // What reads as eight bytes is a text or a number.
        let eight = equal("sub", "vip-plan");
        let eight_bytes = serde_json::json!({"sub": "vip-plan"});
        assert_eq!(
            reads(std::slice::from_ref(&eight), eight_bytes.clone()),
            (2, true)
        );
        assert_eq!(
            reads(&[eight], serde_json::json!({"sub": "alice"})),
            (1, false)
        );
        assert_eq!(reads(&[sub], eight_bytes), (1, false));
    }

    #[test]
    fn a_rule_may_say_more_than_a_type() {
        let config = br#"{"default": "standard", "tenant": {"vouched": true}, "selfAssignable": ["beta"], "rules": [
            {"type": "beta", "when": [{"header": {"name": "x-beta", "exact": "true"}}],
             "set": {"requestHeaders": {"X-Experiment": "checkout"}, "responseHeaders": {"x-served": "beta"},
                     "filterState": {"experiment": "checkout"}}},
            {"type": "premium", "when": [{"tier": {"exact": "premium"}}], "set": {"requestHeaders": {"x-pool": "premium"}}}
        ]}"#;
        let filter =
            UserClassifier::configure(config, "user-classifier", &mut MemoryHost::new()).unwrap();
        let forged = [
            ("x-experiment", "forged"),
            ("X_Pool", "forged"),
            ("x-pool", "premium"),
        ];
        for (header, experiment, pool, served, state) in [
            (
                ("x-beta", "true"),
                Some("checkout"),
                None,
                Some("beta"),
                Some("checkout"),
            ),
            (
                ("x-tenant-tier", "premium"),
                None,
                Some("premium"),
                None,
                None,
            ),
            (("x-other", ""), None, None, None, None),
        ] {
            let mut host = MemoryHost::new();
            host.begin(&[&[header][..], &forged].concat());
            let mut stream = filter.stream();
            let mut request = Request::read(&host).unwrap();
            assert_eq!(
                stream.on_request_headers(&mut request, &mut host),
                Action::Continue
            );
            for (name, expected) in [("x-experiment", experiment), ("x-pool", pool)] {
                let named = host
                    .request
                    .iter()
                    .filter(|(n, _)| tollgate_host::same_name(n, name.as_bytes()));
                let values: Vec<_> = named.map(|(_, value)| value).collect();
                assert_eq!(
                    values,
                    expected.map(str::as_bytes).into_iter().collect::<Vec<_>>(),
                    "{header:?} {name}"
                );
            }
            let found = host.property(&["tollgate.experiment"]).unwrap();
            assert_eq!(found.as_deref(), state.map(str::as_bytes));
            host.begin_response(200, &[("x-served", "upstream")]);
            stream.on_response_headers(&mut host);
            assert_eq!(
                host.response.first("x-served"),
                Some(served.unwrap_or("upstream").as_bytes())
            );
        }
    }

    /// The type of a visitor, and the cookie that the answer gives.
    fn visit(
        share: u64,
        visitor: &str,
        cookie: Option<&str>,
        days: u64,
    ) -> (String, Option<String>) {
        let config = format!(
            r#"{{"default": "standard", "tenant": {{"vouched": true}}, "selfAssignable": ["beta"],
                "stickyKeys": [{{"id": "a", "secret": "0123456789abcdef0123456789abcdef"}}],
                "rules": [{{"type": "beta", "when": [{{"percent": {{"share": {share}, "salt": "s", "cookie": "visitor"}}}}],
                            "sticky": {{"cookie": "kept", "for": "30d"}}}}]}}"#
        );
        let filter =
            UserClassifier::configure(config.as_bytes(), "user-classifier", &mut MemoryHost::new())
                .unwrap();
        let mut host = MemoryHost::new();
        host.set_time(host.time() + days * 86_400 * 1_000_000_000);
        let cookies = match cookie {
            Some(kept) => format!("visitor={visitor}; kept={kept}"),
            None => format!("visitor={visitor}"),
        };
        host.begin(&[("cookie", cookies)]);
        let mut stream = filter.stream();
        let mut request = Request::read(&host).unwrap();
        assert_eq!(
            stream.on_request_headers(&mut request, &mut host),
            Action::Continue
        );
        let user_type = user_types(&host).concat();
        host.begin_response(200, &[("set-cookie", "upstream=1")]);
        stream.on_response_headers(&mut host);
        let mut cookies = host
            .response
            .all("set-cookie")
            .map(|cookie| String::from_utf8(cookie.to_vec()).unwrap());
        assert_eq!(
            cookies.next().as_deref(),
            Some("upstream=1"),
            "others' cookies stay"
        );
        let given = cookies.next().map(|cookie| {
            let (_, rest) = cookie.split_once("kept=").unwrap();
            rest.split(';').next().unwrap().to_owned()
        });
        (user_type, given)
    }

    #[test]
    fn a_signed_cookie_keeps_in_whom_a_share_has() {
        let (user_type, kept) = visit(100, "v1", None, 0);
        let kept = kept.unwrap();
        assert_eq!(user_type, "beta");
        let kept = kept.as_str();
        // As long as it lasts, whatever becomes of the share, and it is made anew in time.
        assert_eq!(visit(0, "v1", Some(kept), 0), ("beta".to_owned(), None));
        assert_eq!(visit(0, "v1", Some(kept), 14), ("beta".to_owned(), None));
        let (user_type, renewed) = visit(0, "v1", Some(kept), 16);
        assert_eq!(user_type, "beta");
        assert_eq!(visit(0, "v1", renewed.as_deref(), 45).0, "beta");
        assert_eq!(
            visit(0, "v1", Some(kept), 30),
            ("standard".to_owned(), None)
        );
        // Not for others, and not forged.
        assert_eq!(visit(0, "v2", Some(kept), 0), ("standard".to_owned(), None));
        let (id, end_and_signature) = kept.split_once('.').unwrap();
        let (end, signature) = end_and_signature.split_once('.').unwrap();
        let later = end.parse::<u64>().unwrap() + 1;
        for forged in [
            String::new(),
            "1".to_owned(),
            format!("{id}.{later}.{signature}"),
            format!("b.{end}.{signature}"),
            format!("{id}.{end}."),
            format!("{id}.{end}.{}", "0".repeat(32)),
            format!("{id}.{end}.{}", signature.to_uppercase()),
            format!("{kept}; kept={kept}"),
        ] {
            assert_eq!(visit(0, "v1", Some(&forged), 0).0, "standard", "{forged}");
        }
    }

    #[test]
    fn a_share_is_a_share_and_grows() {
        let in_share = |percent: &str| {
            let config = format!(
                r#"{{"default": "out", "tenant": {{"vouched": true}}, "selfAssignable": ["in"], "rules": [
                    {{"type": "in", "when": [{{"percent": {{"salt": "checkout", "header": "x-user", {percent}}}}}]}}]}}"#
            );
            let filter = UserClassifier::configure(
                config.as_bytes(),
                "user-classifier",
                &mut MemoryHost::new(),
            )
            .unwrap();
            let mut host = MemoryHost::new();
            (0..100_000)
                .map(|user| {
                    host.begin(&[("x-user", format!("user-{user}"))]);
                    run(&filter, &mut host);
                    user_types(&host) == ["in"]
                })
                .collect::<Vec<bool>>()
        };
        let shares = [
            ("\"share\": 0", 0.0_f64),
            ("\"share\": 1, \"outOf\": 1000", 0.001),
            ("\"share\": 10", 0.1),
            ("\"share\": 125, \"outOf\": 1000", 0.125),
            ("\"share\": 50", 0.5),
            ("\"share\": 100", 1.0),
        ];
        let mut before = vec![false; 100_000];
        for (percent, share) in shares {
            let now = in_share(percent);
            let count = now.iter().filter(|is_in| **is_in).count() as f64;
            // Five standard deviations of a binomial distribution.
            let bound = 5.0 * (100_000.0 * share * (1.0 - share)).sqrt();
            assert!(
                (count - 100_000.0 * share).abs() <= bound,
                "{percent}: {count}"
            );
            assert!(
                before.iter().zip(&now).all(|(before, now)| *now || !before),
                "{percent}"
            );
            before = now;
        }
    }

    const TOLD: &str = r#"{
        "default": "standard",
        "tenant": {"vouched": true},
        "selfAssignable": ["beta"],
        "stickyKeys": [{"id": "a", "secret": "0123456789abcdef0123456789abcdef"}],
        "explain": {"when": [{"claim": {"name": "groups", "contains": {"exact": "platform"}}}]},
        "rules": [
            {"type": "internal", "when": [{"peer": {"prefix": "spiffe://cluster.local/ns/jobs/"}}]},
            {"type": "vip", "when": {"any": [{"claim": {"name": "plan", "exact": "vip"}},
                                             {"claim": {"name": ["account", "years"], "number": {"atLeast": 10}}}]}},
            {"type": "premium", "when": [{"tier": {"exact": "premium"}}]},
            {"type": "beta", "when": [{"percent": {"share": 0, "salt": "s", "cookie": "visitor"}}, {"header": {"name": "x-secret", "present": true}}],
             "sticky": {"cookie": "kept", "for": "30d"}}
        ]
    }"#;

    /// What arrives of the header that asks, and what the client is answered there.
    fn asked_of(
        filter: &UserClassifier,
        host: &mut MemoryHost,
    ) -> (usize, Vec<Vec<u8>>, Vec<String>) {
        let mut stream = filter.stream();
        let mut request = Request::read(host).unwrap();
        let action = stream.on_request_headers(&mut request, host);
        assert_eq!(action, Action::Continue);
        let ours = |name: &&[u8]| tollgate_host::same_name(name, b"x-explain-user-type");
        let arrived = host
            .request
            .iter()
            .map(|(name, _)| name)
            .filter(ours)
            .count();
        let types = user_types(host);
        host.begin_response(
            200,
            &[
                ("x-explain-user-type", "of a service"),
                ("x-explain-user-type", "twice"),
            ],
        );
        stream.on_response_headers(host);
        let answers = host.response.all("x-explain-user-type");
        (arrived, answers.map(<[u8]>::to_vec).collect(), types)
    }

    fn asked(headers: &[(&str, &[u8])], claims: Option<serde_json::Value>) -> Vec<String> {
        let filter =
            UserClassifier::configure(TOLD.as_bytes(), "user-classifier", &mut MemoryHost::new())
                .unwrap();
        let mut host = MemoryHost::new();
        host.begin(headers);
        if let Some(claims) = claims {
            host.set_claims(claims);
        }
        let (arrived, answers, _) = asked_of(&filter, &mut host);
        assert_eq!(arrived, 0, "{headers:?}");
        let text = |answer: Vec<u8>| String::from_utf8(answer).unwrap();
        answers.into_iter().map(text).collect()
    }

    #[test]
    fn who_may_ask_is_told_which_rule_decided_and_why() {
        let of_platform = |mut claims: serde_json::Value| {
            claims["groups"] = serde_json::json!(["platform"]);
            Some(claims)
        };
        let ask = ("x-explain-user-type", &b"1"[..]);
        assert_eq!(
            asked(
                &[ask],
                of_platform(serde_json::json!({"account": {"years": 12}}))
            ),
            [
                "vip (rules[1] holds) | rules[1] vip: + any (- claim plan is \"vip\": nothing; + claim account > years is a number of at least 10: \
              a number) | rules[0] internal: - peer begins with \"spiffe://cluster.local/ns/jobs/\": nothing"
            ]
        );
        assert_eq!(
            asked(
                &[
                    ask,
                    ("cookie", b"visitor=v1; kept=a.1.0"),
                    ("x-secret", b"hush"),
                    ("x-tenant-tier", b"free")
                ],
                of_platform(serde_json::json!({"plan": "gold"}))
            ),
            [
                "standard (no rule holds) | rules[3] beta: - all (- cookie visitor is among the first 0 of 100 by the salt \"s\": a text, at 38.91 %; + \
              header x-secret is there: a text) | rules[2] premium: - tier is \"premium\": \"free\" | rules[1] vip: - any (- claim plan is \"vip\": a \
              text; - claim account > years is a number of at least 10: nothing) | rules[0] internal: - peer begins with \
              \"spiffe://cluster.local/ns/jobs/\": nothing"
            ]
        );
        // Whatever stands in the header, in whatever number.
        let twice = [
            ask,
            ("x-explain-user-type", b"\xff"),
            ("X_Explain_User_Type", b""),
        ];
        assert_eq!(asked(&twice, of_platform(serde_json::json!({}))).len(), 1);
    }

    #[test]
    fn nobody_else_is_told_anything_or_that_there_is_anything_to_tell() {
        let ask = ("x-explain-user-type", &b"1"[..]);
        let platform = serde_json::json!({"groups": ["platform"]});
        for (headers, claims) in [
            (&[ask][..], None),
            (&[ask, ("groups", b"platform")], None),
            (&[ask], Some(serde_json::json!({"groups": "platform"}))),
            (&[ask], Some(serde_json::json!({"groups": ["dev"]}))),
            (&[ask], Some(serde_json::json!({"groups": null}))),
            // In another spelling nobody asks, and it is taken away all the same.
            (&[("x_explain_user_type", b"1")], Some(platform.clone())),
            (&[], Some(platform)),
        ] {
            assert_eq!(
                asked(headers, claims.clone()),
                [""; 0],
                "{headers:?} {claims:?}"
            );
        }
    }

    #[test]
    fn without_explain_nobody_behind_hears_that_a_client_asks() {
        let asks = [
            ("x-explain-user-type", "1"),
            ("X_Explain_User_Type", "1"),
            ("x-explain-user-type", ""),
            ("grpc-status", "0"),
        ];
        let left = |map: &tollgate_host::HeaderMap| {
            let names = map.iter().map(|(name, _)| name.to_vec());
            let ours = names.filter(|name| !name.starts_with(b":"));
            ours.collect::<Vec<_>>()
        };
        for filter in [shop(), sidecar()] {
            let mut host = MemoryHost::new();
            host.begin(&asks);
            // Also where whoever passes it on is trusted with all else.
            host.set_attribute(&["connection", "mtls"], &[1]);
            host.set_attribute(&["connection", "uri_san_peer_certificate"], GATEWAY);
            let mut stream = filter.stream();
            let mut request = Request::read(&host).unwrap();
            let action = stream.on_request_headers(&mut request, &mut host);
            assert_eq!(action, Action::Continue);
            let mut of_headers = left(&host.request);
            of_headers.retain(|name| name != b"user-type");
            assert_eq!(of_headers, [b"grpc-status".to_vec()]);
            host.begin_trailers(&asks);
            let mut trailers = Trailers::read(&host).unwrap();
            let action = stream.on_request_trailers(&mut trailers, &mut host);
            assert_eq!(action, Action::Continue);
            assert_eq!(left(&host.trailers), [b"grpc-status".to_vec()]);
        }
    }

    #[test]
    fn a_sidecar_tells_whom_it_knows_also_why_a_type_was_kept() {
        let config = br#"{"trust": {"peers": [{"exact": "spiffe://cluster.local/ns/istio-system/sa/istio-ingressgateway"}]},
            "explain": {"header": "X-Why", "when": {"peer": {"prefix": "spiffe://cluster.local/ns/istio-system/sa/"}}},
            "rules": [{"type": "internal", "when": {"peer": {"prefix": "spiffe://cluster.local/ns/jobs/"}}}]}"#;
        let filter =
            UserClassifier::configure(config, "user-classifier", &mut MemoryHost::new()).unwrap();
        for (peer, said, expected) in [
            (
                GATEWAY,
                Some("vip"),
                Some("vip (kept, because whoever is connected is trusted)"),
            ),
            (
                GATEWAY,
                None,
                Some(
                    "none (no rule holds) | rules[0] internal: - peer begins with \"spiffe://cluster.local/ns/jobs/\": \
                     \"spiffe://cluster.local/ns/istio-system/sa/istio-ingressgateway\"",
                ),
            ),
            (b"spiffe://cluster.local/ns/jobs/sa/a", Some("vip"), None),
        ] {
            let mut host = MemoryHost::new();
            let mut headers = vec![("x-why", "1")];
            headers.extend(said.map(|said| ("user-type", said)));
            host.begin(&headers);
            host.set_attribute(&["connection", "mtls"], &[1]);
            host.set_attribute(&["connection", "uri_san_peer_certificate"], peer);
            let mut stream = filter.stream();
            let mut request = Request::read(&host).unwrap();
            stream.on_request_headers(&mut request, &mut host);
            assert_eq!(host.request.first("x-why"), None);
            host.begin_response::<&str, &str>(200, &[]);
            stream.on_response_headers(&mut host);
            assert_eq!(host.response.first("x-why"), expected.map(str::as_bytes));
            host.begin_trailers(&[("x-why", "1"), ("X_Why", "1")]);
            let mut trailers = Trailers::read(&host).unwrap();
            stream.on_request_trailers(&mut trailers, &mut host);
            assert!(host.trailers.is_empty());
        }
    }

    #[test]
    fn who_does_not_ask_costs_one_call_in_the_response_and_without_explain_none() {
        for (config, response) in [
            (TOLD, BTreeMap::from([(Call::RemoveHeader, 1)])),
            (r#"{"default": "standard"}"#, BTreeMap::new()),
        ] {
            let filter = UserClassifier::configure(
                config.as_bytes(),
                "user-classifier",
                &mut MemoryHost::new(),
            )
            .unwrap();
            let mut host = MemoryHost::new();
            host.begin(&[("user-type", "standard")]);
            let mut stream = filter.stream();
            let mut request = Request::read(&host).unwrap();
            stream.on_request_headers(&mut request, &mut host);
            let of_rules = match filter.reads_claims() {
                // The peer, and the claims of the rules; not a second time for who may ask.
                true => BTreeMap::from([(Call::Headers, 1), (Call::Property, 2)]),
                false => BTreeMap::from([(Call::Headers, 1)]),
            };
            assert_eq!(host.all_calls(), of_rules);
            host.begin_response::<&str, &str>(200, &[]);
            host.reset_calls();
            stream.on_response_headers(&mut host);
            assert_eq!(host.all_calls(), response);
        }
        // Nor does a claim that only says who may ask.
        let config = br#"{"default": "standard", "tenant": {"vouched": true}, "explain": {"when": {"claim": {"name": "sub", "exact": "alice"}}}}"#;
        let filter =
            UserClassifier::configure(config, "user-classifier", &mut MemoryHost::new()).unwrap();
        assert!(!filter.reads_claims());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(500))]

        #[test]
        fn an_explanation_is_a_header_whatever_it_is_about(
            value in vec(any::<u8>(), 0..300),
            exact in "\\PC{0,60}|[\\x00-\\x1f]{1,9}",
            rules in 1_usize..200,
        ) {
            // Rules with any texts, more than there is room for, and a request with any bytes.
            let rules: Vec<_> = (0..rules)
                .map(|rule| serde_json::json!({"type": "t", "when": [
                    {"claim": {"name": format!("c{}", rule % 7), "exact": format!("{exact}{rule}")}},
                    {"tier": {"exact": format!("tier-{rule}")}},
                ]}))
                .collect();
            let config = serde_json::json!({
                "default": "standard",
                "tenant": {"vouched": true},
                "explain": {"when": {"source": "10.0.0.0/8"}},
                "rules": rules,
            });
            let filter = UserClassifier::configure(
                config.to_string().as_bytes(), "user-classifier", &mut MemoryHost::new(),
            ).unwrap();
            let mut host = MemoryHost::new();
            host.begin(&[("x-explain-user-type", &b"1"[..]), ("x-tenant-tier", &value)]);
            host.set_attribute(&["source", "address"], b"10.1.1.1:80");
            host.set_claims(serde_json::json!({"c0": String::from_utf8_lossy(&value), "c1": "\r\nset-cookie: a=b"}));
            let (_, answers, _) = asked_of(&filter, &mut host);
            prop_assert_eq!(answers.len(), 1);
            prop_assert!(answers[0].len() <= explain::LONGEST_LINE, "{}", answers[0].len());
            prop_assert!(answers[0].iter().all(|byte| (b' '..=b'~').contains(byte)));
            let text = String::from_utf8(answers[0].clone()).unwrap();
            let told = text.matches(" | rules[").count();
            let all = match text.split_once(" rules before these do not hold") {
                Some((before, _)) => told + before.rsplit(' ').next().unwrap().parse::<usize>().unwrap(),
                None => told,
            };
            prop_assert_eq!(all, rules.len());
        }
    }

    #[test]
    fn host_calls_are_the_fewest_possible() {
        let filter = shop();
        let mut host = MemoryHost::new();
        host.begin(&[("x-user-id", "alice")]);
        run(&filter, &mut host);
        assert_eq!(
            host.all_calls(),
            BTreeMap::from([(Call::Headers, 1), (Call::SetHeader, 1)])
        );
        // Right already: nothing is written, so the route that was chosen stays.
        host.begin(&[("user-type", "standard")]);
        run(&filter, &mut host);
        assert_eq!(host.all_calls(), BTreeMap::from([(Call::Headers, 1)]));
        host.begin(&[("user-type", "standard"), ("user-type", "standard")]);
        run(&filter, &mut host);
        assert_eq!(
            host.all_calls(),
            BTreeMap::from([(Call::Headers, 1), (Call::SetHeader, 1)])
        );
        assert_eq!(user_types(&host), ["standard"]);
    }

    #[test]
    fn a_request_that_cant_be_cleaned_of_the_clients_word_goes_no_further() {
        for call in [Call::Headers, Call::SetHeader, Call::RemoveHeader] {
            let mut host = MemoryHost::new();
            host.begin(&[("user-type", "vip"), ("user_type", "vip")]);
            host.fail(call, HostError::Status(2));
            assert_eq!(run(&shop(), &mut host), Action::Stop);
            assert_eq!(host.answer().unwrap().status, 500);
        }
    }

    #[test]
    fn a_bad_configuration_is_refused_with_its_reason() {
        let refused = UserClassifier::configure(b"{}", "user-classifier", &mut MemoryHost::new());
        assert_eq!(refused.unwrap_err(), r#"missing field "default""#);
    }

    /// `user-type` in any case, with hyphen or underscore.
    fn spelling() -> impl Strategy<Value = Vec<u8>> {
        (vec(any::<bool>(), 9), any::<bool>()).prop_map(|(upper, underscore)| {
            let base = if underscore { "user_type" } else { "user-type" };
            base.bytes()
                .zip(upper)
                .map(|(b, up)| if up { b.to_ascii_uppercase() } else { b })
                .collect()
        })
    }

    fn client_header() -> impl Strategy<Value = (Vec<u8>, Vec<u8>)> {
        let name = prop_oneof![
            4 => spelling(),
            2 => select(vec!["x-user-id", "x-tenant-tier"]).prop_map(|name| name.as_bytes().to_vec()),
            1 => vec(any::<u8>(), 0..12),
        ];
        let value = prop_oneof![
            select(vec!["vip", "premium", "standard", "alice", ""])
                .prop_map(|value| value.as_bytes().to_vec()),
            vec(any::<u8>(), 0..12),
        ];
        (name, value)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]

        #[test]
        fn no_spelling_of_the_header_survives(headers in vec(client_header(), 0..10)) {
            let mut host = MemoryHost::new();
            host.begin(&headers);
            let single = |name: &[u8]| match headers.iter().filter(|(n, _)| n == name).collect::<Vec<_>>()[..] {
                [(_, value)] => Some(value.clone()),
                _ => None,
            };
            let expected = match (single(b"x-user-id").as_deref(), single(b"x-tenant-tier").as_deref()) {
                (Some(b"alice"), _) => "vip",
                (_, Some(b"premium")) => "premium",
                _ => "standard",
            };
            prop_assert_eq!(run(&shop(), &mut host), Action::Continue);
            prop_assert_eq!(user_types(&host), [expected]);
        }

        #[test]
        fn no_configuration_makes_it_panic(configuration in vec(any::<u8>(), 0..64)) {
            let _ = UserClassifier::configure(&configuration, "user-classifier", &mut MemoryHost::new());
        }
    }
}
