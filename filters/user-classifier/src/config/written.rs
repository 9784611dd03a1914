//! The configuration as it is written: its fields, and what they are to their readers.

use std::fmt;

use serde::Deserialize;
use serde::de::{self, Deserializer, MapAccess, SeqAccess, Visitor};
use tollgate_common::config::optional_whole_number;
use tollgate_common::header::USER_TYPE;
use tollgate_common::{Duration, OneOrMany, StringMatch, UniqueMap, mapping};

#[cfg(feature = "schema")]
use super::{MAX_CONDITIONS, MAX_KEYS, MAX_LENGTH, MAX_OUTPUTS, MAX_RULES, MAX_VALUES};

/// The configuration of a user-classifier.
#[derive(Debug, Deserialize)]
#[cfg_attr(
    feature = "schema",
    derive(schemars::JsonSchema),
    schemars(rename = "UserClassifier", title = "user-classifier", transform = schema::config)
)]
#[serde(rename_all = "camelCase", deny_unknown_fields, remote = "Self")]
pub struct Config {
    /// The header that carries the type, in any case. What clients send in it is taken away. Not `x-tenant-id` or `x-tenant-tier`,
    /// which are another filter's.
    #[serde(default = "default_header")]
    #[cfg_attr(
        feature = "schema",
        schemars(with = "tollgate_common::schema::HeaderName")
    )]
    pub header: String,
    /// The type of everybody for whom no rule holds: 1 to 64 of `a-z`, `0-9`, `_` and `-`, not starting with `-`. May be left out with `trust`: then there
    /// is no header where no rule holds.
    #[cfg_attr(
        feature = "schema",
        schemars(with = "Option<tollgate_common::schema::Name>")
    )]
    pub default: Option<String>,
    /// The types that a rule may give for what a client can write as it likes. Each once.
    #[serde(default)]
    #[cfg_attr(feature = "schema", schemars(with = "Vec<tollgate_common::schema::Name>", extend("uniqueItems" = true)))]
    pub self_assignable: Vec<String>,
    /// The keys that cookies are signed with, at most 8; the first signs, all are known. A rule with `sticky` needs one.
    #[serde(default)]
    #[cfg_attr(feature = "schema", schemars(length(max = MAX_KEYS), extend("default" = [])))]
    pub sticky_keys: Vec<KeyConfig>,
    /// Whose word counts: for sidecars. Without it every copy of the header is taken away, as a gateway must.
    pub trust: Option<TrustConfig>,
    /// Who says which tenant a request is of. Without it nobody does, and every copy of `x-tenant-id` and `x-tenant-tier` is taken away. Not beside `trust`, which
    /// says whose word counts.
    pub tenant: Option<TenantConfig>,
    /// Whom the proxy tells, in a header of the response, which rule decided and why. Without it, nobody.
    pub explain: Option<ExplainConfig>,
    /// The rules, at most 10,000; the first that holds decides.
    #[serde(default)]
    #[cfg_attr(feature = "schema", schemars(length(max = MAX_RULES), extend("default" = [])))]
    pub rules: Vec<RuleConfig>,
}

/// A key that cookies are signed with.
#[derive(Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(rename = "StickyKey", transform = schema::key))]
#[serde(rename_all = "camelCase", deny_unknown_fields, remote = "Self")]
pub struct KeyConfig {
    /// Its name, which cookies carry.
    #[cfg_attr(feature = "schema", schemars(with = "tollgate_common::schema::Name"))]
    pub id: String,
    /// The secret, 32 to 256 bytes, as it is written. Exactly one of `secret` and `env`.
    #[cfg_attr(feature = "schema", schemars(length(min = 32, max = MAX_LENGTH)))]
    pub secret: Option<String>,
    /// The variable of the module's environment (the plugin's `vmConfig.env`) that has the secret, so that it is in no manifest.
    #[cfg_attr(feature = "schema", schemars(length(min = 1, max = MAX_LENGTH)))]
    pub env: Option<String>,
}

impl fmt::Debug for KeyConfig {
    // A secret is in no log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyConfig({:?})", self.id)
    }
}

