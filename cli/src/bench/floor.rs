//! A module's floor: the module that makes the same calls and does nothing else.
//!
//! It is made from the [`trace`](super::trace) of real requests, so it is what somebody would write by hand who had nothing to decide: the
//! same callbacks, in each the same functions of the proxy in the same order with the very same bytes, and nothing between them. There is no
//! SDK, no allocator (what the proxy returns is left in one place, and the next overwrites it), no reading of what was returned, no memory of
//! requests. What a module costs beyond its floor is its own work; what the floor costs is the interface between proxy and module.
//!
//! Requests need not be alike: one takes a chunk from shared data, nine find one; and each tenant has a key of its own. So the floor plays the
//! traced requests one after the other, and then from the first again. Those that differ in bytes only share their code.
//!
//! A shared value is replaced at the version that the same request has read, as the module does it: at any other the proxy would refuse.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt::Write;

use anyhow::{Context, bail, ensure};

use super::abi::{Function, Parameter};
use super::record::{Callback, Interface};
use super::trace::{Argument, Call, Phase, Request};

/// Where the proxy leaves pointers, sizes and numbers; one place for each position of an argument.
const OUT: u32 = 16;
/// Where versions of shared values are left, one place for each that a request reads.
const VERSIONS: u32 = 64;
const MOST_VERSIONS: usize = 200;
/// Where the proxy leaves what it returns, and zeros before that.
const RETURNED: u32 = 4096;
const PAGE: u32 = 64 * 1024;
/// More than any traced request returned fits, because a measured one may return a little more.
const LEAST_ROOM: u32 = PAGE;

const DEFINE_METRIC: &str = "proxy_define_metric";
const SET_SHARED: &str = "proxy_set_shared_data";

/// The floor of a module with this interface that did this with requests, as WebAssembly text.
pub(crate) fn text(interface: &Interface, requests: &[Request]) -> anyhow::Result<String> {
    ensure!(!requests.is_empty(), "no request was traced");
    let mut floor = Floor::new(interface, requests)?;
    let shapes = shapes(requests);
    let mut scripts = BTreeMap::new();
    for (number, shape) in shapes.groups.iter().enumerate() {
        for (callback, script) in floor.scripts(shape, requests)? {
            scripts.insert((callback, number), script);
        }
    }
    let order = Order {
        requests: requests.len(),
        shapes: shapes.groups.len(),
        shape: floor.data.add(
            &shapes
                .of
                .iter()
                .flat_map(|(shape, _)| (*shape as u16).to_le_bytes())
                .collect::<Vec<u8>>(),
        ),
        ordinal: floor.data.add(
            &shapes
                .of
                .iter()
                .flat_map(|(_, ordinal)| (*ordinal as u32).to_le_bytes())
                .collect::<Vec<u8>>(),
        ),
    };
    let callbacks: Vec<String> = interface
        .callbacks
        .iter()
        .enumerate()
        .map(|(number, callback)| {
            let scripts: Vec<&str> = (0..shapes.groups.len())
                .map(|shape| scripts.get(&(number, shape)).map_or("", String::as_str))
                .collect();
            floor.callback(callback, &scripts, &order)
        })
        .collect::<Result<_, _>>()?;
    Ok(floor.module(&callbacks))
}

/// Requests of the same shape differ in bytes and amounts only.
struct Shapes {
    /// The requests of each shape, by number.
    groups: Vec<Vec<usize>>,
    /// The shape of each request, and which one of that shape it is.
    of: Vec<(usize, usize)>,
}

fn shapes(requests: &[Request]) -> Shapes {
    let mut known: HashMap<Vec<(usize, u32, Vec<CallShape>)>, usize> = HashMap::new();
    let mut groups: Vec<Vec<usize>> = Vec::new();
    let mut of = Vec::new();
    for (number, request) in requests.iter().enumerate() {
        let next = groups.len();
        let shape = *known.entry(shape(request)).or_insert(next);
        if shape == next {
            groups.push(Vec::new());
        }
        if let Some(group) = groups.get_mut(shape) {
            of.push((shape, group.len()));
            group.push(number);
        }
    }
    Shapes { groups, of }
}

/// A call without what differs between requests of one shape.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct CallShape {
    function: usize,
    status: u32,
    arguments: Vec<(u8, u64, Vec<u8>)>,
}

