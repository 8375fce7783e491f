// Packing in vectors of 16 words: elements, or pairs of bfloat16. Edges are masks, which cost loads nothing.
namespace weft::kernels::WEFT_KERNELS {

namespace {

template <GemmForm kForm>
constexpr int64_t kInputsOfWord = kForm == GemmForm::kBF16Pairs ? 2 : 1;

// Two vectors to nearest even, those of `low` in the lower half. Numbers below the normal ones become zeros, as which
// the dot instruction takes them.
inline I32 bf16_halves(F32 low, F32 high) { return reinterpret_cast<I32>(_mm512_cvtne2ps_pbh(high, low)); }

// The first `count` of 16 or 32 elements, zeros after them.
inline __m256i load_halves(const uint16_t* from, int64_t count) {
  return _mm256_maskz_loadu_epi16(static_cast<__mmask16>(count >= 16 ? 0xffffu : (1u << (count > 0 ? count : 0)) - 1), from);
}

// 16 words of one row, whose inputs lie side by side; zeros after the first `inputs`.
template <GemmForm>
inline I32 words_of_row(const uint16_t* from, int64_t inputs) {
  const uint32_t bits = inputs >= 32 ? 0xffffffffu : (1u << (inputs > 0 ? inputs : 0)) - 1;
  return _mm512_maskz_loadu_epi16(static_cast<__mmask32>(bits), from);
}

template <GemmForm kForm>
inline I32 words_of_row(const float* from, int64_t inputs) {
  const F32 first = load_partial(from, inputs);
  if constexpr (kForm == GemmForm::kF32) return _mm512_castps_si512(first);
  return bf16_halves(first, load_partial(from + kLanes, inputs - kLanes));
}

// One word of each of 16 rows that lie side by side; zeros after the first `rows`, and for an input beyond `inputs`.
template <GemmForm>
inline I32 words_of_input(const GemmSource& source, const uint16_t* from, int64_t rows, int64_t inputs) {
  const I32 even = _mm512_cvtepu16_epi32(load_halves(from, rows));
  if (inputs <= 1) return even;
  return _mm512_or_si512(even, _mm512_slli_epi32(_mm512_cvtepu16_epi32(load_halves(from + source.k_stride, rows)), 16));
}

template <GemmForm kForm>
inline I32 words_of_input(const GemmSource& source, const float* from, int64_t rows, int64_t inputs) {
  const F32 even = load_partial(from, rows);
  if constexpr (kForm == GemmForm::kF32) return _mm512_castps_si512(even);
  const F32 odd = inputs > 1 ? load_partial(from + source.k_stride, rows) : zero();
  const I32 alternating = _mm512_set_epi16(31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24, 8,  //
                                           23, 7, 22, 6, 21, 5, 20, 4, 19, 3, 18, 2, 17, 1, 16, 0);
  return _mm512_permutexvar_epi16(alternating, bf16_halves(even, odd));
}

// The first kCount of 16 words: what follows is the next strip's.
template <int kCount>
inline void store_words(int32_t* to, I32 words) {
  if constexpr (kCount == 16) return _mm512_storeu_si512(to, words);
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), _mm512_castsi512_si256(words));
  _mm_storeu_si128(reinterpret_cast<__m128i*>(to + 8), _mm512_extracti32x4_epi32(words, 2));
}

inline void transpose(I32 (&r)[16]) {
  I32 pairs[16], quads[16], eights[16];
#pragma GCC unroll 8
  for (int i = 0; i < 16; i += 2) {
    pairs[i] = _mm512_unpacklo_epi32(r[i], r[i + 1]);
    pairs[i + 1] = _mm512_unpackhi_epi32(r[i], r[i + 1]);
  }
#pragma GCC unroll 4
  for (int i = 0; i < 16; i += 4) {
#pragma GCC unroll 2
    for (int j = 0; j < 2; ++j) {
      quads[i + 2 * j] = _mm512_unpacklo_epi64(pairs[i + j], pairs[i + j + 2]);
      quads[i + 2 * j + 1] = _mm512_unpackhi_epi64(pairs[i + j], pairs[i + j + 2]);
    }
  }
#pragma GCC unroll 4
  for (int j = 0; j < 4; ++j) {
#pragma GCC unroll 2
    for (int half = 0; half < 2; ++half) {
      eights[8 * half + j] = _mm512_shuffle_i32x4(quads[8 * half + j], quads[8 * half + j + 4], 0x88);
      eights[8 * half + j + 4] = _mm512_shuffle_i32x4(quads[8 * half + j], quads[8 * half + j + 4], 0xdd);
    }
  }
#pragma GCC unroll 8
  for (int j = 0; j < 8; ++j) {
    r[j] = _mm512_shuffle_i32x4(eights[j], eights[j + 8], 0x88);
    r[j + 8] = _mm512_shuffle_i32x4(eights[j], eights[j + 8], 0xdd);
  }
}

// kCount rows of a strip, of which `rows` exist, at 16 words.
template <GemmForm kForm, int64_t kWidth, int kCount, class Element>
inline void pack_rows(const GemmSource& source, const Element* from, int64_t rows, int64_t inputs, int32_t* to) {
  const int64_t words = (inputs + kInputsOfWord<kForm> - 1) / kInputsOfWord<kForm>;
  I32 at[16];
#pragma GCC unroll 16
  for (int row = 0; row < 16; ++row)
    at[row] = row < kCount && row < rows ? words_of_row<kForm>(from + row * source.row_stride, inputs) : _mm512_setzero_si512();
  transpose(at);
#pragma GCC unroll 16
  for (int word = 0; word < 16; ++word)
    if (word < words) store_words<kCount>(to + word * kWidth, at[word]);
}

