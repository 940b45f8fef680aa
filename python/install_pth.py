"""Make `import heed` find a build's package: one line in the virtual environment's `heed.pth`.

Outside a virtual environment nothing is written: a system's Python is not ours to change.
"""

import sys
import sysconfig
from pathlib import Path


def main() -> None:
    folder = str(Path(sys.argv[1]).resolve())
    if sys.prefix == sys.base_prefix:
        print(f"heed: not a virtual environment; set PYTHONPATH={folder} to import heed")
        return
    link = Path(sysconfig.get_path("purelib")) / "heed.pth"
    line = folder + "\n"
    if not link.exists() or link.read_text() != line:
        link.write_text(line)


if __name__ == "__main__":
    main()
