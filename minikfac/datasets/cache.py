"""The cache: downloaded files, one folder per data set.

It lies in pooch's folder for this package, or in the one named by the environment variable MINIKFAC_CACHE.
Only files that match their checksums stay in it.
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
    """Return the cache folder of the data set `name`, which need not exist.

    Raises:
        ImportError: If pooch, which locates the system's cache, is not installed.
    """
    chosen = os.environ.get("MINIKFAC_CACHE")
    if chosen:
        return Path(chosen).expanduser() / name
    return Path(_pooch().os_cache("minikfac")) / name


def download(name: str, file: str, addresses: Sequence[str], md5: str | None = None) -> Path:
    """Return the path of `file` in the cache, downloading it from the first address that works if necessary.

    Args:
        name: The data set.
        file: Name of the file in the cache.
        addresses: URLs, tried in order.
        md5: Required checksum; a cached file without it is downloaded again. None if the caller checks the
            content.

    Raises:
        ConnectionError: If no address could be reached.
        ValueError: If the download does not match the checksum.
        ImportError: If pooch is not installed.
    """
    pooch = _pooch()
    folder = cache_folder(name)
    progress = importlib.util.find_spec("tqdm") is not None
    logger = pooch.get_logger()
    level = logger.level
    logger.setLevel("WARNING")  # no report on each file: the progress bar is enough
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
    """Unpack selected files of a .tar.gz into the folder that contains it.

    Only the names given here are written, so an archive can neither write elsewhere nor create links. A file
    appears only once it is complete and the archive's checksum is right.

    Args:
        archive: The .tar.gz.
        members: Maps the name of each wanted file in the archive to the plain name under which it is written.
        most: Largest permitted size of a file in bytes.

    Raises:
        ValueError: If a wanted file is missing, too large or not a regular file, or if the archive is
            truncated, damaged or not an archive.
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
    """Return folder/file.gz or, if only the unpacked file exists, folder/file.

    Raises:
        FileNotFoundError: If neither exists.
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
        folder: The folder.
        file: Name of the file in the cache.
        describe: Maps the path to a description of the content and its digest; ValueError if it is broken.
        checksum: Kind and value of the official digest, such as "md5 6bbc9a...".
        content: Description of the data from which the digest is computed.
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