// The same rows at up to eight inputs, stored by input. Those of the next eight are fetched, if `more` of them exist.
template <GemmForm kForm, int64_t kWidth, int kCount, class Element>
inline void pack_inputs(const GemmSource& source, const Element* from, int64_t rows, int64_t inputs, int64_t more, int32_t* to) {
  const int64_t count = rows < kCount ? rows : kCount;
  for (int64_t i = inputs; i < inputs + more; ++i) __builtin_prefetch(from + i * source.k_stride);
  for (int64_t i = 0; i < inputs; i += kInputsOfWord<kForm>, to += kWidth)
    store_words<kCount>(to, words_of_input<kForm>(source, from + i * source.k_stride, count, inputs - i));
}

// Stored by row: strip after strip, while the rows of the next one are fetched. Stored by input: eight inputs of all
// strips, then the next, so that memory is read straight through.
template <GemmForm kForm, int64_t kWidth, class Element>
void pack_elements(const GemmSource& source, const Element* data, int64_t rows, int64_t k, float* strips,
                   int64_t strip_words) {
  constexpr int kCount = kWidth < 16 ? static_cast<int>(kWidth) : 16;
  constexpr int64_t kStep = kInputsOfWord<kForm>;
  int32_t* to = reinterpret_cast<int32_t*>(strips);
  const bool by_row = source.k_stride == 1;
  const int64_t inputs = by_row ? 16 * kStep : 8, num_strips = (rows + kWidth - 1) / kWidth;
  const auto pack_one = [&](int64_t strip, int64_t i) __attribute__((always_inline)) {
    for (int64_t part = 0; part < kWidth; part += kCount) {
      const int64_t row = strip * kWidth + part, some = k - i < inputs ? k - i : inputs;
      const int64_t left = k - i - some, more = left < inputs ? left : inputs;
      const Element* from = data + row * source.row_stride + i * source.k_stride;
      int32_t* words = to + strip * strip_words + i / kStep * kWidth + part;
      by_row ? pack_rows<kForm, kWidth, kCount>(source, from, rows - row, some, words)
             : pack_inputs<kForm, kWidth, kCount>(source, from, rows - row, some, more, words);
    }
  };
  if (by_row) {
    for (int64_t strip = 0; strip < num_strips; ++strip) {
      for (int64_t i = 0; i < k; i += inputs) {
        const Element* next = data + (strip + 1) * kWidth * source.row_stride + i;
        for (int64_t row = 0; strip + 1 < num_strips && row < kWidth; ++row)
          for (int64_t line = 0; line < inputs; line += 16) __builtin_prefetch(next + row * source.row_stride + line);
        pack_one(strip, i);
      }
    }
  } else {
    for (int64_t i = 0; i < k; i += inputs)
      for (int64_t strip = 0; strip < num_strips; ++strip) pack_one(strip, i);
  }
}

template <GemmForm kForm, int64_t kWidth>
void pack_strips(const GemmSource& source, int64_t rows, int64_t k, float* strips, int64_t strip_words) {
  pack_elements<kForm, kWidth>(source, source.data, rows, k, strips, strip_words);
}

// Of rows that are bfloat16 already.
template <int64_t kWidth>
void pack_pairs(const GemmSource& source, int64_t rows, int64_t k, float* strips, int64_t strip_words) {
  pack_elements<GemmForm::kBF16Pairs, kWidth>(source, source.bf16, rows, k, strips, strip_words);
}

// Eight rows of eight quadwords.
inline void transpose_quads(I32 (&r)[8]) {
  I32 pairs[8], fours[8];
#pragma GCC unroll 4
  for (int i = 0; i < 8; i += 2) {
    pairs[i] = _mm512_unpacklo_epi64(r[i], r[i + 1]);
    pairs[i + 1] = _mm512_unpackhi_epi64(r[i], r[i + 1]);
  }
#pragma GCC unroll 2
  for (int i = 0; i < 8; i += 4) {
#pragma GCC unroll 2
    for (int j = 0; j < 2; ++j) {
      fours[i + j] = _mm512_shuffle_i64x2(pairs[i + j], pairs[i + j + 2], 0x88);
      fours[i + j + 2] = _mm512_shuffle_i64x2(pairs[i + j], pairs[i + j + 2], 0xdd);
    }
  }
#pragma GCC unroll 4
  for (int j = 0; j < 4; ++j) {
    r[j] = _mm512_shuffle_i64x2(fours[j], fours[j + 4], 0x88);
    r[j + 4] = _mm512_shuffle_i64x2(fours[j], fours[j + 4], 0xdd);
  }
}

// Of two neighbouring outputs at a pair of inputs the words become those of two inputs at a pair of outputs: a
// quadword, of which 16 rows of 16 are then transposed.
void transpose_pairs(const uint8_t* group, uint8_t* to) {
  const I32 order = _mm512_broadcast_i32x4(_mm_setr_epi8(0, 1, 4, 5, 2, 3, 6, 7, 8, 9, 12, 13, 10, 11, 14, 15));
  for (int row = 0; row < 16; row += 8) {
    for (int half = 0; half < 2; ++half) {
      I32 quads[8];
#pragma GCC unroll 8
      for (int i = 0; i < 8; ++i)
        quads[i] = _mm512_shuffle_epi8(_mm512_loadu_si512(group + (row + i) * 128 + half * 64), order);
      transpose_quads(quads);
#pragma GCC unroll 8
      for (int i = 0; i < 8; ++i) _mm512_storeu_si512(to + (half * 8 + i) * 128 + row * 8, quads[i]);
    }
  }
}

}  // namespace

}  // namespace weft::kernels::WEFT_KERNELS
