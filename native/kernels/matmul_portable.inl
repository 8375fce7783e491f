// Products on any machine. Integers are multiplied as float32, which is exact: a group's dot is below 2^24.
namespace weft::kernels::WEFT_KERNELS {

namespace {

constexpr RowForm kFormQ8 = RowForm::kIntegral;
constexpr RowForm kFormInt8 = kFormQ8;
constexpr RowForm kFormQ4 = RowForm::kIntegral;
constexpr RowForm kFormBF16 = RowForm::kF32;

void quantize_group(const float* x, RowForm, uint8_t* values, float* scales, int32_t* sums) {
  uint32_t largest_bits = 0;
  for (int i = 0; i < kGroupInputs; ++i) {
    const uint32_t bits = f32_to_bits(x[i]) & 0x7fffffffu;
    if (bits > largest_bits) largest_bits = bits;
  }
  const float largest = bits_to_f32(largest_bits);
  const F32 factor = broadcast(quantizing_factor(largest));
  float* codes = reinterpret_cast<float*>(values);
  for (int i = 0; i < kGroupInputs; i += kLanes) store(codes + i, round_nearest(mul(load(x + i), factor)));
  float halves[2] = {0.0f, 0.0f};
  for (int i = 0; i < kGroupInputs; ++i) halves[i / 16] += codes[i];
  const bool finite = largest_bits < 0x7f800000u;
  note_sums(largest, finite ? static_cast<int32_t>(halves[0]) : 0, finite ? static_cast<int32_t>(halves[1]) : 0,
            scales, sums);
}

void round_group_bf16(const float*, uint8_t*) {}  // no panel asks for it here

// kRows rows times two vectors of columns over `steps` inputs, from the sums that are there.
template <int kRows>
inline void add_products(const float* weights, const float* x, int64_t steps, F32 (&sums)[kRows][2]) {
  for (int64_t step = 0; step < steps; ++step, weights += kPanelColumns, ++x) {
    const F32 weights0 = load(weights), weights1 = load(weights + kLanes);
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) {
      const F32 row = broadcast(x[r * kGroupInputs]);
      sums[r][0] = fma(weights0, row, sums[r][0]);
      sums[r][1] = fma(weights1, row, sums[r][1]);
    }
  }
}

// Float panels. Unpacked: [32 k][32 n] float32, which is how kF32 lies in memory already.
struct PanelF32 {
  static constexpr int64_t kTileRows = 4;
  static constexpr int64_t kUnpackedBytes = 0;

