// Products of integer panels on AVX2, unpacked before. 4-bit codes (0..15, unsigned) times 8-bit rows are added in
// 16 bits over a group, which holds 8 * 2 * 15 * 127 = 30480; 8-bit codes are widened to 16 bits, and their pairs
// added in 32. Six rows times two vectors of columns take 12 of the 16 registers for their sums and leave four: two
// of codes, one of a row, one of a product. gcc spills some of them unless a step is one piece of assembly.
namespace weft::kernels::WEFT_KERNELS {

namespace {

using FourBytes = const uint8_t (*)[4];

// Sums of codes times the same four bytes of a row in all lanes: begun, and continued. Codes are unsigned bytes
// whose products are added in 16 bits, or 16-bit pairs whose products are added in 32.
struct ByteDots {
  static inline void begin(I32 (&sums)[2], I32 codes0, I32 codes1, const uint8_t* x) {
    asm("vpbroadcastd %[x], %[second]\n\t"
        "vpmaddubsw %[second], %[codes0], %[first]\n\t"
        "vpmaddubsw %[second], %[codes1], %[second]"
        : [first] "=&x"(sums[0]), [second] "=&x"(sums[1])
        : [codes0] "x"(codes0), [codes1] "x"(codes1), [x] "m"(*reinterpret_cast<FourBytes>(x)));
  }
  static inline void add(I32 (&sums)[2], I32 codes0, I32 codes1, const uint8_t* x) {
    I32 row, product;
    asm("vpbroadcastd %[x], %[row]\n\t"
        "vpmaddubsw %[row], %[codes0], %[product]\n\t"
        "vpmaddubsw %[row], %[codes1], %[row]\n\t"
        "vpaddw %[product], %[first], %[first]\n\t"
        "vpaddw %[row], %[second], %[second]"
        : [first] "+x"(sums[0]), [second] "+x"(sums[1]), [row] "=&x"(row), [product] "=&x"(product)
        : [codes0] "x"(codes0), [codes1] "x"(codes1), [x] "m"(*reinterpret_cast<FourBytes>(x)));
  }
  static inline I32 to_i32(I32 sum, I32 ones) { return _mm256_madd_epi16(sum, ones); }
};

struct PairDots {
  static inline void begin(I32 (&sums)[2], I32 codes0, I32 codes1, const uint8_t* x) {
    asm("vpbroadcastd %[x], %[second]\n\t"
        "vpmaddwd %[second], %[codes0], %[first]\n\t"
        "vpmaddwd %[second], %[codes1], %[second]"
        : [first] "=&x"(sums[0]), [second] "=&x"(sums[1])
        : [codes0] "x"(codes0), [codes1] "x"(codes1), [x] "m"(*reinterpret_cast<FourBytes>(x)));
  }
  static inline void add(I32 (&sums)[2], I32 codes0, I32 codes1, const uint8_t* x) {
    I32 row, product;
    asm("vpbroadcastd %[x], %[row]\n\t"
        "vpmaddwd %[row], %[codes0], %[product]\n\t"
        "vpmaddwd %[row], %[codes1], %[row]\n\t"
        "vpaddd %[product], %[first], %[first]\n\t"
        "vpaddd %[row], %[second], %[second]"
        : [first] "+x"(sums[0]), [second] "+x"(sums[1]), [row] "=&x"(row), [product] "=&x"(product)
        : [codes0] "x"(codes0), [codes1] "x"(codes1), [x] "m"(*reinterpret_cast<FourBytes>(x)));
  }
  static inline I32 to_i32(I32 sum, I32) { return sum; }
};

// acc = fma(minimum, x_sum, acc);  acc = fma(scale * x_scale, dot, acc)
template <bool kMinimum>
inline void add_scaled(float* acc, F32 dot, F32 scale, F32 minimum, F32 x_scale, F32 x_sum) {
  F32 sum = load(acc);
  if (kMinimum) sum = fma(minimum, x_sum, sum);
  store(acc, fma(mul(scale, x_scale), dot, sum));
}

// 4-bit panels. Unpacked: codes [8 k/4][32 n][4 k] in bytes, scales [32], minimums [32].
struct PanelQ4 {
  static constexpr int64_t kTileRows = 6;
  static constexpr int64_t kCodeBytes = 1024;
  static constexpr int64_t kUnpackedBytes = kCodeBytes + 256;

