// Which set of instructions the CPU kernels run in.
#pragma once

namespace focus_ops {

enum class Instructions { kBaseline, kAvx2 };

// The best that the processor has; the variable FOCUS_OPS_INSTRUCTIONS=baseline, read once, forgoes it.
Instructions instructions();

}  // namespace focus_ops
