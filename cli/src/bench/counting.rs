//! Makes of a module one that counts the WebAssembly operators which it executes, and says how many there were in each callback.
//!
//! CPU time differs from run to run; what a module executes for the same requests does not. Every stretch of instructions without a branch begins with adding their
//! number to a counter, and each callback is put behind a function that writes what the counter says, before and after. The lines leave as those of
//! [`super::record`] do. What Envoy and the wrappers do is not counted.
//!
//! Not counted are operators that only move locals and constants: a compiler makes registers of them. Nor are those that only say where a branch ends. Each other one
//! counts as one, a call as one beside what is called; copying or filling memory counts as one and one for every 8 bytes begun.
//!
//! A module also sees things that differ: the time, and random numbers, which seed its hash tables. So in a module that counts, the clock stands still during a request and goes on by
//! [`STEP`] from one to the next, random numbers are those of a generator that begins with the same number each time, and [`ticks`](TICK) never come.

use std::collections::{BTreeMap, HashMap};
use std::io::BufRead;

use anyhow::{Context, anyhow, bail};
use walrus::ir::{
    self, BinaryOp, Binop, Const, GlobalGet, GlobalSet, Instr, InstrLocId, InstrSeq, InstrSeqId,
    LocalGet, LocalTee, StoreKind, UnaryOp, Unop, Value, Visitor, dfs_in_order,
};
use walrus::{
    ConstExpr, ExportItem, FunctionBuilder, FunctionId, FunctionKind, GlobalId, ImportKind,
    LocalFunction, LocalId, MemoryId, Module, ModuleConfig, ValType,
};

use super::record::{MARK, Recorder, callbacks, one_result, replace};

/// Noon of a Monday, in nanoseconds: no minute, day or month ends while requests are counted.
const START: i64 = 1_767_614_400_000_000_000;

/// What the clock goes on by with each request, in nanoseconds.
pub(crate) const STEP: i64 = 250_000;

/// A module's wish for ticks is accepted and forgotten: they would come at other requests each time.
const TICK: &str = "proxy_set_tick_period_milliseconds";

/// What the lines of a module that counts are about, in the order of the numbers in them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Names {
    callbacks: Vec<String>,
    functions: Vec<String>,
}

/// Which of the requests that a module gets count: those after the first so many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) before: u64,
    pub(crate) counted: u64,
}

/// The module that counts. `tag` is in each line.
pub(crate) fn counting(module: &[u8], tag: &str, span: Span) -> anyhow::Result<(Vec<u8>, Names)> {
    let mut module = ModuleConfig::new()
        .generate_name_section(false)
        .generate_producers_section(false)
        .parse(module)
        .map_err(|error| anyhow!("it is not a WebAssembly module: {error:#}"))?;
    let originals: Vec<FunctionId> = module.funcs.iter_local().map(|(id, _)| id).collect();
    let counter = number_global(&mut module, 0);
    let mut functions = Vec::new();
    let mut counters = Vec::new();
    for id in &originals {
        let own = number_global(&mut module, 0);
        let scratch = module.locals.add(ValType::I32);
        let function = module.funcs.get_mut(*id);
        functions.push(match &function.name {
            Some(name) => format!("{:#}", rustc_demangle::demangle(name)),
            None => format!("function {}", functions.len()),
        });
        counters.push(own);
        if let FunctionKind::Local(function) = &mut function.kind {
            count(function, &[counter, own], scratch);
        }
    }

    let clock = number_global(&mut module, START);
    let instead = same_each_time(&mut module, clock)?;
    replace(&mut module, &originals, &instead);

    let recorder = Recorder::add(&mut module, tag)?;
    let dump = dump(&mut module, &recorder, &counters);
    let ended = number_global(&mut module, 0);
    let teller = Teller {
        recorder,
        counter,
        clock,
        ended,
        dump,
        span,
    };
    let mut names = Vec::new();
    for (number, (export, name, function)) in callbacks(&module).into_iter().enumerate() {
        let wrapper = teller.around(&mut module, function, number, &name)?;
        module.exports.get_mut(export).item = ExportItem::Function(wrapper);
        names.push(name);
    }
    let names = Names {
        callbacks: names,
        functions,
    };
    Ok((module.emit_wasm(), names))
}

fn number_global(module: &mut Module, value: i64) -> GlobalId {
    let value = ConstExpr::Value(Value::I64(value));
    module.globals.add_local(ValType::I64, true, false, value)
}

