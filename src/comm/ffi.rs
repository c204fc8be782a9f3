//! What communication needs of `unsafe`: the memory of tensors, the end of a process, and the C functions of NCCL and of
//! the CUDA runtime.

#![allow(unsafe_code)]

use std::slice;

use tch::{Device, Kind, Tensor};

#[cfg(feature = "nccl")]
pub use nccl::{Communicator, ID_BYTES, NcclLibrary, make_current};

/// The values of a contiguous f32 tensor on the CPU, where they lie. A tensor shares its memory with its views: none
/// of them may be written to while the slice is in use.
pub fn floats(tensor: &Tensor) -> &[f32] {
    if check_floats(tensor) == 0 {
        return &[];
    }
    // SAFETY: checked to be numel f32 values in a row in host memory, which the borrowed tensor keeps alive.
    unsafe { slice::from_raw_parts(tensor.data_ptr().cast(), tensor.numel()) }
}

/// As `floats`, to be written to: no view of the tensor may be read either while the slice is in use.
pub fn floats_mut(tensor: &mut Tensor) -> &mut [f32] {
    if check_floats(tensor) == 0 {
        return &mut [];
    }
    // SAFETY: as in `floats`; the tensor is borrowed mutably, so this is the only slice taken from this handle.
    unsafe { slice::from_raw_parts_mut(tensor.data_ptr().cast(), tensor.numel()) }
}

/// Ends this process at once, without the libraries' farewells, which may wait for other threads.
pub fn end_now(code: i32) -> ! {
    // SAFETY: _exit asks nothing of the caller.
    unsafe { nix::libc::_exit(code) }
}

/// The number of values. An empty tensor has no memory: its pointer is null, which no slice may hold.
fn check_floats(tensor: &Tensor) -> usize {
    let (kind, device) = (tensor.kind(), tensor.device());
    assert_eq!((kind, device), (Kind::Float, Device::Cpu));
    assert!(tensor.is_contiguous(), "{:?} with gaps", tensor.size());
    tensor.numel()
}

#[cfg(feature = "nccl")]
mod nccl {
    use std::{
        ffi::{CStr, OsStr, c_char, c_int, c_void},
        mem::ManuallyDrop,
        ptr, thread,
        time::Duration,
    };

    use anyhow::{Context, Result, bail, ensure};
    use libloading::Library;
    use tch::{Device, Kind, Tensor};

    // nccl.h of NCCL 2.31.2
    pub const ID_BYTES: usize = 128;
    const SUCCESS: c_int = 0;
    const REMOTE_ERROR: c_int = 6;
    const FLOAT32: c_int = 7;
    const FLOAT64: c_int = 8;
    const SUM: c_int = 0;

    /// A rank that hears of another's failure waits before it speaks: the other knows the cause.
    const CAUSE_FIRST: Duration = Duration::from_secs(3);

    #[repr(C)]
    #[derive(Clone, Copy)]
    struct UniqueId([u8; ID_BYTES]);

    type Handle = *mut c_void;
    type Stream = *mut c_void;

    pub struct NcclLibrary {
        /// As `NCCL_VERSION_CODE`.
        pub version: i32,
        error_string: unsafe extern "C" fn(c_int) -> *const c_char,
        unique_id: unsafe extern "C" fn(*mut UniqueId) -> c_int,
        comm_init_rank: unsafe extern "C" fn(*mut Handle, c_int, UniqueId, c_int) -> c_int,
        all_reduce: unsafe extern "C" fn(
            *const c_void,
            *mut c_void,
            usize,
            c_int,
            c_int,
            Handle,
            Stream,
        ) -> c_int,
        async_error: unsafe extern "C" fn(Handle, *mut c_int) -> c_int,
        comm_abort: unsafe extern "C" fn(Handle) -> c_int,
        comm_destroy: unsafe extern "C" fn(Handle) -> c_int,
        // Holds the functions above. Never unloaded: threads of an aborted communicator may still run in it.
        _library: ManuallyDrop<Library>,
    }

    /// One rank's end of a communicator. It is neither destroyed nor aborted by being dropped: which of the two, only
    /// its owner knows.
    pub struct Communicator {
        library: NcclLibrary,
        handle: Handle,
        device: Device,
    }

