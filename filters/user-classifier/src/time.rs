//! Windows of time, in UTC.

/// When something holds: every part that is given must.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Window {
    /// From this second since 1970 on.
    pub from: Option<u64>,
    /// Before this second since 1970.
    pub until: Option<u64>,
    /// On these days, a bit each, Monday the lowest.
    pub days: Option<u8>,
    /// Between these minutes of a day. The first belongs to it, the last does not; one before the other is a window over midnight.
    pub hours: Option<(u16, u16)>,
}

const DAY: u64 = 86_400;

impl Window {
    /// Whether a time (nanoseconds since 1970) is in it.
    pub fn has(&self, now: u64) -> bool {
        let second = now / 1_000_000_000;
        let (day, minute) = (second / DAY, second % DAY / 60);
        // 1 January 1970 was a Thursday.
        let weekday = (day + 3) % 7;
        self.from.is_none_or(|from| second >= from)
            && self.until.is_none_or(|until| second < until)
            && self.days.is_none_or(|days| days >> weekday & 1 == 1)
            && self.hours.is_none_or(|(begin, end)| {
                let (begin, end) = (u64::from(begin), u64::from(end));
                if begin < end {
                    (begin..end).contains(&minute)
                } else {
                    minute >= begin || minute < end
                }
            })
    }
}

/// The days of a week as they are written, Monday first.
pub const DAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];

/// Reads a moment as RFC 3339 has it, in UTC and to the second: `2026-11-27T00:00:00Z`. In seconds since 1970.
pub fn moment(text: &str) -> Option<u64> {
    let (date, time) = text.strip_suffix('Z')?.split_once('T')?;
    let [year, month, day] = numbers(date, '-', [4, 2, 2])?;
    let [hour, minute, second] = numbers(time, ':', [2, 2, 2])?;
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let length = match month {
        4 | 6 | 9 | 11 => 30,
        2 => 28 + u64::from(leap),
        1..=12 => 31,
        _ => return None,
    };
    if year < 1970 || !(1..=length).contains(&day) || hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    // Years that begin in March have the leap day at their end.
    let (year, month) = if month < 3 {
        (year - 1, month + 9)
    } else {
        (year, month - 3)
    };
    let days = year * 365 + year / 4 - year / 100 + year / 400 + (month * 153 + 2) / 5 + day - 1;
    // Of 1 January 1970.
    let since = days.checked_sub(719_468)?;
    Some(since * DAY + hour * 3_600 + minute * 60 + second)
}

/// Reads hours of a day: `09:00-17:30`, up to `24:00`. In minutes.
pub fn hours(text: &str) -> Option<(u16, u16)> {
    let (begin, end) = text.split_once('-')?;
    let minute = |text| {
        let [hour, minute] = numbers(text, ':', [2, 2])?;
        let all = hour * 60 + minute;
        (minute < 60 && all <= 24 * 60).then(|| u16::try_from(all).ok())?
    };
    let (begin, end) = (minute(begin)?, minute(end)?);
    (begin != end && begin < 24 * 60 && end > 0).then_some((begin, end))
}

