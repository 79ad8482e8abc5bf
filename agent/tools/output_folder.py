"""Writes pictures that a language model names: new PNG files in one folder, nothing else."""

from __future__ import annotations

import io
import re
from pathlib import Path

from PIL import Image

from ...encoders.images import display_name
from ...errors import InputError

# No separators, no control characters, no leading dot, no colon (an alternate data stream on Windows).
_NAME = re.compile(r"\w[\w .-]{0,99}\.png", re.IGNORECASE)


class OutputFolder:
    """`save(name, image)` as PNG, never over an existing file. Raises `InputError` if `folder` is not a folder."""

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder).resolve()
        if not self.folder.is_dir():
            raise InputError(f"no folder {folder} to write pictures into; make it, or name another")

    def check(self, name: str) -> Path:
        """The path to write. Raises `InputError` for a name that may not be written; call it before drawing."""
        if not _NAME.fullmatch(name):
            raise InputError(
                f"{display_name(name)!r} cannot be a picture's name; expected letters, digits, spaces, dots, - and _, "
                "without any folder, ending in .png, such as red-star.png"
            )
        path = self.folder / name
        try:
            path.lstat()
        except FileNotFoundError:
            return path
        except (OSError, ValueError) as error:  # a name with too many bytes
            reason = getattr(error, "strerror", None) or "it is no name of a file"
            raise InputError(f"{display_name(name)!r} cannot be written ({reason}); choose a shorter name") from error
        raise InputError(f"there is a file {name} already; choose another name")

    def save(self, name: str, image: Image.Image) -> Path:
        """Write a new file and return its path. Raises `InputError` as `check` does, and if writing fails."""
        path = self.check(name)
        encoded = io.BytesIO()
        image.save(encoded, "PNG")
        try:
            with open(path, "xb") as file:  # fails if anything was created meanwhile, symbolic links included
                try:
                    file.write(encoded.getvalue())
                    file.flush()
                except OSError:
                    path.unlink()
                    raise
        except FileExistsError as error:
            raise InputError(f"there is a file {name} already; choose another name") from error
        except OSError as error:
            raise InputError(f"{name} cannot be written ({error.strerror or error})") from error
        return path
