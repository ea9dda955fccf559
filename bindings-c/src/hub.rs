//! The life of a hub.

use std::ffi::{CString, c_char, c_void};
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use parking_lot::Mutex;
use process_hub::config::HubConfig;
use process_hub::error::{Error, ErrorKind};
use process_hub::host::Polled;
use process_hub::hub::{Hub, Node};
use process_hub::ids::KindName;
use rustix::event::{EventfdFlags, eventfd};

use crate::boundary::{
    HandlePointer as _, OutPointer as _, TextPointer as _, UserData, enter, make_handle, ms, ph_drop, refuse,
};
use crate::child::{CKind, KindCode};
use crate::hooks::Hook;
use crate::strategy::Strategy;
use crate::table::Handled;
use crate::types::{ph_child_callbacks, ph_error, ph_hub, ph_node, ph_status, ph_value};
use crate::{current, value};

/// What a hub is made of, kept until it is freed: a start that failed may be tried again.
#[derive(Default)]
struct Setup {
    kinds: Vec<(String, Arc<KindCode>)>,
    hooks: Vec<Hook>,
    strategies: Vec<Strategy>,
    event: Option<Arc<OwnedFd>>,
    is_polled: bool,
    /// A thread is in `ph_hub_start`.
    is_starting: bool,
    running: Option<Hub>,
}

/// What a `ph_hub` stands for.
pub(crate) struct HubObject {
    handle: AtomicU64,
    config: HubConfig,
    node: Option<Node>,
    setup: Mutex<Setup>,
    /// Texts that are lent to the program.
    pub(crate) node_name: OnceLock<CString>,
    pub(crate) address: OnceLock<CString>,
}

impl Handled for HubObject {
    const TYPE: u64 = 1;
    const NAME: &'static str = "ph_hub";
}

impl HubObject {
    pub(crate) fn handle(&self) -> u64 {
        self.handle.load(Ordering::Acquire)
    }

    /// The hub, once it was started.
    pub(crate) fn running(&self, operation: &str) -> Result<Hub, Error> {
        let running = self.setup.lock().running.clone();
        running.ok_or_else(|| {
            let message = format!("the hub {} was not started", self.config.hub_id);
            Error::new(ErrorKind::NotStarted, operation, message)
        })
    }

    /// Refuses while another thread reads the setup to start the hub.
    fn refuse_starting(&self, setup: &Setup, operation: &str) -> Result<(), Error> {
        if !setup.is_starting {
            return Ok(());
        }
        Err(refuse(operation, format!("another thread is starting the hub {}", self.config.hub_id)))
    }

    /// Adds a hook: to the running hub, or for its start. The same id for the same hook replaces.
    pub(crate) fn add_hook(&self, hook: Hook, operation: &str) -> Result<(), Error> {
        let mut setup = self.setup.lock();
        if let Some(hub) = setup.running.clone() {
            drop(setup);
            return hook.add_to(&hub);
        }
        self.refuse_starting(&setup, operation)?;
        let before = std::mem::take(&mut setup.hooks);
        let (replaced, mut kept): (Vec<_>, Vec<_>) = before.into_iter().partition(|other| other.is_same(&hook));
        kept.push(hook);
        setup.hooks = kept;
        drop(setup);
        // Their data is dropped by code of the program, which runs without our lock.
        drop(replaced);
        Ok(())
    }

    /// Adds a strategy, for the start. The same name of the same family replaces.
    pub(crate) fn add_strategy(&self, strategy: Strategy, operation: &str) -> Result<(), Error> {
        let mut setup = self.setup.lock();
        if setup.running.is_some() || setup.is_starting {
            let message =
                format!("the hub {} was started already: strategies are registered before", self.config.hub_id);
            return Err(refuse(operation, message));
        }
        let before = std::mem::take(&mut setup.strategies);
        let (replaced, mut kept): (Vec<_>, Vec<_>) = before.into_iter().partition(|other| other.is_same(&strategy));
        kept.push(strategy);
        setup.strategies = kept;
        drop(setup);
        drop(replaced);
        Ok(())
    }

