"""What comes before a release: see docs/contribute/release.md."""
