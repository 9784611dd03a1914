//! Requests through the gateway.

use anyhow::{Context, Result};
use serde_json::Value;
use tollgate_tests::{LocalMesh, Target};

/// A client of the gateway.
#[derive(Clone)]
pub(crate) struct Client {
    http: reqwest::Client,
    gateway: String,
}

/// An answer, read to its end.
#[derive(Clone, Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: reqwest::header::HeaderMap,
    pub(crate) body: String,
}

impl Client {
    pub(crate) fn of(mesh: &LocalMesh) -> Result<Self> {
        let http = reqwest::Client::builder().no_proxy().build()?;
        Ok(Self {
            http,
            gateway: mesh.gateway().to_owned(),
        })
    }

    /// Opens a connection for every request, so that Envoy spreads them over its workers.
    pub(crate) fn on_fresh_connections(mesh: &LocalMesh) -> Result<Self> {
        let http = reqwest::Client::builder()
            .no_proxy()
            .pool_max_idle_per_host(0)
            .build()?;
        Ok(Self {
            http,
            gateway: mesh.gateway().to_owned(),
        })
    }

    /// `GET path` with these headers.
    pub(crate) async fn get(&self, path: &str, headers: &[(&str, &str)]) -> Result<Reply> {
        self.send(self.http.get(format!("{}{path}", self.gateway)), headers)
            .await
    }

    /// `POST path` with a JSON body.
    pub(crate) async fn post(
        &self,
        path: &str,
        headers: &[(&str, &str)],
        body: &Value,
    ) -> Result<Reply> {
        self.send(
            self.http.post(format!("{}{path}", self.gateway)).json(body),
            headers,
        )
        .await
    }

    async fn send(
        &self,
        mut request: reqwest::RequestBuilder,
        headers: &[(&str, &str)],
    ) -> Result<Reply> {
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let answer = request.send().await?;
        let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
        Ok(Reply {
            status,
            headers,
            body: answer.text().await?,
        })
    }
}

impl Reply {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    pub(crate) fn json(&self) -> Result<Value> {
        serde_json::from_str(&self.body).with_context(|| format!("the body is no JSON: {self:?}"))
    }
}

/// Whether a list of products comes from version 2: it carries the SALE badge.
pub(crate) fn is_v2(body: &str) -> bool {
    body.contains("\"SALE\"")
}
