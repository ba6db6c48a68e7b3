"""vitlab serve: models behind HTTP, and the page; the only package that imports fastapi."""
