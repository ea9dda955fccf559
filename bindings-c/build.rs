//! The names and flags of the shared library.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let abi = std::env::var("CARGO_PKG_VERSION_MAJOR").unwrap_or_default();
    println!("cargo::rustc-cdylib-link-arg=-Wl,-soname,libprocess_hub.so.{abi}");
    // Threads may still run when a program calls `dlclose`: the code stays where it is.
    println!("cargo::rustc-cdylib-link-arg=-Wl,-z,nodelete");
}
