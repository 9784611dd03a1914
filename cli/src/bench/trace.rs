//! What a module did with requests: which functions of the proxy it called in which callback, with what, and what it got. Read from the lines
//! that [`super::record`] has a module write.

use std::collections::{BTreeMap, HashMap};
use std::io::BufRead;

use anyhow::{Context, anyhow, bail};

use super::abi::Parameter;
use super::record::{Interface, MARK};

/// A call of one of the proxy's functions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Call {
    /// The function's place in [`Interface::functions`].
    pub(crate) function: usize,
    pub(crate) status: u32,
    /// One for each of the function's parameters; none for a function that nothing is known of.
    pub(crate) arguments: Vec<Argument>,
}

/// An argument, or what was left where it points.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Argument {
    Number(u32),
    Wide(u64),
    Bytes(Vec<u8>),
    /// So many bytes were returned.
    Returned(u32),
    /// The version at which a shared value was read.
    Version(u32),
    /// The version that a shared value had to have.
    Expected(u32),
    /// The metric that was defined.
    NewMetric(u32),
    /// The metric's kind and name. Its id is different in each VM.
    Metric(u32, Vec<u8>),
    Out,
    /// So many bytes were to be filled.
    Room(u32),
}

/// A callback and the calls in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Phase {
    /// The callback's place in [`Interface::callbacks`].
    pub(crate) callback: usize,
    /// The second of its arguments: of a piece of a body, how many bytes it has.
    pub(crate) argument: u32,
    pub(crate) result: u32,
    pub(crate) calls: Vec<Call>,
}

/// All that happened for one request, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Request {
    pub(crate) phases: Vec<Phase>,
}

impl Request {
    pub(crate) fn calls(&self) -> impl Iterator<Item = &Call> {
        self.phases.iter().flat_map(|phase| &phase.calls)
    }
}

/// What is being recorded of one VM.
#[derive(Debug, Default)]
struct Vm {
    /// The callbacks that run, one within the other, with their context.
    running: Vec<(u32, Phase)>,
    requests: HashMap<u32, Request>,
    metrics: HashMap<u32, (u32, Vec<u8>)>,
}

/// The requests that were over when the log ended, by tag, in the order of their ends.
pub(crate) fn read(
    log: impl BufRead,
    modules: &BTreeMap<String, Interface>,
) -> anyhow::Result<BTreeMap<String, Vec<Request>>> {
    let mut vms: HashMap<(String, String), Vm> = HashMap::new();
    let mut traces: BTreeMap<String, Vec<Request>> = modules
        .keys()
        .map(|tag| (tag.clone(), Vec::new()))
        .collect();
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
        let (tag, told) = told
            .trim_start()
            .split_once(' ')
            .with_context(|| format!("a line has no tag: {line:?}"))?;
        let interface = modules
            .get(tag)
            .with_context(|| format!("a line is of no module: {line:?}"))?;
        let vm = vms.entry((thread.to_owned(), tag.to_owned())).or_default();
        let over = vm
            .take(told, interface)
            .with_context(|| format!("a line cannot be read: {line:?}"))?;
        if let (Some(request), Some(trace)) = (over, traces.get_mut(tag)) {
            trace.push(request);
        }
    }
    Ok(traces)
}

impl Vm {
    /// Takes a line in; a request that is over with it comes out.
    fn take(&mut self, line: &str, interface: &Interface) -> anyhow::Result<Option<Request>> {
        let mut fields = Fields(line.split(' '));
        match fields.text()? {
            "B" => {
                let callback = fields.small()? as usize;
                let (context, parent) = (fields.small()?, fields.small()?);
                let name = &interface
                    .callbacks
                    .get(callback)
                    .context("there is no such callback")?
                    .name;
                // Contexts without a parent are those of plugins.
                if name == "proxy_on_context_create" && parent != 0 {
                    self.requests.insert(context, Request::default());
                }
                let phase = Phase {
                    callback,
                    argument: parent,
                    result: 0,
                    calls: Vec::new(),
                };
                self.running.push((context, phase));
            }
            "C" => {
                let call = self.call(&mut fields, interface)?;
                // Before the first callback the module's own start runs, in which nothing is of interest.
                if let Some((_, phase)) = self.running.last_mut() {
                    phase.calls.push(call);
                }
            }
            "E" => {
                let (context, mut phase) = self.running.pop().context("nothing was running")?;
                phase.result = fields.small()?;
                let over = interface
                    .callbacks
                    .get(phase.callback)
                    .is_some_and(|callback| callback.name == "proxy_on_delete");
                if let Some(request) = self.requests.get_mut(&context) {
                    request.phases.push(phase);
                    if over {
                        return Ok(self.requests.remove(&context));
                    }
                }
            }
            other => bail!("{other:?} is no kind of line"),
        }
        Ok(None)
    }

