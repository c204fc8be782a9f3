// What tch leaves out of ATen, as C functions; linked into the program. Tensors are those that tch holds. A function
// returns null or what went wrong, in words that live until the thread's next call.

#include <ATen/Context.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/_fused_adam.h>
#include <c10/util/Exception.h>

#include <iostream>
#include <mutex>
#include <set>
#include <string>

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

// libtorch says some things at every step of a training run, such as that a recurrent layer's weights do not lie as
// cuDNN has them.
struct Once : c10::WarningHandler {
  void process(const c10::Warning& warning) override {
    std::lock_guard<std::mutex> held(lock);
    if (said.insert(warning.msg()).second) {
      std::cerr << "libtorch: " << warning.msg() << std::endl;
    }
  }
  std::mutex lock;
  std::set<std::string> said;
};

}  // namespace

// This thread hears each of libtorch's warnings once.
extern "C" void tfbind_warn_once() {
  static Once once;
  c10::WarningUtils::set_warning_handler(&once);
}

// One kernel for the whole of Adam on flat tensors; nothing changes where `blocked` is 1.
extern "C" const char* tfbind_fused_adam(
    at::Tensor* parameters, at::Tensor* gradients, at::Tensor* first, at::Tensor* second, at::Tensor* step,
    at::Tensor* blocked, double rate, double beta1, double beta2, double eps) {
  return outcome([&] {
    at::_fused_adam_(
        {*parameters}, {*gradients}, {*first}, {*second}, {}, {*step}, rate, beta1, beta2, /*weight_decay=*/0.0, eps,
        /*amsgrad=*/false, /*maximize=*/false, /*grad_scale=*/{}, *blocked);
  });
}

// Backward from a tensor whose gradient is known; tch has it from a loss alone.
extern "C" const char* tfbind_backward(at::Tensor* from, at::Tensor* gradient) {
  return outcome([&] { from->backward(*gradient); });
}

// Whether convolutions of f32 may round their factors to TF32; libtorch's own default is that they may.
extern "C" void tfbind_allow_tf32(bool allowed) {
  at::globalContext().setAllowTF32CuDNN(allowed);
  at::globalContext().setAllowTF32CuBLAS(allowed);
}
