//! What a service's process says of itself at `/metrics`, in Prometheus' text format: which one it is, since when, and how many requests it
//! answered: of the service's own routes and of what is at none, not the probes and scrapes. By tenant, class and route the Envoy beside it counts.
//!
//! Service and version are labels of `service_info` alone. A scrape knows its target, and whoever wants the version beside a count joins the two
//! (`service_requests_total * on (instance) group_left (version) service_info`), as Prometheus' guide to writing clients has it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, AtomicU64, Ordering},
    },
    time::{Duration, SystemTime},
};

use axum::{
    extract::State,
    http::{StatusCode, header},
    response::IntoResponse,
};

/// The media type of the format.
const TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// What a process counts.
#[derive(Debug)]
pub(crate) struct Metrics {
    /// `service="cart-service",version="v1"`.
    labels: String,
    started: Duration,
    under_way: AtomicI64,
    /// By the first digit of their status, from 1 to 5.
    answered: [AtomicU64; 5],
}

impl Metrics {
    /// Those of a process that starts now.
    pub(crate) fn new(service: &str, version: &str) -> Self {
        let version = version.replace('\\', "\\\\").replace('"', "\\\"");
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        Self {
            labels: format!("service=\"{service}\",version=\"{version}\""),
            started: now.unwrap_or_default(),
            under_way: AtomicI64::default(),
            answered: Default::default(),
        }
    }

    /// Counts a request that has come, until what is returned is dropped: also one whose client goes away before its answer.
    pub(crate) fn begin(self: &Arc<Self>) -> UnderWay {
        self.under_way.fetch_add(1, Ordering::Relaxed);
        UnderWay(Arc::clone(self))
    }

    fn text(&self) -> String {
        let labels = &self.labels;
        let started = self.started.as_secs_f64();
        let under_way = self.under_way.load(Ordering::Relaxed);
        let mut text = format!(
            "# HELP service_info Which service and version this process is.\n\
             # TYPE service_info gauge\n\
             service_info{{{labels}}} 1\n\
             # HELP process_start_time_seconds When this process started, in seconds since 1970.\n\
             # TYPE process_start_time_seconds gauge\n\
             process_start_time_seconds {started:.3}\n\
             # HELP service_requests_under_way Requests that are not answered yet.\n\
             # TYPE service_requests_under_way gauge\n\
             service_requests_under_way {under_way}\n\
             # HELP service_requests_total Requests that were answered, by the class of their status.\n\
             # TYPE service_requests_total counter\n"
        );
        for (count, class) in self.answered.iter().zip(1..) {
            let count = count.load(Ordering::Relaxed);
            text += &format!("service_requests_total{{status=\"{class}xx\"}} {count}\n");
        }
        text
    }
}

/// A request that is not answered yet.
#[derive(Debug)]
pub(crate) struct UnderWay(Arc<Metrics>);

impl UnderWay {
    /// Counts its answer.
    pub(crate) fn answered(self, status: StatusCode) {
        let class = usize::from(status.as_u16() / 100);
        if let Some(count) = class
            .checked_sub(1)
            .and_then(|class| self.0.answered.get(class))
        {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.under_way.fetch_sub(1, Ordering::Relaxed);
    }
}

/// `GET /metrics`.
pub(crate) async fn exposition(State(metrics): State<Arc<Metrics>>) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, TEXT)], metrics.text())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_counted_by_the_class_of_their_status_and_while_they_are_under_way() {
        let metrics = Arc::new(Metrics::new("cart-service", "v1\\\"x"));
        metrics.begin().answered(StatusCode::CREATED);
        metrics.begin().answered(StatusCode::OK);
        metrics.begin().answered(StatusCode::NOT_FOUND);
        // Its client went away.
        drop(metrics.begin());
        let _waiting = metrics.begin();
        let text = metrics.text();
        for line in [
            "service_info{service=\"cart-service\",version=\"v1\\\\\\\"x\"} 1",
            "service_requests_under_way 1",
            "service_requests_total{status=\"1xx\"} 0",
            "service_requests_total{status=\"2xx\"} 2",
            "service_requests_total{status=\"4xx\"} 1",
            "service_requests_total{status=\"5xx\"} 0",
        ] {
            assert!(text.lines().any(|told| told == line), "{line} in {text}");
        }
    }
}