    /// Removes a hook; says whether there was one.
    pub(crate) fn remove_hook(&self, name: process_hub::observe::HookName, id: &str) -> bool {
        let mut setup = self.setup.lock();
        if let Some(hub) = setup.running.clone() {
            drop(setup);
            return hub.off(name, id);
        }
        let before = std::mem::take(&mut setup.hooks);
        let (removed, kept): (Vec<_>, Vec<_>) = before.into_iter().partition(|hook| hook.has_id(name, id));
        setup.hooks = kept;
        drop(setup);
        !removed.is_empty()
    }

    /// Starts the hub with what was registered. Called by one thread at a time.
    fn start(&self) -> Result<(), Error> {
        let mut builder = Hub::builder(self.config.clone());
        if let Some(node) = &self.node {
            builder = builder.node(node);
        }
        let setup = self.setup.lock();
        if setup.is_polled {
            builder = builder.polled();
        }
        for (name, code) in &setup.kinds {
            builder = builder.kind(name, CKind { code: Arc::clone(code), hub: self.handle() });
        }
        for hook in &setup.hooks {
            builder = hook.add_to_builder(builder);
        }
        for strategy in &setup.strategies {
            builder = strategy.add_to_builder(builder);
        }
        let event = setup.event.clone();
        drop(setup);
        let hub = builder.start()?;
        if let Some(event) = event {
            let bell = Arc::clone(&event);
            hub.set_doorbell(Box::new(move || ring(&bell)));
            // What was queued before the doorbell hung.
            ring(&event);
        }
        self.setup.lock().running = Some(hub);
        Ok(())
    }
}

/// Makes the event descriptor readable.
fn ring(event: &OwnedFd) {
    // Full means readable already.
    let _ = rustix::io::write(event, &1_u64.to_ne_bytes());
}

fn make(config: HubConfig, node: Option<Node>, hub: *mut *mut ph_hub, operation: &str) -> Result<(), Error> {
    if hub.is_null() {
        return Err(refuse(operation, "there is no place for the hub: `hub` is NULL"));
    }
    let object = Arc::new(HubObject {
        handle: AtomicU64::new(0),
        config,
        node,
        setup: Mutex::default(),
        node_name: OnceLock::new(),
        address: OnceLock::new(),
    });
    let handle = make_handle::<ph_hub>(Arc::clone(&object))?;
    object.handle.store(handle.number(), Ordering::Release);
    hub.put(handle);
    Ok(())
}

/// Makes a hub of a configuration, a JSON document as docs/configuration.md tells. Nothing runs before `ph_hub_start`.
///
/// On `PH_OK`, `*hub` is the program's and freed by `ph_hub_free`. On failure it is untouched, and `*err`, unless NULL,
/// is the program's: `PH_ERR_INVALID_CONFIG` lists every problem with its path. Any thread.
#[unsafe(no_mangle)]
pub extern "C" fn ph_hub_new(config: *const c_char, hub: *mut *mut ph_hub, err: *mut *mut ph_error) -> ph_status {
    const OPERATION: &str = "hub_new";
    enter(OPERATION, err, || make(HubConfig::from_text(config.text(OPERATION, "config")?)?, None, hub, OPERATION))
}

/// Like `ph_hub_new`, for a hub that runs on this node: the configuration has no `node` then. The node must outlive the
/// hub's run: stopping it stops its hubs. Any thread.
#[unsafe(no_mangle)]
pub extern "C" fn ph_hub_new_on_node(
    config: *const c_char,
    node: *mut ph_node,
    hub: *mut *mut ph_hub,
    err: *mut *mut ph_error,
) -> ph_status {
    const OPERATION: &str = "hub_new_on_node";
    enter(OPERATION, err, || {
        let node = node.object(OPERATION)?.node.clone();
        make(HubConfig::from_text(config.text(OPERATION, "config")?)?, Some(node), hub, OPERATION)
    })
}

