// A group of a packed weight as float32, outputs in lanes: the same source for every instruction set, over the
// compiler's vectors.
namespace weft::kernels::WEFT_KERNELS {

namespace {

typedef int32_t Words __attribute__((vector_size(kLanes * 4)));
typedef float Floats __attribute__((vector_size(kLanes * 4)));

inline Words load_words(const void* from) {
  Words words;
  memcpy(&words, from, sizeof(words));
  return words;
}
inline Floats load_floats(const float* from) {
  Floats values;
  memcpy(&values, from, sizeof(values));
  return values;
}
inline void store_floats(float* to, Floats values) { memcpy(to, &values, sizeof(values)); }

// [k / 2][32 n][2 k] bfloat16
void unpack_bf16(const uint8_t* group, int64_t k, float* values) {
  for (int64_t i = 0; i < k; i += 2) {
    for (int64_t n = 0; n < kPanelColumns; n += kLanes) {
      const Words pair = load_words(group + (i * kPanelColumns + 2 * n) * 2);
      const Words even = pair << 16, odd = pair & static_cast<int32_t>(0xffff0000u);
      memcpy(values + i * kPanelColumns + n, &even, sizeof(even));
      if (i + 1 < k) memcpy(values + (i + 1) * kPanelColumns + n, &odd, sizeof(odd));
    }
  }
}

// scale * code + minimum, rounded twice as Weight::dequantize_row does.
inline void store_values(Words codes, const float* scales, const float* minimums, float* to) {
  const Floats scaled = load_floats(scales) * __builtin_convertvector(codes, Floats);
  store_floats(to, scaled + load_floats(minimums));
}

// Four inputs of a lane from its word of four codes, each `bits` wide from bit `shift` of its byte on.
inline void unpack_word(Words word, int shift, int32_t mask, int32_t bias, int64_t k, const float* scales,
                        const float* minimums, float* to) {
  for (int64_t i = 0; i < 4 && i < k; ++i) {
    const Words codes = ((word >> static_cast<int32_t>(8 * i + shift)) & mask) - bias;
    store_values(codes, scales, minimums, to + i * kPanelColumns);
  }
}

void unpack_codes(const PanelFormat& format, const uint8_t* group, const float* of_outputs, int64_t k, float* values) {
  const bool is_q8 = format.kind != PanelKind::kQ4;
  float numbers[3 * kPanelColumns] = {};
  widen_scales(format, group + (is_q8 ? 1024 : 512), numbers);
  if (of_outputs) {
    const int64_t count = format.minimum == Minimum::kNone ? kPanelColumns : 2 * kPanelColumns;
    for (int64_t i = 0; i < count; i += kLanes)
      store(numbers + i, mul(load(of_outputs + i % kPanelColumns), load(numbers + i)));
  }
  const int64_t per_scale = kGroupInputs / format.scales_per_group;
  const float* minimums = numbers + format.scales_per_group * kPanelColumns;
  for (int64_t i = 0; i < k; i += 4) {
    const float* scales = numbers + i / per_scale * kPanelColumns;
    for (int64_t n = 0; n < kPanelColumns; n += kLanes) {
      float* to = values + i * kPanelColumns + n;
      if (is_q8) {
        unpack_word(load_words(group + (i * kPanelColumns + 4 * n)), 0, 255, 128, k - i, scales + n, minimums + n, to);
      } else {
        const Words word = load_words(group + i / 8 * kPanelColumns * 4 + 4 * n);
        unpack_word(word, i % 8 < 4 ? 0 : 4, 15, 0, k - i, scales + n, minimums + n, to);
      }
    }
  }
}

void unpack_group(const Panels* weight, int64_t panel, int64_t index, int64_t k, float* values) {
  const uint8_t* from = weight->data + panel * weight->panel_bytes;
  const uint8_t* group = from + index * weight->group_bytes;
  switch (weight->format.kind) {
    case PanelKind::kF32: memcpy(values, group, static_cast<size_t>(k * kPanelColumns) * sizeof(float)); break;
    case PanelKind::kF16:
      for (int64_t i = 0; i < k * kPanelColumns; i += kLanes)
        store(values + i, load_f16(reinterpret_cast<const uint16_t*>(group) + i));
      break;
    case PanelKind::kBF16: unpack_bf16(group, k, values); break;
    case PanelKind::kQ8:
    case PanelKind::kQ4:
    case PanelKind::kInt8: unpack_codes(weight->format, group, output_scales(*weight, from), k, values); break;
  }
}

#if !defined(WEFT_KERNELS_AVX512) || defined(WEFT_EMULATE_AVX512)
void transpose_pairs(const uint8_t* group, uint8_t* to) {
  uint16_t from[kGroupInputs * kPanelColumns], turned[kGroupInputs * kPanelColumns];
  memcpy(from, group, sizeof(from));
  for (int64_t k = 0; k < kGroupInputs; ++k)
    for (int64_t n = 0; n < kPanelColumns; ++n)
      turned[(n / 2 * kGroupInputs + k) * 2 + n % 2] = from[(k / 2 * kPanelColumns + n) * 2 + k % 2];
  memcpy(to, turned, sizeof(turned));
}
#endif

}  // namespace

}  // namespace weft::kernels::WEFT_KERNELS
