#include "layout.h"

#ifdef __SSE__
#include <xmmintrin.h>
#endif

#include <algorithm>

namespace igc {
namespace {

int round_up(int value, int to) { return (value + to - 1) / to * to; }

int chunk_width(int left, int narrowest, int widest) {
  int width = widest;
  while (width > narrowest && width / 2 >= left) width /= 2;
  return width;
}

}  // namespace

Layout Layout::interleaved(int slots, int members, int narrowest, int widest) {
  Layout layout;
  layout.slots = slots;
  layout.members = members;
  for (int slot = 0; slot < slots;) {
    const int width = chunk_width(slots - slot, narrowest, widest);
    layout.chunks.push_back({width, slot, layout.positions});
    layout.positions += round_up(width * members, 16);
    slot += width;
  }
  layout.channel_at.assign(layout.positions, -1);
  for (int slot = 0; slot < slots; slot++)
    for (int m = 0; m < members; m++) layout.channel_at[layout.position(slot, m)] = slot * members + m;
  return layout;
}

Layout Layout::plain(int channels, bool padded) {
  Layout layout = interleaved(1, channels);
  if (!padded) {
    layout.positions = channels;
    layout.channel_at.resize(channels);
  }
  return layout;
}

int Layout::position(int slot, int member) const {
  // All chunks but the last are equally wide.
  const Chunk& chunk = chunks[std::min<size_t>(slot / chunks[0].width, chunks.size() - 1)];
  return chunk.offset + member * chunk.width + slot - chunk.first;
}

Labels permuted_labels(int channels, int branches) {
  Labels labels(channels);
  const int per_branch = channels / std::max(branches, 1);
  for (int c = 0; c < channels; c++) labels[c] = c % per_branch * branches + c / per_branch;
  return labels;
}

Labels inverse(const Labels& labels) {
  Labels result(labels.size());
  for (size_t i = 0; i < labels.size(); i++) result[labels[i]] = (int)i;
  return result;
}

Labels chained(const Labels& first, const Labels& second) {
  Labels result(first.size());
  for (size_t c = 0; c < first.size(); c++) result[c] = second[first[c]];
  return result;
}

Layout relabeled(Layout layout, const Labels& labels) {
  for (int& c : layout.channel_at)
    if (c >= 0) c = labels[c];
  return layout;
}

std::optional<Layout> as_groups(const Layout& layout, int members, int narrowest) {
  if (members == 1) {
    int slots = layout.positions;
    while (slots > 1 && layout.channel_at[slots - 1] < 0) slots--;
    Layout view = Layout::interleaved(slots, 1, narrowest);
    if (view.positions > layout.positions) return std::nullopt;
    view.channel_at.assign(layout.channel_at.begin(), layout.channel_at.begin() + view.positions);
    return view;
  }
  if (layout.members != members || layout.chunks.back().width < narrowest) return std::nullopt;
  for (int slot = 0; slot < layout.slots; slot++) {
    const int first = layout.channel_at[layout.position(slot, 0)];
    if (first >= 0 && first % members) return std::nullopt;
    for (int m = 1; m < members; m++)
      if (layout.channel_at[layout.position(slot, m)] != (first < 0 ? -1 : first + m)) return std::nullopt;
  }
  return layout;
}

Layout with_members(const Layout& groups, int members) {
  Layout layout =
      Layout::interleaved(groups.slots, members, groups.chunks.back().width, groups.chunks[0].width);
  std::fill(layout.channel_at.begin(), layout.channel_at.end(), -1);
  for (int slot = 0; slot < groups.slots; slot++) {
    const int first = groups.channel_at[groups.position(slot, 0)];
    for (int m = 0; first >= 0 && m < members; m++)
      layout.channel_at[layout.position(slot, m)] = first / groups.members * members + m;
  }
  return layout;
}

std::vector<int> positions_of(const Layout& layout, int channels) {
  std::vector<int> result(channels, -1);
  for (int p = 0; p < layout.positions; p++)
    if (layout.channel_at[p] >= 0) result[layout.channel_at[p]] = p;
  return result;
}

std::vector<int> sources(const Layout& from, const Layout& to, int channels) {
  const std::vector<int> where = positions_of(from, channels);
  std::vector<int> result;
  for (int c : to.channel_at) result.push_back(c < 0 ? -1 : where[c]);
  return result;
}

namespace {

// Four rows of four floats into four columns. 128 bits are enough to keep up with the stores, so one copy
// serves every instruction set.
inline void transpose_4x4(const float* const from[4], ptrdiff_t at, float* const to[4]) {
#ifdef __SSE__
  __m128 a = _mm_loadu_ps(from[0] + at), b = _mm_loadu_ps(from[1] + at);
  __m128 c = _mm_loadu_ps(from[2] + at), d = _mm_loadu_ps(from[3] + at);
  _MM_TRANSPOSE4_PS(a, b, c, d);
  _mm_storeu_ps(to[0], a);
  _mm_storeu_ps(to[1], b);
  _mm_storeu_ps(to[2], c);
  _mm_storeu_ps(to[3], d);
#else
  for (int i = 0; i < 4; i++)
    for (int j = 0; j < 4; j++) to[i][j] = from[j][at + i];
#endif
}

}  // namespace

void pack_rows(const float* source, int height, int width, const Layout& layout, Plane target, int begin,
               int end) {
  const ptrdiff_t image = (ptrdiff_t)height * width, pixel = target.pixel;
  const std::vector<float> zeros(width, 0.0f);
  for (int y = begin; y < end; y++) {
    auto channel_row = [&](int p) {
      const int channel = layout.channel_at[p];
      return channel < 0 ? zeros.data() : source + channel * image + (ptrdiff_t)y * width;
    };
    float* row = target.at + y * target.row;
    int p = 0;
    for (; p + 4 <= layout.positions; p += 4) {
      const float* const from[4] = {channel_row(p), channel_row(p + 1), channel_row(p + 2),
                                    channel_row(p + 3)};
      int x = 0;
      for (; x + 4 <= width; x += 4) {
        float* to = row + x * pixel + p;
        float* const columns[4] = {to, to + pixel, to + 2 * pixel, to + 3 * pixel};
        transpose_4x4(from, x, columns);
      }
      for (; x < width; x++)
        for (int i = 0; i < 4; i++) row[x * pixel + p + i] = from[i][x];
    }
    for (; p < layout.positions; p++) {
      const float* from = channel_row(p);
      for (int x = 0; x < width; x++) row[x * pixel + p] = from[x];
    }
  }
}

void unpack_rows(Plane source, const Layout& layout, int height, int width, float* target, int begin,
                 int end) {
  const ptrdiff_t image = (ptrdiff_t)height * width, pixel = source.pixel;
  for (int y = begin; y < end; y++) {
    const float* row = source.at + y * source.row;
    int p = 0;
    for (; p + 4 <= layout.positions; p += 4) {
      const int* channel = &layout.channel_at[p];
      auto channel_row = [&](int i) { return target + channel[i] * image + (ptrdiff_t)y * width; };
      int x = 0;
      if (channel[0] >= 0 && channel[1] >= 0 && channel[2] >= 0 && channel[3] >= 0) {
        float* to[4] = {channel_row(0), channel_row(1), channel_row(2), channel_row(3)};
        for (; x + 4 <= width; x += 4) {
          const float* at = row + x * pixel + p;
          const float* const from[4] = {at, at + pixel, at + 2 * pixel, at + 3 * pixel};
          transpose_4x4(from, 0, to);
          for (float*& column : to) column += 4;
        }
      }
      for (int i = 0; i < 4; i++)
        for (int rest = x; channel[i] >= 0 && rest < width; rest++)
          channel_row(i)[rest] = row[rest * pixel + p + i];
    }
    for (; p < layout.positions; p++) {
      const int channel = layout.channel_at[p];
      for (int x = 0; channel >= 0 && x < width; x++)
        target[channel * image + (ptrdiff_t)y * width + x] = row[x * pixel + p];
    }
  }
}

}  // namespace igc
