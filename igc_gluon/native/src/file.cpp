// file.cpp - networks in .igc files (include/igc_file.h). Nothing that a file says is used before it is
// checked.
#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdio>
#include <cstring>

#include "../include/igc_file.h"
#include "check.h"
#include "guard.h"
#include "isa.h"
#include "prepare.h"

struct igc_model {
  std::unique_ptr<igc::Net> net;
  igc_model_info info = {};
  std::vector<float> mean, deviation, scale, shift;  // (pixel - mean) / deviation = pixel * scale + shift
  std::vector<char> texts;
  std::vector<const char*> names;  // of the classes
  std::vector<igc_layer> layers;
};

namespace igc {
namespace {

struct Header {
  uint8_t magic[8];
  uint32_t version, crc;
  uint64_t size;
  int32_t shape[3];
  int32_t is_row;
  uint32_t n_ops, text_bytes;
  uint64_t n_weights;
  uint32_t n_names, n_ranges;
};
struct
    Properties {  // follow the header from version 3 on, border and fill from version 4, the others from version 5 on
  int32_t short_side, interpolation, color_order, normalized, border, fill, precision, reserved;
};
constexpr size_t kOpBytes = offsetof(igc_op, permute);  // of an op, in a file
static_assert(sizeof(Header) == 64 && sizeof(Properties) == 32 && kOpBytes == 80, "the layout of the file");

constexpr uint8_t kMagic[8] = {0x89, 'I', 'G', 'C', '\r', '\n', 0x1a, '\n'};
constexpr size_t kChecked = 16;  // where what the CRC covers begins

// Far above any network. They keep a file that was made up from costing more memory and time than it is long.
constexpr int32_t kMostImageChannels = 4096;
constexpr int64_t kMostTensorChannels = 1 << 16, kMostChannelsInAll = 1 << 23;
constexpr int64_t kAlwaysChannelsInAll = 1 << 18;
constexpr int64_t kMostTensorFloats = 1 << 28;
constexpr size_t kMostBufferFloats = 1 << 29;
constexpr int32_t kLongestSide = 1 << 20;  // of an image before its middle is cut out
constexpr uint32_t kMostOps = 1 << 12;
constexpr uint32_t kMostText = 1 << 24;

uint32_t crc32(const uint8_t* data, size_t size) {
  static const auto table = [] {
    std::array<std::array<uint32_t, 256>, 8> t;
    for (uint32_t i = 0; i < 256; i++) {
      uint32_t c = i;
      for (int bit = 0; bit < 8; bit++) c = c >> 1 ^ (c & 1 ? 0xEDB88320u : 0);
      t[0][i] = c;
    }
    for (int k = 1; k < 8; k++)
      for (uint32_t i = 0; i < 256; i++) t[k][i] = t[k - 1][i] >> 8 ^ t[0][t[k - 1][i] & 255];
    return t;
  }();
  uint32_t crc = 0xFFFFFFFFu;
  for (; size >= 8; data += 8, size -= 8) {  // eight bytes at a time: weights are megabytes
    uint32_t low = crc;
    for (int k = 0; k < 4; k++) low ^= (uint32_t)data[k] << 8 * k;
    crc = 0;
    for (int k = 0; k < 4; k++) crc ^= table[7 - k][low >> 8 * k & 255] ^ table[3 - k][data[4 + k]];
  }
  for (; size; data++, size--) crc = crc >> 8 ^ table[0][(crc ^ *data) & 255];
  return ~crc;
}

bool all_finite(const float* values, size_t count) {
  for (size_t i = 0; i < count; i++)
    if (!std::isfinite(values[i])) return false;
  return true;
}

template <class T>
std::vector<T> take(const uint8_t*& data, size_t count) {
  std::vector<T> values(count);
  if (count) std::memcpy(values.data(), data, count * sizeof(T));
  data += count * sizeof(T);
  return values;
}

// Parameters must lie one after another, so that no few weights can make up a network of any size.
void check_parameters(const std::vector<igc_op>& ops, const std::vector<Shape>& shapes, int64_t n_weights) {
  int64_t next = 0;
  const auto follows = [&](int64_t offset, int64_t size) {
    if (offset == -1) return;
    require(offset == next, "its parameters overlap");
    next += size;
  };
  for (size_t i = 0; i < ops.size(); i++) {
    const igc_op& op = ops[i];
    if (op.kind != IGC_CONV && op.kind != IGC_BLOCK) continue;
    follows(op.weight, weights_of(op, shapes[op.input].channels));
    if (op.kind == IGC_BLOCK) follows(op.weight2, (int64_t)op.channels * op.groups);
    follows(op.scale, op.channels);
    follows(op.bias, op.channels);
  }
  require(next == n_weights, "it has weights that nothing uses");
}

// A plan takes some 90 bytes for each channel. Ops without weights cost 80 bytes in the file, whatever they carry.
void check_sizes(const std::vector<Shape>& shapes, size_t size) {
  const int64_t most = std::min(kMostChannelsInAll, kAlwaysChannelsInAll + (int64_t)size / 2);
  int64_t in_all = 0;
  for (const Shape& s : shapes) {
    in_all += s.channels;
    require(s.channels <= kMostTensorChannels && in_all <= most, "it has too many channels");
    require((int64_t)s.channels * s.height * s.width <= kMostTensorFloats, "its images are too large");
  }
}

void read_texts(igc_model& model, size_t n_names) {
  const std::vector<char>& texts = model.texts;
  size_t at = 0;
  for (size_t i = 0; i <= n_names; i++) {
    const void* end = at < texts.size() ? std::memchr(&texts[at], 0, texts.size() - at) : nullptr;
    require(end, "it lacks names of classes");
    (i ? *model.names.insert(model.names.end(), nullptr) : model.info.name) = &texts[at];
    at = (size_t)(static_cast<const char*>(end) - texts.data()) + 1;
  }
  require(texts.size() - at < 8 && std::count(texts.begin() + (std::ptrdiff_t)at, texts.end(), 0) ==
                                       (std::ptrdiff_t)(texts.size() - at),
          "it has more names of classes than it says");
}

std::unique_ptr<igc_model> parse(const uint8_t* data, size_t size) {
  Header header;
  require(size >= sizeof(Header), "it is too short");
  std::memcpy(&header, data, sizeof(Header));
  require(std::memcmp(header.magic, kMagic, sizeof(kMagic)) == 0, "it does not begin as one");
  require(header.version >= 1 && header.version <= IGC_FILE_VERSION,
          "it is of another version of the format");
  require(header.size == size, header.size > size ? "it is cut off" : "something follows its end");
  require(header.crc == crc32(data + kChecked, size - kChecked), "its checksum is wrong");
  require((header.version > 2 || (header.version == 2) == (header.n_ranges > 0)) &&
              (header.is_row == 0 || header.is_row == 1),
          "its header is damaged");
  require(header.shape[0] >= 1 && header.shape[0] <= kMostImageChannels,
          "its images have no or too many channels");
  require(header.text_bytes <= kMostText && header.text_bytes % 8 == 0, "its texts are too long");
  require(header.n_ops <= kMostOps, "it has too many ops");
  require(header.n_weights <= size / sizeof(float), "it has fewer weights than it says");
  const uint64_t channels = (uint64_t)header.shape[0];
  Properties expected = {0, IGC_AREA, IGC_RGB, 1, 0, 0, header.n_ranges ? IGC_INT8 : IGC_FLOAT32, 0};
  const size_t said = header.version > 4   ? sizeof(Properties)
                      : header.version > 3 ? offsetof(Properties, precision)
                      : header.version > 2 ? offsetof(Properties, border)
                                           : 0;
  const size_t before = sizeof(Header) + said;
  require(before + 2 * channels * sizeof(float) + (uint64_t)header.n_ops * kOpBytes + header.text_bytes +
                  (header.n_weights + header.n_ranges) * sizeof(float) ==
              size,
          "its parts do not add up to its size");

  auto model = std::make_unique<igc_model>();
  const uint8_t* at = data + before;
  std::memcpy(&expected, data + sizeof(Header), said);
  require(expected.precision >= IGC_FLOAT32 && expected.precision <= IGC_INT8 && expected.reserved == 0 &&
              (expected.precision == IGC_INT8) == (header.n_ranges > 0),
          "its precision is damaged");
  model->mean = take<float>(at, channels);
  model->deviation = take<float>(at, channels);
  std::vector<igc_op> ops(header.n_ops, igc_op{});
  for (igc_op& op : ops) {
    std::memcpy(&op, at, kOpBytes);
    at += kOpBytes;
  }
  model->texts = take<char>(at, header.text_bytes);
  const auto weights = take<float>(at, header.n_weights);
  const auto ranges = take<float>(at, header.n_ranges);
  require(all_finite(model->mean.data(), channels) && all_finite(model->deviation.data(), channels) &&
              all_finite(weights.data(), weights.size()),
          "it holds numbers that are not finite");
  for (uint64_t c = 0; c < channels; c++) {
    require(model->deviation[c] > 0, "its standard deviations must be above 0");
    model->scale.push_back((float)(1.0 / model->deviation[c]));
    model->shift.push_back((float)(-(double)model->mean[c] / model->deviation[c]));
  }

  igc_model_info& info = model->info;
  std::copy(header.shape, header.shape + 3, info.shape);
  const std::vector<Shape> shapes =
      check_inference(ops.data(), (int64_t)ops.size(), weights.data(), (int64_t)weights.size(),
                      {header.shape[0], header.shape[1], header.shape[2]});
  check_sizes(shapes, size);
  require((expected.short_side == 0 || (expected.short_side >= std::max(header.shape[1], header.shape[2]) &&
                                        expected.short_side <= kLongestSide)) &&
              expected.interpolation >= IGC_AREA && expected.interpolation <= IGC_NEAREST &&
              expected.color_order >= IGC_RGB && expected.color_order <= IGC_BGR &&
              (expected.normalized == 0 || expected.normalized == 1) && expected.border >= 0 &&
              expected.border <= (std::min(header.shape[1], header.shape[2]) - 1) / 2 && expected.fill >= 0 &&
              expected.fill <= 255,
          "how its images are prepared is damaged");
  check_parameters(ops, shapes, (int64_t)weights.size());
  const Shape out = shapes.back();
  info.output_shape[0] = out.channels;
  info.output_shape[1] = out.height;
  info.output_shape[2] = out.width;
  info.scores = header.is_row ? out.channels * out.height * out.width : 0;
  require(header.n_names == 0 || (int64_t)header.n_names == info.scores,
          "it names another number of classes than it has");
  read_texts(*model, header.n_names);
  info.named = header.n_names > 0;
  info.mean = model->mean.data();
  info.deviation = model->deviation.data();
  info.normalized = expected.normalized;
  info.short_side = expected.short_side;
  info.interpolation = expected.interpolation;
  info.color_order = expected.color_order;
  info.border = expected.border;
  info.fill = expected.fill;
  info.precision = expected.precision;

  Weights packed;
  model->net =
      std::make_unique<Net>(plan_net(current_kernels(), ops.data(), (int64_t)ops.size(), weights.data(),
                                     (int64_t)weights.size(), info.shape[0], info.shape[1], info.shape[2],
                                     packed, {expected.precision, ranges.data(), (int64_t)ranges.size()}));
  const Plan& plan = *model->net->plan;
  info.multiply_adds = plan.multiply_adds;
  require(plan.buffer_floats() + plan.scratch_floats <= kMostBufferFloats,
          "it needs more than 2 GB for an image");
  for (size_t i = 0; i < ops.size(); i++) {
    const Shape& result = shapes[i + 1];
    model->layers.push_back({ops[i],
                             {result.channels, result.height, result.width},
                             plan.reduced_ops[i] ? info.precision : IGC_FLOAT32,
                             plan.reduced_ops[i]});
  }
  return model;
}

// Reads in pieces: what the file says of its size may be made up.
std::vector<uint8_t> read_file(const char* path) {
  std::unique_ptr<FILE, int (*)(FILE*)> file(std::fopen(path, "rb"), std::fclose);
  require(file != nullptr, "it cannot be opened");
  std::vector<uint8_t> data;
  for (size_t piece = 1 << 16;; piece = std::max(piece, data.size())) {
    const size_t before = data.size();
    data.resize(before + piece);
    const size_t got = std::fread(data.data() + before, 1, piece, file.get());
    data.resize(before + got);
    require(!std::ferror(file.get()), "it cannot be read");
    require(data.size() < sizeof(kMagic) || std::memcmp(data.data(), kMagic, sizeof(kMagic)) == 0,
            "it does not begin as one");
    if (got < piece) return data;
  }
}

template <class Read>
int load(const char* what, igc_model** model, Read read) {
  if (!model) return fail(IGC_BAD_ARGUMENT, "model is null");
  *model = nullptr;
  return guarded([&] {
    current_kernels();
    try {
      *model = read().release();
    } catch (const BadArgument& error) {
      throw BadArgument(std::string(what) + " is not a whole .igc file: " + error.what());
    }
  });
}

void softmax(float* scores, int32_t n) {
  const double largest = *std::max_element(scores, scores + n);
  require(std::all_of(scores, scores + n, [](float score) { return std::isfinite(score); }),
          "the network gives scores that are not finite; it has diverged");
  double sum = 0;
  for (int32_t i = 0; i < n; i++) sum += std::exp(scores[i] - largest);
  for (int32_t i = 0; i < n; i++) scores[i] = (float)(std::exp(scores[i] - largest) / sum);
}

}  // namespace
}  // namespace igc

