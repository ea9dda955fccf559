//! The table of options as text: for the docs page and for programs that offer help.

use super::defaults::{Entry, TABLE};

/// One option of the document, described.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct OptionInfo {
    /// Where it is in the document, such as `migration.handover`.
    pub path: String,
    /// Its type, such as `milliseconds`.
    pub shape: String,
    /// Its default; `required` where there is none.
    pub default: String,
    /// What is accepted.
    pub range: String,
    /// What it does.
    pub meaning: String,
}

/// Every option, in the order of the document.
#[must_use]
pub fn options() -> Vec<OptionInfo> {
    TABLE.iter().map(describe).collect()
}

fn describe(entry: &Entry) -> OptionInfo {
    match entry {
        Entry::Number(number) => OptionInfo {
            path: number.path.into(),
            shape: match number.path.ends_with("_ms") {
                true => "milliseconds".into(),
                false => "whole number".into(),
            },
            default: number.default.to_string(),
            range: format!("{} to {}", number.min, number.max),
            meaning: number.meaning.into(),
        },
        Entry::Flag(flag) => OptionInfo {
            path: flag.path.into(),
            shape: "boolean".into(),
            default: flag.default.to_string(),
            range: "`true` or `false`".into(),
            meaning: flag.meaning.into(),
        },
        Entry::Fraction(fraction) => OptionInfo {
            path: fraction.path.into(),
            shape: "number".into(),
            default: fraction.default.to_string(),
            range: "0 to 1".into(),
            meaning: fraction.meaning.into(),
        },
        Entry::Family(family) => OptionInfo {
            path: format!("{}.type", family.key),
            shape: "text".into(),
            default: family.default.into(),
            range: match family.later {
                [] => quoted(family.available),
                later => format!("{}; not available in this version: {}", quoted(family.available), quoted(later)),
            },
            meaning: family.meaning.into(),
        },
        Entry::Described(described) => OptionInfo {
            path: described.path.into(),
            shape: described.shape.into(),
            default: described.default.into(),
            range: described.range.into(),
            meaning: described.meaning.into(),
        },
    }
}

fn quoted(names: &[&str]) -> String {
    let names: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
    names.join(", ")
}
