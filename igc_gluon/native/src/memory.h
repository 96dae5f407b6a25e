// memory.h - aligned arrays of floats, zeroed.
#pragma once
#include <cstdlib>
#include <cstring>
#include <memory>
#include <new>
#include <vector>

#ifdef __linux__
#include <sys/mman.h>
#endif

namespace igc {

constexpr size_t kAlignment = 64, kHugePage = (size_t)1 << 21, kLarge = (size_t)1 << 23;

struct Free {
  void operator()(float* p) const { std::free(p); }
};
typedef std::unique_ptr<float[], Free> Floats;

inline Floats make_floats(size_t count) {
  if (count > (SIZE_MAX / 2) / sizeof(float)) throw std::bad_alloc();
  const size_t wanted = (count * sizeof(float) + kAlignment - 1) / kAlignment * kAlignment + kAlignment;
  const size_t alignment = wanted >= kLarge ? kHugePage : kAlignment,
               bytes = (wanted + alignment - 1) / alignment * alignment;
  float* p = static_cast<float*>(std::aligned_alloc(alignment, bytes));
  if (!p) throw std::bad_alloc();
#ifdef __linux__
  // Activations of a batch are read once and in order: with small pages a fault and a table walk every 4 KB.
  if (bytes >= kLarge) madvise(p, bytes, MADV_HUGEPAGE);
#endif
  std::memset(p, 0, bytes);
  return Floats(p);
}

// Arrays that live and die together: the packed weights of a network.
class Arena {
 public:
  float* take(size_t count) {
    arrays_.push_back(make_floats(count));
    floats_ += count;
    return arrays_.back().get();
  }
  size_t bytes() const { return floats_ * sizeof(float); }

 private:
  std::vector<Floats> arrays_;
  size_t floats_ = 0;
};

}  // namespace igc
