// memory.h - aligned arrays of floats, zeroed.
#pragma once
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <new>
#include <vector>

#ifdef __linux__
#include <sys/mman.h>
#endif

namespace igc {

constexpr size_t kAlignment = 64, kPage = 4096, kHugePage = (size_t)1 << 21, kLarge = (size_t)1 << 23;
// From here on the system is asked, and has the memory back as soon as it is free: malloc keeps what it has once had
// of such sizes, which for one image size after another is several times what is in use.
constexpr size_t kMapped = (size_t)1 << 17;

struct Free {
  size_t mapped = 0;  // bytes, 0: malloc's
  void operator()(float* p) const {
#ifdef __linux__
    if (mapped) {
      munmap(p, mapped);
      return;
    }
#endif
    std::free(p);
  }
};
typedef std::unique_ptr<float[], Free> Floats;

#ifdef __linux__
// Zeroed by the system.
inline Floats map_floats(size_t bytes) {
  const size_t alignment = bytes >= kLarge ? kHugePage : kPage, beyond = alignment - kPage;
  bytes = (bytes + alignment - 1) / alignment * alignment;
  void* const found =
      mmap(nullptr, bytes + beyond, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (found == MAP_FAILED) throw std::bad_alloc();
  char* const start = static_cast<char*>(found);
  const size_t before = (alignment - (uintptr_t)start % alignment) % alignment;
  if (before) munmap(start, before);
  if (beyond > before) munmap(start + before + bytes, beyond - before);
  // Activations of a batch are read once and in order: with small pages a fault and a table walk every 4 KB.
  if (alignment == kHugePage) madvise(start + before, bytes, MADV_HUGEPAGE);
  return Floats(reinterpret_cast<float*>(start + before), Free{bytes});
}
#endif

inline Floats make_floats(size_t count) {
  if (count > (SIZE_MAX / 2) / sizeof(float)) throw std::bad_alloc();
  const size_t bytes = (count * sizeof(float) + kAlignment - 1) / kAlignment * kAlignment + kAlignment;
#ifdef __linux__
  if (bytes >= kMapped) return map_floats(bytes);
#endif
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
    floats_ += count;
    return arrays_.back().get();
  }
  size_t bytes() const { return floats_ * sizeof(float); }

 private:
  std::vector<Floats> arrays_;
  size_t floats_ = 0;
};

}  // namespace igc
