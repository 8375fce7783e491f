#include "ops/weight_pack.h"

#include <math.h>
#include <string.h>
#include <sys/mman.h>

#include <algorithm>

#include "base/error.h"
#include "base/half.h"
#include "memory/region.h"
#include "ops/group_codes.h"

namespace weft {

namespace {

[[noreturn]] void refuse(const std::string& expected, const std::string& got, const std::string& advice) {
  throw Error(ErrorKind::kValue, "expected " + expected + ", got " + got + "; " + advice);
}

PanelFormat target_format(PanelKind kind) {
  switch (kind) {
    case PanelKind::kQ8: return {kind, 1, 2, Minimum::kNone};
    case PanelKind::kQ4: return {kind, 1, 2, Minimum::kStored};
    default: return {kind, 1, 0, Minimum::kNone};
  }
}

bool same(const PanelFormat& a, const PanelFormat& b) {
  return a.kind == b.kind && a.scales_per_group == b.scales_per_group && a.scale_bytes == b.scale_bytes &&
         a.minimum == b.minimum;
}

// The format that holds the numbers of both, for gate and up that share panels.
PanelFormat joint_format(const PanelFormat& a, const PanelFormat& b) {
  if (same(a, b)) return a;
  const bool integers = is_integer(a.kind) && is_integer(b.kind);
  const bool minimums = a.minimum != Minimum::kNone || b.minimum != Minimum::kNone;
  const int32_t scales = std::max(a.scales_per_group, b.scales_per_group);
  if (!integers || (minimums && scales == 2)) return {PanelKind::kF32, 1, 0, Minimum::kNone};
  const PanelKind kind = a.kind == PanelKind::kQ8 || b.kind == PanelKind::kQ8 ? PanelKind::kQ8 : PanelKind::kQ4;
  const bool narrow = a.scale_bytes == 2 && b.scale_bytes == 2 && a.kind == b.kind;
  return {kind, scales, narrow ? 2 : 4, minimums ? Minimum::kStored : Minimum::kNone};
}

// A row in the numbers of a format: codes with their bias, scales and minimums, or values.
struct CodedRow {
  std::vector<float> values;
  std::vector<uint8_t> codes;
  std::vector<float> scales, minimums;
};

void resize(CodedRow& row, int64_t groups) {
  row.values.assign(static_cast<size_t>(groups * kGroupInputs), 0.0f);
  row.codes.assign(static_cast<size_t>(groups * kGroupInputs), 0);
  row.scales.assign(static_cast<size_t>(groups * 2), 0.0f);
  row.minimums.assign(static_cast<size_t>(groups), 0.0f);
}

void encode_row(const PanelFormat& format, int64_t groups, CodedRow& row) {
  GroupCodes group;
  for (int64_t i = 0; i < groups; ++i) {
    const float* values = row.values.data() + i * kGroupInputs;
    if (format.kind == PanelKind::kQ8) {
      encode_q8(values, &group);
    } else {
      encode_q4(values, &group);
    }
    memcpy(row.codes.data() + i * kGroupInputs, group.codes, sizeof(group.codes));
    row.scales[static_cast<size_t>(i)] = group.scale;
    row.minimums[static_cast<size_t>(i)] = group.minimum;
  }
}

// From the numbers of a block kind to those of a format that holds them.
void widen_row(const PanelFormat& from, const PanelFormat& to, int64_t groups, CodedRow& row) {
  if (from.kind == PanelKind::kQ4 && to.kind == PanelKind::kQ8)
    for (uint8_t& code : row.codes) code = static_cast<uint8_t>(code + 128);
  if (from.minimum == Minimum::kCentered && to.minimum == Minimum::kStored)
    for (int64_t i = 0; i < groups; ++i) row.minimums[static_cast<size_t>(i)] = -8.0f * row.scales[static_cast<size_t>(i)];
  if (from.scales_per_group == 1 && to.scales_per_group == 2)
    for (int64_t i = groups - 1; i >= 0; --i)
      row.scales[static_cast<size_t>(2 * i)] = row.scales[static_cast<size_t>(2 * i + 1)] = row.scales[static_cast<size_t>(i)];
}

// Packs one matrix of a file into the outputs of a part from `first` on.
class MatrixPacker {
 public:
  MatrixPacker(const FileMatrix& matrix, size_t index, const Weight& weight, const WeightPart& part, int64_t first,
               uint8_t* data)
      : matrix_(matrix), index_(index), weight_(weight), part_(part), first_(first), data_(data),
        groups_((matrix.k + kGroupInputs - 1) / kGroupInputs), row_bytes_(row_bytes(matrix.kind, matrix.k)) {}

