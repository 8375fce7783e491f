// From the sums of a panel to its columns of the output.
namespace weft::kernels::WEFT_KERNELS {

namespace {

inline bool is_gated(Activation activation) {
  return activation == Activation::kSiluGate || activation == Activation::kGeluGate;
}

inline F32 activate(Activation activation, F32 x) {
  if (activation == Activation::kSiluGate) return silu(x);
  if (activation == Activation::kGeluErf) return gelu_erf(x);
  return gelu_tanh(x);
}

// One vector of `count` columns: value * scale + residual, the last two as the epilogue says.
inline void finish(const Epilogue& e, int64_t row, int64_t column, F32 value, int64_t count) {
  if (e.scale != 1.0f) value = mul(value, broadcast(e.scale));
  float* out = e.out + row * e.out_stride + column;
  const float* residual = e.residual ? e.residual + row * e.residual_stride + column : nullptr;
  if (count >= kLanes) {
    if (residual) value = add(value, load(residual));
    if (e.streams) {
      store_streaming(out, value);
    } else {
      store(out, value);
    }
  } else {
    if (residual) value = add(value, load_partial(residual, count));
    store_partial(out, value, count);
  }
}

// The sums of a vector of columns from `c` on, times the scales of outputs where there are some.
inline F32 scaled_sums(const float* sums, const float* scales, int64_t c) {
  return scales ? mul(load(sums + c), load(scales + c)) : load(sums + c);
}

// Asks for what finish() reads and writes of columns [first, last) of a row.
inline void ask_for_row(const Epilogue& e, int64_t row, int64_t first, int64_t last) {
  for (int64_t c = first; c < last && c < e.columns; c += 16) {
    if (!e.streams) __builtin_prefetch(e.out + row * e.out_stride + c, 1);
    if (e.residual && e.residual != e.out) __builtin_prefetch(e.residual + row * e.residual_stride + c);
  }
}

// Rows that finish_panel() asks for ahead, a second time: they have left the first cache since a panel's began.
constexpr int64_t kRowsAhead = 12;

// sums [rows][32]: out[row][32 * panel + c] for each column c that there is.
void finish_panel(const Epilogue& e, const float* sums, const float* scales, int64_t panel, int64_t rows) {
  const int64_t first = panel * kPanelColumns;
  for (int64_t row = 0; row < rows; ++row, sums += kPanelColumns) {
    if (row + kRowsAhead < rows) ask_for_row(e, row + kRowsAhead, first, first + kPanelColumns);
    for (int64_t c = 0; c < kPanelColumns && first + c < e.columns; c += kLanes) {
      const int64_t count = e.columns - first - c;
      F32 value = scaled_sums(sums, scales, c);
      if (e.bias) value = add(value, load_partial(e.bias + first + c, count));
      if (e.activation != Activation::kNone) value = activate(e.activation, value);
      finish(e, row, first + c, value, count);
    }
  }
}

// sums [rows][16 gate, 16 up]: out[row][16 * panel + c] = activation(gate) * up.
void finish_gated_panel(const Epilogue& e, const float* sums, const float* scales, int64_t panel, int64_t rows) {
  constexpr int64_t kHalf = kPanelColumns / 2;
  const int64_t first = panel * kHalf;
  for (int64_t row = 0; row < rows; ++row, sums += kPanelColumns) {
    for (int64_t c = 0; c < kHalf && first + c < e.columns; c += kLanes) {
      const int64_t count = e.columns - first - c;
      F32 gate = scaled_sums(sums, scales, c), up = scaled_sums(sums, scales, kHalf + c);
      if (e.bias) {
        gate = add(gate, load_partial(e.bias + first + c, count));
        up = add(up, load_partial(e.bias + e.columns + first + c, count));
      }
      finish(e, row, first + c, mul(activate(e.activation, gate), up), count);
    }
  }
}

// Asks for the lines that finish_rows() reads and writes: a panel's columns of many rows, each a stride away.
void ask_for_outputs(const Epilogue& e, int64_t panel, int64_t rows) {
  const int64_t columns = is_gated(e.activation) ? kPanelColumns / 2 : kPanelColumns;
  for (int64_t row = 0; row < rows; ++row) ask_for_row(e, row, panel * columns, (panel + 1) * columns);
}

// scales: of the panel's outputs, or null.
void finish_rows(const Epilogue& e, const float* sums, const float* scales, int64_t panel, int64_t rows) {
  if (is_gated(e.activation)) {
    finish_gated_panel(e, sums, scales, panel, rows);
  } else {
    finish_panel(e, sums, scales, panel, rows);
  }
}

}  // namespace

}  // namespace weft::kernels::WEFT_KERNELS