    fn call(&mut self, fields: &mut Fields<'_>, interface: &Interface) -> anyhow::Result<Call> {
        let function = fields.small()? as usize;
        let status = fields.small()?;
        let (_, _, known) = interface
            .functions
            .get(function)
            .context("there is no such function")?;
        let mut arguments = Vec::new();
        for parameter in known.map(|known| known.parameters).unwrap_or_default() {
            arguments.push(match parameter {
                Parameter::Number => Argument::Number(fields.small()?),
                Parameter::Wide => Argument::Wide(fields.number()?),
                Parameter::Bytes => Argument::Bytes(fields.bytes()?),
                Parameter::Returned => {
                    let length = fields.small()?;
                    // Where nothing was returned, there is what was there before.
                    Argument::Returned(if status == 0 { length } else { 0 })
                }
                Parameter::Version => {
                    let version = fields.small()?;
                    Argument::Version(if status == 0 { version } else { 0 })
                }
                Parameter::Expected => Argument::Expected(fields.small()?),
                Parameter::NewMetric => Argument::NewMetric(fields.small()?),
                Parameter::Metric => {
                    let id = fields.small()?;
                    let (kind, name) = self
                        .metrics
                        .get(&id)
                        .with_context(|| format!("nobody defined the metric {id}"))?;
                    Argument::Metric(*kind, name.clone())
                }
                Parameter::Out => Argument::Out,
                Parameter::Room => Argument::Room(fields.small()?),
            });
        }
        if let [
            Argument::Number(kind),
            Argument::Bytes(name),
            Argument::NewMetric(id),
        ] = &arguments[..]
            && status == 0
        {
            self.metrics.insert(*id, (*kind, name.clone()));
        }
        Ok(Call {
            function,
            status,
            arguments,
        })
    }
}

/// The words of a line.
struct Fields<'a>(std::str::Split<'a, char>);

