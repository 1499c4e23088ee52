"""The command line: ``minikfac``."""
