// A group of an unpacked integer panel times up to six rows, two vectors of columns at once, on AVX2.
//
// One piece of assembly a group: six rows take 12 of the 16 registers for their sums and leave four, two for codes,
// one for a row, one for a product. Left to itself gcc 12 keeps the addresses of rows, then sums, on the stack, which
// costs more than a third of the speed (docs/log.md). For each row r and column c it equals
//
//   dot  = sum over steps of x[r][4 step .. 4 step + 4) * codes[step][c]       exact: in 16 bits, or in 32
//   acc[r][c] = fma(minimum[c], x_sum[r], acc[r][c])                            where there are minimums
//   acc[r][c] = fma(scale[c] * x_scale[r], float(dot), acc[r][c])
//
// with codes 128 bytes a step, scales [32] followed by minimums [32], x_scales [rows][2] of scale and sum, acc
// [rows][32]; pointers to codes, scales and acc at the first of the 16 columns.
namespace weft::kernels::WEFT_KERNELS {

namespace {

alignas(32) constexpr int16_t kOnes[16] = {1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1};

// M(r) for each row r; M(s) for each step s but the first.
#define WEFT_ROWS_1(M, ...) M(0, __VA_ARGS__)
#define WEFT_ROWS_2(M, ...) WEFT_ROWS_1(M, __VA_ARGS__) M(1, __VA_ARGS__)
#define WEFT_ROWS_3(M, ...) WEFT_ROWS_2(M, __VA_ARGS__) M(2, __VA_ARGS__)
#define WEFT_ROWS_4(M, ...) WEFT_ROWS_3(M, __VA_ARGS__) M(3, __VA_ARGS__)
#define WEFT_ROWS_5(M, ...) WEFT_ROWS_4(M, __VA_ARGS__) M(4, __VA_ARGS__)
#define WEFT_ROWS_6(M, ...) WEFT_ROWS_5(M, __VA_ARGS__) M(5, __VA_ARGS__)
#define WEFT_STEPS_8(M, ...) M(1, __VA_ARGS__) M(2, __VA_ARGS__) M(3, __VA_ARGS__) M(4, __VA_ARGS__) \
  M(5, __VA_ARGS__) M(6, __VA_ARGS__) M(7, __VA_ARGS__)
#define WEFT_STEPS_16(M, ...) WEFT_STEPS_8(M, __VA_ARGS__) M(8, __VA_ARGS__) M(9, __VA_ARGS__) M(10, __VA_ARGS__) \
  M(11, __VA_ARGS__) M(12, __VA_ARGS__) M(13, __VA_ARGS__) M(14, __VA_ARGS__) M(15, __VA_ARGS__)

// Registers: dots of row r in 2 r and 2 r + 1, then two of codes, one of a row, one of a product.
#define WEFT_SUM(r, c) WEFT_SUM_##r##c
#define WEFT_SUM_00 "%%ymm0"
#define WEFT_SUM_01 "%%ymm1"
#define WEFT_SUM_10 "%%ymm2"
#define WEFT_SUM_11 "%%ymm3"
#define WEFT_SUM_20 "%%ymm4"
#define WEFT_SUM_21 "%%ymm5"
#define WEFT_SUM_30 "%%ymm6"
#define WEFT_SUM_31 "%%ymm7"
#define WEFT_SUM_40 "%%ymm8"
#define WEFT_SUM_41 "%%ymm9"
#define WEFT_SUM_50 "%%ymm10"
#define WEFT_SUM_51 "%%ymm11"
#define WEFT_CODES0 "%%ymm12"
#define WEFT_CODES1 "%%ymm13"
#define WEFT_ROW "%%ymm14"
#define WEFT_PRODUCT "%%ymm15"

#define WEFT_LOAD_CODES(step) \
  "vmovdqu 128*" #step "(%[codes]), " WEFT_CODES0 "\n\t" \
  "vmovdqu 128*" #step "+32(%[codes]), " WEFT_CODES1 "\n\t"
#define WEFT_BROADCAST_ROW(r, step, row_bytes) "vpbroadcastd " #row_bytes "*" #r "+4*" #step "(%[x]), " WEFT_ROW "\n\t"
#define WEFT_BEGIN_DOT(r, row_bytes, multiply, add) \
  WEFT_BROADCAST_ROW(r, 0, row_bytes) \
  multiply " " WEFT_ROW ", " WEFT_CODES0 ", " WEFT_SUM(r, 0) "\n\t" \
  multiply " " WEFT_ROW ", " WEFT_CODES1 ", " WEFT_SUM(r, 1) "\n\t"
#define WEFT_ADD_DOT(r, step, row_bytes, multiply, add) \
  WEFT_BROADCAST_ROW(r, step, row_bytes) \
  multiply " " WEFT_ROW ", " WEFT_CODES0 ", " WEFT_PRODUCT "\n\t" \
  multiply " " WEFT_ROW ", " WEFT_CODES1 ", " WEFT_ROW "\n\t" \
  add " " WEFT_PRODUCT ", " WEFT_SUM(r, 0) ", " WEFT_SUM(r, 0) "\n\t" \
  add " " WEFT_ROW ", " WEFT_SUM(r, 1) ", " WEFT_SUM(r, 1) "\n\t"
#define WEFT_STEP(step, rows, ...) WEFT_LOAD_CODES(step) rows(WEFT_ADD_DOT, step, __VA_ARGS__)

#define WEFT_BYTES_TO_FLOAT(r, unused) \
  "vpmaddwd " WEFT_CODES0 ", " WEFT_SUM(r, 0) ", " WEFT_SUM(r, 0) "\n\t" \
  "vpmaddwd " WEFT_CODES0 ", " WEFT_SUM(r, 1) ", " WEFT_SUM(r, 1) "\n\t" \
  WEFT_PAIRS_TO_FLOAT(r, unused)
#define WEFT_PAIRS_TO_FLOAT(r, unused) \
  "vcvtdq2ps " WEFT_SUM(r, 0) ", " WEFT_SUM(r, 0) "\n\t" \
  "vcvtdq2ps " WEFT_SUM(r, 1) ", " WEFT_SUM(r, 1) "\n\t"

// From the dots of row r to its columns c of acc; scale and minimum are operands, in memory or in registers.
#define WEFT_FINISH_HALF(r, c, with_minimum, scale, minimum) \
  "vmovups 128*" #r "+32*" #c "(%[acc]), " WEFT_PRODUCT "\n\t" \
  with_minimum("vfmadd231ps " minimum ", " WEFT_ROW ", " WEFT_PRODUCT "\n\t") \
  "vmulps " scale ", " WEFT_CODES1 ", " WEFT_CODES0 "\n\t" \
  "vfmadd231ps " WEFT_SUM(r, c) ", " WEFT_CODES0 ", " WEFT_PRODUCT "\n\t" \
  "vmovups " WEFT_PRODUCT ", 128*" #r "+32*" #c "(%[acc])\n\t"
#define WEFT_FINISH_ROW(r, with_minimum, scale0, scale1, minimum0, minimum1) \
  "vbroadcastss 8*" #r "(%[x_scales]), " WEFT_CODES1 "\n\t" \
  with_minimum("vbroadcastss 8*" #r "+4(%[x_scales]), " WEFT_ROW "\n\t") \
  WEFT_FINISH_HALF(r, 0, with_minimum, scale0, minimum0) \
  WEFT_FINISH_HALF(r, 1, with_minimum, scale1, minimum1)

// The registers of a finished row's dots hold the scales, those of the next the minimums.
#define WEFT_KEEP_SCALES "vmovups (%[scales]), " WEFT_SUM_00 "\n\t" "vmovups 32(%[scales]), " WEFT_SUM_01 "\n\t"
#define WEFT_KEEP_MINIMUMS "vmovups 128(%[scales]), " WEFT_SUM_10 "\n\t" "vmovups 160(%[scales]), " WEFT_SUM_11 "\n\t"
#define WEFT_FINISH_NEXT(r, with_minimum) \
  WEFT_FINISH_ROW(r, with_minimum, WEFT_SUM_00, WEFT_SUM_01, WEFT_SUM_10, WEFT_SUM_11)
#define WEFT_FINISH_1(with_minimum) \
  WEFT_FINISH_ROW(0, with_minimum, "(%[scales])", "32(%[scales])", "128(%[scales])", "160(%[scales])")
#define WEFT_FINISH_2(with_minimum) \
  WEFT_FINISH_1(with_minimum) WEFT_KEEP_SCALES \
  WEFT_FINISH_ROW(1, with_minimum, WEFT_SUM_00, WEFT_SUM_01, "128(%[scales])", "160(%[scales])")
#define WEFT_FINISH_3(with_minimum) \
  WEFT_FINISH_2(with_minimum) with_minimum(WEFT_KEEP_MINIMUMS) WEFT_FINISH_NEXT(2, with_minimum)
#define WEFT_FINISH_4(with_minimum) WEFT_FINISH_3(with_minimum) WEFT_FINISH_NEXT(3, with_minimum)
#define WEFT_FINISH_5(with_minimum) WEFT_FINISH_4(with_minimum) WEFT_FINISH_NEXT(4, with_minimum)
#define WEFT_FINISH_6(with_minimum) WEFT_FINISH_5(with_minimum) WEFT_FINISH_NEXT(5, with_minimum)
#define WEFT_WITH(text) text
#define WEFT_WITHOUT(text)

#define WEFT_GROUP(num_rows, steps, row_bytes, multiply, add, to_float, with_minimum)                             \
  asm(WEFT_LOAD_CODES(0)                                                                                          \
      WEFT_ROWS_##num_rows(WEFT_BEGIN_DOT, row_bytes, multiply, add)                                              \
      steps(WEFT_STEP, WEFT_ROWS_##num_rows, row_bytes, multiply, add)                                            \
      "vmovdqu %[ones], " WEFT_CODES0 "\n\t"                                                                      \
      WEFT_ROWS_##num_rows(to_float, )                                                                            \
      WEFT_FINISH_##num_rows(with_minimum)                                                                        \
      : "+m"(*reinterpret_cast<float(*)[num_rows * 32]>(acc))                                                     \
      : [codes] "r"(codes), [x] "r"(x), [scales] "r"(scales), [x_scales] "r"(x_scales), [acc] "r"(acc),           \
        [ones] "m"(kOnes), "m"(*reinterpret_cast<const uint8_t(*)[2048]>(codes)),                                 \
        "m"(*reinterpret_cast<const uint8_t(*)[num_rows * row_bytes]>(x)),                                        \
        "m"(*reinterpret_cast<const float(*)[64]>(scales)),                                                       \
        "m"(*reinterpret_cast<const float(*)[num_rows * 2]>(x_scales))                                            \
      : "ymm0", "ymm1", "ymm2", "ymm3", "ymm4", "ymm5", "ymm6", "ymm7", "ymm8", "ymm9", "ymm10", "ymm11",         \
        "ymm12", "ymm13", "ymm14", "ymm15");
#define WEFT_GROUP_OF_ROWS(...)                                       \
  if constexpr (kRows == 1) WEFT_GROUP(1, __VA_ARGS__)                \
  if constexpr (kRows == 2) WEFT_GROUP(2, __VA_ARGS__)                \
  if constexpr (kRows == 3) WEFT_GROUP(3, __VA_ARGS__)                \
  if constexpr (kRows == 4) WEFT_GROUP(4, __VA_ARGS__)                \
  if constexpr (kRows == 5) WEFT_GROUP(5, __VA_ARGS__)                \
  if constexpr (kRows == 6) WEFT_GROUP(6, __VA_ARGS__)

// Eight steps of unsigned bytes, whose products are added in 16 bits.
template <int kRows, bool kMinimum>
inline void add_bytes_group(const uint8_t* codes, const float* scales, const uint8_t* x, const float* x_scales,
                            float* acc) {
  if constexpr (kMinimum) {
    WEFT_GROUP_OF_ROWS(WEFT_STEPS_8, 32, "vpmaddubsw", "vpaddw", WEFT_BYTES_TO_FLOAT, WEFT_WITH)
  } else {
    WEFT_GROUP_OF_ROWS(WEFT_STEPS_8, 32, "vpmaddubsw", "vpaddw", WEFT_BYTES_TO_FLOAT, WEFT_WITHOUT)
  }
}

// 16 steps, or 8 for half a group, of 16-bit pairs, whose products are added in 32 bits.
template <int kRows, int kSteps, bool kMinimum>
inline void add_pairs_group(const uint8_t* codes, const float* scales, const uint8_t* x, const float* x_scales,
                            float* acc) {
  if constexpr (kSteps == 8) {
    WEFT_GROUP_OF_ROWS(WEFT_STEPS_8, 64, "vpmaddwd", "vpaddd", WEFT_PAIRS_TO_FLOAT, WEFT_WITHOUT)
  } else if constexpr (kMinimum) {
    WEFT_GROUP_OF_ROWS(WEFT_STEPS_16, 64, "vpmaddwd", "vpaddd", WEFT_PAIRS_TO_FLOAT, WEFT_WITH)
  } else {
    WEFT_GROUP_OF_ROWS(WEFT_STEPS_16, 64, "vpmaddwd", "vpaddd", WEFT_PAIRS_TO_FLOAT, WEFT_WITHOUT)
  }
}

}  // namespace

}  // namespace weft::kernels::WEFT_KERNELS
