//! The module that Envoy loads for `business-metrics`: all of it is in `filters/business-metrics`.

tollgate_host::plugin!(business_metrics::BusinessMetrics);
