"""The tree of choices of a navigation, and its file: every node is what the choices that lead to it made."""

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from thalweg.embedding import Embedding, ModelIdentity
from thalweg.errors import UsageError
from thalweg.io.json_files import read_as
from thalweg.limits import MAX_CANDIDATES, shown
from thalweg.steer.runs import Run

TREE = "tree.json"
Kind = Literal["start", "choose", "none", "fork"]


@dataclass(frozen=True)
class Choice:
    """What led from a node to its child.

    Attributes:
        kind: "choose" one of the candidates; "none" of them; "fork": other candidates from the same embedding.
        count: how many candidates were shown.
        index: which one was chosen; for a fork, how many there were before at the same node.
        strength: how far toward it, 1 being the candidate itself.
    """

    kind: Kind
    count: int = 0
    index: int = 0
    strength: float = 0.0


@dataclass(frozen=True)
class Round:
    """What was shown before a choice: enough to learn from it again.

    Attributes:
        points: where the current embedding (first) and the candidates lie in the subspace that preferences live in.
        labels: what each candidate is, in words.
        distances: image distance of each candidate to the current embedding.
    """

    points: list[list[float]]
    labels: list[str]
    distances: list[float]


@dataclass(frozen=True)
class Node:
    """A place that choices led to.

    Attributes:
        number: in order of making.
        parent: the number of the node it was reached from.
        choice: what led here.
        seed: of all random draws made here; it follows from the choices, so equal choices give equal nodes.
        embedding: the current embedding.
        words: the words of the prompt by group, as choices changed them.
        point: where it lies in the subspace that preferences live in.
        round: what was shown at the parent.
    """

    number: int
    parent: int | None
    choice: Choice
    seed: int
    embedding: Embedding
    words: Mapping[str, str]
    point: list[float]
    round: Round | None = None


@dataclass
class Tree:
    """Nodes by number, the current one, and the names people gave to some."""

    nodes: dict[int, Node] = field(default_factory=dict)
    current: int = 0
    names: dict[int, str] = field(default_factory=dict)

    def node(self, number: int) -> Node:
        """Return a node; `UsageError` where there is none of that number."""
        if number not in self.nodes:
            raise UsageError(f"expected a node from 0 to {len(self.nodes) - 1}, got {number}")
        return self.nodes[number]

    def name(self, number: int, name: str) -> None:
        """Name a node; an empty name takes it away."""
        self.names[self.node(number).number] = " ".join(name.split())
        self.names = {known: given for known, given in self.names.items() if given}

    def add(self, node: Node) -> Node:
        """Go to `node`; where the same choice was made before at its parent, to the node it made then."""
        for known in self.children(node.parent):
            if known.seed == node.seed:
                node = known
        self.nodes[node.number] = node
        self.current = node.number
        return node

    def children(self, parent: int | None) -> list[Node]:
        """The nodes reached from `parent`, in order."""
        return [node for node in self.nodes.values() if node.parent == parent]

    def way(self, number: int | None = None) -> list[Node]:
        """The nodes from the root to `number`, by default the current one."""
        way: list[Node] = []
        place: int | None = self.current if number is None else number
        while place is not None:
            way.append(self.nodes[place])
            place = self.nodes[place].parent
        return way[::-1]

    def save(self, run: Run) -> None:
        """Write tree.json, and the embedding of each node that has no file yet."""
        for node in self.nodes.values():
            file = run.path(embedding_file(node.number))
            if not file.is_file():
                node.embedding.save(file)
        records = []
        for node in self.nodes.values():
            record = {name: value for name, value in vars(node).items() if name not in ("embedding", "choice", "round")}
            record["words"] = dict(node.words)
            record["choice"] = asdict(node.choice)
            record["round"] = None if node.round is None else asdict(node.round)
            records.append({**record, "embedding": embedding_file(node.number), "hash": node.embedding.hash})
        run.write_record(TREE, {"current": self.current, "names": self.names, "nodes": records})

    @classmethod
    def load(cls, run: Run, model: ModelIdentity) -> "Tree":
        """Read the tree of a run.

        Raises:
            UsageError: there is none, it can't be read, or an embedding in it was changed.
        """
        if not (run.folder / TREE).is_file():
            raise UsageError(f"{run.folder}: expected a navigation with its {TREE}, found none; start it anew")
        saved = read_as(_SavedTree, run.read_record(TREE), f"{run.folder}: its {TREE}")
        for number, node in enumerate(saved.nodes):
            _check_node(run, saved.nodes, number, node)
        strange = {saved.current, *saved.names} - set(range(len(saved.nodes)))
        if strange:
            raise _fault(run, f"it names node {shown(min(strange))} of {len(saved.nodes)}")
        nodes = {number: _read_node(run, node, model) for number, node in enumerate(saved.nodes)}
        return cls(nodes, saved.current, dict(saved.names))


