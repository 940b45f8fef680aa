#!/usr/bin/env python3
"""Draws docs/images/mechanisms/PAGE.svg: of each page's first lesson that passes, where it looks."""

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
HEED = Path(os.environ.get("HEED_BUILD", ROOT / "build")) / "bin/heed"
IMAGES = ROOT / "docs/images/mechanisms"


def first_of_pages() -> dict[str, str]:
    """The lesson's name for each page."""
    listed = subprocess.run([HEED, "learn", "--list", "--json"], capture_output=True, check=True)
    lessons: dict[str, str] = {}
    for lesson in json.loads(listed.stdout):
        if not lesson["must_fail"]:
            lessons.setdefault(lesson["page"], lesson["name"])
    return lessons


def draw(page: str, name: str) -> bool:
    picture = IMAGES / f"{page}.svg"
    command = [HEED, "learn", name, "--svg", picture]
    done = subprocess.run(command, capture_output=True, text=True)
    lines = done.stdout.splitlines() if done.returncode in (0, 1) else done.stderr.splitlines()
    print(f"{picture.relative_to(ROOT)}  {lines[-1]}", flush=True)
    return done.returncode == 0


def main() -> int:
    IMAGES.mkdir(parents=True, exist_ok=True)
    lessons = first_of_pages()
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        drawn = list(pool.map(draw, lessons.keys(), lessons.values()))
    return 0 if all(drawn) else 1


if __name__ == "__main__":
    sys.exit(main())
