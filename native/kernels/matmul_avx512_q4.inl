// Products of 4-bit panels on AVX-512: dots of groups are brought to 16 bits, so that those of two groups and their
// scales take one instruction, and so do their sums and centers. Included by matmul.cc.
namespace weft::kernels::WEFT_KERNELS {

namespace {

// sum += products of two 16-bit numbers in each lane
inline void add_pair_dot(I32& sum, I32 numbers, I32 pairs) {
#if defined(WEFT_EMULATE_AVX512)
  sum = _mm512_dpwssd_epi32(sum, numbers, pairs);
#else
  asm("vpdpwssd %[pairs], %[numbers], %[sum]" : [sum] "+v"(sum) : [numbers] "v"(numbers), [pairs] "v"(pairs));
#endif
}

// The same, `pair` in all lanes.
inline void add_pair_dot(I32& sum, I32 numbers, const float* pair) {
#if defined(WEFT_EMULATE_AVX512)
  add_pair_dot(sum, numbers, _mm512_set1_epi32(load_word(pair)));
#else
  asm("vpdpwssd %[pair]%{1to16%}, %[numbers], %[sum]"
      : [sum] "+v"(sum)
      : [numbers] "v"(numbers), [pair] "m"(*reinterpret_cast<const uint8_t(*)[4]>(pair)));
#endif
}

// Where the numbers of two groups of 32 lie, for pairs of the first and of the last 16 outputs.
alignas(64) constexpr int16_t kPairOrder[2][32] = {
    {0, 32, 1, 33, 2, 34, 3, 35, 4, 36, 5, 37, 6, 38, 7, 39,
     8, 40, 9, 41, 10, 42, 11, 43, 12, 44, 13, 45, 14, 46, 15, 47},
    {16, 48, 17, 49, 18, 50, 19, 51, 20, 52, 21, 53, 22, 54, 23, 55,
     24, 56, 25, 57, 26, 58, 27, 59, 28, 60, 29, 61, 30, 62, 31, 63}};

// 32 numbers of each of two groups as pairs of 16 outputs each.
inline void load_pairs(const uint8_t* first, const uint8_t* second, I32 (&pairs)[2]) {
  const I32 low = load_bytes(first), high = load_bytes(second);
  for (int c = 0; c < 2; ++c) pairs[c] = _mm512_permutex2var_epi16(low, load_bytes(kPairOrder[c]), high);
}

// 32 numbers of a group that has no second one.
inline void load_pairs(const uint8_t* first, I32 (&pairs)[2]) {
  for (int c = 0; c < 2; ++c)
    pairs[c] = _mm512_cvtepu16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(first) + c));
}

// Halves of bytes are taken apart in registers. For many rows that is as quick as codes taken apart before, on ports
// that dots do not use. A row or two are bound by it: high halves stay where they are, and the dots are moved instead.
struct PackedQ4 {
  static constexpr int64_t kTileRows = 6;
  static constexpr int64_t kUnpackedBytes = 0;
  static constexpr int64_t kCodeBytes = 512, kNumberBytes = 64;

  template <int kRows>
  static inline void dot(const uint8_t* group, const Rows& x, I32 (&dots)[kRows][2]) {
    if constexpr (kRows <= 2) {
      few_dot<kRows>(group, x, dots);
    } else {
      many_dot<kRows>(group, x, dots);
    }
  }

  template <int kRows>
  static inline void few_dot(const uint8_t* group, const Rows& x, I32 (&dots)[kRows][2]) {
    const I32 low_half = _mm512_set1_epi8(15);
    I32 sixteenfold[kRows][2] = {};
    begin_dots<kRows>(x.sums, dots);
#pragma GCC unroll 4
    for (int pair = 0; pair < 4; ++pair) {
#pragma GCC unroll 2
      for (int c = 0; c < 2; ++c) {
        const I32 both = load_bytes(group + pair * 128 + c * 64);
        const I32 low = _mm512_and_si512(both, low_half), high = _mm512_andnot_si512(low_half, both);
#pragma GCC unroll 2
        for (int r = 0; r < kRows; ++r) {
          add_byte_dot(dots[r][c], low, x.values + r * 32 + pair * 8);
          add_byte_dot(sixteenfold[r][c], high, x.values + r * 32 + pair * 8 + 4);
        }
      }
    }
#pragma GCC unroll 2
    for (int r = 0; r < kRows; ++r)
      for (int c = 0; c < 2; ++c) dots[r][c] = _mm512_add_epi32(dots[r][c], _mm512_srai_epi32(sixteenfold[r][c], 4));
  }

  template <int kRows>
  static inline void many_dot(const uint8_t* group, const Rows& x, I32 (&dots)[kRows][2]) {
    const I32 low_half = _mm512_set1_epi8(15);
    begin_dots<kRows>(x.sums, dots);
#pragma GCC unroll 4
    for (int pair = 0; pair < 4; ++pair) {
      const I32 both0 = load_bytes(group + pair * 128), both1 = load_bytes(group + pair * 128 + 64);
      const I32 low0 = _mm512_and_si512(both0, low_half), low1 = _mm512_and_si512(both1, low_half);
      const I32 high0 = _mm512_and_si512(_mm512_srli_epi16(both0, 4), low_half);
      const I32 high1 = _mm512_and_si512(_mm512_srli_epi16(both1, 4), low_half);
#pragma GCC unroll 12
      for (int r = 0; r < kRows; ++r) {
        add_byte_dot(dots[r][0], low0, x.values + r * 32 + pair * 8);
        add_byte_dot(dots[r][1], low1, x.values + r * 32 + pair * 8);
        add_byte_dot(dots[r][0], high0, x.values + r * 32 + pair * 8 + 4);
        add_byte_dot(dots[r][1], high1, x.values + r * 32 + pair * 8 + 4);
      }
    }
  }