/// What an operator counts as.
fn weight(instruction: &Instr) -> i64 {
    match instruction {
        Instr::LocalGet(_)
        | Instr::LocalSet(_)
        | Instr::LocalTee(_)
        | Instr::Const(_)
        | Instr::Drop(_)
        | Instr::Block(_)
        | Instr::Loop(_) => 0,
        _ => 1,
    }
}

/// Whether what follows an operator may be reached in another way, or not at all.
fn ends_stretch(instruction: &Instr) -> bool {
    matches!(
        instruction,
        Instr::Block(_)
            | Instr::Loop(_)
            | Instr::IfElse(_)
            | Instr::Br(_)
            | Instr::BrIf(_)
            | Instr::BrTable(_)
            | Instr::Return(_)
            | Instr::Unreachable(_)
    )
}

/// Whether an operator does more the larger the number on top of the stack is.
fn is_bulk(instruction: &Instr) -> bool {
    matches!(instruction, Instr::MemoryCopy(_) | Instr::MemoryFill(_))
}

/// Has a function add to these counters what it executes.
fn count(function: &mut LocalFunction, counters: &[GlobalId], scratch: LocalId) {
    let mut sequences = Sequences::default();
    dfs_in_order(&mut sequences, function, function.entry_block());
    for id in sequences.0 {
        let instructions = &mut function.block_mut(id).instrs;
        let old = std::mem::take(instructions);
        for stretch in old.split_inclusive(|(instruction, _)| ends_stretch(instruction)) {
            let sum: i64 = stretch.iter().map(|(i, _)| weight(i)).sum();
            if sum > 0 {
                let number = || vec![constant(Value::I64(sum))];
                add(instructions, counters, number);
            }
            for (instruction, location) in stretch {
                if is_bulk(instruction) {
                    instructions.push(plain(Instr::LocalTee(LocalTee { local: scratch })));
                    add(instructions, counters, || eighths(scratch));
                }
                instructions.push((instruction.clone(), *location));
            }
        }
    }
}

#[derive(Default)]
struct Sequences(Vec<InstrSeqId>);

impl<'a> Visitor<'a> for Sequences {
    fn start_instr_seq(&mut self, sequence: &'a InstrSeq) {
        self.0.push(sequence.id());
    }
}

fn plain(instruction: Instr) -> (Instr, InstrLocId) {
    (instruction, InstrLocId::default())
}

fn constant(value: Value) -> (Instr, InstrLocId) {
    plain(Instr::Const(Const { value }))
}

/// Adds a number, for which there are instructions, to each of these counters.
fn add(
    to: &mut Vec<(Instr, InstrLocId)>,
    counters: &[GlobalId],
    number: impl Fn() -> Vec<(Instr, InstrLocId)>,
) {
    for global in counters {
        let global = *global;
        to.push(plain(Instr::GlobalGet(GlobalGet { global })));
        to.extend(number());
        let op = BinaryOp::I64Add;
        to.push(plain(Instr::Binop(Binop { op })));
        to.push(plain(Instr::GlobalSet(GlobalSet { global })));
    }
}

/// How many times 8 bytes begin in so many bytes.
fn eighths(bytes: LocalId) -> Vec<(Instr, InstrLocId)> {
    let binop = |op| plain(Instr::Binop(Binop { op }));
    let op = UnaryOp::I64ExtendUI32;
    vec![
        plain(Instr::LocalGet(LocalGet { local: bytes })),
        plain(Instr::Unop(Unop { op })),
        constant(Value::I64(7)),
        binop(BinaryOp::I64Add),
        constant(Value::I64(3)),
        binop(BinaryOp::I64ShrU),
    ]
}

