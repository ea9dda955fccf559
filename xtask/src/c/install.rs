//! `install`: the header, the libraries, and what pkg-config and CMake need to find them.

use std::path::{Path, PathBuf};

use crate::header;
use crate::process::{self, Failure, Outcome, cargo, io};

const VERSION: &str = env!("CARGO_PKG_VERSION");
const ABI: &str = env!("CARGO_PKG_VERSION_MAJOR");

/// `install --prefix DIR`.
pub(crate) fn run(args: &[String]) -> Outcome {
    let prefix = match args {
        [flag, folder] if flag == "--prefix" => Path::new(folder),
        [flag] if flag == "--prefix" => return Err(Failure::usage("--prefix needs a folder")),
        [] => return Err(Failure::usage("install needs --prefix DIR")),
        [other, ..] => return Err(Failure::usage(format!("unknown argument `{other}`"))),
    };
    io(prefix.display(), std::fs::create_dir_all(prefix))?;
    install_into(&io(prefix.display(), prefix.canonicalize())?)
}

/// Builds the library and installs it below this folder.
pub(crate) fn install_into(prefix: &Path) -> Outcome {
    process::run_aside(cargo().args(["build", "--release", "-p", "process-hub-c"]))?;
    let built = process::target().join("release");
    let lib = prefix.join("lib");
    copy(&process::root().join(header::PATH), &prefix.join("include/process_hub.h"))?;
    copy(&built.join("libprocess_hub_c.a"), &lib.join("libprocess_hub.a"))?;
    let shared = format!("libprocess_hub.so.{VERSION}");
    copy(&built.join("libprocess_hub_c.so"), &lib.join(&shared))?;
    link(&shared, &lib.join(format!("libprocess_hub.so.{ABI}")))?;
    link(&format!("libprocess_hub.so.{ABI}"), &lib.join("libprocess_hub.so"))?;
    write(&lib.join("pkgconfig/process_hub.pc"), &pkg_config(prefix))?;
    let cmake = lib.join("cmake/process_hub");
    write(&cmake.join("process_hub-config.cmake"), CMAKE)?;
    write(&cmake.join("process_hub-config-version.cmake"), &cmake_version())
}

fn parent_of(path: &Path) -> Outcome {
    let parent = path.parent().map_or_else(PathBuf::new, Path::to_owned);
    io(parent.display(), std::fs::create_dir_all(&parent))
}

fn copy(from: &Path, to: &Path) -> Outcome {
    parent_of(to)?;
    // A library in use keeps its file.
    let _ = std::fs::remove_file(to);
    io(to.display(), std::fs::copy(from, to)).map(drop)
}

fn link(target: &str, link: &Path) -> Outcome {
    let _ = std::fs::remove_file(link);
    io(link.display(), std::os::unix::fs::symlink(target, link))
}

fn write(path: &Path, text: &str) -> Outcome {
    parent_of(path)?;
    io(path.display(), std::fs::write(path, text))
}

/// The run path lets programs find the library where it was installed, without settings of the system.
fn pkg_config(prefix: &Path) -> String {
    let prefix = prefix.display();
    format!(
        "prefix={prefix}\nincludedir=${{prefix}}/include\nlibdir=${{prefix}}/lib\n\n\
         Name: process_hub\nDescription: A hub in every instance of a service\nVersion: {VERSION}\n\
         Cflags: -I${{includedir}}\nLibs: -L${{libdir}} -Wl,-rpath,${{libdir}} -lprocess_hub\n\
         Libs.private: {PRIVATE_LIBS}\n"
    )
}

/// What the static library needs of the system.
pub(super) const PRIVATE_LIBS: &str = "-lpthread -ldl -lm -lrt";

const CMAKE: &str = "\
# find_package(process_hub), then target_link_libraries(PROGRAM process_hub::process_hub), or
# process_hub::process_hub_static.
get_filename_component(_process_hub_prefix \"${CMAKE_CURRENT_LIST_DIR}/../../..\" ABSOLUTE)
foreach(_process_hub_sort process_hub process_hub_static)
  if(NOT TARGET process_hub::${_process_hub_sort})
    if(_process_hub_sort STREQUAL \"process_hub\")
      add_library(process_hub::process_hub SHARED IMPORTED)
      set_target_properties(process_hub::process_hub PROPERTIES
        IMPORTED_LOCATION \"${_process_hub_prefix}/lib/libprocess_hub.so\")
    else()
      add_library(process_hub::process_hub_static STATIC IMPORTED)
      set_target_properties(process_hub::process_hub_static PROPERTIES
        IMPORTED_LOCATION \"${_process_hub_prefix}/lib/libprocess_hub.a\"
        INTERFACE_LINK_LIBRARIES \"pthread;dl;m;rt\")
    endif()
    set_target_properties(process_hub::${_process_hub_sort} PROPERTIES
      INTERFACE_INCLUDE_DIRECTORIES \"${_process_hub_prefix}/include\")
  endif()
endforeach()
unset(_process_hub_prefix)
";

/// Versions of one major number fit each other.
fn cmake_version() -> String {
    format!(
        "set(PACKAGE_VERSION \"{VERSION}\")\n\
         if(PACKAGE_FIND_VERSION_MAJOR STREQUAL \"{ABI}\" AND NOT PACKAGE_FIND_VERSION VERSION_GREATER PACKAGE_VERSION)\n\
         \x20 set(PACKAGE_VERSION_COMPATIBLE TRUE)\n\
         \x20 if(PACKAGE_FIND_VERSION STREQUAL PACKAGE_VERSION)\n\
         \x20   set(PACKAGE_VERSION_EXACT TRUE)\n\
         \x20 endif()\n\
         endif()\n"
    )
}
