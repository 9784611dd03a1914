//! Makes a module export what its filter uses, and no more.
//!
//! Envoy calls into the VM once for every callback that a module exports, on every request, and the SDK exports all
//! of them. What only a removed callback used goes with it.

use std::collections::BTreeSet;

use thiserror::Error;
use tollgate_host::{CALLBACKS as CALLBACKS_FUNCTION, Callback};
use walrus::{ExportItem, FunctionBuilder, FunctionKind, Module, ModuleConfig, ValType};

/// What Envoy needs of every module. Without `proxy_on_delete` the SDK would keep the state of every request for ever.
const ALWAYS: [&str; 8] = [
    "memory",
    "_initialize",
    "proxy_abi_version_0_2_1",
    "proxy_on_memory_allocate",
    "proxy_on_context_create",
    "proxy_on_vm_start",
    "proxy_on_configure",
    "proxy_on_delete",
];

/// The callbacks of Proxy-Wasm ABI 0.2.1 that a filter may want besides.
const CALLBACKS: [&str; 24] = [
    "proxy_validate_configuration",
    "proxy_on_tick",
    "proxy_on_queue_ready",
    "proxy_on_new_connection",
    "proxy_on_downstream_data",
    "proxy_on_downstream_connection_close",
    "proxy_on_upstream_data",
    "proxy_on_upstream_connection_close",
    "proxy_on_request_headers",
    "proxy_on_request_body",
    "proxy_on_request_trailers",
    "proxy_on_request_metadata",
    "proxy_on_response_headers",
    "proxy_on_response_body",
    "proxy_on_response_trailers",
    "proxy_on_response_metadata",
    "proxy_on_http_call_response",
    "proxy_on_grpc_receive_initial_metadata",
    "proxy_on_grpc_receive",
    "proxy_on_grpc_receive_trailing_metadata",
    "proxy_on_grpc_close",
    "proxy_on_foreign_function",
    "proxy_on_done",
    "proxy_on_log",
];

/// The functions that Envoy gives to a module of ABI 0.2.1, after `proxy_`.
const PROXY_FUNCTIONS: [&str; 39] = [
    "add_header_map_value",
    "call_foreign_function",
    "close_stream",
    "continue_stream",
    "define_metric",
    "dequeue_shared_queue",
    "done",
    "enqueue_shared_queue",
    "get_buffer_bytes",
    "get_buffer_status",
    "get_current_time_nanoseconds",
    "get_header_map_pairs",
    "get_header_map_size",
    "get_header_map_value",
    "get_log_level",
    "get_metric",
    "get_property",
    "get_shared_data",
    "get_status",
    "grpc_call",
    "grpc_cancel",
    "grpc_close",
    "grpc_send",
    "grpc_stream",
    "http_call",
    "increment_metric",
    "log",
    "record_metric",
    "register_shared_queue",
    "remove_header_map_value",
    "replace_header_map_value",
    "resolve_shared_queue",
    "send_local_response",
    "set_buffer_bytes",
    "set_effective_context",
    "set_header_map_pairs",
    "set_property",
    "set_shared_data",
    "set_tick_period_milliseconds",
];

/// The functions of WASI that every supported Envoy gives. Newer ones give more: a module that used those would load
/// there and not on the oldest.
const WASI_FUNCTIONS: [&str; 18] = [
    "args_get",
    "args_sizes_get",
    "clock_time_get",
    "environ_get",
    "environ_sizes_get",
    "fd_close",
    "fd_fdstat_get",
    "fd_fdstat_set_flags",
    "fd_prestat_dir_name",
    "fd_prestat_get",
    "fd_read",
    "fd_seek",
    "fd_write",
    "path_open",
    "poll_oneoff",
    "proc_exit",
    "random_get",
    "sched_yield",
];

/// Why a module cannot be used.
#[derive(Debug, PartialEq, Eq, Error)]
pub enum PruneError {
    /// The bytes are no valid WebAssembly.
    #[error("it is not a WebAssembly module: {0}")]
    Invalid(String),
    /// Names that the ABI does not have.
    #[error("unknown callback {}; the callbacks are {}", join(.0), join(&CALLBACKS))]
    UnknownCallbacks(Vec<String>),
    /// Exports that are wanted and not there.
    #[error("the module does not export {}; it exports {}", join(.missing), join(.exported))]
    MissingExports {
        /// What is wanted and not there.
        missing: Vec<String>,
        /// What is there.
        exported: Vec<String>,
    },
    /// Imports that Envoy cannot satisfy.
    #[error("it calls {}, which Envoy does not give to a module: Envoy would refuse to load it", join(.0))]
    UnknownImports(Vec<String>),
}

