//! The table behind the handles.
//!
//! A handle is a number in the form of a pointer that is never followed: type, process, generation and place. Every
//! use looks it up, so a null, freed, foreign or made-up handle is an error and not a crash. The table is one per
//! process: the child process of a `fork` starts with an empty one and answers `forked` to the handles of its parent,
//! without touching a lock that another thread may have held.

use std::any::Any;
use std::collections::VecDeque;
use std::os::fd::{BorrowedFd, RawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicPtr, AtomicU64, Ordering};

use parking_lot::RwLock;
use process_hub::error::{Error, ErrorKind};
use process_hub::net::tcp::close_inherited;

const PLACE_BITS: u32 = 24;
const GENERATION_BITS: u32 = 28;
const PROCESS_BITS: u32 = 8;
const PROCESS_SHIFT: u32 = PLACE_BITS + GENERATION_BITS;
const TYPE_SHIFT: u32 = PROCESS_SHIFT + PROCESS_BITS;
/// A place is used again only when so many are free, so that a generation comes back late.
const KEPT_FREE: usize = 1024;

#[cfg(not(target_pointer_width = "64"))]
compile_error!("a handle has 64 bits");

/// What a handle may stand for.
pub(crate) trait Handled: Any + Send + Sync {
    /// The type in the handle: 1 to 14, which no address has in its highest bits.
    const TYPE: u64;
    /// Its name in C.
    const NAME: &'static str;
}

/// The names of the types, by number.
const NAMES: [&str; 8] =
    ["", "ph_hub", "ph_node", "ph_future", "ph_error", "ph_context", "ph_reply", "the owner of a ph_value"];

#[derive(Default)]
struct Place {
    generation: u64,
    object: Option<Arc<dyn Any + Send + Sync>>,
}

#[derive(Default)]
struct Places {
    places: Vec<Place>,
    free: VecDeque<usize>,
}

/// The handles of one process.
#[derive(Default)]
struct Table(RwLock<Places>);

/// Null until the first handle, and again in the child process of a fork.
static TABLE: AtomicPtr<Table> = AtomicPtr::new(std::ptr::null_mut());
/// How many forks lie between the first process and this one.
static FORKS: AtomicU64 = AtomicU64::new(0);

/// Run in the child process of a fork: leaves everything of the parent as it is, for ever.
extern "C" fn after_fork() {
    FORKS.fetch_add(1, Ordering::Relaxed);
    TABLE.store(std::ptr::null_mut(), Ordering::Release);
    crate::logs::after_fork();
    close_inherited(inode_of, |number| {
        // SAFETY: a socket of a hub of the parent; nobody uses or closes it here, since handles answer `forked` and
        // nothing of the parent's is dropped.
        unsafe { rustix::io::close(number) };
    });
}

/// The inode of a descriptor, if there is one of this number.
fn inode_of(number: RawFd) -> Option<u64> {
    // SAFETY: borrowed for this call; a number that is no descriptor is answered with an error.
    let descriptor = unsafe { BorrowedFd::borrow_raw(number) };
    rustix::fs::fstat(descriptor).ok().map(|stat| stat.st_ino)
}

fn process() -> u64 {
    FORKS.load(Ordering::Relaxed) & mask(PROCESS_BITS)
}

const fn mask(bits: u32) -> u64 {
    (1 << bits) - 1
}

fn table() -> &'static Table {
    let present = TABLE.load(Ordering::Acquire);
    // SAFETY: the pointer is null or came from `Box::leak` below and is never freed.
    if let Some(table) = unsafe { present.as_ref() } {
        return table;
    }
    static WATCH_FORKS: std::sync::Once = std::sync::Once::new();
    WATCH_FORKS.call_once(|| {
        // SAFETY: the handler only touches atomics and makes system calls, as a handler after `fork` must.
        unsafe { libc::pthread_atfork(None, None, Some(after_fork)) };
    });
    let fresh: *mut Table = Box::leak(Box::default());
    match TABLE.compare_exchange(std::ptr::null_mut(), fresh, Ordering::AcqRel, Ordering::Acquire) {
        // SAFETY: leaked above.
        Ok(_) => unsafe { &*fresh },
        Err(other) => {
            // SAFETY: `fresh` was leaked above and nobody has seen it; `other` was leaked by another thread.
            unsafe {
                drop(Box::from_raw(fresh));
                &*other
            }
        }
    }
}

/// The handle of a new object.
pub(crate) fn insert<T: Handled>(object: Arc<T>) -> Result<u64, Error> {
    let mut places = table().0.write();
    let place = if places.free.len() > KEPT_FREE { places.free.pop_front() } else { None };
    let place = match place {
        Some(place) => place,
        None if places.places.len() as u64 <= mask(PLACE_BITS) => {
            places.places.push(Place::default());
            places.places.len() - 1
        }
        None => match places.free.pop_front() {
            Some(place) => place,
            None => {
                let message = format!("this process holds {} handles already", places.places.len());
                return Err(Error::new(ErrorKind::Overloaded, "new handle", message));
            }
        },
    };
    let entry = &mut places.places[place];
    entry.object = Some(object);
    let generation = entry.generation;
    Ok(T::TYPE << TYPE_SHIFT | process() << PROCESS_SHIFT | generation << PLACE_BITS | place as u64)
}

