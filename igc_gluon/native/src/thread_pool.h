// thread_pool.h - the threads that share the work of a call.
//
// One pool serves all callers of a process. A call is cut into parts, which its caller and the workers that have time
// claim one by one: a caller never waits for a worker that has claimed nothing, so that one that the system holds back
// costs nothing but its help. Which thread does a part never changes a result. Idle workers sleep. A forked child
// makes its own pool.
#pragma once
#include <cstdint>
#include <mutex>

namespace igc {

constexpr int kMostThreads = 1024;

// Cores that this process may use: its affinity, and its control group's quota, rounded up.
int usable_cores();
// How many threads a call takes that does not say: OMP_NUM_THREADS (of a list the first number) or else usable_cores(),
// at most MXNET_OMP_MAX_THREADS and kMostThreads. The environment is read once.
int default_threads();
// How many threads work at once on a call that may take `threads`.
int team_size(int threads);

// work(context, slot, phase, part), where slot, below the team's size, tells the threads of one call apart.
typedef void (*PartWork)(void* context, int slot, int64_t phase, int64_t part);
// Calls work once for each part of each phase, of which every one begins when all parts of that before are done. An
// exception ends the call early and is thrown again by it.
void run_parts(int team, int64_t phases, int64_t parts, PartWork work, void* context);

// work(slot, part) for each part.
template <class Work>
void parallel(int team, int64_t parts, Work work) {
  run_parts(
      team, 1, parts, [](void* w, int slot, int64_t, int64_t part) { (*static_cast<Work*>(w))(slot, part); },
      &work);
}

// work(slot, phase, part).
template <class Work>
void parallel_phases(int team, int64_t phases, int64_t parts, Work work) {
  run_parts(
      team, phases, parts,
      [](void* w, int slot, int64_t phase, int64_t part) { (*static_cast<Work*>(w))(slot, phase, part); },
      &work);
}

// Locks what a fork must not find locked in the child. Held for moments only.
std::mutex& fork_safe_mutex();

// While it lives, this thread takes denormal numbers for zero: the kernels would run a hundred times slower on them.
class FlushDenormals {
 public:
  FlushDenormals();
  ~FlushDenormals();
  FlushDenormals(const FlushDenormals&) = delete;
  FlushDenormals& operator=(const FlushDenormals&) = delete;

 private:
  uint64_t before_;
};

}  // namespace igc