/// Whose word counts.
#[derive(Debug, Deserialize)]
#[cfg_attr(
    feature = "schema",
    derive(schemars::JsonSchema),
    schemars(rename = "Trust")
)]
#[serde(rename_all = "camelCase", deny_unknown_fields, remote = "Self")]
pub struct TrustConfig {
    /// The SPIFFE identities (`spiffe://…`) of those who may say what a request is, 1 to 256 conditions on them: the gateway, and the services that pass on
    /// what it said. The type, `x-tenant-id` and `x-tenant-tier` are kept as they come from these, and taken away as they come from anybody else.
    #[cfg_attr(feature = "schema", schemars(length(min = 1, max = tollgate_common::MAX_PEERS)))]
    pub peers: Vec<StringMatch>,
    /// Further headers that are kept and taken away likewise, at most 16 with those that rules here set, which need not be listed: what rules of the gateway set
    /// (`x-pool`).
    #[serde(default)]
    #[cfg_attr(feature = "schema", schemars(with = "Vec<tollgate_common::schema::HeaderName>", length(max = MAX_OUTPUTS), extend("default" = [], "uniqueItems" = true)))]
    pub headers: Vec<String>,
}

/// Who says which tenant a request is of.
#[derive(Debug, Deserialize)]
#[cfg_attr(
    feature = "schema",
    derive(schemars::JsonSchema),
    schemars(rename = "Tenant")
)]
#[serde(rename_all = "camelCase", deny_unknown_fields, remote = "Self")]
pub struct TenantConfig {
    /// Something in front writes `x-tenant-id` and `x-tenant-tier` or takes them away, whatever a client sends: tenant-rate-limit, or at a sidecar a
    /// classifier with `trust`. They are left as they are, and rules may ask for them. In a bundle with a limiter that is so without being written. `false` takes them away, whatever is in front.
    pub vouched: bool,
}

/// Whom the proxy tells which rule decided and why.
#[derive(Debug, Deserialize)]
#[cfg_attr(
    feature = "schema",
    derive(schemars::JsonSchema),
    schemars(rename = "Explain")
)]
#[serde(rename_all = "camelCase", deny_unknown_fields, remote = "Self")]
pub struct ExplainConfig {
    /// The header that asks, with any value, and that answers. It is taken away from every request, and from every response that it is no answer in.
    #[serde(default = "explain_header")]
    #[cfg_attr(
        feature = "schema",
        schemars(with = "tollgate_common::schema::HeaderName")
    )]
    pub header: String,
    /// Who may ask: a condition, or a list of conditions all of which must hold. It must rest on a claim, a peer or a source.
    pub when: When,
}

/// A rule.
#[derive(Debug, Deserialize)]
#[cfg_attr(
    feature = "schema",
    derive(schemars::JsonSchema),
    schemars(rename = "Rule")
)]
#[serde(rename_all = "camelCase", deny_unknown_fields, remote = "Self")]
pub struct RuleConfig {
    /// The type that the rule gives. Several rules may give the same.
    #[serde(rename = "type")]
    #[cfg_attr(feature = "schema", schemars(with = "tollgate_common::schema::Name"))]
    pub user_type: String,
    /// A condition, or a list of conditions all of which must hold; with those in them at most 64. It must rest on something verified, unless
    /// `selfAssignable` has the rule's type.
    pub when: When,
    /// What else is said of a request for which the rule holds.
    pub set: Option<OutputsConfig>,
    /// A signed cookie keeps in whom the rule's `percent` has, also when the share is lowered.
    pub sticky: Option<StickyConfig>,
}

