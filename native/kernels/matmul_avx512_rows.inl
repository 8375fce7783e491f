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

// Of each of four vectors all lanes put together by `join`, in all lanes of a quarter of the result.
template <class Join>
inline I32 join_lanes(const I32 (&four)[kShiftedGroups], const Join& join) {
  const I32 ab = join(_mm512_shuffle_i32x4(four[0], four[1], 0x44), _mm512_shuffle_i32x4(four[0], four[1], 0xee));
  const I32 cd = join(_mm512_shuffle_i32x4(four[2], four[3], 0x44), _mm512_shuffle_i32x4(four[2], four[3], 0xee));
  I32 all = join(_mm512_shuffle_i32x4(ab, cd, 0x88), _mm512_shuffle_i32x4(ab, cd, 0xdd));
  all = join(all, _mm512_shuffle_epi32(all, static_cast<_MM_PERM_ENUM>(0x4e)));
  return join(all, _mm512_shuffle_epi32(all, static_cast<_MM_PERM_ENUM>(0xb1)));
}

// The largest |x| of each group as bits: integers order them as numbers do, and NaN above all.
inline I32 largest_of_groups(const float* x) {
  const I32 magnitude = _mm512_set1_epi32(0x7fffffff);
  I32 top[kShiftedGroups];
  for (int group = 0; group < kShiftedGroups; ++group)
    top[group] = _mm512_max_epi32(_mm512_and_si512(load_bytes(x + group * 32), magnitude),
                                  _mm512_and_si512(load_bytes(x + group * 32 + 16), magnitude));
  return join_lanes(top, [](I32 a, I32 b) { return _mm512_max_epi32(a, b); });
}

// The largest of the four quarters.
inline int32_t largest_quarter(I32 quarters) {
  const I32 two = _mm512_max_epi32(quarters, _mm512_shuffle_i32x4(quarters, quarters, 0x4e));
  return _mm_cvtsi128_si32(_mm512_castsi512_si128(_mm512_max_epi32(two, _mm512_shuffle_i32x4(two, two, 0xb1))));
}

// Codes of four groups, each times the factor in its quarter, and their sums.
inline I32 round_groups(const float* x, F32 factors, int8_t (&codes)[kShiftedGroups * kGroupInputs]) {
  const I32 order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
  const F32 own[] = {_mm512_shuffle_f32x4(factors, factors, 0x00), _mm512_shuffle_f32x4(factors, factors, 0x55),
                     _mm512_shuffle_f32x4(factors, factors, 0xaa), _mm512_shuffle_f32x4(factors, factors, 0xff)};
  I32 sums[kShiftedGroups], words[kShiftedGroups];
  for (int group = 0; group < kShiftedGroups; ++group) {
    const I32 a = _mm512_cvtps_epi32(mul(load(x + group * 32), own[group]));
    const I32 b = _mm512_cvtps_epi32(mul(load(x + group * 32 + 16), own[group]));
    sums[group] = _mm512_add_epi32(a, b);
    words[group] = _mm512_packs_epi32(a, b);
  }
  for (int half = 0; half < 2; ++half)
    store_bytes(codes + half * 64,
                _mm512_permutexvar_epi32(order, _mm512_packs_epi16(words[2 * half], words[2 * half + 1])));
  return join_lanes(sums, [](I32 a, I32 b) { return _mm512_add_epi32(a, b); });
}

// The numbers of groups whose codes were doubled `doubled` times and add up to `sums`, as the layout has them.
inline void note_groups(float scale, I32 sums, I32 doubled, float (&scales)[16], int32_t (&starts)[16]) {
  constexpr __mmask16 kSecondLanes = 0x2222, kSecondGroups = 0xf0f0;
  const I32 one = _mm512_set1_epi32(1), eightfold = _mm512_slli_epi32(sums, 3);
  const I32 half = _mm512_srli_epi32(_mm512_sllv_epi32(one, doubled), 1);
  const I32 shifts = _mm512_mask_sub_epi32(doubled, kSecondGroups, _mm512_set1_epi32(16), doubled);
  store_bytes(starts, _mm512_mask_mov_epi32(_mm512_sub_epi32(half, eightfold), kSecondLanes, shifts));
  const I32 halved = _mm512_srav_epi32(_mm512_add_epi32(eightfold, half), doubled);
  const I32 low = _mm512_and_si512(halved, _mm512_set1_epi32(0xffff));
  const I32 high = _mm512_slli_epi32(_mm512_shuffle_i32x4(halved, halved, 0xb1), 16);
  const I32 of_scale = _mm512_castps_si512(broadcast(scale));
  store_bytes(scales, _mm512_mask_mov_epi32(of_scale, kSecondLanes, _mm512_or_si512(low, high)));
}

// A span of up to kShiftedGroups groups, whose codes are `step` bytes apart and whose numbers `numbers_step`. A group
// that is smaller than the span's largest number has its codes doubled as often as they have room for.
void quantize_shifted(const float* x, int64_t groups, uint8_t* values, int64_t step, float* scales, int32_t* sums,
                      int64_t numbers_step) {
  constexpr int64_t kInputs = kShiftedGroups * kGroupInputs;
  alignas(64) float padded[kInputs], numbers[16];
  alignas(64) int8_t codes[kInputs];
  alignas(64) int32_t starts[16];
  if (groups < kShiftedGroups) {
    for (int64_t i = 0; i < kInputs; i += 16) store(padded + i, i < groups * kGroupInputs ? load(x + i) : zero());
    x = padded;
  }
  const I32 tops = largest_of_groups(x);
  const int32_t top = largest_quarter(tops);
  float largest;
  memcpy(&largest, &top, sizeof(largest));
  const I32 doubled = _mm512_min_epi32(_mm512_srai_epi32(_mm512_sub_epi32(_mm512_set1_epi32(top), tops), 23),
                                       _mm512_set1_epi32(kMostShift));
  const F32 factors = mul(broadcast(quantizing_factor(largest)), exp2_integral(_mm512_cvtepi32_ps(doubled)));
  note_groups(quantizing_scale(largest), round_groups(x, factors, codes), doubled, numbers, starts);
  for (int64_t group = 0; group < groups; ++group) {
    memcpy(values + group * step, codes + group * kGroupInputs, kGroupInputs);
    memcpy(scales + group * numbers_step, numbers + 4 * group, 2 * sizeof(float));
    memcpy(sums + group * numbers_step, starts + 4 * group, 2 * sizeof(int32_t));
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
