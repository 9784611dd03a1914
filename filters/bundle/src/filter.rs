//! The filter: shows a request to the three filters, in their order.

use business_metrics::BusinessMetrics;
use business_metrics::filter::Measurement;
use tenant_rate_limit::TenantRateLimit;
use tenant_rate_limit::filter::TenantStream;
use tollgate_common::body::require_callbacks;
use tollgate_host::{Action, Chunk, Host, HostError, Plugin, Request, Stream, Trailers};
use user_classifier::UserClassifier;
use user_classifier::filter::Classification;

use crate::config::{Config, reads_bodies};

/// The filters that have a section.
#[derive(Debug)]
pub struct Tollgate {
    limiter: Option<TenantRateLimit>,
    classifier: Option<UserClassifier>,
    metrics: Option<BusinessMetrics>,
    /// Whether several filters ask for claims.
    shares_claims: bool,
}

impl Plugin for Tollgate {
    type Stream = Passage;

    fn configure(
        configuration: &[u8],
        plugin_name: &str,
        host: &mut dyn Host,
    ) -> Result<Self, String> {
        let config = Config::parse(configuration).map_err(|error| error.to_string())?;
        let reader = reads_bodies(configuration);
        require_callbacks(reader, "tollgate", host).map_err(|error| error.to_string())?;
        let limiter = config
            .tenant_rate_limit
            .map(|config| TenantRateLimit::new(config, plugin_name, host))
            .transpose()?;
        let classifier = config.user_classifier.map(UserClassifier::new);
        Ok(Self {
            shares_claims: limiter.as_ref().is_some_and(TenantRateLimit::reads_claims)
                && classifier
                    .as_ref()
                    .is_some_and(UserClassifier::reads_claims),
            limiter,
            classifier,
            metrics: config
                .business_metrics
                .map(|metrics| BusinessMetrics::new(metrics, plugin_name, host)),
        })
    }

    fn stream(&self) -> Passage {
        Passage {
            limiter: self.limiter.as_ref().map(Plugin::stream),
            classifier: self.classifier.as_ref().map(Plugin::stream),
            metrics: self.metrics.as_ref().map(Plugin::stream),
            shares_claims: self.shares_claims,
        }
    }

    fn on_tick(&self, host: &mut dyn Host) {
        if let Some(limiter) = &self.limiter {
            limiter.on_tick(host);
        }
    }
}

/// One request on its way through the filters.
#[derive(Debug)]
pub struct Passage {
    limiter: Option<TenantStream>,
    classifier: Option<Classification>,
    metrics: Option<Measurement>,
    shares_claims: bool,
}

impl Passage {
    /// Those that are there, in the order in which a request passes them: the limiter writes the tenant and the tier that the
    /// classifier asks for, and both write what the metrics count by.
    fn filters(&mut self) -> impl DoubleEndedIterator<Item = &mut dyn Stream> {
        [
            self.limiter
                .as_mut()
                .map(|stream| stream as &mut dyn Stream),
            self.classifier
                .as_mut()
                .map(|stream| stream as &mut dyn Stream),
            self.metrics
                .as_mut()
                .map(|stream| stream as &mut dyn Stream),
        ]
        .into_iter()
        .flatten()
    }

    /// Shows the request to one after the other until one has answered it.
    fn pass(&mut self, mut show: impl FnMut(&mut dyn Stream) -> Action) -> Action {
        for filter in self.filters() {
            if show(filter) == Action::Stop {
                return Action::Stop;
            }
        }
        Action::Continue
    }
}

impl Stream for Passage {
    fn on_request_headers(&mut self, request: &mut Request, host: &mut dyn Host) -> Action {
        if self.shares_claims {
            // So that the limiter looks there too, and does not ask for a claim by itself. Whether it works, each sees for itself.
            let _ = request.metadata(host);
        }
        self.pass(|filter| filter.on_request_headers(request, host))
    }

    fn on_unreadable_request(&mut self, error: HostError, host: &mut dyn Host) -> Action {
        self.pass(|filter| filter.on_unreadable_request(error, host))
    }

    fn on_request_body(&mut self, chunk: &Chunk, host: &mut dyn Host) {
        for filter in self.filters() {
            filter.on_request_body(chunk, host);
        }
    }

    fn on_request_trailers(&mut self, trailers: &mut Trailers, host: &mut dyn Host) -> Action {
        self.pass(|filter| filter.on_request_trailers(trailers, host))
    }

    fn on_unreadable_trailers(&mut self, error: HostError, host: &mut dyn Host) -> Action {
        self.pass(|filter| filter.on_unreadable_trailers(error, host))
    }

    fn on_response_headers(&mut self, host: &mut dyn Host) {
        // The other way, as a proxy shows responses.
        for filter in self.filters().rev() {
            filter.on_response_headers(host);
        }
    }

    fn on_response_body(&mut self, chunk: &Chunk, host: &mut dyn Host) {
        for filter in self.filters().rev() {
            filter.on_response_body(chunk, host);
        }
    }

    fn on_response_trailers(&mut self, host: &mut dyn Host) {
        for filter in self.filters().rev() {
            filter.on_response_trailers(host);
        }
    }

    fn on_log(&mut self, host: &mut dyn Host) {
        for filter in self.filters() {
            filter.on_log(host);
        }
    }

    fn on_delete(&mut self, host: &mut dyn Host) {
        for filter in self.filters() {
            filter.on_delete(host);
        }
    }
}
