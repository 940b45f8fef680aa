# LibTorch from the `torch` wheel of the Python that CMake finds; headers count as system ones.
if(NOT DEFINED Python3_EXECUTABLE AND EXISTS "${PROJECT_SOURCE_DIR}/.venv/bin/python")
  set(Python3_EXECUTABLE "${PROJECT_SOURCE_DIR}/.venv/bin/python")
endif()
find_package(Python3 3.11 REQUIRED COMPONENTS Interpreter)
execute_process(
  COMMAND "${Python3_EXECUTABLE}" -c "import torch; print(torch.utils.cmake_prefix_path)"
  OUTPUT_VARIABLE torch_prefix OUTPUT_STRIP_TRAILING_WHITESPACE
  RESULT_VARIABLE torch_missing ERROR_QUIET)
if(torch_missing)
  message(FATAL_ERROR "heed: ${Python3_EXECUTABLE} has no torch. Run scripts/setup, or build the core alone: cmake --preset core")
endif()
list(APPEND CMAKE_PREFIX_PATH "${torch_prefix}")
set(kineto_LIBRARY torch_cpu CACHE STRING "Part of libtorch_cpu, where torch's CMake package does not look")
find_package(Torch 2.13 REQUIRED)
find_package(OpenMP REQUIRED)  # without it at::parallel_for in our files is silently serial

add_library(heed_torch INTERFACE)
target_link_libraries(heed_torch INTERFACE ${TORCH_LIBRARIES})
# Flags only: a path to the compiler's own libgomp would compete with the one beside libtorch.
target_compile_options(heed_torch INTERFACE ${OpenMP_CXX_FLAGS})
target_link_options(heed_torch INTERFACE ${OpenMP_CXX_FLAGS})
target_include_directories(heed_torch SYSTEM INTERFACE ${TORCH_INCLUDE_DIRS})
target_compile_definitions(heed_torch INTERFACE _GLIBCXX_USE_CXX11_ABI=1)