  // The dots of a group, halved, in the low halves of words. Those of many rows are put into memory: gcc would keep
  // them in registers and spill sums instead, which costs a tenth of the speed.
  template <int kRows>
  static inline void low_dots(const uint8_t* group, const Rows& x, I32 (&low)[kRows][2]) {
    I32 dots[kRows][2];
    dot<kRows>(group, x, dots);
#pragma GCC unroll 12
    for (int r = 0; r < kRows; ++r) {
      const I32 halvings = _mm512_set1_epi32(x.sums[2 * r + 1]);
      for (int c = 0; c < 2; ++c) low[r][c] = _mm512_srav_epi32(dots[r][c], halvings);
    }
    if constexpr (kRows > 2) asm volatile("" : "+m"(low));
  }

  // The dots of a second group, halved, in the high halves of words, and those of the first in the low ones.
  template <int kRows>
  static inline void pair_dots(const uint8_t* group, const Rows& x, const I32 (&low)[kRows][2],
                               I32 (&pairs)[kRows][2]) {
    dot<kRows>(group, x, pairs);
#pragma GCC unroll 12
    for (int r = 0; r < kRows; ++r) {
      const I32 doublings = _mm512_set1_epi32(x.sums[2 * r + 1]);
#pragma GCC unroll 2
      for (int c = 0; c < 2; ++c)
        pairs[r][c] = _mm512_mask_blend_epi16(0xaaaaaaaa, low[r][c], _mm512_sllv_epi32(pairs[r][c], doublings));
    }
  }

  // sums += scale * dot + center * sum over two groups
  template <int kRows, bool kCenters>
  static inline void add_pairs(const I32 (&scales)[2], const I32 (&centers)[2], const I32 (&dots)[kRows][2],
                               const float* row_sums, I32 (&sums)[kRows][2]) {
#pragma GCC unroll 12
    for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 2
      for (int c = 0; c < 2; ++c) {
        if (kCenters) add_pair_dot(sums[r][c], centers[c], row_sums + 2 * r);
        add_pair_dot(sums[r][c], scales[c], dots[r][c]);
      }
    }
  }

  template <int kRows, bool kCenters>
  static inline void add_two_groups(const uint8_t* group, int64_t step, Rows& x, I32 (&sums)[kRows][2]) {
    alignas(64) I32 low[kRows][2];
    I32 dots[kRows][2], scales[2], centers[2] = {};
    const float* row_sums = x.scales + 1;
    low_dots<kRows>(group, x, low);
    next_group(x);
    pair_dots<kRows>(group + step, x, low, dots);
    next_group(x);
    const uint8_t* numbers = group + kCodeBytes;
    load_pairs(numbers, numbers + step, scales);
    if (kCenters) load_pairs(numbers + kNumberBytes, numbers + kNumberBytes + step, centers);
    add_pairs<kRows, kCenters>(scales, centers, dots, row_sums, sums);
  }

  template <int kRows, bool kCenters>
  static inline void add_last_group(const uint8_t* group, Rows& x, I32 (&sums)[kRows][2]) {
    I32 dots[kRows][2], scales[2], centers[2] = {};
    low_dots<kRows>(group, x, dots);
    load_pairs(group + kCodeBytes, scales);
    if (kCenters) load_pairs(group + kCodeBytes + kNumberBytes, centers);
    add_pairs<kRows, kCenters>(scales, centers, dots, x.scales + 1, sums);
    next_group(x);
  }

  static inline void next_group(Rows& x) {
    x.values += x.values_step;
    x.scales += x.scales_step;
    x.sums += x.scales_step;
  }

  // acc = fma(x_scale, sums, acc). gcc would keep acc in registers from span to span, and spill it.
  template <int kRows>
  static inline void add_span(const I32 (&sums)[kRows][2], const float* x_scales, float* acc) {
    asm volatile("" : "+m"(*reinterpret_cast<float(*)[kRows * 32]>(acc)));
#pragma GCC unroll 12
    for (int r = 0; r < kRows; ++r) {
      const F32 x_scale = broadcast(x_scales[2 * r]);
#pragma GCC unroll 2
      for (int c = 0; c < 2; ++c) {
        float* to = acc + r * 32 + c * 16;
        store(to, fma(x_scale, _mm512_cvtepi32_ps(sums[r][c]), load(to)));
      }
    }
  }

  template <int kRows, bool kCenters>
  static void tile_groups(const Groups& w, Rows x, float* acc) {
    const uint8_t* group = w.data;
    const int64_t groups = num_groups(w.k);
    for (int64_t index = 0; index < groups;) {
      I32 sums[kRows][2] = {};
      const float* x_scales = x.scales;
      for (const int64_t end = span_end(index, groups, kShiftedGroups); index < end; index += 2, group += 2 * w.step) {
        ask_ahead(w, index);
        if (index + 1 < end) {
          ask_ahead(w, index + 1);
          add_two_groups<kRows, kCenters>(group, w.step, x, sums);
        } else {
          add_last_group<kRows, kCenters>(group, x, sums);
        }
      }
      add_span<kRows>(sums, x_scales, acc);
    }
  }

  template <int kRows>
  static void tile(const Groups& w, Rows x, float* acc) {
    if (w.format.minimum == Minimum::kStored) {
      tile_groups<kRows, true>(w, x, acc);
    } else {
      tile_groups<kRows, false>(w, x, acc);
    }
  }
};

using FewQ4 = PackedQ4;
using ManyQ4 = PackedQ4;

}  // namespace

}  // namespace weft::kernels::WEFT_KERNELS
