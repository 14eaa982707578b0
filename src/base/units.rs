//! Durations, sizes and rates as the configuration and the commands spell them (contract §2).

use std::fmt;
use std::num::NonZeroU32;
use std::time::Duration;

/// Why a value with a unit could not be read; the text says how it is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UnitError {
    /// Not a duration.
    #[error("write a whole number and a unit: \"250ms\", \"30s\", \"5m\", \"12h\" or \"7d\"")]
    Duration,
    /// Not a size.
    #[error("write a whole number and a unit: \"512B\", \"64KiB\", \"10MiB\" or \"2GiB\"")]
    Size,
    /// Not a rate.
    #[error(
        "write a whole number from 1 and a period: \"100/s\", \"600/min\", \"5000/h\" or \"10000/d\""
    )]
    Rate,
}

/// Splits `text` into its leading digits as a number and the rest.
fn number_and_unit(text: &str) -> Option<(u64, &str)> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    Some((number.parse().ok()?, unit))
}

/// Reads `"250ms"`, `"30s"`, `"5m"` (or `min`), `"12h"`, `"7d"`.
///
/// # Errors
/// [`UnitError::Duration`] when `text` is anything else or too large to count in milliseconds.
pub fn duration(text: &str) -> Result<Duration, UnitError> {
    let read = || {
        let (number, unit) = number_and_unit(text)?;
        let millis = match unit {
            "ms" => 1,
            "s" => 1_000,
            "m" | "min" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            _ => return None,
        };
        let total = number.checked_mul(millis)?;
        // A century and more is a typing mistake, and would overflow sums with timestamps.
        (total <= 100 * 366 * 86_400_000).then(|| Duration::from_millis(total))
    };
    read().ok_or(UnitError::Duration)
}

/// Reads a size in bytes: `"512B"`, `"64KiB"`, `"10MiB"`, `"2GiB"`, or a bare number of bytes.
///
/// # Errors
/// [`UnitError::Size`] when `text` is anything else or does not fit.
pub fn size(text: &str) -> Result<u64, UnitError> {
    let read = || {
        let (number, unit) = number_and_unit(text)?;
        let bytes = match unit {
            "" | "B" => 1,
            "KiB" => 1 << 10,
            "MiB" => 1 << 20,
            "GiB" => 1 << 30,
            "TiB" => 1 << 40,
            "KB" => 1_000,
            "MB" => 1_000_000,
            "GB" => 1_000_000_000,
            _ => return None,
        };
        number
            .checked_mul(bytes)
            .filter(|total| i64::try_from(*total).is_ok())
    };
    read().ok_or(UnitError::Size)
}

/// So many events in so long, as `"100/s"` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// How many.
    pub count: NonZeroU32,
    /// In how long: a second, minute, hour or day.
    pub period: Duration,
}

impl Rate {
    /// Reads `"100/s"`, `"600/min"` (or `m`), `"5000/h"`, `"10000/d"`.
    ///
    /// # Errors
    /// [`UnitError::Rate`] when `text` is anything else.
    pub fn parse(text: &str) -> Result<Self, UnitError> {
        let read = || {
            let (count, period) = text.split_once('/')?;
            let seconds = match period {
                "s" => 1,
                "m" | "min" => 60,
                "h" => 3_600,
                "d" => 86_400,
                _ => return None,
            };
            if !count.bytes().all(|b| b.is_ascii_digit()) {
                return None;
            }
            Some(Self {
                count: count.parse().ok()?,
                period: Duration::from_secs(seconds),
            })
        };
        read().ok_or(UnitError::Rate)
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let period = match self.period.as_secs() {
            1 => "s",
            60 => "min",
            3_600 => "h",
            _ => "d",
        };
        write!(f, "{}/{period}", self.count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_with_every_unit() {
        for (text, millis) in [
            ("0s", 0),
            ("250ms", 250),
            ("30s", 30_000),
            ("5m", 300_000),
            ("5min", 300_000),
            ("12h", 43_200_000),
            ("7d", 604_800_000),
        ] {
            assert_eq!(duration(text), Ok(Duration::from_millis(millis)), "{text}");
        }
    }

    #[test]
    fn what_is_not_a_duration_is_refused() {
        for text in [
            "",
            "s",
            "5",
            "-5s",
            "+5s",
            "5 s",
            "1.5s",
            "5S",
            "99999999999999999999s",
            "40000000d",
        ] {
            assert_eq!(duration(text), Err(UnitError::Duration), "{text}");
        }
    }

    #[test]
    fn sizes_are_read_with_every_unit() {
        assert_eq!(size("64KiB"), Ok(65_536));
        assert_eq!(size("10MiB"), Ok(10 << 20));
        assert_eq!(size("512"), Ok(512));
        for text in ["", "KiB", "64kib", "-1", "1.5MiB", "99999999TiB"] {
            assert_eq!(size(text), Err(UnitError::Size), "{text}");
        }
    }

    #[test]
    fn rates_are_read_and_written_alike() {
        for text in ["100/s", "600/min", "5000/h", "10000/d"] {
            assert_eq!(
                Rate::parse(text).map(|rate| rate.to_string()).as_deref(),
                Ok(text)
            );
        }
        for text in ["0/s", "100", "100/", "/s", "+1/s", "1/w", "1.5/s", "-1/s"] {
            assert_eq!(Rate::parse(text), Err(UnitError::Rate), "{text}");
        }
    }
}
