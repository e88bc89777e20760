"""``python -m exchange`` is the command ``exchange``."""

from exchange.cli.main import run

run()
