// Tries thread_pool.cpp: built and run by test_native_threads.py, plainly and with the thread sanitizer.
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <new>
#include <string>
#include <thread>
#include <vector>

#include "thread_pool.h"

namespace {

void expect(bool condition, const char* text) {
  if (condition) return;
  std::fprintf(stderr, "failed: %s\n", text);
  std::exit(1);
}

// Every part once, each phase after the one before, slots apart. Phases add to plain numbers, which the thread
// sanitizer would report if two threads met on one.
void call_once(int team, int64_t phases, int64_t parts) {
  std::vector<int> cells(parts), in_slot(team);
  igc::parallel_phases(team, phases, parts, [&](int slot, int64_t phase, int64_t part) {
    expect(slot >= 0 && slot < team, "a slot within the team");
    in_slot[slot]++;
    // Reads what another thread may have written in the phase before.
    int64_t neighbor = (part + 1) % parts;
    if (phase % 2 == 0) {
      expect(cells[part] == phase / 2, "each phase after the one before");
      cells[part]++;
    } else {
      expect(cells[neighbor] == phase / 2 + 1, "what the phase before wrote");
    }
  });
  int64_t total = 0;
  for (int n : in_slot) total += n;
  expect(total == phases * parts, "every part once");
  for (int cell : cells) expect(cell == (phases + 1) / 2, "every cell in every phase");
}

int threads_of_this_process() {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);)
    if (line.rfind("Threads:", 0) == 0) return std::atoi(line.c_str() + 8);
  return -1;
}

void from_many_threads() {
  std::vector<std::thread> callers;
  for (int i = 0; i < 4; i++)
    callers.emplace_back([i] {
      for (int call = 0; call < 200; call++) call_once(2 + i % 2, 1 + call % 7, 1 + call % 5);
    });
  for (std::thread& caller : callers) caller.join();
}

void exceptions_reach_the_caller() {
  for (int call = 0; call < 100; call++) {
    bool thrown = false;
    try {
      igc::parallel(2, 8, [&](int, int64_t part) {
        if (part == call % 8) throw std::bad_alloc();
      });
    } catch (const std::bad_alloc&) {
      thrown = true;
    }
    expect(thrown, "an exception of a part reaches the caller");
    call_once(2, 3, 4);
  }
}

void forks() {
  for (int i = 0; i < 20; i++) {
    std::atomic<bool> end{false};
    std::thread busy([&] {
      while (!end) call_once(2, 5, 4);
    });
    const pid_t child = fork();
    if (child == 0) {
      alarm(20);
      for (int call = 0; call < 20; call++) call_once(2, 5, 4);
      const pid_t grandchild = fork();
      if (grandchild == 0) {
        alarm(20);
        call_once(2, 5, 4);
        _exit(0);
      }
      int status = 1;
      waitpid(grandchild, &status, 0);
      _exit(status == 0 ? 0 : 1);
    }
    int status = 1;
    waitpid(child, &status, 0);
    end = true;
    busy.join();
    expect(status == 0, "a forked child works, and its own child");
  }
}

}  // namespace

int main(int argc, char** argv) {
  for (int call = 0; call < 500; call++) call_once(2, 1 + call % 9, 1 + call % 6);
  from_many_threads();
  exceptions_reach_the_caller();
  const int threads = threads_of_this_process();
  expect(threads >= 2 && threads <= 4, "callers share workers, of whom there are no more than a call asks for");
  if (argc > 1 && std::string(argv[1]) == "fork") forks();  // which the thread sanitizer does not follow
  std::puts("well");
}
