//! The room with `unsafe` for what tch leaves out: C functions around ATen (aten.cpp, linked in) and around CUDA graphs
//! (cuda.cpp, a library that the program carries and opens where there is a GPU).

#![allow(unsafe_code)]

use std::{
    ffi::{CStr, c_char, c_int, c_void},
    io::Write,
    mem::ManuallyDrop,
    os::fd::AsRawFd,
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
    ptr,
};

use anyhow::{Context, Result, bail, ensure};
use libloading::os::unix::{Library, RTLD_GLOBAL, RTLD_NOW};
use nix::sys::memfd::{MFdFlags, memfd_create};
use tch::Tensor;

/// What a call returns: null, or what went wrong.
type Words = *const c_char;
/// at::Tensor
type AtTensor = c_void;

unsafe extern "C" {
    fn tfbind_fused_adam(
        parameters: *mut AtTensor,
        gradients: *mut AtTensor,
        first: *mut AtTensor,
        second: *mut AtTensor,
        step: *mut AtTensor,
        blocked: *mut AtTensor,
        rate: f64,
        beta1: f64,
        beta2: f64,
        eps: f64,
    ) -> Words;
    fn tfbind_backward(from: *mut AtTensor, gradient: *mut AtTensor) -> Words;
    safe fn tfbind_allow_tf32(allowed: bool);
    safe fn tfbind_warn_once();
}

fn check(words: Words) -> Result<()> {
    if words.is_null() {
        return Ok(());
    }
    // SAFETY: the shims return null or a string that ends in 0 and lives until this thread's next call.
    let text = unsafe { CStr::from_ptr(words) }.to_string_lossy();
    // libtorch appends its C++ stack.
    bail!("{}", text.lines().next().unwrap_or_default())
}

/// tch's pointer to a tensor, alive while that is borrowed.
fn at(tensor: &Tensor) -> *mut AtTensor {
    tensor.as_ptr().cast::<AtTensor>().cast_mut()
}

/// See [`super::fused_adam`], which checks the tensors.
pub fn fused_adam(
    [parameters, gradients, first, second, step, blocked]: [&Tensor; 6],
    rate: f64,
    (beta1, beta2): (f64, f64),
    eps: f64,
) -> Result<()> {
    // SAFETY: tch's pointers are at::Tensor*; the caller has checked kinds, sizes and devices, as
    // ATen does not.
    check(unsafe {
        tfbind_fused_adam(
            at(parameters),
            at(gradients),
            at(first),
            at(second),
            at(step),
            at(blocked),
            rate,
            beta1,
            beta2,
            eps,
        )
    })
}

/// See [`super::backward_from`].
pub fn backward_from(x: &Tensor, gradient: &Tensor) -> Result<()> {
    // SAFETY: as above; libtorch checks that the gradient is one of x.
    check(unsafe { tfbind_backward(at(x), at(gradient)) })
}

pub fn allow_tf32(allowed: bool) {
    tfbind_allow_tf32(allowed);
}

pub fn warn_once() {
    tfbind_warn_once();
}

/// Opens a library for good, its symbols for all that come after.
pub fn open_for_all(path: &Path) -> Result<Library> {
    // SAFETY: libtorch_cuda registers its kernels when it is opened and asks nothing of the caller; cuda.cpp has no
    // initialisers.
    let library = unsafe { Library::open(Some(path), RTLD_NOW | RTLD_GLOBAL) }?;
    Ok(library)
}

/// The functions of cuda.cpp.
pub struct Cuda {
    make_current: unsafe extern "C" fn(c_int) -> Words,
    card: unsafe extern "C" fn(c_int, *mut usize, *mut c_int) -> Words,
    new: unsafe extern "C" fn(c_int, *mut *mut c_void) -> Words,
    free: unsafe extern "C" fn(*mut c_void),
    enter: unsafe extern "C" fn(*mut c_void) -> Words,
    leave: unsafe extern "C" fn(*mut c_void) -> Words,
    begin: unsafe extern "C" fn(*mut c_void) -> Words,
    end: unsafe extern "C" fn(*mut c_void) -> Words,
    replay: unsafe extern "C" fn(*mut c_void) -> Words,
    give_back: unsafe extern "C" fn() -> Words,
    profile: unsafe extern "C" fn(bool) -> Words,
    // Holds the functions above; never closed.
    _library: ManuallyDrop<Library>,
}

