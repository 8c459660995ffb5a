"""Print the selectors of the cells of a results file that are not as they should be.

``python3 ci/red_cells.py results/latest/conformance.json``; exit status 1 when there are none.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path


def main() -> int:
    cells = json.loads(Path(sys.argv[1]).read_text())["cells"]
    red = [
        f"{cell['contender']}::{cell['case']}"
        for cell in cells
        if not cell["expected"] and (cell["behaviour"] in ("FAIL", "WEAK", "TIMEOUT", "CRASH", "FLAKY") or cell["teardown"])
    ]
    print(*red)
    return 0 if red else 1


if __name__ == "__main__":
    sys.exit(main())
