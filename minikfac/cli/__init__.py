"""The command line: ``minikfac``."""

from .main import main

__all__ = ["main"]
