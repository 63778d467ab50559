// Which set of instructions the CPU kernels run in.
#pragma once

namespace focus_ops {

enum class Instructions { kBaseline, kAvx2, kAvx512 };

// The best that the processor has, or what FOCUS_OPS_INSTRUCTIONS (baseline, avx2, avx512; read once) names where it has that.
Instructions instructions();

// As FOCUS_OPS_INSTRUCTIONS says it.
const char* name_of(Instructions instructions);

}  // namespace focus_ops
