//! Moments as logs write them and as people read them. All are nanoseconds since 1970, in UTC.

use time::{Date, Month, OffsetDateTime};

pub(crate) const MILLISECOND: u64 = 1_000_000;
pub(crate) const SECOND: u64 = 1_000_000_000;

/// The Julian day of 1970-01-01.
const EPOCH: i64 = 2_440_588;

const MONTHS: [&[u8]; 12] = [
    b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov", b"Dec",
];

/// How a log writes a moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// RFC 3339: `2026-11-21T08:00:00.123Z`, also with a space for the `T`, an offset, or a comma before the fraction.
    Rfc3339,
    /// `%START_TIME(…)%` of Envoy.
    Parts(Vec<Part>),
}

/// A piece of a format of `strftime`, with Envoy's `%f`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    Year,
    Month,
    MonthName,
    Day,
    Hour,
    Minute,
    Second,
    /// Seconds since 1970.
    Epoch,
    /// This many digits of a second; 0 for as many as there are.
    Fraction(usize),
    Offset,
    Byte(u8),
}

impl Form {
    /// That of `21/Nov/2026:08:00:00 +0100`.
    pub(crate) fn common() -> Self {
        Self::parse("%d/%b/%Y:%H:%M:%S %z").unwrap_or(Self::Rfc3339)
    }

    /// That of a format; what is wrong with it otherwise.
    pub(crate) fn parse(format: &str) -> Result<Self, String> {
        let mut parts = Vec::new();
        let mut bytes = format.bytes();
        while let Some(byte) = bytes.next() {
            if byte != b'%' {
                parts.push(Part::Byte(byte));
                continue;
            }
            use Part::{
                Byte, Day, Epoch, Fraction, Hour, Minute, Month, MonthName, Offset, Second, Year,
            };
            let next = bytes.next();
            let digits = match next {
                Some(digit @ b'1'..=b'9') => match bytes.next() {
                    Some(b'f') => Some(usize::from(digit - b'0')),
                    _ => return Err(unknown(format)),
                },
                _ => None,
            };
            match (digits, next) {
                (Some(digits), _) => parts.push(Fraction(digits)),
                (None, Some(b'f')) => parts.push(Fraction(9)),
                (None, Some(b'Y')) => parts.push(Year),
                (None, Some(b'm')) => parts.push(Month),
                (None, Some(b'b' | b'h')) => parts.push(MonthName),
                (None, Some(b'd')) => parts.push(Day),
                (None, Some(b'H')) => parts.push(Hour),
                (None, Some(b'M')) => parts.push(Minute),
                (None, Some(b'S')) => parts.push(Second),
                (None, Some(b's')) => parts.push(Epoch),
                (None, Some(b'z')) => parts.push(Offset),
                (None, Some(b'%')) => parts.push(Byte(b'%')),
                (None, Some(b'F')) => parts.extend([Year, Byte(b'-'), Month, Byte(b'-'), Day]),
                (None, Some(b'T')) => parts.extend([Hour, Byte(b':'), Minute, Byte(b':'), Second]),
                _ => return Err(unknown(format)),
            }
        }
        let has = |part: Part| parts.contains(&part);
        let date = has(Part::Year) && (has(Part::Month) || has(Part::MonthName)) && has(Part::Day);
        if has(Part::Epoch) || (date && has(Part::Hour) && has(Part::Minute)) {
            Ok(Self::Parts(parts))
        } else {
            Err(format!(
                "{format:?} does not say a moment, write at least %s, or %Y, %m, %d, %H and %M"
            ))
        }
    }

    /// The moment that a text says; `None` if it is none, or before 1970.
    pub(crate) fn read(&self, text: &[u8]) -> Option<u64> {
        match self {
            Self::Rfc3339 => rfc3339(text),
            Self::Parts(parts) => of_parts(parts, text),
        }
    }
}

