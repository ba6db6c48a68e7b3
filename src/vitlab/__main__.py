"""`python -m vitlab` is `vitlab`."""

from vitlab.cli import main

raise SystemExit(main())