/// What is said beside the type, by name, at most 16 of each kind.
#[derive(Debug, Deserialize)]
#[cfg_attr(
    feature = "schema",
    derive(schemars::JsonSchema),
    schemars(rename = "Outputs", extend("minProperties" = 1))
)]
#[serde(rename_all = "camelCase", deny_unknown_fields, remote = "Self")]
pub struct OutputsConfig {
    /// Headers of the request. What clients send in them is taken away from every request, as it is of the type's header.
    #[serde(default)]
    #[cfg_attr(feature = "schema", schemars(extend("default" = {})))]
    pub request_headers: UniqueMap<String>,
    /// Headers of the response.
    #[serde(default)]
    #[cfg_attr(feature = "schema", schemars(extend("default" = {})))]
    pub response_headers: UniqueMap<String>,
    /// For access logs and other filters: `experiment` is `%FILTER_STATE(wasm.tollgate.experiment:PLAIN)%`.
    #[serde(default)]
    #[cfg_attr(feature = "schema", schemars(extend("default" = {})))]
    pub filter_state: UniqueMap<String>,
}

/// A cookie of a rule with one `percent`.
#[derive(Debug, Deserialize)]
#[cfg_attr(
    feature = "schema",
    derive(schemars::JsonSchema),
    schemars(rename = "Sticky")
)]
#[serde(rename_all = "camelCase", deny_unknown_fields, remote = "Self")]
pub struct StickyConfig {
    /// Its name.
    #[cfg_attr(feature = "schema", schemars(length(min = 1, max = MAX_LENGTH)))]
    pub cookie: String,
    /// How long it lasts: whole seconds, at least a minute. It is made anew when half of that is over.
    #[serde(rename = "for")]
    pub lifetime: Duration,
    /// Whether browsers send it over HTTPS alone.
    #[serde(default = "yes")]
    pub secure: bool,
}

fn yes() -> bool {
    true
}

/// A condition, or a list of them.
#[derive(Debug)]
pub enum When {
    /// As in `when: {any: […]}`.
    One(Box<ConditionConfig>),
    /// All of these.
    All(Vec<ConditionConfig>),
}

impl<'de> Deserialize<'de> for When {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Conditions;

        impl<'de> Visitor<'de> for Conditions {
            type Value = When;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a condition or a list of conditions")
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<When, A::Error> {
                let map = de::value::MapAccessDeserializer::new(map);
                <ConditionConfig as Deserialize>::deserialize(map)
                    .map(|condition| When::One(Box::new(condition)))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<When, A::Error> {
                Vec::deserialize(de::value::SeqAccessDeserializer::new(list)).map(When::All)
            }
        }

        deserializer.deserialize_any(Conditions)
    }
}

#[cfg(feature = "schema")]
impl schemars::JsonSchema for When {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        "When".into()
    }

    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        let mut one = generator.subschema_for::<ConditionConfig>();
        tollgate_common::schema::named(&mut one, "condition");
        schemars::json_schema!({
            "anyOf": [
                one,
                {
                    "type": "array",
                    "items": generator.subschema_for::<ConditionConfig>(),
                    "minItems": 1,
                    "maxItems": MAX_CONDITIONS,
                },
            ],
        })
    }
}

/// A condition: exactly one of these. What a request says twice, or so that services may read it in two ways, makes neither a condition hold nor its `not`.
#[derive(Debug, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(rename = "Condition", transform = schema::condition))]
#[serde(rename_all = "camelCase", deny_unknown_fields, remote = "Self")]
pub struct ConditionConfig {
    /// All of these hold.
    #[cfg_attr(feature = "schema", schemars(length(min = 1, max = MAX_CONDITIONS)))]
    pub all: Option<Vec<ConditionConfig>>,
    /// At least one of these holds.
    #[cfg_attr(feature = "schema", schemars(length(min = 1, max = MAX_CONDITIONS)))]
    pub any: Option<Vec<ConditionConfig>>,
    /// This does not hold.
    pub not: Option<Box<ConditionConfig>>,
    /// On a claim of the token that Istio verified.
    pub claim: Option<ClaimMatch>,
    /// On the tenant's id, as the tenant-rate-limit filter in front found it.
    pub tenant: Option<ValueMatch>,
    /// On the tenant's tier, likewise.
    pub tier: Option<ValueMatch>,
    /// On the SPIFFE identity of whoever is connected (`spiffe://cluster.local/ns/NAMESPACE/sa/ACCOUNT`): the certificate that mutual TLS verified.
    pub peer: Option<ValueMatch>,
    /// On the client's address: a network (`10.0.0.0/8`) or a list of at most 256. Of a client behind proxies it is the one that the mesh's
    /// `numTrustedProxies` says.
    #[cfg_attr(feature = "schema", schemars(with = "Option<OneOrMany<String>>"))]
    #[serde(default)]
    pub source: OneOrMany<String>,
    /// On a header of the request.
    pub header: Option<NamedMatch>,
    /// On a cookie.
    pub cookie: Option<NamedMatch>,
    /// On a parameter of the query, decoded.
    pub query: Option<NamedMatch>,
    /// On the `user-agent` header.
    pub user_agent: Option<ValueMatch>,
    /// On the host that the request is for, in lower case and without its port.
    pub host: Option<ValueMatch>,
    /// On the path without its query.
    pub path: Option<ValueMatch>,
    /// On the method, in upper case.
    pub method: Option<ValueMatch>,
    /// On the time.
    pub time: Option<TimeConfig>,
    /// On a share of all users, tenants or visitors.
    pub percent: Option<PercentConfig>,
}

