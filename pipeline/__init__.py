"""From labelled images and videos to a quantized model on a phone: the library behind the stages."""

from pipeline.core.telemetry import turn_off

turn_off()  # here, before any module of this package imports a library that tells
