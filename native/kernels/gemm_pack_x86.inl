// Packing on x86, eight rows by eight inputs at a time; AVX2 instructions on AVX-512 too, as memory bounds it.
namespace weft::kernels::WEFT_KERNELS {

namespace {

inline __m256i mask_of(int64_t count) {
  return _mm256_cmpgt_epi32(_mm256_set1_epi32(static_cast<int>(count)), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}

// `count` floats, zeros after them; nothing beyond them is read.
inline __m256 load_up_to(const float* from, int64_t count) {
  if (count >= 8) return _mm256_loadu_ps(from);
  return count > 0 ? _mm256_maskload_ps(from, mask_of(count)) : _mm256_setzero_ps();
}

// To nearest even as float32, the lower 16 bits zero; NaN keeps its upper bits and becomes quiet.
inline __m256i rounded_bits(__m256 value) {
  const __m256i bits = _mm256_castps_si256(value);
  const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
  const __m256i rounded = _mm256_add_epi32(_mm256_add_epi32(bits, _mm256_set1_epi32(0x7fff)), odd);
  const __m256i quiet = _mm256_or_si256(bits, _mm256_set1_epi32(0x400000));
  const __m256i is_nan = _mm256_castps_si256(_mm256_cmp_ps(value, value, _CMP_UNORD_Q));
  return _mm256_and_si256(_mm256_blendv_epi8(rounded, quiet, is_nan), _mm256_set1_epi32(static_cast<int>(0xffff0000u)));
}

// What eight rows become: one word each from one input, or from a pair of inputs.
template <GemmForm kForm>
inline __m256i words_of(__m256 even, __m256 odd) {
  if constexpr (kForm == GemmForm::kF32) return _mm256_castps_si256(even);
  if constexpr (kForm == GemmForm::kRoundedF32) return rounded_bits(even);
  return _mm256_or_si256(_mm256_srli_epi32(rounded_bits(even), 16), rounded_bits(odd));
}

// The first kCount of eight words: whole vectors cannot be written where the next strip follows, and masked
// stores are slow on several processors.
template <int kCount>
inline void store_words(int32_t* to, __m256i words) {
  if constexpr (kCount == 8) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), words);
  } else {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(to), _mm256_castsi256_si128(words));
    if constexpr (kCount == 6) _mm_storel_epi64(reinterpret_cast<__m128i*>(to + 4), _mm256_extracti128_si256(words, 1));
  }
}

inline void transpose(__m256 (&r)[8]) {
  __m256 pairs[8], quads[8];
#pragma GCC unroll 4
  for (int i = 0; i < 8; i += 2) {
    pairs[i] = _mm256_unpacklo_ps(r[i], r[i + 1]);
    pairs[i + 1] = _mm256_unpackhi_ps(r[i], r[i + 1]);
  }
#pragma GCC unroll 2
  for (int i = 0; i < 8; i += 4) {
#pragma GCC unroll 2
    for (int j = 0; j < 2; ++j) {
      quads[i + 2 * j] = _mm256_shuffle_ps(pairs[i + j], pairs[i + j + 2], 0x44);
      quads[i + 2 * j + 1] = _mm256_shuffle_ps(pairs[i + j], pairs[i + j + 2], 0xee);
    }
  }
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) {
    r[i] = _mm256_permute2f128_ps(quads[i], quads[i + 4], 0x20);
    r[i + 4] = _mm256_permute2f128_ps(quads[i], quads[i + 4], 0x31);
  }
}

template <GemmForm kForm>
constexpr int64_t kInputsOfWord = kForm == GemmForm::kBF16Pairs ? 2 : 1;

// kCount rows of a strip, all there, at eight inputs. In registers: every loop must be unrolled.
template <GemmForm kForm, int64_t kWidth, int kCount>
inline void pack_whole(const GemmSource& source, const float* from, int32_t* to) {
  constexpr int64_t kStep = kInputsOfWord<kForm>;
  __m256 at[8];
  if (source.k_stride == 1) {
#pragma GCC unroll 8
    for (int row = 0; row < 8; ++row)
      at[row] = row < kCount ? _mm256_loadu_ps(from + row * source.row_stride) : _mm256_setzero_ps();
    transpose(at);
  } else {
#pragma GCC unroll 8
    for (int i = 0; i < 8; ++i) at[i] = _mm256_loadu_ps(from + i * source.k_stride);
  }
#pragma GCC unroll 8
  for (int64_t i = 0; i < 8; i += kStep)
    store_words<kCount>(to + i / kStep * kWidth, words_of<kForm>(at[i], at[i + kStep - 1]));
}

