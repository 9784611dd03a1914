//! Makes of a module one that does the same and says which functions of the proxy it calls, with what, and what it gets.
//!
//! Each function that the module imports is put behind one that calls it and writes a line about that, and each callback that it exports behind
//! one that writes a line before and one after. Lines are written in memory that is added to the module's own, and
//! leave it through `proxy_log`. So what is recorded are the calls that the shipped module makes in a real proxy, and nobody counts them by hand.
//! [`super::trace`] reads the lines.

use std::collections::HashMap;

use anyhow::{Context, anyhow, ensure};
use walrus::ir::{
    self, BinaryOp, ExtendedLoad, LoadKind, MemArg, StoreKind, UnaryOp, VisitorMut,
    dfs_pre_order_mut,
};
use walrus::{
    ConstExpr, DataKind, ElementItems, ExportId, ExportItem, FunctionBuilder, FunctionId,
    FunctionKind, GlobalId, ImportKind, InstrSeqBuilder, LocalId, MemoryId, Module, ModuleConfig,
    ValType,
};

use super::abi::{Function, Parameter};

/// Every line begins with it.
pub(crate) const MARK: &str = "@tollgate";

/// The level that is never filtered.
const CRITICAL: i32 = 5;

const PAGE: u32 = 64 * 1024;

/// Room for one line: hexadecimal digits of all that a call is given.
const PAGES: u32 = 16;

/// What a module calls and is called by, in the order of the numbers in its lines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Interface {
    /// None for a function that nothing is known of: its calls are counted and cannot be repeated.
    pub(crate) functions: Vec<(String, String, Option<&'static Function>)>,
    pub(crate) callbacks: Vec<Callback>,
}

/// An exported `proxy_on_…` function.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Callback {
    pub(crate) name: String,
    /// How many parameters it has; all of them are numbers of 32 bits.
    pub(crate) parameters: usize,
    /// Whether it returns a number.
    pub(crate) returns: bool,
}

/// The module that tells, and what its lines are about. `tag` is in each line.
pub(crate) fn recording(module: &[u8], tag: &str) -> anyhow::Result<(Vec<u8>, Interface)> {
    let mut module = ModuleConfig::new()
        .generate_name_section(false)
        .generate_producers_section(false)
        .parse(module)
        .map_err(|error| anyhow!("it is not a WebAssembly module: {error:#}"))?;
    let originals: Vec<FunctionId> = module.funcs.iter_local().map(|(id, _)| id).collect();
    let imports: Vec<(FunctionId, String, String)> = module
        .imports
        .iter()
        .filter_map(|import| match import.kind {
            ImportKind::Function(id) => Some((id, import.module.clone(), import.name.clone())),
            _ => None,
        })
        .collect();
    let recorder = Recorder::add(&mut module, tag)?;

    let mut functions = Vec::new();
    let mut instead = HashMap::new();
    for (number, (id, from, name)) in imports.into_iter().enumerate() {
        let known = Function::named(&from, &name);
        let wrapper = recorder
            .around_import(&mut module, id, number, known)
            .with_context(|| format!("it imports {from}.{name}"))?;
        instead.insert(id, wrapper);
        functions.push((from, name, known));
    }
    replace(&mut module, &originals, &instead);

    let mut callbacks = Vec::new();
    for (number, (export, name, function)) in self::callbacks(&module).into_iter().enumerate() {
        let (wrapper, callback) = recorder
            .around_callback(&mut module, function, number, name)
            .context("a callback is not as the ABI has it")?;
        module.exports.get_mut(export).item = ExportItem::Function(wrapper);
        callbacks.push(callback);
    }
    let interface = Interface {
        functions,
        callbacks,
    };
    Ok((module.emit_wasm(), interface))
}

/// The exported callbacks of a module, with their names and functions.
pub(super) fn callbacks(module: &Module) -> Vec<(ExportId, String, FunctionId)> {
    let exports = module.exports.iter();
    exports
        .filter_map(|export| match export.item {
            ExportItem::Function(function)
                if export.name.starts_with("proxy_on_")
                    // Called within calls, whose lines tell how much memory was asked for.
                    && export.name != "proxy_on_memory_allocate" =>
            {
                Some((export.id(), export.name.clone(), function))
            }
            _ => None,
        })
        .collect()
}

