#include "kernels/gemm.h"

#include <string.h>

#include "kernels/kernel_set.h"
#include "kernels/simd.h"

#include "kernels/matmul_layout.inl"
#if defined(WEFT_KERNELS_AVX512)
#include "kernels/gemm_avx512.inl"
#if defined(WEFT_EMULATE_AVX512)
#include "kernels/gemm_pack_x86.inl"
#else
#include "kernels/gemm_pack_avx512.inl"
#endif
#elif defined(WEFT_KERNELS_AVX2)
#include "kernels/gemm_avx2.inl"
#include "kernels/gemm_pack_x86.inl"
#else
#include "kernels/gemm_portable.inl"
#endif
#include "kernels/gemm_unpack.inl"

namespace weft::kernels::WEFT_KERNELS {

namespace {

constexpr int64_t kTileColumns = kTileVectors * kLanes;
constexpr int64_t kTileSums = kTileRows * kTileColumns;

// The sums of a tile, or of its left half, where no more columns exist.
template <int kRows, int kVectors>
using Sums = F32[kRows][kVectors];

// The inputs after the last block's, of a strip of B and the strip of A beside it.
struct MoreStrips {
  const uint8_t* a;
  const uint8_t* b;
  int64_t k;
};

// Where a tile of C goes: its first element in each array, and how many columns exist; and its more inputs, or null.
struct Place {
  const MoreStrips* more;
  float* sums;
  const float* bias;
  const float* addend;
  float* out;
  uint16_t* out_bf16;  // where `out` is null
  int64_t columns;
};

// A tile whose columns all exist. All that is added is read before anything is written, so that no load waits for a
// store of another row.
template <int kRows, int kVectors>
inline void write_whole(const GemmTile& tile, const Place& place, Sums<kRows, kVectors>& sums) {
#pragma GCC unroll 2
  for (int vector = 0; vector < kVectors; ++vector) {
    const int64_t column = vector * kLanes;
    const F32 bias = place.bias ? load(place.bias + column) : zero();
#pragma GCC unroll 12
    for (int row = 0; row < kRows; ++row) {
      if (place.bias) sums[row][vector] = add(sums[row][vector], bias);
      if (place.addend)
        sums[row][vector] = add(sums[row][vector], load(place.addend + row * tile.addend_stride + column));
    }
  }
#pragma GCC unroll 12
  for (int row = 0; row < kRows; ++row) {
#pragma GCC unroll 2
    for (int vector = 0; vector < kVectors; ++vector) {
      const int64_t at = row * tile.out_stride + vector * kLanes;
      if (tile.streams) {
        store_streaming(place.out + at, sums[row][vector]);
      } else if (place.out) {
        store(place.out + at, sums[row][vector]);
      } else {
        store_bf16(place.out_bf16 + at, sums[row][vector]);
      }
    }
  }
}

template <int kRows, int kVectors>
inline void write_part(const GemmTile& tile, const Place& place, const Sums<kRows, kVectors>& sums) {
#pragma GCC unroll 12
  for (int row = 0; row < kRows; ++row) {
#pragma GCC unroll 2
    for (int vector = 0; vector < kVectors; ++vector) {
      const int64_t column = vector * kLanes, count = place.columns - column;
      if (count <= 0) break;
      F32 value = sums[row][vector];
      if (place.bias) value = add(value, load_partial(place.bias + column, count));
      if (place.addend) value = add(value, load_partial(place.addend + row * tile.addend_stride + column, count));
      place.out ? store_partial(place.out + row * tile.out_stride + column, value, count)
                : store_bf16_partial(place.out_bf16 + row * tile.out_stride + column, value, count);
    }
  }
}

template <GemmForm kForm, int kRows, int kVectors>
void multiply_strips(const GemmTile& tile, const uint8_t* a, const uint8_t* b, const Place& place) {
  Sums<kRows, kVectors> sums;
#pragma GCC unroll 12
  for (int row = 0; row < kRows; ++row)
#pragma GCC unroll 2
    for (int vector = 0; vector < kVectors; ++vector)
      sums[row][vector] = tile.is_first ? zero() : load(place.sums + row * kTileColumns + vector * kLanes);
  add_products<kForm, kRows, kVectors>(a, b, tile.k, sums);
  if (tile.is_last) {
    if (place.more) add_products<kForm, kRows, kVectors>(place.more->a, place.more->b, place.more->k, sums);
    if (place.columns >= kVectors * kLanes) return write_whole<kRows, kVectors>(tile, place, sums);
    return write_part<kRows, kVectors>(tile, place, sums);
  }
#pragma GCC unroll 12
  for (int row = 0; row < kRows; ++row)
#pragma GCC unroll 2
    for (int vector = 0; vector < kVectors; ++vector)
      store(place.sums + row * kTileColumns + vector * kLanes, sums[row][vector]);
}

template <GemmForm kForm, int kVectors>
void multiply_rows(const GemmTile& tile, int64_t rows, const uint8_t* a, const uint8_t* b, const Place& place) {
  switch (rows) {
#define WEFT_TILE(count)                                                                                      \
  case count:                                                                                                 \
    if constexpr (count <= kTileRows) multiply_strips<kForm, count, kVectors>(tile, a, b, place);                       \
    return;
    WEFT_TILE(1) WEFT_TILE(2) WEFT_TILE(3) WEFT_TILE(4) WEFT_TILE(5) WEFT_TILE(6)
    WEFT_TILE(7) WEFT_TILE(8) WEFT_TILE(9) WEFT_TILE(10) WEFT_TILE(11) WEFT_TILE(12)
#undef WEFT_TILE
  }
}

// Part `index` of `count` of the bytes [from, from + bytes), towards the second cache.
inline void prefetch_part(const uint8_t* from, int64_t bytes, int64_t index, int64_t count) {
  const int64_t lines = (bytes + 63) / 64;
  for (int64_t line = index * lines / count; line < (index + 1) * lines / count; ++line)
    __builtin_prefetch(from + line * 64, 0, 2);
}

// Asks for a tile's `ahead`, an equal share with each pair of strips.
class AheadLines {
 public:
  AheadLines(const GemmAhead& ahead, int64_t pairs) : ahead_(ahead) {
    const int64_t lines = ahead.runs * ((ahead.run_bytes + 63) / 64);
    if (pairs > 0) lines_ = (lines + pairs - 1) / pairs;
  }

