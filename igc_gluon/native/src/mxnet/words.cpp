// words.cpp - whether words in memory are still what they were: igc_gluon/graph/watch.py asks for hundreds at a time.
#include <cstdint>

extern "C" __attribute__((visibility("default"))) void igc_read_words(int64_t n, const uint64_t* const* at,
                                                                      uint64_t* to) {
  for (int64_t i = 0; i < n; i++) to[i] = *at[i];
}

// Stops at the first that differs: a later address may be right only as long as the earlier words are.
extern "C" __attribute__((visibility("default"))) int igc_same_words(int64_t n, const uint64_t* const* at,
                                                                     const uint64_t* expected) {
  for (int64_t i = 0; i < n; i++)
    if (*at[i] != expected[i]) return 0;
  return 1;
}
