#include "kernels/matmul.h"

#include <string.h>

#include "kernels/kernel_set.h"
#include "kernels/simd.h"

#include "kernels/norms.h"

#include "kernels/matmul_layout.inl"
#include "kernels/matmul_quantize.inl"
#if defined(WEFT_KERNELS_AVX512)
#include "kernels/matmul_avx512.inl"
#include "kernels/matmul_avx512_q4.inl"
#include "kernels/matmul_avx512_rows.inl"
#elif defined(WEFT_KERNELS_AVX2)
#include "kernels/matmul_avx2.inl"
#include "kernels/matmul_avx2_group.inl"
#include "kernels/matmul_avx2_codes.inl"
#include "kernels/matmul_avx2_few.inl"
#else
#include "kernels/matmul_portable.inl"
#endif
#include "kernels/matmul_epilogue.inl"
#include "kernels/matmul_rows.inl"

namespace weft::kernels::WEFT_KERNELS {

namespace {

constexpr int64_t kChunkInputs = kChunkGroups * kGroupInputs;
static_assert(kChunkGroups % kShiftedGroups == 0 && kShiftedGroups % kSpanGroups == 0);
constexpr int64_t kMaxUnpackedBytes = 4096 + 512;

struct Scratch {
  alignas(64) float sums[kBlockRows * kPanelColumns];
  alignas(64) uint8_t unpacked[kChunkGroups * kMaxUnpackedBytes];
};

template <class Panel>
void run_tile(int64_t rows, const Groups& groups, const Rows& x, float* sums) {
  switch (rows) {
#define WEFT_TILE(count)                                                                         \
  case count:                                                                                    \
    if constexpr (count <= Panel::kTileRows) Panel::template tile<count>(groups, x, sums);       \
    return;
    WEFT_TILE(1) WEFT_TILE(2) WEFT_TILE(3) WEFT_TILE(4) WEFT_TILE(5) WEFT_TILE(6)
    WEFT_TILE(7) WEFT_TILE(8) WEFT_TILE(9) WEFT_TILE(10) WEFT_TILE(11) WEFT_TILE(12)
#undef WEFT_TILE
  }
}

// The strips of a block one by one. Several of them share the fetching of the `next_bytes` at `next`, null for none;
// one alone is as fast as memory, and asking for more would slow it.
template <class Panel>
void run_rows(const RowBlock& x, const Groups& groups, int64_t first_group, const uint8_t* next, int64_t next_bytes,
              float* sums) {
  const Strips strips(x);
  const int64_t count = num_groups(groups.k);
  const int64_t step = next && strips.count > 1 ? (next_bytes / (strips.count * count) + 63) / 64 * 64 : 0;
  for (int64_t strip = 0; strip < strips.count; ++strip) {
    const int64_t first = strips.first_row(strip), asked = strip * count * step;
    const bool asks = step > 0 && asked < next_bytes;
    // Made in one go: a copy, amended, would wait for all stores before it.
    const Groups of_strip = {groups.format, groups.data, groups.step, groups.k,
                             asks ? next + asked : nullptr, asks ? step : 0};
    run_tile<Panel>(strips.height(strip), of_strip, rows_at(x, first_group, first), sums + first * kPanelColumns);
  }
}

// Writes the groups as the tiles read them; the last one may be short.
template <class Panel>
Groups unpack_groups(const Groups& packed, uint8_t* to) {
  for (int64_t group = 0; group < num_groups(packed.k); ++group) {
    const int64_t rest = packed.k - group * kGroupInputs;
    Panel::unpack(packed.format, packed.data + group * packed.step, to + group * Panel::kUnpackedBytes,
                  rest < kGroupInputs ? rest : kGroupInputs);
  }
  return {packed.format, to, Panel::kUnpackedBytes, packed.k};
}

// `next`: the panel after this one.
template <class Panel>
void multiply_panel(const Product& product, const uint8_t* panel, const uint8_t* next, Scratch& scratch) {
  const Panels& weight = product.weight;
  for (int64_t k = 0; k < weight.k; k += kChunkInputs) {
    const int64_t group = k / kGroupInputs;
    const int64_t length = weight.k - k < kChunkInputs ? weight.k - k : kChunkInputs;
    const Groups packed = {weight.format, panel + group * weight.group_bytes, weight.group_bytes, length};
    const int64_t bytes = num_groups(length) * weight.group_bytes;
    const bool is_last = k + length == weight.k;
    const uint8_t* ahead = is_last ? next : packed.data + bytes;
    if constexpr (Panel::kUnpackedBytes == 0) {
      run_rows<Panel>(product.x, packed, group, ahead, bytes, scratch.sums);
    } else {
      run_rows<Panel>(product.x, unpack_groups<Panel>(packed, scratch.unpacked), group, ahead, bytes, scratch.sums);
    }
  }
}

template <class Few, class Many>
void multiply_panels(const Product& product, int64_t first, int64_t last, Scratch& scratch) {
  for (int64_t index = first; index < last; ++index) {
    const uint8_t* panel = product.weight.data + index * product.weight.panel_bytes;
    const uint8_t* next = index + 1 < last ? panel + product.weight.panel_bytes : product.next;
    memset(scratch.sums, 0, product.x.rows * kPanelColumns * sizeof(float));
    if (product.x.rows <= Few::kTileRows) {
      multiply_panel<Few>(product, panel, next, scratch);
    } else {
      ask_for_outputs(product.epilogue, index, product.x.rows);
      multiply_panel<Many>(product, panel, next, scratch);
    }
    finish_rows(product.epilogue, scratch.sums, output_scales(product.weight, panel), index, product.x.rows);
  }
}

// Rows lie in strips no higher than the tiles that read them, those of few rows in one.
static_assert(FewF32::kTileRows <= ManyF32::kTileRows && FewQ8::kTileRows <= ManyQ8::kTileRows);
static_assert(ManyF32::kTileRows == strip_rows(RowForm::kF32) && ManyF16::kTileRows == strip_rows(RowForm::kF32));
static_assert(ManyBF16::kTileRows == strip_rows(kFormBF16) && ManyQ8::kTileRows == strip_rows(kFormQ8));
static_assert(ManyQ4::kTileRows == strip_rows(kFormQ4) && ManyInt8::kTileRows == strip_rows(kFormInt8));

void multiply(const Product* product, int64_t first, int64_t last, void* memory) {
  Scratch& scratch = *static_cast<Scratch*>(memory);
  switch (product->weight.format.kind) {
    case PanelKind::kF32: multiply_panels<FewF32, ManyF32>(*product, first, last, scratch); break;
    case PanelKind::kF16: multiply_panels<FewF16, ManyF16>(*product, first, last, scratch); break;
    case PanelKind::kBF16: multiply_panels<FewBF16, ManyBF16>(*product, first, last, scratch); break;
    case PanelKind::kQ8: multiply_panels<FewQ8, ManyQ8>(*product, first, last, scratch); break;
    case PanelKind::kQ4: multiply_panels<FewQ4, ManyQ4>(*product, first, last, scratch); break;
    case PanelKind::kInt8: multiply_panels<FewInt8, ManyInt8>(*product, first, last, scratch); break;
  }
  if (product->epilogue.streams) finish_streaming();
}

}  // namespace

const MatmulKernels kMatmul = {
    {RowForm::kF32, RowForm::kF32, kFormBF16, kFormQ8, kFormQ4, kFormInt8}, kFewRows, sizeof(Scratch), block_bytes,
    pack_rows, pack_columns, multiply};

}  // namespace weft::kernels::WEFT_KERNELS
