//! The suites of `test` and `check` that run on Node.js.

use crate::node::{self, Project};
use crate::process::{self, Failure, Outcome, io};
use crate::report::Ended;

/// The project that the suite `npm` makes and the others use.
const PROJECT: &str = "node-test";
/// How long one test may take; a test that hangs fails by it and is named.
const TEST_TIMEOUT_MS: u32 = 120_000;

/// `check`: the sources of the package are fully typed.
pub(crate) fn types() -> Outcome<Ended> {
    node::install_tools()?;
    let mut command = node::tsc();
    process::run(command.args(["-p", "bindings-node", "--noEmit"]))?;
    Ok(Ended::Passed(None))
}

/// The tarballs are built and installed into an empty folder.
pub(crate) fn npm() -> Outcome<Ended> {
    let project = Project::fresh(PROJECT)?;
    let mut command = project.node();
    let program = "console.log(Object.keys(require('./package.json').dependencies).join(' '))";
    let installed =
        process::run_watched(command.args(["--input-type=commonjs", "--eval", program]), |line| Some(line.to_owned()))?;
    Ok(Ended::Passed(installed))
}

/// The project that the suite `npm` made.
pub(crate) fn project() -> Outcome<Project> {
    node::require()?;
    Project::existing(PROJECT)
        .ok_or_else(|| Failure::new("there is no project with the package: the suite `npm` makes it"))
}

/// The tests of the package, on the installed one.
pub(crate) fn tests() -> Outcome<Ended> {
    let project = project()?;
    let folder = project.add("bindings-node/test")?;
    let mut files = Vec::new();
    for entry in io(folder.display(), std::fs::read_dir(&folder))? {
        let name = io(folder.display(), entry)?.file_name().to_string_lossy().into_owned();
        if name.ends_with(".test.mjs") {
            files.push(format!("test/{name}"));
        }
    }
    files.sort();
    let mut types = node::tsc();
    types.current_dir(&folder);
    process::run(types.args(["-p", "types"]))?;
    let mut command = project.node();
    command.env("PROCESS_HUB_ROOT", process::root());
    command.args(["--expose-gc", "--test", "--test-reporter=spec", "--test-concurrency=2"]);
    command.arg(format!("--test-timeout={TEST_TIMEOUT_MS}")).args(files);
    let summary =
        process::run_watched(&mut command, |line| line.strip_prefix("ℹ pass ").map(|count| format!("{count} passed")))?;
    Ok(Ended::Passed(summary))
}

/// The examples of the READMEs, in three kinds of modules.
pub(crate) fn readme() -> Outcome<Ended> {
    let project = project()?;
    let page = |name: &str| io(name, std::fs::read_to_string(process::root().join(name)));
    let (main, own) = (page("README.md")?, page("bindings-node/README.md")?);
    let missing = |what: &str| Failure::new(format!("there is no block of {what} in the page"));
    let module = process::block(&main, "js", "import").ok_or_else(|| missing("ESM"))?;
    let own_module = process::block(&own, "js", "import").ok_or_else(|| missing("ESM"))?;
    let common = process::block(&own, "js", "require(").ok_or_else(|| missing("CommonJS"))?;
    let typed = process::block(&own, "ts", "import").ok_or_else(|| missing("TypeScript"))?;
    project.write("readme.mjs", module)?;
    project.write("readme_own.mjs", own_module)?;
    project.write("readme.cjs", common)?;
    project.write("readme_typed.ts", typed)?;
    let mut compile = node::tsc();
    compile.current_dir(project.folder());
    let options = ["--strict", "--target", "es2022", "--module", "nodenext", "readme_typed.ts"];
    process::run(compile.args(options))?;
    for program in ["readme.mjs", "readme_own.mjs", "readme.cjs", "readme_typed.js"] {
        let mut command = project.node();
        let prints = process::run_watched(command.arg(program), |line| Some(line.to_owned()))?;
        if prints.as_deref() != Some("2") {
            let prints = prints.unwrap_or_else(|| "nothing".into());
            return Err(Failure::new(format!("{program} printed {prints}, not 2")));
        }
    }
    Ok(Ended::Passed(Some("ESM, CommonJS and TypeScript print 2".into())))
}

/// The example service.
pub(crate) fn example() -> Outcome<Ended> {
    let project = project()?;
    let folder = project.add("examples/node/chat_rooms")?;
    let mut command = project.node();
    let summary = process::run_watched(command.arg(folder.join("rolling_restart.mjs")), |line| Some(line.to_owned()))?;
    Ok(Ended::Passed(summary))
}
