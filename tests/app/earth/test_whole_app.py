"""The viewer as a tab of the app: found, opened, and come back to."""

from collections.abc import Callable

import pytest

from earth_app import wait_until_drawn
from thalweg.app.workspace import Workspace

pytest.importorskip("playwright", reason="playwright is not installed")


def test_a_reload_comes_back_to_the_tab_and_the_store(
    workspace: Workspace, served: Callable, open_page: Callable, screenshot: Callable
) -> None:
    from thalweg.app.server import create_app
    from thalweg.diffusion.config import ModelConfig

    with served(create_app(workspace, ModelConfig(steps=4, gradient="full"))) as url:
        page = open_page(url)
        page.get_by_role("tab", name="Earth").click()
        page.locator('[data-part="store"]').select_option("fields.zarr")
        wait_until_drawn(page)
        screenshot(page, "app-earth")
        page.reload()
        wait_until_drawn(page)
        assert page.get_by_role("tab", name="Earth").get_attribute("aria-selected") == "true"
        assert page.locator('[data-part="store"]').input_value() == "fields.zarr"
        page.get_by_role("tab", name="Steer images").click()
        page.get_by_role("tab", name="Imprint").click()
        page.reload()
        page.wait_for_selector("#imprint-render")
        page.get_by_role("tab", name="Earth").click()
        page.reload()
        wait_until_drawn(page)
        page.get_by_role("tab", name="Steer images").click()
        page.wait_for_selector("#imprint-render")
        assert page.get_by_role("tab", name="Imprint").get_attribute("aria-selected") == "true"
