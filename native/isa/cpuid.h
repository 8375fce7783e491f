// What the processor and the operating system say about vector registers and instructions.
#pragma once

namespace weft {

struct CpuFeatures {
  bool avx2_fma_f16c = false;      // AVX2, FMA, F16C, BMI2, and the system saves 256-bit registers
  bool avx512_vnni_bf16 = false;   // AVX-512 F, BW, DQ, VL, VNNI, BF16, and it saves 512-bit registers
};

// Asked from the processor at the first call; all false where the architecture is not x86-64. Any thread.
const CpuFeatures& cpu_features();

}  // namespace weft
