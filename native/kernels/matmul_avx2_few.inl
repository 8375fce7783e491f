// Products of integer panels with few rows on AVX2: bound by reading the panels, which are taken apart in registers.
namespace weft::kernels::WEFT_KERNELS {

namespace {

// How far ahead of the arithmetic a panel is asked for.
constexpr int64_t kAheadBytes = 2048;

inline void ask_ahead(const uint8_t* group, int64_t bytes) {
  for (int64_t byte = 0; byte < bytes; byte += 64) __builtin_prefetch(group + kAheadBytes + byte);
}

// Adds the dots of a group, or of half of one, times scales and minimums as they are stored, for two vectors of
// columns from `first` on.
template <int kRows, bool kMinimum>
inline void add_dots(const PanelFormat& format, const uint8_t* numbers, int64_t first, int64_t part,
                     const I32 (&dots)[kRows][2], const float* x_scales, float* acc) {
#pragma GCC unroll 2
  for (int c = 0; c < 2; ++c) {
    const int64_t column = first + c * 8;
    const F32 scale = load_scale(format, numbers, part * 32 + column);
    const F32 minimum = kMinimum ? load_minimum(format, numbers, column, scale) : zero();
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r)
      add_scaled<kMinimum>(acc + r * 32 + column, _mm256_cvtepi32_ps(dots[r][c]), scale, minimum,
                           broadcast(x_scales[2 * r]), broadcast(x_scales[2 * r + 1]));
  }
}

struct PackedQ4 {
  static constexpr int64_t kTileRows = 4;
  static constexpr int64_t kUnpackedBytes = 0;

  // Columns [first, first + 16) of a group.
  template <int kRows>
  static inline void dot(const uint8_t* group, const uint8_t* x, I32 (&sums)[kRows][2]) {
    const I32 low_half = _mm256_set1_epi8(15);
#pragma GCC unroll 4
    for (int pair = 0; pair < 4; ++pair) {
      const I32 both0 = load_bytes(group + pair * 128), both1 = load_bytes(group + pair * 128 + 32);
      const I32 low0 = _mm256_and_si256(both0, low_half), low1 = _mm256_and_si256(both1, low_half);
      const I32 high0 = _mm256_and_si256(_mm256_srli_epi16(both0, 4), low_half);
      const I32 high1 = _mm256_and_si256(_mm256_srli_epi16(both1, 4), low_half);
#pragma GCC unroll 4
      for (int r = 0; r < kRows; ++r) {
        if (pair == 0) {
          ByteDots::begin(sums[r], low0, low1, x + r * 32);
        } else {
          ByteDots::add(sums[r], low0, low1, x + r * 32 + pair * 8);
        }
        ByteDots::add(sums[r], high0, high1, x + r * 32 + pair * 8 + 4);
      }
    }
    const I32 ones = _mm256_set1_epi16(1);
#pragma GCC unroll 4
    for (int r = 0; r < kRows; ++r)
      for (int c = 0; c < 2; ++c) sums[r][c] = _mm256_madd_epi16(sums[r][c], ones);
  }

  template <int kRows, bool kMinimum>
  static void tile_groups(const Groups& w, Rows x, float* acc) {
    const uint8_t* group = w.data;
    for (int64_t groups = num_groups(w.k); groups > 0; --groups, group += w.step) {
      ask_ahead(group, w.step);
      for (int64_t first = 0; first < 32; first += 16) {
        I32 dots[kRows][2];
        dot<kRows>(group + first * 4, x.values, dots);
        add_dots<kRows, kMinimum>(w.format, group + 512, first, 0, dots, x.scales, acc);
      }
      x.values += x.values_step;
      x.scales += x.scales_step;
    }
  }

  template <int kRows>
  static void tile(const Groups& w, Rows x, float* acc) {
    if (w.format.minimum == Minimum::kNone) {
      tile_groups<kRows, false>(w, x, acc);
    } else {
      tile_groups<kRows, true>(w, x, acc);
    }
  }
};

struct PackedQ8 {
  static constexpr int64_t kTileRows = 4;
  static constexpr int64_t kUnpackedBytes = 0;

  // kBlocks of four inputs, of 16 columns.
  template <int kRows, int kBlocks>
  static inline void dot(const uint8_t* codes, const uint8_t* x, I32 (&sums)[kRows][2]) {
    const I32 flip = _mm256_set1_epi8(-128);
#pragma GCC unroll 8
    for (int block = 0; block < kBlocks; ++block) {
      const I32 four0 = _mm256_xor_si256(load_bytes(codes + block * 128), flip);
      const I32 four1 = _mm256_xor_si256(load_bytes(codes + block * 128 + 32), flip);
      const I32 even0 = _mm256_srai_epi16(_mm256_slli_epi16(four0, 8), 8), odd0 = _mm256_srai_epi16(four0, 8);
      const I32 even1 = _mm256_srai_epi16(_mm256_slli_epi16(four1, 8), 8), odd1 = _mm256_srai_epi16(four1, 8);
#pragma GCC unroll 4
      for (int r = 0; r < kRows; ++r) {
        if (block == 0) {
          PairDots::begin(sums[r], even0, even1, x + r * 64);
        } else {
          PairDots::add(sums[r], even0, even1, x + r * 64 + block * 8);
        }
        PairDots::add(sums[r], odd0, odd1, x + r * 64 + block * 8 + 4);
      }
    }
  }

  template <int kRows, int kScales, bool kMinimum>
  static void tile_groups(const Groups& w, Rows x, float* acc) {
    const uint8_t* group = w.data;
    for (int64_t groups = num_groups(w.k); groups > 0; --groups, group += w.step) {
      ask_ahead(group, w.step);
      for (int64_t part = 0; part < kScales; ++part) {
        for (int64_t first = 0; first < 32; first += 16) {
          I32 dots[kRows][2];
          dot<kRows, 8 / kScales>(group + part * 512 + first * 4, x.values + part * 32, dots);
          add_dots<kRows, kMinimum>(w.format, group + 1024, first, part, dots, x.scales, acc);
        }
      }
      x.values += x.values_step;
      x.scales += x.scales_step;
    }
  }

  template <int kRows>
  static void tile(const Groups& w, Rows x, float* acc) {
    if (w.format.scales_per_group == 2) {
      tile_groups<kRows, 2, false>(w, x, acc);
    } else if (w.format.minimum == Minimum::kNone) {
      tile_groups<kRows, 1, false>(w, x, acc);
    } else {
      tile_groups<kRows, 1, true>(w, x, acc);
    }
  }
};

constexpr int64_t kFewRows = 4;
// Groups of a panel that are unpacked together: with the rows and the sums of a block they fill the first cache.
constexpr int64_t kChunkGroups = 4;
using FewF32 = PanelF32;
using ManyF32 = PanelF32;
using FewF16 = PanelF16;
using ManyF16 = PanelF16;
using FewBF16 = PanelBF16;
using ManyBF16 = PanelBF16;
using FewQ8 = PackedQ8;
using ManyQ8 = PanelQ8;
using FewInt8 = PackedQ8;
using ManyInt8 = PanelQ8;
using FewQ4 = PackedQ4;
using ManyQ4 = PanelQ4;

}  // namespace

}  // namespace weft::kernels::WEFT_KERNELS