  int64_t num_rows() const { return matrix_.n; }

  void pack(int64_t begin, int64_t end) const {
    CodedRow row;
    for (int64_t r = begin; r < end; ++r) {
      resize(row, groups_);
      read_row(r, row);
      write_row(place_of(part_, weight_.is_interleaved(), first_ + r), row);
    }
  }

 private:
  void read_row(int64_t r, CodedRow& row) const {
    const int64_t from = matrix_.row_order.empty() ? r : matrix_.row_order[static_cast<size_t>(r)];
    const uint8_t* bytes = matrix_.data + from * row_bytes_;
    const PanelFormat natural = panel_format(matrix_.kind);
    if (is_integer(natural.kind) && is_integer(part_.format.kind) && keeps_numbers(natural)) {
      decode_codes(matrix_.kind, bytes, matrix_.k, row.codes.data(), row.scales.data(), row.minimums.data());
      check_finite(row.scales, r, "scale");
      check_finite(row.minimums, r, "minimum");
      widen_row(natural, part_.format, groups_, row);
      check_range(row.minimums, r);
      return;
    }
    decode_row(matrix_.kind, bytes, matrix_.k, row.values.data());
    check_finite(row.values, r, "weight");
    check_range(row.values, r);
    if (part_.format.kind == PanelKind::kInt8) {
      row.scales[0] = encode_int8(row.values.data(), groups_ * kGroupInputs, row.codes.data());
    } else if (is_integer(part_.format.kind)) {
      encode_row(part_.format, groups_, row);
    }
  }

  // Whether the part holds the block's own numbers, rather than requantized ones.
  bool keeps_numbers(const PanelFormat& natural) const { return same(joint_format(natural, part_.format), part_.format); }

  [[noreturn]] void refuse_number(const char* what, float value, int64_t r, size_t at) const {
    refuse("finite weights within the range of their type",
           std::string(what) + " " + std::to_string(value) + " in part " + std::to_string(index_) + ", row " +
               std::to_string(r) + ", at " + std::to_string(at),
           "the file is damaged, or its model overflowed in training");
  }
  void check_finite(const std::vector<float>& values, int64_t r, const char* what) const {
    for (size_t i = 0; i < values.size(); ++i)
      if (!isfinite(values[i])) refuse_number(what, values[i], r, i);
  }
  // What float16 numbers, or bfloat16 weights, cannot hold.
  void check_range(const std::vector<float>& values, int64_t r) const {
    const bool halves = part_.format.scale_bytes == 2 || part_.format.kind == PanelKind::kF16;
    const float largest = halves ? 65504.0f : part_.format.kind == PanelKind::kBF16 ? 3.3895e38f : INFINITY;
    for (size_t i = 0; i < values.size(); ++i)
      if (fabsf(values[i]) > largest) refuse_number("weight", values[i], r, i);
  }

