// memory.h - aligned arrays of floats, zeroed.
#pragma once
#include <cstdlib>
#include <cstring>
#include <memory>
#include <new>
#include <vector>

namespace igc {

constexpr size_t kAlignment = 64;

struct Free {
  void operator()(float* p) const { std::free(p); }
};
typedef std::unique_ptr<float[], Free> Floats;

inline Floats make_floats(size_t count) {
  if (count > (SIZE_MAX / 2) / sizeof(float)) throw std::bad_alloc();
  const size_t bytes = (count * sizeof(float) + kAlignment - 1) / kAlignment * kAlignment + kAlignment;
  float* p = static_cast<float*>(std::aligned_alloc(kAlignment, bytes));
  if (!p) throw std::bad_alloc();
  std::memset(p, 0, bytes);
  return Floats(p);
}

// Arrays that live and die together: the packed weights of a network.
class Arena {
 public:
  float* take(size_t count) {
    arrays_.push_back(make_floats(count));
    return arrays_.back().get();
  }

 private:
  std::vector<Floats> arrays_;
};

}  // namespace igc