/// Registers the code of a kind, before or after the start. The struct is copied.
///
/// `user_data` is the library's from now on, also on failure: `drop`, unless NULL, is called with it once, after the
/// last callback of the kind, and before `ph_hub_free` returns unless a callback never does. A kind registered again is
/// replaced for the instances that start from then on. Any thread.
#[unsafe(no_mangle)]
pub extern "C" fn ph_hub_register_kind(
    hub: *mut ph_hub,
    kind: *const c_char,
    callbacks: *const ph_child_callbacks,
    user_data: *mut c_void,
    drop: ph_drop,
    err: *mut *mut ph_error,
) -> ph_status {
    const OPERATION: &str = "register";
    let user_data = UserData::new(user_data, drop);
    enter(OPERATION, err, || {
        let name = KindName::new(kind.text(OPERATION, "kind")?)?;
        let code = Arc::new(KindCode::read(callbacks, user_data, OPERATION)?);
        let object = hub.object(OPERATION)?;
        object.config.warn_of_unused_callbacks(&name, &code.handover_callbacks());
        let mut setup = object.setup.lock();
        if let Some(hub) = setup.running.clone() {
            std::mem::drop(setup);
            return hub.register(name.as_str(), CKind { code, hub: object.handle() }).wait();
        }
        object.refuse_starting(&setup, OPERATION)?;
        let before = std::mem::take(&mut setup.kinds);
        let (replaced, mut kept): (Vec<_>, Vec<_>) = before.into_iter().partition(|(other, _)| other == name.as_str());
        kept.push((name.as_str().to_owned(), code));
        setup.kinds = kept;
        std::mem::drop(setup);
        std::mem::drop(replaced);
        Ok(())
    })
}

/// Says that the program's own threads run the callbacks, by `ph_hub_poll`: the hub has no dispatcher threads then
/// (`run` has one of its own all the same). Before the start only. Any thread.
#[unsafe(no_mangle)]
pub extern "C" fn ph_hub_set_polled(hub: *mut ph_hub, err: *mut *mut ph_error) -> ph_status {
    enter("hub_set_polled", err, || set_polled(&*hub.object("hub_set_polled")?, "hub_set_polled"))
}

fn set_polled(object: &HubObject, operation: &str) -> Result<(), Error> {
    let mut setup = object.setup.lock();
    if setup.running.is_some() || setup.is_starting {
        return Err(refuse(operation, "the hub was started already: say so before"));
    }
    setup.is_polled = true;
    Ok(())
}

/// Gives a descriptor that is readable while the hub may have something for `ph_hub_poll` to do, for the program's own
/// event loop. Makes the hub a polled one, so the first time must be before the start. The descriptor is the hub's: it is
/// neither read nor closed by the program, and is closed after `ph_hub_free`. Any thread.
#[unsafe(no_mangle)]
pub extern "C" fn ph_hub_event_fd(hub: *mut ph_hub, fd: *mut i32, err: *mut *mut ph_error) -> ph_status {
    const OPERATION: &str = "hub_event_fd";
    enter(OPERATION, err, || {
        let object = hub.object(OPERATION)?;
        let present = object.setup.lock().event.clone();
        let event = match present {
            Some(event) => event,
            None => {
                set_polled(&object, OPERATION)?;
                let event = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).map_err(|error| {
                    Error::new(ErrorKind::Internal, OPERATION, format!("no event descriptor: {error}"))
                })?;
                Arc::clone(object.setup.lock().event.get_or_insert(Arc::new(event)))
            }
        };
        fd.put(event.as_raw_fd());
        Ok(())
    })
}

/// Starts the hub: binds, joins the cluster through the seeds, starts the threads. Takes about a second where a seed
/// answers late. A start that failed may be tried again. Any thread; not in a callback of this hub.
#[unsafe(no_mangle)]
pub extern "C" fn ph_hub_start(hub: *mut ph_hub, err: *mut *mut ph_error) -> ph_status {
    const OPERATION: &str = "start";
    enter(OPERATION, err, || {
        let object = hub.object(OPERATION)?;
        {
            let mut setup = object.setup.lock();
            if let Some(hub) = &setup.running {
                let state = if hub.is_alive() { "runs" } else { "was stopped" };
                return Err(refuse(OPERATION, format!("the hub {} {state} already", object.config.hub_id)));
            }
            object.refuse_starting(&setup, OPERATION)?;
            setup.is_starting = true;
        }
        let started = object.start();
        object.setup.lock().is_starting = false;
        started
    })
}