impl<'a> Fields<'a> {
    fn text(&mut self) -> anyhow::Result<&'a str> {
        self.0.next().context("it ends too early")
    }

    fn number(&mut self) -> anyhow::Result<u64> {
        let text = self.text()?;
        u64::from_str_radix(text, 16).map_err(|_| anyhow!("{text:?} is no number"))
    }

    fn small(&mut self) -> anyhow::Result<u32> {
        let number = self.number()?;
        u32::try_from(number).with_context(|| format!("{number:x} is too large"))
    }

    fn bytes(&mut self) -> anyhow::Result<Vec<u8>> {
        let text = self.text()?;
        let digits = text
            .strip_prefix('x')
            .with_context(|| format!("{text:?} are no bytes"))?;
        let pairs = digits.as_bytes().chunks(2);
        pairs
            .map(|pair| {
                let pair = std::str::from_utf8(pair)?;
                Ok(u8::from_str_radix(pair, 16)?)
            })
            .collect()
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::super::abi::Function;
    use super::super::record::Callback;
    use super::*;

    /// A module that reads and replaces a shared value and counts.
    pub(crate) fn interface() -> Interface {
        let function = |name: &str| {
            let known = Function::named("env", name);
            ("env".to_owned(), name.to_owned(), known)
        };
        let callback = |name: &str, parameters: usize, returns: bool| Callback {
            name: name.to_owned(),
            parameters,
            returns,
        };
        Interface {
            functions: vec![
                function("proxy_define_metric"),
                function("proxy_get_shared_data"),
                function("proxy_set_shared_data"),
                function("proxy_increment_metric"),
                function("proxy_unheard_of"),
            ],
            callbacks: vec![
                callback("proxy_on_context_create", 2, false),
                callback("proxy_on_configure", 2, true),
                callback("proxy_on_request_headers", 3, true),
                callback("proxy_on_delete", 1, false),
            ],
        }
    }

    fn hex(bytes: &str) -> String {
        bytes.bytes().map(|byte| format!("{byte:02x}")).collect()
    }

    /// What is logged by two workers at the same time: the second has other ids and fewer calls.
    pub(crate) fn log() -> String {
        let line =
            |thread: &str, text: String| format!("{thread} [x] wasm log m: {MARK} m {text}\n");
        let n = |number: u64| format!("{number:016x}");
        let key = hex("k1");
        let value = hex("12345678");
        let name = hex("hits");
        [
            "12 nothing of ours\n".to_owned(),
            // A plugin, which defines a metric.
            line("12", format!("B {} {} {}", n(0), n(1), n(0))),
            line("12", format!("E {}", n(0))),
            line("12", format!("B {} {} {}", n(1), n(1), n(9))),
            line(
                "12",
                format!("C {} {} {} x{name} {}", n(0), n(0), n(0), n(5)),
            ),
            line("12", format!("E {}", n(1))),
            // A request.
            line("12", format!("B {} {} {}", n(0), n(2), n(1))),
            line("12", format!("E {}", n(0))),
            line("13", format!("B {} {} {}", n(0), n(2), n(1))),
            line("12", format!("B {} {} {}", n(2), n(2), n(7))),
            line(
                "12",
                format!("C {} {} x{key} {} {}", n(1), n(0), n(8), n(77)),
            ),
            line(
                "12",
                format!("C {} {} x{key} x{value} {}", n(2), n(0), n(77)),
            ),
            line("12", format!("C {} {} {} {}", n(3), n(0), n(5), n(1))),
            line("12", format!("E {}", n(0))),
            line("13", format!("E {}", n(0))),
            line("12", format!("B {} {} {}", n(3), n(2), n(0))),
            line("13", format!("B {} {} {}", n(3), n(2), n(0))),
            line("13", format!("E {}", n(0))),
            line("12", format!("E {}", n(0))),
            // One that is not over.
            line("12", format!("B {} {} {}", n(0), n(3), n(1))),
        ]
        .concat()
    }

    pub(crate) fn requests() -> Vec<Request> {
        let modules = BTreeMap::from([("m".to_owned(), interface())]);
        let mut traces = read(log().as_bytes(), &modules).unwrap();
        traces.remove("m").unwrap()
    }

    #[test]
    fn requests_are_put_together_from_what_the_workers_tell() {
        let phase = |callback, argument, calls| Phase {
            callback,
            argument,
            result: 0,
            calls,
        };
        let call = |function, arguments| Call {
            function,
            status: 0,
            arguments,
        };
        let bytes = |text: &str| Argument::Bytes(text.as_bytes().to_vec());
        let calls = vec![
            call(
                1,
                vec![bytes("k1"), Argument::Returned(8), Argument::Version(77)],
            ),
            call(
                2,
                vec![bytes("k1"), bytes("12345678"), Argument::Expected(77)],
            ),
            call(
                3,
                vec![Argument::Metric(0, b"hits".to_vec()), Argument::Wide(1)],
            ),
        ];
        assert_eq!(
            requests(),
            [
                Request {
                    phases: vec![phase(0, 1, vec![]), phase(3, 0, vec![])]
                },
                Request {
                    phases: vec![phase(0, 1, vec![]), phase(2, 7, calls), phase(3, 0, vec![])]
                },
            ]
        );
    }

    #[test]
    fn a_line_that_cannot_be_read_is_shown() {
        let modules = BTreeMap::from([("m".to_owned(), interface())]);
        let error = |text: &str| {
            let error = read(text.as_bytes(), &modules).unwrap_err();
            format!("{error:#}")
        };
        assert_eq!(
            error("1 @tollgate m C 0000000000000003 0000000000000000 0000000000000005\n"),
            "a line cannot be read: \"1 @tollgate m C 0000000000000003 0000000000000000 0000000000000005\": nobody defined the \
             metric 5"
        );
        assert_eq!(
            error("1 @tollgate other B\n"),
            "a line is of no module: \"1 @tollgate other B\""
        );
    }
}
