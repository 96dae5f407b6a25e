// amx_plan.cpp - cuts convolutions into products of tiles for kernels/amx, and packs their weights.
#include <algorithm>
#include <cstring>

#include "amx.h"

namespace igc {
namespace {

constexpr int kMostWords = 16;  // of a run

// What a vector of outputs reads: these words of a pixel.
typedef std::vector<int> WordsRead;

WordsRead words_read(const Filter& filter, const Layout& in, const Layout& out, int base, int run) {
  std::vector<bool> reads(filter.groups);
  for (int j = 0; j < 16; j++)
    if (out.channel(base + j) >= 0) reads[filter.group_of_output(out.channel(base + j))] = true;
  WordsRead words;
  for (int p = 0; p < in.positions; p++) {
    const int c = in.channel(p);
    if (c >= 0 && reads[filter.group_of_input(c)] && (words.empty() || words.back() != p / run))
      words.push_back(p / run);
  }
  return words;
}

// Runs of equally many words that cover what is read of a row of taps. They may begin before the end of the one before,
// so that none leaves the row: a word is counted with the first run that holds it.
struct Cover {
  int words = 0;
  std::vector<int> begins;
};

Cover cover(const std::vector<int>& read, int end, int words) {
  Cover result;
  result.words = words;
  for (size_t i = 0; i < read.size();) {
    const int begin = std::min(read[i], end - words);
    result.begins.push_back(begin);
    while (i < read.size() && read[i] < begin + words) i++;
  }
  return result;
}

// The fewest runs, and of those the shortest: a product takes as long whatever their length, but loads do not.
Cover fewest_runs(const std::vector<int>& read, int end) {
  Cover best;
  for (int words = 1; words <= std::min(kMostWords, end); words++) {
    Cover next = cover(read, end, words);
    if (best.begins.empty() || next.begins.size() < best.begins.size()) best = std::move(next);
  }
  return best;
}

struct Row {
  int slice_at = 0, slice = 0;  // see AmxConv::Block
  int pixel = 0;                // words from one tap to the next
  Cover runs;
};

Row row_of_taps(const WordsRead& read, int words_of_pixel, int pixel, int taps) {
  const auto over_taps = [&](int distance, int first) {
    std::vector<int> all;
    for (int dx = 0; dx < taps; dx++)
      for (int word : read) all.push_back(dx * distance + word - first);
    return all;
  };
  Row row;
  row.pixel = pixel;
  row.runs = fewest_runs(over_taps(pixel, 0), (taps - 1) * pixel + words_of_pixel);
  const int slice = read.back() - read.front() + 1;
  if (taps == 1 || slice > kMostWords) return row;
  const Cover close = fewest_runs(over_taps(slice, read.front()), taps * slice);
  if (close.begins.size() < row.runs.begins.size()) return {read.front(), slice, slice, close};
  return row;
}

int words_of_pixel(const Layout& in, int run) { return (in.positions + run - 1) / run; }

}  // namespace

int64_t AmxConv::products() const {
  int64_t products = 0;
  for (const Block& block : blocks)
    products += (int64_t)block.steps * kernel_h * (block.offset[1] < 0 ? 1 : 2);
  return products;
}

int AmxConv::widest_slice() const {
  int widest = 0;
  for (const Block& block : blocks) widest = std::max(widest, block.slice);
  return widest;
}

size_t AmxConv::slice_bytes(int rows, int width) const {
  const size_t lines = (size_t)(rows - 1) * stride + kernel_h,
               columns = (size_t)(width - 1) * stride + kernel_w;
  return lines * columns * widest_slice() * 4;
}

int64_t amx_products(Element element, const Filter& filter, const Layout& in, int pixel, const Layout& out) {
  const int run = per_word(element);
  int64_t products = 0;
  for (int base = 0; base < out.positions; base += 16) {
    const WordsRead read = words_read(filter, in, out, base, run);
    if (!read.empty())
      products += (int64_t)filter.kernel_h *
                  row_of_taps(read, words_of_pixel(in, run), pixel, filter.kernel_w).runs.begins.size();
  }
  return products;
}

AmxConv plan_amx_conv(const AmxKernels& kernels, Arena& arena, const ReducedFilter& filter, const Layout& in,
                      int pixel, const Layout& out, int stride, int width, const Target& target, bool sums) {
  const Filter& f = filter.filter();
  const int run = per_word(kernels.element), across = (width + 15) / 16;
  AmxConv plan;
  plan.kernels = &kernels;
  plan.kernel_h = f.kernel_h;
  plan.kernel_w = f.kernel_w;
  plan.stride = stride;
  plan.pixels = (width + across - 1) / across;
  plan.sums = sums;
  plan.epilogue = target.epilogue();
  for (int base = 0, count; base < out.positions; base += 16 * count) {
    count = 1;
    const WordsRead read = words_read(f, in, out, base, run);
    if (read.empty()) continue;  // padding: stays at the zero it was given
    if (base + 16 < out.positions && words_read(f, in, out, base + 16, run) == read) count = 2;
    const Row row = row_of_taps(read, words_of_pixel(in, run), pixel, f.kernel_w);
    const int words = row.runs.words, steps = (int)row.runs.begins.size(), lanes = count * 16;
    const size_t size = (size_t)f.kernel_h * steps * words * lanes;
    uint8_t* at = reinterpret_cast<uint8_t*>(arena.take(size));
    float *scale = arena.take(lanes), *bias = arena.take(lanes);
    plan.weight_bytes += 4 * size;
    plan.blocks.push_back({kernels.conv(count),
                           (int)plan.inputs.size(),
                           steps,
                           words,
                           {base, count == 2 ? base + 16 : -1},
                           row.slice_at,
                           row.slice,
                           at,
                           scale,
                           bias});
    for (int begin : row.runs.begins) plan.inputs.push_back(4 * begin);
    for (int j = 0; j < lanes; j++) {
      const int c = out.channel(base + j);
      if (c < 0) continue;
      scale[j] = filter.step(c) * target.unit(c);
      bias[j] = target.start(c) + filter.bias(c) * target.unit(c);
    }
    for (int dy = 0; dy < f.kernel_h; dy++)
      for (int k = 0, counted = 0; k < steps; k++) {
        const int begin = row.runs.begins[k];
        for (int n = 0; n < count; n++)
          for (int word = begin; word < begin + words; word++) {
            const int dx = word / row.pixel, place = row.slice_at + word % row.pixel;
            for (int j = 0; j < 16; j++)
              for (int b = 0; b < run; b++) {
                const uint16_t element = word < counted || dx >= f.kernel_w
                                             ? (uint16_t)0
                                             : filter.at(f.number(out.channel(base + 16 * n + j),
                                                                  in.channel(place * run + b), dy, dx));
                const uint8_t parts[2] = {(uint8_t)element, (uint8_t)(element >> 8)};
                at = std::copy(parts, parts + bytes_of(kernels.element), at);
              }
          }
        counted = begin + words;
      }
  }
  return plan;
}

AmxMix plan_amx_mix(const AmxKernels& kernels, Arena& arena, const Filter& secondary,
                    const Parameters& mixing, const ReducedFilter& primary, const Layout& out,
                    const Target& target) {
  AmxMix plan;
  plan.epilogue = target.epilogue();
  const int groups = out.chunks[0].width, n_chunks = (int)out.chunks.size(), size = out.positions / n_chunks;
  // Vectors at the same place of their chunks hold the same members.
  for (int place = 0; place < size; place += 16)
    for (int done = 0, count; done < n_chunks; done += count) {
      count = balanced(n_chunks - done, 4);
      AmxMix::Block block = {
          kernels.mix(groups, count), (int)plan.inputs.size(), n_chunks, {}, nullptr, nullptr};
      float *weights = arena.take((size_t)n_chunks * groups * count * 16), *bias = arena.take(count * 16);
      block.weights = weights;
      block.bias = bias;
      std::vector<double> constant(count * 16);
      for (int k = 0; k < n_chunks; k++) {
        plan.inputs.push_back(4 * (k * size + place));
        for (int other = 0; other < groups; other++)
          for (int j = 0; j < count * 16; j++, weights++) {
            const int c = out.channel((done + j / 16) * size + place + j % 16);
            const int middle = out.channel(k * size + place + (j % 16 ^ other));
            const int32_t number = secondary.number(c, middle, 0, 0);
            if (number < 0) continue;
            const float factor = mixing.weight(secondary, number) * primary.step(middle);
            *weights = factor * target.unit(c);
            constant[j] -= (double)factor * primary.surplus(middle);
          }
      }
      for (int n = 0; n < count; n++) block.offset[n] = (done + n) * size + place;
      for (int j = 0; j < count * 16; j++) {
        const int c = out.channel(block.offset[j / 16] + j % 16);
        if (c >= 0) bias[j] = target.start(c) + (float)(mixing.bias_of(c) + constant[j]) * target.unit(c);
      }
      plan.blocks.push_back(block);
    }
  return plan;
}

}  // namespace igc
