use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use super::{Keys, create_if_missing, read_file, user_key_path};
use crate::error::{Error, ErrorKind};

struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("process-hub-key-{}-{name}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn write(&self, text: &str, mode: u32) -> PathBuf {
        let path = self.0.join("key");
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn refused(path: &Path) -> Error {
    let error = read_file(path).unwrap_err();
    assert_eq!(error.kind, ErrorKind::InvalidConfig);
    assert!(error.message.contains(&path.display().to_string()), "{error}");
    error
}

const SECRET: &str = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";

#[test]
fn first_start_makes_a_key_only_the_user_can_read() {
    let folder = Folder::new("first");
    let path = folder.0.join("state/process-hub/key");
    create_if_missing(&path).unwrap();
    assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, 0o600);
    assert_eq!(fs::metadata(path.parent().unwrap()).unwrap().mode() & 0o777, 0o700);
    let text = fs::read_to_string(&path).unwrap();
    assert_eq!(text.trim().len(), 64);
    create_if_missing(&path).unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap(), text, "a second start keeps it");
    let names: Vec<_> = fs::read_dir(path.parent().unwrap()).unwrap().collect();
    assert_eq!(names.len(), 1, "no temporary file stays");
}

#[test]
fn many_starts_at_once_then_all_have_one_key() {
    let folder = Folder::new("race");
    let path = folder.0.join("key");
    let proofs: Vec<_> = std::thread::scope(|scope| {
        let starts: Vec<_> = (0..16)
            .map(|_| {
                scope.spawn(|| {
                    create_if_missing(&path).unwrap();
                    read_file(&path).unwrap().prove(b"text")
                })
            })
            .collect();
        starts.into_iter().map(|start| start.join().unwrap()).collect()
    });
    assert!(proofs.iter().all(|proof| *proof == proofs[0]));
}

#[test]
fn no_home_then_error_names_the_way_out() {
    let error = user_key_path(None, None).unwrap_err();
    assert_eq!(error.kind, ErrorKind::InvalidConfig);
    assert!(error.message.contains("security.key_file"), "{error}");
    assert!(user_key_path(Some("relative".into()), Some("".into())).is_err());
}

#[test]
fn state_home_goes_before_home() {
    let path =
        |state: Option<&str>, home: Option<&str>| user_key_path(state.map(Into::into), home.map(Into::into)).unwrap();
    assert_eq!(path(Some("/s"), Some("/h")), Path::new("/s/process-hub/key"));
    assert_eq!(path(None, Some("/h")), Path::new("/h/.local/state/process-hub/key"));
    assert_eq!(path(Some("s"), Some("/h")), Path::new("/h/.local/state/process-hub/key"));
}

#[test]
fn key_that_others_may_read_is_refused_with_its_mode() {
    let folder = Folder::new("mode");
    for mode in [0o640, 0o604, 0o660, 0o610] {
        let path = folder.write(SECRET, mode);
        let error = refused(&path);
        assert!(error.message.contains(&format!("{mode:04o}")), "{error}");
    }
    let path = folder.write(SECRET, 0o400);
    assert!(read_file(&path).is_ok());
}

#[test]
fn missing_file_and_folder_are_refused() {
    let folder = Folder::new("missing");
    refused(&folder.0.join("nothing"));
    refused(&folder.0);
}

#[test]
fn bad_line_is_named_by_number_and_never_printed() {
    let folder = Folder::new("lines");
    let almost = &SECRET[1..];
    let path = folder.write(&format!("# ours\n\n{SECRET}\n{almost}\n"), 0o600);
    let error = refused(&path);
    assert!(error.message.contains("line 4"), "{error}");
    assert!(!error.message.contains(&almost[..8]), "{error}");
    let path = folder.write(&SECRET.replace('0', "g"), 0o600);
    assert!(refused(&path).message.contains("line 1"));
    let path = folder.write("\n# nothing\n", 0o600);
    refused(&path);
}

#[test]
fn every_listed_key_is_accepted_and_the_first_proves() {
    let folder = Folder::new("list");
    let other = SECRET.replace('0', "F");
    let old = read_file(&folder.write(SECRET, 0o600)).unwrap();
    let new = read_file(&folder.write(&format!("{other}\n{SECRET}\n"), 0o600)).unwrap();
    assert_eq!(new.verify(b"text", &old.prove(b"text")), Some(1));
    assert_eq!(old.verify(b"text", &new.prove(b"text")), None);
    assert_eq!(old.verify(b"text", &new.prove_with(1, b"text")), Some(0));
    assert_eq!(old.verify(b"other", &old.prove(b"text")), None);
}

#[test]
fn keys_are_not_in_the_debug_text() {
    let text = format!("{:?}", Keys::of(&[[0xab; 32]]));
    assert_eq!(text, "Keys(1 keys)");
}