macro_rules! matches {
    ($(
        $(#[$attribute:meta])*
        $name:ident { $($extra:tt)* }
    )+) => {$(
        #[derive(Debug, Deserialize)]
        #[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
        $(#[$attribute])*
        #[serde(rename_all = "camelCase", deny_unknown_fields, remote = "Self")]
        pub struct $name {
            $($extra)*
            /// The whole value.
            #[cfg_attr(feature = "schema", schemars(length(max = MAX_LENGTH)))]
            pub exact: Option<String>,
            /// What the value begins with.
            #[cfg_attr(feature = "schema", schemars(length(min = 1, max = MAX_LENGTH)))]
            pub prefix: Option<String>,
            /// What the value ends with.
            #[cfg_attr(feature = "schema", schemars(length(min = 1, max = MAX_LENGTH)))]
            pub suffix: Option<String>,
            /// A regular expression (of the Rust crate `regex-lite`) for the whole value. It is not tried on more than 1,024 bytes, nor on what is not UTF-8.
            #[cfg_attr(feature = "schema", schemars(length(min = 1, max = MAX_LENGTH)))]
            pub regex: Option<String>,
            /// The values, one of which it must be; found in constant time. At most 50,000, each once.
            #[serde(rename = "in")]
            #[cfg_attr(feature = "schema", schemars(length(min = 1, max = MAX_VALUES), extend("uniqueItems" = true)))]
            pub one_of: Option<Vec<String>>,
            /// The hashes of values, one of which it must be.
            pub hashes: Option<HashesConfig>,
            /// A number in a range: digits, perhaps with `-` before them and a fraction behind. Of a claim a JSON number, and never a string of digits.
            pub number: Option<NumberConfig>,
            /// `true`: any value, also an empty one.
            #[cfg_attr(feature = "schema", schemars(extend("const" = true)))]
            pub present: Option<bool>,
        }
    )+};
}

matches! {
    /// What a value must be: exactly one of these.
    #[cfg_attr(feature = "schema", schemars(transform = schema::value_match))]
    ValueMatch {}

    /// A name, and what the value must be.
    #[cfg_attr(feature = "schema", schemars(transform = schema::named_match))]
    NamedMatch {
        /// Its name; a header's in any case. Not a header that a filter writes.
        #[cfg_attr(feature = "schema", schemars(length(min = 1, max = MAX_LENGTH)))]
        pub name: String,
    }

    /// The name of a claim, and what it must be.
    #[cfg_attr(feature = "schema", schemars(transform = schema::claim_match))]
    ClaimMatch {
        /// Its name, or for a claim within others the list of their names, outermost first.
        pub name: OneOrMany<String>,
        /// It is this JSON boolean.
        pub boolean: Option<bool>,
        /// It is an array, and one of its elements is a string that this match holds for.
        pub contains: Option<ValueMatch>,
    }
}

// Not `#[serde(flatten)]`: it can't be combined with refusing unknown fields.
macro_rules! value_beside {
    ($($name:ident),+) => {$(
        impl $name {
            /// What the value must be: taken out, beside what else this says.
            pub fn value(&mut self) -> ValueMatch {
                ValueMatch {
                    exact: self.exact.take(),
                    prefix: self.prefix.take(),
                    suffix: self.suffix.take(),
                    regex: self.regex.take(),
                    one_of: self.one_of.take(),
                    hashes: self.hashes.take(),
                    number: self.number.take(),
                    present: self.present.take(),
                }
            }
        }
    )+};
}

value_beside!(NamedMatch, ClaimMatch);

/// Hashed values.
#[derive(Debug, Deserialize)]
#[cfg_attr(
    feature = "schema",
    derive(schemars::JsonSchema),
    schemars(rename = "Hashes")
)]
#[serde(rename_all = "camelCase", deny_unknown_fields, remote = "Self")]
pub struct HashesConfig {
    /// What was hashed with each value: 1 to 64 bytes.
    #[cfg_attr(feature = "schema", schemars(length(min = 1, max = 64)))]
    pub salt: String,
    /// The hashes, as `tollgate hash-ids` prints them: 24 hexadecimal digits. At most 50,000, each once.
    #[serde(rename = "in")]
    #[cfg_attr(feature = "schema", schemars(length(min = 1, max = MAX_VALUES), extend("uniqueItems" = true)))]
    pub one_of: Vec<String>,
}

