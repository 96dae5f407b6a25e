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
    sizes_.push_back(count);
    return arrays_.back().get();
  }
  size_t arrays() const { return arrays_.size(); }
  float* array(size_t i) { return arrays_[i].get(); }
  size_t size(size_t i) const { return sizes_[i]; }

 private:
  std::vector<Floats> arrays_;
  std::vector<size_t> sizes_;
};

}  // namespace igc
