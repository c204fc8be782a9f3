// CUDA graphs and the memory of a GPU, as C functions. A library of its own, for it needs libtorch_cuda, which a node
// without a GPU may not have: the program carries it and opens it where there is one (see gpu/ffi.rs). A function
// returns null or what went wrong, in words that live until the thread's next call.

#include <ATen/cuda/CUDAGraph.h>
#include <c10/cuda/CUDACachingAllocator.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>

#include <optional>
#include <string>

// Of the runtime, but of a header that comes in a wheel of its own.
extern "C" cudaError_t cudaProfilerStart();
extern "C" cudaError_t cudaProfilerStop();

namespace {

thread_local std::string words;

template <typename Call>
const char* outcome(Call call) {
  try {
    call();
    return nullptr;
  } catch (const std::exception& error) {
    words = error.what();
    return words.c_str();
  }
}

void check(cudaError_t code, const char* what) {
  TORCH_CHECK(code == cudaSuccess, what, ": ", cudaGetErrorString(code));
}

// Work that `first` holds is done before any that `then` is given from now on.
void order(const c10::cuda::CUDAStream& first, const c10::cuda::CUDAStream& then) {
  cudaEvent_t done;
  check(cudaEventCreateWithFlags(&done, cudaEventDisableTiming), "cudaEventCreate");
  check(cudaEventRecord(done, first), "cudaEventRecord");
  check(cudaStreamWaitEvent(then, done, 0), "cudaStreamWaitEvent");
  check(cudaEventDestroy(done), "cudaEventDestroy");
}

// Events, captures and a graph's memory belong to the device that is current, which a stream does not say.
struct Recorder {
  explicit Recorder(c10::DeviceIndex gpu) : aside(c10::cuda::getStreamFromPool(false, gpu)) {}
  c10::cuda::CUDAStream aside;
  std::optional<c10::cuda::CUDAStream> before;
  at::cuda::CUDAGraph graph;
  c10::cuda::CUDAGuard here() const { return c10::cuda::CUDAGuard(aside.device_index()); }
};

}  // namespace

extern "C" {

// What this thread does from now on without naming a GPU, it does on this one.
const char* tfbind_use(int gpu) {
  return outcome([&] { c10::cuda::set_device(static_cast<c10::DeviceIndex>(gpu)); });
}

// Free bytes, and the major number of the compute capability.
const char* tfbind_card(int gpu, size_t* free, int* major) {
  return outcome([&] {
    c10::cuda::CUDAGuard guard(static_cast<c10::DeviceIndex>(gpu));
    size_t total = 0;
    check(cudaMemGetInfo(free, &total), "cudaMemGetInfo");
    check(cudaDeviceGetAttribute(major, cudaDevAttrComputeCapabilityMajor, gpu), "cudaDeviceGetAttribute");
  });
}

const char* tfbind_recorder_new(int gpu, void** made) {
  return outcome([&] { *made = new Recorder(static_cast<c10::DeviceIndex>(gpu)); });
}

void tfbind_recorder_free(void* recorder) {
  auto* own = static_cast<Recorder*>(recorder);
  auto here = own->here();
  delete own;
}

// What follows on this thread runs on a stream of its own, as a recording must.
const char* tfbind_recorder_enter(void* recorder) {
  return outcome([&] {
    auto& own = *static_cast<Recorder*>(recorder);
    auto here = own.here();
    own.before = c10::cuda::getCurrentCUDAStream(own.aside.device_index());
    order(*own.before, own.aside);
    c10::cuda::setCurrentCUDAStream(own.aside);
  });
}

const char* tfbind_recorder_leave(void* recorder) {
  return outcome([&] {
    auto& own = *static_cast<Recorder*>(recorder);
    auto here = own.here();
    // Whatever comes of the order, what follows is not to land in a recording.
    c10::cuda::setCurrentCUDAStream(*own.before);
    order(own.aside, *own.before);
  });
}

// Between enter and leave. Other threads may go on calling CUDA: that which fills the GPU with windows does.
const char* tfbind_recorder_begin(void* recorder) {
  return outcome([&] {
    auto& own = *static_cast<Recorder*>(recorder);
    auto here = own.here();
    own.graph.capture_begin({0, 0}, cudaStreamCaptureModeThreadLocal);
  });
}

const char* tfbind_recorder_end(void* recorder) {
  return outcome([&] {
    auto& own = *static_cast<Recorder*>(recorder);
    auto here = own.here();
    own.graph.capture_end();
  });
}

// On the stream that is current then: its work is in line with what comes before and after.
const char* tfbind_recorder_replay(void* recorder) {
  return outcome([&] {
    auto& own = *static_cast<Recorder*>(recorder);
    auto here = own.here();
    own.graph.replay();
  });
}

// Gives back what the allocator keeps for later, with it the memory of graphs that were freed.
const char* tfbind_give_back() {
  return outcome([&] { c10::cuda::CUDACachingAllocator::emptyCache(); });
}

// From here on, or no longer, a profiler that waits for it looks.
const char* tfbind_profile(bool on) {
  return outcome([&] { check(on ? cudaProfilerStart() : cudaProfilerStop(), "cudaProfiler"); });
}

}  // extern "C"
