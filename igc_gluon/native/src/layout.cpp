#include "layout.h"

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

int Layout::channels() const {
  return (int)std::count_if(channel_at.begin(), channel_at.end(), [](int c) { return c >= 0; });
}

bool same_chunks(const Layout& a, const Layout& b) {
  return a.slots == b.slots && a.chunks.size() == b.chunks.size() &&
         std::equal(a.chunks.begin(), a.chunks.end(), b.chunks.begin(),
                    [](const Chunk& x, const Chunk& y) { return x.width == y.width && x.first == y.first; });
}

std::vector<int> positions_of(const Layout& layout, int channels) {
  std::vector<int> result(channels, -1);
  for (int p = 0; p < layout.positions; p++)
    if (layout.channel_at[p] >= 0) result[layout.channel_at[p]] = p;
  return result;
}

void pack_rows(const float* source, int height, int width, const Layout& layout, Plane target, int begin, int end) {
  const ptrdiff_t image = (ptrdiff_t)height * width;
  for (int y = begin; y < end; y++) {
    float* row = target.at + y * target.row;
    for (int p = 0; p < layout.positions; p++) {
      const int channel = layout.channel_at[p];
      if (channel < 0) {
        for (int x = 0; x < width; x++) row[x * target.pixel + p] = 0;
      } else {
        const float* from = source + channel * image + (ptrdiff_t)y * width;
        for (int x = 0; x < width; x++) row[x * target.pixel + p] = from[x];
      }
    }
  }
}

void unpack_rows(Plane source, const Layout& layout, int height, int width, float* target, int begin, int end) {
  const ptrdiff_t image = (ptrdiff_t)height * width;
  for (int y = begin; y < end; y++) {
    const float* row = source.at + y * source.row;
    for (int p = 0; p < layout.positions; p++) {
      const int channel = layout.channel_at[p];
      if (channel < 0) continue;
      float* to = target + channel * image + (ptrdiff_t)y * width;
      for (int x = 0; x < width; x++) to[x] = row[x * source.pixel + p];
    }
  }
}

}  // namespace igc
