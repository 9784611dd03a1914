//! Values: which number a request counts.

use tollgate_common::{Problems, header};

use super::written::{ValueConfig, ValueFrom};
use super::{LARGEST_NUMBER, LARGEST_SCALE};
use crate::value::{Decimal, Number, Value};

/// What a `value` says.
pub(super) fn compile_value(
    value: &ValueConfig,
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
    let Some(from) = value.from else {
        return problems.refuse(
            path,
            "does not say where the number is, write from, header or responseHeader",
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
        if given
            && problems.as_written(path, "header")
            && problems.as_written(path, "responseHeader")
        {
            problems.tell(
                at(field),
                format!("is for numbers of headers, {word} is a whole number already: take it out"),
            );
        }
    }
    Some(Value::Known(number))
}
