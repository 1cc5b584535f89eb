"""Gradio's page with every value that a browser sends checked, and every error in words."""

import logging
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gradio as gr

from thalweg.app.messages import in_words, without_places
from thalweg.errors import ThalwegError, UsageError
from thalweg.limits import MAX_SEED, check_choice, check_count, check_number, check_text, shown

_FILE = {"_type": "gradio.FileData"}


class CheckedBlocks(gr.Blocks):
    """A page whose events get values of their components' types, and whose errors are one line each.

    Gradio takes what a browser sends as it comes: a slider's value may be a list, a choice one that was never offered.
    What is refused here never reaches a session.

    Attributes:
        workspace: the folder that names in messages are relative to.
    """

    workspace: Path | None = None

    async def preprocess_data(
        self, block_fn: Any, inputs: list[Any], state: Any, explicit_call: bool = False
    ) -> list[Any]:
        """Return the values as the function takes them, after a check of each."""
        checked = check_values(block_fn.inputs, inputs)
        prepared: list[Any] = await super().preprocess_data(block_fn, checked, state, explicit_call)
        return prepared

    async def process_api(self, *arguments: Any, **options: Any) -> dict[str, Any]:
        """Answer an event; what goes wrong is told as `messages.in_words` has it."""
        try:
            answer: dict[str, Any] = await super().process_api(*arguments, **options)
        except gr.Error as error:
            raise gr.Error(without_places(str(error.message), self.workspace), print_exception=False) from error
        except Exception as error:  # the page outlives any event
            if not isinstance(error, ThalwegError):
                logging.getLogger(__name__).exception("could not answer an event")
            raise gr.Error(in_words(error, self.workspace), print_exception=False) from error
        return answer


def check_values(components: Sequence[Any], values: Any) -> list[Any]:
    """Return the values of an event, one for each component.

    Raises:
        UsageError: too few or too many, or one that its component cannot have.
    """
    if not isinstance(values, list) or len(values) != len(components):
        got = f"{len(values)}" if isinstance(values, list) else shown(values)
        raise UsageError(f"expected {len(components)} values for this event, got {got}: reload the page")
    return [_checked(component, value) for component, value in zip(components, values, strict=True)]


def check_clicked(data: Any) -> tuple[str, int]:
    """Return the act and the number of what was clicked in a board, which sends numbers as text.

    Raises:
        UsageError: anything else.
    """
    if not isinstance(data, dict):
        raise UsageError(f"expected what was clicked, got {shown(data)}")
    number = data.get("value")
    if isinstance(number, str) and number.isascii() and number.isdecimal() and len(number) <= len(str(MAX_SEED)):
        number = int(number)
    return check_text("what was clicked", data.get("act")), check_count("what was clicked", number, 0, MAX_SEED)


def _checked(component: Any, value: Any) -> Any:
    """Return a component's value; an empty text where a browser sends none for a text that nobody typed."""
    label = str(getattr(component, "label", None) or "the value")
    if isinstance(component, gr.Slider):
        least, most = float(component.minimum), float(component.maximum)
        if component.step and float(component.step).is_integer():
            return check_count(label, value, int(least), int(most))
        return check_number(label, value, least, most)
    if isinstance(component, gr.Number):
        least = -math.inf if component.minimum is None else float(component.minimum)
        return check_number(label, value, least, math.inf if component.maximum is None else float(component.maximum))
    if isinstance(component, gr.Dropdown):
        value = "" if value is None else value
        if component.allow_custom_value:
            return check_text(label, value)
        return check_choice(label, value, [str(choice) for _, choice in component.choices])
    if isinstance(component, gr.Textbox | gr.HTML):
        return check_text(label, "" if value is None else value)
    if isinstance(component, gr.UploadButton):
        is_file = isinstance(value, dict) and isinstance(value.get("path"), str) and value.get("meta") == _FILE
        if not is_file:
            raise UsageError(f"expected an uploaded file, got {shown(value)}")
    return value