/// The object of a handle.
pub(crate) fn get<T: Handled>(handle: u64, operation: &str) -> Result<Arc<T>, Error> {
    let (place, generation) = split::<T>(handle, operation)?;
    let places = table().0.read();
    let entry = places.places.get(place).filter(|entry| entry.generation == generation);
    let object = entry.and_then(|entry| entry.object.clone());
    drop(places);
    object.and_then(|object| object.downcast().ok()).ok_or_else(|| freed::<T>(operation))
}

/// Frees a handle and gives its object back.
pub(crate) fn remove<T: Handled>(handle: u64, operation: &str) -> Result<Arc<T>, Error> {
    let (place, generation) = split::<T>(handle, operation)?;
    let mut places = table().0.write();
    let entry = places.places.get_mut(place).filter(|entry| entry.generation == generation);
    let object = entry.and_then(|entry| {
        let object = entry.object.take()?;
        entry.generation = (entry.generation + 1) & mask(GENERATION_BITS);
        Some(object)
    });
    if object.is_some() {
        places.free.push_back(place);
    }
    drop(places);
    object.and_then(|object| object.downcast().ok()).ok_or_else(|| freed::<T>(operation))
}

/// How many handles are not freed.
pub(crate) fn len() -> usize {
    let places = table().0.read();
    places.places.len() - places.free.len()
}

fn split<T: Handled>(handle: u64, operation: &str) -> Result<(usize, u64), Error> {
    let refuse = |message: String| Error::new(ErrorKind::InvalidArgument, operation, message);
    if handle == 0 {
        return Err(refuse(format!("the {} is NULL", T::NAME)));
    }
    let found = handle >> TYPE_SHIFT;
    if found != T::TYPE {
        let name = usize::try_from(found).ok().and_then(|found| NAMES.get(found)).filter(|name| !name.is_empty());
        return Err(refuse(match name {
            Some(name) => format!("a {} is wanted and a {name} was given", T::NAME),
            None => format!("a {} is wanted, and this pointer is no handle of this library", T::NAME),
        }));
    }
    if handle >> PROCESS_SHIFT & mask(PROCESS_BITS) != process() {
        let message = format!(
            "this process was forked from the one that made the {}; start a hub of its own here, or after the fork",
            T::NAME
        );
        return Err(Error::new(ErrorKind::Forked, operation, message));
    }
    let place = usize::try_from(handle & mask(PLACE_BITS)).unwrap_or(usize::MAX);
    Ok((place, handle >> PLACE_BITS & mask(GENERATION_BITS)))
}

fn freed<T: Handled>(operation: &str) -> Error {
    Error::new(ErrorKind::InvalidArgument, operation, format!("the {} was freed before", T::NAME))
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Thing(u32);
    impl Handled for Thing {
        const TYPE: u64 = 13;
        const NAME: &'static str = "thing";
    }
    struct Other;
    impl Handled for Other {
        const TYPE: u64 = 12;
        const NAME: &'static str = "other";
    }

    fn refusal<T: Handled>(handle: u64) -> String {
        let error = get::<T>(handle, "test").map(|_| ()).unwrap_err();
        assert_eq!(error.kind, ErrorKind::InvalidArgument);
        error.message
    }

    #[test]
    fn handle_is_used_then_its_object_is_found_until_it_is_removed() {
        let handle = insert(Arc::new(Thing(7))).unwrap();
        assert_eq!(get::<Thing>(handle, "test").unwrap().0, 7);
        remove::<Thing>(handle, "test").unwrap();
        assert!(refusal::<Thing>(handle).contains("freed"));
        assert!(remove::<Thing>(handle, "test").is_err());
    }

    #[test]
    fn place_is_used_again_then_the_old_handle_stays_freed() {
        let first = insert(Arc::new(Thing(0))).unwrap();
        remove::<Thing>(first, "test").unwrap();
        for number in 0..2 * KEPT_FREE {
            let handle = insert(Arc::new(Thing(u32::try_from(number).unwrap()))).unwrap();
            assert_ne!(handle, first);
            remove::<Thing>(handle, "test").unwrap();
        }
        assert!(refusal::<Thing>(first).contains("freed"));
    }

    #[test]
    fn other_type_null_or_an_address_is_given_then_refused() {
        let other = insert(Arc::new(Other)).unwrap();
        assert!(refusal::<Thing>(other).contains("no handle") || refusal::<Thing>(other).contains("was given"));
        assert!(refusal::<Thing>(0).contains("NULL"));
        let address = std::ptr::from_ref(&other) as u64;
        assert!(refusal::<Thing>(address).contains("no handle"));
        assert!(refusal::<Thing>(u64::MAX).contains("no handle"));
        remove::<Other>(other, "test").unwrap();
    }
}
