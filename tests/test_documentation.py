"""The documentation does what it says: its python and bash snippets run, and its links lead somewhere.

A snippet runs if its fence says `python` or `bash` and not `no-run`. A page's snippets run in order in one empty folder; the
python ones share their names, the bash ones what they export. README's first two blocks, the demo and the tests, are not run
here: .ci/run runs the second, which runs this. A page that begins with `<!-- snippets: slow -->` is left to `pytest -m slow`.

This file is also the program that runs one page: `python tests/test_documentation.py PAGE`.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]
README = REPOSITORY / "README.md"
README_BLOCKS_RUN_ELSEWHERE = 2
SLOW = "<!-- snippets: slow -->"
RUN = {"python", "bash"}
SHOWN = {"text", "console", "json", "csv", "yaml", "toml", "bibtex"}
SECONDS = 600
SECONDS_SLOW = 3600
PAGES_AT_ONCE = 2
Running = dict[Path, "Future[subprocess.CompletedProcess[str]]"]

FENCE = re.compile(r"^(?P<indent> *)```(?P<info>[^`]*)$")
LINK = re.compile(r"!?\[[^\]]*\]\((?P<target>[^)\s]+)(?: +\"[^\"]*\")?\)|^\[[^\]]+\]: +(?P<reference>\S+)", re.MULTILINE)


@dataclass(frozen=True)
class Snippet:
    """A fenced block: its language, its words after that, its code, and the line its fence stands on."""

    language: str
    words: tuple[str, ...]
    code: str
    line: int

    @property
    def runs(self) -> bool:
        return self.language in RUN and "no-run" not in self.words


def split(text: str) -> tuple[list[Snippet], str]:
    """The fenced blocks of a page, and what is left of it without them."""
    snippets: list[Snippet] = []
    prose: list[str] = []
    opened: re.Match[str] | None = None
    start, body = 0, list[str]()
    for number, line in enumerate(text.splitlines(), start=1):
        fence = FENCE.match(line)
        if opened is None and fence:
            opened, start, body = fence, number, []
        elif opened is not None and fence and not fence["info"].strip():
            language, *words = opened["info"].split() or [""]
            snippets.append(Snippet(language, tuple(words), "\n".join(body), start))
            opened = None
        elif opened is not None:
            body.append(line.removeprefix(opened["indent"]))
        else:
            prose.append(line)
    if opened is not None:
        raise ValueError(f"the fence of line {start} is never closed")
    return snippets, "\n".join(prose)


def snippets_to_run(page: Path) -> list[Snippet]:
    snippets, _ = split(page.read_text(encoding="utf-8"))
    return [snippet for snippet in snippets[README_BLOCKS_RUN_ELSEWHERE if page == README else 0 :] if snippet.runs]


def run_page(page: Path) -> None:
    """Run a page's snippets in this process and the working directory, until one fails."""
    names: dict[str, object] = {"__name__": "__main__"}
    for snippet in snippets_to_run(page):
        sys.stdout.write(f"{page.name}:{snippet.line}: {snippet.language}\n")
        sys.stdout.flush()  # before what bash writes
        if snippet.language == "python":
            # Empty lines before it, so that a traceback names the page's own lines.
            exec(compile("\n" * snippet.line + snippet.code, str(page), "exec"), names)
        else:
            run_bash(snippet.code)


def run_bash(code: str) -> None:
    """Run in bash, stop at the first command that fails, and keep what was exported."""
    with tempfile.NamedTemporaryFile() as exported:
        command = ["bash", "-euo", "pipefail", "-c", f"{code}\nenv -0 >{exported.name}"]
        subprocess.run(command, stdin=subprocess.DEVNULL, check=True)
        pairs = (entry.partition("=") for entry in Path(exported.name).read_text().split("\0") if entry)
        os.environ.update({name: value for name, _, value in pairs})


def run_page_in(page: Path, place: Path, seconds: int = SECONDS, cores: int | None = None) -> subprocess.CompletedProcess[str]:
    """Run a page as its reader would, in a Python of its own, with the environment's commands on the path."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("nnUNet_")}
    environment["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), environment["PATH"]])
    environment["MPLBACKEND"] = "agg"
    environment |= {} if cores is None else {"OMP_NUM_THREADS": str(cores)}
    command = [sys.executable, __file__, str(page)]
    return subprocess.run(
        command,
        cwd=place,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        timeout=seconds,
        check=False,
    )


def is_slow(page: Path) -> bool:
    return page.read_text(encoding="utf-8").startswith(SLOW)


def name_of(page: Path) -> str:
    return page.relative_to(REPOSITORY).as_posix()


PAGES = [README, *sorted((REPOSITORY / "documentation").rglob("*.md"))]
LINKED_PAGES = [*PAGES, REPOSITORY / "CHANGELOG.md"]


PAGES_THAT_RUN = [
    pytest.param(page, id=name_of(page), marks=[pytest.mark.slow] if is_slow(page) else [])
    for page in PAGES
    if snippets_to_run(page)
]


@pytest.fixture(scope="module")
def running(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """All pages that are to be tested, two at a time and each on one core: most of their time is Python's start."""
    tests = [item for item in request.session.items if getattr(item, "originalname", "") == test_snippets_run.__name__]
    pages = [test.callspec.params["page"] for test in tests]  # type: ignore[attr-defined]
    pool = ThreadPoolExecutor(PAGES_AT_ONCE)
    yield {
        page: pool.submit(run_page_in, page, tmp_path_factory.mktemp("page"), SECONDS_SLOW if is_slow(page) else SECONDS, 1)
        for page in pages
    }
    pool.shutdown(cancel_futures=True)


