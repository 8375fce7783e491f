#include "kernels/kernel_set.h"

#define WEFT_STRING(name) #name
#define WEFT_EXPAND_STRING(name) WEFT_STRING(name)
#define WEFT_JOIN(a, b) a##b
#define WEFT_EXPAND_JOIN(a, b) WEFT_JOIN(a, b)

namespace weft {

const Kernels* WEFT_EXPAND_JOIN(WEFT_KERNELS, _kernels)() {
  static const Kernels kernels = {WEFT_EXPAND_STRING(WEFT_KERNELS),
                                  &kernels::WEFT_KERNELS::kMatmul,
                                  &kernels::WEFT_KERNELS::kRows,
                                  &kernels::WEFT_KERNELS::kRowGradients,
                                  &kernels::WEFT_KERNELS::kAttention,
                                  &kernels::WEFT_KERNELS::kSequenceAttention,
                                  &kernels::WEFT_KERNELS::kSampling,
                                  &kernels::WEFT_KERNELS::kLimits,
                                  &kernels::WEFT_KERNELS::kGemm,
                                  &kernels::WEFT_KERNELS::kOptimizer,
                                  &kernels::WEFT_KERNELS::kCrossEntropy,
                                  &kernels::WEFT_KERNELS::kLstm,
                                  &kernels::WEFT_KERNELS::kLowRank};
  return &kernels;
}

}  // namespace weft
