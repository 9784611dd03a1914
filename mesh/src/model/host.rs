//! Host names: short and full ones of Services, wildcards, and which of two is the more specific.

use std::cmp::Ordering;

/// The domain of the cluster, which is also the trust domain of its identities.
pub const CLUSTER_DOMAIN: &str = "cluster.local";

/// The full name of a Service.
pub(crate) fn service(name: &str, namespace: &str) -> String {
    format!("{name}.{namespace}.svc.{CLUSTER_DOMAIN}")
}

/// The full name of what an object of a namespace calls `host`. Istio completes only names without a dot:
/// `product-service.ecommerce` is already a full name to it.
pub(crate) fn resolve(host: &str, namespace: &str) -> String {
    let host = host.to_ascii_lowercase();
    if host.contains('.') || host.contains(':') || host == "*" {
        host
    } else {
        service(&host, namespace)
    }
}

pub(crate) fn is_wildcard(host: &str) -> bool {
    host.starts_with('*')
}

/// Whether every name that `host` stands for is one that `other` stands for.
pub(crate) fn subset_of(host: &str, other: &str) -> bool {
    match (host.strip_prefix('*'), other.strip_prefix('*')) {
        (Some(host), Some(other)) => host.len() >= other.len() && host.ends_with(other),
        (None, Some(other)) => host.ends_with(other),
        (Some(_), None) => false,
        (None, None) => host == other,
    }
}

/// The names that both lists cover, in the order of the first; of two that overlap, the narrower one.
pub(crate) fn intersection(hosts: &[String], others: &[String]) -> Vec<String> {
    let mut both: Vec<String> = Vec::new();
    for host in hosts {
        for other in others {
            let narrower = if subset_of(host, other) {
                host
            } else if subset_of(other, host) {
                other
            } else {
                continue;
            };
            if !both.contains(narrower) {
                both.push(narrower.clone());
            }
        }
    }
    both
}

/// The more specific host first: wildcards last, then the longer one, then by name.
pub(crate) fn by_specificity(a: &str, b: &str) -> Ordering {
    is_wildcard(a)
        .cmp(&is_wildcard(b))
        .then(b.len().cmp(&a.len()))
        .then(a.cmp(b))
}

/// The hosts of a gateway's server that VirtualServices of a namespace may use: `hosts` as written there, where a namespace
/// may stand before a slash (`*` for any, `.` for the Gateway's own).
pub(crate) fn of_server(hosts: &[String], gateway_namespace: &str, namespace: &str) -> Vec<String> {
    let open = |host: &&String| match host.split_once('/') {
        None | Some(("*", _)) => true,
        Some((".", _)) => gateway_namespace == namespace,
        Some((only, _)) => only == namespace,
    };
    let hosts = hosts.iter().filter(open);
    hosts
        .map(|host| {
            host.rsplit('/')
                .next()
                .unwrap_or_default()
                .to_ascii_lowercase()
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn strings(hosts: &[&str]) -> Vec<String> {
        hosts.iter().map(|host| (*host).to_owned()).collect()
    }

    #[test]
    fn only_names_without_a_dot_are_completed() {
        assert_eq!(
            resolve("cart-service", "ecommerce"),
            "cart-service.ecommerce.svc.cluster.local"
        );
        assert_eq!(
            resolve("cart-service.ecommerce", "other"),
            "cart-service.ecommerce"
        );
        assert_eq!(
            resolve("Cart-Service", "ecommerce"),
            "cart-service.ecommerce.svc.cluster.local"
        );
        assert_eq!(resolve("*", "ecommerce"), "*");
    }

    #[test]
    fn the_narrower_of_two_hosts_is_what_both_cover() {
        assert_eq!(
            intersection(&strings(&["foo.com", "bar.com"]), &strings(&["*.com"])),
            ["foo.com", "bar.com"]
        );
        assert_eq!(
            intersection(
                &strings(&["foo.com", "*.net"]),
                &strings(&["*.com", "bar.net"])
            ),
            ["foo.com", "bar.net"]
        );
        assert_eq!(
            intersection(&strings(&["foo.com", "*.net"]), &strings(&["*.bar.net"])),
            ["*.bar.net"]
        );
        assert_eq!(
            intersection(&strings(&["foo.com"]), &strings(&["bar.com"])),
            [""; 0]
        );
        assert_eq!(intersection(&strings(&["*"]), &strings(&["*"])), ["*"]);
        assert_eq!(
            intersection(&strings(&["*.foo.com"]), &strings(&["foo.com"])),
            [""; 0]
        );
    }

    #[test]
    fn wildcards_are_the_least_specific_and_long_names_the_most() {
        let mut hosts = strings(&["*", "a.com", "*.a.com", "b.a.com", "c.a.com"]);
        hosts.sort_by(|a, b| by_specificity(a, b));
        assert_eq!(hosts, ["b.a.com", "c.a.com", "a.com", "*.a.com", "*"]);
    }

    #[test]
    fn a_server_opens_its_hosts_to_the_namespaces_it_names() {
        let hosts = strings(&["shop/a.com", "*/b.com", "./c.com", "d.com"]);
        assert_eq!(
            of_server(&hosts, "edge", "shop"),
            ["a.com", "b.com", "d.com"]
        );
        assert_eq!(
            of_server(&hosts, "edge", "edge"),
            ["b.com", "c.com", "d.com"]
        );
    }
}
