"""Where a graph is cut in two so that the fewest tensors cross: the minimum cut, by the largest flow.

Of all ways to put nodes on two sides, of which some are bound to one, the one that costs least. A tensor that crosses
costs one cast, whatever the number of nodes that read it beyond.
"""

from collections import defaultdict, deque
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass, field

Point = Hashable
ENDLESS = 10**12
_HERE, _THERE = "source", "sink"


@dataclass
class Cut:
    """A network whose cheapest cut is asked for."""

    room: dict[Point, dict[Point, int]] = field(default_factory=lambda: defaultdict(lambda: defaultdict(int)))

    def prefer_here(self, point: Point, cost: int = ENDLESS) -> None:
        """Let it cost something where a point is not on this side."""
        self._add(_HERE, point, cost)

    def prefer_there(self, point: Point, cost: int = ENDLESS) -> None:
        """Let it cost something where a point is on this side."""
        self._add(point, _THERE, cost)

    def tensor(self, name: Hashable, giver: Point, takers: Iterable[Point], cost: int) -> None:
        """Let it cost something, once, where any taker is not on the side of the giver."""
        down, up = ("down", name), ("up", name)
        self._add(giver, down, cost)
        self._add(up, giver, cost)
        for taker in takers:
            self._add(down, taker, ENDLESS)
            self._add(taker, up, ENDLESS)

    def there(self) -> set[Point]:
        """Give the points that are on the other side of the cheapest cut.

        Paths are found breadth first, the shortest first: Edmonds and Karp, Theoretical improvements in algorithmic
        efficiency for network flow problems, 1972.
        """
        while _THERE in (came := self._reached()):
            path = [_THERE]
            while path[-1] != _HERE:
                path.append(came[path[-1]])  # type: ignore[arg-type]
            steps = list(zip(path[1:], path, strict=False))
            most = min(self.room[one][other] for one, other in steps)
            for one, other in steps:
                self.room[one][other] -= most
                self.room[other][one] += most
        return set(self.room) - came.keys()

    def _reached(self) -> Mapping[Point, Point]:
        came: dict[Point, Point] = {_HERE: _HERE}
        ahead = deque([_HERE])
        while ahead and _THERE not in came:
            point = ahead.popleft()
            for other, room in self.room[point].items():
                if room > 0 and other not in came:
                    came[other] = point
                    ahead.append(other)  # type: ignore[arg-type]
        return came

    def _add(self, one: Point, other: Point, cost: int) -> None:
        self.room[one][other] += cost
        self.room[other][one] += 0
