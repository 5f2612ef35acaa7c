//! Dates for templates that tell the model what day it is: the few directives of `strftime` they use, in UTC.

use std::fmt::Write;
use std::time::{SystemTime, UNIX_EPOCH};

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const DAYS: [&str; 7] = ["Thursday", "Friday", "Saturday", "Sunday", "Monday", "Tuesday", "Wednesday"];
const SECONDS_PER_DAY: u64 = 86_400;

/// `time` by `format`. Unknown directives are left as they are; times before 1970 count as 1970.
pub(super) fn format_utc(time: SystemTime, format: &str) -> String {
    let seconds = time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let moment = Moment::from_unix(seconds);
    let mut text = String::new();
    let mut characters = format.chars().peekable();
    while let Some(character) = characters.next() {
        if character != '%' {
            text.push(character);
            continue;
        }
        let padded = characters.next_if_eq(&'-').is_none();
        let directive = characters.next().unwrap_or('%');
        moment.write(directive, padded, &mut text);
    }
    text
}

struct Moment {
    year: u64,
    month: u64,
    day: u64,
    days_since_1970: u64,
    second_of_day: u64,
}

impl Moment {
    fn from_unix(seconds: u64) -> Self {
        let days = seconds / SECONDS_PER_DAY;
        let (year, month, day) = civil_date(days);
        Self { year, month, day, days_since_1970: days, second_of_day: seconds % SECONDS_PER_DAY }
    }

    fn write(&self, directive: char, padded: bool, text: &mut String) {
        let month = MONTHS[self.month as usize - 1];
        let weekday = DAYS[(self.days_since_1970 % 7) as usize];
        let number = match directive {
            'Y' => return text.push_str(&self.year.to_string()),
            'B' => return text.push_str(month),
            'b' => return text.push_str(&month[..3]),
            'A' => return text.push_str(weekday),
            'a' => return text.push_str(&weekday[..3]),
            '%' => return text.push('%'),
            'y' => self.year % 100,
            'm' => self.month,
            'd' => self.day,
            'H' => self.second_of_day / 3600,
            'M' => self.second_of_day / 60 % 60,
            'S' => self.second_of_day % 60,
            other => return text.extend(['%', other]),
        };
        let width = if padded { 2 } else { 1 };
        write!(text, "{number:0width$}").expect("writing to a string cannot fail");
    }
}

/// Year, month and day of a day counted from 1970-01-01, in the Gregorian calendar.
fn civil_date(mut days: u64) -> (u64, u64, u64) {
    /// Days of 400 years.
    const CYCLE: u64 = 146_097;
    let mut year = 1970 + 400 * (days / CYCLE);
    days %= CYCLE;
    while days >= days_of_year(year) {
        days -= days_of_year(year);
        year += 1;
    }
    let mut month = 1;
    while days >= days_of_month(year, month) {
        days -= days_of_month(year, month);
        month += 1;
    }
    (year, month, days + 1)
}

fn is_leap(year: u64) -> bool {
    year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
}

fn days_of_year(year: u64) -> u64 {
    if is_leap(year) { 366 } else { 365 }
}

fn days_of_month(year: u64, month: u64) -> u64 {
    match month {
        4 | 6 | 9 | 11 => 30,
        2 if is_leap(year) => 29,
        2 => 28,
        _ => 31,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn known_moments_are_written_as_strftime_writes_them() {
        for (seconds, format, expected) in [
            (0, "%Y-%m-%d %H:%M:%S %A", "1970-01-01 00:00:00 Thursday"),
            (951_782_400, "%d %b %Y, %a", "29 Feb 2000, Tue"),
            (1_735_689_599, "%B %-d, %y %H:%M:%S", "December 31, 24 23:59:59"),
            (4_107_542_400, "%Y-%m-%d", "2100-03-01"),
            (u64::from(u32::MAX), "100%% %q %", "100% %q %"),
        ] {
            assert_eq!(format_utc(UNIX_EPOCH + Duration::from_secs(seconds), format), expected);
        }
    }
}