  void write_row(const PanelPlace& place, const CodedRow& row) const {
    uint8_t* panel = data_ + part_.offset_bytes + place.panel * part_.panel_bytes;
    switch (part_.format.kind) {
      case PanelKind::kF32:
        for (int64_t i = 0; i < matrix_.k; ++i)
          memcpy(panel + (i * kPanelColumns + place.column) * 4, &row.values[static_cast<size_t>(i)], 4);
        return;
      case PanelKind::kF16:
        for (int64_t i = 0; i < matrix_.k; ++i)
          put_half(panel, i * kPanelColumns + place.column, f16_of_float(row.values[static_cast<size_t>(i)]));
        return;
      case PanelKind::kBF16:
        for (int64_t i = 0; i < matrix_.k; ++i)
          put_half(panel, (i / 2 * kPanelColumns + place.column) * 2 + i % 2,
                   bf16_of_float(row.values[static_cast<size_t>(i)]));
        return;
      case PanelKind::kInt8:
        memcpy(panel + groups_ * part_.group_bytes + place.column * 4, row.scales.data(), 4);
        break;
      case PanelKind::kQ8:
      case PanelKind::kQ4: break;
    }
    for (int64_t i = 0; i < groups_; ++i) write_group(panel + i * part_.group_bytes, place.column, row, i);
    if (part_.format.kind == PanelKind::kQ4) write_whole_numbers(panel, place.column, row);
  }

  void write_whole_numbers(uint8_t* panel, int64_t column, const CodedRow& row) const {
    std::vector<int16_t> scales(row.scales.size()), centers(row.scales.size());
    const bool has_centers = part_.format.minimum == Minimum::kStored;
    const float unit = whole_numbers(row.scales.data(), has_centers ? row.minimums.data() : nullptr, groups_,
                                     scales.data(), centers.data());
    memcpy(panel + groups_ * part_.group_bytes + column * 4, &unit, sizeof(unit));
    for (int64_t i = 0; i < groups_; ++i) {
      uint8_t* numbers = panel + i * part_.group_bytes + 512;
      put_half(numbers, column, static_cast<uint16_t>(scales[static_cast<size_t>(i)]));
      if (has_centers) put_half(numbers, kPanelColumns + column, static_cast<uint16_t>(centers[static_cast<size_t>(i)]));
    }
  }

  static void put_half(uint8_t* to, int64_t index, uint16_t half) { memcpy(to + 2 * index, &half, sizeof(half)); }

  void write_group(uint8_t* to, int64_t column, const CodedRow& row, int64_t index) const {
    const uint8_t* codes = row.codes.data() + index * kGroupInputs;
    const PanelFormat& format = part_.format;
    if (format.kind != PanelKind::kQ4) {
      for (int64_t i = 0; i < 8; ++i) memcpy(to + (i * kPanelColumns + column) * 4, codes + 4 * i, 4);
      to += 1024;
    } else {
      for (int64_t i = 0; i < 16; ++i) {
        const uint8_t* pair = codes + i / 4 * 8 + i % 4;
        to[(i / 4 * kPanelColumns + column) * 4 + i % 4] = static_cast<uint8_t>(pair[0] | pair[4] << 4);
      }
      return;
    }
    if (format.scale_bytes == 0) return;
    const int64_t scales = format.scales_per_group;
    for (int64_t i = 0; i < scales; ++i)
      put_number(to, i * kPanelColumns + column, row.scales[static_cast<size_t>(index * scales + i)]);
    if (format.minimum == Minimum::kStored)
      put_number(to, scales * kPanelColumns + column, row.minimums[static_cast<size_t>(index)]);
  }

  void put_number(uint8_t* to, int64_t index, float value) const {
    if (part_.format.scale_bytes == 2) {
      put_half(to, index, f16_of_float(value));
    } else {
      memcpy(to + 4 * index, &value, sizeof(value));
    }
  }