    impl NcclLibrary {
        pub fn load(name: &OsStr) -> Result<Self> {
            // SAFETY: opening NCCL runs its initialisers only, which ask nothing of the caller.
            let library = unsafe { Library::new(name) }?;
            let mut version = 0;
            // SAFETY: the types are those of nccl.h, and the library that the functions are in is never unloaded.
            unsafe {
                let get_version: unsafe extern "C" fn(*mut c_int) -> c_int =
                    *library.get(b"ncclGetVersion\0")?;
                ensure!(get_version(&mut version) == SUCCESS, "no version");
                Ok(Self {
                    version,
                    error_string: *library.get(b"ncclGetErrorString\0")?,
                    unique_id: *library.get(b"ncclGetUniqueId\0")?,
                    comm_init_rank: *library.get(b"ncclCommInitRank\0")?,
                    all_reduce: *library.get(b"ncclAllReduce\0")?,
                    async_error: *library.get(b"ncclCommGetAsyncError\0")?,
                    comm_abort: *library.get(b"ncclCommAbort\0")?,
                    comm_destroy: *library.get(b"ncclCommDestroy\0")?,
                    _library: ManuallyDrop::new(library),
                })
            }
        }

        /// Names a communicator; one rank makes it and all join with it.
        pub fn unique_id(&self) -> Result<[u8; ID_BYTES]> {
            let mut id = UniqueId([0; ID_BYTES]);
            // SAFETY: NCCL fills the 128 bytes it is pointed to.
            self.check("ncclGetUniqueId", unsafe { (self.unique_id)(&mut id) })?;
            Ok(id.0)
        }

        /// Returns when all ranks have joined. A CUDA device has to be current already: NCCL takes that one.
        pub fn join(
            self,
            id: [u8; ID_BYTES],
            (rank, size): (usize, usize),
            device: Device,
        ) -> Result<Communicator> {
            let mut handle = ptr::null_mut();
            // SAFETY: the id is passed by value; NCCL writes the handle, which nothing uses if the call fails.
            self.check("ncclCommInitRank", unsafe {
                (self.comm_init_rank)(&mut handle, size as c_int, UniqueId(id), rank as c_int)
            })?;
            Ok(Communicator {
                library: self,
                handle,
                device,
            })
        }

        fn check(&self, call: &str, code: c_int) -> Result<()> {
            if code == SUCCESS {
                return Ok(());
            }
            if code == REMOTE_ERROR {
                thread::sleep(CAUSE_FIRST);
            }
            // SAFETY: NCCL returns a constant, for codes it does not know as well.
            let text = unsafe { CStr::from_ptr((self.error_string)(code)) };
            bail!("{call}: {}", text.to_string_lossy())
        }
    }

    impl Communicator {
        /// Puts one allreduce on the legacy default stream and does not wait for it; `send` and `recv` may be the same.
        /// All ranks pass tensors of the same kind and size.
        pub fn sum(&self, send: &Tensor, recv: &Tensor) -> Result<()> {
            let kind = datatype_of_pair(send, recv, self.device)?;
            // SAFETY: both are checked to be numel values in a row on the communicator's device, the same or disjoint.
            // Memory that libtorch frees before NCCL has run is given again only to work behind NCCL's on that stream.
            let code = unsafe {
                (self.library.all_reduce)(
                    send.data_ptr(),
                    recv.data_ptr(),
                    send.numel(),
                    kind,
                    SUM,
                    self.handle,
                    // The stream on which libtorch computes unless told otherwise.
                    ptr::null_mut(),
                )
            };
            self.library.check("ncclAllReduce", code)
        }

        /// What went wrong since a call returned, on the GPU or in the network.
        pub fn async_error(&self) -> Result<()> {
            let mut found = SUCCESS;
            // SAFETY: the handle is live until `destroy` or `abort` takes the communicator.
            let code = unsafe { (self.library.async_error)(self.handle, &mut found) };
            self.library.check("ncclCommGetAsyncError", code)?;
            self.library.check("an allreduce under way", found)
        }

