"""What a desk looks like: HTML in which everything a person or a program wrote is escaped."""

import math
from collections.abc import Collection, Sequence
from html import escape

from thalweg.app.steering import svg
from thalweg.app.steering.imprint_session import RESULT, ImprintSession, SeedsSession
from thalweg.app.steering.navigate_session import NavigateSession
from thalweg.app.steering.optimize_session import BEFORE_AFTER, RESULT_SCORES, OptimizeSession
from thalweg.app.steering.session import Session
from thalweg.io.json_files import read_json
from thalweg.limits import MAX_WEIGHT, check_number, check_text
from thalweg.steer.navigation.history import embedding_file
from thalweg.steer.optimization.optimize import BEST


def navigate(desk: NavigateSession) -> str:
    """The current image, the candidates found so far and places for those to come, the tree and the map."""
    if desk.walk is None:
        return _status(desk) + _hint("Type a prompt and press Start: then choose, again and again, what you like best.")
    walk, node = desk.walk, desk.walk.node
    nodes, found = dict(walk.nodes), walk.found  # a job may add to them meanwhile
    name = walk.names.get(node.number, "")
    caption = f"Now: node {node.number}{f', {name}' if name else ''}"
    current = _figure(desk, f"{desk.round}/current.png", caption, "tw-current")
    cards = []
    for index in range(desk.count):
        if index < len(found):
            label, key = found[index].label, index + 1
            image = _image(desk, f"{desk.round}/candidate-{key}.png", f"candidate {key}: {label}")
            cards.append(
                f'<button type="button" class="tw-card" data-act="choose" data-value="{index}" '
                f'aria-label="Choose candidate {key}: {escape(label)}"><kbd>{key}</kbd>{image}'
                f"<span>{escape(label)}</span></button>"
            )
        else:
            cards.append(f'<div class="tw-card tw-empty" aria-hidden="true"><kbd>{index + 1}</kbd></div>')
    tree = svg.tree(nodes, node.number, walk.names, lambda number: _address(desk, f"rounds/{number:03d}/current.png"))
    others = "".join(_figure(desk, f"{desk.round}/seed-{seed}.png", f"seed {seed}", "tw-seed") for seed in desk.others)
    strip = f'<div class="tw-strip" aria-label="The same choice on other seeds">{others}</div>' if others else ""
    download = _download(desk, embedding_file(node.number), f"Download node {node.number}")
    return (
        f'{_status(desk)}<div class="tw-stage">{current}<div class="tw-cards">{"".join(cards)}</div></div>{strip}'
        f'<div class="tw-below"><div class="tw-scroll">{tree}</div>'
        f"<figure>{svg.place_map(nodes, node.number, [walk.point_of(one) for one in found])}"
        f"<figcaption>Map: first two axes of the prompts near the start</figcaption></figure></div>"
        f"<p>{_where(desk)} {download}</p>"
    )


def optimize(desk: OptimizeSession) -> str:
    """The last step's images, the score over steps, and what it came to."""
    if desk.run is None or desk.task is None:
        return _status(desk) + _hint("Pick metrics, press Start, and watch the images follow the score.")
    rows = desk.run.read_numbers(("step", "score", "best"))
    scores = [(row["step"], row["score"]) for row in rows]
    parts = [_status(desk), f"<p><strong>{escape(desk.task.metric)}</strong> from {escape(desk.task.prompt)}</p>"]
    if rows:
        bests = [index for index, row in enumerate(rows) if row["score"] == row["best"]]
        last = round(rows[-1]["step"])
        parts.append(
            f'<div class="tw-stage">{_figure(desk, f"steps/{last:04d}.png", f"step {last}", "tw-wide")}'
            f"{svg.line(scores, bests[-1] if bests else None, f'score ({desk.task.metric})')}</div>"
        )
    parts.append(_figure(desk, BEFORE_AFTER, "before (above) and the best (below)", "tw-wide"))
    if (found := _figures(desk, RESULT_SCORES, ("start_score", "score"))) is not None:
        parts.append(f"<p>On unseen seeds: {found['start_score']:.4g} before, {found['score']:.4g} after.</p>")
    parts.append(f"<p>{_where(desk)} {_download(desk, BEST, 'Download the best')}</p>")
    return "".join(parts)


