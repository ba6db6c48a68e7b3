"""Measurements behind the README's figures. Never part of the tests: a benchmark that fails a build is switched off."""
