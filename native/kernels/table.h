// The set of kernels of one instruction set, chosen once at start.
#pragma once

#include "kernels/attention.h"
#include "kernels/cross_entropy.h"
#include "kernels/gemm.h"
#include "kernels/limits.h"
#include "kernels/low_rank.h"
#include "kernels/lstm.h"
#include "kernels/matmul.h"
#include "kernels/optimizer.h"
#include "kernels/row_gradients.h"
#include "kernels/rows.h"
#include "kernels/sampling.h"
#include "kernels/sequence_attention.h"

namespace weft {

struct Kernels {
  const char* isa;
  const MatmulKernels* matmul;
  const RowKernels* rows;
  const RowGradientKernels* row_gradients;
  const AttentionKernels* attention;
  const SequenceAttentionKernels* sequence_attention;
  const SamplingKernels* sampling;
  const LimitKernels* limits;
  const GemmKernels* gemm;
  const OptimizerKernels* optimizer;
  const CrossEntropyKernels* cross_entropy;
  const LstmKernels* lstm;
  const LowRankKernels* low_rank;
};

// The tables that were compiled in. Whether the machine can run one is decided in isa/.
const Kernels* portable_kernels();
#if defined(WEFT_X86)
const Kernels* avx2_kernels();
const Kernels* avx512_kernels();
#endif

}  // namespace weft
