//! The module that Envoy loads for `user-classifier`: all of it is in `filters/user-classifier`.

tollgate_host::plugin!(user_classifier::UserClassifier);
