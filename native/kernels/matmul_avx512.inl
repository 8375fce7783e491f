// Products on AVX-512 with VNNI and BF16: dots of unsigned weights and signed rows, four inputs at a time. The
// one-line assembly keeps gcc from spilling the sums; its last operand is read and broadcast from memory.
namespace weft::kernels::WEFT_KERNELS {

namespace {

constexpr RowForm kFormQ8 = RowForm::kI8;
constexpr RowForm kFormQ4 = RowForm::kI8Shifted;
constexpr RowForm kFormInt8 = RowForm::kI8Wide;
constexpr RowForm kFormBF16 = RowForm::kBF16;

inline I32 load_bytes(const void* from) { return _mm512_loadu_si512(from); }
inline void store_bytes(void* to, I32 value) { _mm512_storeu_si512(to, value); }

inline int32_t load_word(const void* from) {
  int32_t word;
  memcpy(&word, from, sizeof(word));
  return word;
}

// sum += codes (unsigned) * x (signed), x the same four bytes in all lanes
inline void add_byte_dot(I32& sum, I32 codes, const uint8_t* x) {
#if defined(WEFT_EMULATE_AVX512)
  sum = _mm512_dpbusd_epi32(sum, codes, _mm512_set1_epi32(load_word(x)));
#else
  asm("vpdpbusd %[x]%{1to16%}, %[codes], %[sum]"
      : [sum] "+v"(sum)
      : [codes] "v"(codes), [x] "m"(*reinterpret_cast<const uint8_t(*)[4]>(x)));
#endif
}

// sum += weights * x over a pair of bfloat16, x the same pair in all lanes
inline void add_bf16_dot(F32& sum, I32 weights, const uint8_t* x) {
#if defined(WEFT_EMULATE_AVX512)
  const I32 high = _mm512_set1_epi32(static_cast<int>(0xffff0000u));
  const I32 row = _mm512_set1_epi32(load_word(x));
  const F32 odd = mul(_mm512_castsi512_ps(_mm512_and_si512(weights, high)),
                      _mm512_castsi512_ps(_mm512_and_si512(row, high)));
  const F32 even = mul(_mm512_castsi512_ps(_mm512_slli_epi32(weights, 16)),
                       _mm512_castsi512_ps(_mm512_slli_epi32(row, 16)));
  sum = add(add(sum, odd), even);
#else
  asm("vdpbf16ps %[x]%{1to16%}, %[weights], %[sum]"
      : [sum] "+v"(sum)
      : [weights] "v"(weights), [x] "m"(*reinterpret_cast<const uint8_t(*)[4]>(x)));
#endif
}

// Sums of a tile in registers: kRows rows, 32 columns.
template <int kRows>
struct TileSums {
  F32 at[kRows][2];
  inline void take(const float* acc) {
#pragma GCC unroll 12
    for (int r = 0; r < kRows; ++r) {
      at[r][0] = load(acc + r * 32);
      at[r][1] = load(acc + r * 32 + 16);
    }
  }
  inline void put(float* acc) const {
#pragma GCC unroll 12
    for (int r = 0; r < kRows; ++r) {
      store(acc + r * 32, at[r][0]);
      store(acc + r * 32 + 16, at[r][1]);
    }
  }
};

// acc = fma(minimum, x_sum, acc);  acc = fma(scale * x_scale, dot, acc)
template <int kRows, bool kMinimum>
inline void add_scaled(TileSums<kRows>& sums, const I32 (&dots)[kRows][2], const F32 (&scale)[2],
                       const F32 (&minimum)[2], const float* x_scales) {
#pragma GCC unroll 12
  for (int r = 0; r < kRows; ++r) {
    const F32 x_scale = broadcast(x_scales[2 * r]), x_sum = broadcast(x_scales[2 * r + 1]);
#pragma GCC unroll 2
    for (int c = 0; c < 2; ++c) {
      F32 sum = sums.at[r][c];
      if (kMinimum) sum = fma(minimum[c], x_sum, sum);
      sums.at[r][c] = fma(mul(scale[c], x_scale), _mm512_cvtepi32_ps(dots[r][c]), sum);
    }
  }
}

inline void load_scales(const PanelFormat& format, const uint8_t* from, int64_t part, F32 (&scale)[2]) {
  for (int c = 0; c < 2; ++c) scale[c] = load_scale(format, from, part * 32 + c * 16);
}

inline void load_minimums(const PanelFormat& format, const uint8_t* from, const F32 (&scale)[2], F32 (&minimum)[2]) {
  for (int c = 0; c < 2; ++c) minimum[c] = load_minimum(format, from, c * 16, scale[c]);
}

// Dots of unsigned codes start from what takes their bias off: -128 times the sum of a row's codes, or -8 times.
template <int kRows>
inline void begin_dots(const int32_t* sums, I32 (&dots)[kRows][2]) {
#pragma GCC unroll 12
  for (int r = 0; r < kRows; ++r) dots[r][0] = dots[r][1] = _mm512_set1_epi32(sums[2 * r]);
}

inline int32_t half_sum(const int32_t* sums, int part) {
  return part == 0 ? sums[1] : static_cast<int32_t>(static_cast<uint32_t>(sums[0]) - static_cast<uint32_t>(sums[1]));
}

// 8-bit panels are read as they are.
struct PanelQ8 {
  static constexpr int64_t kTileRows = 6;
  static constexpr int64_t kUnpackedBytes = 0;

