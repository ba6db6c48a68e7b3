"""From a picture to labels: the classifier, and the normalisation of a drawing."""

from vitlab.data.images import ImageError, decode
from vitlab.predict.classifier import Classifier
from vitlab.predict.drawing import Steps, center_drawing, plain_drawing
from vitlab.predict.predictions import Answer, Label, Predictions

__all__ = [
    "Answer",
    "Classifier",
    "ImageError",
    "Label",
    "Predictions",
    "Steps",
    "center_drawing",
    "decode",
    "plain_drawing",
]
