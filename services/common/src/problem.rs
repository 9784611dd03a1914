//! Every answer that is not a success is a problem detail (RFC 9457), and this is the one place that makes them.

use axum::{
    Json,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Serialize;

use crate::{database, sqlx};

/// A problem detail, as `application/problem+json`.
///
/// Its type is always `about:blank`: the status says what kind of problem it is, `detail` says it to a person, and
/// `errors` points at the member of the body that is to be changed.
#[derive(Debug)]
pub struct Problem {
    status: StatusCode,
    detail: String,
    field: Option<Box<FieldError>>,
    retry_after: Option<HeaderValue>,
}

#[derive(Debug, Serialize)]
struct FieldError {
    /// A JSON Pointer in its form for URI fragments.
    pointer: String,
    detail: String,
}

/// What is sent.
#[derive(Serialize)]
struct Body<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    title: &'static str,
    status: u16,
    detail: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    errors: Option<[&'a FieldError; 1]>,
}

impl Problem {
    /// A problem of this status; `detail` says what is wrong with this request and what to do about it.
    pub fn new(status: StatusCode, detail: impl Into<String>) -> Self {
        Self {
            status,
            detail: detail.into(),
            field: None,
            retry_after: None,
        }
    }

    /// 404: there is no such thing.
    pub fn not_found(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, detail)
    }

    /// 422: a member of the body, named by a pointer such as `#/productId`, is well-formed JSON but cannot be used.
    pub fn unusable(pointer: impl Into<String>, detail: impl Into<String>) -> Self {
        let field = FieldError {
            pointer: pointer.into(),
            detail: detail.into(),
        };
        Self {
            field: Some(Box::new(field)),
            ..Self::new(
                StatusCode::UNPROCESSABLE_ENTITY,
                "the body cannot be used as it is",
            )
        }
    }

    /// 503: the database does not answer now, and may do so soon. Why is for the log alone.
    pub(crate) fn database_away(error: &sqlx::Error) -> Self {
        tracing::error!(%error, "database");
        Self::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "the database cannot be reached, try again",
        )
    }

    pub(crate) fn retry_after(mut self, value: Option<HeaderValue>) -> Self {
        self.retry_after = value;
        self
    }
}

/// The client learns that the database failed, the log learns why.
impl From<sqlx::Error> for Problem {
    fn from(error: sqlx::Error) -> Self {
        if database::passes(&error) {
            Self::database_away(&error)
        } else {
            tracing::error!(%error, "database");
            Self::new(StatusCode::INTERNAL_SERVER_ERROR, "the database failed")
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let body = Body {
            kind: "about:blank",
            title: self.status.canonical_reason().unwrap_or("Unknown"),
            status: self.status.as_u16(),
            detail: &self.detail,
            errors: self.field.as_deref().map(|field| [field]),
        };
        let mut response = (self.status, Json(body)).into_response();
        let headers = response.headers_mut();
        headers.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/problem+json"),
        );
        if let Some(value) = self.retry_after {
            headers.insert(header::RETRY_AFTER, value);
        }
        response
    }
}