fn shape(request: &Request) -> Vec<(usize, u32, Vec<CallShape>)> {
    let links = links(request);
    let mut position = 0;
    let phases = request.phases.iter();
    phases
        .map(|phase| {
            let calls = phase.calls.iter().map(|call| {
                let link = links.get(position).copied().flatten();
                position += 1;
                call_shape(call, link)
            });
            (phase.callback, phase.result, calls.collect())
        })
        .collect()
}

fn call_shape(call: &Call, link: Option<usize>) -> CallShape {
    let arguments = call.arguments.iter().map(|argument| match argument {
        Argument::Number(number) => (0, u64::from(*number), Vec::new()),
        Argument::Wide(_) => (1, 0, Vec::new()),
        Argument::Bytes(bytes) => (2, bytes.len() as u64, Vec::new()),
        Argument::Returned(_) => (3, 0, Vec::new()),
        Argument::Version(_) => (4, 0, Vec::new()),
        Argument::Expected(_) => (5, link.map_or(0, |link| link as u64 + 1), Vec::new()),
        Argument::NewMetric(_) => (6, 0, Vec::new()),
        Argument::Metric(kind, name) => (7, u64::from(*kind), name.clone()),
        Argument::Out => (8, 0, Vec::new()),
        Argument::Room(length) => (9, u64::from(*length), Vec::new()),
    });
    CallShape {
        function: call.function,
        status: call.status,
        arguments: arguments.collect(),
    }
}

/// For each call of a request that replaces a shared value: which of the request's reads gave it the version.
fn links(request: &Request) -> Vec<Option<usize>> {
    let mut read = Vec::new();
    request
        .calls()
        .map(|call| {
            let link = call.arguments.iter().find_map(|argument| match argument {
                Argument::Expected(version) if *version != 0 => {
                    read.iter().rposition(|read| read == version)
                }
                _ => None,
            });
            let version = call.arguments.iter().find_map(|argument| match argument {
                Argument::Version(version) => Some(*version),
                _ => None,
            });
            read.extend(version);
            link
        })
        .collect()
}

/// Whether a request has come to the same callback in another phase, too.
fn is_repeated(request: &Request, phase: &Phase) -> bool {
    let phases = request.phases.iter();
    let same = phases.filter(|other| other.callback == phase.callback);
    same.count() > 1
}

/// How the floor knows which request it is to play.
struct Order {
    requests: usize,
    shapes: usize,
    /// Where the shape of each request is, 2 bytes each.
    shape: u32,
    /// Where the place within its shape of each request is, 4 bytes each.
    ordinal: u32,
}

/// What the memory begins with.
#[derive(Default)]
struct Data {
    start: u32,
    bytes: Vec<u8>,
    known: HashMap<Vec<u8>, u32>,
}

impl Data {
    /// The address of these bytes.
    fn add(&mut self, bytes: &[u8]) -> u32 {
        if let Some(address) = self.known.get(bytes) {
            return *address;
        }
        self.bytes.resize(self.bytes.len().next_multiple_of(8), 0);
        let address = self.start + self.bytes.len() as u32;
        self.bytes.extend_from_slice(bytes);
        self.known.insert(bytes.to_vec(), address);
        address
    }
}

struct Floor<'a> {
    interface: &'a Interface,
    data: Data,
    room: u32,
    /// The functions that are called, by name.
    used: BTreeMap<&'static str, &'static Function>,
    /// The metrics that are counted, in the order of the globals with their ids.
    metrics: Vec<(u32, Vec<u8>)>,
    /// The shared values that requests find, with their sizes.
    shared: BTreeMap<Vec<u8>, u32>,
    ordinals: bool,
}