/// Runs the next callback of a polled hub on this thread, waiting for one at most `timeout_ms`.
///
/// Returns `PH_OK` when something was done, `PH_ERR_TIMEOUT` when nothing came, `PH_ERR_CLOSED` when the hub has ended and
/// nothing comes any more, and `PH_ERR_INVALID_ARGUMENT` for a hub that is not polled. Any number of threads may poll;
/// in a callback of this hub it is `PH_ERR_WOULD_DEADLOCK`.
#[unsafe(no_mangle)]
pub extern "C" fn ph_hub_poll(hub: *mut ph_hub, timeout_ms: u64) -> ph_status {
    const OPERATION: &str = "poll";
    enter(OPERATION, std::ptr::null_mut(), || {
        let object = hub.object(OPERATION)?;
        current::refuse_inside(object.handle(), OPERATION)?;
        let running = object.running(OPERATION)?;
        let event = object.setup.lock().event.clone();
        if let Some(event) = &event {
            // Cleared before the queue is looked at, so that what comes later rings again.
            let _ = rustix::io::read(event, &mut [0_u8; 8]);
        }
        let polled = running.poll(ms(timeout_ms))?;
        if let Some(event) = event.filter(|_| polled != Polled::Nothing) {
            // There may be more.
            ring(&event);
        }
        match polled {
            Polled::Worked => Ok(()),
            Polled::Nothing => Err(Error::new(ErrorKind::Timeout, OPERATION, "nothing came")),
            Polled::Closed => Err(Error::new(ErrorKind::Closed, OPERATION, "the hub ended")),
        }
    })
}

/// Gives the children away, leaves the cluster and stops, within `timeout_ms` and half a second. A second call answers
/// the same.
///
/// On `PH_OK`, `*report` is the program's: a JSON object `{moved, restarted, stopped, failed}`; NULL if nobody wants it.
/// `PH_ERR_TIMEOUT` says that children did not end in time: they are abandoned and the hub is stopped all the same. The
/// handle lives on, and every operation answers `PH_ERR_CLOSED`. Any thread; in a callback of this hub it is
/// `PH_ERR_WOULD_DEADLOCK` and nothing is done.
#[unsafe(no_mangle)]
pub extern "C" fn ph_hub_stop(
    hub: *mut ph_hub,
    timeout_ms: u64,
    report: *mut ph_value,
    err: *mut *mut ph_error,
) -> ph_status {
    enter("stop", err, || {
        let object = hub.object("stop")?;
        current::refuse_inside(object.handle(), "stop")?;
        let result = object.running("stop")?.stop(ms(timeout_ms))?;
        value::write_json(report, &result)
    })
}

/// Frees a hub and sets the handle to NULL. A hub that still runs is stopped first, within its `shutdown_timeout_ms`.
///
/// No callback begins after it returned. One that is past its deadline is not waited for; what belongs to it is dropped
/// when it returns. NULL, and a handle that is NULL, is no harm: `PH_OK`. In a callback of this hub it is
/// `PH_ERR_WOULD_DEADLOCK`, in a forked process `PH_ERR_FORKED`, and nothing is done. Any thread.
#[unsafe(no_mangle)]
pub extern "C" fn ph_hub_free(hub: *mut *mut ph_hub) -> ph_status {
    const OPERATION: &str = "hub_free";
    enter(OPERATION, std::ptr::null_mut(), || {
        let Some(handle) = hub.present().filter(|handle| handle.number() != 0) else {
            return Ok(());
        };
        current::refuse_inside(handle.number(), OPERATION)?;
        let object = handle.release(OPERATION)?;
        hub.put(std::ptr::null_mut());
        let running = object.setup.lock().running.clone();
        if let Some(running) = running {
            // A hub that was stopped has had its time.
            let timeout = if running.is_alive() { object.config.shutdown_timeout } else { Duration::ZERO };
            // The report, and that children did not end in time, is for those who call `ph_hub_stop`.
            let _ = running.stop(timeout);
        }
        let setup = std::mem::take(&mut *object.setup.lock());
        drop(setup);
        Ok(())
    })
}
