"""The command line in this process: its exit code and what it prints."""

import pytest

from minikfac import cli


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("COLUMNS", raising=False)  # which pytest-xdist sets: lines would be broken
        code = cli.run(list(arguments))
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def one_line(err: str) -> str:
    """The error, which is one line; lines of progress may stand before it."""
    lines = [line for line in err.splitlines() if not line.startswith(("training: ", "Fisher matrices: "))]
    assert len(lines) == 1, err
    assert lines[0].startswith("minikfac: ")
    return lines[0]
