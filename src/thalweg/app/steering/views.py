"""Views of the sessions as HTML, in which all texts of users and programs are escaped."""

import math
from collections.abc import Collection, Sequence
from html import escape

from thalweg.app.steering import svg
from thalweg.app.steering.imprint_session import RESULT, ImprintSession, SeedsSession
from thalweg.app.steering.navigate_session import NavigateSession
from thalweg.app.steering.optimize_session import BEFORE_AFTER, RESULT_SCORES, OptimizeSession
from thalweg.app.steering.session import Session
from thalweg.errors import UsageError
from thalweg.io.image_files import png_size
from thalweg.io.json_files import read_json
from thalweg.limits import MAX_WEIGHT, check_number, check_text
from thalweg.steer.imprinting.imprint import sheet_seeds
from thalweg.steer.navigation.history import embedding_file
from thalweg.steer.optimization.report import REPORT
from thalweg.steer.optimization.search import BEST, COLUMNS
from thalweg.steer.sheets import sheet_tiles

MAX_SHOWN_SEEDS = 32
"""Seeds of a sheet that are shown; the sheet has all."""


def navigate(session: NavigateSession) -> str:
    """Return the current image, the candidates, with empty cards for those still to come, the tree and the map."""
    if session.navigation is None:
        return _status(session) + _hint("Type a prompt and press Start, then choose the best candidate in each round.")
    navigation, node = session.navigation, session.navigation.node
    nodes, found = dict(navigation.nodes), navigation.found  # copied, since a job may add nodes
    name = navigation.names.get(node.number, "")
    caption = f"Now: node {node.number}{f', {name}' if name else ''}"
    current = _figure(session, f"{session.round}/current.png", caption, "tw-current")
    cards = []
    for index in range(session.count):
        if index < len(found):
            label, key = found[index].label, index + 1
            image = _image(session, f"{session.round}/candidate-{key}.png", f"candidate {key}: {label}")
            cards.append(
                f'<button type="button" class="tw-card" data-action="choose" data-value="{index}" '
                f'aria-label="Choose candidate {key}: {escape(label)}"><kbd>{key}</kbd>{image}'
                f"<span>{escape(label)}</span></button>"
            )
        else:
            cards.append(f'<div class="tw-card tw-empty" aria-hidden="true"><kbd>{index + 1}</kbd></div>')
    tree = svg.tree(
        nodes, node.number, navigation.names, lambda number: _url(session, f"rounds/{number:03d}/current.png")
    )
    others = "".join(
        _figure(session, f"{session.round}/seed-{seed}.png", f"seed {seed}", "tw-seed") for seed in session.others
    )
    strip = f'<div class="tw-strip" aria-label="The same choice on other seeds">{others}</div>' if others else ""
    download = _download(session, embedding_file(node.number), f"Download node {node.number}")
    return (
        f'{_status(session)}<div class="tw-stage">{current}<div class="tw-cards">{"".join(cards)}</div></div>{strip}'
        f'<div class="tw-below"><div class="tw-scroll">{tree}</div>'
        f"<figure>{svg.node_map(nodes, node.number, [navigation.point_of(one) for one in found])}"
        f"<figcaption>Map: first two axes of the prompts near the start</figcaption></figure></div>"
        f"<p>{_run_folder(session)} {download}</p>"
    )


def optimize(session: OptimizeSession) -> str:
    """Return the images of the last step, the score over steps, and the result."""
    if session.run is None or session.config is None:
        return _status(session) + _hint("Pick metrics, press Start, and watch the images follow the score.")
    rows, seeds = session.run.read_numbers(("step", "score", "best")), session.config.seeds
    scores = [(row["step"], row["score"]) for row in rows]
    parts = [
        _status(session),
        f"<p><strong>{escape(str(session.config.metric))}</strong> from {escape(session.config.prompt)}</p>",
    ]
    if rows:
        bests = [index for index, row in enumerate(rows) if row["score"] == row["best"]]
        last = round(rows[-1]["step"])
        step = f"step {last}"
        parts.append(
            f'<div class="tw-stage">{_sheet(session, f"steps/{last:04d}.png", seeds, (step,), step)}'
            f"{svg.line(scores, bests[-1] if bests else None, f'score ({session.config.metric})')}</div>"
        )
    parts.append(_sheet(session, BEFORE_AFTER, seeds, ("before", "after"), "before (above) and best (below)"))
    if (found := _figures(session, RESULT_SCORES, ("start_score", "score"))) is not None:
        parts.append(f"<p>On unseen seeds: {found['start_score']:.4g} before, {found['score']:.4g} after.</p>")
    parts += [f"<p>{escape(sentence)}</p>" for sentence in _sentences(session, REPORT)[2:]]
    parts.append(f"<p>{_run_folder(session)} {_download(session, BEST, 'Download the best')}</p>")
    return "".join(parts)


def seeds(session: SeedsSession) -> str:
    """Return the seeds rendered so far as buttons."""
    if session.run is None:
        return _status(session) + _hint("Type a prompt and render some seeds, then click the one to imprint.")
    cards = []
    for seed in session.rendered:
        css_class, pressed = ("tw-card tw-selected", "true") if seed == session.selected else ("tw-card", "false")
        image = _image(session, f"seed-{seed}.png", f"seed {seed}")
        cards.append(
            f'<button type="button" class="{css_class}" data-action="select" data-value="{seed}" '
            f'aria-pressed="{pressed}" aria-label="Select seed {seed}">{image}<span>seed {seed}</span></button>'
        )
    return f'{_status(session)}<div class="tw-cards">{"".join(cards)}</div>'


