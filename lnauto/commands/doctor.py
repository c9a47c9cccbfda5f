"""`lnauto_doctor`: what this machine has for lnauto, and what is missing."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from textwrap import wrap

from lnauto.commands.common import make_parser, run
from lnauto.errors import InputError
from lnauto.workflow.doctor import WARNING, Finding, Folder, Hardware, Report, Speed, examine

WIDTH = 100
LABEL = 26  # holds the longest name of a package


def main(argv: Sequence[str] | None = None) -> int:
    parser = make_parser(
        "Say what this machine has for lnauto: versions, devices, memory, disk, data folders; and what is missing.",
        epilog="Exit code: 0 lnauto can work here, 2 something it requires is missing.",
    )
    parser.add_argument("--json", action="store_true", help="print everything as JSON")
    return run(parser, _show, argv)


def _show(arguments: argparse.Namespace) -> None:
    report = examine()
    if arguments.json:
        print(json.dumps(asdict(report), indent=2))
    else:
        for line in _warnings(report) if arguments.quiet else _page(report):
            print(line)
    if report.missing:
        raise InputError(report.missing)


def _page(report: Report) -> Iterator[str]:
    yield f"lnauto {report.lnauto}"
    yield from ("", "Software")
    yield from _row("Python", f"{report.python:16s}{report.environment}")
    for package in report.packages:
        yield from _row(package.name, f"{package.found or 'missing':16s}{_wanted(package.wanted)}")
    yield from ("", "Machine")
    yield from _machine(report.hardware, report.speed)
    yield from ("", "Data folders")
    for folder in report.folders:
        yield from _row(folder.name, folder.path, _state(folder))
    contents = report.contents
    yield from _row(
        "what they hold",
        f"{_count(contents.datasets, 'data set')}, {_count(contents.plans, 'plan')} by lnauto, "
        f"{_count(contents.models, 'trained model')} ({_count(contents.folds, 'fold')})",
    )
    yield from ("", "Findings")
    for finding in report.findings:
        yield from _told(finding)
    yield "  lnauto cannot work here yet." if report.missing else "  Everything lnauto requires is here."


def _warnings(report: Report) -> Iterator[str]:
    """What is wrong and does not end up on stderr anyway."""
    for finding in report.findings:
        if finding.level == WARNING:
            yield from _told(finding)


def _machine(hardware: Hardware, speed: Speed | None) -> Iterator[str]:
    devices = [f"CUDA: {gpu.name}, {gpu.memory_gb:.1f} GB" for gpu in hardware.gpus]
    devices += ["MPS (Apple)"] if hardware.mps else []
    yield from _row("device", *(devices or ["CPU (torch finds no GPU)"]))
    yield from _row("CPU cores", f"{_known(hardware.physical_cores)} physical, {hardware.usable_cores} usable")
    yield from _row("CPU arithmetic", f"AVX512-bf16: {_known(hardware.avx512_bf16)}, AMX-bf16: {_known(hardware.amx_bf16)}")
    if speed is not None:
        yield from _row(
            "CPU speed, one core",
            f"{speed.fp32_gflops:.0f} GFLOP/s in fp32, {speed.bf16_gflops:.0f} in bf16 "
            f"({speed.bf16_gflops / speed.fp32_gflops:.1f} times)",
        )
    if hardware.memory_gb is not None:
        yield from _row("memory", f"{hardware.memory_gb:.1f} GB, {hardware.available_gb:.1f} GB available")


def _told(finding: Finding) -> Iterator[str]:
    text = str(finding).removeprefix("lnauto: ")
    yield from _row(finding.level, *wrap(text, WIDTH - LABEL - 2, break_long_words=False, break_on_hyphens=False))


def _row(label: str, *lines: str) -> Iterator[str]:
    """A label and its lines in a column; a long path sticks out rather than being cut, so that it can be copied."""
    for index, line in enumerate(lines):
        yield f"  {label if index == 0 else '':{LABEL}s}{line}".rstrip()


def _state(folder: Folder) -> str:
    source = f"from {folder.variable}" if folder.from_variable else f"default ({folder.variable} is not set)"
    return f"{source}, {'there' if folder.exists else 'not there yet'}, {folder.free_gb:.1f} GB free"


def _wanted(specifier: str) -> str:
    return f"wanted: {', '.join(sorted(specifier.split(','), reverse=True))}" if specifier else ""


def _known(value: int | None) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "unknown" if value is None else str(value)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
