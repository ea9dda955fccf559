use std::fs;
use std::path::{Path, PathBuf};

use super::Seeds;
use crate::error::ErrorKind;

struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("process-hub-seeds-{}-{name}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn file(&self) -> PathBuf {
        self.0.join("seeds")
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn seeds(list: &[&str]) -> Result<Seeds, crate::error::Error> {
    Seeds::parse(&list.iter().map(|seed| (*seed).to_owned()).collect::<Vec<_>>())
}

fn file_seed(path: &Path) -> Seeds {
    seeds(&[&format!("file:{}", path.display())]).unwrap()
}

#[test]
fn static_seeds_are_given_once_and_in_order() {
    let seeds = seeds(&["10.0.0.7:7400", " b:1 ", "[::1]:7400", "10.0.0.7:7400"]).unwrap();
    assert_eq!(seeds.addresses(), ["10.0.0.7:7400", "b:1", "[::1]:7400"]);
}

#[test]
fn wrong_seeds_are_all_named_with_their_place() {
    let error = seeds(&["a:1", "nonsense", "a:99999", ":1", "::1:7400", "a:0", "file:"]).unwrap_err();
    assert_eq!(error.kind, ErrorKind::InvalidConfig);
    for index in 1..=6 {
        assert!(error.message.contains(&format!("node.seeds[{index}]")), "{}", error.message);
    }
    assert!(!error.message.contains("node.seeds[0]"));
}

#[test]
fn dns_seed_is_refused_with_the_way_out() {
    let error = seeds(&["dns:orders:7400"]).unwrap_err();
    assert_eq!(error.kind, ErrorKind::InvalidConfig);
    assert!(error.message.contains("file:PATH"), "{}", error.message);
}

#[test]
fn missing_file_names_nobody_and_is_read_once_it_is_there() {
    let folder = Folder::new("missing");
    let seeds = file_seed(&folder.file());
    assert!(seeds.addresses().is_empty());
    fs::write(folder.file(), "a:1\n").unwrap();
    assert_eq!(seeds.addresses(), ["a:1"]);
}

#[test]
fn file_is_read_again_each_time() {
    let folder = Folder::new("again");
    fs::write(folder.file(), "# ours\na:1 # first\n\n  b:2\n").unwrap();
    let seeds = file_seed(&folder.file());
    assert_eq!(seeds.addresses(), ["a:1", "b:2"]);
    fs::write(folder.file(), "c:3\n").unwrap();
    assert_eq!(seeds.addresses(), ["c:3"]);
}

#[test]
fn wrong_lines_and_wrong_files_are_skipped() {
    let folder = Folder::new("wrong");
    fs::write(folder.file(), "a:1\nnot an address\nb:2\n").unwrap();
    assert_eq!(file_seed(&folder.file()).addresses(), ["a:1", "b:2"]);
    fs::write(folder.file(), [0xff, 0xfe, b'\n']).unwrap();
    assert!(file_seed(&folder.file()).addresses().is_empty());
    assert!(file_seed(&folder.0).addresses().is_empty(), "a folder is no seed file");
}
