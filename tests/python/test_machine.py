"""heed.isa, heed.peak_flops and heed.read_bandwidth say something sane; no test asserts a speed."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import heed


def test_isa_is_a_known_name():
    assert heed.isa() in {"v4bf16", "v4", "v3", "v2", "ref"}


@pytest.mark.parametrize("isa", ["v2", "ref"])
def test_isa_is_forced_by_the_environment(isa):
    found = subprocess.run(
        [sys.executable, "-c", "import heed; print(heed.isa())"],
        env=os.environ | {"HEED_ISA": isa},
        capture_output=True,
        text=True,
        check=True,
    )
    assert found.stdout.strip() == isa


def test_measurements_are_positive():
    torch.set_num_threads(1)
    assert heed.peak_flops() > 0 and heed.peak_flops(torch.float64) > 0
    assert heed.read_bandwidth() > 0


def test_peak_of_another_type_is_refused():
    with pytest.raises(RuntimeError, match="float32, float64 or bfloat16, got float16"):
        heed.peak_flops(torch.float16)


def test_bfloat16_has_a_peak_where_the_processor_multiplies_it():
    if "avx512_bf16" in Path("/proc/cpuinfo").read_text():
        assert heed.peak_flops(torch.bfloat16) > heed.peak_flops()
    else:
        with pytest.raises(RuntimeError, match="needs AVX512-BF16"):
            heed.peak_flops(torch.bfloat16)
