//! The C header, made of the crate process-hub-c and the core's tables.

use std::fmt::Write;

use process_hub::error::ErrorKind;

use crate::process::{self, Failure, Outcome};

/// Where it is.
pub(crate) const PATH: &str = "include/process_hub.h";

/// How many callbacks `ph_child_callbacks` has.
const CALLBACKS: usize = 10;

/// The text of the header.
pub(crate) fn text() -> Outcome<String> {
    let crate_folder = process::root().join("bindings-c");
    let config_path = crate_folder.join("cbindgen.toml");
    let config = cbindgen::Config::from_file(&config_path)
        .map_err(|error| Failure::new(format!("{}: {error}", config_path.display())))?;
    let sources = cbindgen::Builder::new()
        .with_config(config)
        .with_crate(crate_folder)
        .with_after_include(constants())
        .generate()
        .map_err(|error| Failure::new(format!("cbindgen: {error}")))?;
    let mut text = Vec::new();
    sources.write(&mut text);
    String::from_utf8(text).map_err(|error| Failure::new(format!("{PATH}: {error}")))
}

/// The constants: the version, the errors, and the names of numbers.
fn constants() -> String {
    let version = env!("CARGO_PKG_VERSION");
    let mut text = format!("\n/* The version this header belongs to. */\n#define PH_VERSION \"{version}\"\n\n");
    text.push_str(
        "/* The numbers of ph_status. Fixed for ever and the same in every language: docs/errors.md. */\nenum {\n",
    );
    text.push_str("    /* It worked. */\n    PH_OK = 0,\n");
    text.push_str("    /* Returned by a callback that answers later. */\n    PH_LATER = 1,\n");
    for kind in ErrorKind::ALL {
        let (name, number, meaning) = (kind.name().to_uppercase(), kind.number(), kind.meaning());
        let _ = writeln!(text, "    /* {meaning} */\n    PH_ERR_{name} = {number},");
    }
    end_enum(&mut text);
    let groups: [(&str, &str, &[&str]); 4] = [
        ("The numbers of ph_mode.", "PH_", &["ACTIVE", "PASSIVE"]),
        ("The numbers of ph_start_reason.", "PH_START_", &["INITIAL", "RESTART", "MIGRATION", "FAILOVER"]),
        (
            "The numbers of ph_stop_reason.",
            "PH_STOP_",
            &["STOPPED", "MIGRATED", "SHUTDOWN", "PARTITIONED", "LOST_OWNERSHIP"],
        ),
        ("The levels of the log.", "PH_LOG_", &["OFF", "ERROR", "WARN", "INFO", "DEBUG", "TRACE"]),
    ];
    for (what, prefix, names) in groups {
        let first = usize::from(names.first() != Some(&"OFF"));
        let _ = writeln!(text, "\n/* {what} */\nenum {{");
        for (index, name) in names.iter().enumerate() {
            let _ = writeln!(text, "    {prefix}{name} = {},", index + first);
        }
        end_enum(&mut text);
    }
    text.push_str("\n/* Begins a struct of callbacks. */\n#define PH_CHILD_CALLBACKS_INIT \\\n");
    let _ = writeln!(text, "    {{ sizeof(ph_child_callbacks){} }}", ", NULL".repeat(CALLBACKS));
    text
}

/// Ends an enumeration; a comma behind its last name is no C90 and no C++98.
fn end_enum(text: &mut String) {
    text.truncate(text.trim_end_matches(",\n").len());
    text.push_str("\n};\n");
}
