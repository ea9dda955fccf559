//! The shapes of options.

use std::time::Duration;

/// An option that is a whole number.
#[derive(Debug)]
pub(crate) struct Number {
    /// Where it is in the document.
    pub(crate) path: &'static str,
    /// Its default.
    pub(crate) default: u64,
    /// Smallest accepted value.
    pub(crate) min: u64,
    /// Largest accepted value.
    pub(crate) max: u64,
    /// What it does.
    pub(crate) meaning: &'static str,
}

impl Number {
    /// The default as a duration, for options that end in `_ms`.
    pub(crate) const fn default_duration(&self) -> Duration {
        Duration::from_millis(self.default)
    }

    /// What is wrong with `value`, if anything.
    pub(crate) fn refusal(&self, value: u64) -> Option<String> {
        let within = (self.min..=self.max).contains(&value);
        (!within).then(|| format!("must be {} to {}, not {value}", self.min, self.max))
    }
}

/// An option that is a number from 0 to 1.
#[derive(Debug)]
pub(crate) struct Fraction {
    /// Where it is in the document.
    pub(crate) path: &'static str,
    /// Its default.
    pub(crate) default: f64,
    /// What it does.
    pub(crate) meaning: &'static str,
}

impl Fraction {
    pub(crate) const RANGE: std::ops::RangeInclusive<f64> = 0.0..=1.0;

    /// What is wrong with a value that is none.
    pub(crate) fn refusal(value: &str) -> String {
        format!("must be a number from 0 to 1, not {value}")
    }
}

/// An option that is true or false.
#[derive(Debug)]
pub(crate) struct Flag {
    /// Where it is in the document.
    pub(crate) path: &'static str,
    /// Its default.
    pub(crate) default: bool,
    /// What it does.
    pub(crate) meaning: &'static str,
}

/// An option of any other shape, described in words.
#[derive(Debug)]
pub(crate) struct Described {
    /// Where it is in the document.
    pub(crate) path: &'static str,
    /// Its type.
    pub(crate) shape: &'static str,
    /// Its default; `required` where there is none.
    pub(crate) default: &'static str,
    /// What is accepted.
    pub(crate) range: &'static str,
    /// What it does.
    pub(crate) meaning: &'static str,
}

macro_rules! number {
    ($name:ident, $path:literal, $default:expr, $min:expr, $max:expr, $meaning:literal) => {
        pub(crate) const $name: Number =
            Number { path: $path, default: $default, min: $min, max: $max, meaning: $meaning };
    };
}

/// The types of the five strategy families: what this version has, and what a later one will have.
pub(crate) struct Family {
    /// The key of the family in the document.
    pub(crate) key: &'static str,
    /// The type by default.
    pub(crate) default: &'static str,
    /// What this version has.
    pub(crate) available: &'static [&'static str],
    /// What the contract names and this version refuses.
    pub(crate) later: &'static [&'static str],
    /// What the family decides.
    pub(crate) meaning: &'static str,
}

macro_rules! described {
    ($name:ident, $path:literal, $shape:literal, $default:expr, $range:expr, $meaning:literal) => {
        pub(crate) const $name: Described =
            Described { path: $path, shape: $shape, default: $default, range: $range, meaning: $meaning };
    };
}

/// One row of the table, in the order of the document.
pub(crate) enum Entry {
    /// A whole number.
    Number(&'static Number),
    /// True or false.
    Flag(&'static Flag),
    /// A number from 0 to 1.
    Fraction(&'static Fraction),
    /// The `type` of a strategy family.
    Family(&'static Family),
    /// Anything else.
    Described(&'static Described),
}

pub(super) use {described, number};
