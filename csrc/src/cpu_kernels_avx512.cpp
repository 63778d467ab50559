// The CPU kernels in AVX-512, run only where the processor has it.
#include "cpu_kernels_prelude.h"

#if defined(__x86_64__)
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma,f16c,avx512f,avx512vl,avx512dq,avx512bw"))), apply_to = function)
#else
#pragma GCC push_options
// GCC takes half of the width unless asked.
#pragma GCC target("avx2,fma,f16c,avx512f,avx512vl,avx512dq,avx512bw,prefer-vector-width=512")
#endif

#define FOCUS_OPS_TARGET avx512
#include "cpu_kernels_impl.h"

#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif
#endif