impl<'a> Floor<'a> {
    fn new(interface: &'a Interface, requests: &[Request]) -> anyhow::Result<Self> {
        let mut used = BTreeMap::new();
        let mut metrics = BTreeSet::new();
        let mut shared = BTreeMap::new();
        let mut most = 0;
        for call in requests.iter().flat_map(Request::calls) {
            let (module, name, known) = interface
                .functions
                .get(call.function)
                .context("there is no such function")?;
            let known = known.with_context(|| {
                format!(
                    "it calls {module}.{name} for a request, which cannot be repeated yet: add it to \
                     cli/src/bench/abi.rs"
                )
            })?;
            used.insert(known.name, known);
            for argument in &call.arguments {
                match argument {
                    Argument::Metric(kind, name) => _ = metrics.insert((*kind, name.clone())),
                    Argument::Returned(length) => most = most.max(*length),
                    Argument::Room(length) => most = most.max(*length),
                    _ => {}
                }
            }
            if let [
                Argument::Bytes(key),
                Argument::Returned(length),
                Argument::Version(_),
            ] = &call.arguments[..]
                && call.status == 0
            {
                shared.entry(key.clone()).or_insert(*length);
            }
        }
        for (name, needed) in [
            (DEFINE_METRIC, !metrics.is_empty()),
            (SET_SHARED, !shared.is_empty()),
        ] {
            if needed {
                let function =
                    Function::named("env", name).with_context(|| format!("{name} is not known"))?;
                used.insert(function.name, function);
            }
        }
        let room = most.saturating_mul(2).max(LEAST_ROOM);
        Ok(Self {
            interface,
            data: Data {
                start: RETURNED + room,
                ..Data::default()
            },
            room,
            used,
            metrics: metrics.into_iter().collect(),
            shared,
            ordinals: false,
        })
    }

    /// What requests of a shape do, by callback.
    fn scripts(
        &mut self,
        shape: &[usize],
        requests: &[Request],
    ) -> anyhow::Result<BTreeMap<usize, String>> {
        let members: Vec<&Request> = shape
            .iter()
            .filter_map(|number| requests.get(*number))
            .collect();
        let first = members.first().context("a shape has no request")?;
        let links = links(first);
        let mut scripts = BTreeMap::new();
        let (mut position, mut versions) = (0, 0);
        for (number, phase) in first.phases.iter().enumerate() {
            let mut script = String::new();
            let mut others = first
                .phases
                .iter()
                .filter(|other| other.callback == phase.callback && !std::ptr::eq(*other, phase));
            // A body's end comes by itself, with nothing in it: a floor that does nothing then knows the one from the other.
            let is_end = |phase: &Phase| phase.argument == 0 && phase.calls.is_empty();
            let is_alone = others.all(|other| other.result == phase.result && is_end(other));
            if !is_alone && is_end(phase) {
                continue;
            }
            if is_alone
                && !phase.calls.is_empty()
                && phase.argument > 0
                && is_repeated(first, phase)
            {
                writeln!(script, "    (if (i32.eqz (local.get $p1)) (then")?;
                self.finish(&mut script, phase)?;
                writeln!(script, "    ))")?;
            }
            for (call_number, call) in phase.calls.iter().enumerate() {
                let alike: Vec<&Call> = members
                    .iter()
                    .filter_map(|request| request.phases.get(number)?.calls.get(call_number))
                    .collect();
                let link = links.get(position).copied().flatten();
                script += &self.call(call, &alike, link, &mut versions)?;
                position += 1;
            }
            self.finish(&mut script, phase)?;
            if scripts.insert(phase.callback, script).is_some() {
                let callback = self.interface.callbacks.get(phase.callback);
                bail!(
                    "{} is called more than once for a request, which cannot be repeated yet",
                    callback.map_or("a callback", |callback| &callback.name)
                );
            }
        }
        Ok(scripts)
    }

    fn finish(&self, script: &mut String, phase: &Phase) -> anyhow::Result<()> {
        let callback = self
            .interface
            .callbacks
            .get(phase.callback)
            .context("there is no such callback")?;
        if callback.returns {
            writeln!(script, "    (return (i32.const {}))", phase.result)?;
        } else {
            writeln!(script, "    (return)")?;
        }
        Ok(())
    }