extern "C" {

int igc_load(const char* path, igc_model** model) {
  if (!path) return igc::fail(IGC_BAD_ARGUMENT, "path is null");
  return igc::load(path, model, [&] {
    const std::vector<uint8_t> data = igc::read_file(path);
    return igc::parse(data.data(), data.size());
  });
}

int igc_load_buffer(const void* data, int64_t size, igc_model** model) {
  if (!data || size < 0) return igc::fail(IGC_BAD_ARGUMENT, "data is null or its size negative");
  return igc::load("this", model,
                   [&] { return igc::parse(static_cast<const uint8_t*>(data), (size_t)size); });
}

void igc_free(igc_model* model) { delete model; }

int igc_get_info(const igc_model* model, igc_model_info* info) {
  if (!model || !info) return igc::fail(IGC_BAD_ARGUMENT, "model or info is null");
  *info = model->info;
  return IGC_OK;
}

int64_t igc_layers(const igc_model* model) { return model ? (int64_t)model->layers.size() : 0; }

int igc_get_layer(const igc_model* model, int64_t number, igc_layer* layer) {
  if (!model || !layer || number < 0 || number >= igc_layers(model))
    return igc::fail(IGC_BAD_ARGUMENT, "model or layer is null, or there is no layer of this number");
  *layer = model->layers[(size_t)number];
  return IGC_OK;
}

const char* igc_class_name(const igc_model* model, int32_t class_index) {
  return model && class_index >= 0 && (size_t)class_index < model->names.size() ? model->names[class_index]
                                                                                : nullptr;
}

int igc_prepare(const igc_model* model, const uint8_t* rgb, int32_t height, int32_t width, float* x) {
  return igc::guarded([&] {
    igc::require(model && rgb && x, "model, rgb or x is null");
    const std::vector<uint8_t> pixels = igc::prepared(model->info, rgb, height, width);
    const int status = igc_normalize(model, pixels.data(), 1, x);
    igc::require(status == IGC_OK, igc_message());
  });
}

int igc_classify(igc_model* model, const uint8_t* rgb, int32_t height, int32_t width, float* probabilities) {
  return igc::guarded([&] {
    igc::require(model && probabilities, "model or probabilities is null");
    const int32_t scores = model->info.scores, *shape = model->info.shape;
    igc::require(scores > 0, "the network gives no scores");
    igc::require(model->info.normalized,
                 "the network was compiled without the mean and deviation of its images");
    std::vector<float> x((size_t)shape[0] * shape[1] * shape[2]);
    int status = igc_prepare(model, rgb, height, width, x.data());
    if (status == IGC_OK) status = igc_run(model, x.data(), 1, probabilities, 0);
    igc::require(status == IGC_OK, igc_message());
    igc::softmax(probabilities, scores);
  });
}

int igc_normalize(const igc_model* model, const uint8_t* pixels, int64_t batch, float* x) {
  return igc::guarded([&] {
    igc::require(model && batch >= 0 && (batch == 0 || (pixels && x)),
                 "model, pixels or x is null, or batch negative");
    const int64_t channels = model->info.shape[0],
                  image = (int64_t)model->info.shape[1] * model->info.shape[2];
    igc::parallel(igc::team_size(igc::default_threads()), batch, [&](int, int64_t n) {
      for (int64_t c = 0; c < channels; c++)
        for (int64_t i = 0; i < image; i++)
          x[(n * channels + c) * image + i] =
              (float)pixels[(n * image + i) * channels + c] * model->scale[c] + model->shift[c];
    });
  });
}

int igc_run(igc_model* model, const float* x, int64_t batch, float* y, int32_t threads) {
  return igc::guarded([&] { igc::run_net(model ? model->net.get() : nullptr, x, batch, y, threads); });
}

}  // extern "C"
