"""The viewer as a tab of the app: found, opened, come back to, and opened by a copied address."""

from collections.abc import Callable

import pytest

from earth_app import choose_pixel, wait_until_drawn
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
        page.get_by_role("tab", name="Earth").click()
        wait_until_drawn(page)
        choose_pixel(page, 20, 11)
        page.wait_for_function("location.hash.includes('pixel=20%2C11')")
        copied = open_page(page.url)
        copied.locator('[data-part="series"] svg').wait_for()
        assert copied.get_by_role("tab", name="Earth").get_attribute("aria-selected") == "true"
        assert copied.locator('[data-part="place"]').inner_text().startswith("Row 20, column 11 ")
        assert copied.locator('[data-part="date"]').input_value() == page.locator('[data-part="date"]').input_value()
        wait_until_drawn(copied)
        copied.reload()
        wait_until_drawn(copied)
        assert copied.get_by_role("tab", name="Earth").get_attribute("aria-selected") == "true"
