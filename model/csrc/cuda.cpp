// What Demask asks of libtorch's CUDA half, in terms of the CPU half's headers, so that the programs are linked against that
// one alone: whether somebody looked for the CUDA half before it was opened, the settings, what a device has left.

#include <ATen/Context.h>
#include <ATen/detail/CUDAHooksInterface.h>
#include <c10/core/CachingDeviceAllocator.h>
#include <c10/util/Exception.h>
#include <caffe2/core/common.h>

#include <atomic>
#include <mutex>
#include <set>

#include "rows.h"

namespace {

std::atomic<bool> asked{false};

// libtorch looks for the hooks of its CUDA half once in a process and keeps what it finds. Until the CUDA half is opened it
// finds these, which do what it does without any; the real ones take their place by a higher priority.
struct Absent final : at::CUDAHooksInterface {
  Absent() { asked = true; }
};

struct Noticing {
  Noticing() {
    auto* hooks = at::CUDAHooksRegistry();
    // Linked to the CUDA half: nothing is opened late.
    if (hooks->Has("CUDAHooks")) return;
    hooks->Register(
        "CUDAHooks", [](at::CUDAHooksArgs) { return std::make_unique<Absent>(); }, c10::REGISTRY_FALLBACK);
  }
} noticing;

// Each warning is said once: what has no deterministic way would say so at every step. Never freed: threads may outlive main.
struct Once final : c10::WarningHandler {
  std::mutex one_at_a_time;
  std::set<std::string> said;

  void process(const c10::Warning& warning) override {
    const std::lock_guard<std::mutex> lock(one_at_a_time);
    if (said.size() < 100 && said.insert(warning.msg()).second) c10::WarningHandler::process(warning);
  }
};

c10::DeviceAllocator& allocator() {
  // As the first tensor on a device would.
  at::globalContext().lazyInitDevice(c10::DeviceType::CUDA);
  return *c10::getDeviceAllocator(c10::DeviceType::CUDA);
}

const auto& all(const c10::CachingAllocator::StatArray& of) {
  return of[static_cast<size_t>(c10::CachingAllocator::StatType::AGGREGATE)];
}

}  // namespace

extern "C" {
// libtorch's own version, asking no hooks.
const char* demask_torch_version() {
  const auto& options = caffe2::GetBuildOptions();
  const auto found = options.find("TORCH_VERSION");
  return found == options.end() ? "" : found->second.c_str();
}

// Whether something asked for the CUDA half when it was not open: then it stays without for good.
int demask_cuda_asked() { return asked ? 1 : 0; }

// Numbers as the CPU has them, as far as the device can: no TF32 and no bf16 sums in the place of f32; cuDNN neither chooses
// convolutions by timing them nor attends (its plans are compiled anew for every shape).
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

// The same bits for the same work, where libtorch has a way. `strict`: operators take it, and what has none is refused; else
// convolutions alone do, since operators that write by index would sort the indices first. New memory is not filled: every byte
// is written before it is read.
int demask_cuda_deterministic(int on, int strict) {
  return guarded([&] {
    auto& context = at::globalContext();
    context.setDeterministicAlgorithms(strict, false);
    context.setDeterministicCuDNN(on);
    context.setDeterministicFillUninitializedMemory(false);
  });
}

// What is set, a bit each, for a test: TF32 products, TF32 convolutions, bf16 sums, cuDNN's attention, timed convolutions,
// deterministic operators, the same as a warning, filled memory, deterministic convolutions.
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

// Bytes: free and total by the driver; held by libtorch; of these in use now; the most that were in use.
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

// From here on the most is counted anew.
int demask_cuda_forget_peak(int64_t device) {
  return guarded([&] { allocator().resetPeakStats(static_cast<c10::DeviceIndex>(device)); });
}

// What libtorch holds and does not use goes back to the driver.
int demask_cuda_release() {
  return guarded([&] { allocator().emptyCache(); });
}
}
