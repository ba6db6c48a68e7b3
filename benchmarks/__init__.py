"""The measurements behind the figures in README.md and docs/. Tests never run them: timings would make builds flaky."""
