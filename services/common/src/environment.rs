//! Settings come from environment variables, and a wrong one is named together with what to write instead.
//!
//! The variables are read through [`Environment`] and never straight from the process, so that a test can start
//! several services with different settings in one process.

use std::{
    collections::BTreeMap,
    env,
    ffi::OsString,
    fmt,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    time::Duration,
};

/// A variable with a value that cannot be used.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{variable}: {value:?} is not {expected}, write {instead}")]
pub struct ConfigError {
    /// The name of the environment variable.
    pub variable: String,
    /// Its value, except where it could hold a password.
    pub value: String,
    /// What the value should have been.
    pub expected: &'static str,
    /// An example of a value that would do.
    pub instead: String,
}

/// Environment variables. A variable that is set to nothing counts as not set.
#[derive(Clone, Default)]
pub struct Environment {
    variables: BTreeMap<OsString, OsString>,
}

/// The names alone: among the values are passwords.
impl fmt::Debug for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.variables.keys()).finish()
    }
}

impl<K: Into<OsString>, V: Into<OsString>> FromIterator<(K, V)> for Environment {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(variables: I) -> Self {
        let variables = variables
            .into_iter()
            .map(|(name, value)| (name.into(), value.into()))
            .filter(|(_, value): &(OsString, OsString)| !value.is_empty())
            .collect();
        Self { variables }
    }
}

impl Environment {
    /// The variables of this process.
    pub fn of_process() -> Self {
        env::vars_os().collect()
    }

    /// The value of a variable, if it is set.
    pub(crate) fn get(&self, variable: &str) -> Result<Option<&str>, ConfigError> {
        self.variables
            .get(std::ffi::OsStr::new(variable))
            .map(|value| {
                value.to_str().ok_or_else(|| ConfigError {
                    variable: variable.to_owned(),
                    value: value.to_string_lossy().into_owned(),
                    expected: "valid UTF-8",
                    instead: "plain characters".to_owned(),
                })
            })
            .transpose()
    }

    /// The value of a variable as `parse` understands it, or `default`.
    fn parsed<T>(
        &self,
        variable: &str,
        default: T,
        parse: impl FnOnce(&str) -> Option<T>,
        expected: &'static str,
        instead: impl Into<String>,
    ) -> Result<T, ConfigError> {
        let Some(value) = self.get(variable)? else {
            return Ok(default);
        };
        parse(value).ok_or_else(|| ConfigError {
            variable: variable.to_owned(),
            value: value.to_owned(),
            expected,
            instead: instead.into(),
        })
    }

    /// `HOST` and `PORT`: where the service listens.
    pub(crate) fn listen(&self, default_port: u16) -> Result<SocketAddr, ConfigError> {
        let host = self.parsed(
            "HOST",
            IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            |value| value.parse().ok(),
            "an IP address",
            "0.0.0.0 for all interfaces, or 127.0.0.1",
        )?;
        let port = self.parsed(
            "PORT",
            default_port,
            |value| value.parse().ok(),
            "a port number",
            format!("a number from 0 (any free port) to 65535, such as {default_port}"),
        )?;
        Ok(SocketAddr::new(host, port))
    }

    /// `SERVICE_VERSION`: what this process says it is, in the header `x-service-version`.
    pub(crate) fn version(&self) -> Result<String, ConfigError> {
        self.parsed(
            "SERVICE_VERSION",
            "v1".to_owned(),
            |value| {
                value
                    .bytes()
                    .all(|byte| byte.is_ascii_graphic())
                    .then(|| value.to_owned())
            },
            "a version of letters, digits and signs",
            "the tag of the image, such as v2",
        )
    }

    /// `UPSTREAM_TIMEOUT_SECONDS`: how long a call to another service may take as a whole.
    pub(crate) fn upstream_timeout(&self) -> Result<Duration, ConfigError> {
        self.parsed(
            "UPSTREAM_TIMEOUT_SECONDS",
            Duration::from_secs(5),
            |value| {
                let seconds = value.parse().ok()?;
                (1..=300)
                    .contains(&seconds)
                    .then(|| Duration::from_secs(seconds))
            },
            "a number of seconds from 1 to 300",
            "5",
        )
    }

