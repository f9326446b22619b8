// CUDA graphs of libtorch, by the symbols that its CUDA libraries export: the programs link the CPU library
// only, and the CUDA libraries are loaded at start-up if there are any (`cuda/`). Only sizes and argument
// passing of libtorch 2.11's classes are relied on: a graph fits its buffer, and a CUDA stream is passed like
// a c10::Stream.

#include <ATen/detail/CUDAHooksInterface.h>
#include <c10/core/DeviceGuard.h>
#include <c10/core/Stream.h>
#include <dlfcn.h>

#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <utility>

#include "rows.h"

namespace {

using Pool = std::pair<unsigned long long, unsigned long long>;
// The capture mode in which only this thread's calls are checked.
constexpr int THREAD_LOCAL_CAPTURE = 1;

struct Calls {
  void (*make)(void*, bool);
  void (*destroy)(void*);
  void (*begin)(void*, Pool, int);
  void (*end)(void*);
  void (*replay)(void*);
  c10::Stream (*current)(c10::DeviceIndex);
  c10::Stream (*another)(bool, c10::DeviceIndex);
  void (*use)(c10::Stream);

  Calls() {
    find(make, "_ZN2at4cuda9CUDAGraphC1Eb");
    find(destroy, "_ZN2at4cuda9CUDAGraphD1Ev");
    find(begin, "_ZN2at4cuda9CUDAGraph13capture_beginESt4pairIyyE21cudaStreamCaptureMode");
    find(end, "_ZN2at4cuda9CUDAGraph11capture_endEv");
    find(replay, "_ZN2at4cuda9CUDAGraph6replayEv");
    find(current, "_ZN3c104cuda20getCurrentCUDAStreamEa");
    find(another, "_ZN3c104cuda17getStreamFromPoolEba");
    find(use, "_ZN3c104cuda20setCurrentCUDAStreamENS0_10CUDAStreamE");
  }

  template <typename F> static void find(F& to, const char* name) {
    to = reinterpret_cast<F>(dlsym(RTLD_DEFAULT, name));
    TORCH_CHECK(to, "no CUDA graphs here: libtorch's CUDA half is not open, or has no ", name);
  }

  static const Calls& get() {
    static const Calls calls;
    return calls;
  }
};

c10::Device cuda(c10::DeviceIndex device) { return {c10::DeviceType::CUDA, device}; }

// One stream per device for all captures, because libraries keep a workspace for each stream that they have
// used.
c10::Stream side_stream(const Calls& calls, c10::DeviceIndex device) {
  static std::mutex one_at_a_time;
  static std::map<c10::DeviceIndex, c10::Stream> streams;
  const std::lock_guard<std::mutex> lock(one_at_a_time);
  auto found = streams.find(device);
  if (found == streams.end()) found = streams.emplace(device, calls.another(false, device)).first;
  return found->second;
}

// While this object exists, this thread's work goes to the device's side stream. The device is synchronised
// at the beginning and at the end, because memory of one stream is used on the other.
struct Aside {
  const Calls& calls;
  c10::DeviceGuard guard;
  c10::Stream before;

  explicit Aside(c10::DeviceIndex device)
      : calls(Calls::get()), guard(cuda(device)), before(calls.current(device)) {
    settle();
    calls.use(side_stream(calls, device));
  }
  ~Aside() {
    try {
      calls.use(before);
    } catch (...) {
    }
  }
  void settle() { at::detail::getCUDAHooks().deviceSynchronize(guard.current_device().index()); }
};

struct Graph {
  const Calls& calls;
  c10::DeviceIndex device;
  // Exists during capture, because the default stream cannot be captured.
  std::unique_ptr<Aside> aside;
  alignas(16) char room[4096];

  explicit Graph(c10::DeviceIndex device)
      : calls(Calls::get()), device(device), aside(std::make_unique<Aside>(device)) {
    calls.make(room, false);
    try {
      calls.begin(room, Pool(0, 0), THREAD_LOCAL_CAPTURE);
    } catch (...) {
      calls.destroy(room);
      throw;
    }
  }
  ~Graph() {
    // Ends a capture that an error interrupted.
    try {
      if (aside) end();
    } catch (...) {
    }
    const c10::DeviceGuard guard(cuda(device));
    calls.destroy(room);
  }

  void end() {
    const auto ending = std::move(aside);
    calls.end(room);
  }

  void replay() {
    const c10::DeviceGuard guard(cuda(device));
    calls.replay(room);
  }
};

}  // namespace

extern "C" {
// Switches this thread to the side stream.
int demask_aside_begin(int64_t device, void** aside) {
  return guarded([&] { *aside = new Aside(static_cast<c10::DeviceIndex>(device)); });
}

// Waits for the work on the side stream and switches back.
int demask_aside_end(void* aside) {
  return guarded([&] {
    const std::unique_ptr<Aside> ending(static_cast<Aside*>(aside));
    ending->settle();
  });
}

// Starts a capture: this thread's work is recorded and not executed.
int demask_graph_begin(int64_t device, void** graph) {
  return guarded([&] { *graph = new Graph(static_cast<c10::DeviceIndex>(device)); });
}

int demask_graph_end(void* graph) {
  return guarded([&] { static_cast<Graph*>(graph)->end(); });
}

int demask_graph_replay(void* graph) {
  return guarded([&] { static_cast<Graph*>(graph)->replay(); });
}

void demask_graph_drop(void* graph) {
  guarded([&] { delete static_cast<Graph*>(graph); });
}
}
