//! Numbers as people read them.

use jiff::{SignedDuration, Timestamp};

/// Bytes in IEC units, three digits or so: `4.1 MiB`.
pub fn bytes(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let mut scaled = bytes as f64 / 1024.0;
    let mut unit = 0;
    while scaled >= 999.95 && unit + 1 < UNITS.len() {
        scaled /= 1024.0;
        unit += 1;
    }
    format!("{scaled:.1} {}", UNITS[unit])
}

/// A count with its thousands set apart: `18 402`.
pub fn count(count: u64) -> String {
    let digits = count.to_string();
    let mut text = String::new();
    for (n, digit) in digits.chars().enumerate() {
        if n > 0 && (digits.len() - n).is_multiple_of(3) {
            text.push(' ');
        }
        text.push(digit);
    }
    text
}

/// A length of time by its two largest units: `3m51s`, `7h1m`, `19d`.
pub fn age(span: SignedDuration) -> String {
    let seconds = span.as_secs().max(0);
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds}s"),
        (0, 0, minutes) => format!("{minutes}m{}s", seconds % 60),
        (0, hours, minutes) => format!("{hours}h{minutes}m"),
        (days @ 1..=6, hours, _) => format!("{days}d{hours}h"),
        (days, ..) => format!("{days}d"),
    }
}

/// A time in UTC to the second: `2026-08-01 02:00:00Z`.
pub fn stamp(time: Timestamp) -> String {
    time.strftime("%Y-%m-%d %H:%M:%SZ").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short() {
        let sizes = [0, 1023, 1024, 4_300_000, u64::MAX].map(bytes);
        assert_eq!(sizes, ["0 B", "1023 B", "1.0 KiB", "4.1 MiB", "16.0 EiB"]);
        assert_eq!(
            [0, 999, 1000, 18_402, 1_234_567].map(count),
            ["0", "999", "1 000", "18 402", "1 234 567"]
        );
        let ages = [-5, 59, 231, 25_260, 90_000, 864_000].map(|s| age(SignedDuration::from_secs(s)));
        assert_eq!(ages, ["0s", "59s", "3m51s", "7h1m", "1d1h", "10d"]);
    }
}
