//! The filter: reads the request, asks the classifier, writes the header.

use std::rc::Rc;

use tollgate_host::filter::give_up;
use tollgate_host::{Action, Host, Plugin, Request, Stream, Trailers};

use crate::config::Compiled;

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
}

/// The classification of one request.
#[derive(Debug)]
pub struct Classification {
    compiled: Rc<Compiled>,
}

impl Stream for Classification {
    fn on_request_headers(&mut self, request: &mut Request, host: &mut dyn Host) -> Action {
        let Compiled { header, classifier } = &*self.compiled;
        let decision = classifier.decide(request.headers().iter());
        log::debug!(
            "{header}: {} by rule {:?}",
            decision.user_type,
            decision.rule
        );
        match request.own(header, decision.user_type.as_bytes(), host) {
            Ok(()) => Action::Continue,
            Err(error) => {
                // A client's own copy may still be there, so nobody behind this filter may see the request.
                log::debug!("{header} can't be written: {error:?}");
                give_up(host)
            }
        }
    }

    fn on_request_trailers(&mut self, trailers: &mut Trailers, host: &mut dyn Host) -> Action {
        match trailers.strip(&self.compiled.header, host) {
            Ok(()) => Action::Continue,
            Err(error) => {
                log::debug!(
                    "{} can't be stripped from trailers: {error:?}",
                    self.compiled.header
                );
                give_up(host)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::*;
    use proptest::sample::select;
    use std::collections::BTreeMap;
    use tollgate_host::HostError;
    use tollgate_host::memory::{Call, MemoryHost};

    const SHOP: &[u8] = br#"{
        "default": "standard",
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
    fn what_a_client_says_in_trailers_is_taken_away() {
        let filter = shop();
        let mut host = MemoryHost::new();
        let mut stream = filter.stream();
        host.begin_trailers(&[
            ("user-type", "vip"),
            ("User_Type", "vip"),
            ("user-type", "vip"),
            ("grpc-status", "0"),
        ]);
        let mut trailers = Trailers::read(&host).unwrap();
        assert_eq!(
            stream.on_request_trailers(&mut trailers, &mut host),
            Action::Continue
        );
        let left: Vec<_> = host.trailers.iter().map(|(name, _)| name).collect();
        assert_eq!(left, [b"grpc-status"]);

        host.begin_trailers(&[("user_type", "vip")]);
        host.fail(Call::RemoveHeader, HostError::Status(2));
        let mut trailers = Trailers::read(&host).unwrap();
        assert_eq!(
            stream.on_request_trailers(&mut trailers, &mut host),
            Action::Stop
        );
        assert_eq!(host.answer().map(|answer| answer.status), Some(500));
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