fn unknown(format: &str) -> String {
    format!(
        "{format:?} has something that is not understood, write of %Y %m %b %d %H %M %S %s %f %3f %z %F %T"
    )
}

/// A moment, by what a log says of it.
#[derive(Default)]
struct Said {
    year: i32,
    month: u8,
    day: u8,
    seconds: u64,
    nanoseconds: u64,
    offset: i64,
}

impl Said {
    fn moment(&self) -> Option<u64> {
        let month = Month::try_from(self.month).ok()?;
        let date = Date::from_calendar_date(self.year, month, self.day).ok()?;
        let days = i64::from(date.to_julian_day()) - EPOCH;
        let seconds = days * 86_400 + self.seconds as i64 - self.offset;
        u64::try_from(seconds)
            .ok()?
            .checked_mul(SECOND)?
            .checked_add(self.nanoseconds)
    }
}

fn rfc3339(text: &[u8]) -> Option<u64> {
    let (head, mut rest) = text.split_at_checked(19)?;
    let separators = head[4] == b'-' && head[7] == b'-' && matches!(head[10], b'T' | b't' | b' ');
    if !separators || head[13] != b':' || head[16] != b':' {
        return None;
    }
    let [hour, minute, second] = [&head[11..13], &head[14..16], &head[17..19]].map(number);
    let mut said = Said {
        year: number(&head[..4])? as i32,
        month: number(&head[5..7])? as u8,
        day: number(&head[8..10])? as u8,
        seconds: of_day(hour?, minute?, second?)?,
        ..Said::default()
    };
    if let [b'.' | b',', more @ ..] = rest {
        let digits = digits(more);
        said.nanoseconds = fraction(&more[..digits])?;
        rest = &more[digits..];
    }
    said.offset = match rest {
        b"Z" | b"z" => 0,
        rest => offset(rest).filter(|(_, length)| *length == rest.len())?.0,
    };
    said.moment()
}

fn of_parts(parts: &[Part], mut text: &[u8]) -> Option<u64> {
    let mut said = Said::default();
    let mut epoch = None;
    let (mut hour, mut minute, mut second) = (0, 0, 0);
    let take = |text: &mut &[u8], digits: usize| -> Option<u64> {
        let (head, rest) = text.split_at_checked(digits)?;
        *text = rest;
        number(head)
    };
    for part in parts {
        match part {
            Part::Year => said.year = take(&mut text, 4)? as i32,
            Part::Month => said.month = take(&mut text, 2)? as u8,
            Part::Day => said.day = take(&mut text, 2)? as u8,
            Part::Hour => hour = take(&mut text, 2)?,
            Part::Minute => minute = take(&mut text, 2)?,
            Part::Second => second = take(&mut text, 2)?,
            Part::MonthName => {
                let (name, rest) = text.split_at_checked(3)?;
                text = rest;
                let month = MONTHS.iter().position(|month| *month == name)?;
                said.month = month as u8 + 1;
            }
            Part::Epoch => {
                let length = digits(text);
                epoch = Some(take(&mut text, length)?);
            }
            Part::Fraction(length) => {
                let (head, rest) = text.split_at_checked(*length)?;
                text = rest;
                said.nanoseconds = fraction(head)?;
            }
            Part::Offset => {
                let (found, length) = offset(text)?;
                text = &text[length..];
                said.offset = found;
            }
            Part::Byte(byte) => {
                let (first, rest) = text.split_first()?;
                if first != byte {
                    return None;
                }
                text = rest;
            }
        }
    }
    if !text.is_empty() {
        return None;
    }
    match epoch {
        Some(seconds) => seconds.checked_mul(SECOND)?.checked_add(said.nanoseconds),
        None => {
            said.seconds = of_day(hour, minute, second)?;
            said.moment()
        }
    }
}