  void fetch_share() {
    for (int64_t line = 0; line < lines_ && run_ < ahead_.runs; ++line) {
      __builtin_prefetch(ahead_.data + run_ * ahead_.stride_bytes + at_, 0, 2);
      at_ += 64;
      if (at_ < ahead_.run_bytes) continue;
      at_ = 0;
      ++run_;
    }
  }

 private:
  const GemmAhead& ahead_;
  int64_t lines_ = 0;  // of a share
  int64_t run_ = 0, at_ = 0;
};

// What a strip of B has of more inputs, beside strip `first` of A.
template <GemmForm kForm>
MoreStrips more_of(const GemmTile& tile, int64_t first, int64_t column) {
  const int64_t strip = column / kTileColumns;
  const GemmRange& range = tile.more.ranges[strip];
  return {tile.more.a + first * tile.more.a_strip_bytes + gemm_strip_bytes(kForm, kTileRows, range.first),
          tile.more.b + strip * tile.more.b_strip_bytes + gemm_strip_bytes(kForm, kTileColumns, range.first), range.count};
}

// Strips of A that stay in the second cache, times each strip of B, which stays in the first. While they go by the
// next strip of B is fetched.
template <GemmForm kForm>
void multiply_tile(const GemmTile& tile) {
  const bool has_more = tile.is_last && tile.more.ranges;
  const int64_t b_bytes = gemm_strip_bytes(kForm, kTileColumns, tile.k);
  const int64_t a_strips = (tile.rows + kTileRows - 1) / kTileRows;
  const int64_t most = kRowsInCache / kTileRows, parts = (a_strips + most - 1) / most;
  AheadLines ahead(tile.ahead, a_strips * ((tile.columns + kTileColumns - 1) / kTileColumns));
  for (int64_t part = 0; part < parts; ++part) {
    const int64_t first = part * a_strips / parts, last = (part + 1) * a_strips / parts;
    for (int64_t column = 0; column < tile.columns; column += kTileColumns) {
      const uint8_t* b = tile.b + column / kTileColumns * tile.b_strip_bytes;
      MoreStrips more = has_more ? more_of<kForm>(tile, first, column) : MoreStrips{};
      for (int64_t strip = first; strip < last; ++strip) {
        const int64_t row = strip * kTileRows, rows = tile.rows - row;
        if (column + kTileColumns < tile.columns) prefetch_part(b + tile.b_strip_bytes, b_bytes, strip - first, last - first);
        ahead.fetch_share();
        Place place;
        place.more = has_more ? &more : nullptr;
        place.sums = tile.sums + (column / kTileColumns * a_strips + strip) * kTileSums;
        place.bias = tile.bias ? tile.bias + column : nullptr;
        place.addend = tile.addend ? tile.addend + row * tile.addend_stride + column : nullptr;
        place.out = tile.out ? tile.out + row * tile.out_stride + column : nullptr;
        place.out_bf16 = tile.out ? nullptr : tile.out_bf16 + row * tile.out_stride + column;
        place.columns = tile.columns - column;
        const auto multiply_columns = place.columns > kLanes ? multiply_rows<kForm, kTileVectors> : multiply_rows<kForm, 1>;
        multiply_columns(tile, rows < kTileRows ? rows : kTileRows, tile.a + strip * tile.a_strip_bytes, b, place);
        if (has_more) more.a += tile.more.a_strip_bytes;
      }
    }
  }
}

void multiply_form(const GemmTile& tile) {
  if constexpr (kBF16Form == GemmForm::kBF16Pairs)
    if (tile.form == GemmForm::kBF16Pairs) return multiply_tile<GemmForm::kBF16Pairs>(tile);
  multiply_tile<GemmForm::kF32>(tile);
}

void multiply(const GemmTile* tile) {
  multiply_form(*tile);
  if (tile->streams) finish_streaming();
}

// Rows that are bfloat16 already: a strip and 32 inputs at a time, widened.
template <GemmForm kForm, int64_t kWidth>
void pack_widened(const GemmSource& source, int64_t rows, int64_t k, float* to, int64_t strip_words) {
  constexpr int64_t kInputs = 32;
  float values[kWidth * kInputs];
  for (int64_t first = 0; first < rows; first += kWidth, to += strip_words) {
    const int64_t count = rows - first < kWidth ? rows - first : kWidth;
    for (int64_t i = 0; i < k; i += kInputs) {
      const int64_t inputs = k - i < kInputs ? k - i : kInputs;
      const GemmSource part = source.from(first, i);
      for (int64_t row = 0; row < count; ++row) {
        for (int64_t j = 0; j < inputs; ++j) {
          const uint32_t bits = static_cast<uint32_t>(part.bf16[row * source.row_stride + j * source.k_stride]) << 16;
          memcpy(&values[row * kInputs + j], &bits, sizeof(bits));
        }
      }
      const GemmSource widened = {values, kInputs, 1};
      pack_strips<kForm, kWidth>(widened, count, inputs, to + gemm_strip_bytes(kForm, kWidth, i) / 4, strip_words);
    }
  }
}

template <GemmForm kForm, int64_t kWidth>
void pack_source(const GemmSource& source, int64_t rows, int64_t k, float* to, int64_t strip_words) {
  if (source.data) return pack_strips<kForm, kWidth>(source, rows, k, to, strip_words);
#if defined(WEFT_KERNELS_AVX512) && !defined(WEFT_EMULATE_AVX512)
  if constexpr (kForm == GemmForm::kBF16Pairs) return pack_pairs<kWidth>(source, rows, k, to, strip_words);
#endif
  pack_widened<kForm, kWidth>(source, rows, k, to, strip_words);
}

template <int64_t kWidth>
void pack_width(GemmForm form, const GemmSource& source, int64_t rows, int64_t k, float* to, int64_t strip_words) {
  if (form == GemmForm::kF32) return pack_source<GemmForm::kF32, kWidth>(source, rows, k, to, strip_words);
  pack_source<kBF16Form, kWidth>(source, rows, k, to, strip_words);
}

void pack(GemmForm form, const GemmSource* source, int64_t width, int64_t rows, int64_t k, void* strips,
          int64_t strip_bytes) {
  float* to = static_cast<float*>(strips);
  if (width == kTileRows) return pack_width<kTileRows>(form, *source, rows, k, to, strip_bytes / 4);
  pack_width<kTileColumns>(form, *source, rows, k, to, strip_bytes / 4);
}

void add_column_sums(const float* x, int64_t row_stride, int64_t rows, int64_t columns, float* sums) {
  for (int64_t column = 0; column < columns; column += kLanes) {
    const int64_t count = columns - column;
    F32 sum = zero();
    for (int64_t row = 0; row < rows; ++row) {
      const float* from = x + row * row_stride + column;
      sum = add(sum, count >= kLanes ? load(from) : load_partial(from, count));
    }
    const F32 before = load_partial(sums + column, count);
    store_partial(sums + column, add(before, sum), count);
  }
}

}  // namespace

const GemmKernels kGemm = {kTileRows, kTileColumns, kRowsInCache, kBF16Form, pack, multiply, unpack_group,
                           transpose_pairs, add_column_sums};

}  // namespace weft::kernels::WEFT_KERNELS
