"""``python -m phosphene`` is the command ``phosphene``."""

from phosphene.cli import main

main()