fn join<T: AsRef<str>>(names: &[T]) -> String {
    if names.is_empty() {
        return "nothing".to_owned();
    }
    names
        .iter()
        .map(AsRef::as_ref)
        .collect::<Vec<_>>()
        .join(", ")
}

/// The module with the exports that every module has and the given callbacks, and with nothing that only other exports
/// used. The same input gives the same bytes.
pub fn prune<C: AsRef<str>>(module: &[u8], callbacks: &[C]) -> Result<Vec<u8>, PruneError> {
    prune_to(module, callbacks, Names::Dropped)
}

/// Whether a pruned module says what its functions are called. Envoy does not need that, and it is half as large as the rest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Names {
    Dropped,
    Kept,
}

/// The same, with or without the names of functions.
pub(crate) fn prune_to<C: AsRef<str>>(
    module: &[u8],
    callbacks: &[C],
    names: Names,
) -> Result<Vec<u8>, PruneError> {
    let wanted = callbacks.iter().map(AsRef::as_ref).collect::<BTreeSet<_>>();
    let unknown = wanted
        .iter()
        .filter(|c| !CALLBACKS.contains(c) && !ALWAYS.contains(c))
        .collect::<Vec<_>>();
    if !unknown.is_empty() {
        return Err(PruneError::UnknownCallbacks(owned(unknown)));
    }

    let mut module = ModuleConfig::new()
        .generate_name_section(names == Names::Kept)
        .generate_producers_section(false)
        .parse(module)
        .map_err(|error| PruneError::Invalid(format!("{error:#}")))?;

    let keep = wanted.into_iter().chain(ALWAYS).collect::<BTreeSet<_>>();
    // `memory` is the one export that is no function; one of the wrong kind is as good as none.
    let exported = module
        .exports
        .iter()
        .filter(|export| match export.item {
            ExportItem::Function(_) => export.name != "memory",
            ExportItem::Memory(_) => export.name == "memory",
            _ => false,
        })
        .map(|export| export.name.clone())
        .collect::<BTreeSet<_>>();
    let missing = keep
        .iter()
        .filter(|name| !exported.contains(**name))
        .collect::<Vec<_>>();
    if !missing.is_empty() {
        return Err(PruneError::MissingExports {
            missing: owned(missing),
            exported: exported.into_iter().collect(),
        });
    }

    tell_callbacks(&mut module, |callback| keep.contains(callback.function()))?;
    let others = module
        .exports
        .iter()
        .filter(|e| !keep.contains(e.name.as_str()))
        .map(|e| e.id())
        .collect::<Vec<_>>();
    for export in others {
        module.exports.delete(export);
    }
    let sections = module.customs.iter().map(|(id, _)| id).collect::<Vec<_>>();
    for section in sections {
        module.customs.delete(section);
    }
    walrus::passes::gc::run(&mut module);

    // Only now: what nothing calls any more may have wanted more.
    let unknown = module
        .imports
        .iter()
        .filter(|i| !is_given(&i.module, &i.name))
        .map(|i| format!("{}.{}", i.module, i.name));
    let unknown = unknown.collect::<Vec<_>>();
    if !unknown.is_empty() {
        return Err(PruneError::UnknownImports(unknown));
    }
    Ok(module.emit_wasm())
}

/// Has the module's own function for it say which callbacks are left. Modules that are made without `filters/host` have none.
fn tell_callbacks(
    module: &mut Module,
    is_left: impl Fn(Callback) -> bool,
) -> Result<(), PruneError> {
    let Ok(function) = module.exports.get_func(CALLBACKS_FUNCTION) else {
        return Ok(());
    };
    let mut builder = FunctionBuilder::new(&mut module.types, &[], &[ValType::I32]);
    let left = Callback::ALL
        .into_iter()
        .filter(|callback| is_left(*callback));
    let bits: u32 = left.map(Callback::bit).sum();
    builder.func_body().i32_const(bits.cast_signed());
    let told = builder.local_func(Vec::new());
    let function = module.funcs.get_mut(function);
    if !matches!(&function.kind, FunctionKind::Local(local) if local.ty() == told.ty()) {
        return Err(PruneError::Invalid(format!(
            "{CALLBACKS_FUNCTION} is no function that returns the callbacks as an i32"
        )));
    }
    function.kind = FunctionKind::Local(told);
    Ok(())
}

fn owned(names: Vec<&&str>) -> Vec<String> {
    names.into_iter().map(|name| (*name).to_owned()).collect()
}