/// Has these functions of a module, and its tables, call others instead of some.
pub(super) fn replace(
    module: &mut Module,
    functions: &[FunctionId],
    instead: &HashMap<FunctionId, FunctionId>,
) {
    let mut replace = Replace(instead);
    for id in functions {
        if let FunctionKind::Local(function) = &mut module.funcs.get_mut(*id).kind {
            let start = function.entry_block();
            dfs_pre_order_mut(&mut replace, function, start);
        }
    }
    for element in module.elements.iter_mut() {
        match &mut element.items {
            ElementItems::Functions(ids) => ids.iter_mut().for_each(|id| replace.one(id)),
            ElementItems::Expressions(_, expressions) => {
                for expression in expressions {
                    if let ConstExpr::RefFunc(id) = expression {
                        replace.one(id);
                    }
                }
            }
        }
    }
}

/// Calls what stands in for a function instead of it.
struct Replace<'a>(&'a HashMap<FunctionId, FunctionId>);

impl Replace<'_> {
    fn one(&self, id: &mut FunctionId) {
        if let Some(other) = self.0.get(id) {
            *id = *other;
        }
    }
}

impl VisitorMut for Replace<'_> {
    fn visit_function_id_mut(&mut self, id: &mut FunctionId) {
        self.one(id);
    }
}

/// The functions that write lines.
pub(super) struct Recorder {
    memory: MemoryId,
    /// `(byte)`: a character.
    pub(super) character: FunctionId,
    /// `(number: i64)`: a space and 16 digits.
    pub(super) number: FunctionId,
    /// `(pointer, length)`: a space, `x`, and two digits for each byte.
    bytes: FunctionId,
    /// Sends the line off and begins the next.
    pub(super) end: FunctionId,
}

const LOAD32: LoadKind = LoadKind::I32 { atomic: false };

fn at(align: u32) -> MemArg {
    MemArg { align, offset: 0 }
}

impl Recorder {
    pub(super) fn add(module: &mut Module, tag: &str) -> anyhow::Result<Self> {
        let memory_id = module.get_memory_id().context("it has no memory")?;
        let memory = module.memories.get_mut(memory_id);
        let start = u32::try_from(memory.initial)? * PAGE;
        memory.initial += u64::from(PAGES);
        memory.maximum = memory.maximum.map(|most| most + u64::from(PAGES));
        let end = (start + PAGES * PAGE).cast_signed();
        let start = start.cast_signed();

        let beginning = format!("{MARK} {tag} ");
        let text = start + i32::try_from(beginning.len())?;
        let offset = ConstExpr::Value(ir::Value::I32(start));
        module.data.add(
            DataKind::Active {
                memory: memory_id,
                offset,
            },
            beginning.into_bytes(),
        );
        let cursor = module.globals.add_local(
            ValType::I32,
            true,
            false,
            ConstExpr::Value(ir::Value::I32(text)),
        );
        let log = match module.imports.get_func("env", "proxy_log") {
            Ok(log) => log,
            Err(_) => {
                let ty = module
                    .types
                    .add(&[ValType::I32, ValType::I32, ValType::I32], &[ValType::I32]);
                module.add_import_func("env", "proxy_log", ty).0
            }
        };
        let character = character(module, memory_id, cursor, end);
        Ok(Self {
            memory: memory_id,
            character,
            number: number(module, character),
            bytes: bytes(module, memory_id, character),
            end: self::end(module, log, cursor, start, text),
        })
    }

