//! The functions that a module may call, as far as recording a call and repeating it must know them: which arguments are bytes, and
//! where the proxy leaves what it returns.

/// An argument as it is in the ABI: one parameter, or the two that belong together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Parameter {
    /// A number that says what the call is about.
    Number,
    /// A number of 64 bits: an amount, a length of time.
    Wide,
    /// A pointer to bytes and their number: what the call is given.
    Bytes,
    /// Two pointers to where the proxy leaves a pointer to bytes and their number, having asked the module for the memory.
    Returned,
    /// A pointer to where the proxy leaves the version of a shared value.
    Version,
    /// The version that a shared value must have to be replaced.
    Expected,
    /// A pointer to where the proxy leaves the id of a metric.
    NewMetric,
    /// The id of a metric.
    Metric,
    /// A pointer to where the proxy leaves a number of 32 or 64 bits that is nobody's argument again.
    Out,
    /// A pointer and a number of bytes that the proxy fills.
    Room,
}

impl Parameter {
    /// How many of the function's parameters it takes.
    pub(crate) fn width(self) -> usize {
        match self {
            Self::Bytes | Self::Returned | Self::Room => 2,
            _ => 1,
        }
    }
}

/// A function that the proxy gives to a module.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Function {
    pub(crate) module: &'static str,
    pub(crate) name: &'static str,
    pub(crate) parameters: &'static [Parameter],
}

impl Function {
    /// The function of this name; none if nothing is known of it.
    pub(crate) fn named(module: &str, name: &str) -> Option<&'static Self> {
        FUNCTIONS
            .iter()
            .find(|function| function.module == module && function.name == name)
    }
}

macro_rules! functions {
    ($($module:literal { $($name:ident($($parameter:ident),*);)* })*) => {
        const FUNCTIONS: &[Function] = &[$($(Function {
            module: $module,
            name: stringify!($name),
            parameters: &[$(Parameter::$parameter),*],
        },)*)*];
    };
}

functions! {
    "env" {
        proxy_log(Number, Bytes);
        proxy_get_log_level(Out);
        proxy_get_current_time_nanoseconds(Out);
        proxy_set_tick_period_milliseconds(Number);
        proxy_set_effective_context(Number);
        proxy_done();
        proxy_get_property(Bytes, Returned);
        proxy_set_property(Bytes, Bytes);
        proxy_get_buffer_bytes(Number, Number, Number, Returned);
        proxy_get_buffer_status(Number, Out, Out);
        proxy_set_buffer_bytes(Number, Number, Number, Bytes);
        proxy_get_header_map_pairs(Number, Returned);
        proxy_set_header_map_pairs(Number, Bytes);
        proxy_get_header_map_size(Number, Out);
        proxy_get_header_map_value(Number, Bytes, Returned);
        proxy_add_header_map_value(Number, Bytes, Bytes);
        proxy_replace_header_map_value(Number, Bytes, Bytes);
        proxy_remove_header_map_value(Number, Bytes);
        proxy_continue_stream(Number);
        proxy_close_stream(Number);
        proxy_send_local_response(Number, Bytes, Bytes, Bytes, Number);
        proxy_get_shared_data(Bytes, Returned, Version);
        proxy_set_shared_data(Bytes, Bytes, Expected);
        proxy_define_metric(Number, Bytes, NewMetric);
        proxy_increment_metric(Metric, Wide);
        proxy_record_metric(Metric, Wide);
        proxy_get_metric(Metric, Out);
        proxy_call_foreign_function(Bytes, Bytes, Returned);
    }
    "wasi_snapshot_preview1" {
        clock_time_get(Number, Wide, Out);
        random_get(Room);
        sched_yield();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn functions_are_known_by_name() {
        let function = Function::named("env", "proxy_get_shared_data").unwrap();
        assert_eq!(
            function.parameters,
            [Parameter::Bytes, Parameter::Returned, Parameter::Version]
        );
        let parameters = function.parameters.iter();
        assert_eq!(parameters.map(|p| p.width()).sum::<usize>(), 5);
        assert_eq!(Function::named("env", "random_get"), None);
    }
}