    /// A call. `alike` are those of all requests of the shape, which differ in bytes only.
    fn call(
        &mut self,
        call: &Call,
        alike: &[&Call],
        link: Option<usize>,
        versions: &mut usize,
    ) -> anyhow::Result<String> {
        let (_, name, known) = self
            .interface
            .functions
            .get(call.function)
            .context("there is no such function")?;
        let parameters = known.map(|known| known.parameters).unwrap_or_default();
        let mut text = format!("    (drop (call ${name}");
        let mut out = OUT;
        for (position, (parameter, argument)) in parameters.iter().zip(&call.arguments).enumerate()
        {
            match argument {
                Argument::Number(number) => write!(text, " (i32.const {})", number.cast_signed())?,
                Argument::Wide(number) => write!(text, " (i64.const {})", number.cast_signed())?,
                Argument::Bytes(bytes) => {
                    let all: Vec<&[u8]> = alike
                        .iter()
                        .filter_map(|call| match call.arguments.get(position) {
                            Some(Argument::Bytes(bytes)) => Some(bytes.as_slice()),
                            _ => None,
                        })
                        .collect();
                    let address = self.bytes(&all);
                    write!(text, " {address} (i32.const {})", bytes.len())?;
                }
                Argument::Version(_) => {
                    ensure!(
                        *versions < MOST_VERSIONS,
                        "a request reads more than {MOST_VERSIONS} shared values"
                    );
                    write!(text, " (i32.const {})", version_place(*versions))?;
                    *versions += 1;
                }
                Argument::Expected(_) => match link {
                    Some(read) => write!(text, " (i32.load (i32.const {}))", version_place(read))?,
                    // Whatever its version: what the module knew from an earlier request is different each time.
                    None => write!(text, " (i32.const 0)")?,
                },
                Argument::Metric(kind, name) => {
                    let metric = self
                        .metrics
                        .iter()
                        .position(|(k, n)| k == kind && n == name)
                        .context("a metric has no global")?;
                    write!(text, " (global.get $metric{metric})")?;
                }
                Argument::Room(length) => {
                    write!(text, " (i32.const {RETURNED}) (i32.const {length})")?;
                }
                Argument::Returned(_) | Argument::NewMetric(_) | Argument::Out => {
                    for _ in 0..parameter.width() {
                        write!(text, " (i32.const {out})")?;
                        out += 8;
                    }
                }
            }
        }
        writeln!(text, "))")?;
        Ok(text)
    }

    /// The address of an argument whose bytes are these, request by request.
    fn bytes(&mut self, all: &[&[u8]]) -> String {
        let first = all.first().copied().unwrap_or_default();
        if all.iter().all(|bytes| *bytes == first) {
            return format!("(i32.const {})", self.data.add(first));
        }
        // Without the look-up for bytes that are known: nobody has a table like this one.
        self.ordinals = true;
        let table = self.data.add(&all.concat());
        format!(
            "(i32.add (i32.const {table}) (i32.mul (global.get $ordinal) (i32.const {})))",
            first.len()
        )
    }

    fn callback(
        &mut self,
        callback: &Callback,
        scripts: &[&str],
        order: &Order,
    ) -> anyhow::Result<String> {
        let mut text = format!("  (func (export \"{}\")", callback.name);
        for parameter in 0..callback.parameters {
            write!(text, " (param $p{parameter} i32)")?;
        }
        if callback.returns {
            text += " (result i32)";
        }
        text += "\n";
        match callback.name.as_str() {
            // Accepted, and nothing to do.
            "proxy_on_vm_start" => text += "    (return (i32.const 1))\n",
            "proxy_on_configure" => {
                text += &self.setup()?;
                text += "    (return (i32.const 1))\n";
            }
            name => {
                if name == "proxy_on_context_create" {
                    text += &self.advance(order)?;
                }
                // What a request does not do in this callback is nothing, and not what the next one does.
                let nothing = if callback.returns {
                    let result = i32::from(name == "proxy_on_done");
                    format!("    (return (i32.const {result}))\n")
                } else {
                    "    (return)\n".to_owned()
                };
                let scripts: Vec<&str> = scripts
                    .iter()
                    .map(|script| if script.is_empty() { &nothing } else { *script })
                    .collect();
                text += &dispatch(&scripts)?;
            }
        }
        text += "  )\n";
        Ok(text)
    }

    /// Once a VM: metrics are defined, and shared values are there to be found.
    fn setup(&mut self) -> anyhow::Result<String> {
        let mut text = String::new();
        for (number, (kind, name)) in self.metrics.clone().iter().enumerate() {
            let address = self.data.add(name);
            writeln!(
                text,
                "    (drop (call ${DEFINE_METRIC} (i32.const {kind}) (i32.const {address}) (i32.const {}) (i32.const {OUT})))\n    \
                 (global.set $metric{number} (i32.load (i32.const {OUT})))",
                name.len()
            )?;
        }
        for (key, length) in self.shared.clone() {
            let address = self.data.add(&key);
            writeln!(
                text,
                "    (drop (call ${SET_SHARED} (i32.const {address}) (i32.const {}) (i32.const {RETURNED}) (i32.const {length}) \
                 (i32.const 0)))",
                key.len()
            )?;
        }
        Ok(text)
    }