def seeds(desk: SeedsSession) -> str:
    """The seeds rendered so far, each a button."""
    if desk.run is None:
        return _status(desk) + _hint("Type a prompt and render some seeds; then click the one you like.")
    cards = []
    for seed in desk.rendered:
        kind, pressed = ("tw-card tw-liked", "true") if seed == desk.liked else ("tw-card", "false")
        image = _image(desk, f"seed-{seed}.png", f"seed {seed}")
        cards.append(
            f'<button type="button" class="{kind}" data-act="like" data-value="{seed}" aria-pressed="{pressed}" '
            f'aria-label="Like seed {seed}">{image}<span>seed {seed}</span></button>'
        )
    return f'{_status(desk)}<div class="tw-cards">{"".join(cards)}</div>'


def imprint(desk: ImprintSession) -> str:
    """The loss over steps while it runs, then unseen seeds before and after."""
    if desk.run is None or desk.task is None:
        return _status(desk)
    losses = [(row["step"], row["loss"]) for row in desk.trace]
    what = desk.task.keep or "all of it"
    parts = [_status(desk), f"<p>Seed {desk.task.seed}, keeping {escape(what)}</p>"]
    parts.append(svg.line(losses, None, "loss of each step's seeds"))
    caption = "left: the seed you like; then unseen seeds, before (above) and after (below)"
    parts.append(_figure(desk, "sheet.png", caption, "tw-wide"))
    if (report := _figures(desk, "report.json", ("share_before", "share_after"))) is not None:
        shares = f"{report['share_before']:.0%} of unseen seeds before, {report['share_after']:.0%} after"
        parts.append(f"<p>It shows on {shares}.</p>")
    parts.append(f"<p>{_where(desk)} {_download(desk, RESULT, 'Download the embedding')}</p>")
    return "".join(parts)


def _status(desk: Session) -> str:
    kind = " tw-problem" if desk.problem or (desk.job is not None and desk.job.status == "failed") else ""
    return f'<p class="tw-status{kind}" role="status" aria-live="polite">{escape(desk.status)}</p>'


def _hint(text: str) -> str:
    return f'<p class="tw-hint">{escape(text)}</p>'


def fault(reason: str) -> str:
    """Message of a board instead of a run that cannot be shown."""
    return f'<p class="tw-status tw-problem" role="status" aria-live="polite">{escape(reason)}</p>'


def _figures(desk: Session, name: str, wanted: Collection[str]) -> dict[str, float] | None:
    """Some figures in a JSON file of the run; None where there is no such file yet.

    Raises:
        UsageError: it can't be read, or lacks one of them.
    """
    path = desk.file(name)
    if not path.exists():
        return None
    where = f"{path.parent}: its {name}"
    found = read_json(path, where)
    figures = found if isinstance(found, dict) else {}
    return {each: check_number(f"{each} in {where}", figures.get(each), -math.inf, math.inf) for each in wanted}


def _where(desk: Session) -> str:
    """How the command line goes on with the run."""
    name = desk.folder.name if desk.folder is not None else ""
    return f"Run folder <code>{escape(name)}</code>; <code>thalweg steer resume {escape(name)}</code> goes on with it."


def _address(desk: Session, name: str) -> str | None:
    """Where the browser finds a file of the run; None where there is none yet."""
    path = desk.file(name)
    if not path.is_file():
        return None
    return f"runs/{path.relative_to(desk.studio.workspace.folder).as_posix()}?{path.stat().st_mtime_ns}"


def _image(desk: Session, name: str, alternative: str) -> str:
    address = _address(desk, name)
    return f'<img src="{escape(address)}" alt="{escape(alternative)}">' if address else ""


def _figure(desk: Session, name: str, caption: str, kind: str) -> str:
    image = _image(desk, name, caption)
    return f'<figure class="{kind}">{image}<figcaption>{escape(caption)}</figcaption></figure>' if image else ""


def _download(desk: Session, name: str, text: str) -> str:
    address = _address(desk, name)
    return f'<a class="tw-download" href="{escape(address)}" download>{escape(text)}</a>' if address else ""


def metric_text(rows: Sequence[tuple[str, str, float]]) -> str:
    """Write metrics with their weights as the command line takes them.

    Args:
        rows: name, argument and weight of each; rows without a name, or of weight 0, are left out.

    Raises:
        UsageError: a value of another type, or a weight out of range.
    """
    terms = []
    for name, argument, weight in rows:
        name, argument = check_text("a metric", name or ""), check_text("a metric's argument", argument or "")
        weight = check_number("a weight", weight, -MAX_WEIGHT, MAX_WEIGHT) if name else 0.0
        if name and weight:
            words = argument.replace('"', " ").strip()
            whole = f'{name}: "{words}"' if words else name
            terms.append(whole if weight == 1 else f"{weight:g}*{whole}")
    return " + ".join(terms).replace("+ -", "- ")
