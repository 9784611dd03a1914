//! Asks an Envoy what it has taken of what it was told. Its admin interface shows for each file that it watches the version
//! that it took last, and counts what it refused.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Context;
use tollgate_mesh::envoy::Subscription;

/// An Envoy answers within milliseconds, unless the machine is busy with other things.
const PATIENCE: Duration = Duration::from_secs(5);

/// Why there is no answer.
#[derive(Debug)]
pub(crate) enum Silence {
    /// Nothing listens: the process has ended.
    Gone,
    /// Anything else.
    Other(String),
}

/// The admin interface of one Envoy.
#[derive(Clone, Debug)]
pub(crate) struct Admin {
    client: reqwest::Client,
    address: SocketAddr,
}

/// Numbers or texts by the names of their stats.
pub(crate) type Stats = BTreeMap<String, String>;

/// A client for all of them.
pub(crate) fn client() -> anyhow::Result<reqwest::Client> {
    // The user's proxy settings are not for this machine.
    reqwest::Client::builder()
        .no_proxy()
        .timeout(PATIENCE)
        .build()
        .context("cannot make an HTTP client")
}

impl Admin {
    pub(crate) fn new(client: reqwest::Client, address: SocketAddr) -> Self {
        Self { client, address }
    }

    /// The versions of everything that it watches. The cheapest of all questions: an Envoy has only a few texts.
    pub(crate) async fn versions(&self) -> Result<Stats, Silence> {
        self.stats("TextReadouts", r"\.version_text$").await
    }

    /// How often it refused something, or could not read it.
    pub(crate) async fn refusals(&self) -> Result<Stats, Silence> {
        self.stats("Counters", r"\.update_(rejected|failure)$")
            .await
    }

    /// What it has taken and is still getting ready.
    pub(crate) async fn warming(&self) -> Result<Stats, Silence> {
        let names =
            r"^(cluster_manager\.warming_clusters|listener_manager\.total_listeners_warming)$";
        self.stats("Gauges", names).await
    }

    async fn stats(&self, kind: &str, filter: &str) -> Result<Stats, Silence> {
        let url = format!("http://{}/stats", self.address);
        let url = reqwest::Url::parse_with_params(&url, [("type", kind), ("filter", filter)])
            .map_err(|error| Silence::Other(error.to_string()))?;
        let answer = async {
            let answer = self.client.get(url).send().await?.error_for_status()?;
            answer.text().await
        };
        match answer.await {
            Ok(text) => Ok(parse(&text)),
            Err(error) if refused(&error) => Err(Silence::Gone),
            Err(error) => Err(Silence::Other(error.to_string())),
        }
    }
}

/// `name: value` a line, texts in quotes. Names may have colons in them.
fn parse(text: &str) -> Stats {
    text.lines()
        .filter_map(|line| line.rsplit_once(": "))
        .map(|(name, value)| (name.to_owned(), value.trim().trim_matches('"').to_owned()))
        .collect()
}

fn refused(error: &reqwest::Error) -> bool {
    let mut cause: Option<&dyn std::error::Error> = Some(error);
    while let Some(error) = cause {
        if error
            .downcast_ref::<std::io::Error>()
            .is_some_and(|error| error.kind() == std::io::ErrorKind::ConnectionRefused)
        {
            return true;
        }
        cause = error.source();
    }
    false
}

/// Whether a stat is about a subscription, and what it says about it.
fn about<'a>(subscription: &Subscription, stat: &'a str) -> Option<&'a str> {
    let (place, what) = stat.rsplit_once('.')?;
    let ours = match subscription {
        Subscription::Clusters => place == "cluster_manager.cds",
        Subscription::Listeners => place == "listener_manager.lds",
        Subscription::Routes(name) => {
            place.starts_with("http.")
                && place
                    .strip_suffix(name.as_str())
                    .is_some_and(|place| place.ends_with(".rds."))
        }
        Subscription::Extension(name) => {
            place.starts_with("extension_config_discovery.")
                && place
                    .strip_suffix(name.as_str())
                    .is_some_and(|place| place.ends_with('/'))
        }
    };
    ours.then_some(what)
}

/// The version that was taken last; nothing if there is no such subscription yet, or it never got anything.
pub(crate) fn version<'a>(stats: &'a Stats, subscription: &Subscription) -> Option<&'a str> {
    let (_, version) = stats
        .iter()
        .find(|(name, _)| about(subscription, name) == Some("version_text"))?;
    Some(version.as_str()).filter(|version| !version.is_empty())
}

/// How often something was not taken.
pub(crate) fn refusals(stats: &Stats, subscription: &Subscription) -> u64 {
    stats
        .iter()
        .filter(|(name, _)| about(subscription, name).is_some())
        .filter_map(|(_, count)| count.parse::<u64>().ok())
        .sum()
}

/// How many of something are not ready.
pub(crate) fn count(stats: &Stats) -> u64 {
    stats
        .values()
        .filter_map(|count| count.parse::<u64>().ok())
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATS: &str = "\
cluster_manager.cds.version_text: \"c1\"
extension_config_discovery.http_filter.extensions.istio.io/wasmplugin/istio-system.limit.version_text: \"e1\"
extension_config_discovery.http_filter.extensions.istio.io/wasmplugin/shop.istio-system.limit.version_text: \"e2\"
http.outbound_0.0.0.0_8080;.rds.http.8080.version_text: \"r1\"
http.outbound_127.0.0.1_15002;.rds.http_proxy.version_text: \"\"
listener_manager.lds.version_text: \"l1\"
";

    #[test]
    fn each_subscription_has_its_own_version() {
        let stats = parse(STATS);
        let of = |subscription| version(&stats, &subscription);
        assert_eq!(of(Subscription::Clusters), Some("c1"));
        assert_eq!(of(Subscription::Listeners), Some("l1"));
        assert_eq!(of(Subscription::Routes("http.8080".to_owned())), Some("r1"));
        assert_eq!(of(Subscription::Routes("8080".to_owned())), None);
        assert_eq!(of(Subscription::Routes("http_proxy".to_owned())), None);
        assert_eq!(
            of(Subscription::Extension("istio-system.limit".to_owned())),
            Some("e1")
        );
        assert_eq!(of(Subscription::Extension("limit".to_owned())), None);
    }

    #[test]
    fn refusals_are_those_of_one_subscription() {
        let stats = parse(
            "cluster_manager.cds.update_failure: 1\ncluster_manager.cds.update_rejected: 2\n\
             listener_manager.lds.update_rejected: 4\n",
        );
        assert_eq!(refusals(&stats, &Subscription::Clusters), 3);
        assert_eq!(refusals(&stats, &Subscription::Listeners), 4);
        assert_eq!(refusals(&stats, &Subscription::Routes("a".to_owned())), 0);
    }
}
