// Rows as products on AVX-512 read them: in signed bytes with scales, or in bfloat16.
namespace weft::kernels::WEFT_KERNELS {

namespace {

// The sum of all lanes, which wraps: codes of a value that is not finite are of any size.
inline int32_t add_lanes(I32 values) {
  const __m256i eight = _mm256_add_epi32(_mm512_castsi512_si256(values), _mm512_extracti64x4_epi64(values, 1));
  __m128i four = _mm_add_epi32(_mm256_castsi256_si128(eight), _mm256_extracti128_si256(eight, 1));
  four = _mm_add_epi32(four, _mm_shuffle_epi32(four, 0x4e));
  return _mm_cvtsi128_si32(_mm_add_epi32(four, _mm_shuffle_epi32(four, 0xb1)));
}

void quantize_group(const float* x, RowForm, uint8_t* values, float* scales, int32_t* sums) {
  const I32 magnitude = _mm512_set1_epi32(0x7fffffff);
  const I32 top = _mm512_max_epi32(_mm512_and_si512(load_bytes(x), magnitude),
                                   _mm512_and_si512(load_bytes(x + 16), magnitude));
  const int32_t largest_bits = _mm512_reduce_max_epi32(top);
  float largest;
  memcpy(&largest, &largest_bits, sizeof(largest));
  const F32 factor = broadcast(quantizing_factor(largest));
  const I32 a = _mm512_cvtps_epi32(mul(load(x), factor)), b = _mm512_cvtps_epi32(mul(load(x + 16), factor));
  _mm_storeu_si128(reinterpret_cast<__m128i*>(values), _mm512_cvtsepi32_epi8(a));
  _mm_storeu_si128(reinterpret_cast<__m128i*>(values + 16), _mm512_cvtsepi32_epi8(b));
  note_sums(largest, add_lanes(a), add_lanes(b), scales, sums);
}

// The largest |x| of a group as bits: integers order them as numbers do, and NaN above all.
inline int32_t largest_bits(const float* x) {
  const I32 magnitude = _mm512_set1_epi32(0x7fffffff);
  return _mm512_reduce_max_epi32(_mm512_max_epi32(_mm512_and_si512(load_bytes(x), magnitude),
                                                  _mm512_and_si512(load_bytes(x + 16), magnitude)));
}

// How often a group's largest number may be doubled before it exceeds the span's, both as bits; kMostShift at most.
inline int32_t doublings(int32_t largest, int32_t of_span) {
  const int32_t times = (of_span - largest) >> 23;
  return times < kMostShift ? times : kMostShift;
}

// A span of up to kShiftedGroups groups, whose codes are `step` bytes apart and whose numbers `numbers_step`. A group
// that is smaller than the span's largest number has its codes doubled as often as they have room for.
void quantize_shifted(const float* x, int64_t groups, uint8_t* values, int64_t step, float* scales, int32_t* sums,
                      int64_t numbers_step) {
  int32_t bits[kShiftedGroups], top = 0;
  for (int64_t group = 0; group < groups; ++group) {
    bits[group] = largest_bits(x + group * kGroupInputs);
    top = top < bits[group] ? bits[group] : top;
  }
  float largest;
  memcpy(&largest, &top, sizeof(largest));
  const float scale = quantizing_scale(largest) / (1 << kMostShift), factor = quantizing_factor(largest);
  for (int64_t group = 0; group < groups; ++group, x += kGroupInputs, values += step) {
    const int32_t doubled = doublings(bits[group], top);
    const F32 own = broadcast(factor * static_cast<float>(1 << doubled));
    const I32 a = _mm512_cvtps_epi32(mul(load(x), own)), b = _mm512_cvtps_epi32(mul(load(x + 16), own));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(values), _mm512_cvtsepi32_epi8(a));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(values + 16), _mm512_cvtsepi32_epi8(b));
    note_shifted(scale, add_lanes(_mm512_add_epi32(a, b)), kMostShift - doubled, scales, sums);
    scales += numbers_step;
    sums += numbers_step;
  }
}

// A span of a row, up to kSpanGroups groups with one scale; the codes of a group are `step` bytes after the last's.
void quantize_span(const float* x, int64_t groups, uint8_t* values, int64_t step, float* scales, int32_t* sums) {
  const I32 magnitude = _mm512_set1_epi32(0x7fffffff);
  I32 top = _mm512_setzero_si512(), sum = _mm512_setzero_si512();
  for (int64_t i = 0; i < groups * kGroupInputs; i += 16)
    top = _mm512_max_epi32(top, _mm512_and_si512(load_bytes(x + i), magnitude));
  const int32_t largest_bits = _mm512_reduce_max_epi32(top);
  float largest;
  memcpy(&largest, &largest_bits, sizeof(largest));
  const F32 factor = broadcast(quantizing_factor(largest));
  for (int64_t group = 0; group < groups; ++group, x += kGroupInputs, values += step) {
    const I32 a = _mm512_cvtps_epi32(mul(load(x), factor)), b = _mm512_cvtps_epi32(mul(load(x + 16), factor));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(values), _mm512_cvtsepi32_epi8(a));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(values + 16), _mm512_cvtsepi32_epi8(b));
    sum = _mm512_add_epi32(sum, _mm512_add_epi32(a, b));
  }
  note_sums(largest, add_lanes(sum), 0, scales, sums);
}

// To nearest even; NaN keeps its upper bits and becomes quiet.
inline uint16_t round_to_bf16(float value) {
  uint32_t bits;
  memcpy(&bits, &value, sizeof(bits));
  if ((bits & 0x7fffffffu) > 0x7f800000u) return static_cast<uint16_t>((bits >> 16) | 0x40u);
  return static_cast<uint16_t>((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
}

void round_group_bf16(const float* x, uint8_t* values) {
  uint16_t rounded[kGroupInputs];
  for (int i = 0; i < kGroupInputs; ++i) rounded[i] = round_to_bf16(x[i]);
  memcpy(values, rounded, sizeof(rounded));
}

}  // namespace

}  // namespace weft::kernels::WEFT_KERNELS
