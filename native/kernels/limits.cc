#include "kernels/limits.h"

#include "kernels/kernel_set.h"
#include "kernels/simd.h"

namespace weft::kernels::WEFT_KERNELS {

namespace {

// Enough independent chains to hide the latency of an instruction on both of its pipes; the integer
// chains of AVX2 end in a one-cycle addition, and more of them would be spilled.
constexpr int kChains = 12;
constexpr int kShortChains = 6;

// The compiler must believe that the value changes, and must not merge the chains.
#define WEFT_OPAQUE(value) asm volatile("" : WEFT_REGISTER(value))
#if defined(WEFT_KERNELS_AVX512) && defined(WEFT_EMULATE_AVX512)
#define WEFT_REGISTER(value) "+m"(value)  // no register is as wide
#elif defined(__x86_64__)
#define WEFT_REGISTER(value) "+x"(value)
#else
#define WEFT_REGISTER(value) "+w"(value)
#endif

int64_t multiply_f32(int64_t iterations) {
  F32 sums[kChains];
  for (F32& sum : sums) sum = zero();
  F32 factor = broadcast(0.5f);
  for (int64_t i = 0; i < iterations; ++i) {
    WEFT_OPAQUE(factor);
#pragma GCC unroll 12
    for (int chain = 0; chain < kChains; ++chain) sums[chain] = fma(factor, factor, sums[chain]);
  }
  for (F32& sum : sums) WEFT_OPAQUE(sum);
  return int64_t{2} * kChains * kLanes;
}

#if defined(WEFT_KERNELS_AVX512)

int64_t multiply_bf16(int64_t iterations) {
  F32 sums[kChains];
  for (F32& sum : sums) sum = zero();
  I32 factor = _mm512_set1_epi32(0x3f003f00);
  for (int64_t i = 0; i < iterations; ++i) {
    WEFT_OPAQUE(factor);
#pragma GCC unroll 12
    for (int chain = 0; chain < kChains; ++chain)
      sums[chain] = _mm512_dpbf16_ps(sums[chain], (__m512bh)factor, (__m512bh)factor);
  }
  for (F32& sum : sums) WEFT_OPAQUE(sum);
  return int64_t{2} * 2 * kChains * kLanes;
}

int64_t multiply_q8(int64_t iterations) {
  I32 sums[kChains];
  for (I32& sum : sums) sum = _mm512_setzero_si512();
  I32 factor = _mm512_set1_epi8(1);
  for (int64_t i = 0; i < iterations; ++i) {
    WEFT_OPAQUE(factor);
#pragma GCC unroll 12
    for (int chain = 0; chain < kChains; ++chain) sums[chain] = _mm512_dpbusd_epi32(sums[chain], factor, factor);
  }
  for (I32& sum : sums) WEFT_OPAQUE(sum);
  return int64_t{2} * 4 * kChains * kLanes;
}

int64_t multiply_q4(int64_t iterations) { return multiply_q8(iterations); }

#elif defined(WEFT_KERNELS_AVX2)

int64_t multiply_bf16(int64_t iterations) { return multiply_f32(iterations); }  // widened to float32

// Without a dot product of bytes, 8-bit weights are multiplied as 16-bit pairs.
int64_t multiply_q8(int64_t iterations) {
  I32 sums[kShortChains];
  for (I32& sum : sums) sum = _mm256_setzero_si256();
  I32 factor = _mm256_set1_epi16(1);
  for (int64_t i = 0; i < iterations; ++i) {
#pragma GCC unroll 6
    for (int chain = 0; chain < kShortChains; ++chain) {
      WEFT_OPAQUE(factor);
      sums[chain] = _mm256_add_epi32(sums[chain], _mm256_madd_epi16(factor, factor));
    }
  }
  for (I32& sum : sums) WEFT_OPAQUE(sum);
  return int64_t{2} * 16 * kShortChains;
}

// 4-bit weights leave room to add several byte products in 16 bits.
int64_t multiply_q4(int64_t iterations) {
  I32 sums[kShortChains];
  for (I32& sum : sums) sum = _mm256_setzero_si256();
  I32 factor = _mm256_set1_epi8(1);
  for (int64_t i = 0; i < iterations; ++i) {
#pragma GCC unroll 6
    for (int chain = 0; chain < kShortChains; ++chain) {
      WEFT_OPAQUE(factor);
      sums[chain] = _mm256_add_epi16(sums[chain], _mm256_maddubs_epi16(factor, factor));
    }
  }
  for (I32& sum : sums) WEFT_OPAQUE(sum);
  return int64_t{2} * 32 * kShortChains;
}

#else  // integer products are done on float32 lanes or by the compiler; float32 is the yardstick

int64_t multiply_bf16(int64_t iterations) { return multiply_f32(iterations); }
int64_t multiply_q8(int64_t iterations) { return multiply_f32(iterations); }
int64_t multiply_q4(int64_t iterations) { return multiply_f32(iterations); }

#endif

// Loads of 32 bytes at any address; narrower copies through the stack would stall on store forwarding.
typedef uint64_t Bits __attribute__((vector_size(32)));
typedef uint64_t UnalignedBits __attribute__((vector_size(32), aligned(1), may_alias));

template <int kStreams>
uint64_t read_streams(const char* from, size_t part_bytes) {
  constexpr size_t kPrefetchBytes = 1024;
  Bits bits = {0, 0, 0, 0};
  for (size_t offset = 0; offset + 64 <= part_bytes; offset += 64) {
#pragma GCC unroll 4
    for (int stream = 0; stream < kStreams; ++stream) {
      const char* line = from + stream * part_bytes + offset;
      __builtin_prefetch(line + kPrefetchBytes);
      bits ^= *reinterpret_cast<const UnalignedBits*>(line) ^ *reinterpret_cast<const UnalignedBits*>(line + 32);
    }
  }
  return bits[0] ^ bits[1] ^ bits[2] ^ bits[3];
}

uint64_t read(const void* from, size_t bytes, int streams) {
  const char* start = static_cast<const char*>(from);
  if (streams == 4) return read_streams<4>(start, bytes / 4);
  if (streams == 2) return read_streams<2>(start, bytes / 2);
  return read_streams<1>(start, bytes);
}

}  // namespace

const LimitKernels kLimits = {multiply_f32, multiply_bf16, multiply_q8, multiply_q4, read};

}  // namespace weft::kernels::WEFT_KERNELS
