//! Calls to other services: with the request's context, a limit in time and size, and a meaning for every failure.

use axum::http::{HeaderMap, StatusCode, header};
use serde::de::DeserializeOwned;

use crate::{ConfigError, Context, Environment, Problem};

/// The largest answer, in bytes, that is read from another service.
const ANSWER_LIMIT: usize = 1024 * 1024;

/// Another service of the shop.
#[derive(Debug, Clone)]
pub struct Upstream {
    name: &'static str,
    url: String,
    client: reqwest::Client,
}

/// The client for all upstreams of a process, so that they share its pool of connections.
pub(crate) fn client(environment: &Environment) -> Result<reqwest::Client, ConfigError> {
    let mut builder = reqwest::Client::builder()
        .timeout(environment.upstream_timeout()?)
        // Another service's redirect is an answer like any other that was not agreed.
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy();
    if let Some(proxy) = environment.proxy()? {
        builder = builder.proxy(proxy);
    }
    Ok(builder
        .build()
        .expect("a client without TLS has nothing to load that could fail"))
}

impl Upstream {
    pub(crate) fn new(
        environment: &Environment,
        client: reqwest::Client,
        name: &'static str,
        default_port: u16,
    ) -> Result<Self, ConfigError> {
        let url = environment.service_url(name, default_port)?;
        Ok(Self { name, url, client })
    }

    /// Gets what is at `path`, or `None` when the service itself says that there is no such thing.
    ///
    /// A refusal for going too fast (429) is passed on as it is. Any other failure is not the client's: it becomes a
    /// 503 when the service cannot be reached or is overloaded, a 504 when it takes too long, and else a 502.
    pub async fn get<T: DeserializeOwned>(
        &self,
        context: &Context,
        path: &str,
    ) -> Result<Option<T>, Problem> {
        let response = self
            .client
            .get(format!("{}{path}", self.url))
            .headers(context.headers())
            .send()
            .await
            .map_err(|error| self.unreachable(&error))?;
        if !response.status().is_success() {
            return self.refused(response.status(), response.headers());
        }
        let body = self.body(response).await?;
        serde_json::from_slice(&body)
            .map(Some)
            .map_err(|error| self.not_understood(error))
    }

    async fn body(&self, mut response: reqwest::Response) -> Result<Vec<u8>, Problem> {
        let mut body = Vec::new();
        loop {
            match response.chunk().await {
                Ok(Some(chunk)) if body.len() + chunk.len() > ANSWER_LIMIT => {
                    return Err(self.not_understood(format!("larger than {ANSWER_LIMIT} bytes")));
                }
                Ok(Some(chunk)) => body.extend_from_slice(&chunk),
                Ok(None) => return Ok(body),
                Err(error) => return Err(self.unreachable(&error)),
            }
        }
    }

    fn unreachable(&self, error: &reqwest::Error) -> Problem {
        tracing::warn!(upstream = self.name, error = ?error, "call failed");
        let name = self.name;
        if error.is_timeout() {
            Problem::new(
                StatusCode::GATEWAY_TIMEOUT,
                format!("{name} did not answer in time"),
            )
        } else if error.is_connect() {
            Problem::new(
                StatusCode::SERVICE_UNAVAILABLE,
                format!("{name} cannot be reached"),
            )
        } else {
            Problem::new(
                StatusCode::BAD_GATEWAY,
                format!("{name} broke off its answer"),
            )
        }
    }

    fn refused<T>(&self, status: StatusCode, headers: &HeaderMap) -> Result<Option<T>, Problem> {
        let name = self.name;
        let retry_after = headers.get(header::RETRY_AFTER).cloned();
        // A proxy on the way answers 404 too, when it has no route: that says nothing about what was asked for.
        let by_service = headers
            .get(header::CONTENT_TYPE)
            .is_some_and(|value| value == "application/problem+json");
        let problem = match status {
            StatusCode::NOT_FOUND if by_service => return Ok(None),
            StatusCode::TOO_MANY_REQUESTS => {
                Problem::new(status, format!("{name} takes no more requests for now"))
            }
            StatusCode::SERVICE_UNAVAILABLE => {
                Problem::new(status, format!("{name} is not available"))
            }
            StatusCode::GATEWAY_TIMEOUT => {
                Problem::new(status, format!("{name} did not answer in time"))
            }
            _ => Problem::new(
                StatusCode::BAD_GATEWAY,
                format!("{name} answered {}", status.as_u16()),
            ),
        };
        tracing::warn!(
            upstream = name,
            status = status.as_u16(),
            "call was not answered"
        );
        Err(problem.retry_after(retry_after))
    }

    fn not_understood(&self, error: impl std::fmt::Display) -> Problem {
        tracing::warn!(upstream = self.name, error = %error, "answer not understood");
        Problem::new(
            StatusCode::BAD_GATEWAY,
            format!("{} answered in a form that is not understood", self.name),
        )
    }
}
