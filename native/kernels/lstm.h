// One row of an LSTM: from the sums of its gates to its state, and back.
#pragma once

#include <stdint.h>

namespace weft {

// `count` units of one row. Gates i, f, g, o of a unit are `gate_stride` apart in x_gates, gates and d_gates, and
// `product_stride` in products.
struct LstmCell {
  int64_t count;
  int64_t gate_stride;
  const float* x_gates;
  const float* products;  // of the row before with the recurrent weight; null for the first row
  int64_t product_stride;
  const float* c_before;  // null for the first row
  float* gates;
  float* c;
  float* h;
};

struct LstmCellGrad {
  int64_t count;
  int64_t gate_stride;
  const float* d_h;
  const float* d_h_after;  // through the row after; null for the last row
  const float* gates;
  const float* c;
  const float* c_before;   // null for the first row
  float* d_c;              // in, unless this is the last row: f * dc of the row after; out: this row's
  float* d_gates;
};

struct LstmKernels {
  // u = x_gates + products;  i, f, o = sigmoid(u), g = tanh(u);  c = f * c_before + i * g;  h = o * tanh(c)
  void (*cell)(const LstmCell* cell);

  // t = tanh(c);  dh = d_h + d_h_after;  dc = dh * o * (1 - t^2) + d_c;  d_c = dc * f
  // d_gates = dc * g * i * (1 - i), dc * c_before * f * (1 - f), dc * i * (1 - g^2), dh * t * o * (1 - o)
  void (*cell_grad)(const LstmCellGrad* cell);
};

}  // namespace weft
