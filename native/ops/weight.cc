#include "ops/weight.h"

#include <string.h>

#include "base/error.h"
#include "base/half.h"

namespace weft {

namespace {

constexpr const char* kKindNames[] = {"f32", "f16", "bf16", "q8", "q4", "int8"};
constexpr int64_t kMaxBytes = int64_t{1} << 46;
constexpr int64_t kMaxSize = int64_t{1} << 40;

[[noreturn]] void refuse(const std::string& expected, const std::string& got) {
  throw Error(ErrorKind::kValue, "expected " + expected + ", got " + got + "; check the weight's shape and parts");
}

int64_t round_up(int64_t value, int64_t step) { return (value + step - 1) / step * step; }

void check_format(const PanelFormat& format) {
  const int32_t scales = format.scales_per_group;
  const bool two_scales = scales == 2 && format.kind == PanelKind::kQ8 && format.minimum == Minimum::kNone;
  const bool scaled = format.kind == PanelKind::kQ8 || format.kind == PanelKind::kQ4;
  const bool is_q4 = format.kind == PanelKind::kQ4;
  const bool wide_scales = format.kind == PanelKind::kQ8 && format.scale_bytes == 4;
  const bool known_scales = scaled ? format.scale_bytes == 2 || wide_scales : format.scale_bytes == 0;
  const bool known_minimum = format.minimum == Minimum::kStored ? scaled
                             : format.minimum == Minimum::kCentered ? is_q4 : !is_q4;
  if (!(scales == 1 || two_scales) || !known_scales || !known_minimum)
    refuse("a format of panels that products read", std::string("another one of kind ") + panel_kind_name(format.kind));
}

bool has_output_scales(PanelKind kind) { return kind == PanelKind::kInt8 || kind == PanelKind::kQ4; }

// Bytes of a group of 32 inputs of a panel.
int64_t group_bytes_of(const PanelFormat& format) {
  switch (format.kind) {
    case PanelKind::kF32: return kGroupInputs * kPanelColumns * 4;
    case PanelKind::kF16:
    case PanelKind::kBF16: return kGroupInputs * kPanelColumns * 2;
    case PanelKind::kInt8:
    case PanelKind::kQ8:
    case PanelKind::kQ4: break;
  }
  const int64_t codes = kGroupInputs * kPanelColumns / (format.kind == PanelKind::kQ4 ? 2 : 1);
  const int64_t numbers = format.scales_per_group + (format.minimum == Minimum::kStored ? 1 : 0);
  return codes + numbers * kPanelColumns * format.scale_bytes;
}

int64_t panel_bytes_of(const PanelFormat& format, int64_t k) {
  switch (format.kind) {
    case PanelKind::kF32: return k * kPanelColumns * 4;
    case PanelKind::kF16: return k * kPanelColumns * 2;
    case PanelKind::kBF16: return round_up(k, 2) * kPanelColumns * 2;
    case PanelKind::kInt8:
    case PanelKind::kQ8:
    case PanelKind::kQ4: break;
  }
  const int64_t output_scales = has_output_scales(format.kind) ? kPanelColumns * 4 : 0;
  return round_up(k, kGroupInputs) / kGroupInputs * group_bytes_of(format) + output_scales;
}

int64_t num_panels_of(int64_t n, bool is_interleaved) {
  return is_interleaved ? (n / 2 + kPanelColumns / 2 - 1) / (kPanelColumns / 2)
                        : (n + kPanelColumns - 1) / kPanelColumns;
}

// Scales and centers after the codes of a kQ4 group.
float load_whole(const uint8_t* numbers, int64_t index) {
  int16_t whole;
  memcpy(&whole, numbers + 2 * index, sizeof(whole));
  return whole;
}

// Scales and minimums after the codes of another, or scales of outputs.
float load_number(const uint8_t* numbers, int64_t index, int32_t scale_bytes) {
  if (scale_bytes == 2) {
    uint16_t half;
    memcpy(&half, numbers + 2 * index, sizeof(half));
    return float_of_f16(half);
  }
  float value;
  memcpy(&value, numbers + 4 * index, sizeof(value));
  return value;
}

void read_float_column(PanelKind kind, const uint8_t* panel, int64_t column, int64_t k, float* values) {
  if (kind == PanelKind::kF32) {
    for (int64_t i = 0; i < k; ++i) memcpy(values + i, panel + (i * kPanelColumns + column) * 4, 4);
    return;
  }
  for (int64_t i = 0; i < k; ++i) {
    const int64_t at = kind == PanelKind::kF16 ? i * kPanelColumns + column
                                               : (i / 2 * kPanelColumns + column) * 2 + i % 2;
    uint16_t half;
    memcpy(&half, panel + 2 * at, sizeof(half));
    values[i] = kind == PanelKind::kF16 ? float_of_f16(half) : float_of_bf16(half);
  }
}

// The code of input i of a group, without its bias.
int code_at(PanelKind kind, const uint8_t* group, int64_t column, int64_t i) {
  if (kind != PanelKind::kQ4) return static_cast<int>(group[(i / 4 * kPanelColumns + column) * 4 + i % 4]) - 128;
  const uint8_t both = group[(i / 8 * kPanelColumns + column) * 4 + i % 4];
  return i % 8 < 4 ? both & 15 : both >> 4;
}

// An output of a kInt8 panel, whose scales follow its groups.
void read_int8_column(const WeightPart& part, const uint8_t* panel, int64_t column, int64_t k, float* values) {
  const int64_t groups = round_up(k, kGroupInputs) / kGroupInputs;
  const float scale = load_number(panel + groups * part.group_bytes, column, 4);
  for (int64_t i = 0; i < k; ++i) {
    const uint8_t* group = panel + i / kGroupInputs * part.group_bytes;
    values[i] = scale * static_cast<float>(code_at(part.format.kind, group, column, i % kGroupInputs));
  }
}

// An output of a kQ4 panel, whose units follow its groups. Rounded as kernels that unpack a group round it.
void read_q4_column(const WeightPart& part, const uint8_t* panel, int64_t column, int64_t k, float* values) {
  const int64_t groups = round_up(k, kGroupInputs) / kGroupInputs;
  const float unit = load_number(panel + groups * part.group_bytes, column, 4);
  for (int64_t i = 0; i < k; ++i) {
    const uint8_t* group = panel + i / kGroupInputs * part.group_bytes;
    const float scale = load_whole(group + 512, column);
    const float center = part.format.minimum == Minimum::kStored ? load_whole(group + 512, kPanelColumns + column) : 0.0f;
    const auto code = static_cast<float>(code_at(part.format.kind, group, column, i % kGroupInputs));
    values[i] = unit * scale * code + unit * (8.0f * (center - scale));
  }
}

void read_group_column(const PanelFormat& format, const uint8_t* group, int64_t column, int64_t count, float* values) {
  const uint8_t* numbers = group + 1024;
  const int64_t per_scale = kGroupInputs / format.scales_per_group;
  for (int64_t i = 0; i < count; ++i) {
    const float scale = load_number(numbers, i / per_scale * kPanelColumns + column, format.scale_bytes);
    float minimum = 0.0f;
    if (format.minimum == Minimum::kStored) minimum = load_number(numbers, kPanelColumns + column, format.scale_bytes);
    values[i] = scale * static_cast<float>(code_at(format.kind, group, column, i)) + minimum;
  }
}

}  // namespace

const char* panel_kind_name(PanelKind kind) { return kKindNames[static_cast<int>(kind)]; }

PanelKind panel_kind(const std::string& name) {
  for (int i = 0; i < kNumPanelKinds; ++i)
    if (name == kKindNames[i]) return static_cast<PanelKind>(i);
  throw Error(ErrorKind::kValue, "expected a packed kind among f32, f16, bf16, q8, q4 and int8, got '" + name + "'");
}

Weight::Weight(const std::vector<PartShape>& parts, int64_t k, bool is_interleaved)
    : k_(k), is_interleaved_(is_interleaved) {
  if (parts.empty()) refuse("at least one part", "none");
  if (is_interleaved && parts.size() != 1) refuse("one part, gate then up, in an interleaved weight", "several");
  if (k < 1 || k > kMaxSize) refuse("a positive number of inputs", std::to_string(k));
  int64_t bytes = 0;
  for (const PartShape& shape : parts) {
    check_format(shape.format);
    if (shape.n < 1 || shape.n > kMaxSize) refuse("a positive number of outputs", std::to_string(shape.n));
    if (is_interleaved && shape.n % 2) refuse("an even number of interleaved outputs", std::to_string(shape.n));
    const int64_t num_panels = num_panels_of(shape.n, is_interleaved);
    const int64_t panel_bytes = panel_bytes_of(shape.format, k);
    if (panel_bytes > kMaxBytes / num_panels || bytes > kMaxBytes - panel_bytes * num_panels)
      refuse("a weight of at most 2^46 bytes", std::to_string(shape.n) + " x " + std::to_string(k));
    parts_.push_back({shape.format, shape.n, n_, num_panels, group_bytes_of(shape.format), panel_bytes,
                      static_cast<size_t>(bytes)});
    n_ += shape.n;
    bytes = round_up(bytes + panel_bytes * num_panels, 64);
  }
  bytes_ = static_cast<size_t>(bytes);
}

Panels Weight::panels(const WeightPart& part) const {
  return {data_ + part.offset_bytes, part.format, k_, part.group_bytes, part.panel_bytes};
}

void Weight::set_data(const uint8_t* data, size_t bytes, std::shared_ptr<const void> owner) {
  if (bytes != bytes_) refuse(std::to_string(bytes_) + " packed bytes", std::to_string(bytes));
  if (reinterpret_cast<uintptr_t>(data) % 64) refuse("packed bytes aligned to 64", "others");
  data_ = data;
  owner_ = std::move(owner);
}

PanelPlace place_of(const WeightPart& part, bool is_interleaved, int64_t index) {
  if (!is_interleaved) return {index / kPanelColumns, index % kPanelColumns};
  constexpr int64_t kHalf = kPanelColumns / 2;
  const int64_t features = part.n / 2, feature = index % features;
  return {feature / kHalf, feature % kHalf + (index < features ? 0 : kHalf)};
}

void Weight::dequantize_row(int64_t index, float* values) const {
  size_t at = 0;
  while (index >= parts_[at].first_output + parts_[at].n) ++at;
  const WeightPart& part = parts_[at];
  const PanelPlace place = place_of(part, is_interleaved_, index - part.first_output);
  const uint8_t* panel = data_ + part.offset_bytes + place.panel * part.panel_bytes;
  if (!is_integer(part.format.kind)) return read_float_column(part.format.kind, panel, place.column, k_, values);
  if (part.format.kind == PanelKind::kInt8) return read_int8_column(part, panel, place.column, k_, values);
  if (part.format.kind == PanelKind::kQ4) return read_q4_column(part, panel, place.column, k_, values);
  for (int64_t k = 0; k < k_; k += kGroupInputs, panel += part.group_bytes) {
    const int64_t count = k_ - k < kGroupInputs ? k_ - k : kGroupInputs;
    read_group_column(part.format, panel, place.column, count, values + k);
  }
}

}  // namespace weft