    fn around_import(
        &self,
        module: &mut Module,
        import: FunctionId,
        index: usize,
        known: Option<&Function>,
    ) -> anyhow::Result<FunctionId> {
        let ty = module.types.get(module.funcs.get(import).ty());
        let (params, results) = (ty.params().to_vec(), ty.results().to_vec());
        if let Some(known) = known {
            let wide = |parameter: &Parameter| *parameter == Parameter::Wide;
            let expected: Vec<ValType> = known
                .parameters
                .iter()
                .flat_map(|parameter| {
                    let ty = if wide(parameter) {
                        ValType::I64
                    } else {
                        ValType::I32
                    };
                    std::iter::repeat_n(ty, parameter.width())
                })
                .collect();
            ensure!(
                params == expected,
                "with {params:?}, and the ABI has {expected:?}"
            );
        }
        let args: Vec<LocalId> = params.iter().map(|ty| module.locals.add(*ty)).collect();
        let result = one_result(&results)?.map(|ty| module.locals.add(ty));
        let mut builder = FunctionBuilder::new(&mut module.types, &params, &results);
        let mut body = builder.func_body();
        for arg in &args {
            body.local_get(*arg);
        }
        body.call(import);
        if let Some(result) = result {
            body.local_set(result);
        }
        self.write(&mut body, b'C');
        body.i64_const(i64::try_from(index)?).call(self.number);
        match result {
            Some(result) => self.small(&mut body, result),
            None => _ = body.i64_const(0).call(self.number),
        }
        let mut args_left = args.iter().copied();
        for parameter in known.map(|known| known.parameters).unwrap_or_default() {
            let first = args_left.next().context("it has too few parameters")?;
            match parameter {
                Parameter::Number | Parameter::Expected | Parameter::Metric => {
                    self.small(&mut body, first)
                }
                Parameter::Wide => _ = body.local_get(first).call(self.number),
                Parameter::Bytes => {
                    let length = args_left.next().context("it has too few parameters")?;
                    body.local_get(first).local_get(length).call(self.bytes);
                }
                Parameter::Returned => {
                    let length = args_left.next().context("it has too few parameters")?;
                    self.loaded(&mut body, length);
                }
                Parameter::Version | Parameter::NewMetric => self.loaded(&mut body, first),
                Parameter::Out => {}
                Parameter::Room => {
                    let length = args_left.next().context("it has too few parameters")?;
                    self.small(&mut body, length);
                }
            }
        }
        body.call(self.end);
        if let Some(result) = result {
            body.local_get(result);
        }
        Ok(builder.finish(args, &mut module.funcs))
    }

    fn around_callback(
        &self,
        module: &mut Module,
        function: FunctionId,
        index: usize,
        name: String,
    ) -> anyhow::Result<(FunctionId, Callback)> {
        let ty = module.types.get(module.funcs.get(function).ty());
        let (params, results) = (ty.params().to_vec(), ty.results().to_vec());
        ensure!(
            params.iter().all(|ty| *ty == ValType::I32),
            "{name} takes {params:?}"
        );
        let args: Vec<LocalId> = params.iter().map(|ty| module.locals.add(*ty)).collect();
        let result = one_result(&results)?.map(|ty| module.locals.add(ty));
        let mut builder = FunctionBuilder::new(&mut module.types, &params, &results);
        let mut body = builder.func_body();
        let index = i64::try_from(index)?;
        self.write(&mut body, b'B');
        body.i64_const(index).call(self.number);
        for position in 0..2 {
            match args.get(position) {
                Some(arg) => self.small(&mut body, *arg),
                None => _ = body.i64_const(0).call(self.number),
            }
        }
        body.call(self.end);
        for arg in &args {
            body.local_get(*arg);
        }
        body.call(function);
        if let Some(result) = result {
            body.local_set(result);
        }
        self.write(&mut body, b'E');
        match result {
            Some(result) => self.small(&mut body, result),
            None => _ = body.i64_const(0).call(self.number),
        }
        body.call(self.end);
        if let Some(result) = result {
            body.local_get(result);
        }
        let callback = Callback {
            name,
            parameters: params.len(),
            returns: result.is_some(),
        };
        Ok((builder.finish(args, &mut module.funcs), callback))
    }

    pub(super) fn write(&self, body: &mut InstrSeqBuilder<'_>, character: u8) {
        body.i32_const(character.into()).call(self.character);
    }

    /// Writes a number of 32 bits.
    pub(super) fn small(&self, body: &mut InstrSeqBuilder<'_>, local: LocalId) {
        body.local_get(local)
            .unop(UnaryOp::I64ExtendUI32)
            .call(self.number);
    }

    /// Writes the number of 32 bits that a pointer points to.
    fn loaded(&self, body: &mut InstrSeqBuilder<'_>, pointer: LocalId) {
        body.local_get(pointer)
            .load(self.memory, LOAD32, at(4))
            .unop(UnaryOp::I64ExtendUI32)
            .call(self.number);
    }
}