/// Seconds of a day. A leap second is the one before it, as most clocks have it.
fn of_day(hour: u64, minute: u64, second: u64) -> Option<u64> {
    (hour < 24 && minute < 60 && second <= 60).then(|| hour * 3_600 + minute * 60 + second.min(59))
}

/// `Z`, `+01:00` or `+0100`, in seconds east of UTC, and how long it is.
fn offset(text: &[u8]) -> Option<(i64, usize)> {
    let sign = match text.first()? {
        b'Z' => return Some((0, 1)),
        b'+' => 1,
        b'-' => -1,
        _ => return None,
    };
    let colon = usize::from(text.get(3) == Some(&b':'));
    let hours = number(text.get(1..3)?)?;
    let minutes = number(text.get(3 + colon..5 + colon)?)?;
    (hours < 24 && minutes < 60).then(|| (sign * (hours * 3_600 + minutes * 60) as i64, 5 + colon))
}

fn digits(text: &[u8]) -> usize {
    text.iter().take_while(|byte| byte.is_ascii_digit()).count()
}

/// Digits behind a point as nanoseconds.
fn fraction(text: &[u8]) -> Option<u64> {
    let (shown, _) = text.split_at(text.len().min(9));
    let scale = 10_u64.pow(9 - shown.len() as u32);
    (digits(text) == text.len()).then_some(())?;
    Some(number(shown)? * scale)
}

/// A number of 1 to 19 digits, which are never too many for 64 bits.
pub(crate) fn number(text: &[u8]) -> Option<u64> {
    if !(1..=19).contains(&text.len()) {
        return None;
    }
    text.iter().try_fold(0, |number, byte| {
        byte.is_ascii_digit()
            .then(|| number * 10 + u64::from(byte - b'0'))
    })
}

/// Seconds, milliseconds, microseconds or nanoseconds since 1970: by how many they are, for logs of this century.
pub(crate) fn of_number(text: &[u8]) -> Option<u64> {
    let (whole, behind) = match text.iter().position(|byte| *byte == b'.') {
        Some(at) => (&text[..at], &text[at + 1..]),
        None => (text, &b"0"[..]),
    };
    let number = number(whole)?;
    let unit = match number {
        0..100_000_000_000 => SECOND,
        100_000_000_000..100_000_000_000_000 => MILLISECOND,
        100_000_000_000_000..100_000_000_000_000_000 => 1_000,
        _ => 1,
    };
    number
        .checked_mul(unit)?
        .checked_add(fraction(behind)? / (SECOND / unit))
}

/// A moment for people: `2026-11-21 08:00:00.123`.
pub(crate) fn shown(moment: u64) -> String {
    let text = rfc(moment);
    let text = text.trim_end_matches('Z');
    text.replacen('T', " ", 1)
}

/// A moment for programs: `2026-11-21T08:00:00.123Z`.
pub(crate) fn rfc(moment: u64) -> String {
    let Ok(at) = OffsetDateTime::from_unix_timestamp_nanos(i128::from(moment)) else {
        return String::new();
    };
    format!(
        "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:03}Z",
        at.year(),
        u8::from(at.month()),
        at.day(),
        at.hour(),
        at.minute(),
        at.second(),
        at.millisecond()
    )
}

