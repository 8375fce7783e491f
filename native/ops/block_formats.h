// The element encodings of model files: plain floats, and GGUF's blocks of quantized elements.
#pragma once

#include <stddef.h>
#include <stdint.h>

#include <string>

#include "kernels/matmul.h"

namespace weft {

enum class BlockKind { kF32, kF16, kBF16, kQ8_0, kQ4_0, kQ4_1, kQ5_0, kQ5_1, kQ4_K, kQ5_K, kQ6_K };

// The kind that a file calls `name`; throws Error(kUnsupported) for one that is none of these.
BlockKind block_kind(const std::string& name);
const char* block_name(BlockKind kind);
bool is_plain(BlockKind kind);  // floats, not blocks
int64_t block_elements(BlockKind kind);

// Bytes of a row of k elements. Throws Error(kValue) unless k is a positive whole number of blocks.
int64_t row_bytes(BlockKind kind, int64_t k);

// The panels that hold weights of a kind: codes as they are; scales and minimums too, unless the codes have 4 bits.
PanelFormat panel_format(BlockKind kind);

// Elements of a row as float32 [k].
void decode_row(BlockKind kind, const uint8_t* row, int64_t k, float* values);

// A row of blocks as codes [k], scales [k / 32 * scales_per_group] and minimums [k / 32], in the numbers of
// panel_format(kind): element = scale * (code - bias) + minimum, bias 128 for kQ8 and 0 for kQ4. Where the
// format stores no minimum none is written.
void decode_codes(BlockKind kind, const uint8_t* row, int64_t k, uint8_t* codes, float* scales, float* minimums);

}  // namespace weft
