"""The cache: downloaded files, one folder per data set.

The folder is pooch's for this package, or the one that the environment variable MINIKFAC_CACHE names. Only
files that match their checksums stay in it.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import tarfile
import textwrap
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import ModuleType

from ..reading import one_error, opened
from ..writing import replaced_at_once


def cache_folder(name: str) -> Path:
    """Return the folder of the data set `name` in the cache; it need not exist.

    Raises:
        ImportError: If pooch, which knows where caches lie, is not installed.
    """
    chosen = os.environ.get("MINIKFAC_CACHE")
    if chosen:
        return Path(chosen).expanduser() / name
    return Path(_pooch().os_cache("minikfac")) / name


def download(name: str, file: str, addresses: Sequence[str], md5: str | None = None) -> Path:
    """Return the path of `file` in the cache, downloaded from the first address that delivers it if need be.

    Args:
        name: The data set.
        file: The file's name in the cache.
        addresses: Where it can be had, tried in order.
        md5: Checksum that the file must have, also if it is in the cache already (it is fetched again
            otherwise); None if the caller checks the content.

    Raises:
        ConnectionError: If no address could be reached.
        ValueError: If what came does not have the checksum.
        ImportError: If pooch is not installed.
    """
    pooch = _pooch()
    folder = cache_folder(name)
    progress = importlib.util.find_spec("tqdm") is not None
    logger = pooch.get_logger()
    level = logger.level
    logger.setLevel("WARNING")  # pooch reports on each file otherwise; the progress bar is enough
    error: Exception | None = None
    try:
        for address in addresses:
            try:
                checksum = md5 and f"md5:{md5}"
                return Path(pooch.retrieve(address, checksum, file, folder, progressbar=progress))
            except (OSError, ValueError) as failure:
                error = failure
    finally:
        logger.setLevel(level)
    kind = ValueError if isinstance(error, ValueError) and not isinstance(error, OSError) else ConnectionError
    reason = textwrap.shorten(str(error), 160, placeholder=" ...")
    raise kind(
        f"{name}: could not fetch {file} from {' or '.join(addresses)} ({reason}); "
        "if you have the files, pass folder= with the folder that holds them"
    ) from error


def extract(archive: Path, members: Mapping[str, str], most: int) -> None:
    """Unpack files of a .tar.gz into the folder in which it lies; all else in it is left alone.

    Only the names given here are written: an archive cannot reach another place, nor make a link. A file
    appears once it is whole, and none does unless the archive's checksum is right.

    Args:
        archive: The .tar.gz.
        members: The name of each wanted file in the archive, and the plain name that it gets.
        most: Bytes of a file.

    Raises:
        ValueError: If a wanted file is missing, too large or no regular file, or the archive is truncated,
            damaged or no archive.
    """
    left = dict(members)
    with opened(archive) as (stream, _), one_error(archive, "a complete .tar.gz"):
        with tarfile.open(fileobj=stream, mode="r:") as tar:
            for member in tar:
                content = tar.extractfile(member) if member.isreg() and member.name in left else None
                if content is not None:
                    if member.size > most:
                        raise ValueError(f"{member.name} of {member.size:,} bytes, more than {most:,}")
                    with replaced_at_once(archive.parent / left.pop(member.name)) as out:
                        shutil.copyfileobj(content, out)
    if left:
        raise ValueError(f"{archive}: expected the files {', '.join(members)}, got no {', '.join(left)}")


def is_cached(name: str, files: Sequence[str]) -> bool:
    """Return whether all `files` of the data set `name` are in the cache (their content is not read)."""
    try:
        folder = cache_folder(name)
    except ImportError:
        return False
    return all((folder / file).is_file() for file in files)


def find_file(folder: Path, file: str) -> Path:
    """Return folder/file.gz or, where only that is there, the unpacked folder/file.

    Raises:
        FileNotFoundError: If there is neither.
    """
    for path in (folder / f"{file}.gz", folder / file):
        if path.is_file():
            return path
    raise FileNotFoundError(f"expected {file}.gz or {file} in {folder}, got neither")


def file_status(
    folder: Path, file: str, describe: Callable[[Path], tuple[str, str]], checksum: str, content: str = ""
) -> tuple[str, str]:
    """Return the name of a file in a folder and its status.

    The status begins with "ok", "altered" (readable, but not the official content), "broken" or "missing".

    Args:
        folder: Where it is.
        file: Its name in the cache.
        describe: From its path to what it holds, in words, and its digest; raises ValueError if it is broken.
        checksum: The kind and the official digest, as "md5 6bbc9a...".
        content: Of what the digest is, in words.
    """
    try:
        path = find_file(folder, file.removesuffix(".gz"))
    except FileNotFoundError as error:
        return file, f"missing: {error}"
    try:
        what, digest = describe(path)
    except ValueError as error:
        return path.name, f"broken: {error}"
    of = f" of the {content}" if content else ""
    if checksum.split()[1] == digest:
        return path.name, f"ok: {what}, the official {content.removeprefix('unpacked ') or 'content'}"
    return path.name, f"altered: {what}, but expected {checksum}{of}, got {digest}"


def _pooch() -> ModuleType:
    try:
        import pooch
    except ImportError as error:
        raise ImportError(
            "expected pooch, which downloads and caches files, got none: pip install pooch, or pass folder="
        ) from error
    return pooch
