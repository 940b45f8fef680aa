#!/usr/bin/env python3
"""Checks that what the repository's Markdown quotes exists: paths, commands, links.

One line per problem. Looked at: inline code, fenced shell blocks (the `$ ` lines of `console`
blocks), C++ includes, relative links. Taken as given: names in capitals (`DIR`, `CONFIG.yaml`),
folders that .gitignore names, files that a command writes, and whatever lies outside the
repository. Files of every kind are also searched for absolute paths of one machine, but for those
that .gitignore names: a temporary may be gone before it is read.
"""

import argparse
import fnmatch
import itertools
import re
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
EXTENSIONS = "md|txt|h|cpp|inc|py|sh|toml|json|ya?ml|cmake|html|css|js|safetensors|model"
SHELL_LANGUAGES = {"sh", "bash", "shell", "console"}
OUTPUT_OPTIONS = {"-o", "--out", "--output", "--html", ">", ">>", "2>"}
MACHINE_PATH = re.compile(r"(?<![\w.}])/(?:work|home)/\w")

WORD_PATH = re.compile(r"[\w.@+*-]+(?:/[\w.@+*-]+)+/?|[\w.@+*-]+/")
FILE_NAME = re.compile(rf"[\w.+-]+\.(?:{EXTENSIONS})")
PLACEHOLDER = re.compile(r"[A-Z][A-Z0-9_]*(?:\.(?!md$)\w+)?")
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)[^)]*\)")
CODE_SPAN = re.compile(r"(`+)(.+?)\1")
INCLUDE = re.compile(r'#include "([^"]+)"')


@dataclass(frozen=True)
class Problem:
    file: Path
    line: int
    message: str

    def __str__(self):
        return f"{self.file}:{self.line}: {self.message}"


class Repository:
    """What exists: files, make targets, presets, and the program's subcommands once it is built."""

    def __init__(self, root):
        self.root = Path(root)
        patterns = self._text(".gitignore").split("\n")
        self.ignored = {line.strip("/") for line in patterns if line.endswith("/")}  # folders
        self.ignored_files = [line for line in patterns if line and line[-1] != "/"]
        self.files = list(self._files(self.root))
        self.names = {path.name for path in self.files}
        makefile = self._text("Makefile")
        self.targets = set(re.findall(r"^([a-z][\w-]*):(?!=)", makefile, re.MULTILINE))
        self.presets = set(re.findall(r'"name": "([\w-]+)"', self._text("CMakePresets.json")))
        self.program = self.root / "build/bin/heed"
        self._help = {}

    def exists(self, path, beside):
        """Whether `path` is a file, seen from the root, the document's folder or heed/."""
        bases = (self.root, beside, self.root / "heed")
        if "*" in path:
            return any(next(base.glob(path.rstrip("/")), None) for base in bases)
        return any((base / path).exists() for base in bases)

    def is_given(self, path):
        """Whether `path` is a placeholder, a build product or outside the repository."""
        parts = path.rstrip("/").split("/")
        return (
            path.startswith("/")
            or parts[0] in {"..", "~"}
            or parts[0] in self.ignored
            or any(PLACEHOLDER.fullmatch(part) for part in parts)
        )

    def help(self, *subcommand):
        """What `heed SUBCOMMAND --help` prints; None where there is no such subcommand."""
        if subcommand not in self._help:
            done = subprocess.run(
                [self.program, *subcommand, "--help"], check=False, capture_output=True, text=True
            )
            self._help[subcommand] = done.stdout if done.returncode == 0 else None
        return self._help[subcommand]

    def _text(self, name):
        path = self.root / name
        return path.read_text(encoding="utf-8") if path.exists() else ""

    def _files(self, folder):
        for entry in sorted(folder.iterdir()):
            if entry.is_symlink() or entry.name == ".git" or entry.name in self.ignored:
                continue
            if entry.is_dir():
                yield from self._files(entry)
            elif not any(fnmatch.fnmatch(entry.name, name) for name in self.ignored_files):
                yield entry


def check_path(repository, path, beside):
    """A complaint about a word that looks like a path, or None."""
    path = path.removeprefix("./").split(":")[0]
    if repository.is_given(path):
        return None
    if WORD_PATH.fullmatch(path) and re.search(r"[a-z]{3}", path):  # not `q/k/v`
        return None if repository.exists(path, beside) else f"no such path: {path}"
    if (
        FILE_NAME.fullmatch(path)
        and not repository.exists(path, beside)
        and path not in repository.names
    ):
        return f"no such file: {path}"
    return None


