"""Where a plan is written: what was there before is kept."""

from __future__ import annotations

import itertools
import json
import logging
from pathlib import Path

from lnauto.files import read_json, write_json
from lnauto.planners.plan import Plan

log = logging.getLogger(__name__)


def keep_earlier(path: Path, plan: Plan) -> None:
    """Write the plan; an earlier one that differs (a person may have edited it) is kept beside it."""
    if path.is_file():
        earlier = read_json(path, "remove the file and plan again")
        if earlier != json.loads(json.dumps(plan.content)):  # in which a pair is a tuple, and in JSON a list
            numbers = itertools.count(1)
            kept = next(name for number in numbers if not (name := path.with_name(f"{path.stem}_earlier_{number}.json")).exists())
            write_json(kept, earlier)
            log.info("There was another plan before; it is kept as %s.", kept.name)
    plan.save(path)
