//! The languages that have agents, and the mixes of them that are tried.

use std::path::{Path, PathBuf};

/// A language.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Language {
    /// Rust.
    Rust,
    /// C.
    C,
    /// Python.
    Python,
    /// Node.js.
    Node,
}

impl Language {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Rust, Self::C, Self::Python, Self::Node];

    /// The name in every document.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Rust => "rust",
            Self::C => "c",
            Self::Python => "python",
            Self::Node => "node",
        }
    }

    /// The language of this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|language| language.name() == name)
    }

    /// Whether its agent is built.
    #[must_use]
    pub fn is_built(self) -> bool {
        let target = std::env::var_os("CARGO_TARGET_DIR").unwrap_or_else(|| "target".into());
        repository().join(target).join("agents").join(self.name()).join("start").exists()
    }

    /// Whether an exception there has a trace that goes along with it.
    #[must_use]
    pub const fn has_traces(self) -> bool {
        match self {
            Self::Rust | Self::Python | Self::Node => true,
            Self::C => false,
        }
    }

    /// Whether one callback can hold up the whole host: by the GIL, or on the only event loop.
    #[must_use]
    pub const fn has_one_host_thread(self) -> bool {
        match self {
            Self::Python | Self::Node => true,
            Self::Rust | Self::C => false,
        }
    }

    pub(crate) fn run_script(self) -> PathBuf {
        repository().join("tests/agents/run")
    }
}

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The clusters that are tried, of those whose languages are all `chosen`: each language alone, the pairs that the
/// contract names, and all of them.
#[must_use]
pub fn mixes(chosen: &[Language]) -> Vec<Vec<Language>> {
    let alone = Language::ALL.map(|language| vec![language]);
    let pairs = [
        vec![Language::Python, Language::Node],
        vec![Language::C, Language::Python],
        vec![Language::Node, Language::C],
    ];
    let mut mixes: Vec<Vec<Language>> = alone.into_iter().chain(pairs).collect();
    mixes.retain(|mix| mix.iter().all(|language| chosen.contains(language)));
    if chosen.len() > 1 && !mixes.iter().any(|mix| mix.len() == chosen.len()) {
        mixes.push(chosen.to_vec());
    }
    mixes
}

/// How a mix is called.
#[must_use]
pub fn mix_name(mix: &[Language]) -> String {
    let names: Vec<&str> = mix.iter().map(|language| language.name()).collect();
    names.join("+")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_languages_then_each_alone_the_named_pairs_and_all() {
        let names: Vec<String> = mixes(&Language::ALL).iter().map(|mix| mix_name(mix)).collect();
        let wanted = ["rust", "c", "python", "node", "python+node", "c+python", "node+c", "rust+c+python+node"];
        assert_eq!(names, wanted);
    }

    #[test]
    fn some_languages_then_only_mixes_of_them() {
        let chosen = [Language::Rust, Language::Python];
        let names: Vec<String> = mixes(&chosen).iter().map(|mix| mix_name(mix)).collect();
        assert_eq!(names, ["rust", "python", "rust+python"]);
        let chosen = [Language::Python, Language::Node];
        let names: Vec<String> = mixes(&chosen).iter().map(|mix| mix_name(mix)).collect();
        assert_eq!(names, ["python", "node", "python+node"]);
    }
}
