// Every header that cpu_kernels_impl.h needs. They come before any change of the instruction set, so that inline functions of
// theirs, which the linker shares between files, never contain instructions that a processor may lack.
#pragma once

#include <torch/headeronly/util/BFloat16.h>
#include <torch/headeronly/util/Half.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <type_traits>
#include <vector>

#include "cpu_kernels.h"