    /// On to the next request, when a context with a parent is made: that of a stream.
    fn advance(&self, order: &Order) -> anyhow::Result<String> {
        if order.shapes < 2 && !self.ordinals {
            return Ok(String::new());
        }
        let mut text = format!(
            "    (if (local.get $p1) (then\n      (global.set $next (i32.add (global.get $next) (i32.const 1)))\n      \
             (if (i32.ge_u (global.get $next) (i32.const {})) (then (global.set $next (i32.const 0))))\n",
            order.requests
        );
        if order.shapes > 1 {
            writeln!(
                text,
                "      (global.set $shape (i32.load16_u (i32.add (i32.const {}) (i32.shl (global.get $next) (i32.const 1)))))",
                order.shape
            )?;
        }
        if self.ordinals {
            writeln!(
                text,
                "      (global.set $ordinal (i32.load (i32.add (i32.const {}) (i32.shl (global.get $next) (i32.const 2)))))",
                order.ordinal
            )?;
        }
        text += "    ))\n";
        Ok(text)
    }

    fn module(&self, callbacks: &[String]) -> String {
        let mut text = String::from("(module\n");
        for function in self.used.values() {
            let parameters = function.parameters.iter().flat_map(|parameter| {
                let ty = match parameter {
                    Parameter::Wide => " i64",
                    _ => " i32",
                };
                std::iter::repeat_n(ty, parameter.width())
            });
            text += &format!(
                "  (import \"{}\" \"{name}\" (func ${name} (param{}) (result i32)))\n",
                function.module,
                parameters.collect::<String>(),
                name = function.name,
            );
        }
        let end = self.data.start + self.data.bytes.len() as u32;
        text += &format!("  (memory (export \"memory\") {})\n", end.div_ceil(PAGE));
        for global in ["next", "shape", "ordinal"] {
            text += &format!("  (global ${global} (mut i32) (i32.const 0))\n");
        }
        for number in 0..self.metrics.len() {
            text += &format!("  (global $metric{number} (mut i32) (i32.const 0))\n");
        }
        text +=
            "  (func (export \"_initialize\"))\n  (func (export \"proxy_abi_version_0_2_1\"))\n";
        // What does not fit would be written over the data: better no figure than a wrong one.
        text += &format!(
            "  (func (export \"proxy_on_memory_allocate\") (param i32) (result i32)\n    (if (i32.gt_u (local.get 0) (i32.const {})) \
             (then unreachable))\n    (i32.const {RETURNED})\n  )\n",
            self.room
        );
        text.extend(callbacks.iter().map(String::as_str));
        text += &format!("  (data (i32.const {}) \"", self.data.start);
        for byte in &self.data.bytes {
            text += &format!("\\{byte:02x}");
        }
        text += "\")\n)\n";
        text
    }
}

fn version_place(number: usize) -> u32 {
    VERSIONS + 4 * number as u32
}

/// Plays the script of the request's shape.
fn dispatch(scripts: &[&str]) -> anyhow::Result<String> {
    let mut distinct: Vec<&str> = Vec::new();
    let mut targets = String::new();
    for script in scripts {
        let position = distinct.iter().position(|known| known == script);
        let position = position.unwrap_or_else(|| {
            distinct.push(script);
            distinct.len() - 1
        });
        write!(targets, " $s{position}")?;
    }
    if let [only] = distinct[..] {
        return Ok(only.to_owned());
    }
    let mut text = String::new();
    for number in (0..distinct.len()).rev() {
        writeln!(text, "    (block $s{number}")?;
    }
    writeln!(text, "    (br_table{targets} (global.get $shape))")?;
    for script in distinct {
        write!(text, "    )\n{script}")?;
    }
    Ok(text)
}

