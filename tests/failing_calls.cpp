// Preloaded: system calls that write to files below a folder fail when their turn has come, as on a broken disk.
//
// fail_calls(folder, at, error, lasting): call number `at` from now on, and with `lasting` all after it, returns `error`;
// at 0: none. Returns how many there have been since the last time. Calls are counted on paths below `folder`.
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>

namespace {
char folder[PATH_MAX];
size_t length;
std::atomic<long> count{0}, at{0};
int error_number;
bool lasting;

template <class F>
F* real(const char* name) {
  return reinterpret_cast<F*>(dlsym(RTLD_NEXT, name));
}

// Whether this call is to fail; sets errno.
bool fails(const char* path) {
  if (!length || strncmp(path, folder, length) != 0) return false;
  const long number = ++count;
  if (!at || !(lasting ? number >= at : number == at)) return false;
  errno = error_number;
  return true;
}

bool fails(int file) {
  if (!length) return false;
  const int before = errno;
  char link[64], path[PATH_MAX];
  snprintf(link, sizeof(link), "/proc/self/fd/%d", file);
  const ssize_t size = readlink(link, path, sizeof(path) - 1);
  errno = before;
  if (size < 0) return false;
  path[size] = 0;
  return fails(path);
}
}  // namespace

extern "C" {
long fail_calls(const char* where, long number, int error, int always) {
  const long before = count;
  length = 0;
  strncpy(folder, where, sizeof(folder) - 1);
  count = 0, at = number, error_number = error, lasting = always != 0;
  length = strlen(folder);
  return before;
}

ssize_t write(int file, const void* data, size_t size) {
  static const auto call = real<ssize_t(int, const void*, size_t)>("write");
  return fails(file) ? -1 : call(file, data, size);
}
int fsync(int file) {
  static const auto call = real<int(int)>("fsync");
  return fails(file) ? -1 : call(file);
}
int ftruncate(int file, off_t size) {
  static const auto call = real<int(int, off_t)>("ftruncate");
  return fails(file) ? -1 : call(file, size);
}
int ftruncate64(int file, off64_t size) {
  static const auto call = real<int(int, off64_t)>("ftruncate64");
  return fails(file) ? -1 : call(file, size);
}
// As of a network file system, which tells at the end what became of the writes; the number is free all the same.
int close(int file) {
  static const auto call = real<int(int)>("close");
  const int flags = length ? fcntl(file, F_GETFL) : -1;
  const bool failed = flags >= 0 && (flags & O_ACCMODE) != O_RDONLY && fails(file);
  const int before = errno, code = call(file);
  if (failed) errno = before;
  return failed ? -1 : code;
}
int flock(int file, int how) {
  static const auto call = real<int(int, int)>("flock");
  return fails(file) ? -1 : call(file, how);
}
int rename(const char* from, const char* to) {
  static const auto call = real<int(const char*, const char*)>("rename");
  return fails(to) ? -1 : call(from, to);
}
int mkdir(const char* path, mode_t mode) {
  static const auto call = real<int(const char*, mode_t)>("mkdir");
  return fails(path) ? -1 : call(path, mode);
}
int unlink(const char* path) {
  static const auto call = real<int(const char*)>("unlink");
  return fails(path) ? -1 : call(path);
}
int unlinkat(int file, const char* path, int flags) {
  static const auto call = real<int(int, const char*, int)>("unlinkat");
  return (path[0] == '/' ? fails(path) : fails(file)) ? -1 : call(file, path, flags);
}
int rmdir(const char* path) {
  static const auto call = real<int(const char*)>("rmdir");
  return fails(path) ? -1 : call(path);
}
int open(const char* path, int flags, ...) {
  static const auto call = real<int(const char*, int, ...)>("open");
  va_list more;
  va_start(more, flags);
  const mode_t mode = flags & O_CREAT ? va_arg(more, mode_t) : 0;
  va_end(more);
  return (flags & O_ACCMODE) != O_RDONLY && fails(path) ? -1 : call(path, flags, mode);
}
int open64(const char* path, int flags, ...) {
  static const auto call = real<int(const char*, int, ...)>("open64");
  va_list more;
  va_start(more, flags);
  const mode_t mode = flags & O_CREAT ? va_arg(more, mode_t) : 0;
  va_end(more);
  return (flags & O_ACCMODE) != O_RDONLY && fails(path) ? -1 : call(path, flags, mode);
}
}
