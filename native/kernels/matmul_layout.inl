// Where things lie in a block of packed rows and in a group of a panel. Included by matmul.cc.
//
// A block of R rows, G = ceil(K / 32) groups, S = G spans with a scale each (kI8Wide: ceil(G / 2)), in as few strips as
// tiles allow, of T rows that differ by one at most:
//   values  [R/T][G][T][32]   of the row form's element
//   scales  [R/T][S][T][2]    float32: scale, scale * sum of codes       (integer forms)
//   sums    [R/T][S][T][2]    int32: -128 * sum of the codes of all, of the first half (integer forms)
// kI8Shifted, of the groups of a span in pairs, whose codes are doubled d times:
//   scales  the span's scale; of a pair's first group the halved sums of both, int16
//   sums    what a dot starts from: -8 * sum of codes, half of 2^d; d, of a pair's second group 16 - d
// A strip is what a tile of a product reads, straight through.
namespace weft::kernels::WEFT_KERNELS {

namespace {

constexpr int64_t form_bytes(RowForm form) {
  if (form == RowForm::kI8 || form == RowForm::kI8Wide || form == RowForm::kI8Shifted) return 1;
  return form == RowForm::kI16 || form == RowForm::kBF16 ? 2 : 4;
}
constexpr bool is_quantized(RowForm form) { return form != RowForm::kF32 && form != RowForm::kBF16; }

// The most rows that a tile has, which lie together.
constexpr int64_t strip_rows([[maybe_unused]] RowForm form) {
#if defined(WEFT_KERNELS_AVX512)
  return is_quantized(form) ? 6 : 12;
#elif defined(WEFT_KERNELS_AVX2)
  return 6;
#else
  return 4;
#endif
}

constexpr int64_t num_groups(int64_t k) { return (k + kGroupInputs - 1) / kGroupInputs; }

constexpr int64_t num_spans(RowForm form, int64_t groups) {
  return form == RowForm::kI8Wide ? (groups + kSpanGroups - 1) / kSpanGroups : groups;
}
// Where the span of `span` groups that begins with group `index` ends.
inline int64_t span_end(int64_t index, int64_t groups, int64_t span = kSpanGroups) {
  return index + span < groups ? index + span : groups;
}

// The strips of a block, the higher ones first. Nearly equal ones: a tile of one or two rows would take as long as one
// of four. Few rows, which are one strip, are multiplied so quickly that a division would show.
struct Strips {
  int64_t count = 1, height_low, num_higher = 0;
  explicit Strips(const RowBlock& block) : height_low(block.rows) {
    const int64_t most = strip_rows(block.form);
    if (block.rows <= most) return;
    count = (block.rows + most - 1) / most;
    height_low = block.rows / count;
    num_higher = block.rows - count * height_low;
  }
  int64_t first_row(int64_t strip) const { return strip * height_low + (strip < num_higher ? strip : num_higher); }
  int64_t height(int64_t strip) const { return height_low + (strip < num_higher); }
  int64_t of(int64_t row) const {
    if (count == 1) return 0;
    const int64_t higher_rows = num_higher * (height_low + 1);
    return row < higher_rows ? row / (height_low + 1) : num_higher + (row - higher_rows) / height_low;
  }
};

inline int64_t values_bytes(RowForm form, int64_t rows, int64_t k) {
  const int64_t bytes = num_groups(k) * rows * kGroupInputs * form_bytes(form);
  return (bytes + 63) / 64 * 64;
}

// A block's arrays at one group and row, and how far on the next group, or span, is.
struct Rows {
  const uint8_t* values;
  const float* scales;
  const int32_t* sums;
  int64_t values_step;  // bytes
  int64_t scales_step;  // elements, of sums too
};

inline Rows rows_at(const RowBlock& block, int64_t group, int64_t row) {
  const int64_t row_bytes = kGroupInputs * form_bytes(block.form), groups = num_groups(block.k);
  const Strips strips(block);
  const int64_t strip = strips.of(row), first = strips.first_row(strip), height = strips.height(strip);
  const int64_t spans = num_spans(block.form, groups), span = num_spans(block.form, group);
  const int64_t index = first * groups + group * height + row - first;
  const int64_t number = 2 * (first * spans + span * height + row - first);
  uint8_t* after = block.data + values_bytes(block.form, block.rows, block.k);
  float* scales = reinterpret_cast<float*>(after);
  int32_t* sums = reinterpret_cast<int32_t*>(scales + 2 * spans * block.rows);
  return {block.data + index * row_bytes, scales + number, sums + number, height * row_bytes, 2 * height};
}

// Consecutive groups of a panel, `step` bytes apart: k inputs, as they are packed or unpacked.
struct Groups {
  const PanelFormat& format;
  const uint8_t* data;
  int64_t step;
  int64_t k;
  const uint8_t* ahead = nullptr;  // what is multiplied later: its bytes are asked for little by little,
  int64_t ahead_step = 0;          // as many with each group, so that reading hides behind arithmetic (AVX-512 only)
};

// Asks for the share of group `index` in what is wanted later, towards the second cache.
inline void ask_ahead(const Groups& groups, int64_t index) {
  const uint8_t* from = groups.ahead + index * groups.ahead_step;
  for (int64_t byte = 0; byte < groups.ahead_step; byte += 64) __builtin_prefetch(from + byte, 0, 2);
}

// The scales and minimums of a group of an integer panel follow its codes; where a group has none they are ones.
inline F32 load_scale(const PanelFormat& format, const uint8_t* from, int64_t index) {
  if (format.scale_bytes == 0) return broadcast(1.0f);
  if (format.scale_bytes == 4) return load(reinterpret_cast<const float*>(from) + index);
  return format.kind == PanelKind::kQ4 ? load_i16(reinterpret_cast<const int16_t*>(from) + index)
                                       : load_f16(reinterpret_cast<const uint16_t*>(from) + index);
}

// The minimum beside a scale: 8 * (center - scale) for kQ4.
inline F32 load_minimum(const PanelFormat& format, const uint8_t* from, int64_t index, F32 scale) {
  if (format.minimum == Minimum::kCentered) return mul(broadcast(-8.0f), scale);
  const F32 stored = load_scale(format, from, format.scales_per_group * kPanelColumns + index);
  return format.kind == PanelKind::kQ4 ? mul(broadcast(8.0f), sub(stored, scale)) : stored;
}

// The scales of a panel's outputs that hold for all inputs, or null.
inline const float* output_scales(const Panels& weight, const uint8_t* panel) {
  if (weight.format.kind != PanelKind::kInt8 && weight.format.kind != PanelKind::kQ4) return nullptr;
  return reinterpret_cast<const float*>(panel + num_groups(weight.k) * weight.group_bytes);
}

// Writes [scales_per_group][32] scales and, unless there are none, 32 minimums as float32; of kQ4 in their units.
inline void widen_scales(const PanelFormat& format, const uint8_t* from, float* to) {
  const int64_t num_scales = format.scales_per_group * kPanelColumns;
  for (int64_t i = 0; i < num_scales; i += kLanes) store(to + i, load_scale(format, from, i));
  if (format.minimum == Minimum::kNone) return;
  for (int64_t i = 0; i < kPanelColumns; i += kLanes)
    store(to + num_scales + i, load_minimum(format, from, i, load(to + i)));
}

}  // namespace

}  // namespace weft::kernels::WEFT_KERNELS
