// What Demask asks of libtorch's CUDA half, in terms of the CPU half's headers, so that the programs are linked against that
// one alone: whether somebody looked for the CUDA half before it was opened, the settings, what a device has left.

#include <ATen/Context.h>
#include <ATen/Version.h>
#include <ATen/detail/CUDAHooksInterface.h>
#include <c10/core/CachingDeviceAllocator.h>

#include <atomic>

#include "rows.h"

namespace {

std::atomic<bool> asked{false};

// libtorch looks for the hooks of its CUDA half once in a process and keeps what it finds. Until the CUDA half is opened it
// finds these, which do what it does without any; the real ones take their place by a higher priority.
struct Absent final : at::CUDAHooksInterface {
  explicit Absent(at::CUDAHooksArgs) { asked = true; }
};

struct Noticing {
  Noticing() {
    auto* hooks = at::CUDAHooksRegistry();
    if (hooks->Has("CUDAHooks")) return;  // linked to the CUDA half: nothing is opened late
    hooks->Register(
        "CUDAHooks", [](at::CUDAHooksArgs args) { return std::make_unique<Absent>(args); }, c10::REGISTRY_FALLBACK);
  }
} noticing;

c10::DeviceAllocator& allocator() {
  // As the first tensor on a device would.
  at::globalContext().lazyInitDevice(c10::DeviceType::CUDA);
  return *c10::getDeviceAllocator(c10::DeviceType::CUDA);
}

int64_t now(const c10::CachingAllocator::StatArray& of) {
  return of[static_cast<size_t>(c10::CachingAllocator::StatType::AGGREGATE)].current;
}

int64_t most(const c10::CachingAllocator::StatArray& of) {
  return of[static_cast<size_t>(c10::CachingAllocator::StatType::AGGREGATE)].peak;
}

}  // namespace

extern "C" {
// Whether something asked for the CUDA half when it was not open: then it stays without for good.
int demask_cuda_asked() { return asked ? 1 : 0; }

// What the hooks know, for which reason they are looked up.
int demask_cuda_ready() {
  int ready = 0;
  guarded([&] { ready = at::detail::getCUDAHooks().hasCUDA(); });
  return ready;
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
    five[2] = now(stats.reserved_bytes);
    five[3] = now(stats.allocated_bytes);
    five[4] = most(stats.allocated_bytes);
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
