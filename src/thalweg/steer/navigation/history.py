"""History of a navigation: the tree of its choices, and its file. Every node follows from the choices before it."""

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
    """Choice that leads from a node to its child.

    Attributes:
        kind: "choose": one of the candidates; "none": none of them; "fork": other candidates from the same embedding.
        count: number of candidates asked for.
        index: index of the candidate that was chosen; for a fork, the number of earlier forks of the same node.
        strength: weight on the path to the candidate; 1 is the candidate itself.
    """

    kind: Kind
    count: int = 0
    index: int = 0
    strength: float = 0.0


@dataclass(frozen=True)
class Round:
    """Candidates shown before a choice: enough to learn from it again.

    Attributes:
        points: coordinates of the current embedding (first) and of the candidates in the subspace of preferences.
        labels: description of each candidate.
        distances: image distance of each candidate from the current embedding.
    """

    points: list[list[float]]
    labels: list[str]
    distances: list[float]


@dataclass(frozen=True)
class Node:
    """Node of the tree: an embedding that choices led to.

    Attributes:
        number: index in order of creation.
        parent: number of the node it was reached from; None for the start.
        choice: the choice that led here.
        seed: seed of all random draws at this node; it follows from the choices, so equal choices give equal nodes.
        embedding: the embedding.
        words: words of the prompt by group, as choices changed them.
        point: coordinates in the subspace of preferences.
        round: the candidates shown at the parent; None for the start and for forks.
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
    """Nodes by number, the current node, and names that users gave to some nodes."""

    nodes: dict[int, Node] = field(default_factory=dict)
    current: int = 0
    names: dict[int, str] = field(default_factory=dict)

    def node(self, number: int | None = None) -> Node:
        """Return a node, by default the current one.

        Raises:
            UsageError: there is no node of that number.
        """
        number = self.current if number is None else number
        if number not in self.nodes:
            raise UsageError(f"expected a node from 0 to {len(self.nodes) - 1}, got {number}")
        return self.nodes[number]

    def name(self, number: int, name: str) -> None:
        """Name a node; an empty name removes the name.

        Raises:
            UsageError: there is no node of that number.
        """
        self.names[self.node(number).number] = " ".join(name.split())
        self.names = {known: given for known, given in self.names.items() if given}

    def add(self, node: Node) -> Node:
        """Add a node and go to it; if the same choice was made before at its parent, go to that node instead."""
        for known in self.children(node.parent):
            if known.seed == node.seed:
                node = known
        self.nodes[node.number] = node
        self.current = node.number
        return node

    def children(self, parent: int | None) -> list[Node]:
        """Return the nodes reached from `parent`, in order of creation."""
        return [node for node in self.nodes.values() if node.parent == parent]

    def path(self) -> list[Node]:
        """Return the nodes from the root to the current one."""
        path: list[Node] = []
        number: int | None = self.current
        while number is not None:
            path.append(self.nodes[number])
            number = self.nodes[number].parent
        return path[::-1]

    def refusals(self) -> int:
        """Return how many rounds in a row, up to the current node, had no candidate better than the embedding."""
        path = self.path()
        return next((count for count, node in enumerate(reversed(path)) if node.choice.kind != "none"), 0)

    def save(self, run: Run) -> None:
        """Write tree.json, and the embedding of each node without a file."""
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
            UsageError: the run has no tree, it can't be read, or an embedding in it was changed.
        """
        if not (run.folder / TREE).is_file():
            raise UsageError(f"{run.folder}: expected a navigation with its {TREE}, found none; begin a new run")
        saved = read_as(_SavedTree, run.read_record(TREE), f"{run.folder}: its {TREE}")
        for number, node in enumerate(saved.nodes):
            _check_node(run, saved.nodes, number, node)
        unknown = {saved.current, *saved.names} - set(range(len(saved.nodes)))
        if unknown:
            raise _invalid(run, f"it names node {shown(min(unknown))} of {len(saved.nodes)}")
        nodes = {number: _read_node(run, node, model) for number, node in enumerate(saved.nodes)}
        return cls(nodes, saved.current, dict(saved.names))


def embedding_file(number: int) -> str:
    """Return the name, within its run, of the file that holds a node's embedding."""
    return f"nodes/{number:03d}.safetensors"


@dataclass(frozen=True)
class _SavedNode:
    """Node in tree.json: its embedding by file and hash."""

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
    """Content of tree.json."""

    current: int
    nodes: list[_SavedNode]
    names: dict[int, str] = field(default_factory=dict)


def _check_node(run: Run, nodes: Sequence[_SavedNode], number: int, node: _SavedNode) -> None:
    """Refuse a node that does not follow from those before it.

    Raises:
        UsageError: the node's number, file, parent, seed, choice or round is invalid.
    """
    # A file of another name would be read from another run, or from anywhere.
    if node.number != number or node.embedding != embedding_file(number):
        raise _invalid(
            run, f"expected node {number} in {embedding_file(number)}, got {node.number} in {node.embedding}"
        )
    if len(node.point) != len(nodes[0].point) or not all(map(math.isfinite, node.point)):
        raise _invalid(run, f"node {number}: expected a point of {len(nodes[0].point)} numbers")
    if number == 0:
        if node.parent is not None or node.choice.kind != "start" or node.round is not None:
            raise _invalid(run, "expected node 0 to be the start")
        return
    choice, before = node.choice, node.round
    if node.parent is None or not 0 <= node.parent < number:
        raise _invalid(run, f"node {number}: expected a parent before it, got {node.parent}")
    if node.seed != chained_seed(nodes[node.parent].seed, choice):
        raise _invalid(run, f"node {number}: its seed does not follow from its choice")
    if (before is None) != (choice.kind == "fork") or choice.kind == "start":
        raise _invalid(run, f"node {number}: expected a choice and the candidates shown before it")
    if before is not None:
        count = len(before.labels)
        lengths = {len(point) for point in before.points}
        numbers = [number for point in before.points for number in point] + before.distances
        if (
            len(before.points) != count + 1
            or len(before.distances) != count
            or lengths != {len(node.point)}
            or not all(map(math.isfinite, numbers))
            or not 0 <= choice.index < count <= choice.count <= MAX_CANDIDATES
            or not 0 <= choice.strength < math.inf
        ):
            raise _invalid(run, f"node {number}: the candidates shown before it do not agree with its choice")


def _invalid(run: Run, reason: str) -> UsageError:
    return UsageError(f"{run.folder}: its {TREE} can't be read: {reason}")


def _read_node(run: Run, saved: _SavedNode, model: ModelIdentity) -> Node:
    embedding = Embedding.load(run.folder / saved.embedding, model)
    if embedding.hash != saved.hash:
        raise UsageError(f"{run.folder}: {saved.embedding} is not the embedding that {TREE} names; the run was changed")
    return Node(saved.number, saved.parent, saved.choice, saved.seed, embedding, saved.words, saved.point, saved.round)


def chained_seed(*parts: Any) -> int:
    """Return a seed of 63 bits that depends only on `parts` (JSON values or dataclasses of them)."""
    text = json.dumps([asdict(part) if isinstance(part, Choice) else part for part in parts], sort_keys=True)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1
