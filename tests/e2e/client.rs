//! Requests through the gateway.

use std::net::IpAddr;

use anyhow::{Context, Result};
use serde_json::Value;
use tollgate_tests::{LocalMesh, Target};

/// A client of the gateway.
#[derive(Clone)]
pub(crate) struct Client {
    http: reqwest::Client,
    gateway: String,
    /// What it writes into `authorization`.
    bearer: Option<String>,
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
            bearer: None,
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
            bearer: None,
        })
    }

    /// What a pod's own program sends to other services: by the proxy beside it.
    pub(crate) fn in_pod(mesh: &LocalMesh, workload: &str, service: &str) -> Result<Self> {
        let pods = mesh.pods(workload);
        let proxy = pods.first().and_then(|pod| pod.outbound_proxy.as_deref());
        let proxy = proxy.with_context(|| format!("{workload} has no pod that sends"))?;
        let http = reqwest::Client::builder()
            .proxy(reqwest::Proxy::http(proxy)?)
            .build()?;
        Ok(Self {
            http,
            gateway: format!("http://{service}"),
            bearer: None,
        })
    }

    /// A client whose address is this one.
    pub(crate) fn at(mesh: &LocalMesh, address: IpAddr) -> Result<Self> {
        let http = reqwest::Client::builder()
            .no_proxy()
            .local_address(address)
            .pool_max_idle_per_host(0)
            .build()?;
        Ok(Self {
            http,
            gateway: mesh.gateway().to_owned(),
            bearer: None,
        })
    }

    /// The same client, who has a token now: this is what it writes into `authorization`.
    pub(crate) fn bearing(mut self, bearer: String) -> Self {
        self.bearer = Some(bearer);
        self
    }

    /// `method path` with these headers, and without a body.
    pub(crate) async fn request(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
    ) -> Result<Reply> {
        let method = reqwest::Method::from_bytes(method.as_bytes())?;
        let url = format!("{}{path}", self.gateway);
        self.send(self.http.request(method, url), headers).await
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
        if let Some(bearer) = &self.bearer {
            request = request.header("authorization", bearer);
        }
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
