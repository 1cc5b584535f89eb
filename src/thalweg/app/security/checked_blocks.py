"""Gradio page that checks every value from a browser and shows every error as one line."""

import logging
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gradio as gr

from thalweg.app.security.messages import browser_message, without_paths
from thalweg.errors import ThalwegError, UsageError
from thalweg.limits import MAX_SEED, check_choice, check_count, check_number, check_text, shown

_FILE = {"_type": "gradio.FileData"}


class CheckedBlocks(gr.Blocks):
    """Gradio page whose events get values of their components' types, and whose errors are one line each.

    Gradio accepts any value from a browser: a list for a slider, a choice that was never offered. Values that are
    refused here never reach a session.

    Attributes:
        workspace: folder to which paths in messages are relative.
    """

    workspace: Path | None = None

    async def preprocess_data(
        self, block_fn: Any, inputs: list[Any], state: Any, explicit_call: bool = False
    ) -> list[Any]:
        """Return the arguments of the event's function, after a check of each value."""
        checked = check_values(block_fn.inputs, inputs)
        prepared: list[Any] = await super().preprocess_data(block_fn, checked, state, explicit_call)
        return prepared

    async def process_api(self, *arguments: Any, **options: Any) -> dict[str, Any]:
        """Process an event; errors become one line, see `messages.browser_message`."""
        try:
            output: dict[str, Any] = await super().process_api(*arguments, **options)
        except gr.Error as error:
            raise gr.Error(without_paths(str(error.message), self.workspace), print_exception=False) from error
        except Exception as error:  # the page outlives any event
            if not isinstance(error, ThalwegError):
                logging.getLogger(__name__).exception("could not process an event")
            raise gr.Error(browser_message(error, self.workspace), print_exception=False) from error
        return output


def check_values(components: Sequence[Any], values: Any) -> list[Any]:
    """Return the checked values of an event, one per component.

    Raises:
        UsageError: too few or too many values, or one that its component cannot have.
    """
    if not isinstance(values, list) or len(values) != len(components):
        got = f"{len(values)}" if isinstance(values, list) else shown(values)
        raise UsageError(f"expected {len(components)} values for this event, got {got}: reload the page")
    return [_checked(component, value) for component, value in zip(components, values, strict=True)]


def check_clicked(data: Any) -> tuple[str, int]:
    """Return the action and the number of a clicked element in a view, which sends numbers as text.

    Raises:
        UsageError: data of another form.
    """
    if not isinstance(data, dict):
        raise UsageError(f"expected a clicked element, got {shown(data)}")
    number = data.get("value")
    if isinstance(number, str) and number.isascii() and number.isdecimal() and len(number) <= len(str(MAX_SEED)):
        number = int(number)
    return check_text("the action", data.get("action")), check_count("the clicked number", number, 0, MAX_SEED)


def _checked(component: Any, value: Any) -> Any:
    """Return the checked value of a component; an empty text where a browser sends none for an untouched text field."""
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
