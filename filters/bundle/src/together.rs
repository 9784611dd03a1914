//! What limiter and classifier of one proxy say together: a type must not rest on a tenant whom clients choose, nor a sidecar believe peers whose word
//! the limiter has overwritten.
//!
//! The bundle asks for its two sections, `tollgate check` for the plugins that requests pass one after the other.

use tollgate_common::ConfigError;
use user_classifier::config::{Compiled, Tenants};

/// The limiter that a request passes before the classifier.
#[derive(Clone, Copy)]
pub struct Limiter<'a> {
    /// Its configuration.
    pub config: &'a tenant_rate_limit::Config,
    /// How a field of it is named.
    pub at: &'a dyn Fn(&str) -> String,
}

/// Where rules give a type for a tenant or a tier that anybody can have, by their paths in the classifier's configuration. `limiter` is the one in front;
/// without one, `nobody` says why clients write what it would write.
pub fn unfounded(
    classifier: &Compiled,
    limiter: Option<Limiter<'_>>,
    nobody: &str,
) -> Vec<ConfigError> {
    let (tenants, because) = match limiter {
        None if classifier.trusted.is_some() => (Tenants::Vouched, String::new()),
        None => (
            Tenants::Anyones,
            format!(
                "rests on a tenant or a tier, and {nobody}: clients write x-tenant-id and x-tenant-tier as they like; let a limiter run \
                 before it, rest the rule on a claim, a peer or a source"
            ),
        ),
        Some(Limiter { config, at }) => match (&config.by_clients, config.stranger()) {
            (Some(by), _) => {
                let source = format!("tenant.from[{}]", by.source);
                (
                    Tenants::Anyones,
                    format!(
                        "rests on a tenant or a tier, and clients choose their tenant by {} ({}): take it from a claim or a peer, write \
                         `vouched: true` there if something in front lets no client name a tenant that is not its own",
                        by.what,
                        at(&source)
                    ),
                )
            }
            (None, Some((id, tier))) => (
                Tenants::Strangers { id, tier },
                format!(
                    "would be given to whoever shows no tenant, who is \"{id}\" in the tier \"{tier}\" ({}): ask for another tenant or tier",
                    at("tenant.missing")
                ),
            ),
            (None, None) => (Tenants::Vouched, String::new()),
        },
    };
    let told = classifier.unfounded(tenants).map(|unfounded| {
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
    let Limiter { config, at } = limiter;
    let message = if let Some(by) = &config.by_clients {
        let source = format!("tenant.from[{}]", by.source);
        format!(
            "stands beside a limiter that charges whomever a stranger names by {} ({}): leave that source out, or one of the two",
            by.what,
            at(&source)
        )
    } else if !config.believes_peers() {
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