def imprint(session: ImprintSession) -> str:
    """Return the loss over steps and, at the end, unseen seeds before and after."""
    if session.run is None or session.config is None:
        return _status(session)
    losses = [(row["step"], row["loss"]) for row in session.trace]
    what = str(session.config.keep or "all of it")
    parts = [_status(session), f"<p>Seed {session.config.seed}, keeping {escape(what)}</p>"]
    parts.append(svg.line(losses, None, "loss of each step's seeds"))
    caption = "framed: the selected seed; others: unseen seeds, before (above) and after (below)"
    parts.append(
        _sheet(session, "sheet.png", sheet_seeds(session.config), ("before", "after"), caption, is_framed=True)
    )
    if (report := _figures(session, "report.json", ("share_before", "share_after"))) is not None:
        shares = f"{report['share_before']:.0%} of unseen seeds before, {report['share_after']:.0%} after"
        parts.append(f"<p>The aspect shows on {shares}.</p>")
    parts.append(f"<p>{_run_folder(session)} {_download(session, RESULT, 'Download the embedding')}</p>")
    return "".join(parts)


def _status(session: Session) -> str:
    css_class = " tw-problem" if session.problem or (session.job is not None and session.job.status == "failed") else ""
    return f'<p class="tw-status{css_class}" role="status" aria-live="polite">{escape(session.status)}</p>'


def _hint(text: str) -> str:
    return f'<p class="tw-hint">{escape(text)}</p>'


def problem(reason: str) -> str:
    """Return a message instead of a run that cannot be shown."""
    return f'<p class="tw-status tw-problem" role="status" aria-live="polite">{escape(reason)}</p>'


def _figures(session: Session, name: str, wanted: Collection[str]) -> dict[str, float] | None:
    """Return figures from a JSON file of the run; None where there is no such file yet.

    Raises:
        UsageError: it can't be read, or lacks one of them.
    """
    path = session.file(name)
    if not path.exists():
        return None
    where = f"{path.parent}: its {name}"
    found = read_json(path, where)
    figures = found if isinstance(found, dict) else {}
    return {each: check_number(f"{each} in {where}", figures.get(each), -math.inf, math.inf) for each in wanted}


def _sentences(session: Session, name: str) -> list[str]:
    """Return the sentences in a JSON file of the run; none where there is no such file yet.

    Raises:
        UsageError: it can't be read.
    """
    path = session.file(name)
    if not path.exists():
        return []
    where = f"{path.parent}: its {name}"
    found = read_json(path, where)
    if not isinstance(found, list) or not found or not all(isinstance(sentence, str) for sentence in found):
        raise UsageError(f"{where} can't be read: expected sentences; repeat the command that began the run")
    return found


def _run_folder(session: Session) -> str:
    """Return the run folder's name and the command that resumes it."""
    name = session.folder.name if session.folder is not None else ""
    return f"Run folder <code>{escape(name)}</code>; <code>thalweg steer resume {escape(name)}</code> resumes it."


def _url(session: Session, name: str) -> str | None:
    """Return the URL of a file of the run; None where there is no such file yet."""
    path = session.file(name)
    if not path.is_file():
        return None
    return f"runs/{path.relative_to(session.context.workspace.folder).as_posix()}?{path.stat().st_mtime_ns}"


def _image(session: Session, name: str, alternative: str) -> str:
    url = _url(session, name)
    return f'<img src="{escape(url)}" alt="{escape(alternative)}">' if url else ""


def _figure(session: Session, name: str, caption: str, css_class: str) -> str:
    image = _image(session, name, caption)
    return f'<figure class="{css_class}">{image}<figcaption>{escape(caption)}</figcaption></figure>' if image else ""


def _sheet(
    session: Session,
    name: str,
    seeds: Sequence[int],
    times: Sequence[str],
    caption: str,
    is_framed: bool = False,
) -> str:
    """Return the images of a labelled sheet in as many rows as fit; empty where there is no such file yet.

    Args:
        session: the session.
        name: file of the sheet, which has one row per time, or rows of `COLUMNS` images where there is one time.
        seeds: seeds of the images at each time.
        times: names of the times; a seed's images are one above the other.
        caption: text below the images.
        is_framed: whether the first seed has a frame.

    Raises:
        UsageError: the sheet can't be read.
    """
    url = _url(session, name)
    if not url:
        return ""
    columns = len(seeds) if len(times) > 1 else min(len(seeds), COLUMNS)
    size = png_size(session.file(name))
    tiles = sheet_tiles(*size, columns, -(-len(seeds) * len(times) // columns))
    groups = []
    for index, seed in enumerate(seeds[:MAX_SHOWN_SEEDS]):
        drawn = "".join(
            svg.tile(url, size, tiles[row * len(seeds) + index], f"{time}, seed {seed}")
            for row, time in enumerate(times)
        )
        groups.append(f'<div class="tw-tiles{" tw-framed" if is_framed and index == 0 else ""}">{drawn}</div>')
    if len(seeds) > MAX_SHOWN_SEEDS:
        caption += f"; the first {MAX_SHOWN_SEEDS} of {len(seeds)} seeds"
    return (
        f'<figure class="tw-sheet"><div role="group" aria-label="{escape(caption)}">{"".join(groups)}</div>'
        f'<figcaption>{escape(caption)} (<a href="{escape(url)}" target="_blank" rel="noopener">open the sheet</a>)'
        "</figcaption></figure>"
    )


def _download(session: Session, name: str, text: str) -> str:
    url = _url(session, name)
    return f'<a class="tw-download" href="{escape(url)}" download>{escape(text)}</a>' if url else ""


def metric_text(rows: Sequence[tuple[str, str, float]]) -> str:
    """Return an expression of metrics with their weights, in the form of the command line.

    Args:
        rows: name, argument and weight of each metric; rows without a name, or of weight 0, are left out.

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
