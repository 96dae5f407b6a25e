// What the processor can do at most: multiply-adds in registers, and memory read and copied.
// Compiled by machine.py once for each instruction set, with IGC_LANES floats in a vector.
#include <chrono>
#include <cstring>
#include <ctime>
#include <memory>

namespace {
typedef float Vector __attribute__((vector_size(4 * IGC_LANES)));
constexpr int kAccumulators = 12;  // hides the latency of two units of 4 cycles, and fits the registers

double now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

double cpu_now() {
  timespec time;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
  return double(time.tv_sec) + 1e-9 * double(time.tv_nsec);
}

__attribute__((noinline)) float multiply_add(long rounds) {
  Vector a[kAccumulators], b, c;
  for (int lane = 0; lane < IGC_LANES; ++lane) {
    b[lane] = 0.999f;
    c[lane] = 0.001f;
  }
  // GCC keeps the array in registers only if every loop over it is unrolled.
#pragma GCC unroll 12
  for (int i = 0; i < kAccumulators; ++i) a[i] = b * float(i);
  for (long r = 0; r < rounds; ++r) {
#pragma GCC unroll 12
    for (int i = 0; i < kAccumulators; ++i) a[i] = a[i] * b + c;
  }
#pragma GCC unroll 12
  for (int i = 1; i < kAccumulators; ++i) a[0] += a[i];
  return a[0][0];
}

volatile float sink;
}  // namespace

// Multiply-adds per second of `threads` threads together, over about `seconds`. By each thread's CPU time, so that
// other work on the machine does not lower what the processor can do.
extern "C" double igc_peak(int threads, double seconds) {
  double rate = 0;
#pragma omp parallel num_threads(threads) reduction(+ : rate)
  {
    long rounds = 1 << 14, done = 0;
    const double begin = now(), cpu_begin = cpu_now();
    while (now() - begin < seconds) {
      sink = multiply_add(rounds);
      done += rounds;
    }
    rate = double(done) * kAccumulators * IGC_LANES / (cpu_now() - cpu_begin);
  }
  return rate;
}

// Bytes per second: out[0] read, out[1] read and written by a copy, over `floats` floats in each thread.
extern "C" void igc_bandwidth(int threads, long floats, int rounds, double* out) {
  double took[2] = {0, 0};
#pragma omp parallel num_threads(threads)
  {
    std::unique_ptr<float[]> from(new float[floats]), to(new float[floats]);
    std::memset(from.get(), 0, floats * sizeof(float));
    std::memset(to.get(), 0, floats * sizeof(float));
    float sum[64] = {};
#pragma omp barrier
    const double begin = now();
    for (int r = 0; r < rounds; ++r)
      for (long i = 0; i + 64 <= floats; i += 64)
        for (int j = 0; j < 64; ++j) sum[j] += from[i + j];
    sink = sum[0];
#pragma omp barrier
    const double middle = now();
    for (int r = 0; r < rounds; ++r) std::memcpy(to.get(), from.get(), floats * sizeof(float));
    sink = to[floats / 2];
#pragma omp barrier
#pragma omp master
    {
      took[0] = middle - begin;
      took[1] = now() - middle;
    }
  }
  const double bytes = double(floats) * sizeof(float) * rounds * threads;
  out[0] = bytes / took[0];
  out[1] = 2 * bytes / took[1];
}