// The same at the edges: `rows` and `inputs` of them exist, the others become zeros.
template <GemmForm kForm, int64_t kWidth, int kCount>
__attribute__((noinline)) void pack_edge(const GemmSource& source, const float* from, int64_t rows, int64_t inputs,
                                         int32_t* to) {
  constexpr int64_t kStep = kInputsOfWord<kForm>;
  __m256 at[8];
  if (source.k_stride == 1) {
    for (int row = 0; row < 8; ++row)
      at[row] = row < kCount && row < rows ? load_up_to(from + row * source.row_stride, inputs) : _mm256_setzero_ps();
    transpose(at);
  } else {
    for (int i = 0; i < 8; ++i)
      at[i] = i < inputs ? load_up_to(from + i * source.k_stride, rows) : _mm256_setzero_ps();
  }
  for (int64_t i = 0; i < inputs; i += kStep)
    store_words<kCount>(to + i / kStep * kWidth, words_of<kForm>(at[i], at[i + kStep - 1]));
}

template <GemmForm kForm, int64_t kWidth, int kCount>
inline void pack_piece(const GemmSource& source, const float* from, int64_t rows, int64_t inputs, int32_t* to) {
  // What follows a narrower piece of a matrix stored by input is read, too, so it must exist.
  if (inputs == 8 && rows >= (source.k_stride == 1 ? kCount : 8)) {
    pack_whole<kForm, kWidth, kCount>(source, from, to);
  } else {
    pack_edge<kForm, kWidth, kCount>(source, from, rows, inputs, to);
  }
}

// Stored by row: strip after strip, while the rows of the next one are fetched. Stored by input: eight inputs of all
// strips, then the next, so that memory is read straight through.
template <GemmForm kForm, int64_t kWidth>
void pack_strips(const GemmSource& source, int64_t rows, int64_t k, float* strips, int64_t strip_words) {
  int32_t* to = reinterpret_cast<int32_t*>(strips);
  constexpr int64_t kStep = kInputsOfWord<kForm>;
  constexpr int kRest = kWidth % 8;
  const int64_t num_strips = (rows + kWidth - 1) / kWidth;
  const auto pack_one = [&](int64_t strip, int64_t i) __attribute__((always_inline)) {
    const int64_t first = strip * kWidth, inputs = k - i < 8 ? k - i : 8;
    const float* from = source.data + first * source.row_stride + i * source.k_stride;
    int32_t* words = to + strip * strip_words + i / kStep * kWidth;
#pragma GCC unroll 4
    for (int64_t row = 0; row + 8 <= kWidth; row += 8)
      pack_piece<kForm, kWidth, 8>(source, from + row * source.row_stride, rows - first - row, inputs, words + row);
    if constexpr (kRest != 0)
      pack_piece<kForm, kWidth, kRest>(source, from + (kWidth - kRest) * source.row_stride,
                                       rows - first - (kWidth - kRest), inputs, words + kWidth - kRest);
  };
  if (source.k_stride == 1) {
    for (int64_t strip = 0; strip < num_strips; ++strip) {
      for (int64_t i = 0; i < k; i += 8) {
        if (i % 16 == 0 && strip + 1 < num_strips) {
          const float* next = source.data + (strip + 1) * kWidth * source.row_stride + i;
          for (int64_t row = 0; row < kWidth; ++row) __builtin_prefetch(next + row * source.row_stride);
        }
        pack_one(strip, i);
      }
    }
  } else {
    for (int64_t i = 0; i < k; i += 8)
      for (int64_t strip = 0; strip < num_strips; ++strip) pack_one(strip, i);
  }
}

}  // namespace

}  // namespace weft::kernels::WEFT_KERNELS
