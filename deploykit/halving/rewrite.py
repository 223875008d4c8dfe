"""Halve the nodes of a plan: their tensors and weights become 16 bits wide, and casts come where both widths meet."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from deploykit.halving.graph import Graph, bodies, holds_graph, owner
from deploykit.halving.plan import Plan
from deploykit.halving.schema import is_float
from deploykit.halving.weights import fits_throughout, half_tensor
from deploykit.rounding import Half

SMALL = 256
"""Values up to which a weight that is read in both widths is kept twice, in the place of a cast."""


@dataclass
class Rewriting:
    """A graph while it is halved; it is changed in place."""

    graph: Graph
    plan: Plan
    whole: frozenset[str] | None = frozenset()
    """Weights that are kept in float32 in the file too, where float32 is what reads them; None for all of them."""
    ports: bool = False
    """Whether the inputs and outputs of the model become 16 bits wide too."""
    casts: dict[tuple[Any, Any], Any] = field(default_factory=dict)
    """The value that a value was cast to, by value and type."""
    names: set[str] = field(default_factory=set)
    """Of values and of nodes, which nothing that is added may have."""

    def run(self) -> None:
        """Halve it."""
        graph = self.graph.model.graph
        self.names = {name for one in self.graph.model.graphs() for name in _names(one)}
        narrow, wide = self._readers()
        self._settle_weights(narrow, wide)
        for number, node in enumerate(self.graph.nodes):
            self._halve(number, node)
        for output in dict.fromkeys(graph.outputs):
            self._settle_output(output)
        if self.ports:
            self._settle_inputs()
        for body in self.graph.model.graphs():
            if body is not graph and self.whole is not None:
                self._store_weights(body)

    def _readers(self) -> tuple[set[Any], set[Any]]:
        """Give the weights that are read in 16 bits, and those that are read in 32."""
        narrow, wide = set[Any](), set(self.graph.model.graph.outputs)
        for number in range(len(self.graph.nodes)):
            for place, value in self.graph.inputs(number):
                (narrow if self._is_narrow(number, place) else wide).add(value)
        return narrow, wide

    def _is_narrow(self, number: int, place: int | None) -> bool:
        return number in self.plan.halves and place is not None and place in self.graph.ports[number].inputs

    def _settle_weights(self, narrow: set[Any], wide: set[Any]) -> None:
        graph, half = self.graph.model.graph, self.graph.half
        import onnx_ir

        for value in list(graph.initializers.values()):
            if not is_float(value) or value in graph.inputs or value in graph.outputs:
                continue
            twice = value in narrow and value in wide
            if twice and value.const_value.size <= SMALL:
                copy = onnx_ir.Value(name=self._name(value, half), const_value=half_tensor(value.const_value, half))
                copy.dtype, copy.shape = half.type, value.shape
                graph.register_initializer(copy)
                self.casts[value, half.type] = copy
            elif value in narrow or self._is_stored(value):
                self._store(graph, value, cast=value in wide)

    def _is_stored(self, value: Any) -> bool:
        """Tell whether a weight that only float32 reads is 16 bits wide in the file, and cast when it is loaded."""
        fit = self.plan.fits.get(value.name)
        large = value.const_value.size > SMALL and self.whole is not None and value.name not in self.whole
        if not large or fit is None or not fit.fits(self.graph.half) or fit.mask:
            return False
        inner = any(user.graph is not self.graph.model.graph for user, _ in value.uses())
        return not inner or fits_throughout(value.const_value, self.graph.half)

    def _store(self, graph: Any, value: Any, *, cast: bool) -> None:
        value.const_value = half_tensor(value.const_value, self.graph.half)
        value.dtype = self.graph.half.type
        if cast:
            import onnx_ir

            first = self._first_user(graph, value)
            users = [(user, place) for user, place in value.uses() if not self._reads_narrow(user, place)]
            wide = self._cast(value, onnx_ir.DataType.FLOAT, first)
            for user, place in users:
                user.replace_input_with(place, wide)

    @staticmethod
    def _first_user(graph: Any, value: Any) -> Any:
        """Find where a weight is first read: widened at the start, all of them would be there at once."""
        users = {user for user, _ in value.uses()}
        inside = {user for user in users if user.graph is graph}
        return (
            next((node for node in graph if node in inside), None) if len(inside) == len(users) else next(iter(graph))
        )

    def _reads_narrow(self, user: Any, place: int) -> bool:
        number = self.graph.number.get(user)
        return number is not None and self._is_narrow(number, place)

    def _halve(self, number: int, node: Any) -> None:
        import onnx_ir

        half = self.graph.half.type
        for place, value in enumerate(node.inputs):
            if value is not None and value.dtype in (onnx_ir.DataType.FLOAT, half):
                wanted = half if self._is_narrow(number, place) else onnx_ir.DataType.FLOAT
                node.replace_input_with(place, self._as(value, wanted, node))
        if holds_graph(node):
            self._widen_captured(node)
        if number in self.plan.halves:
            for place in self.graph.ports[number].outputs:
                node.outputs[place].dtype = half
            _tell(node, self.graph.half)

    def _as(self, value: Any, wanted: Any, node: Any) -> Any:
        if value.dtype == wanted:
            return value
        if (value, wanted) not in self.casts:
            self._cast(value, wanted, node)
        return self.casts[value, wanted]

    def _cast(self, value: Any, to: Any, before: Any) -> Any:
        import onnx_ir

        made = onnx_ir.Node("", "Cast", [value], [onnx_ir.AttrInt64("to", int(to))], num_outputs=1)
        result = made.outputs[0]
        result.name, result.dtype, result.shape = self._name(value, to), to, value.shape
        made.name = self._unique(f"{result.name}_cast")
        before.graph.insert_before(before, made)
        self.casts[value, to] = result
        return result

    def _name(self, value: Any, kind: Any) -> str:
        return self._unique(f"{value.name}_{kind.name.lower()}")

    def _unique(self, wanted: str) -> str:
        name, count = wanted, 1
        while name in self.names:
            count += 1
            name = f"{wanted}_{count}"
        self.names.add(name)
        return name

    def _widen_captured(self, node: Any) -> None:
        """Let the bodies of a node read float32."""
        import onnx_ir

        half, graph = self.graph.half.type, self.graph.model.graph
        for body in bodies(node):
            for inner in list(body):
                for place, value in enumerate(inner.inputs):
                    if value is not None and value.dtype == half and owner(value) is graph:
                        inner.replace_input_with(place, self._as(value, onnx_ir.DataType.FLOAT, node))
            for place, value in enumerate(body.outputs):
                if value.dtype == half and owner(value) is graph:
                    body.outputs[place] = self._as(value, onnx_ir.DataType.FLOAT, node)

    def _settle_output(self, output: Any) -> None:
        """Keep the name of an output, and its type unless that is to be halved."""
        import onnx_ir

        graph, half = self.graph.model.graph, self.graph.half
        wanted = half.type if self.ports else onnx_ir.DataType.FLOAT
        if (
            output.dtype not in (onnx_ir.DataType.FLOAT, half.type)
            or output.dtype == wanted
            or output.producer() is None
        ):
            return
        name = output.name
        result = self.casts.get((output, wanted)) or self._cast_behind(output, wanted)
        output.name = self._name(output, output.dtype)
        result.name = name
        for place, listed in enumerate(list(graph.outputs)):
            if listed is output:
                graph.outputs[place] = result

    def _cast_behind(self, value: Any, to: Any) -> Any:
        import onnx_ir

        made = onnx_ir.Node("", "Cast", [value], [onnx_ir.AttrInt64("to", int(to))], num_outputs=1)
        made.outputs[0].dtype, made.outputs[0].shape = to, value.shape
        made.name = self._unique(f"{value.name}_cast")
        value.graph.append(made)
        return made.outputs[0]

    def _settle_inputs(self) -> None:
        """Let the inputs come in 16 bits, and be widened where float32 reads them."""
        import onnx_ir

        graph, half = self.graph.model.graph, self.graph.half.type
        for value in graph.inputs:
            if not is_float(value) or value.name in graph.initializers:
                continue
            narrow = self.casts.get((value, half))
            users = tuple(value.uses())
            value.dtype = half
            if narrow is not None:
                for user, place in tuple(narrow.uses()):
                    user.replace_input_with(place, value)
                users = tuple((user, place) for user, place in users if user is not narrow.producer())
                graph.remove(narrow.producer(), safe=True)
            if users:
                wide = self._cast(value, onnx_ir.DataType.FLOAT, next(iter(graph)))
                for user, place in users:
                    user.replace_input_with(place, wide)

    def _store_weights(self, body: Any) -> None:
        """Store the large weights of a body in 16 bits; it computes in float32, and perhaps in no sample."""
        for value in list(body.initializers.values()):
            large = is_float(value) and value.const_value.size > SMALL and value not in body.outputs
            if large and len(body) and fits_throughout(value.const_value, self.graph.half):
                self._store(body, value, cast=True)


def _tell(node: Any, half: Half) -> None:
    """Tell a node by its attribute of what type its result is."""
    import onnx_ir

    if node.op_type == "Cast":
        node.attributes["to"] = onnx_ir.AttrInt64("to", int(half.type))
    elif node.op_type == "ConstantOfShape":
        import numpy as np

        given = node.attributes.get("value")
        value = given.value if given is not None else onnx_ir.tensor(np.zeros(1, np.float32))
        node.attributes["value"] = onnx_ir.AttrTensor("value", onnx_ir.tensor(half_tensor(value, half).numpy()))


def _names(graph: Any) -> Iterator[str]:
    yield from (value.name for value in (*graph.inputs, *graph.initializers.values()))
    for node in graph:
        yield from (name for name in (node.name, *(value.name for value in node.outputs)) if name)