def check_heed(repository, words):
    """Complaints about `heed SUBCOMMAND --option ...`: both must be in the program's own help."""
    if not repository.program.exists():
        return
    subcommand = [word for word in words[:1] if re.fullmatch(r"[a-z]+", word)]
    text = repository.help(*subcommand)
    if text is None or (
        subcommand
        and not re.search(rf"^\s+{subcommand[0]}\b", repository.help() or "", re.MULTILINE)
    ):
        yield f"heed has no subcommand {subcommand[0]}"
        return
    for word in words:
        option = word.split("=")[0]
        if re.fullmatch(r"--[a-z][\w-]*", option) and not re.search(rf"{option}(?![\w-])", text):
            yield f"heed {' '.join(subcommand)} has no option {option}"


def check_command(repository, command, beside):
    """Complaints about one shell command."""
    try:
        words = shlex.split(
            command.replace("[", " ").replace("]", " ").replace("...", ""), comments=True
        )
    except ValueError:
        return
    for simple in split_words(words, {"|", "&&", "||", ";"}):
        while simple and re.fullmatch(r"[A-Z_]+=.*", simple[0]):
            simple = simple[1:]
        if not simple:
            continue
        name, arguments = simple[0], simple[1:]
        if name == "make":
            for target in arguments:
                if re.fullmatch(r"[a-z][\w-]*", target) and target not in repository.targets:
                    yield f"make has no target {target}"
        if name == "heed" or name.endswith("build/bin/heed"):
            yield from check_heed(repository, arguments)
        for option, value in itertools.pairwise(simple):
            if option == "--preset" and value not in repository.presets:
                yield f"cmake has no preset {value}"
        previous = ""
        for word in simple:
            if previous not in OUTPUT_OPTIONS and " " not in word:
                complaint = check_path(repository, word.split("=")[-1], beside)
                if complaint:
                    yield complaint
            previous = word


def split_words(words, separators):
    part = []
    for word in words:
        if word in separators:
            yield part
            part = []
        elif word.endswith(";"):
            yield [*part, word[:-1]]
            part = []
        else:
            part.append(word)
    yield part


def is_command(text):
    return re.match(
        r"(?:[A-Z_]+=\S+ )*"
        r"(?:make|heed|cmake|ctest|ninja|scripts/|build/bin/|\.venv/bin/|python3? )",
        text,
    )


def heading_anchors(text):
    """The anchors that a Markdown host makes of the headings."""
    headings = re.findall(r"^#+\s+(.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def check_link(repository, target, document):
    if re.match(r"[a-z]+:", target):
        return None
    path, _, anchor = target.partition("#")
    file = document.parent / path if path else document
    if not file.exists():
        return f"link to nothing: {target}"
    if (
        anchor
        and file.suffix == ".md"
        and anchor not in heading_anchors(file.read_text(encoding="utf-8"))
    ):
        return f"no such heading: {target}"
    return None


def check_prose(repository, line, document):
    """Complaints about one line outside fenced blocks."""
    for _, span in CODE_SPAN.findall(line):
        span = span.strip()
        if is_command(span + " "):
            yield from check_command(repository, span, document.parent)
        else:
            for word in re.split(r"[\s,]+", span):
                complaint = check_path(repository, word, document.parent)
                if complaint:
                    yield complaint
    for target in LINK.findall(CODE_SPAN.sub("", line)):
        complaint = check_link(repository, target, document)
        if complaint:
            yield complaint


def check_block_line(repository, language, line, document):
    """Complaints about one line of a fenced block."""
    if language in SHELL_LANGUAGES:
        if language == "console" and not line.startswith("$ "):
            return
        yield from check_command(repository, line.removeprefix("$ "), document.parent)
    elif language in {"cpp", "c++"}:
        for header in INCLUDE.findall(line):
            if not repository.exists(header, document.parent):
                yield f"no such header: {header}"


def check_document(repository, document):
    name = document.relative_to(repository.root)
    language = None
    text = document.read_text(encoding="utf-8")
    lines = re.sub(
        r"\\\n(.*)", r" \1\n", text
    ).splitlines()  # a continued command counts on its first line
    for number, line in enumerate(lines, 1):
        fence = re.match(r"\s*```(\S*)", line)
        if fence:
            language = fence[1] if language is None else None
            continue
        if language is None:
            messages = check_prose(repository, line, document)
        else:
            messages = check_block_line(repository, language, line, document)
        for message in messages:
            yield Problem(name, number, message)


def check_machine_paths(repository, file):
    content = file.read_bytes()
    if b"\0" in content[:8192]:
        return
    for number, line in enumerate(content.decode("utf-8", "replace").splitlines(), 1):
        if MACHINE_PATH.search(line):
            yield Problem(file.relative_to(repository.root), number, "absolute path of one machine")


def check(root):
    """Every problem of the tree under `root`, in the order of its files."""
    repository = Repository(root)
    for file in repository.files:
        yield from check_machine_paths(repository, file)
        if file.suffix == ".md":
            yield from check_document(repository, file)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "root", nargs="?", default=ROOT, help="the tree to check (default: this one)"
    )
    problems = list(check(parser.parse_args().root))
    for problem in problems:
        print(problem)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
