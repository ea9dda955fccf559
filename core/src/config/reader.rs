//! Reads one object of the document and collects what is wrong with it.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Map, Value};

use super::defaults::{Family, Flag, Fraction, Number};
use super::problem::Problems;

/// Longest part of a wrong value shown in a problem, in characters.
const MAX_SHOWN_CHARS: usize = 60;

/// One object of the document. `null` means left out, as in every language.
pub(crate) struct Section<'a> {
    path: String,
    object: Option<&'a Map<String, Value>>,
    known: Vec<&'static str>,
}

impl<'a> Section<'a> {
    /// Opens `value`; anything but an object is a problem and reads as an empty one.
    pub(crate) fn open(path: impl Into<String>, value: &'a Value, problems: &mut Problems) -> Self {
        let path = path.into();
        if !value.is_object() {
            problems.add(shown_path(&path), format!("must be an object, not {}", show(value)));
        }
        Self { object: value.as_object(), known: Vec::new(), path }
    }

    /// The path of `key` in this section.
    pub(crate) fn path_of(&self, key: &str) -> String {
        join(&self.path, key)
    }

    /// The value of `key`, and that `key` is known here.
    pub(crate) fn value(&mut self, key: &'static str) -> Option<&'a Value> {
        self.known.push(key);
        self.object?.get(key).filter(|value| !value.is_null())
    }

    /// The keys that are there.
    pub(crate) fn keys(&self) -> impl Iterator<Item = &'a String> + use<'a> {
        self.object.into_iter().flat_map(Map::keys)
    }

    /// The section under `key`, if it is there.
    pub(crate) fn section(&mut self, key: &'static str, problems: &mut Problems) -> Option<Section<'a>> {
        let value = self.value(key)?;
        Some(Section::open(self.path_of(key), value, problems))
    }

    /// A text.
    pub(crate) fn text(&mut self, key: &'static str, problems: &mut Problems) -> Option<&'a str> {
        let value = self.value(key)?;
        let text = value.as_str();
        if text.is_none() {
            problems.add(self.path_of(key), format!("must be a text, not {}", show(value)));
        }
        text
    }

    /// A list; anything else is a problem.
    pub(crate) fn list(&mut self, key: &'static str, problems: &mut Problems) -> Option<&'a Vec<Value>> {
        let value = self.value(key)?;
        let list = value.as_array();
        if list.is_none() {
            problems.add(self.path_of(key), format!("must be a list, not {}", show(value)));
        }
        list
    }

    /// A whole number of the table, checked against its range.
    pub(crate) fn number(&mut self, option: &'static Number, problems: &mut Problems) -> u64 {
        let Some(value) = self.value(last_key(option.path)) else {
            return option.default;
        };
        let refusal = match value.as_u64() {
            Some(number) => match option.refusal(number) {
                None => return number,
                Some(refusal) => refusal,
            },
            None if option.path.ends_with("_ms") => format!(
                "must be a whole number of milliseconds ({} to {}), not {}",
                option.min,
                option.max,
                show(value)
            ),
            None => format!("must be a whole number ({} to {}), not {}", option.min, option.max, show(value)),
        };
        problems.add(self.path_of(last_key(option.path)), refusal);
        option.default
    }

    /// A whole number that must be there, checked against its range.
    pub(crate) fn required_number(&mut self, option: &'static Number, problems: &mut Problems) -> u32 {
        if self.value(last_key(option.path)).is_none() {
            problems.add(option.path, format!("is required: {} to {}", option.min, option.max));
        }
        u32::try_from(self.number(option, problems)).unwrap_or(u32::MAX)
    }

    /// A number from 0 to 1 of the table.
    pub(crate) fn fraction(&mut self, option: &'static Fraction, problems: &mut Problems) -> f64 {
        let Some(value) = self.value(last_key(option.path)) else {
            return option.default;
        };
        let number = value.as_f64().filter(|number| Fraction::RANGE.contains(number));
        number.unwrap_or_else(|| {
            problems.add(option.path, Fraction::refusal(&show(value)));
            option.default
        })
    }

    /// A number of milliseconds of the table.
    pub(crate) fn duration(&mut self, option: &'static Number, problems: &mut Problems) -> Duration {
        Duration::from_millis(self.number(option, problems))
    }

    /// A boolean of the table.
    pub(crate) fn flag(&mut self, option: &'static Flag, problems: &mut Problems) -> bool {
        let Some(value) = self.value(last_key(option.path)) else {
            return option.default;
        };
        value.as_bool().unwrap_or_else(|| {
            problems.add(self.path_of(last_key(option.path)), format!("must be true or false, not {}", show(value)));
            option.default
        })
    }

    /// One of several words; the default if it is left out, or none of them, and that is told.
    pub(crate) fn choice<T: Default, const N: usize>(
        &mut self,
        key: &'static str,
        choices: [(&'static str, T); N],
        problems: &mut Problems,
    ) -> T {
        let Some(value) = self.value(key) else {
            return T::default();
        };
        let names: Vec<&str> = choices.iter().map(|(name, _)| *name).collect();
        let found = choices.into_iter().find(|(name, _)| value.as_str() == Some(name));
        found.map(|(_, choice)| choice).unwrap_or_else(|| {
            problems.add(self.path_of(key), format!("must be one of {}, not {}", names.join(", "), show(value)));
            T::default()
        })
    }

    /// The `type` of a strategy family; `None` if it is not one this version has, and why is told.
    pub(crate) fn strategy_type(&mut self, family: &Family, problems: &mut Problems) -> Option<&'static str> {
        let path = self.path_of("type");
        let Some(value) = self.value("type") else {
            if self.object.is_some() {
                problems.add(path, format!("is required: one of {}", family.available.join(", ")));
            }
            return None;
        };
        let Some(name) = value.as_str() else {
            problems.add(path, format!("must be a text, not {}", show(value)));
            return None;
        };
        if let Some(found) = family.available.iter().find(|known| **known == name) {
            return Some(found);
        }
        let what = if family.later.contains(&name) {
            format!("{name} is not available in this version; {} is", family.available.join(" or "))
        } else {
            let known = family.available.iter().chain(family.later).copied();
            format!("must be one of {}, not {}{}", family.available.join(", "), show(value), did_you_mean(name, known))
        };
        problems.add(path, what);
        None
    }

    /// An object of texts, such as labels.
    pub(crate) fn texts(
        &mut self,
        key: &'static str,
        max_count: usize,
        problems: &mut Problems,
    ) -> BTreeMap<String, String> {
        let Some(section) = self.section(key, problems) else {
            return BTreeMap::new();
        };
        let entries = section.object.into_iter().flatten();
        if entries.clone().count() > max_count {
            problems.add(&section.path, format!("must have at most {max_count} keys"));
            return BTreeMap::new();
        }
        let mut texts = BTreeMap::new();
        for (key, value) in entries {
            let path = section.path_of(&shorten(key));
            match value.as_str() {
                Some(text) if is_label(key) && is_label(text) => {
                    texts.insert(key.clone(), text.to_owned());
                }
                Some(_) => problems.add(path, "key and value must have 1 to 255 bytes"),
                None => problems.add(path, format!("must be a text, not {}", show(value))),
            }
        }
        texts
    }

    /// Ends the section: every key nobody asked for is a problem.
    pub(crate) fn finish(self, problems: &mut Problems) {
        for key in self.keys() {
            if !self.known.contains(&key.as_str()) {
                let hint = did_you_mean(key, self.known.iter().copied());
                problems.add(self.path_of(&shorten(key)), format!("is not an option{hint}"));
            }
        }
    }
}

/// Whether a label's key or value has an accepted length.
pub(crate) fn is_label(text: &str) -> bool {
    (1..=crate::ids::MAX_ID_BYTES).contains(&text.len())
}

/// A wrong value, short enough for a message.
pub(crate) fn show(value: &Value) -> String {
    match value {
        Value::Array(_) => "a list".into(),
        Value::Object(_) => "an object".into(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => shorten(&value.to_string()),
    }
}

fn shorten(text: &str) -> String {
    let mut short: String = text.chars().take(MAX_SHOWN_CHARS).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    short
}

/// The path of `key` in the section at `path`.
pub(crate) fn join(path: &str, key: &str) -> String {
    if path.is_empty() { key.into() } else { format!("{path}.{key}") }
}

fn shown_path(path: &str) -> &str {
    if path.is_empty() { "$" } else { path }
}

/// The key of an option: the last part of its path.
pub(crate) fn last_key(path: &'static str) -> &'static str {
    path.rsplit('.').next().unwrap_or(path)
}

/// `; did you mean …?` if one of `known` is close to `key`.
pub(crate) fn did_you_mean(key: &str, known: impl Iterator<Item = &'static str>) -> String {
    // Longer keys are no slips of the pen, and the distance is quadratic.
    if key.len() > MAX_SHOWN_CHARS {
        return String::new();
    }
    let wanted = normal(key);
    known
        .map(|candidate| (edit_distance(&wanted, &normal(candidate)), candidate))
        .filter(|(distance, candidate)| *distance * 3 <= candidate.len().max(3))
        .min()
        .map_or_else(String::new, |(_, candidate)| format!("; did you mean `{candidate}`?"))
}

/// The spelling that other languages and other units would use, made equal.
fn normal(key: &str) -> String {
    let lower: String = key.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect();
    lower.strip_suffix("ms").unwrap_or(&lower).to_owned()
}

fn edit_distance(left: &str, right: &str) -> usize {
    let right: Vec<char> = right.chars().collect();
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (i, left_char) in left.chars().enumerate() {
        let mut diagonal = i;
        row[0] = i + 1;
        for (j, right_char) in right.iter().enumerate() {
            let substituted = diagonal + usize::from(left_char != *right_char);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[right.len()]
}
