//! The UTC-aligned windows in which quotas count.

use std::fmt;

use crate::limit::times;

/// A window of a quota. All begin at UTC boundaries, for all tenants at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Window {
    /// Begins at second 0.
    Minute,
    /// Begins at minute 0.
    Hour,
    /// Begins at 00:00.
    Day,
    /// Begins on the 1st at 00:00.
    Month,
}

const SECOND: u64 = 1_000_000_000;
const DAY: u64 = 86_400 * SECOND;

impl Window {
    /// All windows, shortest first.
    pub const ALL: [Window; 4] = [Window::Minute, Window::Hour, Window::Day, Window::Month];

    /// The window's name in a configuration.
    pub fn name(self) -> &'static str {
        match self {
            Window::Minute => "minute",
            Window::Hour => "hour",
            Window::Day => "day",
            Window::Month => "month",
        }
    }

    /// The number of the window that a time (nanoseconds since 1970) is in. Numbers grow by one from window to window.
    pub fn number(self, utc: u64) -> u64 {
        match self {
            Window::Minute => utc / (60 * SECOND),
            Window::Hour => utc / (3_600 * SECOND),
            Window::Day => utc / DAY,
            Window::Month => month_of_day(utc / DAY),
        }
    }

    /// When a window ends, in nanoseconds since 1970.
    pub fn end(self, number: u64) -> u64 {
        let next = number.saturating_add(1);
        match self {
            Window::Minute => times(next, 60 * SECOND),
            Window::Hour => times(next, 3_600 * SECOND),
            Window::Day => times(next, DAY),
            Window::Month => times(first_day(next), DAY),
        }
    }

    /// How long a window is in seconds; a month as its longest, which promises a client nothing too early.
    pub fn seconds(self) -> u64 {
        match self {
            Window::Minute => 60,
            Window::Hour => 3_600,
            Window::Day => 86_400,
            Window::Month => 31 * 86_400,
        }
    }
}

impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The number of the month (January 1970 is 0) that a day (1 January 1970 is 0) is in.
///
/// A year of 365.2425 days on average gives a month that is at most one off.
fn month_of_day(day: u64) -> u64 {
    let estimate = day.saturating_mul(4_800) / 146_097;
    let after = estimate.saturating_add(1);
    if first_day(estimate) > day {
        estimate.saturating_sub(1)
    } else if first_day(after) <= day {
        after
    } else {
        estimate
    }
}

/// The number of the first day of a month.
fn first_day(month: u64) -> u64 {
    let (year, month) = (1970_u64.saturating_add(month / 12), month % 12);
    // Days of the whole years before, counted from the year 1, in which the leap years are those divisible by 4, not by 100, but by 400.
    let years = year - 1;
    let before = years
        .saturating_mul(365)
        .saturating_add(years / 4 - years / 100 + years / 400);
    let leap = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let in_year = match month {
        0 => 0,
        1 => 31,
        2 => 59,
        3 => 90,
        4 => 120,
        5 => 151,
        6 => 181,
        7 => 212,
        8 => 243,
        9 => 273,
        10 => 304,
        _ => 334,
    };
    // 719,162 days lie between 1 January of the year 1 and of 1970.
    (before - 719_162)
        .saturating_add(in_year)
        .saturating_add(u64::from(leap && month >= 2))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    #[test]
    fn months_are_those_of_the_calendar() {
        // A plain walk over the calendar, day by day, until 2600.
        let (mut day, mut month) = (0, 0);
        for year in 1970_u64..2600 {
            let leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
            for days in [
                31,
                if leap { 29 } else { 28 },
                31,
                30,
                31,
                30,
                31,
                31,
                30,
                31,
                30,
                31,
            ] {
                assert_eq!(first_day(month), day);
                for _ in 0..days {
                    assert_eq!(month_of_day(day), month, "day {day}");
                    day += 1;
                }
                month += 1;
            }
        }
    }

    #[test]
    fn a_known_month_begins_where_it_should() {
        // 2026-11-21T00:00:00Z and 2026-12-01T00:00:00Z
        let number = Window::Month.number(1_795_219_200 * SECOND);
        assert_eq!(number, 56 * 12 + 10);
        assert_eq!(Window::Month.end(number), 1_796_083_200 * SECOND);
    }

    #[test]
    fn a_window_of_any_number_has_an_end() {
        for window in Window::ALL {
            assert_eq!(window.end(u64::MAX - 1), u64::MAX);
            assert_eq!(window.end(u64::MAX), u64::MAX);
        }
    }

    proptest! {
        #[test]
        fn a_time_is_in_the_window_of_its_number(utc in any::<u64>(), at in 0_usize..4) {
            let window = Window::ALL[at];
            let number = window.number(utc);
            prop_assert!(utc < window.end(number) || window.end(number) == u64::MAX);
            prop_assert!(number == 0 || window.end(number - 1) <= utc);
        }
    }
}
