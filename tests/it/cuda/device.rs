//! The emulated device, built once and put where a driver would be found.

use std::ffi::CString;
use std::path::PathBuf;
use std::process::Command;
use std::sync::{Mutex, MutexGuard, OnceLock};

/// Functions of the emulator beyond those of a driver.
pub(super) struct Emulator {
    fail_after: unsafe extern "C" fn(i64),
    set_order: unsafe extern "C" fn(u32),
    replays: unsafe extern "C" fn() -> u32,
}

/// Builds the emulated driver.
pub(super) fn folder() -> PathBuf {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    let build = || {
        let out = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("emulated-cuda");
        let script = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/cuda/emulator/build.sh");
        let status = Command::new(script).arg(&out).status();
        let status = status.expect("the emulator's build script can be started");
        assert!(
            status.success(),
            "the emulated device needs a C++ compiler: {status}"
        );
        out
    };
    BUILT.get_or_init(build).clone()
}

/// Loads the emulated driver, which stays for the process; whoever asks for libcuda gets it.
fn emulator() -> &'static Emulator {
    static LOADED: OnceLock<Emulator> = OnceLock::new();
    LOADED.get_or_init(|| {
        let path = folder().join("libcuda.so.1");
        let path = CString::new(path.to_str().unwrap()).unwrap();
        // SAFETY: our own library, whose initialisers do nothing but fill tables.
        let handle = unsafe { libc::dlopen(path.as_ptr(), libc::RTLD_NOW | libc::RTLD_GLOBAL) };
        assert!(!handle.is_null(), "the emulated driver does not load");
        let find = |name: &std::ffi::CStr| {
            // SAFETY: the handle is that of a loaded library.
            let found = unsafe { libc::dlsym(handle, name.as_ptr()) };
            assert!(!found.is_null(), "{name:?} is not in the emulator");
            found
        };
        // SAFETY: the functions have these types in driver.cpp.
        unsafe {
            Emulator {
                fail_after: std::mem::transmute::<*mut libc::c_void, unsafe extern "C" fn(i64)>(
                    find(c"emulator_fail_after"),
                ),
                set_order: std::mem::transmute::<*mut libc::c_void, unsafe extern "C" fn(u32)>(
                    find(c"emulator_set_order"),
                ),
                replays: std::mem::transmute::<*mut libc::c_void, unsafe extern "C" fn() -> u32>(
                    find(c"emulator_replays"),
                ),
            }
        }
    })
}

/// The emulated device, for one test at a time: it has settings.
pub(super) struct Emulated(#[expect(dead_code, reason = "held, not read")] MutexGuard<'static, ()>);

/// Waits for the device. A test that failed before does not keep it.
pub(super) fn device() -> Emulated {
    static TURN: Mutex<()> = Mutex::new(());
    let guard = TURN
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    emulator();
    let device = Emulated(guard);
    device.fail_after(-1);
    device.set_order(0);
    device
}

impl Emulated {
    /// Lets the n-th launch from now on fail; none if negative.
    pub(super) fn fail_after(&self, launches: i64) {
        // SAFETY: any number will do.
        unsafe { (emulator().fail_after)(launches) }
    }

    /// In which order threads run between barriers: 0 by number, 1 backwards, others at random.
    pub(super) fn set_order(&self, order: u32) {
        // SAFETY: any number will do.
        unsafe { (emulator().set_order)(order) }
    }

    /// Recorded steps that were repeated so far.
    pub(super) fn replays(&self) -> u32 {
        // SAFETY: it reads a counter.
        unsafe { (emulator().replays)() }
    }
}