/// A range of numbers. Bounds are whole numbers, values need not be.
#[derive(Debug, Default, Deserialize)]
#[cfg_attr(
    feature = "schema",
    derive(schemars::JsonSchema),
    schemars(rename = "Number", extend("minProperties" = 1))
)]
#[serde(rename_all = "camelCase", deny_unknown_fields, remote = "Self")]
pub struct NumberConfig {
    /// It is this number.
    #[serde(default, deserialize_with = "whole")]
    pub equals: Option<i64>,
    /// It is this number or greater.
    #[serde(default, deserialize_with = "whole")]
    pub at_least: Option<i64>,
    /// It is this number or smaller.
    #[serde(default, deserialize_with = "whole")]
    pub at_most: Option<i64>,
    /// It is greater than this number.
    #[serde(default, deserialize_with = "whole")]
    pub above: Option<i64>,
    /// It is smaller than this number.
    #[serde(default, deserialize_with = "whole")]
    pub below: Option<i64>,
}

/// A whole number.
fn whole<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<i64>, D::Error> {
    struct Whole;

    impl Visitor<'_> for Whole {
        type Value = i64;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a whole number, e.g. 100")
        }

        fn visit_u64<E: de::Error>(self, value: u64) -> Result<i64, E> {
            i64::try_from(value)
                .map_err(|_| E::invalid_value(de::Unexpected::Unsigned(value), &self))
        }

        fn visit_i64<E: de::Error>(self, value: i64) -> Result<i64, E> {
            Ok(value)
        }
    }

    deserializer.deserialize_any(Whole).map(Some)
}

/// A window of time, in UTC. Every part that is given must hold.
#[derive(Debug, Deserialize)]
#[cfg_attr(
    feature = "schema",
    derive(schemars::JsonSchema),
    schemars(rename = "Time", extend("minProperties" = 1))
)]
#[serde(rename_all = "camelCase", deny_unknown_fields, remote = "Self")]
pub struct TimeConfig {
    /// From this moment on: `2026-11-27T00:00:00Z`.
    #[cfg_attr(feature = "schema", schemars(extend("pattern" = schema::MOMENT)))]
    pub from: Option<String>,
    /// Before this moment, likewise.
    #[cfg_attr(feature = "schema", schemars(extend("pattern" = schema::MOMENT)))]
    pub until: Option<String>,
    /// On these days of the week: `mon`, `tue`, `wed`, `thu`, `fri`, `sat`, `sun`.
    #[cfg_attr(feature = "schema", schemars(length(min = 1), extend("items" = {"type": "string", "enum": crate::time::DAYS}, "uniqueItems" = true)))]
    pub days: Option<Vec<String>>,
    /// Between these hours of a day: `09:00-17:30`; over midnight `22:00-06:00`.
    #[cfg_attr(feature = "schema", schemars(extend("pattern" = "^[0-2][0-9]:[0-5][0-9]-[0-2][0-9]:[0-5][0-9]$")))]
    pub hours: Option<String>,
}