  template <int kRows>
  static void tile(const Groups& w, Rows x, float* acc) {
    const float* weights = reinterpret_cast<const float*>(w.data);
    for (int64_t c = 0; c < kPanelColumns; c += 2 * kLanes) {
      F32 sums[kRows][2];
      for (int r = 0; r < kRows; ++r)
        for (int v = 0; v < 2; ++v) sums[r][v] = load(acc + r * kPanelColumns + c + v * kLanes);
      for (int64_t at = 0, group = 0; at < w.k; at += kGroupInputs, ++group) {
        const float* values = reinterpret_cast<const float*>(x.values + group * x.values_step);
        add_products<kRows>(weights + at * kPanelColumns + c, values, w.k - at < kGroupInputs ? w.k - at : kGroupInputs,
                            sums);
      }
      for (int r = 0; r < kRows; ++r)
        for (int v = 0; v < 2; ++v) store(acc + r * kPanelColumns + c + v * kLanes, sums[r][v]);
    }
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

struct PanelBF16 : PanelF32 {
  static constexpr int64_t kUnpackedBytes = 4096;

  static void unpack(const PanelFormat&, const uint8_t* group, uint8_t* to, int64_t k) {
    const uint16_t* from = reinterpret_cast<const uint16_t*>(group);
    float* wide = reinterpret_cast<float*>(to);
    for (int64_t pair = 0; pair < (k + 1) / 2; ++pair, wide += 2 * kPanelColumns, from += 2 * kPanelColumns) {
      for (int64_t n = 0; n < kPanelColumns; ++n) {
        wide[n] = bits_to_f32(static_cast<uint32_t>(from[2 * n]) << 16);
        wide[kPanelColumns + n] = bits_to_f32(static_cast<uint32_t>(from[2 * n + 1]) << 16);
      }
    }
  }
};

// Integer panels. Unpacked: codes [32 k][32 n] float32, scales [1 or 2][32], minimums [32].
struct PanelIntegral {
  static constexpr int64_t kTileRows = 4;
  static constexpr int64_t kCodeBytes = 4096;
  static constexpr int64_t kUnpackedBytes = kCodeBytes + 256;

  // Group `part` of 16 or 32 inputs.
  template <int kRows>
  static void add_part(const PanelFormat& format, const uint8_t* unpacked, const Rows& x, int64_t part, float* acc) {
    const int64_t inputs = kGroupInputs / format.scales_per_group;
    const float* codes = reinterpret_cast<const float*>(unpacked) + part * inputs * kPanelColumns;
    const float* scales = reinterpret_cast<const float*>(unpacked + kCodeBytes) + part * kPanelColumns;
    for (int64_t c = 0; c < kPanelColumns; c += 2 * kLanes) {
      F32 dots[kRows][2];
      for (int r = 0; r < kRows; ++r) dots[r][0] = dots[r][1] = zero();
      add_products<kRows>(codes + c, reinterpret_cast<const float*>(x.values) + part * inputs, inputs, dots);
      for (int r = 0; r < kRows; ++r) {
        const F32 x_scale = broadcast(x.scales[2 * r]), x_sum = broadcast(x.scales[2 * r + 1]);
        for (int64_t v = 0; v < 2; ++v) {
          const int64_t n = c + v * kLanes;
          F32 sum = load(acc + r * kPanelColumns + n);
          if (format.minimum != Minimum::kNone) sum = fma(load(scales + kPanelColumns + n), x_sum, sum);
          store(acc + r * kPanelColumns + n, fma(mul(load(scales + n), x_scale), dots[r][v], sum));
        }
      }
    }
  }

  template <int kRows>
  static void tile(const Groups& w, Rows x, float* acc) {
    const uint8_t* unpacked = w.data;
    for (int64_t group = 0; group < num_groups(w.k); ++group) {
      for (int64_t part = 0; part < w.format.scales_per_group; ++part)
        add_part<kRows>(w.format, unpacked, x, part, acc);
      unpacked += kUnpackedBytes;
      x.values += x.values_step;
      x.scales += x.scales_step;
    }
  }
};

struct PanelQ4 : PanelIntegral {
  static void unpack(const PanelFormat& format, const uint8_t* group, uint8_t* to, int64_t) {
    float* codes = reinterpret_cast<float*>(to);
    for (int64_t pair = 0; pair < 4; ++pair) {
      for (int64_t n = 0; n < kPanelColumns; ++n) {
        for (int64_t k = 0; k < 4; ++k) {
          const uint8_t both = group[pair * 128 + n * 4 + k];
          codes[(pair * 8 + k) * kPanelColumns + n] = static_cast<float>(both & 15);
          codes[(pair * 8 + 4 + k) * kPanelColumns + n] = static_cast<float>(both >> 4);
        }
      }
    }
    widen_scales(format, group + 512, reinterpret_cast<float*>(to + kCodeBytes));
  }
};

struct PanelQ8 : PanelIntegral {
  static void unpack(const PanelFormat& format, const uint8_t* group, uint8_t* to, int64_t) {
    float* codes = reinterpret_cast<float*>(to);
    for (int64_t block = 0; block < 8; ++block)
      for (int64_t n = 0; n < kPanelColumns; ++n)
        for (int64_t k = 0; k < 4; ++k)
          codes[(block * 4 + k) * kPanelColumns + n] =
              static_cast<float>(static_cast<int>(group[block * 128 + n * 4 + k]) - 128);
    widen_scales(format, group + 1024, reinterpret_cast<float*>(to + kCodeBytes));
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
using FewQ8 = PanelQ8;
using ManyQ8 = PanelQ8;
using FewInt8 = PanelQ8;
using ManyInt8 = PanelQ8;
using FewQ4 = PanelQ4;
using ManyQ4 = PanelQ4;

}  // namespace

}  // namespace weft::kernels::WEFT_KERNELS
