//! The module that Envoy loads for `tenant-rate-limit`: all of it is in `filters/tenant-rate-limit`.

tollgate_host::plugin!(tenant_rate_limit::TenantRateLimit);