    /// `HTTP_PROXY` and `NO_PROXY` (or in lower case): the proxy for calls to other services, such as a sidecar.
    ///
    /// The HTTP client would find them by itself, but also others (`ALL_PROXY`), and in the process alone.
    pub(crate) fn proxy(&self) -> Result<Option<reqwest::Proxy>, ConfigError> {
        let either = |upper: &'static str, lower| {
            Ok(match self.get(upper)? {
                Some(value) => Some((upper, value)),
                None => self.get(lower)?.map(|value| (lower, value)),
            })
        };
        let Some((variable, url)) = either("HTTP_PROXY", "http_proxy")? else {
            return Ok(None);
        };
        let Ok(proxy) = reqwest::Proxy::http(url) else {
            return Err(ConfigError {
                variable: variable.to_owned(),
                value: url.to_owned(),
                expected: "the URL of a proxy",
                instead: "http://127.0.0.1:15001".to_owned(),
            });
        };
        let except = either("NO_PROXY", "no_proxy")?
            .and_then(|(_, hosts)| reqwest::NoProxy::from_string(hosts));
        Ok(Some(proxy.no_proxy(except)))
    }

    /// `<SERVICE>_URL`: where another service is, without a slash at the end.
    pub(crate) fn service_url(
        &self,
        service: &str,
        default_port: u16,
    ) -> Result<String, ConfigError> {
        let variable = format!("{}_URL", service.to_uppercase().replace('-', "_"));
        let default = format!("http://{service}:{default_port}");
        let instead = default.clone();
        self.parsed(
            &variable,
            default,
            |value| {
                let url = reqwest::Url::parse(value).ok()?;
                let plain = url.scheme() == "http"
                    && url.path() == "/"
                    && url.query().is_none()
                    && url.fragment().is_none()
                    && url.username().is_empty()
                    && url.password().is_none();
                plain.then(|| value.trim_end_matches('/').to_owned())
            },
            // TLS is the sidecar's work; doing it here as well would hide the request from the mesh.
            "an http:// URL of a host and port alone",
            instead,
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(variable: &str, value: &str) -> Environment {
        [(variable, value)].into_iter().collect()
    }

    #[test]
    fn everything_has_a_default() {
        let environment = environment("PORT", "");
        assert_eq!(
            environment.listen(3001).unwrap().to_string(),
            "0.0.0.0:3001"
        );
        assert_eq!(environment.version().unwrap(), "v1");
        assert_eq!(
            environment.service_url("cart-service", 3002).unwrap(),
            "http://cart-service:3002"
        );
        assert_eq!(
            environment.upstream_timeout().unwrap(),
            Duration::from_secs(5)
        );
    }

    #[test]
    fn values_are_taken_from_the_variables() {
        let environment: Environment = [
            ("PORT", "0"),
            ("HOST", "::1"),
            ("SERVICE_VERSION", "v2"),
            ("CART_SERVICE_URL", "http://127.0.0.1:9/"),
        ]
        .into_iter()
        .collect();
        assert_eq!(environment.listen(3001).unwrap().to_string(), "[::1]:0");
        assert_eq!(environment.version().unwrap(), "v2");
        assert_eq!(
            environment.service_url("cart-service", 3002).unwrap(),
            "http://127.0.0.1:9"
        );
    }

    #[test]
    fn a_wrong_value_is_named_together_with_what_to_write() {
        let message = |result: Result<(), ConfigError>| result.unwrap_err().to_string();
        assert_eq!(
            message(environment("PORT", "http").listen(3001).map(drop)),
            "PORT: \"http\" is not a port number, write a number from 0 (any free port) to 65535, such as 3001"
        );
        assert_eq!(
            message(environment("HOST", "localhost").listen(3001).map(drop)),
            "HOST: \"localhost\" is not an IP address, write 0.0.0.0 for all interfaces, or 127.0.0.1"
        );
        assert_eq!(
            message(environment("SERVICE_VERSION", "v 2").version().map(drop)),
            "SERVICE_VERSION: \"v 2\" is not a version of letters, digits and signs, write the tag of the image, \
             such as v2"
        );
        for url in [
            "https://cart-service:3002",
            "cart-service:3002",
            "http://cart/path",
            "http://cart?q",
        ] {
            assert_eq!(
                message(
                    environment("CART_SERVICE_URL", url)
                        .service_url("cart-service", 3002)
                        .map(drop)
                ),
                format!(
                    "CART_SERVICE_URL: \"{url}\" is not an http:// URL of a host and port alone, \
                     write http://cart-service:3002"
                )
            );
        }
        assert_eq!(
            message(
                environment("UPSTREAM_TIMEOUT_SECONDS", "5s")
                    .upstream_timeout()
                    .map(drop)
            ),
            "UPSTREAM_TIMEOUT_SECONDS: \"5s\" is not a number of seconds from 1 to 300, write 5"
        );
        assert_eq!(
            message(environment("http_proxy", "http://").proxy().map(drop)),
            "http_proxy: \"http://\" is not the URL of a proxy, write http://127.0.0.1:15001"
        );
    }
}
