"""Takes the scripts and styles of the documentation pages into the wheel, from a package that has them, whose version
the lock file pins. Nothing else of that package, nor of what it needs, is installed with chatcore."""

from importlib.util import find_spec
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

SOURCE = "fastapi_offline"
PACKAGE = "chatcore_http_assets"
NAMES = ("redoc.standalone.js", "swagger-ui-bundle.js", "swagger-ui.css")


class Assets(BuildHookInterface[Any]):
    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        spec = find_spec(SOURCE)
        if spec is None or spec.origin is None:
            raise ModuleNotFoundError(f"Building chatcore needs what build-system.requires names: {SOURCE} is missing.")
        taken = {str(Path(spec.origin).with_name("static") / name): f"{PACKAGE}/{name}" for name in NAMES}
        build_data["force_include_editable" if version == "editable" else "force_include"].update(taken)
