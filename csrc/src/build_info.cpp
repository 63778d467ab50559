// How this library was built, for Python. A file of its own, without torch: it is compiled last, when it is known whether the CUDA
// kernels could be built.
#include "instructions.h"

#if defined(_WIN32)
#define FOCUS_OPS_EXPORT __declspec(dllexport)
#else
#define FOCUS_OPS_EXPORT __attribute__((visibility("default")))
#endif

// "", or the CUDA toolkit and what the kernels were compiled for; from setup.py.
#if !defined(FOCUS_OPS_CUDA)
#define FOCUS_OPS_CUDA ""
#endif
// Why the kernels could not be built, where that was tried.
#if !defined(FOCUS_OPS_CUDA_FAILURE)
#define FOCUS_OPS_CUDA_FAILURE ""
#endif

extern "C" FOCUS_OPS_EXPORT const char* focus_ops_cuda() { return FOCUS_OPS_CUDA; }

extern "C" FOCUS_OPS_EXPORT const char* focus_ops_cuda_failure() { return FOCUS_OPS_CUDA_FAILURE; }

extern "C" FOCUS_OPS_EXPORT const char* focus_ops_instructions() {
  return focus_ops::name_of(focus_ops::instructions());
}