  template <int kRows>
  static inline void dot(const uint8_t* codes, const uint8_t* x, int steps, I32 (&dots)[kRows][2]) {
    for (int step = 0; step < steps; ++step) {
      const I32 codes0 = load_bytes(codes + step * 128), codes1 = load_bytes(codes + step * 128 + 64);
#pragma GCC unroll 12
      for (int r = 0; r < kRows; ++r) {
        add_byte_dot(dots[r][0], codes0, x + r * 32 + step * 4);
        add_byte_dot(dots[r][1], codes1, x + r * 32 + step * 4);
      }
    }
  }

  template <int kRows, bool kMinimum>
  static void tile_groups(const Groups& w, Rows x, float* acc) {
    TileSums<kRows> sums;
    sums.take(acc);
    const uint8_t* group = w.data;
    for (int64_t index = 0; index < num_groups(w.k); ++index, group += w.step) {
      ask_ahead(w, index);
      I32 dots[kRows][2];
      begin_dots<kRows>(x.sums, dots);
      dot<kRows>(group, x.values, 8, dots);
      F32 scale[2], minimum[2] = {zero(), zero()};
      load_scales(w.format, group + 1024, 0, scale);
      if (kMinimum) load_minimums(w.format, group + 1024, scale, minimum);
      add_scaled<kRows, kMinimum>(sums, dots, scale, minimum, x.scales);
      x.values += x.values_step;
      x.scales += x.scales_step;
      x.sums += x.scales_step;
    }
    sums.put(acc);
  }

  template <int kRows>
  static void tile_two_scales(const Groups& w, Rows x, float* acc) {
    TileSums<kRows> sums;
    sums.take(acc);
    const uint8_t* group = w.data;
    for (int64_t index = 0; index < num_groups(w.k); ++index, group += w.step) {
      ask_ahead(w, index);
      for (int part = 0; part < 2; ++part) {
        I32 dots[kRows][2];
#pragma GCC unroll 12
        for (int r = 0; r < kRows; ++r) dots[r][0] = dots[r][1] = _mm512_set1_epi32(half_sum(x.sums + 2 * r, part));
        dot<kRows>(group + part * 512, x.values + part * 16, 4, dots);
        F32 scale[2], minimum[2] = {zero(), zero()};
        load_scales(w.format, group + 1024, part, scale);
        add_scaled<kRows, false>(sums, dots, scale, minimum, x.scales);
      }
      x.values += x.values_step;
      x.scales += x.scales_step;
      x.sums += x.scales_step;
    }
    sums.put(acc);
  }

  template <int kRows>
  static void tile(const Groups& w, Rows x, float* acc) {
    if (w.format.scales_per_group == 2) {
      tile_two_scales<kRows>(w, x, acc);
    } else if (w.format.minimum == Minimum::kNone) {
      tile_groups<kRows, false>(w, x, acc);
    } else {
      tile_groups<kRows, true>(w, x, acc);
    }
  }
};

// 8-bit panels without scales of groups: a dot is over a span of a row, and takes one multiplication.
struct PanelInt8 {
  static constexpr int64_t kTileRows = 6;
  static constexpr int64_t kUnpackedBytes = 0;