/// A length of time for people: its two largest units, `1d2h`, `3m5s`, `250ms`.
pub(crate) fn length(nanoseconds: u64) -> String {
    const UNITS: [(u64, &str); 5] = [
        (86_400 * SECOND, "d"),
        (3_600 * SECOND, "h"),
        (60 * SECOND, "m"),
        (SECOND, "s"),
        (MILLISECOND, "ms"),
    ];
    let Some(first) = UNITS.iter().position(|(unit, _)| nanoseconds >= *unit) else {
        return "0s".to_owned();
    };
    let (unit, name) = UNITS[first];
    let mut text = format!("{}{name}", nanoseconds / unit);
    if let Some((smaller, name)) = UNITS.get(first + 1) {
        let rest = nanoseconds % unit / smaller;
        if rest > 0 {
            text += &format!("{rest}{name}");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn moments_are_read_as_date_does() {
        // date -u -d TEXT +%s
        let second = 1_795_248_000 * SECOND + 5 * SECOND;
        for (text, expected) in [
            ("2026-11-21T08:00:05Z", Some(second)),
            ("2026-11-21T08:00:05.123Z", Some(second + 123 * MILLISECOND)),
            ("2026-11-21 08:00:05,123456789Z", Some(second + 123_456_789)),
            (
                "2026-11-21T08:00:05.1234567899Z",
                Some(second + 123_456_789),
            ),
            ("2026-11-21T10:00:05+02:00", Some(second)),
            ("2026-11-20T22:30:05-0930", Some(second)),
            ("2026-11-21T08:00:05", None),
            ("2026-11-21T08:00:05.Z", None),
            ("2026-11-21T08:00:05Zz", None),
            ("2026-11-31T08:00:05Z", None),
            ("2026-11-21T24:00:05Z", None),
            ("1969-12-31T23:59:59Z", None),
            ("9999-12-31T23:59:59Z", None),
            ("-", None),
            ("", None),
        ] {
            assert_eq!(Form::Rfc3339.read(text.as_bytes()), expected, "{text}");
        }
        for (form, text) in [
            ("%d/%b/%Y:%H:%M:%S %z", "21/Nov/2026:09:00:05 +0100"),
            ("%Y/%m/%dT%T%z", "2026/11/21T08:00:05Z"),
            ("%s.%3f", "1795248005.000"),
            ("[%F %T.%f]", "[2026-11-21 08:00:05.000000000]"),
            ("%s", "1795248005"),
        ] {
            assert_eq!(
                Form::parse(form).unwrap().read(text.as_bytes()),
                Some(second),
                "{form}"
            );
        }
        assert_eq!(of_number(b"1795248005"), Some(second));
        assert_eq!(
            of_number(b"1795248005.25"),
            Some(second + 250 * MILLISECOND)
        );
        assert_eq!(of_number(b"1795248005000"), Some(second));
        assert_eq!(of_number(b"1795248005000000"), Some(second));
        assert_eq!(of_number(b"1795248005000000000"), Some(second));
        assert_eq!(of_number(b"17952480050000000000"), None, "20 digits");
        assert_eq!(rfc(second), "2026-11-21T08:00:05.000Z");
        assert_eq!(shown(second + 7 * MILLISECOND), "2026-11-21 08:00:05.007");
    }

    #[test]
    fn a_format_that_says_no_moment_is_refused() {
        assert_eq!(
            Form::parse("%H:%M").unwrap_err(),
            "\"%H:%M\" does not say a moment, write at least %s, or %Y, %m, %d, %H and %M"
        );
        assert_eq!(
            Form::parse("%Q").unwrap_err(),
            "\"%Q\" has something that is not understood, write of %Y %m %b %d %H %M %S %s %f %3f %z %F %T"
        );
    }

    #[test]
    fn lengths_have_two_units() {
        for (nanoseconds, text) in [
            (0, "0s"),
            (250 * MILLISECOND, "250ms"),
            (SECOND, "1s"),
            (61 * SECOND, "1m1s"),
            (3_600 * SECOND, "1h"),
            (90_061 * SECOND, "1d1h"),
        ] {
            assert_eq!(length(nanoseconds), text);
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(milliseconds in 0_u64..4_102_444_800_000) {
            let moment = milliseconds * MILLISECOND;
            prop_assert_eq!(Form::Rfc3339.read(rfc(moment).as_bytes()), Some(moment));
        }

        #[test]
        fn no_bytes_are_too_much(text in proptest::collection::vec(any::<u8>(), 0..40)) {
            let _ = Form::Rfc3339.read(&text);
            let _ = Form::common().read(&text);
            let _ = of_number(&text);
        }
    }
}
