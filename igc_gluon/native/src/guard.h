// guard.h - lets no exception through the C interface: each becomes a status and a line of text.
#pragma once
#include <exception>
#include <new>
#include <string>

#include "net.h"
#include "thread_pool.h"

namespace igc {

// What went wrong last, in this thread.
inline std::string& message() {
  thread_local std::string text;
  return text;
}

inline int fail(int status, const char* text) noexcept {
  try {
    message() = text;
  } catch (...) {
  }
  return status;
}

template <class Function>
int guarded(Function function) noexcept {
  try {
    function();
    return IGC_OK;
  } catch (const BadArgument& error) {
    return fail(IGC_BAD_ARGUMENT, error.what());
  } catch (const NoSuchIsa& error) {
    return fail(IGC_NO_SUCH_ISA, error.what());
  } catch (const std::bad_alloc&) {
    return fail(IGC_NO_MEMORY, "out of memory");
  } catch (const std::exception& error) {
    return fail(IGC_FAILED, error.what());
  } catch (...) {
    return fail(IGC_FAILED, "unknown failure");
  }
}

}  // namespace igc
