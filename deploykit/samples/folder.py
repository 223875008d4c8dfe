"""What a folder of samples holds: images, one array for each input, or a file for each sample; its names decide."""

from collections.abc import Sequence
from pathlib import Path

from deploykit.errors import UsageError, nearest
from deploykit.samples.columns import Source
from deploykit.samples.images import SUFFIXES, Images
from deploykit.samples.items import from_files
from deploykit.samples.npy import Npy
from deploykit.samples.preprocessing import Preprocessing
from deploykit.tensors import TensorSpec


def folder(place: Path, inputs: Sequence[TensorSpec] | None, image: Preprocessing | None) -> Source:
    """Open a folder; its files are taken in the order of their names, and hidden ones are none.

    ``x.npy, mask.npy`` are the inputs of these names. Where no file is named after an input, each is one sample, as
    an ``.npz`` always is. Other kinds of files, and folders, are left alone.

    Raises:
        UsageError: there is nothing to read, or the names leave open what is what.
    """
    files = sorted(file for file in place.iterdir() if file.is_file() and not file.name.startswith("."))
    kinds = {kind: [file for file in files if file.suffix.lower() == kind] for kind in (".npy", ".npz")}
    kinds["image"] = [file for file in files if file.suffix.lower() in SUFFIXES]
    found = [kind for kind, members in kinds.items() if members]
    if not found:
        raise _nothing(place, files)
    if len(found) > 1:
        raise UsageError(
            f"{place} holds several kinds of samples: "
            + ", ".join(f"{kinds[kind][0].name} and {len(kinds[kind]) - 1} more" for kind in found),
            fix="put each kind into a folder of its own",
        )
    if found == ["image"]:
        return Images(place, kinds["image"], inputs, image)
    return from_files(place, kinds[".npz"], inputs) if found == [".npz"] else _arrays(place, kinds[".npy"], inputs)


def _nothing(place: Path, files: Sequence[Path]) -> UsageError:
    inner = sorted(one.name for one in place.iterdir() if one.is_dir())
    if files:
        what = f"holds no samples, but {', '.join(file.name for file in files[:3])}"
    else:
        what = f"holds only folders: {', '.join(inner[:3])}" if inner else "is an empty folder"
    return UsageError(
        f"{place} {what}",
        fix=f"name a folder with samples: {place / inner[0]}" if inner else "samples are .npy, .npz, .png, .jpg, .webp",
    )


def _arrays(place: Path, files: Sequence[Path], inputs: Sequence[TensorSpec] | None) -> Source:
    by_name = {file.stem: file for file in files}
    numbered = len(files) > 1 and all(name.strip("0123456789_-") == "" for name in by_name)
    if inputs is None:
        return from_files(place, files, inputs) if numbered else Npy(place, by_name)
    missing = [spec.name for spec in inputs if spec.name not in by_name]
    if not missing and (len(files) == len(inputs) or not numbered):
        return Npy(place, by_name)
    if len(missing) == len(inputs):
        return from_files(place, files, inputs)
    shown = ", ".join(file.name for file in files[:6]) + (", ..." if len(files) > 6 else "")  # noqa: PLR2004 (a line's worth)
    raise UsageError(
        f"{place} is unclear: some of its files are named after inputs, "
        + (f"and there is no {missing[0]}.npy{nearest(missing[0], by_name)}" if missing else "and all after numbers"),
        details=(f"the model takes: {', '.join(map(str, inputs))}", f"the folder has:  {shown}"),
        fix="name one file after each input, or none of them, and each is one sample",
    )
