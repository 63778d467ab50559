// The CPU kernels in the instructions that every processor of the platform has.
#include "cpu_kernels_prelude.h"

#define FOCUS_OPS_TARGET baseline
#include "cpu_kernels_impl.h"
