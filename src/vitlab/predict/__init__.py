"""From a picture to labels: the classifier, and the normalisation of a drawing."""

from vitlab.data.images import ImageError, decode
from vitlab.predict.classifier import Classifier, Label
from vitlab.predict.drawing import Steps, center_drawing, plain_drawing

__all__ = ["Classifier", "ImageError", "Label", "Steps", "center_drawing", "decode", "plain_drawing"]
