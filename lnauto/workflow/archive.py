"""A model in one file, `NAME.lnauto`: a zip of a model folder, with a manifest that says what is in it.

Such a file may come from a stranger. What is unpacked is what the manifest lists, with the content it says, under names that a
model folder has, into a folder of the cache and nowhere else. It is looked at whole before any of it can be found there.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
import re
import shutil
import stat
import time
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from lnauto import __version__
from lnauto.errors import InputError
from lnauto.files import replacing, sha256_of, write_json

log = logging.getLogger(__name__)

SUFFIX = ".lnauto"
MANIFEST, CARD, PLAN = "manifest.json", "MODEL_CARD.md", "plans.json"
FORMAT, VERSION = "lnauto model", 1
MODELS = "models"  # their folder in the cache
ABANDONED_SECONDS = 3600.0  # without a byte more
DIGITS = 16  # of the file's SHA-256, by which the cache knows it

FOLD = r"fold_(?:[0-9]{1,4}|all)"
INNER = r"inner_networks/part_[0-9]{1,4}/checkpoint_final\.pth"
# Every name that a part of a model may have.
PART = re.compile(
    rf"MODEL_CARD\.md|plans\.json|dataset\.json|{FOLD}/checkpoint_final\.pth|{FOLD}/{INNER}|{FOLD}/head\.json"
    rf"|{FOLD}/LNM[A-Za-z0-9]{{1,60}}/(?:part_[0-9]{{1,4}}/)?head\.(?:json|pth)"
)
OF_NETWORK = re.compile(rf"\.\./{INNER}")  # how a head names a network whose features it reads
WORD = r"[A-Za-z0-9-]+(?:_[A-Za-z0-9-]+)*"
MODEL_NAME = re.compile(rf"{WORD}(?:__{WORD}){{2}}")  # TRAINER__PLANS__CONFIGURATION
ANY_MODEL = "*__*__*"
LONGEST_NAME = 200
SHA256 = re.compile(r"[0-9a-f]{64}")

WEIGHTS = ".pth"
MOST_FILES = 1000
MOST_TEXT = 64 << 20  # bytes of everything that is not weights; weights are stored as they are and cannot be a bomb
CHUNK = 1 << 20
NO_MODEL = "this is no model file of lnauto, or it is cut off"
COPY = "copy the file again, or ask for it again whoever gave it to you"
REFUSE = "do not use the file; ask for it again whoever gave it to you"
BROKEN = (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, ValueError, OverflowError, KeyError)


def pack(folder: Path, model: str, path: Path) -> None:
    """Write everything in `folder`, whose files have names of parts, to one file; `model` is its name once unpacked."""
    files = {part.relative_to(folder).as_posix(): part for part in sorted(folder.rglob("*")) if part.is_file()}
    content = {
        "format": FORMAT,
        "version": VERSION,
        "lnauto": __version__,
        "model": model,
        "files": {name: {"sha256": sha256_of(part), "bytes": part.stat().st_size} for name, part in files.items()},
    }
    write_json(folder / MANIFEST, content)
    with replacing(path) as temporary, zipfile.ZipFile(temporary, "w") as archive:
        for name, part in {MANIFEST: folder / MANIFEST, **files}.items():
            how = zipfile.ZIP_STORED if name.endswith(WEIGHTS) else zipfile.ZIP_DEFLATED
            archive.write(part, name, compress_type=how)


def is_model_name(name: str) -> bool:
    """Whether a model folder may be called so."""
    return len(name) <= LONGEST_NAME and MODEL_NAME.fullmatch(name) is not None


def opened(model: Path) -> Path:
    """The folder of a model that is given as one, or as a file, which is unpacked once and kept."""
    return _unpacked(model) if model.is_file() else model


def _unpacked(path: Path) -> Path:
    from lnauto.networks import machine_cache

    try:
        home = machine_cache.FOLDER / MODELS / sha256_of(path)[:DIGITS]
        if not any(home.glob(ANY_MODEL)):
            home.parent.mkdir(parents=True, exist_ok=True)
            _sweep(home.parent)
            with TemporaryDirectory(dir=home.parent, prefix=".") as temporary:
                _unpack(path, Path(temporary) / home.name)
                if not any(home.glob(ANY_MODEL)):  # else another process was as fast
                    (Path(temporary) / home.name).rename(home)
            log.info("Unpacked %s to %s.", path.name, home)
        return next(home.glob(ANY_MODEL))
    except OSError as error:
        what = f"the model file cannot be unpacked into {machine_cache.FOLDER / MODELS} ({error.strerror or error})"
        raise InputError.of(what, path, "make room there, and check that both can be read and written") from error


def _sweep(folder: Path) -> None:
    """Remove what a process that was killed had begun to unpack; of one at work, the last file is not that old."""
    for begun in folder.glob(".*"):
        newest = max((path.stat().st_mtime for path in (begun, *begun.rglob("*")) if path.exists()), default=math.inf)
        if time.time() - newest > ABANDONED_SECONDS:
            shutil.rmtree(begun, ignore_errors=True)


def _unpack(path: Path, home: Path) -> None:
    """Unpack into `home`, a folder that is not there yet; what is refused leaves only what the caller removes."""
    try:
        with zipfile.ZipFile(path) as archive:
            content = _manifest(archive, path)
            _check_names(archive, content["files"], path)
            folder = home / content["model"]
            for name, said in content["files"].items():
                _extract(archive, name, said["sha256"], folder / name, path)
            archive.extract(MANIFEST, folder)
        plan = json.loads((folder / PLAN).read_bytes()) if (folder / PLAN).is_file() else None
        heads = {part: json.loads(part.read_bytes()) for part in folder.rglob("head.json")}
    except BROKEN as error:
        log.debug("Not a model: %s", path, exc_info=True)
        raise InputError.of(NO_MODEL, path, COPY) from error
    if not isinstance(plan, dict) or not isinstance(plan.get("lnauto"), dict):
        raise InputError.of("it holds no plan of lnauto's", path, REFUSE)
    for part in folder.rglob(f"*{WEIGHTS}"):
        _check_weights(part, path)
    for part, head in heads.items():
        if outside(head):
            raise InputError.of(f"{part.relative_to(folder)} names files outside the model", path, REFUSE)


def _manifest(archive: zipfile.ZipFile, path: Path) -> dict[str, Any]:
    """What the file says of itself, if that is what a model of lnauto says."""
    if archive.getinfo(MANIFEST).file_size > MOST_TEXT:
        raise InputError.of(NO_MODEL, path, COPY)
    content = json.loads(archive.read(MANIFEST))
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise InputError.of(NO_MODEL, path, COPY)
    if content.get("version") != VERSION:
        what = f"this model file has the form {content.get('version')!r}, and lnauto {__version__} knows {VERSION}"
        raise InputError.of(what, path, "install a newer lnauto")
    files, model = content.get("files"), content.get("model")
    if not (isinstance(files, dict) and isinstance(model, str) and is_model_name(model)):
        raise InputError.of("the manifest does not say what is in the model", path, REFUSE)
    for name, said in files.items():
        if not (isinstance(said, dict) and isinstance(said.get("sha256"), str) and SHA256.fullmatch(said["sha256"])):
            raise InputError.of(f"the manifest has no hash of {name!r}", path, REFUSE)
    return content


def _check_names(archive: zipfile.ZipFile, listed: Mapping[str, Any], path: Path) -> None:
    """Whether the file holds the parts that are listed and nothing else, in a form that cannot grow beyond measure."""
    entries = archive.infolist()
    if len(entries) > MOST_FILES:
        raise InputError.of(f"it holds {len(entries)} files, and a model is of {MOST_FILES} at most", path, REFUSE)
    for entry in entries:
        if entry.filename != MANIFEST and not PART.fullmatch(entry.filename):
            raise InputError.of(f"it holds {entry.filename!r}, which is no part of a model", path, REFUSE)
        if stat.S_ISLNK(entry.external_attr >> 16):
            raise InputError.of(f"{entry.filename} is a link", path, REFUSE)
    names = [entry.filename for entry in entries]
    if len(set(names)) < len(names) or {*listed, MANIFEST} != set(names):
        raise InputError.of("it holds other files than its manifest lists", path, REFUSE)
    weights = [entry for entry in entries if entry.filename.endswith(WEIGHTS)]
    text = sum(entry.file_size for entry in entries if entry not in weights)
    if text > MOST_TEXT or sum(entry.file_size for entry in weights) > path.stat().st_size:
        raise InputError.of("what it unpacks to is larger than a model of its size", path, REFUSE)


def _extract(archive: zipfile.ZipFile, name: str, sha256: str, target: Path, path: Path) -> None:
    """One part, if it is what the manifest says."""
    target.parent.mkdir(parents=True, exist_ok=True)
    digest = hashlib.sha256()
    with archive.open(name) as source, target.open("xb") as file:
        while chunk := source.read(CHUNK):
            digest.update(chunk)
            file.write(chunk)
    if digest.hexdigest() != sha256:
        raise InputError.of(f"{name} is not what the manifest says (its SHA-256 is another)", path, COPY)


def _check_weights(part: Path, path: Path) -> None:
    """Whether weights are in PyTorch's own zip, and not compressed there, so that loading takes no more memory than that."""
    try:
        with zipfile.ZipFile(part) as archive:
            entries = archive.infolist()
    except BROKEN as error:
        raise InputError.of(f"{part.name} of {part.parent.name} holds no weights", path, REFUSE) from error
    if sum(entry.file_size for entry in entries) > part.stat().st_size:
        raise InputError.of(f"the weights of {part.parent.name} unpack to more than they are", path, REFUSE)


def outside(head: Any) -> list[str]:
    """The files a patient head reads that lie outside a packed model."""
    if not isinstance(head, dict):
        return []
    networks = [str(network) for network in head.get("networks") or ()]
    settings = [member.get("settings") or {} for member in head.get("members") or () if isinstance(member, dict)]
    foreign = [str(one["dino"].get("path")) for one in settings if isinstance(one.get("dino"), dict)]
    return [network for network in networks if not OF_NETWORK.fullmatch(network)] + foreign