  static void unpack(const PanelFormat& format, const uint8_t* group, uint8_t* to, int64_t) {
    const I32 low_half = _mm256_set1_epi8(15);
    for (int pair = 0; pair < 4; ++pair) {
      for (int c = 0; c < 128; c += 32) {
        const I32 both = load_bytes(group + pair * 128 + c);
        store_bytes(to + pair * 256 + c, _mm256_and_si256(both, low_half));
        store_bytes(to + pair * 256 + 128 + c, _mm256_and_si256(_mm256_srli_epi16(both, 4), low_half));
      }
    }
    widen_scales(format, group + 512, reinterpret_cast<float*>(to + kCodeBytes));
  }

  template <int kRows, bool kMinimum>
  static void tile_groups(const uint8_t* unpacked, Rows x, int64_t groups, float* acc) {
    for (int64_t group = 0; group < groups; ++group) {
      const float* scales = reinterpret_cast<const float*>(unpacked + kCodeBytes);
      for (int half = 0; half < 2; ++half)
        add_bytes_group<kRows, kMinimum>(unpacked + 64 * half, scales + 16 * half, x.values, x.scales, acc + 16 * half);
      unpacked += kUnpackedBytes;
      x.values += x.values_step;
      x.scales += x.scales_step;
    }
  }

  template <int kRows>
  static void tile(const Groups& w, Rows x, float* acc) {
    if (w.format.minimum == Minimum::kNone) {
      tile_groups<kRows, false>(w.data, x, num_groups(w.k), acc);
    } else {
      tile_groups<kRows, true>(w.data, x, num_groups(w.k), acc);
    }
  }
};

// 8-bit panels. Unpacked: codes [8 k/4][2][32 n][2 k] in 16 bits, of each four inputs (0, 2) then (1, 3);
// scales [1 or 2][32], minimums [32].
struct PanelQ8 {
  static constexpr int64_t kTileRows = 6;
  static constexpr int64_t kCodeBytes = 2048;
  static constexpr int64_t kUnpackedBytes = kCodeBytes + 256;

  static void unpack(const PanelFormat& format, const uint8_t* group, uint8_t* to, int64_t) {
    const I32 flip = _mm256_set1_epi8(-128);
    for (int block = 0; block < 8; ++block) {
      for (int c = 0; c < 128; c += 32) {
        const I32 codes = _mm256_xor_si256(load_bytes(group + block * 128 + c), flip);
        store_bytes(to + block * 256 + c, _mm256_srai_epi16(_mm256_slli_epi16(codes, 8), 8));
        store_bytes(to + block * 256 + 128 + c, _mm256_srai_epi16(codes, 8));
      }
    }
    widen_scales(format, group + 1024, reinterpret_cast<float*>(to + kCodeBytes));
  }

  // Group, or its half of 16 inputs, with index `part`.
  template <int kRows, int kSteps, bool kMinimum>
  static inline void add_part(const uint8_t* unpacked, const Rows& x, int part, float* acc) {
    const float* scales = reinterpret_cast<const float*>(unpacked + kCodeBytes) + 32 * part;
    for (int half = 0; half < 2; ++half)
      add_pairs_group<kRows, kSteps, kMinimum>(unpacked + part * 1024 + 64 * half, scales + 16 * half,
                                               x.values + part * 32, x.scales, acc + 16 * half);
  }

  template <int kRows, int kScales, bool kMinimum>
  static void tile_groups(const uint8_t* unpacked, Rows x, int64_t groups, float* acc) {
    for (int64_t group = 0; group < groups; ++group) {
      for (int part = 0; part < kScales; ++part) add_part<kRows, 16 / kScales, kMinimum>(unpacked, x, part, acc);
      unpacked += kUnpackedBytes;
      x.values += x.values_step;
      x.scales += x.scales_step;
    }
  }

  template <int kRows>
  static void tile(const Groups& w, Rows x, float* acc) {
    if (w.format.scales_per_group == 2) {
      tile_groups<kRows, 2, false>(w.data, x, num_groups(w.k), acc);
    } else if (w.format.minimum == Minimum::kNone) {
      tile_groups<kRows, 1, false>(w.data, x, num_groups(w.k), acc);
    } else {
      tile_groups<kRows, 1, true>(w.data, x, num_groups(w.k), acc);
    }
  }
};

}  // namespace

}  // namespace weft::kernels::WEFT_KERNELS
