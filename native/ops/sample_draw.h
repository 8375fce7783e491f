// Temperature, filters and the draw of one token from a row of logits.
#pragma once

#include "kernels/sampling.h"
#include "ops/logits.h"
#include "ops/sample_settings.h"

namespace weft {

// Room for V values each.
struct DrawScratch {
  float* values;
  float* weights;
  int32_t* ids;
};

// Which sums of a row's summary the draw needs: those of all tokens, unless top_k leaves few.
WantedSums sums_for_draw(const SampleSettings& settings, int64_t vocabulary);

// The token that `settings` choose from `row`, whose summary has sums_for_draw. Throws Error(kValue) when the
// highest logit is not finite.
int32_t draw_token(const SamplingKernels& kernels, const SampleSettings& settings, const LogitRow& row,
                   const LogitSummary& summary, const DrawScratch& scratch);

}  // namespace weft
