// Preloaded: once armed, the `operator new` of number `at`, counted over all threads, throws, as without memory.
#include <atomic>
#include <cstdlib>
#include <new>

namespace {
std::atomic<long> left{0};

void* allocate(std::size_t size) {
  if (left.load() > 0 && left.fetch_sub(1) == 1) throw std::bad_alloc();
  if (void* memory = std::malloc(size ? size : 1)) return memory;
  throw std::bad_alloc();
}
}  // namespace

extern "C" void fail_new(long at) { left = at; }
extern "C" long new_is_armed() { return left > 0; }

void* operator new(std::size_t size) { return allocate(size); }
void* operator new[](std::size_t size) { return allocate(size); }
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete[](void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }
void operator delete[](void* memory, std::size_t) noexcept { std::free(memory); }
