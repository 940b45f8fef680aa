"""What CMake writes into `_build.py`, beside the library that it builds."""

version: str  # of this package
torch_version: str  # of the PyTorch whose headers and libraries the library was built with
