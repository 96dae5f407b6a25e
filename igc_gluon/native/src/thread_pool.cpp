// thread_pool.cpp - see thread_pool.h.
#include "thread_pool.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cmath>
#include <condition_variable>
#include <cstdlib>
#include <exception>
#include <fstream>
#include <memory>
#include <sstream>
#include <string>
#include <system_error>
#include <thread>
#include <vector>

#ifdef IGC_X86
#include <immintrin.h>
#endif
#ifdef __linux__
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#endif

namespace igc {
namespace {

typedef std::chrono::steady_clock Clock;
using std::chrono::microseconds;
using std::chrono::milliseconds;

// A worker that found nothing to do looks out so long before it sleeps: longer than the gaps between the calls of a
// loop, shorter than a user would notice.
constexpr microseconds kLookOut(200);
// A thread at the end of a phase looks out so often before it sleeps.
constexpr int kSpins = 4000;
// A caller that waited longer than this and than its call had taken so far has a worker that lost its core.
constexpr microseconds kStall(150);
// After that it works alone for a while, and longer each time that the next try meets with the same.
constexpr milliseconds kAloneFirst(20), kAloneMost(1000);

inline void pause_core() {
#if defined(IGC_X86)
  _mm_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

struct Phase {
  std::atomic<int64_t> claimed{0}, done{0};
};

// A call that workers may join. It outlives the call where a worker comes late, and finds nothing to claim.
struct Call {
  Call(int team, int64_t n_phases, int64_t n_parts, PartWork part_work, void* part_context)
      : size(team),
        phases(n_phases),
        parts(n_parts),
        work(part_work),
        context(part_context),
        state(n_phases) {}

  const int size;
  const int64_t phases, parts;
  const PartWork work;
  void* const context;
  std::vector<Phase> state;
  int slots = 1;  // given out, under the pool's lock; 0 is the caller's
  std::atomic<bool> failed{false};
  std::atomic<int> asleep{0};
  std::mutex mutex;  // of what follows
  std::condition_variable phase_done;
  std::exception_ptr error;

  void claim_parts(int slot, int64_t phase) {
    Phase& at = state[phase];
    for (int64_t part; (part = at.claimed.fetch_add(1, std::memory_order_relaxed)) < parts;) {
      if (!failed.load(std::memory_order_relaxed)) {
        try {
          work(context, slot, phase, part);
        } catch (...) {
          std::lock_guard<std::mutex> lock(mutex);
          if (!error) error = std::current_exception();
          failed = true;
        }
      }
      if (at.done.fetch_add(1) + 1 == parts && asleep) {
        std::lock_guard<std::mutex> lock(mutex);
        phase_done.notify_all();
      }
    }
  }

  bool is_done(int64_t phase) const { return state[phase].done.load() == parts; }

  // Whether the phase was done in time.
  bool spin(int64_t phase) const {
    for (int i = 0; i < kSpins; i++) {
      if (is_done(phase)) return true;
      pause_core();
    }
    return is_done(phase);
  }

  // Asleep, so that the system can give this thread's core to one that lost its own.
  void sleep_until_done(int64_t phase) {
    std::unique_lock<std::mutex> lock(mutex);
    asleep++;
    phase_done.wait(lock, [&] { return is_done(phase); });
    asleep--;
  }
};

class Pool {
 public:
  // Lets workers, made where they are missing, join the call.
  void offer(const std::shared_ptr<Call>& call) {
    int wanted = call->size - 1, asleep = 0;
    {
      std::lock_guard<std::mutex> lock(mutex);
      while (workers_ < wanted) {
        try {
          std::thread([this] { work(); }).detach();
        } catch (const std::system_error&) {  // no more threads: with those that there are
          break;
        }
        workers_++;
      }
      open_.push_back(call);
      offers_.fetch_add(1, std::memory_order_release);
      asleep = asleep_;
    }
    for (int i = std::min(asleep, wanted); i-- > 0;) wake_.notify_one();
  }

  void withdraw(const std::shared_ptr<Call>& call) {
    std::lock_guard<std::mutex> lock(mutex);
    open_.erase(std::remove(open_.begin(), open_.end(), call), open_.end());
  }

  std::mutex mutex;

 private:
  void work() {
#ifdef __linux__
    sigset_t all;
    sigfillset(&all);  // signals are for the threads of the program
    pthread_sigmask(SIG_BLOCK, &all, nullptr);
    pthread_setname_np(pthread_self(), "igc");
#endif
    FlushDenormals flush;
    for (;;) {
      int slot;
      const std::shared_ptr<Call> call = join(slot);
      for (int64_t phase = 0; phase < call->phases; phase++) {
        call->claim_parts(slot, phase);
        if (phase + 1 < call->phases && !call->spin(phase)) call->sleep_until_done(phase);
      }
    }
  }

  std::shared_ptr<Call> join(int& slot) {
    const auto give_up = Clock::now() + kLookOut;
    for (;;) {
      const uint64_t seen = offers_.load(std::memory_order_acquire);
      {
        std::unique_lock<std::mutex> lock(mutex);
        for (;;) {
          for (const auto& call : open_)
            if (call->slots < call->size) {
              slot = call->slots++;
              return call;
            }
          if (Clock::now() < give_up) break;
          asleep_++;
          wake_.wait(lock);
          asleep_--;
        }
      }
      for (int i = 0; offers_.load(std::memory_order_acquire) == seen; i++) {
        if (i % 64 == 63 && Clock::now() >= give_up) break;
        pause_core();
      }
    }
  }

  std::condition_variable wake_;
  std::vector<std::shared_ptr<Call>> open_;
  std::atomic<uint64_t> offers_{0};
  int workers_ = 0, asleep_ = 0;
};

std::atomic<Pool*> the_pool{nullptr};  // never freed: workers live as long as the process

void before_fork() {
  fork_safe_mutex().lock();
  the_pool.load()->mutex.lock();
}
void after_fork() {
  the_pool.load()->mutex.unlock();
  fork_safe_mutex().unlock();
}
void after_fork_in_child() {
  the_pool = new Pool;  // the workers are the parent's
  fork_safe_mutex().unlock();
}

Pool& pool() {
  static const bool made = [] {
    the_pool = new Pool;
#ifdef __linux__
    pthread_atfork(before_fork, after_fork, after_fork_in_child);
#endif
    return true;
  }();
  (void)made;
  return *the_pool;
}

// When calls whose phases are short may be shared again, and for how long they were not.
std::atomic<int64_t> alone_until{0}, alone_for{0};

void work_alone_for_a_while(Clock::time_point now) {
  const int64_t at = now.time_since_epoch().count(), tick = Clock::duration(kAloneFirst).count(),
                before = alone_for.load(), since = at - alone_until.load();
  const int64_t next =
      before && since < before ? std::min<int64_t>(2 * before, Clock::duration(kAloneMost).count()) : tick;
  alone_for = next;
  alone_until = at + next;
}

int number_in(const char* text) {
  if (!text) return 0;
  const long value = std::strtol(text, nullptr, 10);
  return (int)std::min<long>(std::max<long>(value, 0), kMostThreads);
}

int allowed_by_affinity() {
#ifdef __linux__
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof set, &set) == 0) return std::max(CPU_COUNT(&set), 1);
#endif
  return std::max(1, (int)std::thread::hardware_concurrency());
}

// Cores of a quota file: "max 100000" or "150000 100000"; 0: no limit.
double quota_of(const std::string& file) {
  std::ifstream in(file);
  std::string quota;
  double period = 0;
  if (!(in >> quota)) return 0;
  if (!(in >> period)) {  // version 1 keeps the period in a file of its own
    std::ifstream other(file.substr(0, file.rfind('/')) + "/cpu.cfs_period_us");
    if (!(other >> period)) return 0;
  }
  const double micros = std::strtod(quota.c_str(), nullptr);
  return micros > 0 && period > 0 ? micros / period : 0;
}

// Of the control group of this process and those around it, versions 2 and 1.
int allowed_by_quota() {
  double least = 0;
  std::ifstream groups("/proc/self/cgroup");
  for (std::string line; std::getline(groups, line);) {
    const size_t first = line.find(':'), second = line.find(':', first + 1);
    if (first == std::string::npos || second == std::string::npos) continue;
    const std::string controllers = "," + line.substr(first + 1, second - first - 1) + ",";
    std::string path = line.substr(second + 1);
    const bool unified = controllers == ",,";
    if (!unified && controllers.find(",cpu,") == std::string::npos) continue;
    for (;; path.resize(path.rfind('/'))) {
      if (path == "/") path.clear();
      const double cores = quota_of(unified ? "/sys/fs/cgroup" + path + "/cpu.max"
                                            : "/sys/fs/cgroup/cpu" + path + "/cpu.cfs_quota_us");
      if (cores > 0 && (least == 0 || cores < least)) least = cores;
      if (path.empty() || path.rfind('/') == std::string::npos) break;
    }
  }
  return least > 0 ? std::max(1, (int)std::ceil(least)) : kMostThreads;
}

}  // namespace