pub(super) fn one_result(results: &[ValType]) -> anyhow::Result<Option<ValType>> {
    match results {
        [] => Ok(None),
        [ValType::I32] => Ok(Some(ValType::I32)),
        other => Err(anyhow!("it returns {other:?}")),
    }
}

fn character(module: &mut Module, memory: MemoryId, cursor: GlobalId, end: i32) -> FunctionId {
    let byte = module.locals.add(ValType::I32);
    let mut builder = FunctionBuilder::new(&mut module.types, &[ValType::I32], &[]);
    builder
        .func_body()
        // A line that is too long must not end up in what somebody else keeps there.
        .global_get(cursor)
        .i32_const(end)
        .binop(BinaryOp::I32GeU)
        .if_else(None, |then| _ = then.unreachable(), |_| {})
        .global_get(cursor)
        .local_get(byte)
        .store(memory, StoreKind::I32_8 { atomic: false }, at(1))
        .global_get(cursor)
        .i32_const(1)
        .binop(BinaryOp::I32Add)
        .global_set(cursor);
    builder.finish(vec![byte], &mut module.funcs)
}

/// The hexadecimal digit of the number on the stack, which is below 16; `scratch` is written.
fn digit(body: &mut InstrSeqBuilder<'_>, scratch: LocalId, character: FunctionId) {
    body.local_tee(scratch)
        .local_get(scratch)
        .i32_const(9)
        .binop(BinaryOp::I32GtU)
        .i32_const(i32::from(b'a' - b'9' - 1))
        .binop(BinaryOp::I32Mul)
        .binop(BinaryOp::I32Add)
        .i32_const(b'0'.into())
        .binop(BinaryOp::I32Add)
        .call(character);
}

fn number(module: &mut Module, character: FunctionId) -> FunctionId {
    let value = module.locals.add(ValType::I64);
    let shift = module.locals.add(ValType::I64);
    let scratch = module.locals.add(ValType::I32);
    let mut builder = FunctionBuilder::new(&mut module.types, &[ValType::I64], &[]);
    let mut body = builder.func_body();
    body.i32_const(b' '.into())
        .call(character)
        .i64_const(60)
        .local_set(shift);
    body.loop_(None, |again| {
        again
            .local_get(value)
            .local_get(shift)
            .binop(BinaryOp::I64ShrU)
            .i64_const(15)
            .binop(BinaryOp::I64And)
            .unop(UnaryOp::I32WrapI64);
        digit(again, scratch, character);
        let id = again.id();
        again
            .local_get(shift)
            .i64_const(4)
            .binop(BinaryOp::I64Sub)
            .local_tee(shift)
            .i64_const(0)
            .binop(BinaryOp::I64GeS)
            .br_if(id);
    });
    builder.finish(vec![value], &mut module.funcs)
}

fn bytes(module: &mut Module, memory: MemoryId, character: FunctionId) -> FunctionId {
    let pointer = module.locals.add(ValType::I32);
    let length = module.locals.add(ValType::I32);
    let byte = module.locals.add(ValType::I32);
    let scratch = module.locals.add(ValType::I32);
    let mut builder = FunctionBuilder::new(&mut module.types, &[ValType::I32, ValType::I32], &[]);
    let mut body = builder.func_body();
    body.i32_const(b' '.into())
        .call(character)
        .i32_const(b'x'.into())
        .call(character);
    body.block(None, |done| {
        let out = done.id();
        done.loop_(None, |again| {
            again
                .local_get(length)
                .unop(UnaryOp::I32Eqz)
                .br_if(out)
                .local_get(pointer)
                .load(
                    memory,
                    LoadKind::I32_8 {
                        kind: ExtendedLoad::ZeroExtend,
                    },
                    at(1),
                )
                .local_tee(byte)
                .i32_const(4)
                .binop(BinaryOp::I32ShrU);
            digit(again, scratch, character);
            again.local_get(byte).i32_const(15).binop(BinaryOp::I32And);
            digit(again, scratch, character);
            let id = again.id();
            again
                .local_get(pointer)
                .i32_const(1)
                .binop(BinaryOp::I32Add)
                .local_set(pointer)
                .local_get(length)
                .i32_const(1)
                .binop(BinaryOp::I32Sub)
                .local_set(length)
                .br(id);
        });
    });
    builder.finish(vec![pointer, length], &mut module.funcs)
}

