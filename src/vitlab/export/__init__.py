"""A trained network in other forms: one ONNX file, a torch program, a static web page."""
