"""The command line. Importing it imports no torch, so that --help answers at once."""

from vitlab.cli.main import main

__all__ = ["main"]
