// layout.h - how the channels of a pixel lie in memory: channels-last, interleaved over groups.
//
// An IGC block of L primary partitions with M channels each has channel c = l * M + m in NCHW order. The
// primary convolution mixes the m of one l, the secondary the l of one m. Vector lanes run over l: then the
// primary is the same M x M mixing in every lane, with no shuffle, the secondary reads and writes runs of
// consecutive floats, and the permutation between them is only a way to count.
//
//   groups are cut into chunks of w = 16 while 16 are left (9 to 15 are padded to 16), then one chunk of 8,
//   4, 2 or 1 (at least 4 for an IGC block, whose secondary wants runs of 4);
//   a chunk is [m = 0: w lanes of l][m = 1: w lanes] ..., padded to whole vectors of 16 floats;
//   so a vector holds 16 / w values of m for w values of l:
//
//     L = 24, M = 2   chunk 16: [m0: l0..15][m1: l0..15]  chunk 8: [m0: l16..23 | m1: l16..23]   48 positions
//     L = 4,  M = 8   chunk 4:  [m0 l0..3 | m1 l0..3 | m2 .. | m3 ..][m4 .. m7]                  32 positions
//     L = 100, M = 2  6 chunks of 16, one of 4: [m0 l96..99 | m1 l96..99 | 8 of padding]        208 positions
//     L = 1,  M = C   w = 1: plain channels-last, for dense convolutions; as L = C, M = 1
//
// Position(l, m) = offset of l's chunk + m * w + (l - first l of the chunk).
//
// The order of the groups themselves is free. A tensor therefore carries channel_at: which logical channel
// each position holds, -1 for padding. A permutation of channels relabels channel_at and moves nothing;
// weights are packed through it, zero where a position is padding, so padding always holds act(0 + 0) = 0.
//
// Images have a halo: `halo` rows and columns of zeros around them, written once, which serve as the padding
// of convolutions. A row is width + 2 halo pixels.
#pragma once
#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

namespace igc {

constexpr int kInRegisters = 4;  // the L that the secondary in registers serves
constexpr int kManyGroups = 8;   // from here on a 1x1 group convolution fills vectors with groups

struct Shape {
  int channels = 0, height = 0, width = 0;
  bool operator==(const Shape& other) const {
    return channels == other.channels && height == other.height && width == other.width;
  }
};

struct Chunk {
  int width;   // w
  int first;   // its first slot: a slot is the place of one group
  int offset;  // its first position
};

struct Layout {
  int slots = 0;      // places for groups
  int members = 0;    // M: channels of a group
  int positions = 0;  // floats of a pixel
  std::vector<Chunk> chunks;
  std::vector<int> channel_at;  // [positions]

  // Groups 0 .. slots - 1 in order, channel l * members + m.
  static Layout interleaved(int slots, int members, int narrowest = 1, int widest = 16);
  // `channels` in order, padded to whole vectors or, where nobody reads whole vectors, not at all.
  static Layout plain(int channels, bool padded = true);

  int position(int slot, int member) const;
  // The channel at a position, -1 for padding and beyond the last.
  int channel(int position) const { return position < positions ? channel_at[position] : -1; }
};

// Floats from pixel to pixel: the positions, and one vector more where pixels would lie a multiple of 2 KB
// apart: the pixels of a tile would then compete for two or fewer sets of the L1 cache.
inline int pixel_stride(int positions) { return positions % 512 ? positions : positions + 16; }

// New labels of channels, label[c] of channel c.
typedef std::vector<int> Labels;
// Of what IGC_PERMUTE does: in[i * (C / branches) + j] becomes out[j * branches + i]. branches 0 and 1: the old ones.
Labels permuted_labels(int channels, int branches);
Labels inverse(const Labels& labels);
Labels chained(const Labels& first, const Labels& second);
Layout relabeled(Layout layout, const Labels& labels);

// `layout` seen as slots of groups with `members` channels, in chunks of at least `narrowest`, or nothing if
// its order is another one. Single channels are groups in any order.
std::optional<Layout> as_groups(const Layout& layout, int members, int narrowest);

// The same groups in the same slots, with other members.
Layout with_members(const Layout& groups, int members);

// Where each of `channels` logical channels lies.
std::vector<int> positions_of(const Layout& layout, int channels);
// For each position of `to` the one of `from` with the same of `channels` channels, -1: padding.
std::vector<int> sources(const Layout& from, const Layout& to, int channels);

// One image or a part of it in memory: `at` is pixel (0, 0), the halo lies around it.
struct Plane {
  float* at = nullptr;
  ptrdiff_t row = 0, pixel = 0;
};
inline Plane from_row(Plane plane, ptrdiff_t row) {
  if (plane.at) plane.at += row * plane.row;
  return plane;
}

// Rows [begin, end) of one image from NCHW into the layout and back. `source` and `target` are C x height x
// width.
void pack_rows(const float* source, int height, int width, const Layout& layout, Plane target, int begin,
               int end);
void unpack_rows(Plane source, const Layout& layout, int height, int width, float* target, int begin,
                 int end);

}  // namespace igc
