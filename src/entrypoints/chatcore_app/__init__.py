"""The composition root: settings, and the container that makes every use case. HTTP and the command share it."""

from chatcore_app.container import Readiness, database_of, make_container, migration_script_of
from chatcore_app.setting_rules import SettingsError
from chatcore_app.settings import Settings, blaming

__all__ = [
    "Readiness",
    "Settings",
    "SettingsError",
    "blaming",
    "database_of",
    "make_container",
    "migration_script_of",
]