/// Numbers of so many digits each.
fn numbers<const N: usize>(text: &str, separator: char, digits: [usize; N]) -> Option<[u64; N]> {
    let mut parts = text.split(separator);
    let mut numbers = [0; N];
    for (number, digits) in numbers.iter_mut().zip(digits) {
        let part = parts.next()?;
        if part.len() != digits || !part.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        *number = part.parse().ok()?;
    }
    parts.next().is_none().then_some(numbers)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn moments_are_read_as_date_does() {
        // date -u -d TEXT +%s
        for (text, expected) in [
            ("1970-01-01T00:00:00Z", Some(0)),
            ("2026-11-27T08:30:01Z", Some(1_795_768_201)),
            ("2000-02-29T00:00:00Z", Some(951_782_400)),
            ("2100-03-01T00:00:00Z", Some(4_107_542_400)),
            ("2100-02-29T00:00:00Z", None),
            ("2026-11-31T00:00:00Z", None),
            ("2026-13-01T00:00:00Z", None),
            ("2026-00-01T00:00:00Z", None),
            ("2026-01-00T00:00:00Z", None),
            ("1969-12-31T23:59:59Z", None),
            ("2026-11-27T24:00:00Z", None),
            ("2026-11-27T08:30:60Z", None),
            ("2026-11-27T08:30:00", None),
            ("2026-11-27T08:30:00+01:00", None),
            ("2026-11-27 08:30:00Z", None),
            ("2026-11-27", None),
            ("26-11-27T08:30:00Z", None),
            ("", None),
        ] {
            assert_eq!(moment(text), expected, "{text}");
        }
    }

    #[test]
    fn hours_may_go_over_midnight() {
        for (text, expected) in [
            ("09:00-17:30", Some((540, 1050))),
            ("22:00-06:00", Some((1320, 360))),
            ("00:00-24:00", Some((0, 1440))),
            ("09:00-09:00", None),
            ("24:00-06:00", None),
            ("9:00-17:00", None),
            ("09:60-17:00", None),
            ("09:00-25:00", None),
            ("09:00", None),
            ("22:00-00:00", None),
        ] {
            assert_eq!(hours(text), expected, "{text}");
        }
    }

    #[test]
    fn a_window_has_what_all_its_parts_have() {
        let at = |text: &str| moment(text).unwrap() * 1_000_000_000;
        // A Friday.
        let friday = at("2026-11-27T08:30:00Z");
        let has = |window: Window| window.has(friday);
        assert!(has(Window::default()));
        for (window, expected) in [
            (
                Window {
                    from: moment("2026-11-27T08:30:00Z"),
                    ..Window::default()
                },
                true,
            ),
            (
                Window {
                    from: moment("2026-11-27T08:30:01Z"),
                    ..Window::default()
                },
                false,
            ),
            (
                Window {
                    until: moment("2026-11-27T08:30:01Z"),
                    ..Window::default()
                },
                true,
            ),
            (
                Window {
                    until: moment("2026-11-27T08:30:00Z"),
                    ..Window::default()
                },
                false,
            ),
            (
                Window {
                    days: Some(1 << 4),
                    ..Window::default()
                },
                true,
            ),
            (
                Window {
                    days: Some(!(1 << 4)),
                    ..Window::default()
                },
                false,
            ),
            (
                Window {
                    hours: hours("08:30-08:31"),
                    ..Window::default()
                },
                true,
            ),
            (
                Window {
                    hours: hours("08:00-08:30"),
                    ..Window::default()
                },
                false,
            ),
            (
                Window {
                    hours: hours("22:00-08:31"),
                    ..Window::default()
                },
                true,
            ),
            (
                Window {
                    hours: hours("22:00-08:30"),
                    ..Window::default()
                },
                false,
            ),
            (
                Window {
                    hours: hours("08:30-06:00"),
                    ..Window::default()
                },
                true,
            ),
            (
                Window {
                    days: Some(1 << 4),
                    hours: hours("09:00-17:00"),
                    ..Window::default()
                },
                false,
            ),
        ] {
            assert_eq!(has(window), expected, "{window:?}");
        }
    }

    proptest! {
        #[test]
        fn a_day_after_another_is_a_day_later(days in 0_u64..60_000) {
            // Counted by hand, day by day, from 1970.
            let (mut year, mut rest) = (1970, days);
            let is_leap = |year: u64| year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
            let length = |year: u64| if is_leap(year) { 366 } else { 365 };
            while rest >= length(year) {
                rest -= length(year);
                year += 1;
            }
            let mut month = 1;
            let of_month = |month: u64| match month { 2 => length(year) - 337, 4 | 6 | 9 | 11 => 30, _ => 31 };
            while rest >= of_month(month) {
                rest -= of_month(month);
                month += 1;
            }
            let text = format!("{year:04}-{month:02}-{:02}T00:00:00Z", rest + 1);
            prop_assert_eq!(moment(&text), Some(days * DAY), "{}", text);
        }

        #[test]
        fn no_text_makes_it_panic(text in any::<String>()) {
            let _ = (moment(&text), hours(&text));
        }
    }
}
