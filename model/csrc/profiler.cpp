// Profiles this thread with libtorch's profiler (Kineto): each operator on the CPU and, where CUPTI finds a
// GPU, each kernel and copy there. Headers and functions are those of libtorch_cpu; the CUDA libraries need
// not be linked.

#include <torch/csrc/autograd/profiler_kineto.h>

#include <memory>
#include <set>

#include "rows.h"

namespace {

using namespace torch::autograd::profiler;
using torch::profiler::impl::ActivityType;
using torch::profiler::impl::ProfilerConfig;
using torch::profiler::impl::ProfilerState;

// Returns the recorded activities: the operators of the thread, and all work of the GPU if there is one.
std::set<ActivityType> activities(bool cuda) {
  if (cuda) return {ActivityType::CPU, ActivityType::CUDA};
  return {ActivityType::CPU};
}

}  // namespace

extern "C" {
// Reports one event: its name, whether it ran on the GPU, its thread or stream, and its start and duration in
// nanoseconds.
using DemaskEvent = void (*)(void* to, const char* name, int gpu, uint64_t line, uint64_t start, uint64_t took);

int demask_profile_begin(int cuda) {
  return guarded([&] {
    ProfilerConfig config(ProfilerState::KINETO);
    prepareProfiler(config, activities(cuda));
    enableProfiler(config, activities(cuda));
  });
}

int demask_profile_end(void* to, DemaskEvent tell) {
  return guarded([&] {
    std::unique_ptr<ProfilerResult> result = disableProfiler();
    for (const KinetoEvent& event : result->events()) {
      const bool gpu = event.deviceType() != c10::DeviceType::CPU;
      const uint64_t line = gpu ? static_cast<uint64_t>(event.deviceResourceId()) : event.startThreadId();
      tell(to, event.name().c_str(), gpu, line, event.startNs(), event.durationNs());
    }
  });
}
}
