// A CUDA graph of libtorch's, by the names that its CUDA half exports: the programs are linked against the CPU half alone, and
// the other is opened at start-up where there is one (`device.rs`). Of libtorch 2.11's own classes only sizes and argument
// passing are relied on: a graph fits its room, a CUDA stream is a c10::Stream.

#include <c10/core/Stream.h>
#include <dlfcn.h>

#include <cstdint>
#include <memory>
#include <utility>

#include "rows.h"

namespace {

using Pool = std::pair<unsigned long long, unsigned long long>;
// Only this thread's calls are watched while it records.
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

struct Graph {
  const Calls& calls;
  c10::Stream before;
  bool recording = false;
  alignas(16) char room[4096];

  explicit Graph(c10::DeviceIndex device) : calls(Calls::get()), before(calls.current(device)) {
    calls.make(room, false);
    // The default stream cannot be recorded.
    calls.use(calls.another(false, device));
    try {
      calls.begin(room, Pool(0, 0), THREAD_LOCAL_CAPTURE);
    } catch (...) {
      calls.use(before);
      calls.destroy(room);
      throw;
    }
    recording = true;
  }
  ~Graph() {
    // Whatever ended the recording early.
    try {
      if (recording) end();
    } catch (...) {
    }
    calls.destroy(room);
  }

  void end() {
    recording = false;
    try {
      calls.end(room);
    } catch (...) {
      calls.use(before);
      throw;
    }
    calls.use(before);
  }
};

}  // namespace

extern "C" {
// What follows on this thread is recorded and not done.
int demask_graph_begin(int64_t device, void** graph) {
  return guarded([&] { *graph = new Graph(static_cast<c10::DeviceIndex>(device)); });
}

int demask_graph_end(void* graph) {
  return guarded([&] { static_cast<Graph*>(graph)->end(); });
}

int demask_graph_replay(void* graph) {
  return guarded([&] { static_cast<Graph*>(graph)->calls.replay(static_cast<Graph*>(graph)->room); });
}

void demask_graph_drop(void* graph) {
  guarded([&] { delete static_cast<Graph*>(graph); });
}
}