@pytest.mark.parametrize("page", PAGES_THAT_RUN)
def test_snippets_run(page: Path, running: Running) -> None:
    done = running[page].result()
    assert done.returncode == 0, done.stdout[-4000:]


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_fence_says_what_it_is(page: Path) -> None:
    """So that no `sh` or `py` is left out of the test by a slip."""
    snippets, _ = split(page.read_text(encoding="utf-8"))
    assert [f"line {snippet.line}: {snippet.language!r}" for snippet in snippets if snippet.language not in RUN | SHOWN] == []


@pytest.mark.parametrize("page", LINKED_PAGES, ids=name_of)
def test_links_lead_somewhere(page: Path) -> None:
    assert broken_links(page) == []


def broken_links(page: Path) -> list[str]:
    return [file for file in linked_files(page) if not (page.parent / file).exists()]


def linked_files(page: Path) -> list[str]:
    """The files a page links to, as it writes them; what is code is no link."""
    _, prose = split(page.read_text(encoding="utf-8"))
    prose = re.sub(r"`[^`\n]*`", "", prose)
    targets = [match["target"] or match["reference"] for match in LINK.finditer(prose)]
    files = [target.partition("#")[0] for target in targets if not re.match(r"[a-z]+:", target)]
    return [file for file in files if file]


@pytest.mark.parametrize("page", [page for page in PAGES if page != README], ids=name_of)
def test_every_page_can_be_found(page: Path) -> None:
    """Each page is linked from documentation/README.md."""
    index = REPOSITORY / "documentation" / "README.md"
    assert page in {index, *((index.parent / file).resolve() for file in linked_files(index))}


class TestTheTest:
    """That a page with a fault is found out."""

    @pytest.fixture
    def page(self, tmp_path: Path) -> Path:
        return tmp_path / "page.md"

    def run(self, page: Path, text: str) -> subprocess.CompletedProcess[str]:
        page.write_text(text)
        place = page.parent / "place"
        place.mkdir()
        return run_page_in(page, place)

    def test_python_shares_its_names_and_bash_its_exports(self, page: Path) -> None:
        text = (
            "# Page\n\n```python\nx = 3\n```\n\nText.\n\n```bash\nexport WORD=here\necho made > file.txt\n```\n\n"
            "1. indented:\n\n   ```python\n   import os\n   if x == 3:\n"
            "       print(os.environ['WORD'], open('file.txt').read())\n   ```\n\n```bash\ncat file.txt; echo $WORD\n```\n"
        )
        done = self.run(page, text)
        assert done.returncode == 0, done.stdout
        assert "here made" in done.stdout
        assert (page.parent / "place" / "file.txt").is_file()

    def test_python_that_fails(self, page: Path) -> None:
        done = self.run(page, "# Page\n\n```python\nx = 3\nassert x == 4\n```\n")
        assert done.returncode != 0
        assert 'page.md", line 5' in done.stdout

    @pytest.mark.parametrize("code", ["false\necho on", "cat missing | sort", "echo $UNKNOWN"])
    def test_bash_that_fails(self, page: Path, code: str) -> None:
        assert self.run(page, f"```bash\n{code}\n```\n").returncode != 0

    def test_installed_commands_are_found(self, page: Path) -> None:
        done = self.run(page, "```bash\nlnauto_doctor --version\n```\n")
        assert done.returncode == 0, done.stdout

    def test_what_does_not_run(self, page: Path) -> None:
        done = self.run(page, "```python no-run\nraise SystemExit(9)\n```\n\n```text\nfalse\n```\n\n```json\n{\n```\n")
        assert (done.returncode, done.stdout) == (0, "")

    def test_readme_begins_with_its_third_block(self, monkeypatch: pytest.MonkeyPatch, page: Path) -> None:
        page.write_text("```bash\nlnauto_demo\n```\n```bash\npytest\n```\n```bash\necho third\n```\n")
        assert len(snippets_to_run(page)) == 3
        monkeypatch.setattr(sys.modules[__name__], "README", page)
        assert [snippet.code for snippet in snippets_to_run(page)] == ["echo third"]

    def test_fence_that_never_closes(self) -> None:
        with pytest.raises(ValueError, match="fence of line 2"):
            split("text\n```python\nx = 3\n")

    def test_broken_links(self, page: Path) -> None:
        page.write_text(
            "[a](missing.md) [b](page.md#part) [c](https://example.org) [d](#part) ![e](picture.png)\n[f][1] `[g](code.md)`\n\n"
            "```text\n[h](fenced.md)\n```\n\n[1]: other.md\n"
        )
        assert broken_links(page) == ["missing.md", "picture.png", "other.md"]


if __name__ == "__main__":
    run_page(Path(sys.argv[1]).resolve())