fn is_given(module: &str, name: &str) -> bool {
    match module {
        "env" => name
            .strip_prefix("proxy_")
            .is_some_and(|name| PROXY_FUNCTIONS.contains(&name)),
        "wasi_snapshot_preview1" => WASI_FUNCTIONS.contains(&name),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use walrus::ir::{Const, Instr, Value};

    use super::*;

    /// A module with what every module has, two callbacks, and the given fields besides.
    fn module(fields: &str) -> Vec<u8> {
        let text = format!(
            r#"(module
                (import "env" "proxy_log" (func $log (param i32 i32 i32) (result i32)))
                (import "wasi_snapshot_preview1" "random_get" (func $random (param i32 i32) (result i32)))
                (memory (export "memory") 1)
                (func (export "_initialize"))
                (func (export "proxy_abi_version_0_2_1"))
                (func (export "proxy_on_memory_allocate") (param i32) (result i32) (i32.const 1024))
                (func (export "proxy_on_context_create") (param i32 i32))
                (func (export "proxy_on_vm_start") (param i32 i32) (result i32) (i32.const 1))
                (func (export "proxy_on_configure") (param i32 i32) (result i32) (i32.const 1))
                (func (export "proxy_on_delete") (param i32))
                (func (export "proxy_on_log") (param i32)
                    (drop (call $log (i32.const 0) (i32.const 0) (i32.const 0))))
                (func (export "proxy_on_done") (param i32) (result i32) (call $only_done))
                (func $only_done (result i32) (call $random (i32.const 77) (i32.const 1)))
                {fields}
                (@custom "note" "hello"))"#
        );
        wat::parse_str(text).unwrap()
    }

    fn exports(module: &[u8]) -> Vec<String> {
        walrus::Module::from_buffer(module)
            .unwrap()
            .exports
            .iter()
            .map(|e| e.name.clone())
            .collect()
    }

    fn imports(module: &[u8]) -> Vec<String> {
        walrus::Module::from_buffer(module)
            .unwrap()
            .imports
            .iter()
            .map(|i| i.name.clone())
            .collect()
    }

    /// What the functions without parameters return that do nothing else.
    fn told(module: &[u8]) -> Vec<i32> {
        let module = Module::from_buffer(module).unwrap();
        let functions = module.funcs.iter_local().map(|(_, function)| function);
        let told = functions
            .filter(|function| function.args.is_empty())
            .filter_map(|function| {
                match function.block(function.entry_block()).instrs.as_slice() {
                    [
                        (
                            Instr::Const(Const {
                                value: Value::I32(value),
                            }),
                            _,
                        ),
                    ] => Some(*value),
                    _ => None,
                }
            });
        told.collect()
    }

    #[test]
    fn only_the_base_and_the_listed_callbacks_stay() {
        let pruned = prune(&module(""), &["proxy_on_log"]).unwrap();
        let mut expected = ALWAYS.to_vec();
        expected.push("proxy_on_log");
        assert_eq!(exports(&pruned), expected);
    }

    #[test]
    fn what_only_a_removed_callback_used_goes_with_it() {
        assert_eq!(imports(&module("")), ["proxy_log", "random_get"]);
        assert_eq!(
            imports(&prune(&module(""), &["proxy_on_log"]).unwrap()),
            ["proxy_log"]
        );
        assert_eq!(
            imports(&prune(&module(""), &["proxy_on_done"]).unwrap()),
            ["random_get"]
        );
        assert_eq!(imports(&prune::<&str>(&module(""), &[]).unwrap()), [""; 0]);
    }

    #[test]
    fn names_and_other_custom_sections_are_removed() {
        let pruned = prune(&module(""), &["proxy_on_done"]).unwrap();
        let text = String::from_utf8_lossy(&pruned);
        assert!(String::from_utf8_lossy(&module("")).contains("only_done"));
        for word in ["only_done", "note", "hello", "producers"] {
            assert!(!text.contains(word), "{word} is still there");
        }
    }

    #[test]
    fn the_same_input_gives_the_same_bytes_and_a_second_pruning_changes_nothing() {
        let once = prune(&module(""), &["proxy_on_log"]).unwrap();
        assert_eq!(prune(&module(""), &["proxy_on_log"]).unwrap(), once);
        assert_eq!(prune(&once, &["proxy_on_log"]).unwrap(), once);
    }

    #[test]
    fn the_order_of_the_list_and_repeated_names_do_not_matter() {
        assert_eq!(
            prune(&module(""), &["proxy_on_log", "proxy_on_done"]).unwrap(),
            prune(
                &module(""),
                &[
                    "proxy_on_done",
                    "proxy_on_log",
                    "proxy_on_done",
                    "proxy_on_delete"
                ]
            )
            .unwrap()
        );
    }

    #[test]
    fn a_module_is_told_which_callbacks_are_left() {
        // One that logs what it is told, which is how a test can see that others do not call the old function.
        let compiled = module(
            r#"(func $callbacks (export "tollgate_callbacks") (result i32) (i32.const -1))
               (func (export "proxy_on_tick") (param i32)
                    (drop (call $log (call $callbacks) (i32.const 0) (i32.const 0))))
               (func (export "proxy_on_response_body") (param i32 i32 i32) (result i32) (i32.const 0))"#,
        );
        for (callbacks, expected) in [
            (&["proxy_on_tick"][..], 0),
            (&["proxy_on_tick", "proxy_on_log"], Callback::Log.bit()),
            (
                &["proxy_on_tick", "proxy_on_log", "proxy_on_response_body"],
                Callback::Log.bit() | Callback::ResponseBody.bit(),
            ),
        ] {
            let pruned = prune(&compiled, callbacks).unwrap();
            assert!(!exports(&pruned).contains(&CALLBACKS_FUNCTION.to_owned()));
            assert_eq!(told(&pruned), [expected as i32]);
            assert_eq!(prune(&pruned, callbacks).unwrap(), pruned);
        }
    }

    #[test]
    fn what_does_not_tell_the_callbacks_is_refused() {
        let compiled = module(r#"(func (export "tollgate_callbacks"))"#);
        assert_eq!(
            prune(&compiled, &["proxy_on_log"]).unwrap_err().to_string(),
            "it is not a WebAssembly module: tollgate_callbacks is no function that returns the callbacks as an i32"
        );
    }

    #[test]
    fn an_unknown_callback_is_refused_with_the_known_ones() {
        let error = prune(&module(""), &["proxy_on_log", "proxy_on_request_header"]).unwrap_err();
        assert_eq!(
            error,
            PruneError::UnknownCallbacks(vec!["proxy_on_request_header".to_owned()])
        );
        assert_eq!(
            error.to_string(),
            format!(
                "unknown callback proxy_on_request_header; the callbacks are {}",
                CALLBACKS.join(", ")
            )
        );
    }

    #[test]
    fn a_callback_that_the_module_lacks_is_refused_with_what_it_has() {
        let error = prune(&module(""), &["proxy_on_tick"]).unwrap_err();
        assert_eq!(
            error.to_string(),
            "the module does not export proxy_on_tick; it exports _initialize, memory, proxy_abi_version_0_2_1, \
             proxy_on_configure, proxy_on_context_create, proxy_on_delete, proxy_on_done, proxy_on_log, \
             proxy_on_memory_allocate, proxy_on_vm_start"
        );
    }

    #[test]
    fn an_export_of_the_wrong_kind_is_as_good_as_none() {
        let module = module(r#"(global (export "proxy_on_tick") i32 (i32.const 0))"#);
        assert!(matches!(
            prune(&module, &["proxy_on_tick"]),
            Err(PruneError::MissingExports { missing, .. }) if missing == ["proxy_on_tick"]
        ));
    }

    #[test]
    fn an_import_that_envoy_lacks_is_refused_if_something_calls_it() {
        let text = r#"(module
            (import "wasi_snapshot_preview1" "path_filestat_get" (func $stat (result i32)))
            (import "env" "pthread_create" (func $thread (result i32)))
            (memory (export "memory") 1)
            (func (export "_initialize"))
            (func (export "proxy_abi_version_0_2_1"))
            (func (export "proxy_on_memory_allocate") (param i32) (result i32) (i32.const 1024))
            (func (export "proxy_on_context_create") (param i32 i32))
            (func (export "proxy_on_vm_start") (param i32 i32) (result i32) (i32.const 1))
            (func (export "proxy_on_configure") (param i32 i32) (result i32) (i32.const 1))
            (func (export "proxy_on_delete") (param i32))
            (func (export "proxy_on_log") (param i32) (drop (call $stat)) (drop (call $thread))))"#;
        let module = wat::parse_str(text).unwrap();
        assert_eq!(
            prune(&module, &["proxy_on_log"]).unwrap_err().to_string(),
            "it calls wasi_snapshot_preview1.path_filestat_get, env.pthread_create, which Envoy does not give to a \
             module: Envoy would refuse to load it"
        );
        assert!(prune::<&str>(&module, &[]).is_ok());
    }

    #[test]
    fn bytes_that_are_no_module_are_refused() {
        assert!(matches!(
            prune::<&str>(b"\x7fELF", &[]),
            Err(PruneError::Invalid(_))
        ));
    }
}
