"""Runs a server's command, such as `uvicorn fastapi_app:app`, with a demo model that takes its time."""

import os
import runpy
import sys

from chatcore_demo import DemoModel

defaults = DemoModel.__init__.__kwdefaults__
assert defaults is not None
defaults["pause"] = float(os.environ["PAUSE"])
del sys.argv[0]
runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
