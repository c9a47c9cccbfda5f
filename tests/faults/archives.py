"""Model files that are cut off, or made to leave their place, to swell, or to pass for what they are not."""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from faults.rows import Attempt, Place, Rows, refused

ROWS = Rows("archives")
Parts = dict[str, bytes]
Change = Callable[[Parts, dict[str, Any]], None]
PLAIN, LINK = 0o100644, 0o120777


def rewritten(source: Path, change: Change, link: str = "", compress: bool = False) -> bytes:
    """The file again, with its parts and its manifest changed."""
    with zipfile.ZipFile(source) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    manifest = json.loads(parts.pop("manifest.json"))
    change(parts, manifest)
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w") as archive:
        for name, content in {"manifest.json": json.dumps(manifest).encode(), **parts}.items():
            entry = zipfile.ZipInfo(name)
            entry.external_attr = (LINK if name == link else PLAIN) << 16
            archive.writestr(entry, content, zipfile.ZIP_DEFLATED if compress else zipfile.ZIP_STORED)
    return written.getvalue()


def listing(name: str, content: bytes = b"evil") -> Change:
    """A further part, rightly listed."""

    def change(parts: Parts, manifest: dict[str, Any]) -> None:
        parts[name] = content
        manifest["files"][name] = {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}

    return change


def manifest_with(**changes: Any) -> Change:
    return lambda parts, manifest: manifest.update(changes)


def nothing(parts: Parts, manifest: dict[str, Any]) -> None:
    pass


def unlisted(parts: Parts, manifest: dict[str, Any]) -> None:
    parts["fold_1/checkpoint_final.pth"] = b"evil"


def missing(parts: Parts, manifest: dict[str, Any]) -> None:
    del parts["dataset.json"]


def changed(parts: Parts, manifest: dict[str, Any]) -> None:
    parts["plans.json"] = parts["plans.json"].replace(b"lnautoPlans", b"otherPlans!")


def other(name: str, content: bytes) -> bytes:
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w") as archive:
        archive.writestr(name, content)
    return written.getvalue()


def doubled(content: bytes) -> bytes:
    """A name twice, the way zipfile warns of."""
    import warnings

    written = io.BytesIO(content)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with zipfile.ZipFile(written, "a") as archive:
            archive.writestr("plans.json", b"{}")
    return written.getvalue()


def locked(content: bytes) -> bytes:
    """Flagged as encrypted, in every header."""
    found = bytearray(content)
    for mark, at in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        place = found.find(mark)
        while place >= 0:
            found[place + at] |= 1
            place = found.find(mark, place + 4)
    return bytes(found)


MADE: dict[str, tuple[Callable[[Path], bytes], str]] = {
    "a part beside the model's folder": (lambda path: rewritten(path, listing("../evil")), "'../evil'"),
    "a part at the root of the disk": (lambda path: rewritten(path, listing("/evil_of_lnauto")), "'/evil_of_lnauto'"),
    "a part that goes down and up": (lambda path: rewritten(path, listing("fold_0/../../evil")), "evil"),
    "a part with Windows' separators": (lambda path: rewritten(path, listing("fold_0\\..\\evil")), "evil"),
    "a part on a drive of Windows": (lambda path: rewritten(path, listing("C:\\evil")), "evil"),
    "a program among its parts": (lambda path: rewritten(path, listing("fold_0/evil.py")), "evil.py"),
    "a part that is a link": (lambda path: rewritten(path, nothing, link="plans.json"), "link"),
    "parts that swell": (lambda path: rewritten(path, nothing, compress=True), "larger"),
    "a checkpoint of zeros that swells": (
        lambda path: rewritten(path, listing("fold_0/checkpoint_final.pth", bytes(4 << 20)), compress=True),
        "larger",
    ),
    "a part twice": (lambda path: doubled(path.read_bytes()), "other files than its manifest lists"),
    "a part that is not listed": (lambda path: rewritten(path, unlisted), "manifest"),
    "a listed part that is missing": (lambda path: rewritten(path, missing), "manifest"),
    "a part that was changed": (lambda path: rewritten(path, changed), "evil.lnauto"),
    "a manifest of files that are numbers": (lambda path: rewritten(path, manifest_with(files=7)), "evil.lnauto"),
    "a manifest without files": (lambda path: rewritten(path, lambda parts, manifest: manifest.pop("files")), "evil.lnauto"),
    "parts that are encrypted": (lambda path: locked(path.read_bytes()), "evil.lnauto"),
    "nothing but an end": (lambda path: b"PK\x05\x06" + bytes(18), "evil.lnauto"),
    "no byte in it": (lambda path: b"", "evil.lnauto"),
    "half of it": (lambda path: path.read_bytes()[: path.stat().st_size // 2], "evil.lnauto"),
    "all but its last bytes": (lambda path: path.read_bytes()[:-8], "evil.lnauto"),
    "a text": (lambda path: b"Dear diary", "evil.lnauto"),
    "a document of Word": (lambda path: other("word/document.xml", b"<w/>"), "evil.lnauto"),
    "a manifest that is a list": (lambda path: other("manifest.json", b"[]"), "evil.lnauto"),
    "a manifest nested beyond what is read": (lambda path: other("manifest.json", b"[" * 100_000), "evil.lnauto"),
}


def using(make: Callable[[Path], bytes], told: str, command: str) -> Callable[[Place], Attempt]:
    def attempt(place: Place) -> Attempt:
        place.text("evil.lnauto", "")
        (place.here / "evil.lnauto").write_bytes(make(place.material.packed))
        if command == "predict":
            place.scan()
            return refused("predict", *place.predict(model="evil.lnauto"), names=("evil.lnauto", told))
        return refused("import_model", "evil.lnauto", "--name", "theirs", "--quiet", names=("evil.lnauto", told))

    return attempt


for _fault, (_make, _told) in MADE.items():
    ROWS.add(f"model file: {_fault}")(using(_make, _told, "predict"))
for _fault in ("a part beside the model's folder", "a part that is a link", "half of it"):
    ROWS.add(f"model file to import: {_fault}")(using(*MADE[_fault], "import_model"))
