"""From a picture to an answer: decoding, the normalisation of a drawing, the classifier."""

from vitlab.predict.classifier import Classifier, Label
from vitlab.predict.decode import ImageError, decode
from vitlab.predict.drawing import Steps, center_drawing, plain_drawing

__all__ = ["Classifier", "ImageError", "Label", "Steps", "center_drawing", "decode", "plain_drawing"]