/// A share of all keys. A key is in or out whichever proxy looks, and one that is in stays in when the share grows.
#[derive(Debug, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(rename = "Percent", transform = schema::percent))]
#[serde(rename_all = "camelCase", deny_unknown_fields, remote = "Self")]
pub struct PercentConfig {
    /// How many of every `outOf` keys are in.
    #[serde(deserialize_with = "tollgate_common::config::whole_number")]
    pub share: u64,
    /// Out of how many: `share: 1, outOf: 1000` is one in a thousand.
    #[serde(default, deserialize_with = "optional_whole_number")]
    #[cfg_attr(feature = "schema", schemars(range(min = 1, max = 1_000_000), extend("default" = 100)))]
    pub out_of: Option<u64>,
    /// What is hashed with each key, 1 to 64 bytes: conditions with the same salt choose the same keys, with different salts independent ones.
    #[cfg_attr(feature = "schema", schemars(length(min = 1, max = 64)))]
    pub salt: String,
    /// The key is this claim, a string. Its name, or the list of names of a claim within others.
    #[serde(default)]
    #[cfg_attr(feature = "schema", schemars(with = "Option<OneOrMany<String>>"))]
    pub claim: OneOrMany<String>,
    /// The key is the tenant's id.
    #[cfg_attr(feature = "schema", schemars(extend("const" = true)))]
    pub tenant: Option<bool>,
    /// The key is this cookie.
    #[cfg_attr(feature = "schema", schemars(length(min = 1, max = MAX_LENGTH)))]
    pub cookie: Option<String>,
    /// The key is this header.
    #[cfg_attr(
        feature = "schema",
        schemars(with = "Option<tollgate_common::schema::HeaderName>")
    )]
    pub header: Option<String>,
}

mapping!(
    Config,
    TrustConfig,
    TenantConfig,
    ExplainConfig,
    RuleConfig,
    ConditionConfig,
    ValueMatch,
    NamedMatch,
    ClaimMatch,
    HashesConfig,
    NumberConfig,
    TimeConfig,
    PercentConfig,
    KeyConfig,
    OutputsConfig,
    StickyConfig,
);

fn default_header() -> String {
    USER_TYPE.to_owned()
}

fn explain_header() -> String {
    super::explain::HEADER.to_owned()
}

/// What the fields say together.
#[cfg(feature = "schema")]
mod schema {
    use schemars::Schema;
    use tollgate_common::schema::{exactly_one, named};

    pub(super) const MOMENT: &str = "^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z$";

    pub(super) fn config(schema: &mut Schema) {
        let either = ["default", "trust"].map(|field| serde_json::json!({"required": [field]}));
        schema.insert("anyOf".to_owned(), either.to_vec().into());
    }

    pub(super) fn key(schema: &mut Schema) {
        exactly_one(schema, &["secret", "env"]);
    }

    pub(super) fn condition(schema: &mut Schema) {
        named(schema, "condition");
        exactly_one(schema, &super::super::CONDITIONS);
    }

    pub(super) fn value_match(schema: &mut Schema) {
        named(schema, "match");
        exactly_one(schema, &super::super::KEYS);
    }

    pub(super) fn named_match(schema: &mut Schema) {
        named(schema, "match with `name`");
        exactly_one(schema, &super::super::KEYS);
    }

    pub(super) fn claim_match(schema: &mut Schema) {
        named(schema, "match of a claim");
        let keys = [&super::super::KEYS[..], &["boolean", "contains"]].concat();
        exactly_one(schema, &keys);
    }

    pub(super) fn percent(schema: &mut Schema) {
        exactly_one(schema, &["claim", "tenant", "cookie", "header"]);
    }
}
