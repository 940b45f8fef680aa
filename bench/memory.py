"""How much memory a forward and backward take beyond their inputs and outputs.

Run as a program, in a process of its own whose peak nothing else has raised: the case as JSON on
the command line, the bytes on standard output.
"""

import ctypes
import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path

import contestants
import torch
from table import Case


def beyond_inputs_and_outputs(case: Case) -> int:
    """Bytes, with torch's current threads; the case is verified in small first."""
    small = contestants.make(replace(case, T=min(case.T, 1024), S=min(case.S, 1024)))
    contestants.verify(case.name, contestants.ours(small), case.dtype)
    description = json.dumps(asdict(replace(case, figures=())))
    found = subprocess.run(
        [sys.executable, __file__, description, str(torch.get_num_threads())],
        capture_output=True,
        text=True,
        check=False,
    )
    if found.returncode != 0:
        reason = found.stderr.strip().splitlines() or ["no reason given"]
        raise SystemExit(f"{case.name}: its process failed: {reason[-1]}")
    return int(found.stdout)


def growth(case: Case) -> int:
    contestants.make(replace(case, T=min(case.T, 256), S=min(case.S, 256))).heed()  # loads code
    return beyond_results(contestants.make(case).heed)


def beyond_results(call: Callable[[], Sequence[torch.Tensor]]) -> int:
    """Bytes: this process's peak in the call, less what it held before and what was returned."""
    ctypes.CDLL(None).malloc_trim(0)  # what was freed would hide as much
    with suppress(OSError):  # without the permission an earlier peak may count: never too little
        Path("/proc/self/clear_refs").write_text("5")
    before = _status_bytes("VmRSS")
    results = call()
    return _status_bytes("VmHWM") - before - sum(result.nbytes for result in results)


def _status_bytes(name: str) -> int:
    """VmRSS, what is held, or VmHWM, its peak; getrusage's peak begins with the parent's."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError(f"/proc/self/status has no {name}")


def main() -> None:
    torch.set_num_threads(int(sys.argv[2]))
    print(growth(Case(**json.loads(sys.argv[1]))))


if __name__ == "__main__":
    main()
