// The vector types of the instruction set that this translation unit is compiled for.
//
// Each header defines, inside weft::kernels::WEFT_KERNELS:
//   F32, kLanes                       a vector of float32 and its width
//   zero, broadcast, load, store      load/store take any alignment
//   load_partial, store_partial       the first n lanes; the others are zero, or untouched
//   add, sub, mul, div, max, min, sqrt, fma(a, b, c) = a * b + c
//   load_f16, store_f16               widening and rounding (to nearest even) conversions, alike
//   load_bf16, store_bf16
//   reduce_add, reduce_max            in an order fixed by the lanes
//   lanes_greater, lanes_at_least     a bit for each lane where a > b, or a >= b
//   where_at_least(a, b, value)       value in the lanes where a >= b, 0 in the others
// All functions are `static inline`, so nothing compiled with one ISA's flags is linked into another's.
#pragma once

#include <stddef.h>
#include <stdint.h>

#if !defined(WEFT_KERNELS)
#error "compile kernels with -DWEFT_KERNELS=portable|avx2|avx512"
#endif

#if defined(WEFT_KERNELS_AVX512)
#include "kernels/simd_avx512.h"
#elif defined(WEFT_KERNELS_AVX2)
#include "kernels/simd_avx2.h"
#else
#include "kernels/simd_portable.h"
#endif

#include "kernels/simd_math.h"