  const FileMatrix& matrix_;
  const size_t index_;
  const Weight& weight_;
  const WeightPart& part_;
  const int64_t first_;
  uint8_t* const data_;
  const int64_t groups_, row_bytes_;
};

void check_matrix(const FileMatrix& matrix, int64_t k) {
  if (matrix.k != k) refuse("parts of " + std::to_string(k) + " inputs", std::to_string(matrix.k), "join parts that fit");
  if (matrix.n < 1 || matrix.n > int64_t{1} << 40) refuse("at least one output", std::to_string(matrix.n), "check the shape");
  const int64_t per_row = row_bytes(matrix.kind, matrix.k);
  if (matrix.bytes / static_cast<size_t>(per_row) != static_cast<size_t>(matrix.n) ||
      matrix.bytes % static_cast<size_t>(per_row)) {
    refuse(std::to_string(matrix.n) + " rows of " + std::to_string(per_row) + " bytes (" + block_name(matrix.kind) + ")",
           std::to_string(matrix.bytes) + " bytes", "the file is truncated or its shape is wrong");
  }
  if (matrix.row_order.empty()) return;
  if (static_cast<int64_t>(matrix.row_order.size()) != matrix.n)
    refuse("a row order of " + std::to_string(matrix.n), std::to_string(matrix.row_order.size()), "pass one index a row");
  for (const int32_t row : matrix.row_order)
    if (row < 0 || row >= matrix.n)
      refuse("rows from 0 to " + std::to_string(matrix.n - 1) + " in a row order", std::to_string(row), "correct it");
}

struct Layout {
  std::vector<PartShape> shapes;
  std::vector<size_t> part_of;        // by matrix
  std::vector<int64_t> first_output;  // of each matrix, in its part
};

Layout lay_out(const std::vector<FileMatrix>& matrices, bool is_interleaved, std::optional<PanelKind> target) {
  Layout layout;
  for (const FileMatrix& matrix : matrices) {
    PanelFormat format = target ? target_format(*target) : panel_format(matrix.kind);
    if (is_interleaved && !target) format = joint_format(panel_format(matrices[0].kind), panel_format(matrices[1].kind));
    const bool joins = !layout.shapes.empty() && same(layout.shapes.back().format, format) &&
                       (is_interleaved || layout.shapes.back().n % kPanelColumns == 0);
    if (!joins) layout.shapes.push_back({format, 0});
    layout.part_of.push_back(layout.shapes.size() - 1);
    layout.first_output.push_back(layout.shapes.back().n);
    layout.shapes.back().n += matrix.n;
  }
  return layout;
}

// Zeroed memory, in huge pages where it is large and the system gives them.
std::shared_ptr<Region> allocate(size_t bytes) {
  auto region = std::make_shared<Region>(bytes, "packed weights");
#if defined(MADV_HUGEPAGE)
  if (bytes >= size_t{4} << 20) madvise(region->data(), bytes, MADV_HUGEPAGE);
#endif
  return region;
}

}  // namespace

std::shared_ptr<Weight> pack_weight(Team& team, const std::vector<FileMatrix>& parts, bool is_interleaved,
                                    std::optional<PanelKind> target) {
  if (parts.empty()) refuse("at least one part", "none", "pass the matrices of the weight");
  for (const FileMatrix& matrix : parts) check_matrix(matrix, parts[0].k);
  if (is_interleaved && (parts.size() != 2 || parts[0].n != parts[1].n))
    refuse("two parts of equal size to interleave", std::to_string(parts.size()), "pass gate, then up");
  const Layout layout = lay_out(parts, is_interleaved, target);
  auto weight = std::make_shared<Weight>(layout.shapes, parts[0].k, is_interleaved);
  const std::shared_ptr<Region> memory = allocate(weight->bytes());
  uint8_t* data = static_cast<uint8_t*>(memory->data());
  for (size_t i = 0; i < parts.size(); ++i) {
    const MatrixPacker packer(parts[i], i, *weight, weight->parts()[layout.part_of[i]], layout.first_output[i], data);
    // Whole panels a call: neighbours in a panel share cache lines.
    team.parallel_for(0, packer.num_rows(), kPanelColumns, [&](int64_t begin, int64_t end) { packer.pack(begin, end); });
  }
  weight->set_data(data, weight->bytes(), memory);
  return weight;
}

}  // namespace weft
