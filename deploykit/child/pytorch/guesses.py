"""Guess what each input looks like from the layer that consumes it, and combine the guesses into plans."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import product
from operator import itemgetter

from deploykit.child.pytorch.candidates import AUDIO, FEATURES, IMAGES, LENGTHS, LONG, SEEDS, B, D, Guess, H, N, Plan, W
from deploykit.child.pytorch.consumers import Layer, Use

Dims = tuple[int | str, ...]
_LONG_KERNEL = 16
_COLOURS = 3
_PLAIN_KINDS = ("rnn", "attention", "cell", "bilinear", "layer", "norm1")
_MOST_PLANS = 80
_MOST_COMBINATIONS = 4000
_MOST_GROUPS = 3
_MIXING_COST = 2

_MASK = re.compile(r"mask", re.IGNORECASE)
_LENGTH = re.compile(r"(^|_)len(gth)?s?$", re.IGNORECASE)
_IDS = re.compile(r"(^|_)(id|ids|idx|index|indices|tokens?|labels?)$", re.IGNORECASE)
_SINGLE = re.compile(r"^(user|item|label)s?|_id$|^(t|timesteps?)$", re.IGNORECASE)


def plans(names: Sequence[str], uses: Mapping[str, Use], layers: Sequence[Layer]) -> list[Plan]:
    """Combine the guesses for every input, the likeliest first.

    Args:
        names: the inputs, in order.
        uses: what consumes them, of those for which that is known.
        layers: every layer of the module: one of them consumes the others.
    """
    rest = [guess for layer in _distinct(layers)[:6] for guess in guesses(Use(layer), layers)]
    rest = list(dict.fromkeys([*rest, *_unknown_guesses(layers)]))
    groups: list[list[dict[str, Guess]]] = []
    done: set[str] = set()
    for name in names:
        if name in done:
            continue
        use = uses.get(name)
        together = [name] if use is None or _is_special(name, use) else _group(name, use, names, done, uses)
        done.update(together)
        groups.append(_joint(together, use, _alone(name, use, layers, rest)))
    return [
        Plan({name: part[name] for name in names for part in choice if name in part})
        for choice in _nearest_first(groups)
    ]


def guesses(use: Use, layers: Sequence[Layer]) -> list[Guess]:
    """List what an input may look like that is consumed so, the likeliest first."""
    layer = use.layer
    kinds = {other.kind for other in layers}
    why, dtype, width = layer.why, layer.dtype, layer.width
    kind = _as_other(layer, kinds)
    if kind == "embedding":
        return [Guess("int64", dims, why, below=width) for dims in ((B, N), (N, B), (B,))]
    if kind == "linear":
        return _linear(use, bool(kinds & {"rnn", "attention"}))
    if kind in _PLAIN_KINDS:
        return [Guess(dtype, dims, why) for dims in _plain_dims(use, kind, kinds)]
    found = [Guess(dtype, dims, why, _usual(layer, width, dims)) for dims in _spatial_dims(layer, kind[-1], width)]
    if kind.startswith("conv") and len(layer.weight) > 1 and layer.weight[1] == 1 and width == 1 < layer.weight[0]:
        # A traced module does not say how many groups its convolution has.
        depthwise = replace(layer, width=layer.weight[0])
        found += [Guess(dtype, _spatial_dims(depthwise, kind[-1], depthwise.width)[0], why, FEATURES)]
    return found


def _as_other(layer: Layer, kinds: set[str]) -> str:
    if layer.kind == "group":
        return next((f"norm{rank}" for rank in "231" if f"conv{rank}" in kinds), "norm1")
    if layer.kind == "layer" and len(layer.weight) <= 1:
        return "linear"
    return layer.kind


def _plain_dims(use: Use, kind: str, kinds: set[str]) -> list[Dims]:
    width, weight = use.layer.width, use.layer.weight
    if kind == "bilinear":
        return [(B, side) for side in (weight[2:0:-1] if use.slot == 1 else weight[1:3])]
    if kind == "layer":
        return [(B, *weight), (B, N, *weight)]
    if kind == "norm1":
        flat: Dims = (B, width)
        rows: list[Dims] = [(B, width, N), (B, N, width)]
        return [*rows, flat] if "conv1" in kinds else [flat, *rows]
    return _sequence_dims(use)


def _sequence_dims(use: Use) -> list[Dims]:
    layer = use.layer
    stacked, hidden = layer.state
    if layer.kind == "cell":
        return [(B, layer.width if use.slot == 0 else hidden)]
    if layer.kind == "rnn" and use.slot in (1, "hx"):
        return [(stacked, B, hidden)]
    both: list[Dims] = [(B, N, layer.width), (N, B, layer.width)]
    return both[::-1] if layer.batch_first is False else both


def _linear(use: Use, sequential: bool) -> list[Guess]:
    layer, width = use.layer, use.layer.width
    flat, steps = (B, width), (B, N, width)
    dims: list[Dims] = [steps, (N, B, width), flat] if sequential else [flat, steps]
    image = _image_of(width)
    if image:
        # A flatten in front of the layer would do nothing to a flat input.
        dims.insert(0 if use.flattened else len(dims), (B, *image))
        dims.append((B, *image[1:]))
    found = [Guess(layer.dtype, dim, layer.why, FEATURES) for dim in (*dims, (B, H, W, width), (B,), (B, 1), (B, N))]
    return [replace(guess, sizes=LENGTHS) if N in guess.dims else guess for guess in found] + [
        Guess("int64", dim, layer.why, below=min(width, 100)) for dim in ((B, N), (B,))
    ]


def _image_of(width: int) -> tuple[int, int, int] | None:
    for channels in (1, 3):
        side = round((width / channels) ** 0.5)
        if side * side * channels == width and side in (28, 32, 64, 96, 128, 224):
            return channels, side, side
    return None


def _spatial_dims(layer: Layer, rank: str, width: int) -> list[Dims]:
    plain: dict[str, Dims] = {"1": (N,), "2": (H, W), "3": (D, H, W)}
    space = plain[rank]
    dims = [(B, width, *space), (B, *space, width)]
    if rank == "3":
        dims.append((B, D, width, H, W))
    if width == 1:
        dims.insert(1, (B, *space))
    if width == _COLOURS:
        dims.append((B, 1, *space))
    if layer.kind.startswith("up"):
        dims.append((B, width))
    elif rank != "1":
        dims += [(B, N), (B, 1, N), (B, N, N)] + ([(B, N, width, *space)] if rank == "2" else [])
    elif width != 1:
        dims.append((B, N))
    return dims


def _usual(layer: Layer, width: int, dims: Dims) -> tuple[int, ...]:
    kernel = max(layer.weight[2:], default=1)
    if N in dims and H not in dims:
        return AUDIO if kernel >= _LONG_KERNEL or (dims == (B, N) and layer.kind != "up1") else LONG
    return SEEDS if layer.kind.startswith("up") else IMAGES.get(width, FEATURES)


def _alone(name: str, use: Use | None, layers: Sequence[Layer], rest: list[Guess]) -> list[Guess]:
    if _LENGTH.search(name):
        return [Guess("int64", (B,), f"{name} is named as lengths", role="lengths"), *rest]
    if _is_special(name, use):
        why = f"{name} is named as a mask"
        dims: list[Dims] = [(B, N), (N, N), (B, 1, N), (B, N, N), (B, 1, 1, N), (B, 1, N, N)]
        types = ("int64", "bool", "float32")
        return [Guess(dtype, dim, why, role="mask") for dim in dims for dtype in types]
    if use is None:
        by_name = Guess("int64", (B, N), f"{name} is named as ids", below=2)
        return ([by_name] if _IDS.search(name) and not any(guess.below for guess in rest) else []) + rest
    found = guesses(use, layers)
    # One id, or one step of a diffusion, belongs to a row; a column of them would run too.
    return sorted(found, key=lambda guess: guess.dims != (B,)) if _SINGLE.search(name) else found


def _is_special(name: str, use: Use | None) -> bool:
    if _LENGTH.search(name):
        return True
    return bool(_MASK.search(name)) and (use is None or not use.layer.kind.startswith(("conv", "up")))


def _group(name: str, use: Use, names: Sequence[str], done: set[str], uses: Mapping[str, Use]) -> list[str]:
    others = [other for other in names if other in use.together and other not in done]
    return [other for other in others if other == name or not _is_special(other, uses[other])]


def _joint(names: list[str], use: Use | None, alone: list[Guess]) -> list[dict[str, Guess]]:
    same = [dict.fromkeys(names, guess) for guess in alone]
    if use is None or len(names) == 1:
        return same
    split = [dict(zip(names, parts, strict=True)) for guess in alone for parts in _splits(guess, len(names), use)]
    return split + same if use.joined else same + split


def _splits(guess: Guess, count: int, use: Use) -> Iterator[list[Guess]]:
    width = use.layer.width
    if width not in guess.dims or guess.below:
        return
    axis = guess.dims.index(width)
    shares = [width // count] * count
    shares[0] += width - sum(shares)
    ends = (1, 3) if count == 2 else ()  # noqa: PLR2004
    ways = [[width - end, end] for end in ends] + [[end, width - end] for end in ends]
    # Four channels are colours and one more, as a mask; others are taken to be halves.
    ways.insert(len(ways) if width == _COLOURS + 1 else 0, shares)
    for way in ways:
        if min(way) > 0:
            why = f"{guess.why}, joined from {count} inputs in shares that are a guess"
            yield [replace(guess, dims=(*guess.dims[:axis], part, *guess.dims[axis + 1 :]), why=why) for part in way]


def _unknown_guesses(layers: Sequence[Layer]) -> list[Guess]:
    why = "no layer tells more"
    dtype = layers[0].dtype if layers else "float32"
    floats: list[Dims] = [(B, N), (B, 3, H, W), (B, 1, H, W), (B, N, N), (B,)]
    ids = [Guess("int64", dims, why, below=2) for dims in ((B, N), (B,))]
    return [Guess(dtype, dims, why, IMAGES[3] if H in dims else LENGTHS) for dims in floats] + ids


def _distinct(layers: Sequence[Layer]) -> list[Layer]:
    return list({(layer.kind, layer.width): layer for layer in reversed(layers)}.values())[::-1]


def _nearest_first(groups: list[list[dict[str, Guess]]]) -> list[tuple[dict[str, Guess], ...]]:
    # Of many inputs, those of one kind are alike: fifty columns of ids are not fifty questions.
    alike = [_forms(group) if len(groups) > _MOST_GROUPS else (number,) for number, group in enumerate(groups)]
    kinds = {key: len(group) for key, group in zip(alike, groups, strict=True)}
    most = int(_MOST_COMBINATIONS ** (1 / len(kinds)))
    ranked: list[tuple[int, int, int, tuple[dict[str, Guess], ...]]] = []
    for way in product(*(range(min(most, count)) for count in kinds.values())):
        rank = dict(zip(kinds, way, strict=True))
        choice = tuple(group[rank[key]] for key, group in zip(alike, groups, strict=True))
        ranked.append((max(way) + _MIXING_COST * _mixes_layouts(choice), sum(way), len(ranked), choice))
    return [choice for *_, choice in sorted(ranked, key=itemgetter(0, 1, 2))[:_MOST_PLANS]]


def _mixes_layouts(choice: tuple[dict[str, Guess], ...]) -> bool:
    # By broadcasting, such inputs may run together without belonging together.
    return len({guess.dims[0] == N for part in choice for guess in part.values()}) > 1


def _forms(group: list[dict[str, Guess]]) -> tuple[object, ...]:
    return tuple(guess.dims for choice in group for guess in choice.values())
