// Access to libtorch's CUDA libraries through headers of its CPU library, which is the only one that the
// programs link: whether something looked for CUDA before it was loaded, the settings, and the memory of a
// device.

#include <ATen/Context.h>
#include <ATen/detail/CUDAHooksInterface.h>
#include <c10/core/CachingDeviceAllocator.h>
#include <c10/core/impl/VirtualGuardImpl.h>
#include <c10/util/Exception.h>
#include <caffe2/core/common.h>

#include <atomic>
#include <mutex>
#include <set>

#include "rows.h"

namespace {

std::atomic<bool> asked{false};

// libtorch looks for the hooks of its CUDA libraries once per process and keeps the result. Until these
// libraries are loaded it finds this class, which behaves like libtorch without CUDA. The real hooks replace
// it by their higher priority.
struct Absent final : at::CUDAHooksInterface {
  Absent() { asked = true; }
};

struct Noticing {
  Noticing() {
    auto* hooks = at::CUDAHooksRegistry();
    // The program is linked to CUDA, so nothing is loaded late.
    if (hooks->Has("CUDAHooks")) return;
    hooks->Register(
        "CUDAHooks", [](at::CUDAHooksArgs) { return std::make_unique<Absent>(); }, c10::REGISTRY_FALLBACK);
  }
} noticing;

// Prints each warning once, because an operator without a deterministic implementation would warn at every
// step. The handler is never freed, because threads may outlive main.
struct Once final : c10::WarningHandler {
  std::mutex one_at_a_time;
  std::set<std::string> said;

  void process(const c10::Warning& warning) override {
    const std::lock_guard<std::mutex> lock(one_at_a_time);
    if (said.size() < 100 && said.insert(warning.msg()).second) c10::WarningHandler::process(warning);
  }
};

c10::DeviceAllocator& allocator() {
  // The device is initialised as by its first tensor.
  at::globalContext().lazyInitDevice(c10::DeviceType::CUDA);
  return *c10::getDeviceAllocator(c10::DeviceType::CUDA);
}

const auto& all(const c10::CachingAllocator::StatArray& of) {
  return of[static_cast<size_t>(c10::CachingAllocator::StatType::AGGREGATE)];
}

}  // namespace

extern "C" {
// Returns libtorch's version without using the hooks.
const char* demask_torch_version() {
  const auto& options = caffe2::GetBuildOptions();
  const auto found = options.find("TORCH_VERSION");
  return found == options.end() ? "" : found->second.c_str();
}

// Returns whether something asked for CUDA before it was loaded. libtorch then does without it for good.
int demask_cuda_asked() { return asked ? 1 : 0; }

// Makes the device's numbers as close to the CPU's as possible: no TF32, no bf16 sums in place of f32. cuDNN
// neither chooses convolutions by timing them nor computes attention, because its plans are compiled anew for
// every shape.
int demask_cuda_settle() {
  return guarded([] {
    auto& context = at::globalContext();
    context.setAllowTF32CuBLAS(false);
    context.setAllowTF32CuDNN(false);
    context.setAllowBF16ReductionCuBLAS(false);
    context.setAllowFP16ReductionCuBLAS(false);
    context.setSDPUseCuDNN(false);
    context.setBenchmarkCuDNN(false);
    static auto* once = new Once;
    c10::WarningUtils::set_warning_handler(once);
  });
}

// Makes a device the current one of this thread. What asks for no particular device then uses this one, so that a
// process takes no memory of another.
int demask_cuda_make_current(int64_t device) {
  return guarded([&] {
    const c10::Device wanted(c10::DeviceType::CUDA, static_cast<c10::DeviceIndex>(device));
    c10::impl::VirtualGuardImpl(c10::DeviceType::CUDA).setDevice(wanted);
  });
}

// Makes the same work give the same bits where libtorch can. With `strict`, operators use a deterministic
// implementation, and an operator without one fails. Otherwise only convolutions are deterministic, because
// operators that write by index would first sort the indices. New memory is not filled: every byte is written
// before it is read.
int demask_cuda_deterministic(int on, int strict) {
  return guarded([&] {
    auto& context = at::globalContext();
    context.setDeterministicAlgorithms(strict, false);
    context.setDeterministicCuDNN(on);
    context.setDeterministicFillUninitializedMemory(false);
  });
}

// Returns the settings as bits, for a test: TF32 products, TF32 convolutions, bf16 sums, cuDNN's attention,
// timed convolutions, deterministic operators, determinism as a warning only, filled memory, deterministic
// convolutions.
int demask_cuda_settings(int64_t* bits) {
  return guarded([&] {
    const auto& context = at::globalContext();
    const bool set[] = {
        context.allowTF32CuBLAS(),
        context.allowTF32CuDNN(),
        context.allowBF16ReductionCuBLAS() == at::CuBLASReductionOption::AllowReducedPrecisionWithSplitK,
        context.userEnabledCuDNNSDP(),
        context.benchmarkCuDNN(),
        context.deterministicAlgorithms(),
        context.deterministicAlgorithmsWarnOnly(),
        context.deterministicFillUninitializedMemory(),
        context.deterministicCuDNN(),
    };
    *bits = 0;
    for (size_t i = 0; i < std::size(set); i++) *bits |= static_cast<int64_t>(set[i]) << i;
  });
}

// Returns five numbers of bytes: free and total according to the driver; reserved by libtorch; in use; the
// peak in use.
int demask_cuda_memory(int64_t device, int64_t* five) {
  return guarded([&] {
    const auto index = static_cast<c10::DeviceIndex>(device);
    auto& of = allocator();
    const auto [free, total] = of.getMemoryInfo(index);
    const auto stats = of.getDeviceStats(index);
    five[0] = static_cast<int64_t>(free);
    five[1] = static_cast<int64_t>(total);
    five[2] = all(stats.reserved_bytes).current;
    five[3] = all(stats.allocated_bytes).current;
    five[4] = all(stats.allocated_bytes).peak;
  });
}

// Resets the peak.
int demask_cuda_forget_peak(int64_t device) {
  return guarded([&] { allocator().resetPeakStats(static_cast<c10::DeviceIndex>(device)); });
}

// Returns the memory that libtorch reserves and does not use to the driver.
int demask_cuda_release() {
  return guarded([&] { allocator().emptyCache(); });
}
}
