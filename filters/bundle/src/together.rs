//! What limiter and classifier of one proxy say together: a type must not rest on a tenant whom clients choose, nor a sidecar believe peers whose word
//! the limiter has overwritten.
//!
//! The bundle asks for its two sections, `tollgate check` for the plugins that requests pass one after the other.

use tollgate_common::ConfigError;
use tollgate_common::header::{TENANT_ID, TENANT_TIER};
use user_classifier::condition::{Subject, Test, Truth};
use user_classifier::config::{Compiled, Tenants, Unfounded};

/// A limiter that a request passes.
#[derive(Clone, Copy)]
pub struct Limiter<'a> {
    /// Its configuration.
    pub config: &'a tenant_rate_limit::Config,
    /// How a field of it is named.
    pub at: &'a dyn Fn(&str) -> String,
    /// Of which headers something in front vouches that no client wrote them.
    pub is_vouched: &'a dyn Fn(&str) -> bool,
}

impl<'a> Limiter<'a> {
    /// A limiter with nothing in front of it that is known.
    pub fn alone(config: &'a tenant_rate_limit::Config, at: &'a dyn Fn(&str) -> String) -> Self {
        Self {
            config,
            at,
            is_vouched: &|_| false,
        }
    }

    /// By what clients choose who they are, and where that is written.
    fn chosen_by_clients(&self) -> Option<(&'a str, String)> {
        let by = self.config.chosen_by_clients(self.is_vouched)?;
        Some((&by.what, (self.at)(&format!("tenant.from[{}]", by.source))))
    }

    /// What is known of the tenants that it finds, and what there is to say of who rests a type on them. Their tiers are those of `table`, the limiter
    /// whose tier is read.
    pub fn tenants(&self, table: &'a tenant_rate_limit::Config) -> (Tenants<'a>, String) {
        if let Some((what, source)) = self.chosen_by_clients() {
            return (
                Tenants::Anyones,
                format!(
                    "rests on a tenant or a tier, and clients choose their tenant by {what} ({source}): take it from a claim or a peer, write \
                     `vouched: true` there if something in front lets no client name a tenant that is not its own"
                ),
            );
        }
        let stranger = self.config.stranger();
        match stranger.and_then(|(id, _)| Some((id, table.tier_of(id)?))) {
            Some((id, tier)) => (
                Tenants::Strangers { id, tier },
                format!(
                    "would be given to whoever shows no tenant, who is \"{id}\" in the tier \"{tier}\" ({}): ask for another tenant or tier",
                    (self.at)("tenant.missing")
                ),
            ),
            None => (Tenants::Vouched, String::new()),
        }
    }

    /// Whether what passes a test is what this limiter takes everybody for who is nobody to it, and nothing else: a rule that asks for that, and
    /// for nothing else, is meant for them.
    pub fn is_nobody(&self, subject: &Subject, test: &Test) -> bool {
        let config = self.config;
        let holds = |text: &str| test.holds(text.as_bytes()) == Truth::Yes;
        match subject {
            Subject::Tier => {
                let mut passing = config.tiers.iter().filter(|tier| holds(tier)).peekable();
                passing.peek().is_some() && passing.all(|tier| config.is_anyones(tier))
            }
            Subject::Tenant => config.stranger().is_some_and(|(id, tier)| {
                let is_it = matches!(test, Test::Exact(text) if **text == *id.as_bytes());
                is_it && config.is_anyones(tier)
            }),
            _ => false,
        }
    }
}

/// Where rules give a type for a tenant or a tier that anybody can have, by their paths in the classifier's configuration. `limiter` is the one in front.
pub fn unfounded(classifier: &Compiled, limiter: Limiter<'_>) -> Vec<ConfigError> {
    let (tenants, because) = limiter.tenants(limiter.config);
    let is_nobody = |subject: &Subject, test: &Test| limiter.is_nobody(subject, test);
    told(classifier.unfounded(tenants, is_nobody), &because)
}

/// The same where there is no limiter in front: `nobody` says why clients write what it would write, apart from the headers that are `written`
/// by something else.
pub fn unfounded_alone(
    classifier: &Compiled,
    written: impl Fn(&str) -> bool,
    nobody: &str,
) -> Vec<ConfigError> {
    if classifier.trusted.is_some() {
        return Vec::new();
    }
    let tenants = Tenants::Written {
        id: written(TENANT_ID),
        tier: written(TENANT_TIER),
    };
    let because = format!(
        "rests on a tenant or a tier, and {nobody}: clients write x-tenant-id and x-tenant-tier as they like; let a limiter run before it, rest \
         the rule on a claim, a peer or a source"
    );
    told(classifier.unfounded(tenants, |_, _| false), &because)
}

/// An error for each of these rules.
pub fn told<'a>(rules: impl Iterator<Item = Unfounded<'a>>, because: &str) -> Vec<ConfigError> {
    let told = rules.map(|unfounded| {
        let name = unfounded.user_type;
        ConfigError::new(
            format!("rules[{}].type", unfounded.rule),
            format!(
                "\"{name}\" {because}, or write \"{name}\" in selfAssignable if anybody may call himself so"
            ),
        )
    });
    told.collect()
}

/// Why the classifier's `trust` and a limiter at the same proxy contradict each other, if they do.
pub fn overwritten(classifier: &Compiled, limiter: Limiter<'_>) -> Option<ConfigError> {
    classifier.trusted.as_ref()?;
    let Limiter { config, at, .. } = limiter;
    let message = if let Some((what, source)) = limiter.chosen_by_clients() {
        format!(
            "stands beside a limiter that charges whomever a stranger names by {what} ({source}): leave that source out, or one of the two"
        )
    } else if config.passed_on().next().is_none() {
        format!(
            "stands beside a limiter that writes anew the tenant that peers pass on ({}): add a source `passedOn` with these peers there, or \
             leave one of the two out",
            at("tenant.from")
        )
    } else {
        return None;
    };
    Some(ConfigError::new("trust", message))
}
