"""The measurements behind the figures in README.md and docs/. Tests never run them: timings would make builds flaky."""

import vitlab  # noqa: F401  before torch, as on the command line: it decides how torch's threads wait
