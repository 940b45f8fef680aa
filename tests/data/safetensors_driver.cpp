// Reads each file named on the command line and writes it again beside itself as FILE.out. Prints
// one line a file: "ok" or the error. For tests/python/test_safetensors.py, which holds both
// against the Python package.
#include <iostream>
#include <string>

#include "heed/data/error.h"
#include "heed/data/safetensors.h"

int main(int argc, char** argv) {
  for (int i = 1; i < argc; ++i) {
    const std::string path = argv[i];
    try {
      const heed::TensorFile file = heed::read_safetensors(path);
      heed::write_safetensors(path + ".out", file.tensors, file.metadata);
      std::cout << "ok\n";
    } catch (const heed::UserError& error) {
      std::cout << error.what() << '\n';
    }
  }
  return 0;
}