/// What stands in for imported functions that would give something else each time.
fn same_each_time(
    module: &mut Module,
    clock: GlobalId,
) -> anyhow::Result<HashMap<FunctionId, FunctionId>> {
    let memory = module.get_memory_id().context("it has no memory")?;
    let imports: Vec<(FunctionId, String)> = module
        .imports
        .iter()
        .filter_map(|import| match import.kind {
            ImportKind::Function(id) => Some((id, import.name.clone())),
            _ => None,
        })
        .collect();
    let mut instead = HashMap::new();
    for (id, name) in imports {
        let ty = module.types.get(module.funcs.get(id).ty());
        let params = ty.params().to_vec();
        let args: Vec<LocalId> = params.iter().map(|ty| module.locals.add(*ty)).collect();
        let mut builder = FunctionBuilder::new(&mut module.types, &params, &[ValType::I32]);
        match (name.as_str(), &params[..], &args[..]) {
            ("proxy_get_current_time_nanoseconds", [ValType::I32], [to])
            | ("clock_time_get", [ValType::I32, ValType::I64, ValType::I32], [_, _, to]) => {
                let kind = StoreKind::I64 { atomic: false };
                let mut body = builder.func_body();
                body.local_get(*to).global_get(clock);
                body.store(memory, kind, unaligned()).i32_const(0);
            }
            ("random_get", [ValType::I32, ValType::I32], [to, length]) => {
                random(module, memory, &mut builder, *to, *length);
            }
            (TICK, [ValType::I32], _) => _ = builder.func_body().i32_const(0),
            _ => continue,
        }
        instead.insert(id, builder.finish(args, &mut module.funcs));
    }
    Ok(instead)
}

fn unaligned() -> ir::MemArg {
    ir::MemArg {
        align: 1,
        offset: 0,
    }
}

/// Fills memory with the highest bytes of the numbers of a linear congruential generator (Knuth's MMIX), a byte each.
fn random(
    module: &mut Module,
    memory: MemoryId,
    builder: &mut FunctionBuilder,
    to: LocalId,
    length: LocalId,
) {
    let state = number_global(module, START);
    let mut body = builder.func_body();
    body.block(None, |done| {
        let out = done.id();
        done.loop_(None, |again| {
            let next = again.id();
            again
                .local_get(length)
                .unop(UnaryOp::I32Eqz)
                .br_if(out)
                .global_get(state)
                .i64_const(6_364_136_223_846_793_005)
                .binop(BinaryOp::I64Mul)
                .i64_const(1_442_695_040_888_963_407)
                .binop(BinaryOp::I64Add)
                .global_set(state)
                .local_get(to)
                .global_get(state)
                .i64_const(56)
                .binop(BinaryOp::I64ShrU)
                .store(memory, StoreKind::I64_8 { atomic: false }, unaligned())
                .local_get(to)
                .i32_const(1)
                .binop(BinaryOp::I32Add)
                .local_set(to)
                .local_get(length)
                .i32_const(1)
                .binop(BinaryOp::I32Sub)
                .local_set(length)
                .br(next);
        });
    })
    .i32_const(0);
}

/// `(character)`: a line for each function that has executed something, which begins with the character.
fn dump(module: &mut Module, recorder: &Recorder, counters: &[GlobalId]) -> FunctionId {
    let kind = module.locals.add(ValType::I32);
    let mut builder = FunctionBuilder::new(&mut module.types, &[ValType::I32], &[]);
    let mut body = builder.func_body();
    for (index, global) in counters.iter().enumerate() {
        body.global_get(*global).unop(UnaryOp::I64Eqz).if_else(
            None,
            |_| {},
            |executed| {
                executed
                    .local_get(kind)
                    .call(recorder.character)
                    .i64_const(index as i64)
                    .call(recorder.number)
                    .global_get(*global)
                    .call(recorder.number)
                    .call(recorder.end);
            },
        );
    }
    builder.finish(vec![kind], &mut module.funcs)
}

/// What a callback is put behind.
struct Teller {
    recorder: Recorder,
    counter: GlobalId,
    clock: GlobalId,
    /// How many requests are over.
    ended: GlobalId,
    dump: FunctionId,
    span: Span,
}