impl Cuda {
    /// From the bytes of the library, which lie in a file without a name; libtorch_cuda has to be open.
    pub fn open(bytes: &[u8]) -> Result<Self> {
        let name = c"tfbind-cuda";
        let file = memfd_create(name, MFdFlags::MFD_CLOEXEC).context("a file in memory")?;
        let path = format!("/proc/self/fd/{}", file.as_raw_fd());
        std::fs::File::from(file.try_clone()?).write_all(bytes)?;
        let library = open_for_all(Path::new(&path))?;
        // SAFETY: the types are those of cuda.cpp, and the library is never closed.
        unsafe {
            Ok(Self {
                make_current: *library.get(b"tfbind_use\0")?,
                card: *library.get(b"tfbind_card\0")?,
                new: *library.get(b"tfbind_recorder_new\0")?,
                free: *library.get(b"tfbind_recorder_free\0")?,
                enter: *library.get(b"tfbind_recorder_enter\0")?,
                leave: *library.get(b"tfbind_recorder_leave\0")?,
                begin: *library.get(b"tfbind_recorder_begin\0")?,
                end: *library.get(b"tfbind_recorder_end\0")?,
                replay: *library.get(b"tfbind_recorder_replay\0")?,
                give_back: *library.get(b"tfbind_give_back\0")?,
                profile: *library.get(b"tfbind_profile\0")?,
                _library: ManuallyDrop::new(library),
            })
        }
    }

    /// What this thread does without naming a GPU, it does on this one.
    pub fn make_current(&self, gpu: usize) -> Result<()> {
        // SAFETY: here and in `give_back` and `profile` nothing is asked of the caller.
        check(unsafe { (self.make_current)(gpu as c_int) })
    }

    /// Free bytes of a GPU, and the major number of its compute capability.
    pub fn card(&self, gpu: usize) -> Result<(usize, i32)> {
        let (mut free, mut major) = (0, 0);
        // SAFETY: the numbers outlive the call.
        check(unsafe { (self.card)(gpu as c_int, &mut free, &mut major) })?;
        Ok((free, major))
    }

    pub fn give_back(&self) -> Result<()> {
        // SAFETY: as above.
        check(unsafe { (self.give_back)() })
    }

    pub fn profile(&self, on: bool) -> Result<()> {
        // SAFETY: as above.
        check(unsafe { (self.profile)(on) })
    }
}

/// A CUDA graph, and the stream it is recorded on.
pub struct Recorder {
    cuda: &'static Cuda,
    handle: *mut c_void,
}

impl Recorder {
    pub fn new(cuda: &'static Cuda, gpu: usize) -> Result<Self> {
        let mut handle = ptr::null_mut();
        // SAFETY: cuda.cpp writes the handle, which nothing uses if the call fails.
        check(unsafe { (cuda.new)(gpu as c_int, &mut handle) })?;
        ensure!(!handle.is_null(), "no recorder");
        Ok(Self { cuda, handle })
    }

    /// Runs a call on the recorder's stream, in line with what comes before and after on this thread's.
    pub fn aside<T>(&mut self, call: impl FnOnce() -> Result<T>) -> Result<T> {
        // SAFETY: here and below the handle is live until `self` is dropped, and used by one thread.
        check(unsafe { (self.cuda.enter)(self.handle) })?;
        let done = settled(call);
        // SAFETY: as above.
        check(unsafe { (self.cuda.leave)(self.handle) })?;
        done
    }

    /// Records what a call launches without running it.
    pub fn record<T>(&mut self, call: impl FnOnce() -> Result<T>) -> Result<T> {
        let (cuda, handle) = (self.cuda, self.handle);
        self.aside(|| {
            // SAFETY: as above.
            check(unsafe { (cuda.begin)(handle) })?;
            let done = settled(call);
            // SAFETY: as above; also after a failed call, so that the stream leaves its recording.
            let ended = check(unsafe { (cuda.end)(handle) });
            done.and_then(|value| ended.map(|()| value))
        })
    }

    pub fn replay(&mut self) -> Result<()> {
        // SAFETY: as above; the recording's memory belongs to it until it is freed.
        check(unsafe { (self.cuda.replay)(self.handle) })
    }
}

/// A call whose panic is an error: tch panics where libtorch throws, and the stream has to be left all the same.
fn settled<T>(call: impl FnOnce() -> Result<T>) -> Result<T> {
    catch_unwind(AssertUnwindSafe(call)).unwrap_or_else(|panic| {
        let said = panic.downcast_ref::<String>().map_or("", String::as_str);
        // libtorch appends its C++ stack.
        bail!("{}", said.lines().next().unwrap_or_default())
    })
}

impl Drop for Recorder {
    fn drop(&mut self) {
        // SAFETY: the handle is gone with `self`.
        unsafe { (self.cuda.free)(self.handle) }
    }
}
