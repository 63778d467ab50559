// What the emulated library needs in place of the CPU kernels and of a torch with CUDA.
#include <torch/csrc/inductor/aoti_torch/c/shim.h>

#include "instructions.h"

namespace focus_ops {

Instructions instructions() { return Instructions::kBaseline; }
const char* name_of(Instructions) { return "emulation"; }

}  // namespace focus_ops

// Where a GPU is, these say which device and which stream. Linked before torch's own.
extern "C" AOTITorchError aoti_torch_get_current_cuda_stream(int32_t, void** stream) {
  *stream = nullptr;
  return 0;
}
extern "C" AOTITorchError aoti_torch_create_device_guard(int32_t, DeviceGuardHandle* guard) {
  *guard = nullptr;
  return 0;
}
extern "C" AOTITorchError aoti_torch_delete_device_guard(DeviceGuardHandle) { return 0; }