impl Teller {
    fn around(
        &self,
        module: &mut Module,
        function: FunctionId,
        index: usize,
        name: &str,
    ) -> anyhow::Result<FunctionId> {
        let ty = module.types.get(module.funcs.get(function).ty());
        let (params, results) = (ty.params().to_vec(), ty.results().to_vec());
        let args: Vec<LocalId> = params.iter().map(|ty| module.locals.add(*ty)).collect();
        let Some((context, ValType::I32)) = args.first().zip(params.first().copied()) else {
            bail!("{name} takes {params:?}");
        };
        let result = one_result(&results)?.map(|ty| module.locals.add(ty));
        let mut builder = FunctionBuilder::new(&mut module.types, &params, &results);
        let mut body = builder.func_body();
        // Contexts without a parent are those of plugins.
        if let ("proxy_on_context_create", Some(parent)) = (name, args.get(1)) {
            body.local_get(*parent).if_else(
                None,
                |request| {
                    request
                        .global_get(self.clock)
                        .i64_const(STEP)
                        .binop(BinaryOp::I64Add)
                        .global_set(self.clock);
                },
                |_| {},
            );
        }
        self.recorder.write(&mut body, b'B');
        body.i64_const(i64::try_from(index)?)
            .call(self.recorder.number);
        self.recorder.small(&mut body, *context);
        match args.get(1) {
            Some(second) => self.recorder.small(&mut body, *second),
            None => _ = body.i64_const(0).call(self.recorder.number),
        }
        body.global_get(self.counter)
            .call(self.recorder.number)
            .call(self.recorder.end);
        for arg in &args {
            body.local_get(*arg);
        }
        body.call(function);
        if let Some(result) = result {
            body.local_set(result);
        }
        self.recorder.write(&mut body, b'E');
        body.global_get(self.counter)
            .call(self.recorder.number)
            .call(self.recorder.end);
        if name == "proxy_on_delete" {
            body.global_get(self.ended)
                .i64_const(1)
                .binop(BinaryOp::I64Add)
                .global_set(self.ended);
            let last = self.span.before + self.span.counted;
            for (when, kind) in [(self.span.before, FIRST), (last, LAST)] {
                body.global_get(self.ended)
                    .i64_const(i64::try_from(when)?)
                    .binop(BinaryOp::I64Eq)
                    .if_else(
                        None,
                        |now| _ = now.i32_const(kind.into()).call(self.dump),
                        |_| {},
                    );
            }
        }
        if let Some(result) = result {
            body.local_get(result);
        }
        Ok(builder.finish(args, &mut module.funcs))
    }
}

/// What lines begin with that say what a function had executed before the first request that counts, and after the last.
const FIRST: u8 = b'F';
const LAST: u8 = b'L';

/// What a module executed for the requests that count.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    /// In each request, by callback.
    pub(crate) requests: Vec<BTreeMap<String, u64>>,
    /// In all of them, by function.
    pub(crate) functions: BTreeMap<String, u64>,
}

/// What these modules executed, by tag, from the log of a proxy with one worker.
pub(crate) fn read(
    log: impl BufRead,
    modules: &BTreeMap<String, Names>,
    span: Span,
) -> anyhow::Result<BTreeMap<String, Counts>> {
    let mut vms: HashMap<(String, String), Vm> = HashMap::new();
    for line in log.split(b'\n') {
        let line = line.context("the proxy's log cannot be read")?;
        // What others write there need not be UTF-8.
        let Ok(line) = std::str::from_utf8(&line) else {
            continue;
        };
        let Some((before, told)) = line.split_once(MARK) else {
            continue;
        };
        let thread = before.split_whitespace().next().unwrap_or_default();
        let told: Vec<&str> = told.split_whitespace().collect();
        let (tag, told) = told.split_first().context("a line has no tag")?;
        let names = modules
            .get(*tag)
            .with_context(|| format!("a line is of no module: {line:?}"))?;
        let vm = vms.entry((thread.to_owned(), (*tag).to_owned()));
        vm.or_default()
            .take(told, names)
            .with_context(|| format!("a line cannot be read: {line:?}"))?;
    }
    let mut counts = BTreeMap::new();
    for ((_, tag), vm) in vms {
        // Not that of the main thread, which is configured and gets no requests.
        if let Some(requests) = vm.span(span) {
            counts.insert(
                tag,
                Counts {
                    requests,
                    functions: vm.functions,
                },
            );
        }
    }
    Ok(counts)
}

/// What one VM has told so far.
#[derive(Debug, Default)]
struct Vm {
    /// The callbacks that run, one within the other.
    running: Vec<Running>,
    open: HashMap<u64, BTreeMap<String, u64>>,
    /// The requests that are over, in the order of their ends.
    over: Vec<BTreeMap<String, u64>>,
    functions: BTreeMap<String, u64>,
}

#[derive(Debug)]
struct Running {
    callback: String,
    context: u64,
    /// What the counter said when it began, and all callbacks within it took.
    since: u64,
}

impl Vm {
    fn span(&self, span: Span) -> Option<Vec<BTreeMap<String, u64>>> {
        let (before, counted) = (
            usize::try_from(span.before).ok()?,
            usize::try_from(span.counted).ok()?,
        );
        Some(self.over.get(before..before + counted)?.to_vec())
    }