        pub fn version(&self) -> i32 {
            self.library.version
        }

        /// Waits for what is under way on all ranks.
        pub fn destroy(self) -> Result<()> {
            // SAFETY: the handle is live, and gone with `self`.
            let code = unsafe { (self.library.comm_destroy)(self.handle) };
            self.library.check("ncclCommDestroy", code)
        }

        /// Ends what is under way, waiting for no one.
        pub fn abort(self) {
            // SAFETY: as above.
            unsafe { (self.library.comm_abort)(self.handle) };
        }
    }

    /// What NCCL calls the kind of two tensors that it can sum from one into the other on this device.
    pub(super) fn datatype_of_pair(send: &Tensor, recv: &Tensor, on: Device) -> Result<c_int> {
        let datatype = match send.kind() {
            Kind::Float => FLOAT32,
            Kind::Double => FLOAT64,
            other => bail!("sums are of f32 or f64, not of {other:?}"),
        };
        for tensor in [send, recv] {
            let device = tensor.device();
            ensure!(device == on, "sums on {on:?} of a tensor on {device:?}");
            ensure!(tensor.is_contiguous(), "the tensor has gaps");
        }
        ensure!(
            (recv.kind(), recv.numel()) == (send.kind(), send.numel()),
            "{} values of {:?} do not fit where {} of {:?} are expected",
            send.numel(),
            send.kind(),
            recv.numel(),
            recv.kind()
        );
        let bytes = send.numel() * send.kind().elt_size_in_bytes();
        let apart = (send.data_ptr().addr()).abs_diff(recv.data_ptr().addr());
        ensure!(
            apart == 0 || apart >= bytes,
            "the tensors overlap: they have to be one or two"
        );
        Ok(datatype)
    }

    /// Makes a GPU the current one of this thread, by the CUDA runtime of that name.
    pub fn make_current(runtime: &OsStr, gpu: usize) -> Result<()> {
        // SAFETY: as for NCCL: no demands when it is opened, the types of cuda_runtime_api.h, and never unloaded.
        unsafe {
            let library = ManuallyDrop::new(Library::new(runtime)?);
            let set_device: unsafe extern "C" fn(c_int) -> c_int =
                *library.get(b"cudaSetDevice\0")?;
            let error_string: unsafe extern "C" fn(c_int) -> *const c_char =
                *library.get(b"cudaGetErrorString\0")?;
            let code = set_device(c_int::try_from(gpu).context("a GPU's number")?);
            if code != SUCCESS {
                let text = CStr::from_ptr(error_string(code)).to_string_lossy();
                bail!("cudaSetDevice({gpu}): {text}");
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floats_are_the_memory_of_the_tensor() {
        let mut tensor = Tensor::from_slice(&[1f32, 2.0, 3.0, 4.0]);
        assert_eq!(floats(&tensor), [1.0, 2.0, 3.0, 4.0]);
        assert_eq!(floats(&tensor.narrow(0, 1, 2)), [2.0, 3.0]);
        floats_mut(&mut tensor)[2] = 7.0;
        assert_eq!(tensor.double_value(&[2]), 7.0);
        assert!(floats(&tensor.narrow(0, 0, 0)).is_empty());
    }

    #[cfg(feature = "nccl")]
    #[test]
    fn a_tensor_of_the_host_is_not_given_to_a_gpu() {
        let tensor = Tensor::zeros([3], (Kind::Float, Device::Cpu));
        let pair = |device| nccl::datatype_of_pair(&tensor, &tensor, device);
        assert!(pair(Device::Cpu).is_ok());
        let error = pair(Device::Cuda(1)).unwrap_err().to_string();
        assert_eq!(error, "sums on Cuda(1) of a tensor on Cpu");
    }

    #[test]
    #[should_panic(expected = "with gaps")]
    fn columns_are_not_in_a_row() {
        floats(&Tensor::zeros([3, 4], (Kind::Float, Device::Cpu)).narrow(1, 0, 2));
    }

    #[test]
    #[should_panic(expected = "Double")]
    fn doubles_are_not_floats() {
        floats(&Tensor::zeros([3], (Kind::Double, Device::Cpu)));
    }
}
