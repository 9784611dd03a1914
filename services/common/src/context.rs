//! The headers of a request that belong to every call made for it.
//!
//! A sidecar sees each call of a service as a new request: it cannot know which inbound request caused it. So the
//! service itself carries on what joins them: the trace, the request id, and what routes go by: the tenant, the class of the
//! user, their name, and whether they asked for a canary.

use std::convert::Infallible;

use axum::{
    extract::FromRequestParts,
    http::{HeaderMap, HeaderName, StatusCode, request::Parts},
};

use crate::{Id, Problem};

/// The headers of a request that every call made for it takes along, byte for byte and in their order.
#[derive(Debug, Clone, Default)]
pub struct Context(HeaderMap);

/// Who a request is of, as the gateway has it from a verified token.
const END_USER: &str = "end-user";

fn belongs_to_context(name: &HeaderName) -> bool {
    matches!(
        name.as_str(),
        "traceparent"
            | "tracestate"
            | "b3"
            | "x-request-id"
            | "x-tenant-id"
            | "x-tenant-tier"
            | "user-type"
            | END_USER
            | "x-canary"
    ) || name.as_str().starts_with("x-b3-")
}

impl Context {
    pub(crate) fn of(headers: &HeaderMap) -> Self {
        Self(
            headers
                .iter()
                .filter(|(name, _)| belongs_to_context(name))
                .map(|(name, value)| (name.clone(), value.clone()))
                .collect(),
        )
    }

    pub(crate) fn headers(&self) -> HeaderMap {
        self.0.clone()
    }

    /// Refuses a request of one user for what is another's. One that is of nobody passes: the gateway
    /// lets in none for carts and orders (`istio/security/customers.yaml`).
    pub fn may_ask_of(&self, owner: &Id) -> Result<(), Problem> {
        let mut users = self.0.get_all(END_USER).iter();
        if users.all(|user| user.as_bytes() == owner.as_str().as_bytes()) {
            return Ok(());
        }
        Err(Problem::new(
            StatusCode::FORBIDDEN,
            format!("this is for {owner} alone, and the request is of another user"),
        ))
    }

    /// The trace the request belongs to: from W3C's header, else from either form of B3.
    pub(crate) fn trace_id(&self) -> Option<&str> {
        let text = |name| self.0.get(name)?.to_str().ok();
        text("traceparent")
            .and_then(|value| value.split('-').nth(1))
            .or_else(|| text("x-b3-traceid"))
            .or_else(|| text("b3").and_then(|value| value.split_once('-').map(|(id, _)| id)))
    }

    pub(crate) fn request_id(&self) -> Option<&str> {
        self.0.get("x-request-id")?.to_str().ok()
    }
}

impl<S: Sync> FromRequestParts<S> for Context {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(Self::of(&parts.headers))
    }
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn context(headers: &[(&'static str, &'static str)]) -> Context {
        let headers = headers
            .iter()
            .map(|(name, value)| {
                (
                    HeaderName::from_static(name),
                    HeaderValue::from_static(value),
                )
            })
            .collect();
        Context::of(&headers)
    }

    #[test]
    fn what_is_a_users_is_refused_to_every_other_user() {
        let alice = Id::try_from("alice".to_owned()).expect("an id");
        for (users, may) in [
            (&[][..], true),
            (&["alice"], true),
            (&["alice", "alice"], true),
            (&["bob"], false),
            (&["Alice"], false),
            (&["alice "], false),
            (&[""], false),
            (&["alice", "bob"], false),
            (&["alice,bob"], false),
        ] {
            let headers = users.iter().map(|user| (END_USER, *user));
            let context = context(&headers.collect::<Vec<_>>());
            assert_eq!(context.may_ask_of(&alice).is_ok(), may, "{users:?}");
        }
    }

    #[test]
    fn the_trace_id_is_found_in_all_three_forms() {
        for (name, value, id) in [
            (
                "traceparent",
                "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
                Some("0af7651916cd43dd8448eb211c80319c"),
            ),
            ("x-b3-traceid", "463ac35c9f6413ad", Some("463ac35c9f6413ad")),
            (
                "b3",
                "463ac35c9f6413ad-a2fb4a1d1a96d312-1",
                Some("463ac35c9f6413ad"),
            ),
            // B3's single header may hold the sampling decision alone.
            ("b3", "0", None),
            ("authorization", "secret", None),
        ] {
            assert_eq!(context(&[(name, value)]).trace_id(), id, "{name}: {value}");
        }
    }
}