    fn take(&mut self, line: &[&str], names: &Names) -> anyhow::Result<()> {
        let (kind, fields) = line.split_first().context("it says nothing")?;
        let fields: Vec<u64> = fields
            .iter()
            .map(|field| {
                u64::from_str_radix(field, 16).map_err(|_| anyhow!("{field:?} is no number"))
            })
            .collect::<Result<_, _>>()?;
        match (*kind, &fields[..]) {
            ("B", [callback, context, second, counter]) => {
                let callback = usize::try_from(*callback)?;
                let callback = names.callbacks.get(callback);
                let callback = callback.context("there is no such callback")?.clone();
                if callback == "proxy_on_context_create" && *second != 0 {
                    self.open.insert(*context, BTreeMap::new());
                }
                self.running.push(Running {
                    callback,
                    context: *context,
                    since: *counter,
                });
            }
            ("E", [counter]) => {
                let running = self.running.pop().context("nothing was running")?;
                let executed = counter
                    .checked_sub(running.since)
                    .context("the counter went back")?;
                for outer in &mut self.running {
                    outer.since += executed;
                }
                let Some(request) = self.open.get_mut(&running.context) else {
                    return Ok(());
                };
                let is_end = running.callback == "proxy_on_delete";
                *request.entry(running.callback).or_default() += executed;
                if is_end {
                    self.over.extend(self.open.remove(&running.context));
                }
            }
            ("F" | "L", [function, executed]) => {
                let function = usize::try_from(*function)?;
                let name = names.functions.get(function);
                let name = name.context("there is no such function")?.clone();
                let sum = self.functions.entry(name).or_default();
                // Of several functions with one name, each has its own lines.
                *sum = match *kind {
                    "F" => sum.wrapping_sub(*executed),
                    _ => sum.wrapping_add(*executed),
                };
            }
            _ => bail!("{line:?} is no line of a module that counts"),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MODULE: &str = r#"(module
        (import "env" "proxy_get_current_time_nanoseconds" (func $now (param i32) (result i32)))
        (import "env" "proxy_set_tick_period_milliseconds" (func $tick (param i32) (result i32)))
        (import "wasi_snapshot_preview1" "random_get" (func $random (param i32 i32) (result i32)))
        (memory (export "memory") 1)
        (func $_ZN5hello5world17h0123456789abcdefE (param $n i32)
            (drop (call $now (i32.const 8)))
            (block $out
                (loop $again
                    (br_if $out (i32.eqz (local.get $n)))
                    (local.set $n (i32.sub (local.get $n) (i32.const 1)))
                    (memory.fill (i32.const 0) (i32.const 7) (local.get $n))
                    (br $again)))
            (if (i32.load (i32.const 8)) (then (drop (call $random (i32.const 0) (i32.const 4))))))
        (func (export "proxy_on_context_create") (param i32 i32)
            (drop (call $tick (local.get 0)))
            (call $_ZN5hello5world17h0123456789abcdefE (local.get 1)))
        (func (export "proxy_on_delete") (param i32)))"#;

    const FEW: Span = Span {
        before: 1,
        counted: 2,
    };

    /// The numbers that a function adds to its counters, in the order of its text; bytes that are counted are 0.
    fn added(module: &Module, id: FunctionId) -> Vec<i64> {
        #[derive(Default)]
        struct Added {
            added: Vec<i64>,
            last: Option<i64>,
            second: bool,
        }
        impl<'a> Visitor<'a> for Added {
            fn visit_instr(&mut self, instruction: &'a Instr, _: &'a InstrLocId) {
                match instruction {
                    Instr::Const(Const {
                        value: Value::I64(number),
                    }) => self.last = Some(*number),
                    Instr::Binop(Binop {
                        op: BinaryOp::I64ShrU,
                    }) => self.last = Some(0),
                    Instr::GlobalSet(_) => {
                        // There are two: that of all, and that of the function.
                        self.second = !self.second;
                        if self.second {
                            self.added.extend(self.last);
                        }
                    }
                    _ => {}
                }
            }
        }
        let mut visitor = Added::default();
        let function = module.funcs.get(id).kind.unwrap_local();
        dfs_in_order(&mut visitor, function, function.entry_block());
        visitor.added
    }

    #[test]
    fn every_stretch_adds_what_it_executes_and_no_import_differs_from_run_to_run() {
        let (bytes, names) = counting(&wat::parse_str(MODULE).unwrap(), "tag", FEW).unwrap();
        assert_eq!(
            names.callbacks,
            ["proxy_on_context_create", "proxy_on_delete"]
        );
        assert_eq!(names.functions[0], "hello::world");

        let module = Module::from_buffer(&bytes).unwrap();
        let mut called = Called::default();
        for (_, function) in module.funcs.iter_local() {
            dfs_in_order(&mut called, function, function.entry_block());
        }
        for (from, name, is_called) in [
            ("env", "proxy_get_current_time_nanoseconds", false),
            ("env", TICK, false),
            ("wasi_snapshot_preview1", "random_get", false),
            ("env", "proxy_log", true),
        ] {
            let import = module.imports.get_func(from, name).unwrap();
            assert_eq!(called.0.contains(&import), is_called, "{name}");
        }
        let all: Vec<Vec<i64>> = module
            .funcs
            .iter_local()
            .map(|(id, _)| added(&module, id))
            .collect();
        // The call; the test and the branch; the difference, the filling with its bytes, and the branch; the load and what decides; the call.
        let world = vec![1, 2, 3, 0, 2, 1];
        assert!(all.contains(&world), "{all:?}");
    }

    #[derive(Default)]
    struct Called(Vec<FunctionId>);

    impl<'a> Visitor<'a> for Called {
        fn visit_function_id(&mut self, id: &FunctionId) {
            self.0.push(*id);
        }
    }

    fn line(thread: u32, text: &str) -> String {
        format!("{thread} wasm log m: {MARK} m {text}\n")
    }

    fn names() -> BTreeMap<String, Names> {
        let names = Names {
            callbacks: ["context_create", "request_headers", "delete", "tick"]
                .map(|name| format!("proxy_on_{name}"))
                .to_vec(),
            functions: vec!["a".to_owned(), "b".to_owned()],
        };
        BTreeMap::from([("m".to_owned(), names)])
    }

    #[test]
    fn callbacks_are_put_together_to_requests() {
        let mut log = String::new();
        // The main thread's, which is configured only, and a worker's own.
        log += &[line(1, "B 0 1 0 0"), line(1, "E 999")].concat();
        log += &[line(2, "B 0 1 0 0"), line(2, "E 100")].concat();
        for request in 0..4_u64 {
            let (context, since) = (10 + request, 0x1000 * (1 + request));
            let mut at = |text: &str| log += &line(2, text);
            at(&format!("B 0 {context:x} 1 {since:x}"));
            at(&format!("E {:x}", since + 5));
            at(&format!("B 1 {context:x} 3 {:x}", since + 5));
            // Another one within it, of the plugin: neither the request's nor its callback's.
            at(&format!("B 3 1 0 {:x}", since + 6));
            at(&format!("E {:x}", since + 0x10));
            at(&format!("E {:x}", since + 0x10 + request));
            at(&format!("B 2 {context:x} 0 {:x}", since + 0x100));
            at(&format!("E {:x}", since + 0x102));
            if request == 0 {
                at("F 0 64");
            }
            if request == 2 {
                at("L 0 70");
                at("L 1 3");
            }
        }
        let counts = read(log.as_bytes(), &names(), FEW).unwrap();
        let request = |headers: u64| {
            BTreeMap::from([
                ("proxy_on_context_create".to_owned(), 5),
                ("proxy_on_request_headers".to_owned(), headers),
                ("proxy_on_delete".to_owned(), 2),
            ])
        };
        let expected = Counts {
            requests: vec![request(2), request(3)],
            functions: BTreeMap::from([("a".to_owned(), 0xc), ("b".to_owned(), 3)]),
        };
        assert_eq!(counts, BTreeMap::from([("m".to_owned(), expected)]));
    }

    #[test]
    fn what_cannot_be_read_is_shown() {
        let error = |text: &str| format!("{:#}", read(text.as_bytes(), &names(), FEW).unwrap_err());
        assert_eq!(
            error("1 @tollgate m E 5\n"),
            "a line cannot be read: \"1 @tollgate m E 5\": nothing was running"
        );
        assert_eq!(
            error("1 @tollgate m C 5\n"),
            "a line cannot be read: \"1 @tollgate m C 5\": [\"C\", \"5\"] is no line of a module that counts"
        );
    }
}
