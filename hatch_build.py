"""Build step of the wheel: the dashboard's files go into it as data of the package, under `analysis/_dashboard`.

In a checkout the dashboard lies at the top, where `streamlit run app.py` finds it. Installed like that it would put
packages with names as common as `ui` and `pages` into site-packages.
"""

from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

DASHBOARD = (".streamlit", "app.py", "pages", "ui")


class DashboardInWheel(BuildHookInterface):
    """Adds the dashboard to a wheel, and not to an editable install, which is the checkout itself."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if version == "standard":
            build_data["force_include"].update({name: f"analysis/_dashboard/{name}" for name in DASHBOARD})
