//! The module that Envoy loads for all three filters at once: all of it is in `filters/bundle`.

tollgate_host::plugin!(tollgate_bundle::Tollgate);
