// Runs the machine code of kernels/amx beside its emulation, to the same bits: built and run by test_native_amx.py.
//
// On a processor with AMX (and a system that grants it) the instructions run as they are. On another one each of them
// traps, and a signal handler carries it out as Intel's manual says, written here a second time: so addresses, shapes,
// numbers of registers, the state of the tiles and the AVX-512 code between are tested where there is no AMX.
#include <cpuid.h>
#include <signal.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <random>
#include <vector>

#include "kernels/amx_kernels.h"

namespace {

void expect(bool condition, const char* text) {
  if (condition) return;
  std::fprintf(stderr, "failed: %s\n", text);
  std::_Exit(1);
}

// What the manual calls TILECFG and TILEDATA.
struct Tiles {
  bool configured = false;
  int rows[8], row_bytes[8];
  uint8_t data[8][16][64];
} tiles;
long trapped = 0;

float flushed(float v) { return std::fpclassify(v) == FP_SUBNORMAL ? std::copysign(0.0f, v) : v; }
float number(uint16_t bits) {
  const uint32_t word = (uint32_t)bits << 16;
  float v;
  std::memcpy(&v, &word, 4);
  return flushed(v);
}
template <class T>
T& element(int tile, int row, int i) {
  return reinterpret_cast<T*>(tiles.data[tile][row])[i];
}

// The checks with which the manual begins: #UD.
void check_shapes(int c, int a, int b) {
  expect(tiles.configured, "tiles are configured");
  expect(c != a && a != b && c != b, "three tiles");
  expect(tiles.row_bytes[a] % 4 == 0 && tiles.row_bytes[a] / 4 == tiles.rows[b],
         "columns of A are rows of B");
  expect(tiles.rows[c] == tiles.rows[a] && tiles.row_bytes[c] == tiles.row_bytes[b], "C is as A by B");
}

void tdpbusd(int c, int a, int b) {
  check_shapes(c, a, b);
  for (int m = 0; m < tiles.rows[c]; m++)
    for (int k = 0; k < tiles.row_bytes[a] / 4; k++)
      for (int n = 0; n < tiles.row_bytes[c] / 4; n++)
        for (int i = 0; i < 4; i++)
          element<int32_t>(c, m, n) += element<uint8_t>(a, m, 4 * k + i) * element<int8_t>(b, k, 4 * n + i);
}

void tdpbf16ps(int c, int a, int b) {
  check_shapes(c, a, b);
  for (int m = 0; m < tiles.rows[c]; m++) {
    float sums[32] = {};
    for (int k = 0; k < tiles.row_bytes[a] / 4; k++)
      for (int n = 0; n < tiles.row_bytes[c] / 4; n++)
        for (int i = 0; i < 2; i++)
          sums[2 * n + i] = flushed(std::fma(number(element<uint16_t>(a, m, 2 * k + i)),
                                             number(element<uint16_t>(b, k, 2 * n + i)), sums[2 * n + i]));
    for (int n = 0; n < tiles.row_bytes[c] / 4; n++) {
      float& result = element<float>(c, m, n);
      result = flushed(flushed(result) + flushed(sums[2 * n] + sums[2 * n + 1]));
    }
  }
}

void load_config(const uint8_t* memory) {
  for (int i = 1; i < 16; i++) expect(!memory[i], "no reserved byte, no row to start with");
  expect(memory[0] == 1, "palette 1");
  for (int t = 0; t < 8; t++) {
    tiles.rows[t] = memory[48 + t];
    tiles.row_bytes[t] = memory[16 + 2 * t] | memory[17 + 2 * t] << 8;
    expect(tiles.rows[t] >= 1 && tiles.rows[t] <= 16 && tiles.row_bytes[t] >= 1 && tiles.row_bytes[t] <= 64,
           "tiles of palette 1");
  }
  for (int t = 8; t < 16; t++)
    expect(!memory[48 + t] && !memory[16 + 2 * t] && !memory[17 + 2 * t], "eight tiles");
  std::memset(tiles.data, 0, sizeof tiles.data);
  tiles.configured = true;
}

// Carries out the instruction at `rip` and returns its length.
int carry_out(const uint8_t* code, const greg_t* registers) {
  static const int kOrder[16] = {REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP, REG_RSI, REG_RDI,
                                 REG_R8,  REG_R9,  REG_R10, REG_R11, REG_R12, REG_R13, REG_R14, REG_R15};
  expect(code[0] == 0xc4 && (code[1] & 31) == 2 && !(code[2] & 0x84), "an instruction of AMX");
  const int x = code[1] & 0x40 ? 0 : 8, b = code[1] & 0x20 ? 0 : 8, third = ~code[2] >> 3 & 15,
            prefix = code[2] & 3;
  const int opcode = code[3], mod = code[4] >> 6, reg = code[4] >> 3 & 7, rm = code[4] & 7;
  if (mod == 3) {
    if (opcode == 0x49 && prefix == 3)
      std::memset(tiles.data[reg], 0, sizeof tiles.data[reg]);
    else if (opcode == 0x49 && prefix == 0)
      tiles = Tiles();
    else if (opcode == 0x5c && prefix == 2)
      tdpbf16ps(reg, rm, third);
    else if (opcode == 0x5e && prefix == 1)
      tdpbusd(reg, rm, third);
    else
      expect(false, "a product of tiles, zero or release");
    return 5;
  }
  int length = 5;
  uint64_t base = 0, index = 0;
  bool near = mod == 0 && rm == 5;  // relative to the next instruction
  if (rm == 4) {
    const int sib = code[length++], i = (sib >> 3 & 7) + x;
    if (i != 4) index = (uint64_t)registers[kOrder[i]] << (sib >> 6);
    if ((sib & 7) == 5 && mod == 0) expect(false, "a base");
    base = (uint64_t)registers[kOrder[(sib & 7) + b]];
  } else if (!near) {
    base = (uint64_t)registers[kOrder[rm + b]];
  }
  int64_t displacement = 0;
  if (mod == 1) displacement = (int8_t)code[length++];
  if (mod == 2 || near) {
    int32_t wide;
    std::memcpy(&wide, code + length, 4);
    displacement = wide;
    length += 4;
  }
  if (near) base = (uint64_t)(code + length);
  uint8_t* const at = reinterpret_cast<uint8_t*>(base + (uint64_t)displacement);
  if (opcode == 0x49 && prefix == 0) {
    load_config(at);
    return length;
  }
  expect(opcode == 0x4b && rm == 4 && (prefix == 2 || prefix == 3), "a load or store of a tile");
  expect(tiles.configured, "tiles are configured");
  if (prefix == 3) std::memset(tiles.data[reg], 0, sizeof tiles.data[reg]);
  for (int r = 0; r < tiles.rows[reg]; r++) {
    uint8_t* const row = at + (int64_t)index * r;
    if (prefix == 3)
      std::memcpy(tiles.data[reg][r], row, tiles.row_bytes[reg]);
    else
      std::memcpy(row, tiles.data[reg][r], tiles.row_bytes[reg]);
  }
  return length;
}

void on_trap(int, siginfo_t*, void* context) {
  greg_t* const registers = static_cast<ucontext_t*>(context)->uc_mcontext.gregs;
  registers[REG_RIP] += carry_out(reinterpret_cast<const uint8_t*>(registers[REG_RIP]), registers);
  trapped++;
}

bool has_amx() {
  unsigned a = 0, b = 0, c = 0, d = 0;
  if (!__get_cpuid_count(7, 0, &a, &b, &c, &d) || !(d & 1u << 24)) return false;
  return !syscall(SYS_arch_prctl, 0x1023, 18);
}

std::mt19937 random_bits(1);
int between(int low, int high) { return low + (int)(random_bits() % (unsigned)(high - low + 1)); }

// Elements, or sums, of any value that matters.
std::vector<uint8_t> drawn(igc::Element element, size_t bytes) {
  std::vector<uint8_t> result(bytes);
  for (uint8_t& byte : result) byte = (uint8_t)random_bits();
  if (element == igc::Element::Byte) return result;
  const bool special = between(0, 3) == 0;
  for (size_t i = 0; i + 1 < bytes; i += 2) {
    const uint16_t exponent = (uint16_t)(special ? between(0, 254) : between(120, 132));
    const uint16_t bits = (uint16_t)((random_bits() & 0x807f) | exponent << 7);
    std::memcpy(&result[i], &bits, 2);
  }
  return result;
}
std::vector<float> drawn_floats(int count) {
  std::vector<float> result(count);
  for (float& v : result) v = (float)between(-1000, 1000) / 700;
  return result;
}

igc::Epilogue drawn_epilogue(igc::Element element) {
  igc::Epilogue epilogue;
  epilogue.floats = between(0, 2) == 0;
  epilogue.lowest = between(0, 1) ? 0.0f : -INFINITY;
  epilogue.highest = between(0, 1) ? 6.0f : INFINITY;
  epilogue.residual_scale = element == igc::Element::Byte ? 0.37f : 0;
  return epilogue;
}

// With one NaN for all: which one comes out of two is not documented. width: bytes of a number, 1: bytes are what they are.
std::vector<uint8_t> with_one_nan(std::vector<uint8_t> bytes, int width) {
  for (size_t i = 0; width > 1 && i + width <= bytes.size(); i += width) {
    uint32_t bits = 0;
    std::memcpy(&bits, &bytes[i], width);
    if (width == 2) bits <<= 16;
    if ((bits & 0x7fffffff) > 0x7f800000) std::memset(&bytes[i], 0xff, width);
  }
  return bytes;
}

void convolution(const igc::AmxKernels& unit, const igc::AmxKernels& emulation) {
  const int size = igc::bytes_of(unit.element), n = between(1, 2), words = between(1, 16),
            taps = between(1, 3);
  const int stride = between(1, 2), rows = between(1, 5), width = between(1, 37);
  const int pixel = 4 * between((words + taps - 1) / taps, 20), positions = 16 * between(n, n + 2);
  igc::AmxTask task = {};
  task.kernel_h = between(1, 3);
  task.steps = between(1, 4);
  task.words = words;
  task.width = width;
  task.pixels = between(1, width < 16 ? width : 16);
  task.x_step = stride * pixel;
  task.x_line = (width * stride + taps) * pixel;
  task.x_row = stride * task.x_line;
  std::vector<int32_t> inputs;
  for (int i = 0; i < task.steps; i++) inputs.push_back(between(0, taps * pixel - 4 * words));
  const auto x = drawn(unit.element, (size_t)(rows * stride + task.kernel_h) * task.x_line);
  const auto weights = drawn(unit.element, (size_t)task.kernel_h * task.steps * n * words * 64);
  auto scale = drawn_floats(16 * n), bias = drawn_floats(16 * n);
  if (size == 1)
    for (float& v : scale) v /= 3000;
  task.epilogue = drawn_epilogue(unit.element);
  task.sums = between(0, 3) == 0;
  const int y_size = task.sums || task.epilogue.floats ? 4 : size;
  task.y_pixel = (positions + 16 * between(0, 1)) * y_size;
  task.y_row = width * task.y_pixel + 64;
  task.r_pixel = positions * size;
  task.r_row = width * task.r_pixel;
  const auto residual = drawn(unit.element, (size_t)rows * task.r_row);
  if (!task.sums && between(0, 1)) task.residual = residual.data();
  task.x = x.data();
  task.inputs = inputs.data();
  task.weights = weights.data();
  task.scale = scale.data();
  task.bias = bias.data();
  task.offset[0] = 16 * between(0, positions / 16 - n);
  task.offset[1] = n == 2 ? task.offset[0] + 16 : -1;
  const auto run = [&](const igc::AmxKernels& kernels) {
    kernels.configure(task.pixels, task.words);
    kernels.conv(n)(task, 0, rows);
    kernels.release();
  };
  std::vector<uint8_t> y((size_t)rows * task.y_row, 0x5a), other = y;
  task.y = y.data();
  run(unit);
  expect(!tiles.configured, "tiles are released");
  task.y = other.data();
  run(emulation);
  const int number = size == 1 && y_size == 4 && task.sums ? 1 : y_size;
  expect(with_one_nan(y, number) == with_one_nan(other, number), "convolutions give the same bits");
}

void mixing(const igc::AmxKernels& unit, const igc::AmxKernels& emulation) {
  const int size = igc::bytes_of(unit.element), n = between(1, 4), groups = between(1, 2);
  const int rows = between(1, 3), width = between(1, 19), vectors = between(n, 6);
  igc::AmxMixTask task = {};
  task.width = width;
  task.steps = between(1, 5);
  task.x_pixel = 64 * between(task.steps, 6);
  task.x_row = width * task.x_pixel;
  std::vector<int32_t> inputs;
  for (int i = 0; i < task.steps; i++) inputs.push_back(64 * i);
  std::vector<float> sums = drawn_floats(rows * (int)task.x_row / 4);
  if (size == 1)
    for (float& v : sums) {
      const int32_t sum = between(-300000, 300000);
      std::memcpy(&v, &sum, 4);
    }
  auto weights = drawn_floats(task.steps * groups * n * 16), bias = drawn_floats(n * 16);
  if (size == 1)
    for (float& v : weights) v /= 3000;
  task.epilogue = drawn_epilogue(unit.element);
  task.y_pixel = vectors * 16 * (task.epilogue.floats ? 4 : size);
  task.y_row = width * task.y_pixel;
  task.r_pixel = vectors * 16 * size;
  task.r_row = width * task.r_pixel;
  const auto residual = drawn(unit.element, (size_t)rows * task.r_row);
  if (between(0, 1)) task.residual = residual.data();
  task.x = reinterpret_cast<const uint8_t*>(sums.data());
  task.inputs = inputs.data();
  task.weights = weights.data();
  task.bias = bias.data();
  for (int i = 0; i < n; i++) task.offset[i] = 16 * (vectors - n + i);
  std::vector<uint8_t> y((size_t)rows * task.y_row, 0x5a), other = y;
  task.y = y.data();
  unit.mix(groups, n)(task, 0, rows);
  task.y = other.data();
  emulation.mix(groups, n)(task, 0, rows);
  expect(y == other, "secondaries give the same bits");
}

}  // namespace

int main() {
  const bool native = has_amx();
  if (!native) {
    struct sigaction action = {};
    action.sa_sigaction = on_trap;
    action.sa_flags = SA_SIGINFO | SA_NODEFER;
    sigaction(SIGILL, &action, nullptr);
  }
  for (int i = 0; i < 200; i++) {
    convolution(igc::amx_bf16::kernels, igc::emulated_amx_bf16::kernels);
    convolution(igc::amx_int8::kernels, igc::emulated_amx_int8::kernels);
    mixing(igc::amx_bf16::kernels, igc::emulated_amx_bf16::kernels);
    mixing(igc::amx_int8::kernels, igc::emulated_amx_int8::kernels);
  }
  expect(native || trapped > 10000, "instructions were carried out here");
  std::printf("well, %s\n", native ? "on AMX" : "by traps");
}
