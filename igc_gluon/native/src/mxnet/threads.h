// threads.h - how many threads an operator takes.
#pragma once
#include <omp.h>

#include <algorithm>
#include <cstdlib>

// OpenMP's number, and no more than MXNet allows its own operators, which it reads once too, or than kernels take.
inline int operator_threads() {
  static const char* const setting = std::getenv("MXNET_OMP_MAX_THREADS");
  static const int most = setting ? std::atoi(setting) : 0;
  const int here = std::min(omp_get_max_threads(), 1024);
  return most > 0 ? std::min(most, here) : here;
}
