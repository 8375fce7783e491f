// The kernels of the instruction set that this translation unit is compiled for. Each family's source
// defines its own; table.cc gathers them.
#pragma once

#include "kernels/table.h"

namespace weft::kernels::WEFT_KERNELS {

extern const MatmulKernels kMatmul;
extern const GemmKernels kGemm;
extern const OptimizerKernels kOptimizer;
extern const CrossEntropyKernels kCrossEntropy;
extern const LstmKernels kLstm;
extern const LowRankKernels kLowRank;
extern const RowKernels kRows;
extern const RowGradientKernels kRowGradients;
extern const AttentionKernels kAttention;
extern const SequenceAttentionKernels kSequenceAttention;
extern const SamplingKernels kSampling;
extern const LimitKernels kLimits;

}  // namespace weft::kernels::WEFT_KERNELS
