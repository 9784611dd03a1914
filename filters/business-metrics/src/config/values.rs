//! Values: which number a request counts.

use std::rc::Rc;

use tollgate_common::body::{MAX_POINTERS, Pointer, Pointers};
use tollgate_common::{Problems, header};

use super::written::{ValueConfig, ValueFrom};
use super::{LARGEST_NUMBER, LARGEST_SCALE};
use crate::body::Asked;
use crate::value::{Decimal, Number, Value};

/// The pointers that the values of a configuration follow, each once.
#[derive(Debug, Default)]
pub(super) struct Bodies {
    request: Vec<Pointer>,
    response: Vec<Pointer>,
}

impl Bodies {
    /// What that asks of the bodies of requests and of responses.
    pub(super) fn asked(self, most: u64, problems: &mut Problems) -> [Option<Asked>; 2] {
        let what = ["bodies of requests", "bodies of responses"];
        let mut what = what.into_iter();
        [self.request, self.response].map(|pointers| {
            let what = format!(
                "different pointers into {}",
                what.next().unwrap_or_default()
            );
            problems.at_most(pointers.len(), MAX_POINTERS, "metrics", &what);
            if pointers.is_empty() {
                return None;
            }
            let pointers = Rc::new(Pointers::new(pointers).ok()?);
            Some(Asked { pointers, most })
        })
    }
}

/// The position of a pointer.
fn position(pointers: &mut Vec<Pointer>, pointer: &Pointer) -> usize {
    let known = pointers.iter().position(|known| known == pointer);
    known.unwrap_or_else(|| {
        pointers.push(pointer.clone());
        pointers.len() - 1
    })
}

/// What a `value` says.
pub(super) fn compile_value(
    value: &ValueConfig,
    bodies: &mut Bodies,
    path: &str,
    problems: &mut Problems,
) -> Option<Value> {
    let at = |field: &str| format!("{path}.{field}");
    for (number, field, largest) in [
        (value.scale, "scale", LARGEST_SCALE),
        (value.max, "max", LARGEST_NUMBER),
    ] {
        if let Some(number) = number
            && !(1..=largest).contains(&number)
        {
            problems.tell(
                at(field),
                format!("{number} is out of range, write 1 to {largest}"),
            );
        }
    }
    let decimal = Decimal {
        scale: value.scale.unwrap_or(1),
        max: value.max.unwrap_or(LARGEST_NUMBER),
    };
    let given = [
        (value.from.is_some(), "from"),
        (value.header.is_some(), "header"),
        (value.response_header.is_some(), "responseHeader"),
        (value.request_body.is_some(), "requestBody"),
        (value.response_body.is_some(), "responseBody"),
    ];
    let given = given.iter().filter(|(given, _)| *given);
    let given: Vec<&str> = given.map(|(_, name)| *name).collect();
    if given.len() > 1 {
        let given = given.join(" and ");
        return problems.refuse(path, format!("has {given}, write one of them"));
    }
    if let Some(name) = &value.header {
        let name = problems.take(header::name(name, &at("header")))?;
        return Some(Value::Header(name, decimal));
    }
    if let Some(name) = &value.response_header {
        let name = problems.take(header::name(name, &at("responseHeader")))?;
        return Some(Value::ResponseHeader(name, decimal));
    }
    if let Some(pointer) = &value.request_body {
        let pointer = position(&mut bodies.request, pointer);
        return Some(Value::RequestBody(pointer, decimal));
    }
    if let Some(pointer) = &value.response_body {
        let pointer = position(&mut bodies.response, pointer);
        return Some(Value::ResponseBody(pointer, decimal));
    }
    let Some(from) = value.from else {
        return problems.refuse(
            path,
            "does not say where the number is, write from, header, responseHeader, requestBody or responseBody",
        );
    };
    let (word, number) = match from {
        ValueFrom::Duration => ("duration", Number::Duration),
        ValueFrom::RequestBytes => ("requestBytes", Number::RequestBytes),
        ValueFrom::ResponseBytes => ("responseBytes", Number::ResponseBytes),
    };
    for (given, field) in [
        (value.scale.is_some(), "scale"),
        (value.max.is_some(), "max"),
    ] {
        let others = ["header", "responseHeader", "requestBody", "responseBody"];
        if given && others.iter().all(|other| problems.as_written(path, other)) {
            problems.tell(
                at(field),
                format!("is for numbers of headers and bodies, {word} is a whole number already: take it out"),
            );
        }
    }
    Some(Value::Known(number))
}