/// What a request is like, in words that mean the same for a module and its floor: each callback with its result and its calls, each call with
/// its status and the lengths of what it is given. A lost race for a shared value is as good as a won one: it is up to another worker.
pub(crate) fn outline(interface: &Interface, request: &Request) -> Vec<String> {
    const CAS_MISMATCH: u32 = 8;
    let mut lines = Vec::new();
    for phase in &request.phases {
        let name = interface
            .callbacks
            .get(phase.callback)
            .map_or("?", |callback| &callback.name);
        lines.push(format!("{name} -> {}", phase.result));
        for call in &phase.calls {
            let name = interface
                .functions
                .get(call.function)
                .map_or("?", |(_, name, _)| name);
            let arguments = call.arguments.iter().map(|argument| match argument {
                Argument::Number(number) => number.to_string(),
                Argument::Bytes(bytes) => format!("{} bytes", bytes.len()),
                Argument::Metric(kind, name) => format!("{kind} {}", String::from_utf8_lossy(name)),
                Argument::Room(length) => format!("{length} bytes of room"),
                _ => "_".to_owned(),
            });
            let arguments: Vec<String> = arguments.collect();
            let status = if call.status == CAS_MISMATCH {
                0
            } else {
                call.status
            };
            lines.push(format!("  {name}({}) -> {status}", arguments.join(", ")));
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::super::trace::tests::{interface, requests};
    use super::*;

    /// The callbacks of a floor, without what all floors have.
    fn callback<'a>(text: &'a str, name: &str) -> &'a str {
        let start = text.find(&format!("  (func (export \"{name}\")")).unwrap();
        let rest = &text[start..];
        &rest[..rest.find("\n  )\n").unwrap() + 1]
    }

    fn valid(text: &str) {
        let module = wat::parse_str(text).unwrap();
        walrus::Module::from_buffer(&module).unwrap();
    }

    #[test]
    fn a_request_is_repeated_call_by_call() {
        let only = [requests()[1].clone()];
        let text = text(&interface(), &only).unwrap();
        valid(&text);
        // The read's version is the one at which the value is replaced.
        assert_eq!(
            callback(&text, "proxy_on_request_headers"),
            r#"  (func (export "proxy_on_request_headers") (param $p0 i32) (param $p1 i32) (param $p2 i32) (result i32)
    (drop (call $proxy_get_shared_data (i32.const 69632) (i32.const 2) (i32.const 16) (i32.const 24) (i32.const 64)))
    (drop (call $proxy_set_shared_data (i32.const 69632) (i32.const 2) (i32.const 69640) (i32.const 8) (i32.load (i32.const 64))))
    (drop (call $proxy_increment_metric (global.get $metric0) (i64.const 1)))
    (return (i32.const 0))
"#
        );
        // What the request finds is there before it: the metric, and a value of the size that was read.
        assert_eq!(
            callback(&text, "proxy_on_configure"),
            r#"  (func (export "proxy_on_configure") (param $p0 i32) (param $p1 i32) (result i32)
    (drop (call $proxy_define_metric (i32.const 0) (i32.const 69664) (i32.const 4) (i32.const 16)))
    (global.set $metric0 (i32.load (i32.const 16)))
    (drop (call $proxy_set_shared_data (i32.const 69632) (i32.const 2) (i32.const 4096) (i32.const 8) (i32.const 0)))
    (return (i32.const 1))
"#
        );
        // With one request there is nothing to choose.
        assert_eq!(
            callback(&text, "proxy_on_context_create"),
            "  (func (export \"proxy_on_context_create\") (param $p0 i32) (param $p1 i32)\n    (return)\n"
        );
        assert!(
            text.contains(r#"(data (i32.const 69632) "\6b\31"#),
            "{text}"
        );
    }

    #[test]
    fn requests_of_several_shapes_follow_each_other() {
        let text = text(&interface(), &requests()).unwrap();
        valid(&text);
        assert_eq!(
            callback(&text, "proxy_on_request_headers"),
            r#"  (func (export "proxy_on_request_headers") (param $p0 i32) (param $p1 i32) (param $p2 i32) (result i32)
    (block $s1
    (block $s0
    (br_table $s0 $s1 (global.get $shape))
    )
    (return (i32.const 0))
    )
    (drop (call $proxy_get_shared_data (i32.const 69632) (i32.const 2) (i32.const 16) (i32.const 24) (i32.const 64)))
    (drop (call $proxy_set_shared_data (i32.const 69632) (i32.const 2) (i32.const 69640) (i32.const 8) (i32.load (i32.const 64))))
    (drop (call $proxy_increment_metric (global.get $metric0) (i64.const 1)))
    (return (i32.const 0))
"#
        );
        assert_eq!(
            callback(&text, "proxy_on_context_create"),
            r#"  (func (export "proxy_on_context_create") (param $p0 i32) (param $p1 i32)
    (if (local.get $p1) (then
      (global.set $next (i32.add (global.get $next) (i32.const 1)))
      (if (i32.ge_u (global.get $next) (i32.const 2)) (then (global.set $next (i32.const 0))))
      (global.set $shape (i32.load16_u (i32.add (i32.const 69648) (i32.shl (global.get $next) (i32.const 1)))))
    ))
    (return)
"#
        );
    }

    #[test]
    fn requests_that_differ_in_bytes_share_their_code() {
        let one = requests()[1].clone();
        let mut other = one.clone();
        for call in &mut other.phases[1].calls {
            for argument in &mut call.arguments {
                match argument {
                    Argument::Bytes(bytes) => bytes[1] = b'2',
                    // Another version each time, but the one that was read.
                    Argument::Version(version) | Argument::Expected(version) => *version += 1,
                    _ => {}
                }
            }
        }
        assert_eq!(shapes(&[one.clone(), other.clone()]).groups, [vec![0, 1]]);
        let text = text(&interface(), &[one, other]).unwrap();
        valid(&text);
        assert!(
            text.contains(
                "(call $proxy_get_shared_data (i32.add (i32.const 69632) (i32.mul (global.get $ordinal) (i32.const 2))) \
                 (i32.const 2)"
            ),
            "{text}"
        );
        // Both keys are there before.
        assert_eq!(
            callback(&text, "proxy_on_configure")
                .matches("$proxy_set_shared_data")
                .count(),
            2
        );
    }

    /// As HTTP/1 has it: a piece with all of a body, and then one with nothing.
    #[test]
    fn the_end_of_a_body_is_not_its_piece() {
        let mut request = requests()[1].clone();
        let mut end = request.phases[1].clone();
        (end.argument, end.calls) = (0, Vec::new());
        request.phases.insert(2, end);
        let text = text(&interface(), &[request.clone()]).unwrap();
        valid(&text);
        let script = callback(&text, "proxy_on_request_headers");
        let guard = "(result i32)\n    (if (i32.eqz (local.get $p1)) (then\n    (return (i32.const 0))\n    ))\n    (drop (call $proxy_get_shared_data ";
        assert!(script.contains(guard), "{script}");
        assert_eq!(script.matches("(drop ").count(), 3, "{script}");
        // A body in two pieces is another one than the next.
        request.phases[2] = request.phases[1].clone();
        assert_eq!(
            super::text(&interface(), &[request])
                .unwrap_err()
                .to_string(),
            "proxy_on_request_headers is called more than once for a request, which cannot be repeated yet"
        );
    }

    #[test]
    fn a_version_that_the_request_did_not_read_is_any() {
        let mut request = requests()[1].clone();
        if let Some(Argument::Expected(version)) = request.phases[1].calls[1].arguments.last_mut() {
            *version = u32::MAX;
        }
        let text = text(&interface(), &[request]).unwrap();
        assert!(
            text.contains("(i32.const 69640) (i32.const 8) (i32.const 0)))"),
            "{text}"
        );
    }

    #[test]
    fn what_cannot_be_repeated_is_refused() {
        let mut request = requests()[1].clone();
        request.phases[1].calls.push(Call {
            function: 4,
            status: 0,
            arguments: Vec::new(),
        });
        assert_eq!(
            text(&interface(), &[request]).unwrap_err().to_string(),
            "it calls env.proxy_unheard_of for a request, which cannot be repeated yet: add it to cli/src/bench/abi.rs"
        );
        assert_eq!(
            text(&interface(), &[]).unwrap_err().to_string(),
            "no request was traced"
        );
    }

    #[test]
    fn an_outline_has_all_but_what_differs_from_time_to_time() {
        assert_eq!(
            outline(&interface(), &requests()[1]),
            [
                "proxy_on_context_create -> 0",
                "proxy_on_request_headers -> 0",
                "  proxy_get_shared_data(2 bytes, _, _) -> 0",
                "  proxy_set_shared_data(2 bytes, 8 bytes, _) -> 0",
                "  proxy_increment_metric(0 hits, _) -> 0",
                "proxy_on_delete -> 0",
            ]
        );
    }
}
