// Packs rows: normalise, then round to the form that the product of an instruction set reads.
namespace weft::kernels::WEFT_KERNELS {

namespace {

// What one group of 32 values of a row becomes; where its parts go. Defined with each instruction set:
//   void quantize_group(const float* x, RowForm form, uint8_t* values, float* scales, int32_t* sums)
//   void quantize_span(const float* x, int64_t groups, uint8_t* values, int64_t step, float* scales, int32_t* sums)
//   void quantize_shifted(const float* x, int64_t groups, uint8_t* values, int64_t step, float* scales, int32_t* sums,
//                         int64_t numbers_step)
//   void round_group_bf16(const float* x, uint8_t* values)

void copy_group(const float* x, uint8_t* values) {
  float* to = reinterpret_cast<float*>(values);
  for (int64_t i = 0; i < kGroupInputs; i += kLanes) store(to + i, load(x + i));
}

// The row as it is multiplied, zeros after its end up to a whole group; in place where nothing changes.
const float* prepare_row(const RowSource& source, int64_t index, float* row) {
  const float* x = source.x + index * source.row_stride;
  const int64_t padded = num_groups(source.k) * kGroupInputs;
  if (source.norm == RowNorm::kNone && padded == source.k) return x;
  if (source.norm == RowNorm::kRms) {
    rms_norm_row(x, source.norm_weight, row, source.k, source.eps);
  } else if (source.norm == RowNorm::kLayer) {
    layer_norm_row(x, source.norm_weight, source.norm_bias, row, source.k, source.eps);
  } else {
    memcpy(row, x, source.k * sizeof(float));
  }
  for (int64_t i = source.k; i < padded; ++i) row[i] = 0.0f;
  return row;
}

// Groups [first, last) of a row, whose values begin at x, with a scale for each span.
void pack_spans([[maybe_unused]] const float* x, [[maybe_unused]] const RowBlock& block, [[maybe_unused]] int64_t row,
                [[maybe_unused]] int64_t first, [[maybe_unused]] int64_t last) {
#if defined(WEFT_KERNELS_AVX512)
  Rows to = rows_at(block, first, row);
  for (int64_t group = first; group < last;) {
    const int64_t end = span_end(group, last);
    quantize_span(x, end - group, const_cast<uint8_t*>(to.values), to.values_step, const_cast<float*>(to.scales),
                  const_cast<int32_t*>(to.sums));
    x += (end - group) * kGroupInputs;
    to.values += (end - group) * to.values_step;
    to.scales += to.scales_step;
    to.sums += to.scales_step;
    group = end;
  }
#endif
}

// The same in spans whose groups have a shift each.
void pack_shifted([[maybe_unused]] const float* x, [[maybe_unused]] const RowBlock& block, [[maybe_unused]] int64_t row,
                 [[maybe_unused]] int64_t first, [[maybe_unused]] int64_t last) {
#if defined(WEFT_KERNELS_AVX512)
  Rows to = rows_at(block, first, row);
  for (int64_t group = first; group < last;) {
    const int64_t end = span_end(group, last, kShiftedGroups), step = to.scales_step;
    quantize_shifted(x, end - group, const_cast<uint8_t*>(to.values), to.values_step, const_cast<float*>(to.scales),
                     const_cast<int32_t*>(to.sums), step);
    x += (end - group) * kGroupInputs;
    to.values += (end - group) * to.values_step;
    to.scales += (end - group) * step;
    to.sums += (end - group) * step;
    group = end;
  }
#endif
}

// Groups [first, last) of a row, whose values begin at x. `first` begins a span.
void pack_groups(const float* x, const RowBlock& block, int64_t row, int64_t first, int64_t last) {
  if (block.form == RowForm::kI8Wide) return pack_spans(x, block, row, first, last);
  if (block.form == RowForm::kI8Shifted) return pack_shifted(x, block, row, first, last);
  const Rows to = rows_at(block, first, row);
  for (int64_t group = 0; group < last - first; ++group, x += kGroupInputs) {
    uint8_t* values = const_cast<uint8_t*>(to.values) + group * to.values_step;
    const int64_t at = group * to.scales_step;
    if (block.form == RowForm::kF32) {
      copy_group(x, values);
    } else if (block.form == RowForm::kBF16) {
      round_group_bf16(x, values);
    } else {
      quantize_group(x, block.form, values, const_cast<float*>(to.scales) + at, const_cast<int32_t*>(to.sums) + at);
    }
  }
}

void pack_columns(const float* x, int64_t stride, const RowBlock* block, int64_t first, int64_t last) {
  for (int64_t row = 0; row < block->rows; ++row, x += stride)
    pack_groups(x, *block, row, first / kGroupInputs, last / kGroupInputs);
}

void pack_rows(const RowSource* source, const RowBlock* blocks, int num_blocks, int64_t first, int64_t last,
               float* row) {
  for (int64_t index = first; index < last; ++index) {
    const float* x = prepare_row(*source, index, row);
    for (int block = 0; block < num_blocks; ++block)
      pack_groups(x, blocks[block], index, 0, num_groups(blocks[block].k));
  }
}

size_t block_bytes(RowForm form, int64_t rows, int64_t k) {
  const int64_t quantized = is_quantized(form) ? 16 * num_spans(form, num_groups(k)) * rows : 0;
  return static_cast<size_t>((values_bytes(form, rows, k) + quantized + 63) / 64 * 64);
}

}  // namespace

}  // namespace weft::kernels::WEFT_KERNELS
