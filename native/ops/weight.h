// The weight of a linear layer, or a table of embeddings, in the panels that products read.
#pragma once

#include <stddef.h>
#include <stdint.h>

#include <memory>
#include <string>
#include <vector>

#include "kernels/matmul.h"

namespace weft {

// Consecutive outputs of a weight that are packed in one format. Its last panel is padded with zeros.
// Interleaved parts hold two halves, gate and up: a panel has 16 outputs of the one, then the same 16 of the
// other, and each half is padded to a multiple of 16.
struct WeightPart {
  PanelFormat format;
  int64_t n;             // outputs, without padding
  int64_t first_output;  // of the weight
  int64_t num_panels;
  int64_t group_bytes;
  int64_t panel_bytes;
  size_t offset_bytes;   // in the packed bytes, a multiple of 64
};

// What a part needs beside the number of its outputs.
struct PartShape {
  PanelFormat format;
  int64_t n;
};

// [n outputs, k inputs]. Immutable once packed: any thread may read it.
class Weight {
 public:
  // Lays out parts of weights of k inputs; their bytes are to be set. Throws Error(kValue) for sizes that are
  // not positive, an odd n of an interleaved part, a format that no kernel reads, or more than 2^46 bytes.
  Weight(const std::vector<PartShape>& parts, int64_t k, bool is_interleaved);

  int64_t n() const { return n_; }
  int64_t k() const { return k_; }
  bool is_interleaved() const { return is_interleaved_; }
  size_t bytes() const { return bytes_; }
  const std::vector<WeightPart>& parts() const { return parts_; }
  const uint8_t* data() const { return data_; }
  Panels panels(const WeightPart& part) const;

  // Takes `bytes()` packed bytes that `owner` keeps alive. Throws Error(kValue) unless there are as many,
  // aligned to 64.
  void set_data(const uint8_t* data, size_t bytes, std::shared_ptr<const void> owner);

  // Writes output `index` as float32 [k].
  void dequantize_row(int64_t index, float* values) const;

 private:
  int64_t n_ = 0, k_;
  bool is_interleaved_;
  size_t bytes_ = 0;
  std::vector<WeightPart> parts_;
  const uint8_t* data_ = nullptr;
  std::shared_ptr<const void> owner_;
};

// Where output `index` of a part lies.
struct PanelPlace {
  int64_t panel;
  int64_t column;
};
PanelPlace place_of(const WeightPart& part, bool is_interleaved, int64_t index);

// Whether weights of this kind are codes with scales.
inline bool is_integer(PanelKind kind) { return kind >= PanelKind::kQ8; }

// "f32", "f16", "bf16", "q8", "q4" or "int8".
const char* panel_kind_name(PanelKind kind);
// Throws Error(kValue) for another name.
PanelKind panel_kind(const std::string& name);

}  // namespace weft
