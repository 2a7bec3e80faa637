"""Time of ``import phosphene`` and ``phosphene --help``, each in processes of its own.

Shortest of several runs, in seconds; beside them an empty interpreter and the import of torch,
which both avoid. The targets are wishes, nothing fails by them.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from _table import Table, best_seconds, parse_arguments

PYTHON = sys.executable
COMMAND = str(Path(PYTHON).with_name("phosphene"))


def seconds(*command: str, repeats: int) -> float:
    """Shortest wall time of a command, from an empty process on."""
    return best_seconds(
        lambda: subprocess.run(command, check=True, stdout=subprocess.DEVNULL), repeats
    )


def main() -> None:
    options = parse_arguments(str(__doc__), "import.json")
    repeats = 3 if options.quick else 9
    empty = seconds(PYTHON, "-c", "pass", repeats=repeats)
    torch = seconds(PYTHON, "-c", "import torch", repeats=repeats)
    table = Table("Start-up time in seconds")
    beside = {"empty interpreter s": empty, "import torch s": torch}
    library = seconds(PYTHON, "-c", "import phosphene", repeats=repeats)
    table.add("import phosphene", library, 0.2, better="lower", **beside)
    table.add("phosphene --help", seconds(COMMAND, "--help", repeats=repeats), 0.6, better="lower")
    table.show()
    table.write(options.out)


if __name__ == "__main__":
    main()
