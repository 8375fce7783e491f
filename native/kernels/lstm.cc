#include "kernels/lstm.h"

#include "kernels/kernel_set.h"
#include "kernels/simd.h"

namespace weft::kernels::WEFT_KERNELS {

namespace {

inline F32 load_some(const float* from, int64_t i, int64_t count) {
  if (!from) return zero();
  return count - i >= kLanes ? load(from + i) : load_partial(from + i, count - i);
}
inline void store_some(float* to, int64_t i, int64_t count, F32 value) {
  count - i >= kLanes ? store(to + i, value) : store_partial(to + i, value, count - i);
}

void cell(const LstmCell* at) {
  const LstmCell& row = *at;
  for (int64_t i = 0; i < row.count; i += kLanes) {
    F32 gates[4];
    for (int gate = 0; gate < 4; ++gate) {
      F32 sum = load_some(row.x_gates + gate * row.gate_stride, i, row.count);
      if (row.products) sum = add(sum, load_some(row.products + gate * row.product_stride, i, row.count));
      gates[gate] = gate == 2 ? tanh(sum) : sigmoid(sum);
      store_some(row.gates + gate * row.gate_stride, i, row.count, gates[gate]);
    }
    F32 c = mul(gates[0], gates[2]);
    if (row.c_before) c = fma(gates[1], load_some(row.c_before, i, row.count), c);
    store_some(row.c, i, row.count, c);
    store_some(row.h, i, row.count, mul(gates[3], tanh(c)));
  }
}

// x * (1 - x)
inline F32 sigmoid_slope(F32 x) { return mul(x, sub(broadcast(1.0f), x)); }

void cell_grad(const LstmCellGrad* at) {
  const LstmCellGrad& row = *at;
  const F32 one = broadcast(1.0f);
  const bool is_last = row.d_h_after == nullptr;
  for (int64_t i = 0; i < row.count; i += kLanes) {
    F32 gates[4];
    for (int gate = 0; gate < 4; ++gate) gates[gate] = load_some(row.gates + gate * row.gate_stride, i, row.count);
    const F32 t = tanh(load_some(row.c, i, row.count)), c_before = load_some(row.c_before, i, row.count);
    F32 dh = load_some(row.d_h, i, row.count);
    if (!is_last) dh = add(dh, load_some(row.d_h_after, i, row.count));
    F32 dc = mul(mul(dh, gates[3]), sub(one, mul(t, t)));
    if (!is_last) dc = add(dc, load_some(row.d_c, i, row.count));
    const F32 d_gates[4] = {mul(mul(dc, gates[2]), sigmoid_slope(gates[0])),
                            mul(mul(dc, c_before), sigmoid_slope(gates[1])),
                            mul(mul(dc, gates[0]), sub(one, mul(gates[2], gates[2]))),
                            mul(mul(dh, t), sigmoid_slope(gates[3]))};
    for (int gate = 0; gate < 4; ++gate)
      store_some(row.d_gates + gate * row.gate_stride, i, row.count, d_gates[gate]);
    store_some(row.d_c, i, row.count, mul(dc, gates[1]));
  }
}

}  // namespace

const LstmKernels kLstm = {cell, cell_grad};

}  // namespace weft::kernels::WEFT_KERNELS