fn end(
    module: &mut Module,
    log: FunctionId,
    cursor: GlobalId,
    start: i32,
    text: i32,
) -> FunctionId {
    let mut builder = FunctionBuilder::new(&mut module.types, &[], &[]);
    builder
        .func_body()
        .i32_const(CRITICAL)
        .i32_const(start)
        .global_get(cursor)
        .i32_const(start)
        .binop(BinaryOp::I32Sub)
        .call(log)
        .drop()
        .i32_const(text)
        .global_set(cursor);
    builder.finish(vec![], &mut module.funcs)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MODULE: &str = r#"(module
        (import "env" "proxy_get_shared_data"
            (func $get (param i32 i32 i32 i32 i32) (result i32)))
        (import "env" "proxy_new" (func $new (param i32) (result i32)))
        (memory (export "memory") 2 3)
        (table 1 funcref)
        (elem (i32.const 0) $new)
        (func (export "_initialize"))
        (func (export "proxy_on_memory_allocate") (param i32) (result i32) (i32.const 1024))
        (func (export "proxy_on_delete") (param i32))
        (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
            (drop (call $get (i32.const 1) (i32.const 2) (i32.const 16) (i32.const 20) (i32.const 24)))
            (call $new (i32.const 7))))"#;

    #[test]
    fn every_call_and_callback_goes_through_what_tells_of_it() {
        let (module, interface) = recording(&wat::parse_str(MODULE).unwrap(), "tag").unwrap();
        assert_eq!(
            interface,
            Interface {
                functions: vec![
                    (
                        "env".to_owned(),
                        "proxy_get_shared_data".to_owned(),
                        Function::named("env", "proxy_get_shared_data")
                    ),
                    ("env".to_owned(), "proxy_new".to_owned(), None),
                ],
                callbacks: vec![
                    Callback {
                        name: "proxy_on_delete".to_owned(),
                        parameters: 1,
                        returns: false
                    },
                    Callback {
                        name: "proxy_on_request_headers".to_owned(),
                        parameters: 3,
                        returns: true
                    },
                ],
            }
        );

        let module = Module::from_buffer(&module).unwrap();
        let memory = module.memories.iter().next().unwrap();
        assert_eq!(
            (memory.initial, memory.maximum),
            (2 + u64::from(PAGES), Some(3 + u64::from(PAGES)))
        );
        // Only its wrapper calls an import now, and the log is called by what ends a line.
        let mut callers = Callers::default();
        for (id, function) in module.funcs.iter_local() {
            callers.current = Some(id);
            walrus::ir::dfs_in_order(&mut callers, function, function.entry_block());
        }
        for (name, expected) in [
            ("proxy_get_shared_data", 1),
            ("proxy_new", 1),
            ("proxy_log", 1),
        ] {
            let import = module.imports.get_func("env", name).unwrap();
            let calls = callers.calls.iter().filter(|(_, to)| *to == import).count();
            assert_eq!(calls, expected, "{name}");
        }
        let element = module.elements.iter().next().unwrap();
        let ElementItems::Functions(functions) = &element.items else {
            panic!("{element:?}");
        };
        assert!(matches!(
            module.funcs.get(functions[0]).kind,
            FunctionKind::Local(_)
        ));
    }

    #[derive(Default)]
    struct Callers {
        current: Option<FunctionId>,
        calls: Vec<(Option<FunctionId>, FunctionId)>,
    }

    impl<'a> walrus::ir::Visitor<'a> for Callers {
        fn visit_function_id(&mut self, id: &FunctionId) {
            self.calls.push((self.current, *id));
        }
    }

    #[test]
    fn a_function_that_is_not_as_the_abi_has_it_is_refused() {
        let text = r#"(module
            (import "env" "proxy_set_tick_period_milliseconds" (func (param i64) (result i32)))
            (memory (export "memory") 1))"#;
        let error = recording(&wat::parse_str(text).unwrap(), "tag").unwrap_err();
        assert_eq!(
            format!("{error:#}"),
            "it imports env.proxy_set_tick_period_milliseconds: with [I64], and the ABI has [I32]"
        );
        let error = recording(b"\x7fELF", "tag").unwrap_err();
        assert!(
            error
                .to_string()
                .starts_with("it is not a WebAssembly module: "),
            "{error}"
        );
    }
}
