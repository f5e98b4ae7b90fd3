"""For tests of programs that embed chatcore, and of adapters of their own.

Fixtures for pytest: `chat`, `me`, `chat_model`, `chat_clock`, `chat_store`, `chat_outage`, `chat_database`
(`chatcore_testing.plugin`); `said`, `finished` and `kill` for what tests do with them. The contracts of the ports are
classes to inherit, on an event loop of their own; `conform` runs them without pytest and reports.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # pytest loads this package whenever it starts
    from chatcore_testing import conform
    from chatcore_testing.conform import Report
    from chatcore_testing.contract import Capability, Contract, Lacking, Made
    from chatcore_testing.contracts.clock import ClockContract
    from chatcore_testing.contracts.gateway import FOREIGN, GatewayContract, Silence, Stage, Step
    from chatcore_testing.contracts.limits import RateLimiterContract
    from chatcore_testing.contracts.relay import RelayContract, RelayPlay, RelayStage
    from chatcore_testing.contracts.secrets import CipherContract, PasswordHasherContract, TokenSignerContract
    from chatcore_testing.contracts.storage import StoreContract
    from chatcore_testing.helpers import finished, kill, said

_PLACES = {
    "conform": ("conform", "Report"),
    "contract": ("Capability", "Contract", "Lacking", "Made"),
    "contracts.clock": ("ClockContract",),
    "contracts.gateway": ("FOREIGN", "GatewayContract", "Silence", "Stage", "Step"),
    "contracts.limits": ("RateLimiterContract",),
    "contracts.relay": ("RelayContract", "RelayPlay", "RelayStage"),
    "contracts.secrets": ("CipherContract", "PasswordHasherContract", "TokenSignerContract"),
    "contracts.storage": ("StoreContract",),
    "helpers": ("finished", "kill", "said"),
}

__all__ = [
    "FOREIGN",
    "Capability",
    "CipherContract",
    "ClockContract",
    "Contract",
    "GatewayContract",
    "Lacking",
    "Made",
    "PasswordHasherContract",
    "RateLimiterContract",
    "RelayContract",
    "RelayPlay",
    "RelayStage",
    "Report",
    "Silence",
    "Stage",
    "Step",
    "StoreContract",
    "TokenSignerContract",
    "conform",
    "finished",
    "kill",
    "said",
]

if not TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        for place, names in _PLACES.items():
            if name in names:
                module = import_module(f"chatcore_testing.{place}")
                return module if name == place else getattr(module, name)
        raise AttributeError(f"module 'chatcore_testing' has no attribute {name!r}")