  template <int kRows>
  static void tile(const Groups& w, Rows x, float* acc) {
    TileSums<kRows> sums;
    sums.take(acc);
    const uint8_t* group = w.data;
    const int64_t groups = num_groups(w.k);
    for (int64_t index = 0; index < groups;) {
      I32 dots[kRows][2];
      begin_dots<kRows>(x.sums, dots);
      for (const int64_t end = span_end(index, groups); index < end; ++index, group += w.step) {
        ask_ahead(w, index);
        PanelQ8::dot<kRows>(group, x.values, 8, dots);
        x.values += x.values_step;
      }
#pragma GCC unroll 12
      for (int r = 0; r < kRows; ++r)
        for (int c = 0; c < 2; ++c)
          sums.at[r][c] = fma(_mm512_cvtepi32_ps(dots[r][c]), broadcast(x.scales[2 * r]), sums.at[r][c]);
      x.scales += x.scales_step;
      x.sums += x.scales_step;
    }
    sums.put(acc);
  }
};

// Float panels. Unpacked: [32 k][32 n] float32, which is how kF32 lies in memory already.
struct PanelF32 {
  static constexpr int64_t kTileRows = 12;
  static constexpr int64_t kUnpackedBytes = 0;

  template <int kRows>
  static void tile(const Groups& w, Rows x, float* acc) {
    TileSums<kRows> sums;
    sums.take(acc);
    const float* weights = reinterpret_cast<const float*>(w.data);
    for (int64_t k = w.k; k > 0; k -= kGroupInputs, x.values += x.values_step) {
      const float* values = reinterpret_cast<const float*>(x.values);
      const int64_t steps = k < kGroupInputs ? k : kGroupInputs;
      for (int64_t step = 0; step < steps; ++step, weights += kPanelColumns, ++values) {
        const F32 weights0 = load(weights), weights1 = load(weights + 16);
#pragma GCC unroll 12
        for (int r = 0; r < kRows; ++r) {
          const F32 row = broadcast(values[r * kGroupInputs]);
          sums.at[r][0] = fma(weights0, row, sums.at[r][0]);
          sums.at[r][1] = fma(weights1, row, sums.at[r][1]);
        }
      }
    }
    sums.put(acc);
  }
};

struct PanelF16 : PanelF32 {
  static constexpr int64_t kUnpackedBytes = 4096;

  static void unpack(const PanelFormat&, const uint8_t* group, uint8_t* to, int64_t k) {
    const uint16_t* from = reinterpret_cast<const uint16_t*>(group);
    float* wide = reinterpret_cast<float*>(to);
    for (int64_t i = 0; i < k * kPanelColumns; i += kLanes) store(wide + i, load_f16(from + i));
  }
};

// bfloat16 panels are read as they are.
struct PanelBF16 {
  static constexpr int64_t kTileRows = 12;
  static constexpr int64_t kUnpackedBytes = 0;

  template <int kRows>
  static void tile(const Groups& w, Rows x, float* acc) {
    TileSums<kRows> sums;
    sums.take(acc);
    const uint8_t* weights = w.data;
    for (int64_t k = w.k; k > 0; k -= kGroupInputs, x.values += x.values_step) {
      const uint8_t* values = x.values;
      ask_ahead(w, (w.k - k) / kGroupInputs);
      const int64_t pairs = ((k < kGroupInputs ? k : kGroupInputs) + 1) / 2;
      for (int64_t pair = 0; pair < pairs; ++pair, weights += 128, values += 4) {
        const I32 weights0 = load_bytes(weights), weights1 = load_bytes(weights + 64);
#pragma GCC unroll 12
        for (int r = 0; r < kRows; ++r) {
          add_bf16_dot(sums.at[r][0], weights0, values + r * 64);
          add_bf16_dot(sums.at[r][1], weights1, values + r * 64);
        }
      }
    }
    sums.put(acc);
  }
};

constexpr int64_t kFewRows = 6;
// Groups of a panel that are multiplied together: as many as leave the second cache room for rows and sums.
constexpr int64_t kChunkGroups = 48;
using FewF32 = PanelF32;
using ManyF32 = PanelF32;
using FewF16 = PanelF16;
using ManyF16 = PanelF16;
using FewBF16 = PanelBF16;
using ManyBF16 = PanelBF16;
using FewQ8 = PanelQ8;
using ManyQ8 = PanelQ8;
using FewInt8 = PanelInt8;
using ManyInt8 = PanelInt8;

}  // namespace

}  // namespace weft::kernels::WEFT_KERNELS