def embedding_file(number: int) -> str:
    """Return the name, within its run, of the file that holds a node's embedding."""
    return f"nodes/{number:03d}.safetensors"


@dataclass(frozen=True)
class _SavedNode:
    """A node as tree.json holds it: its embedding by file and hash."""

    number: int
    parent: int | None
    choice: Choice
    seed: int
    words: dict[str, str]
    point: list[float]
    round: Round | None
    embedding: str
    hash: str


@dataclass(frozen=True)
class _SavedTree:
    """What tree.json holds."""

    current: int
    nodes: list[_SavedNode]
    names: dict[int, str] = field(default_factory=dict)


def _check_node(run: Run, nodes: Sequence[_SavedNode], number: int, node: _SavedNode) -> None:
    """Raise a UsageError where a node does not follow from those before it."""
    # A file of another name would be read from another run, or from anywhere.
    if node.number != number or node.embedding != embedding_file(number):
        raise _fault(run, f"expected node {number} in {embedding_file(number)}, got {node.number} in {node.embedding}")
    if len(node.point) != len(nodes[0].point) or not all(map(math.isfinite, node.point)):
        raise _fault(run, f"node {number}: expected a point of {len(nodes[0].point)} numbers")
    if number == 0:
        if node.parent is not None or node.choice.kind != "start" or node.round is not None:
            raise _fault(run, "expected node 0 to be the start")
        return
    choice, shown_before = node.choice, node.round
    if node.parent is None or not 0 <= node.parent < number:
        raise _fault(run, f"node {number}: expected a parent before it, got {node.parent}")
    if node.seed != chained_seed(nodes[node.parent].seed, choice):
        raise _fault(run, f"node {number}: its seed does not follow from its choice")
    if (shown_before is None) != (choice.kind == "fork") or choice.kind == "start":
        raise _fault(run, f"node {number}: expected a choice and what was shown before it")
    if shown_before is not None:
        count = len(shown_before.labels)
        lengths = {len(point) for point in shown_before.points}
        numbers = [number for point in shown_before.points for number in point] + shown_before.distances
        if (
            len(shown_before.points) != count + 1
            or len(shown_before.distances) != count
            or lengths != {len(node.point)}
            or not all(map(math.isfinite, numbers))
            or not 0 <= choice.index < count <= choice.count <= MAX_CANDIDATES
            or not 0 <= choice.strength < math.inf
        ):
            raise _fault(run, f"node {number}: what was shown before it does not agree with its choice")


def _fault(run: Run, reason: str) -> UsageError:
    return UsageError(f"{run.folder}: its {TREE} can't be read: {reason}")


def _read_node(run: Run, saved: _SavedNode, model: ModelIdentity) -> Node:
    embedding = Embedding.load(run.folder / saved.embedding, model)
    if embedding.hash != saved.hash:
        raise UsageError(f"{run.folder}: {saved.embedding} is not the embedding that {TREE} names; the run was changed")
    return Node(saved.number, saved.parent, saved.choice, saved.seed, embedding, saved.words, saved.point, saved.round)


def chained_seed(*parts: Any) -> int:
    """Return a seed of 63 bits that follows from `parts` (JSON values or dataclasses of them) and nothing else."""
    text = json.dumps([asdict(part) if isinstance(part, Choice) else part for part in parts], sort_keys=True)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1