int usable_cores() {
  static const int quota = allowed_by_quota();
  return std::min({allowed_by_affinity(), quota, kMostThreads});
}

int default_threads() {
  static const int asked = number_in(std::getenv("OMP_NUM_THREADS")),
                   most = number_in(std::getenv("MXNET_OMP_MAX_THREADS"));
  const int threads = asked > 0 ? asked : usable_cores();
  return most > 0 ? std::min(most, threads) : threads;
}

int team_size(int threads) { return std::max(1, std::min(threads, usable_cores())); }

void run_parts(int team, int64_t phases, int64_t parts, PartWork work, void* context) {
  const auto begin = Clock::now();
  if (team > 1 && phases > 1 && begin.time_since_epoch().count() < alone_until.load()) team = 1;
  if (team <= 1 || parts <= 1) {
    for (int64_t phase = 0; phase < phases; phase++)
      for (int64_t part = 0; part < parts; part++) work(context, 0, phase, part);
    return;
  }
  const auto call = std::make_shared<Call>((int)std::min<int64_t>(team, parts), phases, parts, work, context);
  Pool& workers = pool();
  workers.offer(call);
  for (int64_t phase = 0; phase < phases; phase++) {
    call->claim_parts(0, phase);
    if (call->spin(phase)) continue;
    const auto asleep = Clock::now();
    call->sleep_until_done(phase);
    const auto awake = Clock::now();
    if (phases > 1 && awake - asleep > kStall + (asleep - begin)) work_alone_for_a_while(awake);
  }
  workers.withdraw(call);
  if (call->error) std::rethrow_exception(call->error);
}

std::mutex& fork_safe_mutex() {
  static std::mutex* const mutex = new std::mutex;
  pool();  // whose fork handlers hold it
  return *mutex;
}

#if defined(IGC_X86)
FlushDenormals::FlushDenormals() : before_(_mm_getcsr()) { _mm_setcsr((unsigned)before_ | 0x8040); }
FlushDenormals::~FlushDenormals() { _mm_setcsr((unsigned)before_); }
#elif defined(__aarch64__)
FlushDenormals::FlushDenormals() {
  asm volatile("mrs %0, fpcr" : "=r"(before_));
  asm volatile("msr fpcr, %0" ::"r"(before_ | (1u << 24)));
}
FlushDenormals::~FlushDenormals() { asm volatile("msr fpcr, %0" ::"r"(before_)); }
#else
FlushDenormals::FlushDenormals() : before_(0) {}
FlushDenormals::~FlushDenormals() {}
#endif

}  // namespace igc
