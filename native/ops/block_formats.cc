// The layouts are those of ggml's ggml-common.h.
#include "ops/block_formats.h"

#include <string.h>

#include <vector>

#include "base/error.h"
#include "base/half.h"

namespace weft {

namespace {

struct BlockFormat {
  const char* name;
  int64_t elements;
  int64_t bytes;
  PanelFormat panels;
};

constexpr PanelFormat floats(PanelKind kind) { return {kind, 1, 0, Minimum::kNone}; }

// By BlockKind. Scales of K-blocks are products of two numbers, which only float32 holds; those of 4-bit panels are whole numbers.
constexpr BlockFormat kFormats[] = {
    {"F32", 1, 4, floats(PanelKind::kF32)},
    {"F16", 1, 2, floats(PanelKind::kF16)},
    {"BF16", 1, 2, floats(PanelKind::kBF16)},
    {"Q8_0", 32, 34, {PanelKind::kQ8, 1, 2, Minimum::kNone}},
    {"Q4_0", 32, 18, {PanelKind::kQ4, 1, 2, Minimum::kCentered}},
    {"Q4_1", 32, 20, {PanelKind::kQ4, 1, 2, Minimum::kStored}},
    {"Q5_0", 32, 22, {PanelKind::kQ8, 1, 2, Minimum::kNone}},
    {"Q5_1", 32, 24, {PanelKind::kQ8, 1, 2, Minimum::kStored}},
    {"Q4_K", 256, 144, {PanelKind::kQ4, 1, 2, Minimum::kStored}},
    {"Q5_K", 256, 176, {PanelKind::kQ8, 1, 4, Minimum::kStored}},
    {"Q6_K", 256, 210, {PanelKind::kQ8, 2, 4, Minimum::kNone}},
};

const BlockFormat& format_of(BlockKind kind) { return kFormats[static_cast<int>(kind)]; }

uint16_t load_u16(const uint8_t* from) {
  uint16_t value;
  memcpy(&value, from, sizeof(value));
  return value;
}
float load_half(const uint8_t* from) { return float_of_f16(load_u16(from)); }

// 16 bytes hold elements 0..15 in their low halves and 16..31 in their high ones.
void decode_nibbles(const uint8_t* packed, uint8_t offset, uint8_t* codes) {
  for (int i = 0; i < 16; ++i) {
    codes[i] = static_cast<uint8_t>(offset + (packed[i] & 15));
    codes[16 + i] = static_cast<uint8_t>(offset + (packed[i] >> 4));
  }
}

// Bit i of a 32-bit word is worth 16 in element i.
void add_fifth_bits(const uint8_t* bits, uint8_t* codes) {
  uint32_t word;
  memcpy(&word, bits, sizeof(word));
  for (int i = 0; i < 32; ++i) codes[i] = static_cast<uint8_t>(codes[i] + ((word >> i & 1u) << 4));
}

// Eight pairs of 6-bit numbers, a scale and a minimum for each 32 elements, in 12 bytes.
struct KScales {
  uint8_t scale[8], minimum[8];
  explicit KScales(const uint8_t* packed) {
    for (int i = 0; i < 4; ++i) {
      scale[i] = packed[i] & 63;
      minimum[i] = packed[4 + i] & 63;
      scale[4 + i] = static_cast<uint8_t>((packed[8 + i] & 15) | (packed[i] >> 6) << 4);
      minimum[4 + i] = static_cast<uint8_t>((packed[8 + i] >> 4) | (packed[4 + i] >> 6) << 4);
    }
  }
};

void note_k_scales(const uint8_t* block, float* scales, float* minimums) {
  const float scale = load_half(block), minimum = load_half(block + 2);
  const KScales factors(block + 4);
  for (int group = 0; group < 8; ++group) {
    scales[group] = scale * static_cast<float>(factors.scale[group]);
    minimums[group] = -(minimum * static_cast<float>(factors.minimum[group]));
  }
}

// Each 32 bytes give a group of low halves, then one of high halves.
void decode_q4_k(const uint8_t* block, uint8_t* codes, float* scales, float* minimums) {
  note_k_scales(block, scales, minimums);
  for (int i = 0; i < 128; ++i) {
    codes[i / 32 * 64 + i % 32] = block[16 + i] & 15;
    codes[i / 32 * 64 + 32 + i % 32] = block[16 + i] >> 4;
  }
}

// As Q4_K; bit g of byte i of the 32 before is the fifth bit of element i of group g.
void decode_q5_k(const uint8_t* block, uint8_t* codes, float* scales, float* minimums) {
  note_k_scales(block, scales, minimums);
  for (int i = 0; i < 256; ++i) {
    const int group = i / 32;
    const uint8_t both = block[48 + group / 2 * 32 + i % 32];
    const int low = group % 2 ? both >> 4 : both & 15;
    codes[i] = static_cast<uint8_t>(128 + low + ((block[16 + i % 32] >> group & 1) << 4));
  }
}

// Halves of 128 elements: 64 bytes of low 4 bits, 32 bytes of upper 2 bits; a scale for each 16 elements.
void decode_q6_k(const uint8_t* block, uint8_t* codes, float* scales) {
  const float scale = load_half(block + 208);
  for (int group = 0; group < 16; ++group)
    scales[group] = scale * static_cast<float>(static_cast<int8_t>(block[192 + group]));
  for (int i = 0; i < 256; ++i) {
    const int half = i / 128, quarter = i % 128 / 32, at = i % 32;
    const uint8_t both = block[half * 64 + quarter % 2 * 32 + at];
    const int low = quarter < 2 ? both & 15 : both >> 4;
    const int high = block[128 + half * 32 + at] >> (2 * quarter) & 3;
    codes[i] = static_cast<uint8_t>(128 - 32 + low + (high << 4));
  }
}

void decode_block(BlockKind kind, const uint8_t* block, uint8_t* codes, float* scales, float* minimums) {
  switch (kind) {
    case BlockKind::kQ8_0:
      scales[0] = load_half(block);
      for (int i = 0; i < 32; ++i) codes[i] = static_cast<uint8_t>(block[2 + i] ^ 0x80u);
      return;
    case BlockKind::kQ4_0:
      scales[0] = load_half(block);
      return decode_nibbles(block + 2, 0, codes);
    case BlockKind::kQ4_1:
      scales[0] = load_half(block);
      minimums[0] = load_half(block + 2);
      return decode_nibbles(block + 4, 0, codes);
    case BlockKind::kQ5_0:
      scales[0] = load_half(block);
      decode_nibbles(block + 6, 128 - 16, codes);
      return add_fifth_bits(block + 2, codes);
    case BlockKind::kQ5_1:
      scales[0] = load_half(block);
      minimums[0] = load_half(block + 2);
      decode_nibbles(block + 8, 128, codes);
      return add_fifth_bits(block + 4, codes);
    case BlockKind::kQ4_K: return decode_q4_k(block, codes, scales, minimums);
    case BlockKind::kQ5_K: return decode_q5_k(block, codes, scales, minimums);
    case BlockKind::kQ6_K: return decode_q6_k(block, codes, scales);
    case BlockKind::kF32:
    case BlockKind::kF16:
    case BlockKind::kBF16: return;
  }
}

void decode_plain(BlockKind kind, const uint8_t* row, int64_t k, float* values) {
  if (kind == BlockKind::kF32) {
    memcpy(values, row, static_cast<size_t>(k) * sizeof(float));
  } else if (kind == BlockKind::kF16) {
    for (int64_t i = 0; i < k; ++i) values[i] = load_half(row + 2 * i);
  } else {
    for (int64_t i = 0; i < k; ++i) values[i] = float_of_bf16(load_u16(row + 2 * i));
  }
}

}  // namespace

BlockKind block_kind(const std::string& name) {
  std::string known;
  for (size_t i = 0; i < sizeof(kFormats) / sizeof(kFormats[0]); ++i) {
    if (name == kFormats[i].name) return static_cast<BlockKind>(i);
    known += (i ? ", " : "") + std::string(kFormats[i].name);
  }
  throw Error(ErrorKind::kUnsupported,
              "expected weights of a kind among " + known + ", got '" + name + "'; convert the file to one of them");
}

const char* block_name(BlockKind kind) { return format_of(kind).name; }
bool is_plain(BlockKind kind) { return format_of(kind).elements == 1; }
int64_t block_elements(BlockKind kind) { return format_of(kind).elements; }
PanelFormat panel_format(BlockKind kind) { return format_of(kind).panels; }

int64_t row_bytes(BlockKind kind, int64_t k) {
  const BlockFormat& format = format_of(kind);
  constexpr int64_t kMaxK = int64_t{1} << 40;
  if (k < 1 || k > kMaxK || k % format.elements) {
    throw Error(ErrorKind::kValue, "expected rows of whole blocks of " + std::to_string(format.elements) + " " +
                                       format.name + " elements, got " + std::to_string(k) +
                                       " elements; check the tensor's shape");
  }
  return k / format.elements * format.bytes;
}

void decode_codes(BlockKind kind, const uint8_t* row, int64_t k, uint8_t* codes, float* scales, float* minimums) {
  const BlockFormat& format = format_of(kind);
  const int64_t groups = format.elements / kGroupInputs;
  for (int64_t at = 0; at < k; at += format.elements, row += format.bytes) {
    decode_block(kind, row, codes + at, scales, minimums);
    scales += groups * format.panels.scales_per_group;
    minimums += groups;
  }
}

void decode_row(BlockKind kind, const uint8_t* row, int64_t k, float* values) {
  if (is_plain(kind)) return decode_plain(kind, row, k, values);
  const PanelFormat format = panel_format(kind);
  const int64_t groups = k / kGroupInputs, per_scale = kGroupInputs / format.scales_per_group;
  std::vector<uint8_t> codes(static_cast<size_t>(k));
  std::vector<float> scales(static_cast<size_t>(groups * format.scales_per_group)), minimums(static_cast<size_t>(groups));
  decode_codes(kind, row, k, codes.data(), scales.data(), minimums.data());
  const int bias = format.kind == PanelKind::kQ8 ? 128 : 0;
  for (int64_t i = 0; i < k; ++i) {
    const float scale = scales[i / per_scale];
    const float minimum = format.minimum == Minimum::kCentered ? -8.0f * scale : minimums[i / kGroupInputs];
    values[i] = scale * static_cast<float>(codes[i] - bias) + minimum;
  }
}

}  // namespace weft
