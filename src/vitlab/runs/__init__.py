"""A run: its folder, its result, and how it is trained, resumed, evaluated and opened."""
