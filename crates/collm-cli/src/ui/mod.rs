//! What people see: colours that mean something, progress, tables. Nothing here decides or computes.

pub(crate) mod answer;
mod circumstances;
pub(crate) mod colour;
pub(crate) mod numbers;
pub(crate) mod print;
pub(crate) mod progress;
pub(crate) mod table;

use std::time::Duration;

/// `1.23 s`, `350 ms`, `4.20 ms`: three digits that matter.
pub(crate) fn time(span: Duration) -> String {
    milliseconds(span.as_secs_f64() * 1e3)
}

/// `1h 2m 5s`, in whole seconds.
pub(crate) fn long_time(span: Duration) -> String {
    humantime::format_duration(Duration::from_secs(span.as_secs_f64().round() as u64)).to_string()
}

/// As [`time`], from the unit of reports.
pub(crate) fn milliseconds(milliseconds: f64) -> String {
    match milliseconds {
        0.0 => "0".to_owned(),
        ..10.0 => format!("{milliseconds:.2} ms"),
        ..1000.0 => format!("{milliseconds:.0} ms"),
        _ => format!("{:.2} s", milliseconds / 1e3),
    }
}

/// `512 B`, `1.5 KiB`, `93.8 MiB`.
pub(crate) fn size(bytes: u64) -> String {
    bytesize::ByteSize::b(bytes).display().iec().to_string()
}

/// `37 %`.
pub(crate) fn share(part: usize, whole: usize) -> String {
    if whole == 0 {
        return "–".to_owned();
    }
    format!("{:.0} %", 100.0 * part as f64 / whole as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_the_digits_that_matter() {
        let cases = [(0, "0"), (4_200, "4.20 ms"), (350_400, "350 ms"), (1_234_000, "1.23 s")];
        for (microseconds, expected) in cases {
            assert_eq!(time(Duration::from_micros(microseconds)), expected);
        }
    }

    #[test]
    fn a_share_of_nothing_is_no_number() {
        assert_eq!(share(0, 0), "–");
        assert_eq!(share(1, 3), "33 %");
    }
}
